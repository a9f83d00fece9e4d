//! Who we are to a server that nobody told about us: the URL of a document about us, or a client
//! that we register (RFC 7591). A registration is kept for the issuer that made it, and never shown
//! to another one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::answer::{parse_answer, refused, said};
use super::http::Answer;
use super::metadata::Server;
use super::{Failure, Oauth, Options, device};
use crate::disk;
use crate::error::{Error, Kind};
use crate::model::fingerprint;
use crate::profile::{Flow, Profile, Redirect};

const CODE: &str = "authorization_code";
const REFRESH: &str = "refresh_token";

/// The client of one sign-in.
pub(super) struct Client {
    pub(super) id: String,
    pub(super) redirect: Redirect,
    /// It was registered at an earlier sign-in, and may be gone by now.
    pub(super) kept: bool,
}

/// A registration as it is kept.
#[derive(Deserialize, Serialize)]
struct Kept {
    issuer: Url,
    client_id: String,
    redirect_uris: Vec<String>,
    grant_types: Vec<String>,
    /// Unix time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

/// The members of RFC 7591 section 3.2 that mean something to us.
#[derive(Deserialize)]
struct Registered {
    client_id: Option<String>,
    token_endpoint_auth_method: Option<String>,
    /// Zero: never.
    client_secret_expires_at: Option<u64>,
    error: Option<String>,
    error_description: Option<String>,
}

impl Oauth<'_> {
    /// The client to sign in with: the user's own, else a document about us where the server takes
    /// one, else one that we registered or register now.
    pub(super) fn client(
        &self,
        profile: &Profile,
        options: &Options,
        server: &Server,
        flow: Flow,
    ) -> Result<Client, Failure> {
        let known = |id: &str| {
            Ok(Client { id: id.to_owned(), redirect: profile.redirect.clone(), kept: false })
        };
        if !profile.client_id.is_empty() && profile.lacks_secret() {
            return Err(Failure::Other(profile.no_client()));
        }
        if !profile.client_id.is_empty() {
            return known(&profile.client_id);
        }
        if let Some(url) =
            options.client_metadata.as_ref().filter(|_| server.takes_client_documents)
        {
            return known(url.as_str());
        }
        match (&profile.issuer, &server.registration) {
            (Some(issuer), Some(endpoint)) => {
                self.registered(profile, server, flow, issuer, endpoint)
            }
            _ => Err(Failure::Other(profile.no_client())),
        }
    }

    fn registered(
        &self,
        profile: &Profile,
        server: &Server,
        flow: Flow,
        issuer: &Url,
        endpoint: &Url,
    ) -> Result<Client, Failure> {
        let redirect = redirect_of(profile, issuer);
        let redirect_uris = redirect_uris(&redirect);
        let needed = if flow == Flow::Device { device::GRANT } else { CODE };
        let kept = self.kept(issuer).filter(|kept| {
            let alive = kept.expires.is_none_or(|expires| expires > self.clock.now());
            let fits = kept.grant_types.iter().any(|grant| grant == needed);
            alive && fits && kept.redirect_uris == redirect_uris
        });
        if let Some(Kept { client_id: id, .. }) = kept {
            return Ok(Client { id, redirect, kept: true });
        }
        let wanted = |grant_types: Vec<String>| Kept {
            issuer: issuer.clone(),
            client_id: String::new(),
            redirect_uris: redirect_uris.clone(),
            grant_types,
            expires: None,
        };
        let grants = grant_types(server, needed);
        let several = grants.len() > 2;
        let registration = match self.register(profile, endpoint, wanted(grants)) {
            // Some servers have one way in for each client (django-oauth-toolkit).
            Err(Failure::Other(error)) if several && error.kind == Kind::Rejected => {
                self.ui.log(|| format!("{}; trying with {needed} alone", error.what));
                let grants = vec![needed.to_owned(), REFRESH.to_owned()];
                self.register(profile, endpoint, wanted(grants))
            }
            answer => answer,
        }?;
        let id = registration.client_id.clone();
        if let Some(path) = self.registration_path(issuer) {
            // One that cannot be kept is made again.
            let content = serde_json::to_vec(&registration).unwrap_or_default();
            let _ = disk::replace(&path, &content);
        }
        Ok(Client { id, redirect, kept: false })
    }

    /// RFC 7591 section 3.1, as a public native client.
    fn register(&self, profile: &Profile, endpoint: &Url, wanted: Kept) -> Result<Kept, Failure> {
        let code = wanted.grant_types.iter().any(|grant| grant == CODE);
        let document = json!({
            "client_name": "valetkey",
            "application_type": "native",
            "token_endpoint_auth_method": "none",
            "grant_types": wanted.grant_types,
            "response_types": if code { vec!["code"] } else { Vec::new() },
            "redirect_uris": wanted.redirect_uris,
        });
        let answer = self.http(profile).post_json(endpoint, &document)?;
        self.ui.log(|| format!("register at {endpoint}: {}", answer.status));
        let (client_id, expires) = read(&answer).map_err(|failure| match failure {
            Failure::Other(error) => {
                Failure::Other(error.hint(profile.no_client().hint.unwrap_or_default()))
            }
            failure => failure,
        })?;
        Ok(Kept { client_id, expires, ..wanted })
    }

