//! Many at once for a long time: sixteen workers get, store, erase and list as chance wants it,
//! some are killed on the way, tokens last for seconds, and the server rotates refresh tokens and
//! ends the grant of one that comes twice. No session is lost but where a refresh was killed, no
//! answer is another's, and nothing is left behind.
//!
//! The suite makes some hundred operations; `scripts/soak` makes 20,000. `SOAK` is their number and
//! `SOAK_SEED` the beginning of chance, which the machine's scheduling adds to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::lab::{Finished, Options, Scheme};
use crate::planted;
use crate::scene::{Scene, value};

const WORKERS: usize = 16;

/// The first two are never killed.
const ACCOUNTS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const SPARED: usize = 2;

/// xorshift64*: the same numbers for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(mixed).expect("31 bits") % end
    }
}

fn number(name: &str, otherwise: usize) -> usize {
    let text = std::env::var(name).unwrap_or_default();
    text.parse().unwrap_or(otherwise)
}

#[derive(Default)]
struct Account {
    /// Whether a refresh of its session may have been killed.
    killed: bool,
    lost: usize,
}

struct Soak {
    scene: Scene,
    accounts: [Mutex<Account>; ACCOUNTS.len()],
    left: AtomicUsize,
    kills: AtomicUsize,
}

/// One worker's own host, and what it knows to be stored there.
struct Worker<'a> {
    soak: &'a Soak,
    chance: Chance,
    host: String,
    stored: Option<String>,
}

impl Soak {
    fn get(&self, account: usize) -> crate::lab::Run {
        let question = format!("{}username={}\n", self.scene.question(), ACCOUNTS[account]);
        self.scene.sandbox.valetkey(&["get"]).stdin(question)
    }

    /// The answer, if there is one, is a live token of this account.
    fn judge(&self, account: usize, finished: &Finished) -> bool {
        let Some(token) = value(finished, "password") else { return false };
        assert!(finished.stdout_text().ends_with("continue=1\n"), "half an answer: {finished}");
        let owner = self.scene.authority.owner_of(&token);
        assert_eq!(owner.as_deref(), Some(ACCOUNTS[account]), "{finished}");
        true
    }

    fn session(&self, account: usize) {
        let finished = self.get(account).run();
        if self.judge(account, &finished) {
            finished.assert_status(0);
            return;
        }
        let mut state = self.accounts[account].lock().expect("nobody panicked");
        // Somebody may have signed in again meanwhile.
        if self.judge(account, &self.get(account).run()) {
            return;
        }
        assert!(state.killed, "{} is signed out: {finished}", ACCOUNTS[account]);
        finished.assert_status(2).assert_stderr_has("hint: valetkey login ");
        state.killed = false;
        state.lost += 1;
        planted::expired(&self.scene, ACCOUNTS[account]);
    }

    fn killed(&self, account: usize, after: Duration) {
        if account < SPARED {
            return self.session(account);
        }
        self.accounts[account].lock().expect("nobody panicked").killed = true;
        let started = self.get(account).start();
        std::thread::sleep(after);
        started.kill();
        self.judge(account, &started.wait());
        self.kills.fetch_add(1, Ordering::Relaxed);
    }
}

