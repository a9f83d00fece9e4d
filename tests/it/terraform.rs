//! terraform's credentials helper protocol, byte by byte through the whole program, and hosts that
//! say themselves who issues their tokens.

use serde_json::{Value, json};

use crate::lab::{
    Answer, Authority, Browser, CLIENT_ID, Finished, Options, Person, Run, Sandbox, Step,
};
use crate::scene::{age, program};

const HOST: &str = "tf.acme.example";

/// A home with a profile for one host; nobody signed in. The host is never asked.
struct Home {
    authority: Authority,
    sandbox: Sandbox,
}

impl Home {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let authority = Authority::start_with(options);
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "never");
        sandbox.link("terraform-credentials-valetkey");
        let home = Self { authority, sandbox };
        home.profile(HOST);
        home
    }

    fn profile(&self, host: &str) {
        self.sandbox.config(&format!(
            "[profile.\"{host}\"]\norigins = [\"https://{host}\"]\nissuer = \"{}\"\n\
             client_id = \"{CLIENT_ID}\"\n",
            self.authority.issuer(),
        ));
    }

    fn browser(&self, person: Person) -> Browser {
        self.sandbox.env("VALETKEY_INTERACTIVE", "always");
        Browser::start(&self.sandbox, person)
    }

    fn nobody(&self) {
        self.sandbox.env("VALETKEY_INTERACTIVE", "never");
    }

    fn sign_in(&self) {
        let _browser = self.browser(Person::Approves);
        self.sandbox.valetkey(&["login", &format!("https://{HOST}")]).run().assert_status(0);
        self.nobody();
    }

    fn call(&self, arguments: &[&str]) -> Run {
        self.sandbox.run("terraform-credentials-valetkey", arguments)
    }

    fn get(&self) -> Finished {
        self.call(&["get", HOST]).run()
    }

    /// The authority as a host that offers `login.v1`, with these members changed.
    fn offers_login(&self, change: impl Fn(&mut Value)) {
        let mut login = json!({
            "client": CLIENT_ID, "authz": "/authorize", "token": "/token",
            "grant_types": ["authz_code"], "ports": [20_000, 60_000],
        });
        change(&mut login);
        let services = json!({ "modules.v1": "/v1/modules/", "login.v1": login });
        self.authority.always("/.well-known/terraform.json", Step::json(200, &services));
    }
}

fn token(finished: &Finished) -> String {
    let answer: Value = serde_json::from_str(&finished.assert_success()).expect("JSON");
    answer["token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
}

#[test]
fn a_hit_is_a_token_and_a_miss_an_empty_object() {
    let home = Home::new();
    let miss =
        format!("error: not signed in to https://{HOST}\nhint: valetkey login https://{HOST}\n");
    home.get().assert(0, "{}\n", &miss);
    home.call(&["get", "other.example"]).run().assert(0, "{}\n", "");
    home.sign_in();
    let finished = home.get();
    let token = token(&finished);
    assert!(home.authority.token_is_live(&token));
    let expected = format!("{{\"token\":\"{token}\"}}\n");
    finished.assert(0, &expected, "");
    for arguments in [
        &["--profile", "work", "get", HOST][..],
        &["get", "get", HOST],
        &["get", "TF.acme.example:443"],
    ] {
        home.call(arguments).run().assert(0, &expected, "");
    }
    home.sandbox.valetkey(&["terraform", "get", HOST]).run().assert(0, &expected, "");
    for other in ["tf.acme.example:8443", "evil.tf.acme.example", "tf.acme.example.evil.example"] {
        home.call(&["get", other]).run().assert(0, "{}\n", "");
    }
}

/// terraform takes whatever it gets for a token that never ends.
#[test]
fn a_token_that_ends_soon_is_renewed_and_one_that_is_over_never_given() {
    let home = Home::new();
    home.sign_in();
    age(&home.sandbox, 2_900);
    token(&home.get());
    assert_eq!(home.authority.asked_for("refresh_token"), 0);
    age(&home.sandbox, 200);
    token(&home.get());
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
    token(&home.get());
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
    home.authority.tune(|options| options.expires_in = Some(-5));
    home.call(&["forget", HOST]).run().assert(0, "", "");
    home.authority.always("/token", Step::error("invalid_grant"));
    home.get().assert_status(0).assert_stdout("{}\n");
}

#[test]
fn a_server_that_is_away_is_a_failure_with_a_word() {
    let home = Home::with(Options { expires_in: Some(30), ..Options::default() });
    home.sign_in();
    home.call(&["forget", HOST]).run().assert(0, "", "");
    home.authority.always("/token", Step::status(503));
    home.get().assert_status(5).assert_stdout("").assert_stderr_has("error: ");
}

#[test]
fn a_miss_signs_in_where_a_person_is_but_never_for_what_everybody_may_have() {
    let home = Home::new();
    let browser = home.browser(Person::Approves);
    let finished = home.get();
    finished.assert_status(0).assert_stderr_has("opening a browser");
    assert_eq!(browser.opened().len(), 1);
    home.call(&["get", "other.example"]).run().assert(0, "{}\n", "");
    for public in ["registry.terraform.io", "registry.opentofu.org"] {
        home.profile(public);
        home.call(&["get", public]).run().assert_status(0).assert_stdout("{}\n");
    }
    assert_eq!(browser.opened().len(), 1);
}

#[test]
fn twenty_callers_at_once_renew_once() {
    let home = Home::with(Options { expires_in: Some(30), ..Options::default() });
    home.sign_in();
    home.authority.tune(|options| options.expires_in = Some(3600));
    let started: Vec<_> = (0..20).map(|_| home.call(&["get", HOST]).start()).collect();
    let tokens: Vec<_> = started.into_iter().map(|started| token(&started.wait())).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
}

#[test]
fn what_is_stored_is_given_back_and_forgotten_for_that_host_alone() {
    let home = Home::new();
    let other = "tf.other.example";
    // As terraform 1.11 sends it, without a line end.
    home.call(&["store", other]).stdin("{\"token\":\"pat-1\"}").run().assert(0, "", "");
    assert_eq!(token(&home.call(&["get", other]).run()), "pat-1");
    home.call(&["store", other]).stdin("{\"token\":\"pat-2\"}").run().assert(0, "", "");
    assert_eq!(token(&home.call(&["get", other]).run()), "pat-2");
    home.call(&["get", "tf.other.example:8443"]).run().assert(0, "{}\n", "");
    // It is no password of the same host, and git's rejection does not reach it.
    let git = format!("protocol=https\nhost={other}\n");
    home.sandbox.valetkey(&["get"]).stdin(&git).run().assert(2, "", "");
    home.sandbox.valetkey(&["erase"]).stdin(format!("{git}password=pat-2\n")).run();
    assert_eq!(token(&home.call(&["get", other]).run()), "pat-2");
    for _ in 0..2 {
        home.call(&["forget", other]).run().assert(0, "", "");
        home.call(&["get", other]).run().assert(0, "{}\n", "");
    }
    // What we gave out ourselves is no news.
    home.sign_in();
    let own = token(&home.get());
    home.call(&["store", HOST]).stdin(format!("{{\"token\":\"{own}\"}}")).run().assert(0, "", "");
    let listed = home.sandbox.valetkey(&["list", "--json"]).run();
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
}

#[test]
fn a_token_of_the_environment_is_for_its_host() {
    let home = Home::new();
    home.sandbox.env("VALETKEY_TOKEN_ci_example", "from-ci");
    assert_eq!(token(&home.call(&["get", "ci.example"]).run()), "from-ci");
    home.call(&["get", "ci.example:8443"]).run().assert(0, "{}\n", "");
}

#[test]
fn hostile_input_gets_no_token() {
    let home = Home::new();
    home.sign_in();
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
        let finished = home.call(arguments).run();
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
        let finished = home.call(&["store", "x.example"]).stdin(input).run();
        finished.assert_status(64).assert_stdout("").assert_stderr_has("error: the credentials");
        assert!(!finished.stderr_text().contains("secret"), "{finished}");
    }
    home.call(&["get", "x.example"]).run().assert(0, "{}\n", "");
}

