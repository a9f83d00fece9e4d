//! docker's daemon: the one that talks to registries when somebody pulls.

use serde_json::json;

use super::installed;
use crate::lab::{Run, Sandbox, Started};
use crate::scene::program;

/// The mounts and processes of the daemon are in namespaces of their own, and the first process
/// there ends when its stdin does, be it that the test is killed; then the kernel ends the others.
/// `/run` is hidden because the daemon wants a directory there, whatever it is told.
const ALONE: &str = "mount -t tmpfs none /run && \"$@\" & cat";

/// Runs until dropped.
pub(super) struct Engine {
    daemon: Option<Started>,
    sandbox: Sandbox,
}

impl Engine {
    pub(super) fn start() -> Self {
        let sandbox = Sandbox::new(program());
        let place = |name: &str| sandbox.root().join(name);
        let configuration = json!({
            "hosts": [address(&sandbox)],
            "data-root": place("images"),
            "exec-root": place("runtime/engine"),
            "pidfile": place("runtime/pid"),
            "deprecated-key-path": place("key.json"),
            "storage-driver": "vfs",
            "bridge": "none",
            "iptables": false,
            "ip6tables": false,
            "ip-forward": false,
            "ip-masq": false,
        });
        let file = sandbox.write("daemon.json", configuration.to_string().as_bytes(), 0o600);
        for name in ["dockerd", "containerd", "runc"] {
            let there = installed().join("docker").join(name);
            std::os::unix::fs::symlink(there, sandbox.bin().join(name)).expect("a new link");
        }
        let alone = ["--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "sh", "-c"];
        let daemon = sandbox.run("unshare", &alone).arg(ALONE).arg("sh").arg("dockerd");
        let daemon = daemon.arg("--config-file").arg(file).stdin_open().start();
        daemon.expect_stderr("API listen on");
        Self { daemon: Some(daemon), sandbox }
    }

    /// A client that talks to this daemon.
    pub(super) fn client(&self, run: Run) -> Run {
        run.env("DOCKER_HOST", address(&self.sandbox))
    }
}

fn address(sandbox: &Sandbox) -> String {
    format!("unix://{}", sandbox.root().join("runtime/socket").display())
}

impl Drop for Engine {
    fn drop(&mut self) {
        // What is killed while the test panics need not be gone before its files are.
        if let Some(daemon) = self.daemon.take().filter(|_| !std::thread::panicking()) {
            daemon.wait();
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("dockerd")
    }
}
