//! The token helper of HashiCorp Vault and OpenBao: a drawer for one token per address. Rules VT1
//! to VT8 of protocol.md. Vault signs people in itself, so nobody is ever asked.

use std::io::Read;

use zeroize::Zeroizing;

use super::{Call, Dialect, Served};
use crate::error::{Error, Kind, Result};
use crate::model::{Caller, Form, Outcome, Presented, Request, Resource, Secret, Verb};

pub const DIALECT: Dialect = Dialect {
    name: "vault",
    link: Some("vault-token-valetkey"),
    usage: "get|store|erase",
    about: "the token helper of Vault and OpenBao, for the address in VAULT_ADDR",
    serve,
};

/// Says which server is meant; the flag `-address` is not handed on to helpers.
const ADDRESS: &str = "VAULT_ADDR";
/// What vault itself talks to without it.
const DEFAULT: &str = "https://127.0.0.1:8200";

/// Bytes of a token.
const LIMIT: u64 = 1 << 20;

/// Seconds: an answer has no expiry.
const LIFETIME: u64 = 60;

fn serve(call: &mut Call<'_>) -> Result<Served> {
    let verb = match call.arguments {
        [verb] => verb.as_str(),
        _ => return Err(Error::new(Kind::Usage, format!("vault needs one of {}", DIALECT.usage))),
    };
    let (verb, presented) = match verb {
        "get" => (Verb::Get, None),
        "store" => (Verb::Store, Some(presented(call)?)),
        "erase" => (Verb::Erase, None),
        _ => return Err(Error::new(Kind::Usage, format!("vault knows only {}", DIALECT.usage))),
    };
    let request = Request {
        verb,
        resource: resource(call.environment.text(ADDRESS)?.unwrap_or(DEFAULT))?,
        caller: Caller::Hasty,
        lifetime: LIFETIME,
        presented,
        proof: None,
    };
    match (call.ask)(&request) {
        Outcome::Found(credential) => {
            // Vault takes every byte for the token's own, a line end too.
            if !matches!(credential.form, Form::Encoded(_)) {
                call.wire.send(credential.secret.expose().as_bytes())?;
            }
            Ok(Served::default())
        }
        // No token is no failure: `vault login` begins like that. Nor is erasing nothing.
        Outcome::NotFound(why) => Ok(Served { status: 0, why: Some(why) }),
        Outcome::Failed(error) => Err(error),
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => Ok(Served::default()),
    }
}

fn resource(address: &str) -> Result<Resource> {
    let known = |resource: &Resource| {
        address.contains("://") && matches!(resource.protocol.as_str(), "https" | "http")
    };
    match Resource::parse(address) {
        // One server has one token, whatever stands before its paths.
        Ok(resource) if known(&resource) => Ok(Resource { path: None, account: None, ..resource }),
        _ => Err(Error::new(Kind::Usage, "VAULT_ADDR is no http or https URL")
            .hint("tokens are kept for hosts; set VAULT_TOKEN for this server")),
    }
}

fn presented(call: &mut Call<'_>) -> Result<Presented> {
    let refused = |what: &str| Error::new(Kind::Usage, what);
    let mut bytes = Zeroizing::new(Vec::new());
    let read = call.input.take(LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| refused("the token cannot be read").because(error))?;
    let token = std::str::from_utf8(&bytes).ok().map(Secret::given);
    match token.filter(|token| !token.is_empty() && bytes.len() as u64 <= LIMIT) {
        Some(token) if !token.expose().contains(char::is_control) => Ok(Presented::alone(token)),
        _ => Err(refused("there is no token on standard input")),
    }
}
