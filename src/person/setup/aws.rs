//! `valetkey setup aws`: a profile of AWS's own configuration for each role, whose
//! `credential_process` is us. Lines that are there stay as they are.

use std::path::Path;

use super::files::Lines;
use super::{Setup, Step, taken};
use crate::error::{Error, Kind, Result};
use crate::model::Resource;
use crate::profile::{Exchange, Prefix};
use crate::ui::shell_word;

const KEY: &str = "credential_process";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let file = setup.open(&setup.file("AWS_CONFIG_FILE", ".aws/config")?)?;
    let mut config = Config { lines: Lines::of(file.text()), path: file.path(), setup };
    let mut tell = Vec::new();
    if setup.typed.undo {
        let meant = match setup.typed.hosts.is_empty() {
            true => None,
            false => Some(roles(setup)?),
        };
        config.take_back(meant.as_deref());
    } else {
        let program = setup.program()?;
        let Some(program) = program.to_str().filter(|path| !path.contains(['\n', '#'])) else {
            let what = format!("AWS's configuration cannot hold the path {}", program.display());
            let error = Error::new(Kind::Failed, what);
            return Err(error.hint("give valetkey's directory a plain name"));
        };
        for Role { name, url } in roles(setup)? {
            config.write(&name, &format!("{} aws {}", shell_word(program), shell_word(&url)))?;
            tell.push(Step::Tell(format!("# to use it: aws --profile {name} ...")));
        }
    }
    let ours = config.lines.iter().any(|line| config.url(line).is_some());
    let after = config.lines.text();
    let Some(written) = file.says(&after, ours, setup) else { return Ok(Vec::new()) };
    Ok(std::iter::once(written).chain(tell).collect())
}

/// One role, by the name of the AWS profile that gets its keys.
struct Role {
    name: String,
    url: String,
}

impl Role {
    fn of(prefix: &Prefix) -> Self {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let path: String = prefix.path.chars().map(plain).collect();
        let name = match path.as_str() {
            "" => "valetkey".to_owned(),
            path => format!("valetkey-{path}"),
        };
        Self { name, url: prefix.url() }
    }
}

/// What `--host` names, else every role of every profile.
fn roles(setup: &Setup<'_>) -> Result<Vec<Role>> {
    let profiles = setup.world.profiles;
    let gives_keys = |prefix: &&Prefix| matches!(prefix.exchange, Some(Exchange::AwsSts { .. }));
    if setup.typed.hosts.is_empty() {
        let all = profiles.iter().flat_map(|profile| &profile.origins);
        let roles: Vec<_> = all.filter(gives_keys).map(Role::of).collect();
        return match roles.is_empty() {
            false => Ok(roles),
            true => Err(Error::new(Kind::Configuration, "no profile has a role of AWS").hint(
                "add an origin { url = \"https://sts.REGION.amazonaws.com\", exchange = \
                 \"aws-sts\", role = \"ARN\" } to config.toml",
            )),
        };
    }
    let role = |host: &String| {
        let resource = Resource::parse(host)?;
        let service = profiles.find(&resource);
        let prefix = service.map(|service| service.prefix).filter(gives_keys);
        prefix.map(Role::of).ok_or_else(|| {
            Error::new(Kind::Configuration, format!("no profile has a role of AWS at {resource}"))
                .hint("give the origin exchange = \"aws-sts\" and a role in config.toml")
        })
    };
    setup.typed.hosts.iter().map(role).collect()
}

/// AWS's configuration, line by line.
struct Config<'a> {
    lines: Lines<'a>,
    path: &'a Path,
    setup: &'a Setup<'a>,
}

impl Config<'_> {
    /// Puts a command into the section of this name.
    fn write(&mut self, name: &str, command: &str) -> Result<()> {
        let line = format!("{KEY} = {command}");
        let Some(start) = self.lines.iter().position(|line| section(line) == Some(name)) else {
            // Always, so that `take_back` knows that there is one of ours.
            if self.lines.len() > 0 {
                self.lines.push("");
            }
            self.lines.push(format!("[profile {name}]"));
            self.lines.push(line);
            self.setup.note(self.path, name, None);
            return Ok(());
        };
        let end = self.end_of(start);
        let present = (start + 1..end).find(|&at| value(self.lines.get(at)).is_some());
        let Some(at) = present else {
            self.lines.insert(start + 1, line);
            return Ok(());
        };
        let there = self.lines.get(at).to_owned();
        let other = value(&there).unwrap_or_default();
        if other == command {
            return Ok(());
        }
        // From where this program was before.
        if self.url(&there).is_none() {
            if !self.setup.typed.replace {
                let path = self.path.display();
                return Err(taken(format!("profile {name} of {path} has {KEY} = {other} already")));
            }
            self.setup.note(self.path, format!("{name}.{KEY}"), Some(&there));
        }
        self.lines.set(at, line);
        Ok(())
    }

    /// Removes our lines, and the sections that setup wrote and that have nothing else.
    fn take_back(&mut self, meant: Option<&[Role]>) {
        let is_meant = |url: &str| {
            meant.is_none_or(|roles| roles.iter().any(|role| shell_word(&role.url) == url))
        };
        while let Some(at) =
            (0..self.lines.len()).find(|&at| self.url(self.lines.get(at)).is_some_and(is_meant))
        {
            let start = (0..at).rev().find(|&above| is_header(self.lines.get(above)));
            let name = start.and_then(|start| section(self.lines.get(start))).map(str::to_owned);
            let name = name.unwrap_or_default();
            if let Some(other) = self.setup.noted(self.path, &format!("{name}.{KEY}")).flatten() {
                self.lines.set(at, other);
                continue;
            }
            self.lines.remove(at);
            let (Some(start), Some(None)) = (start, self.setup.noted(self.path, &name)) else {
                continue;
            };
            let end = self.end_of(start);
            let header = self.lines.get(start).trim() == format!("[profile {name}]");
            if header && (start + 1..end).all(|line| self.lines.get(line).trim().is_empty()) {
                (start..end).for_each(|_| self.lines.remove(start));
                // The empty line that we put above it.
                let last = self.lines.len().checked_sub(1);
                if let Some(last) = last.filter(|last| last + 1 == start)
                    && self.lines.get(last).is_empty()
                {
                    self.lines.remove(last);
                }
            }
        }
    }

    /// The URL of a line that is ours, wherever this program was when it was written.
    fn url<'l>(&self, line: &'l str) -> Option<&'l str> {
        let (program, url) = value(line)?.rsplit_once(" aws ")?;
        let quoted = program.strip_prefix('\'').and_then(|program| program.strip_suffix('\''));
        let program = quoted.map_or(program.to_owned(), |quoted| quoted.replace(r"'\''", "'"));
        self.setup.is_own(&program).then_some(url)
    }

    fn end_of(&self, start: usize) -> usize {
        let next = (start + 1..self.lines.len()).find(|&at| is_header(self.lines.get(at)));
        next.unwrap_or(self.lines.len())
    }
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

/// The name of the profile that a line begins.
fn section(line: &str) -> Option<&str> {
    let inside = line.trim().strip_prefix('[')?.split(']').next()?;
    inside.trim().strip_prefix("profile")?.split_whitespace().next()
}

/// The command of a line, if it is one of ours or of somebody else's.
fn value(line: &str) -> Option<&str> {
    let (key, value) = line.split_once('=')?;
    (key.trim() == KEY).then(|| value.trim())
}
