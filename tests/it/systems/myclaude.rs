//! MyClaude: the site keeps the tokens of a sign-in until the verifier proves whose they are.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::asked::Asked;
use crate::clockwork::Inside;
use crate::lab::http_get;
use crate::lab::systems::myclaude::{Myclaude, State};
use crate::lab::{Answer, Person, Reply, Request, Server};
use crate::scene::program;

type Scene = super::Scene<State>;

impl Scene {
    fn new() -> Self {
        let takes = |site: &Myclaude, token: &str| site.owner_of(token).is_some();
        Self::at(Myclaude::start(), takes, |origin, git| {
            format!(
                "[profile.myclaude]\norigins = [\"{origin}\", \"{git}\"]\nflow = \"relay\"\n\
                client_id = \"vault-marketplace\"\ntoken = \"id\"\ntoken_env = [\"MYCLAUDE_TOKEN\"]\n\
                token_endpoint = \"{origin}/api/cli/refresh\"\n\
                refresh = \"always\"\npersist = \"refresh-token\"\nrevoke = false\n\
                account = {{ url = \"{origin}/api/me\", id = \"/username\", email = \"/email\" }}\n\
                [profile.myclaude.relay]\nurl = \"{origin}/cli/auth\"\n\
                poll_endpoint = \"{origin}/api/cli/poll\"\ninterval = 1\n"
            )
        })
    }

    fn sign_in(&self) {
        let _browser = self.browser(Person::Approves);
        self.valetkey("login", &[]).run().assert_status(0);
        self.sandbox.env("VALETKEY_INTERACTIVE", "never");
    }

    fn refreshes(&self) -> usize {
        self.site.journal().at_path("/api/cli/refresh").len()
    }

    /// No ID token lies in any file.
    #[track_caller]
    fn assert_no_identity_on_disk(&self) {
        for token in self.site.identities() {
            assert_eq!(self.sandbox.files_with(token.as_bytes()), Vec::<std::path::PathBuf>::new());
        }
    }
}

/// S105, S106, S107, S108, S110, S138: 256 bits of state and an S256 challenge in the address, the
/// verifier only to the site's own server, and who signed in is said and kept.
#[test]
fn s105_login_by_the_relay() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let finished = scene.valetkey("login", &[]).run();
    let origin = scene.site.origin();
    finished.assert_status(0).assert_stdout("");
    finished.assert_stderr_has(&format!("signed in to {origin} as alice; kept in files in"));
    let opened = browser.opened();
    assert!(opened[0].starts_with(&format!("{origin}/cli/auth?state=")), "{opened:?}");
    let asked = Asked::by(&browser);
    assert_eq!((asked.parameter("state").len(), asked.parameter("code_challenge").len()), (43, 43));
    let polls = scene.site.journal().at_path("/api/cli/poll");
    let last = &polls.last().expect("a poll").request;
    assert_eq!(last.field("state"), Some(asked.parameter("state")));
    let verifier = last.field("code_verifier").expect("the verifier");
    assert_eq!(verifier.len(), 43);
    assert!(!opened[0].contains(&verifier) && !finished.to_string().contains(&verifier));
    scene.valetkey("whoami", &[]).run().assert(0, "alice (alice@example.com)\n", "");
    for secret in scene.site.issued() {
        assert!(!finished.to_string().contains(&secret));
    }
}

/// S109: nothing is ever typed.
#[test]
fn s109_no_password_is_asked_for_in_the_terminal() {
    let scene = Scene::new();
    let _browser = scene.browser(Person::Approves);
    let finished = scene.valetkey("login", &[]).terminal().run();
    finished.assert_status(0).assert_terminal_has("opening a browser to sign in to");
    assert!(!finished.terminal.to_ascii_lowercase().contains("password"), "{finished}");
}

