//! Where nobody wants to be asked no browser opens, with either git, and git ends at once.

use super::{Peer, here, with_old_git};
use crate::lab::{Person, Run};
use crate::scene::Scene;

/// A person with a terminal and a desktop, whom nothing but the test's own words keeps out.
fn scene() -> (Scene, crate::lab::Browser) {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    scene.sandbox.remove_env("VALETKEY_INTERACTIVE");
    // If git asks for itself, it gets an empty answer; without an answer it asks on the terminal.
    scene.sandbox.env("GIT_ASKPASS", "/bin/true").env("DISPLAY", ":0");
    (scene, browser)
}

#[track_caller]
fn assert_nobody_is_asked(scene: &Scene, browser: &crate::lab::Browser, run: Run) {
    let finished = run.run();
    assert_ne!(finished.status, 0, "{finished}");
    assert_eq!(browser.opened(), [] as [String; 0], "{finished}");
    let hint = format!("hint: valetkey login {}", scene.host.origin());
    finished.assert_stderr_has(&hint);
    assert_eq!(scene.authority.asked("/authorize"), 0);
    assert_eq!(scene.authority.asked("/device_authorization"), 0);
}

fn all_ways(scene: &Scene, browser: &crate::lab::Browser) {
    let url = scene.host.url("team/s.git");
    let clone = || scene.sandbox.git(&["clone", "--quiet", &url, "s"]).terminal();
    assert_nobody_is_asked(scene, browser, clone().env("GIT_TERMINAL_PROMPT", "0"));
    assert_nobody_is_asked(scene, browser, clone().env("CI", "true"));
    assert_nobody_is_asked(scene, browser, clone().env("CI", "1"));
    assert_nobody_is_asked(scene, browser, clone().env("VALETKEY_INTERACTIVE", "never"));
    for word in ["false", "never"] {
        let setting = format!("credential.interactive={word}");
        let once = scene.sandbox.git(&["-c", &setting, "clone", "--quiet", &url, "s"]);
        assert_nobody_is_asked(scene, browser, once.terminal());
    }
    let configured = clone()
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "credential.interactive")
        .env("GIT_CONFIG_VALUE_0", "false");
    assert_nobody_is_asked(scene, browser, configured);

    // Nothing else was in the way.
    clone().run().assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    // And what is there needs nobody.
    let again = scene.sandbox.git(&["clone", "--quiet", &url, "again"]);
    again.env("CI", "true").run().assert(0, "", "");
}

#[test]
fn where_nobody_is_to_be_asked_nobody_is() {
    let (scene, browser) = scene();
    all_ways(&scene, &browser);
}

#[test]
fn where_nobody_is_to_be_asked_the_old_git_asks_nobody_either() {
    if !here(&[Peer::OldGit]) {
        return;
    }
    let (scene, browser) = scene();
    with_old_git(&scene.sandbox);
    all_ways(&scene, &browser);
}

/// The person's own file says it for good.
#[test]
fn a_setting_in_the_configuration_file_counts_too() {
    let (scene, browser) = scene();
    scene.sandbox.git_config("[credential]\n\tinteractive = false\n");
    let clone = scene.git_clone("s").terminal();
    assert_nobody_is_asked(&scene, &browser, clone);
}

/// Neither a terminal nor a desktop: nobody is here.
#[test]
fn a_program_in_the_background_asks_nobody() {
    let (scene, browser) = scene();
    scene.sandbox.remove_env("DISPLAY").remove_env("BROWSER").remove_env("GIT_TERMINAL_PROMPT");
    assert_nobody_is_asked(&scene, &browser, scene.git_clone("s"));
}
