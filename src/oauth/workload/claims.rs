//! What an identity token says about its job: shown where a server rejects it, never the token
//! itself. Nobody here believes it: its signature is the server's business.

#[cfg(any(test, fuzzing))]
use base64::Engine;
#[cfg(any(test, fuzzing))]
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::super::answer::cut;
use super::super::identity;
use super::{Chosen, Vouched};
use crate::error::{Error, Kind, Result};
use crate::model::{Document, Secret};

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

fn claims(token: &Secret) -> Option<Document> {
    identity::claims(token.expose())
}

/// `exp`, in seconds of Unix time.
pub(in super::super) fn end(token: &Secret) -> Option<u64> {
    claims(token)?.value("exp")?.as_f64().map(|seconds| seconds as u64)
}

/// `sub`, if it can be a name.
pub(super) fn subject(token: &Secret) -> Option<String> {
    let subject = claims(token)?.text("sub")?.to_owned();
    let plain = !subject.is_empty() && subject.len() <= 200;
    (plain && !subject.chars().any(char::is_control)).then_some(subject)
}

/// What a person compares with the trust policy of the server that rejected the token.
pub(in super::super) fn hint(token: &Secret) -> String {
    let Some(claims) = claims(token) else {
        return "the identity token is no JWT: check where it comes from".to_owned();
    };
    let shown = shown(Some(&claims));
    format!("compare the trust policy there with what the identity token says: {shown}")
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

/// A token is shown only to whom it is for, by its own word: whoever else got it could use it there
/// (RFC 8725 section 3.9). `profile`: whose table says otherwise. One that we asked for, and that
/// says nothing, is for whom we said; one that is no JWT is sent on the user's word alone.
pub(super) fn require_audience(vouched: &Vouched, ours: &[String], profile: &str) -> Result<()> {
    let claims = claims(&vouched.token);
    let named: Option<Vec<&str>> = match claims.as_ref().and_then(|claims| claims.value("aud")) {
        Some(Value::String(named)) => Some(vec![named]),
        Some(Value::Array(list)) => Some(list.iter().filter_map(Value::as_str).collect()),
        _ => None,
    };
    let fine = match &named {
        Some(named) => named.iter().any(|name| ours.iter().any(|own| is_same(own, name))),
        None if claims.is_none() => vouched.chosen != Chosen::Platform,
        None => vouched.chosen == Chosen::Us,
    };
    if fine {
        return Ok(());
    }
    let named: Vec<_> = named.unwrap_or_default().into_iter().map(cut).collect();
    let said = if named.is_empty() { "nobody in particular".to_owned() } else { named.join(",") };
    let meant = ours.first().map(|audience| cut(audience)).unwrap_or_default();
    let what = format!("the identity token of {} is for {said}, not for {meant}", vouched.source);
    let setting = match named.first() {
        Some(name) => {
            format!("audience = \"{name}\" in [profile.{profile}.workload] if it is meant")
        }
        None => format!("source or token_env in [profile.{profile}.workload] to another one"),
    };
    let shown = shown(claims.as_ref());
    Err(Error::new(Kind::Configuration, what).hint(format!("it says {shown}; set {setting}")))
}

/// A URL without a path is written with a slash here, and without one by most issuers.
fn is_same(own: &str, name: &str) -> bool {
    let bare = |text: &str| text.matches('/').count() == 3 && text.ends_with('/');
    own == name
        || (bare(own) && own.trim_end_matches('/') == name)
        || (bare(name) && name.trim_end_matches('/') == own)
}

fn shown(claims: Option<&Document>) -> String {
    let Some(claims) = claims else { return "nothing, for it is no JWT".to_owned() };
    let shown: Vec<_> = SHOWN
        .into_iter()
        .filter_map(|name| Some(format!("{name}={}", text(claims.value(name)?)?)))
        .collect();
    shown.join(" ")
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
    for chosen in [Chosen::Us, Chosen::User, Chosen::Platform] {
        let vouched = Vouched { token: token.clone(), source: "a test".to_owned(), chosen };
        if let Err(error) = require_audience(&vouched, &["us".to_owned()], "ci") {
            let hint = error.hint.unwrap_or_default();
            let all = error.what.bytes().chain(hint.bytes());
            assert!(all.into_iter().all(|byte| (b' '..=b'~').contains(&byte)), "{}", error.what);
        }
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
    fn a_token_is_shown_to_whom_it_is_for_by_its_own_word() {
        use Chosen::{Platform, Us, User};
        let ours = ["https://us.example/", "us"].map(str::to_owned);
        let fine = |token: Secret, chosen| {
            let vouched = Vouched { token, source: "x".to_owned(), chosen };
            require_audience(&vouched, &ours, "ci").is_ok()
        };
        for (claims, by_us, by_user, by_platform) in [
            (serde_json::json!({"aud": "us"}), true, true, true),
            (serde_json::json!({"aud": "https://us.example"}), true, true, true),
            (serde_json::json!({"aud": "https://us.example/"}), true, true, true),
            (serde_json::json!({"aud": ["them", "us"]}), true, true, true),
            (serde_json::json!({"aud": "https://us.example.evil"}), false, false, false),
            (serde_json::json!({"aud": "https://us.example/x"}), false, false, false),
            (serde_json::json!({"aud": "us/"}), false, false, false),
            (serde_json::json!({"aud": "them"}), false, false, false),
            (serde_json::json!({"aud": []}), false, false, false),
            (serde_json::json!({"aud": [1]}), false, false, false),
            (serde_json::json!({"aud": null}), true, false, false),
            (serde_json::json!({}), true, false, false),
        ] {
            assert_eq!(fine(token(&claims), Us), by_us, "{claims}");
            assert_eq!(fine(token(&claims), User), by_user, "{claims}");
            assert_eq!(fine(token(&claims), Platform), by_platform, "{claims}");
        }
        for (chosen, expected) in [(Us, true), (User, true), (Platform, false)] {
            assert_eq!(fine(Secret::new("opaque"), chosen), expected);
        }
    }
}
