//! Hosts that need no configuration (oauth.md 1.5 to 1.11): protected resource metadata,
//! registration, resource indicators. Only hosts that a person named are asked.

use std::sync::Arc;

use serde_json::{Value, json};
use url::Url;

use crate::kill::KILLED;
use crate::lab::tls::{CertificateAuthority, ConnectProxy, TlsFront};
use crate::lab::{
    Answer, Authority, Browser, CLIENT_ID, Finished, GitHost, Options, Person, Run, Sandbox,
    Scheme, Server, Step,
};
use crate::scene::{age, program, value};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// A git host that publishes who issues its tokens, and a home without any configuration.
struct Home {
    authority: Arc<Authority>,
    host: GitHost,
    sandbox: Sandbox,
}

impl Home {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let authority = Arc::new(Authority::start_with(options));
        let judge = Arc::clone(&authority);
        let host = GitHost::start(Scheme::Bearer, move |token| judge.token_is_live(token));
        host.create("team/s.git");
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "never");
        sandbox.link("git-credential-valetkey");
        sandbox.git_config("[credential]\n\thelper = valetkey\n");
        let home = Self { authority, host, sandbox };
        home.publish(|_| ());
        let indicator = home.host.origin();
        home.authority.tune(|options| options.resource = Some(indicator));
        home
    }

    /// Publishes the document, with a change of the test's own.
    fn publish(&self, change: impl FnOnce(&mut Value)) {
        let mut document = json!({
            "resource": self.host.origin(),
            "authorization_servers": [self.authority.issuer()],
            "scopes_supported": ["read", "write"],
        });
        change(&mut document);
        self.host.document(WELL_KNOWN, Answer::json(200, &document));
    }

    fn browser(&self, person: Person) -> Browser {
        self.sandbox.env("VALETKEY_INTERACTIVE", "always");
        Browser::start(&self.sandbox, person)
    }

    fn nobody(&self) {
        self.sandbox.env("VALETKEY_INTERACTIVE", "never");
    }

    fn login(&self, more: &[&str]) -> Finished {
        let origin = self.host.origin();
        let words: Vec<&str> = ["login"].into_iter().chain(more.iter().copied()).collect();
        self.sandbox.valetkey(&words).arg(origin).run()
    }

    fn get(&self) -> Run {
        let host = self.host.origin().replace("http://", "");
        let question = format!("protocol=http\nhost={host}\n");
        self.sandbox.valetkey(&["get"]).stdin(question)
    }

    /// The bodies of the registrations.
    fn registrations(&self) -> Vec<Value> {
        let asked = self.authority.journal().at_path("/register").into_iter();
        asked.map(|entry| serde_json::from_slice(&entry.request.body).expect("JSON")).collect()
    }

    /// The parameters of the last authorization request.
    fn asked(&self, name: &str) -> Option<String> {
        let last = self.authority.journal().at_path("/authorize").pop().expect("a request");
        last.request.parameter(name).map(str::to_owned)
    }

    fn files(&self, below: &str) -> Vec<Value> {
        let all = self.sandbox.files().into_iter();
        let ours = all.filter(|file| file.path.starts_with(below));
        ours.map(|file| serde_json::from_slice(&file.content).expect("JSON")).collect()
    }

    fn paths_asked(&self) -> Vec<String> {
        let journal = self.host.journal().snapshot().into_iter();
        journal.map(|entry| entry.request.path).collect()
    }
}

