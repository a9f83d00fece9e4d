//! `valetkey logout`: tell the server, then forget. It is no error to be signed out already.

use std::time::Duration;

use super::service_of;
use crate::broker::World;
use crate::cli;
use crate::error::{Error, Kind, Result};
use crate::model::{Place, Record, Resource, Session};
use crate::oauth::Failure;
use crate::vault::Want;

/// How long a running renewal is waited for: it would bring the session back.
const PATIENCE: Duration = Duration::from_secs(35);

pub(super) fn logout(typed: &cli::Logout, world: &World<'_>) -> Result<()> {
    let cli::Logout { url, account, all, local } = typed;
    let records = match url {
        Some(url) if !all => records_of(url, account.as_deref(), world)?,
        _ => {
            world.vault.remove_unreadable()?;
            world.vault.all()?
        }
    };
    if records.is_empty() {
        world.ui.say(&nothing_there(url.as_deref(), account.as_deref(), world)?);
        return Ok(());
    }
    let mut alive = None;
    for record in records {
        if let Err(error) = forget(&record, *local, world)? {
            alive = Some(error);
        }
        forget_provider(&record.key().place, world)?;
    }
    match alive {
        None => Ok(()),
        Some(error) => Err(error.hint("the tokens are forgotten here, and may live on there")),
    }
}

/// Why there is nothing to forget: where an account was named, who is there instead.
fn nothing_there(url: Option<&str>, account: Option<&str>, world: &World<'_>) -> Result<String> {
    let others = match (url, account) {
        (Some(url), Some(_)) => records_of(url, None, world)?,
        _ => Vec::new(),
    };
    let names: Vec<String> =
        others.iter().map(Record::whose).filter(|who| !who.is_empty()).collect();
    Ok(match (account, names.as_slice()) {
        (Some(account), [_, ..]) => {
            let names = names.join(" and ");
            format!("{account} is not signed in there: nothing is forgotten; {names} can be")
        }
        _ => match world.vault.unread() {
            None => "nothing is stored there: you are signed out".to_owned(),
            Some(why) => format!("{why}; nothing is stored in files, where you are signed out"),
        },
    })
}

fn records_of(url: &str, account: Option<&str>, world: &World<'_>) -> Result<Vec<Record>> {
    let resource = Resource::parse(url)?;
    // Who leaves a place leaves nothing there, also what nobody can read.
    let place = |place: Place| match account {
        None => world.vault.clean(&place).map(|()| place),
        Some(_) => Ok(place),
    };
    let origin = place(Place::Origin(resource.origin()))?;
    let mut records = world.vault.matching(&Want { place: origin, account, path: None })?;
    match service_of(url, world) {
        Ok((_, service)) => {
            let place = place(service.profile.place())?;
            let want = Want { place, account, path: None };
            records.extend(world.vault.matching(&want)?);
        }
        Err(error) if records.is_empty() => return Err(error),
        Err(_) => {}
    }
    Ok(records)
}

/// What a sign-in found out is over with its last session.
fn forget_provider(place: &Place, world: &World<'_>) -> Result<()> {
    let Place::Profile(name) = place else { return Ok(()) };
    let Some(profile) = world.profiles.named(name) else { return Ok(()) };
    let all = Want { place: place.clone(), account: None, path: None };
    match world.vault.peek(&all)? {
        Some(_) => Ok(()),
        None => profile.forget(world.environment),
    }
}

/// Forgets one record in any case. The inner error: the server could not be told.
fn forget(
    record: &Record,
    local: bool,
    world: &World<'_>,
) -> Result<std::result::Result<(), Error>> {
    let key = record.key();
    // Whoever renewed it in the meantime left tokens that nobody would revoke.
    let (held, pen) = world.vault.pen(key, PATIENCE, &|| ())?;
    let Some(record) = held else { return Ok(Ok(())) };
    let revoked = match &record {
        Record::Session(session) if !local => revoke(session, world),
        _ => Ok(false),
    };
    pen.remove()?;
    world.vault.forgive(&key.place.digest());
    let place = match &key.place {
        Place::Profile(name) => name,
        Place::Origin(origin) => origin,
    };
    let who = match record.whose() {
        nobody if nobody.is_empty() => place.clone(),
        account => format!("{account} at {place}"),
    };
    match &revoked {
        Ok(true) => world.ui.say(&format!("signed out {who}; the tokens are revoked")),
        // Only its maker can end it.
        Ok(false) if matches!(&record, Record::Static(_)) => {
            let page = match &key.place {
                Place::Profile(name) => world.profiles.named(name),
                Place::Origin(_) => None,
            }
            .and_then(|profile| profile.token_page.as_ref());
            let page = page.map_or_else(String::new, |page| format!(" at {page}"));
            world.ui.say(&format!("forgot the token of {who}; it lives until it is revoked{page}"));
        }
        Ok(false) => world.ui.say(&format!(
            "signed out {who}; tokens that the server issued live until they expire"
        )),
        Err(_) => world.ui.say(&format!("signed out {who} here only")),
    }
    Ok(revoked.map(drop))
}

/// `false` where there is nobody to tell.
fn revoke(session: &Session, world: &World<'_>) -> Result<bool> {
    let Place::Profile(name) = &session.key.place else { return Ok(false) };
    let profile = world.profiles.named(name);
    // A token goes to its own issuer or nowhere, and not there where the profile says so.
    let profile = profile.filter(|profile| profile.authority() == session.authority);
    let Some(profile) = profile.filter(|profile| profile.revoke) else { return Ok(false) };
    let answer = world.oauth.revoke(profile, &session.key.client_id, &session.tokens);
    answer.map_err(|failure| match failure {
        Failure::Transient(error) | Failure::Other(error) | Failure::Refused(error) => error,
        Failure::GrantDead | Failure::Denied | Failure::Expired => {
            Error::new(Kind::Rejected, format!("{} refused to revoke", profile.home()))
        }
    })
}
