//! The file store among hostile neighbours: modes, owners, links, pipes, giants and rubbish.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};
use serde_json::json;

use crate::lab::{Finished, Gate, Person, Step};
use crate::planted;
use crate::scene::{Scene, value};

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a mode");
}

/// Every file and directory that is ours.
fn ours(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            ours(&path, found);
        }
        found.push(path);
    }
}

/// What a link between the places leads to is neither listed nor cleaned.
#[test]
fn a_link_to_a_directory_leads_nowhere() {
    let scene = Scene::new();
    scene.sign_in();
    let record = scene.session_file();
    let elsewhere = scene.sandbox.work().join("elsewhere");
    let listed = scene.sandbox.valetkey(&["list"]).run().assert_success();
    for name in ["photo.png", "copy.json"] {
        scene.sandbox.write(&format!("work/elsewhere/{name}"), &record.content, 0o600);
    }
    chmod(&elsewhere, 0o700);
    let sessions = scene.sandbox.root().join("data/valetkey/sessions");
    symlink(&elsewhere, sessions.join("link")).expect("a new link");
    assert_eq!(scene.sandbox.valetkey(&["list"]).run().assert_success(), listed);
    scene.sandbox.valetkey(&["logout", "--all"]).run().assert_status(0);
    assert_eq!(std::fs::read_dir(&elsewhere).expect("it is there").count(), 2);
}

/// S11, S12: 0700 and 0600, whatever the umask says.
#[test]
fn a_careless_umask_opens_nothing() {
    let scene = Scene::new();
    let _browser = scene.browser(Person::Approves);
    let program = crate::scene::program();
    let run = |verb: &str, input: &str| {
        let script = format!("umask 000; exec \"$0\" {verb}");
        scene.sandbox.run("sh", &["-c", &script]).arg(program).stdin(input).run()
    };
    run("get", &scene.question()).assert_status(0);
    let entry = "protocol=https\nhost=a.example\nusername=me\npassword=p\n";
    run("store", entry).assert(0, "", "");
    run("erase", &format!("{}username=oauth2\npassword=x\n", scene.question())).assert(0, "", "");
    for below in ["data", "state"] {
        let mut found = Vec::new();
        ours(&scene.sandbox.root().join(below), &mut found);
        assert!(found.len() > 3, "{found:?}");
        for path in found {
            let mode = path.metadata().expect("a file of ours").mode() & 0o7777;
            let wanted = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, wanted, "{} is {mode:o}", path.display());
        }
    }
}

/// Status 6 at once, one line and a way out, and nothing of the content.
#[track_caller]
fn assert_refused(finished: &Finished, path: &Path) {
    finished.assert_status(6).assert_stdout("");
    finished.assert_stderr_has(path.to_str().expect("a plain path"));
    let text = finished.stderr_text();
    assert_eq!(text.matches("error: ").count(), 1, "{finished}");
    assert!(text.lines().count() <= 2 && !text.contains("c4n4ry"), "{finished}");
}

fn refused(scene: &Scene, path: &Path) -> Finished {
    let finished = scene.get().run();
    assert_refused(&finished, path);
    assert_eq!(scene.authority.asked("/token"), 0);
    finished
}

/// S92: a file with the wrong mode is refused with the command that mends it.
#[test]
fn what_is_not_a_private_file_of_ours_is_no_record() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let path = planted::fresh(&scene, "alice");
    let good = std::fs::read(&path).expect("a record");
    let aside = scene.sandbox.write("aside.json", &good, 0o600);

    for mode in [0o604, 0o640, 0o660, 0o620, 0o644] {
        chmod(&path, mode);
        refused(&scene, &path).assert_stderr_has("hint: chmod 600");
    }
    std::fs::remove_file(&path).expect("a file");
    symlink(&aside, &path).expect("a link");
    refused(&scene, &path);
    std::fs::remove_file(&path).expect("a link");
    symlink("nowhere", &path).expect("a link");
    refused(&scene, &path);
    std::fs::remove_file(&path).expect("a link");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    refused(&scene, &path);
    std::fs::remove_file(&path).expect("a pipe");
    std::fs::create_dir(&path).expect("a directory");
    refused(&scene, &path);
    std::fs::remove_dir(&path).expect("a directory");
    rustix::fs::mknodat(CWD, &path, FileType::Socket, Mode::RUSR | Mode::WUSR, 0)
        .expect("a socket");
    refused(&scene, &path);
    std::fs::remove_file(&path).expect("a socket");
    if rustix::process::geteuid().is_root() {
        std::fs::write(&path, &good).expect("a record");
        chmod(&path, 0o600);
        std::os::unix::fs::chown(&path, Some(1), None).expect("another owner");
        refused(&scene, &path).assert_stderr_has("is not a file of ours");
        std::fs::remove_file(&path).expect("a record");
    }
    assert_eq!(std::fs::read(&aside).expect("a file"), good);
    assert_eq!(browser.opened().len(), 0, "none of this is a miss");
}