/// RFC 9728, 8414, 7591 and 8707 one after the other, and then no more of it: git, docker and the
/// rest find session and endpoints by what was remembered.
#[test]
fn a_host_that_says_who_issues_its_tokens_needs_no_configuration() {
    let home = Home::new();
    let browser = home.browser(Person::Approves);
    let origin = home.host.origin();
    let login = home.login(&[]);
    login.assert_status(0).assert_stderr_has(&format!(
        "{origin}/ says that {}/ issues its tokens",
        home.authority.issuer()
    ));
    assert_eq!(browser.opened().len(), 1);
    assert_eq!(
        home.paths_asked(),
        ["/.well-known/terraform.json", "/", WELL_KNOWN].map(str::to_owned)
    );
    assert_eq!(home.asked("scope").as_deref(), Some("read write offline_access"));
    assert_eq!(home.asked("resource"), Some(origin.clone()));
    assert_eq!(home.asked("client_id").as_deref(), Some("lab-registered-1"));
    let redirect = Url::parse(&home.asked("redirect_uri").expect("a redirect")).expect("a URL");
    let registered = &home.registrations()[0];
    assert_eq!(registered["redirect_uris"][0], format!("http://127.0.0.1{}", redirect.path()));
    assert!(redirect.path().starts_with("/callback/"), "{redirect}");
    assert_eq!(registered["token_endpoint_auth_method"], "none");
    assert_eq!(registered["application_type"], "native");
    assert_eq!(registered["response_types"], json!(["code"]));
    assert_eq!(
        registered["grant_types"],
        json!([
            "authorization_code",
            "refresh_token",
            "urn:ietf:params:oauth:grant-type:device_code"
        ])
    );

    home.nobody();
    let before = home.paths_asked().len();
    home.sandbox
        .git(&["clone", "--quiet", &home.host.url("team/s.git"), "s"])
        .run()
        .assert(0, "", "");
    assert!(home.paths_asked()[before..].iter().all(|path| path.starts_with("/team/")));
    age(&home.sandbox, 4000);
    let token = value(&home.get().run(), "password").expect("a renewed token");
    assert!(home.authority.token_is_live(&token));
    let renewal = home.authority.journal().at_path("/token").pop().expect("a request").request;
    assert_eq!(renewal.field("grant_type").as_deref(), Some("refresh_token"));
    assert_eq!(renewal.field("resource"), Some(origin.clone()));
    assert_eq!(renewal.field("client_id").as_deref(), Some("lab-registered-1"));
    home.sandbox.valetkey(&["status", &origin]).run().assert_status(0);
    home.sandbox.valetkey(&["logout", &origin]).run().assert_status(0);
    assert_eq!(home.authority.live_grants(), 0);
    home.get().run().assert_status(2).assert_stdout("");
}

/// 1.8: a registration belongs to its issuer, serves every resource of that issuer, and is used
/// again; attack 29: no other issuer sees it.
#[test]
fn attack_29_a_registration_is_kept_for_its_issuer_alone() {
    let home = Home::new();
    let _browser = home.browser(Person::Approves);
    home.login(&[]).assert_status(0);
    home.login(&["--force"]).assert_status(0);
    assert_eq!(home.registrations().len(), 1);

    let other = Authority::start();
    let elsewhere = other.issuer();
    home.publish(|document| document["authorization_servers"] = json!([elsewhere]));
    home.login(&["--force"]).assert_status(0);
    let registered = other.journal().at_path("/register");
    assert_eq!(registered.len(), 1);
    let kept = home.files("state/valetkey/clients");
    assert_eq!(kept.len(), 2, "{kept:?}");
    let sent = other.journal().snapshot();
    for entry in sent {
        let body = String::from_utf8_lossy(&entry.request.body).into_owned();
        assert!(!entry.request.target.contains("refresh") && !body.contains("refresh_token=lab"));
    }
    // And each has its own place to come home to (RFC 8252 section 8.10).
    let uris = |registration: &Value| registration["redirect_uris"].clone();
    assert_ne!(uris(&kept[0]), uris(&kept[1]));

    // A file that has come to the place of another issuer's is no registration.
    for file in home.sandbox.files_with(b"lab-registered") {
        if file.to_string_lossy().contains("/clients/") {
            let name = file.to_str().expect("plain");
            let mut planted = kept[0].clone();
            planted["issuer"] = "https://evil.example/".into();
            planted["client_id"] = "planted".into();
            home.sandbox.write(name, planted.to_string().as_bytes(), 0o600);
        }
    }
    home.login(&["--force"]).assert_status(0);
    assert_eq!(other.journal().at_path("/register").len(), 2);
}