/// Terraform's own login keeps the access token alone; ours keeps what renews it.
#[test]
fn a_host_that_offers_a_login_needs_no_profile() {
    let home = Home::with(Options { expires_in: Some(30), ..Options::default() });
    home.sandbox.config("");
    home.offers_login(|_| ());
    let origin = home.authority.origin();
    let host = origin.trim_start_matches("http://");
    // A tool's question discovers nothing.
    let browser = home.browser(Person::Approves);
    home.call(&["get", host]).run().assert(0, "{}\n", "");
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
    // Found, renewed, shown and ended without any configuration, and without asking the host again.
    home.authority.tune(|options| options.expires_in = Some(3600));
    assert!(home.authority.token_is_live(&token(&home.call(&["get", host]).run())));
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
    assert_eq!(home.authority.asked("/.well-known/terraform.json"), 1);
    home.sandbox.valetkey(&["login", &origin]).run().assert_status(0).assert_stderr_has("already");
    home.sandbox.valetkey(&["status", &origin]).run().assert_status(0);
    home.sandbox.valetkey(&["token", &origin]).run().assert_success();
    home.sandbox.valetkey(&["logout", &origin]).run().assert_status(0);
    home.call(&["get", host]).run().assert(0, "{}\n", "");
    home.sandbox.valetkey(&["whoami", &origin]).run().assert_status(78);
}

#[test]
fn the_users_own_profile_comes_before_what_a_host_offers() {
    let home = Home::new();
    home.offers_login(|login| login["client"] = "somebody-elses".into());
    let origin = home.authority.origin();
    home.profile("unused.example");
    home.sandbox.config(&format!(
        "[profile.own]\norigins = [\"{origin}\"]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n",
        home.authority.issuer()
    ));
    let _browser = home.browser(Person::Approves);
    home.sandbox.valetkey(&["login", &origin]).run().assert_status(0);
    assert_eq!(home.authority.asked("/.well-known/terraform.json"), 0);
}

#[test]
fn an_offer_that_cannot_be_used_is_refused_before_anybody_is_asked() {
    let home = Home::new();
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
        home.offers_login(|login| login[member] = value.clone());
        let finished = login();
        assert_ne!(finished.status, 0, "{member} {value}");
        finished.assert_stdout("").assert_stderr_has("error: ");
    }
    for services in [json!({}), json!([]), json!({ "tfe.v2": "/api/v2/" }), json!("x")] {
        home.authority.always("/.well-known/terraform.json", Step::json(200, &services));
        assert_ne!(login().status, 0, "{services}");
    }
    for step in [
        Step::status(404),
        Step::status(500),
        Step::Close,
        Step::Endless,
        Step::Redirect("/elsewhere".to_owned()),
        Step::Answer(Answer::html(200, "<html>welcome</html>")),
    ] {
        home.authority.always("/.well-known/terraform.json", step);
        login().assert_status(78).assert_stderr_has("error: no profile serves");
    }
    assert!(browser.opened().is_empty());
}
