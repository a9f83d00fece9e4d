//! Sites that people sign in to today, each as its own public document describes it, and stricter
//! than it where a careless client would pass. None of them knows how valetkey works.

pub mod autocom;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// A word that nobody guesses, behind a prefix that says what it is.
fn mint(prefix: &str) -> String {
    let word = || format!("{:016x}", RandomState::new().build_hasher().finish());
    format!("{prefix}{}{}", word(), word())
}
