//! What is not there, and what only cannot be seen: a store that could not be read, and a record
//! that is broken, are never taken for a miss.

use super::{Answer, Store, Vault};
use crate::error::{Error, Kind, Result};
use crate::model::Record;

impl Vault<'_> {
    /// A miss, with the reason for which only files were read, if so: what the keychain holds is
    /// not known then.
    #[must_use]
    pub fn missed(&self, error: Error) -> Error {
        match self.unread.get() {
            Some(why) if error.kind == Kind::NotSignedIn && error.source.is_none() => {
                error.because(format!("{why}, and only files were read"))
            }
            _ => error,
        }
    }

    /// As `missed`, for what is no error.
    #[must_use]
    pub fn unread(&self) -> Option<&'static str> {
        self.unread.get()
    }

    /// What can be read of what the first store gives, and why something cannot.
    pub(super) fn readable(
        &self,
        ask: impl FnOnce(&dyn Store) -> Answer<Vec<Result<Record>>>,
    ) -> Result<(Vec<Record>, Option<Error>)> {
        let (mut records, mut broken) = (Vec::new(), None);
        for record in self.first(ask)?.unwrap_or_default() {
            match record {
                Ok(record) => records.push(record),
                Err(error) => broken = broken.or(Some(error)),
            }
        }
        Ok((records, broken))
    }

    /// A broken record is said where others answer, and never taken for a miss.
    pub(super) fn no_miss(&self, found: bool, broken: Option<Error>) -> Result<()> {
        match broken {
            Some(error) if !found => Err(error),
            Some(error) => {
                if !self.told.replace(true) {
                    (self.tell)(&format!("{}; the others answer", error.what));
                }
                Ok(())
            }
            None => Ok(()),
        }
    }
}
