//! The scripted authorization server. Left alone it follows the rules and is strict about them:
//! discovery, authorization code with PKCE, device code, rotating refresh tokens whose reuse kills
//! the grant, revocation, and a page that says who a token belongs to. A test can change its mind
//! at any time, and can put steps in front of its next answers.
//!
//! Tokens here do not die by the clock: `expires_in` is only what the server says, and a token is
//! dead when the test says so. That keeps the tests free of waiting.

mod endpoints;
mod ledger;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::server::{Answer, Gate, Journal, Reply, Request, Server};
use ledger::{Decision, Ledger};

/// The public client that every authority knows.
pub const CLIENT_ID: &str = "lab-client";

/// How the authority behaves. Given at the start, and changed with [`Authority::tune`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The part of the issuer behind its origin: empty, or `/tenant`.
    pub issuer_path: String,
    /// Who signs in next.
    pub account: String,
    pub expires_in: Option<i64>,
    pub refreshing: Refreshing,
    /// An `id_token` when the scope has `openid`.
    pub id_token: bool,
    pub iss_in_callback: bool,
    pub iss_advertised: bool,
    /// `None` leaves the member out.
    pub device_interval: Option<u64>,
    pub device_expires_in: i64,
    pub verification_uri_complete: bool,
    /// The person approves every device before the poll after this many.
    pub approve_devices_after: Option<u32>,
    /// RFC 7591: anybody may register a client.
    pub registration: bool,
    /// Redirects are compared letter for letter, port and all.
    pub exact_redirects: bool,
    /// RFC 9126: requests may be pushed, and must be where the second is set too.
    pub pushing: bool,
    pub only_pushed: bool,
    /// A client id may be the URL of a document.
    pub client_documents: bool,
    /// The device endpoint wants PKCE.
    pub device_challenge: bool,
    /// RFC 8707: only tokens for this resource are issued.
    pub resource: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            issuer_path: String::new(),
            account: "alice".to_owned(),
            expires_in: Some(3600),
            refreshing: Refreshing::Rotate,
            id_token: true,
            iss_in_callback: true,
            iss_advertised: true,
            device_interval: Some(1),
            device_expires_in: 600,
            verification_uri_complete: true,
            approve_devices_after: None,
            registration: true,
            exact_redirects: false,
            pushing: false,
            only_pushed: false,
            client_documents: false,
            device_challenge: false,
            resource: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshing {
    /// A new refresh token with every refresh; the old one is spent.
    Rotate,
    /// One refresh token for the life of the grant, not repeated in the answers.
    Keep,
    /// No refresh token at all.
    Never,
}

/// What an endpoint does instead of, before or after its default work.
#[derive(Clone)]
pub enum Step {
    Answer(Answer),
    Default,
    /// The connection is closed before anything is done.
    Close,
    /// The default work is done, and nobody is told.
    CloseAfterwards,
    /// Waits at the gate, then does the default work.
    Hold(Gate),
    /// Does the default work, then waits at the gate before it answers.
    HoldAnswer(Gate),
    /// Waits at the gate, then closes; nothing is done.
    HoldAndClose(Gate),
    Endless,
    /// The default answer, a byte at a time with this pause before each.
    Slow(Duration),
    Redirect(String),
    Raw(Vec<u8>),
}

impl Step {
    pub fn json(status: u16, value: &Value) -> Self {
        Self::Answer(Answer::json(status, value))
    }

    /// An OAuth error with status 400.
    pub fn error(code: &str) -> Self {
        Self::Answer(endpoints::refusal(code))
    }

    pub fn status(status: u16) -> Self {
        Self::Answer(Answer::text(status, "the laboratory says so\n"))
    }
}

type MetadataEdit = Box<dyn Fn(&mut Map<String, Value>) + Send>;

struct State {
    origin: String,
    options: Options,
    ledger: Ledger,
    metadata_edits: Vec<MetadataEdit>,
    next: HashMap<String, VecDeque<Step>>,
    always: HashMap<String, Step>,
}

pub struct Authority {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Authority {
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Self {
        let mut shared = None;
        let server = Server::start_knowing_origin(|origin| {
            let state = Arc::new(Mutex::new(State {
                origin: origin.to_owned(),
                options,
                ledger: Ledger::new(),
                metadata_edits: Vec::new(),
                next: HashMap::new(),
                always: HashMap::new(),
            }));
            shared = Some(Arc::clone(&state));
            move |request: &Request| serve(&state, request)
        });
        Self { server, state: shared.expect("the handler has been made") }
    }

    pub fn origin(&self) -> String {
        self.server.origin()
    }

    pub fn issuer(&self) -> String {
        issuer(&self.locked())
    }

    /// The absolute URL of an endpoint: `url("/token")`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.origin())
    }

    pub fn journal(&self) -> &Journal {
        self.server.journal()
    }

    /// How often an endpoint was asked.
    pub fn asked(&self, path: &str) -> usize {
        self.journal().count(|entry| entry.request.path == path)
    }

