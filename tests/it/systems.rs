//! Systems that people use today, each moved to valetkey as a profile and driven from end to end:
//! by a person, by a tool, by a script, and by what their documents say can go wrong.

mod autocom;
mod guide;
mod myclaude;
mod skillmeat;
mod tinykit;

use crate::lab::Sandbox;
use crate::scene::program;

/// A home without a person, whose store is files.
fn home() -> Sandbox {
    let sandbox = Sandbox::new(program());
    sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "never");
    sandbox
}
