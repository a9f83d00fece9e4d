//! docker's client and engine, skopeo, podman, buildah and helm against a registry that takes the
//! session's token, set up by `valetkey setup docker`.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::engine::Engine;
use super::{Peer, here, installed, on_path};
use crate::lab::{
    Authority, Browser, CHART, CLIENT_ID, Door, Finished, IMAGE, Person, Registry, Run, Sandbox,
};
use crate::planted::SESSIONS;
use crate::scene::program;

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

/// A home, an authorization server, and a registry that takes its tokens.
struct Harbour {
    authority: Arc<Authority>,
    registry: Registry,
    sandbox: Sandbox,
}

impl Harbour {
    fn new(door: Door) -> Self {
        let authority = Arc::new(Authority::start());
        let judge = Arc::clone(&authority);
        let registry = Registry::start(door, move |_, secret| judge.token_is_live(secret));
        let exchange = if door == Door::Exchange { ", exchange = \"acr\"" } else { "" };
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_STORE", "file");
        sandbox.link("valetkey");
        // Nothing of the machine's own may decide.
        sandbox.remove_env("DOCKER_CONFIG").remove_env("REGISTRY_AUTH_FILE");
        sandbox.config(&format!(
            "[profile.lab]\norigins = [{{ url = \"{}\"{exchange} }}]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n",
            registry.origin(),
            authority.issuer(),
        ));
        let harbour = Self { authority, registry, sandbox };
        let host = harbour.registry.host();
        harbour.valetkey(&["setup", "docker", "--host", &host]).assert_status(0);
        harbour
    }

    fn valetkey(&self, arguments: &[&str]) -> Finished {
        self.sandbox.valetkey(arguments).run()
    }

    fn browser(&self, person: Person) -> Browser {
        self.sandbox.env("VALETKEY_INTERACTIVE", "always");
        Browser::start(&self.sandbox, person)
    }

    fn nobody(&self) {
        self.sandbox.env("VALETKEY_INTERACTIVE", "never");
    }

