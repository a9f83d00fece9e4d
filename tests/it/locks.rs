//! File systems without locks, and those that other machines share: what hangs on a lock holds
//! there too. strace lets the kernel's lock fail as such a file system does.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kill::{KILLED, strace_works};
use crate::lab::{Finished, Gate, Run, Started, Step};
use crate::planted;
use crate::scene::{Scene, program, value};

fn injected(scene: &Scene, injections: &[&str], verb: &str) -> Run {
    let mut words = vec!["-f", "-qq", "-o", "/dev/null"];
    for injection in injections {
        words.extend(["-e", injection]);
    }
    words.extend([program().to_str().expect("a plain path"), verb]);
    scene.sandbox.run("strace", &words).stdin(scene.question())
}

fn without_locks(scene: &Scene) -> Run {
    injected(scene, &["inject=flock:error=ENOLCK"], "get")
}

fn locks(scene: &Scene) -> PathBuf {
    scene.sandbox.root().join("state/valetkey/locks")
}

/// What is in the directory of locks beside the kernel's own.
fn stand_ins(scene: &Scene) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(locks(scene)).expect("a directory");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.extension().is_none_or(|extension| extension != "lock"));
    found.sort();
    found
}

/// Whether a program is still there after some time: one that does not wait ends sooner.
fn waits(started: &Started) -> bool {
    let soon = std::time::Instant::now() + std::time::Duration::from_secs(1);
    while std::time::Instant::now() < soon && started.is_running() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    started.is_running()
}

/// The lock of alice's session.
fn held(scene: &Scene) -> PathBuf {
    locks(scene).join(format!("{}.lock.held", planted::key("alice").digest()))
}

#[track_caller]
fn same_token(scene: &Scene, all: &[Finished]) {
    let first = value(&all[0], "password").unwrap_or_else(|| panic!("no token, {}", all[0]));
    for finished in all {
        finished.assert_status(0);
        assert_eq!(value(finished, "password").as_ref(), Some(&first), "{finished}");
    }
    assert!(scene.authority.token_is_live(&first));
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    assert_eq!(scene.authority.live_grants(), 1, "a spent token was sent");
}

/// However a file system says that it has none: one refresh, the same answer for all, one warning.
#[test]
fn without_locks_callers_at_once_make_one_refresh() {
    for error in ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINVAL"] {
        let scene = Scene::new();
        scene.nobody();
        if !strace_works(&scene) {
            return;
        }
        planted::expired(&scene, "alice");
        let gate = Gate::new();
        scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
        let inject = format!("inject=flock:error={error}");
        let all: Vec<_> = (0..8).map(|_| injected(&scene, &[&inject], "get").start()).collect();
        gate.reached();
        gate.open();
        let all: Vec<_> = all.into_iter().map(|started| started.wait()).collect();
        same_token(&scene, &all);
        let warnings = all.iter().filter(|finished| finished.stderr_text().contains("warning"));
        assert!((1..=all.len()).contains(&warnings.count()), "{error}");
        assert_eq!(stand_ins(&scene), Vec::<PathBuf>::new(), "{error}");
        planted::assert_sound(&scene);
        // It is remembered that it was said.
        planted::expired(&scene, "alice");
        let later = without_locks(&scene).run();
        later.assert_status(0);
        assert_eq!(later.stderr_text(), "", "{error}");
    }
}

/// And where it has no links either.
#[test]
fn without_locks_and_links_callers_at_once_make_one_refresh() {
    let scene = Scene::new();
    scene.nobody();
    if !strace_works(&scene) {
        return;
    }
    planted::expired(&scene, "alice");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let injections = ["inject=flock:error=ENOLCK", "inject=?link,?linkat:error=EPERM"];
    let all: Vec<_> = (0..4).map(|_| injected(&scene, &injections, "get").start()).collect();
    gate.reached();
    gate.open();
    let all: Vec<_> = all.into_iter().map(|started| started.wait()).collect();
    same_token(&scene, &all);
    assert_eq!(stand_ins(&scene), Vec::<PathBuf>::new());
}

