//! What an authorization server says about itself (RFC 8414, OpenID Connect Discovery), kept for
//! a day so that a renewal costs one request. A document counts only for the issuer that it names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::Failure;
use super::answer::cut;
use super::http::{Http, Unanswered};
use crate::clock::Clock;
use crate::disk;
use crate::environment::Environment;
use crate::error::{Error, Kind};
use crate::model::{Document, fingerprint, foreign_text};
use crate::profile::{Issuer, Profile, is_loopback, is_safe};
use crate::ui::Ui;

/// Seconds for which a document is believed.
pub(super) const LIFETIME: u64 = 24 * 60 * 60;
/// No document that was kept is young enough.
pub(super) const ASK_ANEW: u64 = 0;

pub(super) const AUTHORIZATION: &str = "authorization_endpoint";
pub(super) const TOKEN: &str = "token_endpoint";
pub(super) const DEVICE: &str = "device_authorization_endpoint";
pub(super) const REVOCATION: &str = "revocation_endpoint";
pub(super) const USERINFO: &str = "userinfo_endpoint";
pub(super) const REGISTRATION: &str = "registration_endpoint";
const PUSHED: &str = "pushed_authorization_request_endpoint";

/// An authorization server as far as a profile needs it.
#[derive(Debug, Default)]
pub(super) struct Server {
    /// As the server spells it, for comparison with `iss`.
    pub(super) issuer: Option<String>,
    pub(super) authorization: Option<Url>,
    token: Option<Url>,
    pub(super) device_authorization: Option<Url>,
    pub(super) revocation: Option<Url>,
    pub(super) userinfo: Option<Url>,
    /// Where a client makes itself known (RFC 7591).
    pub(super) registration: Option<Url>,
    /// Where an authorization request is left before the browser goes there (RFC 9126).
    pub(super) pushed: Option<Url>,
    /// It takes no other authorization requests.
    pub(super) requires_pushed: bool,
    /// A client id may be the URL of a document about the client.
    pub(super) takes_client_documents: bool,
    /// It promises `iss` in every redirect (RFC 9207 section 3).
    pub(super) promises_issuer: bool,
    /// `None`: it does not say how a client shows who it is at the token endpoint.
    pub(super) client_auth: Option<Vec<String>>,
    scopes: Vec<String>,
    /// `None`: it does not say which grants it takes.
    grants: Option<Vec<String>>,
    /// `None`: it does not say which PKCE methods it takes.
    challenge_methods: Option<Vec<String>>,
    /// What is wrong with the endpoints that are named and cannot be used.
    unusable: BTreeMap<&'static str, String>,
}

/// What an issuer published, as it is kept.
#[derive(Deserialize, Serialize)]
struct Cached {
    /// Unix time in seconds.
    fetched: u64,
    /// Each of its documents, as it came.
    documents: Vec<String>,
    /// Every place was asked, and said what there is.
    complete: bool,
}

impl Server {
    pub(super) fn token(&self) -> Result<Url, Failure> {
        self.token.clone().ok_or_else(|| {
            let what = match self.unusable.get(TOKEN) {
                Some(why) => format!("the authorization server's metadata cannot be used: {why}"),
                None => "the authorization server names no token endpoint".to_owned(),
            };
            let error = Error::new(Kind::Configuration, what);
            Failure::Other(error.hint("name token_endpoint in config.toml, or check issuer"))
        })
    }

    /// What is wrong with an endpoint that is named, as the end of a sentence; else nothing.
    pub(super) fn trouble(&self, name: &str) -> String {
        self.unusable.get(name).map(|why| format!(": {why}")).unwrap_or_default()
    }

    fn names(&self, name: &str) -> bool {
        match name {
            AUTHORIZATION => self.authorization.is_some(),
            TOKEN => self.token.is_some(),
            DEVICE => self.device_authorization.is_some(),
            REVOCATION => self.revocation.is_some(),
            USERINFO => self.userinfo.is_some(),
            REGISTRATION => self.registration.is_some(),
            _ => self.pushed.is_some(),
        }
    }

