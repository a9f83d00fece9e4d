//! What a profile's table can say, letter by letter. What it means is `config`'s matter.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

use super::{ClientAuth, Flow, Handoff, Issuer, Persist, Refresh, Relay, workload};
use crate::model::{Scheme, TokenKind};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// A row of the table of providers, for whatever is not written.
    pub(super) provider: Option<String>,
    #[serde(default)]
    pub(super) origins: Vec<OriginEntry>,
    pub(super) issuer: Option<Issuer>,
    pub(super) issuer_env: Option<String>,
    pub(super) authorization_endpoint: Option<Url>,
    pub(super) token_endpoint: Option<Url>,
    pub(super) device_authorization_endpoint: Option<Url>,
    pub(super) revocation_endpoint: Option<Url>,
    pub(super) userinfo_endpoint: Option<Url>,
    pub(super) client_id: Option<String>,
    pub(super) client_id_env: Option<String>,
    pub(super) client_secret: Option<String>,
    pub(super) token_endpoint_auth_method: Option<ClientAuth>,
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
    pub(super) flow_env: Option<FlowVariable>,
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
    pub(super) header: String,
    pub(super) account: Option<String>,
    pub(super) env: Option<String>,
    pub(super) value: Option<String>,
}

/// A variable of the environment whose value is a flow, or a word for one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowVariable {
    pub(super) name: String,
    #[serde(default)]
    pub(super) words: BTreeMap<String, Flow>,
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
        registry: Option<bool>,
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
            let (tenant, role, registry) = (None, None, None);
            self = Self::Own { url, username, scheme, token, exchange, tenant, role, registry };
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
