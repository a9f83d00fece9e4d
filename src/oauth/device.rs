//! Device authorization grant (RFC 8628): the person types a code into any browser, we poll.
//! Nothing here opens a listener.

use std::time::Duration;

use url::Url;

use super::answer::{document, error_of, read_token};
use super::code::{challenge, random};
use super::http::Answer;
use super::{Attempt, Failure, common, qr};
use crate::error::{Error, Kind};
use crate::model::{Secret, TokenSet};
use crate::profile::{is_loopback, is_safe};

pub(super) const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Section 3.2: without an interval, five seconds.
const INTERVAL: f64 = 5.0;

/// Longest address that is shown, in bytes.
const ADDRESS: usize = 2_000;

/// The answer of section 3.2.
struct Authorization {
    device_code: Secret,
    user_code: String,
    plain: Url,
    complete: Option<Url>,
    expires_in: Option<f64>,
    interval: Option<f64>,
}

pub(super) fn sign_in(attempt: &Attempt<'_>) -> Result<TokenSet, Failure> {
    let Attempt { oauth, profile, options, server } = attempt;
    let endpoint = server.device_authorization.as_ref().ok_or_else(|| unusable(attempt, "none"))?;
    let scope = attempt.scope();
    let mut form: Vec<(&str, &str)> = Vec::new();
    if !scope.is_empty() {
        form.push(("scope", &scope));
    }
    form.extend(common(profile));
    attempt.caller_is_there()?;
    let verifier = Secret::new(random()?);
    let challenge = challenge(&verifier);
    let bound = [("code_challenge", challenge.as_str()), ("code_challenge_method", "S256")];
    let mut binding = profile.device_challenge;
    let ask = |binding: bool| {
        let bound = bound.into_iter().filter(|_| binding);
        let form: Vec<_> = form.iter().copied().chain(bound).collect();
        attempt.post(endpoint, &form)
    };
    let mut answer = ask(binding)?;
    // Some servers want PKCE here too, and publish that nowhere.
    if !binding && answer.status == 400 && answer.text().contains("code_challenge") {
        binding = true;
        answer = ask(binding)?;
    }
    let authorization = authorization(attempt, &answer)?;
    let expires_in = authorization.expires_in.unwrap_or(600.0).clamp(30.0, 1_800.0);
    let lifetime = Duration::from_secs(expires_in as u64);
    if options.timeout.is_some_and(|timeout| timeout > lifetime) {
        let seconds = lifetime.as_secs();
        oauth.ui.say(&format!("the server's code lives for {seconds} seconds, and no longer"));
    }
    let lifetime = options.timeout.map_or(lifetime, |timeout| timeout.min(lifetime));
    let link = show(attempt, &authorization, lifetime)?;
    if options.open_browser && oauth.ui.can_open_browser() && !oauth.ui.open(&link) {
        oauth.ui.say("no browser could be opened here: open the address on any device");
    }
    let interval = authorization.interval.unwrap_or(INTERVAL).clamp(1.0, 60.0) as u64;
    let code = authorization.device_code.expose();
    let mut form = vec![("grant_type", GRANT), ("device_code", code)];
    form.extend(binding.then_some(("code_verifier", verifier.expose())));
    poll(attempt, interval, lifetime, || attempt.token(&form))
}

