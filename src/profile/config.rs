//! What stands in the user's configuration file. A file that others could have written is not
//! believed, and neither is any file of the current directory.

mod keys;
mod ways;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::pieces::Configured;
use super::workload::{self, Workload};
use super::{
    AccountSource, Endpoints, Exchange, Field, Flow, Handoff, Persist, Prefix, Profile, Profiles,
    Redirect, Refresh, Relay, Site, Source, builtin, distributor, is_safe,
};
use crate::disk;
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{Resource, Scheme, Secret, Sent, StoreChoice, TokenKind};

/// Seconds; oauth.md 3.3 settles the contradiction of the systems we serve.
const REFRESH_MARGIN: u64 = 60;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    store: Option<String>,
    flow: Option<Flow>,
    client_metadata: Option<Url>,
    #[serde(default)]
    discover: Vec<String>,
    /// Boxed, because a map makes room for eleven, and an entry has two kilobytes.
    #[serde(default)]
    profile: BTreeMap<String, Box<Entry>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// A row of the table of providers, for whatever is not written.
    pub(super) provider: Option<String>,
    #[serde(default)]
    pub(super) origins: Vec<OriginEntry>,
    pub(super) issuer: Option<Url>,
    pub(super) issuer_env: Option<String>,
    pub(super) authorization_endpoint: Option<Url>,
    pub(super) token_endpoint: Option<Url>,
    pub(super) device_authorization_endpoint: Option<Url>,
    pub(super) revocation_endpoint: Option<Url>,
    pub(super) userinfo_endpoint: Option<Url>,
    pub(super) client_id: Option<String>,
    pub(super) client_id_env: Option<String>,
    pub(super) client_secret: Option<String>,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    pub(super) audience: Option<String>,
    pub(super) audience_env: Option<String>,
    pub(super) resource: Option<String>,
    #[serde(default)]
    pub(super) par: bool,
    #[serde(default)]
    pub(super) device_pkce: bool,
    pub(super) flow: Option<Flow>,
    pub(super) flow_env: Option<ways::FlowVariable>,
    pub(super) handoff: Option<Handoff>,
    pub(super) relay: Option<Relay>,
    pub(super) workload: Option<workload::Entry>,
    pub(super) persist: Option<Persist>,
    pub(super) redirect: Option<RedirectEntry>,
    pub(super) username: Option<String>,
    pub(super) scheme: Option<Scheme>,
    #[serde(default)]
    pub(super) token: TokenKind,
    #[serde(default)]
    pub(super) token_env: Vec<String>,
    pub(super) refresh_margin: Option<u64>,
    pub(super) account: Option<AccountEntry>,
    #[serde(default)]
    pub(super) refresh: Refresh,
    pub(super) revoke: Option<bool>,
    #[serde(default)]
    pub(super) paths: BTreeMap<String, String>,
    pub(super) token_page: Option<Url>,
    #[serde(default)]
    pub(super) fields: BTreeMap<String, FieldEntry>,
}

#[derive(Deserialize)]
pub(super) struct FieldEntry {
    header: String,
    account: Option<String>,
    env: Option<String>,
    value: Option<String>,
}

/// An origin alone, or with how its host takes a token where it differs from the profile's habit.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum OriginEntry {
    Plain(String),
    Own {
        url: String,
        username: Option<String>,
        scheme: Option<Scheme>,
        token: Option<TokenKind>,
        exchange: Option<ExchangeKind>,
        tenant: Option<String>,
        role: Option<String>,
    },
}

impl OriginEntry {
    pub(super) fn plain(url: &str) -> Self {
        Self::Plain(url.to_owned())
    }

    pub(super) fn url(&self) -> &str {
        match self {
            Self::Plain(url) | Self::Own { url, .. } => url,
        }
    }

