//! The only room that starts other programs. They get null or pipes for their standard streams,
//! never ours, but for one that takes our place; they get no token in their arguments or
//! environment; and none is waited for without an end.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::environment::Environment;

/// What a program that was waited for left behind.
#[derive(Debug)]
pub struct Finished {
    pub success: bool,
    pub status: ExitStatus,
    pub output: Vec<u8>,
    /// The beginning of what it wrote to standard error, as much as says why it failed.
    pub errors: Vec<u8>,
}

/// Bytes of standard error that are kept.
const ERRORS: u64 = 1 << 12;

/// How long what a program wrote to standard error may be on its way after its end.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Is set for a program that took our place: what it starts may be us, and must not go round.
const HANDED_OVER: &str = "VALETKEY_HANDED_OVER";

/// The first file of that name on PATH that could be started.
#[must_use]
pub fn find(name: impl AsRef<Path>, environment: &Environment) -> Option<PathBuf> {
    candidates(name.as_ref(), environment).next()
}

/// The first file of that name on PATH that is not `own` by another name. None for a program that
/// was itself started in such a place.
#[must_use]
pub fn next(name: &str, own: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    let own = own?.canonicalize().ok()?;
    let other = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path != own);
    let again = environment.get(HANDED_OVER).is_some();
    candidates(Path::new(name), environment).find(other).filter(|_| !again)
}

fn candidates(name: &Path, environment: &Environment) -> impl Iterator<Item = PathBuf> {
    let path = environment.raw("PATH").unwrap_or_default();
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(move |directory| directory.join(name))
        .filter(|candidate| is_program(candidate))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.with_extension("exe").is_file()
}

/// Bytes that a program which is waited for may answer.
const LONGEST: u64 = 16 << 20;

/// Runs a program to its end, whatever it does with its streams. When `limit` has passed, or it
/// answers without an end, it is killed with all that it has started; too late is an error of kind
/// `TimedOut`.
///
/// # Errors
/// When it cannot be started, does not end, or answers more than 16 MiB.
#[expect(clippy::disallowed_methods, reason = "one deadline for all that is waited for here")]
pub fn run(
    program: &OsStr,
    arguments: &[&OsStr],
    input: &[u8],
    environment: &Environment,
    hidden: impl Fn(&str) -> bool,
    limit: Duration,
) -> std::io::Result<Finished> {
    let until = Instant::now() + limit;
    let mut command = command(program, arguments, environment, hidden);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // What it starts is ended with it, and a Ctrl-C meant for us does not cut a write of its off.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn()?;
    let (mut to, mut from) = (child.stdin.take(), child.stdout.take());
    let complaints = child.stderr.take();
    let input = zeroize::Zeroizing::new(input.to_vec());
    std::thread::spawn(move || {
        // A program that does not read its input is no failure; its answer tells.
        if let Some(to) = &mut to {
            let _ = to.write_all(&input);
        }
    });
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let Some(mut complaints) = complaints else { return };
        let mut errors = Vec::new();
        let _ = complaints.by_ref().take(ERRORS).read_to_end(&mut errors);
        let _ = said.send(errors);
        // The rest is read so that the program does not wait for a reader.
        let _ = std::io::copy(&mut complaints, &mut std::io::sink());
    });
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut output = Vec::new();
        let from = from.as_mut().map(|from| from.take(LONGEST + 1));
        let read = from.map_or(Ok(0), |mut from| from.read_to_end(&mut output));
        let _ = sender.send(read.map(|_| output));
    });
    let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let left = || until.saturating_duration_since(Instant::now());
    let output = receiver.recv_timeout(left()).map_err(|_| late()).and_then(|read| read);
    let output = output.and_then(|output| match output.len() as u64 {
        0..=LONGEST => Ok(output),
        _ => Err(std::io::Error::other("it answers without an end")),
    });
    let finished = output.and_then(|output| {
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if left().is_zero() => return Err(late()),
                // It has said everything; only its end is missing.
                None => std::thread::sleep(left().min(Duration::from_millis(2))),
            }
        };
        // What it started may keep standard error open, so the end of it is not waited for.
        let patience = if status.success() { Duration::ZERO } else { LAST_WORDS };
        let errors = heard.recv_timeout(patience).unwrap_or_default();
        Ok(Finished { success: status.success(), status, output, errors })
    });
    if finished.is_err() {
        kill(&mut child);
    }
    finished
}

