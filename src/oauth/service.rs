//! A host that says itself who issues its tokens: Terraform's remote service discovery and its
//! `login.v1`. It is asked only when a person names the host to sign in to.

use serde_json::Value;
use url::Url;

use super::metadata::leads_inside;
use crate::error::{Error, Kind};
use crate::model::Document;
use crate::profile::{Found, Profile, Redirect, is_safe};

const WELL_KNOWN: &str = "/.well-known/terraform.json";

/// Ports of the redirect that are tried; a host may allow tens of thousands.
const PORTS: usize = 32;

/// Where the document is.
pub(super) fn place(home: &Url) -> Url {
    let mut url = home.clone();
    url.set_path(WELL_KNOWN);
    url
}

/// The provider that a host names in this way, for this host alone. `None` where it names none.
/// `url`: of the document.
///
/// # Errors
/// `Rejected` when what it names cannot be used.
pub(super) fn read(document: &Document, url: &Url, inside: bool) -> Result<Option<Profile>, Error> {
    let unusable = |what: &str| Error::new(Kind::Rejected, format!("{url} {what}"));
    let Some(login) = document.object("login.v1").filter(|login| login.members().next().is_some())
    else {
        return Ok(None);
    };
    let grants = login.list("grant_types");
    if grants.is_some_and(|types| !types.iter().any(|name| name == "authz_code")) {
        return Err(unusable("offers no sign-in by authorization code"));
    }
    let needed = |name: &str| {
        login.text(name).ok_or_else(|| unusable(&format!("cannot be used: {}", login.lacks(name))))
    };
    let endpoint = |name: &str| {
        let endpoint = url.join(needed(name)?).ok().filter(is_safe);
        let endpoint = endpoint.filter(|endpoint| !leads_inside(endpoint, url));
        let what = format!("names an endpoint that no token may go to: {name}");
        endpoint.ok_or_else(|| unusable(&what))
    };
    let found = Found {
        resource: url.origin().ascii_serialization(),
        authorization_endpoint: Some(endpoint("authz")?),
        token_endpoint: Some(endpoint("token")?),
        client_id: needed("client")?.to_owned(),
        scopes: login.list("scopes").unwrap_or_default(),
        redirect: Some(Redirect {
            host: "localhost".to_owned(),
            ports: ports(login.value("ports"))
                .ok_or_else(|| unusable("names ports that cannot be used"))?,
            path: "/login".to_owned(),
        }),
        inside,
        ..Found::default()
    };
    found.profile().map(Some)
}

/// From the first to the last that the document names; else any. `None`: a list of something else,
/// where any other port would be refused.
fn ports(named: Option<&Value>) -> Option<Vec<u16>> {
    let ends = named.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let port = |end: &Value| end.as_u64().and_then(|port| u16::try_from(port).ok());
    match ends {
        [] => Some(vec![0]),
        [first, last] => {
            let (first, last) = (port(first)?, port(last)?);
            (first <= last).then(|| (first..=last).take(PORTS).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_endpoint(token: &str) -> Option<String> {
        let login = serde_json::json!({ "client": "x", "authz": "/authorize", "token": token });
        let document = serde_json::json!({ "login.v1": login }).to_string();
        let document = Document::parse(document.as_bytes()).unwrap();
        let url = Url::parse("https://tf.example/.well-known/terraform.json").unwrap();
        let found = read(&document, &url, false).ok()??;
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
