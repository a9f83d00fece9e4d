//! `valetkey setup kubectl`: a user of the kubeconfig that asks us, and contexts that use it.
//! kubectl's own program writes the file. One user does for every cluster, because kubectl says
//! which one it is about to talk to; contexts that are there stay as they are.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::files::{self, Change};
use super::{Setup, Step, taken, tool};
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::model::Resource;

const USER: &str = "valetkey";
/// Behind the name of a context that we made from another.
const OURS: &str = "-valetkey";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let config = view(setup)?;
    let contexts: Vec<Context> = list(&config, "contexts").filter_map(Context::read).collect();
    let files = files(setup)?;
    let steps = match setup.typed.undo {
        true => taken_back(setup, &config, &contexts, &files)?,
        false => written(setup, &config, &contexts, &files)?,
    };
    let with_files = |step| match step {
        Step::Run { words, .. } => Step::Run { words, files: files.clone() },
        step => step,
    };
    Ok(steps.into_iter().map(with_files).collect())
}

/// The files that kubectl may write: those of its variable that are there, else one of them, else
/// the one in the home directory.
fn files(setup: &Setup<'_>) -> Result<Vec<PathBuf>> {
    let named = setup.world.environment.raw("KUBECONFIG").unwrap_or_default();
    let mut named: Vec<PathBuf> =
        std::env::split_paths(named).filter(|path| !path.as_os_str().is_empty()).collect();
    if named.is_empty() {
        named.push(setup.home()?.join(".kube/config"));
    }
    let absolute =
        |path: &PathBuf| files::followed(&std::path::absolute(path).unwrap_or(path.clone()));
    let there: Vec<&PathBuf> = named.iter().filter(|path| path.exists()).collect();
    match (there.as_slice(), named.last()) {
        ([], Some(last)) => Ok(vec![absolute(last)?]),
        (there, _) => there.iter().map(|path| absolute(path)).collect(),
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
    let output = tool::output(&["kubectl", "config", "view", "-o", "json"], setup.world)?;
    serde_json::from_slice(&output).map_err(|_| {
        let what = "kubectl shows its configuration, and not as JSON";
        Error::new(Kind::Failed, what).hint("kubectl config view -o json")
    })
}

/// Which versions of the plugin protocol this kubectl takes: the first one that asks whether
/// somebody is there (client-go 1.22) is the first one that takes `v1`.
fn takes_v1(setup: &Setup<'_>) -> Result<bool> {
    let help = tool::output(&["kubectl", "config", "set-credentials", "--help"], setup.world)?;
    Ok(String::from_utf8_lossy(&help).contains("--exec-interactive-mode"))
}

fn written(
    setup: &Setup<'_>,
    config: &Value,
    contexts: &[Context],
    files: &[PathBuf],
) -> Result<Vec<Step>> {
    let program = setup.program()?;
    let Some(program) = program.to_str() else {
        return Err(Error::new(Kind::Failed, "the path of this program is not UTF-8"));
    };
    let mut steps = Vec::new();
    let present = list(config, "users").find(|user| user["name"] == USER);
    let exec = present.map(|user| &user["user"]["exec"]);
    let new = takes_v1(setup)?;
    let version = format!("client.authentication.k8s.io/{}", if new { "v1" } else { "v1beta1" });
    let right = exec.is_some_and(|exec| {
        (new || exec["apiVersion"] == version)
            && exec["command"] == program
            && exec["args"] == serde_json::json!(["kubectl"])
            && exec["provideClusterInfo"] == true
    });
    let somebody_elses = exec.is_some_and(|exec| exec["args"] != serde_json::json!(["kubectl"]));
    if somebody_elses && !setup.typed.replace {
        return Err(taken(format!("the kubeconfig has another user called {USER} already")));
    }
    if !right {
        if somebody_elses {
            // kubectl adds to a user, and what this one had besides would go on counting.
            steps.push(kubectl(&["delete-user", USER]));
        }
        let command = format!("--exec-command={program}");
        steps.push(kubectl(&[
            "set-credentials",
            USER,
            &format!("--exec-api-version={version}"),
            &command,
            "--exec-arg=kubectl",
            "--exec-interactive-mode=IfAvailable",
            "--exec-provide-cluster-info=true",
        ]));
    }
    let mut added = Vec::new();
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
            added.push(json!({ "name": name, "context": {
                "cluster": context.cluster, "user": USER, "namespace": context.namespace,
            } }));
        }
    }
    if !new && !steps.is_empty() {
        let exec = json!({ "apiVersion": version, "command": program, "args": ["kubectl"],
            "provideClusterInfo": true });
        let users = json!([{ "name": USER, "user": { "exec": exec } }]);
        let more = json!({ "apiVersion": "v1", "kind": "Config", "users": users,
            "contexts": added });
        steps = vec![merged(setup, &more, files)?];
    }
    let named = added.iter().filter_map(|context| context["name"].as_str());
    steps.extend(
        named.map(|name| Step::Tell(format!("# to use it: kubectl config use-context {name}"))),
    );
    if setup.typed.hosts.is_empty() && !steps.is_empty() {
        let text = format!(
            "# to use it in the current context: kubectl config set-context --current --user={USER}"
        );
        steps.push(Step::Tell(text));
    }
    Ok(steps)
}

/// A kubectl without the flags for it, and that dies of a user it does not know yet (Debian's
/// 1.20.2), still joins what several files say.
fn merged(setup: &Setup<'_>, more: &Value, files: &[PathBuf]) -> Result<Step> {
    let world = setup.world;
    let Some(path) = files.first() else {
        return Err(Error::new(Kind::Failed, "there is no kubeconfig to write"));
    };
    let beside = world.environment.state_directory()?.join("setup-kubeconfig.json");
    let both = std::env::join_paths([&beside, path]).map_err(|error| {
        Error::new(Kind::Failed, format!("{} cannot be named", path.display())).because(error)
    })?;
    disk::replace(&beside, more.to_string().as_bytes())?;
    let environment = world.environment.with("KUBECONFIG", both);
    let words = ["kubectl", "config", "view", "--raw"];
    let output = tool::output_in(&words, &environment, world);
    disk::remove(&beside)?;
    let (path, before) = (path.clone(), files::content(path)?);
    Ok(Step::Write(Change { path, before, after: Some(output?), program: false }))
}

fn taken_back(
    setup: &Setup<'_>,
    config: &Value,
    contexts: &[Context],
    files: &[PathBuf],
) -> Result<Vec<Step>> {
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
    let mut steps = Vec::new();
    if let Some(current) = config["current-context"].as_str()
        && gone.iter().any(|gone| *gone == current)
    {
        let made_from = current.strip_suffix(OURS).unwrap_or(current);
        steps.push(match contexts.iter().any(|context| context.name == made_from) {
            true => kubectl(&["use-context", made_from]),
            false => kubectl(&["unset", "current-context"]),
        });
    }
    steps.extend(gone.iter().map(|name| kubectl(&["delete-context", name.as_str()])));
    let left: Vec<&str> = contexts
        .iter()
        .filter(|context| context.user == USER && !gone.contains(&&context.name))
        .map(|context| context.name.as_str())
        .collect();
    let ours = list(config, "users").any(|user| {
        user["name"] == USER && user["user"]["exec"]["args"] == serde_json::json!(["kubectl"])
    });
    match (ours, left.as_slice()) {
        (true, []) => {
            // Where nothing of ours is left, the files get back what they were.
            if let Some(restored) = setup.restored(files)? {
                return Ok(restored);
            }
            steps.push(kubectl(&["delete-user", USER]));
        }
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
    Step::Run { words: words.collect(), files: Vec::new() }
}