    /// Forgets a registration that its issuer does not know any more; `false` where the client was
    /// not one of ours.
    pub(super) fn forget_client(&self, profile: &Profile, client_id: &str) -> bool {
        let Some(issuer) = &profile.issuer else { return false };
        let ours = self.kept(issuer).is_some_and(|kept| kept.client_id == client_id);
        let path = self.registration_path(issuer).filter(|_| ours);
        path.is_some_and(|path| disk::remove(&path).unwrap_or(false))
    }

    fn kept(&self, issuer: &Url) -> Option<Kept> {
        let content = disk::read(&self.registration_path(issuer)?).ok()??;
        let kept: Kept = serde_json::from_slice(&content).ok()?;
        (kept.issuer == *issuer).then_some(kept)
    }

    fn registration_path(&self, issuer: &Url) -> Option<PathBuf> {
        let name = format!("{}.json", &fingerprint(issuer.as_str().as_bytes())[..32]);
        Some(self.environment.state_directory().ok()?.join("clients").join(name))
    }
}

/// The client id, and when it ends.
fn read(answer: &Answer) -> Result<(String, Option<u64>), Failure> {
    let parsed: Option<Registered> = parse_answer(answer);
    let parsed = match (answer.status, parsed) {
        (500.. | 429 | 408, _) => return Err(answer.transient()),
        (_, None) => return Err(Failure::Other(refused(answer))),
        (_, Some(parsed)) => parsed,
    };
    let unusable = |what: &str| {
        Err(Failure::Other(Error::new(Kind::Rejected, format!("{} {what}", answer.host))))
    };
    if let Some(error) = &parsed.error {
        let said = said(error, parsed.error_description.as_deref());
        return unusable(&format!("registers no client: {said}"));
    }
    if parsed.token_endpoint_auth_method.is_some_and(|method| method != "none") {
        return unusable("registers only clients that have a secret");
    }
    let plain = |id: &String| {
        (1..=1_000).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let client_id = parsed.client_id.filter(|_| matches!(answer.status, 200 | 201));
    let client_id = client_id.filter(plain).ok_or_else(|| Failure::Other(refused(answer)))?;
    Ok((client_id, parsed.client_secret_expires_at.filter(|expires| *expires != 0)))
}

/// For fuzzing: whatever a server answers, a client id is a word, and a message tame.
///
/// # Panics
/// When that is not so.
#[cfg(any(test, fuzzing))]
pub fn fuzz(body: &[u8]) {
    for status in [201, 400] {
        match read(&Answer::scripted(status, "application/json", body)) {
            Ok((client_id, _)) => assert!(client_id.bytes().all(|byte| byte.is_ascii_graphic())),
            Err(Failure::Transient(error) | Failure::Other(error)) => {
                assert!(!error.what.chars().any(char::is_control));
            }
            Err(_) => unreachable!("nothing was asked of a person"),
        }
    }
}

/// Where the browser comes home. RFC 8252 section 8.10: no two servers have the same place.
fn redirect_of(profile: &Profile, issuer: &Url) -> Redirect {
    let own = profile.redirect.clone();
    if own != Redirect::default() {
        return own;
    }
    let path = format!("{}/{}", own.path, &fingerprint(issuer.as_str().as_bytes())[..8]);
    Redirect { path, ..own }
}

/// RFC 8252 section 7.3: the port is not part of it, unless the user wants certain ones.
fn redirect_uris(redirect: &Redirect) -> Vec<String> {
    let Redirect { host, ports, path } = redirect;
    let any = |host: &str| format!("http://{host}{path}");
    match ports.as_slice() {
        [0] if host == "127.0.0.1" => vec![any(host), any("[::1]")],
        [0] => vec![any(host)],
        ports => ports.iter().map(|port| format!("http://{host}:{port}{path}")).collect(),
    }
}

/// What this sign-in needs, and what the next one could.
fn grant_types(server: &Server, needed: &str) -> Vec<String> {
    let code = needed == CODE || server.authorization.is_some();
    let offered = server.device_authorization.is_some() && server.offers_grant(device::GRANT);
    let device = needed == device::GRANT || offered;
    let all = [(CODE, code), (REFRESH, true), (device::GRANT, device)];
    all.into_iter().filter(|(_, wanted)| *wanted).map(|(grant, _)| grant.to_owned()).collect()
}
