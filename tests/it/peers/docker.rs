//! docker's own client, skopeo, podman and buildah against a registry that takes the session's
//! token, set up by `valetkey setup docker`.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Peer, here, installed, on_path};
use crate::lab::{
    Authority, Browser, CHART, CLIENT_ID, Door, Finished, IMAGE, Person, Registry, Run, Sandbox,
};
use crate::scene::program;

/// Every docker client that is here: the one on PATH, and the one that was installed for us.
pub(super) fn programs() -> Vec<PathBuf> {
    let unpacked = installed().join("docker/docker");
    let mut all = Vec::new();
    if on_path("docker") {
        all.push("docker".into());
    }
    if unpacked.is_file() {
        all.push(unpacked);
    }
    all
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

    /// Signed in for an hour, of which nothing is left.
    fn let_expire(&self) {
        let mut files = self.sandbox.files();
        files.retain(|file| file.path.starts_with("data/valetkey/sessions"));
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

    /// Asks for the one image, without a daemon.
    fn inspect(&self, client: &Client) -> Run {
        let image = self.registry.image();
        match client {
            Client::Docker(docker) => {
                self.sandbox.run(docker, &["manifest", "inspect", "--insecure", &image])
            }
            Client::Skopeo => {
                let image = format!("docker://{image}");
                self.sandbox.run("skopeo", &["inspect", "--tls-verify=false", &image])
            }
        }
    }
}

enum Client {
    Docker(PathBuf),
    Skopeo,
}

/// Every client that can look at an image.
fn clients() -> Vec<Client> {
    let mut all = Vec::new();
    if here(&[Peer::Docker]) {
        all.extend(programs().into_iter().map(Client::Docker));
    }
    if here(&[Peer::Containers]) {
        all.push(Client::Skopeo);
    }
    all
}

#[track_caller]
fn assert_seen(finished: &Finished) {
    finished.assert_status(0);
    assert!(finished.stdout_text().contains("sha256:"), "{finished}");
}

#[test]
fn a_hit_an_expiry_and_a_dead_grant() {
    for client in clients() {
        for door in [Door::Basic, Door::Realm, Door::Exchange] {
            let harbour = Harbour::new(door);
            harbour.sign_in();
            let first = harbour.inspect(&client).run();
            assert_seen(&first);
            assert_eq!(first.stderr_text(), "");
            assert!(harbour.registry.presented().iter().all(|(username, _)| username == "oauth2"));
            // Of these the client presents what it was given by POST, and never by Basic.
            assert_eq!(harbour.registry.presented().is_empty(), door == Door::Exchange);
            assert_eq!(harbour.registry.exchanges(), usize::from(door == Door::Exchange));
            assert_eq!(harbour.refreshes(), 0);

            harbour.let_expire();
            assert_seen(&harbour.inspect(&client).run());
            assert_eq!(harbour.refreshes(), 1);

            harbour.let_expire();
            harbour.authority.revoke_grants();
            let refused = harbour.inspect(&client).run();
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
        let job = harbour.inspect(&client).env("CI", "true").env("DISPLAY", ":0").run();
        assert_ne!(job.status, 0);
        let never = harbour.inspect(&client).env("VALETKEY_INTERACTIVE", "never").run();
        assert_ne!(never.status, 0);
        assert_eq!(browser.opened().len(), 0);
        harbour.sandbox.env("VALETKEY_INTERACTIVE", "always");
        assert_seen(&harbour.inspect(&client).run());
        assert_seen(&harbour.inspect(&client).run());
        assert_eq!(browser.opened().len(), 1);
    }
}

#[test]
fn twenty_clients_at_once_cause_one_renewal() {
    for client in clients() {
        let harbour = Harbour::new(Door::Basic);
        harbour.sign_in();
        harbour.let_expire();
        let all: Vec<_> = (0..20).map(|_| harbour.inspect(&client).start()).collect();
        for started in all {
            assert_seen(&started.wait());
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
            let listed = harbour.valetkey(&["list", "--json"]).assert_success();
            let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
            assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
            assert_eq!(listed[0]["renewable"], true);

            // What is stored is renewed as ever, and docker gets what is new.
            harbour.let_expire();
            assert_seen(&harbour.inspect(&Client::Docker(docker.clone())).run());
            assert_eq!(harbour.refreshes(), 1);

            for _ in 0..2 {
                harbour.sandbox.run(&docker, &["logout", &host]).run().assert_success();
            }
            // Docker's logout is not ours: the session is renewed when it is needed again.
            assert_seen(&harbour.inspect(&Client::Docker(docker.clone())).run());
            assert_eq!(harbour.refreshes(), 2);
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
        assert_seen(&harbour.inspect(&Client::Docker(docker.clone())).run());
        assert_eq!(harbour.registry.presented().last(), Some(&("me".to_owned(), pat.clone())));
        harbour.sandbox.run(&docker, &["logout", &host]).run().assert_success();
        assert!(harbour.sandbox.files_with(pat.as_bytes()).is_empty());
        harbour.sandbox.run(&docker, &["logout", &host]).run().assert_success();
        let refused = harbour.inspect(&Client::Docker(docker)).run();
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
    for tool in ["podman", "buildah", "skopeo"] {
        let miss = run(tool, &["login", "--get-login", &host]);
        assert_ne!(miss.status, 0);
        assert!(miss.stderr_text().contains("not logged in"), "{miss}");
    }
    harbour.sign_in();
    for tool in ["podman", "buildah", "skopeo"] {
        run(tool, &["login", "--get-login", &host]).assert(0, "oauth2\n", "");
    }
    // They hand a sign-in to the helper that their own file names, and to no other.
    let file = harbour.sandbox.home().join(".docker/config.json");
    harbour.sandbox.env("REGISTRY_AUTH_FILE", &file);
    let before = harbour.token();
    let named = std::fs::read(&file).expect("a configuration");
    for tool in ["podman", "buildah", "skopeo"] {
        let words = ["login", "--tls-verify=false", "-u", "oauth2", "--password-stdin", &host];
        let login = harbour.sandbox.run(tool, &words).stdin(&*before).run();
        login.assert_status(0);
        assert!(login.stdout_text().contains("Login Succeeded!"), "{login}");
    }
    assert_eq!(harbour.token(), before);
    for (round, tool) in ["podman", "buildah", "skopeo"].into_iter().enumerate() {
        run(tool, &["logout", &host]).assert_status(0);
        run(tool, &["login", "--get-login", &host]).assert(0, "oauth2\n", "");
        assert_eq!(harbour.refreshes(), round + 1);
    }
    let read = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON");
    let after = read(&std::fs::read(&file).expect("a configuration"));
    assert_eq!(after["credHelpers"], read(&named)["credHelpers"]);
    assert!(harbour.sandbox.files_with(before.as_bytes()).is_empty());
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
    for tool in ["podman", "buildah", "skopeo"] {
        let finished = harbour.sandbox.run(tool, &["logout", &host]).run();
        let said = finished.stderr_text();
        assert!(!said.contains("goroutine") && !said.contains("error logging out"), "{finished}");
    }
}

#[test]
fn curl_takes_a_header_on_its_input() {
    let harbour = Harbour::new(Door::Basic);
    harbour.sign_in();
    let url = format!("{}/v2/", harbour.registry.origin());
    let line = format!("valetkey header {url} | curl --silent --fail -H @- {url}");
    harbour.sandbox.run("sh", &["-c", &line]).run().assert(0, "{}", "");
}

/// helm 4 reads docker's configuration and asks the helper that it names.
#[test]
fn helm_pulls_a_chart_with_the_sessions_token() {
    if !here(&[Peer::Helm]) {
        return;
    }
    for door in [Door::Basic, Door::Realm] {
        let harbour = Harbour::new(door);
        let helm = installed().join("kubectl/helm");
        let chart = format!("oci://{}/{IMAGE}", harbour.registry.host());
        let pull = ["pull", "--plain-http", "--version", CHART, &chart];
        harbour.nobody();
        let refused = harbour.sandbox.run(&helm, &pull).run();
        assert_ne!(refused.status, 0, "{refused}");
        harbour.sign_in();
        let token = harbour.token();
        harbour.sandbox.run(&helm, &pull).run().assert_status(0);
        assert!(harbour.sandbox.work().join("image-1.0.0.tgz").exists());
        let presented = harbour.registry.presented();
        assert_eq!(presented.last(), Some(&("oauth2".to_owned(), token)));
    }
}
