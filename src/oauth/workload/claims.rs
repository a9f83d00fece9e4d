//! What an identity token says about its job: shown where a server rejects it, never the token
//! itself. Nobody here believes it: its signature is the server's business.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::super::answer::cut;
use crate::error::{Error, Kind, Result};
use crate::model::Secret;

/// The claims that trust policies are made of.
const SHOWN: [&str; 12] = [
    "iss",
    "sub",
    "aud",
    "repository",
    "repository_owner_id",
    "ref",
    "environment",
    "workflow_ref",
    "job_workflow_ref",
    "project_path",
    "pipeline_slug",
    "exp",
];

fn claims(token: &Secret) -> Option<Map<String, Value>> {
    let payload = token.expose().split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// `exp`, in seconds of Unix time.
pub(in super::super) fn end(token: &Secret) -> Option<u64> {
    claims(token)?.get("exp")?.as_f64().map(|seconds| seconds as u64)
}

/// `sub`, if it can be a name.
pub(super) fn subject(token: &Secret) -> Option<String> {
    let subject = claims(token)?.get("sub")?.as_str()?.to_owned();
    let plain = !subject.is_empty() && subject.len() <= 200;
    (plain && !subject.chars().any(char::is_control)).then_some(subject)
}

/// What a person compares with the trust policy of the server that rejected the token.
pub(in super::super) fn hint(token: &Secret) -> String {
    let Some(claims) = claims(token) else {
        return "the identity token is no JWT: check where it comes from".to_owned();
    };
    let shown: Vec<_> = SHOWN
        .into_iter()
        .filter_map(|name| Some(format!("{name}={}", text(claims.get(name)?)?)))
        .collect();
    format!("compare the trust policy there with what the identity token says: {}", shown.join(" "))
}

fn text(claim: &Value) -> Option<String> {
    let text = match claim {
        Value::String(text) => cut(text),
        Value::Number(number) => number.to_string(),
        Value::Array(list) => {
            let words: Vec<_> = list.iter().filter_map(Value::as_str).map(cut).collect();
            words.join(",")
        }
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// A token for somebody else is not shown to anybody: they could use it there.
pub(super) fn require_audience(token: &Secret, audience: &str, source: &str) -> Result<()> {
    let Some(claims) = claims(token) else { return Ok(()) };
    let named = match claims.get("aud") {
        Some(Value::String(named)) => vec![named.as_str()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => return Ok(()),
    };
    if named.contains(&audience) {
        return Ok(());
    }
    let named: Vec<_> = named.into_iter().map(cut).collect();
    let what = format!(
        "the identity token of {source} is for {}, not for {}",
        named.join(","),
        cut(audience)
    );
    Err(Error::new(Kind::Configuration, what)
        .hint("change audience in the profile's [workload], or what the job asks for"))
}

/// For fuzzing: whatever a token says, what is shown of it cannot act on a terminal.
///
/// # Panics
/// When it can.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    let token = Secret::new(format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(bytes)));
    let shown = hint(&token);
    assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{shown:?}");
    assert!(shown.len() < 1 << 20);
    assert!(subject(&token).is_none_or(|name| !name.chars().any(char::is_control)));
    if let Err(error) = require_audience(&token, "us", "a test") {
        assert!(error.what.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &Value) -> Secret {
        Secret::new(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string())))
    }

    #[test]
    fn claims_are_shown_and_cannot_act() {
        let token = token(&serde_json::json!({
            "iss": "https://i", "sub": "repo:o/r\u{1b}]52;c;x\u{7}:ref\u{202e}", "aud": ["a", "b"],
            "exp": 1_700_000_000, "jti": "canary", "environment": {"x": 1},
        }));
        let shown = hint(&token);
        assert!(
            shown.ends_with("iss=https://i sub=repo:o/r]52;c;x:ref aud=a,b exp=1700000000"),
            "{shown}"
        );
        assert_eq!(subject(&token), None);
        assert_eq!(end(&token), Some(1_700_000_000));
        assert!(hint(&Secret::new("opaque")).contains("is no JWT"));
    }

    #[test]
    fn a_token_for_somebody_else_is_not_shown() {
        for (claims, fine) in [
            (serde_json::json!({"aud": "us"}), true),
            (serde_json::json!({"aud": ["them", "us"]}), true),
            (serde_json::json!({}), true),
            (serde_json::json!({"aud": "them"}), false),
            (serde_json::json!({"aud": []}), false),
        ] {
            assert_eq!(require_audience(&token(&claims), "us", "x").is_ok(), fine, "{claims}");
        }
        assert!(require_audience(&Secret::new("opaque"), "us", "x").is_ok());
    }
}
