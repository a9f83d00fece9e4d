//! Authorization code with PKCE (RFC 6749, 7636, 8252): the code comes home by a redirect to a
//! loopback listener, or is pasted by the person; whichever is first. A stray or hostile request
//! gets its answer and changes nothing.

pub(super) mod handoff;
pub(super) mod listener;

use std::sync::mpsc::Receiver;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use sha2::{Digest, Sha256};
use url::Url;

use super::answer::{document, error_of, read_token, refused, said, silent};
use super::http::Answer;
use super::{Attempt, Failure, TIMEOUT, common};
use crate::error::{Error, Kind};
use crate::model::{Secret, TokenSet};
use crate::profile::Flow;
use listener::{Event, Listener, Verdict};

/// How often the wait looks whether the caller is still there.
const TICK: Duration = Duration::from_millis(250);

/// What must come back, and what proves that the code is ours.
struct Pending<'a> {
    state: String,
    verifier: Secret,
    /// What an ID token repeats (OpenID Connect Core section 3.1.2.1), where one is asked for.
    nonce: Option<String>,
    redirect: Url,
    attempt: &'a Attempt<'a>,
}

/// The query of a redirect, with each parameter at most once (RFC 6749 section 3.1).
#[derive(Debug, Default, PartialEq)]
struct Redirected {
    code: Option<String>,
    state: Option<String>,
    issuer: Option<String>,
    error: Option<String>,
    description: Option<String>,
}

pub(super) fn sign_in(attempt: &Attempt<'_>, flow: Flow) -> Result<TokenSet, Failure> {
    if !attempt.server.takes_s256() {
        let what = format!("{} does not take PKCE with S256", attempt.profile.home());
        return Err(Failure::Other(Error::new(Kind::Configuration, what)));
    }
    // From here on a pasted line is ours, and nobody is sent away who could not come back.
    let pasted = attempt.oauth.ui.lines();
    if flow == Flow::Paste && pasted.is_none() {
        let what = "there is no terminal to paste the code into";
        return Err(Failure::Other(Error::new(Kind::NotSignedIn, what)));
    }
    let redirect = &attempt.profile.redirect;
    let listener = match flow {
        Flow::Paste => None,
        // Before the browser opens, and kept: a port that was only found free could be taken.
        _ => Some(listener::bind(redirect, attempt.options.port, &[]).map_err(Failure::Other)?),
    };
    let redirect = match &listener {
        Some(listener) => listener.redirect.clone(),
        None => listener::unheard(redirect, attempt.options.port),
    };
    let openid = attempt.scope().split(' ').any(|scope| scope == "openid");
    let nonce = if openid { Some(random()?) } else { None };
    let (state, verifier) = (random()?, Secret::new(random()?));
    let pending = Pending { state, verifier, nonce, redirect, attempt };
    let url = pending.authorization_url()?;
    attempt.caller_is_there()?;
    show(attempt, &url, listener.is_some(), "paste its address, or the code in it, here");
    wait(
        attempt,
        listener.as_ref(),
        pasted,
        |event| pending.arrival(event),
        |line| pending.paste(line),
    )
}

/// What shows later that the verifier is ours (RFC 7636 section 4.2).
pub(super) fn challenge(verifier: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose()))
}

/// The name under which a pushed request waits for the browser (RFC 9126 section 2.2).
fn pushed(answer: &Answer) -> Result<String, Failure> {
    let usable = |uri: &&str| uri.len() <= 2_000 && uri.bytes().all(|byte| byte.is_ascii_graphic());
    if matches!(answer.status, 200 | 201)
        && let Ok(pushed) = document(answer)
        && error_of(&pushed).is_none()
    {
        return pushed.text("request_uri").filter(usable).map(str::to_owned).ok_or_else(|| {
            let lacks = pushed.lacks("request_uri");
            Failure::Other(silent(answer, &format!("it takes no pushed request: {lacks}")))
        });
    }
    // Whatever it is, it is worded like a token endpoint's refusal.
    Err(match read_token(answer, None, 0) {
        Err(failure) => failure,
        Ok(_) => Failure::Other(refused(answer)),
    })
}

