//! The laboratory tried on itself: what the other tests take for granted is proved here, with raw
//! clients and real git, and without the program under test.

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::lab::browser;
use super::lab::*;

const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-one-0123456789";
const REDIRECT: &str = "http://127.0.0.1:1/callback";

fn challenge() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

fn authorize_url(authority: &Authority, redirect: &str) -> String {
    let mut url = Url::parse(&authority.url("/authorize")).expect("an URL");
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", CLIENT_ID)
        .append_pair("redirect_uri", redirect)
        .append_pair("scope", "openid")
        .append_pair("state", "a state & more")
        .append_pair("code_challenge", &challenge())
        .append_pair("code_challenge_method", "S256");
    url.into()
}

fn parameter(url: &str, name: &str) -> Option<String> {
    let url = Url::parse(url).expect("an URL");
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn code(authority: &Authority) -> String {
    let page = http_get(&authorize_url(authority, REDIRECT));
    let callback = page.location().expect("a redirect");
    parameter(&callback, "code").unwrap_or_else(|| panic!("no code in {callback}"))
}

fn redeem(authority: &Authority, code: &str, verifier: &str) -> Page {
    http_post_form(
        &authority.url("/token"),
        &[
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT_ID),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", verifier),
        ],
    )
}

fn refresh(authority: &Authority, token: &str) -> Page {
    http_post_form(
        &authority.url("/token"),
        &[("grant_type", "refresh_token"), ("client_id", CLIENT_ID), ("refresh_token", token)],
    )
}

fn member(page: &Page, name: &str) -> String {
    page.json()[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", page.text())).to_owned()
}

fn error(page: &Page) -> String {
    assert_eq!(page.status, 400, "{}", page.text());
    member(page, "error")
}

fn sandbox() -> Sandbox {
    Sandbox::new(Path::new("/bin/true"))
}

fn host_of(authority: &std::sync::Arc<Authority>, scheme: Scheme) -> GitHost {
    let authority = std::sync::Arc::clone(authority);
    let host = GitHost::start(scheme, move |token| authority.token_is_live(token));
    host.create("team/s.git");
    host
}

#[test]
fn discovery_answers_in_all_three_places() {
    let authority = Authority::start();
    authority.metadata(|members| {
        members.insert("extra".to_owned(), Value::from("seen"));
    });
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        let document = http_get(&authority.url(path)).json();
        assert_eq!(document["issuer"], authority.issuer());
        assert_eq!(document["extra"], "seen");
    }

    let options = Options { issuer_path: "/tenant".to_owned(), ..Options::default() };
    let authority = Authority::start_with(options);
    for path in [
        "/.well-known/oauth-authorization-server/tenant",
        "/.well-known/openid-configuration/tenant",
        "/tenant/.well-known/openid-configuration",
    ] {
        assert_eq!(http_get(&authority.url(path)).json()["issuer"], authority.issuer());
    }
    assert_eq!(http_get(&authority.url("/.well-known/openid-configuration")).status, 404);
}

#[test]
fn a_code_works_once_and_only_with_its_verifier() {
    let authority = Authority::start();
    let wrong = redeem(&authority, &code(&authority), &VERIFIER.replace('a', "b"));
    assert_eq!(error(&wrong), "invalid_grant");
    assert_eq!(authority.live_grants(), 0);

    let code = code(&authority);
    let answer = redeem(&authority, &code, VERIFIER);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["id_token"].is_string());
    let access = member(&answer, "access_token");
    assert_eq!(authority.owner_of(&access).as_deref(), Some("alice"));
    assert!(authority.secrets().contains(&access));

    assert_eq!(error(&redeem(&authority, &code, VERIFIER)), "invalid_grant");
    assert!(!authority.token_is_live(&access), "a code used twice takes its grant with it");
}