/// A holder that is stopped lives; one that was killed does not hold the others up.
#[test]
fn a_holder_that_lives_keeps_its_lock_and_a_dead_one_loses_it() {
    let scene = Scene::new();
    scene.nobody();
    if !strace_works(&scene) {
        return;
    }
    planted::expired(&scene, "alice");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let first = without_locks(&scene).start();
    gate.reached();
    let holder: Value = planted::read(&held(&scene));
    let number = i32::try_from(holder["process"].as_u64().expect("a number")).expect("a number");
    let process = rustix::process::Pid::from_raw(number).expect("a process");
    rustix::process::kill_process(process, Signal::STOP).expect("it lives");
    let second = without_locks(&scene).start();
    let spent = |scene: &Scene| scene.authority.asked_for("refresh_token");
    assert!(waits(&second), "it took the lock of a process that lives");
    assert_eq!(spent(&scene), 1);
    rustix::process::kill_process(process, Signal::CONT).expect("it lives");
    gate.open();
    same_token(&scene, &[first.wait(), second.wait()]);

    planted::expired(&scene, "alice");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::Hold(gate.clone())]);
    let first = without_locks(&scene).start();
    gate.reached();
    let holder: Value = planted::read(&held(&scene));
    let number = i32::try_from(holder["process"].as_u64().expect("a number")).expect("a number");
    let process = rustix::process::Pid::from_raw(number).expect("a process");
    rustix::process::kill_process(process, Signal::KILL).expect("it lived");
    first.wait().assert_status(KILLED);
    assert!(held(&scene).exists(), "nobody could take it away");
    let started = std::time::Instant::now();
    let all: Vec<_> = (0..6).map(|_| without_locks(&scene).start()).collect();
    let all: Vec<_> = all.into_iter().map(|started| started.wait()).collect();
    gate.open();
    assert!(started.elapsed() < std::time::Duration::from_secs(30), "it was waited for");
    let first = value(&all[0], "password");
    for finished in &all {
        finished.assert_status(0);
        assert_eq!(value(finished, "password"), first);
    }
    assert_eq!(stand_ins(&scene), Vec::<PathBuf>::new());
}

/// Whose lock is dead, as it can be known; all others live.
#[test]
fn a_lock_of_another_machine_is_believed() {
    let scene = Scene::new();
    scene.nobody();
    if !strace_works(&scene) {
        return;
    }
    planted::expired(&scene, "alice");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let first = without_locks(&scene).start();
    gate.reached();
    let live = planted::read(&held(&scene));
    gate.open();
    first.wait().assert_status(0);

    let boot = "00000000-0000-4000-8000-000000000000";
    let with = |changes: Value| {
        let mut holder = live.clone();
        for (name, value) in changes.as_object().expect("an object") {
            holder[name] = value.clone();
        }
        holder
    };
    let machine = live["machine"].as_str().is_some_and(|machine| !machine.is_empty());
    let own = std::process::id();
    let hour = std::time::Duration::from_secs(3700);
    let cases = [
        ("the process has ended", with(json!({})), false, false),
        ("another process has its number", with(json!({ "process": own })), false, false),
        (
            "the machine was started anew",
            with(json!({ "boot": boot, "process": own })),
            false,
            !machine,
        ),
        ("another machine", with(json!({ "boot": boot, "host": "other" })), false, true),
        (
            "another machine of this name",
            with(json!({ "boot": boot, "machine": "ffff" })),
            false,
            true,
        ),
        ("another container here", with(json!({ "numbering": "pid:[1]" })), false, true),
        ("no machine that is known", json!({}), false, true),
        ("another machine, long ago", with(json!({ "boot": boot, "host": "other" })), true, false),
        ("no machine that is known, long ago", json!({}), true, false),
    ];
    for (what, holder, old, lives) in cases {
        planted::expired(&scene, "alice");
        let path = scene.sandbox.write(
            held(&scene)
                .strip_prefix(scene.sandbox.root())
                .expect("below")
                .to_str()
                .expect("plain"),
            holder.to_string().as_bytes(),
            0o600,
        );
        if old {
            let file = std::fs::File::options().write(true).open(&path).expect("a lock");
            file.set_modified(std::time::SystemTime::now() - hour).expect("a time");
        }
        let before = scene.authority.asked_for("refresh_token");
        let get = without_locks(&scene).start();
        if lives {
            // It waits until the other one lets go.
            assert!(waits(&get), "{what}: it was not waited for");
            assert_eq!(scene.authority.asked_for("refresh_token"), before, "{what}");
            std::fs::remove_file(&path).expect("it is still there");
        }
        let get = get.wait();
        get.assert_status(0);
        assert_eq!(scene.authority.asked_for("refresh_token"), before + 1, "{what}");
        assert_eq!(stand_ins(&scene), Vec::<PathBuf>::new(), "{what}");
    }
}

