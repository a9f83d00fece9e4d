//! pip before and after 26.2, uv, and the keyring of Python itself, against a package index that
//! wants a token.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Peer, here, installed};
use crate::lab::server::{Answer, Reply, Request, Server};
use crate::lab::{Finished, Options, Person, Run};
use crate::scene::{Home, Scene};

/// Each speaks to the program in its own way, and the last one without a user name too.
const OLD_PIPS: [&str; 2] = ["23.2.1", "25.3"];
const NEW_PIP: &str = "26.3";

/// What a person types where there is no token.
const TYPED: &str = "typed by hand";

struct Index {
    home: Home,
    server: Server,
}

impl Index {
    fn start() -> Self {
        let home = Home::new(Options::default());
        home.sandbox.link("keyring");
        let is_live = home.judge();
        let server = start_index(move |password| password == TYPED || is_live(password));
        home.bind(&[&server.origin()], "");
        home.nobody();
        Self { home, server }
    }

    /// The index, with a user name where the client needs one to ask at all.
    fn url(&self, user: Option<&str>) -> String {
        let user = user.map_or_else(String::new, |user| format!("{user}@"));
        self.server.origin().replace("http://", &format!("http://{user}")) + "/simple/"
    }

    fn pip(&self, version: &str, user: Option<&str>) -> Run {
        let python = installed().join(format!("pip-{version}/bin/python"));
        let words =
            ["-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--retries=0"];
        let run = self.home.sandbox.run(python, &words);
        let run = run.arg("--disable-pip-version-check").arg("--keyring-provider=subprocess");
        run.arg("--index-url").arg(self.url(user)).arg("-d").arg(version).arg("labpkg")
    }

    fn uv(&self, target: &str) -> Run {
        let python = installed().join(format!("pip-{NEW_PIP}/bin/python"));
        let words = ["pip", "install", "--quiet", "--no-cache", "--keyring-provider=subprocess"];
        let run = self.home.sandbox.run(uv(), &words).arg("--target").arg(target);
        run.arg("--python").arg(python).arg("labpkg")
    }

    fn uv_with_user(&self, target: &str) -> Run {
        self.uv(target).arg("--index-url").arg(self.url(Some("oauth2")))
    }

    fn uv_without_user(&self, target: &str) -> Run {
        let text = format!(
            "[[index]]\nurl = \"{}\"\ndefault = true\nauthenticate = \"always\"\n",
            self.url(None)
        );
        let path = self.home.sandbox.write("uv.toml", text.as_bytes(), 0o600);
        self.uv(target).arg("--config-file").arg(path)
    }

    fn has(&self, path: &str) -> bool {
        self.home.sandbox.work().join(path).exists()
    }

    /// The passwords that the index saw, one after the other.
    fn passwords(&self) -> Vec<String> {
        let requests = self.server.journal().snapshot();
        let mut seen: Vec<String> =
            requests.iter().filter_map(|entry| password(&entry.request)).collect();
        seen.retain(|password| !password.is_empty());
        seen.dedup();
        seen
    }
}

/// A package index that wants a password for everything, and has one package, `labpkg`.
pub(super) fn start_index(accepts: impl Fn(&str) -> bool + Send + Sync + 'static) -> Server {
    let wheel = wheel();
    Server::start(move |request: &Request| {
        let good = password(request).is_some_and(|password| accepts(&password));
        answer(request, good, &wheel)
    })
}

pub(super) fn uv() -> PathBuf {
    installed().join("uv/bin/uv")
}

const FILE: &str = "labpkg-1.0-py3-none-any.whl";

fn answer(request: &Request, good: bool, wheel: &[u8]) -> Reply {
    if !good {
        return Answer::empty(401).with_header("WWW-Authenticate", "Basic realm=\"lab\"").into();
    }
    match request.path.as_str() {
        "/simple/labpkg/" => {
            Answer::html(200, &format!("<a href=\"/files/{FILE}\">{FILE}</a>")).into()
        }
        path if path.ends_with(FILE) => {
            let answer = Answer::empty(200).with_header("Content-Type", "application/octet-stream");
            Answer { body: wheel.to_vec(), ..answer }.into()
        }
        _ => Answer::empty(404).into(),
    }
}

