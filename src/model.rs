//! The nouns that every room shares. No input or output happens here, and nothing here knows a
//! provider, a dialect or a disk.

mod document;
mod resource;
mod secret;
mod split;
mod text;
pub mod timestamp;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::error::Error;
pub use document::{Document, Malformed, foreign_text};
pub use resource::{Issuer, Key, Offer, Place, Resource};
pub use secret::{Secret, fingerprint};
pub use split::{Split, decoded, is_below, is_plain_path};
pub use text::{json, one_line, sanitize};

/// Which store is used first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreChoice {
    /// The keychain where there is one, else files.
    #[default]
    Auto,
    Keychain,
    File,
    /// Sealed files, with the key file if one is named.
    Encrypted(Option<String>),
    /// The program `docker-credential-NAME`.
    Helper(String),
}

/// What a token endpoint issued. It never leaves broker, oauth and vault.
#[derive(Clone, Debug)]
pub struct TokenSet {
    /// The ID token, where a host of the profile wants that one (OpenID Connect Core section 2).
    pub identity: Option<Identity>,
    /// `None` after the server rejected it: the refresh token may still be good.
    pub access: Option<Secret>,
    pub refresh: Option<Secret>,
    /// Unix time in seconds. `None`: the server did not say (RFC 6749 section 5.1).
    pub expires: Option<u64>,
    pub scope: Option<String>,
}

/// An ID token and its `exp`, in seconds of Unix time.
#[derive(Clone, Debug)]
pub struct Identity {
    pub token: Secret,
    pub expires: u64,
}

/// What one host gave for a token of the session, and takes in its place.
#[derive(Clone, Debug)]
pub struct Exchanged {
    /// The URL that gave it: it is for nobody else.
    pub origin: String,
    pub token: Secret,
    /// Unix time in seconds.
    pub expires: u64,
}

/// Which token of a session a host takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    #[default]
    Access,
    Id,
}

/// Who an account belongs to, for people to read: nobody gets a token for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// What the provider calls the account, where we keep it under another name.
    pub id: Option<String>,
    pub name: Option<String>,
    pub email: Option<String>,
}

/// What a profile sends beside a token, such as a tenant: its names and their values.
pub type Fields = BTreeMap<String, String>;

/// One signed-in account.
#[derive(Clone, Debug)]
pub struct Session {
    pub key: Key,
    /// As the provider told at the sign-in.
    pub holder: Holder,
    pub fields: Fields,
    /// The issuer, or the token endpoint where no issuer is known: the only place that the
    /// refresh token may be sent to.
    pub authority: String,
    pub tokens: TokenSet,
    /// Unix time in seconds of the sign-in and of the last renewal.
    pub signed_in: u64,
    pub renewed: u64,
    /// As `Record::chosen`.
    pub chosen: u64,
    /// What registries gave for the access token.
    pub exchanged: Vec<Exchanged>,
    /// Fingerprints of the access tokens before this one, newest first.
    pub former: Vec<String>,
}

impl Session {
    /// How many former access tokens are remembered: enough for a late `store` or `erase` of a
    /// command that started before a renewal.
    const MEMORY: usize = 8;

    /// The token of this kind, if it is good for at least `margin` more seconds, or for half of its
    /// life where that is less: no renewal brings more, and without this bound each call would renew
    /// a token whose whole life is not much longer than the margin.
    #[must_use]
    pub fn fresh(&self, kind: TokenKind, now: u64, margin: u64) -> Option<&Secret> {
        let expires = self.expires(kind);
        let life = expires.map_or(u64::MAX, |end| end.saturating_sub(self.renewed));
        let margin = margin.min(life / 2);
        let in_time = expires.is_none_or(|expires| expires > now.saturating_add(margin));
        self.token(kind).filter(|_| in_time && !self.is_from_the_future(now))
    }

    /// A clock that went back makes every expiry look far away.
    #[must_use]
    pub fn is_from_the_future(&self, now: u64) -> bool {
        self.renewed > now + 300
    }

    /// The token of this kind, whatever its age.
    #[must_use]
    pub fn token(&self, kind: TokenKind) -> Option<&Secret> {
        match kind {
            TokenKind::Access => self.tokens.access.as_ref(),
            TokenKind::Id => self.tokens.identity.as_ref().map(|identity| &identity.token),
        }
    }

    /// Unix time in seconds at which the token of this kind ends.
    #[must_use]
    pub fn expires(&self, kind: TokenKind) -> Option<u64> {
        match kind {
            TokenKind::Access => self.tokens.expires,
            TokenKind::Id => self.tokens.identity.as_ref().map(|identity| identity.expires),
        }
    }

