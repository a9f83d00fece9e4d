//! The sign-in by browser (RFC 8252, 7636, 6749 section 4.1): what is sent where, to whom the
//! redirect is open, which program opens the page, and what else the person can do.

use std::collections::HashSet;
use std::net::TcpListener;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::asked::{Asked, listening, navigate};
use crate::lab::{Browser, Options, Person, Program, Scheme, watched};
use crate::scene::{Scene, value};

/// The fields of the only request with this grant type.
#[track_caller]
fn token_request(scene: &Scene, grant_type: &str) -> Vec<(String, String)> {
    let mut all = scene.authority.journal().at_path("/token");
    all.retain(|entry| entry.request.field("grant_type").as_deref() == Some(grant_type));
    assert_eq!(all.len(), 1, "{}", scene.authority.journal());
    all.remove(0).request.form()
}

fn field(form: &[(String, String)], name: &str) -> Option<String> {
    form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

/// N6, N7, T8, T9, D-section 1.3, attack 31, S105, S133, S135, S137: PKCE S256 with a fresh
/// verifier and 256 bits of state every time, the redirect URI byte for byte in both requests, a
/// code that is tried once, and no secret in the address.
#[test]
fn n6_n7_t9_pkce_and_state_are_fresh_and_the_verifier_goes_to_the_token_endpoint_alone() {
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let scene = Scene::new();
        scene.profile("scopes = [\"openid\", \"read all\"]");
        let browser = scene.browser(Person::Approves);
        scene.get().run().assert_status(0);
        let asked = Asked::by(&browser);
        assert_eq!(asked.parameter("response_type"), "code");
        assert_eq!(asked.parameter("code_challenge_method"), "S256");
        assert_eq!(asked.parameter("scope"), "openid read all");
        let (state, challenge) = (asked.parameter("state"), asked.parameter("code_challenge"));
        for random in [&state, &challenge] {
            assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(random).expect("base64url").len(), 32);
            assert!(seen.insert(random.clone()), "used before: {random}");
        }
        let form = token_request(&scene, "authorization_code");
        let verifier = field(&form, "code_verifier").expect("a verifier");
        assert!((43..=128).contains(&verifier.len()));
        assert_eq!(BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier)), challenge);
        assert!(!asked.url().contains(&verifier));
        assert_eq!(field(&form, "redirect_uri"), asked.find("redirect_uri"));
        assert_eq!(field(&form, "client_id"), asked.find("client_id"));
        assert!(seen.insert(verifier.clone()));
        assert_eq!(scene.sandbox.files_with(verifier.as_bytes()).len(), 0, "S145: never on disk");
    }
}

/// 1.3: a server that says which methods it takes, and S256 is not one of them, gets no request.
#[test]
fn pkce_is_never_weaker_than_s256() {
    for methods in [serde_json::json!(["plain"]), serde_json::json!(["plain", "s256"])] {
        let scene = Scene::new();
        scene.authority.metadata(move |document| {
            document.insert("code_challenge_methods_supported".into(), methods.clone());
        });
        let browser = scene.browser(Person::Approves);
        scene.get().run().assert_status(78).assert_stderr_has("does not take PKCE with S256");
        assert_eq!(browser.opened().len(), 0);
    }
    let scene = Scene::new();
    // RFC 8414 section 3.2: a list without members says as little as none.
    scene.authority.metadata(|document| {
        document.insert("code_challenge_methods_supported".into(), serde_json::json!([]));
    });
    let browser = scene.browser(Person::Approves);
    scene.get().run().assert_status(0);
    assert_eq!(Asked::by(&browser).parameter("code_challenge_method"), "S256");
}

/// N9: a secret that the profile names is no secret, but goes to the token endpoint alone.
#[test]
fn n9_a_client_secret_stays_out_of_the_address() {
    let scene = Scene::new();
    scene.profile("client_secret = \"not-so-secret\"");
    let browser = scene.browser(Person::Approves);
    // The laboratory's client is a public one.
    scene.get().run().assert_status(78).assert_stderr_has("does not accept this client id");
    let mut asked = scene.authority.journal().at_path("/token");
    assert_eq!(asked.len(), 2, "in the form, then in the header");
    assert!(
        asked[1].request.header("Authorization").is_some_and(|word| word.starts_with("Basic "))
    );
    let form = asked.remove(0).request.form();
    assert_eq!(field(&form, "client_secret").as_deref(), Some("not-so-secret"));
    assert!(!browser.opened()[0].contains("not-so-secret"));
}

