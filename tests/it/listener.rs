//! What reaches the loopback listener besides the one request that it is for (oauth.md 6.1):
//! nothing of it ends the sign-in, is shown, or holds up the browser that the person uses.

use std::thread;

use crate::asked::{Asked, navigate};
use crate::lab::browser::NAVIGATION;
use crate::lab::{
    Browser, Gate, Page, Person, RawConnection, Sandbox, Started, Step, client, watched,
};
use crate::scene::{Scene, program, value};

/// A sign-in that waits for its redirect.
struct Waiting {
    scene: Scene,
    started: Started,
    asked: Asked,
    _browser: Browser,
}

impl Waiting {
    fn new() -> Self {
        let scene = Scene::new();
        let browser = scene.browser(Person::Ignores);
        let started = scene.get().start();
        let asked = Asked::by(&browser);
        Self { scene, started, asked, _browser: browser }
    }

    fn request(&self, method: &str, url: &str, headers: &[(&str, &str)]) -> Page {
        client::http(method, url, headers, b"")
            .unwrap_or_else(|error| panic!("{method} {url}: {error}"))
    }

    /// The status of what these bytes are answered.
    fn raw(&self, bytes: &str) -> String {
        let answer = RawConnection::exchange(self.asked.port(), bytes.as_bytes());
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// The genuine redirect still works, and nothing went out before it.
    #[track_caller]
    fn succeeds(self) {
        assert_eq!(self.scene.authority.asked("/token"), 0, "something was believed");
        assert!(self.started.is_running(), "something ended the sign-in");
        assert_eq!(self.asked.approve().status, 200);
        let finished = self.started.wait();
        assert!(value(&finished, "password").is_some(), "{finished}");
    }
}

/// Attacks 6.1-1 and 2, N7, check 7: another page's code, or its error, changes nothing.
#[test]
fn attack_1_2_a_forged_redirect_is_refused_and_the_wait_goes_on() {
    let waiting = Waiting::new();
    let state = waiting.asked.parameter("state");
    let last = if state.ends_with('A') { 'E' } else { 'A' };
    let wrong = format!("{}{last}", &state[..42]);
    for parameters in [
        vec![("code", "attacker"), ("state", wrong.as_str())],
        vec![("code", "attacker"), ("state", "")],
        vec![("code", "attacker")],
        vec![("error", "access_denied")],
        vec![("error", "access_denied"), ("state", "x")],
        vec![("state", &state)],
        vec![("code", ""), ("state", &state)],
        // T1: no parameter twice.
        vec![("code", "attacker"), ("code", "b"), ("state", &state)],
        vec![("code", "attacker"), ("state", &state), ("state", &state)],
        vec![("error", "a"), ("error", "b"), ("state", &state)],
        // Attack 11: no control characters.
        vec![("code", "a\r\nSet-Cookie: b"), ("state", &state)],
    ] {
        // With the right issuer, so that it is not this that saves us.
        let issuer = waiting.scene.authority.issuer();
        let parameters = [&parameters[..], &[("iss", issuer.as_str())]].concat();
        let page = navigate(&waiting.asked.callback(&parameters));
        assert_eq!(page.status, 400, "{parameters:?}");
    }
    for query in ["code=%ff&state=x", "code=%zz", "code=%0", "=&&=", "%"] {
        let redirect = waiting.asked.parameter("redirect_uri");
        assert_eq!(navigate(&format!("{redirect}?{query}")).status, 400, "{query}");
    }
    waiting.succeeds();
}

/// Attacks 6.1-3 and 4, check 7: only a browser that goes to the very address is heard; no CORS
/// header is ever sent, and no preflight succeeds.
#[test]
fn attack_3_4_scripts_frames_and_other_hosts_are_refused() {
    let waiting = Waiting::new();
    let genuine = waiting.asked.approved();
    let origin = waiting.asked.redirect().origin().ascii_serialization();
    let mut pages = vec![
        (404, waiting.request("GET", &format!("{origin}/favicon.ico"), NAVIGATION)),
        (404, waiting.request("GET", &format!("{origin}/"), NAVIGATION)),
        (404, waiting.request("GET", &waiting.asked.parameter("redirect_uri"), NAVIGATION)),
        (404, waiting.request("GET", &genuine.replace("/callback", "/callback/x"), NAVIGATION)),
        (404, waiting.request("GET", &genuine.replace("/callback", "/Callback"), NAVIGATION)),
        (405, waiting.request("POST", &genuine, &[])),
        (405, waiting.request("HEAD", &genuine, &[])),
        (405, waiting.request("PUT", &genuine, &[])),
    ];
    let preflight = [
        ("Origin", "https://evil.example"),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Private-Network", "true"),
    ];
    pages.push((405, waiting.request("OPTIONS", &genuine, &preflight)));
    for (mode, destination) in [
        ("no-cors", "image"),
        ("cors", "empty"),
        ("navigate", "iframe"),
        ("navigate", "frame"),
        ("no-cors", "script"),
        ("websocket", "empty"),
    ] {
        let headers = [("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", destination)];
        pages.push((403, waiting.request("GET", &genuine, &headers)));
    }
    for (status, page) in &pages {
        assert_eq!(page.status, *status, "{}", page.url);
        let cors = page.headers.iter().find(|(name, _)| {
            name.to_ascii_lowercase().starts_with("access-control-") || name == "Set-Cookie"
        });
        assert_eq!(cors, None);
    }

    let target = genuine.strip_prefix(&origin).expect("below the origin");
    let port = waiting.asked.port();
    for host in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("localhost:{port}"),
        "127.0.0.1".to_owned(),
        format!("127.0.0.1:{port}\r\nHost: evil.example"),
        format!("127.0.0.1:{port}, evil.example"),
        String::new(),
    ] {
        let status = waiting.raw(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(status, "403", "{host}");
    }
    assert_eq!(waiting.raw(&format!("GET {target} HTTP/1.1\r\n\r\n")), "403");
    assert_eq!(waiting.raw(&format!("GET {target}\r\n\r\n")), "400");
    assert_eq!(
        waiting.raw(&format!("GET {target} HTTP/2.0\r\nHost: 127.0.0.1:{port}\r\n\r\n")),
        "400"
    );
    assert_eq!(waiting.raw("\r\n\r\n"), "400");
    waiting.succeeds();
}

/// Attack 6.1-7, check 7: floods are cut off, and the genuine redirect is behind none of them.
#[test]
fn attack_7_two_hundred_idle_connections_and_floods_hold_nobody_up() {
    let waiting = Waiting::new();
    let port = waiting.asked.port();
    let flood = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let status = waiting.raw(&flood);
    assert!(status == "431" || status.is_empty(), "{status}");
    let binary = RawConnection::exchange(port, &[0xff; 64]);
    assert!(binary.len() < 2_000);

    let mut idle: Vec<_> = (0..200).map(|_| RawConnection::open(port)).collect();
    for (number, connection) in idle.iter_mut().enumerate() {
        if number % 2 == 0 {
            // Some of them are closed by now.
            let _ = connection.send(b"GET /callback?code=");
        }
    }
    waiting.succeeds();
    drop(idle);
}

/// Attack 6.1-7: the browser that brought the code is not thrown out by those that bring nothing
/// while the code is exchanged, and a stray visitor cannot take its last page.
#[test]
fn attack_7_the_browser_that_waits_for_the_exchange_keeps_its_connection() {
    let waiting = Waiting::new();
    let gate = Gate::new();
    waiting.scene.authority.next("/token", vec![Step::Hold(gate.clone())]);
    let genuine = waiting.asked.approved();
    let browser = thread::spawn(move || navigate(&genuine));
    gate.reached();
    let port = waiting.asked.port();
    let origin = waiting.asked.redirect().origin().ascii_serialization();
    let idle: Vec<_> = (0..200).map(|_| RawConnection::open(port)).collect();
    assert_eq!(navigate(&format!("{origin}/done")).status, 200);
    gate.open();
    let page = browser.join().expect("the browser is answered");
    assert_eq!((page.status, page.header("Location")), (303, Some("/done")));
    assert_eq!(navigate(&page.location().expect("a place")).status, 200);
    assert!(value(&waiting.started.wait(), "password").is_some());
    drop(idle);
}

/// Attack 6.1-7: a byte now and then does not keep a connection beyond its five seconds.
#[test]
fn slow_attack_7_a_request_that_dribbles_is_cut_off() {
    let waiting = Waiting::new();
    let mut connection = RawConnection::open(waiting.asked.port());
    connection.send(b"GET /callback?co").expect("it is open");
    assert_eq!(connection.read_to_end(), b"");
    waiting.succeeds();
}

/// Attacks 6.1-8, 9, 10, 11, N11, check 8: the pages are the same whatever is asked, load nothing,
/// and the code leaves the address bar.
#[test]
fn attack_8_9_pages_hold_no_byte_of_the_request_and_load_nothing() {
    let waiting = Waiting::new();
    let mark = "<script>marked</script>";
    let marked = waiting.asked.callback(&[
        ("code", mark),
        ("state", mark),
        ("error", mark),
        ("error_description", mark),
    ]);
    let refused = navigate(&marked);
    let missing = navigate(&marked.replace("/callback", "/marked"));
    let done = waiting.asked.approve();
    assert!(done.url.ends_with("/done"), "{}", done.url);
    assert!(done.text().contains("Signed in") && done.text().contains("Return to your terminal"));
    waiting.started.wait().assert_status(0);

    let denied = Waiting::new();
    let state = denied.asked.parameter("state");
    let issuer = denied.scene.authority.issuer();
    let genuine =
        [("error", mark), ("error_description", mark), ("state", &state), ("iss", &issuer)];
    let failed = navigate(&denied.asked.callback(&genuine));
    assert_eq!((failed.status, failed.header("Location")), (303, Some("/failed")));
    let failed = navigate(&failed.location().expect("a place"));
    assert!(failed.text().contains("did not work"));
    // In the terminal it is cut to what RFC 6749 allows.
    denied.started.wait().assert_status(4).assert_stderr_has("ended with <script>");

    for page in [&refused, &missing, &done, &failed] {
        let text = page.text();
        assert!(!text.contains("marked") && !text.contains("<script"), "{text}");
        assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("src="));
        for (name, value) in [
            ("Content-Type", "text/html; charset=utf-8"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        ] {
            assert_eq!(page.header(name), Some(value), "{name}");
        }
        let policy = page.header("Content-Security-Policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline'"), "{policy}");
    }
}

