//! The first promise: one sign-in, and five tools at five servers.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Peer, here, installed};
use crate::lab::tls::{CertificateAuthority, TlsFront};
use crate::lab::{CLIENT_ID, CrateHost, Door, GitHost, Options, Person, Registry, Sandbox, Scheme};
use crate::planted;
use crate::scene::Home;

const CARGO: &str = env!("CARGO");

/// git clones and the browser opens; docker, cargo, uv and kubectl find everybody signed in.
#[test]
fn who_signed_in_for_git_is_signed_in_for_docker_cargo_uv_and_kubectl() {
    if !here(&[Peer::Docker, Peer::Kubectl, Peer::Uv, Peer::Pip]) {
        return;
    }
    let home = Home::new(Options::default());
    let code = GitHost::start(Scheme::Basic, home.judge());
    code.create("team/s.git");
    let good = home.judge();
    let images = Registry::start(Door::Realm, move |_, password| good(password));
    let good = home.judge();
    let crates = CrateHost::start(move |sent| sent.strip_prefix("Bearer ").is_some_and(&good));
    let packages = super::python::start_index(home.judge());
    let cluster = super::kubectl::start_api(home.judge());
    let trust = CertificateAuthority::new();
    let cluster = TlsFront::start(&trust, "127.0.0.1", &cluster.origin());
    let cluster_url = format!("https://{}", cluster.address());

    let (sandbox, authority) = (&home.sandbox, &home.authority);
    sandbox.env("RUSTC", Path::new(CARGO).with_file_name("rustc"));
    sandbox.link("valetkey");
    sandbox.config(&format!(
        "[profile.acme]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\norigins = [\n\
         \"{}\",\n\"{}\",\n{{ url = \"{}\", scheme = \"bearer\" }},\n\"{}\",\n\"{cluster_url}\",\n]\n",
        authority.issuer(),
        code.origin(),
        images.origin(),
        crates.index(),
        packages.origin(),
    ));
    kubeconfig(sandbox, &cluster_url, &trust);
    let kubectl = installed().join("kubectl/kubectl");
    std::os::unix::fs::symlink(kubectl, sandbox.bin().join("kubectl")).expect("a new link");
    for arguments in [
        &["setup", "git"][..],
        &["setup", "docker", "--host", &images.host()],
        &["setup", "cargo"],
        &["setup", "keyring"],
        &["setup", "kubectl", "--host", &cluster_url],
    ] {
        sandbox.valetkey(arguments).run().assert_status(0);
    }
    let index = format!("[registries.lab]\nindex = \"sparse+{}\"\n", crates.index());
    let settings = sandbox.home().join(".cargo/config.toml");
    let settings = std::fs::read_to_string(settings).expect("setup wrote it") + &index;
    sandbox.write("home/.cargo/config.toml", settings.as_bytes(), 0o644);
    let manifest = "[package]\nname = \"user\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
                    [dependencies]\nhello-lab = { version = \"0.1\", registry = \"lab\" }\n";
    sandbox.write("work/user/Cargo.toml", manifest.as_bytes(), 0o644);
    sandbox.write("work/user/src/lib.rs", b"", 0o644);

    let browser = home.browser(Person::Approves);
    sandbox.git(&["clone", "--quiet", &code.url("team/s.git"), "s"]).run().assert_status(0);
    assert_eq!(browser.opened().len(), 1);

    for docker in super::docker::programs() {
        let inspect = ["manifest", "inspect", "--insecure", &images.image()];
        let finished = sandbox.run(docker, &inspect).run();
        assert!(finished.assert_status(0).stdout_text().contains("schemaVersion"), "{finished}");
    }
    let fetch = sandbox.run(CARGO, &["fetch"]).cwd(sandbox.work().join("user"));
    fetch.run().assert_status(0).assert_stderr_has("Downloaded hello-lab v0.1.0");
    let simple = packages.origin().replace("http://", "http://oauth2@") + "/simple/";
    let python = installed().join("pip-26.3/bin/python");
    let install = ["pip", "install", "--quiet", "--no-cache", "--keyring-provider=subprocess"];
    let install = sandbox.run(super::python::uv(), &install).arg("--index-url").arg(simple);
    let install = install.arg("--python").arg(python);
    let install = install.arg("--target").arg("packages").arg("labpkg");
    install.run().assert_status(0);
    assert!(sandbox.work().join("packages/labpkg-1.0.dist-info").exists());
    let version = ["--context", "lab-valetkey", "get", "--raw", "/version"];
    sandbox.run("kubectl", &version).run().assert(0, super::kubectl::ANSWER, "");

    assert_eq!(browser.opened().len(), 1, "one sign-in for all of them");
    assert_eq!(authority.asked_for("authorization_code"), 1);
    assert_eq!(authority.asked_for("refresh_token"), 0);
    let kept = sandbox.files().into_iter().filter(|file| file.path.starts_with(planted::SESSIONS));
    assert_eq!(kept.count(), 1, "one session");
}

fn kubeconfig(sandbox: &Sandbox, server: &str, trust: &CertificateAuthority) {
    let data = BASE64_STANDARD.encode(trust.pem());
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
         contexts:\n- name: lab\n  context: {{ cluster: lab, user: lab }}\n\
         clusters:\n- name: lab\n  cluster: {{ server: \"{server}\", certificate-authority-data: {data} }}\n\
         users:\n- name: lab\n  user: {{}}\n"
    );
    sandbox.write("home/.kube/config", text.as_bytes(), 0o600);
}
