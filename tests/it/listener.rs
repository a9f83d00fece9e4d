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

    /// What the genuine redirect is answered, asked for below `origin` with these bytes among the
    /// headers, on a connection that stays open for more or not.
    fn redirected(&self, origin: &str, more: &[u8], open: bool) -> String {
        let genuine = self.asked.approved();
        let own = self.asked.redirect().origin().ascii_serialization();
        let target = genuine.strip_prefix(&own).expect("below the origin");
        let mut head = format!("GET {origin}{target} HTTP/1.1\r\n").into_bytes();
        head.extend_from_slice(more);
        head.extend_from_slice(format!("Host: 127.0.0.1:{}\r\n\r\n", self.asked.port()).as_bytes());
        let mut connection = RawConnection::open(self.asked.port());
        connection.send(&head).expect("it is read");
        if !open {
            connection.finish_sending();
        }
        String::from_utf8_lossy(&connection.read_to_end()).into_owned()
    }

    #[track_caller]
    fn signs_in(self, what: &str) {
        let finished = self.started.wait();
        assert!(value(&finished, "password").is_some(), "{what}: {finished}");
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

/// What other programs of this machine left in the browser, what a proxy or an old browser makes of
/// a request, and how its bytes come: none of it is ours to judge.
#[test]
fn a_genuine_redirect_is_heard_whatever_comes_beside_it() {
    let cookies = |count: usize, value: &str| -> Vec<u8> {
        let cookie = |number| format!("c{number}={}; ", value.repeat(4090 / value.len()));
        let all: String = (0..count).map(cookie).collect();
        format!("Cookie: {all}\r\n").into_bytes()
    };
    let many = format!("Accept: {}\r\n", "text/html,".repeat(9_000)).into_bytes();
    let lines = "X-Of-Somebody: x\r\n".repeat(2_000).into_bytes();
    let beside: Vec<(&str, Vec<u8>)> = vec![
        ("one cookie of ten thousand bytes", cookies(3, "x")),
        ("as many cookies as a browser keeps", cookies(180, "x")),
        ("a cookie in Latin-1", b"Cookie: name=caf\xe9; other=\xff\xfe\r\n".to_vec()),
        ("a cookie in UTF-8", "Cookie: name=caf\u{e9}\u{1f600}\r\n".into()),
        ("control characters", b"Cookie: a=\x01\x7f\x00\tb\r\n".to_vec()),
        ("a long header", many),
        ("many headers", lines),
        ("odd lines", b"no colon\r\n: no name\r\nX:\r\n folded: line\r\n".to_vec()),
        ("kept alive", b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n".to_vec()),
        ("somebody's words", b"Authorization: Basic eA==\r\nX-Forwarded-Host: evil\r\n".to_vec()),
    ];
    for (what, more) in beside {
        let waiting = Waiting::new();
        let answer = waiting.redirected("", &more, true);
        assert!(answer.starts_with("HTTP/1.1 303 "), "{what}: {answer}");
        waiting.signs_in(what);
    }
    let waiting = Waiting::new();
    let origin = waiting.asked.redirect().origin().ascii_serialization();
    let answer = waiting.redirected(&origin, b"", true);
    assert!(answer.starts_with("HTTP/1.1 303 "), "as to a proxy: {answer}");
    waiting.signs_in("as to a proxy");
    let waiting = Waiting::new();
    let answer = waiting.redirected("", b"", false);
    assert!(answer.starts_with("HTTP/1.1 303 "), "half-closed: {answer}");
    waiting.signs_in("half-closed");
}

/// A browser that opens connections before it needs them, looks for an icon, and asks with HEAD or
/// OPTIONS first.
#[test]
fn what_browsers_do_beside_the_redirect_uses_nothing_up() {
    let waiting = Waiting::new();
    let port = waiting.asked.port();
    let ahead: Vec<_> = (0..40).map(|_| RawConnection::open(port)).collect();
    let genuine = waiting.asked.approved();
    for method in ["HEAD", "OPTIONS"] {
        assert_eq!(waiting.request(method, &genuine, &[]).status, 405);
    }
    let icon = format!("http://127.0.0.1:{port}/favicon.ico");
    assert_eq!(waiting.request("GET", &icon, &[("Sec-Fetch-Mode", "no-cors")]).status, 403);
    assert_eq!(waiting.request("GET", &icon, &[]).status, 404);
    waiting.succeeds();
    drop(ahead);
}

/// An error gives nothing away, so it needs no `iss` where the server promises one; a code does.
#[test]
fn an_error_is_heard_without_the_issuer_that_was_promised() {
    for (error, described, status, said) in [
        ("invalid_scope", "nonce%20required", 4, "ended with invalid_scope (nonce required)"),
        ("server_error", "a%0d%0ab", 4, "ended with server_error (ab)"),
        ("server_error", "caf%e9", 4, "ended with server_error (caf)"),
        ("temporarily_unavailable", "", 4, "ended with temporarily_unavailable"),
        ("access_denied", "", 3, "was refused"),
    ] {
        let waiting = Waiting::new();
        let state = waiting.asked.parameter("state");
        let redirect = waiting.asked.parameter("redirect_uri");
        let address = |state: &str| {
            format!("{redirect}?error={error}&error_description={described}&state={state}")
        };
        assert_eq!(navigate(&address("another")).status, 400);
        assert_eq!(navigate(&format!("{}&iss=https%3A%2F%2Fevil", address(&state))).status, 400);
        let page = navigate(&waiting.asked.callback(&[("code", "c"), ("state", &state)]));
        assert_eq!(page.status, 400, "a code without its issuer");
        assert!(waiting.started.is_running());
        let page = navigate(&address(&state));
        assert_eq!((page.status, page.header("Location")), (303, Some("/failed")), "{error}");
        let finished = waiting.started.wait();
        finished.assert_status(status).assert_stderr_has(said);
        assert_eq!(waiting.scene.authority.asked("/token"), 0);
    }
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
