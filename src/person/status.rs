//! `status`, `whoami` and `list`: what is there, never the secrets themselves.

use std::fmt::Write;

use serde_json::json;

use super::{PROFILE_HINT, service_of};
use crate::broker::{self, World};
use crate::dialect::Wire;
use crate::error::{Error, Kind, Result};
use crate::model::{Holder, Place, Record, Resource, Secret, TokenKind};
use crate::profile;
use crate::ui::sanitize;
use crate::vault::Want;

/// `status`: a line for each session; with a URL, which one answers and why.
pub(super) fn status(
    url: Option<&str>,
    json: bool,
    world: &World<'_>,
    wire: &Wire<'_>,
) -> Result<()> {
    match url {
        None => list(json, world, wire),
        Some(url) => explain(url, json, world, wire),
    }
}

fn explain(url: &str, json: bool, world: &World<'_>, wire: &Wire<'_>) -> Result<()> {
    let resource = Resource::parse(url)?;
    let service = world.profiles.find(&resource);
    let profile = service.map(|service| service.profile);
    let variable = match service {
        Some(service) => service.environment_token(&resource, world.environment),
        None => profile::environment_token(&resource, world.environment),
    };
    let record = match (&variable, service) {
        (Some(_), _) => None,
        (None, Some(service)) => {
            let account = service.asked_account(&resource);
            world.vault.peek(&Want { place: service.profile.place(), account, path: None })?
        }
        (None, None) => None,
    };
    let record = match record {
        None if variable.is_none() => world.vault.peek(&Want {
            place: Place::Origin(resource.origin()),
            account: resource.account.as_deref(),
            path: resource.path.as_deref(),
        })?,
        record => record,
    };
    let source = match (&variable, &record) {
        (Some(_), _) => "a variable of the environment".to_owned(),
        (None, Some(record)) => described(record, world),
        (None, None) => "nothing".to_owned(),
    };
    let name = profile.map(|profile| profile.name.as_str());
    if json {
        let record = record.as_ref().map(|record| as_json(record, world));
        let from_environment = variable.is_some();
        let document = json!({
            "resource": resource.to_string(),
            "profile": name,
            "environment": from_environment,
            "answer": record,
        });
        wire.send(format!("{document}\n").as_bytes());
    } else {
        let profile = name.map_or("no profile".to_owned(), |name| format!("profile {name}"));
        wire.send(sanitize(&format!("{resource}: {profile}; answered by {source}\n")).as_bytes());
    }
    if variable.is_some() || record.is_some() {
        return Ok(());
    }
    let what = format!("not signed in to {resource}");
    let hint = profile.map_or(PROFILE_HINT.to_owned(), broker::login_command);
    Err(Error::new(Kind::NotSignedIn, what).hint(hint))
}

/// `whoami`: offline, from what is stored.
pub(super) fn whoami(url: Option<&str>, world: &World<'_>, wire: &Wire<'_>) -> Result<()> {
    let records = match url {
        None => world.vault.all()?,
        Some(url) => {
            let (resource, service) = service_of(url, world)?;
            let account = service.asked_account(&resource);
            let want = Want { place: service.profile.place(), account, path: None };
            world.vault.peek(&want)?.into_iter().collect()
        }
    };
    let mut lines = String::new();
    for record in &records {
        let Record::Session(session) = record else { continue };
        let account = match session.key.account.as_str() {
            "" => "(signed in)",
            account => account,
        };
        let Holder { name, email } = &session.holder;
        let holder = [name.as_deref(), email.as_deref()];
        let holder: Vec<_> =
            holder.into_iter().flatten().filter(|known| *known != account).collect();
        let holder = match holder.join(", ").as_str() {
            "" => String::new(),
            holder => format!(" ({holder})"),
        };
        match url {
            Some(_) => writeln!(lines, "{account}{holder}"),
            None => writeln!(lines, "{account}{holder} at {}", place_name(&session.key.place)),
        }
        .map_err(|error| Error::new(Kind::Failed, "cannot be shown").because(error))?;
    }
    if lines.is_empty() {
        let hint = match url {
            Some(url) => format!("valetkey login {url}"),
            None => "valetkey login HOST".to_owned(),
        };
        return Err(Error::new(Kind::NotSignedIn, "not signed in").hint(hint));
    }
    wire.send(sanitize(&lines).as_bytes());
    Ok(())
}

