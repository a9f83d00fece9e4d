//! `valetkey setup docker`: the link that docker looks for, and the members of its `config.json`,
//! which podman, skopeo, helm and others read too.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::json::{Json, Member};
use super::{Setup, Step, files, hidden, taken};
use crate::error::{Error, Kind, Result};
use crate::model::Resource;

pub(super) const LINK: &str = "docker-credential-valetkey";
/// What docker finds the link by.
pub(super) const SUFFIX: &str = "valetkey";

const STORE: &str = "credsStore";
const HELPERS: &str = "credHelpers";
/// Before the server whose credential was taken over, in what is remembered.
const TAKEN_OVER: &str = "taken over: ";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let keys = keys(&setup.typed.hosts)?;
    let file = setup.open(&config_path(setup)?)?;
    let path = file.path().to_owned();
    let before = Config::parse(file.text(), &path)?;
    let mut after = Config::parse(file.text(), &path)?;
    let (undo, replace) = (setup.typed.undo, setup.typed.replace);
    match (keys.is_empty(), undo) {
        (true, false) => after.set_store(&path, setup)?,
        (false, false) => {
            for key in &keys {
                after.set_helper(key, replace, &path, setup)?;
            }
        }
        (all, true) => {
            if all {
                after.take_back_store(&path, setup);
            }
            after.take_back_helpers(&keys, &path, setup);
        }
    }
    let ours = after.names_us();
    let mut steps = Vec::new();
    // The link stays for as long as another entry needs it.
    if !(undo && (ours || file_of_podman(setup)?.exists())) {
        steps.extend(setup.link(LINK)?.steps);
    }
    let written = file.says(after.json.text(), ours, setup);
    let chosen = (!keys.is_empty()).then_some(keys.as_slice());
    if undo {
        for credential in hidden::find(&after, chosen, setup.world).found {
            if setup.noted(&path, &taken_over(&credential.server)).is_some() {
                steps.push(Step::GiveBack(credential));
            }
        }
    } else if written.is_some() {
        let hidden = hidden::find(&before, chosen, setup.world);
        for credential in hidden.found {
            if !credential.is_kept(setup.world) {
                setup.note(&path, taken_over(&credential.server), None);
                steps.push(Step::TakeOver(credential));
            }
        }
        steps.extend(hidden.trouble.into_iter().map(|text| Step::Tell(format!("warning: {text}"))));
    }
    steps.extend(written);
    if setup.typed.hosts.is_empty() && !undo {
        // containers/image knows no credsStore.
        let text = "podman, skopeo and buildah do not read this: valetkey setup podman";
        steps.push(Step::Tell(text.to_owned()));
    }
    Ok(steps)
}

fn taken_over(server: &str) -> String {
    format!("{TAKEN_OVER}{server}")
}

