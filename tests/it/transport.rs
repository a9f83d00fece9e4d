//! The way to the server: TLS, proxies, bounds (oauth.md 6.4, N12).

use std::io::{BufReader, Write as _};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::listener::Listener;
use crate::lab::tls::{CertificateAuthority, ConnectProxy, TlsFront};
use crate::lab::watched::PATIENCE;
use crate::lab::wire;
use crate::lab::{Gate, Options, Scheme, Step};
use crate::scene::{Scene, value};

const NAME: &str = "auth.lab.invalid";

/// The lab's authorization server behind TLS, and a signed-in profile whose token is due. Its issuer
/// is `https://localhost:PORT`, or `https://NAME` for who comes through the proxy.
struct Secured {
    scene: Scene,
    authority: CertificateAuthority,
    front: TlsFront,
}

impl Secured {
    fn start(name: &str) -> Self {
        let options = Options {
            iss_in_callback: false,
            iss_advertised: false,
            approve_devices_after: Some(0),
            verification_uri_complete: false,
            ..Options::default()
        };
        let scene = Scene::with(Scheme::Basic, options);
        let authority = CertificateAuthority::new();
        let front = TlsFront::start(&authority, name, &scene.authority.origin());
        let secured = Self { scene, authority, front };
        let issuer = secured.issuer(name);
        let plain = secured.scene.authority.origin();
        secured.scene.sandbox.config(&format!(
            "[profile.lab]\norigins = [\"{}\"]\nissuer = \"{issuer}\"\nclient_id = \"{}\"\n\
             flow = \"device\"\n",
            secured.scene.host.origin(),
            crate::lab::CLIENT_ID,
        ));
        secured.scene.authority.metadata(move |document| {
            for value in document.values_mut() {
                if let Some(text) = value.as_str() {
                    *value = text.replace(&plain, &issuer).into();
                }
            }
        });
        secured.scene.sandbox.env("VALETKEY_INTERACTIVE", "always");
        secured
    }

    fn issuer(&self, name: &str) -> String {
        match name {
            NAME => format!("https://{NAME}"),
            name => format!("https://{name}:{}", self.front.address().port()),
        }
    }

    /// The person's page must be https too, or here.
    fn trust(&self) -> &Self {
        let path = self.scene.sandbox.write("ca.pem", self.authority.pem().as_bytes(), 0o644);
        self.scene.sandbox.env("SSL_CERT_FILE", path);
        self
    }

    fn verification(&self) {
        let answer = serde_json::json!({
            "device_code": "c", "user_code": "WDJB-MJHT", "interval": 1,
            "verification_uri": "https://idp.example/device",
        });
        self.scene.authority.next("/device_authorization", vec![Step::json(200, &answer)]);
        let tokens = serde_json::json!({ "access_token": "over-tls", "token_type": "Bearer" });
        self.scene.authority.next("/token", vec![Step::json(200, &tokens)]);
    }
}

/// Check 20, N12: a private authority by SSL_CERT_FILE; without it, or for another name, nothing is
/// sent.
#[test]
fn check_20_a_private_certificate_authority_by_ssl_cert_file() {
    let secured = Secured::start("localhost");
    secured.verification();
    let refused = secured.scene.get().run();
    refused.assert_status(5).assert_stdout("").assert_stderr_has("SSL_CERT_FILE");
    assert_eq!(secured.scene.authority.journal().snapshot().len(), 0);
    secured.trust();
    let finished = secured.scene.get().run();
    assert_eq!(value(&finished, "password").as_deref(), Some("over-tls"), "{finished}");
    assert_eq!(secured.scene.authority.asked("/device_authorization"), 1);

    let other = Secured::start("127.0.0.1");
    let wrong = other.issuer("localhost");
    other.scene.sandbox.config(&format!(
        "[profile.lab]\norigins = [\"{}\"]\nissuer = \"{wrong}\"\nclient_id = \"x\"\n",
        other.scene.host.origin(),
    ));
    other.trust().scene.get().run().assert_status(5).assert_stdout("");
    assert_eq!(other.scene.authority.journal().snapshot().len(), 0);
}

/// A certificate file that cannot be read is said to be the trouble, and only when it is needed.
#[test]
fn a_broken_ssl_cert_file_is_named_and_matters_to_nobody_with_a_good_token() {
    let scene = Scene::new();
    scene.sign_in();
    for content in [None, Some("no certificate")] {
        let path = match content {
            None => "/no/such/file".into(),
            Some(text) => scene.sandbox.write("broken.pem", text.as_bytes(), 0o644),
        };
        scene.sandbox.env("SSL_CERT_FILE", path);
        // The client is built when first used, and a cached answer uses none.
        assert!(value(&scene.get().run(), "password").is_some());
    }
    let secured = Secured::start("localhost");
    secured.scene.sandbox.env("SSL_CERT_FILE", "/no/such/file");
    secured.scene.get().run().assert_status(78).assert_stderr_has("hint: check SSL_CERT_FILE");
}

