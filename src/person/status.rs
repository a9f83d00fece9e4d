//! `status`, `whoami` and `list`: what is there, never the secrets themselves.

use std::fmt::Write;

use serde_json::json;

use super::{PROFILE_HINT, service_of};
use crate::broker::{self, World, workload};
use crate::dialect::Wire;
use crate::error::{Error, Kind, Result};
use crate::model::{self, Holder, Place, Record, Resource, Secret, TokenKind, one_line, sanitize};
use crate::profile;
use crate::ui::shell_word;
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
        Some(service) => service.environment_token(&resource, world.environment)?,
        None => profile::environment_token(&resource, world.environment)?,
    };
    let vouched = profile.is_some_and(|profile| workload::fleeting(profile, world).is_some());
    let asked = service.and_then(|service| service.asked_account(&resource));
    let mut records = match (&variable, service) {
        (None, Some(service)) if !vouched => {
            let want = Want { place: service.profile.place(), account: asked, path: None };
            world.vault.matching(&want)?
        }
        _ => Vec::new(),
    };
    if records.is_empty() && variable.is_none() && !vouched {
        records = world.vault.matching(&Want {
            place: Place::Origin(resource.origin()),
            account: resource.account.as_deref(),
            path: resource.path.as_deref(),
        })?;
    }
    let several = records.len() > 1;
    let record = records.into_iter().max_by_key(Record::chosen);
    let named = service.and_then(|service| service.named_account(&resource));
    let why = match (&variable, &record) {
        (Some(_), _) => Some("environment"),
        (None, Some(_)) if named.is_some() => Some("the URL names it"),
        (None, Some(_)) if asked.is_some() => Some("its path belongs to it"),
        (None, Some(_)) if several => Some("it was chosen last"),
        (None, None) if vouched => Some("workload"),
        _ => None,
    };
    let source = match (&variable, &record) {
        (Some(_), _) => "a variable of the environment".to_owned(),
        (None, Some(record)) => match why {
            Some(why) => format!("{}, because {why}", described(record, world)),
            None => described(record, world),
        },
        (None, None) if vouched => "the identity of the job, by an exchange each time".to_owned(),
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
            "because": why,
            "answer": record,
        });
        wire.send(format!("{}\n", *model::json(&document)).as_bytes())?;
    } else {
        let profile = name.map_or("no profile".to_owned(), |name| format!("profile {name}"));
        let line = format!("{resource}: {profile}; answered by {source}");
        wire.send(format!("{}\n", one_line(&line)).as_bytes())?;
    }
    if variable.is_some() || record.is_some() || vouched {
        return Ok(());
    }
    let what = format!("not signed in to {resource}");
    let hint = match service {
        Some(service) => broker::login_command(&service.turned(), asked),
        None => PROFILE_HINT.to_owned(),
    };
    Err(Error::new(Kind::NotSignedIn, what).hint(hint))
}

/// `whoami`: offline, from what is stored.
pub(super) fn whoami(
    url: Option<&str>,
    account: Option<&str>,
    world: &World<'_>,
    wire: &Wire<'_>,
) -> Result<()> {
    let records = match url {
        None => world.vault.all()?,
        Some(url) => {
            let (resource, service) = service_of(url, world)?;
            let account = account.or_else(|| service.asked_account(&resource));
            let want = Want { place: service.profile.place(), account, path: None };
            world.vault.peek(&want)?.into_iter().collect()
        }
    };
    let mut lines = String::new();
    for record in &records {
        let key = record.key();
        // What tools handed over for one origin says nothing about a person.
        let Place::Profile(_) = &key.place else { continue };
        let account = match key.account.as_str() {
            "" => "(signed in)",
            account => account,
        };
        let Holder { id, name, email } = record.holder();
        let holder = [id.as_deref(), name.as_deref(), email.as_deref()];
        let holder: Vec<_> =
            holder.into_iter().flatten().filter(|known| *known != account).collect();
        let holder = match holder.join(", ").as_str() {
            "" => String::new(),
            holder => format!(" ({holder})"),
        };
        match url {
            Some(_) => writeln!(lines, "{}", one_line(&format!("{account}{holder}"))),
            None => {
                let line = format!("{account}{holder} at {}", place_name(&key.place));
                writeln!(lines, "{}", one_line(&line))
            }
        }
        .map_err(|error| Error::new(Kind::Failed, "cannot be shown").because(error))?;
        if let Some(end) = near_end(record, world) {
            let place = place_name(&key.place);
            world.ui.warn(&format!("the credentials of {account} at {place} {end}"));
        }
    }
    if lines.is_empty() {
        let hint = match (url, account) {
            (Some(url), None) => format!("valetkey login {url}"),
            (Some(url), Some(account)) => {
                format!("valetkey login {url} --account {}", shell_word(account))
            }
            (None, _) => "valetkey login HOST".to_owned(),
        };
        return Err(Error::new(Kind::NotSignedIn, "not signed in").hint(hint));
    }
    wire.send(sanitize(&lines).as_bytes())
}

