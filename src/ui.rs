//! Meeting the person. Rules of the house:
//!
//! - stdout is never touched here; stderr is for talk, and stays empty when all went well.
//! - What needs a person goes to the terminal: stderr if it is one, else `/dev/tty`, because half
//!   of the tools that run us swallow stderr.
//! - Sentences start in lower case and end without a full stop; `error:`, `hint:` and `warning:`
//!   stand before them.
//! - What strangers wrote is stripped of control and direction characters before it is shown.

mod browser;
#[cfg(unix)]
mod secret;

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::mpsc;

use url::Url;

use crate::clock::Clock;
use crate::environment::Environment;
use crate::error::Error;
pub use crate::model::sanitize;
use crate::model::{Caller, Secret};
use crate::program;

/// A terminal as a picture has to know it.
pub struct Screen {
    /// Columns and rows; 80 and 24 where it does not say.
    pub size: (u16, u16),
    /// Whether it takes colours.
    pub coloured: bool,
}

pub struct Ui<'a> {
    environment: &'a Environment,
    /// Names of variables that no child may see.
    hidden: &'a dyn Fn(&str) -> bool,
    stderr_is_terminal: fn() -> bool,
    /// Our standard output, only to see whether somebody still reads it.
    caller: &'a File,
    terminal: OnceCell<Option<File>>,
    lines: OnceCell<Option<mpsc::Receiver<String>>>,
    logging: bool,
}

impl<'a> Ui<'a> {
    pub fn new(
        environment: &'a Environment,
        hidden: &'a dyn Fn(&str) -> bool,
        stderr_is_terminal: fn() -> bool,
        caller: &'a File,
    ) -> Self {
        let logging = environment.get("VALETKEY_LOG").is_some_and(|level| level != "off");
        let (terminal, lines) = (OnceCell::new(), OnceCell::new());
        Self { environment, hidden, stderr_is_terminal, caller, terminal, lines, logging }
    }

    /// Whether somebody is here who could answer, and may be asked by this caller.
    #[must_use]
    pub fn person(&self, caller: Caller) -> bool {
        self.could_ask(caller) && !(caller == Caller::Git && self.git_forbids_asking())
    }

    /// As `person`, as far as it can be known at no cost.
    #[must_use]
    pub fn could_ask(&self, caller: Caller) -> bool {
        if caller.asks_nobody() {
            return false;
        }
        match self.environment.get("VALETKEY_INTERACTIVE") {
            Some("always") => return true,
            Some("never") => return false,
            _ => {}
        }
        let ci = self.environment.get("CI").is_some_and(|value| value != "false");
        let git = caller == Caller::Git && self.environment.get("GIT_TERMINAL_PROMPT") == Some("0");
        let terminal = caller != Caller::Hidden && self.terminal().is_some();
        !ci && !git && (terminal || self.desktop())
    }

    /// Whether the environment says in so many words that nobody is here.
    #[must_use]
    pub fn is_told_that_nobody_is_here(&self) -> bool {
        self.environment.get("VALETKEY_INTERACTIVE") == Some("never")
    }

    /// What to do where `person` says no: `command` is what somebody wanted to run.
    #[must_use]
    pub fn how_to_be_asked(&self, command: &str) -> String {
        let told = self.environment.get("VALETKEY_INTERACTIVE").is_some();
        if told || self.environment.get("CI").is_some_and(|value| value != "false") {
            return format!("VALETKEY_INTERACTIVE=always {command}");
        }
        "run it in a terminal, or set VALETKEY_INTERACTIVE=always".to_owned()
    }

    /// git-config(1) `credential.interactive`, which git leaves to its helpers to honour.
    fn git_forbids_asking(&self) -> bool {
        let Some(git) = program::find("git", self.environment) else { return false };
        let arguments = ["config", "--get", "credential.interactive"];
        let answer = program::run(
            git.as_os_str(),
            &arguments.map(OsStr::new),
            b"",
            self.environment,
            self.hidden,
            std::time::Duration::from_secs(5),
        );
        let word = answer.map(|finished| finished.output).unwrap_or_default();
        let word = String::from_utf8_lossy(&word).trim().to_ascii_lowercase();
        matches!(word.as_str(), "false" | "never" | "no" | "off" | "0")
    }

