//! The tools that write their configuration themselves: found on PATH, run to their end, and
//! quoted where they fail.

use std::ffi::OsStr;
use std::time::Duration;

use crate::broker::World;
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::program::{self, Finished};
use crate::ui;

/// A go command compiles nothing here, and yet can take seconds on a cold disk.
const LIMIT: Duration = Duration::from_secs(30);

/// Letters of a tool's complaint that are shown.
const LENGTH: usize = 300;

/// What a tool wrote to its standard output.
///
/// # Errors
/// `Failed`, with the tool's own words, when it is not there or does not succeed.
pub(super) fn output(words: &[&str], world: &World<'_>) -> Result<Vec<u8>> {
    succeeded(words, run(words, b"", world)?)
}

/// The same, with an environment of its own.
pub(super) fn output_in(
    words: &[&str],
    environment: &Environment,
    world: &World<'_>,
) -> Result<Vec<u8>> {
    succeeded(words, run_in(words, b"", environment, world)?)
}

fn succeeded(words: &[&str], finished: Finished) -> Result<Vec<u8>> {
    if finished.success {
        return Ok(finished.output);
    }
    let error = Error::new(Kind::Failed, format!("{} failed", ui::shell_line(words)));
    Err(match complaint(&finished) {
        None => error.hint("it said nothing: run it by hand"),
        Some(words) => error.because(words),
    })
}

/// Runs a tool to its end, whichever that is, with some input.
///
/// # Errors
/// `Failed` when it is not on PATH, cannot be started or does not end.
pub(super) fn run(words: &[&str], input: &[u8], world: &World<'_>) -> Result<Finished> {
    run_in(words, input, world.environment, world)
}

fn run_in(
    words: &[&str],
    input: &[u8],
    environment: &Environment,
    world: &World<'_>,
) -> Result<Finished> {
    let [name, arguments @ ..] = words else {
        return Err(Error::new(Kind::Failed, "there is no command to run"));
    };
    let Some(path) = program::find(name, environment) else {
        let what = format!("{name} is not on PATH");
        return Err(Error::new(Kind::Failed, what).hint(format!("install {name}")));
    };
    let hidden = |name: &str| world.profiles.is_secret_variable(name);
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    program::run(path.as_os_str(), &arguments, input, environment, hidden, LIMIT).map_err(|error| {
        let what = format!("{} cannot be run", ui::shell_line(words));
        Error::new(Kind::Failed, what).because(error)
    })
}

/// The first line of a tool's own words that says something, from standard error, else from
/// standard output.
fn complaint(finished: &Finished) -> Option<String> {
    let first = |bytes: &[u8]| {
        let text = ui::sanitize(&String::from_utf8_lossy(bytes));
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.chars().take(LENGTH).collect())
    };
    first(&finished.errors).or_else(|| first(&finished.output))
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn a_complaint_is_one_line_that_a_terminal_can_show() {
        for (errors, output, said) in [
            ("", "", None),
            ("\n \n", "no\n", Some("no")),
            ("error: \u{1b}[31mbad\u{1b}[0m\nmore\n", "x", Some("error: [31mbad[0m")),
            ("\r\nwarning\r\n", "", Some("warning")),
        ] {
            let finished = Finished {
                success: false,
                status: ExitStatus::default(),
                output: output.into(),
                errors: errors.into(),
            };
            assert_eq!(complaint(&finished).as_deref(), said, "{errors:?}");
        }
        let long = Finished {
            success: false,
            status: ExitStatus::default(),
            output: vec![b'x'; 4096],
            errors: Vec::new(),
        };
        assert_eq!(complaint(&long).map(|line| line.len()), Some(LENGTH));
    }
}
