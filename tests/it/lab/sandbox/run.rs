//! One program, run in the sandbox: built, started, watched while it runs, and judged when it is
//! done. Every program gets a session of its own, so that the terminal of whoever runs the tests is
//! out of its reach. It never runs longer than the limit, and none outlives the test.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::super::watched::{PATIENCE, Watched};
use super::Environment;
use super::terminal::Terminal;

/// No program in the sandbox has a reason to run longer, not on the most loaded machine either.
const LIMIT: Duration = Duration::from_secs(300);

enum Stdin {
    Nothing,
    Bytes(Vec<u8>),
    /// The test sends while the program runs.
    Open,
}

pub struct Run {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Environment,
    directory: PathBuf,
    /// For the one file that a program with a terminal needs.
    scratch: PathBuf,
    stdin: Stdin,
    terminal: bool,
}

impl Run {
    pub(super) fn new(
        program: &OsStr,
        arguments: &[&str],
        environment: Environment,
        directory: PathBuf,
        scratch: PathBuf,
    ) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment,
            directory,
            scratch,
            stdin: Stdin::Nothing,
            terminal: false,
        }
    }

    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.into(), value.as_ref().to_owned());
        self
    }

    #[must_use]
    pub fn remove_env(mut self, name: &str) -> Self {
        self.environment.remove(OsStr::new(name));
        self
    }

    #[must_use]
    pub fn cwd(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = directory.as_ref().to_owned();
        self
    }

    /// All of stdin; the program then sees the end of it. Without this it is `/dev/null`.
    #[must_use]
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = Stdin::Bytes(bytes.as_ref().to_vec());
        self
    }

    /// Stdin stays open for [`Started::send`]. Not together with [`Self::terminal`].
    #[must_use]
    pub fn stdin_open(mut self) -> Self {
        self.stdin = Stdin::Open;
        self
    }

    /// A controlling terminal, while stdin, stdout and stderr stay what they are. Somebody sits in
    /// front of it, so `GIT_TERMINAL_PROMPT=0` is taken back.
    #[must_use]
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self.environment.insert("TERM".into(), "xterm-256color".into());
        self.remove_env("GIT_TERMINAL_PROMPT")
    }

    #[track_caller]
    pub fn run(self) -> Finished {
        self.start().wait()
    }

    #[track_caller]
    pub fn start(self) -> Started {
        let label = self.label();
        let terminal = self.terminal.then(|| Terminal::open(&self.scratch));
        let mut command = Command::new("setsid");
        match &terminal {
            None => {
                command.arg("--").arg(&self.program);
                command.stdin(match self.stdin {
                    Stdin::Nothing => Stdio::null(),
                    Stdin::Bytes(_) | Stdin::Open => Stdio::piped(),
                });
            }
            Some(terminal) => {
                // setsid can only take its stdin as the terminal, so a shell puts the real stdin in
                // place before it becomes the program.
                let source = match &self.stdin {
                    Stdin::Nothing => OsStr::new("/dev/null"),
                    Stdin::Bytes(_) => terminal.fifo().as_os_str(),
                    Stdin::Open => panic!("stdin cannot stay open beside a terminal"),
                };
                command.args(["--ctty", "--", "sh", "-c", "exec \"$@\" <\"$0\""]);
                command.arg(source).arg(&self.program).stdin(terminal.program_side());
            }
        }
        command
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(&self.directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {label}: {error}"));
        // The copies of the terminal that the command holds would keep it alive.
        drop(command);

        let mut input = child.stdin.take();
        if let Stdin::Bytes(bytes) = self.stdin {
            let pipe = input.take();
            let fifo = terminal.as_ref().map(|terminal| terminal.fifo().to_owned());
            thread::spawn(move || feed(pipe, fifo.as_deref(), &bytes));
        }
        let stdout = Stream::pump(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Stream::pump(child.stderr.take().expect("stderr is a pipe"));
        let pid = Pid::from_child(&child);
        let exited = Arc::new(Watched::new(false));
        thread::spawn({
            let exited = Arc::clone(&exited);
            move || {
                // Only looks, so that the number stays this program's until `Started` lets it go.
                let _ = rustix::process::waitid(
                    WaitId::Pid(pid),
                    WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
                );
                exited.change(|exited| *exited = true);
            }
        });
        let deadline = Instant::now() + LIMIT;
        Started {
            label,
            child,
            pid,
            reaped: false,
            exited,
            input,
            stdout,
            stderr,
            terminal,
            deadline,
        }
    }

    fn label(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.arguments);
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// A program that does not want its input is free not to read it.
fn feed(pipe: Option<ChildStdin>, fifo: Option<&Path>, bytes: &[u8]) {
    if let Some(mut pipe) = pipe {
        let _ = pipe.write_all(bytes);
    } else if let Some(fifo) = fifo
        && let Ok(mut file) = File::options().write(true).open(fifo)
    {
        let _ = file.write_all(bytes);
    }
}

/// What came out of a program so far.
#[derive(Clone, Default)]
pub(super) struct Stream(Arc<Watched<Pumped>>);

#[derive(Default)]
struct Pumped {
    bytes: Vec<u8>,
    ended: bool,
}

impl Stream {
    pub(super) fn pump(mut source: impl Read + Send + 'static) -> Self {
        let stream = Self::default();
        thread::spawn({
            let stream = stream.clone();
            move || {
                let mut buffer = [0; 8 << 10];
                // A terminal whose programs are all gone reports an error instead of an end.
                while let Ok(length @ 1..) = source.read(&mut buffer) {
                    stream.0.change(|pumped| pumped.bytes.extend_from_slice(&buffer[..length]));
                }
                stream.0.change(|pumped| pumped.ended = true);
            }
        });
        stream
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.read(|pumped| pumped.bytes.clone())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Whether the text has appeared before the end, or before the deadline.
    pub(super) fn shows(&self, text: &str, deadline: Instant) -> bool {
        let seen = |pumped: &Pumped| {
            let found = String::from_utf8_lossy(&pumped.bytes).contains(text);
            (found || pumped.ended).then_some(found)
        };
        self.0.wait(deadline, seen).unwrap_or(false)
    }

    pub(super) fn ends(&self, deadline: Instant) -> bool {
        self.0.wait(deadline, |pumped| pumped.ended.then_some(())).is_some()
    }
}

/// A program while it runs. Killed with its whole process group when dropped before its end.
pub struct Started {
    label: String,
    child: Child,
    pid: Pid,
    reaped: bool,
    exited: Arc<Watched<bool>>,
    input: Option<ChildStdin>,
    stdout: Stream,
    stderr: Stream,
    terminal: Option<Terminal>,
    deadline: Instant,
}

impl Started {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&self) -> bool {
        !self.exited.read(|exited| *exited)
    }

    /// Only this program, as by `kill`; it is still there until waited for, so it cannot miss.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process(self.pid, signal);
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let input = self.input.as_mut().expect("started with stdin_open");
        input.write_all(bytes.as_ref()).unwrap_or_else(|error| {
            panic!("{} does not read its stdin: {error}\n{}", self.label, seen(self))
        });
    }

    pub fn close_stdin(&mut self) {
        self.input = None;
    }

    #[track_caller]
    pub fn expect_stdout(&self, text: &str) {
        self.expect("stdout", &self.stdout, text);
    }

    #[track_caller]
    pub fn expect_stderr(&self, text: &str) {
        self.expect("stderr", &self.stderr, text);
    }

    /// Everything on stdout so far.
    pub fn stdout_text(&self) -> String {
        self.stdout.text()
    }

    /// Everything on stderr so far.
    pub fn stderr_text(&self) -> String {
        self.stderr.text()
    }

    /// Blocks until the text has appeared on the terminal.
    #[track_caller]
    pub fn terminal_expect(&self, text: &str) {
        self.expect("the terminal", self.its_terminal().output(), text);
    }

    /// Types as a person would: end a line with `\n`, interrupt with `\x03`.
    #[track_caller]
    pub fn terminal_type(&self, text: &str) {
        self.its_terminal().type_in(text);
    }

    /// Everything on the terminal so far, with what was typed, lines ending in `\r\n`.
    #[track_caller]
    pub fn terminal_text(&self) -> String {
        self.its_terminal().output().text()
    }

    /// The end of the program, and of everything that holds its stdout or stderr: a caller who
    /// reads to the end has to wait for those too.
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        self.input = None;
        let exited = self.exited.wait(self.deadline, |exited| exited.then_some(())).is_some();
        if !exited {
            panic!("{} still runs after {LIMIT:?}\n{}", self.label, seen(&self));
        }
        if !(self.stdout.ends(self.deadline) && self.stderr.ends(self.deadline)) {
            panic!("{} has left a child that holds its output\n{}", self.label, seen(&self));
        }
        let status = self.child.wait().expect("an ended child can be waited for");
        self.reaped = true;
        let terminal = self.terminal.take().map(Terminal::close);
        Finished {
            label: self.label.clone(),
            status: number(status),
            stdout: self.stdout.bytes(),
            stderr: self.stderr.bytes(),
            terminal: terminal.unwrap_or_default(),
        }
    }

    #[track_caller]
    fn expect(&self, place: &str, stream: &Stream, text: &str) {
        if !stream.shows(text, Instant::now() + PATIENCE) {
            panic!("{}: {text:?} never appeared on {place}\n{}", self.label, seen(self));
        }
    }

    #[track_caller]
    fn its_terminal(&self) -> &Terminal {
        self.terminal.as_ref().expect("started with a terminal")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn seen(started: &Started) -> String {
    let terminal = started.terminal.as_ref().map(|terminal| terminal.output().text());
    report(&started.stdout.text(), &started.stderr.text(), &terminal.unwrap_or_default())
}

fn report(stdout: &str, stderr: &str, terminal: &str) -> String {
    let mut report = String::new();
    for (name, text) in [("stdout", stdout), ("stderr", stderr), ("terminal", terminal)] {
        report.push_str(&format!("--- {name}\n{text}"));
        if !text.is_empty() && !text.ends_with('\n') {
            report.push('\n');
        }
    }
    report
}

fn number(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    label: String,
    /// 128 + the signal, for a program that was killed.
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Everything that stood on the terminal, if there was one.
    pub terminal: String,
}

impl Finished {
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The exact status, stdout and stderr.
    #[track_caller]
    pub fn assert(&self, status: i32, stdout: &str, stderr: &str) -> &Self {
        let right =
            self.status == status && self.stdout_text() == stdout && self.stderr_text() == stderr;
        assert!(right, "wanted status {status}\n{}{self}", report(stdout, stderr, ""));
        self
    }

    #[track_caller]
    pub fn assert_status(&self, status: i32) -> &Self {
        assert!(self.status == status, "wanted status {status}, {self}");
        self
    }

    #[track_caller]
    pub fn assert_stdout(&self, stdout: &str) -> &Self {
        assert!(self.stdout_text() == stdout, "wanted stdout {stdout:?}, {self}");
        self
    }

    #[track_caller]
    pub fn assert_stderr_has(&self, text: &str) -> &Self {
        assert!(self.stderr_text().contains(text), "wanted {text:?} on stderr, {self}");
        self
    }

    #[track_caller]
    pub fn assert_terminal_has(&self, text: &str) -> &Self {
        assert!(self.terminal.contains(text), "wanted {text:?} on the terminal, {self}");
        self
    }

    /// Status 0 and nothing on stderr. Gives stdout.
    #[track_caller]
    pub fn assert_success(&self) -> String {
        assert!(self.status == 0 && self.stderr.is_empty(), "wanted quiet success, {self}");
        self.stdout_text()
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { label, status, terminal, .. } = self;
        let report = report(&self.stdout_text(), &self.stderr_text(), terminal);
        write!(out, "got status {status} from {label}\n{report}")
    }
}