    /// Whether the caller has gone away: git was interrupted, or never meant the request.
    #[cfg(unix)]
    #[must_use]
    pub fn caller_is_gone(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut watched = [PollFd::new(self.caller, PollFlags::OUT)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let polled = poll(&mut watched, Some(&at_once));
        // A pipe without a reader is in error; a socket, and a pipe of a BSD, is hung up.
        polled.is_ok() && watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
    }

    #[cfg(not(unix))]
    #[must_use]
    pub fn caller_is_gone(&self) -> bool {
        false
    }

    /// Says something to the person.
    pub fn say(&self, text: &str) {
        self.show(&sanitize(text));
    }

    /// Shows what we drew ourselves, colours and all.
    pub fn show(&self, text: &str) {
        match self.terminal().filter(|_| !(self.stderr_is_terminal)()) {
            Some(mut terminal) => {
                // A terminal that went away has nobody before it.
                let _ = writeln!(terminal, "{text}");
            }
            None => to_stderr(text),
        }
    }

    /// The screen that the person looks at, if there is one.
    #[must_use]
    pub fn screen(&self) -> Option<Screen> {
        let terminal = self.terminal();
        if terminal.is_none() && !(self.stderr_is_terminal)() {
            return None;
        }
        let known = |name: &str| self.environment.get(name).is_some_and(|value| value != "dumb");
        let coloured = known("TERM") && self.environment.raw("NO_COLOR").is_none();
        Some(Screen { size: terminal.and_then(size).unwrap_or((80, 24)), coloured })
    }

    pub fn warn(&self, text: &str) {
        to_stderr(&format!("warning: {}", sanitize(text)));
    }

    /// Lets GitHub Actions hide what we answer a script wherever it would show up in the log of the
    /// job: the runner reads the line, and shows it to nobody. For nothing else: a caller that
    /// quotes our standard error puts it in the middle of a line, which no runner reads.
    pub fn mask(&self, answer: &str) {
        let word = !answer.is_empty() && answer.bytes().all(|byte| byte.is_ascii_graphic());
        if word && self.environment.raw("GITHUB_ACTIONS").is_some() {
            to_stderr(&format!("::add-mask::{answer}"));
        }
    }

    /// One step of the road, for VALETKEY_LOG. Steps hold names and numbers, never secrets.
    pub fn log(&self, step: impl FnOnce() -> String) {
        if self.logging {
            to_stderr(&format!("valetkey: {}", sanitize(&step())));
        }
    }

    /// Whether a person sees what `say` says on a screen of their own.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        (self.stderr_is_terminal)() || self.terminal().is_some()
    }

    /// Lines that the person types or pastes, as they come. There is one reader of them: a second one
    /// would take every other line from the first.
    #[must_use]
    pub fn lines(&self) -> Option<&mpsc::Receiver<String>> {
        self.lines.get_or_init(|| self.read_lines()).as_ref()
    }

