//! go against a module proxy that wants a token, over TLS: go sends none without.

use std::path::Path;

use super::same_cases::{Client, Start, bearers};
use super::{Peer, here, installed};
use crate::lab::server::{Answer, Reply, Request, Server};
use crate::lab::tls::{CertificateAuthority, TlsFront};
use crate::lab::{Options, Person, Run, Step};
use crate::scene::{Home, program};

struct Proxy {
    home: Home,
    server: Server,
    front: TlsFront,
}

impl Proxy {
    fn start() -> Self {
        let home = Home::new(Options::default());
        let is_live = home.judge();
        let server = Server::start(move |request: &Request| {
            answer(request, request.bearer().is_some_and(&is_live))
        });
        let trust = CertificateAuthority::new();
        let front = TlsFront::start(&trust, "localhost", &server.origin());
        let proxy = Self { home, server, front };
        proxy.home.bind(&[&proxy.url()], "scheme = \"bearer\"");
        let sandbox = &proxy.home.sandbox;
        let certificate = sandbox.write("ca.pem", trust.pem().as_bytes(), 0o600);
        let command = format!("{} goauth", program().display());
        for (name, value) in [
            ("GOPROXY", proxy.url().as_str()),
            ("GOAUTH", &command),
            ("GOSUMDB", "off"),
            ("GOTOOLCHAIN", "local"),
            ("GOTELEMETRY", "off"),
            ("SSL_CERT_FILE", certificate.to_str().expect("a plain path")),
            ("SSL_CERT_DIR", "/nowhere"),
        ] {
            sandbox.env(name, value);
        }
        proxy.home.nobody();
        proxy
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.front.address().port())
    }

    /// `go list -m -versions`, which asks the proxy one question a module.
    fn list(&self, modules: &[&str]) -> Run {
        let run = self.home.sandbox.run(go(), &["list", "-m", "-versions"]);
        modules.iter().fold(run, Run::arg)
    }

    /// Requests without a token since `before` entries of the journal.
    fn without(&self, before: usize) -> usize {
        let asked = self.server.journal().snapshot().split_off(before);
        asked.iter().filter(|entry| entry.request.header("Authorization").is_none()).count()
    }
}

pub(super) fn clients() -> Vec<Start> {
    let start: Start = Box::new(|| Box::new(Proxy::start()));
    here(&[Peer::Go]).then_some(start).into_iter().collect()
}

impl Client for Proxy {
    fn name(&self) -> String {
        "go".to_owned()
    }

    fn home(&self) -> &Home {
        &self.home
    }

    fn url(&self) -> String {
        self.url()
    }

    fn ask(&self, _number: usize) -> Run {
        self.list(&["lab.example/m"])
    }

    fn tokens(&self) -> Vec<String> {
        bearers(self.server.journal())
    }

    /// Only with `-x`.
    fn shows(&self) -> bool {
        false
    }
}

fn go() -> std::path::PathBuf {
    installed().join("go/bin/go")
}

fn answer(request: &Request, good: bool) -> Reply {
    // Like many a proxy it does not say that there is anything to sign in for.
    if request.path.contains("/hidden/") && !good {
        return Answer::text(404, "not found\n").into();
    }
    if !good || request.path.contains("/forbidden/") {
        return Answer::empty(401).with_header("WWW-Authenticate", "Bearer").into();
    }
    match Path::new(&request.path).file_name().and_then(|name| name.to_str()) {
        Some("list") if !request.path.contains("/missing/") => Answer::text(200, "v1.0.0\n").into(),
        Some("v1.0.0.info") => Answer::text(200, "{\"Version\":\"v1.0.0\"}").into(),
        Some("v1.0.0.mod") => Answer::text(200, "module lab.example/m\n").into(),
        _ => Answer::text(404, "not found\n").into(),
    }
}

const FIVE: [&str; 5] =
    ["lab.example/a", "lab.example/b", "lab.example/c", "lab.example/d", "lab.example/e"];

#[test]
fn a_ready_token_is_sent_with_the_first_request() {
    if !here(&[Peer::Go]) {
        return;
    }
    let proxy = Proxy::start();
    proxy.home.sign_in_to(&proxy.url());
    let listed = proxy.list(&["lab.example/m"]).run();
    listed.assert(0, "lab.example/m v1.0.0\n", "");
    assert_eq!(proxy.without(0), 0);
    // A 404 brings go back to us with its URL: nobody is asked, and nothing changes.
    let missing = proxy.list(&["lab.example/missing"]).run();
    assert_ne!(missing.status, 0);
    missing.assert_stderr_has("404 Not Found");
    assert_eq!(proxy.home.authority.asked_for("refresh_token"), 0);
}

