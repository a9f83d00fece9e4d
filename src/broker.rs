//! The one decision: fresh, else refresh, else sign in, else no. `get` reads from top to bottom
//! as the road of one request; what tools hand over and take back is in the room beside it.

mod exchanged;
mod handed;
pub mod pasted;
pub mod session;
pub mod workload;

use std::time::Duration;

use crate::clock::Clock;
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{
    Credential, Fields, Outcome, Record, Request, Secret, Session, TokenKind, Verb,
};
use crate::oauth::{self, Failure, Oauth, Options};
use crate::profile::{Flow, Persist, Profile, Profiles, Refresh, Service, Source};
use crate::ui::{self, Ui};
use crate::vault::{Pen, Setbacks, Vault, Want};

/// How long somebody else's renewal, or sign-in, is waited for.
const PATIENCE: Duration = Duration::from_secs(35);

/// Seconds for which a token is newer than whatever a host has just refused.
const NEW: u64 = 60;

/// Everything that a request can touch.
pub struct World<'a> {
    pub profiles: &'a Profiles,
    pub vault: Vault<'a>,
    pub oauth: Oauth<'a>,
    pub ui: &'a Ui<'a>,
    pub clock: &'a dyn Clock,
    pub environment: &'a Environment,
}

/// Answers one request.
#[must_use]
pub fn answer(request: &Request, world: &World<'_>) -> Outcome {
    let about = (request.verb != Verb::List).then_some(&request.resource);
    let outcome = world.profiles.check(about).and_then(|()| match request.verb {
        Verb::Get | Verb::Again | Verb::Cached => get(request, world),
        Verb::Store => handed::store(request, world).map(|()| Outcome::Done),
        Verb::Paste => handed::paste(request, world).map(|()| Outcome::Done),
        Verb::Erase => handed::erase(request, world).map(|erased| match erased {
            true => Outcome::Done,
            false => Outcome::NotMine,
        }),
        Verb::List => handed::list(world).map(Outcome::Listed),
    });
    outcome.unwrap_or_else(Outcome::Failed)
}

fn get(request: &Request, world: &World<'_>) -> Result<Outcome> {
    let Request { resource, .. } = request;
    let offered = world.profiles.offered(resource)?;
    let offered = offered.as_ref().and_then(Profile::service);
    let Some(service) = offered.or_else(|| world.profiles.find(resource)) else {
        return match handed::unknown_host(request, world)? {
            Outcome::NotMine => discovered(request, world),
            outcome => Ok(outcome),
        };
    };
    serve(request, service, world)
}

/// A host without a profile is asked who issues its tokens only where the person named it as one
/// that may say so, and is here to sign in. Never because the host says it.
fn discovered(request: &Request, world: &World<'_>) -> Result<Outcome> {
    let resource = &request.resource;
    let may = request.verb != Verb::Cached && world.profiles.may_discover(resource);
    if !may || !world.ui.person(request.caller) {
        return Ok(Outcome::NotMine);
    }
    let profile = world.oauth.discover(resource).map_err(|failure| failure.error(resource))?;
    let service = profile.as_ref().and_then(Profile::service);
    service.map_or(Ok(Outcome::NotMine), |service| serve(request, service, world))
}

/// Answers with what a provider issues.
fn serve(request: &Request, service: Service<'_>, world: &World<'_>) -> Result<Outcome> {
    let resource = &request.resource;
    let profile = service.profile;
    world.ui.log(|| format!("{resource} belongs to profile {}", profile.name));
    if let Some(credential) = service.environment_token(resource, world.environment)? {
        return found(credential);
    }
    handed::say_unclear(resource, world);
    let want =
        Want { place: profile.place(), account: service.asked_account(resource), path: None };
    let road = Road { request, service, profile, world, want };
    if let Some(workload) = workload::fleeting(profile, world) {
        return workload::get(&road, workload);
    }
    match &service.prefix.exchange {
        None => token(&road),
        Some(exchange) => exchanged::get(&road, exchange),
    }
}