/// S113, S116, promise 1: each command renews, the ID token goes to the host and to no file, one
/// sign-in serves every tool; and what git hands back is not kept by another door.
#[test]
fn s113_s116_each_call_renews_and_no_id_token_is_written() {
    let scene = Scene::new();
    scene.sign_in();
    scene.assert_no_identity_on_disk();
    for round in 1..=3 {
        let token = scene.valetkey("token", &[]).run().assert_success();
        assert_eq!(scene.site.owner_of(token.trim()).as_deref(), Some("alice"));
        assert_eq!(scene.refreshes(), round);
    }
    scene.clone("one").assert_success();
    assert_eq!(scene.refreshes(), 4);
    // What a git without `state` would hand back.
    let token = scene.valetkey("token", &[]).run().assert_success();
    let (_, host) = scene
        .git
        .origin()
        .split_once("://")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("a URL");
    let store = format!("protocol=http\nhost={host}\nusername=oauth2\npassword={token}");
    scene.sandbox.valetkey(&["store"]).stdin(store).run().assert(0, "", "");
    scene.assert_no_identity_on_disk();
    let listed = scene.sandbox.valetkey(&["list"]).run().stdout_text();
    assert_eq!(listed.lines().count(), 1, "{listed}");
}

/// A host that rejects an ID token gets another one, in the same git command where git can, and
/// the rejections are counted though the token is not kept.
#[test]
fn a_rejected_id_token_that_was_not_kept_is_still_known() {
    let scene = Scene::new();
    scene.sign_in();
    let (_, host) = scene
        .git
        .origin()
        .split_once("://")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("a URL");
    let question =
        format!("capability[]=authtype\ncapability[]=state\nprotocol=http\nhost={host}\n");
    let first = scene.sandbox.valetkey(&["get"]).stdin(&question).run();
    let mut state = crate::scene::value(&first, "state[]").expect("a state");
    for _ in 0..2 {
        let again = format!("{question}state[]={state}\n");
        let answer = scene.sandbox.valetkey(&["get"]).stdin(&again).run();
        match crate::scene::value(&answer, "state[]") {
            Some(next) => state = next,
            None => {
                answer.assert_status(2);
                return;
            }
        }
    }
    panic!("a host that rejects everything is served for ever");
}

/// S112, S114: the refresh token is kept until `logout`, in one record that names its owner.
#[test]
fn s112_the_refresh_token_is_kept_until_logout() {
    let scene = Scene::new();
    scene.sign_in();
    let refresh = scene.site.issued().remove(0);
    let holding = scene.sandbox.files_with(refresh.as_bytes());
    assert_eq!(holding.len(), 1);
    assert!(holding[0].starts_with("data/valetkey/sessions"), "{holding:?}");
    let record = scene.sandbox.files().into_iter().find(|file| file.path == holding[0]);
    let record: serde_json::Value =
        serde_json::from_slice(&record.expect("it is there").content).expect("JSON");
    assert_eq!(
        (&record["account"], &record["email"]),
        (&json!("alice"), &json!("alice@example.com"))
    );
    for absent in ["access_token", "id_token", "id_expires_at", "expires_at"] {
        assert_eq!(record[absent], json!(null), "{absent}");
    }
    scene.valetkey("logout", &[]).run().assert_status(0);
    assert_eq!(scene.sandbox.files_with(refresh.as_bytes()).len(), 0);
}

/// S112: the refresh token that the tool kept, in its file or in the keychain, is taken over.
#[test]
fn the_refresh_token_of_the_tool_is_taken_over() {
    for dress in ["{token}\n", "{\"refresh_token\": \"{token}\"}"] {
        let scene = Scene::new();
        let token = scene.site.refresh_token_of("alice");
        let text = dress.replace("{token}", &token);
        let file = scene.sandbox.write("home/.myclaude/credentials", text.as_bytes(), 0o600);
        let file = file.to_str().expect("a plain path");
        let import = ["import", file, "--for", &scene.site.origin(), "--account", "alice"];
        scene.sandbox.valetkey(&import).run().assert_status(0).assert_stderr_has("as alice from");
        assert_eq!(scene.refreshes(), 0);
        scene.clone("one").assert_success();
        scene.assert_no_identity_on_disk();
    }
}

/// S122, S121, S129: `logout` tells nobody and says so, `whoami || login` works, and another
/// account is one `logout` and one `login` away.
#[test]
fn s122_logout_is_local_and_whoami_says_two() {
    let scene = Scene::new();
    scene.sign_in();
    scene.valetkey("whoami", &[]).run().assert_status(0);
    let before = scene.site.journal().snapshot().len();
    let finished = scene.valetkey("logout", &[]).run();
    finished.assert_status(0).assert_stderr_has("tokens that the server issued live until they");
    assert_eq!(scene.site.journal().snapshot().len(), before);
    scene.valetkey("whoami", &[]).run().assert_status(2).assert_stdout("");
    scene.site.turn(|knobs| knobs.username = "bob".to_owned());
    let _browser = scene.browser(Person::Approves);
    let origin = scene.site.origin();
    let program = program().display();
    let line = format!("{program} whoami {origin} || {program} login {origin}");
    scene.sandbox.run("sh", &["-c", &line]).run().assert_status(0);
    scene.valetkey("whoami", &[]).run().assert(0, "bob (bob@example.com)\n", "");
}

