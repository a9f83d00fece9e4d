//! A `docker-credential-NAME` program as the store: real ones, and broken ones.

use serde_json::Value;

use crate::desktop::{Desktop, Keyring};
use crate::installed;
use crate::lab::{Finished, Person};
use crate::planted;
use crate::scene::{Scene, value};

fn call(scene: &Scene, helper: &str, verb: &str, input: &str) -> Finished {
    scene.sandbox.run(format!("docker-credential-{helper}"), &[verb]).stdin(input).run()
}

/// Everything that a store is for, and another program's entry beside it.
fn serves_as_a_store(scene: &Scene, helper: &str) {
    scene.sandbox.env("VALETKEY_STORE", format!("helper:{helper}"));
    let theirs = r#"{"ServerURL":"https://registry.example","Username":"me","Secret":"theirs"}"#;
    call(scene, helper, "store", theirs).assert_status(0);
    let listed = || {
        let list = call(scene, helper, "list", "");
        let list: Value = serde_json::from_slice(&list.stdout).expect("JSON");
        list.as_object().expect("an object").len()
    };

    scene.nobody();
    scene.get().run().assert_status(2).assert_stdout("");
    let browser = scene.browser(Person::Approves);
    let origin = scene.host.origin();
    let login = scene.sandbox.valetkey(&["login", &origin]).run();
    login.assert_status(0).assert_stderr_has(&format!("kept in docker-credential-{helper}"));
    scene.nobody();
    let get = scene.get().run();
    get.assert(0, &get.stdout_text(), "");
    let token = value(&get, "password").expect("a token");
    let rejected = format!("{}username=oauth2\npassword={token}\n", scene.question());
    scene.sandbox.valetkey(&["erase"]).stdin(rejected).run().assert(0, "", "");
    let get = scene.get().run();
    get.assert(0, &get.stdout_text(), "");
    assert_ne!(value(&get, "password"), Some(token));
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    assert_eq!(browser.opened().len(), 1);

    // User names that would be a path, where a helper makes file names of them.
    for user in ["me", "../../me", "a/b c"] {
        let entry = format!("protocol=https\nhost=a.example\nusername={user}\npassword=p\n");
        scene.sandbox.valetkey(&["store"]).stdin(&entry).run().assert(0, "", "");
        let get = scene.sandbox.valetkey(&["get"]).stdin(entry.replace("password=p\n", "")).run();
        assert_eq!(value(&get, "username").as_deref(), Some(user), "{get}");
        scene.sandbox.valetkey(&["erase"]).stdin(&entry).run().assert(0, "", "");
    }
    assert_eq!(listed(), 2);
    let (records, others) = planted::stored(scene);
    assert!(records.is_empty() && others.is_empty(), "{records:?} {others:?}");

    scene.sandbox.valetkey(&["logout", "--all"]).run().assert_status(0);
    assert_eq!(listed(), 1, "and the other program's entry stays");
    call(scene, helper, "get", "https://registry.example").assert_status(0);
    scene.get().run().assert_status(2);

    // What is ours and cannot be read is removed with everything, and only that.
    let place = planted::key("alice").place.digest();
    let broken = format!(
        r#"{{"ServerURL":"https://valetkey.invalid/1/{place}/x","Username":"valetkey","Secret":"c4n4ry"}}"#
    );
    call(scene, helper, "store", &broken).assert_status(0);
    let get = scene.get().run();
    get.assert_status(6).assert_stdout("").assert_stderr_has("hint: valetkey logout --all");
    assert!(!get.stderr_text().contains("c4n4ry"), "{get}");
    scene.sandbox.valetkey(&["logout", "--all"]).run().assert_status(0);
    assert_eq!(listed(), 1);
}

#[test]
fn docker_credential_secretservice_serves_as_a_store() {
    let scene = Scene::new();
    if !installed::all(&["docker-credential-secretservice"]) {
        return;
    }
    let Some(desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    serves_as_a_store(&scene, "secretservice");
    let _browser = scene.browser(Person::Approves);
    scene.sandbox.valetkey(&["login", &scene.host.origin()]).run().assert_status(0);
    desktop.end();

    // It calls a locked keychain empty; it is not.
    let Some(_desktop) = Desktop::start(&scene, Keyring::Locked) else { return };
    scene.sandbox.env("VALETKEY_STORE", "helper:secretservice");
    let browser = scene.browser(Person::Approves);
    scene.get().run().assert_status(6).assert_stdout("");
    assert_eq!(browser.opened().len(), 0);
}

/// Its agent must not outlive the test.
struct Agent<'a>(&'a Scene);

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        self.0.sandbox.run("gpgconf", &["--kill", "all"]).run();
    }
}

