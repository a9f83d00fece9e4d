//! What happens under a session's lock: a rejected token is forgotten, an old one renewed, and where
//! nothing can be renewed a person signs in.

use std::time::Duration;

use super::{PATIENCE, Road, found, is_rejected, own, pasted, session, workload};
use crate::error::{Error, Kind, Result};
use crate::model::{Outcome, Record, Session, TokenKind};
use crate::oauth::{self, Failure, Options};
use crate::profile::{Flow, Refresh};
use crate::vault::{Pen, Setbacks};

/// How long a renewal, and the wait for one, may take while the old token lives.
pub const PRECAUTION: Duration = Duration::from_secs(5);

/// What to do about the session that was `seen` without the lock, if any.
pub(super) fn renew(road: &Road<'_>, seen: Option<&Session>) -> Result<Outcome> {
    let Road { request, service, profile, world, want } = road;
    let could_ask = world.ui.could_ask(request.caller);
    // What the caller can be given if nothing comes of this in time.
    let left = seen.filter(|session| road.is_unrefused(session));
    let left = left.and_then(|session| session.fresh(service.prefix.token, world.clock.now(), 0));
    let patience = match (left, could_ask) {
        (Some(_), _) => PRECAUTION,
        (None, true) => PATIENCE + oauth::TIMEOUT,
        (None, false) => request.caller.patience(),
    };
    // A person who waits is asked next, and each request has its own bound.
    let until = (left.is_some() || !could_ask).then(|| world.clock.elapsed() + patience);
    let waiting = || {
        if could_ask {
            world.ui.say(&format!("waiting for another sign-in to {}", road.home()));
        }
    };
    if profile.refresh == Refresh::Always && seen.is_some() {
        world.ui.log(|| format!("{} renews at each call", profile.name));
        // Who comes behind us meanwhile takes what we get.
        world.oauth.spread();
    }
    let (held, pen) = match (world.vault.enter(want, patience, &waiting), seen, left) {
        (Err(error), Some(session), Some(token)) if error.kind == Kind::Temporary => {
            world.ui.log(|| format!("nothing is waited for any longer: {}", error.what));
            return found(service.credential(session, token));
        }
        (entered, ..) => entered?,
    };
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
    // A refresh token is not sent where there is hardly time for the answer: a server that rotates
    // would spend it.
    let late = until.is_some_and(|until| world.clock.elapsed() + PRECAUTION / 2 > until);
    if late && let (Some(session), Some(token)) = (seen, left) {
        return found(service.credential(session, token));
    }
    // One rejection is a dead token, and renewed away. A second one means that renewing does not
    // help, and a third that signing in does not either.
    let workload = world.profiles.workload_of(profile);
    let renewable = |session: &mut Session| {
        setbacks.rejections <= 1
            && !ended
            && (workload.is_none() || session.tokens.refresh.is_some())
    };
    let mut refused = None;
    if let Some(session) = held.take_if(renewable) {
        match world.oauth.until(until, || refresh(road, &pen, session))? {
            Renewal::Answer(outcome) => return Ok(outcome),
            Renewal::Useless => {}
            Renewal::Refused(error) => refused = Some(error),
            // Whoever comes now finds nothing and waits for another lock: the sign-in needs that.
            Renewal::Gone => {
                drop(pen);
                let mut dead = seen.cloned();
                // Nobody is given a token whose grant has ended.
                dead.iter_mut().for_each(Session::forget_access);
                return renew(road, dead.as_ref());
            }
        }
    }
    if setbacks.rejections > 2 {
        let what = format!("{} keeps rejecting new tokens", road.home());
        return Ok(Outcome::NotFound(
            Error::new(Kind::Rejected, what).hint("check what the account may do there"),
        ));
    }
    if let Some(workload) = workload {
        let renew = || workload::renew(road, workload, &pen, held);
        return world.oauth.until(until, renew);
    }
    if let Some(why) = refusal(road, setbacks, ended) {
        return Ok(Outcome::NotFound(match refused {
            Some(cause) => why.because(cause),
            None => why,
        }));
    }
    sign_in(road, seen, &pen, setbacks)
}

/// Why nobody is asked to sign in, if so.
fn refusal(road: &Road<'_>, setbacks: Setbacks, ended: bool) -> Option<Error> {
    let Road { request, profile, world, .. } = road;
    let home = road.home();
    if setbacks.refused_lately(world.clock.now()) {
        let what = format!("the last sign-in to {home} was refused or abandoned");
        return Some(road.not_signed_in(&what));
    }
    if let Some(open) = &profile.open {
        return Some(Error::new(Kind::NotSignedIn, format!("{home} takes anybody, says {open}")));
    }
    if profile.flow != Some(Flow::None) && world.ui.person(request.caller) {
        return None;
    }
    let why = road.not_signed_in(&format!("not signed in to {home}"));
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
    let Road { service, world, want, .. } = road;
    let profile = &service.turned();
    let options = Options {
        flow: world.profiles.habit(profile),
        account: want.account.map(str::to_owned),
        known: seen.map(|session| session.key.account.clone()),
        client_metadata: world.profiles.client_metadata.clone(),
        identity: service.prefix.token == TokenKind::Id,
        ..Options::default()
    };
    // Who is signed in for a name does not answer for the others.
    let chooses = want.account.is_none();
    if profile.wants_token(options.flow) {
        let entry = pasted::ask(profile, &options, chooses, pen, world)?;
        return found(service.pasted(&entry));
    }
    let session = session::sign_in(profile, &options, chooses, pen, setbacks, world)?;
    session::must_hold(&session, service.prefix.token, profile, world)?;
    road.issued(&session).ok_or_else(|| Error::new(Kind::Configuration, "no token was issued"))
}

/// What came of a renewal that did not fail.
enum Renewal {
    Answer(Outcome),
    /// The server said no, and the session stays: a sign-in may mend it, or a better time.
    Refused(Error),
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
        Err(Failure::Refused(error)) => {
            world.ui.log(|| format!("{} cannot be renewed: {}", session.key.text(), error.what));
            Ok(Renewal::Refused(error))
        }
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
        Err(Failure::Other(error)) => Err(match (error.kind, &error.hint) {
            (Kind::Rejected, None) => error.hint(road.login_command()),
            _ => error,
        }),
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

/// Forgets an access token that the host rejected, and counts.
pub(super) fn reject(
    session: &mut Session,
    setbacks: Setbacks,
    pen: &Pen<'_>,
    now: u64,
) -> Result<Setbacks> {
    session.forget_access();
    pen.save_session(session)?;
    let counted = Setbacks { rejections: setbacks.rejections + 1, rejected: now, ..setbacks };
    pen.note(counted);
    Ok(counted)
}
