//! TinyKit: the site hands the token over in the redirect.

use std::net::{Ipv6Addr, TcpListener};

use crate::asked::{Asked, listening, navigate};
use crate::lab::browser::NAVIGATION;
use crate::lab::systems::tinykit::{State, Tinykit};
use crate::lab::{Browser, Person, RawConnection, Started, client};
use crate::lab::{http, http_get};

type Scene = super::Scene<State>;

impl Scene {
    fn new() -> Self {
        let takes = |site: &Tinykit, token: &str| site.owner_of(token).is_some();
        Self::at(Tinykit::start(), takes, |origin, git| {
            format!(
                "[profile.tinykit]\norigins = [\"{origin}\", \"{git}\"]\nflow = \"handoff\"\n\
                handoff = {{ url = \"{origin}/auth/cli\" }}\ntoken_env = [\"TINYKIT_TOKEN\"]\n\
                account = {{ url = \"{origin}/api/me\", id = \"/email\", name = \"/name\", email = \"/email\" }}\n"
            )
        })
    }

    fn sign_in(&self) {
        let _browser = self.browser(Person::Approves);
        self.valetkey("login", &[]).run().assert_status(0);
        self.sandbox.env("VALETKEY_INTERACTIVE", "never");
        // The newest session answers, and a second is the least that counts.
        crate::scene::age(&self.sandbox, 10);
    }

    fn whoami(&self) -> String {
        self.valetkey("whoami", &[]).run().stdout_text()
    }
}

/// A sign-in that waits for its redirect.
struct Waiting {
    scene: Scene,
    started: Started,
    start: Asked,
    _browser: Browser,
}

impl Waiting {
    fn new() -> Self {
        Self::of(Scene::new(), false)
    }

    fn of(scene: Scene, terminal: bool) -> Self {
        let browser = scene.browser(Person::Ignores);
        let run = scene.valetkey("login", &["--force"]);
        let started = if terminal { run.terminal().start() } else { run.start() };
        let start = Asked::by(&browser);
        Self { scene, started, start, _browser: browser }
    }

    fn port(&self) -> String {
        self.start.parameter("port")
    }

    /// Where the site sends the browser of a person who has signed in.
    fn callback(&self) -> String {
        let door = http_get(self.start.url()).location().expect("a door");
        http_get(&door).location().expect("the way back")
    }

    fn at(&self, query: &str) -> String {
        format!("http://localhost:{}/callback?{query}", self.port())
    }
}

/// S1, S4, S6, S7, S21: the address with the port is opened and shown, the redirect brings token,
/// e-mail and name, the site is asked whose token it is, and the person is told.
#[test]
fn s1_login_hands_the_token_over() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let finished = scene.valetkey("login", &[]).run();
    let opened = browser.opened();
    assert_eq!(opened.len(), 1);
    assert!(
        opened[0].starts_with(&format!("{}/auth/cli?port=", scene.site.origin())),
        "{opened:?}"
    );
    let home = scene.site.origin();
    finished.assert_status(0).assert_stdout("");
    finished.assert_stderr_has(&format!("  {}\n", opened[0]));
    finished
        .assert_stderr_has(&format!("{home} says that this is alice@example.com (Alice Liddell)"));
    finished.assert_stderr_has(&format!("signed in to {home} as alice@example.com; kept in files"));
    assert_eq!(scene.whoami(), "alice@example.com (Alice Liddell)\n");
    let port = Asked::read(&opened[0]).parameter("port");
    assert!(http("GET", &format!("http://127.0.0.1:{port}/"), &[], b"").is_err(), "S7: closed");
    // The token has left the address bar.
    let last = browser.wait_for_pages(1).remove(0);
    assert!(last.url.ends_with("/done") && !last.text().contains("eyJ"), "{}", last.url);
    for token in scene.site.issued() {
        assert!(!finished.to_string().contains(&token));
    }
}

