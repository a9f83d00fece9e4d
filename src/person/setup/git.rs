//! `valetkey setup git`: git's own program writes the configuration, so that nothing but the
//! lines in question changes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Setup, Step};
use crate::broker::World;
use crate::error::{Error, Kind, Result};
use crate::model::Resource;
use crate::program;

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let git = Git::find(setup.world)?;
    let helper = helper(&setup.program()?)?;
    let mut steps = Vec::new();
    for key in keys(&setup.typed.hosts)? {
        let present = git.values(&key)?;
        let commands = match setup.typed.undo {
            true => taken_back(&key, &helper, &present),
            false => written(&key, &helper, &present, setup.typed.replace),
        };
        steps.extend(commands.into_iter().map(Step::Run));
    }
    Ok(steps)
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

/// What git runs, which it hands to a shell.
fn helper(program: &Path) -> Result<String> {
    let Some(text) = program.to_str() else {
        return Err(Error::new(Kind::Failed, "the path of this program is not UTF-8"));
    };
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
    ["git", "config", "--global"].iter().chain(arguments).map(|word| (*word).to_owned()).collect()
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

    fn start(&self, arguments: &[&str]) -> Result<program::Finished> {
        let hidden = |name: &str| self.world.profiles.is_secret_variable(name);
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        let limit = Duration::from_secs(10);
        program::run(self.path.as_os_str(), &arguments, b"", self.world.environment, hidden, limit)
            .map_err(|error| Error::new(Kind::Failed, "git cannot be run").because(error))
    }
}
