//! Sessions put into the file store without a sign-in, and the file store as seen from outside.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use url::Url;
use valetkey::model::{Key, Place};

use crate::lab::watched::PATIENCE;
use crate::lab::{CLIENT_ID, FileSeen};
use crate::scene::Scene;

/// Where the file store keeps its records, below the sandbox.
pub const SESSIONS: &str = "data/valetkey/sessions";

const LONG_AGO: u64 = 1_000_000_000;
const FAR_AWAY: u64 = 10_000_000_000;

pub fn key(account: &str) -> Key {
    Key {
        place: Place::Profile("lab".to_owned()),
        client_id: CLIENT_ID.to_owned(),
        account: account.to_owned(),
        path: None,
    }
}

fn path(key: &Key) -> String {
    format!("{SESSIONS}/{}/{}.json", key.place.digest(), key.digest())
}

/// The bytes of a session of the scene's authority.
pub fn session(scene: &Scene, account: &str, access: &str, refresh: &str, expires: u64) -> Value {
    let issuer = Url::parse(&scene.authority.issuer()).expect("an issuer");
    json!({
        "v": 1,
        "kind": "session",
        "profile": "lab",
        "client_id": CLIENT_ID,
        "account": account,
        "authority": issuer.as_str(),
        "access_token": access,
        "refresh_token": refresh,
        "expires_at": expires,
        "stored_at": LONG_AGO,
        "renewed_at": LONG_AGO,
    })
}

/// Puts a record where this account's belongs.
pub fn put(scene: &Scene, account: &str, record: &Value) -> PathBuf {
    private(scene, SESSIONS);
    let path = path(&key(account));
    if let Some((directory, _)) = path.rsplit_once('/') {
        private(scene, directory);
    }
    scene.sandbox.write(&path, record.to_string().as_bytes(), 0o600)
}

/// Makes a directory of mode 0700, and those above it.
pub fn private(scene: &Scene, path: &str) {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(scene.sandbox.root().join(path)).expect("a directory in the sandbox");
}

/// A session whose access token has expired and whose grant lives.
pub fn expired(scene: &Scene, account: &str) -> PathBuf {
    with_expiry(scene, account, LONG_AGO)
}

/// A session that needs nothing.
pub fn fresh(scene: &Scene, account: &str) -> PathBuf {
    with_expiry(scene, account, FAR_AWAY)
}

fn with_expiry(scene: &Scene, account: &str, expires: u64) -> PathBuf {
    let tokens = scene.authority.grant(account);
    let refresh = tokens.refresh.expect("a refresh token");
    put(scene, account, &session(scene, account, &tokens.access, &refresh, expires))
}

pub fn read(path: &Path) -> Value {
    let content = std::fs::read(path).expect("a record");
    serde_json::from_slice(&content).expect("JSON")
}

/// What lies in the file store: records, and what a writer that died has left.
pub fn stored(scene: &Scene) -> (Vec<FileSeen>, Vec<FileSeen>) {
    let files = scene.sandbox.files();
    let ours = files.into_iter().filter(|file| file.path.starts_with(SESSIONS));
    ours.partition(|file| file.path.extension().is_some_and(|name| name == "json"))
}

/// What holds at every moment, whoever was killed: whole records, at most one file that is not
/// one, all of them private, no lock without a holder, and secrets nowhere else.
#[track_caller]
pub fn assert_sound(scene: &Scene) {
    let (records, others) = stored(scene);
    for record in &records {
        let whole: Result<Value, _> = serde_json::from_slice(&record.content);
        assert!(whole.is_ok(), "{} is cut off", record.path.display());
    }
    assert!(others.len() <= 1, "{others:?}");
    for file in records.iter().chain(&others) {
        assert_eq!(file.mode, 0o600, "{}", file.path.display());
    }
    assert_no_lock_is_held(scene);
    assert_no_secret_elsewhere(scene);
}

/// A lock whose holder is dead is free, but for the moment that a child needs to become another
/// program: until then it has a copy of the dead one's files. The kernel wakes who waits for that.
#[track_caller]
pub fn assert_no_lock_is_held(scene: &Scene) {
    assert_no_lock_in(&scene.sandbox.root().join("state/valetkey/locks"));
}

/// As the function before, for any directory of locks.
#[track_caller]
pub fn assert_no_lock_in(locks: &Path) {
    let Ok(locks) = std::fs::read_dir(locks) else { return };
    for lock in locks {
        let path = lock.expect("a readable entry").path();
        // Another process asks: a lock of this one would be inherited by whatever it starts.
        let seconds = PATIENCE.as_secs().to_string();
        let asked =
            Command::new("flock").args(["--wait", &seconds]).arg(&path).arg("true").status();
        let free = asked.expect("flock of util-linux").success();
        assert!(free, "{} is still held; it is open in {:?}", path.display(), open_in(&path));
    }
}

/// The processes that have a file open.
fn open_in(path: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let has_it = |process: &Path| {
        let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|file| file == path)
    };
    let with_it = processes.map(|process| process.path()).filter(|process| has_it(process));
    let named = with_it.map(|process| {
        let words = std::fs::read(process.join("cmdline")).unwrap_or_default();
        format!("{} {}", process.display(), String::from_utf8_lossy(&words).replace('\0', " "))
    });
    named.collect()
}

#[track_caller]
pub fn assert_no_secret_elsewhere(scene: &Scene) {
    let files = scene.sandbox.files();
    for secret in scene.authority.secrets() {
        let holds = |file: &&FileSeen| {
            let secret = secret.as_bytes();
            file.content.windows(secret.len()).any(|window| window == secret)
        };
        for file in files.iter().filter(holds) {
            assert!(file.path.starts_with(SESSIONS), "{secret} is in {}", file.path.display());
        }
    }
}
