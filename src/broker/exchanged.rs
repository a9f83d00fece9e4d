//! Hosts that take no token of the session, but what they give for one. It is kept with the
//! session, for the very URL that gave it, and ends with the token that it was given for.

use super::{PATIENCE, PRECAUTION, Road, found, nothing_ready, own, session, token};
use crate::error::{Error, Kind, Result};
use crate::model::{Credential, Exchanged, Outcome, Request, Session, Verb, timestamp};
use crate::oauth::Failure;
use crate::profile::Exchange;

pub(super) fn get(road: &Road<'_>, exchange: &Exchange) -> Result<Outcome> {
    let Road { request, service, profile, world, want } = road;
    let margin = profile.refresh_margin.max(request.lifetime);
    let seen = own(world.vault.peek(want)?, profile);
    if let Some(session) = &seen
        && let Some(exchanged) = kept(road, session, margin)
    {
        return found(credential(road, session, exchanged));
    }
    if request.verb == Verb::Cached {
        return Ok(nothing_ready(road));
    }
    let left = seen.as_ref().is_some_and(|session| kept(road, session, 0).is_some());
    let until = left.then(|| world.clock.elapsed() + PRECAUTION);
    // What is traded at once need not outlive the answer.
    let request = Request { lifetime: 0, ..(*request).clone() };
    let way = Road { request: &request, want: want.clone(), ..*road };
    // A token that was revoked before its time is renewed away, once.
    for _ in 0..2 {
        match token(&way)? {
            // What somebody handed over for this origin is ready to be used.
            Outcome::Found(credential) if credential.proof.is_none() => return found(*credential),
            Outcome::Found(_) => {}
            other => return Ok(other),
        }
        let (held, pen) = world.vault.enter(want, PATIENCE, &|| ())?;
        let Some(mut session) = own(held, profile) else { continue };
        // Another process was faster.
        if let Some(exchanged) = kept(road, &session, margin) {
            return found(credential(road, &session, exchanged));
        }
        let Some(access) = session.token(service.prefix.token).cloned() else { continue };
        let exchange = || world.oauth.exchange(service.prefix, exchange, &access);
        match world.oauth.until(until, exchange) {
            Ok(exchanged) => {
                let answer = credential(road, &session, &exchanged);
                session.exchanged.retain(|other| other.origin != exchanged.origin);
                session.exchanged.push(exchanged);
                session::keep(&session, profile, &pen)?;
                return found(answer);
            }
            Err(Failure::GrantDead | Failure::Denied | Failure::Expired) => {
                session.forget_access();
                session::keep(&session, profile, &pen)?;
            }
            // What is left of the last one is good enough while the registry is away.
            Err(Failure::Transient(error)) => {
                return match kept(road, &session, 0) {
                    Some(exchanged) => found(credential(road, &session, exchanged)),
                    None => Err(error),
                };
            }
            Err(Failure::Other(error) | Failure::Refused(error)) => return Err(error),
        }
    }
    let what = format!("{} does not take the session's token", service.prefix.origin);
    Ok(Outcome::NotFound(Error::new(Kind::Rejected, what).hint(road.login_command())))
}

/// What this origin gave, if it lives for so many seconds more.
fn kept<'s>(road: &Road<'_>, session: &'s Session, margin: u64) -> Option<&'s Exchanged> {
    let now = road.world.clock.now();
    let url = road.service.prefix.url();
    let ours = |exchanged: &&Exchanged| {
        exchanged.origin == url && exchanged.expires > now.saturating_add(margin)
    };
    session.exchanged.iter().find(ours).filter(|_| !session.is_from_the_future(now))
}

pub(super) fn credential(road: &Road<'_>, session: &Session, exchanged: &Exchanged) -> Credential {
    Credential {
        expires: Some(timestamp::readable(exchanged.expires)),
        ..road.service.credential(session, &exchanged.token)
    }
}
