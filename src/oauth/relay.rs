//! A site that keeps the tokens of a sign-in until somebody proves with the PKCE verifier that the
//! sign-in was his (rules F7 to F10 of protocol.md). Whoever began it gets the tokens, so a person
//! must begin it himself: we open the page, and show a code that it can show too.

use serde_json::Map;
use sha2::{Digest, Sha256};

use super::answer::{document, error_of};
use super::code::{challenge, random};
use super::device::poll;
use super::http::Answer;
use super::{Attempt, Failure, TIMEOUT};
use crate::model::{Secret, TokenSet};
use crate::profile::{Relay, RelayNames};

pub(super) fn sign_in(attempt: &Attempt<'_>, relay: &Relay) -> Result<TokenSet, Failure> {
    let Attempt { oauth, options, .. } = attempt;
    let names = &relay.names;
    let (state, verifier) = (random()?, Secret::new(random()?));
    let code = comparison_code(&state);
    let mut url = relay.url.clone();
    url.query_pairs_mut()
        .append_pair(&names.state, &state)
        .append_pair(&names.challenge, &challenge(&verifier))
        .append_pair("code_challenge_method", "S256")
        .append_pair(&names.code, &code);
    attempt.caller_is_there()?;
    attempt.open(&url, true);
    oauth.ui.say(&format!("if the page shows a code, it must be {code}"));
    oauth.ui.say("give this address to nobody: whoever signs in there signs in here");
    let form = [(names.state.as_str(), state.as_str()), (&names.verifier, verifier.expose())];
    poll(attempt, relay.interval.clamp(1, 60), options.timeout.unwrap_or(TIMEOUT), || {
        let mut answer = oauth.http(attempt.profile).post(&relay.poll_endpoint, &form)?;
        answer.sent.extend([&state, verifier.expose()].map(Secret::new));
        Ok(in_our_words(answer, names))
    })
}

/// Eight letters that nobody takes for a word or for one another (RFC 8628 section 6.1), which the
/// site can work out from the state as well.
fn comparison_code(state: &str) -> String {
    const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    let digest = Sha256::digest(state);
    let mut code: String =
        digest.iter().take(8).map(|byte| char::from(LETTERS[usize::from(byte % 20)])).collect();
    code.insert(4, '-');
    code
}

/// The answer as a token endpoint would have worded it.
fn in_our_words(answer: Answer, names: &RelayNames) -> Answer {
    let Ok(said) = document(&answer) else { return answer };
    let mut members = Map::new();
    for (ours, theirs) in [
        ("access_token", &names.access_token),
        ("refresh_token", &names.refresh_token),
        ("id_token", &names.id_token),
        ("expires_in", &names.expires_in),
        ("token_type", &"token_type".to_owned()),
        ("interval", &"interval".to_owned()),
        ("error_description", &"error_description".to_owned()),
    ] {
        if let Some(value) = said.value(theirs) {
            members.insert(ours.to_owned(), value.clone());
        }
    }
    let is_there = |name: &String| said.text(name).is_some();
    let tokens = [&names.access_token, &names.id_token].into_iter().any(is_there);
    let status = said.text(&names.status);
    let error = match status {
        Some(word) if word == names.pending => Some("authorization_pending"),
        // "done" is no error.
        Some(_) if tokens && names.status != "error" => None,
        word => word.or(error_of(&said)),
    };
    if let Some(error) = error {
        members.insert("error".to_owned(), error.into());
    }
    let body = serde_json::Value::Object(members).to_string().into_bytes();
    Answer { body, kind: "application/json".to_owned(), ..answer }
}

/// For fuzzing: what is pending stays so, and an error of the site's is never taken for tokens.
///
/// # Panics
/// When that is not so.
#[cfg(any(test, fuzzing))]
pub fn fuzz(body: &[u8]) {
    for kind in ["application/json", "application/x-www-form-urlencoded"] {
        let answer = Answer::scripted(200, kind, body);
        let names = RelayNames::default();
        let Ok(said) = document(&answer) else { continue };
        let ours = in_our_words(answer, &names);
        let words = document(&ours).unwrap_or_default();
        assert_eq!(words.text("error"), said.text("error"));
        let read = super::answer::read_token(&ours, None, 1_700_000_000);
        assert!(read.is_err() || said.has("access_token"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn translated(names: &RelayNames, status: u16, said: &Value) -> Value {
        let answer = Answer::scripted(status, "application/json", said.to_string().as_bytes());
        serde_json::from_slice(&in_our_words(answer, names).body).unwrap()
    }

    /// The site can work it out too, so it is pinned.
    #[test]
    fn the_code_follows_from_the_state() {
        assert_eq!(comparison_code(""), "KVVJ-QQLB");
        assert_ne!(comparison_code("a"), comparison_code("b"));
    }

    #[test]
    fn a_sites_own_words_become_those_of_the_rfcs() {
        let names = RelayNames {
            status: "status".to_owned(),
            pending: "waiting".to_owned(),
            access_token: "accessToken".to_owned(),
            id_token: "idToken".to_owned(),
            ..RelayNames::default()
        };
        for (said, ours) in [
            (
                serde_json::json!({"status": "waiting"}),
                serde_json::json!({"error": "authorization_pending"}),
            ),
            (
                serde_json::json!({"status": "done", "idToken": "i"}),
                serde_json::json!({"id_token": "i"}),
            ),
            (serde_json::json!({"status": "slow_down"}), serde_json::json!({"error": "slow_down"})),
            (
                serde_json::json!({"error": "access_denied"}),
                serde_json::json!({"error": "access_denied"}),
            ),
            (serde_json::json!({"accessToken": "a"}), serde_json::json!({"access_token": "a"})),
        ] {
            assert_eq!(translated(&names, 200, &said), ours);
        }
        let both = serde_json::json!({"error": "access_denied", "access_token": "a"});
        assert_eq!(translated(&RelayNames::default(), 200, &both), both);
    }
}
