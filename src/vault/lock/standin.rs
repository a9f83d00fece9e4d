//! A lock that is a file: only one process can make it, on whichever machine. It says who holds it,
//! so that one whose holder has died is taken over.
//!
//! `KEY.lock.held` is the lock, and whoever makes it has it. To take over a dead one, a process
//! first makes `KEY.lock.held.ID` with the dead holder's id, which again only one can, sees that
//! the lock is still the dead one's, and renames its own claim over the lock. An id is never used
//! twice, so a process that was slow finds another id than the one that it took for dead. A process
//! that dies while it takes over leaves such a file: that is taken over in the same way.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::disk;
use crate::error::{Error, Kind, Result};

/// No sign-in takes as long. A holder of which no more can be known than its age is dead then.
const LONGEST: Duration = Duration::from_secs(3600);

/// How often a lock may change hands while it is looked at.
const TRIES: usize = 20;

/// A holder, as the lock tells it to others. Nothing in it is secret.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Holder {
    id: String,
    process: u32,
    /// In ticks since the machine started, which tells it from a later process of this number.
    started: u64,
    /// The start of the machine, and the numbering of processes: `process` means something only
    /// where both are the same. A container has a numbering of its own.
    boot: String,
    numbering: String,
    host: String,
    machine: String,
}

/// One process that wants the lock.
pub(super) struct Claim {
    path: PathBuf,
    me: Holder,
    content: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct StandIn {
    path: PathBuf,
    id: String,
}

pub(super) enum Attempt {
    Taken(StandIn),
    Held { by: String, hint: String },
}

impl Claim {
    pub(super) fn new(lock: &Path) -> Result<Self> {
        let me = Holder::me();
        let content = serde_json::to_vec(&me).unwrap_or_default();
        let path = beside(lock, "held");
        Ok(Self { path, me, content })
    }

    /// Takes the lock if nobody who lives holds it.
    pub(super) fn attempt(&self) -> Result<Attempt> {
        for _ in 0..TRIES {
            if disk::make_new(&self.path, &self.content)? {
                return Ok(self.taken());
            }
            let Some(holder) = read(&self.path)? else { continue };
            if holder.id == self.me.id {
                // A server that was asked twice by NFS made it the first time.
                return Ok(self.taken());
            }
            if !holder.is_dead(&self.me, &self.path)? {
                return Ok(self.held(&holder));
            }
            if let Some(attempt) = self.take_over(&holder)? {
                return Ok(attempt);
            }
        }
        let what = format!("others keep taking {}", self.path.display());
        Err(Error::new(Kind::Temporary, what))
    }

    /// `None`: somebody else was faster.
    fn take_over(&self, dead: &Holder) -> Result<Option<Attempt>> {
        let mut last = dead.id.clone();
        for _ in 0..TRIES {
            let claim = beside(&self.path, &last);
            if disk::make_new(&claim, &self.content)? {
                if read(&self.path)?.is_some_and(|holder| holder.id == dead.id) {
                    disk::rename(&claim, &self.path)?;
                    return Ok(Some(self.taken()));
                }
                disk::remove(&claim)?;
                return Ok(None);
            }
            let Some(other) = read(&claim)? else { return Ok(None) };
            if other.id == self.me.id {
                continue;
            }
            if !other.is_dead(&self.me, &claim)? {
                return Ok(Some(self.held(&other)));
            }
            last = other.id;
        }
        Ok(None)
    }

    fn taken(&self) -> Attempt {
        // What others have left on their way. One that still lives tries again.
        disk::sweep_all(&self.path);
        Attempt::Taken(StandIn { path: self.path.clone(), id: self.me.id.clone() })
    }

    fn held(&self, holder: &Holder) -> Attempt {
        let Holder { process, host, .. } = holder;
        let host = if host.is_empty() { "an unknown computer" } else { host };
        let by = format!("{process} on {host}");
        let hint = format!(
            "finish its sign-in or end it, then try again; if {host} has stopped: rm {}",
            self.path.display()
        );
        Attempt::Held { by, hint }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // One that somebody took over is not ours any more.
        if read(&self.path).is_ok_and(|holder| holder.is_some_and(|holder| holder.id == self.id)) {
            let _ = disk::remove(&self.path);
        }
    }
}

impl Holder {
    fn me() -> Self {
        let line = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.lines().next().unwrap_or_default().to_owned()
        };
        let numbering = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let process = std::process::id();
        let started = started(process).ok().flatten();
        Self {
            id: format!("{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>()),
            process,
            started: started.unwrap_or_default(),
            boot: line("/proc/sys/kernel/random/boot_id"),
            // Without its start the number says nothing.
            numbering: started.map_or_else(String::new, |_| numbering.to_string_lossy().into()),
            host: host(),
            machine: line("/etc/machine-id"),
        }
    }

    /// Whether it is certain that this holder, whose file is at `path`, does not live any more.
    fn is_dead(&self, me: &Self, path: &Path) -> Result<bool> {
        let same = |one: &str, other: &str| !one.is_empty() && one == other;
        if same(&self.boot, &me.boot) && same(&self.numbering, &me.numbering) {
            // What cannot be asked is not dead.
            return Ok(started(self.process).is_ok_and(|started| started != Some(self.started)));
        }
        let here = same(&self.host, &me.host) && same(&self.machine, &me.machine);
        if here && !self.boot.is_empty() && !me.boot.is_empty() && self.boot != me.boot {
            // The machine was started anew.
            return Ok(true);
        }
        Ok(disk::age(path)? > LONGEST)
    }
}

/// When a process was started; `None` where there is none of this number, or it has ended and
/// only waits for its parent (proc_pid_stat(5)).
fn started(process: u32) -> std::io::Result<Option<u64>> {
    let text = match std::fs::read_to_string(format!("/proc/{process}/stat")) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound || has_ended(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Its name, in parentheses, may hold anything.
    let mut fields = text.rsplit_once(") ").map_or("", |(_, rest)| rest).split_ascii_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return Ok(None);
    }
    let started = fields.nth(18).and_then(|ticks| ticks.parse().ok());
    started.map(Some).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// It was there when its file was opened.
#[cfg(unix)]
fn has_ended(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

#[cfg(not(unix))]
fn has_ended(_: &std::io::Error) -> bool {
    false
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    String::new()
}

fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(more);
    name.into()
}

/// What cannot be read as a holder is one of whom nothing is known.
fn read(path: &Path) -> Result<Option<Holder>> {
    let Some(content) = disk::read(path)? else { return Ok(None) };
    let holder: Holder = serde_json::from_slice(&content).unwrap_or_default();
    // It becomes a part of names.
    let plain = holder.id.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(Some(if plain { holder } else { Holder::default() }))
}
