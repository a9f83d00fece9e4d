//! `valetkey setup` does all of it or nothing, for whoever runs it: what docker would not see any
//! more is taken over, the link goes where its user may write, and a step that fails or a kill
//! leaves nothing behind that `--undo` would not take back.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::installed;
use crate::lab::{Finished, Sandbox};
use crate::scene::program;
use crate::setup_shapes::{sandbox, setup, tree};

const CONFIG: &str = "home/.docker/config.json";

/// What docker would get from the helper for a server.
fn asked(sandbox: &Sandbox, server: &str) -> Option<(String, String)> {
    let finished = sandbox.valetkey(&["docker", "get"]).stdin(server).run();
    let answer: Value = serde_json::from_slice(&finished.stdout).ok()?;
    let text = |name: &str| answer[name].as_str().map(str::to_owned);
    Some((text("Username")?, text("Secret")?))
}

fn pair(username: &str, secret: &str) -> Option<(String, String)> {
    Some((username.to_owned(), secret.to_owned()))
}

#[test]
fn what_docker_no_longer_sees_is_taken_over_and_given_back() {
    let sandbox = sandbox();
    let auth = BASE64_STANDARD.encode("bob:p:w");
    let config = json!({
        "auths": {
            "a.example": { "auth": auth },
            "https://b.example/v2/": { "username": "eve", "password": "pw" },
            "c.example": { "auth": BASE64_STANDARD.encode("x:"), "identitytoken": "it" },
            "d.example": {},
            "e.example": { "auth": "%%%" },
            "own.example": { "auth": auth },
        },
        "credHelpers": { "own.example": "other" },
    });
    let path = sandbox.write(CONFIG, config.to_string().as_bytes(), 0o600);
    let before = tree(sandbox.root());
    let finished = setup(&sandbox, &["docker"]);
    finished.assert_status(0).assert_stderr_has("takes over the sign-in to a.example as bob");
    finished.assert_stderr_has("warning: config.json has a sign-in to e.example");
    let text = finished.stderr_text();
    assert!(!text.contains("p:w") && !text.contains(&auth) && !text.contains("pw"), "{text}");
    assert_eq!(asked(&sandbox, "a.example"), pair("bob", "p:w"));
    assert_eq!(asked(&sandbox, "https://b.example/v2/"), pair("eve", "pw"));
    assert_eq!(asked(&sandbox, "c.example"), pair("<token>", "it"));
    for none in ["d.example", "e.example", "own.example"] {
        assert_eq!(asked(&sandbox, none), None, "{none}");
    }
    let seen = std::fs::read(&path).expect("a file");
    setup(&sandbox, &["docker", "--undo"]).assert_status(0);
    assert!(seen.len() > config.to_string().len());
    for gone in ["a.example", "b.example", "c.example"] {
        assert_eq!(asked(&sandbox, gone), None, "{gone}");
    }
    assert_eq!(std::fs::read_to_string(&path).ok(), Some(config.to_string()));
    assert_eq!(before.get(Path::new(CONFIG)), tree(sandbox.root()).get(Path::new(CONFIG)));
    // For one registry, only that one's.
    setup(&sandbox, &["docker", "--host", "b.example"]).assert_status(0);
    assert_eq!(asked(&sandbox, "b.example"), pair("eve", "pw"));
    assert_eq!(asked(&sandbox, "a.example"), None);
}

