//! pnpm 9, 10 and 12 against a small npm registry that wants a token, set up by
//! `valetkey setup pnpm`.

use std::path::PathBuf;

use serde_json::json;

use super::same_cases::{Client, Start, bearers};
use super::{Peer, here, installed};
use crate::lab::{Answer, Options, Request, Run, Server};
use crate::scene::Home;

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
fn registry(is_live: impl Fn(&str) -> bool + Send + Sync + 'static) -> Server {
    Server::start_knowing_origin(|origin| {
        let origin = origin.to_owned();
        move |request: &Request| {
            let known = request.bearer().is_some_and(&is_live);
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
    version: u32,
    program: PathBuf,
    home: Home,
    registry: Server,
}

impl Workshop {
    fn start(version: u32, program: PathBuf) -> Self {
        let home = Home::new(Options::default());
        home.sandbox.link("valetkey");
        let registry = registry(home.judge());
        let origin = registry.origin();
        home.bind(&[&origin], "");
        let settings = format!("registry={origin}/\nfetch-retries=0\n");
        home.sandbox.write("home/.npmrc", settings.as_bytes(), 0o600);
        let setup = home.sandbox.valetkey(&["setup", "pnpm", "--host", &origin]).run();
        setup.assert_status(0);
        Self { version, program, home, registry }
    }
}

pub(super) fn clients() -> Vec<Start> {
    if !here(&[Peer::Pnpm]) {
        return Vec::new();
    }
    let start = |(version, program): (u32, PathBuf)| -> Start {
        Box::new(move || Box::new(Workshop::start(version, program.clone())))
    };
    programs().into_iter().map(start).collect()
}

impl Client for Workshop {
    fn name(&self) -> String {
        format!("pnpm {}", self.version)
    }

    fn home(&self) -> &Home {
        &self.home
    }

    fn url(&self) -> String {
        self.registry.origin()
    }

    /// Resolves the package and fetches nothing.
    fn ask(&self, number: usize) -> Run {
        let (sandbox, name) = (&self.home.sandbox, format!("place-{number}"));
        let manifest = "{\"name\":\"x\",\"dependencies\":{\"private-thing\":\"1.0.0\"}}";
        sandbox.write(&format!("work/{name}/package.json"), manifest.as_bytes(), 0o644);
        let words = ["install", "--lockfile-only"];
        let run = if self.version < 12 {
            let run = sandbox.run("node", &[]).arg(&self.program);
            words.iter().fold(run, |run, word| run.arg(word))
        } else {
            sandbox.run(&self.program, &words)
        };
        // What a cache knows needs no token.
        let cache = sandbox.root().join(format!("cache-{name}"));
        run.env("XDG_CACHE_HOME", cache).cwd(sandbox.work().join(name))
    }

    fn tokens(&self) -> Vec<String> {
        bearers(self.registry.journal())
    }

    /// A package manager asks nobody.
    fn signs_in(&self) -> bool {
        false
    }

    fn shows(&self) -> bool {
        false
    }
}
