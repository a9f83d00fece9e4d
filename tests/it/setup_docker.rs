//! `valetkey setup` for docker, pnpm and the tools that only need a line: what it writes, what it
//! leaves alone, and what it takes back.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::lab::{Finished, Sandbox};
use crate::scene::{Scene, program};

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new(program());
    sandbox.link("valetkey");
    sandbox
}

fn setup(sandbox: &Sandbox, words: &[&str]) -> Finished {
    let words: Vec<&str> = ["setup"].into_iter().chain(words.iter().copied()).collect();
    sandbox.valetkey(&words).run()
}

#[track_caller]
fn done(sandbox: &Sandbox, words: &[&str]) {
    setup(sandbox, words).assert_status(0).assert_stdout("");
}

fn config(sandbox: &Sandbox) -> Option<Value> {
    let text = std::fs::read(sandbox.home().join(".docker/config.json")).ok()?;
    Some(serde_json::from_slice(&text).expect("JSON"))
}

fn link(sandbox: &Sandbox) -> Option<PathBuf> {
    sandbox.bin().join("docker-credential-valetkey").read_link().ok()
}

const HUB: &str = "https://index.docker.io/v1/";

#[test]
fn docker_for_hosts_and_back() {
    let sandbox = sandbox();
    let text = "{\n\t\"auths\": {\n\t\t\"z.example\": {}\n\t},\n\t\"credHelpers\": {\n\t\t\"gcr.io\": \"gcloud\"\n\t},\n\t\"psFormat\": \"x\"\n}\n";
    sandbox.write("home/.docker/config.json", text.as_bytes(), 0o640);
    done(&sandbox, &["docker", "--host", "https://ghcr.io/v2/", "--host", "docker.io"]);
    assert_eq!(link(&sandbox), Some(sandbox.bin().join("valetkey")));
    let expected = json!({
        "auths": {"z.example": {}},
        "credHelpers": {
            "gcr.io": "gcloud", "ghcr.io": "valetkey", HUB: "valetkey", "docker.io": "valetkey",
        },
        "psFormat": "x",
    });
    assert_eq!(config(&sandbox), Some(expected));
    let file = sandbox.home().join(".docker/config.json");
    let before = std::fs::read(&file).expect("a file");
    // Docker's own keys keep their order, and the file its mode.
    assert!(String::from_utf8_lossy(&before).starts_with("{\n\t\"auths\": {"));
    let again = setup(&sandbox, &["docker", "--host", "ghcr.io", "--host", "index.docker.io"]);
    again.assert_status(0).assert_stderr_has("nothing to do");
    assert_eq!(std::fs::read(&file).expect("a file"), before);
    let mode = sandbox.files().into_iter().find(|seen| seen.path.ends_with("config.json"));
    assert_eq!(mode.map(|seen| seen.mode), Some(0o640));

    done(&sandbox, &["docker", "--host", "ghcr.io", "--undo"]);
    assert!(link(&sandbox).is_some(), "the Hub still needs it");
    done(&sandbox, &["docker", "--host", HUB, "--undo"]);
    assert_eq!(link(&sandbox), None);
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), text);
    done(&sandbox, &["docker", "--undo"]);
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), text);
}

#[test]
fn docker_for_everything_and_back() {
    let sandbox = sandbox();
    let finished = setup(&sandbox, &["docker"]);
    finished
        .assert_status(0)
        .assert_stderr_has("podman, skopeo and buildah do not read this: valetkey setup podman");
    assert_eq!(config(&sandbox), Some(json!({"credsStore": "valetkey"})));
    done(&sandbox, &["docker", "--host", "ghcr.io"]);
    done(&sandbox, &["docker", "--undo"]);
    assert_eq!(config(&sandbox), None, "there was none before");
    assert_eq!(link(&sandbox), None);
}