/// Ends a program and all that it has started, unless that left its process group.
fn kill(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Starts a program that lives its own life: not waited for, in a process group of its own so
/// that a Ctrl-C meant for us does not reach it. `more` goes into its environment.
///
/// # Errors
/// When it cannot be started.
pub fn launch<'v>(
    program: &OsStr,
    arguments: &[&OsStr],
    more: impl IntoIterator<Item = (&'v OsStr, &'v OsStr)>,
    environment: &Environment,
    hidden: impl Fn(&str) -> bool,
) -> std::io::Result<()> {
    let mut command = command(program, arguments, environment, hidden);
    command.envs(more);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map(drop)
}

/// Lets another program take our place, with our streams: it is waited for by whoever waits for
/// us. Comes back only where it could not be started, or where the system knows no such thing.
///
/// # Errors
/// When it cannot be started.
pub fn hand_over(
    program: &Path,
    arguments: &[OsString],
    output: &File,
    environment: &Environment,
    hidden: impl Fn(&str) -> bool,
) -> std::io::Result<u8> {
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    let mut command = command(program.as_os_str(), &arguments, environment, hidden);
    command
        .env(HANDED_OVER, "1")
        .stdin(Stdio::inherit())
        .stdout(output.try_clone()?)
        .stderr(Stdio::inherit());
    #[cfg(unix)]
    return Err(std::os::unix::process::CommandExt::exec(&mut command));
    #[cfg(not(unix))]
    command.status().map(|status| status.code().and_then(|code| code.try_into().ok()).unwrap_or(1))
}

#[expect(clippy::disallowed_methods, reason = "the room that starts programs")]
fn command(
    program: &OsStr,
    arguments: &[&OsStr],
    environment: &Environment,
    hidden: impl Fn(&str) -> bool,
) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment.without(hidden))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> std::io::Result<Finished> {
        let environment: Environment =
            [("PATH".into(), "/usr/bin:/bin".into()), ("VALETKEY_TOKEN_a".into(), "canary".into())]
                .into_iter()
                .collect();
        let hidden = |name: &str| name.starts_with("VALETKEY_TOKEN_");
        let arguments = ["-c", script].map(OsStr::new);
        run(OsStr::new("/bin/sh"), &arguments, &[b'x'; 1 << 20], &environment, hidden, limit)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_that_hangs_is_killed_when_its_time_is_over() {
        let error = shell("exec sleep 600", Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        // One that answers much without reading anything is no trouble.
        let finished = shell("exec head -c 300000 /dev/zero", LONG).unwrap();
        assert!(finished.success && finished.output.len() == 300_000);
        let failed = shell("echo why >&2; head -c 300000 /dev/zero >&2; exit 3", LONG).unwrap();
        assert!(!failed.success && failed.errors.starts_with(b"why\n"));
        assert_eq!(failed.errors.len() as u64, ERRORS);
    }

    /// Whatever it does, and whatever it leaves behind: its time ends, and so does its group.
    #[test]
    fn no_program_and_nothing_that_it_has_started_outlives_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let alive = directory.path().join("alive");
        let shown = alive.display();
        for script in [
            "exec sleep 600",
            "exec >&- 2>&-; sleep 600",
            "echo answer; exec >&-; sleep 600",
            "trap '' TERM INT HUP; while :; do sleep 0.1; done",
            "sleep 600 & exit 0",
            "exec yes",
            "kill -STOP $$",
        ] {
            // The lock that the group holds is free when all of it has ended.
            let script = format!("exec 9>'{shown}'; flock 9; {script}");
            let error = shell(&script, Duration::from_millis(400)).unwrap_err();
            let lock = File::options().create(true).append(true).open(&alive).unwrap();
            lock.lock().unwrap();
            let expected = [std::io::ErrorKind::TimedOut, std::io::ErrorKind::Other];
            assert!(expected.contains(&error.kind()), "{script}: {error}");
        }
        assert!(!shell("kill -9 $$", LONG).unwrap().success);
    }

    #[test]
    fn no_program_sees_a_token_of_the_environment() {
        let finished = shell("env", LONG).unwrap();
        let text = String::from_utf8_lossy(&finished.output);
        assert!(text.contains("PATH=") && !text.contains("canary"), "{text}");
    }
}
