//! The changes that setup makes: shown, asked for permission first, done in their order with the
//! memory written before them, and all of them taken back when one cannot be done.

use std::path::{Path, PathBuf};

use super::files::{self, Change};
use super::hidden::Credential;
use super::memory::Memory;
use super::{Setup, change, tool};
use crate::error::{Error, Kind, Result};
use crate::ui::{shell_line, shell_word};

/// One change to somebody else's configuration.
pub(super) enum Step {
    /// A command of the tool that owns the configuration, and the files that it may write.
    Run {
        words: Vec<String>,
        files: Vec<PathBuf>,
    },
    /// A link to this program, by whose name it speaks one language.
    Link {
        link: PathBuf,
        to: PathBuf,
    },
    /// A link of ours goes, or leads where it led before.
    Unlink {
        link: PathBuf,
        before: Option<PathBuf>,
    },
    Write(Change),
    /// What another store of docker's holds comes into ours.
    TakeOver(Credential),
    /// And goes from ours again.
    GiveBack(Credential),
    /// What only the person can do.
    Tell(String),
}

/// How to go back from a step that is done.
enum Back<'s> {
    Credential(&'s Credential),
    File { path: PathBuf, content: Option<Vec<u8>>, made: Vec<PathBuf> },
    Link { link: PathBuf, before: Option<PathBuf>, made: Vec<PathBuf> },
}

/// Does all steps, or none.
///
/// # Errors
/// The error of the step that could not be done; what was done before it is taken back.
pub(super) fn perform(steps: &[Step], setup: &Setup<'_>) -> Result<()> {
    for step in steps {
        step.check()?;
    }
    let known = setup.memory.borrow().clone();
    let mut backs = Vec::new();
    let done = perform_all(steps, setup, &mut backs);
    if let Err(error) = done {
        for back in backs.into_iter().rev() {
            back.go(setup);
        }
        setup.memory.replace(known);
        // The memory is as it was; a copy that says more does no harm.
        let _ = setup.memory.borrow().save(setup.world);
        return Err(error);
    }
    Ok(())
}

fn perform_all<'s>(steps: &'s [Step], setup: &Setup<'_>, backs: &mut Vec<Back<'s>>) -> Result<()> {
    let world = setup.world;
    if !setup.typed.undo {
        remember(steps, setup);
        setup.memory.borrow().save(world)?;
    }
    let mut run: Vec<&Path> = Vec::new();
    for step in steps {
        match step {
            Step::Run { words, files } => {
                for file in files {
                    if !run.contains(&file.as_path()) {
                        let (content, made) = (files::content(file)?, files::missing(file));
                        backs.push(Back::File { path: file.clone(), content, made });
                        run.push(file);
                    }
                }
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                tool::output(&words, world)?;
            }
            Step::Link { link, to } => {
                let (before, made) = (link.read_link().ok(), files::missing(link));
                backs.push(Back::Link { link: link.clone(), before, made });
                lead(link, Some(to))?;
            }
            Step::Unlink { link, before } => {
                let (now, made) = (link.read_link().ok(), Vec::new());
                backs.push(Back::Link { link: link.clone(), before: now, made });
                lead(link, before.as_deref())?;
                files::unmake(&setup.memory.borrow_mut().unlinked(link));
            }
            Step::Write(change) => {
                let (path, content) = (change.path.clone(), change.before.clone());
                backs.push(Back::File { made: files::missing(&path), path, content });
                change.perform()?;
            }
            Step::TakeOver(credential) => {
                backs.push(Back::Credential(credential));
                credential.keep(world)?;
            }
            Step::GiveBack(credential) => credential.drop(world)?,
            Step::Tell(_) => {}
        }
    }
    after_tools(&run, backs, setup);
    if setup.typed.undo {
        forget(steps, setup);
    }
    setup.memory.borrow().save(world)
}

/// What is about to be written, so that a setup that is killed can be taken back.
fn remember(steps: &[Step], setup: &Setup<'_>) {
    let mut memory = setup.memory.borrow_mut();
    for step in steps {
        match step {
            Step::Write(Change { path, before, after: Some(after), .. }) => {
                memory.changed(path, before.as_deref(), after, files::missing(path));
            }
            Step::Link { link, to } => {
                memory.linked(link, to, link.read_link().ok(), files::missing(link));
            }
            _ => {}
        }
    }
    note(&mut memory, setup);
}

/// The values that are replaced in files that are remembered by now.
fn note(memory: &mut Memory, setup: &Setup<'_>) {
    setup.notes.borrow_mut().retain(|(path, key, value)| {
        let known = memory.is_known(path);
        if known {
            memory.replace(path, key.clone(), value.clone());
        }
        !known
    });
}

