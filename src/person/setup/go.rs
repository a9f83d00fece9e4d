//! `valetkey setup go`: one more command in go's own list, which `go env` keeps.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use super::{Setup, Step};
use crate::error::{Error, Kind, Result};
use crate::program;

const VARIABLE: &str = "GOAUTH";
/// What go does where nothing is set.
const DEFAULT: &str = "netrc";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    setup.no_hosts("go asks its commands about every host")?;
    let own = command(&setup.program()?)?;
    if setup.world.environment.get(VARIABLE).is_some() {
        let what = "GOAUTH is set in the environment, which go prefers to what is written";
        return Err(Error::new(Kind::Failed, what)
            .hint(format!("unset it, or put this first in its list: {own}")));
    }
    let present = present(setup)?;
    let mut list: Vec<&str> = present.split(';').map(str::trim).collect();
    let there = list.contains(&own.as_str());
    match (setup.typed.undo, there) {
        (false, true) | (true, false) => return Ok(Vec::new()),
        (true, true) => list.retain(|entry| *entry != own),
        (false, false) if list == ["off"] && !setup.typed.replace => {
            return Err(Error::new(Kind::Failed, "GOAUTH is off: go is to send no credentials")
                .hint("--replace turns it on, for valetkey alone"));
        }
        (false, false) => {
            list.retain(|entry| *entry != "off" && !setup.typed.replace);
            // The first that answers wins.
            list.insert(0, &own);
        }
    }
    let words = match list.as_slice() {
        [] | [DEFAULT] => ["-u".to_owned(), VARIABLE.to_owned()],
        list => ["-w".to_owned(), format!("{VARIABLE}={}", list.join("; "))],
    };
    let go = ["go".to_owned(), "env".to_owned()];
    Ok(vec![Step::Run(go.into_iter().chain(words).collect())])
}

/// As go splits it: quotes around a word, and no way to write one inside.
fn command(program: &Path) -> Result<String> {
    let text = program.to_str().filter(|text| !text.contains(['\'', '"', ';', '\n']));
    match text {
        Some(text) if text.contains(char::is_whitespace) => Ok(format!("'{text}' goauth")),
        Some(text) => Ok(format!("{text} goauth")),
        None => {
            let what = format!("GOAUTH cannot hold the path {}", program.display());
            Err(Error::new(Kind::Failed, what)
                .hint("put valetkey into a directory with a plain name"))
        }
    }
}

/// The list as go has it now.
fn present(setup: &Setup<'_>) -> Result<String> {
    let failed = |what: &str| Error::new(Kind::Failed, what);
    let environment = setup.world.environment;
    let go = program::find("go", environment)
        .ok_or_else(|| failed("go is not on PATH").hint("install go 1.24 or later"))?;
    let hidden = |name: &str| setup.world.profiles.is_secret_variable(name);
    let arguments = ["env", VARIABLE].map(OsStr::new);
    let limit = Duration::from_secs(30);
    let ran = program::run(go.as_os_str(), &arguments, b"", environment, hidden, limit)
        .map_err(|error| failed("go cannot be run").because(error))?;
    match String::from_utf8_lossy(&ran.output).trim() {
        // Before 1.24 it is a variable like any other.
        "" => Err(failed("this go knows no GOAUTH").hint("install go 1.24 or later")),
        list => Ok(list.to_owned()),
    }
}
