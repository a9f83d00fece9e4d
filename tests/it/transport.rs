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
