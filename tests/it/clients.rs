//! How a client shows who it is (RFC 6749 section 2.3), at every endpoint that asks for it, and what a
//! registration says about that (RFC 7591).

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use url::Url;

use crate::asked::Asked;
use crate::lab::job::jwt;
use crate::lab::server::{Answer, Request, Server};
use crate::lab::{Browser, CLIENT_ID, Finished, Options, Person, Sandbox, Step};
use crate::scene::{Home, age, program};

const ID: &str = "cli:x /&";
const SECRET: &str = "s3cr3t words%+&=\u{e9}";

/// How the server wants to be shown who a client is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wants {
    Header,
    Form,
    Nothing,
}

/// A server that knows one client, and looks at how it shows itself before anything else.
struct Site {
    server: Server,
    sandbox: Sandbox,
    wants: Arc<Mutex<Wants>>,
    _browser: Browser,
}

impl Site {
    /// `members`: more of the metadata; `registered`: what a registration is answered with.
    fn start(wants: Wants, members: &Value, registered: &Value) -> Self {
        let wants = Arc::new(Mutex::new(wants));
        let (wanted, members, registered) =
            (Arc::clone(&wants), members.clone(), registered.clone());
        let server = Server::start_knowing_origin(move |origin| {
            let origin = origin.to_owned();
            move |request: &Request| {
                let wants = *wanted.lock().expect("no panic");
                answer(&origin, request, wants, &members, &registered).into()
            }
        });
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "always");
        let browser = Browser::start(&sandbox, Person::Approves);
        Self { server, sandbox, wants, _browser: browser }
    }

    fn profile(&self, more: &str) {
        let origin = self.server.origin();
        self.sandbox.config(&format!(
            "[profile.lab]\norigins = [\"{origin}\"]\nissuer = \"{origin}\"\n{more}\n"
        ));
    }

    fn run(&self, words: &[&str]) -> Finished {
        let origin = self.server.origin();
        let words: Vec<&str> = words.iter().copied().chain([origin.as_str()]).collect();
        self.sandbox.valetkey(&words).run()
    }

    /// Signs in, renews and signs out.
    #[track_caller]
    fn lives(&self, what: &str) {
        self.run(&["login", "--force"]).assert_status(0);
        age(&self.sandbox, 4000);
        let renewed = self.run(&["token"]);
        assert_eq!(renewed.stdout_text(), "acc-2\n", "{what}: {renewed}");
        self.run(&["logout"]).assert_status(0);
    }

    /// What the requests to these paths showed: `basic`, `post`, both, or nothing.
    fn shown(&self, path: &str) -> Vec<&'static str> {
        let journal = self.server.journal();
        let shown = |request: &Request| match (credentials(request), request.field("client_secret"))
        {
            (Some(_), None) => "basic",
            (None, Some(_)) => "post",
            (None, None) => "none",
            (Some(_), Some(_)) => "both",
        };
        journal.at_path(path).iter().map(|entry| shown(&entry.request)).collect()
    }
}

/// Id and secret of the header, decoded.
fn credentials(request: &Request) -> Option<(String, String)> {
    let pair = request.header("Authorization")?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(BASE64_STANDARD.decode(pair).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    let decode = |text: &str| {
        let pair = format!("x={text}");
        url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    Some((decode(id)?, decode(secret)?))
}

fn answer(
    origin: &str,
    request: &Request,
    wants: Wants,
    members: &Value,
    registered: &Value,
) -> Answer {
    let at = |path: &str| format!("{origin}{path}");
    let known = match wants {
        Wants::Header => credentials(request) == Some((ID.to_owned(), SECRET.to_owned())),
        Wants::Form => {
            request.field("client_id").as_deref() == Some(ID)
                && request.field("client_secret").as_deref() == Some(SECRET)
        }
        Wants::Nothing => request.field("client_id").as_deref() == Some(ID),
    };
    let refusal = Answer::json(401, &json!({ "error": "invalid_client" }));
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/.well-known/oauth-authorization-server") => {
            let mut document = json!({
                "issuer": origin, "authorization_endpoint": at("/authorize"),
                "token_endpoint": at("/token"), "revocation_endpoint": at("/revoke"),
                "device_authorization_endpoint": at("/device"),
                "registration_endpoint": at("/register"),
                "pushed_authorization_request_endpoint": at("/par"),
            });
            for (name, value) in members.as_object().expect("an object") {
                document[name] = value.clone();
            }
            Answer::json(200, &document)
        }
        ("POST", "/register") => Answer::json(201, registered),
        ("GET", "/authorize") => {
            let redirect = match request.parameter("request_uri") {
                Some(uri) => uri.trim_start_matches("urn:").to_owned(),
                None => format!(
                    "{}?state={}",
                    request.parameter("redirect_uri").unwrap_or_default(),
                    request.parameter("state").unwrap_or_default()
                ),
            };
            Answer::redirect(&format!("{redirect}&code=c0de"))
        }
        ("POST", _) if !known => refusal,
        ("POST", "/par") => {
            let field = |name: &str| request.field(name).unwrap_or_default();
            let uri = format!("urn:{}?state={}", field("redirect_uri"), field("state"));
            Answer::json(201, &json!({ "request_uri": uri, "expires_in": 60 }))
        }
        ("POST", "/device") => Answer::json(
            200,
            &json!({
                "device_code": "d", "user_code": "WDJB-MJHT", "interval": 1,
                "verification_uri": at("/page"),
            }),
        ),
        ("POST", "/token") => {
            let renewal = request.field("grant_type").as_deref() == Some("refresh_token");
            let number = if renewal { 2 } else { 1 };
            Answer::json(
                200,
                &json!({
                    "access_token": format!("acc-{number}"), "token_type": "Bearer",
                    "expires_in": 3600, "refresh_token": format!("ref-{number}"),
                }),
            )
        }
        ("POST", "/revoke") => Answer::empty(200),
        _ => Answer::text(404, "no such page\n"),
    }
}