    /// How often the token endpoint was asked for this grant type.
    pub fn asked_for(&self, grant_type: &str) -> usize {
        self.journal().count(|entry| {
            entry.request.path == "/token"
                && entry.request.field("grant_type").as_deref() == Some(grant_type)
        })
    }

    /// Changes how the authority behaves from now on.
    pub fn tune(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.locked().options);
    }

    /// Who signs in from now on.
    pub fn sign_in_as(&self, account: &str) {
        self.tune(|options| options.account = account.to_owned());
    }

    /// Queues steps for an endpoint, each good for one request.
    pub fn next(&self, path: &str, steps: Vec<Step>) {
        self.locked().next.entry(path.to_owned()).or_default().extend(steps);
    }

    /// What an endpoint does whenever no queued step is left. `Step::Default` ends it.
    pub fn always(&self, path: &str, step: Step) {
        self.locked().always.insert(path.to_owned(), step);
    }

    /// Edits the discovery document, as it is answered from now on.
    pub fn metadata(&self, edit: impl Fn(&mut Map<String, Value>) + Send + 'static) {
        self.locked().metadata_edits.push(Box::new(edit));
    }

    pub fn token_is_live(&self, access_token: &str) -> bool {
        self.locked().ledger.owner_of_access(access_token).is_some()
    }

    /// The account that a live access token belongs to.
    pub fn owner_of(&self, access_token: &str) -> Option<String> {
        self.locked().ledger.owner_of_access(access_token)
    }

    pub fn expire_access(&self, access_token: &str) {
        self.locked().ledger.kill_access(access_token);
    }

    /// Every access token dies, as by the clock or by an administrator; the grants live on.
    pub fn expire_all_access(&self) {
        self.locked().ledger.kill_all_access();
    }

    /// Every grant dies with all its tokens: refreshing answers `invalid_grant`.
    pub fn revoke_grants(&self) {
        self.locked().ledger.kill_all_grants();
    }

    /// The registered clients are known no more.
    pub fn forget_clients(&self) {
        self.locked().ledger.forget_clients();
    }

    pub fn live_grants(&self) -> usize {
        self.locked().ledger.live_grants()
    }

    /// A grant made without anybody's help, for tests that begin signed in.
    pub fn grant(&self, account: &str) -> Tokens {
        let mut state = self.locked();
        let with_refresh = state.options.refreshing != Refreshing::Never;
        let grant = state.ledger.open_grant(account, CLIENT_ID, "");
        let issued = state.ledger.issue(grant, with_refresh);
        Tokens { access: issued.access, refresh: issued.refresh }
    }

    /// Every secret that was ever handed out, dead or alive: none of them may leak.
    pub fn secrets(&self) -> Vec<String> {
        self.locked().ledger.secrets()
    }

    /// Waits until that many devices have asked in all, and gives the user code of the last.
    #[track_caller]
    pub fn wait_for_device(&self, number: usize) -> String {
        self.journal().wait_until(&format!("device request {number}"), |entries| {
            let answered = |entry: &&super::server::Entry| {
                entry.request.path == "/device_authorization" && entry.status == Some(200)
            };
            entries.iter().filter(answered).count() >= number
        });
        self.locked().ledger.last_user_code().expect("an answered request has a user code")
    }

    #[track_caller]
    pub fn approve_device(&self, user_code: &str) {
        self.decide(user_code, true);
    }

    #[track_caller]
    pub fn deny_device(&self, user_code: &str) {
        self.decide(user_code, false);
    }

    #[track_caller]
    fn decide(&self, user_code: &str, approved: bool) {
        let mut state = self.locked();
        let account = state.options.account.clone();
        let decision = if approved { Decision::Approved(account) } else { Decision::Denied };
        assert!(state.ledger.decide(user_code, decision), "no device shows the code {user_code}");
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: Option<String>,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn issuer(state: &State) -> String {
    format!("{}{}", state.origin, state.options.issuer_path)
}

fn serve(state: &Mutex<State>, request: &Request) -> Reply {
    let work = || endpoints::answer(&mut locked(state), request);
    let step = {
        let mut state = locked(state);
        let queued = state.next.get_mut(&request.path).and_then(VecDeque::pop_front);
        queued.or_else(|| state.always.get(&request.path).cloned()).unwrap_or(Step::Default)
    };
    match step {
        Step::Answer(answer) => answer.into(),
        Step::Default => work().into(),
        Step::Close => Reply::Close,
        Step::CloseAfterwards => {
            work();
            Reply::Close
        }
        Step::Hold(gate) => {
            gate.pass();
            work().into()
        }
        Step::HoldAnswer(gate) => {
            let answer = work();
            gate.pass();
            answer.into()
        }
        Step::HoldAndClose(gate) => Reply::Stall(gate),
        Step::Endless => Reply::Endless,
        Step::Slow(pause) => Reply::Slow(work(), pause),
        Step::Redirect(location) => Answer::redirect(&location).into(),
        Step::Raw(bytes) => Reply::Raw(bytes),
    }
}
