//! `valetkey setup cargo`: the link that cargo starts, and its place among the credential
//! providers in cargo's `config.toml`. Nothing else in that file changes.

use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, Item, TableLike, Value};

use super::{Setup, Step};
use crate::error::{Error, Kind, Result};
use crate::model::Resource;

const LINK: &str = "cargo-credential-valetkey";

/// The list of all registries; the last entry is asked first.
const LIST: &str = "global-credential-providers";
/// The one provider of one registry.
const ONE: &str = "credential-provider";
/// What cargo asks where the list is not there.
const BUILT_IN: &str = "cargo:token";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let path = config_path(setup)?;
    let before = super::text_of(&path)?;
    let mut config: DocumentMut = before.parse().map_err(|error: toml_edit::TomlError| {
        let what = format!("{} is not TOML: {}", path.display(), error.message());
        Error::new(Kind::Failed, what)
    })?;
    let link = setup.link(LINK)?;
    let provider = provider(&setup.beside(LINK)?, setup)?;
    let mut tell = Vec::new();
    match (setup.typed.hosts.as_slice(), setup.typed.undo) {
        ([], false) => add_to_list(&mut config, &provider)?,
        ([], true) => {
            take_from_list(&mut config);
            for name in registries(&config) {
                take_from(&mut config, &name);
            }
        }
        (hosts, undo) => {
            for host in hosts {
                let (name, index) = registry_at(host, &config, &path)?;
                match undo {
                    true => take_from(&mut config, &name),
                    false => {
                        set_for(&mut config, &name, &provider, setup.typed.replace)?;
                        tell.extend(unbound(&index, setup));
                    }
                }
            }
        }
    }
    let after = config.to_string();
    // One registry less is no reason to take the link from the others.
    let mut steps: Vec<Step> =
        link.into_iter().filter(|_| !setup.typed.undo || !after.contains(LINK)).collect();
    steps.extend(super::rewritten(path, &before, after));
    steps.extend(tell);
    Ok(steps)
}

/// cargo itself prefers the old name without an ending where both are there.
fn config_path(setup: &Setup<'_>) -> Result<PathBuf> {
    let home = match setup.world.environment.raw("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => setup.home()?.join(".cargo"),
    };
    let old = home.join("config");
    Ok(if old.is_file() { old } else { home.join("config.toml") })
}

/// The link by its name where cargo would find it by that, else by its path.
fn provider(link: &Path, setup: &Setup<'_>) -> Result<String> {
    let path = setup.world.environment.raw("PATH").unwrap_or_default();
    if std::env::split_paths(path).any(|directory| Some(directory.as_path()) == link.parent()) {
        return Ok(LINK.to_owned());
    }
    match link.to_str() {
        // cargo cuts the text into words.
        Some(link) if !link.contains(char::is_whitespace) => Ok(link.to_owned()),
        _ => {
            let what = format!("cargo cannot be told of {}: it holds a space", link.display());
            Err(Error::new(Kind::Failed, what).hint("put its directory on PATH"))
        }
    }
}

fn is_ours(provider: &Value) -> bool {
    let first = match provider {
        Value::Array(words) => words.get(0).and_then(Value::as_str),
        text => text.as_str().and_then(|text| text.split_whitespace().next()),
    };
    let name = first.map(Path::new).and_then(Path::file_stem);
    name.is_some_and(|name| name == LINK)
}

fn table<'t>(config: &'t mut DocumentMut, name: &str) -> Result<&'t mut dyn TableLike> {
    let item = config.entry(name).or_insert_with(toml_edit::table);
    item.as_table_like_mut()
        .ok_or_else(|| Error::new(Kind::Failed, format!("{name} of cargo's config is no table")))
}

fn add_to_list(config: &mut DocumentMut, provider: &str) -> Result<()> {
    let registry = table(config, "registry")?;
    let item = registry.entry(LIST).or_insert_with(|| {
        let mut list = Array::new();
        list.push(BUILT_IN);
        Item::Value(list.into())
    });
    let Some(list) = item.as_array_mut() else {
        return Err(Error::new(Kind::Failed, format!("{LIST} of cargo's config is no list")));
    };
    if !list.iter().any(is_ours) {
        list.push(provider);
    }
    Ok(())
}

