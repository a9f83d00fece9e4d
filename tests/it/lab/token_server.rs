//! The API around [`super::tokens`]: where a signed-in person makes, lists and revokes tokens, and
//! what a program gets for one. A real site has a sign-in and a page with buttons in front of the
//! first three; here the person's password goes with each request.
//!
//! | request | who | answer |
//! | --- | --- | --- |
//! | `POST /tokens` `name=&scopes=&expires_in=` | the person, Basic | 201, the token: the only time |
//! | `GET /tokens` | the person, Basic | the list, without the tokens |
//! | `DELETE /tokens/NUMBER` | the person, Basic | 204 |
//! | `GET /me` | a token, Bearer or Basic | whose it is, and what it may do |

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::server::{Answer, Journal, Request, Server};
use super::tokens::{Token, Tokens};

pub struct TokenServer {
    server: Server,
    pub tokens: Arc<Tokens>,
}

impl TokenServer {
    /// For one person with this password.
    pub fn start(person: &str, password: &str) -> Self {
        let tokens = Arc::new(Tokens::new());
        let own = format!("Basic {}", BASE64_STANDARD.encode(format!("{person}:{password}")));
        let server = Server::start({
            let (tokens, person) = (Arc::clone(&tokens), person.to_owned());
            move |request: &Request| {
                let is_person = request.header("Authorization") == Some(&own);
                match request.path.as_str() {
                    "/me" => me(&tokens, request),
                    _ if !is_person => unauthorized("Basic realm=\"your tokens\""),
                    path => manage(&tokens, &person, path, request),
                }
                .into()
            }
        });
        Self { server, tokens }
    }

    pub fn origin(&self) -> String {
        self.server.origin()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.origin())
    }

    pub fn journal(&self) -> &Journal {
        self.server.journal()
    }

    /// Whether a token is good now.
    pub fn takes(&self, token: &str) -> bool {
        self.tokens.verify(token, now()).is_some()
    }
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn manage(tokens: &Tokens, person: &str, path: &str, request: &Request) -> Answer {
    let number = path.strip_prefix("/tokens/").and_then(|number| number.parse().ok());
    match (request.method.as_str(), path, number) {
        ("POST", "/tokens", _) => {
            let field = |name: &str| request.field(name).unwrap_or_default();
            let scopes = field("scopes");
            let scopes: Vec<&str> = scopes.split_whitespace().collect();
            let expires = field("expires_in").parse::<u64>().ok().map(|seconds| now() + seconds);
            let token = tokens.issue(person, &field("name"), &scopes, expires, now());
            Answer::json(201, &json!({ "token": token })).with_header("Cache-Control", "no-store")
        }
        ("GET", "/tokens", _) => {
            let row = |(token, last_used): (Token, Option<u64>)| {
                json!({
                    "number": token.number,
                    "name": token.name,
                    "beginning": token.beginning,
                    "scopes": token.scopes,
                    "made": token.made,
                    "last_used": last_used,
                    "expires": token.expires,
                    "revoked": token.revoked,
                })
            };
            let list: Vec<_> = tokens.list(person).into_iter().map(row).collect();
            Answer::json(200, &list.into())
        }
        ("DELETE", _, Some(number)) if tokens.revoke(person, number, now()) => Answer::empty(204),
        _ => Answer::json(404, &json!({ "error": "not_found" })),
    }
}

fn me(tokens: &Tokens, request: &Request) -> Answer {
    let token = request.header("Authorization").and_then(token);
    match token.and_then(|token| tokens.verify(&token, now())) {
        Some(Token { owner, scopes, expires, .. }) => {
            Answer::json(200, &json!({ "login": owner, "scopes": scopes, "expires": expires }))
        }
        // Unknown, revoked and over look alike: whoever guesses learns nothing.
        None => unauthorized("Bearer realm=\"api\", error=\"invalid_token\""),
    }
}

/// The token of either scheme; git and docker can only say Basic, with any user name.
fn token(authorization: &str) -> Option<String> {
    let (scheme, value) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.to_owned());
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(value).ok()?).ok()?;
    pair.split_once(':').map(|(_, token)| token.to_owned())
}

fn unauthorized(challenge: &str) -> Answer {
    Answer::json(401, &json!({ "error": "invalid_token" }))
        .with_header("WWW-Authenticate", challenge)
}
