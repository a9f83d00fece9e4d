//! What recently went wrong in one place: rejected tokens and refused sign-ins. Rule V13.

use serde::{Deserialize, Serialize};

/// What recently went wrong in one place. It is not a secret, and lies beside the locks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setbacks {
    /// Tokens that the host rejected since the last one that it accepted.
    pub rejections: u32,
    /// Unix time in seconds of the last rejection.
    pub rejected: u64,
    /// Unix time in seconds at which a sign-in was refused or abandoned; 0 for never.
    pub refused: u64,
}

/// Seconds for which a host that rejected everything, or a person who said no, is left alone.
const COOLDOWN: u64 = 300;

impl Setbacks {
    /// What still counts: a rejection that is long past says nothing about the next token.
    #[must_use]
    pub fn current(self, now: u64) -> Self {
        if cools_down(self.rejected, now) {
            self
        } else {
            Self { rejections: 0, rejected: 0, ..self }
        }
    }

    /// Whether somebody has just said no.
    #[must_use]
    pub fn refused_lately(&self, now: u64) -> bool {
        cools_down(self.refused, now)
    }
}

fn cools_down(since: u64, now: u64) -> bool {
    // From the future: the clock was set back, and nobody is to wait for that.
    since != 0 && since <= now && now - since < COOLDOWN
}