/// S2, S27, promise 1: a command that needs a token begins the sign-in, and one sign-in serves every
/// host of the profile and every tool.
#[test]
fn s2_a_command_that_needs_a_token_begins_the_sign_in() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    scene.clone("one").assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    scene.clone("two").assert_success();
    // For a CI that has no browser.
    let token = scene.valetkey("token", &[]).run().assert_success();
    assert_eq!(scene.site.owner_of(token.trim()).as_deref(), Some("alice@example.com"));
    assert_eq!(browser.opened().len(), 1);
    let bearer = [("Authorization", format!("Bearer {}", token.trim()))];
    let bearer = bearer.each_ref().map(|(name, value)| (*name, value.as_str()));
    let product = format!("{}/api/products/kit.tar", scene.site.origin());
    assert_eq!(http("GET", &product, &bearer, b"").expect("an answer").status, 200);
}

/// S5: what happens on the site's pages is between the site and the person.
#[test]
fn s5_github_google_or_email() {
    for door in ["github", "google", "email"] {
        let scene = Scene::new();
        scene.site.door(door);
        scene.sign_in();
        assert_eq!(scene.site.journal().at_path(&format!("/sign-in/{door}")).len(), 1);
        assert_eq!(scene.whoami(), "alice@example.com (Alice Liddell)\n");
    }
}

/// S3, attack 6.1-5 and 6: a free port of this machine's own, on both families, because the site
/// says `localhost` and a browser may take either.
#[test]
fn s3_attack_5_6_both_families_of_a_port_are_ours_or_none() {
    let waiting = Waiting::new();
    let port = waiting.port();
    let mut heard = listening(&waiting.started);
    heard.sort();
    let expected = format!("{:04X}", port.parse::<u16>().expect("a port"));
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard.iter().all(|(_, port)| *port == expected), "{heard:?}");
    let addresses: Vec<_> = heard.iter().map(|(address, _)| address.as_str()).collect();
    assert_eq!(addresses, ["00000000000000000000000001000000", "0100007F"]);
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        let page = navigate(&format!("http://{host}:{port}/callback?token=nobodys"));
        assert_eq!((page.status, page.header("Location")), (303, Some("/failed")), "{host}");
    }
    assert_eq!(navigate(&waiting.callback()).status, 303);
    waiting.started.wait().assert_status(0);

    // Somebody else has the port on the other family: the browser could go there.
    let scene = Scene::new();
    let _browser = scene.browser(Person::Approves);
    let squatter = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port");
    let port = squatter.local_addr().expect("an address").port().to_string();
    let finished = scene.valetkey("login", &["--port", &port]).run();
    finished.assert_status(5).assert_stderr_has("no callback port available");
}

/// S15, S16, S17: who is signed in is left alone; `--force` signs in anew.
#[test]
fn s15_force_signs_in_again() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    scene.valetkey("login", &[]).run().assert_status(0);
    scene.valetkey("login", &[]).run().assert_status(0).assert_stderr_has("already signed in");
    assert_eq!(browser.opened().len(), 1);
    scene.valetkey("login", &["--force"]).run().assert_status(0);
    assert_eq!(browser.opened().len(), 2);
    crate::scene::age(&scene.sandbox, 10);
    // Another account is meant if it is named.
    scene.site.sign_in_as("bob@example.com", "Bob");
    let bob = ["--force", "--account", "bob@example.com"];
    scene.valetkey("login", &bob).run().assert_status(0);
    assert_eq!(scene.whoami(), "bob@example.com (Bob)\n");
}

/// S18, S20, S19: a token is good until the account ends; then the same command asks again, and
/// where nobody is, it says what to run. After `logout` there is none.
#[test]
fn s18_s20_a_token_that_ended_is_noticed() {
    let scene = Scene::new();
    scene.sign_in();
    scene.clone("one").assert_success();
    scene.site.deactivate("alice@example.com");
    assert_ne!(scene.clone("two").status, 0);
    let finished = scene.clone("two");
    assert_ne!(finished.status, 0);
    finished.assert_stderr_has(&format!("hint: valetkey login {}", scene.git.origin()));
    let browser = scene.browser(Person::Approves);
    scene.clone("three").assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    let finished = scene.valetkey("logout", &[]).run();
    finished.assert_status(0).assert_stderr_has("signed out alice@example.com at tinykit");
    scene.valetkey("whoami", &[]).run().assert_status(2);
    scene.valetkey("logout", &[]).run().assert_status(0);
}

