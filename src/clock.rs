//! The only room that knows the time. Expiry is decided on the wall clock, waiting on the
//! monotonic one; a test can stand still.

use std::time::{Duration, Instant, SystemTime};

pub trait Clock: Sync {
    /// Seconds of Unix time.
    fn now(&self) -> u64;

    /// Time since an arbitrary start that never goes backwards.
    fn elapsed(&self) -> Duration;

    fn sleep(&self, time: Duration);
}

#[derive(Debug)]
pub struct System {
    start: Instant,
}

impl System {
    #[expect(clippy::disallowed_methods, reason = "the clock's own room")]
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "the clock's own room")]
    fn now(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the clock's own room")]
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
