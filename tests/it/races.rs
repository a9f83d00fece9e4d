//! Many at once: one refresh, one browser, one refusal, and nothing lost.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::lab::{Finished, Gate, Options, Person, Refreshing, Scheme, Started, Step, browser};
use crate::planted;
use crate::scene::{Scene, value};
use crate::standing_clock::StandingClock;

const MANY: usize = 50;

fn start_many(scene: &Scene) -> Vec<Started> {
    (0..MANY).map(|_| scene.get().start()).collect()
}

fn wait_for_all(started: Vec<Started>) -> Vec<Finished> {
    started.into_iter().map(Started::wait).collect()
}

/// The one token that all of them print.
#[track_caller]
fn same_token(all: &[Finished]) -> String {
    let first = value(&all[0], "password").unwrap_or_else(|| panic!("no token, {}", all[0]));
    for finished in all {
        finished.assert_status(0);
        assert_eq!(value(finished, "password").as_ref(), Some(&first), "{finished}");
    }
    first
}

#[test]
fn fifty_gets_of_one_expired_token_make_one_refresh_request() {
    let scene = Scene::new();
    let record = planted::expired(&scene, "alice");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let all = start_many(&scene);
    gate.reached();
    gate.open();
    let all = wait_for_all(all);
    for finished in &all {
        assert_eq!(finished.stderr_text(), "");
    }
    let token = same_token(&all);
    assert!(scene.authority.token_is_live(&token));
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    assert_eq!(planted::read(&record)["access_token"], token);
    // Nobody sent a spent refresh token: the grant lives, and so does what was kept of it.
    assert_eq!(scene.authority.live_grants(), 1);
    let mut record = planted::read(&record);
    record["expires_at"] = json!(1);
    planted::put(&scene, "alice", &record);
    let again = scene.get().run();
    again.assert_status(0);
    assert_ne!(value(&again, "password"), Some(token));
    planted::assert_sound(&scene);
}

#[test]
fn fifty_gets_with_nothing_stored_open_one_browser() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Ignores);
    let all = start_many(&scene);
    let opened = browser.wait_for_opened(1);
    browser::visit(&opened[0], Person::Approves).expect("a page");
    let token = same_token(&wait_for_all(all));
    assert!(scene.authority.token_is_live(&token));
    assert_eq!(browser.opened().len(), 1);
    assert_eq!(scene.authority.asked_for("authorization_code"), 1);
    planted::assert_sound(&scene);
}

#[test]
fn fifty_gets_and_a_person_who_refuses_are_one_browser_and_fifty_misses() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Ignores);
    let all = start_many(&scene);
    let opened = browser.wait_for_opened(1);
    browser::visit(&opened[0], Person::Denies).expect("a page");
    let all = wait_for_all(all);
    let with = |status: i32| all.iter().filter(|finished| finished.status == status).count();
    assert_eq!((with(3), with(2)), (1, MANY - 1), "{}", all[0]);
    for finished in &all {
        finished.assert_stdout("").assert_stderr_has("hint: valetkey login ");
    }
    assert_eq!(browser.opened().len(), 1);

    // Within the cooldown nobody is asked, and it is said why.
    scene.get().run().assert_status(2).assert_stderr_has("was refused or abandoned");
    assert_eq!(browser.opened().len(), 1);
    let place = planted::key("alice").place.digest();
    let note = scene.sandbox.root().join("state/valetkey/cooldown").join(place);
    let mut setbacks = planted::read(&note);
    let refused = setbacks["refused"].as_u64().expect("a time");
    setbacks["refused"] = json!(refused - 200);
    std::fs::write(&note, setbacks.to_string()).expect("a note");
    scene.get().run().assert_status(2);
    // After it the person is asked again.
    setbacks["refused"] = json!(refused - 400);
    std::fs::write(&note, setbacks.to_string()).expect("a note");
    let last = scene.get().start();
    let opened = browser.wait_for_opened(2);
    browser::visit(&opened[1], Person::Approves).expect("a page");
    last.wait().assert_status(0);
    planted::assert_sound(&scene);
}

/// A grant that dies under fifty tools is found dead once and replaced once: who comes while its
/// record is gone waits as well.
#[test]
fn fifty_gets_of_a_dead_grant_make_one_request_and_open_one_browser() {
    let scene = Scene::new();
    planted::expired(&scene, "alice");
    scene.authority.revoke_grants();
    let browser = scene.browser(Person::Ignores);
    let first = scene.get().start();
    let opened = browser.wait_for_opened(1);
    assert_eq!(planted::stored(&scene).0.len(), 0, "the dead session is gone");
    let all = start_many(&scene);
    browser::visit(&opened[0], Person::Approves).expect("a page");
    let mut all = wait_for_all(all);
    all.push(first.wait());
    same_token(&all);
    assert_eq!(browser.opened().len(), 1);
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    planted::assert_sound(&scene);
}

