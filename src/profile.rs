//! Which provider serves a resource, and how: endpoints, flow, user name, origins. A profile is
//! the user's word; nothing a server says can add an origin to it. This room never connects.

mod builtin;
mod client;
mod config;
mod distributor;
mod entry;
mod file;
mod issuer;
mod registry;
mod remembered;
mod service;
mod site;
pub mod workload;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use url::Url;

use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{
    Bound, Key, Offer, Place, Resource, Scheme, Secret, StoreChoice, TokenKind, is_below,
};
pub use builtin::{PROVIDERS, Provider};
pub use client::{ClientAuth, Redirect};
use file::Configured;
pub use issuer::Issuer;
pub use remembered::Found;
pub use service::{Service, environment_token, unclear_variable};
pub use site::{Handoff, HandoffNames, Relay, RelayNames, Site};
use workload::Workload;

/// What the configuration says as a whole.
#[derive(Debug, Default)]
pub struct Profiles {
    pub store: StoreChoice,
    pub flow: Option<Flow>,
    /// Where a document about this client is published, for servers that take its URL as a client
    /// id.
    pub client_metadata: Option<Url>,
    /// Origins that may say themselves who issues their tokens when a tool asks for one.
    discover: Vec<String>,
    configured: Configured,
    environment: Environment,
    /// What serves origins that nobody configured, once somebody needed to know.
    others: OnceCell<Vec<Profile>>,
}

/// How a person signs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Flow {
    /// Browser where one can be opened on this machine, else device, else paste.
    #[default]
    Auto,
    /// Authorization code with PKCE, redirected to a loopback listener (RFC 8252).
    Browser,
    /// Device authorization grant (RFC 8628).
    Device,
    /// Authorization code with PKCE, brought home by hand.
    Paste,
    /// The site redirects the token itself to a loopback listener.
    Handoff,
    /// The site keeps the tokens until we ask for them with the PKCE verifier.
    Relay,
    /// Nobody signs in: the platform that this program runs on vouches for it.
    Workload,
    /// A token that the person makes at the provider and pastes.
    Token,
    /// Nobody signs in at this host: only what was stored is answered.
    None,
}

/// When a token is renewed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refresh {
    #[default]
    BeforeExpiry,
    /// At each call, whatever its age.
    Always,
}

/// Who says that a provider issues the credentials of an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The user's configuration.
    #[default]
    Configured,
    /// A person who signed in there: for one resource that nobody configured.
    Remembered,
    /// A caller or a host, for its own resource, and only now.
    Offered,
}

/// One provider and the origins whose credentials it issues.
#[derive(Debug, Clone)]
pub struct Profile {
    pub name: String,
    pub source: Source,
    pub origins: Vec<Prefix>,
    /// As the configuration spells it.
    pub issuer: Option<Issuer>,
    pub endpoints: Endpoints,
    pub client_id: String,
    /// For providers that want one of public clients too; not confidential (RFC 8252 section 8.5).
    pub client_secret: Option<Secret>,
    /// How the secret is shown. `None`: as the server wants it.
    pub client_auth: Option<ClientAuth>,
    pub scopes: Vec<String>,
    pub audience: Option<String>,
    /// Resource indicator (RFC 8707).
    pub resource: Option<String>,
    pub flow: Option<Flow>,
    /// For the flow of that name.
    pub workload: Option<Workload>,
    /// `None`: what the flow calls for.
    pub persist: Option<Persist>,
    pub redirect: Redirect,
    pub token_env: Vec<String>,
    /// Seconds before its expiry at which a token is renewed.
    pub refresh_margin: u64,
    pub account: Option<AccountSource>,
    pub site: Option<Site>,
    pub refresh: Refresh,
    /// Whether a sign-out tells the server.
    pub revoke: bool,
    /// Variables of the environment that the profile expects, and that are not set.
    pub unset: Vec<String>,
    /// The variable and its value that say that this host takes anybody.
    pub open: Option<String>,
    /// Where the settings come from that the user did not write.
    pub provider: Option<&'static Provider>,
    /// Whose account a path below any origin belongs to, without slashes at either end.
    pub paths: BTreeMap<String, String>,
    /// Where a person makes a token by hand.
    pub token_page: Option<Url>,
    pub fields: Vec<Field>,
    /// Authorization requests are pushed (RFC 9126), also where the server does not insist.
    pub pushed: bool,
    /// The device flow is bound to this process by PKCE, also where the server does not insist.
    pub device_challenge: bool,
    /// Its servers may be on a private network: the user says who they are, or the host that names
    /// them is on one itself.
    pub inside: bool,
}

