//! AWS's `credential_process`, which its command line and every SDK run. Rules AW1 to AW8 of
//! protocol.md. An SDK waits for the answer within a call of its own, so nobody is ever asked.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Call, Dialect, Served};
use crate::error::{Error, Kind, Result};
use crate::model::{Caller, Credential, Outcome, Request, Resource, json, timestamp};

pub const DIALECT: Dialect = Dialect {
    name: "aws",
    link: None,
    usage: "URL",
    about: "AWS's credential_process: the keys of a role",
    serve,
};

/// Seconds: from then on an SDK asks for new keys at every call.
const LIFETIME: u64 = 15 * 60;

/// The keys of a role, as AWS's own tools spell them.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Keys<'k> {
    #[serde(default)]
    version: u8,
    access_key_id: &'k str,
    secret_access_key: &'k str,
    session_token: &'k str,
    #[serde(default)]
    expiration: String,
}

fn serve(call: &mut Call<'_>) -> Result<Served> {
    let [url] = call.arguments else {
        let error = Error::new(Kind::Usage, "one URL of a security token service is needed");
        return Ok(failed(error.hint("valetkey aws https://sts.REGION.amazonaws.com")));
    };
    let resource = match Resource::parse(url) {
        Ok(resource) => resource,
        Err(error) => return Ok(failed(error)),
    };
    let request = Request::get(resource, Caller::Hasty, LIFETIME);
    Ok(match (call.ask)(&request) {
        Outcome::Found(credential) => match answer(&credential) {
            Some(answer) => {
                call.wire.send(answer.as_bytes())?;
                Served::default()
            }
            None => {
                let what = format!("{} gives no keys of AWS", request.resource);
                let hint = "give the origin exchange = \"aws-sts\" and a role in config.toml";
                failed(Error::new(Kind::Configuration, what).hint(hint))
            }
        },
        Outcome::NotFound(why) | Outcome::Failed(why) => failed(why),
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => {
            let what = format!("no profile serves {}", request.resource);
            failed(Error::new(Kind::NotSignedIn, what).hint(
                "add a [profile] with this origin, exchange = \"aws-sts\" and a role to config.toml",
            ))
        }
    })
}

/// `None`: what is stored for this URL is something else.
fn answer(credential: &Credential) -> Option<Zeroizing<String>> {
    let keys: Keys<'_> = serde_json::from_str(credential.secret.expose()).ok()?;
    let expiration = timestamp::rfc3339(credential.expires?);
    let answer = json(&Keys { version: 1, expiration, ..keys });
    Some(Zeroizing::new(format!("{}\n", *answer)))
}

/// Whatever stands on standard error becomes the message of the SDK.
fn failed(why: Error) -> Served {
    Served { status: 1, why: Some(why) }
}