fn take_from_list(config: &mut DocumentMut) {
    let Some(registry) = config.get_mut("registry").and_then(Item::as_table_like_mut) else {
        return;
    };
    let Some(list) = registry.get_mut(LIST).and_then(Item::as_array_mut) else { return };
    let before = list.len();
    list.retain(|provider| !is_ours(provider));
    let same_without = list.iter().all(|provider| provider.as_str() == Some(BUILT_IN));
    if list.len() < before && same_without {
        registry.remove(LIST);
    }
    if registry.is_empty() {
        config.remove("registry");
    }
}

/// The names of all registries; `None` is the Rust crate registry.
fn registries(config: &DocumentMut) -> Vec<Option<String>> {
    let named = config.get("registries").and_then(Item::as_table_like);
    let named = named.into_iter().flat_map(|all| all.iter().map(|(name, _)| name.to_owned()));
    named.map(Some).chain([None]).collect()
}

/// The registry whose index is at this host, or at this very URL.
fn registry_at(
    host: &str,
    config: &DocumentMut,
    path: &Path,
) -> Result<(Option<String>, Resource)> {
    let asked = Resource::parse(host)?;
    for name in registries(config) {
        let Some(named) = &name else {
            // The registry that cargo knows by itself, which no configuration spells out.
            if asked.host == "crates.io" {
                return Ok((name, asked));
            }
            continue;
        };
        let index = config["registries"][named.as_str()]["index"].as_str();
        let Some(Ok(index)) = index.map(Resource::parse) else { continue };
        if index.host == asked.host && (asked.path.is_none() || index.path == asked.path) {
            return Ok((name, index));
        }
    }
    let what = format!("no registry of {} has its index at {host}", path.display());
    Err(Error::new(Kind::Failed, what).hint("add a [registries.NAME] with its index first"))
}

fn entry_of<'t>(
    config: &'t mut DocumentMut,
    name: &Option<String>,
) -> Option<&'t mut dyn TableLike> {
    let item = match name {
        None => config.get_mut("registry"),
        Some(name) => config.get_mut("registries").and_then(|all| all.get_mut(name.as_str())),
    };
    item.and_then(Item::as_table_like_mut)
}

fn set_for(
    config: &mut DocumentMut,
    name: &Option<String>,
    provider: &str,
    replace: bool,
) -> Result<()> {
    if name.is_none() {
        table(config, "registry")?;
    }
    let Some(entry) = entry_of(config, name) else { return Ok(()) };
    match entry.get(ONE).and_then(Item::as_value) {
        Some(present) if is_ours(present) => {}
        Some(present) if !replace => {
            let present = present.to_string();
            let what = format!("{ONE} names {} already", present.trim());
            return Err(Error::new(Kind::Failed, what).hint("--replace puts valetkey in its place"));
        }
        _ => {
            entry.insert(ONE, toml_edit::value(provider));
        }
    }
    Ok(())
}

fn take_from(config: &mut DocumentMut, name: &Option<String>) {
    let Some(entry) = entry_of(config, name) else { return };
    if entry.get(ONE).and_then(Item::as_value).is_some_and(is_ours) {
        entry.remove(ONE);
        if name.is_none() && entry.is_empty() {
            config.remove("registry");
        }
    }
}

/// The token goes to whatever hosts an index names, so a host alone binds none.
fn unbound(index: &Resource, setup: &Setup<'_>) -> Option<Step> {
    if setup.world.profiles.find(index).is_some() {
        return None;
    }
    let path = index.path.as_deref().unwrap_or_default();
    let text = format!(
        "a sign-in needs the index itself among the origins of a profile in config.toml:\n  \
         {{ url = \"{}/{path}\", scheme = \"bearer\" }}\nwithout one, cargo login keeps a token",
        index.web_origin()
    );
    Some(Step::Tell(text))
}