/// 256 bits as 43 unreserved characters (RFC 7636 section 4.1).
pub(super) fn random() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(|error| {
        let what = "the system has no random numbers";
        Failure::Other(Error::new(Kind::Failed, what).because(error.to_string()))
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Opens the address in a browser that is `ours` to reach, and shows it in any case. `paste`: what
/// a person does whose browser does not find home.
fn show(attempt: &Attempt<'_>, url: &Url, ours: bool, paste: &str) {
    let ui = attempt.oauth.ui;
    attempt.open(url, ours);
    if ui.has_terminal() {
        ui.say(&format!("if the browser ends on a page that cannot be reached, {paste}"));
    }
}

/// Waits for what the listener or the person brings. `None` from either: it was not ours, keep
/// waiting.
fn wait<T>(
    attempt: &Attempt<'_>,
    listener: Option<&Listener>,
    pasted: Option<&Receiver<String>>,
    arrival: impl Fn(Event) -> Option<Result<T, Failure>>,
    paste: impl Fn(&str) -> Option<Result<T, Failure>>,
) -> Result<T, Failure> {
    let Attempt { oauth, options, .. } = attempt;
    let until = oauth.clock.elapsed() + options.timeout.unwrap_or(TIMEOUT);
    loop {
        attempt.caller_is_there()?;
        let left = until.saturating_sub(oauth.clock.elapsed());
        if left.is_zero() {
            return Err(Failure::Expired);
        }
        if let Some(line) = pasted.and_then(|lines| lines.try_recv().ok()) {
            match paste(&line) {
                None => continue,
                Some(result) => return result,
            }
        }
        let event = match listener {
            Some(listener) => listener.next(left.min(TICK)),
            None => {
                oauth.clock.sleep(left.min(TICK));
                None
            }
        };
        if let Some(event) = event
            && let Some(result) = arrival(event)
        {
            return result;
        }
    }
}

/// The query of an address, if the line holds one. Some browsers hide the scheme, so what makes an
/// address is its query.
fn query_of(line: &str) -> Option<&[u8]> {
    line.split_once('?').map(|(_, query)| query.split('#').next().unwrap_or(query).as_bytes())
}

impl Pending<'_> {
    fn authorization_url(&self) -> Result<Url, Failure> {
        let Attempt { oauth, profile, server, .. } = self.attempt;
        let Some(mut url) = server.authorization.clone() else {
            let what = format!("{} has no authorization endpoint", profile.home());
            return Err(Failure::Other(Error::new(Kind::Configuration, what)));
        };
        let request = self.request();
        let request = match &server.pushed {
            Some(endpoint) if server.requires_pushed || profile.pushed => {
                let form: Vec<(&str, &str)> =
                    request.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let answer = self.attempt.post(endpoint, &form)?;
                oauth.ui.log(|| format!("push the request to {endpoint}: {}", answer.status));
                vec![("client_id", profile.client_id.clone()), ("request_uri", pushed(&answer)?)]
            }
            None if server.requires_pushed || profile.pushed => {
                let what = format!("{} has no endpoint to push a request to", profile.home());
                return Err(Failure::Other(Error::new(Kind::Configuration, what)));
            }
            _ => request,
        };
        url.query_pairs_mut().extend_pairs(request);
        // Not every server reads a plus as a space outside a form.
        let spaced = url.query().map(|query| query.replace('+', "%20"));
        url.set_query(spaced.as_deref());
        Ok(url)
    }

    /// RFC 6749 section 4.1.1, RFC 7636 section 4.3, RFC 8707 section 2.1.
    fn request(&self) -> Vec<(&'static str, String)> {
        let Attempt { profile, options, .. } = self.attempt;
        let mut request = vec![
            ("response_type", "code".to_owned()),
            ("client_id", profile.client_id.clone()),
            ("redirect_uri", self.redirect.to_string()),
            ("state", self.state.clone()),
            ("code_challenge", challenge(&self.verifier)),
            ("code_challenge_method", "S256".to_owned()),
        ];
        let scope = self.attempt.scope();
        if scope.split(' ').any(|scope| scope == "offline_access") {
            // OpenID Connect Core section 11: without it the scope is ignored.
            request.push(("prompt", "consent".to_owned()));
        }
        if !scope.is_empty() {
            request.push(("scope", scope));
        }
        request.extend(self.nonce.clone().map(|nonce| ("nonce", nonce)));
        request.extend(common(profile).into_iter().map(|(name, value)| (name, value.to_owned())));
        request.extend(options.account.clone().map(|account| ("login_hint", account)));
        request
    }

    /// A redirect that reached the listener. `None`: it was not ours, keep waiting.
    fn arrival(&self, event: Event) -> Option<Result<TokenSet, Failure>> {
        let redirected = match Redirected::parse(&event.query) {
            Some(redirected) => redirected,
            None => {
                event.answer(Verdict::Strange);
                return None;
            }
        };
        match self.check(&redirected) {
            Err(why) => {
                self.attempt.oauth.ui.log(|| format!("redirect refused: {why}"));
                event.answer(Verdict::Strange);
                None
            }
            // The browser is answered when it is known how it went, and not before.
            Ok(code) => {
                let result = code.and_then(|code| self.exchange(&code));
                event.answer(if result.is_ok() { Verdict::Welcome } else { Verdict::Sorry });
                Some(result)
            }
        }
    }

    /// What the person pasted: the address that the browser ended on, or the code alone, which
    /// PKCE protects.
    fn paste(&self, line: &str) -> Option<Result<TokenSet, Failure>> {
        let ui = self.attempt.oauth.ui;
        let line = line.trim();
        let code = if let Some(query) = query_of(line) {
            let redirected = Redirected::parse(query);
            match redirected.as_ref().map(|redirected| self.check(redirected)) {
                Some(Ok(Ok(code))) => code,
                Some(Ok(Err(failure))) => return Some(Err(failure)),
                Some(Err(why)) => {
                    ui.say(&format!("that address does not belong to this sign-in: {why}"));
                    return None;
                }
                None => {
                    ui.say("that address holds no code");
                    return None;
                }
            }
        } else if line.is_empty() {
            return None;
        } else if line.contains("://") || !line.bytes().all(|byte| byte.is_ascii_graphic()) {
            ui.say("that is neither the address nor the code");
            return None;
        } else {
            line.to_owned()
        };
        match self.exchange(&code) {
            // A slip of the hand is no reason to begin again.
            Err(Failure::Other(error)) if error.kind == Kind::Rejected => {
                ui.say(&format!("{}; paste the whole address", error.what));
                None
            }
            result => Some(result),
        }
    }

    /// State and issuer come before anything else the redirect says (RFC 9207 section 2.4): the
    /// outer error means that it is not an answer to our request.
    fn check(&self, redirected: &Redirected) -> Result<Result<String, Failure>, &'static str> {
        let state = redirected.state.as_deref().unwrap_or_default();
        if Secret::new(state) != Secret::new(self.state.as_str()) {
            return Err("another state");
        }
        let server = self.attempt.server;
        match (&redirected.issuer, &server.issuer) {
            (Some(said), Some(known)) if said != known => return Err("another issuer"),
            // An error gives nothing away, and servers forget `iss` beside it.
            (None, _) if server.promises_issuer && redirected.error.is_none() => {
                return Err("no issuer");
            }
            _ => {}
        }
        match (&redirected.error, &redirected.code) {
            (Some(error), _) => Ok(Err(self.refusal(error, redirected.description.as_deref()))),
            (None, Some(code)) if !code.is_empty() => Ok(Ok(code.clone())),
            _ => Err("neither code nor error"),
        }
    }

    fn refusal(&self, error: &str, description: Option<&str>) -> Failure {
        match error {
            "access_denied" | "login_required" | "consent_required" => Failure::Denied,
            _ => {
                let home = self.attempt.profile.home();
                let what = format!("the sign-in to {home} ended with {}", said(error, description));
                Failure::Other(Error::new(Kind::Rejected, what))
            }
        }
    }

    /// Section 4.1.3 of RFC 6749 and 4.5 of RFC 7636. A code is good for one try.
    fn exchange(&self, code: &str) -> Result<TokenSet, Failure> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", self.redirect.as_str()),
            ("code_verifier", self.verifier.expose()),
        ];
        let answer = self.attempt.token(&form)?;
        match self.attempt.issued_with(&answer, self.nonce.as_deref()) {
            Err(Failure::GrantDead) => {
                let what = format!("{} does not accept the authorization code", answer.host);
                Err(Failure::Other(Error::new(Kind::Rejected, what)))
            }
            result => result,
        }
    }
}

