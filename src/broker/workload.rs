//! Tokens that nobody signs in for. Unless the profile says that they are kept, none is: then there
//! is nothing to look up and nothing to wait for, and every caller makes an exchange of its own.

use super::{Road, World, found};
use crate::error::{Error, Kind, Result};
use crate::model::{
    Exchanged, Fields, Holder, Outcome, Secret, Session, TokenKind, TokenSet, Verb,
};
use crate::oauth::Failure;
use crate::oauth::workload::Admitted;
use crate::profile::workload::Workload;
use crate::profile::{Exchange, Persist, Prefix, Profile};
use crate::vault::Pen;

/// How this profile gets its tokens, if it gets them without a person and keeps none.
#[must_use]
pub fn fleeting<'p>(profile: &'p Profile, world: &World<'_>) -> Option<&'p Workload> {
    world.profiles.workload_of(profile).filter(|_| profile.persist != Some(Persist::All))
}

/// The whole road of a request to such a profile: no store is touched.
pub(super) fn get(road: &Road<'_>, workload: &Workload) -> Result<Outcome> {
    let Road { request, service, profile, world, .. } = road;
    if request.verb == Verb::Cached {
        return Ok(super::nothing_ready(road));
    }
    let (mut session, _) = session(profile, workload, road.want.account, world)?;
    // Nobody could use it: the next caller makes an exchange of its own.
    session.tokens.refresh = None;
    let Some(exchange) = &service.prefix.exchange else { return issued(road, &session) };
    let token = session.token(service.prefix.token).cloned();
    let token = token.ok_or_else(|| no_token(profile, service.prefix.token))?;
    let exchanged = exchanged(service.prefix, exchange, &token, world)?;
    found(super::exchanged::credential(road, &session, &exchanged))
}

/// Gets a session and keeps it, as the profile says, in the place of the one that is `held`.
pub(super) fn renew(
    road: &Road<'_>,
    workload: &Workload,
    pen: &Pen<'_>,
    held: Option<Session>,
) -> Result<Outcome> {
    pen.probe()?;
    let session = match session(road.profile, workload, road.want.account, road.world) {
        Ok((session, _)) => session,
        // What lives a little longer is good enough while the platform or the server is away.
        Err(error) if error.kind == Kind::Temporary => {
            let now = road.world.clock.now();
            let left = held.as_ref().and_then(|held| {
                let token = held.fresh(road.service.prefix.token, now, 0)?;
                Some(road.service.credential(held, token))
            });
            return left.map_or(Err(error), found);
        }
        Err(error) => return Err(error),
    };
    pen.save_session(&session)?;
    if held.is_some_and(|held| held.key != session.key) {
        pen.remove()?;
    }
    issued(road, &session)
}

/// A session that the platform vouches for, and the name of the platform. It is kept nowhere yet.
///
/// # Errors
/// As `Oauth::admit`.
pub fn session(
    profile: &Profile,
    workload: &Workload,
    account: Option<&str>,
    world: &World<'_>,
) -> Result<(Session, String)> {
    let Admitted { tokens, subject, source } = world.oauth.admit(profile, workload)?;
    world.ui.log(|| format!("admitted; source: {source}"));
    let account = account.map(str::to_owned).or(subject).unwrap_or_default();
    let now = world.clock.now();
    let session = Session {
        key: profile.key(&account),
        authority: profile.authority(),
        tokens,
        holder: Holder::default(),
        fields: Fields::new(),
        chosen: now,
        signed_in: now,
        renewed: now,
        exchanged: Vec::new(),
        former: Vec::new(),
    };
    Ok((session, source))
}

fn issued(road: &Road<'_>, session: &Session) -> Result<Outcome> {
    let none = || no_token(road.profile, road.service.prefix.token);
    road.issued(session).ok_or_else(none)
}

fn no_token(profile: &Profile, kind: TokenKind) -> Error {
    let kind = match kind {
        TokenKind::Access => "access",
        TokenKind::Id => "ID",
    };
    let what = format!("{} issued no {kind} token for the job's identity", profile.home());
    Error::new(Kind::Configuration, what).hint("check token of the origin in config.toml")
}

fn exchanged(
    prefix: &Prefix,
    exchange: &Exchange,
    token: &Secret,
    world: &World<'_>,
) -> Result<Exchanged> {
    world.oauth.exchange(prefix, exchange, token).map_err(|failure| match failure {
        Failure::Transient(error) | Failure::Other(error) | Failure::Refused(error) => error,
        Failure::GrantDead | Failure::Denied | Failure::Expired => {
            Error::new(Kind::Rejected, format!("{} does not take the job's token", prefix.url()))
        }
    })
}

/// Tells the server that a token has done its work. `false` where there is nobody to tell.
///
/// # Errors
/// `Temporary` where it may live on.
pub(super) fn give_back(profile: &Profile, token: &Secret, world: &World<'_>) -> Result<bool> {
    let access = Some(token.clone());
    let tokens = TokenSet { identity: None, access, refresh: None, expires: None, scope: None };
    match world.oauth.revoke(profile, &profile.client_id, &tokens) {
        Ok(told) => Ok(told),
        Err(Failure::Transient(error)) => Err(error),
        Err(failure) => {
            world.ui.log(|| format!("{} was not revoked: {failure:?}", profile.name));
            Ok(false)
        }
    }
}
