//! What servers say about themselves (RFC 8414, OpenID Connect Discovery): where it is looked for,
//! what is believed of it, and for how long.

use std::time::Duration;

use serde_json::json;

use crate::clockwork::Inside;
use crate::lab::{Answer, Authority, CLIENT_ID, Options, Person, Request, Scheme, Server, Step};
use crate::scene::{Scene, value};

const OAUTH: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";

fn scene(issuer_path: &str) -> Scene {
    let issuer_path = issuer_path.to_owned();
    Scene::with(Scheme::Basic, Options { issuer_path, ..Options::default() })
}

/// The discovery requests, in order.
fn looked(authority: &Authority) -> Vec<String> {
    let journal = authority.journal().snapshot();
    let paths = journal.into_iter().map(|entry| entry.request.path);
    paths.filter(|path| path.contains("well-known")).collect()
}

/// Check 10, RFC 8414 section 3.1: the well-known part goes between host and path; OpenID Connect's
/// place after the path comes last; "not there" is what makes us go on.
#[test]
fn check_10_path_insertion_comes_first_and_appending_last() {
    let places =
        [format!("{OAUTH}/tenant"), format!("{OPENID}/tenant"), format!("/tenant{OPENID}")];
    for missing in 0..3 {
        let scene = scene("/tenant");
        for place in &places[..missing] {
            scene.authority.always(place, Step::status(404));
        }
        let _browser = scene.browser(Person::Approves);
        scene.get().run().assert_status(0);
        assert_eq!(looked(&scene.authority), places[..=missing]);
    }
    let scene = scene("");
    scene.authority.always(OAUTH, Step::status(404));
    let _browser = scene.browser(Person::Approves);
    scene.get().run().assert_status(0);
    assert_eq!(looked(&scene.authority), [OAUTH, OPENID]);
}

/// 1.6: a site that shows its front page everywhere has no document there.
#[test]
fn a_front_page_is_no_document() {
    let scene = scene("");
    scene.authority.always(OAUTH, Step::Answer(Answer::html(200, "<!doctype html>")));
    let _browser = scene.browser(Person::Approves);
    scene.get().run().assert_status(0);
    scene.authority.always(OPENID, Step::status(404));
    let login = ["login", "--force", &scene.host.origin()];
    let finished = scene.sandbox.valetkey(&login).run();
    finished.assert_status(78).assert_stderr_has("publishes no metadata");
}

/// 1.6: a server in trouble is not one without a document, and each place has its own troubles: the
/// next is asked, and only where none has a document is the trouble what is said.
#[test]
fn trouble_is_not_absence() {
    for step in
        [Step::status(503), Step::status(500), Step::status(429), Step::Close, Step::Endless]
    {
        for nothing in [step.clone(), Step::status(404), Step::json(200, &json!({}))] {
            let scene = scene("");
            scene.authority.always(OAUTH, step.clone());
            scene.authority.always(OPENID, nothing);
            let browser = scene.browser(Person::Approves);
            scene.get().run().assert_status(5).assert_stdout("");
            assert_eq!(looked(&scene.authority), [OAUTH, OPENID]);
            assert_eq!(browser.opened().len(), 0);
        }
        let scene = scene("");
        scene.authority.always(OAUTH, step);
        let _browser = scene.browser(Person::Approves);
        scene.get().run().assert_status(0);
        assert_eq!(looked(&scene.authority), [OAUTH, OPENID]);
    }
}

