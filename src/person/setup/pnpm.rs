//! `valetkey setup pnpm`: a line of the user's `.npmrc` for each registry, and the program that it
//! names. pnpm tells its tokenHelper neither which registry it means nor, before version 11,
//! anything else; so each registry gets a small program of its own. It prints `Bearer TOKEN`,
//! which every version understands.

use std::path::{Path, PathBuf};

use super::files::{self, Change, Lines};
use super::{Setup, Step, taken};
use crate::error::{Error, Kind, Result};
use crate::model::Resource;

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    if cfg!(windows) {
        return Err(Error::new(Kind::Failed, "setup pnpm writes a program for a Unix shell")
            .hint("with pnpm 11 or newer write into .npmrc: //HOST/:tokenHelper=C:/PATH/valetkey.exe token https://HOST/"));
    }
    let file = setup.open(&settings_path(setup)?)?;
    let mut lines = Lines::of(file.text());
    let (mut steps, mut tell) = (Vec::new(), Vec::new());
    for registry in registries(setup, &Lines::of(&file.now()))? {
        let Registry { key, helper, program } = registry;
        let present = lines.iter().position(|line| value_of(line, &key).is_some());
        let there = present.map(|at| lines.get(at).to_owned()).unwrap_or_default();
        let named = value_of(&there, &key).unwrap_or_default();
        let ours = helper.to_str().is_some_and(|helper| helper == named);
        let kept = files::content(&helper)?;
        if setup.typed.undo {
            if let Some(at) = present.filter(|_| ours) {
                match setup.noted(file.path(), &key).flatten() {
                    Some(other) => lines.set(at, other),
                    None => lines.remove(at),
                }
            }
            if kept.is_some() {
                let (path, before) = (helper, kept);
                steps.push(Step::Write(Change { path, before, after: None, program: true }));
            }
            continue;
        }
        if kept.as_deref() != Some(program.as_bytes()) {
            let (path, after) = (helper.clone(), Some(program.into_bytes()));
            steps.push(Step::Write(Change { path, before: kept, after, program: true }));
        }
        let line = format!("{key}={}", helper.display());
        match present {
            _ if ours => {}
            None => {
                setup.note(file.path(), &key, None);
                lines.push(line);
            }
            Some(place) if setup.typed.replace => {
                setup.note(file.path(), &key, Some(&there));
                lines.set(place, line);
            }
            Some(_) => {
                let what = format!("{key} of {} names {named} already", file.path().display());
                return Err(taken(what));
            }
        }
        let fixed = key.replace(":tokenHelper", ":_authToken");
        if lines.iter().any(|line| value_of(line, &fixed).is_some()) {
            tell.push(Step::Tell(format!("{fixed} stands there too: remove it")));
        }
    }
    let directory = directory(setup)?;
    let ours = lines.iter().any(|line| {
        line.split_once('=')
            .is_some_and(|(_, helper)| Path::new(helper.trim()).starts_with(&directory))
    });
    let after = lines.text();
    steps.extend(file.says(&after, ours, setup));
    steps.extend(tell);
    Ok(steps)
}

fn directory(setup: &Setup<'_>) -> Result<PathBuf> {
    Ok(setup.world.environment.data_directory()?.join("pnpm"))
}

/// One registry: its line in `.npmrc`, and the program that the line names.
struct Registry {
    key: String,
    helper: PathBuf,
    program: String,
}

fn registries(setup: &Setup<'_>, lines: &Lines<'_>) -> Result<Vec<Registry>> {
    let directory = directory(setup)?;
    if !setup.typed.hosts.is_empty() {
        let hosts = setup.typed.hosts.iter();
        return hosts.map(|host| registry(setup, &directory, &Resource::parse(host)?)).collect();
    }
    if !setup.typed.undo {
        return Err(Error::new(Kind::Usage, "pnpm does not tell its tokenHelper the registry")
            .hint("valetkey setup pnpm --host https://REGISTRY/"));
    }
    // Everything that setup ever wrote names a program in our own directory.
    let ours = lines.iter().filter_map(|line| {
        let (key, helper) = line.split_once('=')?;
        let helper = PathBuf::from(helper.trim());
        let key = key.trim().to_owned();
        helper.starts_with(&directory).then(|| Registry { key, helper, program: String::new() })
    });
    Ok(ours.collect())
}

fn registry(setup: &Setup<'_>, directory: &Path, resource: &Resource) -> Result<Registry> {
    let path = resource.path.as_deref().map_or(String::new(), |path| format!("{path}/"));
    if path.contains(|letter: char| letter.is_control() || letter.is_whitespace() || letter == '=')
    {
        return Err(Error::new(Kind::Usage, "the registry's path cannot stand in .npmrc"));
    }
    let key = format!("//{}/{path}:tokenHelper", resource.host);
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@~".contains(letter);
    let name: String = format!("{}/{path}", resource.host)
        .trim_end_matches('/')
        .chars()
        .map(|letter| if plain(letter) && letter != '/' { letter } else { '_' })
        .collect();
    let helper = directory.join(name);
    let program = setup.program()?;
    // pnpm hands the line to a shell, and newer versions refuse what that shell would act on.
    for path in [&helper, &program] {
        if !path.to_str().is_some_and(|path| path.chars().all(plain)) {
            let what = format!("pnpm cannot run a program with the path {}", path.display());
            return Err(Error::new(Kind::Failed, what).hint("letters, digits and /._-+@~ will do"));
        }
    }
    let url = crate::ui::shell_word(&format!("{}/{path}", resource.origin()));
    let program = format!(
        "#!/bin/sh\n# Written by `valetkey setup pnpm`.\n\
         token=$({} token {url}) && echo \"Bearer $token\"\n",
        program.display()
    );
    Ok(Registry { key, helper, program })
}

/// The value of a line `key=value`, as npm's ini files write it.
fn value_of<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    let (name, value) = line.split_once('=')?;
    (name.trim() == key).then(|| value.trim().trim_matches('"'))
}

/// pnpm takes a tokenHelper from the user's file only, never from a project's.
fn settings_path(setup: &Setup<'_>) -> Result<PathBuf> {
    let named = ["npm_config_userconfig", "NPM_CONFIG_USERCONFIG"].into_iter();
    let mut named = named.filter(|name| setup.world.environment.raw(name).is_some());
    setup.file(named.next().unwrap_or_default(), ".npmrc")
}