/// An origin and a path below it, compared exactly and by whole segments, and how its host takes
/// a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    pub origin: String,
    /// Without slashes at either end; empty for the whole origin.
    pub path: String,
    /// The user name that goes beside the token; `{account}` stands for the session's account.
    pub username: String,
    pub scheme: Scheme,
    pub token: TokenKind,
    pub exchange: Option<Exchange>,
    /// Whether it is a registry of container images.
    pub registry: bool,
}

/// How much of a session is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Persist {
    /// Every token that a later request can use.
    All,
    /// No token that a host takes: each process renews for itself.
    RefreshToken,
}

/// The host takes no token of the session, but what it gives for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// Azure's registries.
    Acr {
        /// Whose directory the account is in.
        tenant: Option<String>,
    },
    /// AWS's security token service.
    AwsSts {
        /// The ARN of the role to assume.
        role: String,
    },
}

/// Where the provider answers. Whatever is missing is discovered from the issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    pub authorization: Option<Url>,
    pub token: Option<Url>,
    pub device_authorization: Option<Url>,
    pub revocation: Option<Url>,
    pub userinfo: Option<Url>,
}

/// Where the account's name is learned: a JSON document and pointers into it (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSource {
    pub url: Url,
    pub id: String,
    pub name: Option<String>,
    pub email: Option<String>,
}

/// A named value that the hosts want beside a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    /// The header that carries it.
    pub header: String,
    /// What environment or configuration say; it comes before what is kept with a session.
    pub value: Option<String>,
    /// Where in the account's document it is found at a sign-in (RFC 6901).
    pub account: Option<String>,
}

impl Profiles {
    /// Reads the user's configuration. What sign-ins remembered for other origins is read when a
    /// request is for none of its own.
    ///
    /// # Errors
    /// `Configuration` when it is unsafe, is not TOML or says what nobody understands.
    pub fn load(environment: &Environment) -> Result<Self> {
        Ok(Self { environment: environment.clone(), ..file::load(environment)? })
    }

    /// What sign-ins remembered, and the known providers that have a client: for origins that
    /// nobody configured, under names that nobody took.
    fn others(&self) -> &[Profile] {
        self.others.get_or_init(|| {
            let directory = remembered::directory(&self.environment).ok();
            let remembered = directory.as_deref().map(remembered::load).unwrap_or_default();
            let known = builtin::with_client(&self.environment).into_iter();
            let known = known
                .filter_map(|(provider, client_id)| config::of_provider(provider, client_id).ok());
            let mut found: Vec<Profile> = Vec::new();
            for profile in remembered.into_iter().chain(known) {
                let all = || self.configured.all().chain(&found);
                let named = all().any(|other| other.name == profile.name);
                let bound = |prefix: &Prefix| {
                    let same =
                        |own: &Prefix| own.origin == prefix.origin && own.path == prefix.path;
                    all().any(|other| other.origins.iter().any(same))
                };
                let mut profile = profile;
                profile.origins.retain(|prefix| !bound(prefix));
                if !named && !profile.origins.is_empty() {
                    found.push(profile);
                }
            }
            found
        })
    }