/// RFC 8707, S77: audience and resource in both requests.
#[test]
fn audience_and_resource_go_into_both_requests() {
    let scene = Scene::new();
    scene.profile("audience = \"https://a.example\"\nresource = \"https://r.example/x\"");
    let browser = scene.browser(Person::Approves);
    scene.get().run().assert_status(0);
    let (asked, form) = (Asked::by(&browser), token_request(&scene, "authorization_code"));
    for (name, value) in [("audience", "https://a.example"), ("resource", "https://r.example/x")] {
        assert_eq!(asked.parameter(name), value);
        assert_eq!(field(&form, name).as_deref(), Some(value));
    }
}

/// N2, N3, N5, attack 5, S134: one socket, on 127.0.0.1, on a port that the system chose.
#[test]
fn n2_n5_it_listens_on_the_loopback_and_nowhere_else() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Ignores);
    let started = scene.get().start();
    let asked = Asked::by(&browser);
    assert_eq!(asked.redirect().host_str(), Some("127.0.0.1"));
    assert_eq!(listening(&started), [("0100007F".to_owned(), format!("{:04X}", asked.port()))]);
    asked.approve();
    started.wait().assert_status(0);
    TcpListener::bind(("127.0.0.1", asked.port())).expect("the port is free again");
}

/// N2, N4, S6: `localhost` is heard on both families and `[::1]` on its own, each by a browser that
/// goes exactly there.
#[test]
fn n4_localhost_is_heard_on_both_families() {
    if TcpListener::bind("[::1]:0").is_err() {
        // A machine without an IPv6 loopback has nothing to show.
        return;
    }
    for (host, sockets, family) in
        [("localhost", 2, "127.0.0.1"), ("localhost", 2, "[::1]"), ("[::1]", 1, "[::1]")]
    {
        let scene = Scene::new();
        scene.profile(&format!("redirect = {{ host = \"{host}\" }}"));
        let browser = scene.browser(Person::Ignores);
        let started = scene.get().start();
        let asked = Asked::by(&browser);
        let origin = format!("http://{host}:{}", asked.port());
        assert_eq!(asked.parameter("redirect_uri"), format!("{origin}/callback"));
        assert_eq!(listening(&started).len(), sockets, "{host}");
        // The browser resolves the name, and still calls it by it.
        let target = asked.approved().replace(&origin, "");
        let mut stream = std::net::TcpStream::connect(format!("{family}:{}", asked.port()))
            .expect("somebody listens");
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}:{}\r\n\r\n", asked.port());
        std::io::Write::write_all(&mut stream, head.as_bytes()).expect("it takes the request");
        let answer = std::io::read_to_string(stream).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
        assert!(value(&started.wait(), "password").is_some());
    }
}

/// N8: each profile may have a redirect of its own, and only that one is heard.
#[test]
fn n8_the_redirect_path_is_the_profiles_own() {
    for path in ["/acme/back", "/done", "/", "/a/./b"] {
        let scene = Scene::new();
        scene.profile(&format!("redirect = {{ path = \"{path}\" }}"));
        let browser = scene.browser(Person::Approves);
        scene.get().run().assert_status(0);
        let asked = Asked::by(&browser);
        assert_eq!(asked.redirect().path(), path.replace("/./", "/"));
        assert_eq!(browser.wait_for_pages(1)[0].status, 200, "{path}");
    }
}

fn reserve(number: usize) -> Vec<TcpListener> {
    (0..number).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect()
}

fn port(socket: &TcpListener) -> u16 {
    socket.local_addr().expect("it is bound").port()
}

