//! The beginning and the renewal of a session, under its lock: what a server issues is kept before
//! anybody sees it.

use std::time::Duration;

use super::{World, login_command, own};
use crate::error::{Error, Kind, Result};
use crate::model::{Holder, Key, Record, Session, TokenKind};
use crate::oauth::{Failure, Options, SignedIn};
use crate::profile::{Persist, Profile};
use crate::ui;
use crate::vault::{Pen, Setbacks, Want};

/// Writes a session, or what of it the profile wants written.
///
/// # Errors
/// As `Pen::save`.
pub fn keep(session: &Session, profile: &Profile, pen: &Pen<'_>) -> Result<()> {
    match profile.persist {
        Some(Persist::RefreshToken) => pen.save_session(&session.without_access()),
        Some(Persist::All) | None => pen.save_session(session),
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
    if session.tokens.refresh.is_none() {
        return Err(Failure::GrantDead);
    }
    let (_claim, newer) = pen.claim(session).map_err(Failure::Other)?;
    if let Some(newer) = newer.and_then(|newer| own(Some(Record::Session(newer)), profile)) {
        *session = newer;
        if session.fresh(TokenKind::Access, world.clock.now(), 0).is_some() {
            return Ok(());
        }
    }
    let Some(refresh) = session.tokens.refresh.clone() else { return Err(Failure::GrantDead) };
    // A refresh token is spent only where its successor can be kept.
    let sent_before = pen.spend(session, &refresh).map_err(Failure::Other)?;
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
                Some(newer) => {
                    pen.spend(session, &newer).map_err(Failure::Other)?;
                    world.oauth.refresh(profile, &client_id, &newer)
                }
                None => Err(Failure::GrantDead),
            }
        }
        answer => answer,
    };
    if let (Err(Failure::GrantDead), Some(since)) = (&tokens, sent_before) {
        let ago = world.clock.now().saturating_sub(since);
        let home = profile.home();
        let text = format!("a renewal for {home} {ago} seconds ago was cut off before its answer");
        world.ui.warn(&format!("{text} was kept, and {home} takes the token no more"));
    }
    let tokens = tokens?;
    session.renew(tokens, world.clock.now());
    let kept = match profile.persist {
        Some(Persist::RefreshToken) => pen.save_renewed(&session.without_access()),
        Some(Persist::All) | None => pen.save_renewed(session),
    };
    if let Err(error) = kept {
        // The caller can still be served; the next one will have to sign in.
        let home = profile.home();
        let text = format!("the renewed session for {home} could not be kept: {}", error.what);
        world.ui.warn(&format!("{text}; it has to be signed in to again when this token ends"));
    }
    Ok(())
}

