//! How a client shows who it is (RFC 6749 section 2.3): by its id alone, with a secret in the form,
//! or with both in a header. Every request that a server may want that for is posted from here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::Oauth;
use super::answer::{document, error_of};
use super::http::{Answer, Unanswered};
use super::metadata::Server;
use super::registration::Credentials;
use crate::model::Secret;
use crate::profile::{ClientAuth, Profile};

impl Oauth<'_> {
    /// Posts a form as the client of this id. Where nobody says how the server wants the secret, it
    /// is in the form, and where that is refused in the header: whoever does not know a client has
    /// not looked at what it asks for.
    ///
    /// # Errors
    /// As `Http::post`.
    pub(super) fn post_as(
        &self,
        profile: &Profile,
        client_id: &str,
        server: Option<&Server>,
        endpoint: &Url,
        form: &[(&str, &str)],
    ) -> Result<Answer, Unanswered> {
        // What the user wrote, or this sign-in registered, comes before what was kept.
        let own = profile.client_id == client_id && profile.client_secret.is_some();
        let kept = if own { None } else { self.registered_as(profile, client_id) };
        let Credentials { secret, method: fixed } =
            kept.unwrap_or_else(|| Credentials::of(profile));
        let Some(secret) = secret.as_ref().filter(|_| fixed != Some(ClientAuth::None)) else {
            return self.http(profile).post(endpoint, &with_id(form, client_id, None));
        };
        let offered = server.and_then(|server| server.client_auth.as_deref());
        let remembered = self
            .proven
            .borrow()
            .as_ref()
            .and_then(|(id, method)| (id == client_id).then_some(*method));
        let methods = match fixed.or(remembered) {
            Some(method) => vec![method],
            None => methods(offered),
        };
        let mut answer = None;
        for method in methods {
            self.ui.log(|| format!("{} at {endpoint}", method.name()));
            let next = self.post_by(method, profile, client_id, secret, endpoint, form)?;
            let refused = is_of_the_client(&next);
            if !refused {
                *self.proven.borrow_mut() = Some((client_id.to_owned(), method));
            }
            // The first refusal says more than the second.
            if !refused || answer.is_none() {
                answer = Some(next);
            }
            if !refused {
                break;
            }
        }
        answer
            .map_or_else(|| self.http(profile).post(endpoint, &with_id(form, client_id, None)), Ok)
    }

    fn post_by(
        &self,
        method: ClientAuth,
        profile: &Profile,
        client_id: &str,
        secret: &Secret,
        endpoint: &Url,
        form: &[(&str, &str)],
    ) -> Result<Answer, Unanswered> {
        let http = self.http(profile);
        if method != ClientAuth::Basic {
            return http.post(endpoint, &with_id(form, client_id, Some(secret)));
        }
        http.post_basic(endpoint, form, &basic(client_id, secret), secret)
    }
}

/// A form with who we are.
fn with_id<'f>(
    form: &[(&'f str, &'f str)],
    client_id: &'f str,
    secret: Option<&'f Secret>,
) -> Vec<(&'f str, &'f str)> {
    let mut form = form.to_vec();
    // A pushed request names it already.
    let named = form.iter().any(|(name, _)| *name == "client_id");
    form.extend((!named && !client_id.is_empty()).then_some(("client_id", client_id)));
    form.extend(secret.map(|secret| ("client_secret", secret.expose())));
    form
}

/// What follows `Basic`: RFC 6749 section 2.3.1 form-encodes both before they are joined.
fn basic(client_id: &str, secret: &Secret) -> Secret {
    let encode =
        |text: &str| -> String { url::form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let pair =
        zeroize::Zeroizing::new(format!("{}:{}", encode(client_id), encode(secret.expose())));
    Secret::new(STANDARD.encode(pair.as_bytes()))
}

/// The ways to try, in order.
fn methods(offered: Option<&[String]>) -> Vec<ClientAuth> {
    let all = [ClientAuth::Post, ClientAuth::Basic];
    let offers = |method: &&ClientAuth| {
        offered.is_some_and(|offered| offered.iter().any(|name| name == method.name()))
    };
    let known: Vec<_> = all.iter().filter(offers).copied().collect();
    // A server that names neither, and has given out a secret, takes one of them all the same.
    if known.is_empty() { all.to_vec() } else { known }
}

/// Whether an answer says that the client was not known by what it showed.
fn is_of_the_client(answer: &Answer) -> bool {
    match error_of(&document(answer).unwrap_or_default()) {
        Some(error) => error == "invalid_client",
        None => answer.status == 401,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_secret_are_form_encoded_before_they_are_joined() {
        for (id, secret, pair) in [
            ("cli", "s3cr3t-words", "cli:s3cr3t-words"),
            ("a:b", "c d", "a%3Ab:c+d"),
            ("https://cli.example/x", "p%/+&=", "https%3A%2F%2Fcli.example%2Fx:p%25%2F%2B%26%3D"),
            ("caf\u{e9}", "*-._~", "caf%C3%A9:*-._%7E"),
        ] {
            let encoded = basic(id, &Secret::new(secret));
            assert_eq!(STANDARD.decode(encoded.expose()).unwrap(), pair.as_bytes(), "{id}");
        }
    }

    #[test]
    fn the_header_is_used_where_the_form_is_not_offered() {
        use ClientAuth::{Basic, Post};
        for (offered, expected) in [
            (None, vec![Post, Basic]),
            (Some(&["client_secret_basic"][..]), vec![Basic]),
            (Some(&["client_secret_post"]), vec![Post]),
            (Some(&["client_secret_basic", "client_secret_post"]), vec![Post, Basic]),
            (Some(&["none", "client_secret_basic", "private_key_jwt"]), vec![Basic]),
            (Some(&["none"]), vec![Post, Basic]),
            (Some(&["private_key_jwt"]), vec![Post, Basic]),
            (Some(&[]), vec![Post, Basic]),
        ] {
            let offered =
                offered.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            let offered: Option<Vec<String>> = offered;
            assert_eq!(methods(offered.as_deref()), expected, "{offered:?}");
        }
    }
}
