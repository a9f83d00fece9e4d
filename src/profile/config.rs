//! What a configuration says about profiles, and what it may not say.

mod keys;
mod ways;

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

use super::builtin::{self, Provider};
use super::entry::{Entry, ExchangeKind, FieldEntry, OriginEntry, RedirectEntry};
use super::registry::is_known;
use super::workload::{self, Workload};
use super::{
    AccountSource, Endpoints, Exchange, Field, Flow, Issuer, Persist, Prefix, Profile, Redirect,
    Site, Source, distributor, is_safe,
};
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{Resource, Secret, Sent, is_plain_path};

/// Seconds; oauth.md 3.3 settles the contradiction of the systems we serve.
const REFRESH_MARGIN: u64 = 60;

/// A whole file, or a piece of it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) store: Option<String>,
    pub(super) flow: Option<Flow>,
    pub(super) client_metadata: Option<Url>,
    #[serde(default)]
    pub(super) discover: Vec<String>,
    /// Boxed, because a map makes room for eleven, and an entry has two kilobytes.
    #[serde(default)]
    profile: BTreeMap<String, Box<Entry>>,
}

/// The profiles in a text.
pub(super) fn read(text: &str, environment: &Environment) -> Result<Vec<Profile>> {
    let profiles = written(text)?.profile.into_iter();
    profiles.map(|(name, entry)| read_profile(name, *entry, environment)).collect()
}

pub(super) fn written(text: &str) -> Result<Written> {
    // Most files begin with a profile.
    if text.trim().is_empty() {
        return Ok(Written::default());
    }
    toml::from_str(text).map_err(|error| explain(text, &error))
}

/// What is wrong with a file that serde has refused, in words that help.
fn explain(text: &str, refused: &toml::de::Error) -> Error {
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            let error: toml::de::Error = error;
            let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
            return wrong(format!("line {line}: {}", error.message()));
        }
    };
    let unknown = keys::check(&table).err();
    unknown.unwrap_or_else(|| {
        let place = refused.span().map_or_else(String::new, |span| place(text, span.start));
        let what = match refused.message().trim() {
            // serde's word for our own types means nothing to anybody.
            text if text.contains("untagged enum") => "is neither a text nor a table known here",
            text => text,
        };
        wrong(format!("{place}{}", what.replace('\n', ", ")))
    })
}