#[test]
fn docker_credential_pass_serves_as_a_store() {
    let scene = Scene::new();
    if !installed::all(&["docker-credential-pass", "pass", "gpg", "gpgconf"]) {
        return;
    }
    let _agent = Agent(&scene);
    planted::private(&scene, "gnupg");
    scene.sandbox.env("GNUPGHOME", scene.sandbox.root().join("gnupg"));
    scene.sandbox.env("PASSWORD_STORE_DIR", scene.sandbox.root().join("passwords"));
    let key = ["--batch", "--passphrase", "", "--quick-gen-key", "lab", "default", "default"];
    scene.sandbox.run("gpg", &key).run().assert_status(0);
    scene.sandbox.run("pass", &["init", "lab"]).run().assert_status(0);
    serves_as_a_store(&scene, "pass");
}

#[test]
fn a_helper_that_is_not_there_is_said() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    scene.sandbox.env("VALETKEY_STORE", "helper:nowhere");
    let get = scene.get().run();
    get.assert_status(6).assert_stdout("");
    get.assert_stderr_has("error: docker-credential-nowhere is not on PATH\nhint: ");
    assert_eq!(browser.opened().len(), 0);
}

/// Nothing that a broken helper says or does is a miss, is repeated to anybody, or makes a file.
#[test]
fn a_broken_helper_is_no_miss() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    scene.sandbox.env("VALETKEY_STORE", "helper:broken");
    let url = format!("https://valetkey.invalid/1/{}/x", planted::key("alice").place.digest());
    let lists = format!(r#"[ "$1" = list ] && echo '{{"{url}":"valetkey"}}' && exit 0"#);
    let not_found = "echo 'credentials not found in native keychain'; exit 1";
    for body in [
        "echo c4n4ry; exit 1".to_owned(),
        "echo c4n4ry".to_owned(),
        "echo '{\"c4n4ry\":'".to_owned(),
        "echo '[\"c4n4ry\"]'".to_owned(),
        String::new(),
        "kill -9 $$".to_owned(),
        "head -c 3000000 /dev/zero; echo c4n4ry >&2".to_owned(),
        format!("{lists}\n{not_found}"),
        format!("{lists}\necho '{{}}'"),
        format!("{lists}\necho '{{\"Secret\":\"c4n4ry\"}}'"),
        format!("{lists}\necho c4n4ry; exit 1"),
        format!("{lists}\nexit 0"),
        // As docker-credential-secretservice lists a locked keychain.
        "echo '{\"\":\"account not defined\"}'".to_owned(),
    ] {
        scene.sandbox.script("docker-credential-broken", &format!("#!/bin/sh\n{body}\n"));
        let get = scene.get().run();
        get.assert_status(6).assert_stdout("").assert_stderr_has("docker-credential-broken");
        assert!(get.stderr_text().lines().count() <= 2, "{get}");
        assert!(!get.stderr_text().contains("c4n4ry"), "{get}");
    }
    assert_eq!(browser.opened().len(), 0);
    let (records, others) = planted::stored(&scene);
    assert!(records.is_empty() && others.is_empty(), "{records:?} {others:?}");
}

/// One that lists nothing and takes nothing: a person who signed in is told that it was in vain.
#[test]
fn a_helper_that_takes_nothing_is_said() {
    let scene = Scene::new();
    let _browser = scene.browser(Person::Approves);
    scene.sandbox.env("VALETKEY_STORE", "helper:broken");
    for answer in ["exit 1", "echo 'credentials not found in native keychain'; exit 1"] {
        let text = format!("#!/bin/sh\n[ \"$1\" = list ] && echo '{{}}' && exit 0\n{answer}\n");
        scene.sandbox.script("docker-credential-broken", &text);
        let get = scene.get().run();
        get.assert_status(6).assert_stdout("");
        get.assert_stderr_has("error: docker-credential-broken store failed");
        let (records, others) = planted::stored(&scene);
        assert!(records.is_empty() && others.is_empty(), "{records:?} {others:?}");
    }
}
