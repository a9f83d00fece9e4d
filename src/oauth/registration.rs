//! Who we are to a server that nobody told about us: the URL of a document about us, or a client
//! that we register (RFC 7591). A registration is kept for the issuer that made it, and never shown
//! to another one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use super::answer::{cut, document, error_of, refused, said, silent, unreadable};
use super::code::listener;
use super::http::Answer;
use super::metadata::{self, Server};
use super::{Failure, Oauth, Options, device};
use crate::disk;
use crate::error::{Error, Kind};
use crate::model::{Secret, fingerprint};
use crate::profile::{ClientAuth, Flow, Issuer, Profile, Redirect, Source};

const CODE: &str = "authorization_code";
const REFRESH: &str = "refresh_token";

/// The client of one sign-in.
pub(super) struct Client {
    pub(super) id: String,
    pub(super) credentials: Credentials,
    pub(super) redirect: Redirect,
    /// It was registered at an earlier sign-in, and may be gone by now.
    pub(super) kept: bool,
}

/// What a client shows beside its id.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) secret: Option<Secret>,
    /// `None`: as the server wants it.
    pub(super) method: Option<ClientAuth>,
}

impl Credentials {
    /// Those that the user wrote.
    pub(super) fn of(profile: &Profile) -> Self {
        Self { secret: profile.client_secret.clone(), method: profile.client_auth }
    }
}

