//! kubectl, the kubectl of five years before it and the client of Python's programs, and as much of
//! a Kubernetes API as it takes to be let in.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::{Peer, here, installed, peer};
use crate::lab::tls::{CertificateAuthority, TlsFront};
use crate::lab::{Answer, CLIENT_ID, Options, Person, Reply, Request, Run, Sandbox, Server};
use crate::scene::{Home, hostile_renewals};

/// A program that runs an exec plugin.
#[derive(Clone, Copy, Debug)]
enum Client {
    Kubectl,
    /// It knows v1beta1 alone, and does not say whether somebody can be asked.
    OldKubectl,
    /// It goes on without a token when there is none.
    Python,
}

impl Client {
    /// Those that are here.
    fn all() -> impl Iterator<Item = Self> {
        let all = [Self::Kubectl, Self::OldKubectl, Self::Python];
        all.into_iter().filter(|client| here(&[client.peer()]))
    }

    fn peer(self) -> Peer {
        match self {
            Self::Kubectl => Peer::Kubectl,
            Self::OldKubectl => Peer::OldKubectl,
            Self::Python => Peer::PythonKubernetes,
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::Kubectl | Self::Python => "v1",
            Self::OldKubectl => "v1beta1",
        }
    }

    /// Asks the cluster for its version.
    fn ask(self, sandbox: &Sandbox) -> Run {
        let raw = ["get", "--raw", "/version"];
        match self {
            Self::Kubectl => sandbox.run(installed().join("kubectl/kubectl"), &raw),
            Self::OldKubectl => sandbox.run(installed().join("old-kubectl/kubectl"), &raw),
            Self::Python => {
                let python = installed().join("python-kubernetes/bin/python");
                sandbox.run(python, &[]).arg(peer("kubernetes/version.py"))
            }
        }
    }
}

/// As much of a Kubernetes API as it takes to be let in.
pub(super) fn start_api(accepts: impl Fn(&str) -> bool + Send + Sync + 'static) -> Server {
    Server::start(move |request: &Request| -> Reply {
        if !request.bearer().is_some_and(&accepts) {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": "Unauthorized", "reason": "Unauthorized", "code": 401,
            });
            return Answer::json(401, &status).into();
        }
        // Python asks with a slash behind.
        Answer::json(200, &json!({ "path": request.path.trim_end_matches('/') })).into()
    })
}

/// What kubectl says of it.
pub(super) const ANSWER: &str = "{\"path\":\"/version\"}";

struct Cluster {
    client: Client,
    home: Home,
    server: Server,
    tls: TlsFront,
    trust: CertificateAuthority,
}

impl Cluster {
    fn start(client: Client) -> Self {
        let home = Home::new(Options::default());
        let server = start_api(home.judge());
        let trust = CertificateAuthority::new();
        let tls = TlsFront::start(&trust, "127.0.0.1", &server.origin());
        home.sandbox.link("valetkey");
        home.nobody();
        let cluster = Self { client, home, server, tls, trust };
        cluster.home.bind(&[&cluster.origin()], "");
        cluster.kubeconfig(client.version(), "");
        cluster
    }

    fn origin(&self) -> String {
        format!("https://{}", self.tls.address())
    }

    /// The cluster's extension is YAML that stands below `extension:`.
    fn kubeconfig(&self, version: &str, extension: &str) {
        let extensions = match extension {
            "" => String::new(),
            text => format!(
                "    extensions:\n    - name: client.authentication.k8s.io/exec\n      extension:\n{text}"
            ),
        };
        self.write_kubeconfig(version, &extensions, "[kubectl]", true);
    }

    /// The cluster in the plugin's arguments, and no word about it in its question.
    fn kubeconfig_with_url(&self) {
        let arguments = format!("[kubectl, \"{}\"]", self.origin());
        self.write_kubeconfig(self.client.version(), "", &arguments, false);
    }

    fn write_kubeconfig(&self, version: &str, extensions: &str, arguments: &str, told: bool) {
        let (origin, data) = (self.origin(), BASE64_STANDARD.encode(self.trust.pem()));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
             contexts:\n- name: lab\n  context: {{ cluster: lab, user: lab }}\n\
             clusters:\n- name: lab\n  cluster:\n    server: {origin}\n    \
             certificate-authority-data: {data}\n{extensions}\
             users:\n- name: lab\n  user:\n    exec:\n      \
             apiVersion: client.authentication.k8s.io/{version}\n      command: valetkey\n      \
             args: {arguments}\n      interactiveMode: IfAvailable\n      \
             provideClusterInfo: {told}\n"
        );
        self.home.sandbox.write("home/.kube/config", text.as_bytes(), 0o600);
    }

    fn get(&self) -> Run {
        self.client.ask(&self.home.sandbox)
    }

    /// How many requests came with a token.
    fn bearers(&self) -> usize {
        self.server.journal().count(|entry| entry.request.bearer().is_some())
    }
}

