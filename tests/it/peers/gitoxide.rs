//! gitoxide's own code for helpers, which gix runs: a challenge without capabilities, and an empty
//! line behind what is stored and erased.

use std::collections::HashSet;
use std::thread;

use gix_credentials::Program;
use gix_credentials::helper::{Action, Cascade};
use gix_credentials::protocol::Outcome;

use super::chains::assert_one_session;
use crate::lab::{GitHost, Person, Scheme};
use crate::scene::Scene;

/// We are its only helper, and run as every program of the sandbox does.
fn perform(scene: &Scene, action: Action) -> Option<Outcome> {
    let exported = scene.sandbox.run("sh", &["-c", "export -p"]).run().assert_success();
    let inside: Vec<_> = exported.lines().filter_map(|line| line.strip_prefix("export ")).collect();
    let helper = format!("!env -i {} git-credential-valetkey", inside.join(" "));
    let mut cascade = Cascade::default().extend(Program::from_custom_definition(helper));
    cascade.stderr = false;
    let prompt = gix_prompt::Options { mode: gix_prompt::Mode::Disable, askpass: None };
    cascade.invoke(action, prompt).ok().flatten()
}

/// As gix asks when a host has refused it.
fn ask(scene: &Scene, host: &GitHost) -> Option<Outcome> {
    let mut action = Action::get_for_url(host.url("team/s.git"));
    let context = action.context_mut().expect("a question");
    context.www_authenticate.push("Basic realm=\"lab git\"".into());
    perform(scene, action)
}

#[test]
fn what_gix_gets_and_stores_is_renewed_when_it_ends_and_when_it_is_rejected() {
    let scene = Scene::new();
    scene.sign_in();
    let mut seen = HashSet::new();
    for renewals in 0..3 {
        let Outcome { identity, next } = ask(&scene, &scene.host).expect("a token");
        assert_eq!((&*identity.username, identity.oauth_refresh_token), ("oauth2", None));
        assert!(scene.authority.token_is_live(&identity.password));
        assert!(seen.insert(identity.password));
        assert_eq!(scene.authority.asked_for("refresh_token"), renewals);
        perform(&scene, next.clone().store());
        assert_one_session(&scene);
        match renewals {
            0 => scene.age(4000),
            _ => assert_eq!(perform(&scene, next.erase()), None),
        }
    }
    scene.authority.revoke_grants();
    assert_eq!(ask(&scene, &scene.host), None);
}

#[test]
fn twenty_of_gix_cause_one_sign_in_where_a_person_is_and_one_renewal() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    scene.sandbox.remove_env("VALETKEY_INTERACTIVE").remove_env("GIT_TERMINAL_PROMPT");
    scene.sandbox.env("DISPLAY", ":0").env("CI", "true");
    assert_eq!(ask(&scene, &scene.host), None);
    assert_eq!(browser.opened().len(), 0);
    scene.sandbox.remove_env("CI");
    let twenty = || {
        thread::scope(|scope| {
            let all: Vec<_> = (0..20).map(|_| scope.spawn(|| ask(&scene, &scene.host))).collect();
            let tokens = all.into_iter().map(|one| one.join().expect("no panic"));
            let tokens = tokens.map(|outcome| outcome.expect("a token").identity.password);
            assert_eq!(tokens.collect::<HashSet<_>>().len(), 1);
        });
    };
    twenty();
    assert_eq!(browser.opened().len(), 1);
    assert_eq!(scene.authority.asked_for("refresh_token"), 0);
    scene.age(4000);
    twenty();
    assert_eq!(browser.opened().len(), 1);
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

/// A host that nobody trusted, and one that rejects every token.
#[test]
fn gix_has_nothing_for_a_stranger_and_is_not_kept_busy() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let stranger = GitHost::start(Scheme::Basic, |_| true);
    assert_eq!(ask(&scene, &stranger), None);
    assert_eq!(browser.opened().len(), 0);
    let mut tokens = HashSet::new();
    while let Some(outcome) = ask(&scene, &scene.host) {
        assert!(tokens.insert(outcome.identity.password), "the same token twice");
        perform(&scene, outcome.next.erase());
        assert!(tokens.len() < 10, "it goes round for ever");
    }
    assert_eq!(browser.opened().len(), 2);
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}
