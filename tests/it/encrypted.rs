//! The encrypted store: where its key comes from, what moves into it, and what is said where the key
//! is not at hand or is another one.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::lab::{Finished, Run};
use crate::planted;
use crate::scene::{Scene, value};

const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER: &str = "ffecAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn sealed(scene: &Scene) -> Vec<PathBuf> {
    let files = scene.sandbox.files();
    let ours = files.into_iter().filter(|file| file.path.starts_with("data/valetkey/sealed"));
    let ours = ours.filter(|file| file.path.extension().is_some_and(|name| name == "sealed"));
    ours.inspect(|file| assert_eq!(file.mode, 0o600))
        .map(|file| scene.sandbox.root().join(file.path))
        .collect()
}

fn token(get: &Finished) -> Option<String> {
    value(get, "password")
}

#[track_caller]
fn assert_nothing_in_the_open(scene: &Scene) {
    for secret in scene.authority.secrets() {
        let known = scene.sandbox.files_with(secret.as_bytes());
        assert!(known.is_empty(), "{secret} is in {known:?}");
    }
}

/// A scene whose store is encrypted, with a key in a variable and one session.
fn signed_in() -> Scene {
    let scene = Scene::new();
    scene.sandbox.env("VALETKEY_STORE", "encrypted").env("VALETKEY_KEY", BASE64);
    scene.sign_in();
    scene
}

#[test]
fn a_session_is_sealed_and_renewed_in_place() {
    let scene = signed_in();
    let get = scene.get().run();
    get.assert(0, &get.stdout_text(), "");
    let first = token(&get).expect("a token");
    assert_eq!(sealed(&scene).len(), 1);
    assert_nothing_in_the_open(&scene);
    let rejected = format!("{}username=oauth2\npassword={first}\n", scene.question());
    scene.sandbox.valetkey(&["erase"]).stdin(rejected).run().assert(0, "", "");
    let get = scene.get().run();
    get.assert(0, &get.stdout_text(), "");
    assert!(scene.authority.token_is_live(&token(&get).expect("a token")));
    assert_nothing_in_the_open(&scene);
    scene.sandbox.valetkey(&["logout", "--all"]).run().assert_status(0);
    assert!(sealed(&scene).is_empty());
    scene.get().run().assert_status(2).assert_stdout("");
}

/// One key, by every way that it can come, opens what it has sealed.
#[test]
fn the_key_comes_from_a_variable_a_file_or_systemd() {
    let scene = signed_in();
    let wanted = token(&scene.get().run());
    let file = |name: &str, content: &[u8]| {
        scene.sandbox.write(name, content, 0o600).display().to_string()
    };
    let raw: Vec<u8> = (0..32).collect();
    let (text, hexadecimal) =
        (file("key", format!("{BASE64}\n").as_bytes()), file("hex", HEX.as_bytes()));
    let raw = file("raw", &raw);
    let credential = file("credentials/valetkey-key", BASE64.as_bytes());
    let directory = credential.trim_end_matches("/valetkey-key").to_owned();
    let setting = format!("encrypted:{text}");
    let unpadded = BASE64.trim_end_matches('=');
    for (variable, content) in [
        ("VALETKEY_KEY", BASE64),
        ("VALETKEY_KEY", HEX),
        ("VALETKEY_KEY", unpadded),
        ("VALETKEY_KEY_FILE", &text),
        ("VALETKEY_KEY_FILE", &hexadecimal),
        ("VALETKEY_KEY_FILE", &raw),
        ("CREDENTIALS_DIRECTORY", &directory),
        ("VALETKEY_STORE", &setting),
    ] {
        let get = scene.get().remove_env("VALETKEY_KEY").env(variable, content).run();
        assert_eq!((get.status, get.stderr_text()), (0, String::new()), "{variable}: {get}");
        assert_eq!(token(&get), wanted, "{variable}");
    }
}

/// What plain files hold moves into the store at the first look.
#[test]
fn plain_files_move_into_the_store() {
    let scene = Scene::new();
    scene.nobody();
    planted::fresh(&scene, "alice");
    scene.sandbox.env("VALETKEY_STORE", "encrypted").env("VALETKEY_KEY", BASE64);
    let get = scene.get().run();
    get.assert_status(0).assert_stderr_has("is sealed now; it was in a plain file");
    assert!(planted::stored(&scene).0.is_empty());
    assert_nothing_in_the_open(&scene);
    let again = scene.get().run();
    again.assert(0, &get.stdout_text(), "");

    planted::fresh(&scene, "bob");
    scene.sandbox.valetkey(&["list"]).run().assert_status(0).assert_stderr_has("is sealed now");
    assert_nothing_in_the_open(&scene);
    assert_eq!(sealed(&scene).len(), 2);
}

