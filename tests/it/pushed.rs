//! What a server may want of a request before a person sees it: that it is pushed (RFC 9126), and
//! that a device is bound to its code by PKCE (oauth.md 1.1 D1).

use serde_json::json;
use url::Url;

use crate::lab::{Options, Person, Scheme, Step};
use crate::scene::{Scene, value};

fn scene(pushing: bool, only_pushed: bool) -> Scene {
    Scene::with(Scheme::Basic, Options { pushing, only_pushed, ..Options::default() })
}

/// RFC 9126 sections 4 and 5: where the server insists, the browser carries a name and nothing else.
#[test]
fn a_pushed_request_leaves_the_browser_nothing_to_read() {
    let scene = scene(true, true);
    scene.profile("resource = \"https://api.example\"\nscopes = [\"openid\", \"read\"]");
    let browser = scene.browser(Person::Approves);
    let finished = scene.get().run();
    assert!(value(&finished, "password").is_some(), "{finished}");
    let opened = Url::parse(&browser.opened()[0]).expect("a URL");
    let names: Vec<_> = opened.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["client_id", "request_uri"]);
    let pushed = scene.authority.journal().at_path("/par");
    let [pushed] = pushed.as_slice() else { panic!("{} pushed", pushed.len()) };
    let field = |name: &str| pushed.request.field(name).unwrap_or_default();
    assert_eq!((pushed.status, field("response_type").as_str()), (Some(201), "code"));
    assert_eq!(
        (field("resource"), field("scope")),
        ("https://api.example".into(), "openid read".into())
    );
    assert_eq!((field("state").len(), field("code_challenge").len()), (43, 43));
    assert_eq!(pushed.request.field("code_verifier"), None);
}

/// Only where the server insists, or the profile says so.
#[test]
fn a_request_is_pushed_where_somebody_wants_it() {
    let scene = scene(true, false);
    let _browser = scene.browser(Person::Approves);
    let login = || scene.sandbox.valetkey(&["login", "--force", &scene.host.origin()]).run();
    login().assert_status(0);
    assert_eq!(scene.authority.asked("/par"), 0);
    scene.profile("par = true");
    login().assert_status(0);
    assert_eq!(scene.authority.asked("/par"), 1);
    scene.authority.tune(|options| options.pushing = false);
    login().assert_status(78).assert_stderr_has("has no endpoint to push a request to");
}

/// Attack 22, 25: whatever the endpoint answers, nobody is sent anywhere with it.
#[test]
fn attack_22_a_pushed_request_that_is_refused_opens_no_browser() {
    let scene = scene(true, true);
    let browser = scene.browser(Person::Approves);
    for (step, status, words) in [
        (Step::error("invalid_request"), 4, "invalid_request (lab: invalid_request)"),
        (Step::error("invalid_client"), 78, "does not accept this client id"),
        (Step::error("access_denied"), 3, "was refused"),
        (Step::json(201, &json!({})), 4, "without saying why"),
        (Step::json(201, &json!({ "request_uri": "a\nb" })), 4, "without saying why"),
        (Step::json(201, &json!({ "request_uri": "x".repeat(5_000) })), 4, "without saying why"),
        (Step::json(403, &json!({ "request_uri": "urn:x" })), 4, "answered 403"),
        (Step::Redirect(scene.host.origin()), 4, "answered 302"),
        (Step::status(503), 5, "answered 503"),
        (Step::Close, 5, "cannot be reached"),
        (Step::Endless, 5, "longer than 1 MiB"),
    ] {
        scene.authority.next("/par", vec![step]);
        let finished = scene.sandbox.valetkey(&["login", &scene.host.origin()]).run();
        finished.assert_status(status).assert_stdout("").assert_stderr_has(words);
        let pushed = scene.authority.journal().at_path("/par").pop().expect("a request").request;
        let state = pushed.field("state").expect("a state");
        assert!(!finished.stderr_text().contains(&state), "{finished}");
    }
    assert_eq!(browser.opened().len(), 0);
    assert_eq!(scene.authority.asked("/authorize"), 0);
}

/// D1: a server that wants PKCE of devices too is heard when it says so; a profile can say it first.
#[test]
fn a_device_is_bound_to_its_code_where_the_server_wants_it() {
    for (profile, requests) in [("", 2), ("device_pkce = true", 1)] {
        let scene = Scene::with(
            Scheme::Basic,
            Options {
                device_challenge: true,
                approve_devices_after: Some(0),
                verification_uri_complete: false,
                ..Options::default()
            },
        );
        scene.profile(profile);
        let _browser = scene.browser(Person::Ignores);
        let login = ["login", "--flow", "device", &scene.host.origin()];
        scene.sandbox.valetkey(&login).run().assert_status(0);
        let asked = scene.authority.journal().at_path("/device_authorization");
        assert_eq!(asked.len(), requests, "{profile}");
        let last = &asked[requests - 1].request;
        assert_eq!(last.field("code_challenge_method").as_deref(), Some("S256"));
        assert_eq!(last.field("code_verifier"), None);
        let poll = scene.authority.journal().at_path("/token").pop().expect("a poll").request;
        assert_eq!(poll.field("code_verifier").map(|verifier| verifier.len()), Some(43));
    }
    // Others are not bothered with what they might not know.
    let scene = Scene::with(
        Scheme::Basic,
        Options { approve_devices_after: Some(0), ..Options::default() },
    );
    let _browser = scene.browser(Person::Approves);
    let login = ["login", "--flow", "device", &scene.host.origin()];
    scene.sandbox.valetkey(&login).run().assert_status(0);
    let journal = scene.authority.journal().snapshot();
    assert!(journal.iter().all(|entry| entry.request.field("code_challenge").is_none()));
}
