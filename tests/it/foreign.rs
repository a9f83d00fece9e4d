//! What servers say, member by member: each document with each of its members replaced by what
//! servers have been seen to write there. What nobody needs spoils nothing, and what is needed is
//! named in one line, while what is kept stays.

use serde_json::{Map, Value, json};

use crate::lab::client::http_get;
use crate::lab::{Answer, Finished, Options, Person, Refreshing, Scheme, Step};
use crate::planted;
use crate::scene::{Home, Scene, value};

/// What stands in the place of a member. `None`: it is given twice, with different values.
const ODD: &[Option<&str>] = &[
    Some("null"),
    Some("\"\""),
    Some("0"),
    Some("[]"),
    Some("{}"),
    Some("\"/relative\""),
    Some("true"),
    Some("[[null]]"),
    Some("1e999"),
    None,
];

/// A document as text, with the members of these names replaced.
fn replaced(document: &Map<String, Value>, names: &[&str], odd: Option<&str>) -> String {
    let mut members = Vec::new();
    for (name, own) in document {
        match (names.contains(&name.as_str()), odd) {
            (false, _) => members.push(format!("\"{name}\":{own}")),
            (true, Some(odd)) => members.push(format!("\"{name}\":{odd}")),
            (true, None) => {
                members.push(format!("\"{name}\":{own}"));
                members.push(format!("\"{name}\":\"another\""));
            }
        }
    }
    format!("{{{}}}", members.join(","))
}

/// Each odd member alone, and all of them together.
fn groups<'n>(names: &[&'n str]) -> Vec<Vec<&'n str>> {
    names.iter().map(|name| vec![*name]).chain([names.to_vec()]).collect()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

fn answer(status: u16, body: &str) -> Step {
    Step::Answer(Answer::typed(status, "application/json", body))
}

/// One line says what is wrong with which member.
#[track_caller]
fn assert_named(finished: &Finished, statuses: &[i32], name: &str, case: &str) {
    assert!(statuses.contains(&finished.status), "{case}: {finished}");
    let text = finished.stderr_text();
    let errors: Vec<_> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{case}: {finished}");
    assert!(errors[0].contains(name), "{case}: {finished}");
    finished.assert_stdout("");
}

const AUTHORIZATION_SERVER: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";

/// The metadata that the laboratory's server publishes, with all that a server may say beside it.
fn metadata(scene: &Home) -> Map<String, Value> {
    let url = scene.authority.url(AUTHORIZATION_SERVER);
    let mut document = object(http_get(&url).json());
    for (name, more) in [
        ("authorization_response_iss_parameter_supported", json!(false)),
        ("client_id_metadata_document_supported", json!(false)),
        ("code_challenge_methods_supported", json!(["S256"])),
        ("grant_types_supported", json!(["authorization_code", "refresh_token"])),
        ("jwks_uri", json!(scene.authority.url("/jwks"))),
        ("pushed_authorization_request_endpoint", json!(scene.authority.url("/par"))),
        ("require_pushed_authorization_requests", json!(false)),
        ("response_types_supported", json!(["code"])),
        ("scopes_supported", json!(["openid"])),
        ("token_endpoint_auth_methods_supported", json!(["none"])),
        ("userinfo_endpoint", json!(scene.authority.url("/me"))),
    ] {
        document.insert(name.to_owned(), more);
    }
    document
}

#[test]
fn metadata_is_read_member_by_member() {
    let scene = Scene::new();
    scene.authority.tune(|options| options.iss_advertised = false);
    let document = metadata(&scene);
    let needed = ["issuer", "authorization_endpoint", "token_endpoint"];
    let optional: Vec<&str> =
        document.keys().map(String::as_str).filter(|name| !needed.contains(name)).collect();
    assert!(optional.len() > 12, "{optional:?}");
    let _browser = scene.browser(Person::Approves);
    let login = || scene.sandbox.valetkey(&["login", "--force", &scene.host.origin()]).run();
    for odd in ODD {
        for names in groups(&optional) {
            // A flag that is true means something.
            let flags = |name: &&str| name.contains("require") || name.contains("supported");
            if *odd == Some("true") && names.iter().any(flags) {
                continue;
            }
            let text = replaced(&document, &names, *odd);
            scene.authority.always(AUTHORIZATION_SERVER, answer(200, &text));
            let finished = login();
            assert_eq!(finished.status, 0, "{names:?} {odd:?}: {finished}");
        }
        for name in needed {
            let text = replaced(&document, &[name], *odd);
            for place in [AUTHORIZATION_SERVER, OPENID] {
                scene.authority.always(place, answer(200, &text));
            }
            // A text is another issuer's name.
            let other = name == "issuer" && *odd == Some("\"/relative\"");
            let what = if other { "is that of /relative" } else { name };
            assert_named(&login(), &[78], what, &format!("{name} {odd:?}"));
        }
        scene.authority.always(OPENID, Step::Default);
    }
}

