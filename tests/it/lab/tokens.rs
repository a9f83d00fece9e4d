//! Personal access tokens as a server keeps them: the example for whoever writes an API. It needs
//! nothing of the laboratory, so it can be taken as it is.
//!
//! - A token is a prefix and 256 random bits. The prefix is yours alone: tell it to the programs
//!   that look for leaked secrets (github.com: "secret scanning partner program"), with the pattern
//!   `lab_[A-Za-z0-9_-]{43}`, and they will tell you which tokens to revoke.
//! - It is shown once. Kept is its SHA-256, which is enough to know it again; a slow hash would
//!   protect nothing more, because nobody can guess 256 bits.
//! - A person tells their tokens apart by name and by the first letters, which are kept too.
//! - When a token was last used is written down behind the answer's back: nobody waits for it.

use std::collections::HashMap;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::TryRng as _;
use sha2::{Digest as _, Sha256};

/// What every token begins with.
pub const PREFIX: &str = "lab_";

/// Letters of a token that its owner sees again: the prefix and eight more.
const SHOWN: usize = PREFIX.len() + 8;

/// What is kept of a token: a row of the database. All times are Unix time in seconds.
#[derive(Clone, Debug)]
pub struct Token {
    pub number: usize,
    pub owner: String,
    /// The owner's word for it: "laptop", "release job".
    pub name: String,
    pub sha256: [u8; 32],
    pub beginning: String,
    pub scopes: Vec<String>,
    pub made: u64,
    /// `None`: never, which nobody should want.
    pub expires: Option<u64>,
    pub revoked: Option<u64>,
}

/// By the number of the token.
type LastUsed = Arc<Mutex<HashMap<usize, u64>>>;

pub struct Tokens {
    rows: Mutex<Vec<Token>>,
    last_used: LastUsed,
    uses: Sender<(usize, u64)>,
}

impl Tokens {
    pub fn new() -> Self {
        let last_used = LastUsed::default();
        let (uses, used) = mpsc::channel();
        std::thread::spawn({
            let last_used = Arc::clone(&last_used);
            move || {
                for (number, time) in used {
                    locked(&last_used).insert(number, time);
                }
            }
        });
        Self { rows: Mutex::default(), last_used, uses }
    }

    /// Makes a token. What is returned is the only copy.
    pub fn issue(
        &self,
        owner: &str,
        name: &str,
        scopes: &[&str],
        expires: Option<u64>,
        now: u64,
    ) -> String {
        let mut random = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut random).expect("the system has random numbers");
        let token = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random));
        let mut rows = locked(&self.rows);
        let number = rows.len() + 1;
        rows.push(Token {
            number,
            owner: owner.to_owned(),
            name: name.to_owned(),
            sha256: Sha256::digest(&token).into(),
            beginning: token[..SHOWN].to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            made: now,
            expires,
            revoked: None,
        });
        token
    }

    /// The row of a token that is good: known, not revoked, not over.
    pub fn verify(&self, token: &str, now: u64) -> Option<Token> {
        let sha256: [u8; 32] = Sha256::digest(token).into();
        let rows = locked(&self.rows);
        let row = rows.iter().find(|row| row.sha256 == sha256)?;
        let good = row.revoked.is_none() && row.expires.is_none_or(|expires| expires > now);
        if !good {
            return None;
        }
        // To a queue, never to the table: a slow disk is no reason for a slow answer.
        let _ = self.uses.send((row.number, now));
        Some(row.clone())
    }

    /// The tokens of a person, and when each was last used.
    pub fn list(&self, owner: &str) -> Vec<(Token, Option<u64>)> {
        let own: Vec<Token> =
            locked(&self.rows).iter().filter(|row| row.owner == owner).cloned().collect();
        let last_used = locked(&self.last_used);
        own.into_iter().map(|row| (row.clone(), last_used.get(&row.number).copied())).collect()
    }

    /// Ends a token of a person; `false` where they have no such token. It stays in the list.
    pub fn revoke(&self, owner: &str, number: usize, now: u64) -> bool {
        let mut rows = locked(&self.rows);
        let row = rows.iter_mut().find(|row| row.owner == owner && row.number == number);
        row.map(|row| row.revoked.get_or_insert(now)).is_some()
    }

    /// Holds up whoever writes down when a token was used.
    pub fn hold_last_used(&self) -> MutexGuard<'_, HashMap<usize, u64>> {
        locked(&self.last_used)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
