//! Where records are kept, and who may write them. `peek` reads without a lock; `enter` takes the
//! lock, reads again, and hands out a `Pen`, the only way to write. This room knows no provider
//! and never connects anywhere.
//!
//! Locked, absent, denied and empty are four different things here: only empty is a miss.

mod encrypted;
mod file;
mod helper;
#[cfg(target_os = "linux")]
mod keychain;
mod lock;
mod misses;
mod note;
mod record;
mod rescue;
mod setbacks;

use std::cell::{Cell, OnceCell};
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Clock;
use crate::disk;
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{Key, Place, Record, Secret, Session, Static, StoreChoice};
pub use lock::Alone;
use lock::Lock;
pub use note::Note;
pub use setbacks::Setbacks;

/// A store that is asked before the files.
trait Store {
    /// Every record of a place, and why one cannot be read.
    fn read(&self, place: &Place) -> Answer<Vec<Result<Record>>>;
    fn all(&self) -> Answer<Vec<Result<Record>>>;
    /// `at_once`: without a dialogue, and without a long wait.
    fn write(&self, record: &Record, at_once: bool) -> Answer<()>;
    /// `false` where there was nothing.
    fn remove(&self, key: &Key) -> Answer<bool>;
    /// Removes what is ours and cannot be read any more.
    fn remove_unreadable(&self) -> Answer<()>;
    /// Whether a `write` of this key could succeed.
    fn probe(&self, key: &Key) -> Answer<()>;
    /// For a person: where this is.
    fn name(&self) -> String;
    /// The right to renew in a store that other machines may use too, to be given back with
    /// `release`. `None`: our own locks are enough.
    fn claim(&self, _: &Key, _: Duration, _: &dyn Clock) -> Answer<Option<String>> {
        Ok(None)
    }
    fn release(&self, _: &str) {}
    /// What a person who signs in should know about it.
    fn caution(&self) -> Option<String> {
        None
    }
}

type Answer<T> = std::result::Result<T, Trouble>;

