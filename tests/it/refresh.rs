//! Renewing (RFC 6749 section 6, 9700 section 4.14): rotation, servers that fail, and answers that
//! nobody may believe.

use serde_json::json;

use crate::lab::{Answer, CLIENT_ID, Options, Refreshing, Scheme, Server, Step};
use crate::planted;
use crate::scene::{Scene, value};

/// Signed in, with an access token that has ended.
fn due() -> Scene {
    let scene = Scene::new();
    scene.sign_in();
    scene.age(3600);
    scene
}

/// The refresh tokens that were sent, in order.
fn sent(scene: &Scene) -> Vec<String> {
    let all = scene.authority.journal().at_path("/token");
    all.iter().filter_map(|entry| entry.request.field("refresh_token")).collect()
}

/// T7, check 17, S52, S55, S57: the fields of the request; the successor replaces the token before
/// the answer is given; nobody is asked.
#[test]
fn t7_a_rotated_token_is_replaced_before_the_answer() {
    let scene = due();
    scene.profile("refresh = \"always\"");
    for round in 1..=3 {
        scene.age(3600);
        let finished = scene.get().run();
        let access = value(&finished, "password").expect("a token");
        assert!(scene.authority.token_is_live(&access));
        finished.assert_status(0);
        assert!(finished.stderr.is_empty());
        let used = sent(&scene);
        assert_eq!(used.len(), round);
        let spent = used.last().expect("one was sent");
        assert_eq!(scene.sandbox.files_with(spent.as_bytes()).len(), 0, "T7: the old one is gone");
    }
    assert_eq!(scene.authority.live_grants(), 1);
    let entry = &scene.authority.journal().at_path("/token")[1];
    let mut names: Vec<_> = entry.request.form().into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, ["client_id", "grant_type", "refresh_token"]);
    assert_eq!(entry.request.field("client_id").as_deref(), Some(CLIENT_ID));
    assert_eq!(entry.request.header("Authorization"), None);
}

/// T7, check 17: no new refresh token means that the old one stays.
#[test]
fn t7_without_a_new_one_the_old_refresh_token_stays() {
    let options =
        Options { expires_in: Some(30), refreshing: Refreshing::Keep, ..Options::default() };
    let scene = Scene::with(Scheme::Basic, options);
    scene.sign_in();
    for _ in 0..3 {
        scene.age(20);
        assert!(value(&scene.get().run(), "password").is_some());
    }
    let used = sent(&scene);
    assert_eq!(used.len(), 3);
    assert!(used.iter().all(|token| *token == used[0]));
    scene.authority.next(
        "/token",
        vec![Step::json(
            200,
            &json!({ "access_token": "a", "refresh_token": "", "expires_in": 1 }),
        )],
    );
    for _ in 0..2 {
        scene.age(20);
        scene.get().run().assert_status(0);
    }
    assert_eq!(sent(&scene).last(), Some(&used[0]), "an empty one is none");
}

/// Check 5, section 0 point 6, attack 25: a server that is away, overloaded or out of its mind ends
/// no session; the caller hears that it is temporary, and no window opens.
#[test]
fn check_5_trouble_on_the_way_keeps_everything() {
    let scene = due();
    let browser = scene.browser(crate::lab::Person::Approves);
    let half = |body: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        Step::Raw(format!("{head}{body}").into_bytes())
    };
    for (what, step, status) in [
        ("closed", Step::Close, 5),
        ("500", Step::status(500), 5),
        ("503 html", Step::Answer(Answer::html(503, "<html>")), 5),
        ("429", Step::status(429), 5),
        ("temporarily_unavailable", Step::error("temporarily_unavailable"), 5),
        ("endless", Step::Endless, 5),
        ("cut off", Step::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"acc".to_vec()), 5),
        ("half an object", half("{\"access_token\":\"x"), 5),
        ("no HTTP", Step::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()), 5),
        ("408", Step::status(408), 5),
        ("425", Step::status(425), 5),
        ("502 html", Step::Answer(Answer::html(502, "<html>")), 5),
        ("429 and a reason", Step::json(429, &json!({ "error": "invalid_request" })), 5),
        ("503 and a reason", Step::json(503, &json!({ "error": "invalid_client" })), 5),
        ("slow_down", Step::error("slow_down"), 5),
        ("too_many_requests", Step::error("too_many_requests"), 5),
        ("server_error", Step::error("server_error"), 5),
        ("403 for a while", Step::Answer(Answer::empty(403).with_header("Retry-After", "9")), 5),
        ("200 of a portal", Step::Answer(Answer::html(200, "<html>Welcome to the hotel")), 4),
    ] {
        // A lost answer is asked for once more.
        let lost = matches!(what, "closed" | "cut off" | "half an object");
        scene.authority.next("/token", vec![step; if lost { 2 } else { 1 }]);
        let finished = scene.get().run();
        assert_eq!(finished.status, status, "{what}: {finished}");
        assert_eq!(finished.stderr_text().contains("may have rotated"), lost, "{what}: {finished}");
        finished.assert_stdout("").assert_stderr_has("error: ");
    }
    assert!(value(&scene.get().run(), "password").is_some(), "nothing was lost");
    assert_eq!(browser.opened().len(), 0);
}

