//! What went wrong, in words for a person: a kind that decides the exit status, one sentence, the
//! command that mends it, and the cause. An error never holds a secret.

use std::fmt;

/// The caller's next move, and with it the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing more precise can be said.
    Failed,
    /// No credential is there and nobody can be asked for one.
    NotSignedIn,
    /// The person said no, or did not answer in time.
    Refused,
    /// The server does not take the credential (any more).
    Rejected,
    /// Network, server or another process: worth another try later.
    Temporary,
    /// The keychain or the file store cannot be used.
    Storage,
    /// The command line was wrong.
    Usage,
    /// The configuration is wrong.
    Configuration,
}

impl Kind {
    /// The exit status of the program, the same for every verb for people.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::NotSignedIn => 2,
            Self::Refused => 3,
            Self::Rejected => 4,
            Self::Temporary => 5,
            Self::Storage => 6,
            Self::Usage => 64,
            Self::Configuration => 78,
        }
    }
}

/// One failure. `what` is a sentence in lower case without a full stop that names the resource;
/// `hint` is what a person can do about it.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    pub what: String,
    pub hint: Option<String>,
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: None, source: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether nobody answered: what a server answers needs no cause beside its own words.
    #[must_use]
    pub fn is_of_the_way(&self) -> bool {
        self.kind == Kind::Temporary && self.source.is_some()
    }

    /// All of it, without the causes, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let hint = self.hint.iter().map(|hint| format!("; {hint}"));
        std::iter::once(self.what.clone()).chain(hint).collect()
    }

    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.what)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

pub type Result<T> = std::result::Result<T, Error>;
