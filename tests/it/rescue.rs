//! A pair of tokens that the store does not take at the moment at which the server has rotated:
//! it is kept in a rescue file, read first, and moved home; and the server, which ends the grant
//! at the second use of a refresh token, never sees one.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::desktop::{Desktop, Keyring};
use crate::lab::{FileSeen, Finished, Gate, Step};
use crate::planted;
use crate::scene::{Scene, value};

const RESCUE: &str = "state/valetkey/rescue";

fn rescued(scene: &Scene) -> Vec<FileSeen> {
    let mut files = scene.sandbox.files();
    files.retain(|file| file.path.starts_with(RESCUE));
    files
}

fn marks(scene: &Scene) -> usize {
    let files = scene.sandbox.files();
    files.iter().filter(|file| file.path.starts_with("state/valetkey/spending")).count()
}

fn password(finished: &Finished) -> String {
    value(finished, "password").unwrap_or_else(|| panic!("no token: {finished}"))
}

/// The host rejects the token, so that the next get renews.
fn reject(scene: &Scene, token: &str) {
    let rejected = format!("{}username=oauth2\npassword={token}\n", scene.question());
    scene.sandbox.valetkey(&["erase"]).stdin(&rejected).run().assert(0, "", "");
    // That it is not the first one is another matter.
    let _ = std::fs::remove_dir_all(scene.sandbox.root().join("state/valetkey/cooldown"));
}

/// The token of the one session in a rescue file has ended.
fn end(scene: &Scene) {
    let [file] = &rescued(scene)[..] else { panic!("{:?}", rescued(scene)) };
    let mut record: Value = serde_json::from_slice(&file.content).expect("a record");
    record["expires_at"] = 1_000_000_000.into();
    let path = file.path.to_str().expect("a plain path");
    scene.sandbox.write(path, record.to_string().as_bytes(), 0o600);
}

/// A get during which the server has rotated when `meanwhile` happens.
fn renewed_while(scene: &Scene, meanwhile: impl FnOnce()) -> Finished {
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let get = scene.get().start();
    gate.reached();
    meanwhile();
    gate.open();
    get.wait()
}

#[track_caller]
fn assert_answers(scene: &Scene, finished: &Finished, what: &str) -> String {
    assert_eq!(finished.status, 0, "{what}: {finished}");
    let token = password(finished);
    assert!(scene.authority.token_is_live(&token), "{what}: {finished}");
    token
}

type Break = fn(&mut Desktop);

/// How a keychain goes away, and how it comes back.
const WAYS: &[(&str, Break, Break)] = &[
    ("locked", Desktop::lock, Desktop::crash_daemon),
    ("killed", Desktop::kill_daemon, Desktop::start_daemon),
    ("stopped", stop, go_on),
    ("killed and started again", Desktop::crash_daemon, |_| ()),
];

fn stop(desktop: &mut Desktop) {
    desktop.signal_daemon(Signal::STOP);
}

fn go_on(desktop: &mut Desktop) {
    desktop.signal_daemon(Signal::CONT);
}