fn offers(methods: &[&str]) -> Value {
    json!({ "token_endpoint_auth_methods_supported": methods })
}

const CLIENT: &str = "client_id = \"cli:x /&\"\nclient_secret = \"s3cr3t words%+&=\u{e9}\"\n";

/// What a server offers, or what the profile says, decides; where neither does, a refusal.
#[test]
fn a_secret_is_shown_as_the_server_wants_it() {
    const BASIC: &str = "client_secret_basic";
    const POST: &str = "client_secret_post";
    let fixed = |method: &str| format!("token_endpoint_auth_method = \"{method}\"\n");
    let nothing = json!({});
    for (wants, members, more, exchange) in [
        (Wants::Header, offers(&[BASIC]), String::new(), vec!["basic"]),
        (Wants::Header, offers(&["private_key_jwt", BASIC]), String::new(), vec!["basic"]),
        (Wants::Form, offers(&[POST]), String::new(), vec!["post"]),
        (Wants::Form, offers(&[BASIC, POST]), String::new(), vec!["post"]),
        (Wants::Header, offers(&[BASIC, POST]), String::new(), vec!["post", "basic"]),
        (Wants::Header, nothing.clone(), String::new(), vec!["post", "basic"]),
        (Wants::Form, nothing.clone(), String::new(), vec!["post"]),
        (Wants::Header, offers(&["none"]), String::new(), vec!["post", "basic"]),
        (Wants::Header, nothing.clone(), fixed(BASIC), vec!["basic"]),
        (Wants::Form, offers(&[BASIC]), fixed(POST), vec!["post"]),
        (Wants::Nothing, offers(&[BASIC]), fixed("none"), vec!["none"]),
    ] {
        let site = Site::start(wants, &members, &nothing);
        site.profile(&format!("{CLIENT}{more}"));
        let what = format!("{wants:?} {members} {more}");
        site.lives(&what);
        let tried = [&exchange[..], &exchange[..]].concat();
        assert_eq!(site.shown("/token"), tried, "{what}: a code and a renewal");
        let last = *exchange.last().expect("one");
        let revoked = site.shown("/revoke");
        assert_eq!(revoked.last(), Some(&last), "{what}");
        assert_eq!(revoked.iter().filter(|shown| **shown == last).count(), 2, "{what}");
        for file in site.sandbox.files_with(SECRET.as_bytes()) {
            assert!(file.ends_with("config.toml"), "{file:?}");
        }
    }
}

/// The same at every other endpoint, and in a job.
#[test]
fn every_endpoint_is_shown_the_same() {
    for (wants, members, last) in [
        (Wants::Header, offers(&["client_secret_basic"]), "basic"),
        (Wants::Header, json!({}), "basic"),
        (Wants::Form, offers(&["client_secret_post"]), "post"),
    ] {
        let site = Site::start(wants, &members, &json!({}));
        site.profile(&format!("{CLIENT}par = true\n"));
        site.lives("pushed");
        assert_eq!(site.shown("/par").last(), Some(&last), "{wants:?}");
        // Once is enough to learn it.
        assert_eq!(site.shown("/token")[0], last, "{wants:?}");
        let pushed = site.server.journal().at_path("/par").pop().expect("a request").request;
        assert_eq!(pushed.field("code_challenge_method").as_deref(), Some("S256"));
        site.profile(&format!("{CLIENT}flow = \"device\"\n"));
        site.lives("device");
        assert_eq!(site.shown("/device").last(), Some(&last), "{wants:?}");

        site.profile(&format!("{CLIENT}[profile.lab.workload]\ntoken_env = \"JOB\"\n"));
        let identity = jwt(&site.server.origin(), 1);
        let before = site.shown("/token").len();
        let origin = site.server.origin();
        let job = site.sandbox.valetkey(&["token", &origin]).env("JOB", identity);
        job.env("VALETKEY_FLOW", "workload").run().assert_stdout("acc-1\n");
        assert_eq!(site.shown("/token")[before..].last(), Some(&last), "{wants:?}");
    }
}