/// What is no metadata of this issuer is none, wherever it stands.
#[test]
fn a_place_without_a_document_of_this_issuer_is_passed_by() {
    for odd in [
        Step::json(200, &json!({})),
        Step::json(200, &json!({ "error": "not_found" })),
        Step::json(200, &json!([])),
        Step::json(200, &json!({ "issuer": "https://other.example" })),
        Step::json(200, &json!({ "issuer": null, "token_endpoint": "https://other.example/" })),
        Step::Answer(Answer::html(200, "<html>welcome")),
        Step::Answer(Answer::html(502, "<html>")),
        Step::status(403),
        Step::status(408),
        Step::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"iss".to_vec()),
        Step::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()),
    ] {
        let scene = scene("");
        scene.authority.always(OAUTH, odd);
        let _browser = scene.browser(Person::Approves);
        scene.get().run().assert_status(0);
        assert_eq!(looked(&scene.authority), [OAUTH, OPENID]);
    }
    // Nothing anywhere is said as that.
    for odd in [json!({}), json!({ "error": "not_found" })] {
        let scene = scene("");
        for place in [OAUTH, OPENID] {
            scene.authority.always(place, Step::json(200, &odd));
        }
        scene.get().run().assert_status(2);
        let login = ["login", &scene.host.origin()];
        scene.sandbox.env("VALETKEY_INTERACTIVE", "always");
        let finished = scene.sandbox.valetkey(&login).run();
        finished.assert_status(78).assert_stderr_has("publishes no metadata");
    }
}