/// 1.8: servers forget registrations. A renewal is told so, and the next sign-in registers anew.
#[test]
fn a_registration_that_is_dead_is_made_again() {
    let home = Home::new();
    let _browser = home.browser(Person::Approves);
    home.login(&[]).assert_status(0);
    home.authority.forget_clients();
    age(&home.sandbox, 4000);
    let finished = home.get().run();
    let token = value(&finished, "password").unwrap_or_else(|| panic!("{finished}"));
    assert!(home.authority.token_is_live(&token));
    assert_eq!(home.registrations().len(), 2);
    assert_eq!(home.asked("client_id").as_deref(), Some("lab-registered-2"));

    // The device endpoint says so itself, before anybody is asked.
    home.authority.forget_clients();
    home.authority.tune(|options| options.approve_devices_after = Some(0));
    home.login(&["--force", "--flow", "device"]).assert_status(0);
    assert_eq!(home.registrations().len(), 3);

    // In the browser only the person sees it, and does not come back.
    home.authority.forget_clients();
    home.login(&["--force", "--timeout", "1"]).assert_status(3);
    home.login(&["--force"]).assert_status(0);
    assert_eq!(home.registrations().len(), 4);
}

/// RFC 7591 section 3.2.1: zero is never.
#[test]
fn a_registration_that_has_expired_is_made_again() {
    for (expires, registrations) in [(0, 1), (4_000_000_000_u64, 1), (1_000_000_000, 2)] {
        let home = Home::new();
        let _browser = home.browser(Person::Approves);
        let answer = json!({ "client_id": CLIENT_ID, "client_secret_expires_at": expires });
        home.authority.next("/register", vec![Step::json(201, &answer)]);
        home.login(&[]).assert_status(0);
        assert_eq!(home.asked("client_id").as_deref(), Some(CLIENT_ID));
        home.login(&["--force"]).assert_status(0);
        assert_eq!(home.registrations().len(), registrations, "{expires}");
    }
}

/// Some servers have one way in for each client: then it is the way that is taken now.
#[test]
fn a_server_with_one_grant_for_each_client_is_asked_for_one() {
    let home = Home::new();
    let _browser = home.browser(Person::Approves);
    home.authority.tune(|options| options.approve_devices_after = Some(0));
    for (flow, grant, registrations) in [
        ("browser", "authorization_code", 2),
        ("browser", "authorization_code", 2),
        ("device", "urn:ietf:params:oauth:grant-type:device_code", 4),
    ] {
        if home.registrations().len() < registrations {
            home.authority.next("/register", vec![Step::error("invalid_client_metadata")]);
        }
        home.login(&["--force", "--flow", flow]).assert_status(0);
        let all = home.registrations();
        assert_eq!(all.len(), registrations);
        assert_eq!(all[registrations - 1]["grant_types"], json!([grant, "refresh_token"]));
    }
}

/// 1.8: what a server says against it is shown, and both ways on. Nobody is sent to a browser.
#[test]
fn a_registration_that_is_refused_says_why_and_what_to_do() {
    let home = Home::new();
    let browser = home.browser(Person::Approves);
    let error = |error: &str| json!({ "error": error, "error_description": "no \u{1b}]52;c;eA==\u{7} here" });
    let secret = json!({ "client_id": "x", "client_secret": "not-shown", "token_endpoint_auth_method": "private_key_jwt" });
    for (step, status, words) in [
        (Step::json(400, &error("invalid_redirect_uri")), 4, "invalid_redirect_uri (no ]52"),
        (Step::json(400, &error("invalid_client_metadata")), 4, "invalid_client_metadata"),
        (
            Step::json(201, &secret),
            4,
            "registers only clients that show who they are by private_key_jwt",
        ),
        (Step::json(201, &json!({ "client_id": "" })), 4, "without saying why"),
        (Step::json(201, &json!({ "client_id": "a\nb" })), 4, "without saying why"),
        (Step::json(201, &json!({ "client_id": "x".repeat(2000) })), 4, "without saying why"),
        (Step::json(201, &json!([])), 4, "without saying why"),
        (Step::status(403), 4, "answered 403"),
        (Step::status(503), 5, "answered 503"),
        (Step::Redirect(home.host.origin()), 4, "answered 302"),
        (Step::Close, 5, "cannot be reached"),
    ] {
        home.authority.always("/register", step);
        let finished = home.login(&[]);
        finished.assert_status(status).assert_stdout("").assert_stderr_has(words);
        if status == 4 {
            let origin = home.host.origin();
            let hint = format!("valetkey login --client-id ID {origin}");
            finished.assert_stderr_has(&hint).assert_stderr_has("--token-stdin");
        }
        let text = finished.stderr_text();
        assert!(!text.contains("not-shown") && !text.contains('\u{1b}'), "{text}");
    }
    assert_eq!(browser.opened().len(), 0);
    assert!(home.files("state/valetkey/clients").is_empty());
    assert!(home.files("state/valetkey/providers").is_empty());
}

