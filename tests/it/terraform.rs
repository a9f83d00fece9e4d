//! terraform's credentials helper protocol, byte by byte through the whole program, and hosts that
//! say themselves who issues their tokens.

use serde_json::{Value, json};

use crate::lab::{Answer, CLIENT_ID, Finished, Options, Person, Run, Step};
use crate::scene::Home;

const HOST: &str = "tf.acme.example";
const ORIGIN: &str = "https://tf.acme.example";

/// A profile for one host; nobody signed in. The host is never asked.
fn home(options: Options) -> Home {
    let home = Home::new(options);
    home.sandbox.link("terraform-credentials-valetkey");
    home.bind(&[ORIGIN], "");
    home.nobody();
    home
}

fn call(home: &Home, arguments: &[&str]) -> Run {
    home.sandbox.run("terraform-credentials-valetkey", arguments)
}

fn get(home: &Home) -> Finished {
    call(home, &["get", HOST]).run()
}

/// The authority as a host that offers `login.v1`, with these members changed.
fn offer_login(home: &Home, change: impl Fn(&mut Value)) {
    let mut login = json!({
        "client": CLIENT_ID, "authz": "/authorize", "token": "/token",
        "grant_types": ["authz_code"], "ports": [20_000, 60_000],
    });
    change(&mut login);
    let services = json!({ "modules.v1": "/v1/modules/", "login.v1": login });
    home.authority.always("/.well-known/terraform.json", Step::json(200, &services));
}

