//! git's credential helper protocol (git-credential(1), gitcredentials(7)), which is the native
//! line protocol too. Rules G1 to G45 of protocol.md.

use std::collections::HashSet;
use std::io::{ErrorKind, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

use super::{Call, Dialect, Served, unmarked};
use crate::error::{Error, Kind, Result};
use crate::model::{
    Caller, Credential, Form, Offer, Outcome, Presented, Proof, Request, Resource, Scheme, Secret,
    Split, Verb, decoded, timestamp,
};

/// Bytes of a line with its line end; git's own limit (rule G37).
const LINE: usize = 65_535;
/// Bytes of a request: far above what any caller sends (rule G38).
const REQUEST: usize = 1 << 20;

/// What we ask a caller to bring back stands behind this (rule G20).
const STATE: &str = "valetkey:1:";

pub const DIALECT: Dialect = Dialect {
    name: "git",
    link: Some("git-credential-valetkey"),
    usage: "get|store|erase|capability",
    about: "git's credential helper protocol: lines of key=value on standard input",
    serve,
};

/// Whether a word is an operation of the native line protocol, which needs no name before it.
#[must_use]
pub fn is_verb(word: &str) -> bool {
    matches!(word, "get" | "store" | "erase" | "capability")
}

fn serve(call: &mut Call<'_>) -> Result<Served> {
    let verb = match call.verb(&DIALECT)? {
        "get" => Verb::Get,
        "store" => Verb::Store,
        "erase" => Verb::Erase,
        "capability" => {
            call.wire.send(b"version 0\ncapability authtype\ncapability state\n")?;
            return Ok(Served::default());
        }
        // gitcredentials(7): any other operation is ignored silently (rule G2).
        _ => return Ok(Served::default()),
    };
    let bytes = receive(call.input).map_err(|error| refused("cannot be read").because(error))?;
    let asked = Asked::read(&bytes)?;
    let outcome = (call.ask)(&asked.request(verb)?);
    match (verb, outcome) {
        (_, Outcome::Failed(error)) => Err(error),
        (Verb::Get, Outcome::Found(credential)) => {
            let answer = asked.answer(&credential)?;
            if answer.is_empty() {
                return Ok(Served::nothing(None));
            }
            call.wire.send(&answer)?;
            Ok(Served::default())
        }
        (Verb::Get, Outcome::NotFound(why)) => Ok(Served::nothing(Some(why))),
        (Verb::Get, _) => Ok(Served::nothing(None)),
        // What was not there need not be erased.
        (_, _) => Ok(Served::default()),
    }
}

/// Everything up to a blank line or the end: git closes the pipe, other callers may keep it open
/// and wait for the answer (rule G4).
fn receive(input: &mut dyn Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let mut chunk = [0; 4096];
    let ended =
        |bytes: &[u8]| bytes.starts_with(b"\n") || bytes.windows(2).any(|pair| pair == b"\n\n");
    while bytes.len() <= REQUEST && !ended(&bytes) {
        match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                bytes.extend_from_slice(&chunk[..count]);
                chunk[..count].zeroize();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// A request as git writes it.
#[derive(Debug, Default)]
pub struct Asked {
    protocol: Option<String>,
    host: Option<String>,
    path: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    authtype: Option<String>,
    credential: Option<Secret>,
    ephemeral: bool,
    expires: Option<u64>,
    refresh: Option<Secret>,
    capabilities: Vec<String>,
    challenges: Vec<String>,
    state: Vec<String>,
}

impl Asked {
    /// Reads `key=value` lines up to a blank line or the end. A request with anything dangerous
    /// in it is refused as a whole; no error repeats a value.
    ///
    /// # Errors
    /// `Usage` for what rules G36 to G44 refuse.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > REQUEST {
            return Err(refused("is longer than 1 MiB"));
        }
        let mut asked = Self::default();
        let mut seen = HashSet::new();
        for line in unmarked(bytes).split(|byte| *byte == b'\n') {
            if line.is_empty() {
                break;
            }
            if line.len() >= LINE {
                return Err(refused("has a line of more than 65,535 bytes"));
            }
            if line.iter().any(|byte| matches!(byte, 0 | b'\r')) {
                return Err(refused("holds a NUL or a carriage return"));
            }
            let Some(equals) = line.iter().position(|byte| *byte == b'=') else {
                return Err(refused("has a line without an equals sign"));
            };
            let (key, value) = (&line[..equals], &line[equals + 1..]);
            let multiple = key.ends_with(b"[]");
            if !multiple && !seen.insert(key) {
                return Err(refused("names a single-valued attribute twice"));
            }
            asked.take(key, value)?;
        }
        Ok(asked)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let text = || {
            let text = std::str::from_utf8(value);
            text.map(str::to_owned).map_err(|_| refused("is not UTF-8"))
        };
        match key {
            b"protocol" => self.protocol = Some(text()?),
            b"host" => self.host = Some(text()?),
            b"path" => self.path = Some(text()?),
            b"username" => self.username = Some(text()?),
            b"password" => self.password = Some(Secret::new(text()?)),
            b"authtype" => self.authtype = Some(text()?),
            b"credential" => self.credential = Some(Secret::new(text()?)),
            b"oauth_refresh_token" => self.refresh = Some(Secret::new(text()?)),
            b"ephemeral" => self.ephemeral = matches!(value, b"1" | b"true" | b"yes" | b"on"),
            // git reads what is no number, or zero, as never.
            b"password_expiry_utc" => {
                let expires = text()?.parse().ok().filter(|expires| *expires != 0);
                self.expires = expires.map(timestamp::readable);
            }
            b"url" => self.url(&text()?)?,
            // A header is a stranger's text and may be in any encoding.
            b"wwwauth[]" => push(&mut self.challenges, value),
            b"capability[]" => push(&mut self.capabilities, value),
            b"state[]" => push(&mut self.state, value),
            // Unrecognised attributes are silently discarded (git-credential(1)).
            _ => {}
        }
        Ok(())
    }

    /// git-credential(1): as if its parts had been given instead, and nothing before them (rules G7
    /// and G44).
    fn url(&mut self, text: &str) -> Result<()> {
        let wrong = || refused("has a URL that cannot be understood");
        let url = Split::new(text).map_err(|_| wrong())?;
        let protocol = url.scheme.ok_or_else(wrong)?;
        if decode(url.host)? != url.host {
            return Err(wrong());
        }
        let path = Some(url.rest).filter(|rest| !matches!(*rest, "" | "/"));
        self.protocol = Some(protocol.to_owned());
        self.host = Some(url.host.to_owned());
        self.path = path.map(decode).transpose()?;
        self.username = url.user.map(decode).transpose()?;
        self.password = url.password.map(decode).transpose()?.map(Secret::new);
        Ok(())
    }

    fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|offered| offered == capability)
    }

    /// # Errors
    /// `Usage` when protocol or host are missing, which is what a request that broke off looks
    /// like (CVE-2020-11008), or are unusable.
    pub fn request(&self, verb: Verb) -> Result<Request> {
        let (Some(protocol), Some(host)) = (&self.protocol, &self.host) else {
            return Err(refused("names no protocol or no host"));
        };
        let mut resource =
            Resource::new(protocol, host, self.path.as_deref(), self.username.as_deref())?;
        if !self.challenges.is_empty() {
            resource.offer = Some(Offer::Challenges(self.challenges.clone()));
        }
        let refresh = self.refresh.clone().filter(|refresh| !refresh.is_empty());
        let presented = |secret: &Secret, authtype: Option<&String>| Presented {
            secret: secret.clone(),
            token: undressed(secret, authtype),
            authtype: authtype.cloned(),
            expires: self.expires,
            refresh: refresh.clone(),
            ephemeral: self.ephemeral,
            registry: false,
        };
        let presented = match (&self.credential, &self.authtype, &self.password) {
            (Some(credential), Some(authtype), _) => Some(presented(credential, Some(authtype))),
            (_, _, Some(password)) => Some(presented(password, None)),
            _ => None,
        };
        let proof = self.state.iter().rev().find_map(|state| proof(state));
        Ok(Request { verb, resource, caller: Caller::Git, lifetime: 0, presented, proof })
    }

    /// The bytes of a credential for this caller: capabilities first, then what depends on them.
    ///
    /// # Errors
    /// `Failed` for a credential that git would read as something else (rule G45).
    pub fn answer(&self, credential: &Credential) -> Result<Zeroizing<Vec<u8>>> {
        let Credential { username, secret, form, expires, proof, renewable, refresh, .. } =
            credential;
        let mut lines = Lines::default();
        let can_encode = self.can("authtype");
        let encoded = match form {
            Form::Encoded(authtype) => Some((authtype.clone(), secret.clone())),
            Form::Token(Scheme::Bearer) => Some(("Bearer".to_owned(), secret.clone())),
            Form::Token(Scheme::Basic | Scheme::PrivateToken) => {
                Some(("Basic".to_owned(), credential.basic()))
            }
            // As it was handed over; who gave a password expects one.
            Form::Password => None,
        };
        let encoded = encoded.filter(|_| can_encode);
        let state = proof.as_ref().filter(|_| self.can("state"));
        if encoded.is_some() {
            lines.add("capability[]", "authtype");
        }
        if state.is_some() {
            lines.add("capability[]", "state");
        }
        if let Some((authtype, value)) = &encoded {
            lines.add("authtype", authtype);
            lines.add("credential", value.expose());
        }
        // A ready value for another scheme is no password, and has a user name only by chance.
        match form {
            Form::Encoded(_) if encoded.is_none() => return lines.finish(),
            Form::Encoded(_) if username.is_empty() => {}
            Form::Encoded(_) => lines.add("username", username),
            Form::Token(_) | Form::Password => {
                lines.add("username", username);
                lines.add("password", secret.expose());
            }
        }
        if encoded.is_some() && matches!(form, Form::Token(_)) {
            // Other helpers need not keep what we renew.
            lines.add("ephemeral", "1");
        }
        if let Some(expires) = expires {
            lines.add("password_expiry_utc", &expires.to_string());
        }
        if let Some(refresh) = refresh {
            lines.add("oauth_refresh_token", refresh.expose());
        }
        if let Some(Proof { place, key, token }) = state {
            lines.add("state[]", &format!("{STATE}{place}:{key}:{token}"));
            // Only the first answer may ask to be called again (rule G22).
            let first = !self.state.iter().any(|state| state.starts_with(STATE));
            if *renewable && first {
                lines.add("continue", "1");
            }
        }
        lines.finish()
    }
}

