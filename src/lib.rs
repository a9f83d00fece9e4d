//! valetkey: any host tool asks for a credential, this program answers from the keychain, renews
//! tokens silently, and on a miss signs the person in once.
//!
//! # The house
//!
//! Three languages meet here, and each has a room that speaks only that language: the caller's
//! ([`dialect`]), the authorization server's ([`oauth`]), the disk's ([`vault`]). Between them
//! stand a small set of nouns ([`model`]) and one decision ([`broker`]).
//!
//! | room | what it is for | never |
//! | --- | --- | --- |
//! | [`cli`] | argv into a command | decides what it means |
//! | [`person`] | the verbs for people | writes a record without a `Pen` |
//! | [`broker`] | request into outcome | knows a dialect |
//! | [`dialect`] | a caller's bytes, both ways | knows a provider or a store |
//! | [`oauth`] | sign in, refresh, revoke | knows where tokens live |
//! | [`profile`] | which provider serves a resource | connects |
//! | [`vault`] | records, locks, cooldowns | connects |
//! | [`ui`] | the person: terminal, browser, messages | touches stdout |
//! | [`program`] | starts other programs | hands them our tokens, or our streams and goes on |
//! | [`disk`] | private files, replaced whole | knows what is in them |
//! | [`environment`] | variables and directories as values | reads the process |
//! | [`clock`] | the time | |
//!
//! # The road of one `get`
//!
//! [`run_current`] takes the [`Process`]; [`run_with`] asks [`cli`] what was meant; the dialect reads a
//! [`model::Request`] and asks [`broker::answer`], which finds the profile, then peeks into the
//! vault (a fresh token: done, no lock, no network), then enters it under the lock, reads again,
//! refreshes or signs in, saves before it answers; the dialect says the [`model::Outcome`] in its
//! bytes, and `Wire` sends them at once.

#![forbid(unsafe_code)]

pub mod broker;
pub mod cli;
pub mod clock;
pub mod dialect;
pub mod disk;
pub mod environment;
pub mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod model;
pub mod oauth;
pub mod person;
pub mod profile;
pub mod program;
pub mod ui;
pub mod vault;

use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use broker::World;
use cli::Command;
use clock::Clock;
use dialect::{Call, Dialect, Served, Wire};
use environment::Environment;
use error::Kind;
use oauth::Oauth;
use profile::Profiles;
use ui::Ui;
use vault::Vault;

/// Everything that a run takes from the operating system, once.
pub struct Process {
    pub arguments: Vec<OsString>,
    pub environment: Environment,
    /// The path of this program, for whoever writes or compares it.
    pub program: fn() -> Option<PathBuf>,
    pub input: Box<dyn Read>,
    pub input_is_terminal: fn() -> bool,
    pub output: File,
    pub stderr_is_terminal: fn() -> bool,
}

impl Process {
    /// Takes the process's own streams. From here on file descriptor 1 leads nowhere, so that no
    /// library's print can reach a caller: the answer goes out over a copy.
    ///
    /// # Errors
    /// `Failed` when there is no usable standard output.
    #[expect(clippy::disallowed_methods, reason = "the one place that takes them")]
    pub fn current() -> error::Result<Self> {
        #[cfg(unix)]
        keep_out_of_dumps();
        let failed = |error| {
            let what = "the standard streams cannot be used";
            error::Error::new(Kind::Failed, what).because(error)
        };
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        start().map_err(failed)?;
        let output = own_output().map_err(failed)?;
        Ok(Self {
            arguments: std::env::args_os().collect(),
            environment: std::env::vars_os().collect(),
            program: || std::env::current_exe().ok(),
            input: Box::new(std::io::stdin()),
            input_is_terminal: || std::io::stdin().is_terminal(),
            output,
            stderr_is_terminal: || std::io::stderr().is_terminal(),
        })
    }
}

/// A dump of this process would hold tokens. On Linux no debugger of the same user can read its
/// memory either. Where it is forbidden to ask for that there is nothing to be done.
#[cfg(unix)]
fn keep_out_of_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// What Rust's own start does where it is the one that calls `main`: no file that is opened later
/// gets the number of a standard stream, and who writes to a reader that has gone is told so.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn start() -> std::io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::fd::IntoRawFd;
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut streams = streams.map(|stream| PollFd::from_borrowed_fd(stream, PollFlags::empty()));
    rustix::io::retry_on_intr(|| poll(&mut streams, Some(&Timespec::default())))?;
    for stream in &streams {
        if stream.revents().contains(PollFlags::NVAL) {
            // The lowest number that is free: this one.
            let nowhere = File::options().read(true).write(true).open("/dev/null")?;
            let _ = nowhere.into_raw_fd();
        }
    }
    let noticed = std::sync::Arc::default();
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, noticed)?;
    Ok(())
}

#[cfg(unix)]
fn own_output() -> std::io::Result<File> {
    use rustix::io::{fcntl_dupfd_cloexec, retry_on_intr};
    let copy = retry_on_intr(|| fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3))?;
    let nowhere = File::options().write(true).open("/dev/null")?;
    retry_on_intr(|| rustix::stdio::dup2_stdout(&nowhere))?;
    Ok(copy.into())
}

#[cfg(windows)]
fn own_output() -> std::io::Result<File> {
    use std::os::windows::io::AsHandle;
    #[expect(clippy::disallowed_methods, reason = "the one place that takes them")]
    let output = std::io::stdout();
    output.as_handle().try_clone_to_owned().map(File::from)
}