/// Why a store cannot serve.
#[derive(Debug)]
enum Trouble {
    /// It is not on this machine: the files may stand in.
    Absent(&'static str),
    /// It is there and does not answer in time: so they may, and every such wait costs seconds.
    Silent(&'static str),
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
        self.place == key.place
            && self.account.is_none_or(|account| account == key.account)
            && self.path.is_none_or(|path| key.path.as_deref() == Some(path))
    }

    /// The key that stands for this want as long as nothing is stored for it. It is the same for
    /// every account, so that two of them are not signed in at the same moment.
    fn key(&self) -> Key {
        Key {
            place: self.place.clone(),
            client_id: String::new(),
            account: String::new(),
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
    /// The path of this program, which is no store.
    own: fn() -> Option<PathBuf>,
    ask: encrypted::Ask<'a>,
    stores: OnceCell<Result<Stores>>,
    /// Whether this process has said that the files stand in.
    told: Cell<bool>,
    /// Why the first store was not read, where files stand in.
    unread: Cell<Option<&'static str>>,
    /// Whether the first store has answered this process.
    answered: Cell<bool>,
    /// The latest time of choice among the records that it gave.
    newest: Cell<u64>,
}

/// The stores of this choice in the order in which they are read.
struct Stores {
    rescue: file::Files,
    file: file::Files,
    primary: Option<Box<dyn Store>>,
}

impl Stores {
    /// What files could not give may be what is wanted, or newer than what was found.
    fn was_read_whole(&self, found: Option<&Record>) -> Result<()> {
        let key = found.map(Record::key);
        self.rescue.was_read_whole(key)?;
        self.file.was_read_whole(key)
    }
}

impl<'a> Vault<'a> {
    pub fn new(
        choice: StoreChoice,
        environment: &'a Environment,
        clock: &'a dyn Clock,
        tell: &'a dyn Fn(&str),
        hidden: &'a dyn Fn(&str) -> bool,
        own: fn() -> Option<PathBuf>,
        ask: &'a dyn Fn(&str) -> Option<Secret>,
    ) -> Self {
        let (stores, told, answered) = (OnceCell::new(), Cell::new(false), Cell::new(false));
        let (newest, unread) = (Cell::new(0), Cell::new(None));
        Self {
            unread,
            choice,
            environment,
            clock,
            tell,
            hidden,
            own,
            ask,
            stores,
            told,
            answered,
            newest,
        }
    }

    /// Reads without a lock: the cached answer.
    ///
    /// # Errors
    /// `Storage` when a store is there and cannot be read.
    pub fn peek(&self, want: &Want<'_>) -> Result<Option<Record>> {
        let stores = self.stores()?;
        self.seal(stores, || stores.file.read(&want.place, self.tell))?;
        let rescued = stores.rescue.read(&want.place, self.tell)?;
        if !rescued.is_empty() {
            return self.peek_rescued(want, stores, &rescued);
        }
        // Files first: they are only there where the first store could not be reached, so they
        // are the newer ones, and looking costs next to nothing.
        if let Some(record) = want.pick(stores.file.read(&want.place, self.tell)?) {
            stores.rescue.was_read_whole(Some(record.key()))?;
            return Ok(Some(record));
        }
        let (records, broken) = self.readable(|store| store.read(&want.place))?;
        self.newest.set(records.iter().map(Record::chosen).max().unwrap_or_default());
        let picked = want.pick(records);
        self.no_miss(picked.is_some(), broken)?;
        stores.was_read_whole(picked.as_ref())?;
        Ok(picked)
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
        let right = |held: &Option<Record>| {
            held.as_ref().map_or_else(|| want.key(), |record| record.key().clone())
        };
        let mut key = right(&self.peek(want)?);
        loop {
            let left = until.saturating_sub(self.clock.elapsed());
            let lock = self.lock(&key, left, waiting)?;
            let held = self.peek(want)?;
            // While we waited somebody signed in, or a session died: what is there now has
            // another lock, and somebody else may hold that.
            match right(&held) {
                now if now != key => key = now,
                _ => return Ok((held, Pen { vault: self, key, _lock: lock })),
            }
        }
    }

    /// Every record of a place that fits.
    ///
    /// # Errors
    /// As `peek`.
    pub fn matching(&self, want: &Want<'_>) -> Result<Vec<Record>> {
        let stores = self.stores()?;
        let rescued = stores.rescue.read(&want.place, self.tell)?;
        let of_files = merged(rescued, stores.file.read(&want.place, self.tell)?);
        let (others, broken) = self.readable(|store| store.read(&want.place))?;
        let mut records = merged(of_files, others);
        records.retain(|record| want.fits(record.key()));
        self.no_miss(!records.is_empty(), broken)?;
        if records.is_empty() {
            stores.was_read_whole(None)?;
        }
        Ok(records)
    }

    /// Every record, by key.
    ///
    /// # Errors
    /// As `peek`.
    pub fn all(&self) -> Result<Vec<Record>> {
        let stores = self.stores()?;
        self.seal(stores, || stores.file.all(self.tell))?;
        let of_files = merged(stores.rescue.all(self.tell)?, stores.file.all(self.tell)?);
        let (others, broken) = self.readable(|store| store.all())?;
        let mut records = merged(of_files, others);
        self.no_miss(!records.is_empty(), broken)?;
        records.sort_by(|one, other| one.key().cmp(other.key()));
        Ok(records)
    }

    /// Removes what cannot be read any more, so that a person who signs out of everything does.
    ///
    /// # Errors
    /// `Storage` when a store cannot be reached.
    pub fn remove_unreadable(&self) -> Result<()> {
        let stores = self.stores()?;
        stores.rescue.remove_unreadable()?;
        stores.file.remove_unreadable()?;
        self.first(|store| store.remove_unreadable()).map(drop)
    }

    /// Removes what files of a place hold and cannot be read, also what was put aside.
    ///
    /// # Errors
    /// `Storage` when it cannot be removed.
    pub fn clean(&self, place: &Place) -> Result<()> {
        let stores = self.stores()?;
        stores.rescue.clean(place)?;
        stores.file.clean(place)
    }

    /// As `enter`, for one key that is known already.
    ///
    /// # Errors
    /// As `enter`.
    pub fn pen(
        &self,
        key: &Key,
        patience: Duration,
        waiting: &dyn Fn(),
    ) -> Result<(Option<Record>, Pen<'_>)> {
        let lock = self.lock(key, patience, waiting)?;
        let (account, path) = (Some(key.account.as_str()), key.path.as_deref());
        let like_it = self.matching(&Want { place: key.place.clone(), account, path })?;
        let held = like_it.into_iter().find(|record| record.key() == key);
        Ok((held, Pen { vault: self, key: key.clone(), _lock: lock }))
    }

    /// Where a record is kept, for a person.
    ///
    /// # Errors
    /// As `peek`.
    pub fn kept_in(&self, key: &Key) -> Result<String> {
        let stores = self.stores()?;
        Ok(match &stores.primary {
            _ if stores.rescue.holds(key) => stores.rescue.name(),
            Some(primary) if !stores.file.holds(key) => primary.name(),
            _ => stores.file.name(),
        })
    }

    /// What a person who signs in should know about the store.
    #[must_use]
    pub fn caution(&self) -> Option<String> {
        self.stores().ok()?.primary.as_ref()?.caution()
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

    fn lock(&self, key: &Key, patience: Duration, waiting: &dyn Fn()) -> Result<Lock> {
        let name = format!("{}.lock", key.digest());
        let locks = self.environment.state_directory()?.join("locks");
        let lock = lock::take(&locks.join(name), patience, self.clock, waiting)?;
        if lock.is_only_a_file() {
            let what = format!("{} is on a file system without locks", locks.display());
            self.tell_once("told-about-locks", false, || {
                format!("{what}: files that only one process can make stand for them")
            });
        }
        Ok(lock)
    }

    fn stores(&self) -> Result<&Stores> {
        let made = self.stores.get_or_init(|| {
            let file = file::Files::new(self.environment.data_directory()?.join("sessions"));
            let rescue = file::Files::new(self.environment.state_directory()?.join("rescue"));
            let primary: Option<Box<dyn Store>> = match &self.choice {
                StoreChoice::File => None,
                StoreChoice::Encrypted(key_file) => {
                    let directory = self.environment.data_directory()?.join("sealed");
                    let (key_file, environment) = (key_file.as_deref(), self.environment);
                    let store =
                        encrypted::Encrypted::new(directory, key_file, environment, self.ask);
                    Some(Box::new(store))
                }
                StoreChoice::Helper(suffix) => {
                    let own = (self.own)();
                    Some(Box::new(helper::Program::new(
                        suffix,
                        own.as_deref(),
                        self.environment,
                        self.hidden,
                    )?))
                }
                StoreChoice::Auto | StoreChoice::Keychain => self.keychain(),
            };
            Ok(Stores { rescue, file, primary })
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

    /// What the first store answers; `None` where the files stand in for it.
    fn first<T>(&self, ask: impl FnOnce(&dyn Store) -> Answer<T>) -> Result<Option<T>> {
        let Some(primary) = &self.stores()?.primary else { return Ok(None) };
        let trouble = match ask(primary.as_ref()) {
            Ok(answer) => {
                self.answered.set(true);
                return Ok(Some(answer));
            }
            Err(trouble) => trouble,
        };
        match &trouble {
            Trouble::Absent(why) | Trouble::Silent(why) if self.choice == StoreChoice::Auto => {
                // A keychain that is there but does not answer costs time: each process says so.
                let costly = matches!(trouble, Trouble::Silent(_));
                if !self.told.replace(true) {
                    let text = || format!("{why}: tokens are kept in files of mode 0600 instead");
                    self.tell_once("told-about-files", costly, text);
                }
                self.unread.set(Some(why));
                Ok(None)
            }
            _ => Err(trouble.error()),
        }
    }

    /// Writes where a record belongs. Files stand in for a store that has not been there at all,
    /// never for one that gave this process a record and went away.
    fn write(&self, record: &Record, at_once: bool) -> Result<()> {
        let (stores, key) = (self.stores()?, record.key());
        // A copy in a file is read first: it must never be the older one, also if we are killed
        // on the next line.
        let (rescued, copied) = (stores.rescue.holds(key), stores.file.holds(key));
        if rescued {
            stores.rescue.write(record)?;
        }
        if copied {
            stores.file.write(record)?;
        }
        let written = match &stores.primary {
            Some(primary) if self.answered.get() => {
                primary.write(record, at_once).map(Some).map_err(Trouble::error)
            }
            _ => self.first(|store| store.write(record, at_once)),
        };
        match written {
            Ok(Some(())) => stores.file.remove(key).map(drop),
            Ok(None) | Err(_) if copied => Ok(()),
            Ok(None) if rescued => Err(Error::new(Kind::Storage, "the keychain is out of reach")),
            Ok(None) => stores.file.write(record),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        let stores = self.stores()?;
        // The files last, and only then: what they hide could be older.
        let from_first = self.first(|store| store.remove(key))?.unwrap_or_default();
        let from_file = stores.file.remove(key)?;
        let rescued = stores.rescue.holds(key);
        self.settle(key, stores)?;
        Ok(from_first || from_file || rescued)
    }

    fn probe(&self, key: &Key) -> Result<()> {
        let stores = self.stores()?;
        if stores.rescue.holds(key) {
            return stores.rescue.probe(key);
        }
        let taken = self.first(|store| store.probe(key))?.is_some();
        if taken && !stores.file.holds(key) { Ok(()) } else { stores.file.probe(key) }
    }

    /// Tells a person what a file of this name remembers: the first time on this machine, or in any
    /// case.
    fn tell_once(&self, name: &str, again: bool, text: impl FnOnce() -> String) {
        let note = self.environment.state_directory().map(|state| state.join(name));
        if !again && note.as_ref().is_ok_and(|path| path.exists()) {
            return;
        }
        (self.tell)(&text());
        if let Ok(path) = note {
            // Without the note it is said again: no harm.
            let _ = disk::replace(&path, b"");
        }
    }
}

/// What files hold is newer than what another store holds under the same key.
fn merged(mut of_files: Vec<Record>, mut others: Vec<Record>) -> Vec<Record> {
    others.retain(|record| of_files.iter().all(|known| known.key() != record.key()));
    of_files.append(&mut others);
    of_files
}

/// The right to write what `enter` read. It holds the lock until it is dropped.
pub struct Pen<'a> {
    vault: &'a Vault<'a>,
    key: Key,
    _lock: Lock,
}

impl Pen<'_> {
    /// Writes a record. One whose account became known only now is written under its own lock.
    ///
    /// # Errors
    /// `Storage` when no store takes it.
    pub fn save(&self, record: &Record) -> Result<()> {
        let _lock = self.own_lock(record.key());
        let (vault, key) = (self.vault, record.key());
        let stores = vault.stores()?;
        match vault.write(record, false) {
            Ok(()) => vault.settle(key, stores),
            // What was rescued and not taken home yet stays so.
            Err(_) if stores.rescue.holds(key) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn own_lock(&self, key: &Key) -> Option<Lock> {
        // Whoever has that lock for longer than this writes an older truth than ours.
        let patience = Duration::from_secs(5);
        let other = *key != self.key;
        other.then(|| self.vault.lock(key, patience, &|| ()).ok()).flatten()
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

/// For fuzzing: a record that is read is written as it was, and one that is not is not
/// quoted.
///
/// # Panics
/// When that is not so.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    match record::read(bytes, "here") {
        Ok(read) => {
            let written = record::write(&read);
            let again = record::read(&written, "here").unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(record::write(&again), written);
            assert_eq!(again.key(), read.key());
        }
        Err(error) => assert!(error.what.starts_with("the record in here ")),
    }
}