/// The answer to a refresh, whose loss would be the session's.
#[test]
fn a_token_answer_is_read_member_by_member() {
    let scene = Scene::new();
    scene.nobody();
    planted::expired(&scene, "alice");
    let document = object(json!({
        "access_token": "good", "token_type": "Bearer", "expires_in": 3600, "scope": "a b",
        "refresh_token": "next", "id_token": "e30.e30.e30", "error": "", "error_description": "",
        "error_uri": "", "interval": 5, "not-before-policy": 0, "session_state": "x",
    }));
    let optional: Vec<&str> =
        document.keys().map(String::as_str).filter(|name| *name != "access_token").collect();
    for odd in ODD {
        for names in groups(&optional) {
            // A readable text means something there.
            let texts = ["token_type", "error"];
            if *odd == Some("\"/relative\"") && names.iter().any(|name| texts.contains(name)) {
                continue;
            }
            planted::expired(&scene, "alice");
            let text = replaced(&document, &names, *odd);
            scene.authority.next("/token", vec![answer(200, &text)]);
            let finished = scene.get().run();
            let access = value(&finished, "password");
            assert_eq!(access.as_deref(), Some("good"), "{names:?} {odd:?}: {finished}");
        }
        if *odd == Some("\"/relative\"") {
            continue;
        }
        planted::expired(&scene, "alice");
        let before = scene.session_file().content;
        scene
            .authority
            .next("/token", vec![answer(200, &replaced(&document, &["access_token"], *odd))]);
        let case = format!("access_token {odd:?}");
        assert_named(&scene.get().run(), &[4], "access_token", &case);
        assert_eq!(scene.session_file().content, before, "{case}: nothing is lost");
    }
}

#[test]
fn a_registration_is_read_member_by_member() {
    let scene = Scene::new();
    let origin = scene.host.origin();
    scene.sandbox.config(&format!(
        "[profile.lab]\norigins = [\"{origin}\"]\nissuer = \"{}\"\n",
        scene.authority.issuer()
    ));
    let _browser = scene.browser(Person::Approves);
    let login = || {
        // It is kept otherwise.
        for kept in scene.sandbox.files() {
            if kept.path.starts_with("state/valetkey/clients") {
                std::fs::remove_file(scene.sandbox.root().join(kept.path)).expect("it is ours");
            }
        }
        scene.sandbox.valetkey(&["login", "--force", &origin]).run()
    };
    let document = object(json!({
        "client_id": crate::lab::CLIENT_ID, "client_id_issued_at": 1, "client_name": "valetkey",
        "client_secret_expires_at": 0, "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code"], "redirect_uris": ["http://127.0.0.1/"],
        "registration_client_uri": "https://x.example", "error": "", "error_description": "",
    }));
    let optional: Vec<&str> =
        document.keys().map(String::as_str).filter(|name| *name != "client_id").collect();
    for odd in ODD {
        let texts = ["token_endpoint_auth_method", "error"];
        let text = *odd == Some("\"/relative\"");
        let names: Vec<&str> =
            optional.iter().copied().filter(|name| !text || !texts.contains(name)).collect();
        scene.authority.always("/register", answer(201, &replaced(&document, &names, *odd)));
        let finished = login();
        assert_eq!(finished.status, 0, "{odd:?}: {finished}");
        if !text {
            let text = replaced(&document, &["client_id"], *odd);
            scene.authority.always("/register", answer(201, &text));
            assert_named(&login(), &[4], "client_id", &format!("{odd:?}"));
        }
    }
}

/// RFC 9728, and the document of Terraform beside it.
#[test]
fn what_a_host_says_of_itself_is_read_member_by_member() {
    let home = Home::new(Options { iss_advertised: false, ..Options::default() });
    home.sandbox.config("");
    let origin = home.authority.origin();
    let _browser = home.browser(Person::Approves);
    let login = || {
        home.sandbox.valetkey(&["logout", &origin]).run();
        home.sandbox.valetkey(&["login", &origin]).run()
    };
    let place = "/.well-known/oauth-protected-resource";
    let document = object(json!({
        "resource": origin, "authorization_servers": [origin], "scopes_supported": ["read"],
        "bearer_methods_supported": ["header"], "jwks_uri": "https://x.example/jwks",
        "resource_name": "lab", "resource_documentation": "https://x.example",
    }));
    let optional: Vec<&str> =
        document.keys().map(String::as_str).filter(|name| *name != "resource").collect();
    for odd in ODD {
        let text = replaced(&document, &optional, *odd);
        home.authority.always(place, answer(200, &text));
        let finished = login();
        assert_eq!(finished.status, 0, "{odd:?}: {finished}");
        let text = replaced(&document, &["resource"], *odd);
        home.authority.always(place, answer(200, &text));
        let finished = login();
        let text = *odd == Some("\"/relative\"");
        assert_named(
            &finished,
            &[4],
            if text { "is about" } else { "resource" },
            &format!("{odd:?}"),
        );
    }
    home.authority.always(place, Step::status(404));
    let document = object(json!({
        "client": crate::lab::CLIENT_ID, "authz": "/authorize", "token": "/token",
        "grant_types": ["authz_code"], "ports": [10000, 10010], "scopes": ["read"],
    }));
    for odd in ODD {
        let list = *odd == Some("[[null]]");
        let mut optional = vec!["grant_types", "scopes"];
        optional.extend((!list).then_some("ports"));
        let services = format!("{{\"login.v1\":{}}}", replaced(&document, &optional, *odd));
        home.authority.always("/.well-known/terraform.json", answer(200, &services));
        let finished = login();
        assert_eq!(finished.status, 0, "{odd:?}: {finished}");
    }
}