/// T3: while the server is away, a token that lives a little longer than the margin is good enough.
#[test]
fn a_token_that_still_lives_bridges_a_gap() {
    let scene = due();
    scene.authority.tune(|options| options.expires_in = Some(30));
    scene.get().run().assert_status(0);
    scene.age(20);
    scene.authority.next("/token", vec![Step::Close]);
    assert!(value(&scene.get().run(), "password").is_some());
}

/// T10, T11, S56: a definite no ends the session, once; the next step is a sign-in.
#[test]
fn t11_a_dead_grant_is_asked_about_once() {
    for code in ["invalid_grant", "bad_refresh_token"] {
        let scene = due();
        // GitHub says it with status 200.
        let words = json!({ "error": code });
        scene.authority.next("/token", vec![Step::json(200, &words)]);
        let hint = format!("hint: valetkey login {}", scene.host.origin());
        scene.get().run().assert_status(2).assert_stdout("").assert_stderr_has(&hint);
        scene.get().run().assert_status(2);
        assert_eq!(sent(&scene).len(), 1, "{code}");
    }
}

/// An answer that is lost and not the request: the same token once more, at once, which a server
/// with a grace period answers. Each way in which an answer can be lost.
#[test]
fn a_lost_answer_is_asked_for_once_more() {
    let gzip = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x08\x00\x00";
    for lost in [
        Step::Close,
        Step::Raw(Vec::new()),
        Step::Raw(b"HTTP/1.1 200 OK\r\nConte".to_vec()),
        Step::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n".to_vec()),
        Step::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"acc".to_vec()),
        Step::Raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"access_token\":\"x".to_vec()),
        Step::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"acc\r\n".to_vec()),
        Step::Raw(gzip.to_vec()),
    ] {
        let scene = due();
        scene.authority.next("/token", vec![lost]);
        let finished = scene.get().run();
        assert!(value(&finished, "password").is_some(), "{finished}");
        assert!(finished.assert_status(0).stderr.is_empty(), "{finished}");
        let used = sent(&scene);
        assert_eq!(used.len(), 2);
        assert_eq!(used[0], used[1], "the same token");
    }
    // A connection that nobody took is no lost answer.
    let scene = due();
    scene.profile("token_endpoint = \"http://127.0.0.1:1/token\"");
    let finished = scene.get().run();
    finished.assert_status(5).assert_stderr_has("cannot be reached");
    assert!(!finished.stderr_text().contains("rotated"), "{finished}");
}

/// Nobody can tell whether a grant is dead that is refused after an answer was lost: what is kept
/// stays, and the next call asks again.
#[test]
fn a_token_refused_after_a_lost_answer_is_kept() {
    let scene = due();
    scene.authority.next("/token", vec![Step::Close, Step::error("invalid_grant")]);
    let finished = scene.get().run();
    finished.assert_status(5).assert_stdout("").assert_stderr_has("may have rotated");
    let hint = format!("hint: valetkey login {}", scene.host.origin());
    finished.assert_stderr_has(&hint);
    assert!(value(&scene.get().run(), "password").is_some(), "it was good");
}

