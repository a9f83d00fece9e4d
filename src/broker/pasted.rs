//! Tokens that a person made by hand at the provider. One serves every host of its profile; it is
//! shown to the provider before it is kept, and nothing renews it.

use std::time::Duration;

use super::{Road, World, found, login_command, session};
use crate::error::{Error, Kind, Result};
use crate::model::{Fields, Key, Outcome, Record, Resource, Secret, Static};
use crate::oauth::{Failure, Options};
use crate::profile::Profile;
use crate::vault::{Pen, Setbacks, Want};

/// Seconds before its end in which a person is told, once a day.
pub const NOTICE: u64 = 7 * 86_400;

/// How long a person may take to make a token and paste it.
const TYPING: Duration = Duration::from_secs(600);

/// A token, and what was said about it.
pub struct Given<'a> {
    pub token: Secret,
    /// The name under which it is to be kept.
    pub account: Option<&'a str>,
    /// Unix time in seconds.
    pub expires: Option<u64>,
    pub fields: Fields,
    /// Whether it answers from now on where no account is named (rule N10).
    pub chooses: bool,
}

/// Keeps a token for a profile, once the provider has said whose it is.
///
/// # Errors
/// `Rejected` when the provider does not take it, `Temporary` when it cannot say, `Refused` when it
/// would take the place of another person's, `Usage` when it belongs to a session.
pub fn keep(
    profile: &Profile,
    given: Given<'_>,
    pen: &Pen<'_>,
    world: &World<'_>,
) -> Result<Static> {
    let Given { token, account, expires, fields, chooses } = given;
    let now = world.clock.now();
    check(&token, expires, now)?;
    no_token_of_a_session(profile, &token, world)?;
    pen.probe()?;
    let home = profile.home();
    let who = world.oauth.introduce(profile, &token, &fields).map_err(|failure| match failure {
        Failure::Denied | Failure::GrantDead | Failure::Expired => {
            let what = format!("{home} does not take this token; nothing was kept");
            Error::new(Kind::Rejected, what).hint(match &profile.token_page {
                Some(page) => format!("make a new one at {page}"),
                None => "is it whole, and does it allow reading the account?".to_owned(),
            })
        }
        Failure::Transient(error) | Failure::Other(error) | Failure::Refused(error) => error,
    })?;
    let nobodys = String::new();
    let (key, holder) =
        session::identified(profile, nobodys, who.account, account, who.holder, world)?;
    let mut kept = who.fields;
    kept.extend(fields);
    let entry = Static {
        chosen: session::chosen(&key, &home, chooses, world),
        key,
        secret: token,
        authtype: None,
        expires,
        refresh: None,
        holder,
        fields: kept,
        registry: false,
        stored: now,
    };
    pen.save_static(&entry)?;
    pen.note(Setbacks::default());
    Ok(entry)
}

/// # Errors
/// `Usage` when a token cannot be one, or has ended; the message holds nothing of it.
fn check(token: &Secret, expires: Option<u64>, now: u64) -> Result<()> {
    let refuse = |what: &str| Err(Error::new(Kind::Usage, what));
    if token.is_empty() {
        refuse("no token was given")
    } else if !token.is_word() {
        refuse("what was given is too long for a token, or holds what no token may have")
    } else if expires.is_some_and(|expires| expires <= now) {
        refuse("the token's end is in the past")
    } else {
        Ok(())
    }
}

/// A token of a session ends when that is renewed, and whoever pastes it does not know that.
fn no_token_of_a_session(profile: &Profile, token: &Secret, world: &World<'_>) -> Result<()> {
    let all = Want { place: profile.place(), account: None, path: None };
    for record in world.vault.matching(&all)? {
        if let Record::Session(session) = &record
            && (session.knows(token) || session.tokens.refresh.as_ref() == Some(token))
        {
            let what =
                format!("this token is the session's at {}, and ends with it", profile.home());
            return Err(Error::new(Kind::Usage, what)
                .hint("it is used already; what is pasted is a token made by hand"));
        }
    }
    if matches!(token.known_prefix(), Some("gho_" | "ghu_" | "ghs_" | "ghr_")) {
        world.ui.warn("this is a token that an application was given, not one made by hand");
    }
    Ok(())
}

