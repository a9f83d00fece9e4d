//! SkillMeat: an issuer with discovery and a device endpoint, an optional audience, access tokens
//! of an hour, personal access tokens, and an API that in local mode takes anybody.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::super::server::{Answer, Request};
use super::{Desk, Site, jwt, mint, now};

pub const CLIENT: &str = "your-client-id";
pub const AUDIENCE: &str = "https://api.skillmeat.example";
pub const USER_CODE: &str = "ABC-DEF-GHI";

pub struct Knobs {
    /// What the person says, as soon as the code is there.
    pub answer: Option<bool>,
    /// The code has run out when it is polled for.
    pub runs_out: bool,
    pub lifetime: u64,
    /// The provider is down.
    pub down: bool,
    /// No credentials are needed.
    pub local: bool,
}

pub struct State {
    origin: String,
    knobs: Knobs,
    desk: Desk,
    /// Live access tokens with their audience; `None` for a personal one.
    access: HashMap<String, Option<String>>,
    refresh: HashMap<String, Option<String>>,
}

pub type Skillmeat = Site<State>;

impl Site<State> {
    pub fn start() -> Self {
        Self::serving(serve, |origin| State {
            origin: origin.to_owned(),
            knobs: Knobs {
                answer: Some(true),
                runs_out: false,
                lifetime: 3600,
                down: false,
                local: false,
            },
            desk: Desk::default(),
            access: HashMap::new(),
            refresh: HashMap::new(),
        })
    }

    pub fn turn(&self, knob: impl FnOnce(&mut Knobs)) {
        knob(&mut self.locked().knobs);
    }

    /// An administrator makes a personal access token.
    pub fn personal_token(&self) -> String {
        let token = mint("sk_live_");
        self.locked().access.insert(token.clone(), None);
        token
    }

    /// Access and refresh token of a sign-in in an earlier life.
    pub fn tokens(&self) -> (String, String) {
        let mut state = self.locked();
        let document = issue(&mut state, Some(AUDIENCE.to_owned()));
        let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
        (text("access_token"), text("refresh_token"))
    }

    pub fn takes(&self, token: &str) -> bool {
        self.locked().access.contains_key(token)
    }

    pub fn end_sessions(&self) {
        self.locked().refresh.clear();
    }
}

fn serve(state: &mut State, request: &Request) -> Answer {
    let field = |name: &str| request.field(name).unwrap_or_default();
    let refused = |error: &str| Answer::json(400, &json!({ "error": error }));
    match (request.method.as_str(), request.path.as_str()) {
        (_, path) if state.knobs.down && path.starts_with("/oauth/") => Answer::empty(503),
        ("GET", "/.well-known/openid-configuration") => Answer::json(
            200,
            &json!({
                "issuer": state.origin,
                "token_endpoint": format!("{}/oauth/token", state.origin),
                "device_authorization_endpoint": format!("{}/oauth/device", state.origin),
                "authorization_endpoint": format!("{}/oauth/authorize", state.origin),
            }),
        ),
        ("POST", _) if field("client_id") != CLIENT => refused("invalid_client"),
        ("POST", "/oauth/device") => {
            let device_code = state.desk.open(USER_CODE, request.field("audience"));
            if let Some(answer) = state.knobs.answer {
                state.desk.decide(USER_CODE, answer);
            }
            Answer::json(
                200,
                &json!({
                    "device_code": device_code,
                    "user_code": USER_CODE,
                    "verification_uri": format!("{}/authorize", state.origin),
                    "expires_in": 600,
                    "interval": 1,
                }),
            )
        }
        ("POST", "/oauth/token") => match field("grant_type").as_str() {
            "urn:ietf:params:oauth:grant-type:device_code" if state.knobs.runs_out => {
                refused("expired_token")
            }
            "urn:ietf:params:oauth:grant-type:device_code" => {
                match state.desk.redeem(&field("device_code")) {
                    Ok(audience) => Answer::json(200, &issue(state, audience)),
                    Err(error) => refused(error),
                }
            }
            "refresh_token" => match state.refresh.remove(&field("refresh_token")) {
                Some(audience) => Answer::json(200, &issue(state, audience)),
                None => refused("invalid_grant"),
            },
            _ => refused("unsupported_grant_type"),
        },
        ("GET", "/api/list") => {
            let known = |token: &str| match state.access.get(token) {
                Some(Some(audience)) => audience == AUDIENCE,
                Some(None) => true,
                None => false,
            };
            if state.knobs.local || request.bearer().is_some_and(known) {
                Answer::text(200, "your skills\n")
            } else {
                Answer::json(401, &json!({ "error": "unauthorized" }))
            }
        }
        _ => Answer::text(404, "no such page\n"),
    }
}

fn issue(state: &mut State, audience: Option<String>) -> Value {
    let lifetime = state.knobs.lifetime;
    let claims = json!({ "sub": "alice", "aud": audience, "exp": now() + lifetime });
    let (access, refresh) = (jwt(&claims), mint("refresh_"));
    state.access.insert(access.clone(), Some(audience.clone().unwrap_or_default()));
    state.refresh.insert(refresh.clone(), audience);
    json!({
        "access_token": access, "token_type": "Bearer", "refresh_token": refresh,
        "expires_in": lifetime, "id_token": jwt(&claims),
    })
}