/// Reads the answer of section 3.2, of which two codes and an address must be good.
fn authorization(attempt: &Attempt<'_>, answer: &Answer) -> Result<Authorization, Failure> {
    let document = match document(answer) {
        Ok(document) if answer.status < 400 && error_of(&document).is_none() => document,
        // Whatever it is, it is worded like a token endpoint's refusal.
        _ => {
            return match read_token(answer, None, 0) {
                Err(failure) => Err(failure),
                Ok(_) => Err(unusable(attempt, "what nobody asked for")),
            };
        }
    };
    let unusable = |what: &str, name: &str| {
        let lacks = document.lacks(name);
        Err(unusable(attempt, &format!("{what}: {lacks}")))
    };
    let Some(device_code) = document.text("device_code").map(Secret::new) else {
        return unusable("no code to ask with", "device_code");
    };
    // One line, and short enough for a person: anything else is no code.
    let user_code = document.text("user_code").map(crate::ui::sanitize).unwrap_or_default();
    let user_code = user_code.replace('\n', " ");
    if user_code.is_empty() || user_code.len() > 64 {
        return unusable("a code that nobody can type", "user_code");
    }
    // The parsed form is shown: the raw string can hide escape bytes, or another host behind a user
    // name.
    let here = attempt.server.token().is_ok_and(|token| is_loopback(&token));
    let good = |url: &Url| {
        let safe = is_safe(url) && (here || !is_loopback(url)) && url.as_str().len() <= ADDRESS;
        safe && url.username().is_empty() && url.password().is_none()
    };
    // Some servers say `verification_url`, as an early draft did, some say both.
    let find =
        |names: [&str; 2]| names.into_iter().find_map(|name| document.url(name).filter(&good));
    let Some(plain) = find(["verification_uri", "verification_url"]) else {
        let old = document.has("verification_url") && !document.has("verification_uri");
        let name = if old { "verification_url" } else { "verification_uri" };
        return unusable("an address that is not safe to open", name);
    };
    let complete = find(["verification_uri_complete", "verification_url_complete"]);
    let (expires_in, interval) = (document.number("expires_in"), document.number("interval"));
    Ok(Authorization { device_code, user_code, plain, complete, expires_in, interval })
}

/// Shows address and code, and returns the link that a browser may open.
fn show(
    attempt: &Attempt<'_>,
    authorization: &Authorization,
    lifetime: Duration,
) -> Result<Url, Failure> {
    let ui = attempt.oauth.ui;
    let Authorization { user_code: code, plain, complete, .. } = authorization;
    // Before the words: what scrolls away first is what can be done without.
    if let Some(complete) = complete
        && let Some(screen) = ui.screen()
        && let Some(picture) = qr::draw(complete.as_str(), screen.size, screen.coloured)
    {
        ui.show(&picture);
    }
    ui.say(&format!("to sign in to {}, open {plain}", attempt.profile.home()));
    ui.say(&format!("and enter the code {code}"));
    if let Some(complete) = complete {
        ui.say(&format!("or open {complete}"));
    }
    let issuer = attempt.profile.issuer.as_ref().map(|issuer| issuer.url().clone());
    let issuer = issuer.or_else(|| attempt.server.token().ok());
    let strange = |url: &&Url| issuer.as_ref().is_some_and(|issuer| issuer.host() != url.host());
    if let Some(stranger) = [Some(plain), complete.as_ref()].into_iter().flatten().find(strange) {
        let host = |url: &Url| url.host_str().unwrap_or_default().to_owned();
        let issuer = issuer.as_ref().map(host).unwrap_or_default();
        ui.say(&format!("mind that {} is not {issuer}, which issues the tokens", host(stranger)));
    }
    let life = match lifetime.as_secs() {
        seconds @ ..120 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds / 60),
    };
    ui.say(&format!("only do so if you started this sign-in yourself; there are {life} to do it"));
    Ok(complete.as_ref().unwrap_or(plain).clone())
}

/// How long to wait before the next poll.
struct Pace {
    interval: Duration,
    /// Some machines' clocks run a fifth too fast, and a poll that is early costs five seconds
    /// more each time (cli/cli issue 9370).
    margin: f64,
    slowed: u32,
}

/// What an answer means for the polling.
#[derive(Debug, PartialEq)]
enum Step {
    Again,
    Over,
}

impl Pace {
    fn new(seconds: u64) -> Self {
        Self { interval: Duration::from_secs(seconds), margin: 1.2, slowed: 0 }
    }

    fn pause(&self) -> Duration {
        self.interval.mul_f64(self.margin)
    }

    /// Section 3.5: pending goes on, `slow_down` adds five seconds for good, anything else ends it.
    fn judge(&mut self, error: Option<&str>, interval: Option<u64>) -> Step {
        match error {
            Some("authorization_pending") => Step::Again,
            Some("slow_down") => {
                let asked = interval.map_or(Duration::ZERO, Duration::from_secs);
                self.interval = (self.interval + Duration::from_secs(5)).max(asked);
                self.margin = 1.4;
                self.slowed += 1;
                Step::Again
            }
            _ => Step::Over,
        }
    }

