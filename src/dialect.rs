//! The languages of the callers. A dialect reads its own bytes into a `Request` and says an
//! `Outcome` in its own bytes; it knows no provider, no store and no flow.

pub mod askpass;
pub mod aws;
pub mod bazel;
pub mod cargo;
pub mod docker;
pub mod generic;
pub mod git;
pub mod goauth;
pub mod google;
pub mod keyring;
pub mod kubectl;
pub mod terraform;
pub mod vault;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};

use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{Bound, Outcome, Request};

/// The only writer of standard output: everything that an answer holds, at once or not at all.
pub struct Wire<'a>(&'a File);

impl<'a> Wire<'a> {
    #[must_use]
    pub fn new(output: &'a File) -> Self {
        Self(output)
    }

    /// Sends the bytes of one answer. A caller that has stopped reading has its reasons.
    ///
    /// # Errors
    /// `Failed` when they cannot be written for any other reason, such as a full disk.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        let mut output = self.0;
        match output.write_all(bytes) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Error::new(Kind::Failed, "the answer cannot be written").because(error))
            }
            _ => Ok(()),
        }
    }
}

/// What a dialect needs of the world: what the caller said, and somebody who answers.
pub struct Call<'a> {
    /// What followed the dialect's name on the command line.
    pub arguments: &'a [String],
    pub environment: &'a Environment,
    pub input: &'a mut dyn Read,
    pub wire: &'a Wire<'a>,
    pub ask: &'a dyn Fn(&Request) -> Outcome,
    /// Hides a text that is the answer in the log of a job.
    pub mask: &'a dyn Fn(&str),
    /// The URLs below which one account answers: an origin, or a path of it that a profile names.
    pub bound: &'a dyn Fn() -> Vec<Bound>,
    /// Lets the next program of this name on PATH that is not ours have the whole call, with our
    /// arguments and streams; whoever has read of them must not. It gives the exit status, or
    /// `None` where there is no such program.
    pub elsewhere: &'a dyn Fn(&str) -> Result<Option<u8>>,
}

impl Call<'_> {
    /// The first argument, where the dialect has operations.
    ///
    /// # Errors
    /// `Usage` when there is none.
    pub fn verb(&self, dialect: &Dialect) -> Result<&str> {
        self.arguments.first().map(String::as_str).ok_or_else(|| {
            let what = format!("{} needs an operation: {}", dialect.name, dialect.usage);
            Error::new(Kind::Usage, what).hint("valetkey --help")
        })
    }
}

/// Whether a text can be said in one line: some callers read lines, and one more would be a lie
/// of ours.
#[must_use]
pub fn is_one_line(text: &str) -> bool {
    !text.contains(['\n', '\r', '\0'])
}

/// Bytes of a caller without the byte order mark that some programs write before all text.
#[must_use]
pub fn unmarked(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// One language.
pub struct Dialect {
    /// As in `valetkey NAME ...`.
    pub name: &'static str,
    /// The name of a link to the program that speaks only this language.
    pub link: Option<&'static str>,
    /// What follows the name.
    pub usage: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    pub serve: fn(&mut Call<'_>) -> Result<Served>,
}

/// How a call ended: the exit status, which the dialect dictates, and what a person may want to
/// know, which goes to standard error.
#[derive(Debug, Default)]
pub struct Served {
    pub status: u8,
    pub why: Option<Error>,
}

impl Served {
    /// Nothing to give, in a dialect that leaves the exit status to us.
    #[must_use]
    pub fn nothing(why: Option<Error>) -> Self {
        let kind = why.as_ref().map_or(Kind::NotSignedIn, |why| why.kind);
        Self { status: kind.exit_status(), why }
    }
}

pub const DIALECTS: &[Dialect] = &[
    git::DIALECT,
    docker::DIALECT,
    cargo::DIALECT,
    kubectl::DIALECT,
    keyring::DIALECT,
    terraform::DIALECT,
    generic::TOKEN,
    generic::HEADER,
    generic::JSON,
    goauth::DIALECT,
    bazel::DIALECT,
    vault::DIALECT,
    askpass::DIALECT,
    aws::DIALECT,
    google::DIALECT,
];

impl Dialect {
    /// Whether the tool's own protocol says what comes of `--help` and `--version`. `linked`: the
    /// program was called by its link.
    #[must_use]
    pub fn answers_help(&self, linked: bool) -> bool {
        let by_link = [keyring::DIALECT.name, bazel::DIALECT.name];
        self.name == docker::DIALECT.name || linked && by_link.contains(&self.name)
    }

    /// What `--help` shows.
    #[must_use]
    pub fn help(&self) -> String {
        let Self { name, link, usage, about, .. } = self;
        let link = link.map_or_else(String::new, |link| format!("\n   or: {link} {usage}"));
        format!(
            "{about}\n\nUsage: valetkey {name} {usage}{link}\n\nvaletkey --help lists the rest\n"
        )
    }

    /// How an error is said on standard output, for callers that take standard error for a part
    /// of the answer.
    #[must_use]
    pub fn says_errors(&self) -> Option<fn(&Error) -> zeroize::Zeroizing<String>> {
        (self.name == google::DIALECT.name).then_some(google::failure)
    }
}

#[must_use]
pub fn named(name: &str) -> Option<&'static Dialect> {
    DIALECTS.iter().find(|dialect| dialect.name == name)
}

/// The dialect of a link's name, as the program finds it in `argv[0]`.
#[must_use]
pub fn linked(name: &str) -> Option<&'static Dialect> {
    DIALECTS.iter().find(|dialect| dialect.link == Some(name))
}
