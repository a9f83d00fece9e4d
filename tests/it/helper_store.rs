//! A `docker-credential-NAME` program as the store: real ones, and broken ones.

use serde_json::Value;

use crate::desktop::{Desktop, Keyring};
use crate::installed;
use crate::lab::{Finished, Person, Started};
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

/// An empty password store with a key of its own; `None`, with a word, where it is not installed.
fn password_store(scene: &Scene) -> Option<Agent<'_>> {
    if !installed::all(&["docker-credential-pass", "pass", "gpg", "gpgconf"]) {
        return None;
    }
    let agent = Agent(scene);
    planted::private(scene, "gnupg");
    scene.sandbox.env("GNUPGHOME", scene.sandbox.root().join("gnupg"));
    scene.sandbox.env("PASSWORD_STORE_DIR", scene.sandbox.root().join("passwords"));
    let key = ["--batch", "--passphrase", "", "--quick-gen-key", "lab", "default", "default"];
    scene.sandbox.run("gpg", &key).run().assert_status(0);
    scene.sandbox.run("pass", &["init", "lab"]).run().assert_status(0);
    Some(agent)
}

#[test]
fn docker_credential_pass_serves_as_a_store() {
    let scene = Scene::new();
    let Some(_agent) = password_store(&scene) else { return };
    serves_as_a_store(&scene, "pass");
}