impl Redirected {
    /// `None` when a parameter comes twice, or is not clean text. A description is for people, and
    /// servers put line ends and other alphabets into it: it is cut where it is shown.
    fn parse(query: &[u8]) -> Option<Self> {
        let names = ["code", "state", "iss", "error"];
        let [code, state, issuer, error] = parameters(query, names)?;
        let described = |(name, _): &(Vec<u8>, &[u8])| name == b"error_description";
        let description = pairs(query)
            .find(described)
            .and_then(|(_, value)| Some(String::from_utf8_lossy(&decode(value)?).into_owned()));
        Some(Self { code, state, issuer, error, description })
    }
}

/// Names, decoded where that can be done, and values as they came.
fn pairs(query: &[u8]) -> impl Iterator<Item = (Vec<u8>, &[u8])> {
    query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let name = decode(&pair[..end]).unwrap_or_else(|| pair[..end].to_vec());
        (name, pair.get(end + 1..).unwrap_or_default())
    })
}

/// These parameters of a query. `None` when one of them comes twice, or is not clean text.
fn parameters<const N: usize>(query: &[u8], names: [&str; N]) -> Option<[Option<String>; N]> {
    let mut found = [const { None }; N];
    for (name, value) in pairs(query) {
        if let Some(place) = names.iter().position(|known| known.as_bytes() == name)
            && found[place].replace(text(value)?).is_some()
        {
            return None;
        }
    }
    Some(found)
}