    fn sign_in(&self) {
        let _browser = self.browser(Person::Approves);
        self.valetkey(&["login", &self.registry.origin()]).assert_status(0);
        self.nobody();
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

    /// Signed in for an hour, of which nothing is left.
    fn let_expire(&self) {
        let mut files = self.sandbox.files();
        files.retain(|file| file.path.starts_with(SESSIONS));
        let [file] = files.as_slice() else { panic!("one session: {files:?}") };
        let mut record: serde_json::Value = serde_json::from_slice(&file.content).expect("JSON");
        for time in ["expires_at", "stored_at", "renewed_at"] {
            record[time] = (record[time].as_u64().expect("a time") - 4000).into();
        }
        if let Some(exchanged) = record.get_mut("exchanged") {
            exchanged[0]["expires_at"] = 1.into();
        }
        let path = file.path.to_str().expect("a plain path");
        self.sandbox.write(path, record.to_string().as_bytes(), 0o600);
        self.authority.expire_all_access();
    }

    /// Asks for what the registry has, and gets it.
    #[track_caller]
    fn sees(&self, client: &Client) -> Finished {
        let finished = self.ask(client).run();
        finished.assert_status(0);
        let journal = self.registry.journal().snapshot();
        let manifest = journal.iter().rfind(|entry| entry.request.path.contains("/manifests/"));
        assert_eq!(manifest.and_then(|entry| entry.status), Some(200), "{finished}");
        finished
    }

    /// As `sees`, not yet started.
    fn ask(&self, client: &Client) -> Run {
        let image = self.registry.image();
        let run = |program: &Path, words: &[&str]| self.sandbox.run(program, words);
        match client {
            Client::Docker(docker) => run(docker, &["manifest", "inspect", "--insecure", &image]),
            Client::Engine(docker, engine) => engine.client(run(docker, &["pull", &image])),
            Client::Containers("skopeo") => {
                let image = format!("docker://{image}");
                run(Path::new("skopeo"), &["inspect", "--tls-verify=false", &image])
            }
            Client::Containers(tool) => {
                let place = self.sandbox.root().join(tool).display().to_string();
                let storage = ["--storage-driver=vfs", "--root", &place, "--runroot", &place];
                let pull = ["pull", "--quiet", "--tls-verify=false"];
                // buildah is content with an image that it has.
                let always = if *tool == "buildah" { &["--policy=always"][..] } else { &[] };
                run(Path::new(tool), &[&storage[..], &pull, always].concat()).arg(image)
            }
            Client::Helm => {
                let chart = format!("oci://{}/{IMAGE}", self.registry.host());
                let words = ["pull", "--plain-http", "--version", CHART, &chart];
                run(&installed().join("kubectl/helm"), &words)
            }
        }
    }
}

/// A client of registries.
enum Client {
    /// docker's client alone.
    Docker(PathBuf),
    /// docker's client, and the daemon to which it hands what the helper answered.
    Engine(PathBuf, Rc<Engine>),
    /// One of those that share podman's configuration.
    Containers(&'static str),
    Helm,
}

const CONTAINERS: [&str; 3] = ["podman", "buildah", "skopeo"];

/// Every client that can look at an image or a chart.
fn clients() -> Vec<Client> {
    let mut all = Vec::new();
    if here(&[Peer::Docker]) {
        all.extend(programs().into_iter().map(Client::Docker));
    }
    if here(&[Peer::DockerEngine]) {
        let engine = Rc::new(Engine::start());
        let with_engine = |program| Client::Engine(program, Rc::clone(&engine));
        all.extend(programs().into_iter().map(with_engine));
    }
    if here(&[Peer::Containers]) {
        all.extend(CONTAINERS.map(Client::Containers));
    }
    if here(&[Peer::Helm]) {
        all.push(Client::Helm);
    }
    all
}

#[test]
fn a_hit_an_expiry_and_a_dead_grant() {
    for client in clients() {
        for door in [Door::Basic, Door::Realm, Door::Exchange] {
            let harbour = Harbour::new(door);
            harbour.sign_in();
            let first = harbour.sees(&client);
            assert_eq!(first.stderr_text(), "");
            assert!(harbour.registry.presented().iter().all(|(username, _)| username == "oauth2"));
            // Of these the client presents what it was given by POST, and never by Basic.
            assert_eq!(harbour.registry.presented().is_empty(), door == Door::Exchange);
            assert_eq!(harbour.registry.exchanges(), usize::from(door == Door::Exchange));
            assert_eq!(harbour.refreshes(), 0);

            harbour.let_expire();
            harbour.sees(&client);
            assert_eq!(harbour.refreshes(), 1);

            harbour.let_expire();
            harbour.authority.revoke_grants();
            let refused = harbour.ask(&client).run();
            assert_ne!(refused.status, 0);
            let hint = format!("hint: valetkey login {}", harbour.registry.origin());
            refused.assert_stderr_has(&hint);
        }
    }
}

#[test]
fn a_miss_signs_in_once_where_a_person_is_and_never_in_a_job() {
    for client in clients() {
        let harbour = Harbour::new(Door::Realm);
        let browser = harbour.browser(Person::Approves);
        harbour.sandbox.remove_env("VALETKEY_INTERACTIVE");
        let job = harbour.ask(&client).env("CI", "true").env("DISPLAY", ":0").run();
        assert_ne!(job.status, 0);
        let never = harbour.ask(&client).env("VALETKEY_INTERACTIVE", "never").run();
        assert_ne!(never.status, 0);
        assert_eq!(browser.opened().len(), 0);
        harbour.sandbox.env("VALETKEY_INTERACTIVE", "always");
        harbour.sees(&client);
        harbour.sees(&client);
        assert_eq!(browser.opened().len(), 1);
    }
}

/// Hostile hosts: one that nobody trusted, beside ours, and ours when it refuses every token.
#[test]
fn a_stranger_gets_nothing_and_a_host_that_refuses_us_ends_nothing() {
    for client in clients() {
        let mut harbour = Harbour::new(Door::Realm);
        harbour.sign_in();
        // skopeo presents an empty pair when it has none.
        let stranger = Registry::start(Door::Basic, |_, secret| !secret.is_empty());
        harbour.valetkey(&["setup", "docker", "--host", &stranger.host()]).assert_status(0);
        let browser = harbour.browser(Person::Approves);
        let ours = std::mem::replace(&mut harbour.registry, stranger);
        assert_ne!(harbour.ask(&client).run().status, 0);
        let presented = harbour.registry.presented();
        assert!(presented.iter().all(|(_, secret)| secret.is_empty()), "{presented:?}");

        harbour.registry = ours;
        harbour.authority.expire_all_access();
        for _ in 0..2 {
            assert_ne!(harbour.ask(&client).run().status, 0);
        }
        assert_eq!((browser.opened().len(), harbour.refreshes()), (0, 0));
        harbour.assert_one_renewable_session();
        harbour.let_expire();
        harbour.sees(&client);
    }
}

#[test]
fn twenty_clients_at_once_cause_one_renewal() {
    for client in clients() {
        let harbour = Harbour::new(Door::Basic);
        harbour.sign_in();
        harbour.let_expire();
        let all: Vec<_> = (0..20).map(|_| harbour.ask(&client).start()).collect();
        for started in all {
            started.wait().assert_status(0);
        }
        assert_eq!(harbour.refreshes(), 1);
    }
}

#[test]
fn docker_login_hands_back_our_token_and_logout_is_quiet() {
    if !here(&[Peer::Docker]) {
        return;
    }
    for docker in programs() {
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
            harbour.let_expire();
            harbour.sees(&Client::Docker(docker.clone()));
            assert_eq!(harbour.refreshes(), 1);

            for _ in 0..2 {
                harbour.sandbox.run(&docker, &["logout", &host]).run().assert_success();
            }
            // Docker's logout is not ours: the session is renewed when it is needed again.
            harbour.sees(&Client::Docker(docker.clone()));
            assert_eq!(harbour.refreshes(), 2);
        }
    }
}

/// Without a password docker lets its daemon try what the helper answers, and hands that back.
#[test]
fn docker_login_with_what_is_stored_leaves_the_session_as_it_was() {
    if !here(&[Peer::DockerEngine]) {
        return;
    }
    let engine = Engine::start();
    for docker in programs() {
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
                harbour.let_expire();
            }
        }
    }
}

