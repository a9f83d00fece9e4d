//! What tools hand over, ask back and reject. A credential that a tool stored goes to the very
//! origin that it was stored for and nowhere else; what we gave a tool ourselves is no news.

use std::time::Duration;

use super::{PATIENCE, World, workload};
use crate::error::{Error, Kind, Result};
use crate::model::{
    Caller, Credential, Fields, Form, Holder, Key, Offer, Outcome, Place, Presented, Record,
    Request, Resource, Secret, Static,
};
use crate::profile::{self, Persist, Profile, Service};
use crate::vault::Want;

/// Hosts without a profile are never asked about: only what was handed over for this very origin
/// is given back.
pub(super) fn unknown_host(request: &Request, world: &World<'_>) -> Result<Outcome> {
    let resource = &request.resource;
    let credential = match profile::environment_token(resource, world.environment)? {
        Some(credential) => Some(credential),
        None => get(request, world)?,
    };
    if credential.is_none() {
        say_unclear(resource, world);
    }
    Ok(credential.map_or(Outcome::NotMine, |credential| Outcome::Found(Box::new(credential))))
}

/// Says which variable names no host although it looks like this one.
pub(super) fn say_unclear(resource: &Resource, world: &World<'_>) {
    if let Some(name) = profile::unclear_variable(resource, world.environment) {
        world.ui.warn(&format!(
            "{name} could be read as more than one host and is used for none: a dot is one _, a \
             hyphen two, and there are no others"
        ));
    }
}

/// Gives back what was stored for this origin. git compares paths as they are; to everybody else
/// what was stored without one is for every path.
pub(super) fn get(request: &Request, world: &World<'_>) -> Result<Option<Credential>> {
    let resource = &request.resource;
    let mut found = world.vault.peek(&want_static(resource))?;
    // git wants a path to be equal. To the others it says which part of the host they are after.
    if found.is_none() && resource.path.is_some() && request.caller != Caller::Git {
        let whole = Want { path: None, ..want_static(resource) };
        let stored = world.vault.matching(&whole)?.into_iter();
        found = stored.filter(|record| record.key().path.is_none()).max_by_key(Record::chosen);
    }
    let Some(Record::Static(entry)) = found else { return Ok(None) };
    let Static { key, secret, authtype, expires, refresh, .. } = entry;
    let expired = expires.is_some_and(|expires| expires <= world.clock.now());
    // git drops the expired secret and hands the refresh token to the generator that left it.
    if expired && (refresh.is_none() || request.caller != Caller::Git) {
        let what = format!("the credential that was stored for {resource} has expired");
        world.ui.log(|| what);
        return Ok(None);
    }
    Ok(Some(Credential {
        username: key.account,
        secret,
        form: authtype.map_or(Form::Password, Form::Encoded),
        expires,
        proof: None,
        renewable: false,
        refresh,
        fields: Vec::new(),
    }))
}

fn want_static(resource: &Resource) -> Want<'_> {
    Want {
        place: Place::Origin(resource.origin()),
        account: resource.account.as_deref(),
        path: resource.path.as_deref(),
    }
}

/// Takes what a tool hands over. What we gave it ourselves is no news.
pub(super) fn store(request: &Request, world: &World<'_>) -> Result<()> {
    let Some(presented) = &request.presented else { return Ok(()) };
    let now = world.clock.now();
    if presented.expires.is_some_and(|expires| expires <= now) && presented.refresh.is_none() {
        return Ok(());
    }
    if let Some(proof) = &request.proof
        && proof.token == presented.token.fingerprint()
    {
        world.vault.forgive(&proof.place);
        return Ok(());
    }
    if presented.ephemeral {
        return Ok(());
    }
    let resource = &request.resource;
    if let Some(service) = world.profiles.find(resource) {
        let profile = service.profile;
        // A caller without capabilities hands back what it got, and nothing of that is kept.
        if workload::fleeting(profile, world).is_some() {
            return Ok(());
        }
        let all = Want { place: profile.place(), account: None, path: None };
        // Where no such token is written, none comes in by another door.
        if profile.persist == Some(Persist::RefreshToken) && world.vault.peek(&all)?.is_some() {
            return Ok(());
        }
        let from_environment =
            service.environment_token(resource, world.environment).ok().flatten();
        if from_environment.is_some_and(|ours| ours.secret == presented.token) {
            return Ok(());
        }
        for record in world.vault.matching(&all)? {
            let ours = match &record {
                Record::Session(session) => session.knows(&presented.token),
                Record::Static(entry) => entry.secret == presented.token,
            };
            if ours {
                world.vault.forgive(&record.key().place.digest());
                return Ok(());
            }
        }
    }
    if profile::environment_token(resource, world.environment)
        .ok()
        .flatten()
        .is_some_and(|ours| ours.secret == presented.token)
    {
        return Ok(());
    }
    keep(resource, presented, world).map(drop)
}

