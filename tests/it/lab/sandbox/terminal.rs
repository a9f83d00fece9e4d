//! A pseudo terminal for one program, seen from the person's side. It never is the terminal of the
//! tests themselves.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tempfile::TempDir;

use super::super::watched::PATIENCE;
use super::run::Stream;

pub(super) struct Terminal {
    keyboard: File,
    output: Stream,
    /// Held until the end: between two programs that open it the terminal would be gone otherwise.
    program_side: OwnedFd,
    fifo: PathBuf,
    /// Where the fifo lies.
    _directory: TempDir,
}

impl Terminal {
    pub(super) fn open(scratch: &Path) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person_side = rustix::pty::openpt(flags).expect("a pseudo terminal");
        rustix::pty::grantpt(&person_side).expect("a terminal of one's own");
        rustix::pty::unlockpt(&person_side).expect("a terminal that can be opened");
        let name = rustix::pty::ptsname(&person_side, Vec::new()).expect("a terminal has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let program_side =
            rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("the other side");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&program_side, size).expect("a terminal has a size");

        let directory = tempfile::Builder::new()
            .prefix("lab-terminal-")
            .tempdir_in(scratch)
            .expect("a directory in the sandbox");
        let fifo = directory.path().join("stdin");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .expect("a new fifo");

        let keyboard = File::from(person_side);
        let screen = keyboard.try_clone().expect("a second handle");
        Self { keyboard, output: Stream::pump(screen), program_side, fifo, _directory: directory }
    }

    /// Where stdin comes from when it is not empty.
    pub(super) fn fifo(&self) -> &Path {
        &self.fifo
    }

    pub(super) fn program_side(&self) -> Stdio {
        self.program_side.try_clone().expect("a second handle").into()
    }

    pub(super) fn output(&self) -> &Stream {
        &self.output
    }

    pub(super) fn type_in(&self, text: &str) {
        (&self.keyboard).write_all(text.as_bytes()).expect("a terminal takes what is typed");
    }

    /// Lets the terminal go, and gives all that stood on it.
    pub(super) fn close(self) -> String {
        let Self { output, program_side, .. } = self;
        drop(program_side);
        output.ends(Instant::now() + PATIENCE);
        output.text()
    }
}
