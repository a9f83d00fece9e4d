//! git-lfs 3.3 erases and asks again for as long as it gets an answer.

use std::time::Instant;

use super::{Peer, here};
use crate::lab::{Answer, Person, Request, Server};
use crate::scene::Scene;

/// A host that takes no token whatever, with a profile and a session.
#[test]
fn a_host_that_rejects_every_token_cannot_keep_git_lfs_busy() {
    if !here(&[Peer::GitLfs]) {
        return;
    }
    for person in [false, true] {
        let scene = Scene::new();
        let host = Server::start(|_: &Request| {
            let body = r#"{"message":"no"}"#;
            Answer::text(401, body)
                .with_header("WWW-Authenticate", "Basic realm=\"never\"")
                .with_header("Content-Type", "application/vnd.git-lfs+json")
                .into()
        });
        scene.sandbox.config(&format!(
            "[profile.lab]\norigins = [\"{}\"]\nissuer = \"{}\"\nclient_id = \"lab-client\"\n",
            host.origin(),
            scene.authority.issuer(),
        ));
        let browser = scene.browser(Person::Approves);
        scene.sandbox.valetkey(&["login", &host.origin()]).run().assert_status(0);
        if !person {
            scene.nobody();
        }
        scene.sandbox.git(&["init", "--quiet", "s"]).run().assert_success();
        let remote = format!("{}/team/s.git", host.origin());
        scene.git_in("s", &["remote", "add", "origin", &remote]).run().assert_success();

        let started = Instant::now();
        let finished = scene.git_in("s", &["lfs", "locks"]).run();
        assert!(started.elapsed().as_secs() < 20, "it took {:?}", started.elapsed());
        assert_ne!(finished.status, 0, "{finished}");
        // Each token once, and now and then a request without any.
        let tokens: Vec<String> = host
            .journal()
            .snapshot()
            .iter()
            .filter_map(|entry| entry.request.header("Authorization").map(str::to_owned))
            .collect();
        let different: std::collections::HashSet<_> = tokens.iter().collect();
        let signed_in = if person { 2 } else { 1 };
        assert_eq!(browser.opened().len(), signed_in, "{finished}");
        assert_eq!(scene.authority.asked_for("refresh_token"), 1);
        assert_eq!(different.len(), 1 + signed_in, "{tokens:?}");
        assert!(host.journal().snapshot().len() < 20, "{}", host.journal());
        let again = scene.git_in("s", &["lfs", "locks"]).run();
        assert_ne!(again.status, 0);
        assert_eq!(browser.opened().len(), signed_in, "nobody is asked again: {again}");
        assert!(host.journal().snapshot().len() < 30, "{}", host.journal());
    }
}
