//! A site that redirects the token itself to our listener (rules F1 to F6 of protocol.md). Nothing
//! proves that a redirect answers our request, so the site is asked whose token it is, the person
//! is told, and another account than the one before is kept only with a yes.

use std::sync::mpsc::Receiver;

use super::listener::{self, Event, Verdict};
use super::{parameters, query_of, random, show, wait};
use crate::error::{Error, Kind};
use crate::model::{Holder, Secret, TokenSet};
use crate::oauth::{Attempt, Failure, Introduction, SignedIn};
use crate::profile::{Flow, Handoff};

/// The names by which a browser may call a listener on both families.
const NAMES: [&str; 2] = ["127.0.0.1", "[::1]"];

/// The query of a redirect.
#[derive(Debug, PartialEq)]
struct Handed {
    token: String,
    email: Option<String>,
    name: Option<String>,
}

struct Pending<'a> {
    state: String,
    handoff: &'a Handoff,
    attempt: &'a Attempt<'a>,
}

pub(in crate::oauth) fn sign_in(
    attempt: &Attempt<'_>,
    handoff: &Handoff,
    flow: Flow,
) -> Result<SignedIn, Failure> {
    let Attempt { profile, options, oauth, .. } = attempt;
    let pasted = oauth.ui.lines();
    if flow == Flow::Paste && pasted.is_none() {
        let what = "there is no terminal to paste the address into";
        return Err(Failure::Other(Error::new(Kind::NotSignedIn, what)));
    }
    let listener = match flow {
        Flow::Paste => None,
        _ => Some(listener::bind(&profile.redirect, options.port, &NAMES).map_err(Failure::Other)?),
    };
    let redirect = match &listener {
        Some(listener) => listener.redirect.clone(),
        None => listener::unheard(&profile.redirect, options.port),
    };
    let pending = Pending { state: random()?, handoff, attempt };
    let mut url = handoff.url.clone();
    url.query_pairs_mut()
        .append_pair("port", &redirect.port_or_known_default().unwrap_or_default().to_string())
        .append_pair("state", &pending.state);
    attempt.caller_is_there()?;
    show(attempt, &url, listener.is_some(), "paste its address here");
    let signed_in = wait(
        attempt,
        listener.as_ref(),
        pasted,
        |event| pending.arrival(event),
        |line| pending.paste(line),
    )?;
    // From here on nothing more is heard.
    drop(listener);
    confirm(attempt, &signed_in, pasted)?;
    Ok(signed_in)
}

impl Pending<'_> {
    fn arrival(&self, event: Event) -> Option<Result<SignedIn, Failure>> {
        let ui = self.attempt.oauth.ui;
        let Some(handed) = self.read(&event.query) else {
            ui.log(|| "redirect refused: no token of this sign-in".to_owned());
            event.answer(Verdict::Strange);
            return None;
        };
        match self.whose(handed) {
            // Any page can send such a token here: the genuine one may still come.
            Err(Failure::Other(error)) => {
                ui.say(&format!("a token was brought that is not used: {}", error.what));
                event.answer(Verdict::Sorry);
                None
            }
            result => {
                event.answer(if result.is_ok() { Verdict::Welcome } else { Verdict::Sorry });
                Some(result)
            }
        }
    }

    fn paste(&self, line: &str) -> Option<Result<SignedIn, Failure>> {
        let ui = self.attempt.oauth.ui;
        let line = line.trim();
        if line.is_empty() {
            return None;
        }
        let Some(handed) = query_of(line).and_then(|query| self.read(query)) else {
            ui.say("that is no address of this sign-in");
            return None;
        };
        match self.whose(handed) {
            Err(Failure::Other(error)) => {
                ui.say(&error.what);
                None
            }
            result => Some(result),
        }
    }

    /// The site need not send our state back; where it does, it must be ours.
    fn read(&self, query: &[u8]) -> Option<Handed> {
        let (handed, state) = read(query, self.handoff)?;
        let ours = |state: String| Secret::new(state) == Secret::new(self.state.as_str());
        state.is_none_or(ours).then_some(handed)
    }

    /// What the site itself says about the token; what the address says may be anybody's.
    fn whose(&self, handed: Handed) -> Result<SignedIn, Failure> {
        let Attempt { oauth, profile, options, .. } = self.attempt;
        let token = Secret::new(handed.token);
        let unusable = |what: String| Failure::Other(Error::new(Kind::Rejected, what));
        let who = oauth.introduce(profile, &token, &options.fields);
        let Introduction { account, holder, fields } = who.map_err(|failure| match failure {
            Failure::Denied => unusable(format!("{} does not take it", profile.home())),
            failure => failure,
        })?;
        if let (Some(said), Some(known)) = (&handed.email, &holder.email)
            && !said.eq_ignore_ascii_case(known)
        {
            return Err(unusable(format!("it is {known}'s, and the address says {said}")));
        }
        let holder = Holder {
            id: holder.id,
            name: holder.name.or(handed.name),
            email: holder.email.or(handed.email),
        };
        let tokens = TokenSet {
            identity: None,
            access: Some(token),
            refresh: None,
            expires: None,
            scope: None,
        };
        let client_id = profile.client_id.clone();
        Ok(SignedIn { tokens, client_id, account, holder, fields })
    }
}

