//! The guide's example: a device authorization endpoint and a token endpoint, no discovery, JSON
//! errors with status 400, refresh tokens that change with each use, and an API.

use std::collections::HashMap;

use serde_json::json;

use super::super::server::{Answer, Request};
use super::{Desk, Site, jwt, mint, now};

pub const CLIENT: &str = "yourapp-cli";
pub const USER_CODE: &str = "WXYZ-1234";

pub struct Knobs {
    pub expires_in: u64,
    pub interval: Option<u64>,
    /// Errors that the next polls get, whatever the person said.
    pub next_polls: Vec<&'static str>,
    /// A person says yes as soon as the code is there.
    pub approves: bool,
    pub lifetime: u64,
    pub with_refresh: bool,
}

pub struct State {
    origin: String,
    knobs: Knobs,
    desk: Desk,
    /// Live access tokens, and live refresh tokens.
    access: HashMap<String, ()>,
    refresh: HashMap<String, ()>,
    issued: Vec<String>,
}

pub type Guide = Site<State>;

impl Site<State> {
    pub fn start() -> Self {
        Self::serving(serve, |origin| State {
            origin: origin.to_owned(),
            knobs: Knobs {
                expires_in: 600,
                interval: Some(1),
                next_polls: Vec::new(),
                approves: true,
                lifetime: 3600,
                with_refresh: true,
            },
            desk: Desk::default(),
            access: HashMap::new(),
            refresh: HashMap::new(),
            issued: Vec::new(),
        })
    }

    pub fn turn(&self, knob: impl FnOnce(&mut Knobs)) {
        knob(&mut self.locked().knobs);
    }

    pub fn decide(&self, yes: bool) -> bool {
        self.locked().desk.decide(USER_CODE, yes)
    }

    pub fn takes(&self, token: &str) -> bool {
        self.locked().access.contains_key(token)
    }

    /// Every refresh token dies.
    pub fn end_sessions(&self) {
        self.locked().refresh.clear();
    }

    pub fn issued(&self) -> Vec<String> {
        self.locked().issued.clone()
    }
}

fn serve(state: &mut State, request: &Request) -> Answer {
    let field = |name: &str| request.field(name).unwrap_or_default();
    let refused = |error: &str| Answer::json(400, &json!({ "error": error }));
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", _) if field("client_id") != CLIENT => refused("invalid_client"),
        ("POST", "/oauth/device/authorize") => {
            let device_code = state.desk.open(USER_CODE, None);
            if state.knobs.approves {
                state.desk.decide(USER_CODE, true);
            }
            let page = format!("{}/device", state.origin);
            let mut document = json!({
                "device_code": device_code,
                "user_code": USER_CODE,
                "verification_uri": page,
                "verification_uri_complete": format!("{page}?user_code={USER_CODE}"),
                "expires_in": state.knobs.expires_in,
            });
            if let Some(interval) = state.knobs.interval {
                document["interval"] = interval.into();
            }
            Answer::json(200, &document)
        }
        ("POST", "/oauth/token") => match field("grant_type").as_str() {
            "urn:ietf:params:oauth:grant-type:device_code" => {
                if !state.knobs.next_polls.is_empty() {
                    return refused(state.knobs.next_polls.remove(0));
                }
                match state.desk.redeem(&field("device_code")) {
                    Ok(_) => tokens(state),
                    Err(error) => refused(error),
                }
            }
            "refresh_token" => match state.refresh.remove(&field("refresh_token")) {
                Some(()) => tokens(state),
                None => refused("invalid_grant"),
            },
            _ => refused("unsupported_grant_type"),
        },
        ("GET", "/device") => {
            let yes = request.parameter("lab_person") != Some("deny");
            let known =
                request.parameter("user_code").is_some_and(|code| state.desk.decide(code, yes));
            Answer::html(if known { 200 } else { 404 }, "thank you\n")
        }
        ("GET", "/api/data") => {
            match request.bearer().filter(|token| state.access.contains_key(*token)) {
                Some(_) => Answer::text(200, "your data\n"),
                None => Answer::json(401, &json!({ "error": "invalid_token" })),
            }
        }
        _ => Answer::text(404, "no such page\n"),
    }
}

fn tokens(state: &mut State) -> Answer {
    let lifetime = state.knobs.lifetime;
    let claims = json!({ "sub": "alice", "exp": now() + lifetime, "jti": mint("") });
    let (access, refresh, identity) = (jwt(&claims), mint("rt_"), jwt(&claims));
    state.access.insert(access.clone(), ());
    state.issued.extend([access.clone(), identity.clone()]);
    let mut document = json!({
        "access_token": access, "token_type": "Bearer", "id_token": identity, "expires_in": lifetime,
    });
    if state.knobs.with_refresh {
        state.refresh.insert(refresh.clone(), ());
        state.issued.push(refresh.clone());
        document["refresh_token"] = refresh.into();
    }
    Answer::json(200, &document)
}
