//! Providers that many people use, by name: endpoints, scopes, how their hosts take a token, and
//! where a person gets a client id or a token. The facts are from each provider's own public pages,
//! the first of which every row names; what a service does in truth only a run against it shows.
//! No row has a client id of anybody else.

use url::Url;

use super::entry::{AccountEntry, Entry, ExchangeKind, OriginEntry, RedirectEntry};
use super::{Flow, Profile};
use crate::environment::Environment;
use crate::model::{Resource, Scheme};

/// One row. A page or an endpoint that begins with a slash is below the profile's first origin with
/// its path, because that is where a service of one's own stands (rule Q1).
#[derive(Debug)]
pub struct Provider {
    /// `provider = "NAME"`.
    pub name: &'static str,
    /// The public service; none for what people only run themselves.
    pub origins: &'static [&'static str],
    /// The variable with a client id for the public service, and what it was at build time.
    client: (&'static str, Option<&'static str>),
    authorization: &'static str,
    token: &'static str,
    device: Option<&'static str>,
    revocation: Option<&'static str>,
    /// Where the account's name is learned at the public service and elsewhere, and a pointer to it.
    account: Option<(&'static str, &'static str, &'static str)>,
    /// For every origin of the row; `--scope` asks for others.
    scopes: &'static [&'static str],
    username: &'static str,
    scheme: Scheme,
    exchange: Option<ExchangeKind>,
    /// Host, port and path of the redirect where they are not ours to choose; port 0 is any.
    redirect: Option<(&'static str, u16, &'static str)>,
    secret: Secrecy,
    /// What to register there.
    kind: &'static str,
    clients: &'static str,
    /// Where a person makes a token to paste.
    tokens: &'static str,
    /// The public page that the row is from.
    pub source: &'static str,
}

/// Which sign-ins take a client secret. None is one: it is in every copy of a program (RFC 8252
/// section 8.5).
#[derive(Clone, Copy, Debug, PartialEq)]
enum Secrecy {
    Public,
    /// A device needs none.
    ForCodes,
    Always,
}

macro_rules! client {
    ($name:literal) => {
        (concat!("VALETKEY_CLIENT_ID_", $name), option_env!(concat!("VALETKEY_CLIENT_ID_", $name)))
    };
}

/// For servers that compare the port too (against RFC 8252 section 7.3).
const FIXED: (&str, u16, &str) = ("127.0.0.1", 8765, "/callback");

/// What a row says where it says nothing.
const PLAIN: Provider = Provider {
    name: "",
    origins: &[],
    client: ("", None),
    authorization: "/oauth/authorize",
    token: "/oauth/token",
    device: None,
    revocation: None,
    account: None,
    scopes: &[],
    username: "oauth2",
    scheme: Scheme::Basic,
    exchange: None,
    redirect: None,
    secret: Secrecy::Public,
    kind: "an OAuth application that is not confidential",
    clients: "",
    tokens: "",
    source: "",
};

const GITEA: Provider = Provider {
    name: "gitea",
    origins: &["https://gitea.com"],
    client: client!("GITEA"),
    authorization: "/login/oauth/authorize",
    token: "/login/oauth/access_token",
    clients: "/user/settings/applications",
    tokens: "/user/settings/applications",
    // Access tokens live for an hour. There is no device flow.
    source: "https://docs.gitea.com/development/oauth2-provider",
    ..PLAIN
};

const MICROSOFT: Provider = Provider {
    authorization: "https://login.microsoftonline.com/organizations/oauth2/v2.0/authorize",
    token: "https://login.microsoftonline.com/organizations/oauth2/v2.0/token",
    device: Some("https://login.microsoftonline.com/organizations/oauth2/v2.0/devicecode"),
    // Any port of localhost, and no numeric address.
    redirect: Some(("localhost", 0, "/")),
    kind: "a mobile and desktop application",
    clients: "https://entra.microsoft.com/#view/Microsoft_AAD_RegisteredApps",
    ..PLAIN
};

const GOOGLE: Provider = Provider {
    authorization: "https://accounts.google.com/o/oauth2/v2/auth",
    token: "https://oauth2.googleapis.com/token",
    revocation: Some("https://oauth2.googleapis.com/revoke"),
    // Its device flow refuses these scopes.
    secret: Secrecy::Always,
    kind: "an OAuth client of type desktop app",
    clients: "https://console.cloud.google.com/auth/clients",
    source: "https://developers.google.com/identity/protocols/oauth2/native-app",
    ..PLAIN
};

