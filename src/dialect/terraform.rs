//! terraform's credentials helper protocol, which tofu speaks too. Rules H1 to H14 of
//! protocol.md.

use std::io::Read;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Call, Dialect, Served, unmarked};
use crate::error::{Error, Kind, Result};
use crate::model::{
    Caller, Credential, Form, Outcome, Presented, Request, Resource, Secret, Verb, json,
};

pub const DIALECT: Dialect = Dialect {
    name: "terraform",
    link: Some("terraform-credentials-valetkey"),
    usage: "get|store|forget HOST",
    about: "the credentials helper of terraform and tofu",
    serve,
};

/// Bytes of a token.
const LIMIT: u64 = 1 << 20;

/// Seconds: an answer has no expiry, and an apply can take a while.
const LIFETIME: u64 = 600;

/// terraform and tofu ask for these on every `init`, and they give everything to everybody.
const PUBLIC: &[&str] = &["registry.terraform.io", "registry.opentofu.org"];

/// A member that we do not know is refused, because we could not give it back.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    token: Zeroizing<String>,
}

fn serve(call: &mut Call<'_>) -> Result<Served> {
    // What the configuration puts into `args` comes first.
    let [.., verb, host] = call.arguments else {
        let what = format!("terraform needs an operation and a host: {}", DIALECT.usage);
        return Err(Error::new(Kind::Usage, what).hint("valetkey setup terraform"));
    };
    // A name of its own beside git's for the same host: this token is no password.
    let resource = Resource::new("terraform+https", host, None, None)?;
    match verb.as_str() {
        "get" => get(call, resource),
        "store" => store(call, resource),
        "forget" => settled((call.ask)(&request(Verb::Erase, resource, None))),
        _ => Err(Error::new(Kind::Usage, format!("terraform has no operation {verb}"))
            .hint("valetkey setup terraform")),
    }
}

fn get(call: &Call<'_>, resource: Resource) -> Result<Served> {
    // Nothing to give is no failure: terraform goes on without.
    let nothing = |why| {
        call.wire.send(b"{}\n")?;
        Ok(Served { status: 0, why })
    };
    match (call.ask)(&request(Verb::Get, resource, None)) {
        Outcome::Found(credential) => match answer(&credential) {
            Some(answer) => {
                call.wire.send(answer.as_bytes())?;
                Ok(Served::default())
            }
            None => nothing(None),
        },
        Outcome::Failed(error) => Err(error),
        Outcome::NotFound(why) => nothing(Some(why)),
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => nothing(None),
    }
}

fn store(call: &mut Call<'_>, resource: Resource) -> Result<Served> {
    let refused = |what: &str| Error::new(Kind::Usage, format!("the credentials {what}"));
    let mut input = Zeroizing::new(Vec::new());
    let read = Read::take(&mut *call.input, LIMIT + 1).read_to_end(&mut input);
    read.map_err(|error| refused("cannot be read").because(error))?;
    if input.len() as u64 > LIMIT {
        return Err(refused("are longer than 1 MiB"));
    }
    // serde's own message could quote the token.
    let Ok(Token { token }) = serde_json::from_slice(unmarked(&input)) else {
        return Err(refused("are not an object with a token and nothing else"));
    };
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused("hold what no token may hold"));
    }
    let presented = Presented::alone(Secret::new(token.as_str()));
    settled((call.ask)(&request(Verb::Store, resource, Some(presented))))
}

/// Forgetting what is not there is success.
fn settled(outcome: Outcome) -> Result<Served> {
    match outcome {
        Outcome::Failed(error) => Err(error),
        _ => Ok(Served::default()),
    }
}

fn request(verb: Verb, resource: Resource, presented: Option<Presented>) -> Request {
    let public = PUBLIC.contains(&resource.host.as_str());
    let caller = if public { Caller::Hasty } else { Caller::Patient };
    Request { verb, resource, caller, lifetime: LIFETIME, presented, proof: None }
}

/// `None`: terraform sends a bearer token and nothing else.
fn answer(credential: &Credential) -> Option<Zeroizing<String>> {
    let bearer = match &credential.form {
        Form::Token(_) | Form::Password => true,
        Form::Encoded(authtype) => authtype.eq_ignore_ascii_case("bearer"),
    };
    let token = Token { token: Zeroizing::new(credential.secret.expose().to_owned()) };
    bearer.then(|| Zeroizing::new(format!("{}\n", *json(&token))))
}