/// Check 14, S134, S141: of a fixed list the first free port is used, in order; when none is free
/// the sign-in ends with the words that everybody looks for, and no browser.
#[test]
fn check_14_the_first_free_port_of_the_list() {
    let mut taken = reserve(5);
    let ports: Vec<u16> = taken.iter().map(port).collect();
    let scene = Scene::new();
    scene.profile(&format!("redirect = {{ ports = {ports:?} }}"));
    let browser = scene.browser(Person::Approves);
    let finished = scene.get().run();
    finished.assert_status(5).assert_stdout("");
    finished.assert_stderr_has("error: no callback port available\nhint: free one of");
    assert_eq!(browser.opened().len(), 0);

    drop(taken.pop());
    scene.get().run().assert_status(0);
    assert_eq!(Asked::by(&browser).port(), ports[4]);
}

/// Check 14: `--port` beats the profile's list, for `ssh -L`.
#[test]
fn check_14_a_fixed_port_for_a_tunnel() {
    let free = reserve(1);
    let number = port(&free[0]);
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let login = ["login", "--force", "--port", &number.to_string(), &scene.host.origin()];
    let finished = scene.sandbox.valetkey(&login).run();
    finished.assert_status(5).assert_stderr_has("no callback port available");
    drop(free);
    scene.sandbox.valetkey(&login).run().assert_status(0);
    assert_eq!(Asked::by(&browser).port(), number);
}

/// Attack 6: the port is open before the browser is started, and it is the same socket later.
#[test]
fn attack_6_the_listener_is_there_before_the_browser() {
    let scene = Scene::new();
    scene.sandbox.env("VALETKEY_INTERACTIVE", "always");
    let verdict = scene.sandbox.root().join("verdict");
    let script = format!(
        "#!/bin/bash\nport=${{1##*127.0.0.1%3A}}\nport=${{port%%%2F*}}\n\
         (exec 3<>/dev/tcp/127.0.0.1/$port) && echo open >{0}.new; mv {0}.new {0}\n",
        verdict.display()
    );
    let script = scene.sandbox.script("prober", &script);
    scene.sandbox.env("BROWSER", script);
    let started = scene.get().start();
    started.expect_stderr("code_challenge=");
    assert_eq!(wait_for(&verdict), "open\n");
}

/// Check 12, attack 21, S21: whatever the browser's program does, the protocol's bytes are whole,
/// nobody waits for it, and the address stands on stderr.
#[test]
fn check_12_a_browser_that_prints_hangs_or_fails_disturbs_nothing() {
    for program in [Program::Noisy, Program::Lingers, Program::Hangs, Program::Fails] {
        let scene = Scene::new();
        scene.sandbox.env("VALETKEY_INTERACTIVE", "always");
        let browser = Browser::start_program(&scene.sandbox, Person::Approves, program);
        let started = scene.get().start();
        if matches!(program, Program::Hangs | Program::Fails) {
            started.expect_stderr("code_challenge_method=S256");
            Asked::shown(&started.stderr_text()).approve();
        }
        let finished = started.wait();
        finished.assert_status(0);
        let stdout = finished.stdout_text();
        assert!(stdout.starts_with("capability[]=") && !stdout.contains("rubbish"), "{finished}");
        assert!(!finished.stderr_text().contains("rubbish"), "{finished}");
        drop(browser);
    }
}

/// A program that writes down how it was started, one argument a line, then its environment.
fn recorder(scene: &Scene, name: &str) -> std::path::PathBuf {
    let record = scene.sandbox.root().join(format!("{name}.record"));
    scene.sandbox.script(
        name,
        &format!(
            "#!/bin/sh\nstreams=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2)\n\
             {{ printf '%s\\n' \"$@\"; echo --; env; echo \"$streams\"; }} >{0}.new\nmv {0}.new {0}\n",
            record.display()
        ),
    );
    record
}

#[track_caller]
fn wait_for(path: &std::path::Path) -> String {
    watched::poll(&path.display().to_string(), || std::fs::read_to_string(path).ok())
}