/// S25: the person has five minutes, or what `--timeout` says, and hears that they are over.
#[test]
fn s25_nobody_came_back_in_time() {
    let scene = Scene::new();
    let _browser = scene.browser(Person::Ignores);
    let finished = scene.valetkey("login", &["--timeout", "1"]).run();
    finished.assert_status(3);
    finished.assert_stderr_has(&format!("nobody signed in to {} in time", scene.site.origin()));
    finished.assert_stderr_has(&format!("hint: valetkey login {}", scene.site.origin()));
}

/// S26: a variable carries the token where nobody can sign in; nothing is stored or opened.
#[test]
fn s26_a_variable_carries_the_token_in_ci() {
    let scene = Scene::new();
    let token = scene.site.token_of("alice@example.com", "Alice Liddell");
    scene.sandbox.env("CI", "true").env("TINYKIT_TOKEN", &token);
    scene.clone("one").assert_success();
    scene.valetkey("token", &[]).run().assert(0, &format!("{token}\n"), "");
    scene.sandbox.remove_env("TINYKIT_TOKEN");
    scene.valetkey("token", &[]).run().assert_status(2);
}

/// S13: the tool's own file is taken over, checked and named, and stays as it is.
#[test]
fn s13_the_file_of_the_tool_is_taken_over() {
    let scene = Scene::new();
    let token = scene.site.token_of("alice@example.com", "Alice Liddell");
    let text = format!("{{\"token\": \"{token}\", \"storedAt\": 1706054400000}}");
    let file = scene.sandbox.write("home/.tinykit/credentials.json", text.as_bytes(), 0o600);
    let file = file.to_str().expect("a plain path").to_owned();
    let import = || scene.sandbox.valetkey(&["import", &file, "--for", &scene.site.origin()]).run();
    let finished = import();
    finished.assert_status(0).assert_stderr_has("took over the sign-in to");
    finished.assert_stderr_has("as alice@example.com from");
    assert!(!finished.to_string().contains(&token));
    assert_eq!(std::fs::read_to_string(&file).expect("it stays"), text);
    assert_eq!(scene.whoami(), "alice@example.com (Alice Liddell)\n");
    scene.clone("one").assert_success();
    import().assert_status(0).assert_stderr_has("nothing is taken over");
    // One that the site does not take any more is not kept.
    scene.valetkey("logout", &[]).run().assert_status(0);
    scene.site.deactivate("alice@example.com");
    import().assert_status(4).assert_stderr_has("does not take the token of");
    scene.valetkey("whoami", &[]).run().assert_status(2);
}

/// Attack 6.1-1, 3.4: any page can send a token here. One that the site does not know changes
/// nothing, whatever else the address says, and the genuine one still counts.
#[test]
fn attack_1_a_token_that_the_site_does_not_know_changes_nothing() {
    let waiting = Waiting::new();
    for query in ["token=forged", "token=forged&email=alice%40example.com&name=Alice"] {
        let page = navigate(&waiting.at(query));
        assert_eq!((page.status, page.header("Location")), (303, Some("/failed")), "{query}");
    }
    // The token is genuine, and the address lies about whose it is.
    let mallorys = waiting.scene.site.token_of("mallory@example.com", "Mallory");
    let page = navigate(&waiting.at(&format!("token={mallorys}&email=alice%40example.com")));
    assert_eq!(page.header("Location"), Some("/failed"));
    assert!(waiting.started.is_running());
    assert_eq!(navigate(&waiting.callback()).header("Location"), Some("/done"));
    let finished = waiting.started.wait();
    finished.assert_status(0).assert_stderr_has("a token was brought that is not used");
    assert_eq!(waiting.scene.whoami(), "alice@example.com (Alice Liddell)\n");
}