/// S118, S126, 3.3: a session that the server ended is removed and said to be over; a server that
/// is away costs nothing.
#[test]
fn s118_only_the_server_ends_a_session() {
    let scene = Scene::new();
    scene.sign_in();
    scene.site.turn(|knobs| knobs.down = true);
    scene.valetkey("token", &[]).run().assert_status(5).assert_stderr_has("answered 503");
    scene.site.turn(|knobs| knobs.down = false);
    scene.valetkey("token", &[]).run().assert_status(0);
    scene.site.end_sessions();
    let finished = scene.valetkey("token", &[]).run();
    finished.assert_status(2).assert_stderr_has("error: not signed in to");
    finished.assert_stderr_has(&format!("hint: valetkey login {}", scene.site.origin()));
    scene.valetkey("whoami", &[]).run().assert_status(2);
    // With a person there the same command signs in.
    let browser = scene.browser(Person::Approves);
    scene.clone("one").assert_status(0);
    assert_eq!(browser.opened().len(), 1);
}

/// S119, S120, S125, S130: the variable alone is used, no store is opened, nothing is renewed; without it a
/// machine where nobody is says what is missing.
#[test]
fn s119_a_variable_skips_everything_else() {
    let scene = Scene::new();
    scene.sandbox.env("CI", "true");
    scene.clone("none").assert_stderr_has("not signed in to");
    let refresh = scene.site.refresh_token_of("alice");
    let page = crate::lab::http_post_form(
        &format!("{}/api/cli/refresh", scene.site.origin()),
        &[("refresh_token", &refresh)],
    );
    let token = page.json()["id_token"].as_str().expect("a token").to_owned();
    let before = scene.site.journal().snapshot().len();
    scene.sandbox.env("MYCLAUDE_TOKEN", &token).env("VALETKEY_STORE", "keychain");
    scene.clone("one").assert_success();
    scene.valetkey("token", &[]).run().assert(0, &format!("{token}\n"), "");
    assert_eq!(scene.site.journal().snapshot().len(), before);
    assert_eq!(scene.sandbox.files_with(token.as_bytes()).len(), 0);
}

/// S123, S124: what the page left is there once, and for five minutes.
#[test]
fn s123_s124_tokens_are_fetched_once_and_in_time() {
    let scene = Scene::new();
    scene.sign_in();
    assert_eq!(scene.site.waiting(), 0);
    let entry = scene.site.journal().at_path("/api/cli/poll").pop().expect("a poll");
    let form = entry.request.form();
    let form: Vec<_> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let again = crate::lab::http_post_form(&format!("{}/api/cli/poll", scene.site.origin()), &form);
    assert_eq!(again.json()["error"], "authorization_pending", "nothing is left to be fetched");

    let scene = Scene::new();
    let browser = scene.browser(Person::Ignores);
    let started = scene.valetkey("login", &[]).start();
    http_get(&browser.wait_for_opened(1)[0]);
    scene.site.let_wait();
    let finished = started.wait();
    finished.assert_status(3).assert_stderr_has("nobody signed in to");
    finished.assert_stderr_has(&format!("hint: valetkey login {}", scene.site.origin()));
}

/// Attack 3.4, the relay's hole: whoever begins a sign-in gets its tokens. The person is told not
/// to pass the address on and what code belongs to it, the site is sent the same code, and state
/// and verifier are never twice the same.
#[test]
fn attack_14_the_code_in_the_terminal_is_the_code_in_the_address() {
    let mut codes = Vec::new();
    for _ in 0..2 {
        let scene = Scene::new();
        let browser = scene.browser(Person::Approves);
        let finished = scene.valetkey("login", &[]).run();
        let code = Asked::by(&browser).parameter("user_code");
        let letters =
            |part: &str| part.len() == 4 && part.bytes().all(|byte| byte.is_ascii_uppercase());
        assert!(code.split('-').all(letters) && code.len() == 9, "{code}");
        finished.assert_stderr_has(&format!("if the page shows a code, it must be {code}\n"));
        finished.assert_stderr_has("give this address to nobody");
        assert_eq!(browser.opened().len(), 1, "we open the page ourselves");
        codes.push((code, Asked::by(&browser).parameter("state")));
    }
    assert_ne!(codes[0], codes[1]);
}

