//! The guide's example: device flow, keychain, and a renewal that nobody notices.

use crate::lab::systems::guide::{CLIENT, Guide, State, USER_CODE};
use crate::lab::{Browser, Finished, Person, http};
use crate::scene::age;

type Scene = super::Scene<State>;

impl Scene {
    fn new() -> Self {
        let takes = |site: &Guide, token: &str| site.takes(token);
        Self::at(Guide::start(), takes, |origin, git| {
            format!(
                "[profile.yourapp]\norigins = [\"{origin}\", \"{git}\"]\nclient_id = \"{CLIENT}\"\n\
                device_authorization_endpoint = \"{origin}/oauth/device/authorize\"\n\
                token_endpoint = \"{origin}/oauth/token\"\nflow = \"device\"\n\
                scopes = [\"openid\", \"profile\", \"offline_access\"]\n"
            )
        })
    }

    fn login(&self) -> Finished {
        self.valetkey("login", &[]).env("VALETKEY_INTERACTIVE", "always").run()
    }

    fn asked(&self, grant: &str) -> usize {
        let all = self.site.journal().at_path("/oauth/token");
        let same = |entry: &&crate::lab::Entry| {
            entry.request.field("grant_type").is_some_and(|found| found.ends_with(grant))
        };
        all.iter().filter(same).count()
    }
}

/// S29, S30, S31, S32, S33, S34, S40: the form, the complete address first for the browser, code
/// and plain address for the person, and a session that works for a tool and a script.
#[test]
fn s29_the_device_flow_of_the_guide() {
    let scene = Scene::new();
    let browser = Browser::start(&scene.sandbox, Person::Ignores);
    let finished = scene.login();
    finished.assert_status(0);
    let page = format!("{}/device", scene.site.origin());
    finished.assert_stderr_has(&format!("open {page}\n"));
    finished.assert_stderr_has(&format!("and enter the code {USER_CODE}\n"));
    finished.assert_stderr_has(&format!("or open {page}?user_code={USER_CODE}\n"));
    assert_eq!(browser.wait_for_opened(1), [format!("{page}?user_code={USER_CODE}")]);
    let asked = scene.site.journal().at_path("/oauth/device/authorize");
    let scope = asked[0].request.field("scope");
    assert_eq!(scope.as_deref(), Some("openid profile offline_access"));
    scene.clone("one").assert_success();
    let token = scene.valetkey("token", &[]).run().assert_success();
    let bearer = format!("Bearer {}", token.trim());
    let url = format!("{}/api/data", scene.site.origin());
    let page = http("GET", &url, &[("Authorization", &bearer)], b"").expect("an answer");
    assert_eq!(page.status, 200);
    for secret in scene.site.issued() {
        assert!(!finished.to_string().contains(&secret));
    }
}

/// S35, S36, S37, S38, S39, S54: pending goes on, `slow_down` slows down, everything else ends it
/// and is named, and so does the deadline; nothing signed in is one command away.
#[test]
fn s38_what_ends_the_polling_is_named() {
    let scene = Scene::new();
    scene.site.turn(|knobs| {
        knobs.next_polls = vec!["authorization_pending", "authorization_pending"];
    });
    scene.login().assert_status(0);
    assert_eq!(scene.asked("device_code"), 3);
    scene.valetkey("logout", &[]).run().assert_status(0);
    let finished = scene.valetkey("token", &[]).run();
    finished.assert_status(2).assert_stderr_has("error: not signed in to");
    finished.assert_stderr_has(&format!("hint: valetkey login {}", scene.site.origin()));
    scene.site.turn(|knobs| knobs.next_polls = vec!["server_exploded"]);
    scene.login().assert_status(4).assert_stderr_has("answered server_exploded");
    scene.site.turn(|knobs| (knobs.approves, knobs.expires_in) = (false, 600));
    let late = ["--timeout", "2"];
    let finished = scene.valetkey("login", &late).env("VALETKEY_INTERACTIVE", "always").run();
    finished.assert_status(3).assert_stderr_has("nobody signed in to");
}

/// S42, S52, S53, S55, S57: a token that ends within a minute is renewed before it is given,
/// silently, and the successor is kept first.
#[test]
fn s52_s53_a_token_is_renewed_a_minute_before_its_end() {
    let scene = Scene::new();
    scene.login().assert_status(0);
    scene.clone("one").assert_success();
    assert_eq!(scene.asked("refresh_token"), 0);
    age(&scene.sandbox, 3600 - 70);
    scene.clone("two").assert_success();
    assert_eq!(scene.asked("refresh_token"), 0, "70 seconds are enough");
    age(&scene.sandbox, 20);
    scene.clone("three").assert_success();
    assert_eq!(scene.asked("refresh_token"), 1, "50 seconds are not");
    let entry = scene.site.journal().at_path("/oauth/token").pop().expect("a request");
    let mut fields: Vec<_> = entry.request.form().into_iter().map(|(name, _)| name).collect();
    fields.sort();
    assert_eq!(fields, ["client_id", "grant_type", "refresh_token"]);
    let spent = entry.request.field("refresh_token").expect("a token");
    assert_eq!(scene.sandbox.files_with(spent.as_bytes()).len(), 0);
}

/// S56, 3.3: the server's own no ends the session and says what to run.
#[test]
fn s56_a_session_that_the_server_ended_is_gone() {
    let scene = Scene::new();
    scene.login().assert_status(0);
    age(&scene.sandbox, 3600);
    scene.site.end_sessions();
    let finished = scene.valetkey("token", &[]).run();
    finished.assert_status(2);
    finished.assert_stderr_has(&format!("hint: valetkey login {}", scene.site.origin()));
    scene.valetkey("whoami", &[]).run().assert_status(2);
    let left = scene.sandbox.files().into_iter().filter(|file| file.path.starts_with("data"));
    assert_eq!(left.count(), 0);
}

/// S42: no refresh token is no reason for an error, and none is made up.
#[test]
fn s42_a_server_without_refresh_tokens() {
    let scene = Scene::new();
    scene.site.turn(|knobs| knobs.with_refresh = false);
    scene.login().assert_status(0);
    scene.clone("one").assert_success();
    age(&scene.sandbox, 3600);
    assert_ne!(scene.valetkey("token", &[]).run().status, 0);
    assert_eq!(scene.asked("refresh_token"), 0);
}

/// The answer of a token endpoint, as people keep it in a file, is taken over; so is what a
/// keychain's own tool prints.
#[test]
fn a_token_answer_is_taken_over_from_standard_input() {
    let scene = Scene::new();
    scene.login().assert_status(0);
    let issued = scene.site.issued();
    let (access, refresh) = (&issued[0], &issued[2]);
    scene.valetkey("logout", &["--local"]).run().assert_status(0);
    let answer =
        format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}","expires_in":3600}}"#);
    let import = ["import", "-", "--for", &scene.site.origin(), "--account", "alice"];
    let finished = scene.sandbox.valetkey(&import).stdin(answer).run();
    finished.assert_status(0).assert_stderr_has("as alice from standard input");
    scene.clone("one").assert_success();
    assert_eq!(scene.asked("refresh_token"), 1, "how old it was nobody knew");
}
