//! A D-Bus session with a GNOME keyring of its own, as `tests/peers/with-keyring` makes it. Every
//! program that the scene starts from then on sees it.

use std::path::PathBuf;

use rustix::process::{Pid, Signal};

use crate::installed;
use crate::lab::Started;
use crate::scene::Scene;

/// How the keyring is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyring {
    Unlocked,
    Locked,
    Stopped,
    AbsentService,
}

pub struct Desktop {
    shell: Started,
    /// Where the shell says the numbers of its programs.
    words: PathBuf,
    address: String,
    bus: i32,
    daemon: i32,
    /// How often the shell was asked for something.
    done: u32,
}

impl Desktop {
    /// `None`, with a word, where the programs for it are not installed. The keyring's file stays
    /// in the scene, so that a later session finds what an earlier one stored.
    pub fn start(scene: &Scene, keyring: Keyring) -> Option<Self> {
        let needed = ["dbus-daemon", "dbus-send", "gnome-keyring-daemon", "secret-tool"];
        if !installed::all(&needed) {
            return None;
        }
        let mode = match keyring {
            Keyring::Unlocked => "unlocked",
            Keyring::Locked => "locked",
            Keyring::Stopped => "stopped",
            Keyring::AbsentService => "absent-service",
        };
        // Each line that this shell reads is done in the session; the end of its input ends it.
        let hello = "echo $DBUS_SESSION_BUS_ADDRESS $(head -n 1 $KEYRING_SESSION/pids) \
                     ${KEYRING_DAEMON:-0} >$0; echo ready; exec sh";
        let path = scene.sandbox.root().join("desktop");
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers/with-keyring");
        let shell = scene
            .sandbox
            .run(script, &["sh", "-c", hello])
            .arg(&path)
            .env("KEYRING", mode)
            .env("KEYRING_HOME", scene.sandbox.root().join("keyring"))
            .stdin_open()
            .start();
        shell.expect_stdout("ready");
        let words = std::fs::read_to_string(&path).expect("the words of the session");
        let mut words = words.split_whitespace();
        let mut next = || words.next().expect("a word of the session").to_owned();
        let address = next();
        let mut number = || next().parse().expect("a number of the session");
        let (bus, daemon) = (number(), number());
        scene.sandbox.env("DBUS_SESSION_BUS_ADDRESS", &address);
        scene.sandbox.env("VALETKEY_STORE", "auto");
        Some(Self { shell, words: path, address, bus, daemon, done: 0 })
    }

    /// Of its bus.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn signal_daemon(&self, signal: Signal) {
        send(self.daemon, signal);
    }

    pub fn signal_bus(&self, signal: Signal) {
        send(self.bus, signal);
    }

    /// Kills the keyring as a crash would, and starts another one, unlocked.
    pub fn crash_daemon(&mut self) {
        self.kill_daemon();
        self.start_daemon();
    }

    /// The keyring is gone, and its name on the bus free.
    pub fn kill_daemon(&mut self) {
        self.signal_daemon(Signal::KILL);
        let daemon = self.daemon;
        self.does(&format!("while kill -0 {daemon} 2>/dev/null; do sleep 0.01; done"));
    }

    /// Another keyring, unlocked.
    pub fn start_daemon(&mut self) {
        self.does(&format!(
            "printf keyring-pass | XDG_DATA_HOME=$KEYRING_HOME gnome-keyring-daemon --unlock \
             --foreground --components=secrets \
             --control-directory=$KEYRING_SESSION/run/keyring >/dev/null 2>&1 &\n\
             echo $! >'{}'; echo $! >>$KEYRING_SESSION/pids\n\
             until dbus-send --session --print-reply=literal --dest=org.freedesktop.secrets \
             /org/freedesktop/secrets/aliases/default org.freedesktop.DBus.Properties.Get \
             string:org.freedesktop.Secret.Collection string:Locked 2>/dev/null | \
             grep -q 'boolean false'; do sleep 0.02; done",
            self.words.display()
        ));
        let words = std::fs::read_to_string(&self.words).expect("the words of the session");
        self.daemon = words.trim().parse().expect("the number of the keyring");
    }

    /// Locks the default collection.
    pub fn lock(&mut self) {
        self.does(
            "dbus-send --session --print-reply --dest=org.freedesktop.secrets \
             /org/freedesktop/secrets org.freedesktop.Secret.Service.Lock \
             array:objpath:/org/freedesktop/secrets/aliases/default >/dev/null",
        );
    }

    /// Lets the shell of the session do something to its end.
    fn does(&mut self, what: &str) {
        self.done += 1;
        let done = self.done;
        self.shell.send(format!("{what}\necho done-$(({done})).\n"));
        self.shell.expect_stdout(&format!("done-{done}."));
    }

    /// The session ends, and the keyring's file stays.
    pub fn end(self) {
        self.signal_daemon(Signal::CONT);
        self.signal_bus(Signal::CONT);
        self.shell.wait();
    }
}

fn send(process: i32, signal: Signal) {
    if let Some(process) = Pid::from_raw(process) {
        // It may be gone already.
        let _ = rustix::process::kill_process(process, signal);
    }
}
