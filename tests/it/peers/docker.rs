//! docker's client and engine, skopeo, podman, buildah and helm against a registry that takes the
//! session's token, set up by `valetkey setup docker`.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::engine::Engine;
use super::same_cases::{Client, Start};
use super::{Peer, here, installed, on_path};
use crate::lab::{CHART, CLIENT_ID, Door, Finished, IMAGE, Options, Person, Registry, Run};
use crate::planted::SESSIONS;
use crate::scene::Home;

/// Every docker client that is here: the one on PATH, and the one that was installed for us.
pub(super) fn programs() -> Vec<PathBuf> {
    let mut all = Vec::new();
    if on_path("docker") {
        all.push("docker".into());
    }
    if unpacked().is_file() {
        all.push(unpacked());
    }
    all
}

fn unpacked() -> PathBuf {
    installed().join("docker/docker")
}

/// A home, and a registry that takes the tokens of its authorization server.
struct Harbour {
    home: Home,
    registry: Registry,
}

impl Deref for Harbour {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

impl Harbour {
    fn new(door: Door) -> Self {
        let home = Home::new(Options::default());
        let is_live = home.judge();
        let registry = Registry::start(door, move |_, secret| is_live(secret));
        registry.exchange_for(1800);
        let exchange = if door == Door::Exchange { ", exchange = \"acr\"" } else { "" };
        home.sandbox.link("valetkey");
        // Whatever the machine keeps its images on: a container has what podman cannot use.
        let images = home.sandbox.root().join("images").display().to_string();
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{images}/kept\"\nrunroot = \"{images}/run\"\n"
        );
        let storage = home.sandbox.write("storage.conf", storage.as_bytes(), 0o600);
        home.sandbox.env("CONTAINERS_STORAGE_CONF", storage);
        home.sandbox.config(&format!(
            "[profile.lab]\norigins = [{{ url = \"{}\"{exchange} }}]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n",
            registry.origin(),
            home.authority.issuer(),
        ));
        let harbour = Self { home, registry };
        let host = harbour.registry.host();
        harbour.valetkey(&["setup", "docker", "--host", &host]).assert_status(0);
        harbour
    }

    fn valetkey(&self, arguments: &[&str]) -> Finished {
        self.sandbox.valetkey(arguments).run()
    }

    fn sign_in(&self) {
        self.sign_in_to(&self.registry.origin());
    }

    fn token(&self) -> String {
        self.valetkey(&["token", &self.registry.origin()]).assert_success().trim_end().to_owned()
    }

    /// Refreshes since the beginning.
    fn refreshes(&self) -> usize {
        self.authority.asked_for("refresh_token")
    }

    /// No copy of what we gave stands beside the session.
    #[track_caller]
    fn assert_one_renewable_session(&self) {
        let listed = self.valetkey(&["list", "--json"]).assert_success();
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
        assert_eq!(listed[0]["renewable"], true);
    }

    /// Asks for what the registry has, and gets it.
    #[track_caller]
    fn sees(&self, tool: &Tool) -> Finished {
        let finished = self.ask(tool).run();
        finished.assert_status(0);
        let journal = self.registry.journal().snapshot();
        let manifest = journal.iter().rfind(|entry| entry.request.path.contains("/manifests/"));
        assert_eq!(manifest.and_then(|entry| entry.status), Some(200), "{finished}");
        finished
    }

    /// As `sees`, not yet started.
    fn ask(&self, tool: &Tool) -> Run {
        let image = self.registry.image();
        let run = |program: &Path, words: &[&str]| self.sandbox.run(program, words);
        match tool {
            Tool::Docker(docker) => run(docker, &["manifest", "inspect", "--insecure", &image]),
            Tool::Engine(docker, engine) => engine.client(run(docker, &["pull", &image])),
            Tool::Containers("skopeo") => {
                let image = format!("docker://{image}");
                run(Path::new("skopeo"), &["inspect", "--tls-verify=false", &image])
            }
            Tool::Containers(name) => {
                let place = self.sandbox.root().join(name).display().to_string();
                let storage = ["--storage-driver=vfs", "--root", &place, "--runroot", &place];
                let pull = ["pull", "--quiet", "--tls-verify=false"];
                // buildah is content with an image that it has.
                let always = if *name == "buildah" { &["--policy=always"][..] } else { &[] };
                run(Path::new(name), &[&storage[..], &pull, always].concat()).arg(image)
            }
            Tool::Helm => {
                let chart = format!("oci://{}/{IMAGE}", self.registry.host());
                let words = ["pull", "--plain-http", "--version", CHART, &chart];
                run(&installed().join("kubectl/helm"), &words)
            }
        }
    }
}