/// A registration as it is kept.
#[derive(Deserialize, Serialize)]
struct Kept {
    issuer: Url,
    client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_secret: Option<Zeroizing<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_endpoint_auth_method: Option<ClientAuth>,
    redirect_uris: Vec<String>,
    /// The port of one of them, where any would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    grant_types: Vec<String>,
    /// Unix time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
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
        let credentials = Credentials::of(profile);
        let known = |id: &str| {
            let redirect = profile.own_redirect();
            Ok(Client {
                id: id.to_owned(),
                credentials: credentials.clone(),
                redirect,
                kept: false,
            })
        };
        // Whoever the user did not name could take another server's code for its own, where both
        // redirects are at one place and none says whose it is (RFC 9700 section 4.4).
        let told_apart = profile.source == Source::Configured || server.promises_issuer;
        if !profile.client_id.is_empty() && profile.lacks_secret() {
            return Err(Failure::Other(profile.no_client()));
        }
        if !profile.client_id.is_empty() {
            return known(&profile.client_id);
        }
        if let Some(url) =
            options.client_metadata.as_ref().filter(|_| server.takes_client_documents && told_apart)
        {
            // The document says where it is called, and that is the plain place.
            let redirect = profile.redirect.clone();
            let credentials = Credentials { secret: None, method: None };
            return Ok(Client { id: url.to_string(), credentials, redirect, kept: false });
        }
        match (&profile.issuer, &server.registration) {
            (Some(issuer), Some(endpoint)) => {
                self.registered(profile, options.port, server, flow, issuer.url(), endpoint)
            }
            _ => {
                let error = profile.no_client();
                let trouble = server.trouble(metadata::REGISTRATION);
                Err(Failure::Other(Error { what: format!("{}{trouble}", error.what), ..error }))
            }
        }
    }

    fn registered(
        &self,
        profile: &Profile,
        wish: Option<u16>,
        server: &Server,
        flow: Flow,
        issuer: &Url,
        endpoint: &Url,
    ) -> Result<Client, Failure> {
        let redirect = profile.redirect_at(issuer);
        let needed = if flow == Flow::Device { device::GRANT } else { CODE };
        let kept = self.kept(issuer).filter(|kept| {
            let alive = kept.expires.is_none_or(|expires| expires > self.clock.now());
            let fits = kept.grant_types.iter().any(|grant| grant == needed);
            let there = wish.is_none_or(|wish| names_port(&kept.redirect_uris, wish));
            let free = kept.port.is_none_or(|port| wish.is_some() || listener::is_free(port));
            let same = kept.redirect_uris.iter().all(|uri| is_at(uri, &redirect));
            alive && fits && there && free && same
        });
        if let Some(kept) = kept {
            let redirect = redirect.at_port(kept.port);
            let credentials = kept.credentials();
            return Ok(Client { id: kept.client_id, credentials, redirect, kept: true });
        }
        // Some servers compare the port too (against RFC 8252 section 7.3), so one is named beside
        // those without, and is the first that is tried.
        let port = match redirect.ports.as_slice() {
            [0] => wish.or_else(listener::free),
            _ => wish,
        };
        let uris = redirect_uris(&redirect, port);
        let mut wanted = Kept {
            issuer: issuer.clone(),
            client_id: String::new(),
            client_secret: None,
            token_endpoint_auth_method: Some(wanted_method(server)),
            redirect_uris: uris,
            port,
            grant_types: grant_types(server, needed),
            expires: None,
        };
        let registration = loop {
            match self.register(profile, server, endpoint, &wanted) {
                Err(Failure::Other(error)) if error.kind == Kind::Rejected => {
                    if !self.ask_for_less(&mut wanted, needed, &error) {
                        return Err(Failure::Other(error));
                    }
                }
                answer => break answer?,
            }
        };
        let (id, credentials) = (registration.client_id.clone(), registration.credentials());
        if let Some(path) = self.registration_path(issuer) {
            // One that cannot be kept is made again.
            let content = Zeroizing::new(serde_json::to_vec(&registration).unwrap_or_default());
            let _ = disk::replace(&path, &content);
        }
        let redirect = redirect.at_port(registration.port);
        Ok(Client { id, credentials, redirect, kept: false })
    }

    /// What a server that refused may take; `false` where there is nothing more to leave out.
    fn ask_for_less(&self, wanted: &mut Kept, needed: &str, refused: &Error) -> bool {
        let about = |word: &str| refused.what.contains(word);
        let public = wanted.token_endpoint_auth_method == Some(ClientAuth::None);
        if about("redirect_uri") && wanted.redirect_uris.len() > 1 {
            // Without a port, or on the other family, is more than some read.
            let last = wanted.redirect_uris.pop();
            wanted.redirect_uris = last.into_iter().collect();
        } else if about("auth_method") && public {
            wanted.token_endpoint_auth_method = Some(ClientAuth::Basic);
        } else if wanted.grant_types.len() > 2 {
            // Some servers have one way in for each client (django-oauth-toolkit).
            wanted.grant_types = vec![needed.to_owned(), REFRESH.to_owned()];
        } else {
            return false;
        }
        self.ui.log(|| format!("{}; trying with less", refused.what));
        true
    }

    /// RFC 7591 section 3.1, as a native client, and a public one where the server takes those.
    fn register(
        &self,
        profile: &Profile,
        server: &Server,
        endpoint: &Url,
        wanted: &Kept,
    ) -> Result<Kept, Failure> {
        let code = wanted.grant_types.iter().any(|grant| grant == CODE);
        let document = json!({
            "client_name": "valetkey",
            "application_type": "native",
            "token_endpoint_auth_method": wanted.token_endpoint_auth_method,
            "grant_types": wanted.grant_types,
            "response_types": if code { vec!["code"] } else { Vec::new() },
            "redirect_uris": wanted.redirect_uris,
        });
        let answer = self.http(profile).post_json(endpoint, &document)?;
        self.ui.log(|| format!("register at {endpoint}: {}", answer.status));
        let told =
            read(&answer, server.client_auth.as_deref()).map_err(|failure| match failure {
                Failure::Other(error) => {
                    Failure::Other(error.hint(profile.no_client().hint.unwrap_or_default()))
                }
                failure => failure,
            })?;
        Ok(Kept {
            issuer: wanted.issuer.clone(),
            client_id: told.id,
            client_secret: told.secret,
            token_endpoint_auth_method: told.method,
            redirect_uris: wanted.redirect_uris.clone(),
            port: wanted.port,
            grant_types: wanted.grant_types.clone(),
            expires: told.expires,
        })
    }

    /// What a client that we registered shows beside its id; `None` where it is not one of those.
    pub(super) fn registered_as(&self, profile: &Profile, client_id: &str) -> Option<Credentials> {
        let kept = self.kept(profile.issuer.as_ref()?.url())?;
        (kept.client_id == client_id).then(|| kept.credentials())
    }

    /// Forgets a registration that its issuer does not know any more; `false` where the client was
    /// not one of ours.
    pub(super) fn forget_client(&self, profile: &Profile, client_id: &str) -> bool {
        let Some(issuer) = profile.issuer.as_ref().map(Issuer::url) else { return false };
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

impl Kept {
    fn credentials(&self) -> Credentials {
        let secret = self.client_secret.as_ref().map(|secret| Secret::new(secret.as_str()));
        Credentials { secret, method: self.token_endpoint_auth_method }
    }
}

/// What a server says of a client that it registered.
struct Told {
    id: String,
    secret: Option<Zeroizing<String>>,
    method: Option<ClientAuth>,
    expires: Option<u64>,
}

/// `offered`: how clients show who they are, by the server's metadata.
fn read(answer: &Answer, offered: Option<&[String]>) -> Result<Told, Failure> {
    let said_so = match (answer.status, document(answer)) {
        (500.. | 429 | 408, _) => return Err(answer.transient()),
        (200 | 201, Err(why)) => return Err(Failure::Other(unreadable(answer, why))),
        (_, Err(_)) => return Err(Failure::Other(refused(answer))),
        (_, Ok(document)) => document,
    };
    let unusable = |what: &str| {
        Err(Failure::Other(Error::new(Kind::Rejected, format!("{} {what}", answer.host))))
    };
    if let Some(error) = error_of(&said_so) {
        let said = said(error, said_so.text("error_description"));
        return unusable(&format!("registers no client: {said}"));
    }
    let plain = |text: &str| {
        // RFC 6749 appendix A.1.
        let visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        (1..=1_000).contains(&text.len()) && text.bytes().all(visible)
    };
    if !matches!(answer.status, 200 | 201) {
        return Err(Failure::Other(refused(answer)));
    }
    let Some(id) = said_so.text("client_id").filter(|id| plain(id)).map(str::to_owned) else {
        let lacks = said_so.lacks("client_id");
        return Err(Failure::Other(silent(answer, &format!("it registers no client: {lacks}"))));
    };
    let secret = said_so.text("client_secret").map(|secret| Zeroizing::new(secret.to_owned()));
    // A secret is any text, but one that no form or header was made for is none.
    if secret.as_ref().is_some_and(|secret| secret.len() > 10_000) {
        return unusable("gave this client a secret that is too long");
    }
    let named = [ClientAuth::None, ClientAuth::Basic, ClientAuth::Post];
    let named = |name: &str| named.into_iter().find(|method| method.name() == name);
    let method = match (said_so.text("token_endpoint_auth_method"), &secret) {
        // RFC 7591 section 2: basic where nothing is said, unless the server says so elsewhere.
        (None, Some(_)) => match offered {
            None => Some(ClientAuth::Basic),
            Some(all) if all.iter().any(|name| name.starts_with("client_secret_")) => None,
            Some(_) => Some(ClientAuth::None),
        },
        (None, None) => Some(ClientAuth::None),
        (Some(name), secret) => match (named(name), secret) {
            (None, _) => {
                let what =
                    format!("registers only clients that show who they are by {}", cut(name));
                return unusable(&what);
            }
            (Some(ClientAuth::Basic | ClientAuth::Post), None) => {
                return unusable("registers only clients with a secret, and gives none");
            }
            (method, _) => method,
        },
    };
    // Zero: never.
    let expires = said_so.number("client_secret_expires_at").filter(|expires| *expires > 0.0);
    let expires = expires.map(|expires| expires as u64);
    Ok(Told { id, secret: secret.filter(|_| method != Some(ClientAuth::None)), method, expires })
}

/// How we ask to show who we are: a public client has no secret that could be lost.
fn wanted_method(server: &Server) -> ClientAuth {
    let Some(offered) = &server.client_auth else { return ClientAuth::None };
    let all = [ClientAuth::None, ClientAuth::Basic, ClientAuth::Post];
    let offers = |method: &ClientAuth| offered.iter().any(|name| name == method.name());
    all.into_iter().find(offers).unwrap_or(ClientAuth::None)
}

/// For fuzzing: whatever a server answers, a client id is a word, and a message tame.
///
/// # Panics
/// When that is not so.
#[cfg(any(test, fuzzing))]
pub fn fuzz(body: &[u8]) {
    for status in [201, 400] {
        match read(&Answer::scripted(status, "application/json", body), None) {
            Ok(told) => assert!(told.id.bytes().all(|byte| (b' '..=b'~').contains(&byte))),
            Err(Failure::Transient(error) | Failure::Other(error)) => {
                assert!(!error.what.chars().any(char::is_control));
            }
            Err(_) => unreachable!("nothing was asked of a person"),
        }
    }
}

/// RFC 8252 section 7.3: the port is not part of it, unless the user wants certain ones; `port` is
/// for servers that think otherwise.
fn redirect_uris(redirect: &Redirect, port: Option<u16>) -> Vec<String> {
    let Redirect { host, ports, path } = redirect;
    let any = |host: &str| format!("http://{host}{path}");
    let at = |port: &u16| format!("http://{host}:{port}{path}");
    let mut uris = match ports.as_slice() {
        [0] if host == "127.0.0.1" => vec![any(host), any("[::1]")],
        [0] => vec![any(host)],
        ports => ports.iter().map(at).collect(),
    };
    let more = port.as_ref().map(at).filter(|uri| !uris.contains(uri));
    uris.extend(more);
    uris
}

fn names_port(uris: &[String], port: u16) -> bool {
    let port = Some(port);
    uris.iter().any(|uri| Url::parse(uri).is_ok_and(|uri| uri.port_or_known_default() == port))
}

/// Whether a registered URI is one that this redirect can be at.
fn is_at(uri: &str, redirect: &Redirect) -> bool {
    let Ok(url) = Url::parse(uri) else { return false };
    let host = url.host_str().unwrap_or_default();
    let own = host == redirect.host || (host == "[::1]" && redirect.host == "127.0.0.1");
    let listed = redirect.ports == [0] || url.port().is_some();
    url.path() == redirect.path && own && listed
}

/// What this sign-in needs, and what the next one could.
fn grant_types(server: &Server, needed: &str) -> Vec<String> {
    let code = needed == CODE || server.authorization.is_some();
    let offered = server.device_authorization.is_some() && server.offers_grant(device::GRANT);
    let device = needed == device::GRANT || offered;
    let all = [(CODE, code), (REFRESH, true), (device::GRANT, device)];
    all.into_iter().filter(|(_, wanted)| *wanted).map(|(grant, _)| grant.to_owned()).collect()
}
