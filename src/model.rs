//! The nouns that every room shares. No input or output happens here, and nothing here knows a
//! provider, a dialect or a disk.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};

/// Text that must not be seen: it has no Display and no Serialize, its Debug is redacted, and it
/// is wiped when dropped. `expose` stands only where the bytes must leave.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Lower-case hexadecimal SHA-256: what may be shown or remembered of a token that is gone.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(self.0.as_bytes())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The prefix that a provider chose so that its tokens are recognised: it may be shown.
    #[must_use]
    pub fn known_prefix(&self) -> Option<&'static str> {
        const KNOWN: &[&str] = &[
            "github_pat_",
            "ghp_",
            "gho_",
            "ghu_",
            "ghs_",
            "ghr_",
            "glpat-",
            "gldt-",
            "glcbt-",
            "hf_",
            "pypi-",
            "npm_",
            "dckr_pat_",
            "ATATT",
            "ATCTT",
        ];
        KNOWN.iter().find(|prefix| self.0.starts_with(**prefix)).copied()
    }
}

/// Equality by digest: the time it takes says nothing about where two secrets differ.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        Sha256::digest(self.0.as_bytes()) == Sha256::digest(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[secret]")
    }
}

/// Lower-case hexadecimal SHA-256.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> String {
    use fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a caller wants a credential for, normalised: protocol and host in lower case, the host in
/// ASCII, without the scheme's own port and without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub protocol: String,
    /// Host with its port, if that is not the protocol's own. Empty for protocols without hosts.
    pub host: String,
    /// Without slashes at either end. `None`: the caller did not say.
    pub path: Option<String>,
    /// The user name that the caller asked for.
    pub account: Option<String>,
}

impl Resource {
    /// Checks and normalises what a caller sent.
    ///
    /// # Errors
    /// `Usage` when the protocol or the host cannot be one.
    pub fn new(
        protocol: &str,
        host: &str,
        path: Option<&str>,
        account: Option<&str>,
    ) -> Result<Self> {
        let refuse = |what: &str| Err(Error::new(Kind::Usage, what));
        let protocol = protocol.to_ascii_lowercase();
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if protocol.is_empty() || !protocol.bytes().all(letter) {
            return refuse("the request names no usable protocol");
        }
        let web = matches!(protocol.as_str(), "http" | "https");
        if web && host.is_empty() {
            return refuse("the request names no host");
        }
        let host = if host.is_empty() { String::new() } else { normal_host(&protocol, host)? };
        let path = path.map(|path| path.trim_matches('/').to_owned());
        Ok(Self { protocol, host, path, account: account.map(str::to_owned) })
    }

    /// Reads an absolute URL, or a bare host, which then means `https`.
    ///
    /// # Errors
    /// `Usage` when it is neither.
    pub fn parse(text: &str) -> Result<Self> {
        let (protocol, rest) = text.split_once("://").unwrap_or(("https", text));
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path.trim_matches('/'))),
            None => (rest, None),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err(Error::new(Kind::Usage, "the URL holds a password")
                .hint("leave it out: `valetkey login` asks for what is needed"));
        }
        let user = user.filter(|user| !user.is_empty());
        Self::new(protocol, host, path.filter(|path| !path.is_empty()), user)
    }

    /// Scheme, host and port: the unit that a credential is bound to.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.protocol, self.host)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}", self.protocol, self.host)?;
        match &self.path {
            Some(path) => write!(out, "/{path}"),
            None => Ok(()),
        }
    }
}

