//! `valetkey setup cargo`: the link that cargo starts, and its place among the credential
//! providers in cargo's `config.toml`. Nothing else in that file changes.

use std::path::{Path, PathBuf};

use toml_edit::{Item, TableLike, Value};

use super::tables::Toml;
use super::{Setup, Step, taken};
use crate::error::{Error, Kind, Result};
use crate::model::Resource;

const LINK: &str = "cargo-credential-valetkey";

const REGISTRY: &str = "registry";
const REGISTRIES: &str = "registries";
/// The list of all registries; the last entry is asked first.
const LIST: &str = "global-credential-providers";
/// The one provider of one registry.
const ONE: &str = "credential-provider";
/// What cargo asks where the list is not there.
const BUILT_IN: &str = "cargo:token";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let file = setup.open(&config_path(setup)?)?;
    let toml = Toml::parse(file.text()).map_err(|error| {
        let what = format!("{} is not TOML: {}", file.path().display(), error.message());
        Error::new(Kind::Failed, what)
    })?;
    let link = setup.link(LINK)?;
    let mut config = Config { toml, path: file.path().to_owned(), setup };
    let mut tell = Vec::new();
    match (setup.typed.hosts.as_slice(), setup.typed.undo) {
        ([], false) => config.add_to_list(&provider(&link.path, setup)?)?,
        ([], true) => {
            config.take_from_list();
            for name in config.registries() {
                config.take_from(name.as_deref());
            }
        }
        (hosts, undo) => {
            for host in hosts {
                let (name, index) = config.registry_at(host)?;
                if undo {
                    config.take_from(name.as_deref());
                } else {
                    config.set_for(name.as_deref(), &provider(&link.path, setup)?)?;
                    tell.extend(unbound(&index, setup));
                }
            }
        }
    }
    let ours = config.names_us();
    // One registry less is no reason to take the link from the others.
    let mut steps = if setup.typed.undo && ours { Vec::new() } else { link.steps };
    let after = config.toml.text().to_owned();
    steps.extend(file.says(&after, ours, setup));
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
    if setup.is_on_path(link.parent()) {
        return Ok(Value::from(LINK).to_string());
    }
    match link.to_str() {
        // cargo cuts the text into words.
        Some(link) if !link.contains(char::is_whitespace) => Ok(Value::from(link).to_string()),
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

/// The table of a registry; without a name the one of the Rust crate registry.
fn table_of(name: Option<&str>) -> Vec<&str> {
    name.map_or_else(|| vec![REGISTRY], |name| vec![REGISTRIES, name])
}

/// cargo's `config.toml`.
struct Config<'a> {
    toml: Toml,
    path: PathBuf,
    setup: &'a Setup<'a>,
}