/// The line of a byte, and the key that stands before it there.
fn place(text: &str, at: usize) -> String {
    let before = &text[..at];
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let key = line.split_once('=').map(|(key, _)| key.trim());
    let plain = |key: &&str| {
        !key.is_empty()
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match key.filter(plain) {
        Some(key) => format!("line {number}: {key}: "),
        None => format!("line {number}: "),
    }
}

/// The public service of a known provider.
///
/// # Errors
/// `Configuration` for a row that has none.
pub(super) fn of_provider(row: &'static Provider, client_id: String) -> Result<Profile> {
    let name = row.name.to_owned();
    let entry =
        Entry { provider: Some(name.clone()), client_id: Some(client_id), ..Entry::default() };
    let profile = read_profile(name, entry, &Environment::default())?;
    Ok(Profile { source: Source::Remembered, ..profile })
}

pub(super) fn read_profile(
    name: String,
    entry: Entry,
    environment: &Environment,
) -> Result<Profile> {
    let here = |what: String| wrong(format!("[profile.{name}] {what}"));
    let provider = match &entry.provider {
        None => None,
        Some(word) => Some(builtin::named(word).ok_or_else(|| {
            let known: Vec<_> = builtin::PROVIDERS.iter().map(|row| row.name).collect();
            let error = here(format!("there is no provider called {word}"));
            error.hint(format!("known are {}", known.join(", ")))
        })?),
    };
    let entry = match provider {
        None => entry,
        Some(row) => row.complete(entry),
    };
    let safe = |key: &str, url: Option<Url>| match url {
        Some(url) if !is_safe(&url) || !url.username().is_empty() || url.password().is_some() => {
            Err(here(format!("{key} is neither https nor on this machine")))
        }
        url => Ok(url),
    };
    let origins = entry
        .origins
        .iter()
        .map(|origin| read_origin(origin, &entry).map_err(|error| here(error.what)))
        .collect::<Result<Vec<_>>>()?;
    if origins.is_empty() {
        return Err(here("names no origin".to_owned()));
    }
    let variable = |name: &Option<String>, own: Option<String>| {
        let value = name.as_deref().and_then(|name| environment.get(name));
        value.map(str::to_owned).or(own)
    };
    let issuer = variable(&entry.issuer_env, entry.issuer.map(|own| own.text().to_owned()));
    let client_id = variable(&entry.client_id_env, entry.client_id);
    let client_id = client_id.or_else(|| distributor::client_id(&name).map(str::to_owned));
    let audience = variable(&entry.audience_env, entry.audience);
    let expected = [(&entry.issuer_env, &issuer), (&entry.client_id_env, &client_id)];
    let unset = expected.into_iter().filter(|(_, value)| value.is_none());
    let unset = unset.filter_map(|(name, _)| name.clone()).collect();
    let issuer = issuer.map(|text| Issuer::new(&text));
    let issuer = issuer.transpose().map_err(|_| here("issuer is no URL".to_owned()))?;
    let url = safe("issuer", issuer.as_ref().map(|issuer| issuer.url().clone()))?;
    if url.is_some_and(|url| url.query().is_some() || url.fragment().is_some()) {
        return Err(here("issuer has a query or a fragment (RFC 8414 section 2)".to_owned()));
    }
    let workload = entry.workload.map(workload::Entry::read).transpose();
    let mut workload = workload.map_err(|what| here(format!("workload: {what}")))?;
    if workload.is_none() && entry.flow == Some(Flow::Workload) {
        workload = Some(Workload::default());
    }
    let mut endpoints = Endpoints {
        authorization: safe("authorization_endpoint", entry.authorization_endpoint)?,
        token: safe("token_endpoint", entry.token_endpoint)?,
        device_authorization: safe(
            "device_authorization_endpoint",
            entry.device_authorization_endpoint,
        )?,
        revocation: safe("revocation_endpoint", entry.revocation_endpoint)?,
        userinfo: safe("userinfo_endpoint", entry.userinfo_endpoint)?,
    };
    let (flow, open) = ways::flow(entry.flow, entry.flow_env, environment).map_err(&here)?;
    let (flow, site) = ways::site(flow, entry.handoff, entry.relay).map_err(&here)?;
    if let Some(Site::Handoff(_)) = &site
        && entry.account.is_none()
    {
        return Err(here("has a handoff and no account, which a token is checked with".to_owned())
            .hint("set account = { url = \"...\", id = \"/...\" } for the profile"));
    }
    if matches!(site, Some(Site::Handoff(_))) && entry.persist == Some(Persist::RefreshToken) {
        let what = "has persist = \"refresh-token\", and a handoff brings none";
        return Err(here(what.to_owned()));
    }
    if issuer.is_none() && endpoints.token.is_none() {
        endpoints.token = workload.as_ref().and_then(|workload| workload.endpoint(&origins[0]));
    }
    let as_it_is = workload.as_ref().is_some_and(|own| own.exchange == workload::Exchange::None);
    let signs_nobody_in = matches!(flow, Some(Flow::None | Flow::Token));
    let no_server = as_it_is || signs_nobody_in || site.is_some() || entry.issuer_env.is_some();
    if issuer.is_none() && endpoints.token.is_none() && !no_server {
        return Err(here("has neither issuer nor token_endpoint".to_owned()).hint(
            "name the issuer, or set flow = \"token\" where people paste one, or \"none\" to keep \
             only what is stored",
        ));
    }
    let paths = read_paths(entry.paths).map_err(|error| here(error.what))?;
    let fields = entry
        .fields
        .into_iter()
        .map(|(name, field)| read_field(name, field, environment))
        .collect::<Result<Vec<_>>>()
        .map_err(|error| here(error.what))?;
    let account = match entry.account {
        None => None,
        Some(account) => Some(AccountSource {
            url: safe("account.url", Some(account.url.clone()))?.unwrap_or(account.url),
            id: account.id,
            name: account.name,
            email: account.email,
        }),
    };
    let redirect = read_redirect(entry.redirect.unwrap_or_default(), site.as_ref())
        .map_err(|error| here(error.what))?;
    Ok(Profile {
        origins,
        issuer,
        endpoints,
        client_id: client_id.unwrap_or_default(),
        client_secret: entry.client_secret.map(Secret::new),
        client_auth: entry.token_endpoint_auth_method,
        scopes: entry.scopes,
        audience,
        resource: entry.resource,
        flow,
        workload,
        persist: entry.persist,
        redirect,
        token_env: entry.token_env,
        refresh_margin: entry.refresh_margin.unwrap_or(REFRESH_MARGIN),
        account,
        site,
        refresh: entry.refresh,
        revoke: entry.revoke.unwrap_or(true),
        unset,
        open,
        provider,
        paths,
        token_page: safe("token_page", entry.token_page)?,
        fields,
        pushed: entry.par,
        device_challenge: entry.device_pkce,
        inside: true,
        name,
        source: Source::Configured,
    })
}

fn read_origin(origin: &OriginEntry, entry: &Entry) -> Result<Prefix> {
    let (text, username, scheme, token, exchange, registry) = match origin {
        OriginEntry::Plain(url) => (url, None, None, None, None, None),
        OriginEntry::Own { url, username, scheme, token, exchange, tenant, role, registry } => {
            let exchange = match (exchange, tenant, role) {
                (Some(ExchangeKind::Acr), tenant, None) => {
                    Some(Exchange::Acr { tenant: tenant.clone() })
                }
                (Some(ExchangeKind::AwsSts), None, Some(role)) => {
                    Some(Exchange::AwsSts { role: role.clone() })
                }
                (None, None, None) => None,
                (Some(ExchangeKind::AwsSts), None, None) => {
                    return Err(wrong(format!("origin {url} needs the role that is assumed")));
                }
                (_, Some(_), _) => {
                    return Err(wrong(format!("origin {url} has a tenant and no exchange")));
                }
                (_, None, Some(_)) => {
                    return Err(wrong(format!("origin {url} has a role and no exchange")));
                }
            };
            (url, username.as_ref(), *scheme, *token, exchange, *registry)
        }
    };
    if !text.contains("://") {
        return Err(wrong(format!("origin {text} has no scheme")));
    }
    let resource = Resource::parse(text)?;
    let safe = Url::parse(&resource.origin()).is_ok_and(|url| is_safe(&url));
    if !safe || resource.account.is_some() || text.contains(['?', '#']) {
        return Err(wrong(format!("origin {text} is not an https URL without user and query")));
    }
    if !resource.path.as_deref().is_none_or(is_plain_path) {
        return Err(wrong(format!(
            "origin {text} has a path with dots, escapes or empty segments"
        )));
    }
    let username = username.or(entry.username.as_ref()).cloned();
    // What clients of registries know a refresh token by.
    let username = match exchange {
        Some(Exchange::Acr { .. }) => Some("<token>".to_owned()),
        _ => username,
    };
    let known = || matches!(exchange, Some(Exchange::Acr { .. })) || is_known(&resource.origin());
    Ok(Prefix {
        registry: registry.unwrap_or_else(known),
        origin: resource.origin(),
        path: resource.path.unwrap_or_default(),
        username: username.unwrap_or_else(|| "oauth2".to_owned()),
        scheme: scheme.or(entry.scheme).unwrap_or_default(),
        token: token.unwrap_or(entry.token),
        exchange,
    })
}

/// Rules by path, each without slashes at either end.
fn read_paths(entries: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let rule = |(path, account): (String, String)| match path.trim_matches('/') {
        "" => Err(wrong("paths has a rule for no path".to_owned())),
        path if account.is_empty() => Err(wrong(format!("paths names no account for {path}"))),
        path if !is_plain_path(path) => {
            Err(wrong(format!("paths has {path}, with dots, escapes or empty segments")))
        }
        path => Ok((path.to_owned(), account)),
    };
    entries.into_iter().map(rule).collect()
}

/// Headers that no field may set: those that prove an identity come from the vault alone, and those
/// that name the host or end the request belong to the client (RFC 9110 sections 7.2, 7.6.1, 8.6).
const RESERVED_HEADERS: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "private-token",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn read_field(name: String, entry: FieldEntry, environment: &Environment) -> Result<Field> {
    let here = |what: &str| wrong(format!("fields.{name} {what}"));
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if entry.header.is_empty() || !entry.header.bytes().all(token) {
        return Err(here("has no header that can be sent"));
    }
    if RESERVED_HEADERS.contains(&entry.header.to_ascii_lowercase().as_str()) {
        return Err(here(&format!("may not be sent as {}", entry.header)));
    }
    let said = entry.env.as_deref().and_then(|name| environment.get(name));
    let value = said.map(str::to_owned).or(entry.value);
    if value.as_deref().is_some_and(|value| !Sent::takes(value)) {
        return Err(here("has a value that no header takes"));
    }
    Ok(Field { header: entry.header, value, account: entry.account, name })
}

fn read_redirect(entry: RedirectEntry, site: Option<&Site>) -> Result<Redirect> {
    let plain = Redirect::default();
    let host = match site {
        // Where such sites send their people.
        Some(Site::Handoff(_)) => "localhost".to_owned(),
        _ => plain.host,
    };
    let redirect = Redirect {
        host: entry.host.unwrap_or(host),
        ports: entry.ports.unwrap_or(plain.ports),
        path: entry.path.unwrap_or(plain.path),
    };
    if !["127.0.0.1", "[::1]", "localhost"].contains(&redirect.host.as_str()) {
        return Err(wrong("redirect.host is not a loopback address".to_owned()));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    if !redirect.path.starts_with('/') || !redirect.path.bytes().all(plain) {
        return Err(wrong("redirect.path is not a plain absolute path".to_owned()));
    }
    if redirect.ports.is_empty() {
        return Err(wrong("redirect.ports is empty".to_owned()));
    }
    Ok(redirect)
}

pub(super) fn wrong(what: String) -> Error {
    Error::new(Kind::Configuration, what)
}
