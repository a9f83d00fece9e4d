//! What setup changed, so that `--undo` gives it back: for each file the places that changed, what
//! stood there, and a fingerprint of what was left; for each link where it led before. It is kept
//! in a private file of ours, and gone when everything is taken back.

use std::borrow::Borrow;
use std::collections::BTreeMap;
#[cfg(unix)]
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::change::{self, Hunk};
use crate::broker::World;
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::model::fingerprint;
use crate::vault::Alone;

/// How long another setup is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    files: BTreeMap<Place, Edited>,
    links: BTreeMap<Place, Linked>,
    /// The paths of this program that were written somewhere.
    programs: Vec<Place>,
}

/// One file of another tool.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Edited {
    /// Whether there was such a file before the first setup.
    existed: bool,
    /// Of the content that setup left.
    left: String,
    /// From the content before the first setup to that one.
    hunks: Vec<Hunk>,
    /// The values that setup replaced, by their keys; none where the key was not there.
    replaced: BTreeMap<String, Option<String>>,
    /// The directories that had to be made, outermost first.
    made: Vec<Place>,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Linked {
    to: Place,
    /// Where a link of that name led before.
    before: Option<Place>,
    made: Vec<Place>,
}

/// A path in the file of the memory: its text, or, where its bytes are no text, a NUL, which no path
/// holds, and the bytes in hexadecimal.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
struct Place(PathBuf);

impl Borrow<Path> for Place {
    fn borrow(&self) -> &Path {
        &self.0
    }
}

impl From<Place> for String {
    fn from(Place(path): Place) -> Self {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Self>();
        match path.to_str() {
            Some(text) => text.to_owned(),
            None => format!("\0{}", hex(path.as_os_str().as_encoded_bytes())),
        }
    }
}

impl From<String> for Place {
    fn from(text: String) -> Self {
        #[cfg(unix)]
        if let Some(digits) = text.strip_prefix('\0') {
            use std::os::unix::ffi::OsStringExt;
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            let bytes = digits.as_bytes().chunks(2).filter_map(byte).collect();
            return Self(OsString::from_vec(bytes).into());
        }
        Self(text.into())
    }
}

fn places(paths: Vec<PathBuf>) -> Vec<Place> {
    paths.into_iter().map(Place).collect()
}

fn paths(places: Vec<Place>) -> Vec<PathBuf> {
    places.into_iter().map(|Place(path)| path).collect()
}

fn directory(world: &World<'_>) -> Result<PathBuf> {
    world.environment.state_directory()
}

/// One setup at a time: each of them reads, changes and writes the same memory.
///
/// # Errors
/// `Storage` when the state directory cannot be used, `Temporary` when another setup goes on.
pub(super) fn lock(world: &World<'_>) -> Result<Alone> {
    world.vault.alone("setup", PATIENCE).map_err(|error| match error.kind {
        Kind::Temporary => Error::new(Kind::Temporary, "another valetkey setup is running"),
        _ => error,
    })
}

impl Memory {
    /// One that cannot be understood is no reason to leave a tool as it is: what was written is
    /// recognised without it.
    pub(super) fn load(world: &World<'_>) -> Result<Self> {
        let content = disk::read(&directory(world)?.join("setup.json"))?;
        Ok(content.and_then(|content| serde_json::from_slice(&content).ok()).unwrap_or_default())
    }

    pub(super) fn save(&self, world: &World<'_>) -> Result<()> {
        let path = directory(world)?.join("setup.json");
        if self.files.is_empty() && self.links.is_empty() {
            return disk::remove(&path).map(drop);
        }
        let content = serde_json::to_vec_pretty(self).map_err(|error| {
            Error::new(Kind::Failed, "what setup changed cannot be remembered").because(error)
        })?;
        disk::replace(&path, &content)
    }

    /// The content before the first setup, where the file still holds what setup left.
    pub(super) fn original(&self, path: &Path, content: &[u8]) -> Option<Vec<u8>> {
        let edited = self.files.get(path)?;
        let untouched = edited.left == fingerprint(content);
        change::back(content, &edited.hunks).filter(|_| untouched)
    }

    pub(super) fn is_known(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    /// Whether there was such a file before the first setup; `true` where nothing is known.
    pub(super) fn existed(&self, path: &Path) -> bool {
        self.files.get(path).is_none_or(|edited| edited.existed)
    }

    /// The value that setup replaced. The outer `None`: nothing is known; the inner one: there was
    /// none.
    pub(super) fn replaced(&self, path: &Path, key: &str) -> Option<Option<&str>> {
        let replaced = self.files.get(path)?.replaced.get(key)?;
        Some(replaced.as_deref())
    }

    /// Takes note of a change that is about to be made, or was.
    pub(super) fn changed(
        &mut self,
        path: &Path,
        before: Option<&[u8]>,
        after: &[u8],
        made: Vec<PathBuf>,
    ) {
        let content = before.unwrap_or_default();
        let original = self.original(path, content).unwrap_or_else(|| content.to_vec());
        // What was there before the first setup is forgotten where somebody else removed the file.
        let known = self.files.remove(path).filter(|known| before.is_some() || !known.existed);
        let mut known = known.unwrap_or(Edited { existed: before.is_some(), ..Edited::default() });
        known.made.extend(places(made));
        let (hunks, left) = (change::between(&original, after), fingerprint(after));
        if hunks.is_empty() && known.existed {
            return;
        }
        self.files.insert(Place(path.to_owned()), Edited { hunks, left, ..known });
    }

    /// Takes note of a value that is replaced. The first one is the one to give back.
    pub(super) fn replace(&mut self, path: &Path, key: String, value: Option<String>) {
        if let Some(edited) = self.files.get_mut(path) {
            edited.replaced.entry(key).or_insert(value);
        }
    }

    /// Forgets a file, and says which directories were made for it, outermost first.
    pub(super) fn forget(&mut self, path: &Path) -> Vec<PathBuf> {
        self.files.remove(path).map(|edited| paths(edited.made)).unwrap_or_default()
    }

    pub(super) fn linked(
        &mut self,
        link: &Path,
        to: &Path,
        before: Option<PathBuf>,
        made: Vec<PathBuf>,
    ) {
        let known = self.links.remove(link);
        let (before, made) = (before.map(Place), places(made));
        let known = known.unwrap_or(Linked { before, made, ..Linked::default() });
        let linked = Linked { to: Place(to.to_owned()), ..known };
        self.links.insert(Place(link.to_owned()), linked);
    }

    /// The links of this name that setup made and that still lead where it let them lead, each
    /// with where it led before.
    pub(super) fn links(&self, name: &str) -> Vec<(PathBuf, Option<PathBuf>)> {
        let links = self.links.iter().filter(|(Place(link), linked)| {
            link.file_name().is_some_and(|own| own == name)
                && (cfg!(windows) || link.read_link().is_ok_and(|to| to == linked.to.0))
        });
        let before = |linked: &Linked| linked.before.clone().map(|Place(path)| path);
        links.map(|(Place(link), linked)| (link.clone(), before(linked))).collect()
    }

    pub(super) fn unlinked(&mut self, link: &Path) -> Vec<PathBuf> {
        self.links.remove(link).map(|linked| paths(linked.made)).unwrap_or_default()
    }

    /// Takes note of where this program is.
    pub(super) fn used(&mut self, program: &Path) {
        if !self.programs.iter().any(|known| known.0 == program) {
            self.programs.push(Place(program.to_owned()));
        }
    }

    pub(super) fn knows(&self, program: &Path) -> bool {
        self.programs.iter().any(|known| known.0 == program)
    }
}