/// Seconds before its end in which a session that nothing renews is worth a warning.
const SOON: u64 = 30;

/// What to say of credentials that nothing renews and that have ended, or soon will.
fn near_end(record: &Record, world: &World<'_>) -> Option<String> {
    let (expires, notice) = match record {
        Record::Session(session) if session.tokens.refresh.is_some() => return None,
        Record::Session(session) => (session.tokens.expires?, SOON),
        Record::Static(entry) => (entry.expires?, broker::pasted::NOTICE),
    };
    match expires.checked_sub(world.clock.now()) {
        None | Some(0) => Some("have expired".to_owned()),
        Some(left) if left <= notice => Some(format!("expire in {}", span(left))),
        Some(_) => None,
    }
}

/// `list`: everything that is stored.
pub(super) fn list(json: bool, world: &World<'_>, wire: &Wire<'_>) -> Result<()> {
    let records = world.vault.all()?;
    if json {
        let all: Vec<_> = records.iter().map(|record| as_json(record, world)).collect();
        return wire.send(format!("{}\n", *model::json(&all)).as_bytes());
    }
    if records.is_empty() {
        let what = match world.vault.unread() {
            None => "nothing is stored".to_owned(),
            Some(why) => format!("{why}; nothing is stored in files"),
        };
        world.ui.say(&format!("{what}; valetkey login HOST signs in"));
        return Ok(());
    }
    let line = |record: &Record| {
        let line = format!("{}  {}", place_name(&record.key().place), described(record, world));
        format!("{}\n", one_line(&line))
    };
    let lines: String = records.iter().map(line).collect();
    wire.send(sanitize(&lines).as_bytes())
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
    let account = match (record.whose(), record) {
        (nobody, Record::Session(_)) if nobody.is_empty() => "a session".to_owned(),
        (nobody, Record::Static(_)) if nobody.is_empty() => "somebody".to_owned(),
        (account, _) => account,
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
            let what = match &entry.key.place {
                Place::Profile(_) => "a pasted token",
                Place::Origin(_) => "a stored credential",
            };
            let state = match entry.expires {
                Some(expires) if expires <= now => ", expired".to_owned(),
                Some(expires) => format!(", good for {}", span(expires - now)),
                None => String::new(),
            };
            format!("{account}{path}, {what} {}{state}", shown(&entry.secret))
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
            "provider_account": session.holder.id,
            "name": session.holder.name,
            "email": session.holder.email,
            "fields": session.fields,
            "issuer": session.authority,
            "expires_at": session.tokens.expires,
            "fresh": session.fresh(TokenKind::Access, world.clock.now(), 0).is_some(),
            "renewable": session.tokens.refresh.is_some(),
            "signed_in_at": session.signed_in,
        }),
        Record::Static(entry) => json!({
            "kind": "static",
            "profile": profile,
            "origin": origin,
            "path": key.path,
            "account": key.account,
            "provider_account": entry.holder.id,
            "name": entry.holder.name,
            "email": entry.holder.email,
            "fields": entry.fields,
            "prefix": entry.secret.known_prefix(),
            "sha256": entry.secret.fingerprint(),
            "expires_at": entry.expires,
            "stored_at": entry.stored,
        }),
    }
}