#[test]
fn authorize_wants_pkce_and_a_loopback_redirect() {
    let authority = Authority::start();
    let good = authorize_url(&authority, "http://[::1]:4321/callback/one?two=three");
    let callback = http_get(&good).location().expect("a redirect");
    assert!(callback.starts_with("http://[::1]:4321/callback/one?two=three&code="), "{callback}");
    assert_eq!(parameter(&callback, "state").as_deref(), Some("a state & more"));
    assert_eq!(parameter(&callback, "iss"), Some(authority.issuer()));

    let plain = good.replace("S256", "plain");
    let callback = http_get(&plain).location().expect("a redirect");
    assert_eq!(parameter(&callback, "error").as_deref(), Some("invalid_request"));
    assert_eq!(parameter(&callback, "iss"), Some(authority.issuer()));

    authority.tune(|options| options.iss_in_callback = false);
    let callback = http_get(&good).location().expect("a redirect");
    assert_eq!(parameter(&callback, "iss"), None);

    let elsewhere = authorize_url(&authority, "http://lab.example/callback");
    assert_eq!(http_get(&elsewhere).status, 400);
    assert_eq!(http_get(&format!("{good}&state=again")).status, 400);
}

#[test]
fn a_refresh_token_used_twice_kills_the_grant() {
    let authority = Authority::start();
    let first = authority.grant("bob").refresh.expect("a refresh token");
    let answer = refresh(&authority, &first);
    let (access, second) = (member(&answer, "access_token"), member(&answer, "refresh_token"));
    assert_eq!(authority.owner_of(&access).as_deref(), Some("bob"));

    assert_eq!(error(&refresh(&authority, &first)), "invalid_grant");
    assert_eq!(error(&refresh(&authority, &second)), "invalid_grant");
    assert!(!authority.token_is_live(&access));
    assert_eq!((authority.live_grants(), authority.asked_for("refresh_token")), (0, 3));
}

#[test]
fn refreshing_and_dying_can_be_tuned() {
    let authority = Authority::start();
    authority.tune(|options| {
        options.refreshing = Refreshing::Keep;
        options.expires_in = None;
    });
    let tokens = authority.grant("alice");
    let refresh_token = tokens.refresh.expect("a refresh token");
    authority.expire_access(&tokens.access);
    assert!(!authority.token_is_live(&tokens.access));
    for _ in 0..2 {
        let answer = refresh(&authority, &refresh_token).json();
        assert_eq!((answer.get("refresh_token"), answer.get("expires_in")), (None, None));
    }
    let revoked = http_post_form(
        &authority.url("/revoke"),
        &[("client_id", CLIENT_ID), ("token", &refresh_token)],
    );
    assert_eq!((revoked.status, authority.live_grants()), (200, 0));
    assert_eq!(error(&refresh(&authority, &refresh_token)), "invalid_grant");
}

#[test]
fn a_device_waits_for_its_person() {
    let authority = Authority::start();
    let ask = || {
        http_post_form(&authority.url("/device_authorization"), &[("client_id", CLIENT_ID)]).json()
    };
    let poll = |device: &Value| {
        let device_code = device["device_code"].as_str().expect("a device code");
        http_post_form(
            &authority.url("/token"),
            &[
                ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
                ("client_id", CLIENT_ID),
                ("device_code", device_code),
            ],
        )
    };
    let device = ask();
    assert_eq!(error(&poll(&device)), "authorization_pending");
    authority.next("/token", vec![Step::error("slow_down")]);
    assert_eq!(error(&poll(&device)), "slow_down");
    let user_code = authority.wait_for_device(1);
    assert_eq!(device["user_code"], user_code);
    authority.approve_device(&user_code);
    assert_eq!(poll(&device).status, 200);
    assert_eq!(error(&poll(&device)), "invalid_grant");

    let device = ask();
    authority.deny_device(&authority.wait_for_device(2));
    assert_eq!(error(&poll(&device)), "access_denied");

    authority.tune(|options| options.approve_devices_after = Some(1));
    let device = ask();
    assert_eq!(error(&poll(&device)), "authorization_pending");
    assert_eq!(poll(&device).status, 200);

    let device = ask();
    let page = device["verification_uri_complete"].as_str().expect("a complete link");
    browser::visit(page, Person::Approves).expect("the page is there");
    assert_eq!(poll(&device).status, 200);
}

#[test]
fn userinfo_knows_the_owner_of_a_live_token() {
    let authority = Authority::start();
    let tokens = authority.grant("carol");
    let me = |token: &str| {
        let value = format!("Bearer {token}");
        http("GET", &authority.url("/me"), &[("Authorization", &value)], b"").expect("an answer")
    };
    assert_eq!(me(&tokens.access).json()["login"], "carol");
    authority.expire_all_access();
    let refused = me(&tokens.access);
    assert_eq!(refused.status, 401);
    assert!(refused.header("WWW-Authenticate").is_some_and(|text| text.contains("invalid_token")));
}

