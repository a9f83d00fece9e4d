//! kubectl, the kubectl of five years before it and the client of Python's programs, and as much of
//! a Kubernetes API as it takes to be let in.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::same_cases::{Client, Start, bearers};
use super::{Peer, here, installed, peer};
use crate::lab::tls::{CertificateAuthority, TlsFront};
use crate::lab::{Answer, CLIENT_ID, Options, Person, Reply, Request, Run, Server};
use crate::scene::Home;

/// A program that runs an exec plugin.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Program {
    Kubectl,
    /// It knows v1beta1 alone, and does not say whether somebody can be asked.
    OldKubectl,
    /// It goes on without a token when there is none.
    Python,
}

impl Program {
    /// Those that are here.
    fn all() -> impl Iterator<Item = Self> {
        let all = [Self::Kubectl, Self::OldKubectl, Self::Python];
        all.into_iter().filter(|program| here(&[program.peer()]))
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

    /// The command line that asks the cluster for its version.
    fn words(self) -> Vec<PathBuf> {
        let directory = installed().join(self.peer().name());
        match self {
            Self::Kubectl | Self::OldKubectl => {
                let raw = ["get", "--raw", "/version"].map(PathBuf::from);
                [directory.join("kubectl")].into_iter().chain(raw).collect()
            }
            Self::Python => {
                vec![directory.join("bin/python"), peer("kubernetes/version.py")]
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
    program: Program,
    home: Home,
    server: Server,
    tls: TlsFront,
    trust: CertificateAuthority,
}

impl Cluster {
    fn start(program: Program) -> Self {
        let home = Home::new(Options::default());
        let server = start_api(home.judge());
        let trust = CertificateAuthority::new();
        let tls = TlsFront::start(&trust, "127.0.0.1", &server.origin());
        home.sandbox.link("valetkey");
        home.nobody();
        let cluster = Self { program, home, server, tls, trust };
        cluster.home.bind(&[&cluster.origin()], "");
        cluster.kubeconfig(program.version(), "");
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
        self.write_kubeconfig(self.program.version(), "", &arguments, false);
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
        let words = self.program.words();
        words[1..].iter().fold(self.home.sandbox.run(&words[0], &[]), Run::arg)
    }
}

pub(super) fn clients() -> Vec<Start> {
    let start = |program| Box::new(move || Box::new(Cluster::start(program)) as Box<dyn Client>);
    Program::all().map(|program| start(program) as Start).collect()
}

impl Client for Cluster {
    fn name(&self) -> String {
        format!("{:?}", self.program)
    }

    fn home(&self) -> &Home {
        &self.home
    }

    fn url(&self) -> String {
        self.origin()
    }

    fn ask(&self, _number: usize) -> Run {
        self.get()
    }

    fn tokens(&self) -> Vec<String> {
        bearers(self.server.journal())
    }
}

#[test]
fn a_command_signs_in_once_and_everything_after_it_is_silent() {
    for program in Program::all() {
        let cluster = Cluster::start(program);
        let browser = cluster.home.browser(Person::Approves);
        cluster.get().run().assert_status(0).assert_stdout(ANSWER);
        assert_eq!(browser.opened().len(), 1, "{program:?}");
        cluster.home.nobody();
        cluster.get().run().assert(0, ANSWER, "");
        cluster.kubeconfig("v1beta1", "");
        cluster.get().run().assert(0, ANSWER, "");
        cluster.kubeconfig_with_url();
        cluster.get().run().assert(0, ANSWER, "");
        assert_eq!(browser.opened().len(), 1, "{program:?}");
        assert_eq!(cluster.home.authority.asked_for("refresh_token"), 0, "{program:?}");
    }
}

/// K12: who sits at a terminal is asked, if the client says that somebody does.
#[test]
fn a_person_at_a_terminal_is_asked_if_the_client_says_so() {
    for program in Program::all() {
        let cluster = Cluster::start(program);
        let browser = cluster.home.browser(Person::Approves);
        cluster.home.sandbox.remove_env("VALETKEY_INTERACTIVE");
        let line = "exec \"$0\" \"$@\" </dev/tty >/dev/tty";
        let run = cluster.home.sandbox.run("sh", &["-c", line]);
        let finished = program.words().iter().fold(run, Run::arg).terminal().run();
        if program == Program::OldKubectl {
            assert_ne!(finished.status, 0);
            finished.assert_stderr_has("hint: valetkey login");
            assert!(browser.opened().is_empty());
            continue;
        }
        assert_eq!(finished.status, 0, "{finished}");
        finished.assert_terminal_has(ANSWER);
        assert_eq!(browser.opened().len(), 1, "{program:?}");
    }
}

#[test]
fn a_clusters_extension_is_all_the_configuration_there_is() {
    for program in Program::all() {
        let cluster = Cluster::start(program);
        cluster.home.sandbox.config("");
        let extension = format!(
            "        issuer: {}\n        client-id: {CLIENT_ID}\n        token: access\n",
            cluster.home.authority.issuer()
        );
        cluster.kubeconfig(program.version(), &extension);
        let browser = cluster.home.browser(Person::Approves);
        cluster.get().run().assert_status(0).assert_stdout(ANSWER);
        assert_eq!(browser.opened().len(), 1, "{program:?}");
        cluster.home.nobody();
        cluster.get().run().assert(0, ANSWER, "");
        // One that would leak is refused, whoever wrote the kubeconfig.
        let extension = "        issuer: http://evil.example\n        client-id: x\n";
        cluster.kubeconfig(program.version(), extension);
        let refused = cluster.get().run();
        assert_ne!(refused.status, 0, "{program:?}");
        refused.assert_stderr_has("neither https nor on this machine");
    }
}

/// One user for every cluster, and a context beside each that is there.
#[test]
fn setup_adds_a_user_and_contexts_and_takes_them_back() {
    if !here(&[Peer::Kubectl]) {
        return;
    }
    let cluster = Cluster::start(Program::Kubectl);
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
    setup(&["--undo"]).assert_status(0).assert_stderr_has("nothing to undo");
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