impl Config<'_> {
    fn no(&self, name: &str, what: &str) -> Error {
        Error::new(Kind::Failed, format!("{name} of cargo's config is no {what}"))
    }

    /// Adds a key, and remembers what was not there before.
    fn add(&mut self, table: &[&str], key: &str, raw: &str) -> Result<()> {
        if !self.toml.has_place(table) {
            self.setup.note(&self.path, table.join("."), None);
        }
        self.setup.note(&self.path, [table, &[key]].concat().join("."), None);
        match self.toml.add(table, key, raw) {
            true => Ok(()),
            false => Err(self.no(&table.join("."), "table")),
        }
    }

    /// Removes a key, and the name of its table where setup wrote that and nothing else is left.
    fn remove(&mut self, table: &[&str], key: &str) {
        self.toml.remove(table, key);
        if self.setup.noted(&self.path, &table.join(".")) == Some(None) {
            self.toml.remove_header(table);
        }
    }

    fn add_to_list(&mut self, provider: &str) -> Result<()> {
        let path = [REGISTRY, LIST];
        if self.toml.get(&[REGISTRY]).is_some_and(|item| item.as_table_like().is_none()) {
            return Err(self.no(REGISTRY, "table"));
        }
        match (self.toml.get(&path), self.toml.array(&path)) {
            (_, Some(list)) => {
                if !list.iter().any(is_ours) {
                    self.toml.push(&path, provider);
                }
                Ok(())
            }
            (Some(_), None) => Err(self.no(LIST, "list")),
            (None, None) => self.add(&[REGISTRY], LIST, &format!("[\"{BUILT_IN}\", {provider}]")),
        }
    }

    fn take_from_list(&mut self) {
        let path = [REGISTRY, LIST];
        let mut took = false;
        while let Some(at) = self.toml.array(&path).and_then(|list| list.iter().position(is_ours)) {
            self.toml.pull(&path, at);
            took = true;
        }
        let Some(list) = self.toml.array(&path).filter(|_| took) else { return };
        let as_without = list.iter().all(|provider| provider.as_str() == Some(BUILT_IN));
        if as_without && self.setup.noted(&self.path, &path.join(".")) == Some(None) {
            self.remove(&[REGISTRY], LIST);
        }
    }

    /// The names of all registries; `None` is the Rust crate registry.
    fn registries(&self) -> Vec<Option<String>> {
        let named = self.toml.get(&[REGISTRIES]).and_then(Item::as_table_like);
        let named = named.into_iter().flat_map(TableLike::iter).map(|(name, _)| name.to_owned());
        named.map(Some).chain([None]).collect()
    }

    /// The registry whose index is at this host, or at this very URL.
    fn registry_at(&self, host: &str) -> Result<(Option<String>, Resource)> {
        let asked = Resource::parse(host)?;
        for name in self.registries() {
            let Some(named) = &name else {
                // The registry that cargo knows by itself, which no configuration spells out.
                if asked.host == "crates.io" {
                    return Ok((name, asked));
                }
                continue;
            };
            let index = self.toml.get(&[REGISTRIES, named, "index"]).and_then(Item::as_str);
            let Some(Ok(index)) = index.map(Resource::parse) else { continue };
            if index.host == asked.host && (asked.path.is_none() || index.path == asked.path) {
                return Ok((name, index));
            }
        }
        let what = format!("no registry of {} has its index at {host}", self.path.display());
        Err(Error::new(Kind::Failed, what).hint("add a [registries.NAME] with its index first"))
    }

    fn set_for(&mut self, name: Option<&str>, provider: &str) -> Result<()> {
        let table = table_of(name);
        let path = [&table[..], &[ONE]].concat();
        let Some(present) = self.toml.get(&path) else { return self.add(&table, ONE, provider) };
        if present.as_value().is_some_and(is_ours) {
            return Ok(());
        }
        let raw = self.toml.raw(&path).unwrap_or_default().to_owned();
        if !self.setup.typed.replace {
            return Err(taken(format!("{ONE} names {} already", raw.trim())));
        }
        self.setup.note(&self.path, path.join("."), Some(&raw));
        self.toml.set(&path, provider);
        Ok(())
    }

    fn take_from(&mut self, name: Option<&str>) {
        let table = table_of(name);
        let path = [&table[..], &[ONE]].concat();
        let present = self.toml.get(&path).and_then(Item::as_value);
        if !present.is_some_and(is_ours) {
            return;
        }
        match self.setup.noted(&self.path, &path.join(".")).flatten() {
            Some(raw) => self.toml.set(&path, &raw),
            None => self.remove(&table, ONE),
        }
    }

    fn names_us(&self) -> bool {
        let listed = self.toml.array(&[REGISTRY, LIST]);
        let mut names = self.registries().into_iter();
        listed.is_some_and(|list| list.iter().any(is_ours))
            || names.any(|name| {
                let path = [&table_of(name.as_deref())[..], &[ONE]].concat();
                self.toml.get(&path).and_then(Item::as_value).is_some_and(is_ours)
            })
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