fn token(finished: &Finished) -> String {
    let answer: Value = serde_json::from_str(&finished.assert_success()).expect("JSON");
    answer["token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
}

#[test]
fn a_hit_is_a_token_and_a_miss_an_empty_object() {
    let home = home(Options::default());
    let miss =
        format!("error: not signed in to https://{HOST}\nhint: valetkey login https://{HOST}\n");
    get(&home).assert(0, "{}\n", &miss);
    call(&home, &["get", "other.example"]).run().assert(0, "{}\n", "");
    home.sign_in_to(ORIGIN);
    let finished = get(&home);
    let token = token(&finished);
    assert!(home.authority.token_is_live(&token));
    let expected = format!("{{\"token\":\"{token}\"}}\n");
    finished.assert(0, &expected, "");
    for arguments in [
        &["--profile", "work", "get", HOST][..],
        &["get", "get", HOST],
        &["get", "TF.acme.example:443"],
    ] {
        call(&home, arguments).run().assert(0, &expected, "");
    }
    home.sandbox.valetkey(&["terraform", "get", HOST]).run().assert(0, &expected, "");
    for other in ["tf.acme.example:8443", "evil.tf.acme.example", "tf.acme.example.evil.example"] {
        call(&home, &["get", other]).run().assert(0, "{}\n", "");
    }
}

/// terraform takes whatever it gets for a token that never ends.
#[test]
fn a_token_that_ends_soon_is_renewed_and_one_that_is_over_never_given() {
    let home = home(Options::default());
    home.sign_in_to(ORIGIN);
    home.age(2_900);
    token(&get(&home));
    assert_eq!(home.authority.asked_for("refresh_token"), 0);
    home.age(200);
    token(&get(&home));
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
    token(&get(&home));
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
    home.authority.tune(|options| options.expires_in = Some(-5));
    call(&home, &["forget", HOST]).run().assert(0, "", "");
    home.authority.always("/token", Step::error("invalid_grant"));
    get(&home).assert_status(0).assert_stdout("{}\n");
}

#[test]
fn a_server_that_is_away_is_a_failure_with_a_word() {
    let home = home(Options { expires_in: Some(30), ..Options::default() });
    home.sign_in_to(ORIGIN);
    call(&home, &["forget", HOST]).run().assert(0, "", "");
    home.authority.always("/token", Step::status(503));
    get(&home).assert_status(5).assert_stdout("").assert_stderr_has("error: ");
}

#[test]
fn a_miss_signs_in_where_a_person_is_but_never_for_what_everybody_may_have() {
    let home = home(Options::default());
    let browser = home.browser(Person::Approves);
    let finished = get(&home);
    finished.assert_status(0).assert_stderr_has("opening a browser");
    assert_eq!(browser.opened().len(), 1);
    call(&home, &["get", "other.example"]).run().assert(0, "{}\n", "");
    home.sandbox.valetkey(&["logout", ORIGIN]).run().assert_status(0);
    for public in ["registry.terraform.io", "registry.opentofu.org"] {
        home.bind(&[&format!("https://{public}")], "");
        call(&home, &["get", public]).run().assert_status(0).assert_stdout("{}\n");
    }
    assert_eq!(browser.opened().len(), 1);
}

#[test]
fn twenty_callers_at_once_renew_once() {
    let home = home(Options { expires_in: Some(30), ..Options::default() });
    home.sign_in_to(ORIGIN);
    home.age(20);
    home.authority.tune(|options| options.expires_in = Some(3600));
    let started: Vec<_> = (0..20).map(|_| call(&home, &["get", HOST]).start()).collect();
    let tokens: Vec<_> = started.into_iter().map(|started| token(&started.wait())).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
}

#[test]
fn what_is_stored_is_given_back_and_forgotten_for_that_host_alone() {
    let home = home(Options::default());
    let other = "tf.other.example";
    // As terraform 1.11 sends it, without a line end.
    call(&home, &["store", other]).stdin("{\"token\":\"pat-1\"}").run().assert(0, "", "");
    assert_eq!(token(&call(&home, &["get", other]).run()), "pat-1");
    call(&home, &["store", other]).stdin("{\"token\":\"pat-2\"}").run().assert(0, "", "");
    assert_eq!(token(&call(&home, &["get", other]).run()), "pat-2");
    call(&home, &["get", "tf.other.example:8443"]).run().assert(0, "{}\n", "");
    // It is no password of the same host, and git's rejection does not reach it.
    let git = format!("protocol=https\nhost={other}\n");
    home.sandbox.valetkey(&["get"]).stdin(&git).run().assert(2, "", "");
    home.sandbox.valetkey(&["erase"]).stdin(format!("{git}password=pat-2\n")).run();
    assert_eq!(token(&call(&home, &["get", other]).run()), "pat-2");
    for _ in 0..2 {
        call(&home, &["forget", other]).run().assert(0, "", "");
        call(&home, &["get", other]).run().assert(0, "{}\n", "");
    }
    // What we gave out ourselves is no news.
    home.sign_in_to(ORIGIN);
    let own = token(&get(&home));
    call(&home, &["store", HOST]).stdin(format!("{{\"token\":\"{own}\"}}")).run().assert(0, "", "");
    let listed = home.sandbox.valetkey(&["list", "--json"]).run();
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
}

#[test]
fn a_token_of_the_environment_is_for_its_host() {
    let home = home(Options::default());
    home.sandbox.env("VALETKEY_TOKEN_ci_example", "from-ci");
    assert_eq!(token(&call(&home, &["get", "ci.example"]).run()), "from-ci");
    call(&home, &["get", "ci.example:8443"]).run().assert(0, "{}\n", "");
}

#[test]
fn hostile_input_gets_no_token() {
    let home = home(Options::default());
    home.sign_in_to(ORIGIN);
    for arguments in [
        &[][..],
        &["get"],
        &["get", ""],
        &["get", "a b"],
        &["get", "https://tf.acme.example"],
        &["get", "x@tf.acme.example"],
        &["get", "tf.acme.example/x"],
        &["get", "tf.acme.example\n"],
        &["obtain", HOST],
        &[HOST, "get"],
    ] {
        let finished = call(&home, arguments).run();
        finished.assert_status(64).assert_stdout("").assert_stderr_has("error: ");
    }
    let long = format!("{{\"token\":\"{}\"}}", "x".repeat(1 << 20));
    for input in [
        "",
        "null",
        "\"t\"",
        "{}",
        "{\"token\":\"\"}",
        "{\"token\":null}",
        "{\"token\":\"a b\"}",
        "{\"token\":\"a\\nb\"}",
        "{\"token\":\"secret\",\"expires\":1}",
        "{\"token\":\"secret\",\"token\":\"b\"}",
        "{\"token\":\"secret\"}}",
        &long,
    ] {
        let finished = call(&home, &["store", "x.example"]).stdin(input).run();
        finished.assert_status(64).assert_stdout("").assert_stderr_has("error: the credentials");
        assert!(!finished.stderr_text().contains("secret"), "{finished}");
    }
    call(&home, &["get", "x.example"]).run().assert(0, "{}\n", "");
}

/// Terraform's own login keeps the access token alone; ours keeps what renews it.
#[test]
fn a_host_that_offers_a_login_needs_no_profile() {
    let home = home(Options { expires_in: Some(30), ..Options::default() });
    home.sandbox.config("");
    offer_login(&home, |_| ());
    let origin = home.authority.origin();
    let host = origin.trim_start_matches("http://");
    // A tool's question discovers nothing.
    let browser = home.browser(Person::Approves);
    call(&home, &["get", host]).run().assert(0, "{}\n", "");
    assert_eq!(home.authority.journal().snapshot().len(), 0);
    let login = home.sandbox.valetkey(&["login", &origin]).run();
    login.assert_status(0).assert_stderr_has(&format!("signed in to {origin}; kept in files"));
    let opened = browser.opened();
    assert_eq!(opened.len(), 1);
    assert!(opened[0].starts_with(&format!("{origin}/authorize?")), "{opened:?}");
    let redirect = url::Url::parse(&opened[0]).expect("a URL");
    let redirect = redirect.query_pairs().find(|(name, _)| name == "redirect_uri");
    let redirect = url::Url::parse(&redirect.expect("a redirect").1).expect("a URL");
    assert_eq!((redirect.host_str(), redirect.path()), (Some("localhost"), "/login"));
    assert!((20_000..20_032).contains(&redirect.port().expect("a port")), "{redirect}");
    home.nobody();
    home.age(20);
    // Found, renewed, shown and ended without any configuration, and without asking the host again.
    home.authority.tune(|options| options.expires_in = Some(3600));
    assert!(home.authority.token_is_live(&token(&call(&home, &["get", host]).run())));
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
    assert_eq!(home.authority.asked("/.well-known/terraform.json"), 1);
    home.sandbox.valetkey(&["login", &origin]).run().assert_status(0).assert_stderr_has("already");
    // Nothing but a renewal can tell that the session works.
    assert_eq!(home.authority.asked_for("refresh_token"), 2);
    home.sandbox.valetkey(&["status", &origin]).run().assert_status(0);
    home.sandbox.valetkey(&["token", &origin]).run().assert_success();
    home.sandbox.valetkey(&["logout", &origin]).run().assert_status(0);
    call(&home, &["get", host]).run().assert(0, "{}\n", "");
    home.sandbox.valetkey(&["whoami", &origin]).run().assert_status(78);
}

#[test]
fn the_users_own_profile_comes_before_what_a_host_offers() {
    let home = home(Options::default());
    offer_login(&home, |login| login["client"] = "somebody-elses".into());
    let origin = home.authority.origin();
    home.bind(&[&origin], "");
    let _browser = home.browser(Person::Approves);
    home.sandbox.valetkey(&["login", &origin]).run().assert_status(0);
    assert_eq!(home.authority.asked("/.well-known/terraform.json"), 0);
}

#[test]
fn an_offer_that_cannot_be_used_is_refused_before_anybody_is_asked() {
    let home = home(Options::default());
    home.sandbox.config("");
    let browser = home.browser(Person::Approves);
    let origin = home.authority.origin();
    let login = || home.sandbox.valetkey(&["login", &origin]).run();
    // Nor does it say it in another way.
    for place in ["oauth-authorization-server", "openid-configuration"] {
        home.authority.always(&format!("/.well-known/{place}"), Step::status(404));
    }
    for (member, value) in [
        ("token", json!("http://evil.example/token")),
        ("authz", json!("http://evil.example/authorize")),
        ("token", json!("https://user:password@evil.example/token")),
        ("token", json!("file:///etc/passwd")),
        ("grant_types", json!(["password"])),
        ("ports", json!([1, 2, 3])),
        ("ports", json!([9, 1])),
        ("client", json!(null)),
        ("client", json!("")),
    ] {
        offer_login(&home, |login| login[member] = value.clone());
        let finished = login();
        assert_ne!(finished.status, 0, "{member} {value}");
        finished.assert_stdout("").assert_stderr_has("error: ");
    }
    for services in [json!({}), json!([]), json!({ "tfe.v2": "/api/v2/" }), json!("x")] {
        home.authority.always("/.well-known/terraform.json", Step::json(200, &services));
        assert_ne!(login().status, 0, "{services}");
    }
    let nobody = "error: no profile serves";
    for (step, status, what) in [
        (Step::status(404), 78, nobody),
        (Step::status(500), 78, nobody),
        (Step::Close, 5, "cannot be reached"),
        (Step::Endless, 5, "cannot be reached"),
        (Step::Redirect("/elsewhere".to_owned()), 78, nobody),
        (Step::Answer(Answer::html(200, "<html>welcome</html>")), 78, nobody),
    ] {
        home.authority.always("/.well-known/terraform.json", step);
        login().assert_status(status).assert_stderr_has(what);
    }
    assert!(browser.opened().is_empty());
}
