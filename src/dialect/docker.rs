//! docker's credential helper protocol, which podman, skopeo, helm, oras and many others speak
//! too. Rules D1 to D21 of protocol.md.

use std::collections::BTreeMap;
use std::io::Read;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Call, Dialect, Served, unmarked};
use crate::error::{Error, Result};
use crate::model::{
    Caller, Credential, Form, Outcome, Presented, Request, Resource, Secret, Split, Verb, json,
    one_line,
};

pub const DIALECT: Dialect = Dialect {
    name: "docker",
    link: Some("docker-credential-valetkey"),
    usage: "get|store|erase|list|version",
    about: "docker's credential helper protocol, for podman, skopeo and helm too",
    serve,
};

/// Sentences that clients compare, frozen for ever (docker-credential-helpers, credentials/error.go).
const NOT_FOUND: &str = "credentials not found in native keychain";
const NO_SERVER: &str = "no credentials server URL";
const NO_USERNAME: &str = "no credentials username";

/// Of our own: a request that is no answerable question, and no miss either.
const TOO_LONG: &str = "the request is longer than 1 MiB";

/// Bytes of a request.
const LIMIT: u64 = 1 << 20;

/// Seconds: an answer has no expiry, and a push can take a while.
const LIFETIME: u64 = 600;

/// Docker Hub's one entry, whatever it is called.
const HUB: &str = "https://index.docker.io/v1/";
const HUB_HOSTS: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL", default)]
    server: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: Zeroizing<String>,
}

fn serve(call: &mut Call<'_>) -> Result<Served> {
    let usage = format!("Usage: docker-credential-valetkey <{}>", DIALECT.usage);
    let verb = match call.arguments {
        [verb] => verb.as_str(),
        _ => return refuse(call, &usage),
    };
    match verb {
        "get" => get(call),
        "store" => store(call),
        "erase" => erase(call),
        "list" => list(call),
        "version" | "--version" | "-v" => {
            let version = env!("CARGO_PKG_VERSION");
            call.wire
                .send(format!("docker-credential-valetkey (valetkey) {version}\n").as_bytes())?;
            Ok(Served::default())
        }
        "--help" | "-h" => {
            call.wire.send(format!("{usage}\n").as_bytes())?;
            Ok(Served::default())
        }
        unknown => refuse(call, &format!("docker-credential-valetkey: unknown action: {unknown}")),
    }
}

fn get(call: &mut Call<'_>) -> Result<Served> {
    let server = match server(call) {
        Ok(server) => server,
        Err(sentence) => return refuse(call, sentence),
    };
    let Some(resource) = resource(&server, None) else { return refuse(call, NOT_FOUND) };
    match (call.ask)(&request(Verb::Get, resource, None)) {
        Outcome::Found(credential) => match answer(&server, &credential) {
            Some(answer) => {
                call.wire.send(answer.as_bytes())?;
                Ok(Served::default())
            }
            None => refuse(call, NOT_FOUND),
        },
        Outcome::Failed(error) => failed(call, error),
        Outcome::NotFound(why) => Ok(Served { why: Some(why), ..refuse(call, NOT_FOUND)? }),
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => refuse(call, NOT_FOUND),
    }
}

/// `None`: a ready value for an Authorization header is nothing that docker could use.
fn answer(server: &str, credential: &Credential) -> Option<Zeroizing<String>> {
    if matches!(credential.form, Form::Encoded(_)) {
        return None;
    }
    let username = match credential.username.as_str() {
        // Registries read only the secret, and clients refuse an empty name.
        "" => "oauth2",
        username => username,
    };
    let entry = Entry {
        server: server.to_owned(),
        username: username.to_owned(),
        secret: Zeroizing::new(credential.secret.expose().to_owned()),
    };
    Some(Zeroizing::new(format!("{}\n", *json(&entry))))
}

fn store(call: &mut Call<'_>) -> Result<Served> {
    let entry = match entry(call) {
        Ok(entry) => entry,
        Err(sentence) => return refuse(call, sentence),
    };
    let server = entry.server.trim();
    if is_dockers_own(server) {
        return Ok(Served::default());
    }
    let Some(resource) = resource(server, Some(&entry.username)) else {
        return refuse(call, "the server URL cannot be understood");
    };
    let secret = Secret::new(entry.secret.as_str());
    let presented = Presented { registry: true, ..Presented::alone(secret) };
    match (call.ask)(&request(Verb::Store, resource, Some(presented))) {
        Outcome::Failed(error) => failed(call, error),
        _ => Ok(Served::default()),
    }
}