#[test]
fn a_gate_holds_a_request_before_or_after_the_work() {
    let authority = Authority::start();
    let (before, after) = (Gate::new(), Gate::new());
    authority.next("/token", vec![Step::Hold(before.clone()), Step::HoldAnswer(after.clone())]);
    let first = authority.grant("alice").refresh.expect("a refresh token");
    thread::scope(|scope| {
        let (sender, answers) = mpsc::channel();
        let ask = |token: String| {
            let (sender, authority) = (sender.clone(), &authority);
            scope.spawn(move || sender.send(refresh(authority, &token)));
        };
        ask(first.clone());
        before.reached();
        assert_eq!(authority.journal().snapshot()[0].status, None);
        assert!(answers.try_recv().is_err(), "nothing is answered at a closed gate");
        before.open();
        let answer = answers.recv().expect("an answer");
        assert_eq!(authority.journal().snapshot()[0].status, Some(200));

        ask(member(&answer, "refresh_token"));
        after.reached();
        assert_eq!(authority.secrets().len(), 6, "the second pair is made, and nobody has it");
        after.open();
        assert_eq!(answers.recv().expect("an answer").status, 200);
    });
}

#[test]
fn steps_come_first_and_once() {
    let authority = Authority::start();
    let tokens = authority.grant("alice");
    let spent = tokens.refresh.expect("a refresh token");
    let me = authority.url("/me");
    let ask = |path: &str| http("GET", &authority.url(path), &[], b"");
    authority
        .next("/me", vec![Step::Close, Step::Redirect(authority.url("/other")), Step::status(503)]);
    assert!(ask("/me").is_err());
    assert_eq!(ask("/me").expect("an answer").location(), Some(authority.url("/other")));
    assert_eq!(ask("/me").expect("an answer").status, 503);
    assert_eq!(ask("/me").expect("an answer").status, 401);

    authority.next("/token", vec![Step::CloseAfterwards]);
    let body = format!("grant_type=refresh_token&client_id={CLIENT_ID}&refresh_token={spent}");
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    assert!(http("POST", &authority.url("/token"), &headers, body.as_bytes()).is_err());
    assert_eq!(authority.journal().at_path("/token")[0].status, None);
    assert_eq!(error(&refresh(&authority, &spent)), "invalid_grant");

    authority.always("/me", Step::json(200, &json!({ "login": "mallory" })));
    assert_eq!(http_get(&me).json()["login"], "mallory");
    assert_eq!(http_get(&me).json()["login"], "mallory");
    authority.always("/me", Step::Default);
    assert_eq!(http_get(&me).status, 401);
}