#[test]
fn one_sign_in_serves_every_module() {
    if !here(&[Peer::Go]) {
        return;
    }
    let proxy = Proxy::start();
    let refused = proxy.list(&["lab.example/m"]).run();
    assert_ne!(refused.status, 0);
    refused.assert_stderr_has("401 Unauthorized");
    let shown = proxy.home.sandbox.run(go(), &["list", "-x", "-m", "-versions", "lab.example/m"]);
    shown.run().assert_stderr_has(&format!("hint: valetkey login {}", proxy.url()));
    let browser = proxy.home.browser(Person::Approves);
    let run = proxy.list(&["lab.example/m"]).remove_env("VALETKEY_INTERACTIVE");
    assert_ne!(run.env("CI", "true").run().status, 0);
    // What is not found is no reason to ask a person.
    assert_ne!(proxy.list(&["lab.example/hidden/m"]).run().status, 0);
    assert!(browser.opened().is_empty());
    let listed = proxy.list(&FIVE).run();
    listed.assert_status(0);
    assert_eq!(listed.stdout_text().lines().count(), 5);
    assert_eq!(browser.opened().len(), 1);
    proxy.home.nobody();
    proxy.list(&["lab.example/hidden/m"]).run().assert(0, "lab.example/hidden/m v1.0.0\n", "");
}

/// GO13: go says that something was rejected, and not what.
#[test]
fn a_revoked_token_is_replaced_within_the_command_and_a_good_one_stays() {
    if !here(&[Peer::Go]) {
        return;
    }
    let proxy = Proxy::start();
    proxy.home.sign_in_to(&proxy.url());
    let authority = &proxy.home.authority;
    let revoke = || {
        proxy.home.age(120);
        authority.expire_all_access();
    };
    revoke();
    assert_eq!(proxy.list(&FIVE).run().assert_success().lines().count(), 5);
    assert_eq!(authority.asked_for("refresh_token"), 1);
    revoke();
    let all: Vec<_> = (0..20).map(|_| proxy.list(&FIVE[..1]).start()).collect();
    for one in all {
        one.wait().assert(0, "lab.example/a v1.0.0\n", "");
    }
    assert_eq!(authority.asked_for("refresh_token"), 2);
    // A host that lets nobody in is believed once, and while the server is away not at all.
    proxy.home.age(120);
    authority.next("/token", vec![Step::status(503)]);
    for asked in [3, 4, 4] {
        let refused = proxy.list(&["lab.example/forbidden/m"]).run();
        assert_ne!(refused.status, 0);
        refused.assert_stderr_has("401 Unauthorized");
        assert_eq!(authority.asked_for("refresh_token"), asked);
        proxy.list(&FIVE[..1]).run().assert(0, "lab.example/a v1.0.0\n", "");
    }
}

#[test]
fn setup_writes_gos_own_environment_and_takes_it_back() {
    if !here(&[Peer::Go]) {
        return;
    }
    let proxy = Proxy::start();
    proxy.home.sign_in_to(&proxy.url());
    let sandbox = &proxy.home.sandbox;
    sandbox.remove_env("GOAUTH");
    let path = std::env::join_paths(
        std::iter::once(sandbox.bin().to_owned())
            .chain(std::iter::once(installed().join("go/bin")))
            .chain(std::env::split_paths("/usr/bin:/bin")),
    );
    sandbox.env("PATH", path.expect("plain paths"));
    let listed = || sandbox.run("go", &["env", "GOAUTH"]).run().assert_success();
    assert_ne!(proxy.list(&["lab.example/m"]).run().status, 0);
    sandbox.valetkey(&["setup", "go"]).run().assert_status(0);
    assert_eq!(listed(), format!("{} goauth; netrc\n", program().display()));
    sandbox
        .valetkey(&["setup", "goauth"])
        .run()
        .assert_status(0)
        .assert_stderr_has("nothing to do");
    proxy.list(&["lab.example/m"]).run().assert(0, "lab.example/m v1.0.0\n", "");
    sandbox.valetkey(&["setup", "go", "--undo"]).run().assert_status(0);
    assert_eq!(listed(), "netrc\n");
    // A path with a space, and what others had written.
    let spaced = sandbox.root().join("a b");
    std::fs::create_dir(&spaced).expect("a directory");
    let own = spaced.join("valetkey");
    std::os::unix::fs::symlink(program(), &own).expect("a link");
    let path = format!("{}:{}", spaced.display(), installed().join("go/bin").display());
    sandbox.env("PATH", format!("{path}:/usr/bin:/bin"));
    sandbox.run("go", &["env", "-w", "GOAUTH=git /tmp; netrc"]).run().assert_success();
    sandbox.run(&own, &["setup", "go"]).run().assert_status(0);
    assert_eq!(listed(), format!("'{}' goauth; git /tmp; netrc\n", own.display()));
    proxy.list(&["lab.example/m"]).run().assert(0, "lab.example/m v1.0.0\n", "");
    sandbox.run(&own, &["setup", "go", "--undo"]).run().assert_status(0);
    assert_eq!(listed(), "git /tmp; netrc\n");
}
