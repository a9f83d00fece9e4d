//! Real clients and servers that nobody here wrote. tests/peers/README.md says what each is and
//! how it is installed; a test whose peer is not on this machine says so and passes, except under
//! CI, where it fails.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests may look at the machine as the product may not"
)]

mod approver;
mod aws;
mod cargo;
mod chains;
mod chromium;
mod django;
mod docker;
mod engine;
mod exchange;
mod git_callers;
mod git_suite;
mod gitoxide;
mod go;
mod google;
mod kubectl;
mod nobody_is_asked;
mod oidc_provider;
mod old_git;
mod one_story;
mod pnpm;
mod provider;
mod python;
mod same_cases;
mod setup_files;
mod setup_git;
mod spoken;
mod terraform;
mod unconfigured;
mod urls;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::lab::Sandbox;

/// A program that a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Aws,
    Chromium,
    Containers,
    Django,
    Docker,
    DockerEngine,
    GitLfs,
    GitSuite,
    Go,
    GoogleAuth,
    Helm,
    Keyring,
    Kubectl,
    OidcProvider,
    OldGit,
    OldKubectl,
    Parsers,
    Pdm,
    Pnpm,
    Pip,
    PythonKeyring,
    PythonKubernetes,
    Uv,
}

impl Peer {
    /// Its name in tests/peers/install.
    fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Chromium => "chromium",
            Self::Containers => "containers",
            Self::Django => "django-oauth-toolkit",
            Self::Docker | Self::DockerEngine => "docker",
            Self::GitLfs => "git-lfs",
            Self::GitSuite => "git-suite",
            Self::Go => "go",
            Self::GoogleAuth => "google-auth",
            Self::Helm | Self::Kubectl => "kubectl",
            Self::Keyring => "keyring",
            Self::OidcProvider => "oidc-provider",
            Self::OldGit => "old-git",
            Self::OldKubectl => "old-kubectl",
            Self::Parsers => "parsers",
            Self::Pdm => "pdm",
            Self::Pnpm => "pnpm",
            Self::Pip => "pip",
            Self::PythonKeyring => "python-keyring",
            Self::PythonKubernetes => "python-kubernetes",
            Self::Uv => "uv",
        }
    }

    fn is_here(self) -> bool {
        let node = |package: &str| {
            let manifest = format!("node/node_modules/{package}/package.json");
            on_path("node") && installed().join(manifest).is_file()
        };
        match self {
            Self::Aws => ["aws/bin/aws", "moto/bin/python"]
                .iter()
                .all(|path| installed().join(path).is_file()),
            Self::GoogleAuth => installed().join("google-auth/bin/python").is_file(),
            Self::Helm => installed().join("kubectl/helm").is_file(),
            Self::Chromium => on_path("chromium") && node("playwright-core"),
            Self::Containers => ["skopeo", "podman", "buildah"].into_iter().all(on_path),
            Self::Docker => !docker::programs().is_empty(),
            Self::DockerEngine => {
                let program = installed().join("docker/dockerd");
                program.is_file() && rustix::process::geteuid().is_root()
            }
            Self::Django => installed().join("django-oauth-toolkit/bin/python").is_file(),
            Self::GitLfs => on_path("git-lfs"),
            Self::GitSuite => installed().join("git-suite/VERSION").is_file(),
            Self::Keyring => {
                ["dbus-daemon", "dbus-send", "gnome-keyring-daemon"].into_iter().all(on_path)
            }
            Self::Kubectl => installed().join("kubectl/kubectl").is_file(),
            Self::OidcProvider => node("oidc-provider"),
            Self::Parsers => ["curl", "node", "python3"].into_iter().all(on_path),
            Self::Pdm => installed().join("pdm/bin/pdm").is_file(),
            Self::Pnpm => pnpm::programs().iter().all(|(_, program)| program.is_file()),
            Self::Pip => ["23.2.1", "25.3", "26.3"]
                .iter()
                .all(|version| installed().join(format!("pip-{version}/bin/python")).is_file()),
            Self::PythonKeyring => installed().join("python-keyring/bin/keyring").is_file(),
            Self::PythonKubernetes => installed().join("python-kubernetes/bin/python").is_file(),
            Self::Uv => installed().join("uv/bin/uv").is_file(),
            Self::Go => installed().join("go/bin/go").is_file(),
            Self::OldKubectl => installed().join("old-kubectl/kubectl").is_file(),
            Self::OldGit => minor_version(OLD_GIT).is_some_and(|minor| minor < 41),
        }
    }
}

/// Whether all of these peers are here. Whoever gets a `false` has nothing to test.
#[track_caller]
fn here(peers: &[Peer]) -> bool {
    let Some(missing) = peers.iter().find(|peer| !peer.is_here()) else { return true };
    let root = if *missing == Peer::DockerEngine { "; it needs root" } else { "" };
    let words = format!("{0} is missing: run tests/peers/install {0}{root}", missing.name());
    assert!(std::env::var_os("CI").is_none(), "{words}");
    // Past the test runner, which shows what a test printed only when it failed.
    let _ = writeln!(std::io::stderr(), "skipped: {words}");
    false
}

/// Before 2.41 git knows neither `wwwauth[]` nor capabilities, and before 2.40 no expiry.
const OLD_GIT: &str = "/usr/bin/git";

/// The old git is the only one that programs in the sandbox find from now on.
fn with_old_git(sandbox: &Sandbox) {
    std::os::unix::fs::symlink(OLD_GIT, sandbox.bin().join("git")).expect("a new link");
}

fn minor_version(git: &str) -> Option<u32> {
    let printed = Command::new(git).arg("version").output().ok()?.stdout;
    let text = String::from_utf8(printed).ok()?;
    text.strip_prefix("git version 2.")?.split('.').next()?.trim().parse().ok()
}

/// The sources of the peers.
fn peer(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(path)
}

/// Where tests/peers/install put what does not come from Debian.
fn installed() -> PathBuf {
    std::env::var_os("VALETKEY_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"), PathBuf::from)
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Held by a test while it runs programs that each fill a processor for seconds.
fn heavy() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}