    /// As it is, for a host that takes only what it gives for a token.
    pub(super) fn exchanging(mut self, kind: ExchangeKind) -> Self {
        if let Self::Plain(url) = self {
            let (username, scheme, token, exchange) = (None, None, None, None);
            let (tenant, role) = (None, None);
            self = Self::Own { url, username, scheme, token, exchange, tenant, role };
        }
        if let Self::Own { exchange, .. } = &mut self {
            exchange.get_or_insert(kind);
        }
        self
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ExchangeKind {
    /// Azure Container Registry's.
    Acr,
    /// AWS's security token service.
    AwsSts,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RedirectEntry {
    pub(super) host: Option<String>,
    pub(super) ports: Option<Vec<u16>>,
    pub(super) path: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountEntry {
    pub(super) url: Url,
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) email: Option<String>,
}

pub(super) fn load(environment: &Environment) -> Result<Profiles> {
    let path: PathBuf = match environment.get("VALETKEY_CONFIG") {
        Some(path) => path.into(),
        None => match environment.config_directory() {
            Ok(directory) => directory.join("config.toml"),
            // Without a home there is no configuration; the vault says so if it matters.
            Err(_) => return settle(String::new(), None, environment),
        },
    };
    // Whoever can write this file decides where tokens go.
    let text = disk::read_trusted(&path)?.unwrap_or_default();
    settle(text, Some(path), environment)
}

/// Reads what is said for all profiles, and leaves the profiles for later.
fn settle(text: String, path: Option<PathBuf>, environment: &Environment) -> Result<Profiles> {
    let (configured, head) = Configured::new(text, path, environment);
    let settings = settings(&head, environment).map_err(|error| configured.here(error))?;
    Ok(Profiles { configured, ..settings })
}

fn settings(head: &str, environment: &Environment) -> Result<Profiles> {
    let file = written(head)?;
    let store = match environment.get("VALETKEY_STORE").map(str::to_owned).or(file.store) {
        None => StoreChoice::Auto,
        Some(name) => read_store(&name)?,
    };
    let discover = file.discover.iter().map(|host| read_discover(host)).collect::<Result<_>>()?;
    Ok(Profiles {
        store,
        flow: read_flow(environment)?.or(file.flow),
        client_metadata: file.client_metadata.map(read_client_metadata).transpose()?,
        discover,
        ..Profiles::default()
    })
}

/// The profiles in a text.
pub(super) fn read(text: &str, environment: &Environment) -> Result<Vec<Profile>> {
    let profiles = written(text)?.profile.into_iter();
    profiles.map(|(name, entry)| read_profile(name, *entry, environment)).collect()
}

fn written(text: &str) -> Result<Written> {
    // Most files begin with a profile.
    if text.trim().is_empty() {
        return Ok(Written::default());
    }
    toml::from_str(text).map_err(|error| explain(text, &error))
}

/// Reads and checks a whole text.
#[cfg(any(test, fuzzing))]
pub(super) fn parse(text: &str, environment: &Environment) -> Result<Profiles> {
    let profiles = settle(text.to_owned(), None, environment)?;
    profiles.check(None)?;
    Ok(profiles)
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
    unknown.unwrap_or_else(|| wrong(refused.message().trim().replace('\n', ", ")))
}

fn read_discover(host: &str) -> Result<String> {
    let resource = Resource::parse(host).map_err(|error| wrong(format!("discover: {error}")))?;
    let safe = Url::parse(&resource.origin()).is_ok_and(|url| is_safe(&url));
    if !safe || resource.path.is_some() || resource.account.is_some() || host.contains(['?', '#']) {
        return Err(wrong(format!("discover: {host} is not an https origin")));
    }
    Ok(resource.origin())
}

/// What a client id that is a URL may look like (draft-ietf-oauth-client-id-metadata-document,
/// section 3).
fn read_client_metadata(url: Url) -> Result<Url> {
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if url.scheme() != "https" || url.path() == "/" || !plain {
        return Err(wrong(format!("client_metadata {url} is not an https URL with a path alone")));
    }
    Ok(url)
}

fn read_store(name: &str) -> Result<StoreChoice> {
    let suffix = name.strip_prefix("helper:");
    match name {
        "auto" => Ok(StoreChoice::Auto),
        "keychain" => Ok(StoreChoice::Keychain),
        "file" => Ok(StoreChoice::File),
        _ => match suffix {
            Some(suffix)
                if !suffix.is_empty()
                    && suffix
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) =>
            {
                Ok(StoreChoice::Helper(suffix.to_owned()))
            }
            _ => Err(wrong(format!("there is no store called {name}"))
                .hint("use auto, keychain, file or helper:NAME for docker-credential-NAME")),
        },
    }
}

fn read_flow(environment: &Environment) -> Result<Option<Flow>> {
    let Some(name) = environment.get("VALETKEY_FLOW") else { return Ok(None) };
    <Flow as clap::ValueEnum>::from_str(name, false).map(Some).map_err(|_| {
        wrong(format!("VALETKEY_FLOW names no flow: {name}"))
            .hint("use auto, browser, device, paste, token, workload or none")
    })
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
    let issuer = variable(&entry.issuer_env, entry.issuer.map(Into::into));
    let client_id = variable(&entry.client_id_env, entry.client_id);
    let client_id = client_id.or_else(|| distributor::client_id(&name).map(str::to_owned));
    let audience = variable(&entry.audience_env, entry.audience);
    let expected = [(&entry.issuer_env, &issuer), (&entry.client_id_env, &client_id)];
    let unset = expected.into_iter().filter(|(_, value)| value.is_none());
    let unset = unset.filter_map(|(name, _)| name.clone()).collect();
    let issuer = issuer.map(|text| text.parse::<Url>());
    let issuer = issuer.transpose().map_err(|_| here("issuer is no URL".to_owned()))?;
    let issuer = safe("issuer", issuer)?;
    if issuer.as_ref().is_some_and(|url| url.query().is_some() || url.fragment().is_some()) {
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
    let (text, username, scheme, token, exchange) = match origin {
        OriginEntry::Plain(url) => (url, None, None, None, None),
        OriginEntry::Own { url, username, scheme, token, exchange, tenant, role } => {
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
            (url, username.as_ref(), *scheme, *token, exchange)
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
    let username = username.or(entry.username.as_ref()).cloned();
    // What clients of registries know a refresh token by.
    let username = match exchange {
        Some(Exchange::Acr { .. }) => Some("<token>".to_owned()),
        _ => username,
    };
    Ok(Prefix {
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
        path => Ok((path.to_owned(), account)),
    };
    entries.into_iter().map(rule).collect()
}

fn read_field(name: String, entry: FieldEntry, environment: &Environment) -> Result<Field> {
    let here = |what: &str| wrong(format!("fields.{name} {what}"));
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if entry.header.is_empty() || !entry.header.bytes().all(token) {
        return Err(here("has no header that can be sent"));
    }
    // What says who somebody is comes from the vault alone.
    if ["authorization", "cookie", "host", "private-token", "proxy-authorization"]
        .contains(&entry.header.to_ascii_lowercase().as_str())
    {
        return Err(here(&format!("may not be sent as {}", entry.header)));
    }
    let said = entry.env.as_deref().and_then(|name| environment.get(name));
    let value = said.map(str::to_owned).or(entry.value);
    if value.as_deref().is_some_and(|value| !Sent::takes(value)) {
        return Err(here("has a value that no header takes"));
    }
    Ok(Field { header: entry.header, value, account: entry.account, name })
}

impl Default for Redirect {
    fn default() -> Self {
        Self { host: "127.0.0.1".to_owned(), ports: vec![0], path: "/callback".to_owned() }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> (String, Option<String>) {
        let error = parse(text, &Environment::default()).expect_err("must be refused");
        assert_eq!(error.kind, Kind::Configuration);
        (error.what, error.hint)
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest_known_one() {
        let text = "[profile.a]\norigins = [\"https://a.example\"]\nisuer = \"https://b.example\"";
        let (what, hint) = complaint(text);
        assert_eq!(what, "[profile.a] isuer is no setting");
        assert_eq!(hint.as_deref(), Some("did you mean issuer?"));
        assert_eq!(complaint("stoer = \"file\"").1.as_deref(), Some("did you mean store?"));
    }

    #[test]
    fn what_would_leak_a_token_is_refused() {
        let profile =
            |line: &str| format!("[profile.a]\norigins = [\"https://a.example\"]\n{line}");
        for (text, what) in [
            ("issuer = \"http://b.example\"", "issuer is neither https nor on this machine"),
            ("issuer = \"https://b.example?x\"", "issuer has a query"),
            ("token_endpoint = \"http://b.example\"", "token_endpoint is neither https"),
            ("", "has neither issuer nor token_endpoint"),
            (
                "issuer = \"https://b.example\"\nredirect = { host = \"0.0.0.0\" }",
                "redirect.host is not a loopback address",
            ),
        ] {
            let (found, _) = complaint(&profile(text));
            assert!(found.contains(what), "{found}");
        }
        let (found, _) =
            complaint("[profile.a]\norigins = [\"http://a.example\"]\nissuer = \"https://b\"");
        assert!(found.contains("not an https URL"), "{found}");
    }

    #[test]
    fn one_origin_has_one_profile() {
        let text = "[profile.a]\norigins = [\"https://x.example\"]\nissuer = \"https://i\"\n\
                    [profile.b]\norigins = [\"https://X.example:443/\"]\nissuer = \"https://i\"";
        assert!(complaint(text).0.contains("bound to both profile a and profile b"));
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        assert!(complaint("store = \"auto\"\nflow = \n").0.starts_with("line 2:"));
    }
}
