//! `valetkey setup TOOL`: what a tool needs to ask us, as steps that can be shown, done and taken
//! back. A tool's file says which steps; this one shows and does them.

mod askpass;
mod aws;
mod bazel;
mod cargo;
mod docker;
mod git;
mod go;
mod google;
mod keyring;
mod kubectl;
mod pnpm;
mod podman;
mod recipes;
mod terraform;
mod vault;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::broker::World;
use crate::cli::{self, Tool};
use crate::dialect::Wire;
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::program;

/// One change to somebody else's configuration.
enum Step {
    /// A command of the tool that owns the configuration.
    Run(Vec<String>),
    /// A link to this program, by whose name it speaks one language.
    Link {
        link: PathBuf,
        to: PathBuf,
    },
    Unlink(PathBuf),
    /// The whole new content of a file.
    Write {
        path: PathBuf,
        content: String,
    },
    /// A file that can be started.
    Program {
        path: PathBuf,
        content: String,
    },
    /// What only the person can do.
    Tell(String),
}

/// What the person typed, and what the steps are made from.
struct Setup<'a> {
    typed: &'a cli::Setup,
    world: &'a World<'a>,
    own: Option<&'a Path>,
}

pub(super) fn setup(
    typed: &cli::Setup,
    world: &World<'_>,
    wire: &Wire<'_>,
    own: Option<&Path>,
) -> Result<()> {
    let setup = Setup { typed, world, own };
    let steps = match typed.tool {
        Tool::Cargo => cargo::steps(&setup)?,
        Tool::Docker => docker::steps(&setup)?,
        Tool::Git => git::steps(&setup)?,
        Tool::Askpass => askpass::steps(&setup)?,
        Tool::Aws => aws::steps(&setup)?,
        Tool::Bazel => bazel::steps(&setup)?,
        Tool::Curl | Tool::Mcp | Tool::Rclone => recipes::steps(&setup)?,
        Tool::Go => go::steps(&setup)?,
        Tool::Google => google::steps(&setup)?,
        Tool::Keyring => keyring::steps(&setup)?,
        Tool::Kubectl => kubectl::steps(&setup)?,
        Tool::Pnpm => pnpm::steps(&setup)?,
        Tool::Podman => podman::steps(&setup)?,
        Tool::Terraform => terraform::steps(&setup)?,
        Tool::Vault => vault::steps(&setup)?,
    };
    for step in &steps {
        if typed.print {
            wire.send(format!("{}\n", step.shown()).as_bytes());
        } else {
            step.perform(world)?;
            world.ui.say(&step.shown());
        }
    }
    if steps.is_empty() && !typed.print {
        world.ui.say("nothing to do: it is set up like that already");
    }
    Ok(())
}

impl Setup<'_> {
    /// This program. A name on PATH that leads here stays right when a package manager moves the
    /// file behind it; the file's own path is the last resort.
    fn program(&self) -> Result<PathBuf> {
        let Some(own) = self.own else {
            return Err(Error::new(Kind::Failed, "the path of this program is not known"));
        };
        let real = |path: &Path| path.canonicalize().ok();
        let on_path = program::find("valetkey", self.world.environment)
            .filter(|path| real(path).is_some() && real(path) == real(own));
        Ok(on_path.unwrap_or_else(|| own.to_owned()))
    }

    /// A file in the person's home.
    fn in_home(&self, name: &str) -> Result<PathBuf> {
        match self.world.environment.raw("HOME") {
            Some(home) => Ok(Path::new(home).join(name)),
            None => Err(Error::new(Kind::Failed, "there is no home directory").hint("set HOME")),
        }
    }

    /// Refuses `--host` where the tool asks one helper about everything.
    fn no_hosts(&self, why: &str) -> Result<()> {
        match self.typed.hosts.is_empty() {
            true => Ok(()),
            false => Err(Error::new(Kind::Usage, why).hint("leave --host out")),
        }
    }

    /// The step that makes, or takes away, the link of a dialect beside this program. None where
    /// it is like that already.
    fn link(&self, name: &str) -> Result<Option<Step>> {
        self.link_at(self.beside(name)?)
    }

    fn home(&self) -> Result<PathBuf> {
        let home = self.world.environment.raw("HOME").map(PathBuf::from);
        home.ok_or_else(|| Error::new(Kind::Failed, "there is no home directory").hint("set HOME"))
    }

    /// The path of a link beside this program.
    fn beside(&self, name: &str) -> Result<PathBuf> {
        Ok(self.program()?.with_file_name(name))
    }

    /// As `link`, for a tool that looks in a directory of its own.
    fn link_at(&self, link: PathBuf) -> Result<Option<Step>> {
        let to = self.program()?;
        let there = link
            .read_link()
            .is_ok_and(|target| target == to || link.canonicalize().ok() == to.canonicalize().ok());
        Ok(match (self.typed.undo, there) {
            (false, false) => Some(Step::Link { link, to }),
            (true, true) => Some(Step::Unlink(link)),
            _ => None,
        })
    }
}