/// A client of registries.
#[derive(Clone, Debug)]
enum Tool {
    /// docker's client alone.
    Docker(PathBuf),
    /// docker's client, and the daemon to which it hands what the helper answered.
    Engine(PathBuf, Rc<Engine>),
    /// One of those that share podman's configuration.
    Containers(&'static str),
    Helm,
}

/// Every client that can look at an image or a chart.
fn tools() -> Vec<Tool> {
    let mut all: Vec<_> = dockers().into_iter().map(Tool::Docker).collect();
    all.extend(with_engine().into_iter().map(|(docker, engine)| Tool::Engine(docker, engine)));
    all.extend(containers().iter().map(|name| Tool::Containers(name)));
    if here(&[Peer::Helm]) {
        all.push(Tool::Helm);
    }
    all
}

fn dockers() -> Vec<PathBuf> {
    if here(&[Peer::Docker]) { programs() } else { Vec::new() }
}

/// docker's clients, and an engine for all of them.
fn with_engine() -> Vec<(PathBuf, Rc<Engine>)> {
    if !here(&[Peer::DockerEngine]) {
        return Vec::new();
    }
    let engine = Rc::new(Engine::start());
    programs().into_iter().map(|docker| (docker, Rc::clone(&engine))).collect()
}

/// Those that share podman's configuration.
fn containers() -> &'static [&'static str] {
    if here(&[Peer::Containers]) { &["podman", "buildah", "skopeo"] } else { &[] }
}

struct Ship {
    tool: Tool,
    harbour: Harbour,
}

pub(super) fn clients() -> Vec<Start> {
    let start = |tool: Tool| -> Start {
        Box::new(move || Box::new(Ship { tool: tool.clone(), harbour: Harbour::new(Door::Realm) }))
    };
    tools().into_iter().map(start).collect()
}

impl Client for Ship {
    fn name(&self) -> String {
        format!("{:?}", self.tool)
    }

    fn home(&self) -> &Home {
        &self.harbour
    }

    fn url(&self) -> String {
        self.harbour.registry.origin()
    }

    fn ask(&self, _: usize) -> Run {
        self.harbour.ask(&self.tool)
    }

    fn tokens(&self) -> Vec<String> {
        let presented = self.harbour.registry.presented().into_iter();
        // skopeo presents an empty pair when it has none.
        presented.map(|(_, secret)| secret).filter(|secret| !secret.is_empty()).collect()
    }
}

/// Where a registry wants Basic, has a realm, and trades tokens.
#[test]
fn through_every_door_a_hit_an_expiry_and_a_dead_grant() {
    for tool in tools() {
        for door in [Door::Basic, Door::Realm, Door::Exchange] {
            let harbour = Harbour::new(door);
            harbour.sign_in();
            let first = harbour.sees(&tool);
            assert_eq!(first.stderr_text(), "");
            assert!(harbour.registry.presented().iter().all(|(username, _)| username == "oauth2"));
            // Of these the client presents what it was given by POST, and never by Basic.
            assert_eq!(harbour.registry.presented().is_empty(), door == Door::Exchange);
            assert_eq!(harbour.registry.exchanges(), usize::from(door == Door::Exchange));
            assert_eq!(harbour.refreshes(), 0);

            harbour.end_tokens();
            harbour.sees(&tool);
            assert_eq!(harbour.refreshes(), 1);

            harbour.end_tokens();
            harbour.authority.revoke_grants();
            let refused = harbour.ask(&tool).run();
            assert_ne!(refused.status, 0);
            let hint = format!("hint: valetkey login {}", harbour.registry.origin());
            refused.assert_stderr_has(&hint);
        }
    }
}

#[test]
fn docker_login_hands_back_our_token_and_logout_is_quiet() {
    for docker in dockers() {
        for door in [Door::Basic, Door::Realm] {
            let harbour = Harbour::new(door);
            harbour.sign_in();
            let host = harbour.registry.host();
            let login = ["login", "--username", "oauth2", "--password-stdin", &host];
            let login = harbour.sandbox.run(&docker, &login).stdin(harbour.token()).run();
            login.assert_status(0);
            assert!(login.stdout_text().contains("Login Succeeded"), "{login}");
            harbour.assert_one_renewable_session();

            // What is stored is renewed as ever, and docker gets what is new.
            harbour.end_tokens();
            harbour.sees(&Tool::Docker(docker.clone()));
            assert_eq!(harbour.refreshes(), 1);

            for _ in 0..2 {
                harbour.sandbox.run(&docker, &["logout", &host]).run().assert_success();
            }
            // Docker's logout is not ours: the session is renewed when it is needed again.
            harbour.sees(&Tool::Docker(docker.clone()));
            assert_eq!(harbour.refreshes(), 2);
        }
    }
}

