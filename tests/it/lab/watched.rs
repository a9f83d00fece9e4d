//! A value shared between threads, and a way to wait until it looks right. All waiting in the
//! laboratory goes through here, so nothing waits for ever.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the laboratory waits for anything that should happen at once: far longer than the most
/// loaded machine takes, so that only what never comes is missed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for what no thread can tell of, a file or another program's books, by looking again.
#[track_caller]
pub fn poll<R>(what: &str, look: impl Fn() -> Option<R>) -> R {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[derive(Debug, Default)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Condvar::new() }
    }

    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.locked())
    }

    /// Changes the value and wakes everyone who waits for it.
    pub fn change<R>(&self, alter: impl FnOnce(&mut T) -> R) -> R {
        let result = alter(&mut self.locked());
        self.changed.notify_all();
        result
    }

    /// Waits until `look` finds what it wants. `None` when `deadline` has passed.
    pub fn wait<R>(&self, deadline: Instant, look: impl Fn(&T) -> Option<R>) -> Option<R> {
        let mut value = self.locked();
        loop {
            if let Some(found) = look(&value) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            value =
                self.changed.wait_timeout(value, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    // A test that panics in the middle of a look must not take the servers' threads with it: the
    // first panic is the one worth reading.
    fn locked(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
