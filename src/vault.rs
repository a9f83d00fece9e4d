//! Where records are kept, and who may write them. `peek` reads without a lock; `enter` takes the
//! lock, reads again, and hands out a `Pen`, the only way to write. This room knows no provider
//! and never connects anywhere.
//!
//! Locked, absent, denied and empty are four different things here: only empty is a miss.

mod file;
mod helper;
#[cfg(target_os = "linux")]
mod keychain;
mod lock;
mod record;

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::disk;
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{Key, Place, Record, Session, Static, StoreChoice};
use lock::Lock;

/// A place to keep records. Three of them stand in this room's files.
trait Store {
    /// Every record of a place.
    fn read(&self, place: &Place) -> std::result::Result<Vec<Record>, Trouble>;
    fn all(&self) -> std::result::Result<Vec<Record>, Trouble>;
    fn write(&self, record: &Record) -> std::result::Result<(), Trouble>;
    /// `false` where there was nothing.
    fn remove(&self, key: &Key) -> std::result::Result<bool, Trouble>;
    /// Whether a `write` of this key could succeed.
    fn probe(&self, key: &Key) -> std::result::Result<(), Trouble>;
    /// For a person: where this is.
    fn name(&self) -> String;
}

/// Why a store cannot serve.
#[derive(Debug)]
enum Trouble {
    /// It is not on this machine, or does not answer: the next store may.
    Unreachable(String),
    /// It is there, and closed or broken: nobody may conclude that it is empty.
    Failed(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What is asked of a place.
#[derive(Clone, Debug)]
pub struct Want<'a> {
    pub place: Place,
    /// `None`: whichever was chosen last.
    pub account: Option<&'a str>,
    pub path: Option<&'a str>,
}

impl Want<'_> {
    /// git's rule: whatever the request names must be equal; of several, the last chosen.
    fn pick(&self, records: Vec<Record>) -> Option<Record> {
        records.into_iter().filter(|record| self.fits(record.key())).max_by_key(Record::chosen)
    }

    fn fits(&self, key: &Key) -> bool {
        self.account.is_none_or(|account| account == key.account)
            && self.path.is_none_or(|path| key.path.as_deref() == Some(path))
    }

    /// The key that stands for this want as long as nothing is stored for it.
    fn key(&self) -> Key {
        Key {
            place: self.place.clone(),
            client_id: String::new(),
            account: self.account.unwrap_or_default().to_owned(),
            path: self.path.map(str::to_owned),
        }
    }
}

pub struct Vault<'a> {
    choice: StoreChoice,
    environment: &'a Environment,
    clock: &'a dyn Clock,
    /// Says one line to a person.
    tell: &'a dyn Fn(&str),
    hidden: &'a dyn Fn(&str) -> bool,
    stores: OnceCell<Result<Stores>>,
}

/// The stores of this choice in the order in which they are read and written.
struct Stores {
    file: file::Files,
    primary: Option<Box<dyn Store>>,
}

/// What recently went wrong in one place. It is not a secret, and lies beside the locks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setbacks {
    /// Tokens that the host rejected since the last one that it accepted.
    pub rejections: u32,
    /// Unix time in seconds of the last rejection.
    pub rejected: u64,
    /// Unix time in seconds at which a sign-in was refused or abandoned; 0 for never.
    pub refused: u64,
}

impl<'a> Vault<'a> {
    pub fn new(
        choice: StoreChoice,
        environment: &'a Environment,
        clock: &'a dyn Clock,
        tell: &'a dyn Fn(&str),
        hidden: &'a dyn Fn(&str) -> bool,
    ) -> Self {
        Self { choice, environment, clock, tell, hidden, stores: OnceCell::new() }
    }

    /// Reads without a lock: the cached answer.
    ///
    /// # Errors
    /// `Storage` when a store is there and cannot be read.
    pub fn peek(&self, want: &Want<'_>) -> Result<Option<Record>> {
        Ok(want.pick(self.read(&want.place)?))
    }

    /// Takes the lock of what is wanted, waiting up to `patience`, and only then reads.
    /// `waiting` is called once if somebody else holds it.
    ///
    /// # Errors
    /// `Temporary` when the lock cannot be had in time, `Storage` as `peek`.
    pub fn enter(
        &self,
        want: &Want<'_>,
        patience: Duration,
        waiting: &dyn Fn(),
    ) -> Result<(Option<Record>, Pen<'_>)> {
        let until = self.clock.elapsed() + patience;
        let mut key = self.peek(want)?.map_or_else(|| want.key(), |record| record.key().clone());
        loop {
            let left = until.saturating_sub(self.clock.elapsed());
            let lock = self.lock(&key, left, waiting)?;
            let held = self.peek(want)?;
            match &held {
                // Somebody signed in while we waited for the lock of an unknown account.
                Some(record) if *record.key() != key => key = record.key().clone(),
                _ => return Ok((held, Pen { vault: self, key, _lock: lock })),
            }
        }
    }