#[test]
fn a_server_reads_chunks_and_can_be_endless() {
    let server = Server::start(|request: &Request| {
        if request.path == "/endless" {
            return Reply::Endless;
        }
        Answer::text(200, &format!("{} bytes", request.body.len())).into()
    });
    let chunked = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
        Expect: 100-continue\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
    let answer = RawConnection::exchange(server.port(), chunked);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n11 bytes"), "{answer}");
    assert_eq!(server.journal().snapshot()[0].request.body, b"hello world");

    let mut connection = RawConnection::open(server.port());
    connection.send(b"GET /endless HTTP/1.1\r\n\r\n").expect("it listens");
    drop(connection);
    server.journal().wait_until("the endless answer", |entries| entries.len() == 2);
    let port = server.port();
    drop(server);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn the_browser_walks_to_the_callback() {
    let (sandbox, authority) = (sandbox(), Authority::start());
    let tool = Server::start(|request: &Request| match request.path.as_str() {
        "/callback" => Answer::empty(303).with_header("Location", "/done").into(),
        "/done" => Answer::html(200, "you may close this window").into(),
        _ => Answer::empty(404).into(),
    });
    let url = authorize_url(&authority, &format!("{}/callback", tool.origin()));
    let open = |arguments: &[&str]| {
        sandbox.run("sh", &["-c", "exec \"$BROWSER\" \"$@\"", "sh"]).arg(arguments[0]).run()
    };

    let browser = Browser::start(&sandbox, Person::Approves);
    open(&[&url]).assert(0, "", "");
    let page = browser.wait_for_pages(1).remove(0);
    assert_eq!((page.status, page.text().as_str()), (200, "you may close this window"));
    assert_eq!(page.url, format!("{}/done", tool.origin()));
    assert_eq!(browser.opened(), [url.as_str()]);
    let callback = &tool.journal().at_path("/callback")[0].request;
    assert!(callback.parameter("code").is_some());
    assert_eq!(callback.header("Sec-Fetch-Mode"), Some("navigate"));
    tool.journal().wait_until("the favicon", |entries| {
        entries.iter().any(|entry| entry.request.path == "/favicon.ico")
    });

    let browser = Browser::start_program(&sandbox, Person::Denies, Program::Noisy);
    assert!(!open(&[&url]).assert_status(0).stdout.is_empty());
    browser.wait_for_pages(1);
    let callback = &tool.journal().at_path("/callback")[1].request;
    assert_eq!(callback.parameter("error"), Some("access_denied"));
    assert_eq!(callback.parameter("iss"), Some(authority.issuer().as_str()));

    let browser = Browser::start_program(&sandbox, Person::Ignores, Program::Fails);
    open(&[&url]).assert(1, "", "");
    assert_eq!(browser.opened().len(), 0);

    let browser = Browser::start_program(&sandbox, Person::Ignores, Program::Lingers);
    let lingering = sandbox.run(browser.script(), &[&url]).start();
    assert_eq!(browser.wait_for_opened(1), [url.as_str()]);
    assert!(lingering.is_running());
    drop(browser);
    lingering.wait().assert_status(1);
}

#[test]
fn a_sandbox_shows_programs_only_what_is_in_it() {
    let sandbox = sandbox();
    sandbox.env("KEPT", "yes").config("store = \"file\"\n");
    let names = sandbox.run("sh", &["-c", "env | cut -d= -f1 | sort"]).run().assert_success();
    for name in names.lines() {
        let known = name.starts_with("XDG_")
            || name.starts_with("GIT_")
            || ["HOME", "TMPDIR", "PATH", "LANG", "KEPT", "PWD", "DBUS_SESSION_BUS_ADDRESS"]
                .contains(&name)
            || ["_", "OLDPWD", "SHLVL"].contains(&name);
        assert!(known, "{name} came in from outside");
    }
    let file = sandbox.files_with(b"store = ").remove(0);
    assert_eq!(file, Path::new("config/valetkey/config.toml"));
    let mode = sandbox.files().into_iter().find(|seen| seen.path == file).map(|seen| seen.mode);
    assert_eq!(mode, Some(0o600));

    sandbox.run("sh", &["-c", "cat; echo problem >&2; exit 3"]).stdin("in").run().assert(
        3,
        "in",
        "problem\n",
    );
    sandbox.run("sh", &["-c", "exec 3</dev/tty"]).run().assert_stderr_has("/dev/tty");
}

#[test]
fn a_program_can_be_talked_to_and_killed() {
    let sandbox = sandbox();
    let mut echo = sandbox.run("cat", &[]).stdin_open().start();
    echo.send("one\n");
    echo.expect_stdout("one\n");
    echo.send("two\n");
    echo.wait().assert(0, "one\ntwo\n", "");

    let endless = sandbox.run("sh", &["-c", "echo here; exec tail -f /dev/null"]).start();
    endless.expect_stdout("here");
    endless.kill();
    endless.wait().assert(128 + 9, "here\n", "");
}

#[test]
fn a_terminal_stands_beside_the_pipes() {
    let sandbox = sandbox();
    let script = "read -r piped; [ ! -t 0 ] && [ ! -t 1 ] && [ ! -t 2 ] || exit 7; \
        printf 'name? ' >/dev/tty; read -r name </dev/tty; echo \"$piped $name\"; echo bye >/dev/tty";
    let asking = sandbox.run("sh", &["-c", script]).stdin("hello\n").terminal().start();
    asking.terminal_expect("name? ");
    asking.terminal_type("alice\n");
    let finished = asking.wait();
    finished.assert(0, "hello alice\n", "");
    assert_eq!(finished.terminal, "name? alice\r\nbye\r\n");

    let waiting = sandbox.run("sh", &["-c", "echo ready; read -r x </dev/tty"]).terminal().start();
    waiting.expect_stdout("ready");
    waiting.terminal_type("\x03");
    waiting.wait().assert_status(128 + 2);
}

/// As in `scripts/test &`: a shell without job control lets what it starts in the background ignore
/// both, and a program that ignores `^C` at a terminal waits there for ever.
#[test]
fn a_suite_in_the_background_can_interrupt_what_it_starts() {
    let signals = "trap '' INT QUIT; exec \"$@\"";
    let own = std::env::current_exe().expect("a path of its own");
    let test = "lab_itself::a_terminal_stands_beside_the_pipes";
    let again = sandbox().run("sh", &["-c", signals, "sh"]).arg(own).arg("--exact").arg(test).run();
    again.assert_status(0);
    assert!(again.stdout_text().contains("1 passed"), "{again}");
}

#[test]
fn git_clones_and_pushes_with_a_live_token() {
    let (sandbox, authority) = (sandbox(), std::sync::Arc::new(Authority::start()));
    let token = authority.grant("alice").access;
    let host = host_of(&authority, Scheme::Both);
    let basic = BASE64_STANDARD.encode(format!("oauth2:{token}"));
    for (name, value) in [("one", format!("Basic {basic}")), ("two", format!("Bearer {token}"))] {
        let header = format!("http.extraHeader=Authorization: {value}");
        let url = host.url("team/s.git");
        sandbox.git(&["-c", &header, "clone", "--quiet", &url, name]).run().assert(0, "", "");
        let sent = host.authorizations();
        assert!(sent.iter().all(|sent| sent.is_some()), "{}", host.journal());
        assert_eq!(sent.last().cloned().flatten(), Some(value));

        // Larger than http.postBuffer, so that git sends it in chunks.
        let clone = sandbox.work().join(name);
        let noise: Vec<u8> =
            (0..60_000_u32).flat_map(|number| Sha256::digest(format!("{name} {number}"))).collect();
        sandbox.write(&format!("work/{name}/{name}"), &noise, 0o644);
        for arguments in [&["add", "."][..], &["commit", "--quiet", "-m", "more"]] {
            sandbox.git(arguments).cwd(&clone).run().assert(0, "", "");
        }
        sandbox.git(&["-c", &header, "push", "--quiet"]).cwd(&clone).run().assert_status(0);
        let here = sandbox.git(&["rev-parse", "HEAD"]).cwd(&clone).run().assert_success();
        assert_eq!(host.tip("team/s.git", "main"), here.trim_end());
    }
    let chunked = |entry: &Entry| entry.request.header("Transfer-Encoding") == Some("chunked");
    assert_eq!(host.journal().count(chunked), 2);
    let second_protocol = |entry: &Entry| entry.request.header("Git-Protocol") == Some("version=2");
    assert!(host.journal().count(second_protocol) > 0);
}

#[test]
fn a_git_host_refuses_in_its_own_words() {
    let (sandbox, authority) = (sandbox(), std::sync::Arc::new(Authority::start()));
    let token = authority.grant("alice").access;
    authority.expire_all_access();
    let basic = host_of(&authority, Scheme::Basic);
    sandbox.git(&["ls-remote", &basic.url("team/s.git")]).run().assert_status(128);
    assert_eq!(basic.journal().count(|entry| entry.status == Some(401)), 1);

    let bearer = host_of(&authority, Scheme::Bearer);
    bearer.challenge(|challenge| challenge.bearer_extra = "scope=\"read\"".to_owned());
    let url = bearer.url("team/s.git/info/refs?service=git-upload-pack");
    let refused = http_get(&url);
    assert_eq!(
        refused.header("WWW-Authenticate"),
        Some("Bearer realm=\"lab git\", scope=\"read\"")
    );
    let value = format!("Bearer {token}");
    let refused = http("GET", &url, &[("Authorization", &value)], b"").expect("an answer");
    assert_eq!(refused.status, 401);
    assert!(refused.header("WWW-Authenticate").is_some_and(|text| text.contains("invalid_token")));
}