/// Without a password docker lets its daemon try what the helper answers, and hands that back.
#[test]
fn docker_login_with_what_is_stored_leaves_the_session_as_it_was() {
    for (docker, engine) in with_engine() {
        for door in [Door::Basic, Door::Realm, Door::Exchange] {
            let harbour = Harbour::new(door);
            harbour.sign_in();
            for refreshes in 0..2 {
                let login = harbour.sandbox.run(&docker, &["login", &harbour.registry.host()]);
                let login = engine.client(login).run();
                if door == Door::Exchange {
                    // docker tries no identity token, and asks the person.
                    assert_ne!(login.status, 0, "{login}");
                } else {
                    login.assert_status(0);
                    assert!(login.stdout_text().contains("Login Succeeded"), "{login}");
                    let presented = harbour.registry.presented();
                    assert_eq!(presented.last(), Some(&("oauth2".to_owned(), harbour.token())));
                }
                harbour.assert_one_renewable_session();
                assert_eq!(harbour.refreshes(), refreshes);
                harbour.end_tokens();
            }
        }
    }
}

/// The older builder asks for credentials of every host before it does anything, the newer one for
/// one alone, when it has been refused.
#[test]
fn the_engine_builds_on_an_image_and_pushes_it_with_tokens_that_were_renewed() {
    for (docker, engine) in with_engine() {
        for door in [Door::Basic, Door::Realm, Door::Exchange] {
            let harbour = Harbour::new(door);
            harbour.sign_in();
            let dockerfile = format!("FROM {}\nLABEL built=here\n", harbour.registry.image());
            harbour.sandbox.write("work/Dockerfile", dockerfile.as_bytes(), 0o644);
            let run = |words: &[&str]| engine.client(harbour.sandbox.run(&docker, words));
            harbour.end_tokens();
            // The client on PATH may want a plug-in for the newer of the two builders.
            let newer = if docker == unpacked() { "1" } else { "0" };
            run(&["build", "--quiet", "."]).env("DOCKER_BUILDKIT", newer).run().assert_status(0);
            assert_eq!(harbour.refreshes(), 1);
            run(&["pull", &harbour.registry.image()]).run().assert_status(0);
            harbour.end_tokens();
            run(&["push", &harbour.registry.image()]).run().assert_status(0);
            assert_eq!(harbour.refreshes(), 2);
            let pushed = harbour.registry.journal().snapshot();
            let pushed = pushed.iter().rfind(|entry| entry.request.method == "PUT");
            assert_eq!(pushed.and_then(|entry| entry.status), Some(201));
        }
    }
}

/// A password that somebody types into `docker login` is kept, answered and forgotten.
#[test]
fn docker_login_and_logout_with_a_password_of_ones_own() {
    for docker in dockers() {
        let harbour = Harbour::new(Door::Realm);
        let host = harbour.registry.host();
        harbour.sandbox.config("");
        let pat = harbour.authority.grant("alice").access;
        let login = ["login", "--username", "me", "--password-stdin", &host];
        harbour.sandbox.run(&docker, &login).stdin(&*pat).run().assert_status(0);
        harbour.sees(&Tool::Docker(docker.clone()));
        assert_eq!(harbour.registry.presented().last(), Some(&("me".to_owned(), pat.clone())));
        harbour.sandbox.run(&docker, &["logout", &host]).run().assert_success();
        assert!(harbour.sandbox.files_with(pat.as_bytes()).is_empty());
        harbour.sandbox.run(&docker, &["logout", &host]).run().assert_success();
        let refused = harbour.ask(&Tool::Docker(docker)).run();
        assert_ne!(refused.status, 0);
    }
}

/// docker asks for its own token of the Hub when somebody signs out there.
#[test]
fn docker_logout_of_the_hub_opens_no_browser() {
    for docker in dockers() {
        let harbour = Harbour::new(Door::Basic);
        harbour.sandbox.config(&format!(
            "[profile.hub]\norigins = [\"https://index.docker.io\"]\nissuer = \"{}\"\n\
             client_id = \"{CLIENT_ID}\"\n",
            harbour.authority.issuer()
        ));
        harbour.valetkey(&["setup", "docker", "--host", "docker.io"]).assert_status(0);
        let browser = harbour.browser(Person::Approves);
        harbour.sandbox.run(&docker, &["logout"]).run().assert_success();
        assert_eq!(browser.opened().len(), 0);
    }
}