#[derive(Default)]
struct Lines {
    bytes: Zeroizing<Vec<u8>>,
    /// A value that would be more than its line, whoever put it into the vault or the environment.
    broken: bool,
}

impl Lines {
    fn finish(self) -> Result<Zeroizing<Vec<u8>>> {
        if self.broken {
            let what = "the credential holds a line end or a NUL, or is longer than a line";
            return Err(Error::new(Kind::Failed, what).hint("valetkey status URL shows its source"));
        }
        Ok(self.bytes)
    }

    fn add(&mut self, key: &str, value: &str) {
        let longest = LINE - key.len() - 2;
        self.broken |= value.len() > longest || value.contains(['\n', '\r', '\0']);
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }
}

/// An empty value clears what came before it (git-credential(1)).
fn push(list: &mut Vec<String>, value: &[u8]) {
    match value {
        b"" => list.clear(),
        _ => list.push(String::from_utf8_lossy(value).into_owned()),
    }
}

fn decode(text: &str) -> Result<String> {
    decoded(text).map_err(|what| refused(&format!("has a URL with {what} in it")))
}

/// What a pre-encoded value holds: our own answers come back in it.
fn undressed(value: &Secret, authtype: Option<&String>) -> Secret {
    let basic = authtype.is_some_and(|authtype| authtype.eq_ignore_ascii_case("basic"));
    let pair = basic.then(|| STANDARD.decode(value.expose()).ok().map(Zeroizing::new)).flatten();
    let pair = pair.as_ref().and_then(|pair| std::str::from_utf8(pair).ok());
    match pair.and_then(|pair| pair.split_once(':')) {
        Some((_, secret)) => Secret::new(secret),
        None => value.clone(),
    }
}

