//! What a renewal brings exists nowhere else, and what it replaces is spent: where the store that it
//! belongs to does not take it, a private file beside the locks does, is read first, and is moved home by whoever
//! finds that store back (rule V16). A refresh token that is about to be spent is marked before
//! (rule V17), because whoever comes after a renewal that did not end cannot know it otherwise.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Pen, Store, Stores, Trouble, Vault, Want};
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::model::{Key, Record, Secret, Session, StoreChoice};

/// Bytes that a mark takes up, so that there is room for a rescue where nothing else has any.
const ROOM: usize = 1 << 14;

/// How long another machine may take for its renewal.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is known of a refresh token that was sent. It is not a secret.
#[derive(Serialize, Deserialize)]
struct Mark {
    /// Its fingerprint.
    refresh_token: String,
    /// Unix time in seconds.
    since: u64,
    /// Another account of the place was chosen later: this one does not answer for it.
    #[serde(default)]
    only_by_name: bool,
}

impl Vault<'_> {
    /// What lies in the rescue files of a place: nothing, unless a store failed. They are moved
    /// home where that can be done, and answer where it cannot.
    pub(super) fn peek_rescued(
        &self,
        want: &Want<'_>,
        stores: &Stores,
        rescued: &[Record],
    ) -> Result<Option<Record>> {
        let mut away = None;
        for record in rescued {
            if let Err(error) = self.bring_home(record.key(), stores) {
                away = Some(error);
            }
        }
        let Some(error) = away else { return Ok(want.pick(self.matching(want)?)) };
        let near = super::merged(
            stores.rescue.read(&want.place, self.tell)?,
            stores.file.read(&want.place, self.tell)?,
        );
        let found = want.pick(near);
        let certain = found.as_ref().is_some_and(|record| {
            want.account.is_some() || !self.mark(record.key()).is_some_and(|mark| mark.only_by_name)
        });
        if !certain {
            return self.matching(want).map(|records| want.pick(records));
        }
        // Who holds the lock of the record is at work on it, and says so itself.
        if error.kind != Kind::Temporary && !self.told.replace(true) {
            let what = format!("{}: answering from {}", error.what, stores.rescue.name());
            (self.tell)(&format!("{what}; it moves back when that store is back"));
        }
        Ok(found)
    }

    /// Plain files of the time before the encrypted store move into it, each under its lock.
    pub(super) fn seal(
        &self,
        stores: &Stores,
        plain: impl FnOnce() -> Result<Vec<Record>>,
    ) -> Result<()> {
        let StoreChoice::Encrypted(_) = self.choice else { return Ok(()) };
        let Some(primary) = &stores.primary else { return Ok(()) };
        for record in plain()? {
            let key = record.key();
            // Who holds the lock writes it, and that moves it too.
            let Ok(_lock) = self.lock(key, Duration::ZERO, &|| ()) else { continue };
            let now =
                stores.file.read(&key.place, self.tell)?.into_iter().find(|now| now.key() == key);
            if let Some(now) = now {
                primary.write(&now, false).map_err(Trouble::error)?;
                stores.file.remove(key)?;
                (self.tell)(&format!("{} is sealed now; it was in a plain file", key.text()));
            }
        }
        Ok(())
    }

    fn bring_home(&self, key: &Key, stores: &Stores) -> Result<()> {
        let _lock = self.lock(key, Duration::ZERO, &|| ())?;
        let rescued = stores.rescue.read(&key.place, self.tell)?;
        let Some(record) = rescued.into_iter().find(|record| record.key() == key) else {
            return Ok(());
        };
        // Another machine may have renewed it since, in a store that both use.
        let there = self.home_holds(key, stores)?;
        if there.is_none_or(|there| renewed(&there) <= renewed(&record)) {
            self.write_home(&record, stores, false)?;
        }
        self.settle(key, stores)
    }

    /// Writes where a record belongs, and sees that it is there: a helper's word is not enough.
    /// `at_once`: without waiting for a person.
    fn write_home(&self, record: &Record, stores: &Stores, at_once: bool) -> Result<()> {
        self.write(record, at_once)?;
        let refresh = refresh_token(record);
        match self.home_holds(record.key(), stores)? {
            Some(there) if refresh_token(&there) == refresh => Ok(()),
            _ => {
                let name = self.kept_in(record.key())?;
                Err(Error::new(Kind::Storage, format!("{name} did not keep what it took")))
            }
        }
    }

    /// The record where it belongs, not in a rescue file.
    fn home_holds(&self, key: &Key, stores: &Stores) -> Result<Option<Record>> {
        let mut records = stores.file.read(&key.place, self.tell)?;
        if let Some(primary) = &stores.primary
            && !stores.file.holds(key)
        {
            // Files that stand in for it are no home.
            let read = primary.read(&key.place).map_err(Trouble::error)?;
            records = read.into_iter().filter_map(Result::ok).collect();
            self.answered.set(true);
        }
        Ok(records.into_iter().find(|record| record.key() == key))
    }

    /// Nothing is under way any more: the record is where it belongs.
    pub(super) fn settle(&self, key: &Key, stores: &Stores) -> Result<()> {
        stores.rescue.remove(key)?;
        disk::remove(&self.mark_path(key)?).map(drop)
    }

    fn keep_renewed(&self, record: &Record) -> Result<()> {
        let (stores, key) = (self.stores()?, record.key());
        if self.write_home(record, stores, true).is_ok() {
            return self.settle(key, stores);
        }
        let rescued = stores.rescue.write(record).or_else(|_| {
            let mark = self.mark(key);
            disk::remove(&self.mark_path(key)?)?;
            let rescued = stores.rescue.write(record);
            if let Some(mark) = mark.filter(|_| rescued.is_ok()) {
                // Without it the record answers for the whole place.
                let _ = self.put_mark(key, &mark, 0);
            }
            rescued
        });
        let Err(away) = self.write_home(record, stores, false) else {
            return self.settle(key, stores);
        };
        rescued.map_err(|error| {
            let what = format!("{}, and {}", away.what, error.what);
            Error { kind: Kind::Storage, what, hint: away.hint.clone(), source: error.source }
        })?;
        self.told.set(true);
        let what = format!("{}: the renewed session {} is kept in", away.what, key.text());
        let name = stores.rescue.name();
        (self.tell)(&format!("{what} {name}, mode 0600, until that store takes it"));
        Ok(())
    }

    fn mark(&self, key: &Key) -> Option<Mark> {
        let content = disk::read(&self.mark_path(key).ok()?).ok()??;
        serde_json::from_slice(&content).ok()
    }

    fn put_mark(&self, key: &Key, mark: &Mark, room: usize) -> Result<()> {
        // Strings and numbers cannot fail to become JSON, and white space behind it means nothing.
        let mut content = serde_json::to_vec(mark).unwrap_or_default();
        content.resize(content.len().max(room), b' ');
        disk::replace(&self.mark_path(key)?, &content)
    }

    fn mark_path(&self, key: &Key) -> Result<PathBuf> {
        Ok(self.environment.state_directory()?.join("spending").join(key.digest()))
    }
}

