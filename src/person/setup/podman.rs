//! `valetkey setup podman`: a file of our own by which podman, buildah and skopeo ask docker's helper
//! about every registry, and hand it what somebody signs in with (containers-registries.conf.d(5)).

use std::path::{Path, PathBuf};

use super::files::Lines;
use super::{Setup, Step, docker, taken};
use crate::disk;
use crate::error::Result;

const KEY: &str = "credential-helpers";
const CONTENT: &str = "credential-helpers = [\"valetkey\", \"containers-auth.json\"]";

/// The person's, below home, and the machine's.
const DIRECTORIES: [&str; 2] = [".config/containers", "/etc/containers"];

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    setup.no_hosts("podman asks its helpers about every registry")?;
    let path = docker::file_of_podman(setup)?;
    if !setup.typed.undo
        && !setup.typed.replace
        && let Some((other, name)) = named_elsewhere(&setup.home()?, &path)
    {
        return Err(taken(format!("{} names {name} already", other.display())));
    }
    let mut steps = Vec::new();
    if !(setup.typed.undo && docker::names_us(setup)?) {
        steps.extend(setup.link(docker::LINK)?.steps);
    }
    let file = setup.open(&path)?;
    let mut lines = Lines::of(file.text());
    let ours = lines.iter().position(|line| line == CONTENT);
    let other = lines.iter().position(|line| line.split('=').next().is_some_and(is_key));
    match (setup.typed.undo, ours, other) {
        (true, Some(at), _) => match setup.noted(file.path(), KEY).flatten() {
            Some(other) => lines.set(at, other),
            None => lines.remove(at),
        },
        (true, None, _) | (false, Some(_), _) => {}
        (false, None, Some(at)) if !setup.typed.replace => {
            let (path, line) = (file.path().display(), lines.get(at).trim());
            return Err(taken(format!("{path} has another line: {line}")));
        }
        (false, None, Some(at)) => {
            setup.note(file.path(), KEY, Some(lines.get(at)));
            lines.set(at, CONTENT);
        }
        // What stands below a table's name would belong to the table.
        (false, None, None) => lines.insert(0, CONTENT),
    }
    let after = lines.text();
    steps.extend(file.says(&after, false, setup));
    Ok(steps)
}

fn is_key(word: &str) -> bool {
    word.trim() == KEY
}

/// Another helper that would no longer be asked, and the file that names it.
fn named_elsewhere(home: &Path, own: &Path) -> Option<(PathBuf, String)> {
    let directories = DIRECTORIES.iter().map(|directory| home.join(directory));
    let files = directories.flat_map(|directory| {
        let more = disk::entries(&directory.join("registries.conf.d")).unwrap_or_default();
        let more = more.into_iter().map(|entry| entry.path);
        std::iter::once(directory.join("registries.conf")).chain(more)
    });
    files.filter(|path| path != own).find_map(|path| {
        let table: toml::Table = std::fs::read_to_string(&path).ok()?.parse().ok()?;
        let named = table.get("credential-helpers")?.as_array()?.iter();
        let mut named = named.filter_map(toml::Value::as_str);
        let other = named.find(|name| !CONTENT.contains(&format!("\"{name}\"")))?.to_owned();
        Some((path, other))
    })
}
