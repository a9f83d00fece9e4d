//! Azure Container Registry's exchange: an access token of Microsoft Entra ID for a refresh token
//! of one registry, which that registry's own realm takes (AAD-OAuth.md of Azure/acr).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use url::Url;

use super::answer::{parse_answer, refused};
use super::{Failure, Oauth};
use crate::error::{Error, Kind};
use crate::model::{Exchanged, Secret};
use crate::profile::Exchange;

/// Seconds, where the token does not say: less than any registry gives.
const LIFETIME: u64 = 900;

#[derive(Deserialize)]
struct Given {
    refresh_token: String,
}

#[derive(Deserialize)]
struct Claims {
    exp: u64,
}

impl Oauth<'_> {
    /// Asks the registry at `origin` for its own token.
    ///
    /// # Errors
    /// `GrantDead` when it does not take this access token, `Transient`, `Other`.
    pub fn exchange(
        &self,
        origin: &str,
        exchange: &Exchange,
        access: &Secret,
    ) -> Result<Exchanged, Failure> {
        let unusable =
            |what: &str| Failure::Other(Error::new(Kind::Rejected, format!("{origin} {what}")));
        let url = Url::parse(&format!("{origin}/oauth2/exchange"))
            .map_err(|_| unusable("is no URL that could be asked"))?;
        let service = origin.split_once("://").map_or(origin, |(_, host)| host);
        let mut form = vec![
            ("grant_type", "access_token"),
            ("service", service),
            ("access_token", access.expose()),
        ];
        form.extend(exchange.tenant.as_deref().map(|tenant| ("tenant", tenant)));
        self.ui.log(|| format!("exchange at {url}"));
        let answer = self.http.post(&url, &form)?;
        match answer.status {
            200 => {}
            401 => return Err(Failure::GrantDead),
            408 | 429 | 500.. => return Err(answer.transient()),
            _ => return Err(Failure::Other(refused(&answer))),
        }
        let Given { refresh_token: token } =
            parse_answer(&answer).ok_or_else(|| Failure::Other(refused(&answer)))?;
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("gave a token with characters that no token may have"));
        }
        let expires = end(&token).unwrap_or(self.clock.now() + LIFETIME);
        Ok(Exchanged { origin: origin.to_owned(), token: Secret::new(token), expires })
    }
}

/// `exp` of a JWT that came from its issuer over TLS: only our own patience depends on it.
fn end(token: &str) -> Option<u64> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok().map(|Claims { exp }| exp)
}