/// Signs the person in and keeps the session; a no is remembered for a while. `chooses`: whoever
/// signs in answers from now on where no account is named (rule N10).
///
/// # Errors
/// `Refused` when the person says no, does not answer, or is not whose session this would replace;
/// else what the sign-in says.
pub fn sign_in(
    profile: &Profile,
    options: &Options,
    chooses: bool,
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
            let again = login_command(profile, options.account.as_deref());
            Error::new(Kind::Refused, what).hint(again)
        };
        match failure {
            Failure::Denied => refused(format!("the sign-in to {home} was refused")),
            Failure::Expired => refused(format!("nobody signed in to {home} in time")),
            Failure::GrantDead => refused(format!("{home} did not accept the sign-in")),
            Failure::Transient(error) => error,
            Failure::Other(error) | Failure::Refused(error) => {
                // A configuration that is mended is worth a try at once.
                if matches!(error.kind, Kind::Rejected | Kind::Refused) {
                    pen.note(Setbacks { refused: world.clock.now(), ..setbacks });
                }
                error
            }
        }
    })?;
    let SignedIn { tokens, client_id, account, holder, mut fields } = signed_in;
    let asked = options.account.as_deref();
    let revocable = client_id.clone();
    let (key, holder) = match identified(profile, client_id, account, asked, holder, world) {
        Ok(identified) => identified,
        Err(error) => {
            pen.note(Setbacks { refused: world.clock.now(), ..setbacks });
            // Nobody keeps them. That they may live on is no reason for another error.
            let _ = world.oauth.revoke(profile, &revocable, &tokens);
            return Err(error);
        }
    };
    fields.extend(options.fields.clone());
    let session = Session {
        chosen: chosen(&key, &home, chooses, world),
        key,
        holder,
        fields,
        authority: profile.authority(),
        tokens,
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

/// Sees that a sign-in brought the token that this host takes.
///
/// # Errors
/// `Configuration` where it did not: an access token is of no use to a host that takes the other.
pub fn must_hold(
    session: &Session,
    token: TokenKind,
    profile: &Profile,
    world: &World<'_>,
) -> Result<()> {
    if session.fresh(token, world.clock.now(), 0).is_some() {
        return Ok(());
    }
    let home = profile.home();
    let openid = profile.scopes.iter().any(|scope| scope == "openid");
    let (what, hint) = match (token, openid) {
        (TokenKind::Access, _) => ("no access token", "check token of the origin in config.toml"),
        (TokenKind::Id, false) => ("no ID token", "add openid to the profile's scopes"),
        (TokenKind::Id, true) => (
            "no ID token for this client that is still good",
            "check client_id and issuer in config.toml, and this machine's clock",
        ),
    };
    let what = format!("the sign-in to {home} brought {what}");
    Err(Error::new(Kind::Configuration, what).hint(hint))
}

/// Keeps the tokens of a sign-in that another tool made. `since`: when, in seconds of Unix time.
///
/// # Errors
/// `Refused` as for `sign_in`, `Storage` when they cannot be kept.
pub fn take_over(
    profile: &Profile,
    signed_in: SignedIn,
    asked: Option<&str>,
    since: Option<u64>,
    pen: &Pen<'_>,
    world: &World<'_>,
) -> Result<Session> {
    let now = world.clock.now();
    let since = since.unwrap_or(now).min(now);
    let SignedIn { tokens, client_id, account, holder, fields } = signed_in;
    let (key, holder) = identified(profile, client_id, account, asked, holder, world)?;
    let session = Session {
        chosen: chosen(&key, &profile.home(), true, world),
        key,
        holder,
        fields,
        authority: profile.authority(),
        tokens,
        signed_in: since,
        renewed: since,
        exchanged: Vec::new(),
        former: Vec::new(),
    };
    keep(&session, profile, pen)?;
    Ok(session)
}

/// How long a person may take to say yes.
const ANSWERING: Duration = Duration::from_secs(120);

/// The key and the holder of new tokens. An account is kept under the name that was asked for, so
/// that the same request finds it again, else under the provider's; but never in the place of
/// another person's, and under another name than its own only with a person's yes (rule N11).
///
/// # Errors
/// `Refused` when that would happen.
pub(super) fn identified(
    profile: &Profile,
    client_id: String,
    told: Option<String>,
    asked: Option<&str>,
    holder: Holder,
    world: &World<'_>,
) -> Result<(Key, Holder)> {
    let account = asked.map(str::to_owned).or_else(|| told.clone()).unwrap_or_default();
    let key = Key { client_id, ..profile.key(&account) };
    let Some(told) = told else { return Ok((key, holder)) };
    let like_it = Want { place: key.place.clone(), account: Some(&key.account), path: None };
    let held = world.vault.matching(&like_it)?.into_iter().find(|record| *record.key() == key);
    let before = held.map(|held| held.holder().id.clone().unwrap_or_else(|| key.account.clone()));
    let as_itself = || login_command(profile, Some(&told));
    if let Some(other) = before.as_ref().filter(|before| **before != told) {
        let what = format!("{told} signed in where {other} is kept; nothing was changed");
        let hint = format!("sign in as {other}, or keep {told} apart: {}", as_itself());
        return Err(Error::new(Kind::Refused, what).hint(hint));
    }
    if told == key.account {
        return Ok((key, holder));
    }
    let asked = &key.account;
    let what = format!("asked for {asked}, but {told} signed in");
    // Whoever said yes once is not asked again.
    if before.is_none() && !world.ui.agrees(&format!("{what}; it is kept as {asked}"), ANSWERING) {
        let hint = format!("sign in as {asked}, or keep {told} as what it is: {}", as_itself());
        return Err(Error::new(Kind::Refused, format!("{what}; nothing was kept")).hint(hint));
    }
    Ok((key, Holder { id: Some(told), ..holder }))
}

/// The time at which a new record counts as chosen: after every other one where it is to answer
/// from now on, never where it is not. The person hears about the others.
pub(super) fn chosen(key: &Key, home: &str, chooses: bool, world: &World<'_>) -> u64 {
    let now = world.clock.now();
    let all = Want { place: key.place.clone(), account: None, path: None };
    // A store that cannot be read now will say so when the record is saved.
    let records = world.vault.matching(&all).unwrap_or_default();
    let own = records.iter().find(|record| record.key() == key).map(Record::chosen);
    let others = records.iter().filter(|record| record.key() != key);
    let Some(newest) = others.max_by_key(|record| record.chosen()) else { return now };
    let account = |key: &Key| match key.account.as_str() {
        "" => "somebody".to_owned(),
        account => account.to_owned(),
    };
    let (who, before) = (account(key), account(newest.key()));
    let command = |name: &str| format!("valetkey use {home} --account {}", ui::shell_word(name));
    if !chooses {
        if own.is_none() {
            let change = command(&who);
            let text =
                format!("{before} still answers where {who} is not named; {change} changes that");
            world.ui.say(&text);
        }
        return own.unwrap_or_default();
    }
    if who != before {
        let back = command(&before);
        world.ui.say(&format!("{who} answers now; {before} stays, and {back} brings it back"));
    }
    now.max(newest.chosen() + 1)
}
