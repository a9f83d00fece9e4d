//! Any system call fails, or is the last: of each that a command makes, at each occurrence, with
//! each error that it may bring, strace lets it fail or kills the program. Afterwards the old state
//! is there or the new one, the exit status and the message say which, the next call works, and a
//! refresh token that was spent is never lost in silence.
//!
//! The suite takes a share of the faults, the same each time; `scripts/faults` takes all of them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::kill::{KILLED, strace_works};
use crate::lab::{Finished, Person};
use crate::planted;
use crate::scene::{Scene, program, value};

/// How many of a scene's faults the suite takes.
const SHARE: usize = 60;

/// The errors that a call may bring. What is not listed here is left alone: memory, signals and
/// the start of the process are the C library's, and its errors end every program.
const ERRORS: &[(&str, &[&str])] = &[
    ("accept4", &["EMFILE", "EINTR", "ECONNABORTED"]),
    ("bind", &["EADDRINUSE", "EACCES"]),
    ("close", &["EIO", "EINTR"]),
    ("connect", &["ECONNREFUSED", "ETIMEDOUT", "EINTR", "ENETUNREACH"]),
    ("dup2", &["EIO", "EINTR"]),
    ("dup3", &["EIO", "EINTR"]),
    ("fcntl", &["EMFILE", "EIO"]),
    ("fchmod", &["EIO", "EACCES", "EROFS"]),
    ("fchown", &["EACCES", "EROFS"]),
    ("flock", &["ENOLCK", "EINTR", "EIO", "EINVAL"]),
    ("fstat", &["EIO"]),
    ("fstatfs", &["EIO", "ENOSYS"]),
    ("fsync", &["EIO", "ENOSPC", "EINTR", "EINVAL"]),
    ("ftruncate", &["EIO", "ENOSPC"]),
    ("getdents64", &["EIO", "EINTR"]),
    ("getsockname", &["ENOBUFS"]),
    ("getsockopt", &["EIO"]),
    ("link", &["EIO", "EPERM", "EROFS"]),
    ("linkat", &["EIO", "EPERM", "EROFS"]),
    ("listen", &["EADDRINUSE"]),
    ("lseek", &["EIO"]),
    ("lstat", &["EIO", "EACCES"]),
    ("mkdir", &["ENOSPC", "EIO", "EACCES", "EROFS", "EINTR"]),
    ("mkdirat", &["ENOSPC", "EIO", "EACCES", "EROFS"]),
    ("newfstatat", &["EIO", "EACCES", "EINTR"]),
    ("open", &["ENOSPC", "EIO", "EACCES", "EROFS", "EINTR", "EMFILE"]),
    ("openat", &["ENOSPC", "EIO", "EACCES", "EROFS", "EINTR", "EMFILE"]),
    ("pipe2", &["EMFILE"]),
    ("poll", &["EINTR", "ENOMEM"]),
    ("ppoll", &["EINTR", "ENOMEM"]),
    ("prctl", &["EPERM"]),
    ("prlimit64", &["EPERM"]),
    ("read", &["EIO", "EINTR"]),
    ("readlink", &["EIO", "EACCES"]),
    ("readlinkat", &["EIO", "EACCES"]),
    ("recvfrom", &["ECONNRESET", "EINTR", "ETIMEDOUT"]),
    ("rename", &["ENOSPC", "EIO", "EACCES", "EROFS", "EINTR"]),
    ("renameat2", &["ENOSPC", "EIO", "EACCES", "EROFS"]),
    ("sendmsg", &["EPIPE", "EINTR"]),
    ("sendto", &["EPIPE", "EINTR", "ECONNRESET"]),
    ("setsockopt", &["EIO"]),
    ("socket", &["EMFILE", "EACCES"]),
    ("stat", &["EIO", "EACCES"]),
    ("statx", &["EIO", "EACCES", "EINTR"]),
    ("symlink", &["ENOSPC", "EIO", "EACCES", "EROFS"]),
    ("symlinkat", &["ENOSPC", "EIO", "EACCES", "EROFS"]),
    ("unlink", &["EIO", "EACCES", "EROFS", "EINTR"]),
    ("unlinkat", &["EIO", "EACCES", "EROFS"]),
    ("write", &["ENOSPC", "EIO", "EINTR", "EDQUOT"]),
    ("writev", &["ENOSPC", "EIO", "EINTR"]),
];

