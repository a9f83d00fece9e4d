//! Workload identity: which token a machine without a person has to show, and what it is exchanged
//! for. Rules W1 to W14 of protocol.md say what each setting means.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::{Exchange as OriginExchange, Issuer, Prefix, Profile, is_safe};

/// How a profile gets its tokens without a person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workload {
    pub source: IdentitySource,
    /// Whom the identity token is for. `None`: what the exchange calls for.
    pub audience: Option<String>,
    pub exchange: Exchange,
    /// The service connection of Azure Pipelines.
    pub service_connection: Option<String>,
}

/// Who gives the identity token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IdentitySource {
    /// The first platform that shows itself in the environment; never `Gce`.
    #[default]
    Auto,
    Platform(Platform),
    /// A variable of the environment.
    Env(String),
    /// A file, which is read for every exchange because it rotates. An absolute path.
    File(PathBuf),
    /// What a program prints: its words, started without a shell.
    Command(Vec<String>),
}

/// A place where programs run and are vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    GithubActions,
    Gitlab,
    Circleci,
    Buildkite,
    AzurePipelines,
    Bitbucket,
    /// The token files of Kubernetes, for AWS and for Azure.
    Kubernetes,
    /// Google's virtual machines, whose metadata server speaks plain HTTP.
    Gce,
}

/// What becomes of the identity token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Exchange {
    /// The hosts take it as it is.
    None,
    /// RFC 8693.
    #[default]
    TokenExchange,
    /// RFC 7523 section 2.1.
    JwtBearer,
    /// RFC 7523 section 2.2, which is Microsoft Entra ID's too.
    ClientAssertion,
    /// Google's security token service.
    GoogleSts {
        /// `projects/N/locations/global/workloadIdentityPools/POOL/providers/NAME`
        provider: String,
        /// Where the token is traded for that of a service account.
        impersonation: Option<Url>,
    },
    /// Trusted publishing as PyPI does it.
    Mint,
    /// Trusted publishing as the registry of Rust's crates does it.
    Crates,
    /// octo-sts, for GitHub.
    OctoSts {
        /// The name of the trust policy.
        identity: String,
    },
}

impl Exchange {
    /// Whether it is a grant at a token endpoint of OAuth, whose tokens RFC 7009 revokes.
    #[must_use]
    pub fn is_oauth(&self) -> bool {
        matches!(self, Self::TokenExchange | Self::JwtBearer | Self::ClientAssertion)
    }
}

/// The settings as they are written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    source: Option<SourceName>,
    token_env: Option<String>,
    token_file: Option<PathBuf>,
    command: Option<Vec<String>>,
    service_connection: Option<String>,
    audience: Option<String>,
    #[serde(default)]
    exchange: ExchangeName,
    provider: Option<String>,
    impersonation_url: Option<Url>,
    identity: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Named {
    Auto,
    Env,
    File,
    Command,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(untagged)]
