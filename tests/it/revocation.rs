//! Signing out (RFC 7009): the server is told if it can be, and the tokens are forgotten in any case.

use serde_json::json;

use crate::lab::{CLIENT_ID, Finished, Server, Step};
use crate::scene::Scene;

/// Signed in, with the two tokens that the server issued.
fn signed_in() -> (Scene, Vec<String>) {
    let scene = Scene::new();
    scene.sign_in();
    let stored = scene.authority.secrets().into_iter();
    let stored = stored.filter(|secret| !scene.sandbox.files_with(secret.as_bytes()).is_empty());
    let tokens: Vec<_> = stored.collect();
    assert_eq!(tokens.len(), 2, "access and refresh token");
    (scene, tokens)
}

fn logout(scene: &Scene, more: &[&str]) -> Finished {
    scene.sandbox.valetkey(&[&["logout", &scene.host.origin()], more].concat()).run()
}

/// S19, S42, S96, S155: nothing of the session is left on disk.
#[track_caller]
fn assert_forgotten(scene: &Scene, tokens: &[String]) {
    for token in tokens {
        assert_eq!(scene.sandbox.files_with(token.as_bytes()).len(), 0, "{token} is still there");
    }
    scene.get().run().assert_status(2).assert_stdout("");
}

/// The hints of the tokens that were to be revoked, in order.
fn hints(scene: &Scene) -> Vec<String> {
    let all = scene.authority.journal().at_path("/revoke");
    all.iter().filter_map(|entry| entry.request.field("token_type_hint")).collect()
}

/// 1.7, check 16, S98, S156: the refresh token first; a second time is no error; what the user
/// configured stays.
#[test]
fn check_16_the_refresh_token_first_and_twice_is_no_error() {
    let (scene, tokens) = signed_in();
    let finished = logout(&scene, &[]);
    finished.assert_status(0).assert_stdout("").assert_stderr_has("the tokens are revoked");
    assert_eq!(hints(&scene), ["refresh_token", "access_token"]);
    for entry in scene.authority.journal().at_path("/revoke") {
        let mut names: Vec<_> = entry.request.form().into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["client_id", "token", "token_type_hint"]);
        assert_eq!(entry.request.field("client_id").as_deref(), Some(CLIENT_ID));
        assert!(tokens.contains(&entry.request.field("token").expect("a token")));
    }
    assert_eq!(scene.authority.live_grants(), 0);
    assert_forgotten(&scene, &tokens);
    logout(&scene, &[]).assert_status(0).assert_stderr_has("you are signed out");
    assert_eq!(hints(&scene).len(), 2);
    assert!(scene.sandbox.root().join("config/valetkey/config.toml").exists());
}

/// S102, S122, check 16: `--local` goes nowhere, and says what that means.
#[test]
fn s122_local_tells_nobody() {
    let (scene, tokens) = signed_in();
    let before = scene.authority.journal().snapshot().len();
    let finished = logout(&scene, &["--local"]);
    finished.assert_status(0).assert_stderr_has("live until they expire");
    assert_eq!(scene.authority.journal().snapshot().len(), before);
    assert_eq!(scene.authority.live_grants(), 1);
    assert_forgotten(&scene, &tokens);
}

/// 1.7: 200 whatever the body; "unsupported_token_type" is no failure; after 503, 4xx or no answer
/// the tokens may live, which the exit status says; both are tried; and here they are gone.
#[test]
fn check_16_whatever_the_server_says_the_tokens_are_gone_here() {
    let unsupported = || Step::json(400, &json!({ "error": "unsupported_token_type" }));
    for (steps, status) in [
        (vec![Step::json(200, &json!({ "error": "who knows" })), Step::status(204)], 0),
        (vec![unsupported(), Step::Default], 0),
        (vec![Step::Default, unsupported()], 0),
        (vec![Step::status(503), Step::Default], 5),
        (vec![Step::Default, Step::status(503)], 5),
        (vec![Step::Close, Step::Default], 5),
        (vec![Step::status(403), Step::Default], 4),
        (vec![Step::Endless, Step::Close], 5),
    ] {
        let (scene, tokens) = signed_in();
        scene.authority.next("/revoke", steps);
        let finished = logout(&scene, &[]);
        finished.assert_status(status);
        if status != 0 {
            finished.assert_stderr_has("here only").assert_stderr_has("may live on there");
        }
        assert_eq!(hints(&scene), ["refresh_token", "access_token"]);
        assert_forgotten(&scene, &tokens);
    }
}

/// 1.7: a server without the endpoint is told nothing, and the person is told so.
#[test]
fn a_server_without_the_endpoint_is_no_failure() {
    let (scene, tokens) = signed_in();
    scene.authority.metadata(|document| {
        document.remove("revocation_endpoint");
    });
    forget_the_server(&scene);
    logout(&scene, &[]).assert_status(0).assert_stderr_has("live until they expire");
    assert_eq!(hints(&scene).len(), 0);
    assert_forgotten(&scene, &tokens);
}

/// Attack 22: a redirect of the revocation leads nowhere.
#[test]
fn attack_22_a_revocation_follows_no_redirect() {
    let (scene, tokens) = signed_in();
    let trap = Server::start(|_| crate::lab::Answer::empty(200).into());
    scene.authority.always("/revoke", Step::Redirect(trap.origin()));
    logout(&scene, &[]).assert_status(4);
    assert_eq!(trap.journal().snapshot().len(), 0);
    assert_forgotten(&scene, &tokens);
}

/// 1.7: not even the endpoint can be learned.
#[test]
fn a_server_that_is_away_cannot_keep_anybody_signed_in() {
    let (scene, tokens) = signed_in();
    forget_the_server(&scene);
    for place in ["oauth-authorization-server", "openid-configuration"] {
        scene.authority.always(&format!("/.well-known/{place}"), Step::Close);
    }
    logout(&scene, &[]).assert_status(5).assert_stderr_has("here only");
    assert_forgotten(&scene, &tokens);
}

/// What was kept of the server's description.
fn forget_the_server(scene: &Scene) {
    for kept in scene.sandbox.files_with(b"revocation_endpoint") {
        std::fs::remove_file(scene.sandbox.root().join(kept)).expect("it is ours");
    }
}
