//! A clock that stands still until somebody sleeps, and remembers each sleep.

use std::sync::Mutex;
use std::time::Duration;

use valetkey::clock::{Clock, System};

pub struct StandingClock {
    now: u64,
    pauses: Mutex<Vec<Duration>>,
}

impl StandingClock {
    pub fn new() -> Self {
        Self { now: System::start().now(), pauses: Mutex::default() }
    }

    pub fn pauses(&self) -> Vec<Duration> {
        self.pauses.lock().expect("a clock that nobody broke").clone()
    }

    pub fn waited(&self) -> Duration {
        self.pauses().iter().sum()
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
        self.pauses.lock().expect("a clock that nobody broke").push(time);
    }
}
