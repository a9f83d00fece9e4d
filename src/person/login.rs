//! `valetkey login`: sign in, or see that the session works.

use std::cell::Cell;
use std::io::Read;
use std::time::Duration;

use zeroize::Zeroizing;

use super::choose::prefer;
use super::{PROFILE_HINT, service_of};
use crate::broker::pasted::{self, Given};
use crate::broker::{PRECAUTION, World, login_command, session, workload};
use crate::cli;
use crate::error::{Error, Kind, Result};
use crate::model::{
    Caller, Fields, Record, Resource, Secret, Session, TokenKind, foreign_text, timestamp,
};
use crate::oauth::{self, Failure, Options, Standing};
use crate::profile::{Flow, Persist, Profile, Source};
use crate::vault::{Pen, Setbacks, Want};

/// How long a sign-in of somebody else is waited for where a token is at hand.
const PATIENCE: Duration = Duration::from_secs(35);

pub(super) fn login(
    typed: &cli::Login,
    world: &World<'_>,
    piped: Option<&mut dyn Read>,
) -> Result<()> {
    let resource = of_the_web(&typed.url)?;
    if let Some(token) = given(typed, piped, world)? {
        return with_token(typed, &resource, token, world);
    }
    let found = unconfigured(typed, &resource, world)?;
    let service = match found.as_ref().and_then(Profile::service) {
        Some(service) => service,
        None => service_of(&typed.url, world)?.1,
    };
    let mut profile = service.turned();
    if let Some(client_id) = &typed.client_id {
        profile.client_id.clone_from(client_id);
    }
    if let Some(open) = &profile.open {
        let home = profile.home();
        world.ui.say(&format!("{home} takes anybody, says {open}: no sign-in is needed"));
        return Ok(());
    }
    let account = typed.account.as_deref().or_else(|| service.asked_account(&resource));
    let want = Want { place: profile.place(), account, path: None };
    let mut options = options(typed, &profile, account, service.prefix.token, world)?;
    let flow = Some(options.flow).filter(|flow| *flow != Flow::Auto).or(profile.flow);
    let keeps = profile.persist == Some(Persist::All);
    if flow == Some(Flow::Workload) && !keeps {
        return vouched(profile, &options, None, world);
    }
    let waited = Cell::new(false);
    let waiting = || {
        waited.set(true);
        world.ui.say(&format!("waiting for another sign-in to {}", profile.home()));
    };
    let (held, pen) =
        world.vault.enter(&want, options.timeout.unwrap_or(oauth::TIMEOUT), &waiting)?;
    options.known = held.as_ref().map(|record| record.key().account.clone());
    if let Some(Record::Session(mut session)) = held.filter(|_| !typed.force)
        && session.authority == profile.authority()
        && works(&mut session, service.prefix.token, &profile, waited.get(), &pen, world)?
    {
        let mut record = Record::Session(session);
        if typed.account.is_some() {
            prefer(&mut record, world)?;
            pen.save(&record)?;
        }
        return confirm("already signed in", &record, &profile, world);
    }
    if flow == Some(Flow::Workload) {
        return vouched(profile, &options, Some(&pen), world);
    }
    // A device code is typed elsewhere, so that nothing has to be typed here.
    let unseen = flow == Some(Flow::Device) && !world.ui.is_told_that_nobody_is_here();
    if !unseen && !world.ui.person(Caller::Person) {
        let what = format!("nobody is here who could sign in to {}", profile.home());
        let again = login_command(&profile, account);
        return Err(Error::new(Kind::NotSignedIn, what).hint(world.ui.how_to_be_asked(&again)));
    }
    if profile.wants_token(options.flow) {
        let entry = pasted::ask(&profile, &options, true, &pen, world)?;
        return confirm("signed in with a token", &Record::Static(entry), &profile, world);
    }
    let session = session::sign_in(&profile, &options, true, &pen, pen.setbacks(), world)?;
    // Somebody was here and said yes: whatever happened before is over.
    pen.note(Setbacks::default());
    session::must_hold(&session, service.prefix.token, &profile, world)?;
    confirm("signed in", &Record::Session(session), &profile, world)
}

/// What was typed, if a browser and a token could go there.
fn of_the_web(url: &str) -> Result<Resource> {
    let resource = Resource::parse(url)?;
    if ["http:", "https:"].iter().any(|web| resource.web_origin().starts_with(web)) {
        return Ok(resource);
    }
    let what = format!("{resource} is no address of the web, and takes no token");
    let host = resource.host.rsplit_once(':').map_or(resource.host.as_str(), |(host, _)| host);
    Err(Error::new(Kind::Usage, what).hint(format!("valetkey login https://{host}")))
}

