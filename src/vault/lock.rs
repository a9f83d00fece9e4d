//! One lock per key, a file of its own and never the data (which is renamed away under it), taken
//! with the kernel's advisory lock: whoever dies lets go of it.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use crate::clock::Clock;
use crate::disk;
use crate::error::{Error, Kind, Result};

/// Between two looks at a lock that somebody holds.
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// `None` on a file system without locks: the caller goes on, reads again, and may try twice.
pub(super) fn take(
    path: &Path,
    patience: Duration,
    clock: &dyn Clock,
    waiting: &dyn Fn(),
) -> Result<Option<Lock>> {
    let mut file = disk::lock_file(path)?;
    let since = clock.elapsed();
    let until = since + patience;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => {
                sign(&mut file);
                return Ok(Some(Lock { _file: file }));
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) if has_no_locks(&error) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                let what = format!("cannot lock {}", path.display());
                return Err(Error::new(Kind::Storage, what).because(error));
            }
        }
        if clock.elapsed() >= until {
            let what = format!(
                "process {} has been renewing or signing in for {} seconds",
                holder(&mut file),
                patience.as_secs()
            );
            return Err(Error::new(Kind::Temporary, what)
                .hint("finish its sign-in or end it, then try again"));
        }
        if !told {
            told = true;
            waiting();
        }
        let now = clock.elapsed();
        // A renewal takes milliseconds, a sign-in minutes: who has waited long can wait longer.
        let pause = (now.saturating_sub(since) / 4).clamp(SHORTEST, LONGEST);
        clock.sleep(pause.min(until.saturating_sub(now)));
    }
}

/// NFS without a lock daemon says it in its own way.
fn has_no_locks(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::NOLCK.raw_os_error()) {
        return true;
    }
    error.kind() == ErrorKind::Unsupported
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
