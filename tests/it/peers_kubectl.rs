//! A real kubectl, and as much of a Kubernetes API as it takes to be let in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::installed::left_out;
use crate::lab::tls::{CertificateAuthority, TlsFront};
use crate::lab::{
    Answer, Authority, Browser, CLIENT_ID, Options, Person, Reply, Request, Run, Sandbox, Server,
};
use crate::scene::program;

/// `None`, and a word about it, where tests/peers/install has not put a kubectl.
pub fn kubectl() -> Option<PathBuf> {
    let peers = std::env::var_os("VALETKEY_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"), PathBuf::from);
    let path = peers.join("kubectl/kubectl");
    let there = path.is_file() || left_out("kubectl is missing: run tests/peers/install kubectl");
    there.then_some(path)
}

/// As much of a Kubernetes API as it takes to be let in.
pub fn start_api(accepts: impl Fn(&str) -> bool + Send + Sync + 'static) -> Server {
    Server::start(move |request: &Request| -> Reply {
        if !request.bearer().is_some_and(&accepts) {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": "Unauthorized", "reason": "Unauthorized", "code": 401,
            });
            return Answer::json(401, &status).into();
        }
        Answer::json(200, &json!({ "path": request.path })).into()
    })
}

/// What kubectl says of it.
pub const ANSWER: &str = "{\"path\":\"/version\"}";

struct Cluster {
    kubectl: PathBuf,
    authority: Arc<Authority>,
    server: Server,
    tls: TlsFront,
    trust: CertificateAuthority,
    sandbox: Sandbox,
}

impl Cluster {
    fn start(options: Options) -> Option<Self> {
        let kubectl = kubectl()?;
        let authority = Arc::new(Authority::start_with(options));
        let judge = Arc::clone(&authority);
        let server = start_api(move |token| judge.token_is_live(token));
        let trust = CertificateAuthority::new();
        let tls = TlsFront::start(&trust, "127.0.0.1", &server.origin());
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "never");
        sandbox.link("valetkey");
        let cluster = Self { kubectl, authority, server, tls, trust, sandbox };
        cluster.sandbox.config(&format!(
            "[profile.lab]\norigins = [\"{}\"]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n",
            cluster.origin(),
            cluster.authority.issuer(),
        ));
        cluster.kubeconfig("v1", "");
        Some(cluster)
    }

    fn origin(&self) -> String {
        format!("https://{}", self.tls.address())
    }

    /// The cluster's extension is YAML that stands below `extension:`.
    fn kubeconfig(&self, version: &str, extension: &str) {
        let (origin, data) = (self.origin(), BASE64_STANDARD.encode(self.trust.pem()));
        let extensions = match extension {
            "" => String::new(),
            text => format!(
                "    extensions:\n    - name: client.authentication.k8s.io/exec\n      extension:\n{text}"
            ),
        };
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
             contexts:\n- name: lab\n  context: {{ cluster: lab, user: lab }}\n\
             clusters:\n- name: lab\n  cluster:\n    server: {origin}\n    \
             certificate-authority-data: {data}\n{extensions}\
             users:\n- name: lab\n  user:\n    exec:\n      \
             apiVersion: client.authentication.k8s.io/{version}\n      command: valetkey\n      \
             args: [kubectl]\n      interactiveMode: IfAvailable\n      provideClusterInfo: true\n"
        );
        self.sandbox.write("home/.kube/config", text.as_bytes(), 0o600);
    }

    fn browser(&self, person: Person) -> Browser {
        self.sandbox.env("VALETKEY_INTERACTIVE", "always");
        Browser::start(&self.sandbox, person)
    }

    fn sign_in(&self) {
        let _browser = self.browser(Person::Approves);
        self.sandbox.valetkey(&["login", &self.origin()]).run().assert_status(0);
        self.sandbox.env("VALETKEY_INTERACTIVE", "never");
    }

    fn get(&self) -> Run {
        self.sandbox.run(&self.kubectl, &["get", "--raw", "/version"])
    }
}

#[test]
fn a_command_signs_in_once_and_everything_after_it_is_silent() {
    let Some(cluster) = Cluster::start(Options::default()) else { return };
    let browser = cluster.browser(Person::Approves);
    cluster.get().run().assert_status(0).assert_stdout(ANSWER);
    assert_eq!(browser.opened().len(), 1);
    cluster.sandbox.env("VALETKEY_INTERACTIVE", "never");
    cluster.get().run().assert(0, ANSWER, "");
    cluster.kubeconfig("v1beta1", "");
    cluster.get().run().assert(0, ANSWER, "");
    assert_eq!(browser.opened().len(), 1);
    assert_eq!(cluster.authority.asked_for("refresh_token"), 0);
}

#[test]
fn a_token_that_ends_is_renewed_before_kubectl_sees_it() {
    let options = Options { expires_in: Some(30), ..Options::default() };
    let Some(cluster) = Cluster::start(options) else { return };
    cluster.sign_in();
    cluster.authority.expire_all_access();
    cluster.authority.tune(|options| options.expires_in = Some(3600));
    cluster.get().run().assert(0, ANSWER, "");
    cluster.get().run().assert(0, ANSWER, "");
    assert_eq!(cluster.authority.asked_for("refresh_token"), 1);
}

