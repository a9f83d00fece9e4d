//! What an authorization server says about itself (RFC 8414, OpenID Connect Discovery), kept for
//! a day so that a renewal costs one request. A document counts only for the issuer that it names.

use serde::Deserialize;
use url::{Host, Url};

use super::Failure;
use super::answer::cut;
use super::http::Http;
use crate::clock::Clock;
use crate::disk;
use crate::environment::Environment;
use crate::error::{Error, Kind};
use crate::model::fingerprint;
use crate::profile::{Profile, is_loopback, is_safe};
use crate::ui::Ui;

/// Seconds for which a document is believed.
pub(super) const LIFETIME: u64 = 24 * 60 * 60;
/// No document that was kept is young enough.
pub(super) const ASK_ANEW: u64 = 0;

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
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<Url>,
    token_endpoint: Option<Url>,
    device_authorization_endpoint: Option<Url>,
    revocation_endpoint: Option<Url>,
    userinfo_endpoint: Option<Url>,
    registration_endpoint: Option<Url>,
    pushed_authorization_request_endpoint: Option<Url>,
    #[serde(default)]
    require_pushed_authorization_requests: bool,
    #[serde(default)]
    client_id_metadata_document_supported: bool,
    scopes_supported: Option<Vec<String>>,
    grant_types_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    code_challenge_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize, serde::Serialize)]
struct Cached {
    /// Unix time in seconds.
    fetched: u64,
    document: serde_json::Value,
}

impl Server {
    pub(super) fn token(&self) -> Result<Url, Failure> {
        self.token.clone().ok_or_else(|| {
            let what = "the authorization server names no token endpoint";
            Failure::Other(Error::new(Kind::Configuration, what))
        })
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

/// The profile's own endpoints, completed by what its issuer publishes.
pub(super) fn find(
    profile: &Profile,
    age: u64,
    http: &Http<'_>,
    environment: &Environment,
    clock: &dyn Clock,
    ui: &Ui<'_>,
) -> Result<Server, Failure> {
    let own = &profile.endpoints;
    let published = match &profile.issuer {
        None => Server::default(),
        Some(issuer) => published(issuer, age, http, environment, clock, ui)?,
    };
    Ok(Server {
        authorization: own.authorization.clone().or(published.authorization),
        token: own.token.clone().or(published.token),
        device_authorization: own.device_authorization.clone().or(published.device_authorization),
        revocation: own.revocation.clone().or(published.revocation),
        userinfo: own.userinfo.clone().or(published.userinfo),
        ..published
    })
}

/// What an issuer publishes about itself.
pub(super) fn published(
    issuer: &Url,
    age: u64,
    http: &Http<'_>,
    environment: &Environment,
    clock: &dyn Clock,
    ui: &Ui<'_>,
) -> Result<Server, Failure> {
    let name = format!("{}.json", &fingerprint(issuer.as_str().as_bytes())[..32]);
    let path = environment.cache_directory().ok().map(|cache| cache.join("metadata").join(name));
    let cached = path
        .as_ref()
        .and_then(|path| disk::read(path).ok().flatten())
        .and_then(|content| serde_json::from_slice::<Cached>(&content).ok())
        .filter(|cached| {
            let now = clock.now();
            cached.fetched <= now && now - cached.fetched < age
        });
    if let Some(cached) = cached
        && let Ok(server) = read(&cached.document, issuer)
    {
        return Ok(server);
    }
    let document = fetch(issuer, http, ui)?;
    let server = read(&document, issuer)?;
    if let Some(path) = path {
        let cached = Cached { fetched: clock.now(), document };
        // A document that is not kept is fetched again.
        let _ = serde_json::to_vec(&cached).map(|content| disk::replace(&path, &content));
    }
    Ok(server)
}

/// RFC 8414 section 3.1 puts the well-known part between host and path, OpenID Connect Discovery
/// section 4 after the path; of the two, only "not there" makes us try the next.
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

fn fetch(issuer: &Url, http: &Http<'_>, ui: &Ui<'_>) -> Result<serde_json::Value, Failure> {
    for location in locations(issuer) {
        let answer = http.get(&location, None, &[])?;
        ui.log(|| format!("discover at {location}: {}", answer.status));
        match (answer.status, serde_json::from_slice(&answer.body)) {
            (200, Ok(document)) => return Ok(document),
            (500.. | 429, _) => return Err(answer.transient()),
            // A site that answers every path with its front page has no document there either.
            _ => {}
        }
    }
    let what = format!("{issuer} publishes no metadata");
    Err(Failure::Other(
        Error::new(Kind::Configuration, what)
            .hint("check issuer in config.toml, or name the endpoints one by one"),
    ))
}

fn read(document: &serde_json::Value, issuer: &Url) -> Result<Server, Failure> {
    // Nobody was asked yet, so this is no refusal, and is tried again at once.
    let unusable = |what: String| {
        let error = Error::new(Kind::Configuration, what);
        Failure::Other(error.hint("check issuer in config.toml"))
    };
    let document = Document::deserialize(document)
        .map_err(|_| unusable(format!("the metadata of {issuer} cannot be understood")))?;
    // Section 3.3: the document must name the very issuer that was asked for. A root's slash is
    // the URL parser's, not the issuer's.
    let asked = issuer.as_str();
    let same = document.issuer == asked
        || (issuer.path() == "/" && document.issuer == asked.trim_end_matches('/'));
    if !same {
        let what = format!("the metadata of {issuer} is that of {}", cut(&document.issuer));
        return Err(unusable(what));
    }
    let all = [
        &document.authorization_endpoint,
        &document.token_endpoint,
        &document.device_authorization_endpoint,
        &document.revocation_endpoint,
        &document.userinfo_endpoint,
        &document.registration_endpoint,
        &document.pushed_authorization_request_endpoint,
    ];
    for endpoint in all.into_iter().flatten() {
        if !is_safe(endpoint) || leads_inside(endpoint, issuer) || has_user(endpoint) {
            let endpoint = cut(endpoint.as_str());
            return Err(unusable(format!("the metadata of {issuer} names {endpoint}")));
        }
    }
    Ok(Server {
        issuer: Some(document.issuer),
        authorization: document.authorization_endpoint,
        token: document.token_endpoint,
        device_authorization: document.device_authorization_endpoint,
        revocation: document.revocation_endpoint,
        userinfo: document.userinfo_endpoint,
        registration: document.registration_endpoint,
        pushed: document.pushed_authorization_request_endpoint,
        requires_pushed: document.require_pushed_authorization_requests,
        takes_client_documents: document.client_id_metadata_document_supported,
        client_auth: document.token_endpoint_auth_methods_supported,
        scopes: document.scopes_supported.unwrap_or_default(),
        grants: document.grant_types_supported,
        promises_issuer: document.authorization_response_iss_parameter_supported,
        challenge_methods: document.code_challenge_methods_supported,
    })
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
    let Ok(document) = serde_json::from_slice(bytes) else { return };
    let Ok(issuer) = Url::parse("https://auth.example") else { return };
    let Ok(server) = read(&document, &issuer) else { return };
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
        let issuer = Url::parse("https://a.example").unwrap();
        let check = |document: serde_json::Value| read(&document, &issuer).is_ok();
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
        ] {
            let document =
                serde_json::json!({"issuer": "https://a.example", "token_endpoint": endpoint});
            assert!(!check(document), "{endpoint}");
        }
    }
}
