//! Tokens that a host refuses before their time, under tools that cannot say so. git hands a rejected
//! token to `erase` and go passes the 401 on; docker, pip, terraform, kubectl and most others only ask
//! again, when a person runs the command once more. So a second question within minutes is taken for
//! a reason to ask the server about the token, once, and never so often that many callers together
//! notice: rule G46.

use std::time::Duration;

use super::{PRECAUTION, Road, World, found, own, renewal, session};
use crate::error::Result;
use crate::model::{Caller, Outcome, Session, Verb};
use crate::oauth::{Failure, Standing};
use crate::profile::{Profile, Refresh};
use crate::vault::{Note, Pen};

/// Seconds within which a person runs a command again that has failed.
const AGAIN: u64 = 120;

/// Seconds between two questions about one session at a page, which cost the server next to nothing.
const PAGE: u64 = 60;

/// Seconds between two renewals for no other reason: a server may end the token that it replaces,
/// and others may be using it.
const RENEWAL: u64 = 300;

/// Whether there is a reason to ask the server, as far as it can be known at no cost. A token that
/// came within a minute is newer than what any host has refused.
pub(super) fn is(road: &Road<'_>, session: &Session) -> bool {
    let Road { request, profile, world, .. } = road;
    let silent = request.verb == Verb::Get && request.caller != Caller::Git;
    if !silent || profile.refresh == Refresh::Always || !super::is_settled(session, world) {
        return false;
    }
    let now = world.clock.now();
    let lately = |time: Option<u64>, span| time.is_some_and(|time| now.abs_diff(time) < span);
    lately(world.vault.note(Note::Answered, &session.key), AGAIN)
        && !lately(world.vault.noted(Note::Checked, &session.key), PAGE)
}

/// Asks the server, in little time and under the lock: of many callers one asks, and the others are
/// answered as ever. `None`: nothing speaks against the token that was `seen`.
pub(super) fn ask(road: &Road<'_>, seen: &Session) -> Result<Option<Outcome>> {
    let Road { service, profile, world, want, .. } = road;
    // Whoever holds the lock is about to know better.
    let Ok((held, pen)) = world.vault.enter(want, Duration::ZERO, &|| ()) else { return Ok(None) };
    let kind = service.prefix.token;
    let held = own(held, profile).filter(|held| held.key == seen.key);
    let Some(mut session) = held else { return Ok(None) };
    if session.token(kind) != seen.token(kind) {
        let newer = session.fresh(kind, world.clock.now(), 0);
        return newer.map(|token| found(service.credential(&session, token))).transpose();
    }
    let checked = world.vault.note(Note::Checked, &seen.key);
    let until = Some(world.clock.elapsed() + PRECAUTION);
    let dead = world.oauth.until(until, || is_dead(&mut session, profile, checked, &pen, world));
    let Some(token) = session.token(kind).filter(|_| !dead) else {
        session.forget_access();
        session::keep(&session, profile, &pen)?;
        drop(pen);
        return renewal::renew(road, Some(&session)).map(Some);
    };
    let renewed = session.token(kind) != seen.token(kind);
    renewed.then(|| found(service.credential(&session, token))).transpose()
}

/// Whether the server has ended the session's token. Where no page tells, a renewal does, which
/// brings another token or the word that the grant is dead.
fn is_dead(
    session: &mut Session,
    profile: &Profile,
    checked: Option<u64>,
    pen: &Pen<'_>,
    world: &World<'_>,
) -> bool {
    let access = session.tokens.access.as_ref();
    let standing = access
        .map_or(Standing::Unasked, |access| world.oauth.standing(profile, access, &session.fields));
    let rested = checked.is_none_or(|time| world.clock.now().abs_diff(time) >= RENEWAL);
    match standing {
        Standing::Dead => true,
        Standing::Unasked if rested && session.tokens.refresh.is_some() => {
            let dead = session::renew(profile, world, pen, session);
            let dead = matches!(dead, Err(Failure::GrantDead));
            if dead {
                // What is known to be spent is not sent again.
                session.tokens.refresh = None;
            }
            dead
        }
        Standing::Good | Standing::Unsaid | Standing::Unasked => false,
    }
}