fn config_path(setup: &Setup<'_>) -> Result<PathBuf> {
    let environment = setup.world.environment;
    match environment.raw("DOCKER_CONFIG") {
        Some(_) => Ok(setup.file("DOCKER_CONFIG", "")?.join("config.json")),
        None => Ok(setup.home()?.join(".docker/config.json")),
    }
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

/// Whether docker asks us about anything.
pub(super) fn names_us(setup: &Setup<'_>) -> Result<bool> {
    let path = files::followed(&config_path(setup)?)?;
    let content = files::content(&path)?.unwrap_or_default();
    Ok(Config::parse(&String::from_utf8_lossy(&content), &path)?.names_us())
}

/// By which podman asks us through the same link. It is read last of all its files, and what it says
/// replaces what the others say.
pub(super) fn file_of_podman(setup: &Setup<'_>) -> Result<PathBuf> {
    Ok(setup.home()?.join(".config/containers/registries.conf.d/valetkey.conf"))
}

/// docker's `config.json`, with docker's eyes: a name is one in any case, and the last of several
/// counts (Go's encoding/json).
pub(super) struct Config {
    json: Json,
}

impl Config {
    fn parse(text: &str, path: &Path) -> Result<Self> {
        // It can hold passwords, which an error of the parser's could quote.
        let failed = |what: &str| Error::new(Kind::Failed, format!("{} {what}", path.display()));
        let config = Self { json: Json::parse(text).ok_or_else(|| failed("is no JSON object"))? };
        for name in [HELPERS, "auths"] {
            for member in config.named(name) {
                let null = config.json.value(&member).is_null();
                if !null && config.json.below(&member).is_none() {
                    return Err(failed(&format!("has a member {name} that is no object")));
                }
            }
        }
        for member in config.named(STORE) {
            if !matches!(config.json.value(&member), Value::String(_) | Value::Null) {
                return Err(failed(&format!("has a member {STORE} that is no text")));
            }
        }
        Ok(config)
    }

    fn named(&self, name: &str) -> Vec<Member> {
        let mut members = self.json.members();
        members.retain(|member| member.name.eq_ignore_ascii_case(name));
        members
    }

    /// The members of all objects of this name, each with its object.
    fn below(&self, name: &str) -> Vec<(Member, Member)> {
        let all = self.named(name).into_iter();
        all.flat_map(|parent| {
            let members = self.json.below(&parent).unwrap_or_default();
            members.into_iter().map(move |member| (parent.clone(), member))
        })
        .collect()
    }

    fn text(&self, member: &Member) -> String {
        self.json.value(member).as_str().unwrap_or_default().to_owned()
    }

    /// The helper for every registry that has none of its own.
    pub(super) fn store(&self) -> Option<String> {
        let last = self.named(STORE).pop()?;
        Some(self.text(&last)).filter(|store| !store.is_empty())
    }

    /// The helper for one registry.
    pub(super) fn helper(&self, key: &str) -> Option<String> {
        let mut helpers = self.below(HELPERS);
        helpers.retain(|(_, member)| member.name == key);
        Some(self.text(&helpers.pop()?.1))
    }

    /// The entries of `auths`.
    pub(super) fn auths(&self) -> Vec<(String, Value)> {
        let all = self.below("auths").into_iter();
        all.map(|(_, member)| (member.name.clone(), self.json.value(&member))).collect()
    }

    fn names_us(&self) -> bool {
        let helpers = self.below(HELPERS);
        self.store().is_some_and(|store| store == SUFFIX)
            || helpers.iter().any(|(_, member)| self.text(member) == SUFFIX)
    }

    fn set_store(&mut self, path: &Path, setup: &Setup<'_>) -> Result<()> {
        let ours = Value::from(SUFFIX).to_string();
        match (self.store(), self.named(STORE).pop()) {
            (Some(store), _) if store == SUFFIX => {}
            (Some(other), _) if !setup.typed.replace => return Err(named(STORE, &other)),
            (_, Some(member)) => {
                setup.note(path, STORE, Some(self.json.raw(&member)));
                self.json.set(&member, &ours);
            }
            (_, None) => {
                setup.note(path, STORE, None);
                self.json.add(None, STORE, &ours);
            }
        }
        Ok(())
    }

    fn set_helper(
        &mut self,
        key: &str,
        replace: bool,
        path: &Path,
        setup: &Setup<'_>,
    ) -> Result<()> {
        let ours = Value::from(SUFFIX).to_string();
        let mut present = self.below(HELPERS);
        present.retain(|(_, member)| member.name == key);
        let note = format!("{HELPERS}.{key}");
        if let Some((_, member)) = present.pop() {
            let other = self.text(&member);
            if other == SUFFIX {
                return Ok(());
            }
            if !replace {
                return Err(named(key, &other));
            }
            setup.note(path, note, Some(self.json.raw(&member)));
            self.json.set(&member, &ours);
            return Ok(());
        }
        setup.note(path, note, None);
        let parent = match self.named(HELPERS).pop() {
            Some(parent) => {
                if self.json.below(&parent).is_none_or(|members| members.is_empty()) {
                    setup.note(path, HELPERS, Some(self.json.raw(&parent)));
                }
                if self.json.value(&parent).is_null() {
                    self.json.set(&parent, "{}");
                }
                self.named(HELPERS).pop()
            }
            None => {
                setup.note(path, HELPERS, None);
                self.json.add(None, HELPERS, "{}");
                self.named(HELPERS).pop()
            }
        };
        self.json.add(parent.as_ref(), key, &ours);
        Ok(())
    }

    fn take_back_store(&mut self, path: &Path, setup: &Setup<'_>) {
        while let Some(member) =
            self.named(STORE).into_iter().find(|member| self.text(member) == SUFFIX)
        {
            match setup.noted(path, STORE).flatten() {
                Some(raw) => self.json.set(&member, &raw),
                _ => self.json.remove(None, &member),
            }
        }
    }

    /// Of these registries; of all, where none is named.
    fn take_back_helpers(&mut self, keys: &[String], path: &Path, setup: &Setup<'_>) {
        let mut took = false;
        while let Some((parent, member)) = self.below(HELPERS).into_iter().find(|(_, member)| {
            let meant = keys.is_empty() || keys.contains(&member.name);
            meant && self.text(member) == SUFFIX
        }) {
            took = true;
            match setup.noted(path, &format!("{HELPERS}.{}", member.name)).flatten() {
                Some(raw) => self.json.set(&member, &raw),
                _ => self.json.remove(Some(&parent), &member),
            }
        }
        if let (true, Some(parent)) = (took, self.named(HELPERS).pop())
            && self.json.below(&parent).is_some_and(|members| members.is_empty())
        {
            match setup.noted(path, HELPERS) {
                Some(None) => self.json.remove(None, &parent),
                Some(Some(raw)) => self.json.set(&parent, &raw),
                None => {}
            }
        }
    }
}

fn named(key: &str, other: &str) -> Error {
    taken(format!("{key} names {other} already"))
        .hint("--replace puts valetkey in its place; --host HOST is for one registry only")
}