/// They hand a sign-in to the helper that their own file names, and to no other.
#[test]
fn podman_and_buildah_know_who_is_signed_in_and_sign_out() {
    for tool in containers() {
        let harbour = Harbour::new(Door::Realm);
        let host = harbour.registry.host();
        let run = |words: &[&str]| harbour.sandbox.run(tool, words);
        let miss = run(&["login", "--get-login", &host]).run();
        assert_ne!(miss.status, 0);
        assert!(miss.stderr_text().contains("not logged in"), "{miss}");
        harbour.sign_in();
        run(&["login", "--get-login", &host]).run().assert(0, "oauth2\n", "");

        let file = harbour.sandbox.home().join(".docker/config.json");
        harbour.sandbox.env("REGISTRY_AUTH_FILE", &file);
        let helpers = || {
            let text = std::fs::read(&file).expect("a configuration");
            let config: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
            config["credHelpers"].clone()
        };
        let (token, named) = (harbour.token(), helpers());
        let words = ["login", "--tls-verify=false", "-u", "oauth2", "--password-stdin", &host];
        let login = run(&words).stdin(&*token).run();
        login.assert_status(0);
        assert!(login.stdout_text().contains("Login Succeeded!"), "{login}");
        harbour.assert_one_renewable_session();
        assert_eq!(harbour.token(), token);
        run(&["logout", &host]).run().assert_status(0);
        run(&["login", "--get-login", &host]).run().assert(0, "oauth2\n", "");
        assert_eq!((harbour.refreshes(), helpers()), (1, named));
        assert!(harbour.sandbox.files_with(token.as_bytes()).is_empty());
    }
}

/// What somebody signs in with by `podman login` stands in no file of podman's.
#[test]
fn after_setup_podman_we_keep_what_is_typed_into_a_login() {
    for name in containers() {
        let tool = Tool::Containers(name);
        let harbour = Harbour::new(Door::Realm);
        harbour.valetkey(&["setup", "docker", "--undo"]).assert_status(0);
        harbour.valetkey(&["setup", "podman"]).assert_status(0);
        let host = harbour.registry.host();
        let run = |words: &[&str]| harbour.sandbox.run(name, words);
        let login = |username: &str, secret: &str| {
            let words = ["login", "--tls-verify=false", "-u", username, "--password-stdin", &host];
            run(&words).stdin(secret).run().assert_status(0);
            run(&["login", "--get-login", &host]).run().assert(0, &format!("{username}\n"), "");
        };
        harbour.sign_in();
        login("oauth2", &harbour.token());
        harbour.assert_one_renewable_session();
        harbour.end_tokens();
        harbour.sees(&tool);
        assert_eq!(harbour.refreshes(), 1);

        harbour.sandbox.config("");
        let pat = harbour.authority.grant("alice").access;
        login("me", &pat);
        harbour.sees(&tool);
        assert_eq!(harbour.registry.presented().last(), Some(&("me".to_owned(), pat.clone())));
        let kept = harbour.sandbox.files_with(pat.as_bytes());
        assert!(kept.iter().all(|file| file.starts_with(SESSIONS)) && kept.len() == 1, "{kept:?}");
        run(&["logout", &host]).run().assert_status(0);
        assert!(harbour.sandbox.files_with(pat.as_bytes()).is_empty());
        assert_ne!(harbour.ask(&tool).run().status, 0);
    }
}

/// skopeo 1.9.3 overflows its stack when an erase of nothing fails.
#[test]
fn a_logout_of_nothing_ends_well() {
    for tool in containers() {
        let harbour = Harbour::new(Door::Basic);
        let file = harbour.sandbox.home().join(".docker/config.json");
        harbour.sandbox.env("REGISTRY_AUTH_FILE", file);
        let logout = harbour.sandbox.run(tool, &["logout", &harbour.registry.host()]);
        let said = logout.run().stderr_text();
        assert!(!said.contains("goroutine") && !said.contains("error logging out"), "{said}");
    }
}

/// Whoever waits for a line does not wait for a person.
#[test]
fn curl_takes_a_header_on_its_input() {
    let harbour = Harbour::new(Door::Basic);
    let browser = harbour.browser(Person::Approves);
    let start = |origin: &str| {
        let url = format!("{origin}/v2/");
        let line = format!("valetkey header {url} | curl --silent --fail -H @- {url}");
        harbour.sandbox.run("sh", &["-c", &line]).start()
    };
    let ours = harbour.registry.origin();
    let hint = format!("hint: valetkey login {ours}\n");
    start(&ours).wait().assert_status(22).assert_stderr_has(&hint);
    assert_eq!(browser.opened().len(), 0);

    harbour.sign_in();
    start(&ours).wait().assert(0, "{}", "");
    harbour.end_tokens();
    let all: Vec<_> = (0..20).map(|_| start(&ours)).collect();
    for started in all {
        started.wait().assert(0, "{}", "");
    }
    assert_eq!(harbour.refreshes(), 1);

    let stranger = Registry::start(Door::Basic, |_, _| true);
    start(&stranger.origin()).wait().assert_status(22);
    assert_eq!(stranger.presented(), []);
}