/// Attack 6.4-23, check 10: within https nothing leads to plain http, whatever the document says.
#[test]
fn attack_23_https_metadata_cannot_name_an_http_endpoint() {
    let secured = Secured::start(NAME);
    let proxy = ConnectProxy::start(secured.front.address());
    secured.trust().scene.sandbox.env("HTTPS_PROXY", proxy.url());
    for endpoint in [
        "http://auth.lab.invalid/token".to_owned(),
        secured.scene.authority.url("/token"),
        format!("https://{}/token", secured.front.address()),
        "https://169.254.169.254/token".to_owned(),
        "https://10.1.2.3/token".to_owned(),
    ] {
        let shown = endpoint.clone();
        secured.scene.authority.metadata(move |document| {
            document.insert("token_endpoint".into(), endpoint.clone().into());
        });
        let finished = secured.scene.get().run();
        finished.assert_status(78).assert_stdout("").assert_stderr_has(&shown);
        assert_eq!(secured.scene.authority.asked("/device_authorization"), 0);
    }
}

/// Check 20: HTTPS_PROXY is used for the world, NO_PROXY takes hosts out of it, and TLS goes through
/// the proxy whole.
#[test]
fn check_20_https_proxy_and_no_proxy() {
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let secured = Secured::start(NAME);
        let proxy = ConnectProxy::start(secured.front.address());
        secured.trust().scene.sandbox.env(variable, proxy.url()).env("NO_PROXY", "other.invalid");
        secured.verification();
        let finished = secured.scene.get().run();
        assert_eq!(value(&finished, "password").as_deref(), Some("over-tls"), "{finished}");
        let asked = proxy.asked();
        assert!(!asked.is_empty());
        let only = format!("CONNECT {NAME}:443 HTTP/1.1");
        assert!(asked.iter().all(|line| *line == only), "{asked:?}");
    }
    for exception in ["*", NAME, ".lab.invalid", "lab.invalid", "other.example, auth.lab.invalid"] {
        let secured = Secured::start(NAME);
        let proxy = ConnectProxy::start(secured.front.address());
        secured.trust().scene.sandbox.env("HTTPS_PROXY", proxy.url()).env("NO_PROXY", exception);
        secured.scene.get().run().assert_status(5).assert_stdout("");
        assert_eq!(proxy.asked(), [""; 0], "{exception}");
    }
}

/// Check 20: two programs of one machine need no proxy between them, whatever the variables say.
#[test]
fn check_20_the_loopback_is_never_proxied() {
    let scene = Scene::new();
    let proxy = ConnectProxy::start("127.0.0.1:1".parse().expect("an address"));
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        scene.sandbox.env(variable, proxy.url());
    }
    scene.sign_in();
    let secured = Secured::start("localhost");
    secured.verification();
    secured.trust().scene.sandbox.env("HTTPS_PROXY", proxy.url());
    secured.scene.get().run().assert_status(0);
    assert_eq!(proxy.asked(), [""; 0]);
}