fn broken_contents(record: &str) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("nothing", Vec::new()),
        ("half a record", record.as_bytes()[..record.len() / 2].to_vec()),
        ("another object", b"{\"canary\":\"c4n4ry\"}".to_vec()),
        ("no text", b"c4n4ry\xff\0".to_vec()),
        ("zeros", vec![0; 4096]),
        ("an earlier version", record.replace("\"v\":1", "\"v\":0").into_bytes()),
        ("a kind that there is not", record.replace("\"session\"", "\"c4n4ry\"").into_bytes()),
        ("two records", [record, record].concat().into_bytes()),
    ]
}

/// The files of the place that are no records.
fn aside(scene: &Scene) -> Vec<Vec<u8>> {
    planted::stored(scene).1.into_iter().map(|file| file.content).collect()
}

/// S89: a file that is no record is named once, kept under another name, and in nobody's way.
#[test]
fn a_broken_record_is_put_aside_and_the_others_answer() {
    let scene = Scene::new();
    scene.nobody();
    let path = planted::fresh(&scene, "alice");
    let record = planted::read(&path).to_string();
    for (what, content) in broken_contents(&record) {
        planted::fresh(&scene, "bob");
        std::fs::write(&path, &content).expect("a record");
        let get = scene.get().run();
        get.assert_status(0);
        let token = value(&get, "password").expect("bob's token");
        assert!(scene.authority.token_is_live(&token), "{what}");
        let text = get.stderr_text();
        assert_eq!(text.lines().count(), 1, "{what}: {get}");
        assert!(text.contains(path.to_str().expect("plain")) && !text.contains("c4n4ry"), "{get}");
        // Once: and byte for byte it is still there.
        scene.get().run().assert(0, &get.stdout_text(), "");
        assert_eq!(aside(&scene), std::slice::from_ref(&content), "{what}");
        // Who leaves leaves nothing.
        scene.sandbox.valetkey(&["logout", "--local", &scene.host.origin()]).run().assert_status(0);
        assert!(aside(&scene).is_empty(), "{what}");
        assert!(planted::stored(&scene).0.is_empty(), "{what}");

        // Alone it is a miss, and a sign-in mends that.
        planted::fresh(&scene, "alice");
        std::fs::write(&path, &content).expect("a record");
        scene.get().run().assert_status(2).assert_stderr_has("warning: the record in ");
        scene.get().run().assert_status(2).assert_stderr_has("hint: valetkey login ");
        scene.sign_in();
        scene.get().run().assert_status(0);
        assert_eq!(aside(&scene), [content], "{what}");
        scene.sandbox.valetkey(&["logout", "--all", "--local"]).run().assert_status(0);
        assert!(aside(&scene).is_empty(), "{what}");
        planted::fresh(&scene, "alice");
    }
    // A terabyte, none of it on the disk.
    let file = std::fs::File::options().write(true).open(&path).expect("a record");
    file.set_len(1 << 40).expect("a hole");
    scene.get().run().assert_status(2);
    assert!(!path.exists());
}

/// A mark that an editor left is no part of a record.
#[test]
fn a_record_with_a_byte_order_mark_is_a_record() {
    let scene = Scene::new();
    scene.nobody();
    let path = planted::fresh(&scene, "alice");
    let record = std::fs::read(&path).expect("a record");
    std::fs::write(&path, [b"\xEF\xBB\xBF".as_slice(), &record].concat()).expect("a record");
    let get = scene.get().run();
    get.assert_status(0);
    assert_eq!(get.stderr_text(), "");
}

