//! One file of mode 0600 per record, in one directory of mode 0700 per place.

use std::path::{Path, PathBuf};

use super::{Store, Trouble, record};
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::model::{Key, Place, Record};

pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(super) fn remove_unreadable(&self) -> Result<()> {
        for directory in entries(&self.directory)? {
            for path in entries(&directory)? {
                let name = path.display().to_string();
                let readable = disk::read(&path).is_ok_and(|content| {
                    content.is_some_and(|content| record::read(&content, &name).is_ok())
                });
                if !readable {
                    disk::remove(&path)?;
                }
            }
        }
        Ok(())
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.directory.join(key.place.digest()).join(format!("{}.json", key.digest()))
    }
}

/// The records of one directory; the file of a writer that died is not one.
fn read_directory(directory: &Path) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for path in entries(directory)? {
        if path.extension().is_some_and(|extension| extension == "json")
            && let Some(content) = disk::read(&path)?
        {
            let content = zeroize::Zeroizing::new(content);
            records.push(record::read(&content, &path.display().to_string())?);
        }
    }
    Ok(records)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| {
        let what = format!("cannot read {}", directory.display());
        Err(Error::new(Kind::Storage, what).because(error))
    };
    match std::fs::read_dir(directory) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()
            .or_else(failed),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => failed(error),
    }
}

impl Store for Files {
    fn read(&self, place: &Place) -> std::result::Result<Vec<Record>, Trouble> {
        Ok(read_directory(&self.directory.join(place.digest()))?)
    }

    fn all(&self) -> std::result::Result<Vec<Record>, Trouble> {
        let mut records = Vec::new();
        for directory in entries(&self.directory)? {
            records.extend(read_directory(&directory)?);
        }
        Ok(records)
    }

    fn write(&self, record: &Record) -> std::result::Result<(), Trouble> {
        let content = record::write(record);
        disk::make_private_directory(&self.directory)?;
        Ok(disk::replace(&self.path(record.key()), &content)?)
    }

    fn remove(&self, key: &Key) -> std::result::Result<bool, Trouble> {
        let path = self.path(key);
        let removed = disk::remove(&path)?;
        if removed && let Some(directory) = path.parent() {
            // Fails while other accounts are there, which is as well.
            let _ = std::fs::remove_dir(directory);
        }
        Ok(removed)
    }

    fn probe(&self, key: &Key) -> std::result::Result<(), Trouble> {
        Ok(disk::probe(&self.path(key))?)
    }

    fn name(&self) -> String {
        format!("files in {}", self.directory.display())
    }
}
