//! valetkey among other helpers: what they are given, what they hand over, and callers that speak
//! the protocol badly.

use super::{Peer, here, with_old_git};
use crate::lab::{GitHost, Options, Person, Sandbox, Scheme};
use crate::scene::{Scene, program, value};

/// These helpers in this order, and no others.
fn configure(sandbox: &Sandbox, helpers: &[&str]) {
    // Should the test fail, the daemon of `cache` ends by itself.
    let line = |helper: &&str| match *helper {
        "cache" => "\thelper = cache --timeout=60\n".to_owned(),
        helper => format!("\thelper = {helper}\n"),
    };
    let lines: String = helpers.iter().map(line).collect();
    let text = format!("[user]\n\tname = A\n\temail = a@lab.example\n[credential]\n{lines}");
    sandbox.write("home/.gitconfig", text.as_bytes(), 0o644);
}

fn git_credentials(sandbox: &Sandbox) -> String {
    std::fs::read_to_string(sandbox.home().join(".git-credentials")).unwrap_or_default()
}

/// What we answer is marked `ephemeral`, and git's `cache` heeds it.
#[test]
fn the_cache_does_not_keep_our_tokens() {
    for order in [["valetkey", "cache"], ["cache", "valetkey"]] {
        for scheme in [Scheme::Basic, Scheme::Bearer] {
            let scene = Scene::with(scheme, Options::default());
            configure(&scene.sandbox, &order);
            scene.sign_in();
            scene.clone_to("s").assert(0, "", "");
            let asked = scene.sandbox.git(&["credential-cache", "get"]).stdin(scene.question());
            asked.run().assert(0, "", "");
            scene.authority.expire_all_access();
            scene.git_in("s", &["fetch", "--quiet"]).run().assert(0, "", "");
            scene.sandbox.git(&["credential-cache", "exit"]).run().assert_status(0);
            assert_eq!(scene.authority.asked_for("refresh_token"), 1, "{order:?}");
        }
    }
}

/// git's `store` does not, and writes the access token into a file. After us that costs nothing;
/// before us it answers first, and a dead copy costs one command.
#[test]
fn a_copy_in_the_file_of_store_never_comes_back_to_us() {
    for order in [["valetkey", "store"], ["store", "valetkey"]] {
        let scene = Scene::new();
        configure(&scene.sandbox, &order);
        scene.sign_in();
        scene.clone_to("s").assert(0, "", "");
        scene.authority.expire_all_access();
        let fetched = scene.git_in("s", &["fetch", "--quiet"]).run();
        assert_eq!(fetched.status == 0, order[0] == "valetkey", "{order:?}, {fetched}");
        for _ in 0..2 {
            scene.git_in("s", &["fetch", "--quiet"]).run().assert(0, "", "");
        }
        assert_eq!(scene.authority.asked_for("refresh_token"), 1, "{order:?}");
        assert_one_session(&scene);
    }
}

/// What puts the others aside keeps our tokens to ourselves.
#[test]
fn after_setup_with_replace_no_file_gets_our_token() {
    let scene = Scene::new();
    configure(&scene.sandbox, &["store"]);
    scene.sandbox.valetkey(&["setup", "git", "--replace"]).run().assert_status(0);
    scene.sign_in();
    scene.clone_to("s").assert(0, "", "");
    assert_eq!(git_credentials(&scene.sandbox), "");
}

/// No copy of our token came back as a credential of its own.
#[track_caller]
pub(super) fn assert_one_session(scene: &Scene) {
    let listed = scene.sandbox.valetkey(&["list", "--json"]).run().assert_success();
    let records: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let kinds: Vec<_> = records.as_array().expect("a list").iter().map(|r| &r["kind"]).collect();
    assert_eq!(kinds, ["session"], "{records}");
}

/// A git that cannot take `ephemeral` gives our token to everybody. A copy costs one command when
/// it has died, and never comes back to us as a credential of its own.
#[test]
fn a_copy_that_an_old_git_made_costs_one_command() {
    if !here(&[Peer::OldGit]) {
        return;
    }
    for order in [["valetkey", "store"], ["store", "valetkey"]] {
        let scene = Scene::new();
        with_old_git(&scene.sandbox);
        configure(&scene.sandbox, &order);
        scene.sign_in();
        scene.clone_to("s").assert(0, "", "");
        assert!(git_credentials(&scene.sandbox).contains("oauth2:"), "{order:?}");
        scene.authority.expire_all_access();
        assert_ne!(scene.git_in("s", &["fetch", "--quiet"]).run().status, 0);
        assert_eq!(git_credentials(&scene.sandbox), "", "{order:?}");
        for _ in 0..2 {
            scene.git_in("s", &["fetch", "--quiet"]).run().assert(0, "", "");
        }
        assert_eq!(scene.authority.asked_for("refresh_token"), 1, "{order:?}");
        assert_one_session(&scene);
    }
}

