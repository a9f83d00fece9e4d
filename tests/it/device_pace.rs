//! How the device flow polls (RFC 8628 section 3.5), on a clock of our own: every pause is seen,
//! none is waited for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clockwork::Inside;
use crate::lab::{Answer, CLIENT_ID, Reply, Request, Server};

const ORIGIN: &str = "https://git.lab.example";
const QUESTION: &str = "protocol=https\nhost=git.lab.example\n";

/// A server that says what the test wrote down, and notes when it was asked.
struct Device {
    server: Server,
    inside: Inside,
    polls: Arc<Mutex<Vec<Duration>>>,
}

impl Device {
    fn new(members: Value, answers: Vec<Reply>) -> Self {
        Self::with_wall_clock(1, members, answers)
    }

    /// `members` go into the device authorization; after the `answers` everything is pending.
    fn with_wall_clock(wall: u32, members: Value, answers: Vec<Reply>) -> Self {
        let inside = Inside::with_wall_clock(wall);
        let polls = Arc::new(Mutex::new(Vec::new()));
        let handler = {
            let (clock, polls) = (Arc::clone(&inside.clock), Arc::clone(&polls));
            let answers = Mutex::new(VecDeque::from(answers));
            move |request: &Request| match request.path.as_str() {
                "/device_authorization" => {
                    let mut document = json!({
                        "device_code": "the-device-code",
                        "user_code": "WDJB-MJHT",
                        "verification_uri": "http://127.0.0.1/device",
                        "expires_in": 1800,
                    });
                    merge(&mut document, &members);
                    Answer::json(200, &document).into()
                }
                "/token" => {
                    polls.lock().expect("whole").push(clock.passed());
                    answers.lock().expect("whole").pop_front().unwrap_or_else(pending)
                }
                _ => Answer::empty(404).into(),
            }
        };
        let server = Server::start(handler);
        let origin = server.origin();
        inside.config(&format!(
            "[profile.lab]\norigins = [\"{ORIGIN}\"]\nclient_id = \"{CLIENT_ID}\"\n\
             token_endpoint = \"{origin}/token\"\nscopes = [\"read\", \"write\"]\n\
             device_authorization_endpoint = \"{origin}/device_authorization\"\n",
        ));
        Self { server, inside, polls }
    }

    fn login(&self, more: &[&str]) -> u8 {
        self.inside.run(&[&["login", ORIGIN], more].concat(), "").0
    }

    fn get(&self) -> (u8, String) {
        self.inside.run(&["get"], QUESTION)
    }

    /// Seconds before each poll.
    fn gaps(&self) -> Vec<f64> {
        let polls = self.polls.lock().expect("whole");
        let before = std::iter::once(&Duration::ZERO).chain(polls.iter());
        before.zip(polls.iter()).map(|(one, next)| (*next - *one).as_secs_f64()).collect()
    }

    fn requests(&self) -> usize {
        self.server.journal().at_path("/device_authorization").len()
    }
}

fn merge(document: &mut Value, members: &Value) {
    for (name, value) in members.as_object().expect("an object") {
        match value {
            Value::Null => drop(document.as_object_mut().expect("an object").remove(name)),
            value => document[name] = value.clone(),
        }
    }
}

fn error(status: u16, code: &str) -> Reply {
    Answer::json(status, &json!({ "error": code })).into()
}

fn pending() -> Reply {
    error(400, "authorization_pending")
}

fn token() -> Reply {
    Answer::json(200, &json!({ "access_token": "t", "token_type": "Bearer" })).into()
}