/// A folder of pass's that is nobody's entry makes its list fail, for everybody.
#[test]
fn an_empty_folder_in_a_password_store_hides_nothing_of_ours() {
    let scene = Scene::new();
    let Some(_agent) = password_store(&scene) else { return };
    scene.sandbox.env("VALETKEY_STORE", "helper:pass");
    scene.sign_in();
    planted::private(
        &scene,
        "passwords/docker-credential-helpers/aHR0cHM6Ly90aGVpcnMuZXhhbXBsZQ==",
    );
    let get = scene.get().run();
    get.assert(0, &get.stdout_text(), "");
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

/// A store in a directory that forgets nothing, as a shell script; `before` is done first.
fn directory_store(scene: &Scene, name: &str, before: &str) {
    let text = format!(
        r#"#!/bin/sh
d=$HOME/entries; mkdir -p "$d"; echo "$1" >>"$HOME/asked"
{before}
name() {{ printf %s "$1" | tr / _; }}
case $1 in
list) printf '{{"-":"-"'; for f in "$d"/*.url; do [ -e "$f" ] && printf ',"%s":"valetkey"' "$(cat "$f")"; done; echo '}}' ;;
get) u=$(cat); cat "$d/$(name "$u").entry" 2>/dev/null || {{ echo 'credentials not found in native keychain'; exit 1; }} ;;
store) e=$(cat); u=${{e#*\"ServerURL\":\"}}; u=${{u%%\"*}}; printf %s "$e" >"$d/$(name "$u").new"
    mv "$d/$(name "$u").new" "$d/$(name "$u").entry"; printf %s "$u" >"$d/$(name "$u").tmp"
    mv "$d/$(name "$u").tmp" "$d/$(name "$u").url" ;;
erase) u=$(cat); rm -f "$d/$(name "$u").url" "$d/$(name "$u").entry" ;;
esac
"#
    );
    scene.sandbox.script(&format!("docker-credential-{name}"), &text);
    scene.sandbox.env("VALETKEY_STORE", format!("helper:{name}"));
}

fn asked(scene: &Scene) -> usize {
    let text = std::fs::read_to_string(scene.sandbox.root().join("home/asked")).unwrap_or_default();
    text.lines().count()
}

fn reject(scene: &Scene) {
    let token = value(&scene.get().run(), "password").expect("a token");
    let rejected = format!("{}username=oauth2\npassword={token}\n", scene.question());
    scene.sandbox.valetkey(&["erase"]).stdin(&rejected).run().assert(0, "", "");
    let _ = std::fs::remove_dir_all(scene.sandbox.root().join("state/valetkey/cooldown"));
}

/// Several machines with a HOME, and locks, of their own, and one store. All of them renew at once;
/// the server ends the grant at the second use of a refresh token.
fn machines_take_turns(scene: &Scene, rounds: usize, each: usize) {
    scene.sign_in();
    for round in 0..rounds {
        reject(scene);
        let before = scene.authority.asked_for("refresh_token");
        let on = |machine: usize| {
            let state = scene.sandbox.root().join(format!("state-{machine}"));
            scene.get().env("XDG_STATE_HOME", state).start()
        };
        let all: Vec<Started> = (0..2 * each).map(|number| on(number % 2)).collect();
        let all: Vec<Finished> = all.into_iter().map(Started::wait).collect();
        for finished in &all {
            assert_eq!(finished.status, 0, "round {round}: {finished}");
            let token = value(finished, "password").expect("a token");
            assert!(scene.authority.token_is_live(&token), "round {round}: {finished}");
        }
        assert_eq!(scene.authority.asked_for("refresh_token") - before, 1, "round {round}");
        assert_eq!(scene.authority.live_grants(), 1, "round {round}");
    }
}

#[test]
fn machines_that_share_a_store_take_turns() {
    let scene = Scene::new();
    directory_store(&scene, "shared", "");
    machines_take_turns(&scene, 4, 5);
    let entries = std::fs::read_dir(scene.sandbox.root().join("home/entries")).expect("entries");
    assert_eq!(entries.count(), 2, "no claim stays");
}

/// The same with a store whose writes and lists are not atomic.
#[test]
fn machines_that_share_a_password_store_take_turns() {
    let scene = Scene::new();
    let Some(_agent) = password_store(&scene) else { return };
    scene.sandbox.env("VALETKEY_STORE", "helper:pass");
    let number = |name: &str, usual| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    machines_take_turns(&scene, number("LAB_ROUNDS", 2), number("LAB_GETS", 3));
}

#[test]
fn a_person_who_signs_in_hears_about_copied_stores() {
    let scene = Scene::new();
    directory_store(&scene, "shared", "");
    let _browser = scene.browser(Person::Approves);
    let login = scene.sandbox.valetkey(&["login", &scene.host.origin()]).run();
    login.assert_status(0).assert_stderr_has("machines that share the store of docker-credential-");
}

/// The claim of a machine that died is in nobody's way for ever, and a live one is waited for.
#[test]
fn a_claim_counts_for_its_time() {
    let scene = Scene::new();
    directory_store(&scene, "shared", "");
    scene.sign_in();
    reject(&scene);
    let key = planted::key("alice").digest();
    let claim = format!("https://valetkey.invalid/claim/{key}/001700000000-0000000000000001");
    let entry = format!(r#"{{"ServerURL":"{claim}","Username":"valetkey","Secret":"claim"}}"#);
    call(&scene, "shared", "store", &entry).assert_status(0);
    let get = scene.get().run();
    get.assert(0, &get.stdout_text(), "");
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

/// A store that is valetkey by whatever name ends at once, and starts nothing without an end.
#[test]
fn a_store_that_leads_back_to_valetkey_is_refused() {
    for way in ["its name", "a link", "a copy", "a wrapper", "another helper"] {
        let scene = Scene::new();
        let browser = scene.browser(Person::Approves);
        let count = "echo x >>\"$HOME/asked\"; [ $(wc -l <\"$HOME/asked\") -lt 20 ] || exit 9";
        let name = match way {
            "its name" => {
                scene.sandbox.link("docker-credential-valetkey");
                "valetkey"
            }
            "a link" => {
                scene.sandbox.link("docker-credential-lab");
                "lab"
            }
            "a copy" => {
                let copy = scene.sandbox.bin().join("docker-credential-valetkey");
                std::fs::copy(crate::scene::program(), copy).expect("a copy");
                let text = "exec docker-credential-valetkey \"$@\"";
                let text = format!("#!/bin/sh\n{count}\n{text}\n");
                scene.sandbox.script("docker-credential-lab", &text);
                "lab"
            }
            "a wrapper" => {
                scene.sandbox.link("valetkey");
                let text = format!("#!/bin/sh\n{count}\nexec valetkey docker \"$@\"\n");
                scene.sandbox.script("docker-credential-lab", &text);
                "lab"
            }
            _ => {
                scene.sandbox.link("valetkey");
                let text = format!("#!/bin/sh\n{count}\nexec docker-credential-two \"$@\"\n");
                scene.sandbox.script("docker-credential-lab", &text);
                let text = "#!/bin/sh\nprintf 'protocol=https\\nhost=x.example\\n\\n' | \
                            valetkey get 2>&1 || exit 1\n";
                scene.sandbox.script("docker-credential-two", text);
                "lab"
            }
        };
        scene.sandbox.env("VALETKEY_STORE", format!("helper:{name}"));
        let get = scene.get().run();
        get.assert_stdout("").assert_stderr_has("valetkey");
        let wanted = if matches!(way, "its name" | "a link") { 78 } else { 6 };
        assert_eq!(get.status, wanted, "{way}: {get}");
        assert!(asked(&scene) <= 1, "{way}: started {} times", asked(&scene));
        assert_eq!(browser.opened().len(), 0, "{way}");
    }
}

/// What a helper says is not repeated; what it means is, with a way out.
#[test]
fn a_helper_that_fails_is_told_with_its_cause_and_a_hint() {
    let scene = Scene::new();
    scene.nobody();
    scene.sandbox.env("VALETKEY_STORE", "helper:broken");
    for (body, cause) in [
        ("echo 'gpg: decryption failed: No secret key c4n4ry'; exit 2", "gpg has no secret key"),
        ("echo 'pass is not initialized'; exit 1", "pass is not initialized: pass init"),
        ("echo 'Error: Cannot autolaunch D-Bus without X11'; exit 1", "a D-Bus session"),
        ("echo c4n4ry; exit 3", "exit status: 3"),
        ("exit 77", "exit status: 77"),
        ("kill -9 $$", "signal: 9"),
    ] {
        scene.sandbox.script("docker-credential-broken", &format!("#!/bin/sh\n{body}\n"));
        let get = scene.get().run();
        get.assert_status(6).assert_stdout("").assert_stderr_has(cause);
        get.assert_stderr_has("error: docker-credential-broken list failed: ");
        get.assert_stderr_has("\nhint: see what `docker-credential-broken list` says");
        assert!(!get.stderr_text().contains("c4n4ry"), "{get}");
    }
}

/// Things that helpers do, and that are no reason to fail.
#[test]
fn a_helper_with_habits_of_its_own_serves_all_the_same() {
    for (habit, before) in [
        (
            "one failed list",
            r#"[ "$1" = list ] && ! [ -e "$HOME/l" ] && touch "$HOME/l" && exit 1"#,
        ),
        ("one failed get", r#"[ "$1" = get ] && ! [ -e "$HOME/g" ] && touch "$HOME/g" && exit 1"#),
        ("a byte order mark", r#"case $1 in list|get) printf '\357\273\277' ;; esac"#),
        (
            "its answer twice",
            r#"[ "$2" ] || case $1 in get) t=$(cat); for i in 1 2; do printf %s "$t" | "$0" get again; done; exit ;; list) "$0" list again; "$0" list again; exit ;; esac"#,
        ),
        ("a word after a store", r#"[ "$1" = store ] && echo stored"#),
        ("words on standard error", "echo something >&2"),
        ("nobody reads", r#"[ "$1" = list ] && exec </dev/null"#),
    ] {
        let scene = Scene::new();
        directory_store(&scene, "odd", "");
        scene.sign_in();
        directory_store(&scene, "odd", before);
        let get = scene.get().run();
        assert_eq!((get.status, get.stderr_text()), (0, String::new()), "{habit}: {get}");
        reject(&scene);
        assert_eq!(scene.get().run().status, 0, "{habit}");
    }
}

/// A list that fails for good, as pass does at one folder that it cannot read, hides nothing of
/// ours, and makes nothing a miss.
#[test]
fn a_list_that_always_fails_hides_nothing_of_ours() {
    let scene = Scene::new();
    directory_store(&scene, "odd", "");
    scene.sign_in();
    let fails = r#"[ "$1" = list ] && echo "no usernames for https://theirs.example" && exit 1"#;
    directory_store(&scene, "odd", fails);
    let get = scene.get().run();
    get.assert(0, &get.stdout_text(), "");
    let unknown = scene.sandbox.valetkey(&["get"]).stdin("protocol=https\nhost=u.example\n").run();
    unknown.assert_status(6).assert_stderr_has("one of its folders is empty");
}

/// One entry of several that cannot be read: the others answer, and that is said; alone it is an
/// error. And a store that takes nothing, but says that it did.
#[test]
fn a_broken_entry_among_others_is_said() {
    let scene = Scene::new();
    directory_store(&scene, "odd", "");
    scene.sign_in();
    let place = planted::key("alice").place.digest();
    let url = format!("https://valetkey.invalid/1/{place}/x");
    let broken = format!(r#"{{"ServerURL":"{url}","Username":"valetkey","Secret":"c4n4ry"}}"#);
    call(&scene, "odd", "store", &broken).assert_status(0);
    let get = scene.get().run();
    get.assert_status(0).assert_stderr_has("cannot be read; the others answer");
    assert!(!get.stderr_text().contains("c4n4ry"), "{get}");

    let lies = r#"case $1 in store) cat >/dev/null; echo 'error: not stored'; exit 0 ;; esac"#;
    call(&scene, "odd", "erase", &url).assert_status(0);
    reject(&scene);
    directory_store(&scene, "odd", lies);
    let get = scene.get().run();
    get.assert_status(0).assert_stderr_has("did not keep what it took: the renewed session");
    directory_store(&scene, "odd", "");
    let token = value(&get, "password");
    let get = scene.get().run();
    get.assert(0, &get.stdout_text(), "");
    assert_eq!(value(&get, "password"), token);
    reject(&scene);
    scene.get().run().assert_status(0);
    assert_eq!(scene.authority.live_grants(), 1);
}