    /// A known provider's public service, with a client or without one: for a person who wants to
    /// sign in there.
    #[must_use]
    pub fn known(&self, resource: &Resource) -> Option<Profile> {
        let provider = builtin::serving(resource)?;
        self.named(provider.name)
            .is_none()
            .then(|| config::of_provider(provider, String::new()).ok())?
    }

    /// The provider that the caller names for its resource, if the user has configured none.
    ///
    /// # Errors
    /// `Configuration` when what is named cannot be used.
    pub fn offered(&self, resource: &Resource) -> Result<Option<Profile>> {
        let Some(Offer::Issuer(issuer)) = &resource.offer else { return Ok(None) };
        let found = self.find(resource);
        if found.is_some_and(|service| service.profile.source == Source::Configured) {
            return Ok(None);
        }
        remembered::offered(resource, issuer).map(Some)
    }

    /// The profile with the longest prefix of the resource. A request without a path is for the
    /// whole origin, so it also finds a profile that is bound to one path of it, if only one is.
    /// A resource that leads on to other hosts must be named by a profile in full.
    #[must_use]
    pub fn find(&self, resource: &Resource) -> Option<Service<'_>> {
        let configured: Vec<&Profile> = self.configured.about(resource).collect();
        Self::find_in(&configured, resource).or_else(|| {
            let others: Vec<&Profile> = self.others().iter().collect();
            Self::find_in(&others, resource)
        })
    }

    /// Sees that what the configuration says about a resource, or with `None` all that it says,
    /// can be understood: `find` and its like pass over the rest.
    ///
    /// # Errors
    /// `Configuration` when it cannot, with the file and what is wrong there.
    pub fn check(&self, resource: Option<&Resource>) -> Result<()> {
        self.configured.check(resource)
    }

    fn find_in<'a>(profiles: &[&'a Profile], resource: &Resource) -> Option<Service<'a>> {
        let origin = resource.web_origin();
        let service = Self::bound_to(profiles, &origin, resource).or_else(|| {
            // Some dialects name no scheme. On this machine either stays on this machine.
            let other = match origin.split_once(':') {
                Some(("https", _)) => "http",
                Some(("http", _)) => "https",
                _ => return None,
            };
            let origin = format!("{other}://{}", resource.host);
            let here = resource.is_here();
            here.then(|| Self::bound_to(profiles, &origin, resource)).flatten()
        });
        let path = resource.path.as_deref().unwrap_or_default();
        service.filter(|service| !resource.leads_on() || service.prefix.path == path)
    }

    fn bound_to<'a>(
        profiles: &[&'a Profile],
        origin: &str,
        resource: &Resource,
    ) -> Option<Service<'a>> {
        let all = profiles.iter().flat_map(|profile: &&'a Profile| {
            profile.origins.iter().map(move |prefix| Service { profile, prefix })
        });
        let mut bound: Vec<_> = all.filter(|service| service.prefix.origin == origin).collect();
        bound.sort_by_key(|service| service.prefix.path.len());
        match (&resource.path, bound.as_slice()) {
            (Some(path), all) => all.iter().rev().find(|service| service.prefix.covers(path)),
            (None, [service]) => Some(service),
            (None, [service, ..]) if service.prefix.path.is_empty() => Some(service),
            (None, _) => None,
        }
        .copied()
    }

    /// How a profile gets its tokens without a person, where that is its flow.
    #[must_use]
    pub fn workload_of<'p>(&self, profile: &'p Profile) -> Option<&'p Workload> {
        let chosen = self.flow.filter(|flow| *flow != Flow::Auto).or(profile.flow);
        profile.workload.as_ref().filter(|_| chosen == Some(Flow::Workload))
    }

    /// Whether the person named this host as one that may say who issues its tokens.
    #[must_use]
    pub fn may_discover(&self, resource: &Resource) -> bool {
        !resource.leads_on() && self.discover.contains(&resource.web_origin())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.configured.all().chain(self.others())
    }

    /// The flow that the person prefers, where the profile leaves a choice.
    #[must_use]
    pub fn habit(&self, profile: &Profile) -> Flow {
        match profile.flow {
            Some(Flow::Handoff | Flow::Relay | Flow::None) => Flow::Auto,
            _ => self.flow.unwrap_or_default(),
        }
    }

    /// Every URL below which one account answers: what the profiles are bound to, and the paths in
    /// there that belong to somebody.
    #[must_use]
    pub fn bound(&self) -> Vec<Bound> {
        let mut bound = Vec::new();
        for (profile, prefix) in self
            .iter()
            .flat_map(|profile| profile.origins.iter().map(move |prefix| (profile, prefix)))
        {
            // Keys of AWS are no token of any host.
            let registry = prefix.registry || prefix.exchange.is_some();
            bound.push(Bound { url: prefix.url(), registry });
            let inside = profile.paths.keys().filter(|path| {
                // The prefix's own path is in the list already.
                **path != prefix.path && prefix.covers(path)
            });
            let url = |path| format!("{}/{path}", prefix.origin);
            bound.extend(inside.map(|path| Bound { url: url(path), registry }));
        }
        bound
    }

    /// Whether an origin is a registry of container images: by a profile that says so, or a known
    /// one.
    #[must_use]
    pub fn is_registry(&self, origin: &str) -> bool {
        let mut said = self.iter().flat_map(|profile| &profile.origins);
        let said = said.find(|prefix| prefix.origin == origin && prefix.path.is_empty());
        said.map_or_else(|| registry::is_known(origin), |prefix| prefix.registry)
    }

    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Profile> {
        let named = |profile: &&Profile| profile.name == name;
        self.configured.all().find(named).or_else(|| self.others().iter().find(named))
    }

    /// Whether an environment variable carries a token of ours: no child gets to see it.
    #[must_use]
    pub fn is_secret_variable(&self, name: &str) -> bool {
        let ours =
            name.get(..15).is_some_and(|start| start.eq_ignore_ascii_case("VALETKEY_TOKEN_"));
        let key = name.eq_ignore_ascii_case("VALETKEY_KEY");
        ours || key || self.configured.is_secret_variable(name)
    }
}

