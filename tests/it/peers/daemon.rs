//! A server that nobody here wrote. It says where it listens in its first line, a JSON object.

use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use crate::lab::watched::PATIENCE;

/// Runs until dropped, and no longer than the tests: it ends when its stdin does.
pub(super) struct Daemon {
    process: Child,
    _stdin: ChildStdin,
    said: Value,
}

impl Daemon {
    pub(super) fn start(command: &mut Command) -> Self {
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = streams.spawn().expect("the program of a peer");
        let stdin = process.stdin.take().expect("stdin is a pipe");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut reader, mut line) = (BufReader::new(stdout), String::new());
            let _ = reader.read_line(&mut line);
            let _ = sender.send(line);
            // It talks on, and would die of a pipe that nobody reads.
            let _ = io::copy(&mut reader, &mut io::sink());
        });
        let line = receiver.recv_timeout(PATIENCE).unwrap_or_default();
        let said = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{command:?} said {line:?}: {error}"));
        Self { process, _stdin: stdin, said }
    }

    /// A member of its first line.
    pub(super) fn said(&self, name: &str) -> &str {
        self.said[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.said))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