#[test]
fn twenty_kubectls_at_once_renew_once() {
    let options = Options { expires_in: Some(30), ..Options::default() };
    let Some(cluster) = Cluster::start(options) else { return };
    cluster.sign_in();
    cluster.authority.expire_all_access();
    cluster.authority.tune(|options| options.expires_in = Some(3600));
    let started: Vec<_> = (0..20).map(|_| cluster.get().start()).collect();
    for kubectl in started {
        kubectl.wait().assert(0, ANSWER, "");
    }
    assert_eq!(cluster.authority.asked_for("refresh_token"), 1);
}

/// Without a terminal kubectl itself says that nobody can be asked.
#[test]
fn where_nobody_can_be_asked_kubectl_shows_what_to_run() {
    let Some(cluster) = Cluster::start(Options::default()) else { return };
    let browser = cluster.browser(Person::Approves);
    cluster.sandbox.remove_env("VALETKEY_INTERACTIVE");
    let finished = cluster.get().run();
    assert_ne!(finished.status, 0);
    finished.assert_stderr_has(&format!("hint: valetkey login {}", cluster.origin()));
    finished.assert_stderr_has("executable valetkey failed with exit code 2");
    assert!(browser.opened().is_empty());
    assert_eq!(cluster.server.journal().snapshot().len(), 0, "nothing goes out without a token");
}

#[test]
fn a_refusal_is_shown_and_not_asked_about_again() {
    let Some(cluster) = Cluster::start(Options::default()) else { return };
    let browser = cluster.browser(Person::Denies);
    for _ in 0..2 {
        let finished = cluster.get().run();
        assert_ne!(finished.status, 0);
        finished.assert_stderr_has("refused");
    }
    assert_eq!(browser.opened().len(), 1);
}

#[test]
fn a_clusters_extension_is_all_the_configuration_there_is() {
    let Some(cluster) = Cluster::start(Options::default()) else { return };
    cluster.sandbox.config("");
    let extension = format!(
        "        issuer: {}\n        client-id: {CLIENT_ID}\n        token: access\n",
        cluster.authority.issuer()
    );
    cluster.kubeconfig("v1", &extension);
    let browser = cluster.browser(Person::Approves);
    cluster.get().run().assert_status(0).assert_stdout(ANSWER);
    assert_eq!(browser.opened().len(), 1);
    cluster.sandbox.env("VALETKEY_INTERACTIVE", "never");
    cluster.get().run().assert(0, ANSWER, "");
}

/// One user for every cluster, and a context beside each that is there.
#[test]
fn setup_adds_a_user_and_contexts_and_takes_them_back() {
    let Some(cluster) = Cluster::start(Options::default()) else { return };
    let sandbox = &cluster.sandbox;
    std::os::unix::fs::symlink(&cluster.kubectl, sandbox.bin().join("kubectl")).expect("a link");
    let view = || {
        let view = sandbox.run("kubectl", &["config", "view", "--raw", "-o", "json"]).run();
        serde_json::from_slice::<serde_json::Value>(&view.stdout).expect("JSON")
    };
    let setup = |words: &[&str]| {
        let run = sandbox.valetkey(&["setup", "kubectl"]);
        words.iter().fold(run, |run, word| run.arg(word)).run()
    };
    let before = view();
    let origin = cluster.origin();
    let printed = setup(&["--print", "--host", &origin]);
    printed.assert_status(0);
    assert!(printed.stdout_text().contains("kubectl config set-credentials valetkey"), "{printed}");
    assert_eq!(view(), before);
    setup(&["--host", &origin]).assert_status(0).assert_stdout("");
    let after = view();
    assert_eq!(after["contexts"][0], before["contexts"][0]);
    assert_eq!(after["contexts"][1]["name"], "lab-valetkey");
    assert_eq!(after["current-context"], "lab");
    setup(&["--host", &origin]).assert_status(0).assert_stderr_has("nothing to do");
    assert_eq!(view(), after);
    cluster.sign_in();
    let get = ["--context=lab-valetkey", "get", "--raw", "/version"];
    sandbox.run("kubectl", &get).run().assert(0, ANSWER, "");
    let nowhere = setup(&["--host", "nowhere.example"]);
    nowhere.assert_status(1).assert_stderr_has("has its cluster at nowhere.example");
    setup(&["--undo"]).assert_status(0).assert_stdout("");
    assert_eq!(view(), before);
    setup(&["--undo"]).assert_status(0).assert_stderr_has("nothing to do");
    // Somebody else's user of this name is not ours to change.
    let own = ["config", "set-credentials", "valetkey", "--token=x"];
    sandbox.run("kubectl", &own).run().assert_status(0);
    let taken = view();
    setup(&[]).assert_status(1).assert_stderr_has("another user called valetkey already");
    setup(&["--undo"]).assert_status(0);
    assert_eq!(view(), taken);
    std::fs::remove_file(sandbox.bin().join("kubectl")).expect("it is there");
    let alone = sandbox.bin().to_owned();
    // What starts every program of the sandbox.
    std::os::unix::fs::symlink("/usr/bin/setsid", alone.join("setsid")).expect("a link");
    let without = sandbox.valetkey(&["setup", "kubectl"]).env("PATH", alone).run();
    without.assert_status(1).assert_stderr_has("kubectl is not on PATH");
}
