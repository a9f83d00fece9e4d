//! The one editor of other tools' text files. What it does not change keeps its bytes: comments,
//! layout, line ends, a byte order mark, the end of the last line; and the file its mode, its owner
//! and the links that lead to it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Setup, Step};
use crate::disk;
use crate::error::{Error, Kind, Result};

const MARK: &str = "\u{feff}";

/// Links that lead to links, as Linux counts them.
const LINKS: usize = 40;

/// A file as it is, and the text to edit.
pub(super) struct Text {
    path: PathBuf,
    /// `None`: there is no such file.
    content: Option<Vec<u8>>,
    /// Without a byte order mark. When everything is taken back, and the file still holds what
    /// setup left, this is the text before the first setup.
    text: String,
    mark: &'static str,
    /// A file that is left empty goes.
    goes: bool,
}

/// The new content of a file; none takes it away.
pub(super) struct Change {
    pub(super) path: PathBuf,
    pub(super) before: Option<Vec<u8>>,
    pub(super) after: Option<Vec<u8>>,
    /// Whether it is one that can be started.
    pub(super) program: bool,
}

impl Text {
    /// # Errors
    /// `Failed` when it is no plain file, or not UTF-8.
    pub(super) fn open(path: &Path, setup: &Setup<'_>) -> Result<Self> {
        let path = followed(path)?;
        let content = content(&path)?;
        let memory = setup.memory.borrow();
        let now = content.as_deref().unwrap_or_default();
        let undo = setup.typed.undo;
        let original = memory.original(&path, now).filter(|_| undo && setup.typed.hosts.is_empty());
        let text = String::from_utf8(original.unwrap_or_else(|| now.to_vec()))
            .map_err(|_| Error::new(Kind::Failed, format!("{} is not UTF-8", path.display())))?;
        let (mark, text) = match text.strip_prefix(MARK) {
            Some(text) => (MARK, text.to_owned()),
            None => ("", text),
        };
        let goes = undo && content.is_some() && !memory.existed(&path);
        Ok(Self { path, content, text, mark, goes })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// As it is, whatever is to be taken back.
    pub(super) fn now(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.content.as_deref().unwrap_or_default())
    }

    /// The file itself, wherever links to it are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The step that makes the file say `after`. With `ours` false nothing of ours is left in it,
    /// and it gets back what it held before the first setup, if nobody else has changed it since.
    pub(super) fn says(self, after: &str, ours: bool, setup: &Setup<'_>) -> Option<Step> {
        let now = self.content.as_deref().unwrap_or_default();
        let original = match setup.typed.undo && !ours && after != self.text {
            true => setup.memory.borrow().original(&self.path, now),
            false => None,
        };
        let after = original.unwrap_or_else(|| format!("{}{after}", self.mark).into_bytes());
        let after = Some(after).filter(|after| !(self.goes && after.trim_ascii().is_empty()));
        if after == self.content || (self.content.is_none() && after.as_ref()?.is_empty()) {
            return None;
        }
        Some(Step::Write(Change { path: self.path, before: self.content, after, program: false }))
    }
}

