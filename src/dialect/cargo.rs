//! cargo's credential provider protocol (RFC 2730, version 1): a conversation in lines of JSON
//! that the provider opens. Rules C1 to C17 of protocol.md.

use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Call, Dialect, Served, unmarked};
use crate::error::{Error, Kind, Result};
use crate::model::{
    self, Caller, Credential, Form, Offer, Outcome, Presented, Request, Resource, Scheme, Secret,
    Split, Verb, decoded, is_plain_path, one_line, timestamp,
};

pub const DIALECT: Dialect = Dialect {
    name: "cargo",
    link: Some("cargo-credential-valetkey"),
    usage: "--cargo-plugin",
    about: "cargo's credential provider, which cargo starts",
    serve,
};

/// Bytes of a line: a request quotes every header of an answer.
const LINE: u64 = 1 << 20;

/// Seconds before its expiry at which cargo is to ask again.
const EARLY: u64 = 60;

const HELLO: &[u8] = b"{\"v\":[1]}\n";

/// What cargo may do with a token, as far as we know these; any token of ours is good for all.
const OPERATIONS: &[&str] = &["read", "publish", "yank", "unyank", "owners"];

#[derive(Deserialize)]
struct Asked {
    v: u32,
    registry: Registry,
    kind: String,
    operation: Option<String>,
    token: Option<Zeroizing<String>>,
    #[serde(rename = "login-url")]
    login_url: Option<String>,
}

#[derive(Deserialize)]
struct Registry {
    #[serde(rename = "index-url")]
    index: String,
}

/// One answer, and what a person may want to know about it.
struct Reply {
    body: Zeroizing<String>,
    why: Option<Error>,
}

fn serve(call: &mut Call<'_>) -> Result<Served> {
    if call.arguments != ["--cargo-plugin"] {
        let what = "cargo's credential provider is started by cargo, with --cargo-plugin";
        return Err(Error::new(Kind::Usage, what).hint("valetkey setup cargo"));
    }
    call.wire.send(HELLO)?;
    let mut why = None;
    let mut input = BufReader::new(&mut *call.input);
    loop {
        let mut line = Zeroizing::new(Vec::new());
        let read = Read::take(&mut input, LINE).read_until(b'\n', &mut line);
        match read {
            Ok(0) => return Ok(Served { status: 0, why }),
            Ok(_) if line.len() as u64 == LINE => {
                call.wire.send(Reply::other("the request is longer than 1 MiB").body.as_bytes())?;
                return Ok(Served { status: 0, why });
            }
            Ok(_) => {}
            Err(error) => {
                let what = "the request cannot be read";
                return Err(Error::new(Kind::Failed, what).because(error));
            }
        }
        let reply = answer(&line, call.ask);
        call.wire.send(reply.body.as_bytes())?;
        why = reply.why.or(why);
    }
}

fn answer(line: &[u8], ask: &dyn Fn(&Request) -> Outcome) -> Reply {
    // serde's own message could quote the token.
    let Ok(asked) = serde_json::from_slice::<Asked>(unmarked(line)) else {
        return Reply::other("the request is not one of cargo's");
    };
    if asked.v != 1 {
        return Reply::other("the request is of a version that was not offered");
    }
    let known = asked.operation.as_deref().map(|operation| OPERATIONS.contains(&operation));
    match (asked.kind.as_str(), known) {
        ("get", None) => return Reply::other("the request names no operation"),
        ("get", Some(true)) | ("login" | "logout", _) => {}
        _ => return Reply::error("operation-not-supported"),
    }
    let Some(resource) = resource(&asked.registry.index) else {
        return Reply::error("url-not-supported");
    };
    match asked.kind.as_str() {
        "get" => get(&resource, ask),
        "login" => login(asked, resource, ask),
        _ => logout(&resource, ask),
    }
}

fn get(resource: &Resource, ask: &dyn Fn(&Request) -> Outcome) -> Reply {
    match ask(&request(Verb::Get, resource, None)) {
        Outcome::Found(credential) => Reply::token(&credential),
        Outcome::Failed(error) => Reply::failed(&error),
        Outcome::NotFound(why) => Reply { why: Some(why), ..Reply::error("not-found") },
        // Not `url-not-supported`: cargo would end there, and before a `login` that could help.
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => Reply::error("not-found"),
    }
}

