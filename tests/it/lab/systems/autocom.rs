//! autocom, as its page on authentication describes it: a Laravel Passport server with a fixed list
//! of redirect URIs and no discovery, and an API that wants to know the tenant. Its public clients
//! have no secret. Errors are Passport's.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::super::server::{Answer, Request};
use super::{Site, mint};

/// The client that the release was built for.
pub const CLIENT: &str = "9a1b2c3d-0000-4000-8000-000000000001";

pub struct Knobs {
    /// Who is signed in to the platform's pages.
    pub user: &'static str,
    pub expires_in: u64,
    pub with_refresh: bool,
}

struct Code {
    redirect: String,
    challenge: String,
    user: &'static str,
}

pub struct State {
    knobs: Knobs,
    /// Client ids and their registered redirect URIs.
    clients: HashMap<String, Vec<String>>,
    codes: HashMap<String, Code>,
    /// Live tokens, personal ones too, by whom they belong to.
    access: HashMap<String, &'static str>,
    refresh: HashMap<String, &'static str>,
    /// Every secret that was ever handed out.
    issued: Vec<String>,
}

pub type Autocom = Site<State>;

impl Site<State> {
    /// Redirect URIs are registered for these ports of 127.0.0.1.
    pub fn start(ports: &[u16]) -> Self {
        let autocom = Self::serving(answer, |_| State {
            knobs: Knobs { user: "alice", expires_in: 3600, with_refresh: true },
            clients: HashMap::new(),
            codes: HashMap::new(),
            access: HashMap::new(),
            refresh: HashMap::new(),
            issued: Vec::new(),
        });
        autocom.register(CLIENT, ports);
        autocom
    }

    /// `php artisan passport:client --public --redirect=...`
    pub fn register(&self, client: &str, ports: &[u16]) {
        let uri = |port: &u16| format!("http://127.0.0.1:{port}/callback");
        self.locked().clients.insert(client.to_owned(), ports.iter().map(uri).collect());
    }

    /// Settings, Security, Personal access tokens, Generate new token.
    pub fn generate_token(&self, user: &'static str) -> String {
        let token = mint("1|");
        let mut state = self.locked();
        state.issued.push(token.clone());
        state.access.insert(token.clone(), user);
        token
    }

    pub fn turn(&self, knob: impl FnOnce(&mut Knobs)) {
        knob(&mut self.locked().knobs);
    }

    /// What `--api-url` is there.
    pub fn api(&self) -> String {
        format!("{}/api/v1", self.server.origin())
    }

    pub fn secrets(&self) -> Vec<String> {
        self.locked().issued.clone()
    }
}

fn refusal(status: u16, error: &str, description: &str) -> Answer {
    let body = json!({ "error": error, "error_description": description, "message": description });
    Answer::json(status, &body)
}

fn answer(state: &mut State, request: &Request) -> Answer {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/oauth/authorize") => authorize(state, request),
        ("POST", "/oauth/token") => token(state, request),
        ("GET", "/api/v1/profile") => api(state, request, |user, _| {
            json!({ "data": {
                "name": format!("{user} of autocom"),
                "email": format!("{user}@autocom.example"),
                "tenant": { "slug": format!("{user}s-shop") },
            } })
        }),
        ("GET", "/api/v1/orders") => {
            // Every command sends it.
            let Some(tenant) = request.header("X-Tenant").map(str::to_owned) else {
                return Answer::json(400, &json!({ "message": "The tenant is missing." }));
            };
            api(state, request, move |user, _| json!({ "tenant": tenant, "of": user }))
        }
        _ => Answer::json(404, &json!({ "message": "Not Found" })),
    }
}

fn api(
    state: &State,
    request: &Request,
    document: impl FnOnce(&str, &Request) -> serde_json::Value,
) -> Answer {
    match request.bearer().and_then(|token| state.access.get(token)) {
        Some(user) => Answer::json(200, &document(user, request)),
        None => Answer::json(401, &json!({ "message": "Unauthenticated." })),
    }
}

fn authorize(state: &mut State, request: &Request) -> Answer {
    let said = |name: &str| request.parameter(name).unwrap_or_default().to_owned();
    let (client, redirect) = (said("client_id"), said("redirect_uri"));
    // Passport compares whole URIs, the port too.
    let known = state.clients.get(&client).is_some_and(|uris| uris.contains(&redirect));
    if !known {
        return refusal(401, "invalid_client", "Client authentication failed");
    }
    let mut back = url::form_urlencoded::Serializer::new(String::new());
    if said("lab_person") == "deny" {
        back.append_pair("error", "access_denied");
        back.append_pair("error_description", "The resource owner denied the request.");
    } else if said("response_type") != "code"
        || said("code_challenge_method") != "S256"
        || said("code_challenge").len() != 43
    {
        return refusal(400, "invalid_request", "The request is missing a required parameter.");
    } else {
        let code = mint("def502");
        state.issued.push(code.clone());
        let (challenge, user) = (said("code_challenge"), state.knobs.user);
        state.codes.insert(code.clone(), Code { redirect: redirect.clone(), challenge, user });
        back.append_pair("code", &code);
    }
    back.append_pair("state", &said("state"));
    Answer::redirect(&format!("{redirect}?{}", back.finish()))
}

fn token(state: &mut State, request: &Request) -> Answer {
    let field = |name: &str| request.field(name).unwrap_or_default();
    if !state.clients.contains_key(&field("client_id")) {
        return refusal(401, "invalid_client", "Client authentication failed");
    }
    let dead = |what: &str| refusal(400, "invalid_grant", what);
    let user = match field("grant_type").as_str() {
        "authorization_code" => {
            let Some(code) = state.codes.remove(&field("code")) else {
                return dead("Authorization code has been revoked");
            };
            let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
            if code.redirect != field("redirect_uri") || code.challenge != challenge {
                return dead("Failed to verify `code_verifier`.");
            }
            code.user
        }
        "refresh_token" => match state.refresh.remove(&field("refresh_token")) {
            Some(user) => user,
            None => return dead("The refresh token is invalid."),
        },
        _ => {
            let what = "The authorization grant type is not supported by the server.";
            return refusal(400, "unsupported_grant_type", what);
        }
    };
    let (access, refresh) = (mint("eyJ0eXAi."), mint("def50200"));
    state.issued.extend([access.clone(), refresh.clone()]);
    state.access.insert(access.clone(), user);
    let mut body = json!({
        "token_type": "Bearer", "expires_in": state.knobs.expires_in, "access_token": access,
    });
    if state.knobs.with_refresh {
        state.refresh.insert(refresh.clone(), user);
        body["refresh_token"] = refresh.into();
    }
    Answer::json(200, &body)
}