/// Flag, then document, then registration, then words: who asks nobody's leave needs none.
#[test]
fn the_persons_own_client_comes_first_then_a_document_then_a_registration() {
    let home = Home::new();
    let _browser = home.browser(Person::Approves);
    let document = "https://tools.example/valetkey/client.json";
    home.sandbox.config(&format!("client_metadata = \"{document}\"\n"));
    // Only a server that says so takes a document.
    home.login(&[]).assert_status(0);
    assert_eq!(home.asked("client_id").as_deref(), Some("lab-registered-1"));
    home.authority.tune(|options| options.client_documents = true);
    home.login(&["--force"]).assert_status(0);
    assert_eq!(home.asked("client_id").as_deref(), Some(document));
    assert_eq!(home.registrations().len(), 1);
    age(&home.sandbox, 4000);
    let token = value(&home.get().run(), "password").expect("a renewed token");
    assert!(home.authority.token_is_live(&token));

    home.login(&["--force", "--client-id", CLIENT_ID]).assert_status(0);
    assert_eq!(home.asked("client_id").as_deref(), Some(CLIENT_ID));

    let home = Home::with(Options { registration: false, ..Options::default() });
    let browser = home.browser(Person::Approves);
    let finished = home.login(&[]);
    let origin = home.host.origin();
    finished
        .assert_status(78)
        .assert_stderr_has(&format!("{}/ knows no client", home.authority.issuer()))
        .assert_stderr_has("redirect URI http://127.0.0.1/callback")
        .assert_stderr_has(&format!("valetkey login --client-id ID {origin}"))
        .assert_stderr_has(&format!("--token-stdin {origin}"));
    assert_eq!(browser.opened().len(), 0);
    home.login(&["--client-id", CLIENT_ID]).assert_status(0);
    home.nobody();
    age(&home.sandbox, 4000);
    assert!(value(&home.get().run(), "password").is_some());
}

/// Scope choice of 1.11: the challenge, else the document, else the server; what lasts only where
/// it is offered.
#[test]
fn what_the_host_asks_for_now_comes_before_all_that_it_knows() {
    let home = Home::new();
    let _browser = home.browser(Person::Approves);
    home.host.challenge(|challenge| challenge.bearer_extra = "scope=\"read:one read:two\"".into());
    home.login(&[]).assert_status(0);
    assert_eq!(home.asked("scope").as_deref(), Some("read:one read:two offline_access"));

    home.host.challenge(|challenge| challenge.bearer_extra = String::new());
    home.authority.metadata(|document| {
        document.remove("scopes_supported");
    });
    home.login(&["--force"]).assert_status(0);
    assert_eq!(home.asked("scope").as_deref(), Some("read write"));

    home.publish(|document| document["scopes_supported"] = json!(["good", "b\"ad", "", "c d"]));
    home.login(&["--force"]).assert_status(0);
    assert_eq!(home.asked("scope").as_deref(), Some("good"));

    home.publish(|document| {
        drop(document.as_object_mut().expect("an object").remove("scopes_supported"))
    });
    home.login(&["--force"]).assert_status(0);
    assert_eq!(home.asked("scope"), None);
    home.login(&["--force", "--scope", "mine"]).assert_status(0);
    assert_eq!(home.asked("scope").as_deref(), Some("mine"));
}