/// `None` unless there is one token, and nothing comes twice.
fn read(query: &[u8], handoff: &Handoff) -> Option<(Handed, Option<String>)> {
    let names = &handoff.names;
    let [token, email, name, state] =
        parameters(query, [&names.token, &names.email, &names.name, "state"])?;
    // As in an answer of a token endpoint: it becomes a line of git's protocol.
    let token = token.filter(|token| !token.is_empty())?;
    let visible = token.bytes().all(|byte| byte.is_ascii_graphic());
    let known = |text: Option<String>| text.filter(|text| !text.is_empty() && text.len() <= 200);
    let handed = Handed { token, email: known(email), name: known(name) };
    visible.then_some((handed, state))
}

/// For fuzzing: what is taken from a redirect is one token that is one word, and clean text.
///
/// # Panics
/// When it is not.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    let Ok(url) = url::Url::parse("https://site.example/cli") else { return };
    let handoff = Handoff { url, names: crate::profile::HandoffNames::default() };
    let Some((handed, state)) = read(bytes, &handoff) else { return };
    assert!(!handed.token.is_empty() && handed.token.bytes().all(|byte| byte.is_ascii_graphic()));
    let tokens = super::pairs(bytes).filter(|(name, _)| name == b"token");
    assert_eq!(tokens.count(), 1);
    for text in [handed.email, handed.name, state].into_iter().flatten() {
        assert!(!text.chars().any(char::is_control));
    }
}

/// Says who signed in. Another account than before is kept only if the person says so (login CSRF).
fn confirm(
    attempt: &Attempt<'_>,
    signed_in: &SignedIn,
    typed: Option<&Receiver<String>>,
) -> Result<(), Failure> {
    let Attempt { oauth, profile, options, .. } = attempt;
    let (ui, home) = (oauth.ui, profile.home());
    let account = signed_in.account.as_deref().unwrap_or_default();
    let Holder { name, email, .. } = &signed_in.holder;
    let known: Vec<_> =
        [name, email].into_iter().flatten().filter(|known| *known != account).cloned().collect();
    let holder = if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) };
    ui.say(&format!("{home} says that this is {account}{holder}"));
    let expected = options.account.as_ref().or(options.known.as_ref());
    let Some(expected) = expected.filter(|expected| *expected != account && !expected.is_empty())
    else {
        return Ok(());
    };
    let what = format!("{account} signed in to {home}, and not {expected}");
    let refused = || {
        let name = crate::ui::shell_word(account);
        let hint = format!("valetkey login --force --account {name} {home} if that is meant");
        Failure::Other(Error::new(Kind::Refused, what.clone()).hint(hint))
    };
    if typed.is_none() {
        return Err(refused());
    }
    ui.say(&format!("{what}: type yes to go on as {account}"));
    let yes = |line: &str| line.trim().eq_ignore_ascii_case("yes");
    wait(attempt, None, typed, |_| None, |line| Some(yes(line).then_some(()).ok_or_else(refused)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_holds_one_token_and_clean_words() {
        let url = url::Url::parse("https://site.example/cli").unwrap();
        let handoff = Handoff { url, names: crate::profile::HandoffNames::default() };
        let read = |query: &str| read(query.as_bytes(), &handoff);
        let (handed, state) = read("token=a%2Bb&email=a%40b.example&name=Al+Ice&x=1").unwrap();
        assert_eq!(handed.token, "a+b");
        assert_eq!(handed.email.as_deref(), Some("a@b.example"));
        assert_eq!(handed.name.as_deref(), Some("Al Ice"));
        assert_eq!(state, None);
        assert_eq!(read("token=a&state=s&email=").unwrap().1.as_deref(), Some("s"));
        for query in
            ["", "email=a", "token=", "token=a&token=b", "token=a%0ab", "token=a+b", "token=%ff"]
        {
            assert_eq!(read(query), None, "{query}");
        }
    }
}