pub const PROVIDERS: &[Provider] = &[
    Provider {
        name: "github",
        origins: &["https://github.com", "https://gist.github.com", "https://ghcr.io"],
        client: client!("GITHUB"),
        authorization: "/login/oauth/authorize",
        token: "/login/oauth/access_token",
        device: Some("/login/device/code"),
        account: Some(("https://api.github.com/user", "/api/v3/user", "/login")),
        scopes: &["repo", "gist", "workflow", "read:packages"],
        secret: Secrecy::ForCodes,
        kind: "an OAuth app with the device flow enabled",
        clients: "/settings/applications/new",
        tokens: "/settings/tokens",
        // Errors come with status 200. Tokens of OAuth apps do not expire, and there is nothing to
        // renew; those of GitHub apps live for eight hours, and a refresh token works once.
        source: "https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps",
        ..PLAIN
    },
    Provider {
        name: "gitlab",
        origins: &["https://gitlab.com"],
        client: client!("GITLAB"),
        // From GitLab 17.1 on.
        device: Some("/oauth/authorize_device"),
        revocation: Some("/oauth/revoke"),
        scopes: &["read_repository", "write_repository"],
        clients: "/-/user_settings/applications",
        tokens: "/-/user_settings/personal_access_tokens",
        // Access tokens live for two hours; a renewal ends the old pair.
        source: "https://docs.gitlab.com/api/oauth2/",
        ..PLAIN
    },
    Provider {
        name: "bitbucket",
        origins: &["https://bitbucket.org"],
        client: client!("BITBUCKET"),
        authorization: "https://bitbucket.org/site/oauth2/authorize",
        token: "https://bitbucket.org/site/oauth2/access_token",
        scopes: &["repository", "repository:write"],
        username: "x-token-auth",
        secret: Secrecy::Always,
        kind: "an OAuth consumer of your workspace",
        clients: "https://bitbucket.org/account/workspaces/",
        tokens: "https://id.atlassian.com/manage-profile/security/api-tokens",
        // A consumer has one callback. Access tokens live for two hours.
        redirect: Some(FIXED),
        source: "https://support.atlassian.com/bitbucket-cloud/docs/use-oauth-on-bitbucket-cloud/",
        ..PLAIN
    },
    Provider {
        name: "bitbucket-server",
        authorization: "/rest/oauth2/latest/authorize",
        token: "/rest/oauth2/latest/token",
        revocation: Some("/rest/oauth2/latest/revoke"),
        scopes: &["REPO_READ", "REPO_WRITE"],
        username: "OAUTH_USERNAME",
        secret: Secrecy::Always,
        kind: "an incoming application link",
        clients: "/plugins/servlet/applinks/listApplicationLinks",
        tokens: "/plugins/servlet/access-tokens/manage",
        source: "https://confluence.atlassian.com/display/BITBUCKETSERVER091/Bitbucket+OAuth+2.0+provider+API",
        ..PLAIN
    },
    GITEA,
    Provider {
        name: "forgejo",
        origins: &["https://codeberg.org"],
        client: client!("FORGEJO"),
        source: "https://forgejo.org/docs/latest/user/oauth2-provider/",
        ..GITEA
    },
    Provider {
        name: "azure-devops",
        origins: &["https://dev.azure.com"],
        client: client!("AZURE_DEVOPS"),
        scopes: &["499b84ac-1321-427f-aa17-267ca6975798/.default", "offline_access"],
        tokens: "https://dev.azure.com/_usersSettings/tokens",
        source: "https://learn.microsoft.com/en-us/azure/devops/integrate/get-started/authentication/entra-oauth",
        ..MICROSOFT
    },
    Provider {
        name: "acr",
        client: client!("ACR"),
        scopes: &["https://containerregistry.azure.net/.default", "offline_access"],
        exchange: Some(ExchangeKind::Acr),
        tokens: "https://portal.azure.com",
        source: "https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md",
        ..MICROSOFT
    },
    Provider {
        name: "google-source",
        client: client!("GOOGLE_SOURCE"),
        scopes: &["https://www.googleapis.com/auth/gerritcodereview"],
        tokens: "https://www.googlesource.com/new-password",
        ..GOOGLE
    },
    Provider {
        name: "google-registry",
        origins: &[
            "https://gcr.io",
            "https://us.gcr.io",
            "https://eu.gcr.io",
            "https://asia.gcr.io",
        ],
        client: client!("GOOGLE_REGISTRY"),
        scopes: &["https://www.googleapis.com/auth/cloud-platform"],
        username: "oauth2accesstoken",
        tokens: "https://console.cloud.google.com/iam-admin/serviceaccounts",
        source: "https://cloud.google.com/artifact-registry/docs/docker/authentication",
        ..GOOGLE
    },
    Provider {
        name: "huggingface",
        origins: &["https://huggingface.co"],
        client: client!("HUGGINGFACE"),
        device: Some("/oauth/device"),
        account: Some(("/oauth/userinfo", "/oauth/userinfo", "/preferred_username")),
        scopes: &["openid", "profile", "read-repos", "write-repos"],
        kind: "a public OAuth app",
        clients: "/settings/applications/new",
        tokens: "/settings/tokens",
        source: "https://huggingface.co/docs/hub/oauth",
        ..PLAIN
    },
    Provider {
        name: "gitee",
        origins: &["https://gitee.com"],
        client: client!("GITEE"),
        scopes: &["projects", "gists"],
        secret: Secrecy::Always,
        kind: "a third-party application",
        clients: "/oauth/applications/new",
        tokens: "/profile/personal_access_tokens",
        // The port must be the registered one.
        redirect: Some(FIXED),
        source: "https://gitee.com/api/v5/oauth_doc",
        ..PLAIN
    },
];