/// `list`: everything that is stored.
pub(super) fn list(json: bool, world: &World<'_>, wire: &Wire<'_>) -> Result<()> {
    let records = world.vault.all()?;
    if json {
        let all: Vec<_> = records.iter().map(|record| as_json(record, world)).collect();
        wire.send(format!("{}\n", serde_json::Value::from(all)).as_bytes());
        return Ok(());
    }
    if records.is_empty() {
        world.ui.say("nothing is stored; valetkey login HOST signs in");
        return Ok(());
    }
    let line = |record: &Record| {
        format!("{}  {}\n", place_name(&record.key().place), described(record, world))
    };
    let lines: String = records.iter().map(line).collect();
    wire.send(sanitize(&lines).as_bytes());
    Ok(())
}

fn place_name(place: &Place) -> String {
    match place {
        Place::Profile(name) => name.clone(),
        Place::Origin(origin) => origin.clone(),
    }
}

/// One line about a record, for a person.
fn described(record: &Record, world: &World<'_>) -> String {
    let now = world.clock.now();
    let account = match record.key().account.as_str() {
        "" => "a session".to_owned(),
        account => account.to_owned(),
    };
    match record {
        Record::Session(session) => {
            let renewable = session.tokens.refresh.is_some();
            let state = match (
                session.fresh(TokenKind::Access, now, 0).is_some(),
                session.tokens.expires,
            ) {
                (true, None) => "signed in".to_owned(),
                (true, Some(expires)) => format!("signed in for {}", span(expires - now)),
                (false, _) if renewable => "renewed at the next use".to_owned(),
                (false, _) => "expired".to_owned(),
            };
            format!("{account}, {state}")
        }
        Record::Static(entry) => {
            let path =
                entry.key.path.as_deref().map_or(String::new(), |path| format!(" for {path}"));
            let state = match entry.expires {
                Some(expires) if expires <= now => ", expired".to_owned(),
                Some(expires) => format!(", good for {}", span(expires - now)),
                None => String::new(),
            };
            format!("{account}{path}, a stored credential {}{state}", shown(&entry.secret))
        }
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7_200 => format!("{} minutes", (seconds + 30) / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A secret by what may be seen of it: the prefix that says whose it is, and its fingerprint.
fn shown(secret: &Secret) -> String {
    let prefix = secret.known_prefix().map_or(String::new(), |prefix| format!("{prefix}..., "));
    format!("({prefix}SHA-256 {})", &secret.fingerprint()[..12])
}

fn as_json(record: &Record, world: &World<'_>) -> serde_json::Value {
    let key = record.key();
    let (profile, origin) = match &key.place {
        Place::Profile(name) => (Some(name), None),
        Place::Origin(origin) => (None, Some(origin)),
    };
    match record {
        Record::Session(session) => json!({
            "kind": "session",
            "profile": profile,
            "account": key.account,
            "name": session.holder.name,
            "email": session.holder.email,
            "issuer": session.authority,
            "expires_at": session.tokens.expires,
            "fresh": session.fresh(TokenKind::Access, world.clock.now(), 0).is_some(),
            "renewable": session.tokens.refresh.is_some(),
            "signed_in_at": session.signed_in,
        }),
        Record::Static(entry) => json!({
            "kind": "static",
            "origin": origin,
            "path": key.path,
            "account": key.account,
            "prefix": entry.secret.known_prefix(),
            "sha256": entry.secret.fingerprint(),
            "expires_at": entry.expires,
            "stored_at": entry.stored,
        }),
    }
}