/// Attack 6.1-2 and 11, T1: no error ends the wait, no parameter counts twice, no control
/// character and no empty token comes in; the site is not asked about any of it.
#[test]
fn attack_2_11_what_brings_no_clean_token_is_refused() {
    let waiting = Waiting::new();
    for query in [
        "error=access_denied",
        "email=alice%40example.com",
        "token=",
        "token=a&token=b",
        "token=a&email=a&email=b",
        "token=a%0d%0ahost%3devil.example",
        "token=a%00b",
        "token=%ff",
        "token=%zz",
        "token=two+words",
    ] {
        assert_eq!(navigate(&waiting.at(query)).status, 400, "{query}");
    }
    assert_eq!(waiting.scene.site.journal().at_path("/api/me").len(), 0);
    assert!(waiting.started.is_running());
    assert_eq!(navigate(&waiting.callback()).status, 303);
    waiting.started.wait().assert_status(0);
}

/// 3.1(a): our state need not come back; where it does, it must be the one of this sign-in.
#[test]
fn attack_1_a_state_that_comes_back_must_be_ours() {
    let scene = Scene::new();
    scene.site.echo_state();
    let waiting = Waiting::of(scene, false);
    assert_eq!(waiting.start.parameter("state").len(), 43, "256 bits");
    let genuine = waiting.callback();
    let state = waiting.start.parameter("state");
    for wrong in [genuine.replace(&state, "another"), genuine.replace(&state, "")] {
        assert_eq!(navigate(&wrong).status, 400);
    }
    assert_eq!(waiting.scene.site.journal().at_path("/api/me").len(), 0);
    assert_eq!(navigate(&genuine).header("Location"), Some("/done"));
    waiting.started.wait().assert_status(0);
}

/// Attack 6.1-3 and 4: only a browser that goes to the very address is heard, by one of its three
/// names; no CORS header is ever sent.
#[test]
fn attack_3_4_scripts_frames_and_other_hosts_are_refused() {
    let waiting = Waiting::new();
    let genuine = waiting.callback();
    let request = |method: &str, headers: &[(&str, &str)]| {
        client::http(method, &genuine, headers, b"").expect("an answer")
    };
    let mut pages = vec![(405, request("POST", &[])), (405, request("OPTIONS", &[]))];
    for (mode, destination) in [("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe")] {
        let headers = [("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", destination)];
        pages.push((403, request("GET", &headers)));
    }
    for (status, page) in &pages {
        assert_eq!(page.status, *status);
        let cors = |name: &str| name.to_ascii_lowercase().starts_with("access-control-");
        assert!(!page.headers.iter().any(|(name, _)| cors(name)));
    }
    let port = waiting.port();
    let target = genuine.split_once(&port).expect("the port").1.to_owned();
    for host in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        "localhost".to_owned(),
        format!("127.0.0.2:{port}"),
        format!("localhost:{port}\r\nHost: evil.example"),
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let number = port.parse().expect("a port");
        let answer = RawConnection::exchange(number, bytes.as_bytes());
        assert!(answer.starts_with(b"HTTP/1.1 403 "), "{host}");
    }
    assert_eq!(waiting.scene.site.journal().at_path("/api/me").len(), 0);
    let page = client::http("GET", &genuine, NAVIGATION, b"").expect("an answer");
    assert_eq!(page.status, 303);
    waiting.started.wait().assert_status(0);
}

/// Attack 6.1-7: floods and dribbles hold nobody up.
#[test]
fn attack_7_idle_connections_and_floods_hold_nobody_up() {
    let waiting = Waiting::new();
    let port = waiting.port().parse().expect("a port");
    let flood = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    RawConnection::exchange(port, flood.as_bytes());
    let idle: Vec<_> = (0..100).map(|_| RawConnection::open(port)).collect();
    assert_eq!(navigate(&waiting.callback()).status, 303);
    waiting.started.wait().assert_status(0);
    drop(idle);
}

/// Attack 6.1-8, 9, 10, 26: the token leaves the address bar for a page that holds nothing of the
/// request, and stands on no stream, in no log and on no command line.
#[test]
fn attack_8_9_the_token_is_seen_nowhere() {
    let scene = Scene::new();
    scene.sandbox.env("VALETKEY_LOG", "debug");
    let browser = scene.browser(Person::Approves);
    let finished = scene.valetkey("login", &[]).run();
    finished.assert_status(0);
    let token = scene.site.issued().remove(0);
    assert!(!finished.to_string().contains(&token));
    assert!(!browser.opened()[0].contains(&token));
    let page = browser.wait_for_pages(1).remove(0);
    assert!(!page.text().contains("alice") && !page.text().contains(&token));
    assert_eq!(page.header("Referrer-Policy"), Some("no-referrer"));
    assert_eq!(scene.sandbox.files_with(token.as_bytes()).len(), 1, "the vault");
}

