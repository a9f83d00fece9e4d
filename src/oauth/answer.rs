//! What a token endpoint answers (RFC 6749 sections 5.1 and 5.2), in every dress that servers give
//! it: JSON or a form, numbers or text, whatever the status says.

use super::Failure;
use super::http::Answer;
use crate::error::{Error, Kind};
use crate::model::{Document, Identity, Malformed, Secret, TokenSet, timestamp};

/// Reads JSON, or the form that GitHub and its like answer.
///
/// # Errors
/// When it is neither.
pub(super) fn document(answer: &Answer) -> Result<Document, Malformed> {
    match Document::parse(&answer.body) {
        Err(_) if answer.is_form() => Ok(Document::of_form(&answer.body)),
        outcome => outcome,
    }
}

/// What an error is called. An empty one, or one of another kind, is none: some servers write the
/// member beside every token.
pub(super) fn error_of(document: &Document) -> Option<&str> {
    document.text("error")
}

/// The scope of an answer, which some servers write as a list.
fn scope(document: &Document) -> Option<String> {
    let list = || document.list("scope").map(|words| words.join(" "));
    document.text("scope").map(str::to_owned).or_else(list)
}

/// Reads the answer of a token endpoint, of which the ID token has been read. An `error` member counts whatever the status is
/// (GitHub answers 200), and comes before any token.
pub(super) fn read_token(
    answer: &Answer,
    identity: Option<Identity>,
    now: u64,
) -> Result<TokenSet, Failure> {
    let document = match document(answer) {
        Ok(document) => document,
        Err(why) => {
            return Err(match answer.status {
                _ if answer.is_busy() => answer.transient(),
                200..300 => Failure::Other(unreadable(answer, why)),
                _ => Failure::Other(refused(answer)),
            });
        }
    };
    if let Some(code) = error_of(&document) {
        return Err(failure(code, document.text("error_description"), answer));
    }
    if answer.is_busy() {
        return Err(answer.transient());
    }
    if !(200..300).contains(&answer.status) {
        return Err(Failure::Other(refused(answer)));
    }
    let access = document.text("access_token");
    let unusable =
        |what: &str| Failure::Other(Error::new(Kind::Rejected, format!("{} {what}", answer.host)));
    if access.is_none() && identity.is_none() {
        let lacks = document.lacks("access_token");
        return Err(Failure::Other(silent(answer, &format!("it issues no token: {lacks}"))));
    }
    let kind = document.text("token_type").unwrap_or("bearer");
    // RFC 6749 section 7.1: a client must not use a type that it does not understand.
    if !kind.eq_ignore_ascii_case("bearer") {
        return Err(unusable("issued a token of a type that is not Bearer"));
    }
    // A line end in a token would be a line of git's protocol.
    let visible = |token: &str| token.bytes().all(|byte| byte.is_ascii_graphic());
    let refresh = document.text("refresh_token");
    if ![access, refresh].into_iter().flatten().all(visible) {
        return Err(unusable("issued a token with characters that no token may have"));
    }
    // A token that had ended before it came would be of no use to anybody: such a number says
    // nothing about the token's life.
    let life = document.number("expires_in").filter(|seconds| *seconds > 0.0);
    Ok(TokenSet {
        identity,
        access: access.map(Secret::new),
        refresh: refresh.map(Secret::new),
        expires: life.map(|seconds| timestamp::after(seconds, now)),
        scope: scope(&document),
    })
}

impl Answer {
    /// Whether this is the server's no, in whatever dress: an error member, or a status that blames
    /// the request.
    pub(super) fn refuses(&self) -> bool {
        let error = || document(self).is_ok_and(|told| error_of(&told).is_some());
        (400..500).contains(&self.status) || error()
    }

    /// Whether the server only wants to be asked later (RFC 6585 section 4, RFC 9110 section 15.6).
    fn is_busy(&self) -> bool {
        // Some say it with 403 or 400 and a time.
        let later = self.status >= 400 && self.wait.is_some();
        matches!(self.status, 408 | 425 | 429 | 500..) || later
    }
}

/// An error code of RFC 6749 section 5.2 or RFC 8628 section 3.5.
fn failure(code: &str, description: Option<&str>, answer: &Answer) -> Failure {
    let description = description.map(|text| answer.without_secrets(text));
    let said = said(&answer.without_secrets(code), description.as_deref());
    match code {
        "invalid_grant" | "bad_refresh_token" => Failure::GrantDead,
        "access_denied" | "authorization_declined" => Failure::Denied,
        "expired_token" => Failure::Expired,
        "temporarily_unavailable"
        | "server_error"
        | "slow_down"
        | "too_many_requests"
        | "rate_limit_exceeded" => answer.transient(),
        // What a busy server says beside it decides nothing.
        _ if answer.is_busy() => answer.transient(),
        "invalid_client" | "unauthorized_client" => {
            let what = format!("{} does not accept this client id: {said}", answer.host);
            Failure::Other(
                Error::new(Kind::Configuration, what).hint("check client_id in config.toml"),
            )
        }
        // RFC 8707 section 2.
        "invalid_target" => {
            let what = format!("{} issues no token for this resource: {said}", answer.host);
            let hint = "check resource in config.toml, or sign in again with --force";
            Failure::Other(Error::new(Kind::Rejected, what).hint(hint))
        }
        _ => {
            let what = format!("{} answered {said}", answer.host);
            Failure::Other(Error::new(Kind::Rejected, what))
        }
    }
}

