//! A host that says itself who issues its tokens: Terraform's remote service discovery and its
//! `login.v1`. It is asked only when a person names the host to sign in to.

use serde::Deserialize;
use url::Url;

use super::metadata::{has_user, leads_inside};
use super::{Failure, Oauth};
use crate::error::{Error, Kind};
use crate::model::{Resource, TokenKind};
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
    /// The provider that the host itself names, for this host alone. `None` where it names none.
    ///
    /// # Errors
    /// `Transient` when it cannot be reached, `Other` when what it says cannot be used.
    pub fn discover(&self, resource: &Resource) -> Result<Option<Profile>, Failure> {
        let Ok(url) = Url::parse(&format!("{}{WELL_KNOWN}", resource.web_origin())) else {
            return Ok(None);
        };
        if !is_safe(&url) {
            return Ok(None);
        }
        let answer = self.http.get(&url, None)?;
        self.ui.log(|| format!("discover at {url}: {}", answer.status));
        let unusable = |what: &str| {
            let what = format!("{url} {what}");
            Failure::Other(Error::new(Kind::Rejected, what))
        };
        // Other hosts answer such a path with whatever page they like.
        let services = serde_json::from_slice::<serde_json::Value>(&answer.body);
        let Some(services) = services.ok().filter(|_| answer.status == 200) else {
            return Ok(None);
        };
        let services: Services =
            serde_json::from_value(services).map_err(|_| unusable("cannot be understood"))?;
        let Some(login) = services.login else { return Ok(None) };
        if login.grant_types.is_some_and(|types| !types.iter().any(|name| name == "authz_code")) {
            return Err(unusable("offers no sign-in by authorization code"));
        }
        let endpoint = |text: &str| {
            let endpoint = url.join(text).ok().filter(is_safe);
            let endpoint = endpoint.filter(|found| !leads_inside(found, &url) && !has_user(found));
            endpoint.ok_or_else(|| unusable("names an endpoint that no token may go to"))
        };
        let (first, last) = login.ports.unwrap_or((0, 0));
        let found = Found {
            resource: resource.web_origin(),
            authorization_endpoint: Some(endpoint(&login.authz)?),
            token_endpoint: Some(endpoint(&login.token)?),
            client_id: login.client,
            scopes: login.scopes,
            redirect: Some(Redirect {
                host: "localhost".to_owned(),
                ports: (first..=last).take(PORTS).collect(),
                path: "/login".to_owned(),
            }),
            issuer: None,
            token: TokenKind::Access,
        };
        found.profile().map(Some).map_err(Failure::Other)
    }
}