/// What may be a good record stays where it is, and only who wants that very one is told.
#[test]
fn a_record_that_cannot_be_read_is_in_nobody_elses_way() {
    let scene = Scene::new();
    scene.nobody();
    let path = planted::fresh(&scene, "alice");
    let good = std::fs::read(&path).expect("a record");
    let later = String::from_utf8_lossy(&good).replace("\"v\":1", "\"v\":2");
    planted::fresh(&scene, "bob");
    type Make<'a> = Box<dyn Fn() + 'a>;
    let shapes: [(&str, Make<'_>); 6] = [
        ("of a later version", Box::new(|| std::fs::write(&path, &later).expect("a record"))),
        (
            "open to others",
            Box::new(|| {
                std::fs::write(&path, &good).expect("a record");
                chmod(&path, 0o644);
            }),
        ),
        ("a link", Box::new(|| symlink("nowhere", &path).expect("a link"))),
        ("a directory", Box::new(|| std::fs::create_dir(&path).expect("a directory"))),
        (
            "a pipe",
            Box::new(|| {
                rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
            }),
        ),
        (
            "of another user",
            Box::new(|| {
                std::fs::write(&path, &good).expect("a record");
                chmod(&path, 0o600);
                if rustix::process::geteuid().is_root() {
                    std::os::unix::fs::chown(&path, Some(1), None).expect("another owner");
                } else {
                    chmod(&path, 0o604);
                }
            }),
        ),
    ];
    let question = |account: &str| format!("{}username={account}\n", scene.question());
    for (what, make) in shapes {
        std::fs::remove_file(&path).expect("what was there");
        make();
        for question in [scene.question(), question("bob")] {
            let get = scene.sandbox.valetkey(&["get"]).stdin(question).run();
            get.assert_status(0);
            assert_eq!(get.stderr_text(), "", "{what}");
        }
        let get = scene.sandbox.valetkey(&["get"]).stdin(question("alice")).run();
        assert_refused(&get, &path);
        get.assert_stderr_has("hint: ");
        let list = scene.sandbox.valetkey(&["list"]).run();
        list.assert_status(0).assert_stderr_has("warning: ");
        assert!(list.stdout_text().contains("bob"), "{what}: {list}");
        assert!(path.symlink_metadata().is_ok(), "{what} was taken away");
        if path.is_dir() {
            std::fs::remove_dir(&path).expect("a directory");
            std::fs::write(&path, &good).expect("a record");
        }
    }
}

/// git hands back at every fetch what it was given: on a disk that cannot be written that is no
/// error, and it waits for nobody.
#[test]
fn what_is_stored_already_is_stored_without_a_write() {
    let scene = Scene::new();
    if !crate::kill::strace_works(&scene) {
        return;
    }
    let entry = "protocol=https\nhost=a.example\nusername=me\npassword=p\n";
    scene.sandbox.valetkey(&["store"]).stdin(entry).run().assert(0, "", "");
    let calls = "flock,fsync,?mkdir,?mkdirat,?rename,?renameat,?renameat2,?link,?linkat";
    let inject = format!("inject={calls}:error=EROFS");
    let program = crate::scene::program().to_str().expect("a plain path");
    let store = |entry: &str| {
        let words = ["-qq", "-o", "/dev/null", "-e", &inject, program, "store"];
        scene.sandbox.run("strace", &words).stdin(entry).run()
    };
    let before = scene.sandbox.files().len();
    store(entry).assert(0, "", "");
    assert_eq!(scene.sandbox.files().len(), before);
    store(&entry.replace("=p\n", "=other\n")).assert_status(6).assert_stderr_has("error: cannot ");
}

/// What a writer that died left holds a secret too.
#[test]
fn signing_out_leaves_nothing_of_a_writer_that_died() {
    let scene = Scene::new();
    let origin = scene.host.origin();
    for arguments in [vec!["logout", "--all"], vec!["logout", origin.as_str()]] {
        let path = planted::fresh(&scene, "alice");
        let content = std::fs::read(&path).expect("a record");
        let mut left = path.clone().into_os_string();
        left.push(".tmp");
        std::fs::write(&left, &content).expect("a file");
        scene.sandbox.valetkey(&arguments).run().assert_status(0);
        let (records, others) = planted::stored(&scene);
        assert!(records.is_empty() && others.is_empty(), "{records:?} {others:?}");
    }
    // And one whose record was never there is found by who looks everywhere.
    let path = planted::fresh(&scene, "alice");
    std::fs::rename(&path, path.with_extension("json.tmp")).expect("a file");
    scene.get().run().assert_status(2);
    scene.sandbox.valetkey(&["logout", "--all"]).run().assert_status(0);
    assert_eq!(planted::stored(&scene).1.len(), 0);
}

#[test]
fn a_record_is_good_only_for_the_place_that_it_names() {
    let scene = Scene::new();
    scene.nobody();
    let entry = "protocol=https\nhost=bank.example\nusername=me\npassword=c4n4ry\n";
    scene.sandbox.valetkey(&["store"]).stdin(entry).run().assert(0, "", "");
    let entry = entry.replace("bank", "evil");
    scene.sandbox.valetkey(&["store"]).stdin(&entry).run().assert(0, "", "");
    let (records, _) = planted::stored(&scene);
    let path = |host: &str| {
        let named = format!("https://{host}.example");
        let holds = |content: &[u8]| String::from_utf8_lossy(content).contains(&named);
        let record = records.iter().find(|record| holds(&record.content)).expect("a record");
        scene.sandbox.root().join(&record.path)
    };
    std::fs::copy(path("bank"), path("evil")).expect("a copy");
    let question = "protocol=https\nhost=evil.example\n";
    let get = scene.sandbox.valetkey(&["get"]).stdin(question).run();
    assert!(!get.stdout_text().contains("c4n4ry"), "{get}");
}

#[test]
fn a_lock_that_was_planted_is_refused_and_not_waited_for() {
    let scene = Scene::new();
    scene.nobody();
    let record = planted::expired(&scene, "alice");
    planted::private(&scene, "state/valetkey/locks");
    let name = format!("{}.lock", planted::key("alice").digest());
    let path = scene.sandbox.root().join("state/valetkey/locks").join(name);
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    refused(&scene, &path);
    std::fs::remove_file(&path).expect("a pipe");
    symlink(&record, &path).expect("a link");
    refused(&scene, &path);
    std::fs::remove_file(&path).expect("a link");
    std::fs::create_dir(&path).expect("a directory");
    refused(&scene, &path);
    std::fs::remove_dir(&path).expect("a directory");
    // A lock of ours of any size will do.
    let file = std::fs::File::create_new(&path).expect("a file");
    chmod(&path, 0o600);
    file.set_len(1 << 40).expect("a hole");
    scene.get().run().assert_status(0);
}

#[test]
fn a_directory_that_is_not_ours_alone_takes_no_record() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    planted::private(&scene, planted::SESSIONS);
    let sessions = scene.sandbox.root().join(planted::SESSIONS);
    chmod(&sessions, 0o755);
    let get = scene.get().run();
    assert_refused(&get, &sessions);
    get.assert_stderr_has("hint: chmod 700");
    std::fs::remove_dir(&sessions).expect("a directory");
    let elsewhere = scene.sandbox.root().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a directory");
    chmod(&elsewhere, 0o700);
    symlink(&elsewhere, &sessions).expect("a link");
    assert_refused(&scene.get().run(), &sessions);
    assert_eq!(browser.opened().len(), 0, "nobody signs in for what could not be kept");
    assert_eq!(std::fs::read_dir(&elsewhere).expect("a directory").count(), 0);
}

