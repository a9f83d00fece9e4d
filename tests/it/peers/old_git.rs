//! git 2.39 as the caller: it offers no capability, forwards no challenge, drops expiry and
//! refresh token, and asks only once in a command.

use super::chains::assert_one_session;
use super::{Peer, here, with_old_git};
use crate::lab::Person;
use crate::scene::Scene;

fn scene() -> Scene {
    let scene = Scene::new();
    with_old_git(&scene.sandbox);
    let version = scene.sandbox.git(&["version"]).run();
    assert!(version.stdout_text().starts_with("git version 2.39"), "{version}");
    scene
}

#[test]
fn clone_fetch_and_push_ask_once() {
    if !here(&[Peer::OldGit]) {
        return;
    }
    let scene = scene();
    let browser = scene.browser(Person::Approves);
    scene.clone_to("s").assert_status(0).assert_stdout("");
    scene.nobody();
    scene.git_in("s", &["fetch", "--quiet"]).run().assert(0, "", "");
    scene.git_in("s", &["commit", "--quiet", "--allow-empty", "-m", "x"]).run().assert_success();
    scene.git_in("s", &["push", "--quiet"]).run().assert(0, "", "");
    let pushed = scene.git_in("s", &["rev-parse", "HEAD"]).run().assert_success();
    assert_eq!(scene.host.tip("team/s.git", "main"), pushed.trim_end());
    assert_eq!(browser.opened().len(), 1);
    assert_eq!(scene.authority.asked_for("refresh_token"), 0);
    assert_one_session(&scene);
}

/// This git cannot ask twice in a command: the first one pays, with an `erase`.
#[test]
fn a_revoked_token_costs_one_command() {
    if !here(&[Peer::OldGit]) {
        return;
    }
    let scene = scene();
    scene.sign_in();
    scene.clone_to("s").assert(0, "", "");
    scene.authority.expire_all_access();
    let failed = scene.git_in("s", &["fetch", "--quiet"]).run();
    assert_ne!(failed.status, 0);
    failed.assert_stderr_has("Authentication failed");
    assert_eq!(scene.authority.asked_for("refresh_token"), 0);
    scene.git_in("s", &["fetch", "--quiet"]).run().assert(0, "", "");
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    assert_one_session(&scene);
    // A renewal and a late `store` or `erase` of the token before it change nothing.
    scene.git_in("s", &["fetch", "--quiet"]).run().assert(0, "", "");
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    assert_eq!(scene.authority.live_grants(), 1);
}