/// Who issues the tokens of a host that nobody configured. `None`: the host has a profile.
fn unconfigured(
    typed: &cli::Login,
    resource: &Resource,
    world: &World<'_>,
) -> Result<Option<Profile>> {
    match service_of(&typed.url, world) {
        Ok((_, service)) => {
            let found_out = service.profile.source == Source::Remembered;
            // What an earlier sign-in found out may be no longer true.
            let again = typed.force && found_out && service.profile.provider.is_none();
            let found = || world.oauth.discover(resource).unwrap_or_default();
            Ok(again.then(found).flatten())
        }
        Err(nobody) => match world.profiles.known(resource) {
            Some(profile) => Ok(Some(profile)),
            None => discovered(resource, nobody, world).map(Some),
        },
    }
}

fn options(
    typed: &cli::Login,
    profile: &Profile,
    account: Option<&str>,
    token: TokenKind,
    world: &World<'_>,
) -> Result<Options> {
    Ok(Options {
        flow: match typed.flow {
            Flow::Auto => world.profiles.habit(profile),
            flow => flow,
        },
        open_browser: !typed.no_browser,
        port: typed.port,
        timeout: typed.timeout.map(Duration::from_secs),
        scopes: typed.scopes.clone(),
        account: account.map(str::to_owned),
        known: None,
        fields: fields(typed, profile)?,
        client_metadata: world.profiles.client_metadata.clone(),
        identity: token == TokenKind::Id,
    })
}

/// Whether a session answers, if need be after a renewal. `false`: only a sign-in helps. The clock
/// alone is not believed: a server can end a token before its time. `waited`: another process has
/// just signed in or renewed.
fn works(
    session: &mut Session,
    token: TokenKind,
    profile: &Profile,
    waited: bool,
    pen: &Pen<'_>,
    world: &World<'_>,
) -> Result<bool> {
    let now = world.clock.now();
    let until = Some(world.clock.elapsed() + PRECAUTION);
    if session.fresh(token, now, profile.refresh_margin).is_some() {
        let access = session.tokens.access.as_ref();
        let standing = access.map_or(Standing::Unasked, |access| {
            world.oauth.until(until, || world.oauth.standing(profile, access, &session.fields))
        });
        match standing {
            Standing::Good => return Ok(true),
            Standing::Dead => {
                session.forget_access();
                session::keep(session, profile, pen)?;
            }
            // Nothing but a renewal can tell.
            Standing::Unsaid | Standing::Unasked if waited || session.tokens.refresh.is_none() => {
                return Ok(true);
            }
            Standing::Unsaid | Standing::Unasked => {}
        }
    }
    let lives = session.fresh(token, now, 0).is_some();
    let renewed =
        world.oauth.until(until.filter(|_| lives), || session::renew(profile, world, pen, session));
    match renewed {
        Ok(()) => Ok(session.fresh(token, now, 0).is_some()),
        Err(Failure::Transient(_)) if lives => Ok(true),
        Err(Failure::Transient(error)) if error.is_of_the_way() => Err(error),
        Err(Failure::Other(error)) if error.kind == Kind::Storage => Err(error),
        // Whatever the server says of the old token, a sign-in does without it.
        Err(_) => Ok(false),
    }
}

/// The token that the person hands over, if that is how they sign in.
fn given(
    typed: &cli::Login,
    piped: Option<&mut dyn Read>,
    world: &World<'_>,
) -> Result<Option<Secret>> {
    if let Some(token) = &typed.with_token {
        world.ui.warn(
            "a token on the command line is seen by other programs and kept in your shell's \
             history; --token-stdin is neither",
        );
        return Ok(Some(token.clone()));
    }
    match piped {
        _ if !typed.token_stdin => Ok(None),
        Some(input) => {
            // One byte more than a token with its line ends has, to see that it is none.
            let mut bytes = Zeroizing::new(Vec::with_capacity(Secret::LONGEST + 16));
            let read = input.take(Secret::LONGEST as u64 + 16).read_to_end(&mut bytes);
            let text = read.ok().map(|_| foreign_text(&bytes));
            let text = text.filter(|text| !text.contains(char::REPLACEMENT_CHARACTER));
            let text = text.ok_or_else(|| Error::new(Kind::Usage, "standard input is no text"))?;
            Ok(Some(Secret::given(&text)))
        }
        None => {
            let what = "standard input is a terminal, which would show the token";
            let hint = format!(
                "leave --token-stdin out and add --flow token, or pipe the token: \
                 valetkey login {} --token-stdin < FILE",
                typed.url
            );
            Err(Error::new(Kind::Usage, what).hint(hint))
        }
    }
}