/// Check 3's neighbour, T10: the answer was lost after the server rotated. The grant is dead at the
/// next try, and a sign-in mends it in the same command.
#[test]
fn t10_a_lost_answer_costs_a_sign_in_and_nothing_else() {
    let scene = due();
    scene.authority.next("/token", vec![Step::CloseAfterwards]);
    scene.get().run().assert_status(5).assert_stdout("");
    let browser = scene.browser(crate::lab::Person::Approves);
    assert!(value(&scene.get().run(), "password").is_some());
    assert_eq!(browser.opened().len(), 1);
}

/// Attack 6.4-22: no redirect is followed, so neither token nor client leaves.
#[test]
fn attack_22_no_redirect_is_followed_and_nothing_leaks() {
    for status in [301, 302, 303, 307, 308] {
        let scene = due();
        let trap = Server::start(|_| {
            Answer::json(200, &json!({ "access_token": "trap", "token_type": "Bearer" })).into()
        });
        let location = format!("{}/token", trap.origin());
        let answer = Answer::empty(status).with_header("Location", &location);
        scene.authority.next("/token", vec![Step::Answer(answer)]);
        scene.get().run().assert_status(4).assert_stdout("");
        assert_eq!(trap.journal().snapshot().len(), 0, "{status}");
        assert!(value(&scene.get().run(), "password").is_some(), "the session is kept");
    }
}

