//! `valetkey setup podman`: a file of our own by which podman, buildah and skopeo ask docker's helper
//! about every registry, and hand it what somebody signs in with (containers-registries.conf.d(5)).

use std::path::{Path, PathBuf};

use super::{Setup, Step, docker, rewritten, text_of};
use crate::error::{Error, Kind, Result};

const CONTENT: &str = "credential-helpers = [\"valetkey\", \"containers-auth.json\"]\n";

/// The person's, below home, and the machine's.
const DIRECTORIES: [&str; 2] = [".config/containers", "/etc/containers"];

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    setup.no_hosts("podman asks its helpers about every registry")?;
    let path = docker::file_of_podman(setup)?;
    if !setup.typed.undo
        && !setup.typed.replace
        && let Some((other, name)) = named_elsewhere(&setup.home()?, &path)
    {
        let what = format!("{} names {name} already", other.display());
        return Err(Error::new(Kind::Failed, what).hint("--replace puts valetkey in its place"));
    }
    let mut steps = Vec::new();
    if !(setup.typed.undo && docker::names_us(setup)?) {
        steps.extend(setup.link(docker::LINK)?);
    }
    let before = text_of(&path)?;
    let after = if setup.typed.undo { "" } else { CONTENT };
    steps.extend(rewritten(path, &before, after.to_owned()));
    Ok(steps)
}

/// Another helper that would no longer be asked, and the file that names it.
fn named_elsewhere(home: &Path, own: &Path) -> Option<(PathBuf, String)> {
    let directories = DIRECTORIES.iter().map(|directory| home.join(directory));
    let files = directories.flat_map(|directory| {
        let more = std::fs::read_dir(directory.join("registries.conf.d"));
        let more = more.into_iter().flatten().flatten().map(|entry| entry.path());
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
