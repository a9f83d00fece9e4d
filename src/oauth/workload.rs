//! Tokens without a person: the platform that a job runs on vouches for it by an identity token,
//! and whoever issues the profile's tokens takes that in exchange. Rules W1 to W14 of protocol.md.

mod claims;
mod exchange;
mod platform;

use url::Url;

use super::{Failure, Oauth};
use crate::error::{Error, Kind};
use crate::model::{Secret, TokenSet};
use crate::profile::workload::{Exchange, Workload};
use crate::profile::{Issuer, Prefix, Profile};

#[cfg(any(test, fuzzing))]
pub use claims::fuzz;
pub(super) use claims::{end, hint};

/// What the exchange brought.
#[derive(Debug)]
pub struct Admitted {
    pub tokens: TokenSet,
    /// Whom the identity token names, where that can be read.
    pub subject: Option<String>,
    /// Who gave the identity token: `github-actions`, `env NAME` and so on.
    pub source: String,
}

/// An identity token and who gave it.
struct Vouched {
    token: Secret,
    source: String,
    chosen: Chosen,
}

/// Who said whom the identity token is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Chosen {
    /// We did, when we asked for it.
    Us,
    /// The user named this very token, whatever it is for.
    User,
    /// Its platform did, for whomever.
    Platform,
}

/// Whom an identity token may be for, to be shown to the server of this exchange: what the table
/// says, and nothing else, or whoever takes the token.
fn audiences(profile: &Profile, workload: &Workload, audience: &str) -> Vec<String> {
    let mut audiences = vec![audience.to_owned()];
    if workload.audience.is_none() {
        audiences.extend(profile.audience.clone());
        audiences.extend(profile.issuer.as_ref().map(|issuer| issuer.text().to_owned()));
        let servers = [profile.issuer.as_ref().map(Issuer::url), profile.endpoints.token.as_ref()];
        audiences.extend(servers.into_iter().flatten().map(Url::to_string));
        if workload.exchange == Exchange::None {
            let taken = |prefix: &&Prefix| prefix.exchange.is_none();
            audiences.extend(profile.origins.iter().filter(taken).map(Prefix::url));
        }
    }
    audiences
}

impl Oauth<'_> {
    /// Asks the platform for an identity token and exchanges it.
    ///
    /// # Errors
    /// `Configuration` where no platform is here or the job lacks a permission, `Rejected` with the
    /// claims of the identity token, `Temporary`.
    pub fn admit(&self, profile: &Profile, workload: &Workload) -> Result<Admitted, Error> {
        self.vouch_and_exchange(profile, workload).map_err(|failure| match failure {
            Failure::Transient(error) | Failure::Other(error) | Failure::Refused(error) => error,
            Failure::GrantDead | Failure::Denied | Failure::Expired => {
                let what = format!("{} refused the exchange", profile.home());
                Error::new(Kind::Rejected, what)
            }
        })
    }

    fn vouch_and_exchange(
        &self,
        profile: &Profile,
        workload: &Workload,
    ) -> Result<Admitted, Failure> {
        let audience = self.identity_audience(profile, workload)?;
        let (lost, shown) = match self.vouched(profile, workload, &audience) {
            Ok(vouched) => match self.exchange_identity(profile, workload, &vouched) {
                Err(Failure::Transient(error)) => (error, Some(vouched.token)),
                outcome => return outcome,
            },
            Err(Failure::Transient(error)) => (error, None),
            Err(failure) => return Err(failure),
        };
        self.ui.log(|| format!("once more: {lost}"));
        let vouched = self.vouched(profile, workload, &audience)?;
        // Some take a token only once, even where their answer was lost.
        if shown.is_some_and(|shown| shown == vouched.token) {
            return Err(Failure::Transient(lost));
        }
        self.exchange_identity(profile, workload, &vouched)
    }

    /// Never empty: a token for everybody could be shown to anybody by whoever gets it.
    fn identity_audience(&self, profile: &Profile, workload: &Workload) -> Result<String, Failure> {
        let audience = match profile.identity_audience(workload) {
            Some(audience) => audience,
            None => self.mint_audience(profile)?,
        };
        if audience.trim().is_empty() {
            let what =
                format!("the audience of the identity token for {} is empty", profile.home());
            let error = Error::new(Kind::Configuration, what);
            return Err(Failure::Other(error.hint("set audience in the profile's [workload]")));
        }
        Ok(audience)
    }

    fn vouched(
        &self,
        profile: &Profile,
        workload: &Workload,
        audience: &str,
    ) -> Result<Vouched, Failure> {
        let vouched = platform::vouch(self, workload, audience)?;
        self.ui.log(|| format!("identity token of {} for {audience}", vouched.source));
        let audiences = audiences(profile, workload, audience);
        claims::require_audience(&vouched, &audiences, &profile.name).map_err(Failure::Other)?;
        Ok(vouched)
    }

    fn exchange_identity(
        &self,
        profile: &Profile,
        workload: &Workload,
        vouched: &Vouched,
    ) -> Result<Admitted, Failure> {
        let tokens = self.trade(profile, &workload.exchange, vouched)?;
        let subject = claims::subject(&vouched.token);
        Ok(Admitted { tokens, subject, source: vouched.source.clone() })
    }
}
