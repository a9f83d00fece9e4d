//! The ID token, for hosts that take it in place of an access token. It came over TLS from the
//! token endpoint, so its signature may go unchecked (OpenID Connect Core section 3.1.3.7); whom
//! it is from and for may not.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::model::{Identity, Secret};

/// Seconds by which two clocks may differ.
const LEEWAY: u64 = 60;

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// `None` when the token is not for this client, not from this issuer, or over.
pub(super) fn read(
    token: &str,
    client_id: Option<&str>,
    issuer: Option<&str>,
    now: u64,
) -> Option<Identity> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    let for_us = match &claims.aud {
        Audience::One(audience) => client_id.is_none_or(|client_id| audience == client_id),
        Audience::Many(audiences) => {
            client_id.is_none_or(|client_id| audiences.iter().any(|audience| audience == client_id))
        }
    };
    let from_them = issuer.is_none_or(|issuer| issuer == claims.iss);
    let in_time = claims.exp.saturating_add(LEEWAY) > now;
    (for_us && from_them && in_time)
        .then(|| Identity { token: Secret::new(token), expires: claims.exp })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &serde_json::Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn a_token_for_somebody_else_is_none() {
        let good = serde_json::json!({"iss": "https://i", "aud": "us", "exp": 1_000, "sub": "x"});
        let read = |claims: &serde_json::Value, now| {
            read(&token(claims), Some("us"), Some("https://i"), now)
                .map(|identity| identity.expires)
        };
        assert_eq!(read(&good, 900), Some(1_000));
        assert_eq!(read(&good, 1_100), None);
        let many = serde_json::json!({"iss": "https://i", "aud": ["a", "us"], "exp": 1_000});
        assert_eq!(read(&many, 900), Some(1_000));
        for bad in [
            serde_json::json!({"iss": "https://j", "aud": "us", "exp": 1_000}),
            serde_json::json!({"iss": "https://i", "aud": "them", "exp": 1_000}),
            serde_json::json!({"iss": "https://i", "aud": "us"}),
        ] {
            assert_eq!(read(&bad, 900), None, "{bad}");
        }
        assert!(super::read("x.y.z", Some("us"), None, 0).is_none());
        assert!(super::read("", Some("us"), None, 0).is_none());
    }
}