#[test]
fn docker_refuses_what_it_would_have_to_break() {
    let sandbox = sandbox();
    let write = |text: &str| {
        sandbox.write("home/.docker/config.json", text.as_bytes(), 0o600);
    };
    write("{\"credsStore\": \"desktop\", \"credHelpers\": {\"ghcr.io\": \"gh\"}}");
    let taken = setup(&sandbox, &["docker"]);
    taken.assert_status(1).assert_stderr_has("credsStore names desktop already\nhint: --replace");
    setup(&sandbox, &["docker", "--host", "ghcr.io"]).assert_status(1);
    assert_eq!(link(&sandbox), None, "all or nothing");
    done(&sandbox, &["docker", "--host", "a.example"]);
    done(&sandbox, &["docker", "--host", "ghcr.io", "--replace"]);
    assert_eq!(
        config(&sandbox),
        Some(json!({
            "credsStore": "desktop", "credHelpers": {"ghcr.io": "valetkey", "a.example": "valetkey"},
        }))
    );
    for (text, says) in [
        ("[]", "is no JSON object"),
        ("{\"auths\": {\"x\": {\"auth\": \"canary\"}}", "is no JSON object"),
        ("{\"credHelpers\": []}", "is no object"),
    ] {
        write(text);
        let refused = setup(&sandbox, &["docker", "--host", "ghcr.io"]);
        refused.assert_status(1).assert_stderr_has(says);
        assert!(!refused.stderr_text().contains("canary"));
        let file = sandbox.home().join(".docker/config.json");
        assert_eq!(std::fs::read_to_string(file).expect("a file"), text);
    }
    setup(&sandbox, &["docker", "--host", "a b"]).assert_status(64);
}

#[test]
fn docker_prints_and_changes_nothing() {
    let sandbox = sandbox();
    let before = sandbox.files().len();
    let printed = setup(&sandbox, &["docker", "--host", "ghcr.io", "--print"]).assert_success();
    assert!(printed.starts_with("ln -s "), "{printed}");
    assert!(printed.contains("\t\t\"ghcr.io\": \"valetkey\"\n"), "{printed}");
    assert_eq!(sandbox.files().len(), before);
    assert_eq!(link(&sandbox), None);
}

/// A link of a program that was moved leads nowhere, and is made anew.
#[test]
fn a_link_that_leads_nowhere_is_replaced_and_anything_else_is_not() {
    let sandbox = sandbox();
    let place = sandbox.bin().join("docker-credential-valetkey");
    std::os::unix::fs::symlink("/nowhere/valetkey", &place).expect("a link");
    done(&sandbox, &["docker", "--host", "ghcr.io"]);
    assert_eq!(link(&sandbox), Some(sandbox.bin().join("valetkey")));
    std::fs::remove_file(&place).expect("it was there");
    std::fs::write(&place, "theirs").expect("a file");
    let refused = setup(&sandbox, &["docker", "--host", "ghcr.io"]);
    refused.assert_status(1).assert_stderr_has("hint: make it by hand");
    assert_eq!(std::fs::read_to_string(&place).expect("a file"), "theirs");
}

const PODMANS: &str = "home/.config/containers/registries.conf.d/valetkey.conf";

#[test]
fn podman_gets_a_file_of_its_own_and_shares_the_link() {
    let sandbox = sandbox();
    let file = sandbox.root().join(PODMANS);
    done(&sandbox, &["podman"]);
    let text = "credential-helpers = [\"valetkey\", \"containers-auth.json\"]\n";
    assert_eq!(std::fs::read_to_string(&file).ok().as_deref(), Some(text));
    setup(&sandbox, &["skopeo"]).assert_status(0).assert_stderr_has("nothing to do");
    done(&sandbox, &["docker", "--host", "ghcr.io"]);
    done(&sandbox, &["docker", "--undo"]);
    assert!(link(&sandbox).is_some(), "podman still needs it");
    done(&sandbox, &["docker", "--host", "ghcr.io"]);
    done(&sandbox, &["podman", "--undo"]);
    assert!(link(&sandbox).is_some(), "docker still needs it");
    assert!(!file.exists());
    done(&sandbox, &["docker", "--undo"]);
    assert_eq!(link(&sandbox), None);
    setup(&sandbox, &["podman", "--host", "ghcr.io"]).assert_status(64);
}

#[test]
fn podman_keeps_the_helpers_that_it_has() {
    for theirs in ["registries.conf", "registries.conf.d/corporate.conf"] {
        let sandbox = sandbox();
        let place = format!("home/.config/containers/{theirs}");
        let helpers = b"credential-helpers = [\"containers-auth.json\", \"secretservice\"]\n";
        sandbox.write(&place, helpers, 0o644);
        let refused = setup(&sandbox, &["podman"]);
        refused.assert_status(1).assert_stderr_has("names secretservice already\nhint: --replace");
        assert!(!sandbox.root().join(PODMANS).exists() && link(&sandbox).is_none());
        done(&sandbox, &["podman", "--replace"]);
        assert!(sandbox.root().join(PODMANS).exists());
    }
}

fn npmrc(sandbox: &Sandbox) -> String {
    std::fs::read_to_string(sandbox.home().join(".npmrc")).unwrap_or_default()
}