/// How long a person may take to find a token and paste it.
const TYPING: Duration = Duration::from_secs(600);

/// Keeps what a person pastes.
pub(super) fn paste(request: &Request, world: &World<'_>) -> Result<()> {
    let Request { resource, caller, .. } = request;
    let nobody = || {
        let what = format!("nobody is here who could paste a token for {resource}");
        Error::new(Kind::NotSignedIn, what).hint("give the token on standard input")
    };
    if !world.ui.person(*caller) {
        return Err(nobody());
    }
    let page = match &resource.offer {
        Some(Offer::Page(page)) => format!(", which you find at {page}"),
        _ => String::new(),
    };
    let prompt = format!("paste the token for {resource}{page}, and press Enter");
    let secret = world.ui.ask_secret(&prompt, TYPING, world.clock);
    let Some(secret) = secret.ok_or_else(nobody)? else {
        let what = format!("no token was given for {resource}");
        return Err(Error::new(Kind::Refused, what));
    };
    keep_secret(resource, &secret, None, world).map(drop)
}

/// Keeps a secret that came without anything else.
pub(super) fn keep_secret(
    resource: &Resource,
    secret: &Secret,
    expires: Option<u64>,
    world: &World<'_>,
) -> Result<Key> {
    let presented = Presented { expires, ..Presented::alone(secret.clone()) };
    keep(resource, &presented, world)
}

fn keep(resource: &Resource, presented: &Presented, world: &World<'_>) -> Result<Key> {
    let now = world.clock.now();
    let mut entry = Static {
        key: Key {
            place: Place::Origin(resource.origin()),
            client_id: String::new(),
            account: resource.account.clone().unwrap_or_default(),
            path: resource.path.clone(),
        },
        secret: presented.secret.clone(),
        authtype: presented.authtype.clone(),
        expires: presented.expires,
        refresh: presented.refresh.clone(),
        holder: Holder::default(),
        fields: Fields::new(),
        registry: presented.registry,
        stored: now,
        chosen: now,
    };
    let Key { place, account, path, .. } = &entry.key;
    let want = Want { place: place.clone(), account: Some(account), path: path.as_deref() };
    // What is kept already needs no lock, and no disk that can be written.
    if world.vault.matching(&want)?.iter().any(|held| is_kept(&entry, held)) {
        return Ok(entry.key);
    }
    let (held, pen) = world.vault.pen(&entry.key, PATIENCE, &|| ())?;
    if !held.as_ref().is_some_and(|held| is_kept(&entry, held)) {
        // Another tool's word for the same host does not make it less of a registry.
        entry.registry |= matches!(&held, Some(Record::Static(held)) if held.registry);
        pen.save_static(&entry)?;
    }
    Ok(entry.key)
}

/// Whether a record says all that this entry says.
fn is_kept(entry: &Static, held: &Record) -> bool {
    let Record::Static(held) = held else { return false };
    held.key == entry.key
        && held.secret == entry.secret
        && held.authtype == entry.authtype
        && held.expires == entry.expires
        && held.refresh == entry.refresh
        && (held.registry || !entry.registry)
}