/// The older builder asks for credentials of every host before it does anything, the newer one for
/// one alone, when it has been refused.
#[test]
fn the_engine_builds_on_an_image_and_pushes_it_with_tokens_that_were_renewed() {
    if !here(&[Peer::DockerEngine]) {
        return;
    }
    let engine = Engine::start();
    for docker in programs() {
        for door in [Door::Basic, Door::Realm, Door::Exchange] {
            let harbour = Harbour::new(door);
            harbour.sign_in();
            let dockerfile = format!("FROM {}\nLABEL built=here\n", harbour.registry.image());
            harbour.sandbox.write("work/Dockerfile", dockerfile.as_bytes(), 0o644);
            let run = |words: &[&str]| engine.client(harbour.sandbox.run(&docker, words));
            harbour.let_expire();
            // The client on PATH may want a plug-in for the newer of the two builders.
            let newer = if docker == unpacked() { "1" } else { "0" };
            run(&["build", "--quiet", "."]).env("DOCKER_BUILDKIT", newer).run().assert_status(0);
            assert_eq!(harbour.refreshes(), 1);
            run(&["pull", &harbour.registry.image()]).run().assert_status(0);
            harbour.let_expire();
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
    if !here(&[Peer::Docker]) {
        return;
    }
    for docker in programs() {
        let harbour = Harbour::new(Door::Realm);
        let host = harbour.registry.host();
        harbour.sandbox.config("");
        let pat = harbour.authority.grant("alice").access;
        let login = ["login", "--username", "me", "--password-stdin", &host];
        harbour.sandbox.run(&docker, &login).stdin(&*pat).run().assert_status(0);
        harbour.sees(&Client::Docker(docker.clone()));
        assert_eq!(harbour.registry.presented().last(), Some(&("me".to_owned(), pat.clone())));
        harbour.sandbox.run(&docker, &["logout", &host]).run().assert_success();
        assert!(harbour.sandbox.files_with(pat.as_bytes()).is_empty());
        harbour.sandbox.run(&docker, &["logout", &host]).run().assert_success();
        let refused = harbour.ask(&Client::Docker(docker)).run();
        assert_ne!(refused.status, 0);
    }
}

/// docker asks for its own token of the Hub when somebody signs out there.
#[test]
fn docker_logout_of_the_hub_opens_no_browser() {
    if !here(&[Peer::Docker]) {
        return;
    }
    for docker in programs() {
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

#[test]
fn podman_and_buildah_know_who_is_signed_in_and_sign_out() {
    if !here(&[Peer::Containers]) {
        return;
    }
    let harbour = Harbour::new(Door::Realm);
    let host = harbour.registry.host();
    let run = |program: &str, words: &[&str]| harbour.sandbox.run(program, words).run();
    for tool in CONTAINERS {
        let miss = run(tool, &["login", "--get-login", &host]);
        assert_ne!(miss.status, 0);
        assert!(miss.stderr_text().contains("not logged in"), "{miss}");
    }
    harbour.sign_in();
    for tool in CONTAINERS {
        run(tool, &["login", "--get-login", &host]).assert(0, "oauth2\n", "");
    }
    // They hand a sign-in to the helper that their own file names, and to no other.
    let file = harbour.sandbox.home().join(".docker/config.json");
    harbour.sandbox.env("REGISTRY_AUTH_FILE", &file);
    let before = harbour.token();
    let named = std::fs::read(&file).expect("a configuration");
    for tool in CONTAINERS {
        let words = ["login", "--tls-verify=false", "-u", "oauth2", "--password-stdin", &host];
        let login = harbour.sandbox.run(tool, &words).stdin(&*before).run();
        login.assert_status(0);
        assert!(login.stdout_text().contains("Login Succeeded!"), "{login}");
    }
    assert_eq!(harbour.token(), before);
    for (round, tool) in CONTAINERS.into_iter().enumerate() {
        run(tool, &["logout", &host]).assert_status(0);
        run(tool, &["login", "--get-login", &host]).assert(0, "oauth2\n", "");
        assert_eq!(harbour.refreshes(), round + 1);
    }
    let read = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON");
    let after = read(&std::fs::read(&file).expect("a configuration"));
    assert_eq!(after["credHelpers"], read(&named)["credHelpers"]);
    assert!(harbour.sandbox.files_with(before.as_bytes()).is_empty());
}

/// What somebody signs in with by `podman login` stands in no file of podman's.
#[test]
fn after_setup_podman_we_keep_what_is_typed_into_a_login() {
    if !here(&[Peer::Containers]) {
        return;
    }
    for tool in CONTAINERS {
        let client = Client::Containers(tool);
        let harbour = Harbour::new(Door::Realm);
        harbour.valetkey(&["setup", "docker", "--undo"]).assert_status(0);
        harbour.valetkey(&["setup", "podman"]).assert_status(0);
        let host = harbour.registry.host();
        let run = |words: &[&str]| harbour.sandbox.run(tool, words);
        let login = |username: &str, secret: &str| {
            let words = ["login", "--tls-verify=false", "-u", username, "--password-stdin", &host];
            run(&words).stdin(secret).run().assert_status(0);
            run(&["login", "--get-login", &host]).run().assert(0, &format!("{username}\n"), "");
        };
        harbour.sign_in();
        login("oauth2", &harbour.token());
        harbour.assert_one_renewable_session();
        harbour.let_expire();
        harbour.sees(&client);
        assert_eq!(harbour.refreshes(), 1);

        harbour.sandbox.config("");
        let pat = harbour.authority.grant("alice").access;
        login("me", &pat);
        harbour.sees(&client);
        assert_eq!(harbour.registry.presented().last(), Some(&("me".to_owned(), pat.clone())));
        let kept = harbour.sandbox.files_with(pat.as_bytes());
        assert!(kept.iter().all(|file| file.starts_with(SESSIONS)) && kept.len() == 1, "{kept:?}");
        run(&["logout", &host]).run().assert_status(0);
        assert!(harbour.sandbox.files_with(pat.as_bytes()).is_empty());
        assert_ne!(harbour.ask(&client).run().status, 0);
    }
}

/// skopeo 1.9.3 overflows its stack when an erase of nothing fails.
#[test]
fn a_logout_of_nothing_ends_well() {
    if !here(&[Peer::Containers]) {
        return;
    }
    let harbour = Harbour::new(Door::Basic);
    let host = harbour.registry.host();
    harbour.sandbox.env("REGISTRY_AUTH_FILE", harbour.sandbox.home().join(".docker/config.json"));
    for tool in CONTAINERS {
        let finished = harbour.sandbox.run(tool, &["logout", &host]).run();
        let said = finished.stderr_text();
        assert!(!said.contains("goroutine") && !said.contains("error logging out"), "{finished}");
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
    harbour.let_expire();
    let all: Vec<_> = (0..20).map(|_| start(&ours)).collect();
    for started in all {
        started.wait().assert(0, "{}", "");
    }
    assert_eq!(harbour.refreshes(), 1);

    let stranger = Registry::start(Door::Basic, |_, _| true);
    start(&stranger.origin()).wait().assert_status(22);
    assert_eq!(stranger.presented(), []);
}
