//! git's credential helper protocol (git-credential(1), gitcredentials(7)), which is the native
//! line protocol too. Rules G1 to G30 of protocol.md.

use std::collections::HashSet;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Call, Dialect, Served, is_one_line};
use crate::error::{Error, Kind, Result};
use crate::model::{
    Caller, Credential, Form, Outcome, Presented, Proof, Request, Resource, Scheme, Secret, Verb,
};

/// Bytes of a line with its line end; git's own limit (rule G4).
const LINE: usize = 65_535;
/// Bytes of a request: far above what any caller sends (rule G4).
const REQUEST: u64 = 1 << 20;

/// What we ask a caller to bring back stands behind this (rule G20).
const STATE: &str = "valetkey:1:";

pub const DIALECT: Dialect = Dialect {
    name: "git",
    link: Some("git-credential-valetkey"),
    usage: "get|store|erase|capability",
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
            call.wire.send(b"version 0\ncapability authtype\ncapability state\n");
            return Ok(Served::default());
        }
        // gitcredentials(7): any other operation is ignored silently (rule G2).
        _ => return Ok(Served::default()),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    call.input
        .take(REQUEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refused("cannot be read").because(error))?;
    let asked = Asked::read(&bytes)?;
    let outcome = (call.ask)(&asked.request(verb)?);
    match (verb, outcome) {
        (_, Outcome::Failed(error)) => Err(error),
        (Verb::Get, Outcome::Found(credential)) if is_sayable(&credential) => {
            call.wire.send(&asked.answer(&credential));
            Ok(Served::default())
        }
        (Verb::Get, Outcome::NotFound(why)) => Ok(Served::nothing(Some(why))),
        (Verb::Get, _) => Ok(Served::nothing(None)),
        // What was not there need not be erased.
        (_, _) => Ok(Served::default()),
    }
}

/// Another dialect may have taken a secret of several lines, which would be attributes here.
fn is_sayable(credential: &Credential) -> bool {
    let refresh = credential.refresh.as_ref().map_or("", Secret::expose);
    [&credential.username, credential.secret.expose(), refresh].into_iter().all(is_one_line)
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
    /// `Usage` for what rules G4 to G9 refuse.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > REQUEST {
            return Err(refused("is longer than 1 MiB"));
        }
        let mut asked = Self::default();
        let mut seen = HashSet::new();
        for line in bytes.split(|byte| *byte == b'\n') {
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
                self.expires = text()?.parse().ok().filter(|expires| *expires != 0);
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

    /// git-credential(1): as if its parts had been given instead, and nothing before them.
    fn url(&mut self, text: &str) -> Result<()> {
        let wrong = |_| refused("has a URL that cannot be understood");
        let url = url::Url::parse(text).map_err(wrong)?;
        let Some(host) = url.host_str() else { return Err(refused("has a URL without a host")) };
        self.protocol = Some(url.scheme().to_owned());
        self.host = Some(match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        });
        let decode = |text: &str| {
            let query = format!("x={}", text.replace('+', "%2B"));
            let pair = url::form_urlencoded::parse(query.as_bytes()).next();
            pair.map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())
        };
        self.path = decode(url.path().trim_matches('/'));
        self.username = decode(url.username());
        self.password = url.password().and_then(decode).map(Secret::new);
        let unsafe_text = |text: &Option<String>| {
            text.as_ref().is_some_and(|text| text.contains(['\n', '\r', '\0']))
        };
        if unsafe_text(&self.path) || unsafe_text(&self.username) {
            return Err(refused("has a URL with a line end in it"));
        }
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
        let resource =
            Resource::new(protocol, host, self.path.as_deref(), self.username.as_deref())?;
        let refresh = self.refresh.clone().filter(|refresh| !refresh.is_empty());
        let presented = |secret: &Secret, authtype: Option<&String>| Presented {
            secret: secret.clone(),
            token: undressed(secret, authtype),
            authtype: authtype.cloned(),
            expires: self.expires,
            refresh: refresh.clone(),
            ephemeral: self.ephemeral,
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
    #[must_use]
    pub fn answer(&self, credential: &Credential) -> Zeroizing<Vec<u8>> {
        let Credential { username, secret, form, expires, proof, renewable, refresh } = credential;
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
            Form::Encoded(_) if encoded.is_none() => return lines.bytes,
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
        lines.bytes
    }
}

#[derive(Default)]
struct Lines {
    bytes: Zeroizing<Vec<u8>>,
}

impl Lines {
    fn add(&mut self, key: &str, value: &str) {
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