    /// Every record of a place that fits.
    ///
    /// # Errors
    /// As `peek`.
    pub fn matching(&self, want: &Want<'_>) -> Result<Vec<Record>> {
        let mut records = self.read(&want.place)?;
        records.retain(|record| want.fits(record.key()));
        Ok(records)
    }

    /// Every record, by key.
    ///
    /// # Errors
    /// As `peek`.
    pub fn all(&self) -> Result<Vec<Record>> {
        let stores = self.stores()?;
        let mut records = settle(stores.file.all())?;
        if let Some(primary) = &stores.primary {
            let more = match primary.all() {
                Err(Trouble::Unreachable(_)) if self.choice == StoreChoice::Auto => Vec::new(),
                other => settle(other)?,
            };
            let known: Vec<Key> = records.iter().map(|record| record.key().clone()).collect();
            records.extend(more.into_iter().filter(|record| !known.contains(record.key())));
        }
        records.sort_by(|one, other| one.key().cmp(other.key()));
        Ok(records)
    }

    /// Removes what cannot be read any more, so that a person who signs out of everything does.
    ///
    /// # Errors
    /// `Storage` when a store cannot be reached.
    pub fn remove_unreadable(&self) -> Result<()> {
        self.stores()?.file.remove_unreadable()
    }

    /// The right to write one key, without having read it: for a person's `logout`.
    ///
    /// # Errors
    /// As `enter`.
    pub fn pen(&self, key: &Key, patience: Duration, waiting: &dyn Fn()) -> Result<Pen<'_>> {
        Ok(Pen { vault: self, key: key.clone(), _lock: self.lock(key, patience, waiting)? })
    }

    /// Where records are written now, for a person.
    ///
    /// # Errors
    /// As `peek`.
    pub fn store_name(&self) -> Result<String> {
        let stores = self.stores()?;
        let file = stores.file.name();
        Ok(match &stores.primary {
            Some(primary) if primary.read(&Place::Origin(String::new())).is_ok() => primary.name(),
            Some(primary) if self.choice != StoreChoice::Auto => primary.name(),
            _ => file,
        })
    }

    fn setbacks(&self, place: &str) -> Setbacks {
        let Ok(path) = self.setbacks_path(place) else { return Setbacks::default() };
        let Ok(Some(content)) = disk::read(&path) else { return Setbacks::default() };
        serde_json::from_slice(&content).unwrap_or_default()
    }

    /// The host accepted a token of the place with this digest: what was held against it is
    /// forgotten.
    pub fn forgive(&self, place: &str) {
        if let Ok(path) = self.setbacks_path(place) {
            // A cooldown that stays a little too long does no harm.
            let _ = disk::remove(&path);
        }
    }

    fn setbacks_path(&self, place: &str) -> Result<PathBuf> {
        Ok(self.environment.state_directory()?.join("cooldown").join(place))
    }

    fn lock(&self, key: &Key, patience: Duration, waiting: &dyn Fn()) -> Result<Option<Lock>> {
        let name = format!("{}.lock", key.digest());
        let path = self.environment.state_directory()?.join("locks").join(name);
        lock::take(&path, patience, self.clock, waiting)
    }

    fn stores(&self) -> Result<&Stores> {
        let made = self.stores.get_or_init(|| {
            let file = file::Files::new(self.environment.data_directory()?.join("sessions"));
            let primary: Option<Box<dyn Store>> = match &self.choice {
                StoreChoice::File => None,
                StoreChoice::Helper(suffix) => {
                    Some(Box::new(helper::Program::new(suffix, self.environment, self.hidden)?))
                }
                StoreChoice::Auto | StoreChoice::Keychain => self.keychain(),
            };
            Ok(Stores { file, primary })
        });
        made.as_ref().map_err(|error| Error {
            kind: error.kind,
            what: error.what.clone(),
            hint: error.hint.clone(),
            source: None,
        })
    }

    #[cfg(target_os = "linux")]
    fn keychain(&self) -> Option<Box<dyn Store>> {
        Some(Box::new(keychain::Keychain::new(self.environment)))
    }

    #[cfg(not(target_os = "linux"))]
    fn keychain(&self) -> Option<Box<dyn Store>> {
        None
    }

    /// Files first: they are only there where the first choice could not be reached, so they are
    /// the newer ones, and looking costs next to nothing.
    fn read(&self, place: &Place) -> Result<Vec<Record>> {
        let stores = self.stores()?;
        let records = settle(stores.file.read(place))?;
        match &stores.primary {
            Some(primary) if records.is_empty() => match primary.read(place) {
                Err(Trouble::Unreachable(why)) if self.choice == StoreChoice::Auto => {
                    self.tell_once(&why);
                    Ok(records)
                }
                other => settle(other),
            },
            _ => Ok(records),
        }
    }

    fn write(&self, record: &Record) -> Result<()> {
        let stores = self.stores()?;
        if let Some(primary) = &stores.primary {
            match primary.write(record) {
                Ok(()) => {
                    // A copy in the other store would be the stale one from now on.
                    settle(stores.file.remove(record.key()))?;
                    return Ok(());
                }
                Err(Trouble::Unreachable(why)) if self.choice == StoreChoice::Auto => {
                    self.tell_once(&why);
                }
                Err(trouble) => return settle(Err(trouble)),
            }
        }
        settle(stores.file.write(record))
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        let stores = self.stores()?;
        let from_file = settle(stores.file.remove(key))?;
        let from_primary = match &stores.primary {
            None => false,
            Some(primary) => match primary.remove(key) {
                Err(Trouble::Unreachable(_)) if self.choice == StoreChoice::Auto => false,
                other => settle(other)?,
            },
        };
        Ok(from_file || from_primary)
    }

    fn probe(&self, key: &Key) -> Result<()> {
        let stores = self.stores()?;
        match stores.primary.as_ref().map(|primary| primary.probe(key)) {
            Some(Err(Trouble::Unreachable(_))) if self.choice == StoreChoice::Auto => {}
            Some(probed) => return settle(probed),
            None => {}
        }
        settle(stores.file.probe(key))
    }

    /// The first time that files stand in for the keychain on this machine, a person is told.
    /// A keychain that is there but does not answer costs time, so that is said every time.
    fn tell_once(&self, why: &str) {
        let told = self.environment.state_directory().map(|state| state.join("told-about-files"));
        let slow = why.contains("did not answer");
        if !slow && told.as_ref().is_ok_and(|path| path.exists()) {
            return;
        }
        (self.tell)(&format!("{why}: tokens are kept in files of mode 0600 instead"));
        if let Ok(path) = told {
            // Without the note it is said again: no harm.
            let _ = disk::replace(&path, b"");
        }
    }
}