fn normal_host(protocol: &str, text: &str) -> Result<String> {
    let refuse = || Error::new(Kind::Usage, "the request's host is not a host name");
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && !name.is_empty() => (name, Some(port)),
        _ => (text, None),
    };
    let mut name = if name.is_ascii() {
        name.to_ascii_lowercase()
    } else {
        url::Host::parse(name).map_err(|_| refuse())?.to_string()
    };
    if name.ends_with('.') {
        name.pop();
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~".contains(&byte);
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let usable = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.bytes().all(plain),
    };
    if !usable {
        return Err(refuse());
    }
    match port {
        None | Some("") => Ok(name),
        Some(port) => match (protocol, port.parse::<u16>()) {
            ("https", Ok(443)) | ("http", Ok(80)) => Ok(name),
            (_, Ok(number)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(format!("{name}:{number}"))
            }
            _ => Err(refuse()),
        },
    }
}

/// Where a record belongs: everything in one place may answer the same requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The sessions of the profile of this name.
    Profile(String),
    /// What tools handed over for one origin.
    Origin(String),
}

/// Identifies one record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub place: Place,
    /// The client that the tokens were issued to, and that alone may refresh them. Empty for what
    /// a tool handed over.
    pub client_id: String,
    /// Empty when the provider has no notion of one, or it could not be learned.
    pub account: String,
    /// Only for what a tool handed over with a path.
    pub path: Option<String>,
}

impl Place {
    /// The spelled-out, versioned name; rule V1 of protocol.md.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Profile(name) => format!("valetkey/1 profile={}", escape(name)),
            Self::Origin(origin) => format!("valetkey/1 origin={}", escape(origin)),
        }
    }

    /// As `Key::digest`.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.text())
    }
}

impl Key {
    /// The place's name followed by what is particular to this record, sorted; rule V1 of
    /// protocol.md.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{} account={}", self.place.text(), escape(&self.account));
        if !self.client_id.is_empty() {
            text.push_str(" client=");
            text.push_str(&escape(&self.client_id));
        }
        if let Some(path) = &self.path {
            text.push_str(" path=");
            text.push_str(&escape(path));
        }
        text
    }

    /// The first 32 hexadecimal digits of the SHA-256 of `text`: the name of files about it.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.text())
    }
}

fn digest(text: &str) -> String {
    let mut digest = fingerprint(text.as_bytes());
    digest.truncate(32);
    digest
}

/// Percent-encodes what would make a key ambiguous.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, letter| {
        if letter <= ' ' || letter == '%' || letter == '=' || letter == '\x7f' {
            escaped.push_str(&format!("%{:02X}", u32::from(letter)));
        } else {
            escaped.push(letter);
        }
        escaped
    })
}

/// Which store is used first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreChoice {
    /// The keychain where there is one, else files.
    #[default]
    Auto,
    Keychain,
    File,
    /// The program `docker-credential-NAME`.
    Helper(String),
}

/// What a token endpoint issued. It never leaves broker, oauth and vault.
#[derive(Clone, Debug)]
pub struct TokenSet {
    /// `None` after the server rejected it: the refresh token may still be good.
    pub access: Option<Secret>,
    pub refresh: Option<Secret>,
    /// Unix time in seconds. `None`: the server did not say (RFC 6749 section 5.1).
    pub expires: Option<u64>,
    pub scope: Option<String>,
}

/// One signed-in account.
#[derive(Clone, Debug)]
pub struct Session {
    pub key: Key,
    /// The issuer, or the token endpoint where no issuer is known: the only place that the
    /// refresh token may be sent to.
    pub authority: String,
    pub tokens: TokenSet,
    /// Unix time in seconds of the sign-in and of the last renewal.
    pub signed_in: u64,
    pub renewed: u64,
    /// Fingerprints of the access tokens before this one, newest first.
    pub former: Vec<String>,
}

impl Session {
    /// How many former access tokens are remembered: enough for a late `store` or `erase` of a
    /// command that started before a renewal.
    const MEMORY: usize = 8;

    /// The access token, if it is good for at least `margin` more seconds.
    #[must_use]
    pub fn fresh(&self, now: u64, margin: u64) -> Option<&Secret> {
        // A clock that went back makes every expiry look far away.
        let from_the_future = self.renewed > now + 300;
        let in_time = self.tokens.expires.is_none_or(|expires| expires > now + margin);
        self.tokens.access.as_ref().filter(|_| in_time && !from_the_future)
    }

