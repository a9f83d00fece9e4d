//! The ID token, for hosts that take it in place of an access token. It came over TLS from the
//! token endpoint, so its signature may go unchecked (OpenID Connect Core section 3.1.3.7); whom
//! it is from and for may not.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::answer::cut;
use crate::model::{Document, Identity, Secret, timestamp};

/// What an ID token must say.
#[derive(Default)]
pub(super) struct Expected<'e> {
    /// `aud`. `None`: the client has no name, so the token may be for anybody.
    pub(super) client_id: Option<&'e str>,
    /// `iss`, as the server spells it. `None`: nobody knows.
    pub(super) issuer: Option<&'e str>,
    /// What the authorization request carried. A token without it is taken all the same: PKCE
    /// binds the code to this sign-in, and not every server repeats the nonce.
    pub(super) nonce: Option<&'e str>,
}

/// The claims of a JWT, whoever it is from.
pub(super) fn claims(token: &str) -> Option<Document> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    Document::parse(&payload).ok()
}

/// Reads an ID token.
///
/// # Errors
/// Which claim is not as it must be: the end of a sentence.
pub(super) fn read(token: &str, expected: &Expected<'_>, now: u64) -> Result<Identity, String> {
    let claims = claims(token).ok_or("it is no JWT")?;
    let words = |name: &str| match claims.value(name) {
        Some(Value::String(word)) => vec![word.clone()],
        _ => claims.list(name).unwrap_or_default(),
    };
    let differs = |name: &str, said: &[String], wanted: &str| {
        let said: Vec<_> = said.iter().map(|word| cut(word)).collect();
        Err(format!("{name} is {}, not {}", said.join(","), cut(wanted)))
    };
    let issuer = claims.text("iss").ok_or_else(|| claims.lacks("iss"))?;
    if let Some(wanted) = expected.issuer.filter(|wanted| *wanted != issuer) {
        return differs("iss", &[issuer.to_owned()], wanted);
    }
    let audiences = words("aud");
    if audiences.is_empty() {
        return Err(claims.lacks("aud"));
    }
    if let Some(wanted) = expected.client_id
        && !audiences.iter().any(|audience| audience == wanted)
    {
        return differs("aud", &audiences, wanted);
    }
    // RFC 7519 section 2: NumericDate is a JSON number, and may have a fraction.
    let end = match claims.value("exp") {
        Some(Value::Number(end)) => end.as_f64().map(|end| end as u64),
        Some(Value::String(_)) => return Err("exp is a text and not a number".to_owned()),
        _ => None,
    };
    let end = end.ok_or_else(|| claims.lacks("exp"))?;
    // Without leeway: the host that takes the token has none to give either, and a token that is
    // over by this clock would never be handed out.
    if end <= now {
        return Err(format!("exp is {} seconds in the past by this machine's clock", now - end));
    }
    if let (Some(wanted), Some(said)) = (expected.nonce, claims.value("nonce"))
        && *said != *wanted
    {
        return Err("nonce is not that of this sign-in".to_owned());
    }
    Ok(Identity { token: Secret::new(token), expires: timestamp::believed(end, now) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn judge(claims: &str) -> Result<u64, String> {
        let expected =
            Expected { client_id: Some("us"), issuer: Some("https://i"), nonce: Some("n") };
        read(&token(claims), &expected, 900).map(|identity| identity.expires)
    }

    #[test]
    fn a_token_says_whom_it_is_for_and_from_and_how_long() {
        for claims in [
            r#"{"iss":"https://i","aud":"us","exp":1000,"sub":"x"}"#,
            r#"{"iss":"https://i","aud":["a","us",null],"exp":1000.811}"#,
            r#"{"iss":"https://i","aud":"us","exp":1e3,"nonce":"n","x":[[]],"sub":null}"#,
        ] {
            assert_eq!(judge(claims), Ok(1_000), "{claims}");
        }
        let far = judge(r#"{"iss":"https://i","aud":"us","exp":1e300}"#);
        assert_eq!(far, Ok(900 + 36_500 * 86_400));
    }

    #[test]
    fn the_claim_that_is_wrong_is_named() {
        for (claims, what) in [
            (r#"{"aud":"us","exp":1000}"#, "iss is missing"),
            (r#"{"iss":"https://j","aud":"us","exp":1000}"#, "iss is https://j, not https://i"),
            (r#"{"iss":"https://i/","aud":"us","exp":1000}"#, "iss is https://i/, not https://i"),
            (r#"{"iss":"https://i","exp":1000}"#, "aud is missing"),
            (r#"{"iss":"https://i","aud":[],"exp":1000}"#, "aud is a list"),
            (r#"{"iss":"https://i","aud":["a","b"],"exp":1000}"#, "aud is a,b, not us"),
            (r#"{"iss":"https://i","aud":"us"}"#, "exp is missing"),
            (r#"{"iss":"https://i","aud":"us","exp":"1000"}"#, "exp is a text and not a number"),
            (r#"{"iss":"https://i","aud":"us","exp":null}"#, "exp is null"),
            (r#"{"iss":"https://i","aud":"us","exp":1000,"exp":2000}"#, "exp is given twice"),
            (
                r#"{"iss":"https://i","aud":"us","exp":780}"#,
                "exp is 120 seconds in the past by this machine's clock",
            ),
            (
                r#"{"iss":"https://i","aud":"us","exp":-1}"#,
                "exp is 900 seconds in the past by this machine's clock",
            ),
            (
                r#"{"iss":"https://i","aud":"us","exp":1000,"nonce":"m"}"#,
                "nonce is not that of this sign-in",
            ),
            (
                r#"{"iss":"https://i","aud":"us","exp":1000,"nonce":5}"#,
                "nonce is not that of this sign-in",
            ),
            ("[]", "it is no JWT"),
        ] {
            assert_eq!(judge(claims), Err(what.to_owned()), "{claims}");
        }
        for token in ["", "x", "x.y.z", "..", "e30.e30=.x"] {
            assert!(read(token, &Expected::default(), 0).is_err(), "{token}");
        }
    }
}