/// RFC 9728 section 5.1: the challenge says where the document is; section 3.3: it must be about
/// the very URL that was asked.
#[test]
fn the_challenge_says_where_the_document_is() {
    let home = Home::new();
    let _browser = home.browser(Person::Approves);
    let origin = home.host.origin();
    home.host.document(WELL_KNOWN, Answer::text(404, "nothing\n"));
    let place = format!("{origin}/somewhere/else");
    let extra = format!("resource_metadata=\"{place}\"");
    home.host.challenge(move |challenge| challenge.bearer_extra = extra);
    let document = |resource: &str| {
        let issuer = home.authority.issuer();
        Answer::json(200, &json!({ "resource": resource, "authorization_servers": [issuer] }))
    };
    home.host.document("/somewhere/else", document(&format!("{origin}/other")));
    home.login(&[]).assert_status(4).assert_stderr_has("is about http");
    home.host.document("/somewhere/else", document(&origin));
    home.login(&[]).assert_status(0);

    // A path of the host is a resource of its own.
    let api = format!("{origin}/api");
    home.authority.tune(|options| options.resource = Some(api.clone()));
    home.host.document(&format!("{WELL_KNOWN}/api"), document(&api));
    home.sandbox.valetkey(&["logout", &origin]).run().assert_status(0);
    home.sandbox.valetkey(&["login", &api]).run().assert_status(0);
    home.nobody();
    home.sandbox.valetkey(&["token", &format!("{api}/v1")]).run().assert_success();
    let other = format!("{origin}/other");
    home.sandbox.valetkey(&["token", &other]).run().assert_status(2).assert_stdout("");
}