/// A server's own words, within the characters that RFC 6749 section 5.2 allows it and at a
/// length that a person reads.
pub(super) fn said(code: &str, description: Option<&str>) -> String {
    match description.map(cut).filter(|text| !text.is_empty()) {
        Some(description) => format!("{} ({description})", cut(code)),
        None => cut(code),
    }
}

pub(super) fn cut(text: &str) -> String {
    let plain = |letter: &char| matches!(letter, ' '..='~') && !matches!(letter, '"' | '\\');
    text.chars().filter(plain).take(200).collect()
}

/// An answer that ought to be good: what it is instead.
pub(super) fn unreadable(answer: &Answer, why: Malformed) -> Error {
    silent(answer, &format!("it is {why}"))
}

/// An answer that lacks what is needed, and has no error in it.
pub(super) fn silent(answer: &Answer, what: &str) -> Error {
    let what = format!("{} answered {} without saying why {what}", answer.host, answer.status);
    Error::new(Kind::Rejected, what)
}

pub(super) fn refused(answer: &Answer) -> Error {
    let what = format!("{} answered {} without saying why", answer.host, answer.status);
    Error::new(Kind::Rejected, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Result<TokenSet, Failure> {
        read_token(&Answer::scripted(status, "application/json", body.as_bytes()), None, 1_000)
    }

    #[test]
    fn a_good_answer_in_every_dress() {
        for (body, expires) in [
            (r#"{"access_token":"a","token_type":"Bearer","expires_in":60,"x":[1]}"#, Some(1_060)),
            (r#"{"access_token":"a","token_type":"bearer","expires_in":"60"}"#, Some(1_060)),
            (r#"{"access_token":"a","token_type":"BEARER","expires_in":60.9}"#, Some(1_060)),
            (r#"{"access_token":"a","token_type":"bearer","expires_in":-5}"#, None),
            (r#"{"access_token":"a","token_type":"bearer","expires_in":0}"#, None),
            (
                r#"{"access_token":"a","token_type":"bearer","expires_in":1e300}"#,
                Some(1_000 + 365 * 86_400),
            ),
            (r#"{"access_token":"a"}"#, None),
            (r#"{"access_token":"a","expires_in":"never","scope":["b","c"]}"#, None),
        ] {
            let tokens = read(200, body).unwrap();
            assert_eq!(tokens.expires, expires, "{body}");
            assert!(tokens.access == Some(Secret::new("a")));
        }
        let form = "access_token=a%2Bb&token_type=bearer&scope=repo%20gist";
        let tokens = read_token(
            &Answer::scripted(
                200,
                "application/x-www-form-urlencoded; charset=utf-8",
                form.as_bytes(),
            ),
            None,
            0,
        );
        let tokens = tokens.unwrap();
        assert!(tokens.access == Some(Secret::new("a+b")));
        assert_eq!(tokens.scope.as_deref(), Some("repo gist"));
    }

    #[test]
    fn an_error_counts_before_a_token_whatever_the_status() {
        let both = r#"{"access_token":"a","token_type":"bearer","error":"invalid_grant"}"#;
        assert!(matches!(read(200, both), Err(Failure::GrantDead)));
        assert!(matches!(read(400, r#"{"error":"access_denied"}"#), Err(Failure::Denied)));
        assert!(matches!(read(503, r#"{"error":"invalid_grant"}"#), Err(Failure::GrantDead)));
    }

    #[test]
    fn only_the_server_can_end_a_grant() {
        for (status, body) in [
            (500, ""),
            (502, "<html>"),
            (429, "{}"),
            (503, r#"{"access_token":"a"}"#),
            (400, r#"{"error":"temporarily_unavailable"}"#),
        ] {
            assert!(matches!(read(status, body), Err(Failure::Transient(_))), "{status} {body}");
        }
        for (status, body) in [
            (400, ""),
            (200, ""),
            (302, "{}"),
            (200, r#"{"access_token":"a","access_token":"b"}"#),
            (200, r#"{"access_token":"a","token_type":"mac"}"#),
            (200, r#"{"access_token":"a\nhost=evil"}"#),
            (200, r#"{"access_token":"a","refresh_token":"b\u0000"}"#),
            (400, r#"{"error":"invalid_client"}"#),
            (400, r#"{"access_token":"a"}"#),
        ] {
            assert!(matches!(read(status, body), Err(Failure::Other(_))), "{status} {body}");
        }
    }

    #[test]
    fn a_servers_words_are_cut_to_what_they_may_be() {
        let text = format!("\u{1b}]52;c;x\u{7}\u{202e}\n{}", "y".repeat(500));
        let said = said("bad\u{1b}", Some(&text));
        assert!(said.starts_with("bad (]52;c;xyyy") && said.len() < 220, "{said}");
    }
}
