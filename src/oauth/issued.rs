//! What a token endpoint has issued: an access token, or the ID token that a host of the profile
//! wants; and what a person should know about it.

use super::answer::{cut, document, error_of, read_token};
use super::http::Answer;
use super::identity::{self, Expected};
use super::{Failure, Oauth, Options};
use crate::error::{Error, Kind};
use crate::model::{Identity, TokenSet};
use crate::profile::Profile;

impl Oauth<'_> {
    /// What an answer issues: an access token, or the ID token that a host of the profile wants.
    /// `strict`: an ID token that cannot be used is a failure, and not a warning alone.
    pub(super) fn issued(
        &self,
        profile: &Profile,
        expected: &Expected<'_>,
        answer: &Answer,
        strict: bool,
    ) -> Result<TokenSet, Failure> {
        let (identity, why) = match self.identity(profile, expected, answer, strict) {
            None => (None, None),
            Some(Ok(identity)) => (Some(identity), None),
            Some(Err(why)) => (None, Some(why)),
        };
        let outcome = read_token(answer, identity, self.clock.now());
        let Some(why) = why else { return outcome };
        let what = format!("{} issued no ID token that can be used: {why}", answer.host);
        match outcome {
            Ok(_) | Err(Failure::Other(_)) if strict => {
                let hint = identity_hint(profile, &why);
                Err(Failure::Other(Error::new(Kind::Rejected, what).hint(hint)))
            }
            outcome => {
                self.ui.warn(&what);
                outcome
            }
        }
    }

    /// The ID token of an answer, where a host of the profile wants one, or what is wrong with it.
    /// `needed`: that there is none is wrong too.
    pub(super) fn identity(
        &self,
        profile: &Profile,
        expected: &Expected<'_>,
        answer: &Answer,
        needed: bool,
    ) -> Option<Result<Identity, String>> {
        if !profile.wants_identity() || !(200..300).contains(&answer.status) {
            return None;
        }
        let document = document(answer).ok().filter(|document| error_of(document).is_none())?;
        match document.text("id_token") {
            Some(token) => Some(identity::read(token, expected, self.clock.now())),
            None if needed => Some(Err(document.lacks("id_token"))),
            None => None,
        }
    }

    /// What a person should know about the tokens that were issued.
    pub(super) fn say_what_is_less(&self, profile: &Profile, options: &Options, tokens: &TokenSet) {
        let asked = if options.scopes.is_empty() { &profile.scopes } else { &options.scopes };
        if let Some(granted) = &tokens.scope {
            let granted: Vec<&str> = granted.split([' ', ',']).collect();
            // They are about the answer, and servers seldom repeat them.
            let about = ["openid", "offline_access"];
            let missing: Vec<_> = asked
                .iter()
                .filter(|scope| !granted.contains(&scope.as_str()))
                .filter(|scope| !about.contains(&scope.as_str()))
                .map(|scope| cut(scope))
                .collect();
            if !missing.is_empty() {
                let home = profile.home();
                self.ui.warn(&format!("{home} did not grant the scope {}", missing.join(" ")));
            }
        }
    }
}

/// A relay knows no clients, so its token may be for anybody.
pub(super) fn audience<'c>(profile: &Profile, client_id: &'c str) -> Option<&'c str> {
    let nobody = profile.site.is_some() && client_id.is_empty();
    (!nobody).then_some(client_id)
}

fn identity_hint(profile: &Profile, why: &str) -> String {
    let name = &profile.name;
    match why.split(' ').next() {
        Some("exp") => "compare this machine's clock with the server's".to_owned(),
        Some("iss") => format!("check issuer in [profile.{name}]"),
        Some("aud") => format!("check client_id in [profile.{name}]"),
        Some("id_token") => format!("ask for the scope openid: scopes in [profile.{name}]"),
        _ => format!("token = \"access\" in [profile.{name}], if the host takes access tokens"),
    }
}