/// Attack 6.1-1: the server that refuses the code ends it, with a page that says so, and the code
/// is not tried again (T8).
#[test]
fn t8_a_code_is_tried_once() {
    let waiting = Waiting::new();
    waiting.scene.authority.next("/token", vec![Step::error("invalid_grant")]);
    let page = waiting.asked.approve();
    assert!(page.url.ends_with("/failed"), "{}", page.url);
    let finished = waiting.started.wait();
    finished.assert_status(4).assert_stderr_has("does not accept the authorization code");
    assert_eq!(waiting.scene.authority.asked("/token"), 1);

    let waiting = Waiting::new();
    waiting.scene.authority.next("/token", vec![Step::Close]);
    assert!(waiting.asked.approve().url.ends_with("/failed"));
    waiting.started.wait().assert_status(5);
    assert_eq!(waiting.scene.authority.asked("/token"), 1);
}

/// N4, RFC 8252 section 7.3: a machine without IPv4 is called by its other address.
#[test]
fn n4_without_ipv4_the_browser_comes_home_by_ipv6() {
    if !crate::installed::all(&["unshare", "ip"]) {
        return;
    }
    let sandbox = Sandbox::new(program());
    sandbox.env("VALETKEY_INTERACTIVE", "always").env("VALETKEY_STORE", "file");
    sandbox.link("valetkey");
    let browser = sandbox.script("told", "#!/bin/sh\nprintf '%s\\n' \"$1\" >>urls\n");
    let script = "ip link set lo up && ip addr del 127.0.0.1/8 dev lo || exit 9
        valetkey login --timeout 1 https://a.example; echo $?";
    let inside = ["-rn", "--", "bash", "-c", script];
    for (host, expected) in [("127.0.0.1", "[::1]"), ("[::1]", "[::1]"), ("localhost", "localhost")]
    {
        sandbox.config(&format!(
            "[profile.a]\norigins = [\"https://a.example\"]\nclient_id = \"x\"\n\
             authorization_endpoint = \"https://a.example/authorize\"\n\
             token_endpoint = \"https://a.example/token\"\nredirect = {{ host = \"{host}\" }}\n"
        ));
        let finished = sandbox.run("unshare", &inside).env("BROWSER", &browser).run();
        finished.assert_stdout("3\n");
        let urls = sandbox.work().join("urls");
        let whole = || std::fs::read_to_string(&urls).ok().filter(|urls| urls.ends_with('\n'));
        let asked = Asked::read(watched::poll("the browser", whole).trim_end());
        std::fs::remove_file(&urls).expect("it was opened");
        assert_eq!(asked.redirect().host_str(), Some(expected), "{host}");
    }
}
