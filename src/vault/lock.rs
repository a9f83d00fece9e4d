//! One lock per key, a file of its own and never the data (which is renamed away under it), taken
//! with the kernel's advisory lock: whoever dies lets go of it. Where the file system has no such
//! locks, or may keep them from other machines, a file that only one can make is taken as well.

mod standin;

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use super::Vault;
use crate::clock::Clock;
use crate::disk;
use crate::error::{Error, Kind, Result};
use standin::{Attempt, StandIn};

/// Between two looks at a lock that somebody holds.
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Lock {
    /// Let go of before the kernel's.
    _stand_in: Option<StandIn>,
    kernel: Option<File>,
}

impl Lock {
    /// Whether the file system has no locks, and only a file stands for this one.
    pub(super) fn is_only_a_file(&self) -> bool {
        self.kernel.is_none()
    }
}

/// Keeps other processes out until it is dropped.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "it is held, and never looked at")] Lock);

impl Vault<'_> {
    /// Waits up to `patience` until no other process does what `name` stands for.
    ///
    /// # Errors
    /// `Temporary` when another does it for too long, `Storage` when nothing can be locked.
    pub fn alone(&self, name: &str, patience: Duration) -> Result<Alone> {
        let path = self.environment.state_directory()?.join(format!("{name}.lock"));
        take(&path, patience, self.clock, &|| ()).map(Alone)
    }
}

/// Takes a lock, waiting up to `patience`. `waiting` is called once if somebody else holds it.
///
/// # Errors
/// `Temporary` when it cannot be had in time, `Storage` when nothing can be locked there.
pub(super) fn take(
    path: &Path,
    patience: Duration,
    clock: &dyn Clock,
    waiting: &dyn Fn(),
) -> Result<Lock> {
    let mut file = disk::lock_file(path)?;
    let since = clock.elapsed();
    let mut wait = Wait { since, until: since + patience, clock, waiting, told: false };
    let locked = loop {
        match file.try_lock() {
            Ok(()) => break true,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) if has_no_locks(&error) => break false,
            Err(TryLockError::Error(error)) => {
                let what = format!("cannot lock {}", path.display());
                return Err(Error::new(Kind::Storage, what).because(error));
            }
        }
        wait.pause(|| (holder(&mut file), "finish its sign-in or end it, then try again".into()))?;
    };
    if locked {
        sign(&mut file);
    }
    let mut stand_in = None;
    if !locked || may_be_shared(&file) {
        let mine = standin::Claim::new(path)?;
        stand_in = loop {
            match mine.attempt()? {
                Attempt::Taken(taken) => break Some(taken),
                Attempt::Held { by, hint } => wait.pause(|| (by, hint))?,
            }
        };
    }
    Ok(Lock { _stand_in: stand_in, kernel: locked.then_some(file) })
}

struct Wait<'a> {
    since: Duration,
    until: Duration,
    clock: &'a dyn Clock,
    waiting: &'a dyn Fn(),
    told: bool,
}

impl Wait<'_> {
    /// Waits a little, as long as there is patience. `why`: the holder, and what helps.
    fn pause(&mut self, why: impl FnOnce() -> (String, String)) -> Result<()> {
        let now = self.clock.elapsed();
        if now >= self.until {
            let (by, hint) = why();
            let seconds = (self.until - self.since).as_secs();
            let what =
                format!("process {by} has been renewing or signing in for {seconds} seconds");
            return Err(Error::new(Kind::Temporary, what).hint(hint));
        }
        if !self.told {
            self.told = true;
            (self.waiting)();
        }
        // A renewal takes milliseconds, a sign-in minutes: who has waited long can wait longer.
        let pause = (now.saturating_sub(self.since) / 4).clamp(SHORTEST, LONGEST);
        self.clock.sleep(pause.min(self.until.saturating_sub(now)));
        Ok(())
    }
}

/// NFS without a lock daemon, FUSE, and file systems of other systems each say it in their own way.
fn has_no_locks(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let number = error.raw_os_error();
        let all = [Errno::NOLCK, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS];
        if all.iter().any(|none| number == Some(none.raw_os_error())) {
            return true;
        }
    }
    error.kind() == ErrorKind::Unsupported
}

/// Whether other machines may see this file and not the kernel's lock: a mount option decides that
/// (`nolock`, `local_lock`, `localflock`), and cannot be asked.
#[cfg(target_os = "linux")]
fn may_be_shared(file: &File) -> bool {
    /// `statfs(2)`, and the sources of those that it does not list.
    const SHARED: &[u64] = &[
        0x6969,      // NFS
        0x517B,      // SMB
        0xFF53_4D42, // CIFS
        0xFE53_4D42, // SMB 2
        0x0102_1997, // 9P
        0x6573_5546, // FUSE, such as sshfs
        0x00C3_6400, // Ceph
        0x5346_414F, // AFS
        0x6B41_4653, // the kernel's AFS
        0x0BD0_0BD0, // Lustre
        0x1983_0326, // BeeGFS
        0x4750_4653, // GPFS
        0x0116_1970, // GFS2
        0x7461_636F, // OCFS2
        0x7372_7978, // Coda
        0x786F_4256, // VirtualBox
    ];
    let found = rustix::fs::fstatfs(file).map(|found| found.f_type);
    // The type of this number differs between architectures; its lower 32 bits are the number.
    found.is_ok_and(|kind| SHARED.contains(&u64::from(kind as u32)))
}

#[cfg(not(target_os = "linux"))]
fn may_be_shared(_: &File) -> bool {
    false
}

/// The holder's number, for the message of those who wait in vain. It may fail: nobody relies on it.
fn sign(file: &mut File) {
    let _ = file.set_len(0);
    let _ = file.rewind();
    let _ = write!(file, "{}", std::process::id());
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(20).read_to_string(&mut text));
    match read {
        Ok(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => text,
        _ => "?".to_owned(),
    }
}
