//! The executable source of Google's `external_account` credentials, which google-auth and its
//! siblings run. Rules GE1 to GE9 of protocol.md. They read standard error as part of the answer,
//! so what goes wrong is said in the answer too, and nobody is ever asked.

use std::path::Path;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Call, Dialect, Served};
use crate::disk;
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{self, Caller, Credential, Outcome, Request, Resource, one_line};

pub const DIALECT: Dialect = Dialect {
    name: "google",
    link: None,
    usage: "",
    about: "the executable source of google-auth, which its libraries start",
    serve,
};

const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// Seconds: the token is exchanged at once.
const LIFETIME: u64 = 60;

fn serve(call: &mut Call<'_>) -> Result<Served> {
    let usage = |what: &str| Error::new(Kind::Usage, what.to_owned()).hint("valetkey setup google");
    if !call.arguments.is_empty() {
        return Err(usage("nothing may follow google: the audience says what is meant"));
    }
    let told = |name: &str| variable(call.environment, name);
    if told("REVOKE") == Some("1") {
        return Err(usage("a token is revoked by valetkey logout"));
    }
    let audience = told("AUDIENCE").ok_or_else(|| usage("no audience is given"))?;
    let provider = audience.strip_prefix("//").ok_or_else(|| usage("the audience is no name"))?;
    let kind = told("TOKEN_TYPE").unwrap_or(ID_TOKEN);
    if ![JWT, ID_TOKEN].contains(&kind) {
        return Err(usage("only jwt and id_token can be given"));
    }
    let output = call.environment.raw("GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE").map(Path::new);
    let resource = Resource::parse(&format!("https://{provider}"))?.of_url();
    if resource.account.is_some() {
        return Err(usage("the audience is no name"));
    }
    let request = Request::get(resource, Caller::Hasty, LIFETIME);
    let credential = match (call.ask)(&request) {
        Outcome::Found(credential) => credential,
        Outcome::NotFound(why) | Outcome::Failed(why) => return Err(why),
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => {
            let what = format!("no profile serves {}", request.resource);
            return Err(Error::new(Kind::NotSignedIn, what)
                .hint("add a [profile] with this origin to config.toml"));
        }
    };
    let answer = success(kind, &credential);
    // A file without an end would be read for ever.
    if let Some(path) = output.filter(|path| path.is_absolute() && credential.expires.is_some()) {
        disk::place(path, answer.as_bytes())?;
    }
    call.wire.send(answer.as_bytes())?;
    Ok(Served::default())
}

fn variable<'e>(environment: &'e Environment, name: &str) -> Option<&'e str> {
    environment.get(&format!("GOOGLE_EXTERNAL_ACCOUNT_{name}"))
}

fn success(kind: &str, credential: &Credential) -> Zeroizing<String> {
    let mut answer = json!({
        "version": 1,
        "success": true,
        "token_type": kind,
        "id_token": credential.secret.expose(),
    });
    if let Some(expires) = credential.expires {
        answer["expiration_time"] = expires.into();
    }
    line(&answer)
}

/// How an error is said: with exit status 0, because any other hides the message.
#[must_use]
pub fn failure(error: &Error) -> Zeroizing<String> {
    let code = match error.kind {
        Kind::NotSignedIn | Kind::Refused | Kind::Rejected => "401",
        Kind::Usage => "400",
        Kind::Temporary => "503",
        Kind::Failed | Kind::Storage | Kind::Configuration => "500",
    };
    let message = match &error.hint {
        Some(hint) => format!("{}; {hint}", error.what),
        None => error.what.clone(),
    };
    let message = one_line(&message);
    line(&json!({ "version": 1, "success": false, "code": code, "message": message }))
}

fn line(answer: &Value) -> Zeroizing<String> {
    Zeroizing::new(format!("{}\n", *model::json(answer)))
}
