//! The one decision: fresh, else refresh, else sign in, else no. `get` reads from top to bottom
//! as the road of one request; what tools hand over and take back is in the room beside it.

mod doubted;
mod exchanged;
mod handed;
pub mod pasted;
mod renewal;
pub mod session;
pub mod workload;

use std::time::Duration;

use crate::clock::Clock;
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{
    Caller, Credential, Outcome, Place, Record, Request, Secret, Session, TokenKind, Verb,
};
use crate::oauth::Oauth;
use crate::profile::{Flow, Persist, Profile, Profiles, Refresh, Service, Source, is_safe};
use crate::ui::{self, Ui};
use crate::vault::{Vault, Want};

/// How long somebody else's renewal, or sign-in, is waited for.
const PATIENCE: Duration = Duration::from_secs(35);

pub use renewal::PRECAUTION;

/// Seconds for which a token is newer than whatever a host has just refused.
const NEW: u64 = 60;

/// Everything that a request can touch.
pub struct World<'a> {
    pub profiles: &'a Profiles,
    pub vault: Vault<'a>,
    pub oauth: Oauth<'a>,
    pub ui: &'a Ui<'a>,
    pub clock: &'a dyn Clock,
    pub environment: &'a Environment,
}

/// Answers one request.
#[must_use]
pub fn answer(request: &Request, world: &World<'_>) -> Outcome {
    let about = (request.verb != Verb::List).then_some(&request.resource);
    let outcome = world.profiles.check(about).and_then(|()| match request.verb {
        Verb::Get | Verb::Again | Verb::Cached => get(request, world),
        Verb::Store => handed::store(request, world).map(|()| Outcome::Done),
        Verb::Paste => handed::paste(request, world).map(|()| Outcome::Done),
        Verb::Erase => handed::erase(request, world).map(|erased| match erased {
            true => Outcome::Done,
            false => Outcome::NotMine,
        }),
        Verb::List => handed::list(world).map(Outcome::Listed),
    });
    outcome.unwrap_or_else(Outcome::Failed)
}

fn get(request: &Request, world: &World<'_>) -> Result<Outcome> {
    let Request { resource, .. } = request;
    let offered = world.profiles.offered(resource)?;
    let offered = offered.as_ref().and_then(Profile::service);
    let Some(service) = offered.or_else(|| world.profiles.find(resource)) else {
        return match handed::unknown_host(request, world)? {
            Outcome::NotMine => discovered(request, world),
            outcome => Ok(outcome),
        };
    };
    serve(request, service, world)
}

/// A host without a profile is asked who issues its tokens only where the person named it as one
/// that may say so, and is here to sign in. Never because the host says it.
fn discovered(request: &Request, world: &World<'_>) -> Result<Outcome> {
    let resource = &request.resource;
    let may = request.verb != Verb::Cached && world.profiles.may_discover(resource);
    if !may || !world.ui.person(request.caller) {
        say_what_to_type(request, world);
        return Ok(Outcome::NotMine);
    }
    let profile = world.oauth.discover(resource).map_err(|failure| failure.error(resource))?;
    let service = profile.as_ref().and_then(Profile::service);
    service.map_or(Ok(Outcome::NotMine), |service| serve(request, service, world))
}

/// git asks for a user name next, and nothing on its screen says who could have answered. Said to a
/// person at a terminal, at most once a day for each host.
fn say_what_to_type(request: &Request, world: &World<'_>) {
    let Request { resource, caller, verb, .. } = request;
    let safe = || resource.web_origin().parse().is_ok_and(|url| is_safe(&url));
    let of_git = (*verb, *caller) == (Verb::Get, Caller::Git);
    if !of_git || !world.ui.has_terminal() || !world.ui.could_ask(*caller) || !safe() {
        return;
    }
    if world.vault.first_today(&Place::Origin(resource.origin()).digest()) {
        let home = resource.web_origin();
        let account = resource.account.as_deref().map(ui::shell_word);
        let account = account.map_or_else(String::new, |name| format!(" --account {name}"));
        world.ui.say(&format!(
            "to sign in to {home} once for all tools: valetkey login {home}{account}"
        ));
    }
}

/// Answers with what a provider issues.
fn serve(request: &Request, service: Service<'_>, world: &World<'_>) -> Result<Outcome> {
    let resource = &request.resource;
    let profile = service.profile;
    world.ui.log(|| format!("{resource} belongs to profile {}", profile.name));
    if let Some(credential) = service.environment_token(resource, world.environment)? {
        return found(credential);
    }
    handed::say_unclear(resource, world);
    let want =
        Want { place: profile.place(), account: service.asked_account(resource), path: None };
    let road = Road { request, service, profile, world, want };
    if let Some(workload) = workload::fleeting(profile, world) {
        return workload::get(&road, workload);
    }
    match &service.prefix.exchange {
        None => token(&road),
        Some(exchange) => exchanged::get(&road, exchange),
    }
}