/// Check 10, attacks 23 and 24: what makes a document, or an issuer in it, worthless. Nobody is
/// asked, nobody else is connected to, and the host's text stays short and tame.
#[test]
fn attack_24_what_a_host_says_is_believed_of_itself_alone() {
    let trap = Server::start(|_| Answer::json(200, &json!({})).into());
    let home = Home::new();
    let browser = home.browser(Person::Approves);
    let issuer = home.authority.issuer();
    let own = home.host.origin();
    for (member, bad) in [
        ("resource", json!("https://evil.example")),
        ("resource", json!(trap.origin())),
        ("resource", json!(format!("{own}/deeper"))),
        ("resource", json!(null)),
        ("resource", json!("\u{1b}]52;c;eA==\u{7}\nerror: forged")),
        ("resource", json!("x".repeat(500_000))),
        ("authorization_servers", json!("https://evil.example")),
        ("authorization_servers", json!(["javascript:alert(1)"])),
        ("authorization_servers", json!(["http://evil.example"])),
        ("authorization_servers", json!(["https://user:secret@evil.example"])),
        ("authorization_servers", json!(["https://evil.example?x"])),
        ("authorization_servers", json!([format!("{issuer}/other-tenant")])),
        ("authorization_servers", json!([own])),
    ] {
        home.publish(|document| document[member] = bad.clone());
        let finished = home.login(&[]);
        assert!([4, 78].contains(&finished.status), "{member} {finished}");
        let text = finished.stderr_text();
        assert!(text.len() < 700 && text.lines().count() <= 2, "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("secret@"), "{text}");
    }
    for step in [
        Answer::redirect(&format!("{}{WELL_KNOWN}", trap.origin())),
        Answer::html(200, "<html>welcome</html>"),
        Answer::json(404, &json!({ "resource": own, "authorization_servers": [issuer] })),
    ] {
        home.host.document(WELL_KNOWN, step);
        home.login(&[]).assert_status(78).assert_stderr_has("error: no profile serves");
    }
    let flood = json!({ "resource": own, "x": "y".repeat(2 << 20) });
    home.host.document(WELL_KNOWN, Answer::json(200, &flood));
    assert_ne!(home.login(&[]).status, 0);
    home.host.document(WELL_KNOWN, Answer::text(503, "later\n"));
    assert_ne!(home.login(&[]).status, 0);
    assert_eq!(browser.opened().len(), 0);
    assert_eq!(trap.journal().snapshot().len(), 0);
    assert!(home.registrations().is_empty());
}

/// Several authorization servers: the first that can be used is taken, and said.
#[test]
fn the_first_authorization_server_that_can_be_used_is_taken() {
    let home = Home::new();
    let _browser = home.browser(Person::Approves);
    let (good, second) = (home.authority.issuer(), Authority::start());
    let strange = Authority::start();
    strange.metadata(|document| drop(document.insert("issuer".into(), "https://x.example".into())));
    let all = json!(["ftp://x", strange.issuer(), good, second.issuer()]);
    home.publish(|document| document["authorization_servers"] = all);
    let finished = home.login(&[]);
    finished
        .assert_status(0)
        .assert_stderr_has(&format!("{good}/ issues its tokens, the first that can be used"));
    assert_eq!(second.journal().snapshot().len(), 0);
    assert_eq!(strange.asked("/register"), 0);
}

/// Attack 12, check 9: a host names an issuer whose endpoints are crossed with an honest one's.
/// The honest one's code stays where it is.
#[test]
fn attack_12_an_issuer_that_a_host_names_cannot_borrow_anothers_endpoints() {
    for promises in [true, false] {
        let home = Home::new();
        let honest = Authority::start();
        honest.tune(|options| options.iss_advertised = promises);
        let endpoint = honest.url("/authorize");
        home.authority.metadata(move |document| {
            document.insert("authorization_endpoint".into(), endpoint.clone().into());
        });
        home.authority.next("/register", vec![Step::json(201, &json!({ "client_id": CLIENT_ID }))]);
        let browser = home.browser(Person::Approves);
        let login = home.sandbox.valetkey(&["login", &home.host.origin()]).start();
        assert_eq!(browser.wait_for_pages(1)[0].status, 400);
        assert_eq!(honest.asked("/authorize"), 1);
        // It goes on waiting for its own server.
        login.kill();
        let elsewhere = format!("mind that you sign in at {}, which", honest.origin());
        login.wait().assert_status(KILLED).assert_stderr_has(&elsewhere);
        assert_eq!(home.authority.asked("/token") + honest.asked("/token"), 0);
    }
}

/// RFC 8707 section 2: a server that issues nothing for this resource.
#[test]
fn a_server_that_does_not_know_the_resource_says_so() {
    let home = Home::new();
    let _browser = home.browser(Person::Approves);
    home.authority.tune(|options| options.resource = Some("https://other.example".into()));
    home.login(&[]).assert_status(4).assert_stderr_has("ended with invalid_target");
    home.login(&["--flow", "device"])
        .assert_status(4)
        .assert_stderr_has("issues no token for this resource: invalid_target");
}

/// A host without a document may be its own issuer, as Gitea and GitLab are.
#[test]
fn a_host_that_is_its_own_issuer_needs_only_a_client() {
    let authority = Authority::start();
    let sandbox = Sandbox::new(program());
    sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "always");
    let _browser = Browser::start(&sandbox, Person::Approves);
    let origin = authority.origin();
    let login = ["login", "--client-id", CLIENT_ID, "--scope", "read", &origin];
    sandbox.valetkey(&login).run().assert_status(0);
    sandbox.env("VALETKEY_INTERACTIVE", "never");
    let token = sandbox.valetkey(&["token", &origin]).run().assert_success();
    assert!(authority.token_is_live(token.trim_end()));
    assert_eq!(authority.asked("/register"), 0);
}