fn password(request: &Request) -> Option<String> {
    let pair = request.header("Authorization")?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(BASE64_STANDARD.decode(pair).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

/// The smallest package that pip and uv take.
fn wheel() -> Vec<u8> {
    let script = "import sys, zipfile, io\n\
        info = 'labpkg-1.0.dist-info/'\n\
        files = {'labpkg/__init__.py': '',\n\
        \x20 info + 'METADATA': 'Metadata-Version: 2.1\\nName: labpkg\\nVersion: 1.0\\n',\n\
        \x20 info + 'WHEEL': 'Wheel-Version: 1.0\\nGenerator: lab\\nRoot-Is-Purelib: true\\n\
         Tag: py3-none-any\\n'}\n\
        files[info + 'RECORD'] = ''.join(name + ',,\\n' for name in [*files, info + 'RECORD'])\n\
        content = io.BytesIO()\n\
        with zipfile.ZipFile(content, 'w') as archive:\n\
        \x20 for name, text in files.items(): archive.writestr(name, text)\n\
        sys.stdout.buffer.write(content.getvalue())\n";
    let python = installed().join(format!("pip-{NEW_PIP}/bin/python"));
    let output = Command::new(python).args(["-c", script]).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[track_caller]
fn refused(finished: &Finished) {
    assert_ne!(finished.status, 0);
    let said = finished.stderr_text() + &finished.stdout_text();
    for trouble in ["outdated", "skipped due to", "Traceback"] {
        assert!(!said.contains(trouble), "{finished}");
    }
}

#[test]
fn every_pip_gets_the_token_and_an_old_one_is_renewed_in_silence() {
    if !here(&[Peer::Pip]) {
        return;
    }
    let index = Index::start();
    index.home.sign_in_to(&index.server.origin());
    index.home.end_tokens();
    for version in OLD_PIPS.into_iter().chain([NEW_PIP]) {
        index.pip(version, Some("oauth2")).arg("--no-input").run().assert_status(0);
        assert!(index.has(&format!("{version}/{FILE}")), "{version}");
    }
    // 26.2 and later need no user name.
    index.pip(NEW_PIP, None).arg("--no-input").run().assert_status(0);
    assert_eq!(index.passwords().len(), 1, "one token for all");
    assert_eq!(index.home.authority.asked_for("refresh_token"), 1);
}

/// 26.2 and later show nothing of what we say and give us no input: the browser opens all the same.
#[test]
fn pip_signs_a_person_in_once_and_fails_at_once_without_one() {
    if !here(&[Peer::Pip]) {
        return;
    }
    let index = Index::start();
    let hint = format!("hint: valetkey login {}", index.server.origin());
    let old = index.pip(OLD_PIPS[0], Some("oauth2")).arg("--no-input").run();
    refused(&old);
    old.assert_stderr_has(&hint);
    let browser = index.home.browser(Person::Approves);
    let run = index.pip(NEW_PIP, None).arg("--no-input").remove_env("VALETKEY_INTERACTIVE");
    refused(&run.env("CI", "true").run());
    assert!(browser.opened().is_empty());
    index.pip(NEW_PIP, None).arg("--no-input").run().assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    index.home.nobody();
    index.pip(OLD_PIPS[0], Some("oauth2")).arg("--no-input").run().assert_status(0);
    assert_eq!(browser.opened().len(), 1);
}

/// pip asks for the URL, then for the host, and keeps what was typed for the host.
#[test]
fn pip_lets_us_keep_what_a_person_typed() {
    if !here(&[Peer::Pip]) {
        return;
    }
    let index = Index::start();
    index.home.bind(&["https://elsewhere.example"], "");
    let typing = index.pip(NEW_PIP, None).stdin("alice\ny\n").terminal().start();
    typing.terminal_expect("Password: ");
    typing.terminal_type(&format!("{TYPED}\n"));
    typing.wait().assert_status(0);
    let host = index.server.origin().replace("http://", "");
    let kept = index.home.sandbox.run("keyring", &["get", &host, "alice"]).run();
    kept.assert(0, &format!("{TYPED}\n"), "");
    index.pip(NEW_PIP, Some("alice")).arg("--no-input").run().assert_status(0);
    index.pip(OLD_PIPS[0], Some("alice")).arg("--no-input").run().assert_status(0);
}

#[test]
fn uv_asks_with_and_without_a_user_name() {
    if !here(&[Peer::Pip, Peer::Uv]) {
        return;
    }
    let index = Index::start();
    refused(&index.uv_with_user("a").run());
    refused(&index.uv_without_user("a").run());
    let browser = index.home.browser(Person::Approves);
    let ci = index.uv_with_user("a").remove_env("VALETKEY_INTERACTIVE").env("CI", "true").run();
    refused(&ci);
    assert!(browser.opened().is_empty());
    index.uv_without_user("b").run().assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    index.home.nobody();
    index.uv_with_user("c").run().assert_success();
    index.uv_without_user("d").run().assert_success();
    assert!(["b", "c", "d"].iter().all(|target| index.has(&format!("{target}/labpkg"))));
    assert_eq!(index.passwords().len(), 1);
}

#[test]
fn twenty_uvs_at_once_renew_once() {
    if !here(&[Peer::Pip, Peer::Uv]) {
        return;
    }
    let index = Index::start();
    index.home.sign_in_to(&index.server.origin());
    index.home.end_tokens();
    let all: Vec<_> =
        (0..20).map(|number| index.uv_with_user(&format!("t{number}")).start()).collect();
    for one in all {
        one.wait().assert_success();
    }
    assert_eq!(index.home.authority.asked_for("refresh_token"), 1);
    assert_eq!(index.passwords().len(), 1);
}

/// uv is a Bazel helper for what it stored: for the same credential our bytes are its bytes.
#[test]
fn our_bazel_answers_are_those_of_uv() {
    if !here(&[Peer::Uv]) {
        return;
    }
    let scene = Scene::new();
    scene.nobody();
    let login = ["auth", "login", "https://cache.example", "--username", "u", "--password", "-"];
    scene.sandbox.run(uv(), &login).stdin("p\"w\u{e4}").run().assert_status(0);
    let stored = "protocol=https\nhost=cache.example\nusername=u\npassword=p\"w\u{e4}\n";
    scene.sandbox.valetkey(&["store"]).stdin(stored).run().assert(0, "", "");
    let helper = ["auth", "helper", "--preview-features", "auth-helper", "--protocol=bazel", "get"];
    for request in [
        r#"{"uri":"https://cache.example"}"#,
        r#"{"uri":"https://cache.example/a/b?c","unknown":{}}"#,
        r#"{"uri":"https://stranger.example/"}"#,
        r#"{"uri":"http://cache.example/"}"#,
        r#"{"uri":"https://cache.example:8443/"}"#,
    ] {
        let theirs = scene.sandbox.run(uv(), &helper).stdin(request).run();
        let ours = scene.sandbox.valetkey(&["bazel", "get"]).stdin(request).run();
        ours.assert(0, &theirs.assert_success(), "");
    }
    for request in ["", "{}", "{\"uri\":1}", "x"] {
        let theirs = scene.sandbox.run(uv(), &helper).stdin(request).run();
        let ours = scene.sandbox.valetkey(&["bazel", "get"]).stdin(request).run();
        assert!(theirs.status != 0 && ours.status != 0, "{request}: {theirs}{ours}");
        ours.assert_stdout("");
    }
}

fn real_keyring() -> PathBuf {
    installed().join("python-keyring/bin")
}

/// The same questions about the same password, to Python's keyring and to ours.
#[test]
fn our_keyring_answers_are_those_of_python() {
    if !here(&[Peer::PythonKeyring]) {
        return;
    }
    let scene = Scene::new();
    scene.nobody();
    let ours = scene.sandbox.root().join("ours");
    std::fs::create_dir(&ours).expect("a directory");
    std::os::unix::fs::symlink(crate::scene::program(), ours.join("keyring")).expect("a link");
    let theirs = real_keyring();
    let ask = |place: &Path, words: &[&str], stdin: &str| {
        let run = scene.sandbox.run(place.join("keyring"), words).stdin(stdin);
        // Nothing goes on from ours to theirs.
        let path = format!("{}:/usr/bin:/bin", scene.sandbox.bin().display());
        run.env("PATH", path)
            .env("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.PlaintextKeyring")
            .env("VALETKEY_HANDED_OVER", "1")
            .run()
    };
    let url = "https://pypi.example/simple/";
    for (words, stdin) in [
        (vec!["set", url, "me"], "p\"w \n"),
        (vec!["get", url, "me"], ""),
        (vec!["get", url, "you"], ""),
        (vec!["get", "https://stranger.example/", "me"], ""),
        (vec!["--mode=creds", "--output=json", "get", url, "me"], ""),
        (vec!["--mode=creds", "--output=json", "get", "https://stranger.example/"], ""),
        (vec!["get", url, "me", "--mode", "creds"], ""),
        (vec!["get", url, "you", "--mode", "creds"], ""),
        (vec!["get", url, "me", "--output", "json"], ""),
        (vec!["get", url], ""),
        (vec!["get"], ""),
        (vec!["set", url], "x\n"),
        (vec!["--mode=all", "get", url, "me"], ""),
        (vec!["--no-such-option", "get", url, "me"], ""),
        (vec!["del", url, "me"], ""),
        (vec!["get", url, "me"], ""),
        (vec!["del", url, "me"], ""),
    ] {
        let wanted = ask(&theirs, &words, stdin);
        let found = ask(&ours, &words, stdin);
        assert_eq!(found.status, wanted.status, "{words:?}: {wanted}{found}");
        found.assert_stdout(&wanted.stdout_text());
    }
}

#[test]
fn what_is_not_ours_reaches_pythons_keyring() {
    if !here(&[Peer::PythonKeyring]) {
        return;
    }
    let scene = Scene::new();
    scene.nobody();
    scene.sandbox.link("keyring");
    let path =
        format!("{}:{}:/usr/bin:/bin", scene.sandbox.bin().display(), real_keyring().display());
    scene.sandbox.env("PATH", path);
    scene.sandbox.env("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.PlaintextKeyring");
    let keyring =
        |words: &[&str], stdin: &str| scene.sandbox.run("keyring", words).stdin(stdin).run();
    for service in ["system", "https://stranger.example/simple/"] {
        keyring(&["set", service, "me"], "secret\n").assert(0, "", "");
        keyring(&["get", service, "me"], "").assert(0, "secret\n", "");
        let json = "{\"username\": \"me\", \"password\": \"secret\"}\n";
        keyring(&["--mode=creds", "--output=json", "get", service, "me"], "").assert(0, json, "");
        keyring(&["del", service, "me"], "").assert(0, "", "");
        keyring(&["get", service, "me"], "").assert(1, "", "");
    }
    assert!(keyring(&["--list-backends"], "").assert_success().contains("PlaintextKeyring"));
    assert!(scene.sandbox.files().iter().all(|file| !file.path.starts_with("data/valetkey")));
    let words = ["get", &scene.host.origin(), "me"];
    let ours = keyring(&words, "");
    ours.assert_status(1).assert_stdout("").assert_stderr_has("hint: valetkey login");
}
