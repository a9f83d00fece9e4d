//! A job of a pipeline, and everything that it talks to, in one server: the platform that vouches
//! for it, and every kind of issuer that takes the identity token in exchange. Each takes a token
//! once, as PyPI does.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::sandbox::Sandbox;
use super::server::{Answer, Entry, Reply, Request, Server};

/// What the runner of GitHub Actions and the step of Azure Pipelines have to show.
pub const RUNNER: &str = "canary-of-the-runner";

/// Who the job is.
pub const SUBJECT: &str = "repo:acme/s:ref:refs/heads/main";

/// In 2033.
pub const EXPIRES: u64 = 2_000_000_000;

pub struct Job {
    pub sandbox: Sandbox,
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Answers that come before the usual ones.
    next: HashMap<String, VecDeque<Reply>>,
    vouched: usize,
    issued: usize,
    shown: HashSet<String>,
    given_back: Vec<String>,
    expires_in: Option<u64>,
}

/// A token with these claims beside the usual ones. Its signature is nonsense.
pub fn jwt(audience: &str, number: usize) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header = encode(&json!({ "alg": "RS256", "typ": "JWT" }));
    let claims = encode(&json!({
        "iss": "https://platform.example", "sub": SUBJECT, "aud": audience,
        "exp": EXPIRES, "jti": format!("id-{number}"), "repository": "acme/s",
    }));
    format!("{header}.{claims}.Y2FuYXJ5LW9mLWEtc2lnbmF0dXJl")
}

/// The claim of this name in a token.
pub fn claim(token: &str, name: &str) -> Option<String> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    claims[name].as_str().map(str::to_owned)
}

impl Job {
    /// A job of GitHub Actions that may have identity tokens.
    pub fn new(program: &Path) -> Self {
        let state = Arc::new(Mutex::new(State { expires_in: Some(3600), ..State::default() }));
        let server = Server::start({
            let state = Arc::clone(&state);
            move |request: &Request| serve(&mut locked(&state), request)
        });
        let sandbox = Sandbox::new(program);
        sandbox.env("VALETKEY_STORE", "file").env("CI", "true");
        let job = Self { sandbox, server, state };
        job.sandbox
            .env("GITHUB_ACTIONS", "true")
            .env("ACTIONS_ID_TOKEN_REQUEST_URL", job.url("/idtoken?api-version=2.0&job=7"))
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", RUNNER);
        job
    }