/// Keeps a token that somebody made by hand: for the whole profile, or for one origin where no
/// profile serves it.
fn with_token(
    typed: &cli::Login,
    resource: &Resource,
    token: Secret,
    world: &World<'_>,
) -> Result<()> {
    let service = world.profiles.find(resource);
    let asked = service.and_then(|service| service.asked_account(resource));
    let account = typed.account.as_deref().or(asked);
    let expires = typed.expires.map(|end| match end {
        cli::End::After(seconds) => timestamp::readable(world.clock.now().saturating_add(seconds)),
        cli::End::At(time) => time,
    });
    let Some(service) = service else {
        let fields = typed.settings.iter().cloned().collect();
        let given = Given { token, account, expires, fields, chooses: true };
        let key = pasted::keep_for_origin(resource, given, world)?;
        let store = world.vault.kept_in(&key)?;
        world
            .ui
            .say(&format!("kept a token for {}, unseen by it; kept in {store}", resource.origin()));
        return Ok(());
    };
    let profile = service.profile;
    let want = Want { place: profile.place(), account, path: None };
    let (_, pen) = world.vault.enter(&want, PATIENCE, &|| ())?;
    let given = Given { token, account, expires, fields: fields(typed, profile)?, chooses: true };
    let entry = pasted::keep(profile, given, &pen, world)?;
    confirm("signed in with a token", &Record::Static(entry), profile, world)
}

/// What the person says about the profile's fields.
fn fields(typed: &cli::Login, profile: &Profile) -> Result<Fields> {
    let known = |(name, value): &(String, String)| {
        profile.field(name).map(|field| (field.name.clone(), value.clone()))
    };
    typed.settings.iter().map(known).collect()
}

/// Sees that the platform vouches for this job, and keeps what comes of it only by a pen.
fn vouched(
    mut profile: Profile,
    options: &Options,
    pen: Option<&Pen<'_>>,
    world: &World<'_>,
) -> Result<()> {
    if !options.scopes.is_empty() {
        profile.scopes.clone_from(&options.scopes);
    }
    let way = profile.workload.clone().unwrap_or_default();
    let (session, source) = workload::session(&profile, &way, options.account.as_deref(), world)?;
    let how = format!("source: {source}; signed in");
    match pen {
        Some(pen) => {
            pen.save_session(&session)?;
            confirm(&how, &Record::Session(session), &profile, world)
        }
        None => {
            let who = who(&Record::Session(session));
            world.ui.say(&format!("{how} to {}{who}; nothing is kept", profile.home()));
            Ok(())
        }
    }
}

/// A host that nobody configured may say itself who issues its tokens.
fn discovered(resource: &Resource, nobody: Error, world: &World<'_>) -> Result<Profile> {
    let account = resource.account.as_deref().map(crate::ui::shell_word);
    let account = account.map_or_else(String::new, |name| format!(" --account {name}"));
    let nobody = nobody.hint(format!(
        "{PROFILE_HINT}; or make a token there, then valetkey login --token-stdin {}{account}",
        resource.web_origin()
    ));
    match world.oauth.discover(resource) {
        // The person has named it.
        Ok(Some(profile)) => Ok(Profile { source: Source::Remembered, ..profile }),
        Ok(None) => Err(nobody),
        Err(Failure::GrantDead | Failure::Denied | Failure::Expired) => Err(nobody),
        // A host that answers, be it with nonsense, may still take a token made by hand.
        Err(Failure::Transient(error)) if !error.is_of_the_way() => Err(nobody.because(error)),
        Err(failure) => Err(failure.error(resource)),
    }
}

fn confirm(how: &str, record: &Record, profile: &Profile, world: &World<'_>) -> Result<()> {
    let who = who(record);
    let store = world.vault.kept_in(record.key())?;
    world.ui.say(&format!("{how} to {}{who}; kept in {store}", profile.home()));
    if let Some(caution) = world.vault.caution() {
        world.ui.say(&caution);
    }
    Ok(())
}

fn who(record: &Record) -> String {
    match record.whose() {
        nobody if nobody.is_empty() => nobody,
        account => format!(" as {account}"),
    }
}