impl Prefix {
    /// As it could stand in the configuration, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        match self.path.as_str() {
            "" => self.origin.clone(),
            path => format!("{}/{path}", self.origin),
        }
    }

    fn covers(&self, path: &str) -> bool {
        self.path.is_empty() || is_below(path, &self.path)
    }
}

impl Profile {
    /// What this profile does for its first origin.
    #[must_use]
    pub fn service(&self) -> Option<Service<'_>> {
        self.origins.first().map(|prefix| Service { profile: self, prefix })
    }

    fn is_secret_variable(&self, name: &str) -> bool {
        let identity = self.workload.as_ref().and_then(Workload::token_env);
        self.token_env.iter().any(|own| own == name) || identity == Some(name)
    }

    /// Where this profile's sessions are kept.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::Profile(self.name.clone())
    }

    #[must_use]
    pub fn key(&self, account: &str) -> Key {
        Key {
            place: self.place(),
            client_id: self.client_id.clone(),
            account: account.to_owned(),
            path: None,
        }
    }

    /// Who issues this profile's tokens: a session of another issuer is not this profile's.
    #[must_use]
    pub fn authority(&self) -> String {
        let site = self.site.as_ref().map(|site| match site {
            Site::Handoff(handoff) => &handoff.url,
            Site::Relay(relay) => &relay.poll_endpoint,
        });
        let issuer = self.issuer.as_ref().map(Issuer::url);
        let issuer = issuer.or(self.endpoints.token.as_ref()).or(site);
        issuer.map(Url::to_string).unwrap_or_default()
    }

    /// Whether a person pastes a token here, where `flow` is what was wished for.
    #[must_use]
    pub fn wants_token(&self, flow: Flow) -> bool {
        flow == Flow::Token || self.flow == Some(Flow::Token)
    }

    /// Whether a host of this profile takes the ID token: otherwise it is not kept.
    #[must_use]
    pub fn wants_identity(&self) -> bool {
        self.origins.iter().any(|prefix| prefix.token == TokenKind::Id)
    }

    /// The first origin with its path: what a person signs in to, and names to do so
    /// (`Service::turned` puts another one first).
    #[must_use]
    pub fn home(&self) -> String {
        self.origins.first().map_or_else(String::new, Prefix::url)
    }

    /// What is wrong where the profile waits for the environment to say who signs people in.
    #[must_use]
    pub fn unconfigured(&self) -> Option<Error> {
        let what = format!("the sign-in of profile {} is not configured", self.name);
        // A client can be named for once, a server cannot.
        let or = if self.authority().is_empty() { "" } else { ", or pass --client-id" };
        let hint = format!("set {} in the environment{or}", self.unset.join(" and "));
        let missing = !self.unset.is_empty();
        missing.then(|| Error::new(Kind::Configuration, what).hint(hint))
    }

    /// Whether a sign-in would fail for want of a client secret.
    #[must_use]
    pub fn lacks_secret(&self) -> bool {
        self.provider.is_some_and(|provider| provider.lacks_secret(self))
    }

    /// # Errors
    /// `Configuration` when the profile has no such field.
    pub fn field(&self, name: &str) -> Result<&Field> {
        self.fields.iter().find(|field| field.name == name).ok_or_else(|| {
            let known: Vec<_> = self.fields.iter().map(|field| field.name.as_str()).collect();
            let what = format!("the profile {} has no field called {name}", self.name);
            Error::new(Kind::Configuration, what).hint(match known.as_slice() {
                [] => format!(
                    "add [profile.{}.fields.{name}] with a header to config.toml",
                    self.name
                ),
                known => format!("its fields are {}", known.join(", ")),
            })
        })
    }

    /// What a person can do where nobody knows this program yet.
    #[must_use]
    pub fn no_client(&self) -> Error {
        if let Some(error) = self.unconfigured() {
            return error;
        }
        let home = self.home();
        if let Some(provider) = self.provider {
            let lacks = if self.client_id.is_empty() { "client" } else { "client secret" };
            let what = format!("no OAuth {lacks} is known for {home}");
            return Error::new(Kind::Configuration, what).hint(provider.advice(self));
        }
        let issuer = self.issuer.as_ref().map(Issuer::url);
        let issuer = issuer.or(self.endpoints.token.as_ref());
        let issuer = issuer.map_or(home.as_str(), Url::as_str);
        let what = format!("{issuer} knows no client of the name valetkey");
        let redirect = self.own_redirect();
        Error::new(Kind::Configuration, what).hint(format!(
            "register a public client with the redirect URI http://{}{} there, then {}; or make \
             a token there, then valetkey login --token-stdin {home}",
            redirect.host,
            redirect.path,
            self.with_client_id()
        ))
    }

    /// What makes a client id known here.
    fn with_client_id(&self) -> String {
        match self.source {
            Source::Configured => {
                format!("set client_id in [profile.{}] of config.toml", self.name)
            }
            Source::Remembered | Source::Offered => {
                format!("valetkey login --client-id ID {}", self.home())
            }
        }
    }
}

