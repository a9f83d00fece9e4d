//! Our client at a server, as far as a profile settles it: how it shows who it is, and where the
//! browser comes home to it.

use url::Url;

use super::{Profile, Source};
use crate::model::fingerprint;

/// How a client shows who it is (RFC 7591 section 2), by the names of OAuth's registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum ClientAuth {
    /// A public client: it has only its id.
    #[serde(rename = "none")]
    None,
    /// Id and secret in the form.
    #[serde(rename = "client_secret_post")]
    Post,
    /// Id and secret in the header.
    #[serde(rename = "client_secret_basic")]
    Basic,
}

impl ClientAuth {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Post => "client_secret_post",
            Self::Basic => "client_secret_basic",
        }
    }
}

/// The loopback redirect (RFC 8252 section 7.3).
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Redirect {
    /// `127.0.0.1`, `[::1]` or `localhost`.
    pub host: String,
    /// Tried in order; 0 lets the system choose.
    pub ports: Vec<u16>,
    pub path: String,
}

impl Default for Redirect {
    fn default() -> Self {
        Self { host: "127.0.0.1".to_owned(), ports: vec![0], path: "/callback".to_owned() }
    }
}

impl Redirect {
    /// This one, with a port that is tried before any other.
    #[must_use]
    pub fn at_port(self, port: Option<u16>) -> Self {
        match (port, self.ports.as_slice()) {
            (Some(port), [0]) => Self { ports: vec![port, 0], ..self },
            _ => self,
        }
    }
}

impl Profile {
    /// Where the browser comes home from an issuer: at a place of its own, so that no two servers
    /// share one (RFC 8252 section 8.10), unless the profile names another.
    #[must_use]
    pub fn redirect_at(&self, issuer: &Url) -> Redirect {
        let own = self.redirect.clone();
        if own != Redirect::default() {
            return own;
        }
        let path = format!("{}/{}", own.path, &fingerprint(issuer.as_str().as_bytes())[..8]);
        Redirect { path, ..own }
    }

    /// Where the browser comes home to a client that a person registered. A server that the user
    /// configured is told apart by the user; one that a host names has a place of its own.
    #[must_use]
    pub fn own_redirect(&self) -> Redirect {
        match &self.issuer {
            Some(issuer) if self.source != Source::Configured && self.provider.is_none() => {
                self.redirect_at(issuer.url())
            }
            _ => self.redirect.clone(),
        }
    }
}