/// Storage for another program that obtains tokens and does not keep them, as git-credential-oauth.
#[test]
fn what_another_generator_hands_over_comes_back_to_it() {
    let host = GitHost::start(Scheme::Basic, |token| token == "one" || token == "two");
    host.create("team/s.git");
    let sandbox = Sandbox::new(program());
    sandbox.env("VALETKEY_STORE", "file");
    sandbox.link("git-credential-valetkey");
    let generator = sandbox.script(
        "git-credential-generator",
        "#!/bin/sh\n[ \"$1\" = get ] || exit 0\ncat >>\"$HOME/asked\"; echo >>\"$HOME/asked\"\n\
         token=$(cat \"$HOME/token\")\nprintf '%s\\n' username=carol password=$token \
         password_expiry_utc=4102444800 oauth_refresh_token=refresh-$token\n",
    );
    assert!(generator.is_file());
    configure(&sandbox, &["valetkey", "generator"]);
    sandbox.write("home/token", b"one", 0o600);
    let url = host.url("team/s.git");
    let list = || sandbox.git(&["ls-remote", &url, "HEAD"]).run();
    let asked = || std::fs::read_to_string(sandbox.home().join("asked")).unwrap_or_default();
    list().assert_status(0);
    list().assert_status(0);
    assert_eq!(asked().matches("protocol=http").count(), 1, "the second time we answered");
    let question = format!("protocol=http\nhost={}\n", host.origin().replace("http://", ""));
    let get = || sandbox.valetkey(&["get"]).stdin(&question).run();
    get().assert(
        0,
        "username=carol\npassword=one\npassword_expiry_utc=4102444800\n\
         oauth_refresh_token=refresh-one\n",
        "",
    );

    // Expired: git drops the password and shows its generator the refresh token.
    let expired = format!(
        "{question}username=carol\npassword=one\npassword_expiry_utc=1\n\
         oauth_refresh_token=refresh-one\n"
    );
    sandbox.valetkey(&["store"]).stdin(expired).run().assert(0, "", "");
    assert_eq!(value(&get(), "oauth_refresh_token").as_deref(), Some("refresh-one"));
    sandbox.write("home/token", b"two", 0o600);
    list().assert_status(0);
    let asked = asked();
    assert_eq!(asked.matches("protocol=http").count(), 2, "{asked}");
    assert!(asked.contains("oauth_refresh_token=refresh-one\n"), "{asked}");
    assert_eq!(value(&get(), "password").as_deref(), Some("two"));
    assert_eq!(value(&get(), "oauth_refresh_token").as_deref(), Some("refresh-two"));
}

/// git2-rs runs a configured path without any operation, and leaves the host out for an address.
#[test]
fn half_a_request_is_refused_and_wakes_nobody() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let link = scene.sandbox.bin().join("git-credential-valetkey");
    for run in [
        scene.sandbox.run(&link, &[]),
        scene.sandbox.valetkey(&[]),
        scene.sandbox.valetkey(&["git"]),
    ] {
        let finished = run.stdin(scene.question()).run();
        finished.assert_status(64).assert_stdout("").assert_stderr_has("get|store|erase");
    }
    for question in ["protocol=http\n", "", "protocol=http\nhost=\n", "host=127.0.0.1\n"] {
        for verb in ["get", "store", "erase"] {
            let finished = scene.sandbox.valetkey(&[verb]).stdin(question).run();
            finished.assert_status(64).assert_stdout("").assert_stderr_has("error: ");
        }
    }
    // A later git may know more: nothing is said, and nothing done.
    scene.sandbox.run(&link, &["approve"]).stdin(scene.question()).run().assert(0, "", "");
    assert_eq!(browser.opened(), [] as [String; 0]);
    assert_eq!(scene.authority.journal().snapshot().len(), 0);
}