/// Check 13, attacks 19, 20, 21: `$BROWSER` is a list, `%s` is the address, no shell reads it, what
/// is not there is passed over; the browser gets null streams and none of our tokens.
#[test]
fn check_13_browser_is_a_list_without_a_shell_and_sees_no_token() {
    let scene = Scene::new();
    scene.profile("token_env = [\"ACME_TOKEN\"]");
    scene.authority.metadata(|document| {
        let endpoint = document["authorization_endpoint"].as_str().expect("a URL").to_owned();
        let endpoint =
            format!("{endpoint}?a=$(touch%20pwned);touch+pwned|`touch${{IFS}}pwned`&b='%2527");
        document.insert("authorization_endpoint".into(), endpoint.into());
    });
    let record = recorder(&scene, "recorder");
    scene
        .sandbox
        .env("VALETKEY_INTERACTIVE", "always")
        .env("VALETKEY_TOKEN_other_example", "hidden-1")
        .env("VALETKEY_TOKEN_OTHER_EXAMPLE", "hidden-2")
        .env("KEPT", "kept")
        .env("BROWSER", "/no/such/thing:missing --x:recorder --new-window=%s --last");
    let login = ["login", "--force", &scene.host.origin()];
    // The variable answers `get`, not a login.
    let started = scene.sandbox.valetkey(&login).env("ACME_TOKEN", "hidden-3").start();
    let seen = wait_for(&record);
    let (arguments, rest) = seen.split_once("--\n").expect("both parts");
    let arguments: Vec<&str> = arguments.lines().collect();
    started.expect_stderr("code_challenge=");
    let asked = Asked::shown(&started.stderr_text());
    assert_eq!(arguments, [format!("--new-window={}", asked.url()).as_str(), "--last"]);
    assert!(rest.contains("KEPT=kept") && !rest.contains("hidden-"), "{rest}");
    assert!(rest.ends_with("\n/dev/null\n/dev/null\n/dev/null\n"), "{rest}");
    asked.approve();
    started.wait().assert_status(0);
    let verifier =
        field(&token_request(&scene, "authorization_code"), "code_verifier").expect("one");
    assert!(!seen.contains(&verifier));
    assert!(!scene.sandbox.work().join("pwned").exists());
}

/// Check 13, S142: without `$BROWSER`, or with one that is not there, the desktop's own opener; and
/// where that is missing too, the address to open by hand.
#[test]
fn s142_the_desktop_opens_it_when_browser_does_not() {
    for (browser, opener, display) in [
        (None, "xdg-open", "DISPLAY"),
        (Some("/no/such/browser"), "xdg-open", "WAYLAND_DISPLAY"),
        (None, "x-www-browser", "DISPLAY"),
    ] {
        let scene = Scene::new();
        let record = recorder(&scene, opener);
        // Nothing of this machine's own may be found.
        scene.sandbox.env("PATH", scene.sandbox.bin());
        for tool in ["sh", "env", "readlink", "mv", "setsid"] {
            let real = ["/usr/bin", "/bin"].map(|place| std::path::Path::new(place).join(tool));
            let real = real.iter().find(|path| path.exists()).expect("a usual tool");
            std::os::unix::fs::symlink(real, scene.sandbox.bin().join(tool)).expect("a link");
        }
        scene.sandbox.env(display, ":9").env("VALETKEY_INTERACTIVE", "always");
        if let Some(browser) = browser {
            scene.sandbox.env("BROWSER", browser);
        }
        let started = scene.get().start();
        let seen = wait_for(&record);
        let asked = Asked::read(seen.lines().next().expect("an argument"));
        asked.approve();
        assert!(value(&started.wait(), "password").is_some(), "{opener}");
    }
    let scene = Scene::new();
    scene.sandbox.env("BROWSER", "/no/such/browser").env("VALETKEY_INTERACTIVE", "always");
    let started = scene.get().start();
    started.expect_stderr("to sign in to");
    started.expect_stderr("code_challenge_method");
    Asked::shown(&started.stderr_text()).approve();
    started.wait().assert_status(0);
}

/// S21, S64, S143: `--no-browser` opens nothing, shows the address, and still hears the redirect.
#[test]
fn s143_no_browser_shows_the_address_and_still_listens() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let login = ["login", "--no-browser", &scene.host.origin()];
    let started = scene.sandbox.valetkey(&login).start();
    started.expect_stderr("code_challenge_method");
    Asked::shown(&started.stderr_text()).approve();
    started.wait().assert_status(0).assert_stdout("");
    assert_eq!(browser.opened().len(), 0);
}

/// D7's twin, attack 2: the person's no ends it at once, is remembered for a while, and is no
/// reason to open another window.
#[test]
fn a_no_ends_it_and_the_next_question_opens_nothing() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Denies);
    scene.get().run().assert_status(3).assert_stdout("").assert_stderr_has("was refused");
    let page = &browser.wait_for_pages(1)[0];
    assert!(page.text().contains("did not work"), "{}", page.text());
    scene.get().run().assert_status(2).assert_stdout("");
    assert_eq!(browser.opened().len(), 1);
}

