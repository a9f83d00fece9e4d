//! Signing in, renewing and revoking at an authorization server. This room speaks RFC 6749 and
//! its family to servers and in plain words to the person, and never knows where tokens live.

mod account;
mod address;
mod answer;
mod aws;
mod challenge;
mod client;
mod code;
mod connection;
mod device;
mod discovery;
mod exchange;
mod http;
mod identity;
mod issued;
mod metadata;
mod network;
mod qr;
mod registration;
mod relay;
mod renewal;
mod service;
pub mod workload;

use std::cell::RefCell;
use std::time::Duration;

use url::Url;

use crate::clock::Clock;
use crate::environment::Environment;
use crate::error::{Error, Kind};
use crate::model::{Fields, Holder, Secret, TokenSet};
use crate::profile::{ClientAuth, Flow, Issuer, Profile, Site};
use crate::ui::Ui;
pub use account::{Introduction, Standing};
use address::Reach;
use answer::refused;
use http::{Answer, Http, Unanswered};
use identity::Expected;
use issued::audience;
use metadata::Server;
use registration::{Client, Credentials};

/// How long a person may take unless somebody says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// What the broker does next.
#[derive(Debug)]
pub enum Failure {
    /// `invalid_grant`: this refresh token or code will never work again.
    GrantDead,
    /// The person said no.
    Denied,
    /// The person did not answer in time.
    Expired,
    /// The server will not renew, for a reason of its own: a sign-in can help, and the refresh
    /// token may be good again once the reason is gone.
    Refused(Error),
    /// Network or server: nothing was decided.
    Transient(Error),
    /// Anything else that the server or the configuration says.
    Other(Error),
}

impl Failure {
    /// In words, for who can do nothing else about it.
    #[must_use]
    pub fn error(self, whose: impl std::fmt::Display) -> Error {
        match self {
            Self::Transient(error) | Self::Other(error) | Self::Refused(error) => error,
            Self::GrantDead | Self::Denied | Self::Expired => {
                Error::new(Kind::Rejected, format!("{whose} could not be asked"))
            }
        }
    }
}

/// How this sign-in differs from the profile's habit.
#[derive(Clone, Debug)]
pub struct Options {
    pub flow: Flow,
    pub open_browser: bool,
    pub port: Option<u16>,
    /// Instead of the profile's scopes, if not empty.
    pub scopes: Vec<String>,
    /// How long the person may take. `None`: as long as a device code lives, else `TIMEOUT`.
    pub timeout: Option<Duration>,
    /// Whom the person wants to be, as a hint to the server.
    pub account: Option<String>,
    /// Who was signed in until now.
    pub known: Option<String>,
    /// What the person says about the profile's fields.
    pub fields: Fields,
    /// The document about this client, for servers that take its URL as a client id.
    pub client_metadata: Option<Url>,
    /// The host that is signed in to takes the ID token, so that without one there is no sign-in.
    pub identity: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flow: Flow::Auto,
            open_browser: true,
            port: None,
            scopes: Vec::new(),
            timeout: None,
            account: None,
            known: None,
            fields: Fields::new(),
            client_metadata: None,
            identity: false,
        }
    }
}

/// What a sign-in brought.
#[derive(Debug)]
pub struct SignedIn {
    pub tokens: TokenSet,
    /// The client that the tokens were issued to.
    pub client_id: String,
    /// Who signed in, if the provider tells.
    pub account: Option<String>,
    pub holder: Holder,
    pub fields: Fields,
}

pub struct Oauth<'a> {
    pub ui: &'a Ui<'a>,
    pub clock: &'a dyn Clock,
    environment: &'a Environment,
    /// Names of variables that no child may see.
    hidden: &'a dyn Fn(&str) -> bool,
    http: Http<'a>,
    /// For what hosts say that nobody configured.
    guarded: Http<'a>,
    /// The client that authenticated last, and how.
    proven: RefCell<Option<(String, ClientAuth)>>,
}

impl<'a> Oauth<'a> {
    pub fn new(
        ui: &'a Ui<'a>,
        clock: &'a dyn Clock,
        environment: &'a Environment,
        hidden: &'a dyn Fn(&str) -> bool,
    ) -> Self {
        let guarded = Http::within(Reach::Outside, environment, clock, hidden);
        let http = Http::new(environment, clock, hidden);
        Self { ui, clock, environment, hidden, http, guarded, proven: RefCell::default() }
    }

