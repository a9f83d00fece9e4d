//! client-go's exec credential plugin (client.authentication.k8s.io, v1 and v1beta1), which
//! kubectl, helm, k9s and every other program built on client-go speak. Rules K1 to K15 of
//! protocol.md.

use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Call, Dialect, Served};
use crate::error::{Error, Kind, Result};
use crate::model::{
    Caller, Credential, Form, Issuer, Offer, Outcome, Request, Resource, TokenKind, Verb,
};

pub const DIALECT: Dialect = Dialect { name: "kubectl", link: None, usage: "[URL]", serve };

/// Where the question is: there is nothing on standard input.
const QUESTION: &str = "KUBERNETES_EXEC_INFO";

const VERSIONS: &[&str] =
    &["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// Seconds before its expiry at which the caller is to ask again.
const EARLY: u64 = 60;

/// 9999-12-31T23:59:59Z: RFC 3339 has no later second.
const LAST_SECOND: u64 = 253_402_300_799;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    api_version: String,
    kind: String,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default)]
    interactive: bool,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
struct Cluster {
    server: String,
    config: Option<serde_json::Value>,
}

/// What a cluster's extension `client.authentication.k8s.io/exec` in the kubeconfig can tell us.
/// Other plugins may keep members of their own in it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Extension {
    issuer: Option<String>,
    client_id: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    token: Option<TokenKind>,
}

fn serve(call: &mut Call<'_>) -> Result<Served> {
    let asked = read(call)?;
    let resource = resource(call.arguments, asked.spec.cluster.as_ref())?;
    let caller = match asked.spec.interactive {
        true => Caller::Patient,
        // kubectl in a script, an editor or a dashboard: only a screen of the person's own counts.
        false => Caller::Hidden,
    };
    let request =
        Request { verb: Verb::Get, resource, caller, lifetime: 0, presented: None, proof: None };
    match (call.ask)(&request) {
        Outcome::Found(credential) => {
            let Some(answer) = answer(&asked.api_version, &credential) else {
                let what = format!("what is stored for {} is no bearer token", request.resource);
                return Err(Error::new(Kind::Configuration, what));
            };
            call.wire.send(answer.as_bytes());
            Ok(Served::default())
        }
        Outcome::Failed(error) => Err(error),
        Outcome::NotFound(why) => Ok(Served::nothing(Some(why))),
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => {
            let what = format!("no profile serves {}", request.resource);
            Ok(Served::nothing(Some(Error::new(Kind::NotSignedIn, what).hint(
                "add a [profile] with this origin to config.toml, or issuer and client-id to the \
                 cluster's extension client.authentication.k8s.io/exec",
            ))))
        }
    }
}

fn read(call: &Call<'_>) -> Result<Asked> {
    let refused = |what: &str| Error::new(Kind::Usage, what).hint("valetkey setup kubectl");
    let question =
        call.environment.get(QUESTION).ok_or_else(|| refused(&format!("{QUESTION} is not set")))?;
    let asked: Asked = serde_json::from_str(question)
        .map_err(|_| refused(&format!("{QUESTION} cannot be understood")))?;
    if asked.kind != "ExecCredential" {
        return Err(refused(&format!("{QUESTION} is no ExecCredential")));
    }
    if !VERSIONS.contains(&asked.api_version.as_str()) {
        return Err(refused("only client.authentication.k8s.io/v1 and v1beta1 are spoken here"));
    }
    Ok(asked)
}

/// What the kubeconfig's `args` say, else the cluster that the caller is about to talk to.
fn resource(arguments: &[String], cluster: Option<&Cluster>) -> Result<Resource> {
    let server = cluster.map(|cluster| Resource::parse(&cluster.server));
    match arguments {
        [url] => {
            let mut resource = Resource::parse(url)?;
            // What a cluster says counts for that cluster.
            if let (Some(Ok(server)), Some(cluster)) = (server, cluster)
                && server == resource
            {
                resource.offer = offer(cluster)?;
            }
            Ok(resource)
        }
        [] => match (server, cluster) {
            (Some(server), Some(cluster)) => {
                Ok(Resource { offer: offer(cluster)?, ..server? })
            }
            _ => Err(Error::new(Kind::Usage, "the request names no cluster").hint(
                "set provideClusterInfo: true in the kubeconfig, or put the cluster's URL into args",
            )),
        },
        _ => Err(Error::new(Kind::Usage, "more than one URL is given")
            .hint("valetkey kubectl [URL]")),
    }
}

/// The issuer that the kubeconfig names for this cluster. Its author can as well write a `command`
/// that does whatever they like, so naming an issuer gives nobody a new power; and the token that
/// comes of it goes to this cluster and nowhere else.
fn offer(cluster: &Cluster) -> Result<Option<Offer>> {
    let Some(config) = cluster.config.as_ref().filter(|config| config.is_object()) else {
        return Ok(None);
    };
    let wrong = |what: &str| {
        let what = format!("the exec extension of {} {what}", cluster.server);
        Error::new(Kind::Configuration, what)
    };
    let extension =
        Extension::deserialize(config).map_err(|_| wrong("holds what cannot be understood"))?;
    let Extension { issuer, client_id, mut scopes, token } = extension;
    let (url, client_id) = match (issuer, client_id) {
        (Some(issuer), Some(client_id)) => (issuer, client_id),
        (None, None) => return Ok(None),
        _ => return Err(wrong("needs both issuer and client-id")),
    };
    let token = token.unwrap_or(TokenKind::Id);
    if token == TokenKind::Id && !scopes.iter().any(|scope| scope == "openid") {
        scopes.insert(0, "openid".to_owned());
    }
    Ok(Some(Offer::Issuer(Issuer { url, client_id, scopes, token })))
}

/// `None`: not a token that an API server would take.
fn answer(version: &str, credential: &Credential) -> Option<Zeroizing<String>> {
    let bearer = match &credential.form {
        Form::Token(_) | Form::Password => true,
        Form::Encoded(authtype) => authtype.eq_ignore_ascii_case("bearer"),
    };
    let mut status = json!({ "token": credential.secret.expose() });
    if let Some(expires) = credential.expires {
        status["expirationTimestamp"] = timestamp(expires.saturating_sub(EARLY)).into();
    }
    let answer = json!({ "kind": "ExecCredential", "apiVersion": version, "status": status });
    bearer.then(|| Zeroizing::new(format!("{answer}\n")))
}

/// A second of Unix time as RFC 3339 writes it, in UTC. The calendar begins in March, so that the
/// day that comes and goes is the last of a year, and repeats every 146,097 days.
fn timestamp(seconds: u64) -> String {
    let seconds = seconds.min(LAST_SECOND);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // From 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_as_rfc_3339_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_000_000_000, "2001-09-09T01:46:40Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (LAST_SECOND, "9999-12-31T23:59:59Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(timestamp(seconds), text, "{seconds}");
        }
    }

    /// Every day of four centuries follows the one before it.
    #[test]
    fn no_day_is_left_out() {
        let by = |year: u64, number| year.is_multiple_of(number);
        let leap = |year| by(year, 4) && (!by(year, 100) || by(year, 400));
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for number in 0..146_097 {
            let expected = format!("{year:04}-{month:02}-{day:02}T00:00:00Z");
            assert_eq!(timestamp(number * 86_400), expected);
            let length = match month {
                2 => 28 + u64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}