    /// What this document does not say, as another of the same issuer says it.
    fn or(self, other: Self) -> Self {
        let mut unusable = other.unusable;
        unusable.extend(self.unusable);
        let mut merged = Self {
            issuer: self.issuer.or(other.issuer),
            authorization: self.authorization.or(other.authorization),
            token: self.token.or(other.token),
            device_authorization: self.device_authorization.or(other.device_authorization),
            revocation: self.revocation.or(other.revocation),
            userinfo: self.userinfo.or(other.userinfo),
            registration: self.registration.or(other.registration),
            pushed: self.pushed.or(other.pushed),
            requires_pushed: self.requires_pushed || other.requires_pushed,
            takes_client_documents: self.takes_client_documents || other.takes_client_documents,
            promises_issuer: self.promises_issuer || other.promises_issuer,
            client_auth: self.client_auth.or(other.client_auth),
            scopes: if self.scopes.is_empty() { other.scopes } else { self.scopes },
            grants: self.grants.or(other.grants),
            challenge_methods: self.challenge_methods.or(other.challenge_methods),
            unusable: BTreeMap::new(),
        };
        unusable.retain(|name, _| !merged.names(name));
        merged.unusable = unusable;
        merged
    }

    /// Whether a person can sign in there at all.
    pub(super) fn is_usable(&self) -> bool {
        self.token.is_some()
            && (self.authorization.is_some() || self.device_authorization.is_some())
    }

    /// Whether it names the scope as one that may be asked for.
    pub(super) fn offers_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|offered| offered == scope)
    }

    /// Whether it takes the grant, as far as it says.
    pub(super) fn offers_grant(&self, grant: &str) -> bool {
        self.grants.as_ref().is_none_or(|grants| grants.iter().any(|offered| offered == grant))
    }

    /// RFC 7636 section 4.2: S256 or nothing.
    pub(super) fn takes_s256(&self) -> bool {
        let methods = self.challenge_methods.as_ref();
        methods.is_none_or(|methods| methods.iter().any(|method| method == "S256"))
    }
}

/// The profile's own endpoints, completed by what its issuer publishes. `wanted`: the endpoints for
/// which every place is asked.
pub(super) fn find(
    profile: &Profile,
    age: u64,
    wanted: &[&str],
    http: &Http<'_>,
    environment: &Environment,
    clock: &dyn Clock,
    ui: &Ui<'_>,
) -> Result<Server, Failure> {
    let own = &profile.endpoints;
    let own = Server {
        authorization: own.authorization.clone(),
        token: own.token.clone(),
        device_authorization: own.device_authorization.clone(),
        revocation: own.revocation.clone(),
        userinfo: own.userinfo.clone(),
        ..Server::default()
    };
    let Some(issuer) = &profile.issuer else { return Ok(own) };
    let wanted: Vec<&str> = wanted.iter().copied().filter(|name| !own.names(name)).collect();
    Ok(own.or(published(issuer, age, &wanted, http, environment, clock, ui)?))
}

/// What an issuer publishes about itself.
pub(super) fn published(
    issuer: &Issuer,
    age: u64,
    wanted: &[&str],
    http: &Http<'_>,
    environment: &Environment,
    clock: &dyn Clock,
    ui: &Ui<'_>,
) -> Result<Server, Failure> {
    let name = format!("{}.json", &fingerprint(issuer.url().as_str().as_bytes())[..32]);
    let path = environment.cache_directory().ok().map(|cache| cache.join("metadata").join(name));
    let cached = path
        .as_ref()
        .and_then(|path| disk::read(path).ok().flatten())
        .and_then(|content| serde_json::from_slice::<Cached>(&content).ok())
        .filter(|cached| {
            let now = clock.now();
            cached.fetched <= now && now - cached.fetched < age
        });
    if let Some(cached) = cached {
        let read = |text: &String| read(&Document::parse(text.as_bytes()).ok()?, issuer)?.ok();
        let servers: Option<Vec<_>> = cached.documents.iter().map(read).collect();
        if let Some(server) = servers.and_then(|servers| servers.into_iter().reduce(Server::or))
            && (cached.complete || wanted.iter().all(|name| server.names(name)))
        {
            return Ok(server);
        }
    }
    let (server, cached) = fetch(issuer, wanted, http, clock, ui)?;
    if let Some(path) = path {
        // A document that is not kept is fetched again.
        let _ = serde_json::to_vec(&cached).map(|content| disk::replace(&path, &content));
    }
    Ok(server)
}

/// RFC 8414 section 3.1 puts the well-known part between host and path, OpenID Connect Discovery
/// section 4 after the path.
fn locations(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url
    };
    let mut locations = vec![
        at(format!("/.well-known/oauth-authorization-server{path}")),
        at(format!("/.well-known/openid-configuration{path}")),
    ];
    if !path.is_empty() {
        locations.push(at(format!("{path}/.well-known/openid-configuration")));
    }
    locations
}