/// Whether a URL may carry secrets: TLS, or plain HTTP that stays on this machine
/// (OAuth 2.1 section 1.5, RFC 8252 section 8.3).
#[must_use]
pub fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// For fuzzing: every origin that a configuration binds is one that it finds again, and
/// one that may have tokens.
///
/// # Panics
/// When that is not so.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(profiles) = file::parse(text, &Environment::default()) else { return };
    for profile in profiles.iter() {
        for prefix in &profile.origins {
            let url = format!("{}/{}", prefix.origin, prefix.path);
            let resource = Resource::parse(&url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(resource.origin(), prefix.origin);
            let found = profiles.find(&resource).map(|service| &service.profile.name);
            assert_eq!(found, Some(&profile.name));
            assert!(Url::parse(&url).is_ok_and(|url| is_safe(&url)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles(text: &str) -> Profiles {
        file::parse(text, &Environment::default()).expect("a valid configuration")
    }

    fn found<'a>(profiles: &'a Profiles, url: &str) -> Option<&'a str> {
        profiles
            .find(&Resource::parse(url).expect("a URL"))
            .map(|service| service.profile.name.as_str())
    }

    #[test]
    fn origins_match_exactly_and_the_longest_path_wins() {
        let profiles = profiles(
            r#"
            [profile.a]
            origins = ["https://git.example", "https://api.example/v1"]
            issuer = "https://auth.example"
            [profile.b]
            origins = ["https://git.example/team"]
            issuer = "https://auth.example"
            "#,
        );
        assert_eq!(found(&profiles, "https://GIT.example:443/x"), Some("a"));
        assert_eq!(found(&profiles, "https://git.example/team/s.git"), Some("b"));
        assert_eq!(found(&profiles, "https://git.example/teams"), Some("a"));
        assert_eq!(found(&profiles, "https://git.example"), Some("a"));
        assert_eq!(found(&profiles, "https://api.example"), Some("a"));
        assert_eq!(found(&profiles, "https://api.example/v2"), None);
        for stranger in [
            "http://git.example",
            "https://git.example:8443",
            "https://git.example.evil.example",
            "https://evilgit.example",
            "https://sub.git.example",
        ] {
            assert_eq!(found(&profiles, stranger), None, "{stranger}");
        }
    }

    /// A stranger's folder on a host full of folders, put into the configuration of a repository.
    #[test]
    fn what_leads_on_to_other_hosts_must_be_named_in_full() {
        let profiles = profiles(
            r#"
            [profile.a]
            origins = ["https://git.example", "https://git.example/team/index"]
            issuer = "https://auth.example"
            "#,
        );
        assert_eq!(found(&profiles, "sparse+https://git.example/team/index/"), Some("a"));
        assert_eq!(found(&profiles, "terraform+https://git.example"), Some("a"));
        for stranger in [
            "sparse+https://git.example/evil/index/",
            "sparse+https://git.example/team/index/evil",
            "sparse+http://git.example/team/index/",
            "registry+https://git.example/team/index",
        ] {
            assert_eq!(found(&profiles, stranger), None, "{stranger}");
        }
    }

    /// Every text of dots, hyphens, underscores and a letter: those that are hosts have a name each.
    #[test]
    fn no_two_hosts_share_a_variable() {
        let mut texts = vec![String::new()];
        let mut named = std::collections::HashMap::new();
        for _ in 0..7 {
            texts = texts
                .iter()
                .flat_map(|text| "a.-_".chars().map(move |c| format!("{text}{c}")))
                .collect();
            for text in &texts {
                let Ok(resource) = Resource::new("https", text, None, None) else { continue };
                let Some(name) = service::host_variable(&resource) else { continue };
                let other = named.insert(name, resource.host.clone());
                assert!(other.is_none_or(|other| other == resource.host), "{text}");
            }
        }
        assert!(named.len() > 50);
    }

    #[test]
    fn a_token_of_the_environment_is_bound_to_its_host() {
        let token = |url: &str| {
            let environment: Environment =
                [("VALETKEY_TOKEN_my__git_example".into(), "t".into())].into_iter().collect();
            environment_token(&Resource::parse(url).expect("a URL"), &environment)
                .expect("a clean variable")
                .is_some()
        };
        assert!(token("https://my-git.example/a"));
        assert!(token("terraform+https://my-git.example"));
        assert!(!token("sparse+https://my-git.example/a"));
        assert!(!token("http://my-git.example"));
        assert!(!token("https://my-git.example:8443"));
        assert!(!token("https://my.git.example"));
    }
}