fn settle<T>(answer: std::result::Result<T, Trouble>) -> Result<T> {
    answer.map_err(|trouble| match trouble {
        Trouble::Failed(error) => error,
        Trouble::Unreachable(why) => Error::new(Kind::Storage, why)
            .hint("set store = \"auto\" or \"file\" in config.toml to go on without it"),
    })
}

/// The right to write what `enter` read. It holds the lock until it is dropped.
pub struct Pen<'a> {
    vault: &'a Vault<'a>,
    key: Key,
    _lock: Option<Lock>,
}

impl Pen<'_> {
    /// Writes a record. One whose account became known only now is written under its own lock.
    ///
    /// # Errors
    /// `Storage` when no store takes it.
    pub fn save(&self, record: &Record) -> Result<()> {
        let key = record.key();
        // Whoever has that lock for longer than this writes an older truth than ours.
        let patience = Duration::from_secs(5);
        let _lock = (*key != self.key).then(|| self.vault.lock(key, patience, &|| ()));
        self.vault.write(record)
    }

    /// # Errors
    /// As `save`.
    pub fn save_session(&self, session: &Session) -> Result<()> {
        self.save(&Record::Session(session.clone()))
    }

    /// # Errors
    /// As `save`.
    pub fn save_static(&self, entry: &Static) -> Result<()> {
        self.save(&Record::Static(entry.clone()))
    }

    /// Removes the record from every store; `false` where there was none.
    ///
    /// # Errors
    /// `Storage` when one of them fails.
    pub fn remove(&self) -> Result<bool> {
        self.vault.remove(&self.key)
    }

    /// Whether `save` could succeed, asked before a single-use refresh token is spent.
    ///
    /// # Errors
    /// As `save`.
    pub fn probe(&self) -> Result<()> {
        self.vault.probe(&self.key)
    }

    #[must_use]
    pub fn setbacks(&self) -> Setbacks {
        self.vault.setbacks(&self.key.place.digest())
    }

    /// Remembers what went wrong.
    pub fn note(&self, setbacks: Setbacks) {
        let Ok(path) = self.vault.setbacks_path(&self.key.place.digest()) else { return };
        // Without the note somebody is asked once more: no harm.
        let _ = serde_json::to_vec(&setbacks).map(|content| disk::replace(&path, &content));
    }
}
