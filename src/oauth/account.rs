//! Whose a token is: what the provider tells about the account behind it.

use url::Url;

use super::metadata::{self, Server};
use super::{Failure, Oauth};
use crate::error::{Error, Kind};
use crate::model::{Document, Fields, Holder, Secret, Sent, TokenSet};
use crate::profile::{AccountSource, Field, Profile};

/// What a provider tells about the account behind a token.
#[derive(Debug, Default)]
pub struct Introduction {
    /// The account's name.
    pub account: Option<String>,
    pub holder: Holder,
    pub fields: Fields,
}

/// What a provider thinks of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    /// It was revoked, or ended before its time.
    Dead,
    /// The page was not there, or spoke of something else.
    Unsaid,
    /// There is no page to ask.
    Unasked,
}

impl Oauth<'_> {
    /// Who signed in. That it cannot be learned is no reason to throw a good session away.
    pub(super) fn account(
        &self,
        profile: &Profile,
        fields: &Fields,
        server: &Server,
        tokens: &TokenSet,
    ) -> Option<Introduction> {
        let identity = tokens.identity.as_ref().map(|identity| &identity.token);
        let token = tokens.access.as_ref().or(identity)?;
        // OpenID Connect Core section 5.1.
        let standard = ["/preferred_username", "/email", "/sub"];
        let (url, ids, name, email): (&Url, Vec<&str>, _, _) =
            match (&profile.account, &server.userinfo) {
                (Some(source), _) => {
                    let AccountSource { url, id, name, email } = source;
                    (url, vec![id], name.as_deref(), email.as_deref())
                }
                (None, Some(url)) if profile.scopes.iter().any(|scope| scope == "openid") => {
                    (url, standard.to_vec(), Some("/name"), Some("/email"))
                }
                _ => return None,
            };
        let answer = self.http(profile).get(url, Some(token), &headers(profile, fields)).ok()?;
        let document = Document::parse(&answer.body).ok().filter(|_| answer.status == 200)?;
        Some(introduction(profile, &document, &ids, name, email))
    }

    /// What the provider thinks of an access token that it issued, as a page about the account tells.
    #[must_use]
    pub fn standing(&self, profile: &Profile, token: &Secret, fields: &Fields) -> Standing {
        let openid = profile.scopes.iter().any(|scope| scope == "openid");
        let url = match &profile.account {
            Some(source) => Some(source.url.clone()),
            None if openid => match self.server(profile, metadata::LIFETIME) {
                Ok(server) => server.userinfo,
                Err(_) => return Standing::Unsaid,
            },
            None => None,
        };
        let Some(url) = url else { return Standing::Unasked };
        self.ui.log(|| format!("show the token to {url}"));
        match self.http(profile).get(&url, Some(token), &headers(profile, fields)) {
            Ok(answer) if (200..300).contains(&answer.status) => Standing::Good,
            // RFC 6750 section 3.1: 403 is about what the token allows, and not about its life.
            Ok(answer) if answer.status == 401 => Standing::Dead,
            _ => Standing::Unsaid,
        }
    }

    /// Shows a token that a person made by hand to the provider, with the fields that go beside
    /// it, before anybody keeps it. Nothing is learned where the profile names no account page.
    ///
    /// # Errors
    /// `Denied` when the provider does not take it, `Transient` when nothing was decided, `Other`
    /// when the answer is not about an account.
    pub fn introduce(
        &self,
        profile: &Profile,
        token: &Secret,
        fields: &Fields,
    ) -> Result<Introduction, Failure> {
        let Some(source) = &profile.account else { return Ok(Introduction::default()) };
        self.ui.log(|| format!("show the token to {}", source.url));
        let answer = self.http(profile).get(&source.url, Some(token), &headers(profile, fields))?;
        match answer.status {
            200 => {}
            401 | 403 => return Err(Failure::Denied),
            408 | 429 | 500.. => return Err(answer.transient()),
            status => {
                let what = format!("{} answered {status} instead of an account", answer.host);
                let hint = format!("check account.url in [profile.{}]", profile.name);
                return Err(Failure::Other(Error::new(Kind::Configuration, what).hint(hint)));
            }
        }
        let AccountSource { id, name, email, .. } = source;
        let document = Document::parse(&answer.body).unwrap_or_default();
        let who = introduction(profile, &document, &[id], name.as_deref(), email.as_deref());
        if who.account.is_none() {
            // Some servers are polite to everybody.
            let what = format!("{} does not say whose token it is", answer.host);
            let hint = format!("check account.id in [profile.{}]", profile.name);
            return Err(Failure::Other(Error::new(Kind::Rejected, what).hint(hint)));
        }
        Ok(who)
    }
}

/// The fields that have a value, as headers.
fn headers(profile: &Profile, fields: &Fields) -> Vec<(String, String)> {
    let header = |field: &'_ Field| {
        let value = field.value.as_ref().or_else(|| fields.get(&field.name))?;
        Some((field.header.clone(), value.clone()))
    };
    profile.fields.iter().filter_map(header).collect()
}

fn introduction(
    profile: &Profile,
    document: &Document,
    ids: &[&str],
    name: Option<&str>,
    email: Option<&str>,
) -> Introduction {
    let find = |pointer: &str| plain_text(document.at(pointer)?);
    let captured = |field: &Field| {
        let value = find(field.account.as_deref()?).filter(|value| Sent::takes(value))?;
        Some((field.name.clone(), value))
    };
    Introduction {
        account: ids.iter().copied().find_map(find),
        holder: Holder { id: None, name: name.and_then(find), email: email.and_then(find) },
        fields: profile.fields.iter().filter_map(captured).collect(),
    }
}

/// What a provider says about an account: it goes into keys, and into git's line protocol where
/// the profile says so.
fn plain_text(value: &serde_json::Value) -> Option<String> {
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let plain = !text.is_empty() && text.len() <= 200 && !text.chars().any(char::is_control);
    plain.then_some(text)
}
