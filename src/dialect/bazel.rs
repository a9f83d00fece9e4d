//! Bazel's credential helper protocol (EngFlow's specification), which remote execution clients
//! speak too. Rules B1 to B10 of protocol.md. Bazel waits for ten seconds and shows no terminal,
//! so nobody is ever asked.

use std::io::Read;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Call, Dialect, Served, unmarked};
use crate::error::{Error, Kind, Result};
use crate::model::{Caller, Credential, Outcome, Request, Resource, json, timestamp};

pub const DIALECT: Dialect = Dialect {
    name: "bazel",
    link: Some("bazel-credential-valetkey"),
    usage: "get",
    about: "bazel's credential helper: a JSON object with a uri on standard input",
    serve,
};

/// Bytes of a request.
const LIMIT: u64 = 1 << 20;

/// Seconds by which an answer ends earlier than its token.
const EARLY: u64 = 60;

/// A reply, even an empty one, keeps bazel from looking anywhere else.
const NOTHING: &[u8] = b"{\"headers\":{}}\n";

#[derive(Deserialize)]
struct Asked {
    uri: String,
}

fn serve(call: &mut Call<'_>) -> Result<Served> {
    match call.arguments {
        [verb] if verb == "get" => get(call),
        // The specification lets other commands exist.
        _ => Ok(failed(Error::new(Kind::Usage, "bazel's only operation is get"))),
    }
}

fn get(call: &mut Call<'_>) -> Result<Served> {
    let mut bytes = Vec::new();
    let read = call.input.take(LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::new(Kind::Usage, "the request cannot be read").because(error))?;
    let Some(asked) =
        serde_json::from_slice::<Asked>(unmarked(&bytes)).ok().filter(|_| within(&bytes))
    else {
        return Ok(failed(Error::new(Kind::Usage, "the request is no JSON object with a uri")));
    };
    let Some(resource) = resource(&asked.uri) else {
        call.wire.send(NOTHING)?;
        return Ok(Served::default());
    };
    let request = Request::get(resource, Caller::Brief, 2 * EARLY);
    match (call.ask)(&request) {
        Outcome::Found(credential) => {
            call.wire.send(answer(&credential).as_bytes())?;
            Ok(Served::default())
        }
        Outcome::NotFound(why) | Outcome::Failed(why) => Ok(failed(why)),
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => {
            call.wire.send(NOTHING)?;
            Ok(Served::default())
        }
    }
}

fn within(bytes: &[u8]) -> bool {
    bytes.len() as u64 <= LIMIT
}

/// Remote caches are asked about as grpcs. `None`: nothing that a token could go to.
fn resource(uri: &str) -> Option<Resource> {
    let (scheme, rest) = uri.split_once("://")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "https" | "grpcs" => "https",
        "http" => "http",
        _ => return None,
    };
    Resource::parse(&format!("{scheme}://{rest}")).ok().map(Resource::of_url)
}

fn answer(credential: &Credential) -> Zeroizing<String> {
    let (name, value) = credential.header();
    let value = json(&value.expose());
    let more: String = credential
        .more_headers()
        .map(|(name, value)| format!(",\"{name}\":[{}]", *json(&value)))
        .collect();
    let expires = credential.expires.map_or_else(String::new, |expires| {
        format!(",\"expires\":\"{}\"", timestamp::rfc3339(timestamp::before(expires, EARLY)))
    });
    Zeroizing::new(format!("{{\"headers\":{{\"{name}\":[{}]{more}}}{expires}}}\n", *value))
}

/// Any status but 0 fails the download, and lets bazel show standard error.
fn failed(why: Error) -> Served {
    Served { status: 1, why: Some(why) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Form, Scheme, Secret};

    #[test]
    fn an_answer_ends_a_little_before_its_token() {
        let credential = |expires| Credential {
            username: "u".to_owned(),
            secret: Secret::new("a\"b"),
            form: Form::Token(Scheme::Bearer),
            expires,
            proof: None,
            renewable: false,
            refresh: None,
            fields: Vec::new(),
        };
        assert_eq!(
            answer(&credential(Some(1_767_323_105))).as_str(),
            "{\"headers\":{\"Authorization\":[\"Bearer a\\\"b\"]},\
             \"expires\":\"2026-01-02T03:04:05Z\"}\n"
        );
        assert_eq!(
            answer(&credential(None)).as_str(),
            "{\"headers\":{\"Authorization\":[\"Bearer a\\\"b\"]}}\n"
        );
    }

    #[test]
    fn only_what_a_token_may_go_to_is_asked_about() {
        let found = |uri: &str| resource(uri).map(|resource| resource.to_string());
        assert_eq!(found("grpcs://c.example").as_deref(), Some("https://c.example"));
        assert_eq!(found("HTTPS://C.example/a/b?x#y").as_deref(), Some("https://c.example/a/b"));
        for uri in ["grpc://c.example", "c.example", "file:///etc", "https://u:p@c.example", "://"]
        {
            assert_eq!(found(uri), None, "{uri}");
        }
    }
}