fn proof(state: &str) -> Option<Proof> {
    let mut parts = state.strip_prefix(STATE)?.split(':');
    let mut hexadecimal = |length: usize| {
        let part = parts.next().filter(|part| part.len() == length)?;
        part.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| part.to_owned())
    };
    let proof = Proof { place: hexadecimal(32)?, key: hexadecimal(32)?, token: hexadecimal(64)? };
    parts.next().is_none().then_some(proof)
}

fn refused(what: &str) -> Error {
    Error::new(Kind::Usage, format!("the credential request {what}"))
}

/// Whatever a request says: an answer made of its own words is lines of `key=value`, no more and
/// no fewer than we meant, and a refusal repeats none of them.
///
/// # Panics
/// When that is not so.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    let asked = match Asked::read(bytes) {
        Ok(asked) => asked,
        Err(error) => return assert!(error.what.is_ascii() && error.what.len() < 100),
    };
    for verb in [Verb::Get, Verb::Store, Verb::Erase] {
        let Ok(request) = asked.request(verb) else { return };
        let Some(presented) = request.presented else { continue };
        let encoded = presented.authtype.map_or(Form::Password, Form::Encoded);
        let proof = Proof { place: "0".repeat(32), key: "1".repeat(32), token: "2".repeat(64) };
        for form in [Form::Token(Scheme::Basic), Form::Token(Scheme::Bearer), encoded] {
            let credential = Credential {
                username: request.resource.account.clone().unwrap_or_default(),
                secret: presented.secret.clone(),
                form,
                expires: presented.expires,
                proof: Some(proof.clone()),
                renewable: true,
                refresh: presented.refresh.clone(),
                fields: Vec::new(),
            };
            let Ok(answer) = asked.answer(&credential) else { continue };
            assert!(answer.is_empty() || answer.ends_with(b"\n"));
            assert!(!answer.iter().any(|byte| matches!(byte, 0 | b'\r')));
            let back = Asked::read(&answer).unwrap_or_else(|error| panic!("{error}"));
            let single = [back.host, back.protocol, back.path];
            assert!(single.iter().all(Option::is_none) && back.state.len() <= 1);
            if let Some(password) = back.password {
                assert!(password == presented.secret);
                assert_eq!(back.username.as_deref(), Some(credential.username.as_str()));
            }
        }
    }
}
