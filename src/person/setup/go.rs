//! `valetkey setup go`: one more command in go's own list, which `go env` keeps.

use std::path::{Path, PathBuf};

use super::{Setup, Step, files, tool};
use crate::error::{Error, Kind, Result};
use crate::program;

const VARIABLE: &str = "GOAUTH";
/// What go does where nothing is set.
const DEFAULT: &str = "netrc";

/// What go does not send, where it is the whole list.
const OFF: &str = "off";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    setup.no_hosts("go asks its commands about every host")?;
    let own = command(&setup.program()?)?;
    if setup.world.environment.get(VARIABLE).is_some() {
        let what = "GOAUTH is set in the environment, which go prefers to what is written";
        return Err(Error::new(Kind::Failed, what)
            .hint(format!("unset it, or put this first in its list: {own}")));
    }
    let present = present(setup)?;
    let files: Vec<PathBuf> = file(setup)?.into_iter().collect();
    let mut list: Vec<&str> = present.split(';').map(str::trim).collect();
    let is_ours = |entry: &str| entry == own || is_ours(entry, setup);
    if setup.typed.undo {
        let before = list.len();
        list.retain(|entry| !is_ours(entry));
        if list.len() == before {
            return Ok(Vec::new());
        }
        if let Some(steps) = setup.restored(&files)? {
            return Ok(steps);
        }
    } else {
        if list.contains(&own.as_str()) {
            return Ok(Vec::new());
        }
        if list == [OFF] && !setup.typed.replace {
            return Err(Error::new(Kind::Failed, "GOAUTH is off: go is to send no credentials")
                .hint("--replace turns it on, for valetkey alone"));
        }
        files.iter().for_each(|file| setup.note(file, VARIABLE, Some(&present)));
        list.retain(|entry| *entry != OFF && !setup.typed.replace && !is_ours(entry));
        // The first that answers wins.
        list.insert(0, &own);
    }
    let noted = files.first().and_then(|file| setup.noted(file, VARIABLE)).flatten();
    let words = match list.as_slice() {
        [] => match noted.as_deref().filter(|noted| setup.typed.undo && *noted != DEFAULT) {
            Some(noted) => ["-w".to_owned(), format!("{VARIABLE}={noted}")],
            None => ["-u".to_owned(), VARIABLE.to_owned()],
        },
        [DEFAULT] => ["-u".to_owned(), VARIABLE.to_owned()],
        list => ["-w".to_owned(), format!("{VARIABLE}={}", list.join("; "))],
    };
    let go = ["go".to_owned(), "env".to_owned()];
    Ok(vec![Step::Run { words: go.into_iter().chain(words).collect(), files }])
}

/// Whether an entry is what `command` makes for this program, wherever it was.
fn is_ours(entry: &str, setup: &Setup<'_>) -> bool {
    entry.strip_suffix(" goauth").is_some_and(|program| setup.is_own(program.trim_matches('\'')))
}

/// The file that `go env -w` writes.
fn file(setup: &Setup<'_>) -> Result<Option<PathBuf>> {
    let output = tool::output(&["go", "env", "GOENV"], setup.world)?;
    let path = PathBuf::from(String::from_utf8_lossy(&output).trim());
    // Where it is off, go says so when it is to write.
    if path.is_absolute() { files::followed(&path).map(Some) } else { Ok(None) }
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
    if program::find("go", setup.world.environment).is_none() {
        let what = "go is not on PATH";
        return Err(Error::new(Kind::Failed, what).hint("install go 1.24 or later"));
    }
    let output = tool::output(&["go", "env", VARIABLE], setup.world)?;
    match String::from_utf8_lossy(&output).trim() {
        // Before 1.24 it is a variable like any other.
        "" => {
            Err(Error::new(Kind::Failed, "this go knows no GOAUTH")
                .hint("install go 1.24 or later"))
        }
        list => Ok(list.to_owned()),
    }
}
