//! The beginning and the renewal of a session, under its lock: what a server issues is kept before
//! anybody sees it.

use super::{World, login_command, own};
use crate::error::{Error, Kind, Result};
use crate::model::{Key, Session};
use crate::oauth::{Failure, Options};
use crate::profile::{Persist, Profile};
use crate::ui::Ui;
use crate::vault::{Pen, Setbacks, Want};

/// Writes a session, or what of it the profile wants written.
///
/// # Errors
/// As `Pen::save`.
pub fn keep(session: &Session, profile: &Profile, pen: &Pen<'_>) -> Result<()> {
    match profile.persist {
        Persist::All => pen.save_session(session),
        Persist::RefreshToken => pen.save_session(&session.without_access()),
    }
}

/// Trades the refresh token and keeps what comes before anybody sees it.
///
/// # Errors
/// `GrantDead` where there is no refresh token or the server ends the grant; nothing is removed.
pub fn renew(
    profile: &Profile,
    world: &World<'_>,
    pen: &Pen<'_>,
    session: &mut Session,
) -> std::result::Result<(), Failure> {
    let Some(refresh) = session.tokens.refresh.clone() else { return Err(Failure::GrantDead) };
    // A refresh token is spent only where its successor can be kept.
    pen.probe().map_err(Failure::Other)?;
    let client_id = session.key.client_id.clone();
    let tokens = match world.oauth.refresh(profile, &client_id, &refresh) {
        Err(Failure::GrantDead) => {
            // Another machine or program may have rotated it in a store that we share.
            let again = world.vault.peek(&Want {
                place: session.key.place.clone(),
                account: Some(&session.key.account),
                path: None,
            });
            let newer = own(again.map_err(Failure::Other)?, profile)
                .filter(|newer| newer.key == session.key)
                .and_then(|newer| newer.tokens.refresh)
                .filter(|newer| *newer != refresh);
            match newer {
                Some(newer) => world.oauth.refresh(profile, &client_id, &newer),
                None => Err(Failure::GrantDead),
            }
        }
        answer => answer,
    }?;
    session.renew(tokens, world.clock.now());
    if let Err(error) = keep(session, profile, pen) {
        // The caller can still be served; the next one will have to sign in.
        world.ui.warn(&format!("the renewed session could not be kept: {}", error.what));
    }
    Ok(())
}

/// Signs the person in and keeps the session; a no is remembered for a while.
///
/// # Errors
/// `Refused` when the person says no or does not answer, else what the sign-in says.
pub fn sign_in(
    profile: &Profile,
    options: &Options,
    pen: &Pen<'_>,
    setbacks: Setbacks,
    world: &World<'_>,
) -> Result<Session> {
    let now = world.clock.now();
    let home = profile.home();
    // Nobody is asked for what could not be kept.
    pen.probe()?;
    let signed_in = world.oauth.sign_in(profile, options).map_err(|failure| {
        let refused = |what: String| {
            pen.note(Setbacks { refused: world.clock.now(), ..setbacks });
            Error::new(Kind::Refused, what).hint(login_command(profile))
        };
        match failure {
            Failure::Denied => refused(format!("the sign-in to {home} was refused")),
            Failure::Expired => refused(format!("nobody signed in to {home} in time")),
            Failure::GrantDead => refused(format!("{home} did not accept the sign-in")),
            Failure::Transient(error) => error,
            Failure::Other(error) => {
                // A configuration that is mended is worth a try at once.
                if matches!(error.kind, Kind::Rejected | Kind::Refused) {
                    pen.note(Setbacks { refused: world.clock.now(), ..setbacks });
                }
                error
            }
        }
    })?;
    let account = account_of(&signed_in.account, options, world.ui);
    let session = Session {
        key: Key { client_id: signed_in.client_id, ..profile.key(&account) },
        holder: signed_in.holder,
        authority: profile.authority(),
        tokens: signed_in.tokens,
        signed_in: now,
        renewed: world.clock.now(),
        exchanged: Vec::new(),
        former: Vec::new(),
    };
    keep(&session, profile, pen)?;
    if let Err(error) = profile.remember(world.environment) {
        world.ui.warn(&format!("{home} has to be signed in to again next time: {}", error.what));
    }
    if setbacks != Setbacks::default() {
        pen.note(Setbacks { refused: 0, ..setbacks });
    }
    Ok(session)
}

/// The name under which a session is kept: the one that was asked for, so that the same request
/// finds it again, else the provider's.
fn account_of(told: &Option<String>, options: &Options, ui: &Ui<'_>) -> String {
    match (&options.account, told) {
        (Some(asked), Some(told)) if asked != told => {
            ui.warn(&format!("asked for {asked}, but {told} signed in; kept as {asked}"));
            asked.clone()
        }
        (Some(asked), _) => asked.clone(),
        (None, told) => told.clone().unwrap_or_default(),
    }
}
