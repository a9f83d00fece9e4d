//! `valetkey import`: takes over what another tool has stored (rules F16 to F18 of protocol.md).
//! The tool's file stays as it is, and nothing that is here already is replaced.

use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::service_of;
use crate::broker::{World, session};
use crate::cli;
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::model::{
    Document, Fields, Malformed, Record, Secret, TokenSet, foreign_text, timestamp,
};
use crate::oauth::{self, Failure, Introduction, SignedIn};
use crate::profile::Site;
use crate::vault::Want;

/// What TinyKit writes: the time is Unix time in milliseconds.
const HANDED: [&str; 2] = ["token", "storedAt"];

/// What SkillMeat writes, and the answer of a token endpoint as others keep it. An ID token is not
/// taken over: a host that wants one gets a new one.
const ISSUED: [&str; 8] = [
    "access_token",
    "token_type",
    "refresh_token",
    "id_token",
    "expires_at",
    "stored_at",
    "expires_in",
    "scope",
];

/// What a file holds, and when it was stored, in seconds of Unix time.
struct Found {
    tokens: TokenSet,
    since: Option<u64>,
}

pub(super) fn import(
    typed: &cli::Import,
    world: &World<'_>,
    piped: Option<&mut dyn Read>,
) -> Result<()> {
    let cli::Import { file, url, account } = typed;
    let (resource, service) = service_of(url, world)?;
    let profile = service.profile;
    let place = if file == Path::new("-") {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    };
    let content = content(file, &place, piped)?;
    let relay = matches!(profile.site, Some(Site::Relay(_)));
    let Found { tokens, since } = read(&content, relay, world.clock.now()).map_err(|what| {
        let hint = format!("sign in anew: valetkey login {}", profile.home());
        Error::new(Kind::Failed, format!("{place} {what}")).hint(hint)
    })?;
    let asked = account.as_deref().or_else(|| service.asked_account(&resource));
    let want = Want { place: profile.place(), account: asked, path: None };
    let (held, pen) = world.vault.enter(&want, oauth::TIMEOUT, &|| ())?;
    if let Some(held) = held.as_ref().filter(|held| matches!(held, Record::Session(_))) {
        let who = match held.key().account.as_str() {
            "" => String::new(),
            account => format!(" as {account}"),
        };
        world
            .ui
            .say(&format!("already signed in to {}{who}: nothing is taken over", profile.home()));
        return Ok(());
    }
    // Nothing is shown to the provider that it would not take anyway.
    let fresh = tokens.expires.is_none_or(|expires| expires > world.clock.now());
    let shown = tokens.access.as_ref().filter(|_| fresh);
    let who = shown.map(|token| world.oauth.introduce(profile, token, &Fields::new()));
    let Introduction { account, holder, fields } = match who.transpose() {
        Ok(who) => who.unwrap_or_default(),
        // The refresh token may be good for another one.
        Err(Failure::Denied) if tokens.refresh.is_some() => Introduction::default(),
        Err(Failure::Transient(error)) => {
            world.ui.warn(&format!("whose it is cannot be learned now: {}", error.what));
            Introduction::default()
        }
        Err(Failure::Other(error) | Failure::Refused(error)) => return Err(error),
        Err(Failure::Denied | Failure::Expired | Failure::GrantDead) => {
            let what = format!("{} does not take the token of {place}", profile.home());
            let hint = format!("valetkey login {}", profile.home());
            return Err(Error::new(Kind::Rejected, what).hint(hint));
        }
    };
    let client_id = profile.client_id.clone();
    let taken = SignedIn { tokens, client_id, account, holder, fields };
    let session = session::take_over(profile, taken, asked, since, &pen, world)?;
    let who = match session.key.account.as_str() {
        "" => String::new(),
        account => format!(" as {account}"),
    };
    let store = world.vault.kept_in(&session.key)?;
    world.ui.say(&format!(
        "took over the sign-in to {}{who} from {place}, which is left as it is; kept in {store}",
        profile.home()
    ));
    Ok(())
}

fn content(file: &Path, place: &str, piped: Option<&mut dyn Read>) -> Result<Zeroizing<Vec<u8>>> {
    if place != "standard input" {
        let content = disk::read_private(file)?;
        let nothing = || Error::new(Kind::Failed, format!("there is no file {place}"));
        return content.map(Zeroizing::new).ok_or_else(nothing);
    }
    let Some(input) = piped else {
        let what = "standard input is a terminal, which would show the tokens";
        return Err(Error::new(Kind::Usage, what).hint("name a file, or pipe it"));
    };
    let mut content = Zeroizing::new(Vec::new());
    let cannot = |error| Error::new(Kind::Failed, "standard input cannot be read").because(error);
    input.take(1 << 20).read_to_end(&mut content).map_err(cannot)?;
    Ok(content)
}