/// UTF-8 without control characters.
fn text(value: &[u8]) -> Option<String> {
    let text = String::from_utf8(decode(value)?).ok()?;
    Some(text).filter(|text| !text.chars().any(char::is_control))
}

/// Percent-decodes once, strictly: no broken escapes.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    Some(bytes)
}

/// For fuzzing: what a redirect, or the head of any request, could say.
///
/// # Panics
/// When a value with control characters comes in.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    for query in std::iter::once(bytes).chain(listener::fuzz(bytes)) {
        let Some(found) = Redirected::parse(query) else { continue };
        let Redirected { code, state, issuer, error, description } = found;
        for value in [code, state, issuer, error.clone()].into_iter().flatten() {
            assert!(!value.chars().any(char::is_control));
        }
        let shown = said(&error.unwrap_or_default(), description.as_deref());
        assert!(!shown.chars().any(char::is_control));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_read_strictly() {
        let parse = |query: &str| Redirected::parse(query.as_bytes());
        let found = parse("code=a%2Bb&state=s&iss=https%3A%2F%2Fi&x=%zz").unwrap();
        assert_eq!(found.code.as_deref(), Some("a+b"));
        assert_eq!(found.issuer.as_deref(), Some("https://i"));
        let spelled = parse("c%6Fde=%c3%A9&%zz=1&stat%65=\u{e9}").unwrap();
        assert_eq!(spelled.code.as_deref(), Some("\u{e9}"));
        assert_eq!(spelled.state, spelled.code);
        for query in [
            "code=a&code=b",
            "code=a&c%6fde=b",
            "state=%0a",
            "code=%ff",
            "code=%4",
            "error=%1b&code=a",
        ] {
            assert_eq!(parse(query), None, "{query}");
        }
        assert_eq!(parse("").unwrap(), Redirected::default());
    }

    /// Microsoft's holds line ends, others are in Latin-1.
    #[test]
    fn a_description_is_no_reason_not_to_hear_an_error() {
        for (text, heard) in [
            ("a%0d%0ab", Some("a\r\nb")),
            ("a%e9", Some("a\u{fffd}")),
            ("%zz", None),
            ("", Some("")),
            ("a&error_description=b", Some("a")),
        ] {
            let query = format!("error=access_denied&state=s&error_description={text}");
            let found = Redirected::parse(query.as_bytes()).unwrap();
            assert_eq!(found.error.as_deref(), Some("access_denied"));
            assert_eq!(found.description.as_deref(), heard, "{text}");
        }
    }

    #[test]
    fn random_text_is_a_legal_verifier() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_eq!(one.len(), 43);
        assert_ne!(one, other);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }
}
