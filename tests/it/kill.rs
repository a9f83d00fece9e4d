//! `kill -9` between any two steps: the old record is there or the new one, whole; no lock stays;
//! and the next call works or says what has happened.
//!
//! strace stops the main thread before a system call of our choice, so that every step that
//! touches files is met exactly; gates of the authority stop it between the steps of the network.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::installed;
use crate::lab::{Browser, Finished, Gate, Person, Run, Step, browser};
use crate::planted;
use crate::scene::{Scene, value};

/// 128 + SIGKILL.
pub const KILLED: i32 = 137;

/// What touches files, locks or the caller; a name with a question mark is not on every machine.
const CALLS: &[&str] = &[
    "?open,?openat",
    "write",
    "fsync",
    "?rename,?renameat,?renameat2",
    "?unlink,?unlinkat",
    "?mkdir,?mkdirat",
    "flock",
    "ftruncate",
    "close",
    "getdents64",
    "exit_group",
];

pub fn strace_works(scene: &Scene) -> bool {
    if !installed::all(&["strace"]) {
        return false;
    }
    let finished = scene.sandbox.run("strace", &["-qq", "-o", "/dev/null", "true"]).run();
    finished.status == 0 || installed::left_out("strace may not trace here")
}

/// The program under test, killed before its main thread makes that call for the nth time.
pub fn killed_at(scene: &Scene, calls: &str, number: u32, verb: &str) -> Run {
    let trace = format!("trace={calls}");
    let inject = format!("inject={calls}:signal=SIGKILL:when={number}");
    let program = crate::scene::program().to_str().expect("a plain path");
    let arguments = ["-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject, program, verb];
    scene.sandbox.run("strace", &arguments)
}

/// Runs `verb` again and again, killed at every step in turn. `prepare` comes before and `judge`
/// after each, with the name of the step. Gives how often it was killed.
#[expect(clippy::print_stdout, reason = "shown with a failure, whichever assertion it is")]
fn at_every_step(
    scene: &Scene,
    verb: &str,
    question: &str,
    prepare: impl Fn(),
    judge: impl Fn(&str, &Finished),
) -> usize {
    let mut kills = 0;
    for calls in CALLS {
        for number in 1.. {
            prepare();
            let finished = killed_at(scene, calls, number, verb).stdin(question).run();
            let step = format!("before {calls} number {number}");
            println!("{step}: {finished}");
            planted::assert_sound(scene);
            judge(&step, &finished);
            if finished.status != KILLED {
                break;
            }
            assert!(number < 200, "{calls} has no end");
            kills += 1;
        }
    }
    kills
}

/// The record is `old`, byte by byte, or a renewed one; and what the next call makes of it.
fn assert_old_or_new(scene: &Scene, record: &Path, old: &[u8], step: &str) {
    let now = std::fs::read(record).unwrap_or_else(|error| panic!("{step}: {error}"));
    let is_old = now == old;
    if !is_old {
        let access = planted::read(record)["access_token"].as_str().expect("a token").to_owned();
        assert!(scene.authority.token_is_live(&access), "{step}: neither old nor new");
    }
    let next = scene.get().run();
    match value(&next, "password") {
        Some(token) => {
            next.assert_status(0);
            assert!(scene.authority.token_is_live(&token), "{step}: {next}");
        }
        // The server has rotated and nobody has kept what it said: only a sign-in helps.
        None => {
            assert!(is_old, "{step}: {next}");
            next.assert_status(2).assert_stdout("").assert_stderr_has("hint: valetkey login ");
            assert!(!record.exists(), "{step}: a dead session stays");
        }
    }
    assert_eq!(planted::stored(scene).1.len(), 0, "{step}: the next writer cleans up");
}

#[test]
fn a_refresh_killed_at_any_step_leaves_the_old_record_or_the_new_one() {
    let scene = Scene::new();
    scene.nobody();
    if !strace_works(&scene) {
        return;
    }
    let kills = at_every_step(
        &scene,
        "get",
        &scene.question(),
        || drop(planted::expired(&scene, "alice")),
        |step, finished| {
            let (records, _) = planted::stored(&scene);
            let [record] = records.as_slice() else { panic!("{step}: {records:?}") };
            let path = scene.sandbox.root().join(&record.path);
            let content: Value = serde_json::from_slice(&record.content).expect("JSON");
            let old = if content["expires_at"] == 1_000_000_000 { &*record.content } else { b"" };
            // Nobody has seen a token that is not kept, and nobody half of an answer.
            if let Some(token) = value(finished, "password") {
                assert_eq!(content["access_token"], json!(token), "{step}");
                assert!(finished.stdout_text().ends_with("continue=1\n"), "{step}: {finished}");
            } else {
                finished.assert_stdout("");
            }
            assert_old_or_new(&scene, &path, old, step);
        },
    );
    assert!(kills > 30, "{kills}");
}

#[test]
fn a_store_killed_at_any_step_can_be_repeated() {
    let scene = Scene::new();
    if !strace_works(&scene) {
        return;
    }
    let entry = |password: &str| {
        format!("protocol=https\nhost=a.example\nusername=me\npassword={password}\n")
    };
    let asked = "protocol=https\nhost=a.example\n";
    let stored = || {
        let answer = scene.sandbox.valetkey(&["get"]).stdin(asked).run();
        value(&answer, "password")
    };
    let store = |password: &str| {
        scene.sandbox.valetkey(&["store"]).stdin(entry(password)).run().assert(0, "", "");
    };
    let kills = at_every_step(
        &scene,
        "store",
        &entry("new"),
        || store("old"),
        |step, _| {
            let password = stored().unwrap_or_else(|| panic!("{step}: both are lost"));
            assert!(password == "old" || password == "new", "{step}: {password}");
            store("new");
            assert_eq!(stored().as_deref(), Some("new"), "{step}");
            assert_eq!(planted::stored(&scene).1.len(), 0, "{step}");
        },
    );
    assert!(kills > 20, "{kills}");
}

#[test]
fn an_erase_killed_at_any_step_can_be_repeated() {
    let scene = Scene::new();
    if !strace_works(&scene) {
        return;
    }
    let entry = "protocol=https\nhost=a.example\nusername=me\npassword=p\n";
    let call = |verb: &str| scene.sandbox.valetkey(&[verb]).stdin(entry).run();
    let kills = at_every_step(
        &scene,
        "erase",
        entry,
        || drop(call("store")),
        |step, _| {
            let answer = call("get");
            let password = value(&answer, "password");
            assert!(password.is_none() || password.as_deref() == Some("p"), "{step}: {answer}");
            call("erase").assert(0, "", "");
            assert_eq!(value(&call("get"), "password"), None, "{step}");
            assert_eq!(planted::stored(&scene).0.len(), 0, "{step}");
        },
    );
    assert!(kills > 20, "{kills}");
}

/// The erasing of a session's access token, which is a write.
#[test]
fn a_rejection_killed_at_any_step_keeps_the_refresh_token() {
    let scene = Scene::new();
    scene.nobody();
    if !strace_works(&scene) {
        return;
    }
    let tokens = scene.authority.grant("alice");
    let refresh = tokens.refresh.expect("a refresh token");
    let record = planted::session(&scene, "alice", &tokens.access, &refresh, 10_000_000_000);
    let rejected = format!("{}username=oauth2\npassword={}\n", scene.question(), tokens.access);
    let kills = at_every_step(
        &scene,
        "erase",
        &rejected,
        || drop(planted::put(&scene, "alice", &record)),
        |step, _| {
            let (records, _) = planted::stored(&scene);
            let [left] = records.as_slice() else { panic!("{step}: {records:?}") };
            let left: Value = serde_json::from_slice(&left.content).expect("JSON");
            assert_eq!(left["refresh_token"], json!(refresh), "{step}");
            let access = &left["access_token"];
            assert!(access.is_null() || *access == json!(tokens.access), "{step}");
        },
    );
    assert!(kills > 20, "{kills}");
}

#[test]
fn a_sign_in_killed_at_any_step_leaves_a_session_or_none() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    if !strace_works(&scene) {
        return;
    }
    let kills = at_every_step(
        &scene,
        "get",
        &scene.question(),
        || {
            scene.sandbox.valetkey(&["logout", "--all", "--local"]).run().assert_status(0);
        },
        |step, _| {
            let opened = browser.opened().len();
            let signed_in = planted::stored(&scene).0.len();
            assert!(signed_in <= 1, "{step}");
            let next = scene.get().run();
            next.assert_status(0);
            let token = value(&next, "password").expect("a token");
            assert!(scene.authority.token_is_live(&token), "{step}");
            // Whoever was killed before it was kept is asked again, and nobody else.
            let late = browser.opened().len() - opened;
            assert!(late >= 1 - signed_in, "{step}: {late} more browsers");
        },
    );
    assert!(kills > 40, "{kills}");
}