/// The file that a path leads to, which need not be there.
pub(super) fn followed(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match path.read_link() {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(Error::new(Kind::Failed, format!("{} is a link that leads to itself", path.display())))
}

/// What is in a file; `None` where there is none.
pub(super) fn content(path: &Path) -> Result<Option<Vec<u8>>> {
    let cannot = || Error::new(Kind::Failed, format!("{} cannot be read", path.display()));
    match path.metadata() {
        // A pipe would be read for ever.
        Ok(found) if !found.is_file() => Err(cannot().because("it is not a plain file")),
        Ok(_) => std::fs::read(path).map(Some).map_err(|error| cannot().because(error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot().because(error)),
    }
}

/// Puts content into the place of a file, or takes it away.
pub(super) fn put(path: &Path, content: Option<&[u8]>) -> Result<()> {
    // What a setup that was killed has left: under the lock there is no other one.
    disk::sweep(path);
    match content {
        Some(content) => disk::rewrite(path, content),
        None => disk::remove(path).map(drop),
    }
}

/// The directories above a path that are not there, outermost first.
pub(super) fn missing(path: &Path) -> Vec<PathBuf> {
    let above = path.ancestors().skip(1).take_while(|above| above.symlink_metadata().is_err());
    let mut above: Vec<PathBuf> = above.map(Path::to_owned).collect();
    above.retain(|above| !above.as_os_str().is_empty());
    above.reverse();
    above
}

/// Makes directories, each for its owner alone whatever the umask.
pub(super) fn make(directories: &[PathBuf]) -> Result<()> {
    for directory in directories {
        disk::make_private_directory(directory)?;
    }
    Ok(())
}

/// Takes away those directories that are empty, innermost first.
pub(super) fn unmake(directories: &[PathBuf]) {
    for directory in directories.iter().rev() {
        // One that is not empty is somebody's.
        let _ = std::fs::remove_dir(directory);
    }
}

/// Asks before anything is changed whether a file could be written.
///
/// # Errors
/// `Failed` when it is read-only, or its directory cannot be written.
pub(super) fn check(path: &Path) -> Result<()> {
    let cannot = |why: &str| {
        Error::new(Kind::Failed, format!("cannot write {}", path.display())).because(why)
    };
    if path.metadata().is_ok_and(|found| found.permissions().readonly()) {
        let hint = format!("chmod u+w {}", crate::ui::shell_word(&path.to_string_lossy()));
        return Err(cannot("it is read-only").hint(hint));
    }
    let mut above = path.ancestors().skip(1);
    let Some(directory) = above.find(|above| above.symlink_metadata().is_ok()) else {
        return Err(cannot("there is no directory to write it to"));
    };
    if !directory.is_dir() {
        return Err(cannot(&format!("{} is not a directory", directory.display())));
    }
    if !is_writable(directory) {
        return Err(cannot(&format!("the directory {} is not writable", directory.display())));
    }
    Ok(())
}

#[cfg(unix)]
pub(super) fn is_writable(directory: &Path) -> bool {
    use rustix::fs::Access;
    directory.metadata().is_ok_and(|found| !found.permissions().readonly())
        && rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
pub(super) fn is_writable(directory: &Path) -> bool {
    directory.metadata().is_ok_and(|found| !found.permissions().readonly())
}

/// A text as lines, each with the end that it has. A line that comes ends as its neighbours do,
/// and a last line without an end stays one.
pub(super) struct Lines<'t> {
    lines: Vec<(std::borrow::Cow<'t, str>, &'static str)>,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let line = |line: &'t str| match (line.strip_suffix("\r\n"), line.strip_suffix('\n')) {
            (Some(line), _) => (line.into(), "\r\n"),
            (None, Some(line)) => (line.into(), "\n"),
            (None, None) => (line.into(), ""),
        };
        Self { lines: text.split_inclusive('\n').map(line).collect() }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.lines.iter().map(|(line, _)| line.as_ref())
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn get(&self, index: usize) -> &str {
        self.lines.get(index).map_or("", |(line, _)| line.as_ref())
    }

    /// Puts a line before the one at `index`, or at the end.
    pub(super) fn insert(&mut self, index: usize, line: impl Into<String>) {
        let habit = newline_of(self.lines.iter().map(|(_, end)| *end));
        let mut end = habit;
        if index == self.lines.len()
            && let Some((_, last)) = self.lines.last_mut()
            && last.is_empty()
        {
            *last = habit;
            end = "";
        }
        self.lines.insert(index, (line.into().into(), end));
    }

    pub(super) fn push(&mut self, line: impl Into<String>) {
        self.insert(self.lines.len(), line);
    }

    pub(super) fn set(&mut self, index: usize, line: impl Into<String>) {
        self.lines[index].0 = line.into().into();
    }

    pub(super) fn remove(&mut self, index: usize) {
        let (_, end) = self.lines.remove(index);
        if end.is_empty()
            && let Some((_, last)) = self.lines.last_mut()
        {
            *last = "";
        }
    }

    pub(super) fn text(&self) -> String {
        self.lines.iter().flat_map(|(line, end)| [line.as_ref(), end]).collect()
    }
}

/// How the lines of a text end.
pub(super) fn newline(text: &str) -> &'static str {
    if text.split_inclusive('\n').next().is_some_and(|line| line.ends_with("\r\n")) {
        "\r\n"
    } else {
        "\n"
    }
}

fn newline_of(mut ends: impl Iterator<Item = &'static str>) -> &'static str {
    ends.next().filter(|end| !end.is_empty()).unwrap_or("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_came_goes_without_a_trace() {
        for text in ["", "a", "a\n", "a\r\nb", "a\r\nb\r\n", "\n\n", "a\nb\r\n", "\r\n"] {
            let count = Lines::of(text).len();
            for index in 0..=count {
                let mut lines = Lines::of(text);
                assert_eq!(lines.text(), text);
                lines.insert(index, "ours");
                assert!(lines.text().contains("ours") && lines.text() != text);
                assert_eq!(lines.text().ends_with('\n'), text.is_empty() || text.ends_with('\n'));
                lines.remove(index);
                assert_eq!(lines.text(), text);
            }
        }
        let mut lines = Lines::of("a\r\nb\r\n");
        lines.push("c");
        assert_eq!(lines.text(), "a\r\nb\r\nc\r\n");
    }
}