/// Check 10, RFC 8414 section 3.3, attacks 12, 15, 23, 24, 25: what makes a document worthless. No
/// browser opens, nobody is sent anything, and the server's text stays short and tame.
#[test]
fn check_10_a_document_that_is_not_the_issuers_is_not_used() {
    let long = format!("https://x.example/{}", "x".repeat(500_000));
    for (member, bad) in [
        ("issuer", json!("https://evil.example")),
        ("issuer", json!("http://127.0.0.1:1")),
        ("issuer", json!("\u{1b}]52;c;eA==\u{7}\nerror: forged")),
        ("issuer", json!(long)),
        ("issuer", json!(null)),
        ("token_endpoint", json!("http://evil.example/token")),
        ("token_endpoint", json!("http://10.0.0.1/token")),
        ("token_endpoint", json!("http://[::ffff:10.0.0.1]/token")),
        ("token_endpoint", json!("ftp://127.0.0.1/token")),
        ("token_endpoint", json!("/token")),
        ("token_endpoint", json!("http://localhost.evil.example/token")),
        ("token_endpoint", json!("https://user:secret@x.example/token")),
        ("authorization_endpoint", json!("javascript:alert(1)")),
        ("authorization_endpoint", json!("file:///etc/passwd")),
        ("authorization_endpoint", json!("https://github.com@x.example/")),
    ] {
        let scene = scene("");
        let shown = bad.to_string();
        scene.authority.metadata(move |document| {
            document.insert(member.into(), bad.clone());
        });
        let browser = scene.browser(Person::Approves);
        let finished = scene.get().run();
        finished.assert_status(78).assert_stdout("");
        assert_eq!(browser.opened().len(), 0, "{member} {}", &shown[..shown.len().min(60)]);
        assert_eq!(looked(&scene.authority).len(), 2);
        let text = finished.stderr_text();
        assert!(text.len() < 700 && text.lines().count() <= 2, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

/// Attack 23: an endpoint that this sign-in does not need, and that no token may go to, is none.
#[test]
fn attack_23_an_endpoint_that_is_not_safe_is_not_used() {
    let trap = Server::start(|_: &Request| Answer::json(200, &json!({})).into());
    let port = trap.origin().rsplit(':').next().expect("a port").to_owned();
    let scene = Scene::new();
    scene.authority.metadata(move |document| {
        for member in ["revocation_endpoint", "userinfo_endpoint", "registration_endpoint"] {
            let bad = format!("http://user@localhost:{port}/{member}");
            document.insert(member.into(), bad.into());
        }
        document.insert("device_authorization_endpoint".into(), "http://evil.example/".into());
    });
    scene.profile("scopes = [\"openid\"]");
    let _browser = scene.browser(Person::Approves);
    scene.get().run().assert_status(0);
    scene.sandbox.valetkey(&["logout", &scene.host.origin()]).run();
    assert_eq!(trap.journal().snapshot().len(), 0);
    let login = ["login", "--flow", "device", &scene.host.origin()];
    let finished = scene.sandbox.valetkey(&login).run();
    finished.assert_status(78).assert_stderr_has("http://evil.example/, where no token may go");
}

/// Check 10, attack 22, 25: no redirect is followed, and a document has an end.
#[test]
fn check_10_redirects_and_floods() {
    let trap = Server::start(|_: &Request| Answer::json(200, &json!({})).into());
    let scene = scene("");
    for place in [OAUTH, OPENID] {
        scene.authority.always(place, Step::Redirect(format!("{}{place}", trap.origin())));
    }
    let browser = scene.browser(Person::Approves);
    scene.get().run().assert_status(78).assert_stdout("");
    assert_eq!(trap.journal().snapshot().len(), 0);

    let flood = json!({ "issuer": scene.authority.issuer(), "x": "y".repeat(2 << 20) });
    scene.authority.always(OAUTH, Step::json(200, &flood));
    scene.get().run().assert_status(5).assert_stderr_has("longer than 1 MiB");
    assert_eq!(browser.opened().len(), 0);
}

/// Design section 4: endpoints that the profile names need no discovery, and beat what is published.
#[test]
fn endpoints_of_the_profile_come_first() {
    let scene = scene("");
    let other = Authority::start();
    scene.profile(&format!("token_endpoint = \"{}\"", other.url("/token")));
    let _browser = scene.browser(Person::Approves);
    // The other server knows nothing of the code.
    scene.get().run().assert_status(4);
    assert_eq!((other.asked("/token"), scene.authority.asked("/token")), (1, 0));

    let scene = self::scene("");
    scene.sandbox.config(&format!(
        "[profile.lab]\norigins = [\"{}\"]\nclient_id = \"{CLIENT_ID}\"\n\
         authorization_endpoint = \"{}\"\ntoken_endpoint = \"{}\"\n",
        scene.host.origin(),
        scene.authority.url("/authorize"),
        scene.authority.url("/token"),
    ));
    let _browser = scene.browser(Person::Approves);
    scene.get().run().assert_status(0);
    assert_eq!(looked(&scene.authority).len(), 0);
}

/// 1.6: a renewal believes the document for a day; a sign-in looks again, for it may be what went
/// wrong. A clock that was set back is not believed for longer.
#[test]
fn a_document_is_kept_for_a_day_and_a_sign_in_looks_again() {
    let options = Options {
        expires_in: Some(30),
        approve_devices_after: Some(0),
        verification_uri_complete: false,
        ..Options::default()
    };
    let authority = Authority::start_with(options);
    let inside = Inside::with_wall_clock(1);
    inside.config(&format!(
        "[profile.lab]\norigins = [\"https://git.lab.example\"]\nissuer = \"{}\"\n\
         client_id = \"{CLIENT_ID}\"\nflow = \"device\"\n",
        authority.issuer(),
    ));
    let login =
        || assert_eq!(inside.run(&["login", "--force", "https://git.lab.example"], "").0, 0);
    let get = || {
        let question = "protocol=https\nhost=git.lab.example\n";
        assert_eq!(inside.run(&["get"], question).0, 0);
    };
    login();
    assert_eq!(looked(&authority).len(), 1);
    inside.clock.pass(Duration::from_secs(23 * 3600));
    get();
    inside.clock.pass(Duration::from_secs(30));
    get();
    assert_eq!((looked(&authority).len(), authority.asked_for("refresh_token")), (1, 2));
    inside.clock.pass(Duration::from_secs(2 * 3600));
    get();
    inside.clock.pass(Duration::from_secs(30));
    get();
    assert_eq!((looked(&authority).len(), authority.asked_for("refresh_token")), (2, 4));
    login();
    assert_eq!(looked(&authority).len(), 3);
}

/// A document that was kept and has been tampered with is not believed, only fetched again.
#[test]
fn a_kept_document_is_read_as_strictly_as_a_new_one() {
    let scene = Scene::with(Scheme::Basic, Options { expires_in: Some(30), ..Options::default() });
    scene.sign_in();
    let kept = scene.sandbox.files_with(b"code_challenge_methods_supported");
    assert_eq!(kept.len(), 1);
    for content in ["", "{", r#"{"fetched":99999999999,"document":{}}"#, r#"{"fetched":1}"#] {
        let path = kept[0].to_str().expect("plain");
        scene.sandbox.write(path, content.as_bytes(), 0o600);
        scene.age(20);
        assert!(value(&scene.get().run(), "password").is_some(), "{content}");
    }
    assert_eq!(looked(&scene.authority).len(), 5);
}