/// Without strace: at every stage of the network, as seen by the server.
#[test]
fn a_refresh_killed_while_the_server_is_asked_is_old_or_dead() {
    let scene = Scene::new();
    scene.nobody();
    type MakeStep = fn(Gate) -> Step;
    let stages: [(&str, MakeStep, bool); 2] = [
        ("the server has the request", Step::Hold, true),
        ("the server has rotated", Step::HoldAnswer, false),
    ];
    for (stage, step, survives) in stages {
        let record = planted::expired(&scene, "alice");
        let old = std::fs::read(&record).expect("a record");
        let gate = Gate::new();
        scene.authority.next("/token", vec![step(gate.clone())]);
        let get = scene.get().start();
        gate.reached();
        get.kill();
        let killed = get.wait();
        killed.assert_status(KILLED).assert_stdout("");
        planted::assert_sound(&scene);
        assert_eq!(std::fs::read(&record).expect("a record"), old, "{stage}");
        let next = scene.get().run();
        let status = if survives { 0 } else { 2 };
        next.assert_status(status);
        if survives {
            // The dead one's request goes on only now, with a token that is spent.
            assert_old_or_new(&scene, &record, b"", stage);
        }
        gate.open();
    }
}

#[test]
fn a_sign_in_killed_at_any_stage_is_asked_again_by_the_next_get() {
    for path in ["/.well-known/oauth-authorization-server", "/authorize", "/token", "/me"] {
        for step in [Step::Hold, Step::HoldAnswer] {
            let scene = Scene::new();
            let browser = scene.browser(Person::Ignores);
            let gate = Gate::new();
            scene.authority.next(path, vec![step(gate.clone())]);
            let get = scene.get().start();
            if path.starts_with("/.well") {
                gate.reached();
                get.kill();
            } else {
                let url = browser.wait_for_opened(1).remove(0);
                std::thread::scope(|person| {
                    person.spawn(|| drop(browser::visit(&url, Person::Approves)));
                    gate.reached();
                    get.kill();
                    gate.open();
                });
            }
            gate.open();
            get.wait().assert_status(KILLED).assert_stdout("");
            planted::assert_sound(&scene);
            let (records, others) = planted::stored(&scene);
            assert!(records.is_empty() && others.is_empty(), "{records:?} {others:?}");
            drop(browser);
            let _approving = Browser::start(&scene.sandbox, Person::Approves);
            scene.get().run().assert_status(0);
            planted::assert_sound(&scene);
        }
    }
}

/// Without strace and without gates: a sample of moments.
#[test]
fn a_refresh_killed_at_some_moment_leaves_the_old_record_or_the_new_one() {
    let scene = Scene::new();
    scene.nobody();
    for moment in 0..20 {
        let record = planted::expired(&scene, "alice");
        let old = std::fs::read(&record).expect("a record");
        let get = scene.get().start();
        std::thread::sleep(Duration::from_millis(2 * moment));
        get.kill();
        get.wait();
        planted::assert_sound(&scene);
        assert_old_or_new(&scene, &record, &old, &format!("after {} ms", 2 * moment));
    }
}
