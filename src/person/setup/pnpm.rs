//! `valetkey setup pnpm`: a line of the user's `.npmrc` for each registry, and the program that it
//! names. pnpm tells its tokenHelper neither which registry it means nor, before version 11,
//! anything else; so each registry gets a small program of its own. It prints `Bearer TOKEN`,
//! which every version understands.

use std::path::{Path, PathBuf};

use super::{Setup, Step};
use crate::error::{Error, Kind, Result};
use crate::model::Resource;

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    if cfg!(windows) {
        return Err(Error::new(Kind::Failed, "setup pnpm writes a program for a Unix shell")
            .hint("with pnpm 11 or newer write into .npmrc: //HOST/:tokenHelper=C:/PATH/valetkey.exe token https://HOST/"));
    }
    let path = settings_path(setup)?;
    let before = read(&path)?;
    let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
    let mut steps = Vec::new();
    for registry in registries(setup, &lines)? {
        let Registry { key, helper, program } = registry;
        let present = lines.iter().position(|line| value_of(line, &key).is_some());
        let named = present.and_then(|line| value_of(&lines[line], &key)).unwrap_or_default();
        let ours = helper.to_str().is_some_and(|helper| helper == named);
        if setup.typed.undo {
            if ours && let Some(line) = present {
                lines.remove(line);
            }
            if helper.exists() {
                steps.push(Step::Unlink(helper));
            }
            continue;
        }
        if std::fs::read(&helper).ok().as_deref() != Some(program.as_bytes()) {
            steps.push(Step::Program { path: helper.clone(), content: program });
        }
        let line = format!("{key}={}", helper.display());
        match present {
            _ if ours => {}
            None => lines.push(line),
            Some(place) if setup.typed.replace => lines[place] = line,
            Some(_) => {
                let what = format!("{key} of {} names {named} already", path.display());
                return Err(
                    Error::new(Kind::Failed, what).hint("--replace puts valetkey in its place")
                );
            }
        }
        let fixed = key.replace(":tokenHelper", ":_authToken");
        if lines.iter().any(|line| value_of(line, &fixed).is_some()) {
            steps.push(Step::Tell(format!("{fixed} stands there too: remove it")));
        }
    }
    let mut after = lines.join("\n");
    if !after.is_empty() {
        after.push('\n');
    }
    if lines.iter().ne(before.lines().collect::<Vec<_>>().iter()) {
        steps.push(Step::Write { path, content: after });
    }
    Ok(steps)
}

/// One registry: its line in `.npmrc`, and the program that the line names.
struct Registry {
    key: String,
    helper: PathBuf,
    program: String,
}

fn registries(setup: &Setup<'_>, lines: &[String]) -> Result<Vec<Registry>> {
    let directory = setup.world.environment.data_directory()?.join("pnpm");
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
    let environment = setup.world.environment;
    let named = ["npm_config_userconfig", "NPM_CONFIG_USERCONFIG"];
    if let Some(path) = named.iter().find_map(|name| environment.raw(name)) {
        return Ok(path.into());
    }
    match environment.raw("HOME") {
        Some(home) => Ok(Path::new(home).join(".npmrc")),
        None => Err(Error::new(Kind::Failed, "there is no home directory").hint("set HOME")),
    }
}

fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => {
            let what = format!("{} cannot be read", path.display());
            Err(Error::new(Kind::Failed, what).because(error))
        }
    }
}
