//! `valetkey setup kubectl`: a user of the kubeconfig that asks us, and contexts that use it.
//! kubectl's own program writes the file. One user does for every cluster, because kubectl says
//! which one it is about to talk to; contexts that are there stay as they are.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::Value;

use super::{Setup, Step};
use crate::error::{Error, Kind, Result};
use crate::model::Resource;
use crate::program;

const USER: &str = "valetkey";
/// Behind the name of a context that we made from another.
const OURS: &str = "-valetkey";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let config = view(setup)?;
    let contexts: Vec<Context> = list(&config, "contexts").filter_map(Context::read).collect();
    match setup.typed.undo {
        true => Ok(taken_back(setup, &config, &contexts)?),
        false => written(setup, &config, &contexts),
    }
}

struct Context {
    name: String,
    cluster: String,
    user: String,
    namespace: Option<String>,
}

impl Context {
    fn read(entry: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let context = &entry["context"];
        Some(Self {
            name: text(&entry["name"])?,
            cluster: text(&context["cluster"])?,
            user: text(&context["user"]).unwrap_or_default(),
            namespace: text(&context["namespace"]),
        })
    }

    fn is_ours(&self) -> bool {
        self.user == USER && self.name.ends_with(OURS)
    }
}

fn list<'v>(config: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    config[name].as_array().into_iter().flatten()
}

/// The kubeconfig as kubectl sees it, whatever files it is made of; secrets are left out.
fn view(setup: &Setup<'_>) -> Result<Value> {
    let environment = setup.world.environment;
    let Some(path) = program::find("kubectl", environment) else {
        return Err(Error::new(Kind::Failed, "kubectl is not on PATH").hint("install kubectl"));
    };
    let hidden = |name: &str| setup.world.profiles.is_secret_variable(name);
    let arguments = ["config", "view", "-o", "json"].map(OsStr::new);
    let limit = Duration::from_secs(30);
    let failed = || Error::new(Kind::Failed, "kubectl cannot read its configuration");
    let finished = program::run(path.as_os_str(), &arguments, b"", environment, hidden, limit)
        .map_err(|error| failed().because(error))?;
    match serde_json::from_slice(&finished.output) {
        Ok(config) if finished.success => Ok(config),
        _ => Err(failed().hint("kubectl config view")),
    }
}

fn written(setup: &Setup<'_>, config: &Value, contexts: &[Context]) -> Result<Vec<Step>> {
    let program = setup.program()?;
    let Some(program) = program.to_str() else {
        return Err(Error::new(Kind::Failed, "the path of this program is not UTF-8"));
    };
    let mut steps = Vec::new();
    let present = list(config, "users").find(|user| user["name"] == USER);
    let exec = present.map(|user| &user["user"]["exec"]);
    let right = exec.is_some_and(|exec| {
        exec["command"] == program
            && exec["args"] == serde_json::json!(["kubectl"])
            && exec["provideClusterInfo"] == true
    });
    let somebody_elses = exec.is_some_and(|exec| exec["args"] != serde_json::json!(["kubectl"]));
    if somebody_elses && !setup.typed.replace {
        let what = format!("the kubeconfig has another user called {USER} already");
        return Err(Error::new(Kind::Failed, what).hint("--replace puts this one in its place"));
    }
    if !right {
        let command = format!("--exec-command={program}");
        steps.push(kubectl(&[
            "set-credentials",
            USER,
            "--exec-api-version=client.authentication.k8s.io/v1",
            &command,
            "--exec-arg=kubectl",
            "--exec-interactive-mode=IfAvailable",
            "--exec-provide-cluster-info=true",
        ]));
    }
    for host in &setup.typed.hosts {
        for context in at(host, config, contexts)? {
            let name = format!("{}{OURS}", context.name);
            if context.user == USER || contexts.iter().any(|other| other.name == name) {
                continue;
            }
            let cluster = format!("--cluster={}", context.cluster);
            let user = format!("--user={USER}");
            let namespace =
                context.namespace.as_ref().map(|namespace| format!("--namespace={namespace}"));
            let mut words = vec!["set-context", &name, &cluster, &user];
            words.extend(namespace.as_deref());
            steps.push(kubectl(&words));
            steps.push(Step::Tell(format!("# to use it: kubectl config use-context {name}")));
        }
    }
    if setup.typed.hosts.is_empty() && !steps.is_empty() {
        let text = format!(
            "# to use it in the current context: kubectl config set-context --current --user={USER}"
        );
        steps.push(Step::Tell(text));
    }
    Ok(steps)
}

fn taken_back(setup: &Setup<'_>, config: &Value, contexts: &[Context]) -> Result<Vec<Step>> {
    let mut meant: Vec<&Context> = contexts.iter().filter(|context| context.is_ours()).collect();
    let hosts = &setup.typed.hosts;
    if !hosts.is_empty() {
        let mut named = Vec::new();
        for host in hosts {
            named.extend(at(host, config, contexts)?.into_iter().map(|context| &context.name));
        }
        meant.retain(|context| named.contains(&&context.name));
    }
    let gone: Vec<&String> = meant.iter().map(|context| &context.name).collect();
    let mut steps: Vec<Step> =
        gone.iter().map(|name| kubectl(&["delete-context", name.as_str()])).collect();
    let left: Vec<&str> = contexts
        .iter()
        .filter(|context| context.user == USER && !gone.contains(&&context.name))
        .map(|context| context.name.as_str())
        .collect();
    let ours = list(config, "users").any(|user| {
        user["name"] == USER && user["user"]["exec"]["args"] == serde_json::json!(["kubectl"])
    });
    match (ours, left.as_slice()) {
        (true, []) => steps.push(kubectl(&["delete-user", USER])),
        (true, left) if hosts.is_empty() => {
            let text = format!("# the user {USER} stays: contexts use it: {}", left.join(", "));
            steps.push(Step::Tell(text));
        }
        _ => {}
    }
    Ok(steps)
}

/// The contexts whose cluster is at this host, or at this very URL.
fn at<'c>(host: &str, config: &Value, contexts: &'c [Context]) -> Result<Vec<&'c Context>> {
    let asked = Resource::parse(host)?;
    let clusters: Vec<&str> = list(config, "clusters")
        .filter(|cluster| {
            let server = cluster["cluster"]["server"].as_str().map(Resource::parse);
            server.and_then(std::result::Result::ok).is_some_and(|server| {
                server.host == asked.host && (asked.path.is_none() || asked.path == server.path)
            })
        })
        .filter_map(|cluster| cluster["name"].as_str())
        .collect();
    let found: Vec<&Context> =
        contexts.iter().filter(|context| clusters.contains(&context.cluster.as_str())).collect();
    if found.is_empty() {
        let what = format!("no context of the kubeconfig has its cluster at {host}");
        return Err(Error::new(Kind::Failed, what).hint("kubectl config get-contexts"));
    }
    Ok(found)
}

fn kubectl(words: &[&str]) -> Step {
    let words = ["kubectl", "config"].iter().chain(words).map(|word| (*word).to_owned());
    Step::Run(words.collect())
}
