//! Where this program is, and where a link to it goes so that a tool finds it by a name.

use std::path::{Path, PathBuf};

use super::files;
use super::{Setup, Step};
use crate::error::{Error, Kind, Result};
use crate::program;

/// A link to this program: its path, and the steps that make it or take it away.
pub(super) struct Link {
    pub(super) path: PathBuf,
    pub(super) steps: Vec<Step>,
}

impl Setup<'_> {
    /// This program. A name on PATH that leads here stays right when a package manager moves the
    /// file behind it; the file's own path is the last resort.
    pub(super) fn program(&self) -> Result<PathBuf> {
        let own = self.own()?;
        let on_path =
            program::find("valetkey", self.world.environment).filter(|path| leads_to(path, own));
        Ok(on_path.unwrap_or_else(|| own.to_owned()))
    }

    fn own(&self) -> Result<&Path> {
        self.own.ok_or_else(|| Error::new(Kind::Failed, "the path of this program is not known"))
    }

    /// Whether a program that somebody's configuration names is this one: by its path, by its
    /// name, or because an earlier setup wrote it.
    pub(super) fn is_own(&self, program: &str) -> bool {
        let path = Path::new(program);
        path.file_stem().is_some_and(|name| name == "valetkey")
            || self.memory.borrow().knows(path)
            || self.own.is_some_and(|own| path.is_absolute() && leads_to(path, own))
    }

    /// The link of a dialect, which tools find on PATH: the one that is there, else one beside
    /// this program, else one in a directory of the person's own.
    pub(super) fn link(&self, name: &str) -> Result<Link> {
        if self.typed.undo {
            return Ok(self.taken_back(name));
        }
        let own = self.own()?;
        let found = program::find(name, self.world.environment);
        if let Some(path) = found.filter(|path| leads_to(path, own)) {
            return Ok(Link { path, steps: Vec::new() });
        }
        let directory = self.directory_for_links()?;
        let path = directory.join(name);
        let mut link = self.link_at(path)?;
        let on_path = self.path().any(|on_path| on_path == directory);
        if !link.steps.is_empty() && !on_path {
            let directory = crate::ui::shell_word(&directory.to_string_lossy());
            let text = format!("put it on PATH: export PATH={directory}:\"$PATH\"");
            link.steps.push(Step::Tell(text));
        }
        Ok(link)
    }

    /// As `link`, for a tool that looks in a directory of its own.
    pub(super) fn link_at(&self, path: PathBuf) -> Result<Link> {
        if self.typed.undo {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(self.taken_back(&name));
        }
        let to = self.program()?;
        let steps = match path.is_symlink() && leads_to(&path, &to) {
            true => Vec::new(),
            false => vec![Step::Link { link: path.clone(), to }],
        };
        Ok(Link { path, steps })
    }

    /// Only what setup made is taken away: a package, or a person, may have made the same link.
    fn taken_back(&self, name: &str) -> Link {
        let links = self.memory.borrow().links(name);
        let path = links.first().map_or_else(PathBuf::new, |(link, _)| link.clone());
        let steps = links.into_iter().map(|(link, before)| Step::Unlink { link, before });
        Link { path, steps: steps.collect() }
    }

    fn directory_for_links(&self) -> Result<PathBuf> {
        let program = self.program()?;
        let beside = program.parent().unwrap_or(Path::new("/")).to_owned();
        let on_path: Vec<PathBuf> = self.path().collect();
        let usual = self.home().ok().map(|home| home.join(".local/bin"));
        if files::is_writable(&beside) && (on_path.contains(&beside) || usual.is_none()) {
            return Ok(beside);
        }
        let own = |directory: &PathBuf| is_for_own_programs(directory);
        if let Some(usual) = usual.clone().filter(|usual| on_path.contains(usual) && own(usual)) {
            return Ok(usual);
        }
        let home = self.home().ok();
        let in_home = |directory: &&PathBuf| {
            home.as_ref().is_some_and(|home| directory.starts_with(home)) && own(directory)
        };
        if let Some(directory) = on_path.iter().find(in_home) {
            return Ok(directory.clone());
        }
        if let Some(directory) = on_path.iter().find(|directory| own(directory)) {
            return Ok(directory.clone());
        }
        Ok(match usual {
            Some(usual) if !files::is_writable(&beside) => usual,
            _ => beside,
        })
    }

    fn path(&self) -> impl Iterator<Item = PathBuf> {
        let path = self.world.environment.raw("PATH").unwrap_or_default();
        std::env::split_paths(path)
            .filter(|directory| directory.is_absolute())
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Whether a directory is on PATH.
    pub(super) fn is_on_path(&self, directory: Option<&Path>) -> bool {
        self.path().any(|on_path| Some(on_path.as_path()) == directory)
    }
}

fn leads_to(path: &Path, program: &Path) -> bool {
    let real = path.canonicalize().ok();
    real.is_some() && real == program.canonicalize().ok()
}

/// Whether a directory takes new programs, and from its owner alone.
#[cfg(unix)]
fn is_for_own_programs(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let others = directory.metadata().is_ok_and(|found| found.mode() & 0o002 != 0);
    files::is_writable(directory) && !others
}

#[cfg(not(unix))]
fn is_for_own_programs(directory: &Path) -> bool {
    files::is_writable(directory)
}