/// A wrong secret is said, and is in no message.
#[test]
fn a_refused_secret_ends_the_sign_in() {
    let site = Site::start(Wants::Header, &json!({}), &json!({}));
    site.profile("client_id = \"cli\"\nclient_secret = \"another-secret\"\n");
    site.sandbox.env("VALETKEY_LOG", "debug");
    let finished = site.run(&["login"]);
    finished.assert_status(78).assert_stderr_has("invalid_client");
    assert_eq!(site.shown("/token"), ["post", "basic"]);
    let pair = BASE64_STANDARD.encode("cli:another-secret");
    for secret in ["another-secret", &pair] {
        assert!(!finished.stderr_text().contains(secret), "{finished}");
    }
}

/// A registration that gives a secret is taken, kept for us alone, and used at once and later.
#[test]
fn a_registered_secret_is_kept_and_shown() {
    for (method, members, wants, last) in [
        (json!("client_secret_basic"), json!({}), Wants::Header, "basic"),
        (json!("client_secret_post"), json!({}), Wants::Form, "post"),
        (Value::Null, json!({}), Wants::Header, "basic"),
        (Value::Null, offers(&["client_secret_post"]), Wants::Form, "post"),
        (json!("none"), json!({}), Wants::Nothing, "none"),
        (json!("none"), offers(&["none", "client_secret_basic"]), Wants::Nothing, "none"),
    ] {
        let registered = json!({
            "client_id": ID, "client_secret": SECRET, "client_secret_expires_at": 0,
            "token_endpoint_auth_method": method,
        });
        let site = Site::start(wants, &members, &registered);
        site.profile("");
        site.run(&["login"]).assert_status(0);
        site.lives(&format!("{method}"));
        let what = format!("{method} {members}");
        assert_eq!(site.server.journal().at_path("/register").len(), 1, "{what}");
        assert!(site.shown("/token").iter().all(|shown| *shown == last), "{what}");
        assert_eq!(site.shown("/revoke").last(), Some(&last), "{what}");
        let kept: Vec<_> = site
            .sandbox
            .files()
            .into_iter()
            .filter(|file| file.path.starts_with("state/valetkey/clients"))
            .collect();
        assert_eq!(kept.len(), 1, "{what}");
        assert_eq!(kept[0].mode, 0o600);
        let document: Value = serde_json::from_slice(&kept[0].content).expect("JSON");
        let secret = document["client_secret"].as_str();
        assert_eq!(secret, (last != "none").then_some(SECRET), "{what}");
        // A server that changes its mind is seen by nobody's secret.
        *site.wants.lock().expect("no panic") = Wants::Form;
        let asked = &site.server.journal().at_path("/register")[0].request;
        let asked: Value = serde_json::from_slice(&asked.body).expect("JSON");
        let offered = members["token_endpoint_auth_methods_supported"][0].as_str();
        assert_eq!(asked["token_endpoint_auth_method"].as_str(), offered.or(Some("none")));
    }
}

/// What a client could not show is no registration.
#[test]
fn a_registration_that_wants_more_than_a_secret_is_refused() {
    for (members, said) in [
        (json!({ "token_endpoint_auth_method": "private_key_jwt" }), "by private_key_jwt"),
        (json!({ "token_endpoint_auth_method": "client_secret_basic" }), "and gives none"),
        (
            json!({ "token_endpoint_auth_method": "client_secret_post", "client_secret": "" }),
            "none",
        ),
    ] {
        let mut registered = json!({ "client_id": ID });
        for (name, value) in members.as_object().expect("an object") {
            registered[name] = value.clone();
        }
        let site = Site::start(Wants::Nothing, &json!({}), &registered);
        site.profile("");
        site.run(&["login"]).assert_status(4).assert_stderr_has(said);
        assert_eq!(site.shown("/token"), [""; 0]);
    }
}