/// Forgets what a host rejected, and nothing else: of a session only the access token, and only
/// if it is still the one that was rejected. `false` where nothing fits.
pub(super) fn erase(request: &Request, world: &World<'_>) -> Result<bool> {
    let resource = &request.resource;
    let now = world.clock.now();
    let presented = request.presented.as_ref();
    let mut erased = false;
    if let Some(service) = world.profiles.find(resource) {
        let profile = service.profile;
        if workload::fleeting(profile, world).is_some() {
            // Only what is surely ours goes to the server that issued it.
            let ours = presented.filter(|presented| is_ours(request, presented, profile));
            return ours.map_or(Ok(false), |ours| workload::give_back(profile, &ours.token, world));
        }
        let vouched = world.profiles.workload_of(profile).is_some();
        let account = service.asked_account(resource);
        let want = Want { place: profile.place(), account, path: None };
        for record in world.vault.matching(&want)? {
            let (held, pen) = world.vault.pen(record.key(), PATIENCE, &|| ())?;
            let mut session = match held {
                Some(Record::Session(session)) => session,
                // It serves other hosts too: only a host that rejects it ends it.
                Some(Record::Static(entry)) => {
                    if presented.is_some_and(|presented| presented.token == entry.secret) {
                        erased |= pen.remove()?;
                    }
                    continue;
                }
                None => continue,
            };
            if session.tokens.access.is_none() {
                continue;
            }
            let other = |presented: &Presented| !session.holds(&presented.token.fingerprint());
            if presented.is_some_and(other) {
                continue;
            }
            let given = session.tokens.access.as_ref().filter(|_| vouched);
            let told = given.map(|access| workload::give_back(profile, access, world));
            match presented {
                // Who names no secret has not been rejected by any host: it is a sign-out.
                None => {
                    session.forget_access();
                    pen.save_session(&session)?;
                }
                Some(_) => {
                    super::renewal::reject(&mut session, pen.setbacks().current(now), &pen, now)?;
                }
            }
            erased = true;
            // It is forgotten here also where it lives on there.
            told.transpose()?;
        }
    }
    for record in world.vault.matching(&want_static(resource))? {
        let (held, pen) = world.vault.pen(record.key(), PATIENCE, &|| ())?;
        let Some(Record::Static(entry)) = held else { continue };
        if presented.is_none_or(|presented| presented.secret == entry.secret) {
            erased |= pen.remove()?;
        }
    }
    Ok(erased)
}

/// Whether this profile issued what the caller presents: by the caller's own word, or because the
/// host that rejected it is the one that issues.
fn is_ours(request: &Request, presented: &Presented, profile: &Profile) -> bool {
    let told = request.proof.as_ref().is_some_and(|proof| {
        proof.place == profile.place().digest() && proof.token == presented.token.fingerprint()
    });
    let issuer = profile.endpoints.token.as_ref().map(|url| url.origin().ascii_serialization());
    told || issuer == Some(request.resource.web_origin())
}

/// Every registry of container images that a `get` would answer without asking anybody, with its
/// user name: what clients of registries handed over, what a profile calls one, and known ones. A
/// client that asks for all there is gets each, and may send it on (`docker build` without BuildKit
/// does, to the daemon).
pub(super) fn list(world: &World<'_>) -> Result<Vec<(String, String)>> {
    let mut listed = Vec::new();
    let mut records = world.vault.all()?;
    // As `get` takes them: what serves a profile first, then what was chosen last.
    records.sort_by_key(|record| std::cmp::Reverse(record.chosen()));
    records.sort_by_key(|record| matches!(record.key().place, Place::Origin(_)));
    for record in &records {
        let account = &record.key().account;
        match &record.key().place {
            Place::Origin(origin) => {
                let handed = matches!(record, Record::Static(entry) if entry.registry);
                if handed || world.profiles.is_registry(origin) {
                    listed.push((origin.clone(), account.clone()));
                }
            }
            Place::Profile(name) => {
                let profile = world.profiles.named(name);
                let ended =
                    matches!(record, Record::Static(entry) if entry.has_ended(world.clock.now()));
                let origins = profile.into_iter().filter(|_| !ended).flat_map(|profile| {
                    let registries = profile.origins.iter().filter(|prefix| prefix.registry);
                    registries.map(move |prefix| Service { profile, prefix })
                });
                listed.extend(
                    origins.map(|service| {
                        (service.prefix.origin.clone(), service.username_for(account))
                    }),
                );
            }
        }
    }
    listed.sort_by(|one, other| one.0.cmp(&other.0));
    listed.dedup_by(|one, other| one.0 == other.0);
    Ok(listed)
}