/// Attack 6.4-25: a server that says nothing, or a byte now and then, is given up after thirty
/// seconds, and the session is kept.
#[test]
fn slow_attack_25_every_exchange_ends_within_thirty_seconds() {
    let scene = || {
        let scene = Scene::new();
        scene.sign_in();
        scene.age(3600);
        scene
    };
    let silent = Arc::new(scene());
    let dribbling = Arc::new(scene());
    // And once more: the answer may be lost, and the server have rotated.
    silent.authority.always("/token", Step::HoldAndClose(Gate::new()));
    let dribble = Listener::bind().serve(|mut stream| {
        let _ = wire::read_head(&mut BufReader::new(stream));
        let mut answer = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{");
        // Until it is hung up on.
        while answer.is_ok() {
            thread::park_timeout(Duration::from_millis(200));
            answer = stream.write_all(b" ");
        }
    });
    dribbling.profile(&format!("token_endpoint = \"http://{}/token\"", dribble.address()));
    let started = Instant::now();
    let both = [silent, dribbling].map(|scene| {
        thread::spawn(move || {
            scene.get().run().assert_status(5).assert_stdout("");
            assert_eq!(scene.authority.live_grants(), 1);
        })
    });
    for thread in both {
        thread.join().expect("it ended in time");
    }
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
}

/// What git or another tool of the person's is told about proxies and certificates counts here too,
/// and git itself comes through by it.
#[test]
fn proxies_and_certificates_of_other_tools_count() {
    let own = format!("https://{NAME}/");
    for (git, variables, through) in [
        ("[http]\n\tproxy = @P\n\tsslCAInfo = @C\n", &[][..], true),
        ("[http \"@O\"]\n\tproxy = @P\n\tsslCAInfo = ~/ca.pem\n", &[], true),
        ("[http]\n\tproxy = @P\n\tsslCAPath = @D\n", &[], true),
        ("[http]\n\tproxy = @P\n", &[("GIT_SSL_CAINFO", "@C")], true),
        ("", &[("HTTPS_PROXY", "@P"), ("REQUESTS_CA_BUNDLE", "@C")], true),
        ("", &[("HTTPS_PROXY", "@P"), ("CURL_CA_BUNDLE", "@C")], true),
        ("", &[("HTTPS_PROXY", "@P"), ("NODE_EXTRA_CA_CERTS", "@C")], true),
        ("", &[("HTTPS_PROXY", "@P"), ("SSL_CERT_DIR", "@D")], true),
        // git's own setting comes before the environment's, and can say that there is none.
        (
            "[http]\n\tproxy = @P\n",
            &[("HTTPS_PROXY", "http://127.0.0.1:9"), ("SSL_CERT_FILE", "@C")],
            true,
        ),
        ("[http]\n\tproxy =\n", &[("HTTPS_PROXY", "@P"), ("SSL_CERT_FILE", "@C")], false),
        ("[http]\n\tproxy = @P\n", &[("NO_PROXY", NAME), ("SSL_CERT_FILE", "@C")], false),
        ("[http \"https://other.example/\"]\n\tproxy = @P\n", &[("SSL_CERT_FILE", "@C")], false),
    ] {
        let secured = Secured::start(NAME);
        let proxy = ConnectProxy::start(secured.front.address());
        let pem = secured.authority.pem();
        let sandbox = &secured.scene.sandbox;
        let file = sandbox.write("trusted/ca.pem", pem.as_bytes(), 0o644);
        sandbox.write("home/ca.pem", pem.as_bytes(), 0o644);
        let directory = file.parent().expect("it has one").display().to_string();
        let fill = |text: &str| {
            text.replace("@P", &proxy.url())
                .replace("@D", &directory)
                .replace("@C", &file.display().to_string())
                .replace("@O", &own)
        };
        sandbox.git_config(&fill(git));
        for (name, value) in variables {
            sandbox.env(name, fill(value));
        }
        secured.verification();
        let finished = secured.scene.get().run();
        assert_eq!(finished.status, if through { 0 } else { 5 }, "{git} {variables:?} {finished}");
        assert_eq!(!proxy.asked().is_empty(), through, "{git} {variables:?}");
        assert!(proxy.asked().iter().all(|line| line.starts_with(&format!("CONNECT {NAME}:443"))));
        let whole = git.contains("ssl") && !git.contains("sslCAPath");
        if whole {
            let before = proxy.asked().len();
            sandbox.git(&["ls-remote", &format!("{own}x.git")]).run();
            assert!(proxy.asked().len() > before, "{git}: git does not come through");
            assert_eq!(secured.scene.authority.journal().at_path("/x.git/info/refs").len(), 1);
        }
    }
}

/// A repository's own file has no say, unless git itself asks from there.
#[test]
fn a_strangers_folder_names_no_proxy() {
    let secured = Secured::start(NAME);
    let proxy = ConnectProxy::start(secured.front.address());
    let sandbox = &secured.trust().scene.sandbox;
    sandbox.git(&["init", "-q", "."]).run().assert_status(0);
    sandbox.git(&["config", "http.proxy", &proxy.url()]).run().assert_status(0);
    secured.scene.get().run().assert_status(5);
    assert_eq!(proxy.asked(), [""; 0]);
    secured.verification();
    let root = sandbox.work().join(".git");
    let asked = secured.scene.get().env("GIT_DIR", &root).run();
    asked.assert_status(0);
    assert!(!proxy.asked().is_empty());
}

#[test]
fn what_git_calls_a_proxy_and_is_none_is_said_without_its_password() {
    let secured = Secured::start(NAME);
    let sandbox = &secured.trust().scene.sandbox;
    sandbox.git_config("[http]\n\tproxy = gopher://user:s3cr3t@h\n");
    let refused = secured.scene.get().env("VALETKEY_LOG", "debug").run();
    refused.assert_status(78).assert_stderr_has("git's http.proxy is no URL of a proxy");
    assert!(!refused.stderr_text().contains("s3cr3t"), "{refused}");
}