    /// Does this work with servers until this time of the monotonic clock, and no longer: what is
    /// unanswered then is `Transient`. `None`: each request has its own bound.
    pub fn until<T>(&self, until: Option<Duration>, work: impl FnOnce() -> T) -> T {
        let both = [&self.http, &self.guarded];
        let before = both.map(|http| http.end_at(until));
        for (http, before) in both.into_iter().zip(before) {
            // The sooner of two.
            http.end_at([until, before].into_iter().flatten().min());
        }
        let outcome = work();
        for (http, before) in both.into_iter().zip(before) {
            http.end_at(before);
        }
        outcome
    }

    /// The way to a profile's servers.
    fn http(&self, profile: &Profile) -> &Http<'a> {
        self.http_within(profile.inside)
    }

    fn http_within(&self, inside: bool) -> &Http<'a> {
        if inside { &self.http } else { &self.guarded }
    }

    /// Asks the person, by the flow that fits where they sit.
    ///
    /// # Errors
    /// Every `Failure` but `GrantDead` and `Refused`.
    pub fn sign_in(&self, profile: &Profile, options: &Options) -> Result<SignedIn, Failure> {
        if profile.authority().is_empty()
            && let Some(error) = profile.unconfigured()
        {
            return Err(Failure::Other(error));
        }
        // Whoever signs in may do so because what was known of the server is no longer true.
        let wanted = self.wanted(profile, options);
        let server = self.server_with(profile, metadata::ASK_ANEW, &wanted)?;
        let flow = self.choose(profile, options, &server)?;
        if profile.site.is_none() {
            // Nobody signs in where no token could be fetched afterwards.
            server.token()?;
        }
        self.ui.log(|| format!("sign in to {} by {flow:?}", profile.home()));
        let mut client = match &profile.site {
            None => self.client(profile, options, &server, flow)?,
            // Such a site knows no clients.
            Some(_) => Client {
                id: profile.client_id.clone(),
                credentials: Credentials::of(profile),
                redirect: profile.redirect.clone(),
                kept: false,
            },
        };
        if let Some(Site::Handoff(handoff)) = &profile.site {
            let attempt = Attempt { oauth: self, profile, options, server: &server };
            return code::handoff::sign_in(&attempt, handoff, flow);
        }
        let mut outcome = self.attempt(profile, options, &server, flow, &client);
        // Servers forget registrations. They say so to us, or to the person in the browser, who
        // then never comes back.
        let forgotten = match &outcome {
            Err(Failure::Other(error)) => error.kind == Kind::Configuration,
            Err(Failure::Expired) => true,
            _ => false,
        };
        if client.kept && forgotten && self.forget_client(profile, &client.id) {
            self.ui.log(|| format!("{} may have forgotten this client", profile.home()));
            if matches!(outcome, Err(Failure::Other(_))) {
                client = self.client(profile, options, &server, flow)?;
                outcome = self.attempt(profile, options, &server, flow, &client);
            }
        }
        let tokens = outcome?;
        self.say_what_is_less(profile, options, &tokens);
        let who = self.account(profile, &options.fields, &server, &tokens).unwrap_or_default();
        let Introduction { account, holder, fields } = who;
        Ok(SignedIn { tokens, client_id: client.id, account, holder, fields })
    }

    fn attempt(
        &self,
        profile: &Profile,
        options: &Options,
        server: &Server,
        flow: Flow,
        client: &Client,
    ) -> Result<TokenSet, Failure> {
        let Client { id: client_id, credentials, redirect, .. } = client;
        let (client_id, redirect) = (client_id.clone(), redirect.clone());
        let Credentials { secret: client_secret, method: client_auth } = credentials.clone();
        let profile =
            Profile { client_id, client_secret, client_auth, redirect, ..profile.clone() };
        let attempt = Attempt { oauth: self, profile: &profile, options, server };
        match (flow, &profile.site) {
            (Flow::Relay, Some(Site::Relay(relay))) => relay::sign_in(&attempt, relay),
            (Flow::Device, _) => device::sign_in(&attempt),
            _ => code::sign_in(&attempt, flow),
        }
    }

    /// Trades a refresh token for new tokens (RFC 6749 section 6).
    ///
    /// # Errors
    /// `GrantDead` when the server ends the grant; `Refused` when it says no in any other way, be it
    /// by an error of RFC 6749 section 5.2 or by a status of 4xx alone; `Transient` when it has not
    /// decided; `Other` when what answered is no token endpoint.
    pub fn refresh(
        &self,
        profile: &Profile,
        client_id: &str,
        refresh: &Secret,
    ) -> Result<TokenSet, Failure> {
        let (endpoint, server) = self.token_endpoint(profile)?;
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh.expose())];
        form.extend(common(profile));
        self.ui.log(|| format!("refresh at {endpoint}"));
        let (answer, second) =
            self.ask_for_renewal(profile, client_id, server.as_ref(), &endpoint, &form)?;
        let issuer = profile.issuer.as_ref().map(Issuer::text);
        let expected = Expected { client_id: audience(profile, client_id), issuer, nonce: None };
        let outcome = match self.issued(profile, &expected, &answer, false) {
            Err(Failure::GrantDead) if second => Err(renewal::rotated(profile, &answer)),
            outcome => outcome,
        };
        outcome.map_err(|failure| match failure {
            // A registration ends with all that was issued to it.
            Failure::Other(error)
                if error.kind == Kind::Configuration && self.forget_client(profile, client_id) =>
            {
                Failure::GrantDead
            }
            Failure::Other(error) if answer.refuses() => Failure::Refused(error),
            Failure::Denied | Failure::Expired => {
                let what = format!("{} no longer lets this session be renewed", answer.host);
                Failure::Refused(Error::new(Kind::Rejected, what))
            }
            failure => failure,
        })
    }

    /// The token endpoint, and the server's own description where it was needed to find it.
    fn token_endpoint(&self, profile: &Profile) -> Result<(Url, Option<Server>), Failure> {
        match &profile.endpoints.token {
            Some(endpoint) => Ok((endpoint.clone(), None)),
            None => {
                let server = self.server(profile, metadata::LIFETIME)?;
                Ok((server.token()?, Some(server)))
            }
        }
    }

    /// Revokes a session's tokens, the refresh token first (RFC 7009 section 2.1). `false` where
    /// the server has no such endpoint.
    ///
    /// # Errors
    /// `Transient` when the tokens may still live, `Other` when the server refuses.
    pub fn revoke(
        &self,
        profile: &Profile,
        client_id: &str,
        tokens: &TokenSet,
    ) -> Result<bool, Failure> {
        if let Some(workload) = &profile.workload
            && !workload.exchange.is_oauth()
        {
            return self.give_back(profile, &workload.exchange, tokens);
        }
        let (endpoint, server) = match &profile.endpoints.revocation {
            Some(endpoint) => (endpoint.clone(), None),
            None => {
                let wanted = [metadata::REVOCATION];
                let server = self.server_with(profile, metadata::LIFETIME, &wanted)?;
                match &server.revocation {
                    Some(endpoint) => (endpoint.clone(), Some(server)),
                    None => return Ok(false),
                }
            }
        };
        let revoke = |kind: &str, token: &Option<Secret>| {
            let Some(token) = token else { return Ok(true) };
            let form = [("token", token.expose()), ("token_type_hint", kind)];
            let answer = self.post_as(profile, client_id, server.as_ref(), &endpoint, &form)?;
            self.ui.log(|| format!("revoke {kind} at {endpoint}: {}", answer.status));
            match answer.status {
                200..300 => Ok(true),
                // RFC 7009 section 2.2.1: not every server revokes every kind.
                400 if answer.text().contains("unsupported_token_type") => Ok(true),
                // Section 2.1 lets a server hear only clients that have a secret, and this one has
                // none: as if there were no such endpoint.
                401 if profile.client_secret.is_none() => Ok(false),
                400 | 403
                    if profile.client_secret.is_none()
                        && ["invalid_client", "unauthorized_client"]
                            .iter()
                            .any(|code| answer.text().contains(code)) =>
                {
                    Ok(false)
                }
                500.. | 429 => Err(answer.transient()),
                _ => Err(Failure::Other(refused(&answer))),
            }
        };
        let refresh = revoke("refresh_token", &tokens.refresh);
        // One that the server would not take is no reason to let the other live.
        let access = revoke("access_token", &tokens.access);
        Ok(refresh? & access?)
    }

    /// `age`: how many seconds old the server's description may be.
    fn server(&self, profile: &Profile, age: u64) -> Result<Server, Failure> {
        self.server_with(profile, age, &[])
    }

    /// `wanted`: endpoints that all of the server's documents are looked through for.
    fn server_with(&self, profile: &Profile, age: u64, wanted: &[&str]) -> Result<Server, Failure> {
        let (http, environment) = (self.http(profile), self.environment);
        metadata::find(profile, age, wanted, http, environment, self.clock, self.ui)
    }

    /// The endpoints that a sign-in needs, and those that it can do more with.
    fn wanted(&self, profile: &Profile, options: &Options) -> Vec<&'static str> {
        let flow = match options.flow {
            Flow::Auto => profile.flow.unwrap_or_default(),
            flow => flow,
        };
        let here = self.ui.can_open_browser();
        let device = flow == Flow::Device || (flow == Flow::Auto && !here);
        let openid = profile.scopes.iter().any(|scope| scope == "openid");
        let all = [
            (metadata::TOKEN, true),
            (metadata::AUTHORIZATION, flow != Flow::Device),
            (metadata::DEVICE, device),
            (metadata::REGISTRATION, profile.client_id.is_empty()),
            (metadata::USERINFO, openid && profile.account.is_none()),
        ];
        all.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect()
    }

    /// A browser on this machine if there is one, because a code that is typed elsewhere can be
    /// phished (cross-device BCP); else the device flow, else a pasted code.
    fn choose(
        &self,
        profile: &Profile,
        options: &Options,
        server: &Server,
    ) -> Result<Flow, Failure> {
        let asked = [Some(options.flow), profile.flow].into_iter().flatten();
        let wanted = asked.into_iter().find(|flow| *flow != Flow::Auto).unwrap_or(Flow::Auto);
        let device = server.device_authorization.is_some();
        let authorization = server.authorization.is_some();
        let unable = |what: &str| {
            let what = format!("{} {what}", profile.home());
            Err(Failure::Other(Error::new(Kind::Configuration, what)))
        };
        let lacks = |what: &str, name: &str| unable(&format!("{what}{}", server.trouble(name)));
        match (wanted, &profile.site) {
            // The page is the same, and only the listener is left out.
            (Flow::Paste | Flow::Auto | Flow::Handoff, Some(Site::Handoff(_))) => {
                return Ok(wanted);
            }
            (Flow::Auto | Flow::Relay, Some(Site::Relay(_))) => return Ok(Flow::Relay),
            (Flow::Handoff | Flow::Relay, _) => return unable("has no such way to sign in"),
            (Flow::None, _) => {}
            (_, Some(_)) => return unable("has its own way to sign in, and no other"),
            (_, None) => {}
        }
        match wanted {
            Flow::None => unable("has no sign-in: its profile says flow = \"none\""),
            Flow::Workload => unable("has no [workload] in its profile"),
            Flow::Token => unable("has no sign-in: a token is pasted there"),
            Flow::Device if !device => {
                lacks("has no device authorization endpoint", metadata::DEVICE)
            }
            Flow::Browser | Flow::Paste if !authorization => {
                lacks("has no authorization endpoint", metadata::AUTHORIZATION)
            }
            Flow::Auto if authorization && self.ui.can_open_browser() => Ok(Flow::Browser),
            // A server that names an endpoint and slips has another way only by its own word: a
            // code that is typed elsewhere can be phished.
            Flow::Auto
                if self.ui.can_open_browser()
                    && !server.trouble(metadata::AUTHORIZATION).is_empty() =>
            {
                lacks("has no authorization endpoint", metadata::AUTHORIZATION)
            }
            Flow::Auto if device => Ok(Flow::Device),
            Flow::Auto if authorization => Ok(Flow::Paste),
            Flow::Auto => {
                let what = "has neither an authorization nor a device endpoint";
                lacks(what, metadata::AUTHORIZATION)
            }
            flow => Ok(flow),
        }
    }

    /// A pause of up to a quarter of a second, so that machines which wake at the same moment do
    /// not all ask at the same moment.
    pub fn spread(&self) {
        let mut byte = [0];
        // Without a random number all pause for the same time: no harm.
        let _ = rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut byte);
        self.clock.sleep(Duration::from_millis(u64::from(byte[0]) + 1));
    }
}