/// With a token: keep it. Without: sign in where a profile says how, else let the person paste one.
fn login(asked: Asked, mut resource: Resource, ask: &dyn Fn(&Request) -> Outcome) -> Reply {
    let outcome = match asked.token {
        Some(token) => match presented(&token) {
            Some(presented) => ask(&request(Verb::Store, &resource, Some(presented))),
            None => return Reply::other("the token is empty, or holds what no token may hold"),
        },
        None => match ask(&request(Verb::Get, &resource, None)) {
            Outcome::Found(credential) if credential.proof.is_some() => Outcome::Done,
            Outcome::Found(_) | Outcome::NotMine => {
                resource.offer = asked.login_url.map(Offer::Page);
                ask(&request(Verb::Paste, &resource, None))
            }
            outcome => outcome,
        },
    };
    match outcome {
        Outcome::Failed(error) | Outcome::NotFound(error) => Reply::failed(&error),
        _ => Reply::done("login"),
    }
}

fn logout(resource: &Resource, ask: &dyn Fn(&Request) -> Outcome) -> Reply {
    match ask(&request(Verb::Erase, resource, None)) {
        Outcome::Failed(error) => Reply::failed(&error),
        Outcome::NotMine | Outcome::NotFound(_) => Reply::error("not-found"),
        _ => Reply::done("logout"),
    }
}

/// The index, by a name of its own beside git's for the same host: a registry's token is no
/// password. `None`: nothing that could have a token.
fn resource(index: &str) -> Option<Resource> {
    // An index in a git repository is fetched with git's credentials; this token is for whatever
    // API it names, so no session is bound to it.
    let index = match index.starts_with("sparse+") {
        true => index.to_owned(),
        false => format!("registry+{index}"),
    };
    let url = Split::new(&index).ok().filter(|url| url.path() == url.rest)?;
    // A user name means nothing here, and a password only to git.
    let user = url.user.map(decoded).transpose().is_ok();
    if !user || url.password.is_some() && index.starts_with("sparse+") {
        return None;
    }
    // Some(""), not None: the root is one index, and no request for all of them.
    let resource = Resource::new(url.scheme?, url.host, Some(url.path()), None).ok();
    resource.filter(|resource| resource.path.as_deref().is_some_and(is_plain_path))
}

fn request(verb: Verb, resource: &Resource, presented: Option<Presented>) -> Request {
    let resource = resource.clone();
    // No lifetime: the answer says when it ends.
    Request { verb, resource, caller: Caller::Patient, lifetime: 0, presented, proof: None }
}

fn presented(typed: &str) -> Option<Presented> {
    let typed = Secret::given(typed);
    let typed = typed.expose();
    let usable = !typed.is_empty() && typed.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    usable.then(|| Presented {
        token: Secret::new(typed.strip_prefix("Bearer ").unwrap_or(typed)),
        ..Presented::alone(Secret::new(typed))
    })
}

/// The whole value of the Authorization header, which cargo takes as it is.
fn authorization(credential: &Credential) -> Secret {
    match &credential.form {
        Form::Token(Scheme::Bearer) | Form::Encoded(_) => credential.header().1,
        Form::Token(Scheme::Basic | Scheme::PrivateToken) | Form::Password => {
            credential.secret.clone()
        }
    }
}

impl Reply {
    fn new(body: &Value) -> Self {
        Self { body: Zeroizing::new(format!("{}\n", *model::json(body))), why: None }
    }

    fn token(credential: &Credential) -> Self {
        let value = authorization(credential);
        let mut answer = json!({
            "kind": "get",
            "token": value.expose(),
            "cache": "session",
            "operation_independent": true,
        });
        if let Some(expires) = credential.expires {
            answer["cache"] = "expires".into();
            answer["expiration"] = timestamp::before(expires, EARLY).into();
        }
        Self::new(&json!({ "Ok": answer }))
    }

    fn done(kind: &str) -> Self {
        Self::new(&json!({ "Ok": { "kind": kind } }))
    }

    /// One of the kinds that cargo knows; the first two let the next provider try.
    fn error(kind: &str) -> Self {
        Self::new(&json!({ "Err": { "kind": kind } }))
    }

    fn other(message: &str) -> Self {
        Self::new(&json!({ "Err": { "kind": "other", "message": message, "caused-by": [] } }))
    }

    /// Ends cargo's command; it shows the message and the causes to the person.
    fn failed(error: &Error) -> Self {
        let mut causes = Vec::new();
        let mut cause = std::error::Error::source(error);
        while let Some(next) = cause {
            causes.push(one_line(&next.to_string()));
            cause = next.source();
        }
        causes.extend(error.hint.as_ref().map(|hint| format!("hint: {}", one_line(hint))));
        let error =
            json!({ "kind": "other", "message": one_line(&error.what), "caused-by": causes });
        Self::new(&json!({ "Err": error }))
    }
}
