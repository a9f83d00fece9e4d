//! The main road with a real git: clone, fetch and push from an empty machine, and what happens
//! when tokens and grants die on the way.

use crate::lab::{Options, Person, Refreshing, Scheme};
use crate::scene::{Scene, value};

#[test]
fn a_clone_signs_in_once_and_everything_after_it_is_silent() {
    for scheme in [Scheme::Basic, Scheme::Bearer] {
        let scene = Scene::with(scheme, Options::default());
        let browser = scene.browser(Person::Approves);
        scene.clone_to("first").assert_status(0).assert_stdout("");
        assert_eq!(browser.opened().len(), 1);
        assert_eq!(browser.wait_for_pages(1)[0].status, 200);
        scene.nobody();
        scene.clone_to("second").assert(0, "", "");
        scene
            .git_in("first", &["commit", "--quiet", "--allow-empty", "-m", "x"])
            .run()
            .assert_success();
        scene.git_in("first", &["push", "--quiet"]).run().assert(0, "", "");
        scene.git_in("second", &["pull", "--quiet"]).run().assert(0, "", "");
        assert_eq!(browser.opened().len(), 1);
        assert_eq!(scene.authority.asked_for("refresh_token"), 0);
        assert_eq!(scene.authority.asked_for("authorization_code"), 1);
    }
}

#[test]
fn one_wasted_request_for_each_command_not_two() {
    for scheme in [Scheme::Basic, Scheme::Bearer] {
        let scene = Scene::with(scheme, Options::default());
        scene.sign_in();
        let before = scene.host.authorizations().len();
        scene.sandbox.git(&["ls-remote", &scene.host.url("team/s.git")]).run().assert_status(0);
        let asked = scene.host.authorizations().split_off(before);
        let without = asked.iter().filter(|header| header.is_none()).count();
        assert_eq!(without, 1, "{asked:?}");
    }
}

#[test]
fn an_expired_token_is_renewed_before_it_is_handed_out() {
    let scene = Scene::with(Scheme::Basic, Options { expires_in: Some(30), ..Options::default() });
    scene.sign_in();
    scene.age(20);
    scene.authority.expire_all_access();
    scene.authority.tune(|options| options.expires_in = Some(3600));
    scene.clone_to("s").assert(0, "", "");
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    scene.git_in("s", &["fetch", "--quiet"]).run().assert(0, "", "");
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

/// A revoked access token costs the user nothing: clone, fetch and push recover in the command.
#[test]
fn a_dead_token_is_replaced_inside_the_same_command() {
    for scheme in [Scheme::Basic, Scheme::Bearer] {
        let scene = Scene::with(scheme, Options::default());
        scene.sign_in();
        scene.authority.expire_all_access();
        scene.clone_to("s").assert(0, "", "");
        scene.authority.expire_all_access();
        scene.git_in("s", &["fetch", "--quiet"]).run().assert(0, "", "");
        scene
            .git_in("s", &["commit", "--quiet", "--allow-empty", "-m", "x"])
            .run()
            .assert_success();
        scene.authority.expire_all_access();
        scene.git_in("s", &["push", "--quiet"]).run().assert(0, "", "");
        assert_eq!(scene.authority.asked_for("refresh_token"), 3);
        assert_eq!(scene.authority.live_grants(), 1);
    }
}

#[test]
fn a_dead_grant_costs_one_sign_in_in_the_same_command() {
    let scene = Scene::new();
    scene.sign_in();
    scene.authority.revoke_grants();
    let browser = scene.browser(Person::Approves);
    scene.clone_to("s").assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

#[test]
fn a_session_without_refresh_token_is_replaced_in_the_same_command_too() {
    let options = Options { refreshing: Refreshing::Never, ..Options::default() };
    let scene = Scene::with(Scheme::Basic, options);
    scene.sign_in();
    scene.authority.expire_all_access();
    let browser = scene.browser(Person::Approves);
    scene.clone_to("s").assert_status(0);
    assert_eq!(browser.opened().len(), 1);
}

#[test]
fn a_dead_grant_without_a_person_fails_at_once_with_the_command_to_run() {
    let scene = Scene::new();
    scene.sign_in();
    scene.authority.revoke_grants();
    let finished = scene.clone_to("s");
    assert_ne!(finished.status, 0, "{finished}");
    let hint = format!("hint: valetkey login {}", scene.host.origin());
    finished.assert_stderr_has(&hint);
    // The dead session is gone; it is not asked about again.
    scene.get().run().assert_status(2).assert_stdout("");
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

/// Never `continue` on the second answer, and a miss once renewing and signing in have not helped.
#[test]
fn a_host_that_rejects_every_token_cannot_drive_a_caller_round() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let first = scene.get().run();
    assert_eq!(value(&first, "continue").as_deref(), Some("1"));
    let mut rounds = 0;
    let mut password = value(&first, "password");
    // As git-lfs 3.3 does: erase what was refused, and ask again.
    while let Some(token) = password {
        rounds += 1;
        assert!(rounds < 10, "it goes round for ever");
        let rejected = format!("{}username=oauth2\npassword={token}\n", scene.question());
        scene.sandbox.valetkey(&["erase"]).stdin(rejected).run().assert(0, "", "");
        password = value(&scene.get().run(), "password");
    }
    assert_eq!(rounds, 3, "the cached token, one renewal, one sign-in");
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    assert_eq!(browser.opened().len(), 2);
    scene.get().run().assert_status(4).assert_stdout("");
    assert_eq!(browser.opened().len(), 2);
    // A sign-in that a person asks for is another matter.
    scene.sandbox.valetkey(&["login", "--force", &scene.host.origin()]).run().assert_status(0);
    assert!(value(&scene.get().run(), "password").is_some());
}

/// The same host, driven by `state[]` as git does it: one question per command.
#[test]
fn the_second_answer_never_asks_to_continue() {
    let scene = Scene::new();
    scene.sign_in();
    let first = scene.get().run();
    let state = value(&first, "state[]").expect("a state");
    let again = format!("{}username=oauth2\nstate[]={state}\n", scene.question());
    let second = scene.sandbox.valetkey(&["get"]).stdin(&again).run();
    assert_eq!(value(&second, "continue"), None);
    assert_ne!(value(&second, "password"), value(&first, "password"));
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    // A late question about the token that was already replaced costs nothing.
    let third = scene.sandbox.valetkey(&["get"]).stdin(&again).run();
    assert_eq!(value(&third, "password"), value(&second, "password"));
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

/// What worked is forgiven: many revocations in a row are all renewed away.
#[test]
fn an_approval_wipes_the_slate() {
    let scene = Scene::new();
    scene.sign_in();
    scene.clone_to("s").assert_status(0);
    for _ in 0..5 {
        scene.authority.expire_all_access();
        scene.git_in("s", &["fetch", "--quiet"]).run().assert(0, "", "");
    }
    assert_eq!(scene.authority.asked_for("refresh_token"), 5);
}

#[test]
fn a_caller_without_capabilities_gets_a_user_name_and_a_password() {
    for scheme in [Scheme::Basic, Scheme::Bearer] {
        let scene = Scene::with(scheme, Options { expires_in: None, ..Options::default() });
        scene.sign_in();
        let finished = scene.plain_get().run();
        let token = value(&finished, "password").expect("a password");
        finished.assert(0, &format!("username=oauth2\npassword={token}\n"), "");
        assert!(scene.authority.token_is_live(&token));
    }
}