#[test]
fn what_another_helper_of_docker_holds_is_taken_over() {
    let sandbox = sandbox();
    sandbox.script(
        "docker-credential-desk",
        "#!/bin/sh\ncase $1 in\nlist) echo '{\"https://index.docker.io/v1/\":\"bob\",\"x.example\":\"y\"}' ;;\n\
         get) read -r server; [ \"$server\" != x.example ] || { echo 'credentials not found'; exit 1; }\n\
         printf '{\"ServerURL\":\"%s\",\"Username\":\"bob\",\"Secret\":\"canary\"}' \"$server\" ;;\nesac\n",
    );
    sandbox.write(CONFIG, b"{\"credsStore\":\"desk\"}", 0o600);
    setup(&sandbox, &["docker"]).assert_status(1);
    let finished = setup(&sandbox, &["docker", "--replace"]);
    finished
        .assert_status(0)
        .assert_stderr_has("takes over the sign-in to https://index.docker.io");
    assert!(!finished.stderr_text().contains("canary"));
    assert_eq!(asked(&sandbox, "https://index.docker.io/v1/"), pair("bob", "canary"));
    setup(&sandbox, &["docker", "--undo"]).assert_status(0);
    assert_eq!(asked(&sandbox, "https://index.docker.io/v1/"), None);
    // One that cannot be asked is said.
    sandbox.write(CONFIG, b"{\"credsStore\":\"nowhere\"}", 0o600);
    let finished = setup(&sandbox, &["docker", "--replace"]);
    finished.assert_status(0).assert_stderr_has("docker will not see what it holds any more");
}

/// Runs as a user of no rights, for whom the program lies in a directory of root's.
fn as_user(sandbox: &Sandbox, path: &str, words: &[&str]) -> Finished {
    let own = sandbox.root().join("usr/valetkey");
    let own = own.to_str().expect("a plain path");
    let user = ["--reuid=4242", "--regid=4242", "--clear-groups", own, "setup"];
    sandbox.run("setpriv", &[&user[..], words].concat()).env("PATH", path).run()
}

#[test]
fn a_program_of_roots_is_set_up_by_a_user() {
    if !rustix::process::geteuid().is_root() || !installed::all(&["setpriv"]) {
        return;
    }
    for (tool, link) in [
        ("docker", "docker-credential-valetkey"),
        ("podman", "docker-credential-valetkey"),
        ("cargo", "cargo-credential-valetkey"),
        ("keyring", "keyring"),
        ("vault", "vault-token-valetkey"),
        ("bazel", "bazel-credential-valetkey"),
        ("askpass", "askpass-valetkey"),
    ] {
        let sandbox = sandbox();
        let root = sandbox.root();
        std::fs::set_permissions(root, PermissionsExt::from_mode(0o755)).expect("its mode");
        let usr = root.join("usr");
        std::fs::create_dir(&usr).expect("made");
        std::fs::copy(program(), usr.join("valetkey")).expect("a copy");
        for (path, _) in tree(root) {
            if !path.starts_with("usr") {
                let path = root.join(path);
                rustix::fs::chownat(
                    rustix::fs::CWD,
                    &path,
                    Some(rustix::fs::Uid::from_raw(4242)),
                    None,
                    rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
                )
                .expect("root may");
            }
        }
        for own in ["state", "tmp", "cache"] {
            chown(root.join(own), Some(4242), None).expect("root may");
        }
        let home = sandbox.home();
        let before = tree(root);
        let system = format!("{}:/usr/bin:/bin", usr.display());
        // Nothing of the person's on PATH: the usual place, and what to type.
        let first = as_user(&sandbox, &system, &[tool]);
        assert_eq!(first.status, 0, "{tool}: {first}");
        assert!(home.join(".local/bin").join(link).is_symlink(), "{tool}: {first}");
        first.assert_stderr_has("put it on PATH: export PATH=");
        as_user(&sandbox, &system, &[tool, "--undo"]).assert_status(0);
        assert_eq!(tree(root), before, "{tool}");
        // A directory of the person's on PATH.
        let bin = home.join("bin");
        std::fs::create_dir(&bin).expect("made");
        chown(&bin, Some(4242), None).expect("root may");
        let with_own = format!("{}:{system}", bin.display());
        as_user(&sandbox, &with_own, &[tool]).assert_status(0);
        assert!(bin.join(link).is_symlink(), "{tool}");
        as_user(&sandbox, &with_own, &[tool, "--undo"]).assert_status(0);
        assert!(!bin.join(link).is_symlink(), "{tool}");
        // A link that somebody made elsewhere on PATH does, and stays.
        std::os::unix::fs::symlink(usr.join("valetkey"), usr.join(link)).expect("a link");
        as_user(&sandbox, &with_own, &[tool]).assert_status(0);
        as_user(&sandbox, &with_own, &[tool, "--undo"]).assert_status(0);
        assert!(usr.join(link).is_symlink() && !bin.join(link).exists(), "{tool}");
    }
}

