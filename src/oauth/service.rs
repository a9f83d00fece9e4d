//! A host that says itself who issues its tokens: Terraform's remote service discovery and its
//! `login.v1`. It is asked only when a person names the host to sign in to.

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::discovery::Home;
use super::metadata::leads_inside;
use super::{Failure, Oauth};
use crate::error::{Error, Kind};
use crate::profile::{Found, Profile, Redirect, is_safe};

const WELL_KNOWN: &str = "/.well-known/terraform.json";

/// Ports of the redirect that are tried; a host may allow tens of thousands.
const PORTS: usize = 32;

#[derive(Deserialize)]
struct Services {
    #[serde(rename = "login.v1")]
    login: Option<Login>,
}

#[derive(Deserialize)]
struct Login {
    client: String,
    authz: String,
    token: String,
    grant_types: Option<Vec<String>>,
    /// The first and the last.
    ports: Option<(u16, u16)>,
    #[serde(default)]
    scopes: Vec<String>,
}

impl Oauth<'_> {
    /// The provider that the host names in this way, for this host alone. `None` where it names none.
    pub(super) fn login_service(&self, home: &Home<'_>) -> Result<Option<Profile>, Failure> {
        let mut url = home.url.clone();
        url.set_path(WELL_KNOWN);
        let origin = url.origin().ascii_serialization();
        let answer = home.http.get(&url, None, &[])?;
        self.ui.log(|| format!("discover at {url}: {}", answer.status));
        // Other hosts answer such a path with whatever page they like.
        match serde_json::from_slice(&answer.body) {
            Ok(document) if answer.status == 200 => {
                read(&document, origin, &url, home.inside).map_err(Failure::Other)
            }
            _ => Ok(None),
        }
    }
}

fn read(
    document: &Value,
    origin: String,
    url: &Url,
    inside: bool,
) -> Result<Option<Profile>, Error> {
    let unusable = |what: &str| Error::new(Kind::Rejected, format!("{url} {what}"));
    let services = Services::deserialize(document).map_err(|_| unusable("cannot be understood"))?;
    let Some(login) = services.login else { return Ok(None) };
    if login.grant_types.is_some_and(|types| !types.iter().any(|name| name == "authz_code")) {
        return Err(unusable("offers no sign-in by authorization code"));
    }
    if login.client.is_empty() {
        return Err(unusable("names no client"));
    }
    let endpoint = |text: &str| {
        let endpoint = url.join(text).ok().filter(is_safe);
        let endpoint = endpoint.filter(|endpoint| !leads_inside(endpoint, url));
        endpoint.ok_or_else(|| unusable("names an endpoint that no token may go to"))
    };
    let (first, last) = login.ports.unwrap_or((0, 0));
    let found = Found {
        resource: origin,
        authorization_endpoint: Some(endpoint(&login.authz)?),
        token_endpoint: Some(endpoint(&login.token)?),
        client_id: login.client,
        scopes: login.scopes,
        redirect: Some(Redirect {
            host: "localhost".to_owned(),
            ports: (first..=last).take(PORTS).collect(),
            path: "/login".to_owned(),
        }),
        inside,
        ..Found::default()
    };
    found.profile().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_endpoint(token: &str) -> Option<String> {
        let login = serde_json::json!({ "client": "x", "authz": "/authorize", "token": token });
        let document = serde_json::json!({ "login.v1": login });
        let url = Url::parse("https://tf.example/.well-known/terraform.json").unwrap();
        let found = read(&document, "https://tf.example".to_owned(), &url, false).ok()??;
        assert_eq!(found.origins.len(), 1);
        assert_eq!(found.origins[0].origin, "https://tf.example");
        found.endpoints.token.map(|url| url.to_string())
    }

    #[test]
    fn endpoints_are_relative_to_the_document_and_never_inside() {
        for (token, expected) in [
            ("/token", "https://tf.example/token"),
            ("token", "https://tf.example/.well-known/token"),
            ("https://login.example/token", "https://login.example/token"),
            ("//login.example/token", "https://login.example/token"),
        ] {
            assert_eq!(token_endpoint(token).as_deref(), Some(expected));
        }
        for token in [
            "http://tf.example/token",
            "http://127.0.0.1/token",
            "https://localhost/token",
            "https://10.0.0.1/token",
            "https://user@login.example/token",
            "ftp://login.example/token",
            "https://",
        ] {
            assert_eq!(token_endpoint(token), None, "{token}");
        }
    }
}
