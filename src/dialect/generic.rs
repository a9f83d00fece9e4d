//! One token, header or JSON object on standard output, for every tool that runs a command to get
//! one: pnpm's tokenHelper, `cargo:token-from-stdout`, rclone, mail clients, curl, apiKeyHelper,
//! MCP headersHelper. Rules T1 to T6 of protocol.md. Nothing here ever signs in: whoever waits for
//! a line does not wait for a person.

use zeroize::Zeroizing;

use super::{Call, Dialect, Served};
use crate::error::{Error, Kind, Result};
use crate::model::{Caller, Credential, Outcome, Request, Resource, Verb};

pub const TOKEN: Dialect =
    Dialect { name: "token", link: None, usage: "URL", serve: |call| serve(call, token) };

pub const HEADER: Dialect =
    Dialect { name: "header", link: None, usage: "[URL]", serve: |call| serve(call, header) };

pub const JSON: Dialect =
    Dialect { name: "json", link: None, usage: "[URL]", serve: |call| serve(call, json) };

/// Where MCP clients say which server the headers are for.
const SERVER: &str = "CLAUDE_CODE_MCP_SERVER_URL";

/// Seconds: none of these answers says when it ends.
const LIFETIME: u64 = 60;

fn serve(call: &mut Call<'_>, write: fn(&Credential) -> Zeroizing<String>) -> Result<Served> {
    let url = match call.arguments {
        [url] => url.as_str(),
        [] => call.environment.get(SERVER).ok_or_else(|| {
            Error::new(Kind::Usage, "no URL is given").hint("valetkey token|header|json URL")
        })?,
        _ => {
            let error = Error::new(Kind::Usage, "more than one URL is given");
            return Err(error.hint("valetkey token|header|json URL"));
        }
    };
    let request = Request {
        verb: Verb::Get,
        resource: Resource::parse(url)?,
        caller: Caller::Hasty,
        lifetime: LIFETIME,
        presented: None,
        proof: None,
    };
    match (call.ask)(&request) {
        Outcome::Found(credential) => {
            call.wire.send(write(&credential).as_bytes());
            Ok(Served::default())
        }
        Outcome::Failed(error) => Err(error),
        Outcome::NotFound(why) => Ok(Served::nothing(Some(why))),
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => {
            let what = format!("nothing is stored for {}", request.resource);
            Ok(Served::nothing(Some(
                Error::new(Kind::NotSignedIn, what)
                    .hint("add a [profile] with this origin to config.toml, then valetkey login"),
            )))
        }
    }
}

fn token(credential: &Credential) -> Zeroizing<String> {
    Zeroizing::new(format!("{}\n", credential.secret.expose()))
}

/// `Name: value`, as curl's `-H @-` reads it.
fn header(credential: &Credential) -> Zeroizing<String> {
    let (name, value) = credential.header();
    Zeroizing::new(format!("{name}: {}\n", value.expose()))
}

/// An object of header names and values.
fn json(credential: &Credential) -> Zeroizing<String> {
    let (name, value) = credential.header();
    let object = serde_json::json!({ name: value.expose() });
    Zeroizing::new(format!("{object}\n"))
}
