//! `valetkey setup docker`: the link that docker looks for, and the lines of its `config.json`,
//! which podman, skopeo, helm and others read too.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{Setup, Step};
use crate::error::{Error, Kind, Result};
use crate::model::Resource;

pub(super) const LINK: &str = "docker-credential-valetkey";
/// What docker finds the link by.
const SUFFIX: &str = "valetkey";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let path = config_path(setup)?;
    let before = read(&path)?;
    let mut after = before.clone();
    match (setup.typed.hosts.as_slice(), setup.typed.undo) {
        ([], false) => set_store(&mut after, setup.typed.replace)?,
        ([], true) => {
            after.retain(|key, value| key != "credsStore" || value != SUFFIX);
            let all = helpers(&mut after)?;
            all.retain(|_, value| value != SUFFIX);
        }
        (hosts, undo) => {
            for key in keys(hosts)? {
                set_helper(helpers(&mut after)?, &key, undo, setup.typed.replace)?;
            }
        }
    }
    let empty = after.get("credHelpers").and_then(Value::as_object).is_some_and(Map::is_empty);
    if empty && (setup.typed.undo || !before.contains_key("credHelpers")) {
        after.remove("credHelpers");
    }
    let mut steps = Vec::new();
    // The link stays for as long as another entry needs it.
    if !(setup.typed.undo && (is_named(&after) || file_of_podman(setup)?.exists())) {
        steps.extend(setup.link(LINK)?);
    }
    if after != before {
        steps.push(Step::Write { path, content: write(&after) });
    }
    if setup.typed.hosts.is_empty() && !setup.typed.undo {
        // containers/image knows no credsStore.
        let text = "podman, skopeo and buildah do not read this: valetkey setup podman";
        steps.push(Step::Tell(text.to_owned()));
    }
    Ok(steps)
}

fn config_path(setup: &Setup<'_>) -> Result<PathBuf> {
    let environment = setup.world.environment;
    let directory = match environment.raw("DOCKER_CONFIG") {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(environment.raw("HOME").ok_or_else(|| {
            Error::new(Kind::Failed, "there is no home directory").hint("set HOME")
        })?)
        .join(".docker"),
    };
    Ok(directory.join("config.json"))
}

fn read(path: &std::path::Path) -> Result<Map<String, Value>> {
    let failed = |what: &str| Error::new(Kind::Failed, format!("{} {what}", path.display()));
    match std::fs::read(path) {
        Ok(content) if content.trim_ascii().is_empty() => Ok(Map::new()),
        // It can hold passwords, which an error of serde's could quote.
        Ok(content) => serde_json::from_slice(&content).map_err(|_| failed("is no JSON object")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(failed("cannot be read").because(error)),
    }
}

/// As docker itself indents it.
fn write(config: &Map<String, Value>) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // A map of JSON values cannot fail to become JSON.
    let _ = serde::Serialize::serialize(config, &mut serializer);
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_default()
}

/// The registries as each reader spells them: docker asks for the Hub by a URL, containers/image
/// by a name.
fn keys(hosts: &[String]) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for host in hosts {
        let host = Resource::parse(host)?.host;
        if ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host.as_str()) {
            keys.extend(["https://index.docker.io/v1/".to_owned(), "docker.io".to_owned()]);
        } else {
            keys.push(host);
        }
    }
    Ok(keys)
}

fn set_store(config: &mut Map<String, Value>, replace: bool) -> Result<()> {
    match config.get("credsStore").and_then(Value::as_str) {
        Some(SUFFIX) => Ok(()),
        Some(other) if !other.is_empty() && !replace => Err(taken("credsStore", other)),
        _ => {
            config.insert("credsStore".to_owned(), SUFFIX.into());
            Ok(())
        }
    }
}

fn helpers(config: &mut Map<String, Value>) -> Result<&mut Map<String, Value>> {
    let all = config.entry("credHelpers").or_insert_with(|| Map::new().into());
    all.as_object_mut()
        .ok_or_else(|| Error::new(Kind::Failed, "credHelpers of config.json is no object"))
}

fn set_helper(all: &mut Map<String, Value>, key: &str, undo: bool, replace: bool) -> Result<()> {
    match (all.get(key).and_then(Value::as_str), undo) {
        (Some(SUFFIX), true) => {
            all.remove(key);
            Ok(())
        }
        (_, true) => Ok(()),
        (Some(other), false) if other != SUFFIX && !replace => Err(taken(key, other)),
        _ => {
            all.insert(key.to_owned(), SUFFIX.into());
            Ok(())
        }
    }
}

/// Whether docker asks us about anything.
pub(super) fn names_us(setup: &Setup<'_>) -> Result<bool> {
    Ok(is_named(&read(&config_path(setup)?)?))
}

/// By which podman asks us through the same link. It is read last of all its files, and what it says
/// replaces what the others say.
pub(super) fn file_of_podman(setup: &Setup<'_>) -> Result<PathBuf> {
    Ok(setup.home()?.join(".config/containers/registries.conf.d/valetkey.conf"))
}

fn is_named(config: &Map<String, Value>) -> bool {
    let helpers = config.get("credHelpers").and_then(Value::as_object);
    let mut values = helpers.into_iter().flat_map(Map::values).chain(config.get("credsStore"));
    values.any(|value| value == SUFFIX)
}

fn taken(key: &str, other: &str) -> Error {
    Error::new(Kind::Failed, format!("{key} names {other} already"))
        .hint("--replace puts valetkey in its place; --host HOST is for one registry only")
}