/// D1, D3, D4, D5, S29, S33, S35: what is asked, and that without an interval there are at least
/// five seconds before every poll, the first one too.
#[test]
fn d3_d4_without_an_interval_there_are_five_seconds_before_every_poll() {
    let device = Device::new(json!({}), vec![pending(), pending(), token()]);
    assert_eq!(device.login(&[]), 0);
    let gaps = device.gaps();
    assert_eq!(gaps.len(), 3);
    assert!(gaps.iter().all(|gap| (5.0..10.0).contains(gap)), "{gaps:?}");

    let journal = device.server.journal().snapshot();
    let fields = |number: usize| {
        let mut form = journal[number].request.form();
        form.sort();
        form.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(fields(0), [format!("client_id={CLIENT_ID}"), "scope=read write".into()]);
    let poll = [
        format!("client_id={CLIENT_ID}"),
        "device_code=the-device-code".into(),
        "grant_type=urn:ietf:params:oauth:grant-type:device_code".into(),
    ];
    assert_eq!(fields(1), poll);
    assert_eq!(fields(3), poll);
}

/// Check 6, D5, D6, D9, D12, S37, S38: the whole story of a bad evening. Every wait is at least
/// what was asked for, a lost connection only makes them longer, and in the end there is a token.
#[test]
fn d6_d9_slow_down_is_for_good_and_a_lost_connection_only_slows_down() {
    let answers = vec![
        pending(),
        pending(),
        error(400, "slow_down"),
        error(400, "slow_down"),
        Reply::Close,
        Reply::Close,
        Answer::text(500, "oh").into(),
        pending(),
        token(),
    ];
    let device = Device::new(json!({ "interval": 5 }), answers);
    assert_eq!(device.login(&[]), 0);
    let gaps = device.gaps();
    let least = [5.0, 5.0, 5.0, 10.0, 15.0, 16.0, 17.0, 18.0, 18.0];
    assert_eq!(gaps.len(), least.len(), "{gaps:?}");
    for (gap, least) in gaps.iter().zip(least) {
        assert!(*gap >= least, "{gaps:?}");
    }
    assert!(gaps.is_sorted(), "it sped up: {gaps:?}");
    assert_eq!(device.requests(), 1);
}

/// RFC 9110 section 10.2.3: a server that is busy says for how long, within bounds; what is no count
/// of seconds says nothing.
#[test]
fn a_busy_server_is_asked_when_it_wants_to_be() {
    for (wait, least, most) in [
        ("30", 30.0, 40.0),
        ("999999999", 60.0, 80.0),
        ("99999999999999999999999", 2.0, 20.0),
        ("-1", 2.0, 20.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 2.0, 20.0),
    ] {
        for status in [429, 503] {
            let busy = Answer::text(status, "later").with_header("Retry-After", wait);
            let device = Device::new(json!({ "interval": 1 }), vec![busy.into(), token()]);
            assert_eq!(device.login(&[]), 0);
            let gap = device.gaps()[1];
            assert!((least..most).contains(&gap), "{status} {wait} {gap}");
        }
    }
}

/// D6: GitHub says the new interval; the larger of the two counts.
#[test]
fn d6_an_interval_in_slow_down_counts_if_it_is_larger() {
    let slow = |interval: Value| -> Reply {
        Answer::json(200, &json!({ "error": "slow_down", "interval": interval })).into()
    };
    let device = Device::new(json!({ "interval": 5 }), vec![slow(json!("40")), token()]);
    assert_eq!(device.login(&[]), 0);
    assert!(device.gaps()[1] >= 40.0, "{:?}", device.gaps());
    let device = Device::new(json!({ "interval": 5 }), vec![slow(json!(1)), token()]);
    assert_eq!(device.login(&[]), 0);
    assert!(device.gaps()[1] >= 10.0, "{:?}", device.gaps());
}

/// D7, S88, S101: a no or an end stops the polling, and nothing starts it again by itself.
#[test]
fn d7_a_no_is_final_and_is_not_asked_again_for_a_while() {
    for code in ["access_denied", "expired_token"] {
        let device = Device::new(json!({ "interval": 1 }), vec![pending(), error(400, code)]);
        assert_eq!(device.get(), (3, String::new()), "{code}");
        assert_eq!((device.gaps().len(), device.requests()), (2, 1), "{code}");
        assert_eq!(device.get(), (2, String::new()), "within the cooldown");
        assert_eq!(device.requests(), 1);
        // A person who asks is asked.
        device.inside.clock.pass(Duration::from_secs(1));
        assert_eq!(device.login(&["--timeout", "5"]), 3);
        assert_eq!(device.requests(), 2);
    }
}

/// D8: any other code ends it.
#[test]
fn d8_an_unknown_error_stops_the_polling() {
    for (code, status) in [("invalid_request", 4), ("made_up", 4), ("invalid_client", 78)] {
        let device = Device::new(json!({ "interval": 1 }), vec![error(400, code), token()]);
        assert_eq!(device.login(&[]), status, "{code}");
        assert_eq!(device.gaps().len(), 1, "{code}");
    }
}

/// D11, S36, S39, S87: it ends with the code's life, on whichever clock is first, or with the
/// person's patience; never later.
#[test]
fn d11_it_ends_with_the_life_of_the_code_on_either_clock() {
    let device = Device::new(json!({ "expires_in": 600 }), vec![]);
    assert_eq!(device.login(&[]), 3);
    assert_eq!(device.inside.clock.passed().as_secs(), 600);

    let device = Device::with_wall_clock(3, json!({ "expires_in": 600 }), vec![]);
    assert_eq!(device.login(&[]), 3);
    let passed = device.inside.clock.passed().as_secs();
    assert!((195..=210).contains(&passed), "{passed}");

    let device = Device::new(json!({ "expires_in": 600 }), vec![]);
    assert_eq!(device.login(&["--timeout", "60"]), 3);
    assert_eq!(device.inside.clock.passed().as_secs(), 60);

    let device = Device::new(json!({ "expires_in": 600 }), vec![]);
    assert_eq!(device.login(&["--timeout", "900"]), 3);
    assert_eq!(device.inside.clock.passed().as_secs(), 600, "the server's word is the last");
}

/// D13: GitHub answers 200 to everything. Others answer in a form, or 429.
#[test]
fn d13_an_error_counts_whatever_the_status_and_the_dress() {
    let form = |body: &str| Answer::typed(200, "application/x-www-form-urlencoded", body).into();
    let answers = vec![
        error(200, "authorization_pending"),
        form("error=authorization_pending&error_description=wait"),
        error(429, "slow_down"),
        form("access_token=t&token_type=bearer&scope=read"),
    ];
    let device = Device::new(json!({ "interval": 1 }), answers);
    assert_eq!(device.login(&[]), 0);
    assert_eq!(device.gaps().len(), 4);
    assert_eq!(device.get(), (0, "username=oauth2\npassword=t\n".to_owned()));

    let both = json!({ "error": "access_denied", "access_token": "t", "token_type": "bearer" });
    let device = Device::new(json!({}), vec![Answer::json(200, &both).into()]);
    assert_eq!(device.login(&[]), 3);
}

/// Attack 6.2-17, D2: no server can make us hammer it, or wait for ever.
#[test]
fn attack_17_intervals_and_lifetimes_stay_in_bounds() {
    for (interval, low, high) in [
        (json!(0), 1.0, 2.0),
        (json!(-5), 1.0, 2.0),
        (json!(1e9), 60.0, 90.0),
        (json!("7"), 7.0, 10.0),
        (json!(2.5), 2.0, 5.0),
        (json!("soon"), 5.0, 10.0),
        (json!([]), 5.0, 10.0),
    ] {
        let device = Device::new(json!({ "interval": interval }), vec![token()]);
        assert_eq!(device.login(&[]), 0, "{interval}");
        let gap = device.gaps()[0];
        assert!((low..high).contains(&gap), "{interval}: {gap}");
    }
    for (expires_in, seconds) in [
        (json!(-1), 30),
        (json!(0), 30),
        (json!("120"), 120),
        (json!(1e300), 1_800),
        (Value::Null, 600),
        (json!("long"), 600),
    ] {
        let device = Device::new(json!({ "expires_in": expires_in }), vec![]);
        assert_eq!(device.login(&[]), 3, "{expires_in}");
        assert_eq!(device.inside.clock.passed().as_secs(), seconds, "{expires_in}");
    }
}

/// Check 5: a network that never comes back is no refusal, so it brings no cooldown.
#[test]
fn a_server_that_is_away_to_the_end_is_no_refusal() {
    let down = || (0..100).map(|_| Reply::Close).collect();
    let device = Device::new(json!({ "expires_in": 120 }), down());
    assert_eq!(device.get(), (5, String::new()));
    assert_eq!(device.get().0, 5, "asked again at once");
    assert_eq!(device.requests(), 2);
}

/// D2: Google's spelling, both spellings at once, and a form.
#[test]
fn d2_the_address_by_either_name_and_in_either_dress() {
    let address = "http://127.0.0.1/device";
    for members in [
        json!({ "verification_uri": null, "verification_url": address }),
        json!({ "verification_url": address }),
    ] {
        let device = Device::new(members, vec![token()]);
        assert_eq!(device.login(&[]), 0);
    }
    for missing in ["device_code", "user_code", "verification_uri"] {
        let device = Device::new(json!({ missing: null }), vec![token()]);
        assert_eq!(device.login(&[]), 4, "{missing}");
        assert_eq!(device.gaps().len(), 0, "{missing}");
    }
}