/// Each way in which the key is not the right one: exit status 6, words, a hint, and nothing is
/// changed or asked of anybody.
#[test]
fn without_its_key_the_store_says_what_is_missing() {
    let scene = signed_in();
    let before = std::fs::read(&sealed(&scene)[0]).expect("a record");
    let open = scene.sandbox.write("open", BASE64.as_bytes(), 0o644).display().to_string();
    let short = scene.sandbox.write("short", b"c4n4ry\n", 0o600).display().to_string();
    let nowhere = scene.sandbox.root().join("nowhere").display().to_string();
    let without = || scene.get().remove_env("VALETKEY_KEY");
    let cases: Vec<(Run, &str)> = vec![
        (without(), "the encrypted store is locked: nobody is here who could be asked"),
        (scene.get().env("VALETKEY_KEY", OTHER), "is sealed with key "),
        (scene.get().env("VALETKEY_KEY", "c4n4ry"), "VALETKEY_KEY holds no key of 32 bytes"),
        (without().env("VALETKEY_KEY_FILE", &nowhere), "the key of the encrypted store in"),
        (without().env("VALETKEY_KEY_FILE", &open), "others can read the key in"),
        (without().env("VALETKEY_KEY_FILE", &short), "holds no key of 32 bytes"),
    ];
    for (run, words) in cases {
        let get = run.run();
        assert_eq!((get.status, get.stdout_text()), (6, String::new()), "{words}: {get}");
        get.assert_stderr_has(words).assert_stderr_has("\nhint: ");
        assert!(!get.stderr_text().contains("c4n4ry"), "{get}");
    }
    assert_eq!(scene.authority.asked_for("refresh_token"), 0);
    // Not even who signs out of everything throws away what another key opens.
    scene.sandbox.valetkey(&["logout", "--all"]).env("VALETKEY_KEY", OTHER).run().assert_status(6);
    assert_eq!(std::fs::read(&sealed(&scene)[0]).expect("a record"), before);
    scene.get().run().assert_status(0);
}

/// Cut off anywhere, or one bit changed, or in the place of another record: damaged, and named.
#[test]
fn what_is_not_whole_is_not_opened() {
    let scene = signed_in();
    let path = &sealed(&scene)[0];
    let whole = std::fs::read(path).expect("a record");
    let mut broken: Vec<Vec<u8>> = [0, 1, 20, 34, 35, 40, 47, 60, whole.len() - 1]
        .map(|length| whole[..length].to_vec())
        .into();
    for place in [36, 50, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        broken.push(changed);
    }
    for content in broken {
        std::fs::write(path, &content).expect("our file");
        let get = scene.get().run();
        assert_eq!((get.status, get.stdout_text()), (6, String::new()), "{content:?}: {get}");
        get.assert_stderr_has(" is damaged\nhint: valetkey logout --all");
    }
    std::fs::write(path, &whole).expect("our file");
    let other = path.with_file_name(format!("{}.sealed", planted::key("bob").digest()));
    std::fs::copy(path, &other).expect("our file");
    std::fs::set_permissions(&other, PermissionsExt::from_mode(0o600)).expect("our file");
    scene.get().run().assert_status(0).assert_stderr_has("is damaged; the others answer");
    scene.sandbox.valetkey(&["logout", "--all"]).run().assert_status(0);
    assert!(sealed(&scene).is_empty());
}

/// The new key in front of the old one: both open, and what is written is sealed with the new one.
#[test]
fn a_key_is_changed_by_giving_both() {
    let scene = signed_in();
    let both = format!("{OTHER}\n{BASE64}");
    scene.sandbox.env("VALETKEY_KEY", &both);
    let first = token(&scene.get().run()).expect("a token");
    let rejected = format!("{}username=oauth2\npassword={first}\n", scene.question());
    scene.sandbox.valetkey(&["erase"]).stdin(rejected).run().assert(0, "", "");
    scene.sandbox.env("VALETKEY_KEY", OTHER);
    scene.get().run().assert_status(0);
    scene.get().env("VALETKEY_KEY", BASE64).run().assert_status(6);
}

/// The passphrase is asked for once, and kept by the kernel where that keeps anything.
#[test]
fn a_passphrase_is_asked_for_once() {
    let scene = Scene::new();
    scene.nobody();
    planted::fresh(&scene, "alice");
    scene.sandbox.env("VALETKEY_STORE", "encrypted");
    scene.get().run().assert_status(6).assert_stdout("").assert_stderr_has("store is locked");
    let at_terminal = || scene.get().terminal().env("VALETKEY_INTERACTIVE", "always").start();

    let get = at_terminal();
    get.terminal_expect("new passphrase for the encrypted store");
    get.terminal_type("a long word\n");
    get.terminal_expect("and once more");
    get.terminal_type("another word\n");
    let get = get.wait();
    get.assert_status(6).assert_stdout("").assert_stderr_has("are not the same");

    let get = at_terminal();
    get.terminal_expect("new passphrase for the encrypted store");
    get.terminal_type("a long word\n");
    get.terminal_expect("and once more");
    get.terminal_type("a long word\n");
    let get = get.wait();
    let wanted = token(&get);
    assert!(wanted.is_some() && !get.terminal.contains("a long word"), "{get}");
    assert_nothing_in_the_open(&scene);
    assert!(scene.sandbox.files_with(b"a long word").is_empty());

    // Nobody types anything now.
    let kept = scene.get().run();
    if kept.status == 0 {
        assert_eq!(token(&kept), wanted);
    } else {
        // The kernel of this machine keeps no keys: whoever is there is asked again.
        kept.assert_status(6).assert_stderr_has("store is locked");
        let get = at_terminal();
        get.terminal_expect("passphrase of the encrypted store");
        get.terminal_type("not this one\n");
        get.wait().assert_status(6).assert_stderr_has("that is not the passphrase");
        let get = at_terminal();
        get.terminal_expect("passphrase of the encrypted store");
        get.terminal_type("a long word\n");
        assert_eq!(token(&get.wait()), wanted);
    }
}
