//! Tokens that a host refuses before their time, under tools whose protocol cannot say so: a second
//! question within minutes is reason enough to ask the server, once.

use crate::lab::{Finished, Options, Person, Run, Scheme, Step};
use crate::scene::Scene;

/// A tool that only ever asks.
type Tool = (&'static str, fn(&Scene) -> Run);

const TOOLS: &[Tool] = &[
    ("docker", |scene| scene.sandbox.valetkey(&["docker", "get"]).stdin(scene.host.origin())),
    ("token", |scene| scene.sandbox.valetkey(&["token", &scene.host.origin()])),
    ("bazel", |scene| {
        let question = format!("{{\"uri\":\"{}/x\"}}", scene.host.origin());
        scene.sandbox.valetkey(&["bazel", "get"]).stdin(question)
    }),
    ("keyring", |scene| {
        scene.sandbox.valetkey(&["keyring", "get", &scene.host.origin(), "oauth2"])
    }),
];

/// Signed in an hour ago, with another hour to live by the clock.
fn scene(page: bool) -> Scene {
    let options = Options { expires_in: Some(7200), ..Options::default() };
    let scene = Scene::with(Scheme::Bearer, options);
    if !page {
        scene.bind(&[&scene.host.origin()], "scheme = \"bearer\"");
    }
    scene.sign_in();
    scene.age(3600);
    scene
}

/// The token in an answer, in whatever dress.
fn live(scene: &Scene, finished: &Finished) -> bool {
    let text = finished.stdout_text();
    let words =
        text.split(|letter: char| !(letter.is_ascii_alphanumeric() || "-_.".contains(letter)));
    let words: Vec<_> = words.filter(|word| word.len() > 8).collect();
    words.iter().any(|word| scene.authority.token_is_live(word))
}

#[test]
fn no_tool_is_stuck_with_a_token_that_was_revoked() {
    for page in [true, false] {
        for (name, ask) in TOOLS {
            let scene = scene(page);
            let asked = || scene.authority.journal().snapshot().len();
            let before = asked();
            assert!(live(&scene, &ask(&scene).run()), "{name}");
            assert_eq!(asked(), before, "{name}: the first question costs nothing");
            scene.authority.expire_all_access();
            assert!(live(&scene, &ask(&scene).run()), "{name}, page: {page}");
            assert_eq!(scene.authority.asked_for("refresh_token"), 1, "{name}");
        }
    }
}

/// With its grant revoked too, a session ends as any other: a person signs in, everybody else gets
/// the command.
#[test]
fn a_grant_that_was_revoked_leads_to_the_sign_in() {
    for page in [true, false] {
        let scene = scene(page);
        let ask = TOOLS[0].1;
        ask(&scene).run().assert_success();
        scene.authority.revoke_grants();
        let missed = ask(&scene).run();
        missed.assert_status(1).assert_stderr_has("hint: valetkey login");
        assert_eq!(scene.authority.asked_for("refresh_token"), 1, "what is spent is sent once");
        let _browser = scene.browser(Person::Approves);
        assert!(live(&scene, &ask(&scene).run()));
    }
}

/// A good token is asked about once a minute by a page, and once in five by a renewal, however many
/// ask; a server that is away or slow changes nothing.
#[test]
fn many_callers_cost_one_question() {
    for page in [true, false] {
        let scene = scene(page);
        let (_, ask) = TOOLS[0];
        ask(&scene).run().assert_success();
        let asked = || scene.authority.journal().snapshot().len();
        let before = asked();
        let all: Vec<_> = (0..20).map(|_| ask(&scene).start()).collect();
        for one in all {
            assert!(live(&scene, &one.wait()), "page: {page}");
        }
        ask(&scene).run().assert_success();
        assert_eq!(asked(), before + 1, "page: {page}");
    }
    let scene = scene(true);
    scene.authority.always("/me", Step::status(503));
    scene.authority.always("/token", Step::status(503));
    for _ in 0..3 {
        assert!(live(&scene, &(TOOLS[0].1)(&scene).run()));
    }
    assert_eq!((scene.authority.asked("/me"), scene.authority.asked_for("refresh_token")), (2, 0));
}

/// What has just come is newer than what any host has refused, and git says itself what was.
#[test]
fn a_new_token_and_gits_are_not_asked_about() {
    let scene = Scene::new();
    scene.sign_in();
    let before = scene.authority.journal().snapshot().len();
    for (_, ask) in TOOLS {
        for _ in 0..3 {
            ask(&scene).run().assert_success();
        }
    }
    scene.age(600);
    for _ in 0..3 {
        scene.get().run().assert_success();
    }
    assert_eq!(scene.authority.journal().snapshot().len(), before);
}