    fn read_lines(&self) -> Option<mpsc::Receiver<String>> {
        let terminal = self.terminal()?.try_clone().ok()?;
        if !in_foreground(&terminal) {
            return None;
        }
        let (sender, receiver) = mpsc::channel();
        // It ends with the process: a read of a terminal cannot be called off.
        std::thread::spawn(move || {
            for line in BufReader::new(terminal).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Some(receiver)
    }

    /// Whether the person at the terminal types yes within this time. Nobody there is no yes.
    #[must_use]
    pub fn agrees(&self, question: &str, limit: std::time::Duration) -> bool {
        if self.is_told_that_nobody_is_here() {
            return false;
        }
        let Some(lines) = self.lines() else { return false };
        // What was typed before the question is no answer to it.
        while lines.try_recv().is_ok() {}
        self.say(&format!("{question}: type yes to go on"));
        lines.recv_timeout(limit).is_ok_and(|line| line.trim().eq_ignore_ascii_case("yes"))
    }

    /// Asks for a secret that does not show while it is typed or pasted. The outer `None`: there
    /// is no terminal to ask on; the inner: the person gave none.
    #[must_use]
    pub fn ask_secret(
        &self,
        prompt: &str,
        limit: std::time::Duration,
        clock: &dyn Clock,
    ) -> Option<Option<Secret>> {
        let terminal = self.terminal().filter(|terminal| in_foreground(terminal))?;
        let prompt = || self.say(prompt);
        Some(read_secret(terminal, &prompt, limit, clock, &|| self.caller_is_gone()))
    }

    fn terminal(&self) -> Option<&File> {
        self.terminal.get_or_init(open_terminal).as_ref()
    }

    /// Whether this machine can show the person a browser from which our listener can be reached:
    /// theirs by `$BROWSER`, or a desktop.
    /// The passphrase of the encrypted store, from a person at a terminal who may be asked.
    #[must_use]
    pub fn ask_passphrase(&self, prompt: &str, clock: &dyn Clock) -> Option<Secret> {
        // Whoever calls: what forbids git's questions forbids this one.
        if !self.could_ask(Caller::Git) {
            return None;
        }
        self.ask_secret(prompt, std::time::Duration::from_secs(60), clock).flatten()
    }

    #[must_use]
    pub fn can_open_browser(&self) -> bool {
        let set = |name: &str| self.environment.raw(name).is_some();
        // VS Code sets BROWSER to a way back to the person's machine, and forwards our port there
        // over SSH and from its containers, but not through its tunnels.
        let tunnel = set("VSCODE_IPC_HOOK_CLI")
            && !["SSH_CONNECTION", "REMOTE_CONTAINERS", "WSL_DISTRO_NAME"].into_iter().any(set);
        (set("BROWSER") && !tunnel) || self.desktop()
    }

    /// A desktop here, not at the other end of an SSH connection unless its display is forwarded.
    fn desktop(&self) -> bool {
        let set = |name: &str| self.environment.raw(name).is_some();
        let own = cfg!(any(target_os = "macos", windows));
        let around_us = set("WSL_DISTRO_NAME") && set("WSL_INTEROP");
        let forwarded = !own && (set("DISPLAY") || set("WAYLAND_DISPLAY"));
        forwarded || ((own || around_us) && !set("SSH_CONNECTION"))
    }

    /// Shows a page in a browser that is never waited for. `false` if none could be started.
    #[must_use]
    pub fn open(&self, url: &Url) -> bool {
        // After parsing nothing but these two schemes can reach a program, so no argument of ours
        // starts with a dash and no handler of another scheme is woken.
        if !matches!(url.scheme(), "https" | "http") {
            return false;
        }
        let browsers = self.environment.raw("BROWSER").map(browser::entries).unwrap_or_default();
        let theirs = browsers.iter().any(|entry| self.open_with(entry, url));
        theirs || (self.desktop() && self.open_by_desktop(url))
    }

    /// One entry of `$BROWSER`: a path as it stands, else words (`browser::words`). No shell.
    fn open_with(&self, entry: &OsStr, url: &Url) -> bool {
        if self.launch(entry, &[url.as_str().as_ref()], []) {
            return true;
        }
        let words = browser::words(entry, url.as_str());
        let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
        words.split_first().is_some_and(|(program, arguments)| self.launch(program, arguments, []))
    }

    fn open_by_desktop(&self, url: &Url) -> bool {
        let known = open::commands(url.as_str()).iter().any(|command| {
            let arguments: Vec<_> = command.get_args().collect();
            // PowerShell is told the URL by a variable, and so by no text that it would run.
            let more = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
            self.launch(command.get_program(), &arguments, more)
        });
        let debian = ["sensible-browser", "x-www-browser"];
        known || debian.iter().any(|name| self.launch(name.as_ref(), &[url.as_str().as_ref()], []))
    }

    fn launch<'v>(
        &self,
        program: &OsStr,
        arguments: &[&OsStr],
        more: impl IntoIterator<Item = (&'v OsStr, &'v OsStr)>,
    ) -> bool {
        let path = Path::new(program);
        let found = match path.components().nth(1) {
            None => program::find(path, self.environment),
            Some(_) => Some(path.to_owned()),
        };
        found.is_some_and(|program| {
            let (environment, hidden) = (self.environment, self.hidden);
            program::launch(program.as_os_str(), arguments, more, environment, hidden).is_ok()
        })
    }
}

#[cfg(unix)]
fn open_terminal() -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/tty").ok()
}

#[cfg(not(unix))]
fn open_terminal() -> Option<File> {
    OpenOptions::new().read(true).write(true).open("CONIN$").ok()
}

/// Columns and rows.
#[cfg(unix)]
fn size(terminal: &File) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

#[cfg(not(unix))]
fn size(_: &File) -> Option<(u16, u16)> {
    None
}

#[cfg(unix)]
use secret::read as read_secret;