/// Calls that only end a process.
const LETHAL_ONLY: &[&str] = &["exit_group", "getrandom", "umask", "clone3", "vfork", "execve"];

/// One command of the program, and what is true after it.
struct Case<'a> {
    scene: &'a Scene,
    name: &'a str,
    arguments: &'a [&'a str],
    input: String,
    prepare: &'a dyn Fn(),
    /// Says what is wrong.
    judge: &'a dyn Fn(&Finished, &Fault) -> Result<(), String>,
}

#[derive(Clone, Debug)]
struct Fault {
    call: String,
    nth: usize,
    what: String,
}

impl Fault {
    fn kills(&self) -> bool {
        self.what.starts_with("signal")
    }

    /// Whether the program may be unable to say anything, or to give its answer.
    fn is_on_a_stream(&self) -> bool {
        matches!(self.call.as_str(), "write" | "writev")
    }
}

fn strace(case: &Case<'_>, options: &[&str]) -> Finished {
    let mut words = vec!["-qq"];
    words.extend(options);
    words.push(program().to_str().expect("a plain path"));
    words.extend(case.arguments);
    case.scene.sandbox.run("strace", &words).stdin(&case.input).run()
}

/// The calls that the command makes when nothing fails, and how often.
fn calls(case: &Case<'_>) -> BTreeMap<String, usize> {
    let trace = case.scene.sandbox.root().join("tmp/trace");
    (case.prepare)();
    strace(case, &["-o", trace.to_str().expect("a plain path")]).assert_status(0);
    let text = std::fs::read(&trace).expect("a trace");
    std::fs::remove_file(&trace).expect("a trace");
    let mut found = BTreeMap::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let Some((name, _)) = line.split_once('(') else { continue };
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            *found.entry(name.to_owned()).or_default() += 1;
        }
    }
    found
}

fn faults(case: &Case<'_>) -> Vec<Fault> {
    let mut all = Vec::new();
    for (call, count) in calls(case) {
        let errors = ERRORS.iter().find(|(name, _)| *name == call).map(|(_, errors)| *errors);
        if errors.is_none() && !LETHAL_ONLY.contains(&call.as_str()) {
            continue;
        }
        // A fault may lead to more calls than there are without it.
        for nth in 1..=count + 1 {
            for error in errors.unwrap_or_default() {
                all.push(Fault { call: call.clone(), nth, what: format!("error={error}") });
            }
            all.push(Fault { call: call.clone(), nth, what: "signal=SIGKILL".to_owned() });
        }
    }
    if std::env::var_os("FAULTS").is_some_and(|share| share == "all") {
        return all;
    }
    let step = all.len().div_ceil(SHARE);
    all.into_iter().skip(step / 2).step_by(step).collect()
}