    /// Whether `secret` is, or was, a token of this session.
    #[must_use]
    pub fn knows(&self, secret: &Secret) -> bool {
        self.holds(&secret.fingerprint()) || self.former.contains(&secret.fingerprint())
    }

    /// Whether a token with this fingerprint is the session's now.
    #[must_use]
    pub fn holds(&self, fingerprint: &str) -> bool {
        let now = [TokenKind::Access, TokenKind::Id].map(|kind| self.token(kind));
        let exchanged = self.exchanged.iter().map(|exchanged| &exchanged.token);
        let mut all = now.into_iter().flatten().chain(exchanged);
        all.any(|token| token.fingerprint() == fingerprint)
    }

    /// Takes what a refresh answered. A refresh token that was not replaced stays valid
    /// (RFC 6749 section 6), and so does an ID token (OpenID Connect Core section 12.2).
    pub fn renew(&mut self, tokens: TokenSet, now: u64) {
        let identity = tokens.identity.clone().or_else(|| self.tokens.identity.clone());
        self.forget_access();
        let refresh = tokens.refresh.clone().or_else(|| self.tokens.refresh.take());
        let scope = tokens.scope.clone().or_else(|| self.tokens.scope.take());
        self.tokens = TokenSet { identity, refresh, scope, ..tokens };
        self.renewed = now;
    }

    /// As it is written where no token that hosts get may be.
    #[must_use]
    pub fn without_access(&self) -> Self {
        let mut kept = self.clone();
        kept.forget_access();
        kept.tokens.expires = None;
        kept
    }

    /// Drops the tokens that hosts get, and remembers that they were ours.
    pub fn forget_access(&mut self) {
        let identity = self.tokens.identity.take().map(|identity| identity.token);
        let exchanged = self.exchanged.drain(..).map(|exchanged| exchanged.token);
        let tokens = [self.tokens.access.take(), identity].into_iter().flatten();
        for token in tokens.chain(exchanged) {
            self.former.insert(0, token.fingerprint());
        }
        self.former.truncate(Self::MEMORY);
    }
}

/// A URL below which one account answers.
#[derive(Clone, Debug)]
pub struct Bound {
    pub url: String,
    /// Whether only clients of container registries, or of AWS, need what is kept for it.
    pub registry: bool,
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
    pub holder: Holder,
    pub fields: Fields,
    /// Whether a client of container registries handed it over.
    pub registry: bool,
    /// Unix time in seconds.
    pub stored: u64,
    /// As `Record::chosen`.
    pub chosen: u64,
}