/// A limit on the size of files stands for a full disk.
#[test]
fn on_a_full_disk_no_refresh_token_is_spent_and_nobody_is_asked() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let full = |question: &str| {
        let script = "trap '' XFSZ; ulimit -f 0; exec \"$0\" get";
        scene.sandbox.run("sh", &["-c", script]).arg(crate::scene::program()).stdin(question).run()
    };
    let miss = full(&scene.question());
    miss.assert_status(6).assert_stdout("").assert_stderr_has("error: cannot write");
    let record = planted::expired(&scene, "alice");
    let before = std::fs::read(&record).expect("a record");
    let get = full(&scene.question());
    get.assert_status(6).assert_stdout("").assert_stderr_has("error: cannot write");
    assert_eq!(scene.authority.asked("/token"), 0);
    assert_eq!(browser.opened().len(), 0);
    assert_eq!(std::fs::read(&record).expect("a record"), before);
    planted::assert_sound(&scene);
    scene.get().run().assert_status(0);
}

/// Neither the store nor the rescue file takes what the server has issued: whoever asked is served,
/// and told.
#[test]
fn a_session_that_could_not_be_kept_is_said() {
    let scene = Scene::new();
    scene.nobody();
    let record = planted::expired(&scene, "alice");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let get = scene.get().start();
    gate.reached();
    chmod(record.parent().expect("a directory"), 0o755);
    planted::private(&scene, "state/valetkey/rescue");
    chmod(&scene.sandbox.root().join("state/valetkey/rescue"), 0o755);
    gate.open();
    let get = get.wait();
    get.assert_status(0).assert_stderr_has("warning: the renewed session for http://");
    get.assert_stderr_has("could not be kept").assert_stderr_has("rescue is not a directory of");
    assert!(scene.authority.token_is_live(&value(&get, "password").expect("a token")));
}