/// What is true of every program, whatever fails.
fn sane(case: &Case<'_>, finished: &Finished, fault: &Fault) -> Result<(), String> {
    let text = finished.stderr_text();
    if fault.kills() {
        return match finished.status {
            // The call was not made this time.
            KILLED | 0..=6 | 64 | 78 => Ok(()),
            other => Err(format!("status {other}")),
        };
    }
    if !matches!(finished.status, 0..=6 | 64 | 78) {
        return Err(format!("status {}", finished.status));
    }
    if text.contains("panicked") {
        return Err("it panicked".to_owned());
    }
    let said = text.contains("error: ") || text.contains("hint: ");
    if finished.status != 0 && !said && !fault.is_on_a_stream() {
        return Err(format!("status {} without a word", finished.status));
    }
    if finished.status != 0 && !finished.stdout_text().is_empty() && !fault.is_on_a_stream() {
        return Err("an answer and an error".to_owned());
    }
    let (records, others) = planted::stored(case.scene);
    for record in &records {
        if serde_json::from_slice::<Value>(&record.content).is_err() {
            return Err(format!("{} is cut off", record.path.display()));
        }
    }
    if !others.is_empty() {
        return Err(format!("left behind: {:?}", others[0].path));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the count, for scripts/faults")]
#[track_caller]
fn hold(case: &Case<'_>) {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for fault in faults(case) {
        let Fault { call, nth, what } = &fault;
        let inject = format!("inject={call}:{what}:when={nth}");
        (case.prepare)();
        let finished = strace(case, &["-o", "/dev/null", "-e", &inject]);
        let text = finished.stderr_text();
        if finished.status == 127 || text.contains("error while loading shared libraries") {
            // The loader: the program has not begun.
            continue;
        }
        tried += 1;
        let judged = sane(case, &finished, &fault).and_then(|()| (case.judge)(&finished, &fault));
        if let Err(why) = judged {
            wrong.push(format!("{call} number {nth}, {what}: {why}\n{finished}"));
        }
    }
    println!("faults: {}: {tried} tried, {} held", case.name, tried - wrong.len());
    let shown: Vec<_> = wrong.iter().take(12).cloned().collect();
    assert!(wrong.is_empty(), "{}: {} of {tried}\n{}", case.name, wrong.len(), shown.join("\n"));
    assert!(tried > 20, "{}: {tried}", case.name);
}

/// A next call that finds nothing in its way.
fn works(finished: &Finished) -> Result<(), String> {
    match finished.status {
        0 => Ok(()),
        _ => Err(format!("the next call: {finished}")),
    }
}

fn record(scene: &Scene, path: &Path, refresh: &str, access: &str) -> Result<(), String> {
    let Ok(content) = std::fs::read(path) else { return Err("the record is gone".into()) };
    let record: Value = serde_json::from_slice(&content).map_err(|error| error.to_string())?;
    let kept = record["refresh_token"] == refresh;
    let access_is = |token: &str| record["access_token"] == token;
    let live =
        record["access_token"].as_str().is_some_and(|token| scene.authority.token_is_live(token));
    if kept && (access_is(access) || record["access_token"].is_null()) || live {
        return Ok(());
    }
    Err("neither old nor new".into())
}

fn scene() -> Option<Scene> {
    let scene = Scene::new();
    scene.nobody();
    strace_works(&scene).then_some(scene)
}

#[test]
fn a_cached_answer_is_whole_or_an_error() {
    let Some(scene) = scene() else { return };
    let path = planted::fresh(&scene, "alice");
    let before = std::fs::read(&path).expect("a record");
    hold(&Case {
        scene: &scene,
        name: "cached get",
        arguments: &["get"],
        input: scene.question(),
        prepare: &|| (),
        judge: &|finished, fault| {
            if std::fs::read(&path).ok().as_ref() != Some(&before) {
                return Err("the record is another one".into());
            }
            let whole = finished.stdout_text().ends_with("continue=1\n");
            if finished.status == 0 && !whole {
                return Err("no answer, and status 0".into());
            }
            if fault.kills() && !finished.stdout_text().is_empty() && !whole {
                return Err("half an answer".into());
            }
            Ok(())
        },
    });
}

#[test]
fn a_refresh_leaves_the_old_session_or_the_new_one() {
    let Some(scene) = scene() else { return };
    let tokens = std::cell::RefCell::new((std::path::PathBuf::new(), String::new(), String::new()));
    hold(&Case {
        scene: &scene,
        name: "refresh",
        arguments: &["get"],
        input: scene.question(),
        prepare: &|| {
            let issued = scene.authority.grant("alice");
            let refresh = issued.refresh.expect("a refresh token");
            let old = planted::session(&scene, "alice", &issued.access, &refresh, 1_000_000_000);
            let path = planted::put(&scene, "alice", &old);
            tokens.replace((path, refresh, issued.access));
        },
        judge: &|finished, fault| {
            let (path, refresh, access) = &*tokens.borrow();
            record(&scene, path, refresh, access)?;
            if finished.status == 0 {
                let token = value(finished, "password").ok_or("no answer, and status 0")?;
                if !scene.authority.token_is_live(&token) {
                    return Err("a token that is dead".into());
                }
            }
            let next = scene.get().run();
            let token = value(&next, "password");
            let lives = token.is_some_and(|token| scene.authority.token_is_live(&token));
            // The server had rotated, and what it said is lost.
            let told = fault.kills() || finished.status != 0 || !finished.stderr_text().is_empty();
            match next.status {
                0 if lives => Ok(()),
                2 | 4 if told => Ok(()),
                2 | 4 => Err(format!("lost in silence: {next}")),
                _ => Err(format!("the next call: {next}")),
            }
        },
    });
}

#[test]
fn a_store_leaves_the_old_password_or_the_new_one() {
    let Some(scene) = scene() else { return };
    let entry = |password: &str| {
        format!("protocol=https\nhost=a.example\nusername=me\npassword={password}\n")
    };
    let asked = "protocol=https\nhost=a.example\n";
    let stored = || value(&scene.sandbox.valetkey(&["get"]).stdin(asked).run(), "password");
    let store = |password: &str| scene.sandbox.valetkey(&["store"]).stdin(entry(password)).run();
    hold(&Case {
        scene: &scene,
        name: "store",
        arguments: &["store"],
        input: entry("new"),
        prepare: &|| drop(store("old")),
        judge: &|finished, fault| {
            let kept = stored();
            match kept.as_deref() {
                Some("new") => {}
                Some("old") if finished.status != 0 || fault.kills() => {}
                other => return Err(format!("status {} and {other:?}", finished.status)),
            }
            works(&store("new"))
        },
    });
}

#[test]
fn an_erase_leaves_the_password_or_nothing() {
    let Some(scene) = scene() else { return };
    let entry = "protocol=https\nhost=a.example\nusername=me\npassword=p\n";
    let call = |verb: &str| scene.sandbox.valetkey(&[verb]).stdin(entry).run();
    hold(&Case {
        scene: &scene,
        name: "erase",
        arguments: &["erase"],
        input: entry.to_owned(),
        prepare: &|| drop(call("store")),
        judge: &|finished, fault| {
            let left = value(&call("get"), "password");
            if left.is_some() && finished.status == 0 && !fault.kills() {
                return Err("it is still there, and status 0".into());
            }
            works(&call("erase"))?;
            match value(&call("get"), "password") {
                None => Ok(()),
                Some(_) => Err("it cannot be erased".into()),
            }
        },
    });
}

#[test]
fn a_rejection_keeps_the_refresh_token() {
    let Some(scene) = scene() else { return };
    let tokens = scene.authority.grant("alice");
    let refresh = tokens.refresh.expect("a refresh token");
    let old = planted::session(&scene, "alice", &tokens.access, &refresh, 10_000_000_000);
    let path = planted::put(&scene, "alice", &old);
    hold(&Case {
        scene: &scene,
        name: "rejection",
        arguments: &["erase"],
        input: format!("{}username=oauth2\npassword={}\n", scene.question(), tokens.access),
        prepare: &|| {
            planted::put(&scene, "alice", &old);
            let _ = std::fs::remove_dir_all(scene.sandbox.root().join("state/valetkey/cooldown"));
        },
        judge: &|_, _| {
            record(&scene, &path, &refresh, &tokens.access)?;
            match planted::read(&path)["refresh_token"] == *refresh {
                true => Ok(()),
                false => Err("another refresh token".into()),
            }
        },
    });
}

#[test]
fn a_sign_in_leaves_a_session_or_none() {
    let scene = Scene::new();
    let _browser = scene.browser(Person::Approves);
    if !strace_works(&scene) {
        return;
    }
    let origin = scene.host.origin();
    hold(&Case {
        scene: &scene,
        name: "sign-in",
        arguments: &["login", "--timeout", "10", &origin],
        input: String::new(),
        prepare: &|| {
            scene.sandbox.valetkey(&["logout", "--all", "--local"]).run().assert_status(0);
        },
        judge: &|finished, fault| {
            let kept = planted::stored(&scene).0.len();
            if finished.status == 0 && kept != 1 && !fault.kills() {
                return Err("signed in, and nothing is kept".into());
            }
            // A refusal is remembered for a while.
            let _ = std::fs::remove_dir_all(scene.sandbox.root().join("state/valetkey/cooldown"));
            let next = scene.get().run();
            works(&next)?;
            let token = value(&next, "password").unwrap_or_default();
            match scene.authority.token_is_live(&token) {
                true => Ok(()),
                false => Err(format!("no live token: {next}")),
            }
        },
    });
}

#[test]
fn a_logout_leaves_the_session_or_nothing() {
    let Some(scene) = scene() else { return };
    let origin = scene.host.origin();
    hold(&Case {
        scene: &scene,
        name: "logout",
        arguments: &["logout", &origin],
        input: String::new(),
        prepare: &|| drop(planted::fresh(&scene, "alice")),
        judge: &|finished, fault| {
            let kept = planted::stored(&scene).0.len();
            if finished.status == 0 && kept != 0 && !fault.kills() {
                return Err("signed out, and it is still there".into());
            }
            works(&scene.sandbox.valetkey(&["logout", "--local", &origin]).run())?;
            match planted::stored(&scene) {
                (records, others) if records.is_empty() && others.is_empty() => Ok(()),
                left => Err(format!("{left:?}")),
            }
        },
    });
}

#[test]
fn a_setup_leaves_the_old_file_or_the_new_one() {
    let Some(scene) = scene() else { return };
    scene.sandbox.link("valetkey");
    let old = b"{\n\t\"psFormat\": \"x\"\n}\n";
    let path = scene.sandbox.home().join(".docker/config.json");
    let setup = |more: &[&str]| {
        let words: Vec<&str> = ["setup", "docker"].iter().chain(more).copied().collect();
        scene.sandbox.valetkey(&words).run()
    };
    let prepare = || {
        let _ = std::fs::remove_file(scene.sandbox.bin().join("docker-credential-valetkey"));
        let _ = std::fs::remove_dir_all(scene.sandbox.root().join("state"));
        let _ = std::fs::remove_dir_all(scene.sandbox.root().join("data"));
        std::fs::create_dir(scene.sandbox.root().join("state")).expect("a directory");
        std::fs::create_dir(scene.sandbox.root().join("data")).expect("a directory");
        scene.sandbox.write("home/.docker/config.json", old, 0o600);
    };
    prepare();
    setup(&[]).assert_status(0);
    let new = std::fs::read(&path).expect("a file");
    hold(&Case {
        scene: &scene,
        name: "setup docker",
        arguments: &["setup", "docker"],
        input: String::new(),
        prepare: &prepare,
        judge: &|finished, fault| {
            let now = std::fs::read(&path).map_err(|error| error.to_string())?;
            if now != old && now != new {
                return Err("neither the old file nor the new one".into());
            }
            if finished.status == 0 && !fault.kills() && now != new {
                return Err("the old file, and status 0".into());
            }
            works(&setup(&[]))?;
            if std::fs::read(&path).ok().as_ref() != Some(&new) {
                return Err("setup cannot be repeated".into());
            }
            works(&setup(&["--undo"]))?;
            match std::fs::read(&path).is_ok_and(|now| now == old) {
                true => Ok(()),
                false => Err("--undo does not give the old file back".into()),
            }
        },
    });
}

/// A disk that fills up in the middle of a write: some bytes were taken.
#[test]
fn a_write_that_is_cut_short_changes_nothing() {
    let Some(scene) = scene() else { return };
    let entry = |password: &str| {
        format!("protocol=https\nhost=a.example\nusername=me\npassword={password}\n")
    };
    scene.sandbox.valetkey(&["store"]).stdin(entry("old")).run().assert(0, "", "");
    let before = scene.session_file();
    for bytes in [0, 1, 2, 16, 63, before.content.len() - 1] {
        let script = format!("trap '' XFSZ; exec prlimit --fsize={bytes} \"$0\" store");
        let run = scene.sandbox.run("sh", &["-c", &script]).arg(program()).stdin(entry("other"));
        let store = run.run();
        store.assert_status(6).assert_stdout("").assert_stderr_has("error: cannot write");
        assert_eq!(scene.session_file().content, before.content, "{bytes}");
        assert!(planted::stored(&scene).1.is_empty(), "{bytes}");
    }
}