/// NFS's kernel lock may be this machine's alone, so the file is there as well.
#[test]
fn on_a_file_system_that_machines_share_the_lock_is_a_file_too() {
    let scene = Scene::new();
    scene.nobody();
    if !strace_works(&scene) {
        return;
    }
    planted::expired(&scene, "alice");
    // NFS's number in the place of the real one.
    let nfs = "inject=fstatfs:poke_exit=@arg2=6969000000000000";
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let first = injected(&scene, &[nfs], "get").start();
    gate.reached();
    assert!(held(&scene).exists(), "other machines see nothing");
    gate.open();
    let first = first.wait();
    first.assert_status(0);
    assert_eq!(first.stderr_text(), "");
    assert_eq!(stand_ins(&scene), Vec::<PathBuf>::new());
}

/// Killed at each step of taking, taking over and letting go: the next one is not held up.
#[test]
fn a_lock_that_is_a_file_outlives_no_kill() {
    let scene = Scene::new();
    scene.nobody();
    if !strace_works(&scene) {
        return;
    }
    let mut kills = 0;
    for dead in [false, true] {
        for calls in ["?link,?linkat", "?unlink,?unlinkat", "?rename,?renameat,?renameat2"] {
            for number in 1.. {
                planted::expired(&scene, "alice");
                if dead {
                    // A dead one to be taken over.
                    let first = ["inject=flock:error=ENOLCK", "inject=fsync:signal=KILL"];
                    injected(&scene, &first, "get").run().assert_status(KILLED);
                    assert!(held(&scene).exists());
                    planted::expired(&scene, "alice");
                }
                let kill = format!("inject={calls}:signal=KILL:when={number}");
                let inject = ["inject=flock:error=ENOLCK", &kill];
                let killed = injected(&scene, &inject, "get").run();
                planted::assert_sound(&scene);
                let next = without_locks(&scene).run();
                let step = format!("{calls} number {number}");
                assert!(matches!(next.status, 0 | 2), "{step}: {next}");
                // One that needs the lock.
                planted::expired(&scene, "alice");
                without_locks(&scene).run().assert_status(0);
                let left = stand_ins(&scene);
                assert!(left.is_empty(), "{step}: {left:?}");
                if killed.status != KILLED {
                    break;
                }
                assert!(number < 100, "{calls} has no end");
                kills += 1;
            }
        }
    }
    assert!(kills > 10, "{kills}");
}

/// setup has a lock of its own for what it remembers.
#[test]
fn without_locks_a_tool_can_be_set_up() {
    let scene = Scene::new();
    if !strace_works(&scene) {
        return;
    }
    scene.sandbox.link("valetkey");
    let program = program().to_str().expect("a plain path");
    let inject = "inject=flock:error=ENOLCK";
    let words = ["-qq", "-o", "/dev/null", "-e", inject, program, "setup", "docker"];
    scene.sandbox.run("strace", &words).run().assert_status(0);
    assert!(scene.sandbox.home().join(".docker/config.json").exists());
    let left = scene.sandbox.root().join("state/valetkey/setup.lock.held");
    assert!(!left.exists(), "it is held");
}