impl Worker<'_> {
    fn entry(&self, password: &str) -> String {
        format!("protocol=https\nhost={}\nusername=me\npassword={password}\n", self.host)
    }

    fn asked(&self) -> String {
        format!("protocol=https\nhost={}\nusername=me\n", self.host)
    }

    fn own(&self) -> Option<String> {
        let run = self.soak.scene.sandbox.valetkey(&["get"]).stdin(self.asked());
        value(&run.run(), "password")
    }

    fn step(&mut self) {
        let soak = self.soak;
        let sandbox = &soak.scene.sandbox;
        let account = self.chance.below(ACCOUNTS.len());
        let moment = Duration::from_micros(self.chance.below(20_000) as u64);
        match self.chance.below(20) {
            0..8 => soak.session(account),
            8..10 => soak.killed(account, moment),
            10..13 => {
                let new = format!("p{}", self.chance.below(1_000_000));
                sandbox.valetkey(&["store"]).stdin(self.entry(&new)).run().assert(0, "", "");
                self.stored = Some(new);
            }
            13 => {
                let new = format!("k{}", self.chance.below(1_000_000));
                let store = sandbox.valetkey(&["store"]).stdin(self.entry(&new)).start();
                std::thread::sleep(moment);
                store.kill();
                store.wait();
                soak.kills.fetch_add(1, Ordering::Relaxed);
                let now = self.own();
                assert!(now == self.stored || now.as_ref() == Some(&new), "{now:?}");
                self.stored = now;
            }
            14 => {
                let erase =
                    format!("{}password={}\n", self.asked(), self.stored.as_deref().unwrap_or("x"));
                sandbox.valetkey(&["erase"]).stdin(erase).run().assert(0, "", "");
                self.stored = None;
            }
            15..18 => assert_eq!(self.own(), self.stored, "{}", self.host),
            18 => {
                let list = sandbox.valetkey(&["list"]).run();
                list.assert_status(0);
                let shown = list.stdout_text().contains(&format!("{} ", self.host))
                    || list.stdout_text().contains(&format!("https://{}", self.host));
                assert_eq!(shown, self.stored.is_some(), "{}: {list}", self.host);
            }
            _ => {
                let url = format!("https://{}", self.host);
                let out = sandbox.valetkey(&["logout", &url]).run();
                assert!(matches!(out.status, 0 | 78), "{out}");
                self.stored = None;
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "the count, for scripts/soak")]
#[test]
fn many_workers_lose_no_session_and_leave_nothing() {
    let operations = number("SOAK", 240);
    let seed = number("SOAK_SEED", 1) as u64;
    let options = Options { expires_in: Some(3), ..Options::default() };
    let scene = Scene::with(Scheme::Basic, options);
    scene.nobody();
    for account in ACCOUNTS {
        planted::expired(&scene, account);
    }
    let soak = Soak {
        scene,
        accounts: Default::default(),
        left: AtomicUsize::new(operations),
        kills: AtomicUsize::new(0),
    };
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let soak = &soak;
            scope.spawn(move || {
                let chance =
                    Chance((seed << 8 | worker as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
                let host = format!("w{worker}.example");
                let mut worker = Worker { soak, chance, host, stored: None };
                let one = |left: usize| left.checked_sub(1);
                while soak.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_ok() {
                    worker.step();
                }
            });
        }
    });
    // Everybody is served once more, and takes away what the killed have left.
    for account in 0..ACCOUNTS.len() {
        soak.session(account);
        soak.session(account);
    }
    for worker in 0..WORKERS {
        let url = format!("https://w{worker}.example");
        let entry = format!("protocol=https\nhost=w{worker}.example\nusername=me\npassword=p\n");
        soak.scene.sandbox.valetkey(&["store"]).stdin(&entry).run().assert(0, "", "");
        soak.scene.sandbox.valetkey(&["logout", &url]).run().assert_status(0);
    }
    planted::assert_sound(&soak.scene);
    let (records, others) = planted::stored(&soak.scene);
    assert_eq!(records.len(), ACCOUNTS.len(), "{records:?}");
    assert!(others.is_empty(), "{others:?}");
    let lost: Vec<usize> =
        soak.accounts.iter().map(|account| account.lock().expect("fine").lost).collect();
    assert_eq!(lost[..SPARED], [0; SPARED], "a session was lost that nobody killed");
    println!(
        "soak: {operations} operations, seed {seed}, {} refreshes, {} kills, {} sessions lost to a \
         killed refresh",
        soak.scene.authority.asked_for("refresh_token"),
        soak.kills.load(Ordering::Relaxed),
        lost.iter().sum::<usize>(),
    );
}