#[test]
fn a_keychain_that_goes_away_during_a_renewal_costs_no_grant() {
    for store in ["keychain", "auto"] {
        for (way, goes, comes_back) in WAYS {
            let what = format!("{store}, {way}");
            let scene = Scene::new();
            let Some(mut desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
            scene.sandbox.env("VALETKEY_STORE", store);
            scene.sign_in();
            let first = password(&scene.get().run());
            reject(&scene, &first);

            let renewed = renewed_while(&scene, || goes(&mut desktop));
            let token = assert_answers(&scene, &renewed, &what);
            if *way != "killed and started again" {
                let [file] = &rescued(&scene)[..] else { panic!("{what}: {:?}", rescued(&scene)) };
                assert_eq!(file.mode, 0o600, "{what}");
                let record: Value = serde_json::from_slice(&file.content).expect("a record");
                assert_eq!(record["access_token"], json!(token), "{what}");
                renewed.assert_stderr_has("is kept in files in").assert_stderr_has(RESCUE);
                // It is read first while the keychain is away.
                let again = scene.get().run();
                assert_eq!(assert_answers(&scene, &again, &what), token, "{what}");
                again.assert_stderr_has("answering from files in");
                // When it ends, a keychain that must be read is an error, and its token not spent;
                // where files may stand in it is renewed beside the locks.
                end(&scene);
                let ended = scene.get().run();
                let stands_in = store == "auto" && *way != "locked";
                assert_eq!(ended.status, if stands_in { 0 } else { 6 }, "{what}: {ended}");
                let asked = scene.authority.asked_for("refresh_token");
                assert_eq!(asked, if stands_in { 2 } else { 1 }, "{what}");
            }
            comes_back(&mut desktop);
            let back = scene.get().run();
            back.assert(0, &back.stdout_text(), "");
            let token = assert_answers(&scene, &back, &what);
            assert_eq!(scene.get().run().stdout_text(), back.stdout_text(), "{what}");
            assert!(rescued(&scene).is_empty(), "{what}: {:?}", rescued(&scene));
            assert_eq!(marks(&scene), 0, "{what}");
            planted::assert_no_secret_elsewhere(&scene);
            assert_eq!(planted::stored(&scene).0.len(), 0, "{what}");

            reject(&scene, &token);
            assert_answers(&scene, &scene.get().run(), &what);
            assert_eq!(scene.authority.live_grants(), 1, "{what}");
        }
    }
}

/// The same where the store is files, and their directory takes nothing for a while.
#[test]
fn a_directory_that_takes_nothing_during_a_renewal_costs_no_grant() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new();
    scene.nobody();
    let record = planted::expired(&scene, "alice");
    let directory = record.parent().expect("a directory");
    let mode = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(directory, mode).expect("our directory");
    };
    let spent = planted::read(&record)["refresh_token"].clone();
    let renewed = renewed_while(&scene, || mode(0o755));
    let token = assert_answers(&scene, &renewed, "the directory is open to others");
    renewed.assert_stderr_has("is not a directory of ours alone: the renewed session");
    assert_eq!((rescued(&scene).len(), rescued(&scene)[0].mode), (1, 0o600));
    assert_eq!(planted::read(&record)["refresh_token"], spent);
    let again = scene.get().run();
    assert_eq!(assert_answers(&scene, &again, "it is still open"), token);

    mode(0o700);
    let back = scene.get().run();
    back.assert(0, &back.stdout_text(), "");
    assert_eq!(password(&back), token);
    assert_eq!((rescued(&scene).len(), marks(&scene)), (0, 0));
    assert_eq!(planted::read(&record)["access_token"], json!(token));
    reject(&scene, &token);
    assert_answers(&scene, &scene.get().run(), "the next renewal");
    assert_eq!(scene.authority.live_grants(), 1);
}

/// A rescued session of an account that was not the chosen one answers where it is named, and
/// nowhere else.
#[test]
fn a_rescued_session_does_not_answer_for_another_account() {
    let scene = Scene::new();
    let Some(mut desktop) = Desktop::start(&scene, Keyring::Unlocked) else { return };
    scene.sandbox.env("VALETKEY_STORE", "keychain");
    for account in ["bob", "alice"] {
        scene.authority.sign_in_as(account);
        let _browser = scene.browser(crate::lab::Person::Approves);
        let origin = scene.host.origin();
        let login = ["login", "--account", account, &origin];
        scene.sandbox.valetkey(&login).run().assert_status(0);
        scene.nobody();
    }
    let named = format!("{}username=bob\n", scene.question());
    let bob = || scene.sandbox.valetkey(&["get"]).stdin(&named);
    let first = password(&bob().run());
    assert_eq!(scene.authority.owner_of(&first).as_deref(), Some("bob"));
    let rejected = format!("{named}password={first}\n");
    scene.sandbox.valetkey(&["erase"]).stdin(rejected).run().assert(0, "", "");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let get = bob().start();
    gate.reached();
    desktop.lock();
    gate.open();
    let token = assert_answers(&scene, &get.wait(), "bob");
    assert_eq!(rescued(&scene).len(), 1);
    assert_eq!(password(&bob().run()), token);
    scene.get().run().assert_status(6).assert_stdout("").assert_stderr_has("is locked");
    desktop.crash_daemon();
    let alice = password(&scene.get().run());
    assert_eq!(scene.authority.owner_of(&alice).as_deref(), Some("alice"));
    assert_eq!(password(&bob().run()), token);
    assert!(rescued(&scene).is_empty());
}

/// Killed between the server's answer and the save: the next call knows that the token may have
/// been spent, and says so when the server says no.
#[test]
fn a_renewal_that_was_cut_off_is_said() {
    let scene = Scene::new();
    scene.nobody();
    planted::expired(&scene, "alice");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let get = scene.get().start();
    gate.reached();
    assert_eq!(marks(&scene), 1, "it is marked before it is sent");
    get.kill();
    gate.open();
    get.wait();
    let next = scene.get().run();
    next.assert_status(2).assert_stdout("").assert_stderr_has("warning: a renewal for http://");
    next.assert_stderr_has("was cut off before its answer was kept");
    assert_eq!(marks(&scene), 0);

    // Where it was not spent, nothing is said.
    planted::expired(&scene, "alice");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAndClose(gate.clone())]);
    let get = scene.get().start();
    gate.reached();
    get.kill();
    gate.open();
    get.wait();
    let next = scene.get().run();
    next.assert(0, &next.stdout_text(), "");
    assert_eq!(marks(&scene), 0);
}