/// A token of the session, as the provider issued it.
fn token(road: &Road<'_>) -> Result<Outcome> {
    let Road { request, service, profile, world, .. } = road;
    let record = world.vault.peek(&road.want)?;
    if let Some(answer) = pasted::answer(road, record.as_ref()) {
        return answer;
    }
    let seen = own(record, profile);
    // The hot path: no lock, no network.
    if let Some(session) = &seen
        && let Some(token) = road.fresh(session)
        && !is_rejected(request, session, profile)
    {
        let mut credential = service.credential(session, token);
        // Without a refresh token the next answer would be a sign-in.
        credential.renewable = credential.renewable || world.ui.could_ask(request.caller);
        return found(credential);
    }
    if let Some(credential) = handed::get(request, world)? {
        return found(credential);
    }
    if request.verb == Verb::Cached {
        return Ok(nothing_ready(road));
    }
    renew(road, seen.as_ref())
}

/// What a question that may cost nothing is answered.
fn nothing_ready(road: &Road<'_>) -> Outcome {
    let what = format!("nothing is ready for {}", road.profile.home());
    Outcome::NotFound(not_signed_in(&what, road))
}

/// A request on its way to a token.
struct Road<'a> {
    request: &'a Request,
    service: Service<'a>,
    profile: &'a Profile,
    world: &'a World<'a>,
    want: Want<'a>,
}

impl Road<'_> {
    /// The token that this host takes, if it lives for as long as profile and caller want.
    fn fresh<'s>(&self, session: &'s Session) -> Option<&'s Secret> {
        let unwanted = self.profile.refresh == Refresh::Always || self.is_doubted(session);
        // What cannot be renewed would have to be signed in for each time.
        if unwanted && session.tokens.refresh.is_some() {
            return None;
        }
        let kind = self.service.prefix.token;
        let life = session.expires(kind).map(|end| end.saturating_sub(session.renewed));
        let lifetime = match life {
            // No renewal brings that much: half of what there is has to do, or each of fifty
            // callers renews once more.
            Some(life) if life <= self.request.lifetime => life / 2,
            _ => self.request.lifetime,
        };
        let margin = self.profile.refresh_margin.max(lifetime);
        session.fresh(kind, self.world.clock.now(), margin)
    }

    /// Whether this session's token may be the one that the caller was refused with. One that came
    /// since is not; and so no caller renews more often than that.
    fn is_doubted(&self, session: &Session) -> bool {
        let settled = session.renewed.saturating_add(NEW) <= self.world.clock.now();
        self.request.verb == Verb::Again && settled
    }

    /// What the server has just issued, however short its life. `None`: not the kind of token
    /// that this host takes, or an ID token that a renewal did not replace in time.
    fn issued(&self, session: &Session) -> Option<Outcome> {
        let kind = self.service.prefix.token;
        let token = match kind {
            TokenKind::Access => session.token(kind)?,
            TokenKind::Id => session.fresh(kind, self.world.clock.now(), 0)?,
        };
        Some(Outcome::Found(Box::new(self.service.credential(session, token))))
    }
}