/// Design, section 6: unknown hosts are never asked about, whatever they say of themselves. A
/// person may name one as an exception; a tool's question then leads to a sign-in.
#[test]
fn attack_24_a_tools_question_discovers_only_what_the_person_named() {
    let home = Home::new();
    let browser = home.browser(Person::Approves);
    let origin = home.host.origin();
    let host = origin.replace("http://", "");
    let extra = format!("resource_metadata=\"{origin}{WELL_KNOWN}\"");
    home.host.challenge(move |challenge| challenge.bearer_extra = extra);
    let clone = |name: &str| {
        home.sandbox.git(&["clone", "--quiet", &home.host.url("team/s.git"), name]).run()
    };
    home.sandbox.env("GIT_TERMINAL_PROMPT", "0");
    for config in ["", "discover = [\"https://elsewhere.example\"]\n"] {
        home.sandbox.config(config);
        assert_ne!(clone("s").status, 0);
        assert!(home.paths_asked().iter().all(|path| path.starts_with("/team/")));
    }
    home.sandbox.config(&format!("discover = [\"{origin}\"]\n"));
    // Nobody is here: nothing is looked for.
    home.nobody();
    home.get().run().assert_status(2).assert_stdout("");
    assert!(!home.paths_asked().contains(&WELL_KNOWN.to_owned()));
    home.sandbox.remove_env("GIT_TERMINAL_PROMPT").env("VALETKEY_INTERACTIVE", "always");
    let question = format!(
        "capability[]=authtype\nprotocol=http\nhost={host}\n\
         wwwauth[]=Bearer realm=\"lab git\", resource_metadata=\"{origin}{WELL_KNOWN}\"\n"
    );
    let before = home.paths_asked().len();
    let finished = home.sandbox.valetkey(&["get"]).stdin(question).run();
    assert_eq!(value(&finished, "authtype").as_deref(), Some("Bearer"), "{finished}");
    // The challenges that git brought need not be asked for again.
    assert!(!home.paths_asked()[before..].contains(&"/".to_owned()));
    home.nobody();
    clone("s").assert(0, "", "");
    assert_eq!(browser.opened().len(), 1);
}

/// Attack 24: a host of the internet, which is reached by a proxy, names servers on this machine: by
/// address in any spelling, by a name of it that every check of texts passes, in its document and in
/// the metadata of its issuer. Nobody connects.
#[test]
fn attack_24_a_host_of_the_internet_leads_nowhere_inside() {
    let name = "host.lab.invalid";
    let trap = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    trap.set_nonblocking(true).expect("a socket");
    let port = trap.local_addr().expect("an address").port();
    let own_name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let own_name = own_name.trim().to_ascii_lowercase();
    let authority =
        Authority::start_with(Options { issuer_path: String::new(), ..Options::default() });
    let certificates = CertificateAuthority::new();
    let front = TlsFront::start(&certificates, name, &authority.origin());
    let proxy = ConnectProxy::start(front.address());
    let sandbox = Sandbox::new(program());
    let path = sandbox.write("ca.pem", certificates.pem().as_bytes(), 0o644);
    sandbox.env("SSL_CERT_FILE", path).env("VALETKEY_STORE", "file");
    sandbox.env("VALETKEY_INTERACTIVE", "always").env("HTTPS_PROXY", proxy.url());
    sandbox.env("NO_PROXY", format!("localhost,{own_name},127.0.0.1,::1,10.0.0.1"));
    let _browser = Browser::start(&sandbox, Person::Approves);
    let (plain, secure) = (authority.origin(), format!("https://{name}"));
    authority.metadata(move |document| {
        for value in document.values_mut() {
            if let Some(text) = value.as_str() {
                *value = text.replace(&plain, &secure).into();
            }
        }
    });
    let login = || {
        let url = format!("https://{name}");
        sandbox.valetkey(&["login", "--flow", "device", &url]).run()
    };
    let untouched = |what: &str, finished: &Finished| {
        assert!([4, 5, 78].contains(&finished.status), "{what} {finished}");
        assert!(trap.accept().is_err(), "{what} was connected to");
        assert_eq!(authority.asked("/register"), 0, "{what}");
    };
    for inside in [
        format!("https://localhost:{port}"),
        format!("https://{own_name}:{port}"),
        format!("https://127.0.0.1:{port}"),
        format!("https://2130706433:{port}"),
        format!("https://0x7f.1:{port}"),
        format!("https://[::ffff:127.0.0.1]:{port}"),
        format!("http://127.0.0.1:{port}"),
        "https://10.0.0.1".to_owned(),
        "https://169.254.169.254".to_owned(),
        "https://metadata.google.internal".to_owned(),
    ] {
        let document =
            json!({ "resource": format!("https://{name}"), "authorization_servers": [inside] });
        authority.always(WELL_KNOWN, Step::json(200, &document));
        untouched(&inside, &login());
    }
    let document = json!({ "resource": format!("https://{name}") });
    authority.always(WELL_KNOWN, Step::json(200, &document));
    for inside in [format!("https://{own_name}:{port}/x"), format!("https://localhost:{port}/x")] {
        let endpoint = inside.clone();
        authority.metadata(move |document| {
            document.insert("registration_endpoint".into(), endpoint.clone().into());
        });
        untouched(&inside, &login());
    }
    // And without all this it would have come to a registration.
    let good = format!("https://{name}/register");
    authority.metadata(move |document| {
        document.insert("registration_endpoint".into(), good.clone().into());
    });
    login();
    assert_eq!(authority.asked("/register"), 1);
    assert!(proxy.asked().iter().all(|line| line.contains(name)));
}