/// The text of a configuration file; empty where there is none.
fn text_of(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(|error| {
            let what = format!("{} cannot be read", path.display());
            Error::new(Kind::Failed, what).because(error)
        }),
    }
}

/// The step that changes a file, if it changes. One that has nothing left in it goes.
fn rewritten(path: PathBuf, before: &str, after: String) -> Option<Step> {
    if before == after {
        None
    } else if after.trim().is_empty() && !path.is_symlink() {
        Some(Step::Unlink(path))
    } else {
        Some(Step::Write { path, content: after })
    }
}

impl Step {
    /// As a line for a shell, or for a person.
    fn shown(&self) -> String {
        match self {
            Self::Run(words) => {
                words.iter().map(|word| crate::ui::shell_word(word)).collect::<Vec<_>>().join(" ")
            }
            Self::Link { link, to } => {
                format!(
                    "ln -s {} {}",
                    crate::ui::shell_word(&to.to_string_lossy()),
                    crate::ui::shell_word(&link.to_string_lossy())
                )
            }
            Self::Unlink(link) => format!("rm {}", crate::ui::shell_word(&link.to_string_lossy())),
            Self::Write { path, content } | Self::Program { path, content } => {
                format!("# {}\n{}", path.display(), content.trim_end())
            }
            Self::Tell(text) => text.clone(),
        }
    }

    fn perform(&self, world: &World<'_>) -> Result<()> {
        let failed = |what: String| Error::new(Kind::Failed, what);
        match self {
            Self::Run(words) => run(words, world),
            Self::Link { link, to } => {
                disk::make_directory(link.parent().unwrap_or(Path::new("/")))?;
                make_link(to, link).map_err(|error| {
                    let shown = self.shown();
                    failed(format!("cannot make the link {}", link.display()))
                        .hint(format!("make it by hand in a directory of your PATH: {shown}"))
                        .because(error)
                })
            }
            Self::Unlink(link) => disk::remove(link).map(drop),
            Self::Write { path, content } => disk::rewrite(path, content.as_bytes()),
            Self::Program { path, content } => {
                disk::rewrite(path, content.as_bytes())?;
                make_executable(path).map_err(|error| {
                    failed(format!("cannot make {} a program", path.display())).because(error)
                })
            }
            Self::Tell(_) => Ok(()),
        }
    }
}

fn run(words: &[String], world: &World<'_>) -> Result<()> {
    let shown = Step::Run(words.to_vec()).shown();
    let failed = || Error::new(Kind::Failed, format!("{shown} failed"));
    let [name, arguments @ ..] = words else { return Ok(()) };
    let Some(path) = program::find(name, world.environment) else {
        return Err(Error::new(Kind::Failed, format!("{name} is not on PATH")));
    };
    let hidden = |name: &str| world.profiles.is_secret_variable(name);
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    let limit = Duration::from_secs(10);
    match program::run(path.as_os_str(), &arguments, b"", world.environment, hidden, limit) {
        Ok(finished) if finished.success => Ok(()),
        Ok(_) => Err(failed().hint("is the tool's configuration writable?")),
        Err(error) => Err(failed().because(error)),
    }
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

#[cfg(unix)]
fn make_link(to: &Path, link: &Path) -> std::io::Result<()> {
    // A link of this name that leads elsewhere is ours, from before the program moved.
    if link.is_symlink() {
        std::fs::remove_file(link)?;
    }
    std::os::unix::fs::symlink(to, link)
}

#[cfg(windows)]
fn make_link(to: &Path, link: &Path) -> std::io::Result<()> {
    // A symbolic link needs a right that few have; a copy needs none.
    std::fs::copy(to, link).map(drop)
}
