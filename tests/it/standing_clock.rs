//! A clock that stands still until somebody sleeps, and remembers for how long it was slept.

use std::sync::Mutex;
use std::time::Duration;

use valetkey::clock::{Clock, System};

pub struct StandingClock {
    now: u64,
    waited: Mutex<Duration>,
}

impl StandingClock {
    pub fn new() -> Self {
        Self { now: System::start().now(), waited: Mutex::default() }
    }

    pub fn waited(&self) -> Duration {
        *self.waited.lock().expect("a clock that nobody broke")
    }
}

impl Clock for StandingClock {
    fn now(&self) -> u64 {
        self.now + self.waited().as_secs()
    }

    fn elapsed(&self) -> Duration {
        self.waited()
    }

    fn sleep(&self, time: Duration) {
        *self.waited.lock().expect("a clock that nobody broke") += time;
    }
}