/// 3.4, login CSRF: a page that sends somebody else's genuine token cannot take the place of who
/// was signed in; without a terminal nobody can say that it is meant, and it is not tried again.
#[test]
fn attack_1_another_account_is_not_taken_without_a_word() {
    let scene = Scene::new();
    scene.sign_in();
    let waiting = Waiting::of(scene, false);
    let mallorys = waiting.scene.site.token_of("mallory@example.com", "Mallory");
    assert_eq!(navigate(&waiting.at(&format!("token={mallorys}"))).status, 303);
    let finished = waiting.started.wait();
    finished.assert_status(3);
    finished.assert_stderr_has("mallory@example.com signed in to");
    finished.assert_stderr_has("and not alice@example.com");
    finished.assert_stderr_has("hint: valetkey login --force --account mallory@example.com");
    assert_eq!(waiting.scene.whoami(), "alice@example.com (Alice Liddell)\n");
    assert_eq!(waiting.scene.sandbox.files_with(mallorys.as_bytes()).len(), 0);
}

/// 3.4, S17: at a terminal the person is asked.
#[test]
fn another_account_is_taken_with_a_yes() {
    for (word, status, who) in [("yes", 0, "bob@example.com (Bob)\n"), ("no", 3, "")] {
        let scene = Scene::new();
        scene.sign_in();
        scene.site.sign_in_as("bob@example.com", "Bob");
        let waiting = Waiting::of(scene, true);
        assert_eq!(navigate(&waiting.callback()).status, 303);
        waiting.started.terminal_expect("type yes to go on as bob@example.com");
        waiting.started.terminal_type(&format!("{word}\n"));
        waiting.started.wait().assert_status(status);
        let who = if who.is_empty() { "alice@example.com (Alice Liddell)\n" } else { who };
        assert_eq!(waiting.scene.whoami(), who);
    }
}

/// S21, check 13: where the browser does not find home, its last address is pasted; also without a
/// listener.
#[test]
fn s21_the_last_address_can_be_pasted() {
    for flow in [&[][..], &["--flow", "paste"]] {
        let scene = Scene::new();
        let browser = scene.browser(Person::Ignores);
        let started = scene.valetkey("login", flow).terminal().start();
        started.terminal_expect("paste its address here");
        let text = started.terminal_text();
        let line = text.lines().map(str::trim).find(|line| line.contains("/auth/cli?"));
        let start = Asked::read(line.expect("the address is shown"));
        if flow.is_empty() {
            browser.wait_for_opened(1);
        }
        let door = http_get(start.url()).location().expect("a door");
        let address = http_get(&door).location().expect("the way back");
        started.terminal_type("https://tinykit.example/nothing\n");
        started.terminal_expect("that is no address of this sign-in");
        started.terminal_type(&format!("{}\n", address.trim_start_matches("http://")));
        started.wait().assert_status(0);
        assert_eq!(scene.whoami(), "alice@example.com (Alice Liddell)\n");
        assert_eq!(browser.opened().len(), usize::from(flow.is_empty()));
    }
}

/// A site that cannot be asked decides nothing: it is worth another try.
#[test]
fn a_site_that_is_away_is_temporary_and_keeps_nothing() {
    let scene = Scene::new();
    let away = crate::lab::Server::start(|_| crate::lab::Reply::Close);
    let origin = scene.site.origin();
    scene.sandbox.config(&format!(
        "[profile.tinykit]\norigins = [\"{origin}\"]\nhandoff = {{ url = \"{origin}/auth/cli\" }}\n\
         account = {{ url = \"{}/me\", id = \"/email\" }}\n",
        away.origin()
    ));
    let _browser = scene.browser(Person::Approves);
    scene.valetkey("login", &[]).run().assert_status(5);
    assert_eq!(scene.sandbox.files_with(scene.site.issued()[0].as_bytes()).len(), 0);
}
