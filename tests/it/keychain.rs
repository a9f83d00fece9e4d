//! The keychain of a desktop, with a real GNOME keyring: what we keep there, who else can read it,
//! whose items are left alone, and what happens when it is locked, silent, gone or lost.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::desktop::{Desktop, Keyring};
use crate::lab::{Finished, Gate, Person, Started, Step};
use crate::planted;
use crate::scene::{Scene, value};

const SERVICE: &str = "valetkey/1 profile=lab";
const USERNAME: &str = "alice lab-client";

/// We allow a keychain that does not answer 3 seconds. D-Bus itself allows each call 25, so that
/// whatever waits by its rule is above this, and the most loaded machine below.
const LIMIT: Duration = Duration::from_secs(20);

fn login(scene: &Scene) -> Finished {
    let _browser = scene.browser(Person::Approves);
    let finished = scene.sandbox.valetkey(&["login", "--force", &scene.host.origin()]).run();
    scene.nobody();
    finished
}

fn lookup(scene: &Scene, attributes: &[&str]) -> Finished {
    let words: Vec<&str> = std::iter::once("lookup").chain(attributes.iter().copied()).collect();
    scene.sandbox.run("secret-tool", &words).run()
}

/// Another program's item.
fn plant(scene: &Scene, secret: &str, attributes: &[&str]) {
    let words: Vec<&str> =
        ["store", "--label", "not ours"].into_iter().chain(attributes.iter().copied()).collect();
    scene.sandbox.run("secret-tool", &words).stdin(secret).run().assert_status(0);
}

/// Our item, as every keychain client finds it.
fn item(scene: &Scene) -> Option<Value> {
    let found = lookup(scene, &["service", SERVICE, "username", USERNAME]);
    (found.status == 0).then(|| serde_json::from_slice(&found.stdout).expect("a record"))
}

#[track_caller]
fn assert_no_files(scene: &Scene) {
    let (records, others) = planted::stored(scene);
    assert!(records.is_empty() && others.is_empty(), "{records:?} {others:?}");
    for secret in scene.authority.secrets() {
        let known = scene.sandbox.files_with(secret.as_bytes());
        assert!(known.is_empty(), "{secret} is in {known:?}");
    }
}

fn password(finished: &Finished) -> Option<String> {
    value(finished, "password")
}

