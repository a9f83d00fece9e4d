//! A server that is a program of its own: it says in one line of JSON where it listens, and ends
//! when its stdin does, which is when the tests end at the latest.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use crate::lab::watched::PATIENCE;

/// Runs until dropped.
pub(super) struct Spoken {
    process: Child,
    _stdin: ChildStdin,
    said: Value,
}

impl Spoken {
    pub(super) fn start(interpreter: impl AsRef<OsStr>, script: &Path, options: &[&str]) -> Self {
        let mut process = Command::new(interpreter)
            .arg(script)
            .args(options)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("its interpreter");
        let stdin = process.stdin.take().expect("stdin is a pipe");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut reader, mut line) = (BufReader::new(stdout), String::new());
            let _ = reader.read_line(&mut line);
            let _ = sender.send(line);
            // It may talk on, and would die of a pipe that nobody reads.
            let _ = io::copy(&mut reader, &mut io::sink());
        });
        let line = receiver.recv_timeout(PATIENCE).unwrap_or_default();
        let said = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!("{} {options:?} said {line:?}: {error}", script.display())
        });
        Self { process, _stdin: stdin, said }
    }

    /// A member of what it said.
    pub(super) fn said(&self, name: &str) -> String {
        self.said[name].as_str().unwrap_or_else(|| panic!("no {name}: {}", self.said)).to_owned()
    }
}

impl Drop for Spoken {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