/// What to do about the session that was `seen` without the lock, if any.
fn renew(road: &Road<'_>, seen: Option<&Session>) -> Result<Outcome> {
    let Road { request, service, profile, world, want } = road;
    let could_ask = world.ui.could_ask(request.caller);
    let patience = if could_ask { PATIENCE + oauth::TIMEOUT } else { PATIENCE };
    let waiting = || {
        if could_ask {
            world.ui.say(&format!("waiting for another sign-in to {}", profile.home()));
        }
    };
    if profile.refresh == Refresh::Always && seen.is_some() {
        world.ui.log(|| format!("{} renews at each call", profile.name));
        // Who comes behind us meanwhile takes what we get.
        world.oauth.spread();
    }
    let (held, pen) = world.vault.enter(want, patience, &waiting)?;
    let now = world.clock.now();
    if let Some(answer) = pasted::answer(road, held.as_ref()) {
        return answer;
    }
    let ended = held.as_ref().is_some_and(|record| has_ended(record, road));
    let mut held = own(held, profile);
    let mut setbacks = pen.setbacks().current(now);
    if let Some(session) = held.as_mut().filter(|session| is_rejected(request, session, profile)) {
        setbacks = reject(session, setbacks, &pen, now)?;
    }
    // Another process was faster: what it got is the newest there is, however short its life.
    if let Some(session) = &held {
        let kind = service.prefix.token;
        let newer = seen.and_then(|seen| seen.token(kind)) != session.token(kind);
        let token = if newer { session.fresh(kind, now, 0) } else { road.fresh(session) };
        if let Some(token) = token {
            return found(service.credential(session, token));
        }
    }
    // One rejection is a dead token, and renewed away. A second one means that renewing does not
    // help, and a third that signing in does not either.
    let workload = world.profiles.workload_of(profile);
    let renewable = |session: &mut Session| {
        setbacks.rejections <= 1
            && !ended
            && (workload.is_none() || session.tokens.refresh.is_some())
    };
    if let Some(session) = held.take_if(renewable) {
        match refresh(road, &pen, session)? {
            Renewal::Answer(outcome) => return Ok(outcome),
            Renewal::Useless => {}
            // Whoever comes now finds nothing and waits for another lock: the sign-in needs that.
            Renewal::Gone => {
                drop(pen);
                return renew(road, seen);
            }
        }
    }
    if setbacks.rejections > 2 {
        let what = format!("{} keeps rejecting new tokens", profile.home());
        return Ok(Outcome::NotFound(
            Error::new(Kind::Rejected, what).hint("check what the account may do there"),
        ));
    }
    if let Some(workload) = workload {
        return workload::renew(road, workload, &pen, held);
    }
    if let Some(why) = refusal(road, setbacks, ended) {
        return Ok(Outcome::NotFound(why));
    }
    sign_in(road, seen, &pen, setbacks)
}

/// Why nobody is asked to sign in, if so.
fn refusal(road: &Road<'_>, setbacks: Setbacks, ended: bool) -> Option<Error> {
    let Road { request, profile, world, .. } = road;
    let home = profile.home();
    if setbacks.refused_lately(world.clock.now()) {
        let what = format!("the last sign-in to {home} was refused or abandoned");
        return Some(not_signed_in(&what, road));
    }
    if let Some(open) = &profile.open {
        return Some(Error::new(Kind::NotSignedIn, format!("{home} takes anybody, says {open}")));
    }
    if profile.flow != Some(Flow::None) && world.ui.person(request.caller) {
        return None;
    }
    let why = not_signed_in(&format!("not signed in to {home}"), road);
    let expired = format!("the credentials for {home} have expired");
    Some(if ended { Error { kind: Kind::Rejected, what: expired, ..why } } else { why })
}

/// Asks the person. The lock is held meanwhile.
fn sign_in(
    road: &Road<'_>,
    seen: Option<&Session>,
    pen: &Pen<'_>,
    setbacks: Setbacks,
) -> Result<Outcome> {
    let Road { service, profile, world, want, .. } = road;
    let options = Options {
        flow: world.profiles.habit(profile),
        account: want.account.map(str::to_owned),
        known: seen.map(|session| session.key.account.clone()),
        client_metadata: world.profiles.client_metadata.clone(),
        ..Options::default()
    };
    // Who is signed in for a name does not answer for the others.
    let chooses = want.account.is_none();
    if profile.wants_token(options.flow) {
        let entry = pasted::ask(profile, want.account, Fields::new(), chooses, pen, world)?;
        return found(service.pasted(&entry));
    }
    let session = session::sign_in(profile, &options, chooses, pen, setbacks, world)?;
    road.issued(&session).ok_or_else(|| {
        let what = format!("{} issued no ID token", profile.home());
        Error::new(Kind::Configuration, what).hint("add openid to the profile's scopes")
    })
}

