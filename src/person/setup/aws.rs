//! `valetkey setup aws`: a profile of AWS's own configuration for each role, whose
//! `credential_process` is us. Lines that are there stay as they are.

use std::path::PathBuf;

use super::{Setup, Step, rewritten, text_of};
use crate::error::{Error, Kind, Result};
use crate::model::Resource;
use crate::profile::{Exchange, Prefix};
use crate::ui::shell_word;

const KEY: &str = "credential_process";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let path = match setup.world.environment.raw("AWS_CONFIG_FILE") {
        Some(path) => PathBuf::from(path),
        None => setup.in_home(".aws/config")?,
    };
    let before = text_of(&path)?;
    let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
    let program = setup.program()?;
    let Some(program) = program.to_str().filter(|path| !path.contains(['\n', '#'])) else {
        let what = format!("AWS's configuration cannot hold the path {}", program.display());
        return Err(Error::new(Kind::Failed, what).hint("give valetkey's directory a plain name"));
    };
    let command = format!("{} aws ", shell_word(program));
    if setup.typed.undo {
        let meant = match setup.typed.hosts.is_empty() {
            true => None,
            false => Some(roles(setup)?),
        };
        take_back(&mut lines, &command, meant.as_deref());
    } else {
        for Role { name, url } in roles(setup)? {
            let wanted = format!("{command}{}", shell_word(&url));
            write(&mut lines, &name, &wanted, setup.typed.replace)
                .map_err(|other| taken(&path, &name, &other))?;
        }
    }
    let mut after = lines.join("\n");
    if !after.is_empty() {
        after.push('\n');
    }
    let mut steps: Vec<Step> = rewritten(path, &before, after).into_iter().collect();
    if !setup.typed.undo && !steps.is_empty() {
        for Role { name, .. } in roles(setup)? {
            steps.push(Step::Tell(format!("# to use it: aws --profile {name} ...")));
        }
    }
    Ok(steps)
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

fn taken(path: &std::path::Path, name: &str, other: &str) -> Error {
    let what = format!("profile {name} of {} has {KEY} = {other} already", path.display());
    Error::new(Kind::Failed, what).hint("--replace puts valetkey in its place")
}

/// Puts the command into the section of this name. The error is the command that is there.
fn write(
    lines: &mut Vec<String>,
    name: &str,
    command: &str,
    replace: bool,
) -> std::result::Result<(), String> {
    let line = format!("{KEY} = {command}");
    let Some(start) = lines.iter().position(|line| section(line) == Some(name)) else {
        if lines.last().is_some_and(|line| !line.trim().is_empty()) {
            lines.push(String::new());
        }
        lines.extend([format!("[profile {name}]"), line]);
        return Ok(());
    };
    let end = end_of(lines, start);
    match (start + 1..end).find(|&at| value(&lines[at]).is_some()) {
        Some(at) => match value(&lines[at]) {
            Some(there) if there == command => Ok(()),
            Some(there) if !replace => Err(there.to_owned()),
            _ => {
                lines[at] = line;
                Ok(())
            }
        },
        None => {
            lines.insert(start + 1, line);
            Ok(())
        }
    }
}

/// Removes our lines, and the sections that have nothing else.
fn take_back(lines: &mut Vec<String>, command: &str, meant: Option<&[Role]>) {
    let is_meant = |line: &str| {
        let url = value(line).and_then(|there| there.strip_prefix(command));
        url.is_some_and(|url| {
            meant.is_none_or(|roles| roles.iter().any(|role| shell_word(&role.url) == url))
        })
    };
    while let Some(at) = lines.iter().position(|line| is_meant(line)) {
        lines.remove(at);
        let start = (0..at).rev().find(|&above| lines[above].trim_start().starts_with('['));
        let Some(start) = start else { continue };
        let end = end_of(lines, start);
        if lines[start + 1..end].iter().all(|line| line.trim().is_empty()) {
            lines.drain(start..end);
            // The empty line that we put above it.
            if start == lines.len() && lines.last().is_some_and(|line| line.trim().is_empty()) {
                lines.pop();
            }
        }
    }
}

fn end_of(lines: &[String], start: usize) -> usize {
    let next = lines[start + 1..].iter().position(|line| line.trim_start().starts_with('['));
    next.map_or(lines.len(), |next| start + 1 + next)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_taken_back() {
        for before in [
            "",
            "[default]\nregion = x\n",
            "[profile valetkey]\nregion = x\n\n[profile b]\n",
            "# mine\n[profile a]\ncredential_process = other aws https://x\n",
        ] {
            let lines = || before.lines().map(str::to_owned).collect::<Vec<_>>();
            let mut changed = lines();
            let command = "/a/valetkey aws ";
            write(&mut changed, "valetkey", "/a/valetkey aws https://s", false).unwrap();
            assert_ne!(changed, lines());
            let once = changed.clone();
            write(&mut changed, "valetkey", "/a/valetkey aws https://s", false).unwrap();
            assert_eq!(changed, once);
            assert!(write(&mut changed, "valetkey", "/b aws https://s", false).is_err());
            take_back(&mut changed, command, None);
            assert_eq!(changed, lines(), "{before}");
        }
    }
}