#[test]
fn a_command_signs_in_once_and_everything_after_it_is_silent() {
    for client in Client::all() {
        let cluster = Cluster::start(client);
        let browser = cluster.home.browser(Person::Approves);
        cluster.get().run().assert_status(0).assert_stdout(ANSWER);
        assert_eq!(browser.opened().len(), 1, "{client:?}");
        cluster.home.nobody();
        cluster.get().run().assert(0, ANSWER, "");
        cluster.kubeconfig("v1beta1", "");
        cluster.get().run().assert(0, ANSWER, "");
        cluster.kubeconfig_with_url();
        cluster.get().run().assert(0, ANSWER, "");
        assert_eq!(browser.opened().len(), 1, "{client:?}");
        assert_eq!(cluster.home.authority.asked_for("refresh_token"), 0, "{client:?}");
    }
}

#[test]
fn twenty_at_once_renew_a_token_that_ends_once() {
    for client in Client::all() {
        let cluster = Cluster::start(client);
        cluster.home.sign_in_to(&cluster.origin());
        cluster.home.end_tokens();
        let started: Vec<_> = (0..20).map(|_| cluster.get().start()).collect();
        for started in started {
            started.wait().assert(0, ANSWER, "");
        }
        cluster.get().run().assert(0, ANSWER, "");
        assert_eq!(cluster.home.authority.asked_for("refresh_token"), 1, "{client:?}");
    }
}

/// Without a terminal the client itself says that nobody can be asked, or nothing about it.
#[test]
fn where_nobody_can_be_asked_the_client_shows_what_to_run() {
    for client in Client::all() {
        let cluster = Cluster::start(client);
        let browser = cluster.home.browser(Person::Approves);
        cluster.home.sandbox.remove_env("VALETKEY_INTERACTIVE");
        let finished = cluster.get().run();
        assert_ne!(finished.status, 0);
        finished.assert_stderr_has(&format!("hint: valetkey login {}", cluster.origin()));
        finished.assert_stderr_has(match client {
            Client::Kubectl | Client::OldKubectl => "executable valetkey failed with exit code 2",
            // It says so and asks the cluster without a token.
            Client::Python => "exec: process returned 2. error: not signed in",
        });
        assert!(browser.opened().is_empty(), "{client:?}");
        assert_eq!(cluster.bearers(), 0, "{client:?}");
    }
}

#[test]
fn a_refusal_is_shown_and_not_asked_about_again() {
    for client in Client::all() {
        let cluster = Cluster::start(client);
        let browser = cluster.home.browser(Person::Denies);
        for _ in 0..2 {
            let finished = cluster.get().run();
            assert_ne!(finished.status, 0);
            finished.assert_stderr_has("refused");
        }
        assert_eq!(browser.opened().len(), 1, "{client:?}");
    }
}

/// Neither a kubeconfig of a stranger nor a server of tokens makes a client send what is no token.
#[test]
fn hostile_answers_and_offers_reach_no_cluster() {
    for client in Client::all() {
        let cluster = Cluster::start(client);
        cluster.home.sign_in_to(&cluster.origin());
        cluster.home.end_tokens();
        for step in hostile_renewals() {
            cluster.home.authority.next("/token", vec![step]);
            let finished = cluster.get().run();
            assert_ne!(finished.status, 0, "{client:?}");
            finished.assert_stdout("").assert_stderr_has("error: ");
        }
        assert_eq!(cluster.bearers(), 0, "{client:?}");
        cluster.get().run().assert(0, ANSWER, "");
        cluster.home.sandbox.config("");
        let browser = cluster.home.browser(Person::Approves);
        let offer = "        issuer: http://evil.example\n        client-id: x\n";
        cluster.kubeconfig(client.version(), offer);
        let finished = cluster.get().run();
        assert_ne!(finished.status, 0, "{client:?}");
        finished.assert_stderr_has("neither https nor on this machine");
        assert!(browser.opened().is_empty(), "{client:?}");
    }
}

#[test]
fn a_clusters_extension_is_all_the_configuration_there_is() {
    for client in Client::all() {
        let cluster = Cluster::start(client);
        cluster.home.sandbox.config("");
        let extension = format!(
            "        issuer: {}\n        client-id: {CLIENT_ID}\n        token: access\n",
            cluster.home.authority.issuer()
        );
        cluster.kubeconfig(client.version(), &extension);
        let browser = cluster.home.browser(Person::Approves);
        cluster.get().run().assert_status(0).assert_stdout(ANSWER);
        assert_eq!(browser.opened().len(), 1, "{client:?}");
        cluster.home.nobody();
        cluster.get().run().assert(0, ANSWER, "");
    }
}

/// One user for every cluster, and a context beside each that is there.
#[test]
fn setup_adds_a_user_and_contexts_and_takes_them_back() {
    if !here(&[Peer::Kubectl]) {
        return;
    }
    let cluster = Cluster::start(Client::Kubectl);
    let sandbox = &cluster.home.sandbox;
    let kubectl = installed().join("kubectl/kubectl");
    std::os::unix::fs::symlink(kubectl, sandbox.bin().join("kubectl")).expect("a link");
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
    cluster.home.sign_in_to(&cluster.origin());
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