/// Attack 3.4: tokens that a page left under another state, or for another challenge, are not ours.
#[test]
fn another_ones_tokens_do_not_come_here() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Ignores);
    let started = scene.valetkey("login", &["--timeout", "100"]).start();
    let asked = Asked::read(&browser.wait_for_opened(1)[0]);
    // Somebody who saw the state puts his own challenge under it.
    let forged = asked.url().replace(&asked.parameter("code_challenge"), &"A".repeat(43));
    http_get(&forged);
    let finished = started.wait();
    finished.assert_status(3).assert_stderr_has("was refused");
    scene.valetkey("whoami", &[]).run().assert_status(2);
}

/// A scripted relay on a clock of our own.
struct Relay {
    server: Server,
    inside: Inside,
    polls: Arc<Mutex<Vec<Duration>>>,
}

impl Relay {
    fn new(more: &str, answers: Vec<Reply>) -> Self {
        let inside = Inside::with_wall_clock(1);
        let polls = Arc::new(Mutex::new(Vec::new()));
        let answers = Mutex::new(std::collections::VecDeque::from(answers));
        let server = Server::start({
            let (clock, polls) = (Arc::clone(&inside.clock), Arc::clone(&polls));
            move |_: &Request| {
                polls.lock().expect("whole").push(clock.passed());
                answers
                    .lock()
                    .expect("whole")
                    .pop_front()
                    .unwrap_or_else(|| said(400, &json!({"error": "authorization_pending"})))
            }
        });
        let origin = server.origin();
        inside.config(&format!(
            "[profile.lab]\norigins = [\"https://git.lab.example\"]\n\
             [profile.lab.relay]\nurl = \"{origin}/cli/auth\"\npoll_endpoint = \"{origin}/poll\"\n{more}"
        ));
        Self { server, inside, polls }
    }

    fn login(&self) -> u8 {
        self.inside.run(&["login", "https://git.lab.example"], "").0
    }

    fn gaps(&self) -> Vec<f64> {
        let polls = self.polls.lock().expect("whole");
        let before = std::iter::once(&Duration::ZERO).chain(polls.iter());
        before.zip(polls.iter()).map(|(one, next)| (*next - *one).as_secs_f64()).collect()
    }
}

fn said(status: u16, body: &serde_json::Value) -> Reply {
    Answer::json(status, body).into()
}

fn tokens() -> Reply {
    said(200, &json!({ "access_token": "t", "refresh_token": "r" }))
}

/// 3.1(d): where the site says nothing, the pace and the words are those of RFC 8628.
#[test]
fn the_relay_is_asked_at_the_pace_of_rfc_8628() {
    let error = |code: &str| said(400, &json!({ "error": code }));
    let relay = Relay::new(
        "",
        vec![
            error("authorization_pending"),
            error("slow_down"),
            Reply::Close,
            said(503, &json!({})),
            tokens(),
        ],
    );
    assert_eq!(relay.login(), 0);
    let gaps = relay.gaps();
    assert!(gaps.iter().all(|gap| *gap >= 5.0), "{gaps:?}");
    assert!(gaps[2] >= 10.0 && gaps[3] >= gaps[2] && gaps[4] >= gaps[3], "{gaps:?}");
}

/// S124: five minutes, measured here; nobody is asked after them.
#[test]
fn s124_after_five_minutes_nobody_is_asked_any_more() {
    let relay = Relay::new("", Vec::new());
    assert_eq!(relay.login(), 3);
    let passed = relay.inside.clock.passed().as_secs();
    assert!((300..330).contains(&passed), "{passed}");
    assert!(relay.gaps().len() <= 50, "{:?}", relay.gaps());
}