enum SourceName {
    Named(Named),
    Platform(Platform),
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ExchangeName {
    None,
    #[default]
    TokenExchange,
    JwtBearer,
    ClientAssertion,
    GoogleSts,
    Mint,
    Crates,
    OctoSts,
}

impl Entry {
    /// The inner error is what is wrong, without saying where.
    pub(super) fn read(self) -> Result<Workload, String> {
        let named = self.source;
        let is = |name: Named| named.is_none_or(|source| source == SourceName::Named(name));
        let source = match (self.token_env, self.token_file, self.command) {
            (Some(name), None, None) if is(Named::Env) && !name.is_empty() => {
                IdentitySource::Env(name)
            }
            (None, Some(path), None) if is(Named::File) => {
                if !path.is_absolute() {
                    return Err("token_file is no absolute path".to_owned());
                }
                IdentitySource::File(path)
            }
            (None, None, Some(words)) if is(Named::Command) && !words.is_empty() => {
                IdentitySource::Command(words)
            }
            (None, None, None) => match named {
                None | Some(SourceName::Named(Named::Auto)) => IdentitySource::Auto,
                Some(SourceName::Platform(platform)) => IdentitySource::Platform(platform),
                Some(SourceName::Named(Named::Env)) => return Err("needs token_env".to_owned()),
                Some(SourceName::Named(Named::File)) => return Err("needs token_file".to_owned()),
                Some(SourceName::Named(Named::Command)) => {
                    return Err("needs command".to_owned());
                }
            },
            _ => return Err("names more than one source".to_owned()),
        };
        let (kind, asked) = (self.exchange, self.audience.as_deref());
        let only = |key: &str, set: bool, name: ExchangeName, exchange: &str| {
            let stray = set && kind != name;
            if stray { Err(format!("{key} means something to {exchange} only")) } else { Ok(()) }
        };
        only("provider", self.provider.is_some(), ExchangeName::GoogleSts, "google-sts")?;
        let impersonates = self.impersonation_url.is_some();
        only("impersonation_url", impersonates, ExchangeName::GoogleSts, "google-sts")?;
        only("identity", self.identity.is_some(), ExchangeName::OctoSts, "octo-sts")?;
        if asked.is_some_and(|audience| audience.trim().is_empty()) {
            return Err("audience is empty".to_owned());
        }
        if self.impersonation_url.as_ref().is_some_and(|url| !is_safe(url)) {
            return Err("impersonation_url is neither https nor on this machine".to_owned());
        }
        let exchange = match kind {
            ExchangeName::None => Exchange::None,
            ExchangeName::TokenExchange => Exchange::TokenExchange,
            ExchangeName::JwtBearer => Exchange::JwtBearer,
            ExchangeName::ClientAssertion => Exchange::ClientAssertion,
            ExchangeName::GoogleSts => Exchange::GoogleSts {
                provider: self
                    .provider
                    .map(|name| name.trim_matches('/').to_owned())
                    .filter(|name| !name.is_empty())
                    .ok_or("google-sts needs provider")?,
                impersonation: self.impersonation_url,
            },
            ExchangeName::Mint => Exchange::Mint,
            ExchangeName::Crates => Exchange::Crates,
            ExchangeName::OctoSts => Exchange::OctoSts {
                identity: self
                    .identity
                    .filter(|name| !name.is_empty())
                    .ok_or("octo-sts needs identity")?,
            },
        };
        let service_connection = self.service_connection;
        Ok(Workload { source, audience: self.audience, exchange, service_connection })
    }
}

impl Workload {
    /// The variable that holds the identity token.
    pub(super) fn token_env(&self) -> Option<&str> {
        match &self.source {
            IdentitySource::Env(name) => Some(name),
            _ => None,
        }
    }

    /// Where the exchange is made when nobody says otherwise.
    pub(super) fn endpoint(&self, home: &Prefix) -> Option<Url> {
        let text = match &self.exchange {
            Exchange::GoogleSts { .. } => "https://sts.googleapis.com/v1/token".to_owned(),
            Exchange::Mint => format!("{}/_/oidc/mint-token", home.origin),
            Exchange::Crates => format!("{}/api/v1/trusted_publishing/tokens", home.origin),
            Exchange::OctoSts { .. } => "https://octo-sts.dev/sts/exchange".to_owned(),
            Exchange::None
            | Exchange::TokenExchange
            | Exchange::JwtBearer
            | Exchange::ClientAssertion => return None,
        };
        text.parse().ok()
    }
}

impl Profile {
    /// Whom the identity token is for. `None`: the server of the exchange says it.
    #[must_use]
    pub fn identity_audience(&self, workload: &Workload) -> Option<String> {
        if let Some(audience) = &workload.audience {
            return Some(audience.clone());
        }
        let token = self.endpoints.token.as_ref();
        let host = || token.and_then(Url::host_str).map(str::to_owned);
        // A URL without a path is written with a slash here, and without one by most issuers.
        let plain = |url: &Url| match url.path() {
            "/" => url.as_str().trim_end_matches('/').to_owned(),
            _ => url.to_string(),
        };
        match &workload.exchange {
            Exchange::None => self.origins.first().map(|home| match home.exchange {
                Some(OriginExchange::AwsSts { .. }) => "sts.amazonaws.com".to_owned(),
                _ => home.url(),
            }),
            Exchange::ClientAssertion
                if host().is_some_and(|host| host.starts_with("login.microsoftonline.")) =>
            {
                Some("api://AzureADTokenExchange".to_owned())
            }
            Exchange::TokenExchange | Exchange::JwtBearer | Exchange::ClientAssertion => {
                self.issuer.as_ref().map(Issuer::url).or(token).map(plain)
            }
            Exchange::GoogleSts { provider, .. } => {
                Some(format!("https://iam.googleapis.com/{provider}"))
            }
            Exchange::Mint => None,
            Exchange::Crates | Exchange::OctoSts { .. } => host(),
        }
    }
}
