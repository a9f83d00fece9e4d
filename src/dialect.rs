//! The languages of the callers. A dialect reads its own bytes into a `Request` and says an
//! `Outcome` in its own bytes; it knows no provider, no store and no flow.

pub mod git;

use std::fs::File;
use std::io::{Read, Write};

use crate::error::{Error, Result};
use crate::model::{Outcome, Request};

/// The only writer of standard output: everything that an answer holds, at once or not at all.
pub struct Wire<'a>(&'a File);

impl<'a> Wire<'a> {
    #[must_use]
    pub fn new(output: &'a File) -> Self {
        Self(output)
    }

    /// Sends the bytes of one answer. A caller that has stopped reading has its reasons.
    pub fn send(&self, bytes: &[u8]) {
        let mut output = self.0;
        let _ = output.write_all(bytes);
    }
}

/// What a dialect needs of the world: its input, its output, and somebody who answers.
pub struct Call<'a> {
    /// The operation that the caller named.
    pub verb: &'a str,
    pub input: &'a mut dyn Read,
    pub wire: &'a Wire<'a>,
    pub ask: &'a dyn Fn(&Request) -> Outcome,
}

/// One language.
pub struct Dialect {
    /// As in `valetkey NAME VERB`.
    pub name: &'static str,
    /// The name of a link to the program that speaks only this language.
    pub link: &'static str,
    /// The operations, for the usage line.
    pub verbs: &'static str,
    pub serve: fn(&mut Call<'_>) -> Result<Served>,
}

/// How a call ended, for the exit status.
pub enum Served {
    Answered,
    /// Nothing to give; a person may want to know why.
    Nothing(Option<Error>),
}

pub const DIALECTS: &[Dialect] = &[Dialect {
    name: "git",
    link: "git-credential-valetkey",
    verbs: "get|store|erase|capability",
    serve: git::serve,
}];

#[must_use]
pub fn named(name: &str) -> Option<&'static Dialect> {
    DIALECTS.iter().find(|dialect| dialect.name == name)
}

/// The dialect of a link's name, as the program finds it in `argv[0]`.
#[must_use]
pub fn linked(name: &str) -> Option<&'static Dialect> {
    DIALECTS.iter().find(|dialect| dialect.link == name)
}
