//! What one host gives for a token of the session. Azure Container Registry gives a refresh token
//! of its own for an access token of Microsoft Entra ID, which its realm takes (AAD-OAuth.md of
//! Azure/acr); AWS gives the keys of a role.

use url::Url;

use super::answer::{document, refused, unreadable};
use super::{Failure, Oauth, workload};
use crate::error::{Error, Kind};
use crate::model::timestamp::believed;
use crate::model::{Exchanged, Secret};
use crate::profile::{Exchange, Prefix};

/// Seconds, where the token does not say: less than any registry gives.
const LIFETIME: u64 = 900;

impl Oauth<'_> {
    /// Asks the host of an origin what it gives for a token of the session.
    ///
    /// # Errors
    /// `GrantDead` when it does not take this token, `Transient`, `Other`.
    pub fn exchange(
        &self,
        prefix: &Prefix,
        exchange: &Exchange,
        token: &Secret,
    ) -> Result<Exchanged, Failure> {
        let (token, expires) = match exchange {
            Exchange::Acr { tenant } => {
                self.registry_token(&prefix.origin, tenant.as_deref(), token)
            }
            Exchange::AwsSts { role } => self.assume_role(&prefix.origin, role, token),
        }?;
        Ok(Exchanged { origin: prefix.url(), token, expires })
    }

    fn registry_token(
        &self,
        origin: &str,
        tenant: Option<&str>,
        access: &Secret,
    ) -> Result<(Secret, u64), Failure> {
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
        form.extend(tenant.map(|tenant| ("tenant", tenant)));
        self.ui.log(|| format!("exchange at {url}"));
        let answer = self.http.post(&url, &form)?;
        match answer.status {
            200 => {}
            401 => return Err(Failure::GrantDead),
            408 | 429 | 500.. => return Err(answer.transient()),
            _ => return Err(Failure::Other(refused(&answer))),
        }
        let given = document(&answer).map_err(|why| Failure::Other(unreadable(&answer, why)))?;
        let Some(token) = given.text("refresh_token") else {
            return Err(unusable(&format!("gave no token: {}", given.lacks("refresh_token"))));
        };
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("gave a token with characters that no token may have"));
        }
        let token = Secret::new(token);
        let now = self.clock.now();
        let expires = workload::end(&token).map_or(now + LIFETIME, |end| believed(end, now));
        Ok((token, expires))
    }
}