/// RFC 8628: two codes and an address must be good.
#[test]
fn a_device_authorization_is_read_member_by_member() {
    let scene = Scene::new();
    scene.profile("flow = \"device\"");
    scene.sandbox.env("VALETKEY_INTERACTIVE", "always");
    let document = object(json!({
        "device_code": "c", "user_code": "WDJB-MJHT", "expires_in": 600, "interval": 1,
        "verification_uri": scene.authority.url("/device"),
        "verification_uri_complete": scene.authority.url("/device"), "message": "x",
    }));
    let optional = ["expires_in", "verification_uri_complete", "message"];
    let tokens = json!({ "access_token": "good", "token_type": "Bearer" });
    let login = || scene.sandbox.valetkey(&["login", "--force", &scene.host.origin()]).run();
    for odd in ODD {
        let text = replaced(&document, &optional, *odd);
        scene.authority.always("/device_authorization", answer(200, &text));
        scene.authority.next("/token", vec![Step::json(200, &tokens)]);
        let finished = login();
        assert_eq!(finished.status, 0, "{odd:?}: {finished}");
        for name in ["device_code", "user_code", "verification_uri"] {
            if *odd == Some("\"/relative\"") && name != "verification_uri" {
                continue;
            }
            let text = replaced(&document, &[name], *odd);
            scene.authority.always("/device_authorization", answer(200, &text));
            assert_named(&login(), &[4], name, &format!("{name} {odd:?}"));
        }
    }
}

/// What tells who signed in tells less, and the session is there.
#[test]
fn an_account_is_read_member_by_member() {
    let scene = Scene::new();
    let _browser = scene.browser(Person::Approves);
    let document = object(json!({ "login": "alice", "name": "Alice", "email": "a@b.example" }));
    for odd in ODD {
        for names in groups(&["login", "name", "email"]) {
            if *odd == Some("\"/relative\"") || *odd == Some("0") {
                continue;
            }
            let text = replaced(&document, &names, *odd);
            scene.authority.always("/me", answer(200, &text));
            let finished =
                scene.sandbox.valetkey(&["login", "--force", &scene.host.origin()]).run();
            assert_eq!(finished.status, 0, "{names:?} {odd:?}: {finished}");
            scene.sandbox.valetkey(&["logout", &scene.host.origin()]).run();
        }
    }
}

/// The same bytes in front of every document.
#[test]
fn a_byte_order_mark_is_no_part_of_a_document() {
    let scene = Scene::with(
        Scheme::Basic,
        Options { refreshing: Refreshing::Keep, iss_advertised: false, ..Options::default() },
    );
    let marked = |text: &str| answer(200, &format!("\u{feff}{text}"));
    let document = Value::Object(metadata(&scene)).to_string();
    scene.authority.always(AUTHORIZATION_SERVER, marked(&document));
    scene.authority.always("/me", marked(r#"{"login":"alice"}"#));
    scene.authority.next("/token", vec![marked(r#"{"access_token":"a1","refresh_token":"r"}"#)]);
    scene.sign_in();
    assert_eq!(value(&scene.get().run(), "password").as_deref(), Some("a1"));
    let origin = scene.host.origin();
    scene.sandbox.valetkey(&["logout", &origin]).run();
    scene.authority.always("/me", Step::Default);
    let tokens = scene.authority.grant("alice");
    for text in [format!("\u{feff}{}", tokens.access), format!("\u{feff}{}\r\n", tokens.access)] {
        let login = ["login", "--token-stdin", &origin];
        scene.sandbox.valetkey(&login).stdin(text).run().assert_status(0);
        let got = scene.get().run();
        assert_eq!(value(&got, "password"), Some(tokens.access.clone()), "{got}");
        scene.sandbox.valetkey(&["logout", &origin]).run();
    }
    let file = format!("\u{feff}{{\"access_token\":\"{}\"}}", tokens.access);
    scene.sandbox.write("tokens.json", file.as_bytes(), 0o600);
    let path = scene.sandbox.root().join("tokens.json");
    let import = ["import", path.to_str().expect("a plain path"), "--for", &origin];
    scene.sandbox.valetkey(&import).run().assert_status(0);
    assert_eq!(value(&scene.get().run(), "password"), Some(tokens.access));
}