    /// The platform is another one, or none.
    pub fn leave_github(&self) -> &Sandbox {
        for name in
            ["GITHUB_ACTIONS", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
        {
            self.sandbox.remove_env(name);
        }
        &self.sandbox
    }

    pub fn origin(&self) -> String {
        self.server.origin()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }

    /// A profile for `https://git.example` whose tokens come from `/token`, with lines of the
    /// test's own for the profile and for its workload.
    pub fn profile(&self, more: &str, workload: &str) {
        self.sandbox.config(&format!(
            "[profile.ci]\norigins = [\"https://git.example\"]\nflow = \"workload\"\n\
             token_endpoint = \"{}\"\n{more}\n[profile.ci.workload]\n{workload}\n",
            self.url("/token"),
        ));
    }

    pub fn next(&self, path: &str, reply: impl Into<Reply>) {
        locked(&self.state).next.entry(path.to_owned()).or_default().push_back(reply.into());
    }

    pub fn expires_in(&self, seconds: Option<u64>) {
        locked(&self.state).expires_in = seconds;
    }

    /// How many identity tokens the platform gave.
    pub fn vouched(&self) -> usize {
        locked(&self.state).vouched
    }

    /// The tokens that came back.
    pub fn given_back(&self) -> Vec<String> {
        locked(&self.state).given_back.clone()
    }

    pub fn asked(&self, path: &str) -> Vec<Entry> {
        self.server.journal().at_path(path)
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(state: &mut State, request: &Request) -> Reply {
    if let Some(reply) = state.next.get_mut(&request.path).and_then(VecDeque::pop_front) {
        return reply;
    }
    answer(state, request).into()
}

fn answer(state: &mut State, request: &Request) -> Answer {
    let field = |name: &str| request.field(name).unwrap_or_default();
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let member = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let bearer = request.bearer().unwrap_or_default();
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/idtoken") if bearer == RUNNER => {
            let token = state.vouch(request.parameter("audience").unwrap_or_default());
            Answer::json(200, &json!({ "count": token.len(), "value": token }))
        }
        ("POST", "/azure") if bearer == RUNNER => {
            let token = state.vouch("api://AzureADTokenExchange");
            Answer::json(200, &json!({ "oidcToken": token }))
        }
        ("GET", "/computeMetadata/v1/instance/service-accounts/default/identity")
            if request.header("Metadata-Flavor") == Some("Google") =>
        {
            let token = state.vouch(request.parameter("audience").unwrap_or_default());
            Answer::text(200, &token)
        }
        ("POST", "/token") => {
            let token = match field("grant_type").as_str() {
                "urn:ietf:params:oauth:grant-type:token-exchange"
                    if ["jwt", "id_token"].iter().any(|kind| {
                        field("subject_token_type")
                            == format!("urn:ietf:params:oauth:token-type:{kind}")
                    }) =>
                {
                    field("subject_token")
                }
                "urn:ietf:params:oauth:grant-type:jwt-bearer" => field("assertion"),
                "client_credentials"
                    if field("client_assertion_type")
                        == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" =>
                {
                    field("client_assertion")
                }
                _ => return Answer::json(400, &json!({ "error": "unsupported_grant_type" })),
            };
            match state.issue(&token) {
                Ok(access) => {
                    let mut answer = json!({
                        "access_token": access, "token_type": "Bearer",
                        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                    });
                    if let Some(seconds) = state.expires_in {
                        answer["expires_in"] = seconds.into();
                    }
                    Answer::json(200, &answer)
                }
                Err(why) => {
                    // Some quote what they were sent.
                    let said = format!("{why}: {token}");
                    let answer = json!({ "error": "invalid_grant", "error_description": said });
                    Answer::json(400, &answer)
                }
            }
        }
        ("POST", "/impersonate") if bearer.starts_with("issued-") => Answer::json(
            200,
            &json!({ "accessToken": format!("as-{bearer}"), "expireTime": "2033-05-18T03:33:20Z" }),
        ),
        ("GET", "/_/oidc/audience") => Answer::json(200, &json!({ "audience": "pypi" })),
        ("POST", "/_/oidc/mint-token") => match state.issue(&member("token")) {
            Ok(token) => Answer::json(200, &json!({ "success": true, "token": token })),
            Err(why) => Answer::json(
                422,
                &json!({ "message": "Token request failed", "errors": [
                    { "code": "invalid-publisher", "description": "valid token, but no publisher" },
                    { "code": "invalid-reuse-token", "description": why },
                ] }),
            ),
        },
        ("POST", "/api/v1/trusted_publishing/tokens") => match state.issue(&member("jwt")) {
            Ok(token) => Answer::json(200, &json!({ "token": token })),
            Err(why) => Answer::json(400, &json!({ "errors": [{ "detail": why }] })),
        },
        ("DELETE", "/api/v1/trusted_publishing/tokens") => {
            state.given_back.push(bearer.to_owned());
            Answer::empty(204)
        }
        ("POST", "/revoke") => {
            state.given_back.push(field("token"));
            Answer::empty(200)
        }
        ("GET", "/sts/exchange") => match state.issue(bearer) {
            Ok(token) => Answer::json(200, &json!({ "token": token })),
            Err(why) => Answer::json(401, &json!({ "message": why })),
        },
        ("POST", "/") if field("Action") == "AssumeRoleWithWebIdentity" => {
            let role = field("RoleArn");
            let known = role.ends_with(":role/deploy");
            let issued = match known {
                true => state.issue(&field("WebIdentityToken")),
                false => Err(format!("Not authorized to assume {role}")),
            };
            match issued {
                Ok(token) => Answer::typed(200, "text/xml", &keys(&token)),
                Err(why) => Answer::typed(
                    403,
                    "text/xml",
                    &format!(
                        "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
                         <Message>{why}</Message></Error></ErrorResponse>"
                    ),
                ),
            }
        }
        _ => Answer::json(404, &json!({ "message": "nobody is here" })),
    }
}

/// What AWS answers, as far as anybody reads it.
pub fn keys(token: &str) -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIALAB</AccessKeyId>\
         <SecretAccessKey>secret/{token}</SecretAccessKey><SessionToken>session+{token}==\
         </SessionToken><Expiration>2033-05-18T03:33:20Z</Expiration></Credentials>\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
}

impl State {
    fn vouch(&mut self, audience: &str) -> String {
        self.vouched += 1;
        jwt(audience, self.vouched)
    }

    /// The name of a token tells which identity it was issued for.
    fn issue(&mut self, token: &str) -> Result<String, String> {
        let Some(number) = claim(token, "jti") else { return Err("this is no token".to_owned()) };
        if claim(token, "aud").is_none_or(|audience| audience.is_empty()) {
            return Err("it is for nobody".to_owned());
        }
        if !self.shown.insert(token.to_owned()) {
            return Err("it was shown before".to_owned());
        }
        self.issued += 1;
        Ok(format!("issued-{}-for-{number}", self.issued))
    }
}