    /// Whether `secret` is, or was, this session's access token.
    #[must_use]
    pub fn knows(&self, secret: &Secret) -> bool {
        self.holds(secret) || self.former.contains(&secret.fingerprint())
    }

    /// Whether `secret` is the access token now.
    #[must_use]
    pub fn holds(&self, secret: &Secret) -> bool {
        self.tokens.access.as_ref() == Some(secret)
    }

    /// Takes what a refresh answered. A refresh token that was not replaced stays valid
    /// (RFC 6749 section 6).
    pub fn renew(&mut self, tokens: TokenSet, now: u64) {
        self.forget_access();
        let refresh = tokens.refresh.clone().or_else(|| self.tokens.refresh.take());
        let scope = tokens.scope.clone().or_else(|| self.tokens.scope.take());
        self.tokens = TokenSet { refresh, scope, ..tokens };
        self.renewed = now;
    }

    /// Drops the access token and remembers that it was ours.
    pub fn forget_access(&mut self) {
        if let Some(access) = self.tokens.access.take() {
            self.former.insert(0, access.fingerprint());
            self.former.truncate(Self::MEMORY);
        }
    }
}

/// A password or personal access token that a tool or a person handed over.
#[derive(Clone, Debug)]
pub struct Static {
    pub key: Key,
    pub secret: Secret,
    /// When the secret is a pre-encoded value for this Authorization scheme.
    pub authtype: Option<String>,
    /// Unix time in seconds.
    pub expires: Option<u64>,
    /// The refresh token of another generator, given back as it came.
    pub refresh: Option<Secret>,
    /// Unix time in seconds.
    pub stored: u64,
}

/// One item of the vault.
#[derive(Clone, Debug)]
pub enum Record {
    Session(Session),
    Static(Static),
}

impl Record {
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Session(session) => &session.key,
            Self::Static(entry) => &entry.key,
        }
    }

    /// Unix time in seconds at which a person or a tool chose it; the newest answers a request
    /// that names no account.
    #[must_use]
    pub fn chosen(&self) -> u64 {
        match self {
            Self::Session(session) => session.signed_in,
            Self::Static(entry) => entry.stored,
        }
    }
}

/// How a host takes a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    #[default]
    Basic,
    Bearer,
    /// In a header of its own, as GitLab's API does; git takes it as the password of Basic.
    PrivateToken,
}

/// What a caller may see. It is made from a session without its refresh token.
#[derive(Clone, Debug)]
pub struct Credential {
    pub username: String,
    pub secret: Secret,
    pub form: Form,
    /// Unix time in seconds.
    pub expires: Option<u64>,
    /// Present for an access token of a session of ours.
    pub proof: Option<Proof>,
    /// Another answer could follow if the host rejects this one.
    pub renewable: bool,
    /// The refresh token that another generator left with us; never one of our sessions'.
    pub refresh: Option<Secret>,
}

/// How the secret is to be presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A token; the scheme is how its host takes it.
    Token(Scheme),
    /// A user name and password, as somebody handed them over.
    Password,
    /// A ready value for the named Authorization scheme, as somebody handed it over.
    Encoded(String),
}

/// Names a session and one of its access tokens without giving either away: the caller carries it
/// from one call to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// `Place::digest` of the session.
    pub place: String,
    /// `Key::digest` of the session.
    pub key: String,
    /// Fingerprint of the access token.
    pub token: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Store,
    Erase,
}

/// Who stands behind a request, and so whether a person may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// git and its like: their settings about prompting are honoured.
    Git,
    /// A tool whose protocol leaves no time for a sign-in.
    Hasty,
    /// A person who typed a command of ours.
    Person,
}

