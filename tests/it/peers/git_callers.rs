//! Every program that asks helpers as git does, by code of its own: git, a git without
//! capabilities, git-lfs, and cargo, which fetches by libgit2 and says neither `store` nor `erase`.

use std::collections::HashSet;
use std::path::Path;

use super::chains::assert_one_session;
use super::same_cases::{Client, Start};
use super::{OLD_GIT, Peer, here};
use crate::lab::{GitHost, Person, Run, Scheme};
use crate::scene::{Home, Scene};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Caller {
    Git,
    OldGit,
    Lfs,
    Cargo,
}

fn callers() -> Vec<Caller> {
    let mut all = vec![Caller::Git, Caller::Cargo];
    if here(&[Peer::OldGit]) {
        all.push(Caller::OldGit);
    }
    if here(&[Peer::GitLfs]) {
        all.push(Caller::Lfs);
    }
    all
}

impl Caller {
    /// Asks a host for something behind its door, in a directory where nobody else is.
    fn ask(self, scene: &Scene, host: &GitHost) -> Run {
        let sandbox = &scene.sandbox;
        let place = tempfile::tempdir_in(sandbox.work()).expect("a directory").keep();
        let url = host.url("team/s.git");
        match self {
            Self::Git => sandbox.git(&["ls-remote", &url, "HEAD"]),
            Self::OldGit => sandbox.run(OLD_GIT, &["ls-remote", &url, "HEAD"]),
            Self::Lfs => {
                sandbox.git(&["init", "--quiet"]).cwd(&place).run().assert_success();
                let server = format!("lfs.url={url}/info/lfs");
                sandbox.git(&["-c", &server, "lfs", "locks"]).cwd(place)
            }
            Self::Cargo => {
                let manifest = format!(
                    "[package]\nname = \"root\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
                     [dependencies]\nleaf = {{ git = \"{}\" }}\n",
                    by_name(&url)
                );
                std::fs::create_dir(place.join("src")).expect("a new directory");
                std::fs::write(place.join("src/lib.rs"), "").expect("a new file");
                std::fs::write(place.join("Cargo.toml"), manifest).expect("a new file");
                let cargo = Path::new(env!("CARGO"));
                let fetch = sandbox.run(cargo, &["fetch", "--quiet"]);
                // Not rustup's, which looks for its toolchains at home.
                let fetch = fetch.env("RUSTC", cargo.with_file_name("rustc"));
                fetch.env("CARGO_HOME", place.join("home")).cwd(place)
            }
        }
    }
}

/// libgit2 leaves the host out where the URL has an address.
fn by_name(url: &str) -> String {
    url.replace("127.0.0.1", "localhost")
}

/// A host, and a profile that knows it by either name.
fn scene() -> Scene {
    let scene = Scene::new();
    trust(&scene, &scene.host);
    scene
}

fn trust(scene: &Scene, host: &GitHost) {
    let origins = [host.origin(), by_name(&host.origin())];
    scene.bind(&[&origins[0], &origins[1]], "");
}

struct Desk {
    caller: Caller,
    scene: Scene,
}

pub(super) fn clients() -> Vec<Start> {
    let start =
        |caller: Caller| -> Start { Box::new(move || Box::new(Desk { caller, scene: scene() })) };
    callers().into_iter().map(start).collect()
}

impl Client for Desk {
    fn name(&self) -> String {
        format!("{:?}", self.caller)
    }

    fn home(&self) -> &Home {
        &self.scene
    }

    fn url(&self) -> String {
        self.scene.host.origin()
    }

    fn ask(&self, _: usize) -> Run {
        self.caller.ask(&self.scene, &self.scene.host)
    }

    fn tokens(&self) -> Vec<String> {
        self.scene.host.authorizations().into_iter().flatten().collect()
    }

    /// git2-rs keeps what a helper says to itself.
    fn shows(&self) -> bool {
        self.caller != Caller::Cargo
    }
}

/// Some hand back what they got, and no copy of it stands beside the session.
#[test]
fn what_a_caller_hands_back_is_no_news() {
    for caller in callers() {
        let scene = scene();
        scene.sign_in();
        caller.ask(&scene, &scene.host).run().assert_success();
        assert_one_session(&scene);
    }
}

/// git-lfs 3.3 asks and erases for as long as it gets an answer.
#[test]
fn a_host_that_rejects_every_token_keeps_nobody_busy() {
    for caller in callers() {
        let scene = scene();
        let host = GitHost::start(Scheme::Basic, |_| false);
        let browser = scene.browser(Person::Approves);
        trust(&scene, &host);
        scene.sandbox.valetkey(&["login", &host.origin()]).run().assert_status(0);
        for _ in 0..3 {
            let asked = caller.ask(&scene, &host).run();
            assert_ne!(asked.status, 0, "{caller:?}: {asked}");
        }
        // libgit2 never says that a token was rejected; the others have it renewed and replaced.
        let (renewals, sign_ins) = if caller == Caller::Cargo { (0, 1) } else { (1, 2) };
        assert_eq!(scene.authority.asked_for("refresh_token"), renewals, "{caller:?}");
        assert_eq!(browser.opened().len(), sign_ins, "{caller:?}");
        assert_eq!(tokens(&host).len(), renewals + sign_ins, "{caller:?}");
        assert!(host.journal().snapshot().len() < 40, "{}", host.journal());
    }
}

/// What a host was shown, each once.
fn tokens(host: &GitHost) -> HashSet<String> {
    host.authorizations().into_iter().flatten().collect()
}

/// As `setup git` writes it.
#[test]
fn cargo_finds_us_by_our_path_too() {
    let scene = scene();
    scene.sandbox.link("valetkey");
    scene.sandbox.write("home/.gitconfig", b"", 0o644);
    std::fs::remove_file(scene.sandbox.bin().join("git-credential-valetkey")).expect("a link");
    scene.sandbox.valetkey(&["setup", "git"]).run().assert_status(0);
    scene.sign_in();
    Caller::Cargo.ask(&scene, &scene.host).run().assert_success();
}