/// Check 2 for a host that a tool may discover: many at once lead to one window.
#[test]
fn check_2_many_questions_about_one_unknown_host_lead_to_one_sign_in() {
    let home = Home::new();
    let browser = home.browser(Person::Approves);
    home.sandbox.config(&format!("discover = [\"{}\"]\n", home.host.origin()));
    let all: Vec<_> = (0..12).map(|_| home.get().start()).collect();
    let all: Vec<_> = all.into_iter().map(crate::lab::Started::wait).collect();
    let first = value(&all[0], "password").unwrap_or_else(|| panic!("{}", all[0]));
    for finished in &all {
        assert_eq!(value(finished, "password").as_ref(), Some(&first), "{finished}");
    }
    assert_eq!(browser.opened().len(), 1);
}

/// Attack 26: neither what a server sends at a registration nor what is pushed is in the log.
#[test]
fn attack_26_nothing_of_a_registration_is_in_the_log() {
    let home = Home::with(Options { pushing: true, only_pushed: true, ..Options::default() });
    let _browser = home.browser(Person::Approves);
    home.sandbox.env("VALETKEY_LOG", "debug");
    let answer = json!({
        "client_id": CLIENT_ID, "registration_access_token": "never-shown-1",
        "client_secret": "never-shown-2", "client_secret_expires_at": 0,
    });
    home.authority.next("/register", vec![Step::json(201, &answer)]);
    let finished = home.login(&[]);
    finished
        .assert_status(0)
        .assert_stderr_has("register at")
        .assert_stderr_has("push the request");
    let text = finished.stderr_text();
    let pushed = home.authority.journal().at_path("/par").remove(0).request;
    for field in ["state", "code_challenge"] {
        assert!(!text.contains(&pushed.field(field).expect("a value")), "{field}\n{text}");
    }
    assert!(!text.contains("never-shown"), "{text}");
    for secret in home.authority.secrets() {
        assert!(!text.contains(&secret), "{secret}\n{text}");
    }
    assert!(home.sandbox.files_with(b"never-shown").is_empty());
}

/// Attack 12, 28: tokens belong to the issuer that gave them, whatever the host, or a file, says
/// later.
#[test]
fn attack_12_a_session_of_one_issuer_is_never_shown_to_another() {
    let home = Home::new();
    let _browser = home.browser(Person::Approves);
    home.login(&[]).assert_status(0);
    let other = Authority::start();
    let elsewhere = other.issuer();
    home.publish(|document| document["authorization_servers"] = json!([elsewhere]));
    home.login(&[]).assert_status(0).assert_stderr_has("already signed in");
    age(&home.sandbox, 4000);
    home.get().run().assert_status(0);
    assert_eq!(other.journal().snapshot().len(), 0);

    home.nobody();
    for path in home.sandbox.files_with(b"\"issuer\"") {
        if path.to_string_lossy().contains("/providers/") {
            let name = path.to_str().expect("plain");
            let mut found = home.files("state/valetkey/providers").remove(0);
            found["issuer"] = format!("{}/", other.issuer()).into();
            home.sandbox.write(name, found.to_string().as_bytes(), 0o600);
        }
    }
    age(&home.sandbox, 4000);
    home.get().run().assert_status(2).assert_stdout("");
    home.sandbox.valetkey(&["logout", &home.host.origin()]).run();
    for entry in other.journal().snapshot() {
        assert_eq!(entry.request.method, "GET", "{entry}");
        assert!(!entry.request.target.contains("lab-"), "{entry}");
    }
}
