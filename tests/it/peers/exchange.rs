//! Token exchange (RFC 8693) at an OpenID-certified server: a job clones without a stored secret.

use super::provider::Scene;
use super::{Peer, here};
use crate::scene::value;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// A job of GitHub Actions whose platform the provider trusts.
fn job(more: &str) -> Scene {
    let scene = Scene::new(&[]);
    scene.sandbox.config(&format!(
        "[profile.real]\norigins = [\"{}\"]\nissuer = \"{}\"\nclient_id = \"valetkey-test\"\n\
         flow = \"workload\"\n{more}\n",
        scene.host.origin(),
        scene.provider.issuer,
    ));
    scene
        .sandbox
        .env("CI", "true")
        .env("GITHUB_ACTIONS", "true")
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runner")
        .env(
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            format!("{}/lab/identity?sub=job-of-s", scene.provider.issuer),
        );
    scene
}

/// S58: the server checks signature, audience, expiry and that each token comes once; a clone and
/// a fetch are an exchange each, and nothing is left behind.
#[test]
fn a_job_clones_by_token_exchange_and_leaves_nothing_behind() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let scene = job("");
    scene.git_clone("first").run().assert_status(0).assert_stdout("");
    scene.fetch("first").run().assert_status(0);
    let exchanges = scene.provider.asked_for(GRANT);
    assert!(exchanges.len() >= 2, "{exchanges:?}");
    for exchange in &exchanges {
        assert_eq!(exchange["status"], 200, "{exchange}");
        assert_eq!(exchange["form"]["client_id"], "valetkey-test");
    }
    assert!(!scene.sandbox.root().join("data/valetkey").exists());
}

/// With `persist` 20 callers make one exchange; what the host rejects is revoked at the server and
/// replaced by another.
#[test]
fn what_a_job_may_keep_is_shared_revoked_and_replaced() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let scene = job("persist = \"all\"");
    let started: Vec<_> = (0..20).map(|_| scene.get().start()).collect();
    let mut tokens: Vec<_> = started
        .into_iter()
        .map(|started| value(&started.wait(), "password").expect("a token"))
        .collect();
    tokens.dedup();
    assert_eq!((tokens.len(), scene.provider.asked_for(GRANT).len()), (1, 1));
    assert!(scene.provider.is_live(&tokens[0]));
    let text = format!("{}password={}\n", scene.question(), tokens[0]);
    scene.sandbox.valetkey(&["erase"]).stdin(text).run().assert_status(0);
    assert!(!scene.provider.is_live(&tokens[0]));
    let next = value(&scene.get().run(), "password").expect("a token");
    assert!(next != tokens[0] && scene.provider.is_live(&next));
}

/// The server's own no, with the claims of the token.
#[test]
fn a_token_for_another_issuer_is_rejected_with_its_claims() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let scene = job("[profile.real.workload]\naudience = \"https://other.example\"");
    let refused = scene.get().run();
    refused.assert_status(4).assert_stdout("").assert_stderr_has(
        "rejected the identity token of github-actions: invalid_grant (it is for somebody else)\n\
         hint: compare the trust policy there with what the identity token says: \
         iss=https://platform.example sub=job-of-s aud=https://other.example exp=",
    );
}
