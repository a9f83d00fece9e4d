//! One file of mode 0600 per record, in one directory of mode 0700 per place. A file that holds no
//! record is put aside, so that it is kept and the others of its place answer.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::record;
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::model::{Key, Place, Record};

/// Directories that one thread reads as quickly as two.
const FEW: usize = 256;

pub(super) struct Files {
    directory: PathBuf,
    /// Why the last `read` did not give all that there is.
    unread: RefCell<Option<Error>>,
}

/// What files hold.
#[derive(Default)]
struct Found {
    records: Vec<Record>,
    /// What was put aside, for a person.
    aside: Vec<String>,
    /// Why others could not be read, and stay where they are.
    refused: Vec<Error>,
}

impl Files {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, unread: RefCell::default() }
    }

    /// Every record of a place that can be read. `tell` says one line to a person.
    pub(super) fn read(&self, place: &Place, tell: &dyn Fn(&str)) -> Result<Vec<Record>> {
        let found = read_directory(&self.directory.join(place.digest()))?;
        found.aside.iter().for_each(|text| tell(text));
        self.unread.replace(found.refused.into_iter().next());
        Ok(found.records)
    }

    /// Asked about what was found in the end: what the last `read` could not give may be what was
    /// wanted where that is nothing, and newer where it is the record of this key.
    pub(super) fn was_read_whole(&self, found: Option<&Key>) -> Result<()> {
        match self.unread.take() {
            Some(error) if found.is_none_or(|key| self.holds(key)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Every record that can be read; a person hears of the others.
    pub(super) fn all(&self, tell: &dyn Fn(&str)) -> Result<Vec<Record>> {
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
            let mut found = Found::default();
            for worker in started {
                let read = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                found.extend(read?);
            }
            found.aside.iter().for_each(|text| tell(text));
            let refused = found.refused.iter().map(Error::line);
            refused.for_each(|text| tell(&text));
            Ok(found.records)
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
        self.places()?.iter().try_for_each(|directory| clean(directory))
    }

    /// As `remove_unreadable`, for one place.
    pub(super) fn clean(&self, place: &Place) -> Result<()> {
        clean(&self.directory.join(place.digest()))
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
        entries.retain(|entry| entry.is_directory);
        Ok(entries.into_iter().map(|entry| entry.path).collect())
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.directory.join(key.place.digest()).join(format!("{}.json", key.digest()))
    }
}

/// The file of a writer that died is not one.
fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn clean(directory: &Path) -> Result<()> {
    for path in disk::entries(directory)?.into_iter().map(|entry| entry.path) {
        match is_record(&path).then(|| read_file(&path)) {
            Some(Ok(_)) => {}
            // The disk could not be read: what is there may be good.
            Some(Err(Bad::Refused(error))) if error.source.is_some() && !path.is_symlink() => {
                return Err(error);
            }
            Some(Err(_)) | None => {
                disk::remove(&path)?;
            }
        }
    }
    Ok(())
}

impl Found {
    fn extend(&mut self, other: Self) {
        self.records.extend(other.records);
        self.aside.extend(other.aside);
        self.refused.extend(other.refused);
    }
}

fn read_directories(directories: &[PathBuf]) -> Result<Found> {
    let mut found = Found::default();
    for directory in directories {
        found.extend(read_directory(directory)?);
    }
    Ok(found)
}

fn read_directory(directory: &Path) -> Result<Found> {
    let mut found = Found::default();
    let paths = disk::entries(directory)?.into_iter().map(|entry| entry.path);
    for path in paths.filter(|path| is_record(path)) {
        match read_file(&path) {
            Ok(record) => found.records.extend(record),
            Err(Bad::Refused(error)) => found.refused.push(error),
            Err(Bad::Broken(error)) => match put_aside(&path) {
                Ok(Some(aside)) => {
                    let text = format!("{}; it is kept as {}", error.what, aside.display());
                    found.aside.push(text);
                }
                Ok(None) => found.records.extend(read_file(&path).ok().flatten()),
                Err(_) => found.refused.push(error),
            },
        }
    }
    Ok(found)
}

/// Why a file is no record.
enum Bad {
    /// It is ours, and what is in it is of no use to anybody.
    Broken(Error),
    /// It may hold one.
    Refused(Error),
}

/// `None`: it was removed since the directory was read.
fn read_file(path: &Path) -> std::result::Result<Option<Record>, Bad> {
    let away = |error: Error, advice: &str| {
        let hint = format!("{advice}remove {} and sign in again", path.display());
        Bad::Refused(if error.hint.is_some() { error } else { error.hint(hint) })
    };
    let content = disk::read(path).map_err(|error| away(error, ""))?;
    let Some(content) = content.map(zeroize::Zeroizing::new) else { return Ok(None) };
    let place = path.display().to_string();
    record::read(&content, &place).map(Some).map_err(|error| {
        if !record::is_of_a_later_version(&content) {
            return Bad::Broken(error);
        }
        let what = format!("the record in {place} was written by a later version of valetkey");
        away(Error::new(Kind::Storage, what), "use that version, or ")
    })
}

/// Gives a broken file a name that is no record's; `None` where somebody has written a good one
/// meanwhile.
fn put_aside(path: &Path) -> Result<Option<PathBuf>> {
    let named = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}.broken"));
        PathBuf::from(name)
    };
    let free = |aside: &PathBuf| aside.symlink_metadata().is_err();
    let aside = (1..).map(named).find(free).unwrap_or_else(|| named(0));
    disk::rename(path, &aside)?;
    if matches!(read_file(&aside), Ok(Some(_))) {
        disk::give_back(&aside, path)?;
        return Ok(None);
    }
    Ok(Some(aside))
}