/// What `store` hands over, or the sentence that refuses it.
fn entry(call: &mut Call<'_>) -> std::result::Result<Entry, &'static str> {
    let input = input(call)?;
    // serde's own message could quote the secret.
    let entry: Entry = serde_json::from_slice(unmarked(&input))
        .map_err(|_| "the credentials are not a JSON object of three strings")?;
    if entry.server.trim().is_empty() {
        return Err(NO_SERVER);
    }
    if entry.username.is_empty() {
        return Err(NO_USERNAME);
    }
    // Other dialects answer in lines. A secret may have them: Google's key files do.
    if entry.username.chars().any(char::is_control) {
        return Err("the user name holds a control character");
    }
    Ok(entry)
}

/// Erasing nothing is success: clients erase every spelling of a name in turn.
fn erase(call: &mut Call<'_>) -> Result<Served> {
    let server = match server(call) {
        Ok(server) => server,
        Err(sentence) => return refuse(call, sentence),
    };
    let Some(resource) = resource(&server, None) else { return Ok(Served::default()) };
    match (call.ask)(&request(Verb::Erase, resource, None)) {
        Outcome::Failed(error) => failed(call, error),
        _ => Ok(Served::default()),
    }
}

fn list(call: &mut Call<'_>) -> Result<Served> {
    // The origin is nobody's: a list is about all of them.
    let everything = Resource::new("https", "valetkey.invalid", None, None)?;
    match (call.ask)(&request(Verb::List, everything, None)) {
        Outcome::Failed(error) => failed(call, error),
        Outcome::Listed(listed) => {
            let servers: BTreeMap<String, String> = listed
                .into_iter()
                .filter_map(|(origin, username)| Some((server_name(&origin)?, username)))
                .collect();
            call.wire.send(format!("{}\n", *json(&servers)).as_bytes())?;
            Ok(Served::default())
        }
        _ => {
            call.wire.send(b"{}\n")?;
            Ok(Served::default())
        }
    }
}

/// An origin as docker's configuration spells it, and `resource` reads it.
fn server_name(origin: &str) -> Option<String> {
    let resource = Resource::parse(origin).ok()?;
    match resource.protocol.as_str() {
        "https" if resource.host == HUB_HOSTS[0] => Some(HUB.to_owned()),
        "https" => Some(resource.host),
        "http" if resource.is_here() => Some(resource.host),
        "http" => Some(origin.to_owned()),
        _ => None,
    }
}

/// The host that a key means. `None`: nothing that could be answered.
fn resource(server: &str, account: Option<&str>) -> Option<Resource> {
    if is_dockers_own(server) {
        return None;
    }
    let url = Split::new(server).ok()?;
    let (http, https) = ("http", "https");
    let scheme = match url.scheme {
        None => https,
        Some(scheme) if scheme.eq_ignore_ascii_case(https) => https,
        Some(scheme) if scheme.eq_ignore_ascii_case(http) => http,
        Some(_) => return None,
    };
    // The path is a repository.
    if url.user.is_some() || url.rest.starts_with(['?', '#']) {
        return None;
    }
    let named = Resource::new(scheme, url.host, None, account).ok()?;
    if HUB_HOSTS.contains(&named.host.as_str()) {
        return Resource::new(scheme, HUB_HOSTS[0], None, account).ok();
    }
    // On this machine clients try a name with each scheme. Elsewhere a token that is for https goes
    // nowhere in the open.
    match named.is_here() {
        true => Resource::new(https, url.host, None, account).ok(),
        false => Some(named),
    }
}

/// Docker keeps the tokens of its own sign-in to the Hub below two paths, and asks for one of
/// them on every logout. They are nobody else's: never answered, and never kept.
fn is_dockers_own(server: &str) -> bool {
    let Ok(url) = Split::new(server) else { return false };
    let hub = Resource::new("https", url.host, None, None)
        .is_ok_and(|resource| HUB_HOSTS.contains(&resource.host.as_str()));
    hub && matches!(url.path().trim_matches('/'), "v1/access-token" | "v1/refresh-token")
}

/// What docker would say to store, ask back or erase a credential of its own keeping. `None`: it
/// is for nobody but docker.
#[must_use]
pub fn about(verb: Verb, server: &str, username: &str, secret: Secret) -> Option<Request> {
    let resource = resource(server.trim(), Some(username))?;
    Some(request(verb, resource, Some(Presented::alone(secret))))
}

fn request(verb: Verb, resource: Resource, presented: Option<Presented>) -> Request {
    Request { verb, resource, caller: Caller::Patient, lifetime: LIFETIME, presented, proof: None }
}

fn input(call: &mut Call<'_>) -> std::result::Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = call.input.take(LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|_| "the request cannot be read")?;
    if bytes.len() as u64 > LIMIT {
        return Err(TOO_LONG);
    }
    Ok(bytes)
}

/// The key that is asked about, or the sentence that refuses it.
fn server(call: &mut Call<'_>) -> std::result::Result<String, &'static str> {
    let input = input(call)?;
    // What is not text becomes a name that no host has.
    let text = String::from_utf8_lossy(unmarked(&input)).trim().to_owned();
    if text.is_empty() { Err(NO_SERVER) } else { Ok(text) }
}

/// Whatever is wrong is said on standard output, where clients look for it.
fn refuse(call: &Call<'_>, sentence: &str) -> Result<Served> {
    call.wire.send(format!("{}\n", one_line(sentence)).as_bytes())?;
    Ok(Served { status: 1, why: None })
}

/// Said on standard error too: docker's own client shows its user nothing of the other.
fn failed(call: &Call<'_>, error: Error) -> Result<Served> {
    let hint = error.hint.as_ref().map_or(String::new(), |hint| format!("; {hint}"));
    let served = refuse(call, &format!("{}{hint}", error.what))?;
    Ok(Served { why: Some(error), ..served })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(server: &str) -> Option<String> {
        resource(server, None).map(|resource| resource.origin())
    }

    #[test]
    fn every_spelling_of_a_name_is_the_same_host() {
        for spelling in [
            "ghcr.io",
            "GHCR.io:443",
            "https://ghcr.io",
            "https://ghcr.io:443",
            "https://ghcr.io/v2/",
            "HTTPS://ghcr.io.",
            "ghcr.io:443/v2",
            "ghcr.io/owner/repository",
        ] {
            assert_eq!(origin(spelling).as_deref(), Some("https://ghcr.io"), "{spelling}");
        }
        for hub in
            ["docker.io", "index.docker.io", HUB, "registry-1.docker.io", "docker.io/library/a"]
        {
            assert_eq!(origin(hub).as_deref(), Some("https://index.docker.io"), "{hub}");
        }
        for here in ["localhost:5000", "http://localhost:5000", "HTTPS://LOCALHOST:5000/v2/"] {
            assert_eq!(origin(here).as_deref(), Some("https://localhost:5000"), "{here}");
        }
        assert_eq!(origin("http://127.0.0.1").as_deref(), Some("https://127.0.0.1"));
    }

    /// What is bound to https is not for a client that says it comes in the open.
    #[test]
    fn a_scheme_that_is_said_counts() {
        assert_eq!(origin("http://ghcr.io").as_deref(), Some("http://ghcr.io"));
        assert_eq!(origin("HTTP://ghcr.io:80/v2/").as_deref(), Some("http://ghcr.io"));
        assert_eq!(origin("http://ghcr.io:443").as_deref(), Some("http://ghcr.io:443"));
        assert_eq!(origin("http://docker.io").as_deref(), Some("http://index.docker.io"));
        for other in ["ws://ghcr.io", "wss://ghcr.io", "ssh://ghcr.io", "//ghcr.io", "://ghcr.io"] {
            assert_eq!(origin(other), None, "{other}");
        }
    }

    #[test]
    fn what_belongs_to_docker_itself_is_never_answered() {
        for own in [
            "https://index.docker.io/v1/access-token",
            "https://index.docker.io/v1/refresh-token",
            "nerdctl-experimental://ns/host/ghcr.io",
            "index.docker.io/v1/refresh-token",
            "http://docker.io:443/v1/access-token/",
            "unix:///run/docker.sock",
            "https://",
            "user@ghcr.io",
            "ghcr.io?x",
            "a b",
        ] {
            assert_eq!(origin(own), None, "{own}");
        }
    }
}
