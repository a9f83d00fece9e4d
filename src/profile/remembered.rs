//! Providers that nobody configured: the caller named one beside its resource, or the host that a
//! person signed in to says itself who issues its tokens. What the sign-in used is remembered, one
//! file for each, so that later requests find the session and its token endpoint again. Only a
//! sign-in writes here. The user's own configuration always comes first.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

use super::config;
use super::entry::{Entry, OriginEntry, RedirectEntry};
use super::{Issuer, Profile, Redirect, Source, builtin};
use crate::disk;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::model::{self, Resource, Scheme, TokenKind, fingerprint};

/// Files of this room; far more than anybody signs in to.
const MOST: usize = 1_000;

/// A provider for one origin, or one path below it.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Empty for a known provider's public service.
    #[serde(default)]
    pub resource: String,
    /// A row of the table of providers, which then says everything but the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Empty where the sign-in finds or registers one.
    #[serde(default)]
    pub client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Issuer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<Url>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<Url>,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Which token of the session the resource takes.
    #[serde(default)]
    pub token: TokenKind,
    /// Bearer unless the host takes nothing else.
    #[serde(default)]
    pub basic: bool,
    /// The resource's own name for itself (RFC 8707), as it spells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indicator: Option<String>,
    /// The resource is on this machine or a private network, and so may be who issues its tokens.
    #[serde(default)]
    pub inside: bool,
}

impl Found {
    /// The profile of this provider, checked as if the user had written it.
    ///
    /// # Errors
    /// `Configuration` when a token could leak.
    pub fn profile(self) -> Result<Profile> {
        if let Some(provider) = self.provider.as_deref().and_then(builtin::named) {
            return config::of_provider(provider, self.client_id);
        }
        let name = Resource::parse(&self.resource)?.to_string();
        let origin = OriginEntry::Own {
            url: self.resource,
            username: None,
            scheme: Some(if self.basic { Scheme::Basic } else { Scheme::Bearer }),
            token: Some(self.token),
            exchange: None,
            tenant: None,
            role: None,
            registry: None,
        };
        let redirect = self.redirect.map(|redirect| RedirectEntry {
            host: Some(redirect.host),
            ports: Some(redirect.ports),
            path: Some(redirect.path),
        });
        let mut entry = Entry::default();
        entry.origins.push(origin);
        entry.issuer = self.issuer;
        entry.authorization_endpoint = self.authorization_endpoint;
        entry.token_endpoint = self.token_endpoint;
        entry.client_id = Some(self.client_id);
        entry.scopes = self.scopes;
        entry.redirect = redirect;
        entry.resource = self.indicator;
        let mut profile = config::read_profile(name, entry, &Environment::default())?;
        profile.source = Source::Offered;
        profile.inside = self.inside;
        Ok(profile)
    }

    fn of(profile: &Profile) -> Option<Self> {
        let prefix = profile.origins.first()?;
        if let Some(provider) = profile.provider {
            let (provider, client_id) = (provider.name.to_owned(), profile.client_id.clone());
            return Some(Self { provider: Some(provider), client_id, ..Self::default() });
        }
        Some(Self {
            resource: format!("{}/{}", prefix.origin, prefix.path),
            provider: None,
            client_id: profile.client_id.clone(),
            issuer: profile.issuer.clone(),
            authorization_endpoint: profile.endpoints.authorization.clone(),
            token_endpoint: profile.endpoints.token.clone(),
            scopes: profile.scopes.clone(),
            redirect: Some(profile.redirect.clone()),
            token: prefix.token,
            basic: prefix.scheme == Scheme::Basic,
            indicator: profile.resource.clone(),
            inside: profile.inside,
        })
    }
}

/// What a caller offers for its resource, as a profile for that resource alone.
pub(super) fn offered(resource: &Resource, issuer: &model::Issuer) -> Result<Profile> {
    let unusable = |error: Error| {
        let what = format!("the issuer that is offered for {resource} cannot be used");
        Error { what: format!("{what}: {}", error.what), hint: None, ..error }
    };
    let name = Issuer::new(&issuer.url).map_err(|_| {
        unusable(Error::new(crate::error::Kind::Configuration, "it is no absolute URL"))
    })?;
    let found = Found {
        resource: resource.to_string(),
        client_id: issuer.client_id.clone(),
        issuer: Some(name),
        scopes: issuer.scopes.clone(),
        token: issuer.token,
        // It stands in a file of the caller's own, as a configuration does.
        inside: true,
        ..Found::default()
    };
    found.profile().map_err(unusable)
}

/// Every provider that a sign-in remembered. What cannot be read is forgotten: the next sign-in
/// finds it out again.
pub(super) fn load(directory: &Path) -> Vec<Profile> {
    let entries = disk::entries(directory).unwrap_or_default();
    let mut paths: Vec<PathBuf> = entries.into_iter().take(MOST).map(|entry| entry.path).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let content = disk::read(&path).ok()??;
        let profile = serde_json::from_slice::<Found>(&content).ok()?.profile().ok()?;
        Some(Profile { source: Source::Remembered, ..profile })
    };
    let json = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
    paths.into_iter().filter(json).filter_map(read).collect()
}

impl Profile {
    /// Keeps a provider that nobody configured for the requests to come.
    ///
    /// # Errors
    /// `Storage` when the file cannot be written.
    pub fn remember(&self, environment: &Environment) -> Result<()> {
        if self.source == Source::Configured {
            return Ok(());
        }
        let Some(found) = Found::of(self) else { return Ok(()) };
        // URLs, strings and numbers cannot fail to become JSON.
        let content = serde_json::to_vec(&found).unwrap_or_default();
        disk::replace(&self.path(environment)?, &content)
    }

    /// Undoes `remember`.
    ///
    /// # Errors
    /// `Storage` when the file cannot be removed.
    pub fn forget(&self, environment: &Environment) -> Result<()> {
        match self.source {
            Source::Configured => Ok(()),
            Source::Remembered | Source::Offered => {
                disk::remove(&self.path(environment)?).map(drop)
            }
        }
    }

    fn path(&self, environment: &Environment) -> Result<PathBuf> {
        let name = format!("{}.json", &fingerprint(self.name.as_bytes())[..32]);
        Ok(directory(environment)?.join(name))
    }
}

pub(super) fn directory(environment: &Environment) -> Result<PathBuf> {
    Ok(environment.state_directory()?.join("providers"))
}