/// What came of a renewal that did not fail.
enum Renewal {
    Answer(Outcome),
    /// The session lives, without the token that this host takes.
    Useless,
    /// The session could not be renewed any more, and has been removed.
    Gone,
}

/// Renews a session whose lock is held.
fn refresh(road: &Road<'_>, pen: &Pen<'_>, mut session: Session) -> Result<Renewal> {
    let Road { profile, world, .. } = road;
    match session::renew(profile, world, pen, &mut session) {
        Ok(()) => Ok(road.issued(&session).map_or(Renewal::Useless, Renewal::Answer)),
        Err(Failure::GrantDead | Failure::Denied | Failure::Expired) => {
            world.ui.log(|| format!("the grant of {} is dead", session.key.text()));
            pen.remove()?;
            Ok(Renewal::Gone)
        }
        // It lives a little longer than the margin: good enough while the server is away.
        Err(Failure::Transient(error)) => {
            match session.fresh(road.service.prefix.token, world.clock.now(), 0) {
                Some(token) => found(road.service.credential(&session, token)).map(Renewal::Answer),
                None => Err(error),
            }
        }
        Err(Failure::Other(error)) => Err(match error.hint {
            Some(_) => error,
            None => error.hint(login_command(profile)),
        }),
    }
}

/// A session of this profile. One that another issuer gave is not: its tokens are for others.
fn own(record: Option<Record>, profile: &Profile) -> Option<Session> {
    match record? {
        Record::Session(session) if session.authority == profile.authority() => Some(session),
        _ => None,
    }
}

/// Whether time has ended a credential that nothing renews. It stays until somebody replaces it:
/// whoever asks is told the reason every time.
fn has_ended(record: &Record, road: &Road<'_>) -> bool {
    match record {
        Record::Static(entry) => entry.has_ended(road.world.clock.now()),
        Record::Session(session) => {
            let there = session.token(road.service.prefix.token).is_some();
            there && session.tokens.refresh.is_none() && road.fresh(session).is_none()
        }
    }
}

/// Whether the caller comes back because its host rejected this session's token.
fn is_rejected(request: &Request, session: &Session, profile: &Profile) -> bool {
    let last = |token: &String| {
        // The session was written without it.
        profile.persist == Some(Persist::RefreshToken) && session.former.first() == Some(token)
    };
    request.proof.as_ref().is_some_and(|proof| {
        proof.key == session.key.digest() && (session.holds(&proof.token) || last(&proof.token))
    })
}

/// Forgets an access token that the host rejected, and counts.
fn reject(session: &mut Session, setbacks: Setbacks, pen: &Pen<'_>, now: u64) -> Result<Setbacks> {
    session.forget_access();
    pen.save_session(session)?;
    let counted = Setbacks { rejections: setbacks.rejections + 1, rejected: now, ..setbacks };
    pen.note(counted);
    Ok(counted)
}

fn found(credential: Credential) -> Result<Outcome> {
    Ok(Outcome::Found(Box::new(credential)))
}

fn not_signed_in(what: &str, road: &Road<'_>) -> Error {
    let account = road.want.account;
    let account = account
        .map_or_else(String::new, |account| format!(" --account {}", ui::shell_word(account)));
    Error::new(Kind::NotSignedIn, what).hint(format!("{}{account}", login_command(road.profile)))
}

/// The command that mends most things.
#[must_use]
pub fn login_command(profile: &Profile) -> String {
    match profile.source {
        Source::Configured | Source::Remembered => {
            let page = profile.token_page.as_ref().filter(|_| profile.wants_token(Flow::Auto));
            let page = page.map_or_else(String::new, |page| format!(", with a token from {page}"));
            format!("valetkey login {}{page}", profile.home())
        }
        // Only the caller knows who issues its tokens.
        Source::Offered => "run the same command in a terminal of your own".to_owned(),
    }
}
