//! One file of mode 0600 per record, in one directory of mode 0700 per place.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use super::record;
use crate::disk;
use crate::error::Result;
use crate::model::{Key, Place, Record};

/// Directories that one thread reads as quickly as two.
const FEW: usize = 256;

pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Every record of a place.
    pub(super) fn read(&self, place: &Place) -> Result<Vec<Record>> {
        read_directory(&self.directory.join(place.digest()))
    }

    pub(super) fn all(&self) -> Result<Vec<Record>> {
        let places = self.places()?;
        let workers = match places.len() {
            0..FEW => 1,
            _ => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let share = places.len().div_ceil(workers).max(1);
        std::thread::scope(|scope| {
            let shares = places.chunks(share);
            let start = |share| scope.spawn(move || read_directories(share));
            let started: Vec<_> = shares.map(start).collect();
            let mut records = Vec::new();
            for worker in started {
                let read = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                records.extend(read?);
            }
            Ok(records)
        })
    }

    /// Whether something, readable or not, stands in the place of this key's record.
    pub(super) fn holds(&self, key: &Key) -> bool {
        self.path(key).symlink_metadata().is_ok()
    }

    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let content = record::write(record);
        disk::make_private_directory(&self.directory)?;
        disk::replace(&self.path(record.key()), &content)
    }

    /// `false` where there was nothing.
    pub(super) fn remove(&self, key: &Key) -> Result<bool> {
        disk::remove(&self.path(key))
    }

    /// Removes all that is no record, so also what a writer that died has left.
    pub(super) fn remove_unreadable(&self) -> Result<()> {
        for directory in self.places()? {
            for path in disk::entries(&directory)?.iter().map(DirEntry::path) {
                if !is_record(&path) || read_file(&path).is_err() {
                    disk::remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a `write` of this key could succeed.
    pub(super) fn probe(&self, key: &Key) -> Result<()> {
        disk::make_private_directory(&self.directory)?;
        disk::probe(&self.path(key))
    }

    /// For a person: where this is.
    pub(super) fn name(&self) -> String {
        format!("files in {}", self.directory.display())
    }

    /// A link is not one: what it leads to is not ours to list, or to clean.
    fn places(&self) -> Result<Vec<PathBuf>> {
        let mut entries = disk::entries(&self.directory)?;
        entries.retain(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        Ok(entries.iter().map(DirEntry::path).collect())
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.directory.join(key.place.digest()).join(format!("{}.json", key.digest()))
    }
}

/// The file of a writer that died is not one.
fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn read_directories(directories: &[PathBuf]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for directory in directories {
        records.extend(read_directory(directory)?);
    }
    Ok(records)
}

fn read_directory(directory: &Path) -> Result<Vec<Record>> {
    let paths = disk::entries(directory)?.into_iter().map(|entry| entry.path());
    let records = paths.filter(|path| is_record(path)).map(|path| read_file(&path));
    records.filter_map(Result::transpose).collect()
}

/// `None`: it was removed since the directory was read.
fn read_file(path: &Path) -> Result<Option<Record>> {
    let Some(content) = disk::read(path)?.map(zeroize::Zeroizing::new) else { return Ok(None) };
    record::read(&content, &path.display().to_string()).map(Some)
}