/// The tokens of a file of one of the known kinds; the error is the end of a sentence.
fn read(content: &[u8], relay: bool, now: u64) -> std::result::Result<Found, String> {
    let text = foreign_text(content);
    let text = text.trim();
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if relay && is_word(text) && !text.starts_with('{') {
        return Ok(Found { tokens: tokens(None, Some(text)), since: None });
    }
    let unknown = || "holds no credentials of a kind that is known".to_owned();
    // The library's own message could quote the content.
    let document = Document::parse(text.as_bytes()).map_err(|why| match why {
        Malformed::NotAnObject => unknown(),
        Malformed::NotJson | Malformed::Cut => "is not valid JSON".to_owned(),
    })?;
    let only = |names: &[&str]| document.names().all(|name| names.contains(&name));
    // What is no time, or one before all times, is none.
    let time = |name: &str| document.number(name).map(|seconds| seconds.max(0.0) as u64);
    let found = if only(&HANDED) && HANDED.iter().all(|name| document.has(name)) {
        let since = time("storedAt").map(|stored| stored / 1_000);
        Found { tokens: tokens(document.text("token"), None), since }
    } else if only(&ISSUED) {
        if document.text("token_type").is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err("holds a token of a type that is not Bearer".to_owned());
        }
        // When it began is not said, so it may be over.
        let unknown = document.number("expires_in").map(|_| now);
        let expires = time("expires_at").map(|end| timestamp::believed(end, now));
        let tokens = TokenSet {
            expires: expires.or(unknown),
            scope: document.text("scope").map(str::to_owned),
            ..tokens(document.text("access_token"), document.text("refresh_token"))
        };
        Found { tokens, since: time("stored_at") }
    } else {
        return Err(unknown());
    };
    let TokenSet { access, refresh, .. } = &found.tokens;
    if access.is_none() && refresh.is_none() {
        let named = ["token", "access_token", "refresh_token"];
        let lacks = named.into_iter().filter(|name| document.has(name));
        let lacks: Vec<_> = lacks.map(|name| format!(", {}", document.lacks(name))).collect();
        return Err(format!("holds no token{}", lacks.concat()));
    }
    if ![access, refresh].into_iter().flatten().all(Secret::is_word) {
        return Err("holds a token with characters that no token may have".to_owned());
    }
    Ok(found)
}

fn tokens(access: Option<&str>, refresh: Option<&str>) -> TokenSet {
    TokenSet {
        identity: None,
        access: access.map(Secret::new),
        refresh: refresh.map(Secret::new),
        expires: None,
        scope: None,
    }
}

/// For fuzzing: what is taken over is words.
///
/// # Panics
/// When that is not so.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    for relay in [false, true] {
        let Ok(Found { tokens, .. }) = read(bytes, relay, 1_700_000_000) else { continue };
        let all: Vec<_> = [&tokens.access, &tokens.refresh].into_iter().flatten().collect();
        assert!(!all.is_empty() && all.iter().all(|token| token.is_word()));
        assert!(tokens.identity.is_none());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_other_tools_are_read_strictly() {
        let now = 1_741_190_500;
        let read = |text: &str| read(text.as_bytes(), false, now);
        let found = read(r#"{"token":"eyJ","storedAt":1706054400000}"#).ok().unwrap();
        assert_eq!((found.since, found.tokens.expires), (Some(1_706_054_400), None));
        let text = r#"{"access_token":"a","token_type":"Bearer","refresh_token":"r",
            "expires_at":1741276800.5,"stored_at":1741190400.0,"id_token":"i"}"#;
        let found = read(text).ok().unwrap();
        assert_eq!((found.since, found.tokens.expires), (Some(1_741_190_400), Some(1_741_276_800)));
        assert!(found.tokens.identity.is_none() && found.tokens.refresh == Some(Secret::new("r")));
        let found = read(r#"{"access_token":"a","refresh_token":"r","expires_in":3600}"#).ok();
        assert_eq!(found.unwrap().tokens.expires, Some(now));
        for (text, what) in [
            ("", "is not valid JSON"),
            ("{", "is not valid JSON"),
            ("rt-word", "is not valid JSON"),
            ("[]", "holds no credentials of a kind that is known"),
            (r#"{"token":"a"}"#, "holds no credentials of a kind that is known"),
            (r#"{"token":"a","storedAt":1,"x":2}"#, "holds no credentials of a kind that is known"),
            (r#"{"access_token":"a","evil":1}"#, "holds no credentials of a kind that is known"),
            (r#"{"access_token":["a"]}"#, "holds no token, access_token is a list"),
            (
                r#"{"access_token":"","refresh_token":null}"#,
                "holds no token, access_token is empty, refresh_token is null",
            ),
            (
                r#"{"refresh_token":"a","refresh_token":"b"}"#,
                "holds no token, refresh_token is given twice",
            ),
            (r#"{"token":5,"storedAt":1}"#, "holds no token, token is a number"),
            (
                r#"{"access_token":"a","token_type":"mac"}"#,
                "holds a token of a type that is not Bearer",
            ),
            (
                "{\"access_token\":\"a\\nhost=evil\"}",
                "holds a token with characters that no token may have",
            ),
        ] {
            assert_eq!(read(text).err().as_deref(), Some(what), "{text}");
        }
        // Whatever stands beside the token is no reason to leave it.
        for odd in ["null", "\"\"", "0", "[]", "{}", "\"/x\"", "true"] {
            let beside: Vec<_> =
                ISSUED[3..].iter().map(|name| format!(",\"{name}\":{odd}")).collect();
            let text = format!("{{\"refresh_token\":\"r\"{}}}", beside.concat());
            assert!(read(&text).is_ok(), "{text}");
        }
        assert!(read("\u{feff}{\"access_token\":\"a\"}").is_ok());
        assert!(super::read(b"rt-word\n", true, 0).is_ok());
        assert!(super::read(b"two words", true, 0).is_err());
    }
}