fn renewed(record: &Record) -> u64 {
    match record {
        Record::Session(session) => session.renewed,
        Record::Static(entry) => entry.stored,
    }
}

fn refresh_token(record: &Record) -> Option<&Secret> {
    match record {
        Record::Session(session) => session.tokens.refresh.as_ref(),
        Record::Static(entry) => entry.refresh.as_ref(),
    }
}

impl Pen<'_> {
    /// Marks a refresh token that is sent next, where what comes of it can be saved. Gives the
    /// Unix time in seconds at which it was sent before, if no answer was kept then.
    ///
    /// # Errors
    /// `Storage` when its successor could not be kept: it must not be sent.
    pub fn spend(&self, session: &Session, refresh: &Secret) -> Result<Option<u64>> {
        self.probe()?;
        let (vault, key) = (self.vault, &session.key);
        let before = vault.mark(key).filter(|mark| mark.refresh_token == refresh.fingerprint());
        let mark = Mark {
            refresh_token: refresh.fingerprint(),
            since: vault.clock.now(),
            only_by_name: vault.newest.get() > session.chosen,
        };
        vault.put_mark(key, &mark, ROOM)?;
        Ok(before.map(|mark| mark.since))
    }

    /// Takes the right to renew from every machine that uses the store. The second is the session
    /// as another machine has renewed it meanwhile.
    ///
    /// # Errors
    /// `Temporary` when another machine does not give it back, `Storage` as `spend`.
    pub fn claim(&self, session: &Session) -> Result<(Option<Claim<'_>>, Option<Session>)> {
        let (vault, key) = (self.vault, &session.key);
        let stores = vault.stores()?;
        let Some(primary) = &stores.primary else { return Ok((None, None)) };
        let claim = primary.claim(key, PATIENCE, vault.clock).map_err(Trouble::error)?;
        let Some(claim) = claim.map(|claim| Claim { store: primary.as_ref(), claim }) else {
            return Ok((None, None));
        };
        let newer = match vault.home_holds(key, stores)? {
            Some(Record::Session(there))
                if there.renewed > session.renewed
                    || (there.tokens.refresh != session.tokens.refresh
                        && !stores.rescue.holds(key)) =>
            {
                stores.rescue.remove(key)?;
                Some(there)
            }
            _ => None,
        };
        Ok((Some(claim), newer))
    }

    /// Saves what a renewal has brought, whose predecessor is spent: where it belongs, else in a
    /// rescue file.
    ///
    /// # Errors
    /// `Storage` when neither takes it.
    pub fn save_renewed(&self, session: &Session) -> Result<()> {
        let _lock = self.own_lock(&session.key);
        self.vault.keep_renewed(&Record::Session(session.clone()))
    }
}

/// The right to renew a session that several machines have, until it is dropped.
pub struct Claim<'a> {
    store: &'a dyn Store,
    claim: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.store.release(&self.claim);
    }
}

impl Trouble {
    /// In words, for who has no files to fall back on.
    pub(super) fn error(self) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::Absent(why) | Self::Silent(why) => Error::new(Kind::Storage, why)
                .hint("set store = \"auto\" or \"file\" in config.toml to go on without it"),
        }
    }
}