/// What the tools themselves made of their files is known only afterwards.
fn after_tools(run: &[&Path], backs: &[Back<'_>], setup: &Setup<'_>) {
    let mut memory = setup.memory.borrow_mut();
    for back in backs {
        if let Back::File { path, content, made } = back
            && run.contains(&path.as_path())
            && let Ok(Some(now)) = files::content(path)
        {
            let content = content.as_deref();
            if !setup.typed.undo {
                if content != Some(&now) {
                    memory.changed(path, content, &now, made.clone());
                }
            } else if now.trim_ascii().is_empty() && !memory.existed(path) {
                let _ = files::put(path, None);
                files::unmake(&memory.forget(path));
            } else {
                undone(&mut memory, path, content, &now, setup);
            }
        }
    }
    note(&mut memory, setup);
}

/// What is taken back needs no memory; of what stays, the rest is remembered.
fn undone(
    memory: &mut Memory,
    path: &Path,
    before: Option<&[u8]>,
    after: &[u8],
    setup: &Setup<'_>,
) {
    if setup.typed.hosts.is_empty() {
        memory.forget(path);
    } else if memory.original(path, before.unwrap_or_default()).is_some() {
        memory.changed(path, before, after, Vec::new());
    }
}

fn forget(steps: &[Step], setup: &Setup<'_>) {
    let mut memory = setup.memory.borrow_mut();
    for step in steps {
        if let Step::Write(Change { path, before, after, .. }) = step {
            match after {
                Some(after) => undone(&mut memory, path, before.as_deref(), after, setup),
                None => files::unmake(&memory.forget(path)),
            }
        }
    }
}

impl Change {
    fn perform(&self) -> Result<()> {
        if self.after.is_some() {
            files::make(&files::missing(&self.path))?;
        }
        files::put(&self.path, self.after.as_deref())?;
        if self.program && self.after.is_some() {
            make_executable(&self.path).map_err(|error| {
                let what = format!("cannot make {} a program", self.path.display());
                Error::new(Kind::Failed, what).because(error)
            })?;
        }
        Ok(())
    }
}

impl Back<'_> {
    /// As far as it goes: the error that is said is the one that made it necessary.
    fn go(self, setup: &Setup<'_>) {
        let gone = |gone: Result<()>| {
            gone.unwrap_or_else(|error| setup.world.ui.warn(&error.what));
        };
        match self {
            Self::Credential(credential) => gone(credential.drop(setup.world)),
            Self::File { path, content, made } => {
                if files::content(&path).ok() != Some(content.clone()) {
                    gone(files::put(&path, content.as_deref()));
                }
                files::unmake(&made);
            }
            Self::Link { link, before, made } => {
                gone(lead(&link, before.as_deref()));
                files::unmake(&made);
            }
        }
    }
}

impl Step {
    /// Whether something is different after it.
    pub(super) fn changes(&self) -> bool {
        !matches!(self, Self::Tell(_))
    }

    /// As a line for a shell, or for a person.
    pub(super) fn shown(&self) -> String {
        let word = |path: &Path| shell_word(&path.to_string_lossy());
        match self {
            Self::Run { words, .. } => {
                shell_line(&words.iter().map(String::as_str).collect::<Vec<_>>())
            }
            Self::Link { link, to } | Self::Unlink { link, before: Some(to) } => {
                let force = if link.is_symlink() { "-sfn" } else { "-s" };
                format!("ln {force} {} {}", word(to), word(link))
            }
            Self::Unlink { link, before: None } => format!("rm {}", word(link)),
            Self::Write(Change { path, after: None, .. }) => format!("rm {}", word(path)),
            Self::Write(Change { path, before: None, after: Some(after), .. }) => {
                let after = String::from_utf8_lossy(after);
                format!("# {}\n{}", path.display(), after.trim_end())
            }
            Self::Write(Change { path, before: Some(before), after: Some(after), .. }) => {
                format!("# {}\n{}", path.display(), change::shown(before, after))
            }
            Self::TakeOver(credential) => credential.shown("takes over"),
            Self::GiveBack(credential) => credential.shown("gives back"),
            Self::Tell(text) => text.clone(),
        }
    }

    /// Asks before anything is changed whether this step could be done.
    fn check(&self) -> Result<()> {
        match self {
            Self::Run { files, .. } => files.iter().try_for_each(|file| files::check(file)),
            Self::Write(change) => files::check(&change.path),
            Self::Link { link, .. } | Self::Unlink { link, .. } => {
                if link.symlink_metadata().is_ok_and(|found| !found.is_symlink()) && cfg!(unix) {
                    let what = format!("{} is another program", link.display());
                    return Err(Error::new(Kind::Failed, what).hint(self.by_hand()));
                }
                files::check(link).map_err(|error| error.hint(self.by_hand()))
            }
            Self::TakeOver(_) | Self::GiveBack(_) | Self::Tell(_) => Ok(()),
        }
    }

    /// The command that makes a link where this program could not.
    fn by_hand(&self) -> String {
        let (Self::Link { link, to } | Self::Unlink { link, before: Some(to) }) = self else {
            return format!("take it away by hand: {}", self.shown());
        };
        let name = link.file_name().unwrap_or_default().to_string_lossy();
        let line = shell_line(&["ln", "-s", &to.to_string_lossy()]);
        format!("make it by hand in a directory of your PATH: {line} DIRECTORY/{name}")
    }
}

/// Lets a link lead to a place, or takes it away: a reader sees the old one or the new one.
fn lead(link: &Path, to: Option<&Path>) -> Result<()> {
    let cannot = |error: std::io::Error| {
        let what = format!("cannot change the link {}", link.display());
        Error::new(Kind::Failed, what).because(error)
    };
    let Some(to) = to else {
        return crate::disk::remove(link).map(drop);
    };
    files::make(&files::missing(link))?;
    replace_link(to, link).map_err(cannot)
}

#[cfg(unix)]
fn replace_link(to: &Path, link: &Path) -> std::io::Result<()> {
    let mut beside = link.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    // Of a setup that was killed.
    let _ = std::fs::remove_file(&beside);
    std::os::unix::fs::symlink(to, &beside)?;
    std::fs::rename(&beside, link)
}

#[cfg(windows)]
fn replace_link(to: &Path, link: &Path) -> std::io::Result<()> {
    // A symbolic link needs a right that few have; a copy needs none.
    std::fs::copy(to, link).map(drop)
}

#[cfg(unix)]
fn make_executable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> std::io::Result<()> {
    Ok(())
}