/// S8, S43, S84: the keychain first and no file beside it; its own tools show the item by what it is
/// for.
#[test]
fn a_session_lives_in_the_keychain_and_nowhere_else() {
    let scene = Scene::new();
    let Some(_desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    login(&scene).assert_status(0).assert_stderr_has("kept in the keychain");
    let first = item(&scene).expect("an item");
    assert_eq!(first["account"], "alice");
    let get = scene.get().run();
    get.assert(0, &get.stdout_text(), "");
    assert_eq!(password(&get).as_deref(), first["access_token"].as_str());

    // It is renewed in place.
    let rejected = format!(
        "{}username=oauth2\npassword={}\n",
        scene.question(),
        password(&get).expect("a token")
    );
    scene.sandbox.valetkey(&["erase"]).stdin(&rejected).run().assert(0, "", "");
    let forgotten = item(&scene).expect("an item");
    assert_eq!(forgotten["access_token"], Value::Null);
    assert_eq!(forgotten["refresh_token"], first["refresh_token"]);
    let get = scene.get().run();
    get.assert(0, &get.stdout_text(), "");
    assert_eq!(item(&scene).expect("an item")["access_token"], json!(password(&get)));
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    assert_no_files(&scene);

    let ours = ["search", "--all", "application", "valetkey"];
    let shown = scene.sandbox.run("secret-tool", &ours).run();
    let shown = format!("{}{}", shown.stdout_text(), shown.stderr_text());
    for line in [
        "label = valetkey/1 profile=lab account=alice client=lab-client",
        "schema = dev.valetkey.Record",
        "attribute.service = valetkey/1 profile=lab",
        "attribute.username = alice lab-client",
    ] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
    assert_eq!(shown.matches("label = ").count(), 1, "{shown}");

    scene.sandbox.valetkey(&["logout", &scene.host.origin()]).run().assert_status(0);
    assert_eq!(item(&scene), None);
    scene.get().run().assert_status(2).assert_stdout("");
}

/// S8, S71, S155: a token made by hand lives there too, beside the session; a sign-out empties the
/// keychain and the files that once stood in for it.
#[test]
fn a_sign_out_empties_both_stores_of_sessions_and_pasted_tokens() {
    let scene = Scene::new();
    let Some(_desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    let origin = scene.host.origin();
    let paste = |store: &str| {
        let token = scene.authority.grant("alice").access;
        let login = ["login", &origin, "--token-stdin"];
        let run = scene.sandbox.valetkey(&login).env("VALETKEY_STORE", store).stdin(&token);
        run.run().assert_status(0);
        token
    };
    scene.sandbox.env("VALETKEY_STORE", "file");
    login(&scene).assert_status(0).assert_stderr_has("kept in files in");
    paste("file");
    assert_eq!(planted::stored(&scene).0.len(), 2);
    scene.sandbox.env("VALETKEY_STORE", "keychain");
    login(&scene).assert_status(0).assert_stderr_has("kept in the keychain");
    let token = paste("keychain");
    let found = lookup(&scene, &["service", SERVICE, "username", "alice"]);
    let found: Value = serde_json::from_slice(&found.stdout).expect("a record");
    assert_eq!((&found["kind"], &found["secret"]), (&json!("static"), &json!(token)));
    assert_eq!(item(&scene).expect("the session beside it")["kind"], "session");
    // A file is left over from a time without a keychain.
    scene.sandbox.env("VALETKEY_STORE", "file");
    login(&scene).assert_status(0);
    scene.sandbox.env("VALETKEY_STORE", "auto");
    assert_eq!(planted::stored(&scene).0.len(), 1);
    scene.sandbox.valetkey(&["logout", &origin]).run().assert_status(0);
    assert_eq!(item(&scene), None);
    assert_ne!(lookup(&scene, &["service", SERVICE]).status, 0);
    assert_no_files(&scene);
}

/// Prints what the `keyring` crate finds. The test below starts this binary inside a session of its
/// own to ask for it; with nothing to ask for there is nothing to find.
#[test]
#[expect(clippy::print_stdout, reason = "it is a program of its own")]
fn oracle() {
    let variable = |name: &str| std::env::var(name).ok();
    if let (Some(service), Some(user)) = (variable("ORACLE_SERVICE"), variable("ORACLE_USER")) {
        let entry = keyring::Entry::new(&service, &user).expect("a keychain");
        println!("oracle={}", entry.get_password().expect("an item"));
        if let Some(secret) = variable("ORACLE_WRITES") {
            entry.set_password(&secret).expect("an item that can be written");
        }
    }
}

#[test]
fn the_keyring_crate_reads_and_writes_the_very_item() {
    let scene = Scene::new();
    let Some(_desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    login(&scene).assert_status(0);
    let mut record = item(&scene).expect("an item");
    record["account"] = json!("alice");
    record["scope"] = json!("written by another");
    let this = std::env::current_exe().expect("a path");
    let finished = scene
        .sandbox
        .run(this, &["--exact", "keychain::oracle", "--nocapture"])
        .env("ORACLE_SERVICE", SERVICE)
        .env("ORACLE_USER", USERNAME)
        .env("ORACLE_WRITES", record.to_string())
        .run();
    finished.assert_status(0);
    let text = finished.stdout_text();
    let read = text.split_once("oracle=").expect("an answer").1.lines().next().expect("a line");
    let read: Value = serde_json::from_str(read).expect("a record");
    assert_eq!(read["access_token"], record["access_token"]);
    let get = scene.get().run();
    assert_eq!(password(&get).as_deref(), record["access_token"].as_str());
    assert_eq!(item(&scene).expect("an item")["scope"], "written by another");
}

/// What other programs keep under the same service and user name is neither read, changed nor
/// removed, because it is not marked as ours.
#[test]
fn nobody_elses_items_are_touched() {
    let scene = Scene::new();
    let Some(_desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    let theirs: [&[&str]; 3] = [
        &["service", SERVICE, "username", USERNAME, "application", "another"],
        &["service", SERVICE, "username", "bob lab-client"],
        &["server", "https://a.example", "docker_cli", "1"],
    ];
    for attributes in theirs {
        plant(&scene, "not a record", attributes);
    }
    scene.nobody();
    scene.get().run().assert_status(2).assert_stdout("");
    login(&scene).assert_status(0);
    scene.get().run().assert_status(0);
    scene.sandbox.valetkey(&["logout", "--all"]).run().assert_status(0);
    assert_eq!(lookup(&scene, &["application", "valetkey"]).stdout_text(), "");
    for attributes in theirs {
        lookup(&scene, attributes).assert(0, "not a record", "");
    }
}

#[test]
fn what_cannot_be_read_is_named_and_removed_with_everything() {
    let scene = Scene::new();
    let Some(_desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    let ours = ["service", SERVICE, "username", "x y", "application", "valetkey"];
    let schema = [&ours[..], &["xdg:schema", "dev.valetkey.Record"]].concat();
    plant(&scene, "{\"v\":1,\"canary\":\"c4n4ry\"", &schema);
    scene.nobody();
    let get = scene.get().run();
    get.assert_status(6).assert_stdout("").assert_stderr_has("the record in the keychain");
    get.assert_stderr_has("valetkey logout --all");
    assert!(!get.stderr_text().contains("c4n4ry"), "{get}");
    scene.sandbox.valetkey(&["logout", "--all"]).run().assert_status(0);
    scene.get().run().assert_status(2);
    login(&scene).assert_status(0);
}

/// S127: one line, the way out, and nobody is sent to sign in again.
#[test]
fn a_locked_keychain_is_no_miss() {
    let scene = Scene::new();
    let Some(desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    login(&scene).assert_status(0);
    let before = item(&scene);
    desktop.end();
    let Some(desktop) = Desktop::start(&scene, Keyring::Locked) else { return };
    let browser = scene.browser(Person::Approves);
    let entry = "protocol=https\nhost=a.example\nusername=me\npassword=c4n4ry\n";
    let rejected = format!("{}username=oauth2\npassword=x\n", scene.question());
    let origin = scene.host.origin();
    for (arguments, input) in [
        (&["get"][..], scene.question()),
        (&["get"], "protocol=https\nhost=unknown.example\n".to_owned()),
        (&["store"], entry.to_owned()),
        (&["erase"], rejected),
        (&["login", &origin], String::new()),
        (&["logout", "--all"], String::new()),
        (&["list"], String::new()),
        (&["token", &origin], String::new()),
    ] {
        let run = || scene.sandbox.valetkey(arguments).stdin(&input);
        let started = Instant::now();
        for finished in [run().run(), run().env("VALETKEY_STORE", "keychain").run()] {
            finished.assert(6, "", &finished.stderr_text());
            finished.assert_stderr_has("error: the keychain is locked\nhint: unlock it");
        }
        // With a screen the keychain may show its own dialogue. There is none that could be shown
        // here, and that is found out soon.
        let finished = run().env("DISPLAY", ":1").remove_env("GIT_TERMINAL_PROMPT").run();
        finished.assert(6, "", &finished.stderr_text()).assert_stderr_has("keychain is locked");
        assert!(started.elapsed() < LIMIT, "{arguments:?}: {:?}", started.elapsed());
    }
    assert_eq!(browser.opened().len(), 0);
    assert_no_files(&scene);
    assert!(scene.sandbox.files_with(b"c4n4ry").is_empty());
    desktop.end();
    let Some(_desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    assert_eq!(item(&scene), before, "and nothing was erased that was not read");
}

/// A keychain that shows nothing while it is locked is not an empty one.
#[test]
fn a_locked_keychain_without_anything_of_ours_is_no_miss_either() {
    let scene = Scene::new();
    let Some(_desktop) = Desktop::start(&scene, Keyring::Locked) else { return };
    let browser = scene.browser(Person::Approves);
    scene.get().run().assert_status(6).assert_stdout("").assert_stderr_has("is locked");
    assert_eq!(browser.opened().len(), 0);
    assert_no_files(&scene);
}

#[track_caller]
fn within_the_limit(work: impl FnOnce() -> Finished) -> Finished {
    let started = Instant::now();
    let finished = work();
    let took = started.elapsed();
    assert!(took < LIMIT, "{took:?} for {finished}");
    finished
}

/// One line each time, because each time costs seconds; and no second wait in one process.
#[test]
fn a_keychain_that_hangs_costs_three_seconds_once_and_files_stand_in() {
    let scene = Scene::new();
    let Some(desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    login(&scene).assert_status(0);
    desktop.signal_daemon(Signal::STOP);
    let line = "warning: the keychain did not answer: tokens are kept in files of mode 0600 \
                instead\n";
    for _ in 0..2 {
        let get = within_the_limit(|| scene.get().run());
        get.assert_status(2).assert_stdout("");
        let text = get.stderr_text();
        assert!(text.starts_with(line) && text.matches("warning").count() == 1, "{get}");
    }
    let explicit = || scene.get().env("VALETKEY_STORE", "keychain").run();
    let explicit = within_the_limit(explicit);
    explicit
        .assert_status(6)
        .assert_stdout("")
        .assert_stderr_has("did not answer\nhint: set store");
    assert_no_files(&scene);

    // A whole sign-in meets it at each of its steps, and waits once.
    let login = within_the_limit(|| login(&scene));
    login.assert_status(0).assert_stderr_has("kept in files in");
    assert_eq!(login.stderr_text().matches("did not answer").count(), 1, "{login}");
    // What is in a file is answered without asking the keychain at all.
    let get = scene.get().run();
    get.assert(0, &get.stdout_text(), "");

    // When it wakes up, the older session in it is not taken for the newer one in the file; the
    // next renewal moves that one back.
    desktop.signal_daemon(Signal::CONT);
    let newer = password(&get);
    assert_eq!(password(&scene.get().run()), newer);
    let rejected =
        format!("{}username=oauth2\npassword={}\n", scene.question(), newer.expect("a token"));
    scene.sandbox.valetkey(&["erase"]).stdin(&rejected).run().assert(0, "", "");
    let get = scene.get().run();
    get.assert(0, &get.stdout_text(), "");
    assert_no_files(&scene);
    assert_eq!(item(&scene).expect("an item")["access_token"], json!(password(&get)));
}

#[test]
fn a_bus_that_hangs_costs_three_seconds_too() {
    let scene = Scene::new();
    let Some(desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    scene.nobody();
    desktop.signal_bus(Signal::STOP);
    let get = within_the_limit(|| scene.get().run());
    get.assert_status(2).assert_stdout("").assert_stderr_has("the keychain did not answer");
    desktop.signal_bus(Signal::CONT);
}

/// A screen makes no difference to a keychain that does not answer.
#[test]
fn a_keychain_that_hangs_beside_a_screen_costs_no_more() {
    let scene = Scene::new();
    let Some(_desktop) = Desktop::start(&scene, Keyring::Stopped) else { return };
    scene.nobody();
    let unknown = "protocol=https\nhost=unknown.example\n";
    let get = scene.sandbox.valetkey(&["get"]).stdin(unknown).env("DISPLAY", ":1");
    let get = get.remove_env("VALETKEY_INTERACTIVE").remove_env("GIT_TERMINAL_PROMPT");
    within_the_limit(|| get.run()).assert_stderr_has("the keychain did not answer");
}

/// S10, S44, S128: files stand in by themselves, with a warning.
#[test]
fn without_a_keychain_files_stand_in_and_that_is_said_once() {
    let scene = Scene::new();
    scene.nobody();
    for absent in ["no D-Bus session", "no service on the bus"] {
        let _desktop = if absent == "no D-Bus session" {
            scene.sandbox.env("VALETKEY_STORE", "auto");
            None
        } else {
            let Some(desktop) = Desktop::start(&scene, Keyring::AbsentService) else { return };
            Some(desktop)
        };
        let explicit = scene.get().env("VALETKEY_STORE", "keychain").run();
        explicit.assert_status(6).assert_stdout("");
        explicit
            .assert_stderr_has("error: there is no keychain")
            .assert_stderr_has("\nhint: set store");
        assert_no_files(&scene);
        let first = scene.get().run();
        first.assert_status(2).assert_stderr_has("warning: there is no keychain");
        login(&scene).assert_status(0).assert_stderr_has("kept in files in");
        let get = scene.get().run();
        get.assert(0, &get.stdout_text(), "");
        scene.sandbox.valetkey(&["logout", "--all"]).run().assert_status(0);
        let again = scene.get().run();
        assert!(!again.stderr_text().contains("warning"), "{again}");
        std::fs::remove_file(scene.sandbox.root().join("state/valetkey/told-about-files"))
            .expect("the note");
    }
}

/// gnome-keyring 42 crashes under quick clients; whoever is in the middle of a call tries again.
#[test]
fn a_keychain_that_crashes_between_two_calls_is_asked_again() {
    let scene = Scene::new();
    let Some(mut desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    login(&scene).assert_status(0);
    let token = password(&scene.get().run()).expect("a token");
    let rejected = format!("{}username=oauth2\npassword={token}\n", scene.question());
    scene.sandbox.valetkey(&["erase"]).stdin(&rejected).run().assert(0, "", "");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let get = scene.get().start();
    gate.reached();
    desktop.crash_daemon();
    gate.open();
    let get = get.wait();
    get.assert(0, &get.stdout_text(), "");
    assert_eq!(item(&scene).expect("an item")["access_token"], json!(password(&get)));
    assert_no_files(&scene);
}

#[test]
fn thirty_writers_at_once_lose_nothing() {
    let scene = Scene::new();
    let Some(_desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    let store = |number: usize| {
        let entry =
            format!("protocol=https\nhost=a.example\nusername=u{number}\npassword=p{number}\n");
        scene.sandbox.valetkey(&["store"]).stdin(entry).start()
    };
    let all: Vec<Started> = (0..30).map(store).collect();
    for started in all {
        started.wait().assert(0, "", "");
    }
    let listed = scene.sandbox.valetkey(&["list", "--json"]).run().assert_success();
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed.as_array().expect("a list").len(), 30);
    assert_no_files(&scene);
}

#[test]
fn a_hundred_gets_of_one_expired_session_in_the_keychain_make_one_refresh_request() {
    let scene = Scene::new();
    let Some(_desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    login(&scene).assert_status(0);
    let token = password(&scene.get().run()).expect("a token");
    let rejected = format!("{}username=oauth2\npassword={token}\n", scene.question());
    scene.sandbox.valetkey(&["erase"]).stdin(&rejected).run().assert(0, "", "");
    let all: Vec<Started> = (0..100).map(|_| scene.get().start()).collect();
    let all: Vec<Finished> = all.into_iter().map(Started::wait).collect();
    for finished in &all {
        finished.assert(0, &finished.stdout_text(), "");
        assert_eq!(password(finished), password(&all[0]));
    }
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

/// A file of one account does not hide the keychain's other one.
#[test]
fn both_stores_are_read_where_both_hold_something() {
    let scene = Scene::new();
    let Some(_desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    scene.authority.sign_in_as("bob");
    login(&scene).assert_status(0).assert_stderr_has("as bob");
    planted::fresh(&scene, "alice");
    let ask = |account: &str| {
        let question = format!("{}username={account}\n", scene.question());
        let get = scene.sandbox.valetkey(&["get"]).stdin(question).run();
        scene.authority.owner_of(&password(&get).unwrap_or_default())
    };
    assert_eq!(ask("bob").as_deref(), Some("bob"));
    assert_eq!(ask("alice").as_deref(), Some("alice"));
    scene.sandbox.valetkey(&["whoami"]).run().assert(0, "alice at lab\nbob at lab\n", "");
    scene.sandbox.valetkey(&["logout", "--all"]).run().assert_status(0);
    scene.sandbox.valetkey(&["list", "--json"]).run().assert(0, "[]\n", "");
}

/// Killed after the keychain has the renewed session and before its older copy in a file is gone:
/// the copy would be read first, and its spent token would end the grant.
#[test]
fn a_copy_in_a_file_is_never_older_than_the_keychain() {
    let scene = Scene::new();
    let Some(_desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    scene.nobody();
    if !crate::kill::strace_works(&scene) {
        return;
    }
    let mut seen = 0;
    for number in 1..200 {
        planted::expired(&scene, "alice");
        let unlink = "?unlink,?unlinkat";
        let killed = crate::kill::killed_at(&scene, unlink, number, "get");
        let killed = killed.stdin(scene.question()).run();
        let moved = item(&scene).is_some_and(|item| {
            scene.authority.token_is_live(item["access_token"].as_str().unwrap_or_default())
        });
        if moved {
            let next = scene.get().run();
            let token = password(&next).unwrap_or_else(|| panic!("number {number}: {next}"));
            assert!(scene.authority.token_is_live(&token), "number {number}");
            seen += 1;
        }
        scene.sandbox.valetkey(&["logout", "--all", "--local"]).run().assert_status(0);
        if killed.status != crate::kill::KILLED {
            assert!(seen > 1, "it was not once killed with the session in both stores");
            return;
        }
    }
    panic!("no end");
}

/// With the keychain out of reach only files were read, and each miss says so with the reason;
/// "nothing is stored" alone is said of a store that was read.
#[test]
fn a_miss_says_that_the_keychain_was_out_of_reach() {
    let scene = Scene::new();
    scene.nobody();
    let origin = scene.host.origin();
    let nowhere = format!("unix:path={}", scene.sandbox.root().join("no-bus").display());
    for (ssh, bus, why) in [
        (None, None, "there is no keychain (no D-Bus session)"),
        (Some("10.0.0.1 1 10.0.0.2 22"), None, "the keychain is out of reach over ssh"),
        (None, Some(&nowhere), "the keychain is out of reach (its D-Bus session is gone)"),
    ] {
        for (verb, status) in [
            (&["get"][..], 2),
            (&["token", &origin], 2),
            (&["token", "https://unknown.example"], 2),
            (&["whoami", &origin], 2),
            (&["list"], 0),
            (&["logout", &origin], 0),
        ] {
            let run = || {
                let mut run = scene.sandbox.valetkey(verb).stdin(scene.question());
                run = run.env("VALETKEY_STORE", "auto");
                run = ssh.iter().fold(run, |run, ssh| run.env("SSH_CONNECTION", *ssh));
                bus.iter().fold(run, |run, bus| run.env("DBUS_SESSION_BUS_ADDRESS", bus.as_str()))
            };
            // The first one also warns that files stand in; each says it.
            run().run();
            let finished = run().run();
            assert_eq!(finished.status, status, "{verb:?}: {finished}");
            finished.assert_stderr_has(why).assert_stderr_has("files");
            let read = run().env("VALETKEY_STORE", "file").run();
            assert!(!read.stderr_text().contains("keychain"), "{read}");
        }
    }
}