/// S23: what keeps tokens from being kept is said by itself: no home, a directory of somebody
/// else's, a full disk.
#[test]
fn without_a_home_directory_it_is_said_at_once() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let unknown = "protocol=https\nhost=a.example\n";
    for home in [None, Some("/nonexistent/home"), Some("")] {
        for store in ["auto", "file", "keychain"] {
            let mut run = scene.sandbox.valetkey(&["get"]).stdin(unknown);
            for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"] {
                run = run.remove_env(variable);
            }
            if let Some(home) = home {
                run = run.env("HOME", home);
            }
            let run = run.env("VALETKEY_STORE", store);
            let get = run.run();
            get.assert_status(6).assert_stdout("").assert_stderr_has("home directory");
            get.assert_stderr_has("\nhint: set HOME");
            assert_eq!(get.stderr_text().lines().count(), 2, "{get}");
        }
    }
    assert_eq!(browser.opened().len(), 0);
    // What the environment holds needs no home.
    let get = scene
        .sandbox
        .valetkey(&["get"])
        .stdin(unknown)
        .env("VALETKEY_TOKEN_a_example", "t")
        .env("HOME", "/nonexistent/home")
        .remove_env("XDG_DATA_HOME")
        .run();
    assert_eq!(value(&get, "password").as_deref(), Some("t"), "{get}");
}

/// A note about setbacks that cannot be read is none.
#[test]
fn a_broken_cooldown_holds_nobody_up() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    planted::private(&scene, "state/valetkey/cooldown");
    let note = format!("state/valetkey/cooldown/{}", planted::key("alice").place.digest());
    let path = scene.sandbox.write(&note, b"{\"refused\":", 0o600);
    scene.get().run().assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    std::fs::remove_file(&path).expect("a note");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    scene.get().run().assert_status(0);
    // From the future: the clock was set back.
    std::fs::remove_file(&path).expect("a pipe");
    let future =
        json!({ "rejections": 3, "rejected": 99_999_999_999_u64, "refused": 99_999_999_999_u64 });
    scene.sandbox.write(&note, future.to_string().as_bytes(), 0o600);
    scene.sandbox.valetkey(&["logout", "--all"]).run().assert_status(0);
    scene.sandbox.write(&note, future.to_string().as_bytes(), 0o600);
    scene.get().run().assert_status(0);
    assert_eq!(browser.opened().len(), 2);
}

/// Attack 6.4-32: whatever lies in a checked-out repository says nothing about providers.
#[test]
fn attack_32_a_repository_cannot_name_a_provider() {
    let scene = Scene::new();
    scene.sign_in();
    let ours = value(&scene.get().run(), "password");
    let evil = "https://evil.example";
    let profile = format!(
        "[profile.lab]\norigins = [\"{}\", \"{evil}\"]\nissuer = \"{evil}\"\nclient_id = \"x\"\n",
        scene.host.origin()
    );
    for place in ["config.toml", "valetkey.toml", ".config/valetkey/config.toml"] {
        scene.sandbox.write(&format!("work/{place}"), profile.as_bytes(), 0o600);
    }
    scene.sandbox.git(&["init", "--quiet"]).run().assert_status(0);
    for setting in ["oauthTokenURL", "oauthAuthURL", "oauthClientId"] {
        let name = format!("credential.{}.{setting}", scene.host.origin());
        scene.sandbox.git(&["config", &name, evil]).run().assert_status(0);
    }
    assert!(ours.is_some());
    assert_eq!(value(&scene.get().run(), "password"), ours);
    let question = "protocol=https\nhost=evil.example\n";
    scene.sandbox.valetkey(&["get"]).stdin(question).run().assert(2, "", "");
}