pub(super) fn named(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == name)
}

/// The row whose public service the resource belongs to.
pub(super) fn serving(resource: &Resource) -> Option<&'static Provider> {
    let origin = resource.web_origin();
    let serves = |provider: &&Provider| provider.origins.iter().any(|own| *own == origin);
    PROVIDERS.iter().find(serves).filter(|_| !resource.leads_on())
}

/// The rows for which somebody gave a client id: the environment, or who built this program.
pub(super) fn with_client(environment: &Environment) -> Vec<(&'static Provider, String)> {
    let client = |provider: &'static Provider| {
        let (variable, built) = provider.client;
        let id = environment.get(variable).or(built).filter(|id| !id.is_empty())?;
        Some((provider, id.to_owned()))
    };
    PROVIDERS.iter().filter_map(client).collect()
}

impl Provider {
    /// What the user did not write.
    pub(super) fn complete(&self, entry: Entry) -> Entry {
        let own = entry.origins.is_empty();
        let mut origins = entry.origins;
        if own {
            origins = self.origins.iter().map(|url| OriginEntry::plain(url)).collect();
        }
        if let Some(exchange) = self.exchange {
            origins = origins.into_iter().map(|origin| origin.exchanging(exchange)).collect();
        }
        let home = origins.first().map_or_else(String::new, |origin| origin.url().to_owned());
        let at = |place: &str| Url::parse(&self.at(&home, place)).ok();
        // Who names an issuer wants its endpoints.
        let published = entry.issuer.is_some();
        let endpoint = |written: Option<Url>, place: Option<&str>| {
            written.or_else(|| place.filter(|_| !published).and_then(at))
        };
        let account = self.account.and_then(|(public, elsewhere, id)| {
            let url = at(if own || self.is_public(&home) { public } else { elsewhere })?;
            Some(AccountEntry { url, id: id.to_owned(), name: None, email: None })
        });
        let redirect = self.redirect.map(|(host, port, path)| RedirectEntry {
            host: Some(host.to_owned()),
            ports: Some(vec![port]),
            path: Some(path.to_owned()),
        });
        let device = self.secret == Secrecy::ForCodes && entry.client_secret.is_none();
        let scopes = || self.scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Entry {
            origins,
            authorization_endpoint: endpoint(
                entry.authorization_endpoint,
                Some(self.authorization),
            ),
            token_endpoint: endpoint(entry.token_endpoint, Some(self.token)),
            device_authorization_endpoint: endpoint(
                entry.device_authorization_endpoint,
                self.device,
            ),
            revocation_endpoint: endpoint(entry.revocation_endpoint, self.revocation),
            scopes: if entry.scopes.is_empty() { scopes() } else { entry.scopes },
            username: entry.username.or_else(|| Some(self.username.to_owned())),
            scheme: entry.scheme.or(Some(self.scheme)),
            flow: entry.flow.or_else(|| device.then_some(Flow::Device)),
            redirect: entry.redirect.or(redirect),
            account: entry.account.or(account),
            token_page: entry.token_page.or_else(|| at(self.tokens)),
            ..entry
        }
    }