#[test]
fn pnpm_for_registries_and_back() {
    let sandbox = sandbox();
    let theirs = "registry=https://registry.example/\n; a comment\n//a.example/:_authToken=x";
    sandbox.write("home/.npmrc", theirs.as_bytes(), 0o600);
    let hosts = ["pnpm", "--host", "b.example:8443", "--host", "https://c.example/npm/x/"];
    done(&sandbox, &hosts);
    let place = sandbox.root().join("data/valetkey/pnpm");
    let place = place.display();
    let expected = format!(
        "{theirs}\n//b.example:8443/:tokenHelper={place}/b.example_8443\n\
         //c.example/npm/x/:tokenHelper={place}/c.example_npm_x"
    );
    assert_eq!(npmrc(&sandbox), expected);
    let again = setup(&sandbox, &hosts);
    again.assert_status(0).assert_stderr_has("nothing to do");
    assert_eq!(npmrc(&sandbox), expected);
    done(&sandbox, &["pnpm", "--undo", "--host", "b.example:8443"]);
    assert!(!npmrc(&sandbox).contains("b.example") && npmrc(&sandbox).contains("c.example"));
    done(&sandbox, &["pnpm", "--undo"]);
    assert_eq!(npmrc(&sandbox), theirs);
    assert!(sandbox.files_with(b"valetkey setup pnpm").is_empty());
}

#[test]
fn pnpm_refuses_what_cannot_be_served() {
    let sandbox = sandbox();
    let alone = setup(&sandbox, &["pnpm"]);
    alone.assert_status(64).assert_stderr_has("hint: valetkey setup pnpm --host https://REGISTRY/");
    sandbox.write("home/.npmrc", b"//a.example/:tokenHelper=/usr/bin/theirs\n", 0o600);
    let taken = setup(&sandbox, &["pnpm", "--host", "a.example"]);
    taken.assert_status(1).assert_stderr_has("names /usr/bin/theirs already\nhint: --replace");
    done(&sandbox, &["pnpm", "--host", "a.example", "--undo"]);
    assert!(npmrc(&sandbox).contains("theirs"));
    done(&sandbox, &["pnpm", "--host", "a.example", "--replace"]);
    assert!(!npmrc(&sandbox).contains("theirs"));
    let spaced = sandbox.root().join("with space");
    sandbox.env("XDG_DATA_HOME", &spaced);
    let refused = setup(&sandbox, &["pnpm", "--host", "b.example"]);
    refused.assert_status(1).assert_stderr_has("pnpm cannot run a program with the path ");
    sandbox.remove_env("XDG_DATA_HOME");
    let told = {
        sandbox.write("home/.npmrc", b"//c.example/:_authToken=canary\n", 0o600);
        setup(&sandbox, &["pnpm", "--host", "c.example"])
    };
    told.assert_status(0).assert_stderr_has("//c.example/:_authToken stands there too");
}

/// The program that pnpm runs, run: silent success, and failure with a word.
#[test]
fn the_program_for_pnpm_prints_what_every_version_understands() {
    let scene = Scene::new();
    scene.sandbox.link("valetkey");
    let origin = scene.host.origin();
    done(&scene.sandbox, &["pnpm", "--host", &origin]);
    let line = npmrc(&scene.sandbox);
    let (_, helper) = line.trim_end().split_once('=').expect("a line");
    scene.sandbox.run(helper, &[]).run().assert_status(2).assert_stdout("");
    scene.sign_in();
    let token = scene.sandbox.valetkey(&["token", &origin]).run().assert_success();
    scene.sandbox.run(helper, &[]).run().assert(0, &format!("Bearer {token}"), "");
}

#[test]
fn recipes_are_shown_for_a_host() {
    let sandbox = sandbox();
    let valetkey = sandbox.bin().join("valetkey").display().to_string();
    let shown = |tool: &str| {
        setup(&sandbox, &[tool, "--print", "--host", "https://a.example/x"]).assert_success()
    };
    let url = "https://a.example/x";
    assert_eq!(shown("curl"), format!("{valetkey} header {url} | curl -H @- {url}\n"));
    assert_eq!(shown("mcp"), format!("{{\"headersHelper\":\"{valetkey} json\"}}\n"));
    assert!(shown("rclone").contains(&format!("bearer_token_command \"{valetkey} token {url}\"")));
    setup(&sandbox, &["curl"]).assert_status(64).assert_stderr_has("hint: add --host");
}