/// Asks one place after the other until all that is wanted is known. What goes wrong at one of them
/// is about that place alone; what the first document does not say, the next of the same issuer may.
fn fetch(
    issuer: &Issuer,
    wanted: &[&str],
    http: &Http<'_>,
    clock: &dyn Clock,
    ui: &Ui<'_>,
) -> Result<(Server, Cached), Failure> {
    let mut cached = Cached { fetched: clock.now(), documents: Vec::new(), complete: true };
    let mut found: Option<Server> = None;
    let (mut transient, mut strange) = (None, None);
    for location in locations(issuer.url()) {
        if let Some(server) = &found
            && server.names(TOKEN)
            && wanted.iter().all(|name| server.names(name))
        {
            cached.complete = false;
            break;
        }
        let answer = match http.look(&location) {
            Ok(answer) => answer,
            Err(Unanswered::Lost(error) | Unanswered::Garbled(error)) => {
                ui.log(|| format!("discover at {location}: {error}"));
                transient = transient.or(Some(error));
                continue;
            }
            // Nobody is there, and that is so for all that lies there.
            Err(Unanswered::Unreached(error)) if found.is_some() => {
                transient = transient.or(Some(error));
                break;
            }
            Err(failure) => return Err(failure.into()),
        };
        ui.log(|| format!("discover at {location}: {}", answer.status));
        match (answer.status, Document::parse(&answer.body)) {
            (200, Ok(document)) => match read(&document, issuer) {
                Some(Ok(server)) => {
                    cached.documents.push(foreign_text(&answer.body).into_owned());
                    found = Some(match found {
                        Some(found) => found.or(server),
                        None => server,
                    });
                }
                Some(Err(error)) => strange = strange.or(Some(error)),
                None => {}
            },
            (500.. | 429 | 408, _) => transient = transient.or(Some(answer.undecided())),
            // A site that answers every path with its front page has no document there either.
            _ => {}
        }
    }
    cached.complete &= transient.is_none();
    match (found, transient, strange) {
        (Some(server), Some(error), _) if !server.names(TOKEN) => Err(Failure::Transient(error)),
        (Some(server), _, _) => Ok((server, cached)),
        (None, Some(error), _) => Err(Failure::Transient(error)),
        (None, None, Some(error)) => Err(Failure::Other(error)),
        (None, None, None) => {
            let what = format!("{issuer} publishes no metadata");
            let hint = "check issuer in config.toml, or name the endpoints one by one";
            Err(Failure::Other(Error::new(Kind::Configuration, what).hint(hint)))
        }
    }
}

/// What a document says of this issuer. `None`: it is no metadata at all.
fn read(document: &Document, issuer: &Issuer) -> Option<Result<Server, Error>> {
    // Nobody was asked yet, so this is no refusal, and is tried again at once.
    let unusable = |what: String| {
        Some(Err(Error::new(Kind::Configuration, what).hint("check issuer in config.toml")))
    };
    let Some(name) = document.text("issuer") else {
        return match document.has("issuer") || document.has(TOKEN) {
            true => {
                let lacks = document.lacks("issuer");
                unusable(format!("the metadata of {issuer} cannot be understood: {lacks}"))
            }
            false => None,
        };
    };
    // Section 3.3: the document must name the very issuer that was asked for.
    if !issuer.is(name) {
        return unusable(format!("the metadata of {issuer} is that of {}", cut(name)));
    }
    let mut wrong = BTreeMap::new();
    let mut endpoint = |name: &'static str| {
        let Some(url) = document.url(name) else {
            if document.has(name) {
                wrong.insert(name, document.lacks(name));
            }
            return None;
        };
        if is_safe(&url) && !leads_inside(&url, issuer.url()) && !has_user(&url) {
            return Some(url);
        }
        let url = cut(url.as_str());
        wrong.insert(name, format!("{name} is {url}, where no token may go"));
        None
    };
    let server = Server {
        issuer: Some(name.to_owned()),
        authorization: endpoint(AUTHORIZATION),
        token: endpoint(TOKEN),
        device_authorization: endpoint(DEVICE),
        revocation: endpoint(REVOCATION),
        userinfo: endpoint(USERINFO),
        registration: endpoint(REGISTRATION),
        pushed: endpoint(PUSHED),
        requires_pushed: document.flag("require_pushed_authorization_requests"),
        takes_client_documents: document.flag("client_id_metadata_document_supported"),
        client_auth: document.list("token_endpoint_auth_methods_supported"),
        scopes: document.list("scopes_supported").unwrap_or_default(),
        grants: document.list("grant_types_supported"),
        promises_issuer: document.flag("authorization_response_iss_parameter_supported"),
        challenge_methods: document.list("code_challenge_methods_supported"),
        unusable: BTreeMap::new(),
    };
    Some(Ok(Server { unusable: wrong, ..server }))
}