/// What ends the wait: a no, the end of what the page left, and any word that nobody knows.
#[test]
fn attack_16_any_other_word_ends_it_and_is_shown_harmlessly() {
    for (code, status) in [
        ("access_denied", 3),
        ("expired_token", 3),
        ("invalid_grant", 3),
        ("no_such_thing", 4),
        ("\u{1b}]52;c;aGk=\u{7}", 4),
    ] {
        let relay = Relay::new("", vec![said(400, &json!({ "error": code })), tokens()]);
        assert_eq!(relay.login(), status, "{code}");
        assert_eq!(relay.gaps().len(), 1, "{code}");
    }
    let scene = Scene::new();
    let hostile =
        json!({ "error": "x\u{1b}[2J", "error_description": "y\u{202e}\u{7}\nerror: forged" });
    scene.site.turn(|knobs| knobs.next_polls = vec![(400, hostile)]);
    let _browser = scene.browser(Person::Ignores);
    let finished = scene.valetkey("login", &[]).run();
    finished.assert_status(4).assert_stderr_has("answered x[2J (yerror: forged)");
    assert!(!finished.stderr_text().contains('\u{1b}'));
}

/// Attack 6.2-17: a relay that wants to be asked all the time, or never, is asked at a human pace.
#[test]
fn attack_17_the_pace_stays_human_whatever_the_relay_says() {
    for interval in [json!(0), json!(-1), json!(1_000_000_000), json!("now"), json!(1e300)] {
        let slow = said(400, &json!({ "error": "slow_down", "interval": interval }));
        let relay = Relay::new("", vec![slow, tokens()]);
        assert_eq!(relay.login(), 0, "{interval}");
        let gap = relay.gaps()[1];
        assert!((10.0..90.0).contains(&gap), "{interval}: {gap}");
    }
}

/// Attack 6.2-15: the address is the user's own; nothing that a relay answers is opened or shown
/// as one.
#[test]
fn attack_15_no_address_of_the_relays_is_opened() {
    let scene = Scene::new();
    let pending = json!({
        "error": "authorization_pending", "verification_uri": "javascript:alert(1)",
        "error_uri": "https://evil.example/",
    });
    scene.site.turn(|knobs| knobs.next_polls = vec![(400, pending)]);
    let browser = scene.browser(Person::Approves);
    let finished = scene.valetkey("login", &[]).run();
    finished.assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    assert!(
        !finished.stderr_text().contains("evil") && !finished.stderr_text().contains("javascript")
    );
}

/// Attack 6.2-18: the code is shown exactly as the address carries it.
#[test]
fn attack_18_the_code_is_shown_as_it_is_sent() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let finished = scene.valetkey("login", &["--no-browser"]).start();
    finished.expect_stderr("give this address to nobody");
    let text = finished.stderr_text();
    let address = text.lines().map(str::trim).find(|line| line.contains("/cli/auth?"));
    let code = Asked::read(address.expect("S21: the address is shown")).parameter("user_code");
    assert!(text.contains(&format!("it must be {code}\n")));
    assert_eq!(browser.opened().len(), 0);
    http_get(address.expect("shown"));
    finished.wait().assert_status(0);
}

/// 3.1(d): endpoint, words and names are the site's own business.
#[test]
fn a_relay_may_call_things_as_it_likes() {
    let names = "names = { state = \"s\", verifier = \"proof\", status = \"status\", \
                 pending = \"waiting\", access_token = \"accessToken\" }\n";
    let answers = vec![
        said(200, &json!({ "status": "waiting" })),
        said(200, &json!({ "status": "complete", "accessToken": "t" })),
    ];
    let relay = Relay::new(names, answers);
    assert_eq!(relay.login(), 0);
    let asked = relay.server.journal().snapshot();
    assert_eq!(asked.len(), 2);
    assert!(asked[0].request.field("s").is_some() && asked[0].request.field("proof").is_some());
    assert_eq!(asked[0].request.path, "/poll");
    let (status, token) = relay.inside.run(&["token", "https://git.lab.example"], "");
    assert_eq!((status, token.as_str()), (0, "t\n"));
}

/// Attack 27: what cannot be a token is none.
#[test]
fn attack_27_a_relay_cannot_send_a_line_of_gits_protocol() {
    for bad in ["a\nhost=evil.example", "", "a b"] {
        let relay = Relay::new("", vec![said(200, &json!({ "access_token": bad }))]);
        assert_eq!(relay.login(), 4, "{bad:?}");
    }
}
