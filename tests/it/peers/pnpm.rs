//! pnpm 9, 10 and 12 against a small npm registry that wants a token, set up by
//! `valetkey setup pnpm`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::{Peer, here, installed};
use crate::lab::{Answer, Authority, Finished, Person, Request, Server};
use crate::scene::Scene;

/// Version and program: a script for node, or since version 12 a program.
pub(super) fn programs() -> Vec<(u32, PathBuf)> {
    let place = installed().join("pnpm/node_modules");
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "x64",
    };
    vec![
        (9, place.join("pnpm-9/bin/pnpm.cjs")),
        (10, place.join("pnpm-10/bin/pnpm.cjs")),
        (12, place.join(format!("@pnpm/exe.linux-{architecture}/pnpm"))),
    ]
}

/// One package, for those who bring a live token as Bearer.
fn registry(authority: &Arc<Authority>) -> Server {
    let judge = Arc::clone(authority);
    Server::start_knowing_origin(|origin| {
        let origin = origin.to_owned();
        move |request: &Request| {
            let known = request.bearer().is_some_and(|token| judge.token_is_live(token));
            match (known, request.path.as_str()) {
                (false, _) => Answer::json(401, &json!({"error": "a token is wanted"})),
                (true, "/private-thing") => Answer::json(
                    200,
                    &json!({
                        "name": "private-thing",
                        "dist-tags": {"latest": "1.0.0"},
                        "time": {"1.0.0": "2020-01-01T00:00:00.000Z", "modified": "2020-01-01T00:00:00.000Z"},
                        "versions": {"1.0.0": {
                            "name": "private-thing", "version": "1.0.0",
                            "dist": {
                                "tarball": format!("{origin}/private-thing/-/private-thing-1.0.0.tgz"),
                                "integrity": "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
                            },
                        }},
                    }),
                ),
                (true, _) => Answer::json(404, &json!({"error": "not found"})),
            }
            .into()
        }
    })
}

struct Workshop {
    scene: Scene,
    registry: Server,
}

impl Workshop {
    fn new() -> Self {
        let scene = Scene::new();
        scene.sandbox.link("valetkey");
        let registry = registry(&scene.authority);
        scene.sandbox.config(&format!(
            "[profile.lab]\norigins = [\"{}\"]\nissuer = \"{}\"\nclient_id = \"lab-client\"\n",
            registry.origin(),
            scene.authority.issuer(),
        ));
        let origin = registry.origin();
        let settings = format!("registry={origin}/\nfetch-retries=0\n");
        scene.sandbox.write("home/.npmrc", settings.as_bytes(), 0o600);
        let setup = scene.sandbox.valetkey(&["setup", "pnpm", "--host", &origin]).run();
        setup.assert_status(0);
        Self { scene, registry }
    }

    /// Resolves the package and fetches nothing.
    fn resolve(&self, version: u32, program: &Path, name: &str) -> Finished {
        let sandbox = &self.scene.sandbox;
        let manifest = "{\"name\":\"x\",\"dependencies\":{\"private-thing\":\"1.0.0\"}}";
        sandbox.write(&format!("work/{name}/package.json"), manifest.as_bytes(), 0o644);
        let mut words = vec!["install", "--lockfile-only"];
        let script = program.to_str().expect("a plain path");
        let run = if version < 12 {
            words.insert(0, script);
            sandbox.run("node", &words)
        } else {
            sandbox.run(script, &words)
        };
        // What a cache knows needs no token.
        let cache = sandbox.root().join(format!("cache-{name}"));
        run.env("XDG_CACHE_HOME", cache).cwd(sandbox.work().join(name)).run()
    }

    fn bearers(&self) -> Vec<Option<String>> {
        let entries = self.registry.journal().snapshot();
        entries.iter().map(|entry| entry.request.bearer().map(str::to_owned)).collect()
    }
}

#[test]
fn every_pnpm_sends_the_token_and_gets_a_new_one_when_it_has_expired() {
    if !here(&[Peer::Pnpm]) {
        return;
    }
    for (version, program) in programs() {
        let workshop = Workshop::new();
        let scene = &workshop.scene;
        scene.authority.tune(|options| options.expires_in = Some(30));
        let browser = scene.browser(Person::Approves);
        // Nobody is asked by a package manager.
        let miss = workshop.resolve(version, &program, "miss");
        assert_ne!(miss.status, 0, "pnpm {version}: {miss}");
        assert_eq!(browser.opened().len(), 0);

        scene.sandbox.valetkey(&["login", &workshop.registry.origin()]).run().assert_status(0);
        scene.authority.expire_all_access();
        scene.authority.tune(|options| options.expires_in = Some(3600));
        let hit = workshop.resolve(version, &program, "hit");
        assert_eq!(hit.status, 0, "pnpm {version}: {hit}");
        assert_eq!(scene.authority.asked_for("refresh_token"), 1, "pnpm {version}");
        let lock = scene.sandbox.work().join("hit/pnpm-lock.yaml");
        assert!(std::fs::read_to_string(lock).expect("a lock").contains("private-thing@1.0.0"));
        let token = workshop.bearers().pop().flatten().expect("a token");
        assert!(scene.authority.token_is_live(&token));
    }
}