/// S25: nobody comes, and it ends.
#[test]
fn s25_a_sign_in_that_nobody_answers_ends() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Ignores);
    let login = ["login", "--timeout", "1", &scene.host.origin()];
    let finished = scene.sandbox.valetkey(&login).run();
    finished
        .assert_status(3)
        .assert_stderr_has("nobody signed in")
        .assert_stderr_has("hint: valetkey login");
    // The second may be over before the browser has said what it was given.
    assert_eq!(browser.wait_for_opened(1).len(), 1);
}

/// A caller who has gone away before the window opens gets none; one who goes later ends the wait.
/// Neither is a refusal.
#[test]
fn a_caller_who_is_gone_ends_the_wait_and_is_no_refusal() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Ignores);
    scene.sandbox.write("work/question", scene.question().as_bytes(), 0o600);
    let pipe = |reader: &str| {
        let program = crate::scene::program().display();
        let line = format!("({program} get <question; echo ended $? >&2) | {reader}");
        scene.sandbox.run("sh", &["-c", &line]).start()
    };
    let finished = {
        let made = scene.sandbox.run("mkfifo", &["gone", "later"]).run();
        made.assert_status(0);
        // The reader is gone before the program starts, as the fifo says.
        let program = crate::scene::program().display();
        let line = format!(
            "(read _ <gone; {program} get <question; echo ended $? >&2) | (exec <&-; echo x >gone)"
        );
        scene.sandbox.run("sh", &["-c", &line]).run()
    };
    finished.assert_stderr_has("has gone away").assert_stderr_has("ended 5");
    assert_eq!(browser.opened().len(), 0);

    let started = pipe("cat later");
    browser.wait_for_opened(1);
    std::fs::write(scene.sandbox.work().join("later"), "").expect("a reader waits");
    let finished = started.wait();
    finished.assert_stderr_has("has gone away").assert_stderr_has("ended 5");

    let started = scene.get().start();
    browser.wait_for_opened(2);
    drop(started);
}

/// Attack 26: a log holds names and numbers, never what opens a door.
#[test]
fn attack_26_a_log_holds_no_secret() {
    let scene = Scene::with(Scheme::Basic, Options { expires_in: Some(30), ..Options::default() });
    scene.sandbox.env("VALETKEY_LOG", "debug");
    let browser = scene.browser(Person::Approves);
    let first = scene.get().run();
    scene.age(20);
    let second = scene.get().run();
    let log = format!("{}{}", first.stderr_text(), second.stderr_text());
    assert!(log.contains("valetkey: refresh at"), "{log}");
    let verifier =
        field(&token_request(&scene, "authorization_code"), "code_verifier").expect("one");
    let code = field(&token_request(&scene, "authorization_code"), "code").expect("one");
    let asked = Asked::by(&browser);
    for secret in scene.authority.secrets().into_iter().chain([verifier, code]) {
        assert!(!log.contains(&secret), "{secret} in {log}");
    }
    // The state stands in the address that the person is shown, and nowhere else.
    let elsewhere = log.lines().filter(|line| !line.contains("code_challenge="));
    assert!(elsewhere.clone().count() > 3);
    assert!(elsewhere.clone().all(|line| !line.contains(&asked.parameter("state"))), "{log}");
}

/// A browser that never asks for the last page costs a moment, no more.
#[test]
fn a_browser_that_stops_at_the_redirect_does_not_hold_the_answer() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Ignores);
    let started = scene.get().start();
    let page = navigate(&Asked::by(&browser).approved());
    assert_eq!((page.status, page.header("Location")), (303, Some("/done")));
    assert!(value(&started.wait(), "password").is_some());
}

/// T12: the grants that OAuth has given up are not there to be asked for.
#[test]
fn t12_there_is_no_password_and_no_implicit_flow() {
    let scene = Scene::new();
    for flow in ["password", "implicit"] {
        let login = ["login", "--flow", flow, &scene.host.origin()];
        scene.sandbox.valetkey(&login).run().assert_status(64);
    }
}
