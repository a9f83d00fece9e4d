//! The program inside the test's own process, on a clock that only its own pauses move on: what
//! takes minutes in life takes no time here, and every pause is known.

use std::fs::File;
use std::io::{Cursor, Read as _, Seek as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use valetkey::clock::Clock;
use valetkey::environment::Environment;

use crate::planted;

const START: u64 = 1_700_000_000;

pub struct Clockwork {
    passed: Mutex<Duration>,
    /// Seconds that the wall clock runs in one of the monotonic.
    wall: u32,
}

impl Clockwork {
    pub fn passed(&self) -> Duration {
        *self.passed.lock().expect("no thread dies with it")
    }

    pub fn pass(&self, time: Duration) {
        *self.passed.lock().expect("no thread dies with it") += time;
    }
}

impl Clock for Clockwork {
    fn now(&self) -> u64 {
        START + self.passed().as_secs() * u64::from(self.wall)
    }

    fn elapsed(&self) -> Duration {
        self.passed()
    }

    fn sleep(&self, time: Duration) {
        assert!(!time.is_zero(), "a pause of nothing goes round for ever");
        // Whoever pauses this briefly waits for a lock, which a program that another test is just
        // starting may hold for a moment: it has a copy of all our files until it is itself.
        if time <= Duration::from_millis(50) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.pass(time);
    }
}

/// A home with a configuration and nothing else, and a person who can be asked.
pub struct Inside {
    home: TempDir,
    pub clock: Arc<Clockwork>,
}

impl Inside {
    pub fn with_wall_clock(wall: u32) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        Self { home, clock: Arc::new(Clockwork { passed: Mutex::default(), wall }) }
    }

    pub fn config(&self, text: &str) {
        std::fs::write(self.home.path().join("config.toml"), text).expect("a file of one's own");
    }

    /// The exit status and stdout.
    pub fn run(&self, arguments: &[&str], input: &str) -> (u8, String) {
        let home = self.home.path();
        // What this process locked in its last run may live on in a child for a moment.
        planted::assert_no_lock_in(&home.join(".local/state/valetkey/locks"));
        let environment: Environment = [
            ("HOME", home.to_owned()),
            ("VALETKEY_CONFIG", home.join("config.toml")),
            ("VALETKEY_STORE", "file".into()),
            ("VALETKEY_INTERACTIVE", "always".into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value.into_os_string()))
        .collect();
        let output = tempfile::tempfile().expect("a file");
        let mut copy: File = output.try_clone().expect("a second handle");
        let arguments = std::iter::once(&"valetkey").chain(arguments);
        let status = valetkey::run_with(
            valetkey::Process {
                arguments: arguments.map(Into::into).collect(),
                environment,
                program: || None,
                input: Box::new(Cursor::new(input.to_owned())),
                input_is_terminal: || false,
                output,
                // Keeps it off the terminal of whoever runs the tests.
                stderr_is_terminal: || true,
            },
            &*self.clock,
        );
        let mut text = String::new();
        copy.rewind().and_then(|()| copy.read_to_string(&mut text)).expect("stdout is text");
        (status, text)
    }
}