/// From here on standard error leads nowhere: its reader takes every byte for the answer's. What
/// it was comes back.
#[cfg(unix)]
fn close_stderr() -> Option<std::os::fd::OwnedFd> {
    // Without /dev/null there is nothing that could be done, or said.
    let nowhere = File::options().write(true).open("/dev/null").ok()?;
    let before = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3).ok();
    let _ = rustix::io::retry_on_intr(|| rustix::stdio::dup2_stderr(&nowhere));
    before
}

#[cfg(unix)]
fn open_stderr(before: Option<std::os::fd::OwnedFd>) {
    before.iter().for_each(|before| {
        let _ = rustix::io::retry_on_intr(|| rustix::stdio::dup2_stderr(before));
    });
}

#[cfg(not(unix))]
fn close_stderr() {}

#[cfg(not(unix))]
fn open_stderr((): ()) {}

/// Runs a command of this process to its end and returns the exit status.
#[must_use]
pub fn run_current() -> u8 {
    match Process::current() {
        Ok(process) => run_with(process, &clock::System::start()),
        Err(error) => {
            ui::report(&error);
            error.kind.exit_status()
        }
    }
}

/// Runs a command to its end, with a clock of the caller's choice, and returns the exit status.
#[must_use]
pub fn run_with(mut process: Process, clock: &dyn Clock) -> u8 {
    let result = match cli::parse(&process.arguments, &|| !(process.input_is_terminal)()) {
        Ok(Command::Serve { dialect, arguments }) => match dialect.says_errors() {
            None => serve(dialect, &arguments, &mut process, clock),
            Some(say) => {
                let stderr = close_stderr();
                let served = serve(dialect, &arguments, &mut process, clock);
                let said = served.or_else(|error| {
                    Wire::new(&process.output).send(say(&error).as_bytes()).map(|()| 0)
                });
                // An answer that could not be written is no longer spoilt by a word beside it.
                if said.is_err() {
                    open_stderr(stderr);
                }
                said
            }
        },
        Ok(Command::Person(cli::Verb::Completions { shell })) => {
            Wire::new(&process.output).send(&cli::completions(shell)).map(|()| 0)
        }
        Ok(Command::Person(verb)) => {
            let piped = !(process.input_is_terminal)();
            with_world(&mut process, clock, |world, input, output, program| {
                let (wire, piped) = (Wire::new(output), piped.then_some(input));
                person::perform(&verb, world, &wire, program().as_deref(), piped)
                    .map_err(|error| world.vault.missed(error))
            })
        }
        Ok(Command::Show(text)) => Wire::new(&process.output).send(text.as_bytes()).map(|()| 0),
        Ok(Command::Ignore) => Ok(0),
        Err(error) => Err(error),
    };
    result.unwrap_or_else(|error| {
        ui::report(&error);
        error.kind.exit_status()
    })
}

fn serve(
    dialect: &Dialect,
    arguments: &[String],
    process: &mut Process,
    clock: &dyn Clock,
) -> error::Result<u8> {
    // As they came: a dialect sees them as text.
    let given = process.arguments[process.arguments.len() - arguments.len()..].to_vec();
    with_world(process, clock, |world, input, output, own| {
        let ask = |request: &model::Request| broker::answer(request, world);
        let environment = world.environment;
        let elsewhere = |name: &str| {
            let Some(next) = program::next(name, own().as_deref(), environment) else {
                return Ok(None);
            };
            let failed = |error| {
                let what = format!("{} cannot be started", next.display());
                error::Error::new(Kind::Failed, what).because(error)
            };
            let hidden = |name: &str| world.profiles.is_secret_variable(name);
            let status = program::hand_over(&next, &given, output, environment, hidden);
            status.map(Some).map_err(failed)
        };
        let bound = || {
            world.profiles.check(None).unwrap_or_else(|error| ui::report(&error));
            world.profiles.bound()
        };
        let mask = |answer: &str| world.ui.mask(answer);
        let mut call = Call {
            arguments,
            environment,
            input,
            wire: &Wire::new(output),
            ask: &ask,
            mask: &mask,
            bound: &bound,
            elsewhere: &elsewhere,
        };
        let missed = |error| world.vault.missed(error);
        let Served { status, why } = (dialect.serve)(&mut call).map_err(missed)?;
        why.into_iter().map(missed).for_each(|error| ui::report(&error));
        Ok(status)
    })
}

/// Builds what a command works with. Nothing here touches disk or network but the configuration.
fn with_world(
    process: &mut Process,
    clock: &dyn Clock,
    work: impl FnOnce(&World<'_>, &mut dyn Read, &File, fn() -> Option<PathBuf>) -> error::Result<u8>,
) -> error::Result<u8> {
    let environment = &process.environment;
    environment.refuse_relative_paths()?;
    let profiles = Profiles::load(environment)?;
    let hidden = |name: &str| profiles.is_secret_variable(name);
    let ui = Ui::new(environment, &hidden, process.stderr_is_terminal, &process.output);
    let tell = |text: &str| ui.warn(text);
    let ask = |prompt: &str| ui.ask_passphrase(prompt, clock);
    let store = profiles.store.clone();
    let world = World {
        vault: Vault::new(store, environment, clock, &tell, &hidden, process.program, &ask),
        oauth: Oauth::new(&ui, clock, environment, &hidden),
        profiles: &profiles,
        ui: &ui,
        clock,
        environment,
    };
    work(&world, &mut process.input, &process.output, process.program)
}
