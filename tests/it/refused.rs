//! Renewals that a server refuses for good, in whatever words (RFC 6749 section 5.2): the way out is
//! a sign-in, for a person at once and for everybody else by the hint, and `login` takes it.

use serde_json::{Value, json};

use crate::lab::{Answer, Person, Step};
use crate::scene::{Scene, value};

/// What servers answer when they will not renew. The last says whether the session is dead, and so
/// gone.
fn refusals() -> Vec<(String, Step, bool)> {
    let mut all = Vec::new();
    for status in [400, 401, 403] {
        for code in [
            "invalid_request",
            "invalid_client",
            "invalid_grant",
            "unauthorized_client",
            "unsupported_grant_type",
            "invalid_scope",
            "invalid_target",
            "invalid_token",
            "interaction_required",
            "login_required",
            "consent_required",
            "account_selection_required",
            "access_denied",
            "expired_token",
            "mfa_required",
            "a code of its own",
            "",
        ] {
            let words = json!({ "error": code, "error_description": "refresh_token is invalid" });
            let dead = code == "invalid_grant";
            all.push((format!("{status} {code}"), Step::json(status, &words), dead));
        }
    }
    // GitHub answers 200 whatever it has to say.
    let words = json!({ "error": "incorrect_client_credentials" });
    all.push(("200 with an error".to_owned(), Step::json(200, &words), false));
    for status in [400, 401, 403, 404, 405, 410, 415, 422, 451] {
        let page = Step::Answer(Answer::html(status, "<html><body>no"));
        all.push((format!("{status} in HTML"), page, false));
        all.push((format!("{status}, empty"), Step::Answer(Answer::empty(status)), false));
        let other: Value = json!({ "message": "no", "code": 7 });
        all.push((format!("{status} in JSON of its own"), Step::json(status, &other), false));
    }
    all
}

/// Signed in, with an access token that has ended and a server that refuses to renew it.
fn refused(step: &Step) -> Scene {
    let scene = Scene::new();
    scene.sign_in();
    scene.age(3600);
    scene.authority.next("/token", vec![step.clone()]);
    scene
}

#[test]
fn without_a_person_a_refused_renewal_is_no_sign_in_and_names_the_way_out() {
    for (what, step, dead) in refusals() {
        let scene = refused(&step);
        let missed = scene.get().run();
        assert_eq!(missed.status, 2, "{what}: {missed}");
        let hint = format!("hint: valetkey login {}\n", scene.host.origin());
        missed.assert_stdout("").assert_stderr_has(&hint);
        let mut kept = scene.sandbox.files_with(b"\"refresh_token\":");
        kept.retain(|path| path.starts_with("data/valetkey/sessions"));
        assert_eq!(kept.len(), usize::from(!dead), "{what}: only a dead grant ends a session");
    }
}

#[test]
fn a_person_signs_in_at_once_where_a_renewal_is_refused() {
    for (what, step, _) in refusals() {
        let scene = refused(&step);
        let browser = scene.browser(Person::Approves);
        let answered = scene.get().run();
        assert!(value(&answered, "password").is_some(), "{what}: {answered}");
        assert_eq!(browser.opened().len(), 1, "{what}");
        // What came takes the place of what was refused.
        scene.session_file();
        assert!(value(&scene.get().run(), "password").is_some(), "{what}");
        assert_eq!(browser.opened().len(), 1, "{what}");
    }
}

#[test]
fn login_goes_on_to_the_sign_in_whatever_the_server_says_of_the_old_token() {
    let undecided =
        [429, 500, 502, 503].map(|status| (status.to_string(), Step::status(status), false));
    for (what, step, _) in refusals().into_iter().chain(undecided) {
        let scene = refused(&step);
        let browser = scene.browser(Person::Approves);
        let origin = scene.host.origin();
        let login = scene.sandbox.valetkey(&["login", &origin]).run();
        assert_eq!(login.status, 0, "{what}: {login}");
        login.assert_stderr_has(&format!("signed in to {origin} as alice"));
        assert_eq!(browser.opened().len(), 1, "{what}");
        scene.nobody();
        assert!(value(&scene.get().run(), "password").is_some(), "{what}");
    }
}

/// Nobody can sign in at a server that is not there, and the session may be good.
#[test]
fn a_connection_that_is_lost_ends_login_and_keeps_the_session() {
    for step in [Step::Close, Step::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec())] {
        let scene = Scene::new();
        scene.sign_in();
        scene.age(3600);
        scene.authority.always("/token", step);
        let browser = scene.browser(Person::Approves);
        let lost = scene.sandbox.valetkey(&["login", &scene.host.origin()]).run();
        lost.assert_status(5).assert_stdout("").assert_stderr_has("hint: ");
        assert_eq!(browser.opened().len(), 0);
        scene.session_file();
    }
}

/// A server can end a token before its time: `login` asks it, and does what is needed.
#[test]
fn login_does_not_believe_the_clock_alone() {
    let scene = Scene::new();
    scene.sign_in();
    let browser = scene.browser(Person::Approves);
    let login = |what: &str| {
        let login = scene.sandbox.valetkey(&["login", &scene.host.origin()]).run();
        login.assert_status(0).assert_stderr_has(what);
    };
    let renewals = || scene.authority.asked_for("refresh_token");
    let live = || {
        let token = value(&scene.get().run(), "password").expect("a token");
        assert!(scene.authority.token_is_live(&token));
    };
    login("already signed in");
    assert_eq!((renewals(), browser.opened().len()), (0, 0));
    scene.authority.expire_all_access();
    login("already signed in");
    assert_eq!((renewals(), browser.opened().len()), (1, 0));
    live();
    scene.authority.revoke_grants();
    login("signed in to");
    assert_eq!((renewals(), browser.opened().len()), (2, 1));
    live();
    // Where no page tells, a renewal does.
    scene.bind(&[&scene.host.origin()], "");
    scene.authority.expire_all_access();
    login("already signed in");
    assert_eq!((renewals(), browser.opened().len()), (3, 1));
    live();
    scene.authority.revoke_grants();
    login("signed in to");
    assert_eq!((renewals(), browser.opened().len()), (4, 2));
    live();
    // A server that is away says nothing against a token with time left.
    scene.authority.always("/token", Step::Close);
    login("already signed in");
    assert_eq!(browser.opened().len(), 2);
}
