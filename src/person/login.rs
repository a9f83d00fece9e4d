//! `valetkey login`: sign in, or see that the session works.

use std::time::Duration;

use super::service_of;
use crate::broker::{World, session};
use crate::cli;
use crate::error::{Error, Kind, Result};
use crate::model::{Record, Resource, Session};
use crate::oauth::{self, Failure, Options};
use crate::profile::{Flow, Profile, Source};
use crate::vault::{Setbacks, Want};

pub(super) fn login(typed: &cli::Login, world: &World<'_>) -> Result<()> {
    let cli::Login { url, account, flow, no_browser, force, timeout, client_id, port, scopes } =
        typed;
    let resource = Resource::parse(url)?;
    let found = match service_of(url, world) {
        // What an earlier sign-in found out may be no longer true.
        Ok((_, service)) if *force && service.profile.source == Source::Remembered => {
            world.oauth.discover(&resource).unwrap_or_default()
        }
        Ok(_) => None,
        Err(nobody) => Some(discovered(&resource, nobody, world)?),
    };
    let service = match found.as_ref().and_then(Profile::service) {
        Some(service) => service,
        None => service_of(url, world)?.1,
    };
    let mut profile: Profile = service.profile.clone();
    if let Some(client_id) = client_id {
        profile.client_id.clone_from(client_id);
    }
    let account = account.as_deref().or_else(|| service.asked_account(&resource));
    let want = Want { place: profile.place(), account, path: None };
    if let Some(open) = &profile.open {
        world
            .ui
            .say(&format!("{} takes anybody, says {open}: no sign-in is needed", profile.home()));
        return Ok(());
    }
    let mut options = Options {
        flow: match flow {
            Flow::Auto => world.profiles.habit(&profile),
            flow => *flow,
        },
        open_browser: !no_browser,
        port: *port,
        timeout: timeout.map(Duration::from_secs),
        scopes: scopes.clone(),
        account: account.map(str::to_owned),
        known: None,
        client_metadata: world.profiles.client_metadata.clone(),
    };
    let waiting = || world.ui.say(&format!("waiting for another sign-in to {}", profile.home()));
    let (held, pen) =
        world.vault.enter(&want, options.timeout.unwrap_or(oauth::TIMEOUT), &waiting)?;
    options.known = held.as_ref().map(|record| record.key().account.clone());
    if let Some(Record::Session(mut session)) = held.filter(|_| !force)
        && session.authority == profile.authority()
    {
        let now = world.clock.now();
        if session.fresh(service.prefix.token, now, profile.refresh_margin).is_some() {
            return confirm("already signed in", &session, &profile, world);
        }
        match session::renew(&profile, world, &pen, &mut session) {
            Ok(()) => return confirm("already signed in", &session, &profile, world),
            Err(Failure::Transient(error) | Failure::Other(error)) => return Err(error),
            Err(Failure::GrantDead | Failure::Denied | Failure::Expired) => {}
        }
    }
    if !world.ui.person(crate::model::Caller::Person) {
        let what = format!("nobody is here who could sign in to {}", profile.home());
        return Err(Error::new(Kind::NotSignedIn, what)
            .hint("run it in a terminal, or set VALETKEY_INTERACTIVE=always"));
    }
    let session = session::sign_in(&profile, &options, &pen, pen.setbacks(), world)?;
    // Somebody was here and said yes: whatever happened before is over.
    pen.note(Setbacks::default());
    confirm("signed in", &session, &profile, world)
}

/// A host that nobody configured may say itself who issues its tokens.
fn discovered(resource: &Resource, nobody: Error, world: &World<'_>) -> Result<Profile> {
    match world.oauth.discover(resource) {
        Ok(Some(profile)) => Ok(profile),
        Ok(None) => Err(nobody),
        Err(Failure::Other(error)) => Err(error),
        Err(Failure::Transient(error)) => Err(nobody.because(error)),
        Err(Failure::GrantDead | Failure::Denied | Failure::Expired) => Err(nobody),
    }
}

fn confirm(how: &str, session: &Session, profile: &Profile, world: &World<'_>) -> Result<()> {
    let who = match session.key.account.as_str() {
        "" => String::new(),
        account => format!(" as {account}"),
    };
    let store = world.vault.kept_in(&session.key)?;
    world.ui.say(&format!("{how} to {}{who}; kept in {store}", profile.home()));
    Ok(())
}
