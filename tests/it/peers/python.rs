//! pip before and after 26.2, uv, PDM, and the keyring of Python itself, against a package index that
//! wants a token.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::same_cases::{Client, Start};
use super::{Peer, here, installed};
use crate::lab::server::{Answer, Reply, Request, Server};
use crate::lab::{Options, Run};
use crate::scene::{Home, Scene};

/// Each speaks to the program in its own way, and the last one without a user name too.
const OLD_PIPS: [&str; 2] = ["23.2.1", "25.3"];
const NEW_PIP: &str = "26.3";

/// What a person types where there is no token.
const TYPED: &str = "typed by hand";

/// A program that asks a keyring, and the user name that it is given.
#[derive(Clone, Copy)]
enum Installer {
    Pip(&'static str, Option<&'static str>),
    Uv(Option<&'static str>),
    Publish,
    Pdm,
}

struct Index {
    installer: Installer,
    home: Home,
    server: Server,
}

impl Index {
    fn start(installer: Installer) -> Self {
        let home = Home::new(Options::default());
        home.sandbox.link("keyring");
        let is_live = home.judge();
        let server = start_index(move |password| password == TYPED || is_live(password));
        home.bind(&[&server.origin()], "");
        home.nobody();
        Self { installer, home, server }
    }

    /// The index, with a user name where the client needs one to ask at all.
    fn index_url(&self, user: Option<&str>) -> String {
        let user = user.map_or_else(String::new, |user| format!("{user}@"));
        self.server.origin().replace("http://", &format!("http://{user}")) + "/simple/"
    }

    fn pip(&self, version: &str, user: Option<&str>, target: &str) -> Run {
        let words =
            ["-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--retries=0"];
        let run = self.home.sandbox.run(python(version), &words);
        let run = run.arg("--disable-pip-version-check").arg("--keyring-provider=subprocess");
        run.arg("--index-url").arg(self.index_url(user)).arg("-d").arg(target).arg("labpkg")
    }

    fn uv(&self, user: Option<&str>, target: &str) -> Run {
        let words = ["pip", "install", "--quiet", "--no-cache", "--keyring-provider=subprocess"];
        let run = self.home.sandbox.run(uv(), &words).arg("--target").arg(target);
        let run = run.arg("--python").arg(python(NEW_PIP)).arg("labpkg");
        if user.is_some() {
            return run.arg("--index-url").arg(self.index_url(user));
        }
        // It asks without one only where it is told to.
        let text = format!(
            "[[index]]\nurl = \"{}\"\ndefault = true\nauthenticate = \"always\"\n",
            self.index_url(None)
        );
        let path = self.home.sandbox.write(&format!("{target}.toml"), text.as_bytes(), 0o600);
        run.arg("--config-file").arg(path)
    }

    fn publish(&self, target: &str) -> Run {
        let path = self.home.sandbox.write(&format!("{target}/{FILE}"), &wheel(), 0o600);
        let words = ["publish", "--quiet", "--keyring-provider=subprocess", "--username=oauth2"];
        let run = self.home.sandbox.run(uv(), &words).arg("--publish-url");
        run.arg(format!("{}/legacy/", self.server.origin())).arg(path)
    }

    /// Reads the index for a project of its own.
    fn pdm(&self, target: &str) -> Run {
        let project = format!(
            "[project]\nname = \"lab\"\nversion = \"1\"\nrequires-python = \">=3.9\"\n\
             dependencies = [\"labpkg\"]\n[[tool.pdm.source]]\nname = \"pypi\"\nurl = \"{}\"\n",
            self.index_url(None)
        );
        self.home.sandbox.write(
            &format!("work/{target}/pyproject.toml"),
            project.as_bytes(),
            0o600,
        );
        let program = installed().join("pdm/bin/pdm");
        let run = self.home.sandbox.run(program, &["lock", "--quiet", "--project"]);
        run.arg(target).env("PDM_CHECK_UPDATE", "0").env("PDM_USE_VENV", "0")
    }
}

pub(super) fn clients() -> Vec<Start> {
    let mut all = Vec::new();
    if here(&[Peer::Pip]) {
        all.extend(OLD_PIPS.map(|version| Installer::Pip(version, Some("oauth2"))));
        all.push(Installer::Pip(NEW_PIP, None));
        if here(&[Peer::Pdm]) {
            all.push(Installer::Pdm);
        }
        if here(&[Peer::Uv]) {
            all.extend([Installer::Uv(Some("oauth2")), Installer::Uv(None), Installer::Publish]);
        }
    }
    let start = |installer| -> Start { Box::new(move || Box::new(Index::start(installer))) };
    all.into_iter().map(start).collect()
}

impl Client for Index {
    fn name(&self) -> String {
        match self.installer {
            Installer::Pip(version, _) => format!("pip {version}"),
            Installer::Uv(user) => format!("uv, user name {user:?}"),
            Installer::Publish => "uv publish".to_owned(),
            Installer::Pdm => "pdm".to_owned(),
        }
    }

    fn home(&self) -> &Home {
        &self.home
    }

    fn url(&self) -> String {
        self.server.origin()
    }

    fn ask(&self, number: usize) -> Run {
        let target = format!("place-{number}");
        match self.installer {
            Installer::Pip(version, user) => self.pip(version, user, &target).arg("--no-input"),
            Installer::Uv(user) => self.uv(user, &target),
            Installer::Publish => self.publish(&target),
            Installer::Pdm => self.pdm(&target),
        }
    }

    fn tokens(&self) -> Vec<String> {
        let requests = self.server.journal().snapshot();
        let mut seen: Vec<_> =
            requests.iter().filter_map(|entry| password(&entry.request)).collect();
        seen.retain(|password| !password.is_empty());
        seen
    }

    /// PDM, and pip from 26.2 on, keep it to themselves.
    fn shows(&self) -> bool {
        !matches!(self.installer, Installer::Pip(NEW_PIP, _) | Installer::Pdm)
    }
}

fn python(version: &str) -> PathBuf {
    installed().join(format!("pip-{version}/bin/python"))
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
        "/legacy/" => Answer::empty(200).into(),
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
    let output = Command::new(python(NEW_PIP)).args(["-c", script]).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// pip asks for the URL, then for the host, and keeps what was typed for the host.
#[test]
fn pip_lets_us_keep_what_a_person_typed() {
    if !here(&[Peer::Pip]) {
        return;
    }
    let index = Index::start(Installer::Pip(NEW_PIP, None));
    index.home.bind(&["https://elsewhere.example"], "");
    let typing = index.pip(NEW_PIP, None, "typed").stdin("alice\ny\n").terminal().start();
    typing.terminal_expect("Password: ");
    typing.terminal_type(&format!("{TYPED}\n"));
    typing.wait().assert_status(0);
    let host = index.server.origin().replace("http://", "");
    let kept = index.home.sandbox.run("keyring", &["get", &host, "alice"]).run();
    kept.assert(0, &format!("{TYPED}\n"), "");
    index.pip(NEW_PIP, Some("alice"), "new").arg("--no-input").run().assert_status(0);
    index.pip(OLD_PIPS[0], Some("alice"), "old").arg("--no-input").run().assert_status(0);
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