impl Static {
    /// Whether time has ended it.
    #[must_use]
    pub fn has_ended(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
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

    #[must_use]
    pub fn holder(&self) -> &Holder {
        match self {
            Self::Session(session) => &session.holder,
            Self::Static(entry) => &entry.holder,
        }
    }

    /// The account for a person to read: the name that it is kept under, and beside it the
    /// provider's where that is another one. Empty where nobody has said either.
    #[must_use]
    pub fn whose(&self) -> String {
        match (self.key().account.as_str(), &self.holder().id) {
            (account, Some(id)) if account != id => format!("{account} ({id})"),
            (account, _) => account.to_owned(),
        }
    }

    #[must_use]
    pub fn fields(&self) -> &Fields {
        match self {
            Self::Session(session) => &session.fields,
            Self::Static(entry) => &entry.fields,
        }
    }

    pub fn fields_mut(&mut self) -> &mut Fields {
        match self {
            Self::Session(session) => &mut session.fields,
            Self::Static(entry) => &mut entry.fields,
        }
    }

    /// Sets `chosen`.
    pub fn choose(&mut self, time: u64) {
        match self {
            Self::Session(session) => session.chosen = time,
            Self::Static(entry) => entry.chosen = time,
        }
    }

    /// Unix time in seconds at which a person or a tool chose it, 0 for never; the newest answers
    /// a request that names no account.
    #[must_use]
    pub fn chosen(&self) -> u64 {
        match self {
            Self::Session(session) => session.chosen,
            Self::Static(entry) => entry.chosen,
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
    /// What the host wants to hear beside it, for callers that can carry headers.
    pub fields: Vec<Sent>,
}

/// A field of a profile on its way to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub name: String,
    pub header: String,
    /// `None`: nobody has said it yet, and nothing is sent.
    pub value: Option<String>,
}

impl Sent {
    /// Whether a value can be one of a header: visible, and no longer than a person reads.
    #[must_use]
    pub fn takes(value: &str) -> bool {
        (1..=200).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

impl Credential {
    /// The headers of the fields that have a value.
    pub fn more_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().filter_map(|sent| Some((sent.header.as_str(), sent.value.as_deref()?)))
    }

    /// The HTTP header that presents it, as name and value.
    #[must_use]
    pub fn header(&self) -> (&'static str, Secret) {
        let value = |scheme: &str, value: &str| Secret::new(format!("{scheme} {value}"));
        let secret = self.secret.expose();
        match &self.form {
            Form::Token(Scheme::Bearer) => ("Authorization", value("Bearer", secret)),
            Form::Token(Scheme::PrivateToken) => ("PRIVATE-TOKEN", self.secret.clone()),
            Form::Encoded(authtype) => ("Authorization", value(authtype, secret)),
            Form::Token(Scheme::Basic) | Form::Password => {
                ("Authorization", value("Basic", self.basic().expose()))
            }
        }
    }

    /// User name and secret as RFC 7617 section 2 encodes them.
    #[must_use]
    pub fn basic(&self) -> Secret {
        let pair = Zeroizing::new(format!("{}:{}", self.username, self.secret.expose()));
        Secret::new(STANDARD.encode(pair.as_bytes()))
    }
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
    /// As `Get`, of a caller whose host refused what it had before, and who cannot say what it was.
    Again,
    /// What `get` would answer at once: no network, no question.
    Cached,
    Store,
    /// As `Store`, of what a person pastes now.
    Paste,
    Erase,
    /// The registries of container images that a `get` would answer, by origin; never a sign-in.
    List,
}

/// Who stands behind a request, and so whether a person may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// git and its like: their settings about prompting are honoured.
    Git,
    /// A tool that waits for as long as a person needs.
    Patient,
    /// A tool whose output nobody sees: only a person before a screen can be asked.
    Hidden,
    /// A tool whose protocol leaves no time for a sign-in.
    Hasty,
    /// As `Hasty`, of a tool that ends us after ten seconds.
    Brief,
    /// A person who typed a command of ours.
    Person,
}

impl Caller {
    /// How long a server, and another process, may take to renew what has ended.
    #[must_use]
    pub fn patience(self) -> Duration {
        match self {
            // Two seconds for all that is no waiting.
            Self::Brief => Duration::from_secs(8),
            // A whole exchange, and then some.
            _ => Duration::from_secs(35),
        }
    }

    /// Whether nobody may be asked, whoever is there.
    #[must_use]
    pub fn asks_nobody(self) -> bool {
        matches!(self, Self::Hasty | Self::Brief)
    }
}

/// One question, in nobody's dialect.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: Verb,
    pub resource: Resource,
    pub caller: Caller,
    /// Seconds for which the answer must be good, where the dialect cannot say when it ends.
    pub lifetime: u64,
    /// What `store` hands over and `erase` rejects.
    pub presented: Option<Presented>,
    /// The token of ours that the caller still holds: on `get`, the one that was rejected.
    pub proof: Option<Proof>,
}

impl Request {
    /// A `get` of a caller that brings nothing back. `lifetime` as in the field.
    #[must_use]
    pub fn get(resource: Resource, caller: Caller, lifetime: u64) -> Self {
        Self { verb: Verb::Get, resource, caller, lifetime, presented: None, proof: None }
    }
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
    /// The caller is a client of container registries.
    pub registry: bool,
}

impl Presented {
    /// A secret that came without anything else.
    #[must_use]
    pub fn alone(secret: Secret) -> Self {
        let token = secret.clone();
        Self {
            secret,
            token,
            authtype: None,
            expires: None,
            refresh: None,
            ephemeral: false,
            registry: false,
        }
    }
}

/// What became of a request. Every dialect says each of these in its own bytes.
#[derive(Debug)]
pub enum Outcome {
    Found(Box<Credential>),
    Done,
    /// Origins and user names, of `List`.
    Listed(Vec<(String, String)>),
    /// Ours to answer, and nothing to give.
    NotFound(Error),
    /// Let the next helper try.
    NotMine,
    Failed(Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_from_the_future_is_not_fresh() {
        let tokens = TokenSet {
            identity: None,
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
            holder: Holder::default(),
            fields: Fields::new(),
            authority: String::new(),
            tokens,
            signed_in: 100,
            renewed: 100,
            chosen: 100,
            exchanged: Vec::new(),
            former: Vec::new(),
        };
        assert!(session.fresh(TokenKind::Access, 100, 60).is_some());
        assert!(session.fresh(TokenKind::Access, 9_950, 60).is_none());
        session.renewed = 5_000;
        assert!(session.fresh(TokenKind::Access, 100, 60).is_none());
    }
}