    /// Section 3.5: after a connection that failed, poll more rarely, and not before the server
    /// wants to be asked.
    fn back_off(&mut self, wait: Option<u64>) {
        let longest = Duration::from_secs(60);
        let wait = wait.map_or(Duration::ZERO, Duration::from_secs);
        self.interval = (self.interval * 2).max(wait).min(longest).max(self.interval);
    }
}

/// Asks every `interval` seconds until the answer is neither pending nor lost.
pub(super) fn poll(
    attempt: &Attempt<'_>,
    interval: u64,
    lifetime: Duration,
    ask: impl Fn() -> Result<Answer, Failure>,
) -> Result<TokenSet, Failure> {
    let mut pace = Pace::new(interval);
    let clock = attempt.oauth.clock;
    // Both clocks: one may run fast, the other be set.
    let (until, until_wall) = (clock.elapsed() + lifetime, clock.now() + lifetime.as_secs());
    let mut trouble = None;
    loop {
        wait(attempt, pace.pause(), until)?;
        if clock.elapsed() >= until || clock.now() >= until_wall {
            // The person may have answered, and nobody could tell us.
            return Err(trouble.map_or(Failure::Expired, Failure::Transient));
        }
        let answer = match ask() {
            Ok(answer) => answer,
            Err(Failure::Transient(error)) => {
                attempt.oauth.ui.log(|| format!("poll: {}", error.what));
                pace.back_off(None);
                trouble = Some(error);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        trouble = None;
        let document = document(&answer).unwrap_or_default();
        let error = error_of(&document);
        let interval = document.number("interval").map(|seconds| seconds.clamp(1.0, 60.0) as u64);
        let slowed = pace.slowed;
        let step = pace.judge(error, interval);
        attempt.oauth.ui.log(|| {
            let error = error.map(|error| answer.without_secrets(error));
            format!("poll: {} {error:?}", answer.status)
        });
        if slowed == 1 && pace.slowed == 2 {
            attempt.oauth.ui.log(|| "asked to slow down twice: this clock may run fast".into());
        }
        match (step, attempt.issued(&answer)) {
            (Step::Again, _) => {}
            // A server that fails has not decided.
            (Step::Over, Err(Failure::Transient(error))) => {
                pace.back_off(answer.wait);
                trouble = Some(error);
            }
            // RFC 8628 has no other word for a code that ran out at some servers.
            (Step::Over, Err(Failure::GrantDead)) => return Err(Failure::Expired),
            (Step::Over, result) => return result,
        }
    }
}

/// Waits in short steps, so that a caller who leaves is noticed.
fn wait(attempt: &Attempt<'_>, pause: Duration, until: Duration) -> Result<(), Failure> {
    let clock = attempt.oauth.clock;
    let end = (clock.elapsed() + pause).min(until);
    while clock.elapsed() < end {
        attempt.caller_is_there()?;
        clock.sleep((end - clock.elapsed()).min(Duration::from_millis(500)));
    }
    Ok(())
}

fn unusable(attempt: &Attempt<'_>, what: &str) -> Failure {
    let what = format!("the device authorization of {} answered {what}", attempt.profile.home());
    Failure::Other(Error::new(Kind::Rejected, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_only_ever_slows_down() {
        let mut pace = Pace::new(5);
        assert_eq!(pace.pause(), Duration::from_secs(6));
        assert_eq!(pace.judge(Some("authorization_pending"), None), Step::Again);
        assert_eq!(pace.interval.as_secs(), 5);
        assert_eq!(pace.judge(Some("slow_down"), None), Step::Again);
        assert_eq!(pace.interval.as_secs(), 10);
        assert_eq!(pace.pause(), Duration::from_secs(14));
        assert_eq!(pace.judge(Some("slow_down"), Some(30)), Step::Again);
        assert_eq!(pace.interval.as_secs(), 30);
        pace.judge(Some("slow_down"), Some(1));
        assert_eq!(pace.interval.as_secs(), 35);
        pace.back_off(None);
        assert_eq!(pace.interval.as_secs(), 60);
        for _ in 0..20 {
            pace.judge(Some("slow_down"), None);
            pace.back_off(None);
        }
        assert!(pace.interval.as_secs() > 60, "a back-off must not shorten the wait");
        assert_eq!(pace.judge(Some("access_denied"), None), Step::Over);
        assert_eq!(pace.judge(None, None), Step::Over);
    }
}