/// One question, in nobody's dialect.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: Verb,
    pub resource: Resource,
    pub caller: Caller,
    /// What `store` hands over and `erase` rejects.
    pub presented: Option<Presented>,
    /// The token of ours that the caller still holds: on `get`, the one that was rejected.
    pub proof: Option<Proof>,
}

#[derive(Clone, Debug)]
pub struct Presented {
    /// As it was handed over.
    pub secret: Secret,
    /// The same without the dress that Basic gives it: what a session of ours would know.
    pub token: Secret,
    /// The Authorization scheme that `secret` is a ready value for.
    pub authtype: Option<String>,
    /// Unix time in seconds.
    pub expires: Option<u64>,
    pub refresh: Option<Secret>,
    /// The caller asks that it not be kept.
    pub ephemeral: bool,
}

/// What became of a request. Every dialect says each of these in its own bytes.
#[derive(Debug)]
pub enum Outcome {
    Found(Box<Credential>),
    Done,
    /// Ours to answer, and nothing to give.
    NotFound(Error),
    /// Let the next helper try.
    NotMine,
    Failed(Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> String {
        Resource::parse(text).map_or_else(|error| error.what, |resource| resource.origin())
    }

    #[test]
    fn hosts_are_normalised_before_anything_is_compared() {
        assert_eq!(origin("https://Example.COM:443/a"), "https://example.com");
        assert_eq!(origin("https://example.com.:8443"), "https://example.com:8443");
        assert_eq!(origin("http://example.com:80"), "http://example.com");
        assert_eq!(origin("http://example.com:443"), "http://example.com:443");
        assert_eq!(origin("https://b\u{fc}cher.example"), "https://xn--bcher-kva.example");
        assert_eq!(origin("https://[::1]:8443/"), "https://[::1]:8443");
        assert_eq!(origin("example.com"), "https://example.com");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "https://",
            "https://a b",
            "https://a%20b",
            "https://exa\\mple",
            "https://example.com:99999",
            "https://example.com:+1",
            "https://[zz]",
            "https://x\u{200b}\u{2028}.example/",
            "https://user@",
            "ht tp://example.com",
        ] {
            assert!(Resource::parse(text).is_err(), "{text}");
        }
        assert!(Resource::parse("https://user:secret@example.com").is_err());
    }

    #[test]
    fn keys_are_spelled_out_and_pinned() {
        let key = |place, client_id: &str, account: &str, path: Option<&str>| Key {
            place,
            client_id: client_id.into(),
            account: account.into(),
            path: path.map(str::to_owned),
        };
        let session = key(Place::Profile("acme".into()), "id 1", "a=b", None);
        assert_eq!(session.text(), "valetkey/1 profile=acme account=a%3Db client=id%201");
        assert_eq!(session.digest(), "10b7cac1bdfd8d24e00efe4a0a0fe60d");
        let place = Place::Origin("https://example.com".into());
        let handed = key(place, "", "", Some("team/s.git"));
        assert_eq!(handed.text(), "valetkey/1 origin=https://example.com account= path=team/s.git");
    }

    #[test]
    fn secrets_do_not_show() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[secret]");
        assert!(Secret::new("a") == Secret::new("a") && Secret::new("a") != Secret::new("b"));
    }

    #[test]
    fn a_session_from_the_future_is_not_fresh() {
        let tokens = TokenSet {
            access: Some(Secret::new("a")),
            refresh: None,
            expires: Some(10_000),
            scope: None,
        };
        let key = Key {
            place: Place::Profile("x".into()),
            client_id: String::new(),
            account: String::new(),
            path: None,
        };
        let mut session = Session {
            key,
            authority: String::new(),
            tokens,
            signed_in: 100,
            renewed: 100,
            former: Vec::new(),
        };
        assert!(session.fresh(100, 60).is_some());
        assert!(session.fresh(9_950, 60).is_none());
        session.renewed = 5_000;
        assert!(session.fresh(100, 60).is_none());
    }
}
