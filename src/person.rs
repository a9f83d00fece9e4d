//! The verbs for people. What they print on standard output is data; what they say goes to the
//! terminal or standard error.

mod choose;
mod import;
mod login;
mod logout;
mod setup;
mod status;

#[cfg(any(test, fuzzing))]
pub use import::fuzz;
use std::io::Read;
use std::path::Path;

use crate::broker::World;
use crate::cli::Verb;
use crate::dialect::Wire;
use crate::error::{Error, Kind, Result};
use crate::model::Resource;
use crate::profile::Service;

/// Performs a verb; the number is the exit status of success. `piped`: standard input, where no
/// person types into it.
///
/// # Errors
/// Whatever the verb says; its kind is the exit status.
pub fn perform(
    verb: &Verb,
    world: &World<'_>,
    wire: &Wire<'_>,
    program: Option<&Path>,
    piped: Option<&mut dyn Read>,
) -> Result<u8> {
    world.profiles.check(None)?;
    match verb {
        Verb::Login(typed) => login::login(typed, world, piped)?,
        Verb::Logout(typed) => logout::logout(typed, world)?,
        Verb::Status { url, json } => status::status(url.as_deref(), *json, world, wire)?,
        Verb::Whoami { url, account } => {
            status::whoami(url.as_deref(), account.as_deref(), world, wire)?;
        }
        Verb::Import(typed) => import::import(typed, world, piped)?,
        Verb::Use(typed) => choose::choose(typed, world)?,
        Verb::List { json } => status::list(*json, world, wire)?,
        Verb::Setup(typed) => setup::setup(typed, world, wire, program)?,
        Verb::Completions { .. } => {}
    }
    Ok(0)
}

const PROFILE_HINT: &str = "add a [profile] with this origin to config.toml, then valetkey login";

/// The profile that a person means with a URL or a bare host.
fn service_of<'a>(url: &str, world: &World<'a>) -> Result<(Resource, Service<'a>)> {
    let resource = Resource::parse(url)?;
    match world.profiles.find(&resource) {
        Some(service) => Ok((resource, service)),
        None => Err(Error::new(Kind::Configuration, format!("no profile serves {resource}"))
            .hint(PROFILE_HINT)),
    }
}