/// The redirect URIs of each registration.
fn registered(home: &Home) -> Vec<Vec<String>> {
    let read = |body: &[u8]| -> Vec<String> {
        let document: Value = serde_json::from_slice(body).expect("JSON");
        serde_json::from_value(document["redirect_uris"].clone()).expect("texts")
    };
    let journal = home.authority.journal();
    journal.at_path("/register").iter().map(|entry| read(&entry.request.body)).collect()
}

fn used(browser: &Browser) -> Url {
    let asked = browser.opened().pop().expect("a window");
    Asked::read(&asked).redirect()
}

/// A server that compares the port of a redirect is signed in to, then and later, with --port and
/// without, also where somebody else has the port by now.
#[test]
fn a_registration_names_a_port_for_servers_that_compare_it() {
    let options = || Options { exact_redirects: true, ..Options::default() };
    let home = Home::new(options());
    let origin = home.authority.origin();
    let issuer = home.authority.issuer();
    let profile = format!("[profile.lab]\norigins = [\"{origin}\"]\nissuer = \"{issuer}\"\n");
    home.sandbox.config(&profile);
    let browser = home.browser(Person::Approves);
    let login = |more: &[&str]| {
        let words = [&["login", "--force"], more, &[origin.as_str()]].concat();
        home.sandbox.valetkey(&words).run().assert_status(0);
        used(&browser)
    };
    let first = login(&[]);
    assert_eq!(registered(&home).len(), 1);
    let path = first.path();
    let uris = [
        format!("http://127.0.0.1{path}"),
        format!("http://[::1]{path}"),
        first.as_str().to_owned(),
    ];
    assert_eq!(registered(&home)[0], uris);
    assert_eq!(login(&[]), first, "the port is kept");
    assert_eq!(registered(&home).len(), 1);

    let taken = std::net::TcpListener::bind(("127.0.0.1", first.port().expect("a port")));
    let taken = taken.expect("it is free");
    let second = login(&[]);
    assert_ne!(second, first, "somebody else has it");
    assert_eq!(registered(&home).len(), 2);
    drop(taken);

    let third = free_port();
    let port = third.to_string();
    assert_eq!(login(&["--port", &port]).port(), Some(third));
    assert_eq!(registered(&home).len(), 3);
    assert_eq!(login(&["--port", &port]).port(), Some(third));
    assert_eq!(login(&[]).port(), Some(third));
    assert_eq!(registered(&home).len(), 3);

    // Ports that the user chose are the only ones.
    let chosen = free_port();
    home.sandbox.config(&format!("{profile}redirect = {{ ports = [{chosen}], path = \"/x\" }}\n"));
    assert_eq!(login(&[]).as_str(), format!("http://127.0.0.1:{chosen}/x"));
    assert_eq!(registered(&home)[3], [format!("http://127.0.0.1:{chosen}/x")]);
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    socket.local_addr().expect("it has one").port()
}

/// A server that takes no redirect without a port, or none of the other family, is asked again.
#[test]
fn a_refused_redirect_is_registered_with_its_port_alone() {
    let home = Home::new(Options { exact_redirects: true, ..Options::default() });
    let origin = home.authority.origin();
    let issuer = home.authority.issuer();
    home.sandbox
        .config(&format!("[profile.lab]\norigins = [\"{origin}\"]\nissuer = \"{issuer}\"\n"));
    let _browser = home.browser(Person::Approves);
    home.authority.next("/register", vec![Step::error("invalid_redirect_uri")]);
    home.sandbox.valetkey(&["login", &origin]).run().assert_status(0);
    let all = registered(&home);
    assert_eq!(all.len(), 2);
    assert_eq!(all[1], [all[0][2].clone()]);
}

/// An issuer that a host named shares no redirect with one that the user configured: neither with
/// a client of the person's own, nor with a document where nobody promises `iss`.
#[test]
fn an_issuer_that_a_host_names_is_called_back_at_a_place_of_its_own() {
    for (promised, more, place) in [
        (true, &["--client-id", CLIENT_ID][..], "/callback/"),
        (false, &["--client-id", CLIENT_ID], "/callback/"),
        (false, &[], "/callback/"),
        (true, &[], "/callback"),
    ] {
        let options = Options {
            client_documents: true,
            iss_advertised: promised,
            iss_in_callback: promised,
            ..Options::default()
        };
        let home = Home::new(options);
        let origin = home.authority.origin();
        home.sandbox.config("client_metadata = \"https://tools.example/client.json\"\n");
        let browser = home.browser(Person::Approves);
        let words = [&["login"], more, &[origin.as_str()]].concat();
        home.sandbox.valetkey(&words).run().assert_status(0);
        let path = used(&browser).path().to_owned();
        assert_eq!(path.starts_with("/callback/"), place == "/callback/", "{promised} {more:?}");
    }
}