const CALLS: &[&str] = &[
    "?open,?openat",
    "write",
    "fsync",
    "?rename,?renameat,?renameat2",
    "?mkdir,?mkdirat",
    "?symlink,?symlinkat",
    "?chmod,?fchmod",
];

/// The tool set up over a file of its own, with something happening to the nth of those calls.
fn hurt(sandbox: &Sandbox, how: &str, calls: &str, number: u32, words: &[&str]) -> Finished {
    let inject = format!("inject={calls}:{how}:when={number}");
    let trace = format!("trace={calls}");
    let own = program().to_str().expect("a plain path");
    let strace = ["-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject, own, "setup"];
    sandbox.run("strace", &[&strace[..], words].concat()).run()
}

fn every_step(how: &str, judge: impl Fn(&Sandbox, &[&str], &Finished, &str)) {
    if !installed::all(&["strace"]) {
        return;
    }
    for (words, file, content) in [
        (&["docker"][..], CONFIG, Some("{\"auths\": {}}")),
        (&["vault"], "home/.vault", None),
        (&["pnpm", "--host", "b.example"], "home/.npmrc", Some("a=b\n")),
    ] {
        for calls in CALLS {
            for number in 1..60 {
                let sandbox = sandbox();
                if let Some(content) = content {
                    sandbox.write(file, content.as_bytes(), 0o640);
                }
                // What else is called like the file is not setup's.
                let beside = sandbox.write(&format!("{file}.bak"), b"kept", 0o600);
                let finished = hurt(&sandbox, how, calls, number, words);
                let step = format!("{words:?} {how} at {calls} number {number}");
                let over = finished.status == 0;
                judge(&sandbox, words, &finished, &step);
                assert_eq!(std::fs::read(&beside).ok().as_deref(), Some(&b"kept"[..]), "{step}");
                if over && number > 12 {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_step_that_fails_leaves_everything_as_it_was() {
    every_step("error=ENOSPC", |sandbox, words, finished, step| {
        let after = tree(sandbox.root());
        let named = after.values().any(|(_, _, content)| {
            let text = String::from_utf8_lossy(content);
            text.contains("credsStore")
                || text.contains("token_helper")
                || text.contains("tokenHelper")
        });
        if finished.status != 0 {
            assert!(!named, "{step}: {finished}");
            let left: Vec<_> = after
                .keys()
                .filter(|path| {
                    let name = path.to_string_lossy();
                    name.contains("docker-credential")
                        || name.contains("vault-token")
                        || name.contains("pnpm")
                })
                .collect();
            assert!(left.is_empty(), "{step}: {left:?} {finished}");
        }
        setup(sandbox, &[words[0], "--undo"]).assert_status(0);
    });
}

#[test]
fn a_setup_that_is_killed_can_be_done_again_and_taken_back() {
    every_step("signal=SIGKILL", |sandbox, words, finished, step| {
        let again = setup(sandbox, words);
        assert_eq!(again.status, 0, "{step}: {finished} {again}");
        setup(sandbox, &[words[0], "--undo"]).assert_status(0);
        for (path, (_, _, content)) in tree(sandbox.root()) {
            let name = path.to_string_lossy().into_owned();
            let ours = ["docker-credential", "vault-token", ".tmp", "pnpm/"];
            assert!(!ours.iter().any(|own| name.contains(own)), "{step}: {name}");
            assert!(name != "home/.vault", "{step}");
            if name == CONFIG {
                assert_eq!(content, b"{\"auths\": {}}", "{step}");
            }
            if name == "home/.npmrc" {
                assert_eq!(content, b"a=b\n", "{step}");
            }
        }
    });
}