/// Asks the person for a token, for as long as the options say, and keeps it. A no is remembered for
/// a while. `chooses`: as in `Given`.
///
/// # Errors
/// `NotSignedIn` when there is no terminal to ask on, `Refused` when nothing is given, else as
/// `keep`.
pub fn ask(
    profile: &Profile,
    options: &Options,
    chooses: bool,
    pen: &Pen<'_>,
    world: &World<'_>,
) -> Result<Static> {
    pen.probe()?;
    let account = options.account.as_deref();
    let home = profile.home();
    let page = profile.token_page.as_ref();
    let page = page.map_or_else(String::new, |page| format!(", made at {page}"));
    let prompt = format!("paste a token for {home}{page}, and press Enter");
    let Some(answer) = world.ui.ask_secret(&prompt, options.timeout.unwrap_or(TYPING), world.clock)
    else {
        let what = format!("nobody is here who could paste a token for {home}");
        let hint = format!("valetkey login {home} --token-stdin < FILE");
        return Err(Error::new(Kind::NotSignedIn, what).hint(hint));
    };
    let Some(secret) = answer else {
        pen.note(Setbacks { refused: world.clock.now(), ..pen.setbacks() });
        let what = format!("no token was given for {home}");
        return Err(Error::new(Kind::Refused, what).hint(login_command(profile, account)));
    };
    let fields = options.fields.clone();
    let given = Given { token: secret, account, expires: None, fields, chooses };
    keep(profile, given, pen, world)
}

/// The answer that a token makes, unless it has ended. Whoever is near hears of its end in time.
pub(super) fn answer(road: &Road<'_>, record: Option<&Record>) -> Option<Result<Outcome>> {
    let Some(Record::Static(entry)) = record else { return None };
    if entry.has_ended(road.world.clock.now()) {
        return None;
    }
    let Road { world, profile, .. } = road;
    let left = entry.expires.map(|expires| expires - world.clock.now());
    if let Some(left) = left.filter(|left| *left < NOTICE)
        && world.ui.has_terminal()
        && world.vault.first_today(&entry.key.digest())
    {
        let when = match left / 86_400 {
            0 => "today".to_owned(),
            1 => "tomorrow".to_owned(),
            days => format!("in {days} days"),
        };
        let page = profile.token_page.as_ref();
        let page = page.map_or_else(String::new, |page| format!("; make a new one at {page}"));
        world.ui.say(&format!("the token for {} ends {when}{page}", profile.home()));
    }
    Some(found(road.service.pasted(entry)))
}

/// Keeps a token for an origin that no profile serves: whose it is cannot be asked.
///
/// # Errors
/// `Usage` when the origin would carry it in the open.
pub fn keep_for_origin(resource: &Resource, given: Given<'_>, world: &World<'_>) -> Result<Key> {
    let Given { token, account, expires, fields, .. } = given;
    check(&token, expires, world.clock.now())?;
    if let Some(name) = fields.keys().next() {
        let what = format!("no profile serves {resource}, so nobody knows the field {name}");
        return Err(Error::new(Kind::Configuration, what));
    }
    let safe =
        url::Url::parse(&resource.web_origin()).is_ok_and(|url| crate::profile::is_safe(&url));
    if !safe {
        let what = format!("{resource} is neither https nor on this machine");
        return Err(Error::new(Kind::Usage, what));
    }
    // Hosts that read only the password still want a user name.
    let name = account.or(resource.account.as_deref()).unwrap_or("oauth2").to_owned();
    let resource = Resource { account: Some(name), path: None, ..resource.clone() };
    super::handed::keep_secret(&resource, &token, expires, world)
}
