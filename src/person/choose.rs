//! `valetkey use`: which account answers where none is named, and what is sent beside its token.
//! The choice is kept with the account itself, so that no request has to look for it.

use std::time::Duration;

use super::service_of;
use crate::broker::World;
use crate::cli;
use crate::error::{Error, Kind, Result};
use crate::model::{Place, Record, Resource};
use crate::ui;
use crate::vault::Want;

/// How long a renewal of that account is waited for.
const PATIENCE: Duration = Duration::from_secs(35);

pub(super) fn choose(typed: &cli::Use, world: &World<'_>) -> Result<()> {
    let cli::Use { url, account, token, settings } = typed;
    let resource = Resource::parse(url)?;
    let service = world.profiles.find(&resource);
    let place = match service {
        Some(service) => service.profile.place(),
        None => Place::Origin(resource.origin()),
    };
    for (name, _) in settings {
        // A field must be one of the profile's, so there must be one.
        let profile = service_of(url, world)?.1.profile;
        if profile.field(name)?.value.is_some() {
            let what = format!("{name} stands in config.toml or the environment, which come first");
            world.ui.warn(&what);
        }
    }
    let asked = service.and_then(|service| service.asked_account(&resource));
    let want = Want { place, account: account.as_deref().or(asked), path: None };
    let found = world.vault.matching(&want)?.into_iter();
    // A session and a token can have the same name; without a name it is whatever answers now.
    let prefers = |record: &Record| account.is_some() && !is_static(record);
    let found = found
        .filter(|record| !token || is_static(record))
        .max_by_key(|record| (prefers(record), record.chosen()));
    let Some(record) = found else {
        let who = want.account.unwrap_or("nobody");
        let what = format!("{who} is not signed in to {resource}");
        let account = want.account.map(|name| format!(" --account {}", ui::shell_word(name)));
        let command = format!("valetkey login {url}{}", account.unwrap_or_default());
        return Err(Error::new(Kind::NotSignedIn, what).hint(command));
    };
    if let (Some(name), Some(asked)) = (account, asked)
        && name != asked
    {
        world
            .ui
            .warn(&format!("{resource} stays {asked}'s: the URL or the profile's paths say so"));
    }
    let (held, pen) = world.vault.pen(record.key(), PATIENCE, &|| ())?;
    let Some(mut record) = held else {
        let what = format!("what was kept for {resource} has just been removed");
        return Err(Error::new(Kind::Temporary, what));
    };
    if account.is_some() {
        prefer(&mut record, world)?;
    }
    record.fields_mut().extend(settings.iter().cloned());
    pen.save(&record)?;
    let who = match record.whose() {
        nobody if nobody.is_empty() => "the only account".to_owned(),
        account => account,
    };
    let set = settings.iter().map(|(name, value)| format!(" with {name} {value}"));
    world.ui.say(&format!("{who} answers for {resource}{}", set.collect::<String>()));
    Ok(())
}

/// From now on this account answers where none is named, once the record is saved.
pub(super) fn prefer(record: &mut Record, world: &World<'_>) -> Result<()> {
    let want = Want { place: record.key().place.clone(), account: None, path: None };
    let all = world.vault.matching(&want)?;
    let others = all.iter().filter(|other| other.key() != record.key());
    let newest = others.map(Record::chosen).max().unwrap_or_default();
    record.choose(world.clock.now().max(newest + 1));
    Ok(())
}

fn is_static(record: &Record) -> bool {
    matches!(record, Record::Static(_))
}