    /// Whether a URL is on the public service, where a path is somebody's and not the service's.
    fn is_public(&self, url: &str) -> bool {
        let origin = Url::parse(url).map(|url| url.origin().ascii_serialization());
        origin.is_ok_and(|origin| self.origins.contains(&origin.as_str()))
    }

    /// A page or an endpoint of a row, for the service at `home`.
    fn at(&self, home: &str, place: &str) -> String {
        match place.strip_prefix('/') {
            None => place.to_owned(),
            Some(path) => {
                let home = Url::parse(home)
                    .ok()
                    .filter(|_| self.is_public(home))
                    .map_or_else(|| home.to_owned(), |url| url.origin().ascii_serialization());
                format!("{}/{path}", home.trim_end_matches('/'))
            }
        }
    }

    /// Whether a sign-in there takes a secret that the profile does not have.
    pub(super) fn lacks_secret(&self, profile: &Profile) -> bool {
        self.secret == Secrecy::Always && profile.client_secret.is_none()
    }

    /// How a person gets what a sign-in at this profile's host lacks.
    pub(super) fn advice(&self, profile: &Profile) -> String {
        let home = profile.home();
        let at = |page: &str| self.at(&home, page);
        let redirect = &profile.redirect;
        let (host, path) = (&redirect.host, redirect.path.trim_end_matches('/'));
        let port = redirect.ports.iter().find(|port| **port != 0);
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let then = match self.secret {
            Secrecy::Always => format!(
                "then set provider = \"{}\", client_id and client_secret in a [profile] of \
                 config.toml",
                self.name
            ),
            _ => format!("then {}", profile.with_client_id()),
        };
        format!(
            "register {} with the redirect URI http://{host}{port}{path} at {}, {then}; or make a \
             token at {}, then valetkey login --token-stdin {home}",
            self.kind,
            at(self.clients),
            at(self.tokens),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Endpoints, file};

    fn parse(text: &str) -> Profile {
        let profiles = file::parse(text, &Environment::default()).expect("a valid configuration");
        profiles.iter().next().expect("a profile").clone()
    }

    /// Every row stands on its own, on hosts of TLS only, and says where it is from.
    #[test]
    fn every_row_becomes_a_profile() {
        for row in PROVIDERS {
            let own = row.origins.is_empty();
            let origins = if own { "origins = [\"https://host.example\"]\n" } else { "" };
            let name = row.name;
            let profile = parse(&format!("[profile.x]\nprovider = \"{name}\"\n{origins}"));
            let endpoints = &profile.endpoints;
            assert!(endpoints.token.is_some() && endpoints.authorization.is_some(), "{name}");
            let all = [&endpoints.token, &endpoints.authorization, &endpoints.device_authorization];
            assert!(all.into_iter().flatten().all(|url| url.scheme() == "https"), "{name}");
            assert_eq!(endpoints.device_authorization.is_some(), row.device.is_some(), "{name}");
            assert_eq!(endpoints.revocation.is_some(), row.revocation.is_some(), "{name}");
            assert!(row.source.starts_with("https://"), "{name}");
            assert!(!row.kind.is_empty() && !row.clients.is_empty() && !row.tokens.is_empty());
            assert!(
                row.client.0.ends_with(&name.to_uppercase().replace('-', "_"))
                    || row.client.0.is_empty()
            );
            let advice = row.advice(&profile);
            assert!(!advice.contains('\n') && advice.contains("--token-stdin"), "{advice}");
        }
    }

    /// The facts of a row for its public service, and for a host of one's own.
    #[test]
    fn a_row_follows_the_host_that_it_is_used_for() {
        let at = |url: &Option<Url>| url.as_ref().map(Url::to_string).unwrap_or_default();
        let public = parse("[profile.x]\nprovider = \"github\"");
        assert_eq!(public.origins.len(), 3);
        assert_eq!(at(&public.endpoints.token), "https://github.com/login/oauth/access_token");
        let account = public.account.expect("an account");
        assert_eq!(account.url.as_str(), "https://api.github.com/user");
        assert_eq!(public.flow, Some(Flow::Device));

        let own = parse(
            "[profile.x]\nprovider = \"github\"\norigins = [\"https://git.corp.example\"]\n\
             client_secret = \"s\"\nscopes = [\"repo\"]",
        );
        let endpoint = &own.endpoints.device_authorization;
        assert_eq!(at(endpoint), "https://git.corp.example/login/device/code");
        let account = own.account.expect("an account");
        assert_eq!(account.url.as_str(), "https://git.corp.example/api/v3/user");
        assert_eq!((own.flow, own.scopes), (None, vec!["repo".to_owned()]));

        let registry =
            parse("[profile.x]\nprovider = \"acr\"\norigins = [\"https://r.azurecr.io\"]");
        assert!(registry.origins[0].exchange.is_some());
        assert_eq!(registry.origins[0].username, "<token>");
        assert_eq!(registry.redirect.host, "localhost");

        // Who names an issuer wants its endpoints, and what is written always counts.
        let issuer = parse(
            "[profile.x]\nprovider = \"gitea\"\norigins = [\"https://g.example\"]\n\
             issuer = \"https://g.example\"\nscheme = \"bearer\"\nusername = \"u\"",
        );
        assert_eq!(issuer.endpoints.token, None);
        assert_eq!(issuer.origins[0].scheme, Scheme::Bearer);
        assert_eq!(issuer.origins[0].username, "u");
    }

    /// A service of one's own can stand below a path; at the public one a path is somebody's.
    #[test]
    fn a_row_follows_the_path_of_the_first_origin() {
        for row in PROVIDERS {
            for (origin, base) in [
                ("https://host.example", "https://host.example"),
                ("https://host.example/", "https://host.example"),
                ("https://host.example/git", "https://host.example/git"),
                ("https://host.example/a/git/", "https://host.example/a/git"),
                ("https://host.example:8443/git", "https://host.example:8443/git"),
            ] {
                let name = row.name;
                let profile = parse(&format!(
                    "[profile.x]\nprovider = \"{name}\"\nclient_id = \"c\"\n\
                     origins = [\"{origin}\", \"https://other.example/x\"]"
                ));
                let is = |found: &Option<Url>, place: Option<&str>| {
                    let place = place.map(|place| match place.starts_with('/') {
                        true => format!("{base}{place}"),
                        // Written as the parser writes it.
                        false => Url::parse(place).unwrap().to_string(),
                    });
                    assert_eq!(found.as_ref().map(Url::to_string), place, "{name} at {origin}");
                };
                let Endpoints { authorization, token, device_authorization, revocation, .. } =
                    &profile.endpoints;
                is(authorization, Some(row.authorization));
                is(token, Some(row.token));
                is(device_authorization, row.device);
                is(revocation, row.revocation);
                is(&profile.token_page, Some(row.tokens));
                let account = profile.account.as_ref().map(|account| account.url.clone());
                is(&account, row.account.map(|(_, elsewhere, _)| elsewhere));
                let advice = row.advice(&profile);
                for page in [row.clients, row.tokens].iter().filter(|page| page.starts_with('/')) {
                    assert!(advice.contains(&format!(" at {base}{page}, then")), "{advice}");
                }
                assert!(advice.ends_with(&format!("--token-stdin {base}")), "{advice}");
            }
            for origin in row.origins {
                let profile = parse(&format!(
                    "[profile.x]\nprovider = \"{}\"\norigins = [\"{origin}/team\"]",
                    row.name
                ));
                let at = |url: Option<&Url>| url.map(Url::to_string);
                let whole = of_origin(row, origin);
                assert_eq!(profile.endpoints, whole.endpoints, "{origin}");
                assert_eq!(at(profile.token_page.as_ref()), at(whole.token_page.as_ref()));
                let account = |profile: &Profile| at(profile.account.as_ref().map(|own| &own.url));
                assert_eq!(account(&profile), account(&whole), "{origin}");
            }
        }
    }

    fn of_origin(row: &Provider, origin: &str) -> Profile {
        parse(&format!("[profile.x]\nprovider = \"{}\"\norigins = [\"{origin}\"]", row.name))
    }

    #[test]
    fn a_row_that_does_not_exist_is_answered_with_those_that_do() {
        let error = file::parse("[profile.x]\nprovider = \"gitub\"", &Environment::default());
        let error = error.expect_err("no such row");
        assert_eq!(error.what, "[profile.x] there is no provider called gitub");
        assert!(error.hint.is_some_and(|hint| hint.starts_with("known are github, gitlab, ")));
    }

    /// Every row is in the README, with what it must not promise.
    #[test]
    fn the_readme_lists_every_row() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let text = std::fs::read_to_string(path).unwrap();
        for row in PROVIDERS {
            assert!(text.contains(&format!("| `{}` |", row.name)), "{} is missing", row.name);
        }
        assert!(text.contains("have not been run against the live services"));
    }
}