/// One sign-in on its way.
struct Attempt<'a> {
    oauth: &'a Oauth<'a>,
    profile: &'a Profile,
    options: &'a Options,
    server: &'a Server,
}

impl Attempt<'_> {
    fn scope(&self) -> String {
        let chosen = &self.options.scopes;
        if chosen.is_empty() { self.profile.scopes.join(" ") } else { chosen.join(" ") }
    }

    /// Posts to the token endpoint with what every such request carries.
    fn token(&self, form: &[(&str, &str)]) -> Result<Answer, Failure> {
        let mut form = form.to_vec();
        form.extend(common(self.profile));
        Ok(self.post(&self.server.token()?, &form)?)
    }

    /// Posts as the client of this sign-in.
    fn post(&self, endpoint: &Url, form: &[(&str, &str)]) -> Result<Answer, Unanswered> {
        let id = &self.profile.client_id;
        self.oauth.post_as(self.profile, id, Some(self.server), endpoint, form)
    }

    /// Reads the answer that a sign-in ends with.
    fn issued(&self, answer: &Answer) -> Result<TokenSet, Failure> {
        self.issued_with(answer, None)
    }

    /// As `issued`, for a request that carried a nonce.
    fn issued_with(&self, answer: &Answer, nonce: Option<&str>) -> Result<TokenSet, Failure> {
        let client_id = audience(self.profile, &self.profile.client_id);
        let issuer = self.server.issuer.as_deref();
        let expected = Expected { client_id, issuer, nonce };
        let strict = self.profile.wants_nothing_else() || self.options.identity;
        self.oauth.issued(self.profile, &expected, answer, strict)
    }

    /// Shows the address, in a browser where one can be opened that is `ours` to reach.
    fn open(&self, url: &Url, ours: bool) {
        let ui = self.oauth.ui;
        let home = self.profile.home();
        if ours && self.options.open_browser && ui.can_open_browser() && ui.open(url) {
            ui.say(&format!("opening a browser to sign in to {home}; if none appears, open"));
        } else {
            ui.say(&format!("to sign in to {home}, open"));
        }
        ui.say(&format!("  {url}"));
    }

    /// Whoever waits for us is gone: nobody needs the answer, and a window that opens now would
    /// surprise.
    fn caller_is_there(&self) -> Result<(), Failure> {
        if self.oauth.ui.caller_is_gone() {
            let what = "the program that asked for the sign-in has gone away";
            return Err(Failure::Transient(Error::new(Kind::Temporary, what)));
        }
        Ok(())
    }
}