/// A token of the session, as the provider issued it.
fn token(road: &Road<'_>) -> Result<Outcome> {
    let Road { request, service, profile, world, .. } = road;
    let record = world.vault.peek(&road.want)?;
    if let Some(answer) = pasted::answer(road, record.as_ref()) {
        return answer;
    }
    let seen = own(record, profile);
    // The hot path: no lock, no network.
    if let Some(session) = &seen
        && let Some(token) = road.fresh(session)
        && !is_rejected(request, session, profile)
    {
        if doubted::is(road, session)
            && let Some(answer) = doubted::ask(road, session)?
        {
            return Ok(answer);
        }
        let mut credential = service.credential(session, token);
        // Without a refresh token the next answer would be a sign-in.
        credential.renewable = credential.renewable || world.ui.could_ask(request.caller);
        return found(credential);
    }
    if let Some(credential) = handed::get(request, world)? {
        return found(credential);
    }
    if request.verb == Verb::Cached {
        return Ok(nothing_ready(road));
    }
    renewal::renew(road, seen.as_ref())
}

/// What a question that may cost nothing is answered.
fn nothing_ready(road: &Road<'_>) -> Outcome {
    Outcome::NotFound(road.not_signed_in(&format!("nothing is ready for {}", road.home())))
}

/// A request on its way to a token.
struct Road<'a> {
    request: &'a Request,
    service: Service<'a>,
    profile: &'a Profile,
    world: &'a World<'a>,
    want: Want<'a>,
}

impl Road<'_> {
    /// The origin that was asked for, as a person may read it.
    fn home(&self) -> String {
        self.service.prefix.url()
    }

    fn login_command(&self) -> String {
        login_command(&self.service.turned(), self.want.account)
    }

    fn not_signed_in(&self, what: &str) -> Error {
        Error::new(Kind::NotSignedIn, what).hint(self.login_command())
    }

    /// The token that this host takes, if it lives for as long as profile and caller want.
    fn fresh<'s>(&self, session: &'s Session) -> Option<&'s Secret> {
        let unwanted = self.profile.refresh == Refresh::Always || self.is_doubted(session);
        // What cannot be renewed would have to be signed in for each time.
        if unwanted && session.tokens.refresh.is_some() {
            return None;
        }
        let margin = self.profile.refresh_margin.max(self.request.lifetime);
        session.fresh(self.service.prefix.token, self.world.clock.now(), margin)
    }

    /// Whether nothing speaks against this session's token but the clock.
    fn is_unrefused(&self, session: &Session) -> bool {
        !self.is_doubted(session) && !is_rejected(self.request, session, self.profile)
    }

    /// Whether this session's token may be the one that the caller was refused with. One that came
    /// since is not; and so no caller renews more often than that.
    fn is_doubted(&self, session: &Session) -> bool {
        self.request.verb == Verb::Again && is_settled(session, self.world)
    }

    /// What the server has just issued, however short its life. `None`: not the kind of token
    /// that this host takes, or an ID token that a renewal did not replace in time.
    fn issued(&self, session: &Session) -> Option<Outcome> {
        let kind = self.service.prefix.token;
        let token = match kind {
            TokenKind::Access => session.token(kind)?,
            TokenKind::Id => session.fresh(kind, self.world.clock.now(), 0)?,
        };
        Some(Outcome::Found(Box::new(self.service.credential(session, token))))
    }
}

/// A session of this profile. One that another issuer gave is not: its tokens are for others.
fn own(record: Option<Record>, profile: &Profile) -> Option<Session> {
    match record? {
        Record::Session(session) if session.authority == profile.authority() => Some(session),
        _ => None,
    }
}

/// Whether a session's token is old enough to be one that a host has refused.
fn is_settled(session: &Session, world: &World<'_>) -> bool {
    session.renewed.saturating_add(NEW) <= world.clock.now()
}

/// Whether the caller comes back because its host rejected this session's token.
fn is_rejected(request: &Request, session: &Session, profile: &Profile) -> bool {
    let last = |token: &String| {
        // The session was written without it.
        profile.persist == Some(Persist::RefreshToken) && session.former.first() == Some(token)
    };
    request.proof.as_ref().is_some_and(|proof| {
        proof.key == session.key.digest() && (session.holds(&proof.token) || last(&proof.token))
    })
}

fn found(credential: Credential) -> Result<Outcome> {
    Ok(Outcome::Found(Box::new(credential)))
}

/// The command that mends most things. `account`: the one that was asked for.
#[must_use]
pub fn login_command(profile: &Profile, account: Option<&str>) -> String {
    match profile.source {
        Source::Configured | Source::Remembered => {
            let account = account.map(ui::shell_word);
            let account = account.map_or_else(String::new, |name| format!(" --account {name}"));
            let page = profile.token_page.as_ref().filter(|_| profile.wants_token(Flow::Auto));
            let page = page.map_or_else(String::new, |page| format!(", with a token from {page}"));
            format!("valetkey login {}{account}{page}", profile.home())
        }
        // Only the caller knows who issues its tokens.
        Source::Offered => "run the same command in a terminal of your own".to_owned(),
    }
}
