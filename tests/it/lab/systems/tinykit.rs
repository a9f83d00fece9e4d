//! TinyKit: a page where people sign in with GitHub, Google or e-mail, which sends the browser to
//! `localhost:PORT/callback` with the token, and an API that takes it until the account ends.

use std::collections::HashMap;

use serde_json::json;

use super::super::server::{Answer, Request};
use super::{Site, jwt, mint, now};

pub struct State {
    /// `github`, `google` or `email`.
    door: String,
    email: String,
    name: String,
    /// Who each live token belongs to: e-mail and name.
    tokens: HashMap<String, (String, String)>,
    issued: Vec<String>,
    /// The site gives an unknown parameter of the start address back.
    echoes_state: bool,
}

pub type Tinykit = Site<State>;

impl Site<State> {
    pub fn start() -> Self {
        Self::serving(serve, |_| State {
            door: "github".to_owned(),
            email: "alice@example.com".to_owned(),
            name: "Alice Liddell".to_owned(),
            tokens: HashMap::new(),
            issued: Vec::new(),
            echoes_state: false,
        })
    }

    /// How people sign in from now on.
    pub fn door(&self, door: &str) {
        self.locked().door = door.to_owned();
    }

    pub fn sign_in_as(&self, email: &str, name: &str) {
        let mut state = self.locked();
        (state.email, state.name) = (email.to_owned(), name.to_owned());
    }

    pub fn echo_state(&self) {
        self.locked().echoes_state = true;
    }

    /// A token of this person's, as the site would issue it.
    pub fn token_of(&self, email: &str, name: &str) -> String {
        self.locked().issue(email, name)
    }

    /// The account is deactivated, or its licence ends.
    pub fn deactivate(&self, email: &str) {
        self.locked().tokens.retain(|_, (owner, _)| owner != email);
    }

    pub fn owner_of(&self, token: &str) -> Option<String> {
        self.locked().tokens.get(token).map(|(email, _)| email.clone())
    }

    /// Every token that was ever issued.
    pub fn issued(&self) -> Vec<String> {
        self.locked().issued.clone()
    }
}

impl State {
    fn issue(&mut self, email: &str, name: &str) -> String {
        let token = jwt(&json!({ "sub": email, "iat": now(), "jti": mint("") }));
        self.tokens.insert(token.clone(), (email.to_owned(), name.to_owned()));
        self.issued.push(token.clone());
        token
    }
}

fn serve(state: &mut State, request: &Request) -> Answer {
    let denied = request.parameter("lab_person") == Some("deny");
    match (request.method.as_str(), request.path.as_str()) {
        // A person who does not want to stays on the page.
        ("GET", _) if denied => Answer::html(200, "sign in to go on\n"),
        ("GET", "/auth/cli") => {
            let query = request.target.split_once('?').map_or("", |(_, query)| query);
            Answer::redirect(&format!("/sign-in/{}?{query}", state.door))
        }
        ("GET", "/sign-in/github" | "/sign-in/google" | "/sign-in/email") => {
            hand_over(state, request)
        }
        ("GET", "/api/me") => match request.bearer().and_then(|token| state.tokens.get(token)) {
            Some((email, name)) => Answer::json(200, &json!({ "email": email, "name": name })),
            None => Answer::json(401, &json!({ "error": "invalid token" })),
        },
        ("GET", "/api/products/kit.tar") => {
            match request.bearer().and_then(|token| state.tokens.get(token)) {
                Some(_) => Answer::text(200, "the product\n"),
                None => Answer::json(401, &json!({ "error": "invalid token" })),
            }
        }
        _ => Answer::text(404, "no such page\n"),
    }
}

fn hand_over(state: &mut State, request: &Request) -> Answer {
    let Some(port) = request.parameter("port").and_then(|port| port.parse::<u16>().ok()) else {
        return Answer::html(400, "which port?\n");
    };
    let (email, name) = (state.email.clone(), state.name.clone());
    let token = state.issue(&email, &name);
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("token", &token).append_pair("email", &email).append_pair("name", &name);
    if state.echoes_state
        && let Some(value) = request.parameter("state")
    {
        query.append_pair("state", value);
    }
    Answer::redirect(&format!("http://localhost:{port}/callback?{}", query.finish()))
}
