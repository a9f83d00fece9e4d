//! What docker no longer sees once it asks us: passwords in `config.json` itself, and what the
//! helper that was asked before holds. It comes into our store, and goes again with `--undo`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::docker::Config;
use super::tool;
use crate::broker::{self, World};
use crate::dialect::docker as dialect;
use crate::error::{Error, Kind, Result};
use crate::model::{Outcome, Secret, Verb};

/// The user name by which docker keeps an identity token in a helper.
const IDENTITY: &str = "<token>";

pub(super) struct Credential {
    /// As docker spells it.
    pub(super) server: String,
    username: String,
    secret: Secret,
}

/// What is found, and what could not be looked into, in words.
#[derive(Default)]
pub(super) struct Hidden {
    pub(super) found: Vec<Credential>,
    pub(super) trouble: Vec<String>,
}

/// What docker uses now for these registries, or for all that have no helper of their own, and
/// would not see any more.
pub(super) fn find(config: &Config, keys: Option<&[String]>, world: &World<'_>) -> Hidden {
    let mut hidden = Hidden::default();
    match keys {
        None => {
            let here = |server: &str| config.helper(server).is_none();
            match config.store() {
                Some(store) if store != super::docker::SUFFIX => {
                    for server in listed(&store, world, &mut hidden) {
                        if here(&server) {
                            ask(&store, &server, world, &mut hidden);
                        }
                    }
                }
                Some(_) => {}
                None => inline(config, here, &mut hidden),
            }
        }
        Some(keys) => {
            for key in keys {
                match config.helper(key).or_else(|| config.store()) {
                    Some(store) if store != super::docker::SUFFIX => {
                        ask(&store, key, world, &mut hidden);
                    }
                    Some(_) => {}
                    None => inline(config, |server| is_same(server, key), &mut hidden),
                }
            }
        }
    }
    hidden
}

/// Whether two spellings mean one registry.
fn is_same(one: &str, other: &str) -> bool {
    let origin = |server: &str| {
        let request = dialect::about(Verb::Cached, server, "", Secret::new(""))?;
        Some(request.resource.origin())
    };
    origin(one).is_some() && origin(one) == origin(other)
}

/// The entries of `auths` that hold a secret (docker's cli/config/configfile).
fn inline(config: &Config, meant: impl Fn(&str) -> bool, hidden: &mut Hidden) {
    for (server, entry) in config.auths().into_iter().filter(|(server, _)| meant(server)) {
        let text = |name: &str| entry[name].as_str().filter(|text| !text.is_empty());
        let pair = match text("auth") {
            Some(auth) => decoded(auth),
            None => text("username").zip(text("password")).map(|(username, password)| {
                (username.to_owned(), Zeroizing::new(password.to_owned()))
            }),
        };
        let (username, secret) = match (text("identitytoken"), pair) {
            (Some(token), _) => (IDENTITY.to_owned(), Zeroizing::new(token.to_owned())),
            (None, Some(pair)) => pair,
            (None, None) => {
                if text("auth").is_some() || text("registrytoken").is_some() {
                    hidden.trouble.push(format!(
                        "config.json has a sign-in to {server} that docker will not see any more, \
                         and that cannot be taken over: docker login {server}"
                    ));
                }
                continue;
            }
        };
        let secret = Secret::new(secret.as_str());
        hidden.found.push(Credential { server, username, secret });
    }
}

/// `user:password` in base64, as docker takes it apart.
fn decoded(auth: &str) -> Option<(String, Zeroizing<String>)> {
    let bytes = Zeroizing::new(STANDARD.decode(auth.trim()).ok()?);
    let (username, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    let password = password.trim_matches('\0');
    if username.is_empty() || password.is_empty() {
        return None;
    }
    Some((username.to_owned(), Zeroizing::new(password.to_owned())))
}

/// The servers that a helper has something for.
fn listed(store: &str, world: &World<'_>, hidden: &mut Hidden) -> Vec<String> {
    let helper = format!("docker-credential-{store}");
    let servers = tool::output(&[&helper, "list"], world).and_then(|output| {
        serde_json::from_slice::<Map<String, Value>>(&output)
            .map_err(|_| Error::new(Kind::Failed, format!("{helper} list gave no JSON object")))
    });
    match servers {
        Ok(servers) => servers.into_iter().map(|(server, _)| server).collect(),
        Err(error) => {
            hidden.trouble.push(format!(
                "{}: docker will not see what it holds any more: docker login, for each registry",
                error.what
            ));
            Vec::new()
        }
    }
}

/// What a helper answers for one server. That it has nothing is no trouble.
fn ask(store: &str, server: &str, world: &World<'_>, hidden: &mut Hidden) {
    let helper = format!("docker-credential-{store}");
    let Ok(finished) = tool::run(&[&helper, "get"], server.as_bytes(), world) else { return };
    let output = Zeroizing::new(finished.output);
    let answer: Map<String, Value> = match serde_json::from_slice(&output) {
        Ok(answer) if finished.success => answer,
        _ => return,
    };
    let text =
        |name: &str| answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let (Some(username), Some(secret)) = (text("Username"), text("Secret")) {
        let (server, username) = (server.to_owned(), username.to_owned());
        hidden.found.push(Credential { server, username, secret: Secret::new(secret) });
    }
}

impl Credential {
    /// Whether our store has the very same already, or never would.
    pub(super) fn is_kept(&self, world: &World<'_>) -> bool {
        let Some(request) = self.request(Verb::Cached) else { return true };
        match broker::answer(&request, world) {
            Outcome::Found(found) => found.secret == self.secret,
            _ => false,
        }
    }

    pub(super) fn keep(&self, world: &World<'_>) -> Result<()> {
        self.tell(Verb::Store, world)
    }

    /// Only this very secret goes.
    pub(super) fn drop(&self, world: &World<'_>) -> Result<()> {
        self.tell(Verb::Erase, world)
    }

    fn tell(&self, verb: Verb, world: &World<'_>) -> Result<()> {
        let Some(request) = self.request(verb) else { return Ok(()) };
        match broker::answer(&request, world) {
            Outcome::Failed(error) => Err(error),
            _ => Ok(()),
        }
    }

    fn request(&self, verb: Verb) -> Option<crate::model::Request> {
        dialect::about(verb, &self.server, &self.username, self.secret.clone())
    }

    pub(super) fn shown(&self, does: &str) -> String {
        let name = match self.username.as_str() {
            IDENTITY => String::new(),
            name => format!(" as {name}"),
        };
        format!("# valetkey {does} the sign-in to {}{name}", self.server)
    }
}