/// The parameters that every authorization and token request of a profile carries.
fn common(profile: &Profile) -> Vec<(&'static str, &str)> {
    let audience = profile.audience.as_deref().map(|audience| ("audience", audience));
    let resource = profile.resource.as_deref().map(|resource| ("resource", resource));
    audience.into_iter().chain(resource).collect()
}

/// For fuzzing: whatever a server says, no token comes in that is more than a word, and no
/// message goes out that could act on a terminal.
#[cfg(any(test, fuzzing))]
pub mod fuzzing {
    use super::answer::read_token;
    pub use super::aws::fuzz as keys;
    pub use super::challenge::fuzz as challenge;
    pub use super::code::fuzz as redirect;
    pub use super::code::handoff::fuzz as handoff;
    pub use super::discovery::fuzz as resource_metadata;
    pub use super::metadata::fuzz as metadata;
    pub use super::registration::fuzz as registration;
    pub use super::relay::fuzz as relay;
    pub use super::workload::fuzz as claims;
    use super::{Answer, Expected, Failure, identity};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    /// # Panics
    /// When that is not so.
    pub fn token_answer(body: &[u8]) {
        let now = 1_700_000_000;
        // The same bytes as what an ID token says.
        let token = format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(body));
        let expected = Expected {
            client_id: Some("client"),
            issuer: Some("https://auth.example"),
            nonce: None,
        };
        let found = identity::read(&token, &expected, now);
        assert!(found.is_err() || found.is_ok_and(|identity| identity.expires > now));
        for kind in ["application/json", "application/x-www-form-urlencoded"] {
            for status in [200, 400, 503] {
                let answer = Answer::scripted(status, kind, body);
                match read_token(&answer, None, now) {
                    Ok(tokens) => {
                        assert_eq!(status, 200);
                        let tokens = [tokens.access, tokens.refresh];
                        for token in tokens.into_iter().flatten() {
                            assert!(token.expose().bytes().all(|byte| byte.is_ascii_graphic()));
                        }
                    }
                    Err(Failure::Transient(error) | Failure::Other(error)) => {
                        assert!(!error.what.chars().any(char::is_control));
                    }
                    Err(_) => {}
                }
            }
        }
    }
}