/// T1, T2, T3, T4, attack 27: what an answer may look like, and what it may not.
#[test]
fn t1_t2_t3_answers_in_every_dress() {
    let form = |body: &str| {
        Step::Answer(Answer::typed(200, "application/x-www-form-urlencoded; charset=UTF-8", body))
    };
    let json = |body: &str| Step::Answer(Answer::typed(200, "application/json", body));
    for (step, status) in [
        (json(r#"{"access_token":"marked","token_type":"BEARER","x":{"y":[null]}}"#), 0),
        (json(r#"{"access_token":"marked","expires_in":"3600","scope":["a","b"]}"#), 0),
        (json(r#"{"access_token":"marked","expires_in":-1}"#), 0),
        (json(r#"{"access_token":"marked","expires_in":1e300}"#), 0),
        (json(r#"{"access_token":"marked","expires_in":null,"refresh_token":null}"#), 0),
        (form("access_token=marked&token_type=bearer&expires_in=3600"), 0),
        (json(r#"{"access_token":"marked","access_token":"other"}"#), 4),
        (form("access_token=marked&access_token=other"), 4),
        (json(r#"{"access_token":"marked","token_type":"mac"}"#), 4),
        (json(r#"{"access_token":"marked","token_type":"DPoP"}"#), 4),
        (json(r#"{"access_token":""}"#), 4),
        (json(r#"{"access_token":["marked"]}"#), 4),
        (json(r#"{"access_token":"marked\nhost=evil.example"}"#), 4),
        (json(r#"{"access_token":"marked\u0000"}"#), 4),
        (form("access_token=marked%0Ahost%3Devil.example&token_type=bearer"), 4),
        (json(&format!("{}1{}", "[".repeat(9_000), "]".repeat(9_000))), 4),
    ] {
        let scene = due();
        scene.authority.next("/token", vec![step]);
        let finished = scene.get().run();
        finished.assert_status(status);
        if status == 0 {
            assert_eq!(value(&finished, "password").as_deref(), Some("marked"), "{finished}");
        } else {
            finished.assert_stdout("");
            assert_eq!(scene.sandbox.files_with(b"marked").len(), 0, "{finished}");
        }
    }
}

/// S79, RFC 8707: audience and resource go with every renewal.
#[test]
fn audience_and_resource_go_with_a_renewal() {
    let scene = due();
    scene.profile("audience = \"https://a.example\"\nresource = \"https://r.example/x\"");
    assert!(value(&scene.get().run(), "password").is_some());
    let entry = scene.authority.journal().at_path("/token").pop().expect("a renewal");
    assert_eq!(entry.request.field("audience").as_deref(), Some("https://a.example"));
    assert_eq!(entry.request.field("resource").as_deref(), Some("https://r.example/x"));
}

/// Attacks 28 and 29: a profile that now names another issuer gets nothing of the old one's.
#[test]
fn attack_28_a_refresh_token_goes_to_its_own_issuer_or_nowhere() {
    let scene = due();
    let other = crate::lab::Authority::start();
    scene.sandbox.config(&format!(
        "[profile.lab]\norigins = [\"{}\"]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n",
        scene.host.origin(),
        other.issuer(),
    ));
    scene.get().run().assert_status(2).assert_stdout("");
    assert_eq!((other.asked("/token"), scene.authority.asked_for("refresh_token")), (0, 0));
}

/// 1.6, S18: a token that is still good costs no request at all.
#[test]
fn a_good_token_costs_no_request() {
    let scene = Scene::new();
    scene.sign_in();
    let before = scene.authority.journal().snapshot().len();
    assert!(value(&scene.get().run(), "password").is_some());
    assert_eq!(scene.authority.journal().snapshot().len(), before);
}

/// S116, S117: with `refresh = "always"` each call renews, after a short pause that is not always
/// the same.
#[test]
fn s117_renewals_at_each_call_are_spread() {
    let scene = Scene::new();
    scene.sign_in();
    scene.profile("refresh = \"always\"");
    let mut pauses = Vec::new();
    for round in 1..=8 {
        // What this process locked in the last round may live on in a child for a moment.
        planted::assert_no_lock_is_held(&scene);
        let clock = crate::standing_clock::StandingClock::new();
        let error = crate::inside::get(&scene, &clock);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(scene.authority.asked_for("refresh_token"), round);
        let pause = clock.pauses()[0].as_millis();
        assert!((1..=256).contains(&pause), "{pause}");
        pauses.push(pause);
    }
    pauses.dedup();
    assert!(pauses.len() > 1, "they would all come at once: {pauses:?}");
}

/// S117, promise 2: whoever comes while one renews takes what that one gets.
#[test]
fn twenty_calls_that_always_renew_make_one_request() {
    let scene = Scene::new();
    scene.sign_in();
    scene.profile("refresh = \"always\"");
    let gate = crate::lab::Gate::new();
    scene.authority.next("/token", vec![Step::Hold(gate.clone())]);
    let all: Vec<_> = (0..20).map(|_| scene.get().env("VALETKEY_LOG", "debug").start()).collect();
    gate.reached();
    for started in &all {
        started.expect_stderr("lab renews at each call");
    }
    gate.open();
    let all: Vec<_> = all.into_iter().map(crate::lab::Started::wait).collect();
    let first = value(&all[0], "password").expect("a token");
    for finished in &all {
        assert_eq!(value(finished, "password").as_ref(), Some(&first), "{finished}");
    }
    assert!(scene.authority.token_is_live(&first));
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    assert_eq!(scene.authority.live_grants(), 1);
}

/// Promise 2: processes that share no token renew one after the other, and none loses the grant.
#[test]
fn ten_calls_that_keep_no_token_renew_one_after_the_other() {
    let scene = Scene::new();
    scene.sign_in();
    scene.profile("refresh = \"always\"\npersist = \"refresh-token\"");
    let all: Vec<_> = (0..10).map(|_| scene.get().start()).collect();
    for started in all {
        let finished = started.wait();
        let token = value(&finished, "password").expect("a token");
        assert!(scene.authority.token_is_live(&token));
        assert_eq!(scene.sandbox.files_with(token.as_bytes()).len(), 0);
    }
    assert_eq!(scene.authority.asked_for("refresh_token"), 10);
    assert_eq!(scene.authority.live_grants(), 1);
}

/// Attack 6.4-30: what a server thinks the time is extends nothing.
#[test]
fn attack_30_a_date_far_away_extends_no_token() {
    let scene = due();
    let issued = json!({
        "access_token": "short", "refresh_token": "next", "token_type": "Bearer", "expires_in": 600,
    });
    let answer = Answer::json(200, &issued).with_header("Date", "Fri, 01 Jan 2099 00:00:00 GMT");
    scene.authority.next("/token", vec![Step::Answer(answer)]);
    let finished = scene.get().run();
    assert_eq!(value(&finished, "password").as_deref(), Some("short"));
    let expiry = value(&finished, "password_expiry_utc").expect("an expiry");
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = since_1970.expect("a clock after 1970").as_secs();
    assert!(expiry.parse::<u64>().expect("a time") <= now + 600);
}
