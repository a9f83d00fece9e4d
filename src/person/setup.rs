//! `valetkey setup git`: git's own program writes the configuration, so that nothing but the
//! lines in question changes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::broker::World;
use crate::cli;
use crate::dialect::Wire;
use crate::error::{Error, Kind, Result};
use crate::model::Resource;
use crate::program;

pub(super) fn setup(
    typed: &cli::Setup,
    world: &World<'_>,
    wire: &Wire<'_>,
    own: Option<&Path>,
) -> Result<()> {
    let cli::Setup { tool: cli::Tool::Git, hosts, replace, print, undo } = typed;
    let git = Git::find(world)?;
    let helper = helper(own, world)?;
    let keys = keys(hosts)?;
    for key in &keys {
        let present = git.values(key)?;
        let steps = if *undo {
            taken_back(key, &helper, &present)
        } else {
            written(key, &helper, &present, *replace)
        };
        for step in &steps {
            if *print {
                wire.send(format!("{}\n", shell_line(step)).as_bytes());
            } else {
                git.run(&step.iter().map(String::as_str).collect::<Vec<_>>())?;
            }
        }
        if !print {
            world.ui.say(&match (steps.is_empty(), *undo) {
                (true, true) => format!("{key} does not name valetkey"),
                (true, false) => format!("{key} names valetkey already"),
                (false, true) => format!("{key} no longer names valetkey"),
                (false, false) => format!("{key} = {helper}"),
            });
        }
    }
    Ok(())
}

fn keys(hosts: &[String]) -> Result<Vec<String>> {
    if hosts.is_empty() {
        return Ok(vec!["credential.helper".to_owned()]);
    }
    hosts
        .iter()
        .map(|host| Ok(format!("credential.{}.helper", Resource::parse(host)?.origin())))
        .collect()
}

/// What git runs. A name on PATH that leads here stays right when a package manager moves the
/// file behind it; a file's own path is the last resort.
fn helper(own: Option<&Path>, world: &World<'_>) -> Result<String> {
    let Some(own) = own else {
        return Err(Error::new(Kind::Failed, "the path of this program is not known"));
    };
    let real = |path: &Path| path.canonicalize().ok();
    let on_path = program::find("valetkey", world.environment)
        .filter(|path| real(path).is_some() && real(path) == real(own));
    let path: PathBuf = on_path.unwrap_or_else(|| own.to_owned());
    let Some(text) = path.to_str() else {
        return Err(Error::new(Kind::Failed, "the path of this program is not UTF-8"));
    };
    // git hands the value to a shell.
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@,".contains(letter);
    Ok(match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("!'{}'", text.replace('\'', r"'\''")),
    })
}

/// The commands that make `key` name the helper, last, after an empty line where others are to
/// be put aside (gitcredentials(7)).
fn written(key: &str, helper: &str, present: &[String], replace: bool) -> Vec<Vec<String>> {
    let add = |value: &str| command(&["--add", key, value]);
    let there = present.iter().any(|value| value == helper);
    let alone = present.last().is_some_and(|value| value == helper)
        && present.len() >= 2
        && present[present.len() - 2].is_empty();
    match (replace, there) {
        (false, true) => Vec::new(),
        (true, true) if alone => Vec::new(),
        (true, true) => {
            let mut steps = taken_back(key, helper, present);
            steps.extend([add(""), add(helper)]);
            steps
        }
        (true, false) => vec![add(""), add(helper)],
        (false, false) => vec![add(helper)],
    }
}

/// The commands that take the helper away, and the empty line right before it, which `--replace`
/// wrote.
fn taken_back(key: &str, helper: &str, present: &[String]) -> Vec<Vec<String>> {
    let Some(position) = present.iter().rposition(|value| value == helper) else {
        return Vec::new();
    };
    let reset = position.checked_sub(1).filter(|before| present[*before].is_empty());
    let empty = present.iter().filter(|value| value.is_empty()).count();
    match reset {
        None => vec![command(&["--fixed-value", "--unset-all", key, helper])],
        Some(_) if empty == 1 => vec![
            command(&["--fixed-value", "--unset-all", key, helper]),
            command(&["--unset-all", key, "^$"]),
        ],
        // git cannot name one of several equal lines, so all of them are written anew.
        Some(reset) => {
            let others = present.iter().enumerate();
            let others = others.filter(|(at, value)| *at != reset && *value != helper);
            let again = others.map(|(_, value)| command(&["--add", key, value]));
            std::iter::once(command(&["--unset-all", key])).chain(again).collect()
        }
    }
}

fn command(arguments: &[&str]) -> Vec<String> {
    ["config", "--global"].iter().chain(arguments).map(|word| (*word).to_owned()).collect()
}

fn shell_line(step: &[String]) -> String {
    let quoted = step.iter().map(|word| {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-:".contains(letter);
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    format!("git {}", quoted.collect::<Vec<_>>().join(" "))
}

struct Git<'a> {
    path: PathBuf,
    world: &'a World<'a>,
}

impl<'a> Git<'a> {
    fn find(world: &'a World<'a>) -> Result<Self> {
        match program::find("git", world.environment) {
            Some(path) => Ok(Self { path, world }),
            None => Err(Error::new(Kind::Failed, "git is not on PATH").hint("install git")),
        }
    }

    /// The values of a key in the user's own configuration, in their order.
    fn values(&self, key: &str) -> Result<Vec<String>> {
        let finished = self.start(&["config", "--global", "--null", "--get-all", key])?;
        let text = String::from_utf8_lossy(&finished.output).into_owned();
        Ok(text.split_terminator('\0').map(str::to_owned).collect())
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        if self.start(arguments)?.success {
            return Ok(());
        }
        let what = format!("git {} failed", arguments.join(" "));
        Err(Error::new(Kind::Failed, what).hint("is the global git configuration writable?"))
    }

    fn start(&self, arguments: &[&str]) -> Result<program::Finished> {
        let hidden = |name: &str| self.world.profiles.is_secret_variable(name);
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        let limit = Duration::from_secs(10);
        program::run(self.path.as_os_str(), &arguments, b"", self.world.environment, hidden, limit)
            .map_err(|error| Error::new(Kind::Failed, "git cannot be run").because(error))
    }
}