/// The same while fifty already wait for the session that turns out to be dead.
#[test]
fn those_who_wait_for_a_renewal_that_fails_wait_for_the_sign_in_too() {
    let scene = Scene::new();
    planted::expired(&scene, "alice");
    scene.authority.revoke_grants();
    let browser = scene.browser(Person::Approves);
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let all = start_many(&scene);
    gate.reached();
    gate.open();
    same_token(&wait_for_all(all));
    assert_eq!(browser.opened().len(), 1);
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

/// Two windows for one host at the same moment would only confuse, whatever they are for.
#[test]
fn one_host_opens_one_browser_at_a_time_whatever_the_account() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Ignores);
    let any = scene.get().start();
    let opened = browser.wait_for_opened(1);
    let question = format!("{}username=alice\n", scene.question());
    let alice = scene.sandbox.valetkey(&["get"]).stdin(question).start();
    alice.expect_stderr("waiting for another sign-in");
    browser::visit(&opened[0], Person::Approves).expect("a page");
    same_token(&[any.wait(), alice.wait()]);
    assert_eq!(browser.opened().len(), 1);
}

#[test]
fn fifty_gets_without_a_refresh_token_and_without_a_person_have_all_expired() {
    let options = Options { refreshing: Refreshing::Never, ..Options::default() };
    let scene = Scene::with(Scheme::Basic, options);
    let token = scene.authority.grant("alice").access;
    let mut record = planted::session(&scene, "alice", &token, "", 1);
    record.as_object_mut().expect("an object").remove("refresh_token");
    planted::put(&scene, "alice", &record);
    scene.nobody();
    for finished in wait_for_all(start_many(&scene)) {
        finished.assert_status(4).assert_stdout("");
    }
    assert_eq!(scene.authority.asked("/token"), 0);
}

#[test]
fn many_writers_of_different_keys_lose_nothing() {
    let scene = Scene::new();
    let store = |number: usize| {
        // Many accounts of one host share a directory, many hosts do not.
        let (host, user) = if number.is_multiple_of(2) {
            ("shared.example".to_owned(), format!("user-{number}"))
        } else {
            (format!("host-{number}.example"), "me".to_owned())
        };
        let entry = format!("protocol=https\nhost={host}\nusername={user}\npassword=p{number}\n");
        scene.sandbox.valetkey(&["store"]).stdin(entry).start()
    };
    let all: Vec<Started> = (0..64).map(store).collect();
    for finished in wait_for_all(all) {
        finished.assert(0, "", "");
    }
    let listed = scene.sandbox.valetkey(&["list", "--json"]).run().assert_success();
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed.as_array().expect("a list").len(), 64);
    planted::assert_sound(&scene);
}

/// Writers and erasers of one directory do not pull it from under each other.
#[test]
fn erasing_the_last_record_of_a_host_does_not_disturb_who_writes_there() {
    let scene = Scene::new();
    let call = |verb: &str, number: usize| {
        let entry =
            format!("protocol=https\nhost=a.example\nusername=u{number}\npassword=p{number}\n");
        scene.sandbox.valetkey(&[verb]).stdin(entry).start()
    };
    for round in 0..4 {
        let stores = (0..8).map(|number| call("store", round * 8 + number));
        let erases = (0..8).map(|number| call("erase", (round.max(1) - 1) * 8 + number));
        for finished in wait_for_all(stores.chain(erases).collect()) {
            finished.assert(0, "", "");
        }
    }
    planted::assert_sound(&scene);
}

/// The holder of a lock that is stopped keeps it; who waits gives up in the end, and says for whom.
#[test]
fn who_waits_for_a_stopped_process_gives_up_and_names_it() {
    let scene = Scene::new();
    planted::expired(&scene, "alice");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::Hold(gate.clone())]);
    let holder = scene.get().start();
    gate.reached();
    holder.signal(Signal::STOP);
    let clock = StandingClock::new();
    let error = crate::inside::get(&scene, &clock).expect("it gives up");
    assert_eq!(error.kind, valetkey::error::Kind::Temporary);
    let what = format!("process {} has been renewing or signing in for 35 seconds", holder.id());
    assert_eq!(error.what, what);
    assert!(error.hint.is_some());
    assert_eq!(clock.waited(), Duration::from_secs(35));
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    holder.signal(Signal::CONT);
    gate.open();
    holder.wait().assert_status(0);
    planted::assert_sound(&scene);
}

/// The server says no because another machine that shares our store was faster.
#[test]
fn a_token_that_somebody_else_rotated_is_read_again_before_the_grant_is_given_up() {
    let scene = Scene::new();
    // What our process reads is spent; what it finds when it looks again is good.
    let record = planted::session(&scene, "alice", "old", "spent-elsewhere", 1);
    planted::put(&scene, "alice", &record);
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::Hold(gate.clone())]);
    let get = scene.get().start();
    gate.reached();
    planted::expired(&scene, "alice");
    gate.open();
    let finished = get.wait();
    finished.assert_status(0);
    let token = value(&finished, "password").expect("a token");
    assert!(scene.authority.token_is_live(&token));
    assert_eq!(scene.authority.asked_for("refresh_token"), 2);
    assert_eq!(planted::stored(&scene).0.len(), 1);
}

