//! MyClaude: the page of `/cli/auth` posts the tokens of whoever signs in, with the challenge, to
//! its own server; the command line asks for them with state and verifier, and they are there once
//! and for five minutes. A refresh token is worth an ID token of an hour, which the API takes.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::super::server::{Answer, Request};
use super::{Site, jwt, mint, now};

pub struct Knobs {
    pub username: String,
    /// Answers that the next polls get instead, as status and body.
    pub next_polls: Vec<(u16, Value)>,
    /// The refresh endpoint is away.
    pub down: bool,
}

struct Left {
    challenge: String,
    refresh: String,
    at: u64,
}

pub struct State {
    knobs: Knobs,
    /// What pages have left, by state.
    left: HashMap<String, Left>,
    /// Whose each refresh token and each ID token is.
    refresh: HashMap<String, String>,
    identity: HashMap<String, String>,
    issued: Vec<String>,
}

pub type Myclaude = Site<State>;

impl Site<State> {
    pub fn start() -> Self {
        Self::serving(serve, |_| State {
            knobs: Knobs { username: "alice".to_owned(), next_polls: Vec::new(), down: false },
            left: HashMap::new(),
            refresh: HashMap::new(),
            identity: HashMap::new(),
            issued: Vec::new(),
        })
    }

    pub fn turn(&self, knob: impl FnOnce(&mut Knobs)) {
        knob(&mut self.locked().knobs);
    }

    /// A refresh token of this person's, from a sign-in in an earlier life.
    pub fn refresh_token_of(&self, username: &str) -> String {
        let token = mint("refresh-");
        let mut state = self.locked();
        state.refresh.insert(token.clone(), username.to_owned());
        state.issued.push(token.clone());
        token
    }

    pub fn owner_of(&self, identity: &str) -> Option<String> {
        self.locked().identity.get(identity).cloned()
    }

    pub fn end_sessions(&self) {
        self.locked().refresh.clear();
    }

    /// What pages have left and nobody has fetched.
    pub fn waiting(&self) -> usize {
        self.locked().left.len()
    }

    /// Five minutes pass for what pages have left.
    pub fn let_wait(&self) {
        for left in self.locked().left.values_mut() {
            left.at -= 301;
        }
    }

    pub fn issued(&self) -> Vec<String> {
        self.locked().issued.clone()
    }

    pub fn identities(&self) -> Vec<String> {
        self.locked().identity.keys().cloned().collect()
    }
}

fn serve(state: &mut State, request: &Request) -> Answer {
    let field = |name: &str| request.field(name).unwrap_or_default();
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/cli/auth") => sign_in(state, request),
        ("POST", "/api/cli/poll") => {
            if !state.knobs.next_polls.is_empty() {
                let (status, body) = state.knobs.next_polls.remove(0);
                return Answer::json(status, &body);
            }
            poll(state, &field("state"), &field("code_verifier"))
        }
        ("POST", "/api/cli/refresh") if state.knobs.down => Answer::empty(503),
        ("POST", "/api/cli/refresh") => match state.refresh.get(&field("refresh_token")).cloned() {
            Some(username) => {
                let identity = identity(state, &username);
                Answer::json(200, &json!({ "id_token": identity, "expires_in": 3600 }))
            }
            None => Answer::json(400, &json!({ "error": "invalid_grant" })),
        },
        ("GET", "/api/me") => match request.bearer().and_then(|token| state.identity.get(token)) {
            Some(username) => Answer::json(
                200,
                &json!({ "uid": format!("uid-of-{username}"), "username": username,
                         "email": format!("{username}@example.com") }),
            ),
            None => Answer::json(401, &json!({ "error": "unauthenticated" })),
        },
        ("GET", "/api/packages") => {
            match request.bearer().filter(|token| state.identity.contains_key(*token)) {
                Some(_) => Answer::text(200, "published\n"),
                None => Answer::json(401, &json!({ "error": "unauthenticated" })),
            }
        }
        _ => Answer::text(404, "no such page\n"),
    }
}

/// The person signs in on the page, and its script posts what came of it to the server.
fn sign_in(state: &mut State, request: &Request) -> Answer {
    let parameter = |name: &str| request.parameter(name).unwrap_or_default().to_owned();
    let (name, challenge) = (parameter("state"), parameter("code_challenge"));
    // 256 bits in base64url.
    if name.len() != 43 || challenge.len() != 43 {
        return Answer::html(400, "this address was not made by the command line\n");
    }
    if request.parameter("lab_person") == Some("deny") {
        return Answer::html(200, "sign in to go on\n");
    }
    let refresh = mint("refresh-");
    let username = state.knobs.username.clone();
    state.refresh.insert(refresh.clone(), username);
    state.issued.push(refresh.clone());
    state.left.insert(name, Left { challenge, refresh, at: now() });
    Answer::html(200, "you may close this page\n")
}

fn poll(state: &mut State, name: &str, verifier: &str) -> Answer {
    let pending = Answer::json(400, &json!({ "error": "authorization_pending" }));
    let Some(left) = state.left.get(name) else { return pending };
    if left.at + 300 < now() {
        state.left.remove(name);
        return Answer::json(400, &json!({ "error": "expired_token" }));
    }
    if BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) != left.challenge {
        return Answer::json(403, &json!({ "error": "access_denied" }));
    }
    let Some(left) = state.left.remove(name) else { return pending };
    let username = state.refresh.get(&left.refresh).cloned().unwrap_or_default();
    let identity = identity(state, &username);
    Answer::json(
        200,
        &json!({ "refresh_token": left.refresh, "id_token": identity, "expires_in": 3600 }),
    )
}

fn identity(state: &mut State, username: &str) -> String {
    let token = jwt(&json!({
        "iss": "https://myclaude.example", "aud": "vault-marketplace",
        "sub": format!("uid-of-{username}"), "exp": now() + 3600, "jti": mint(""),
    }));
    state.identity.insert(token.clone(), username.to_owned());
    state.issued.push(token.clone());
    token
}
