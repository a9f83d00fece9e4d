//! Sites that people sign in to today, each as its own public document describes it, and stricter
//! than it where a careless client would pass. None of them knows how valetkey works.

pub mod autocom;
pub mod guide;
pub mod myclaude;
pub mod skillmeat;
pub mod tinykit;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::server::{Answer, Journal, Request, Server};

/// A site, and what it knows at the moment: a test can look into it and change it.
pub struct Site<S> {
    server: Server,
    state: Arc<Mutex<S>>,
}

impl<S: Send + 'static> Site<S> {
    /// `state` is told the site's origin.
    fn serving(serve: fn(&mut S, &Request) -> Answer, state: impl FnOnce(&str) -> S) -> Self {
        let mut shared = None;
        let server = Server::start_knowing_origin(|origin| {
            let state = Arc::new(Mutex::new(state(origin)));
            shared = Some(Arc::clone(&state));
            move |request: &Request| serve(&mut locked(&state), request).into()
        });
        Self { server, state: shared.expect("the handler has been made") }
    }

    pub fn origin(&self) -> String {
        self.server.origin()
    }

    pub fn journal(&self) -> &Journal {
        self.server.journal()
    }

    fn locked(&self) -> MutexGuard<'_, S> {
        locked(&self.state)
    }
}

fn locked<S>(state: &Mutex<S>) -> MutexGuard<'_, S> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A word that nobody guesses, behind a prefix that says what it is.
fn mint(prefix: &str) -> String {
    let word = || format!("{:016x}", RandomState::new().build_hasher().finish());
    format!("{prefix}{}{}", word(), word())
}

/// A JSON Web Token with these claims. Nobody here checks a signature.
fn jwt(claims: &Value) -> String {
    let encode = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
    let header = encode(json!({ "alg": "HS256", "typ": "JWT" }).to_string());
    format!("{header}.{}.{}", encode(claims.to_string()), mint(""))
}

/// Unix time in seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The codes that devices were given, and what people said to them.
#[derive(Default)]
struct Desk {
    codes: Vec<Code>,
}

struct Code {
    device: String,
    user: String,
    audience: Option<String>,
    /// An answer of the person: yes or no. It is given to one poll.
    answer: Option<bool>,
    spent: bool,
}

impl Desk {
    /// Device code and user code.
    fn open(&mut self, user: &str, audience: Option<String>) -> String {
        let device = mint("");
        let user = user.to_owned();
        self.codes.push(Code {
            device: device.clone(),
            user,
            audience,
            answer: None,
            spent: false,
        });
        device
    }

    fn decide(&mut self, user: &str, yes: bool) -> bool {
        let code = self.codes.iter_mut().rev().find(|code| code.user == user && !code.spent);
        code.is_some_and(|code| code.answer.replace(yes).is_none())
    }

    /// The audience that was asked for, or the error of RFC 8628 section 3.5.
    fn redeem(&mut self, device: &str) -> Result<Option<String>, &'static str> {
        let code = self.codes.iter_mut().find(|code| code.device == device);
        let code = code.filter(|code| !code.spent).ok_or("expired_token")?;
        match code.answer {
            None => Err("authorization_pending"),
            Some(answer) => {
                code.spent = true;
                answer.then(|| code.audience.clone()).ok_or("access_denied")
            }
        }
    }
}