/// Whether a server that has a name sends us to a bare address, or to this machine: nobody honest
/// does, and behind such an address may stand what only we can reach.
pub(super) fn leads_inside(endpoint: &Url, issuer: &Url) -> bool {
    let named = matches!(issuer.host(), Some(Host::Domain(_)));
    let bare = !matches!(endpoint.host(), Some(Host::Domain(_)));
    !is_loopback(issuer) && (is_loopback(endpoint) || (named && bare))
}

pub(super) fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// For fuzzing: a document of our issuer names endpoints that may have our tokens.
///
/// # Panics
/// When one does not.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    let Ok(document) = Document::parse(bytes) else { return };
    let Ok(issuer) = Issuer::new("https://auth.example") else { return };
    let Some(Ok(server)) = read(&document, &issuer) else { return };
    let Server { issuer, authorization, token, device_authorization, revocation, userinfo, .. } =
        server;
    let (registration, pushed) = (server.registration, server.pushed);
    assert!(issuer.is_some_and(|issuer| issuer.trim_end_matches('/') == "https://auth.example"));
    let all = [authorization, token, device_authorization, revocation, userinfo];
    let all = all.into_iter().chain([registration, pushed]);
    assert!(all.flatten().all(|url| url.scheme() == "https"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locations_of(issuer: &str) -> Vec<String> {
        locations(&Url::parse(issuer).unwrap()).iter().map(Url::to_string).collect()
    }

    #[test]
    fn the_well_known_part_goes_between_host_and_path() {
        assert_eq!(
            locations_of("https://a.example/t/"),
            [
                "https://a.example/.well-known/oauth-authorization-server/t",
                "https://a.example/.well-known/openid-configuration/t",
                "https://a.example/t/.well-known/openid-configuration",
            ]
        );
        assert_eq!(
            locations_of("https://a.example"),
            [
                "https://a.example/.well-known/oauth-authorization-server",
                "https://a.example/.well-known/openid-configuration",
            ]
        );
    }

    #[test]
    fn a_document_counts_only_for_its_own_issuer_and_over_tls() {
        let issuer = Issuer::new("https://a.example").unwrap();
        let read = |document: serde_json::Value| {
            read(&Document::parse(document.to_string().as_bytes()).unwrap(), &issuer)
        };
        let check = |document| read(document).is_some_and(|found| found.is_ok());
        assert!(check(serde_json::json!({"issuer": "https://a.example"})));
        assert!(check(serde_json::json!({"issuer": "https://a.example/"})));
        for issuer in ["https://b.example", "https://A.example", "https://a.example:443", ""] {
            assert!(!check(serde_json::json!({ "issuer": issuer })), "{issuer}");
        }
        for endpoint in [
            "http://a.example/token",
            "http://127.0.0.1/token",
            "https://localhost/token",
            "https://10.0.0.1/token",
            "https://169.254.169.254/token",
            "https://[fd00::1]/token",
            "https://[::ffff:10.0.0.1]/token",
            "https://a.example@b.example/token",
            "ftp://a.example",
            "/token",
            "",
        ] {
            for name in [TOKEN, REVOCATION] {
                let document = serde_json::json!({"issuer": "https://a.example", name: endpoint});
                let server = read(document).unwrap().unwrap();
                assert!(!server.names(name), "{endpoint}");
                assert!(server.trouble(name).contains(name), "{endpoint}");
            }
        }
    }

    #[test]
    fn the_next_document_fills_what_the_first_leaves_out() {
        let issuer = Issuer::new("https://a.example").unwrap();
        let read = |text: &str| {
            let text = format!("{{\"issuer\":\"https://a.example\",{text}}}");
            read(&Document::parse(text.as_bytes()).unwrap(), &issuer).unwrap().unwrap()
        };
        let first = read(r#""token_endpoint":"https://a.example/1","registration_endpoint":"""#);
        let next = read(
            r#""token_endpoint":"https://a.example/2","registration_endpoint":"https://a.example/3",
               "scopes_supported":["x"],"revocation_endpoint":"/r""#,
        );
        let both = first.or(next);
        assert_eq!(both.token().unwrap().path(), "/1");
        assert!(both.names(REGISTRATION) && both.offers_scope("x"));
        assert_eq!(both.trouble(REGISTRATION), "");
        assert_eq!(both.trouble(REVOCATION), ": revocation_endpoint is nothing that can be used");
    }
}