/// It is read again once, and not for ever.
#[test]
fn a_rotated_token_that_is_dead_too_ends_the_session() {
    let scene = Scene::new();
    scene.nobody();
    let spent = |token: &str| planted::session(&scene, "alice", "old", token, 1);
    planted::put(&scene, "alice", &spent("spent-elsewhere"));
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::Hold(gate.clone())]);
    let get = scene.get().start();
    gate.reached();
    planted::put(&scene, "alice", &spent("spent-elsewhere-too"));
    gate.open();
    get.wait().assert_status(2).assert_stdout("");
    assert_eq!(scene.authority.asked_for("refresh_token"), 2);
    assert_eq!(planted::stored(&scene).0.len(), 0);
}

fn assert_nothing_changed(scene: &Scene, record: &Path, before: &[u8], status: i32) {
    let finished = scene.get().run();
    finished.assert_status(status).assert_stdout("").assert_stderr_has("hint: ");
    assert_eq!(std::fs::read(record).expect("a record"), before, "{finished}");
    planted::assert_sound(scene);
}

#[test]
fn a_server_that_is_down_costs_nothing_but_this_answer() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let record = planted::expired(&scene, "alice");
    let before = std::fs::read(&record).expect("a record");
    let steps = [
        Step::status(500),
        Step::status(502),
        Step::status(503),
        Step::status(429),
        Step::Close,
        Step::error("temporarily_unavailable"),
        Step::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"access_token\":\"".to_vec()),
        Step::Endless,
    ];
    for step in steps {
        // A lost answer is asked for twice.
        scene.authority.always("/token", step);
        assert_nothing_changed(&scene, &record, &before, 5);
    }
    scene.authority.always("/token", Step::Default);
    assert_eq!(browser.opened().len(), 0);
    scene.get().run().assert(0, &scene.get().run().stdout_text(), "");
    // A server that is not there at all.
    let (authority, host, sandbox) = (&scene.authority, &scene.host, &scene.sandbox);
    let issuer = authority.issuer();
    let nowhere = issuer.replace(&issuer[issuer.rfind(':').expect("a port")..], ":9");
    sandbox.config(&format!(
        "[profile.lab]\norigins = [\"{}\"]\nclient_id = \"lab-client\"\ntoken_endpoint = \
         \"{nowhere}/token\"\n",
        host.origin()
    ));
    let mut orphan = planted::read(&record);
    orphan["authority"] = json!(format!("{nowhere}/token"));
    orphan["expires_at"] = json!(1);
    planted::put(&scene, "alice", &orphan);
    let before = std::fs::read(&record).expect("a record");
    assert_nothing_changed(&scene, &record, &before, 5);
    assert_eq!(browser.opened().len(), 0);
}

/// The profile of that name means another server now: what the old one gave stays with it.
#[test]
fn a_session_of_another_issuer_is_neither_used_nor_sent() {
    let scene = Scene::new();
    scene.nobody();
    for expires in [1, 10_000_000_000] {
        let tokens = scene.authority.grant("alice");
        let refresh = tokens.refresh.expect("a refresh token");
        let mut record = planted::session(&scene, "alice", &tokens.access, &refresh, expires);
        record["authority"] = json!("https://elsewhere.example/");
        let path = planted::put(&scene, "alice", &record);
        let before = std::fs::read(&path).expect("a record");
        assert_nothing_changed(&scene, &path, &before, 2);
    }
    assert_eq!(scene.authority.asked("/token"), 0);
}

/// The whole wait has an end, with real time and a real lock.
#[test]
fn a_get_that_waits_goes_on_the_moment_the_holder_dies() {
    let scene = Scene::new();
    planted::expired(&scene, "alice");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::Hold(gate.clone())]);
    let holder = scene.get().start();
    gate.reached();
    let waiter = scene.get().start();
    holder.kill();
    // Had it not gone on, it would have given up in the end, with another status.
    waiter.wait().assert_status(0);
    drop(holder);
    gate.open();
}

/// The session can be renewed, and the host takes a token that no renewal brings: one request,
/// and not one after the other.
#[test]
fn a_renewal_that_does_not_help_is_made_once() {
    let scene = Scene::new();
    scene.profile("token = \"id\"");
    scene.nobody();
    planted::expired(&scene, "alice");
    let get = scene.get().run();
    get.assert_status(2).assert_stdout("").assert_stderr_has("hint: valetkey login ");
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    assert_eq!(planted::stored(&scene).0.len(), 1, "it lives, for hosts that take it");
}

/// A token that lives for less than the margin is stale from its first second: whoever waited for
/// its renewal takes it all the same.
#[test]
fn a_token_that_never_lives_long_is_still_shared() {
    let scene = Scene::with(Scheme::Basic, Options { expires_in: Some(30), ..Options::default() });
    scene.sign_in();
    scene.age(20);
    scene.sandbox.env("VALETKEY_INTERACTIVE", "always");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let winner = scene.get().start();
    gate.reached();
    let waiting = scene.get().start();
    waiting.expect_stderr("waiting for another sign-in");
    gate.open();
    let both = wait_for_all(vec![winner, waiting]);
    same_token(&both);
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}