#[cfg(not(unix))]
fn read_secret(
    _: &File,
    _: &dyn Fn(),
    _: std::time::Duration,
    _: &dyn Clock,
    _: &dyn Fn() -> bool,
) -> Option<Secret> {
    None
}

/// A background job that reads its terminal is stopped by the kernel.
#[cfg(unix)]
fn in_foreground(terminal: &File) -> bool {
    rustix::termios::tcgetpgrp(terminal).is_ok_and(|group| group == rustix::process::getpgrp())
}

#[cfg(not(unix))]
fn in_foreground(_: &File) -> bool {
    true
}

/// The one way in which a failure is shown.
pub fn report(error: &Error) {
    to_stderr(&describe(error));
}

/// `error:` with its causes, then `hint:`.
#[must_use]
pub fn describe(error: &Error) -> String {
    let mut text = format!("error: {}", error.what);
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    let mut text = sanitize(&text.replace('\n', " "));
    if let Some(hint) = &error.hint {
        text.push_str(&format!("\nhint: {}", sanitize(hint)));
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "the room that talks")]
fn to_stderr(text: &str) {
    // Nobody is left to be told that nobody can be told.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A word as a shell reads it back: what a stranger chose must not act in a line that a person is
/// told to run.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-:=@+,".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Words as a line for a shell.
#[must_use]
pub fn shell_line(words: &[&str]) -> String {
    words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// Attack 19: no scheme but http and https reaches a program, and so no handler of another one,
    /// no file and no option.
    #[test]
    fn attack_19_only_web_pages_are_opened() {
        let variables = [("BROWSER".into(), "/bin/true".into()), ("PATH".into(), "/bin".into())];
        let environment: Environment = variables.into_iter().collect();
        let nowhere = File::open("/dev/null").unwrap();
        let ui = Ui::new(&environment, &|_| false, || false, &nowhere);
        for (url, opened) in [
            ("https://auth.example/", true),
            ("http://127.0.0.1:8/", true),
            ("file:///etc/passwd", false),
            ("javascript:alert(1)", false),
            ("data:text/html,x", false),
            ("ms-msdt:/id", false),
            ("ssh://auth.example/", false),
        ] {
            assert_eq!(ui.open(&Url::parse(url).unwrap()), opened, "{url}");
        }
    }

    /// The table of oauth.md section 10, check 15, as far as it can be told from the environment.
    #[test]
    #[cfg(all(unix, not(target_os = "macos")))]
    fn a_browser_opens_only_where_the_person_and_our_listener_are_one_machine() {
        let nowhere = File::open("/dev/null").unwrap();
        for (variables, expected) in [
            ("", false),
            ("DISPLAY", true),
            ("WAYLAND_DISPLAY", true),
            ("BROWSER", true),
            ("SSH_CONNECTION", false),
            ("SSH_CONNECTION DISPLAY", true),
            ("SSH_CONNECTION BROWSER", true),
            ("VSCODE_IPC_HOOK_CLI BROWSER SSH_CONNECTION", true),
            ("VSCODE_IPC_HOOK_CLI BROWSER REMOTE_CONTAINERS", true),
            ("VSCODE_IPC_HOOK_CLI BROWSER", false),
            ("VSCODE_IPC_HOOK_CLI BROWSER DISPLAY", true),
            ("WSL_DISTRO_NAME WSL_INTEROP", true),
            ("WSL_DISTRO_NAME WSL_INTEROP SSH_CONNECTION", false),
            ("WSL_DISTRO_NAME WSL_INTEROP SSH_CONNECTION DISPLAY", true),
            ("WSL_DISTRO_NAME", false),
        ] {
            let environment: Environment =
                variables.split_whitespace().map(|name| (name.into(), "x".into())).collect();
            let ui = Ui::new(&environment, &|_| false, || true, &nowhere);
            assert_eq!(ui.can_open_browser(), expected, "{variables}");
        }
    }

    #[test]
    fn what_strangers_wrote_cannot_act() {
        let osc = "a\u{1b}]52;c;aGk=\u{7}b\u{9b}31m\r\u{202e}c\u{200b}";
        assert_eq!(sanitize(osc), "a]52;c;aGk=b31mc");
        let error = Error::new(Kind::Failed, "line\nerror: forged").hint("do\u{1b}[2J");
        assert_eq!(describe(&error), "error: line error: forged\nhint: do[2J");
    }
}
