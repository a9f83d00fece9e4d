//! A second authorization server that nobody here wrote, of another family: django-oauth-toolkit
//! registers strangers with one grant each, rotates refresh tokens with a grace period, and has
//! devices approved on a page of its own.

use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use super::spoken::Spoken;
use super::unconfigured::Home;
use super::{Peer, here, installed, peer};
use crate::lab::{Browser, Finished, Person, http, http_get, http_post_form};
use crate::scene::age;

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

struct Provider {
    _server: Spoken,
    origin: String,
    /// With a path, so that the well-known part goes before it.
    issuer: String,
}

impl Provider {
    fn start(options: &[&str]) -> Self {
        let python = installed().join("django-oauth-toolkit/bin/python");
        let server = Spoken::start(python, &peer("django-oauth-toolkit/server.py"), options);
        Self { origin: server.said("origin"), issuer: server.said("issuer"), _server: server }
    }

    fn is_live(&self, token: &str) -> bool {
        let token: String = byte_serialize(token.as_bytes()).collect();
        http_get(&format!("{}/lab/live?token={token}", self.origin)).json() == true
    }

    /// What clients sent to a path, and the status of the answer.
    fn journal(&self, path: &str) -> Vec<Value> {
        let journal = http_get(&format!("{}/lab/journal", self.origin)).json();
        let entries = journal.as_array().expect("a list").iter();
        entries.filter(|entry| entry["path"] == path).cloned().collect()
    }
}

fn home(options: &[&str]) -> Home<Provider> {
    let provider = Provider::start(options);
    let issuer = provider.issuer.clone();
    Home::around(provider, &issuer, &["read"], Provider::is_live)
}

impl Home<Provider> {
    fn valetkey(&self, words: &[&str]) -> Finished {
        self.sandbox.valetkey(words).arg(self.host.origin()).run()
    }

    /// The bytes of the session, as another machine could have them.
    fn session(&self) -> (String, Vec<u8>) {
        let mut files = self.sandbox.files();
        files.retain(|file| file.path.starts_with("data/valetkey/sessions"));
        let file = files.pop().expect("a session");
        (file.path.to_str().expect("plain").to_owned(), file.content)
    }
}

#[test]
fn a_stranger_registers_signs_in_renews_and_leaves() {
    if !here(&[Peer::Django]) {
        return;
    }
    let home = home(&[]);
    let browser = Browser::start(&home.sandbox, Person::Approves);
    home.valetkey(&["login"]).assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    let registered = home.provider.journal("/o/register/");
    assert_eq!(registered.len(), 1, "{registered:#?}");
    assert_eq!(registered[0]["status"], 201);
    let asked = home.provider.journal("/o/authorize/").remove(0);
    assert_eq!(asked["query"]["resource"], json!(home.host.origin()));
    assert_eq!(asked["query"]["scope"], "read");
    home.clone("first");
    age(&home.sandbox, 4000);
    home.clone("second");
    let renewal = home.provider.journal("/o/token/").pop().expect("a renewal");
    assert_eq!(
        (&renewal["form"]["grant_type"], &renewal["status"]),
        (&json!("refresh_token"), &json!(200))
    );
    let token = home.valetkey(&["token"]).assert_success().trim_end().to_owned();
    assert!(home.provider.is_live(&token));
    home.valetkey(&["logout"]).assert_status(0);
    assert!(!home.provider.is_live(&token));
}

/// Two machines with one session: who comes late with the old refresh token is served within the
/// grace period, and signs in again after it.
#[test]
fn an_old_refresh_token_is_good_for_as_long_as_the_server_says() {
    if !here(&[Peer::Django]) {
        return;
    }
    for (grace, late) in [("600", 0), ("0", 2)] {
        let home = home(&["--grace", grace]);
        let browser = Browser::start(&home.sandbox, Person::Approves);
        home.valetkey(&["login"]).assert_status(0);
        age(&home.sandbox, 4000);
        let (path, copy) = home.session();
        home.sandbox.env("VALETKEY_INTERACTIVE", "never");
        home.valetkey(&["token"]).assert_status(0);
        let newest = home.session();
        assert_ne!(newest.1, copy);

        home.sandbox.write(&path, &copy, 0o600);
        let finished = home.valetkey(&["token"]);
        finished.assert_status(late);
        if late == 0 {
            assert!(home.provider.is_live(finished.stdout_text().trim_end()), "{finished}");
        } else {
            finished.assert_stdout("").assert_stderr_has("hint: valetkey login");
        }
        assert_eq!(browser.opened().len(), 1);
    }
}

/// The device page of a real server, its interval, and its word for what is still pending.
#[test]
fn a_device_is_approved_on_the_servers_own_page() {
    if !here(&[Peer::Django]) {
        return;
    }
    let home = home(&[]);
    let issuer = &home.provider.issuer;
    let metadata = json!({
        "client_name": "a device", "token_endpoint_auth_method": "none",
        "grant_types": [DEVICE], "response_types": [], "redirect_uris": [],
    });
    let headers = [("Content-Type", "application/json")];
    let place = format!("{issuer}/register/");
    let page = http("POST", &place, &headers, metadata.to_string().as_bytes()).expect("an answer");
    let client = page.json()["client_id"].as_str().map(str::to_owned);
    let client = client.unwrap_or_else(|| panic!("{}", page.text()));
    home.sandbox.config(&format!(
        "[profile.own]\norigins = [\"{}\"]\nissuer = \"{issuer}\"\nclient_id = \"{client}\"\n\
         device_authorization_endpoint = \"{issuer}/device-authorization/\"\n\
         scopes = [\"read\"]\nscheme = \"bearer\"\n",
        home.host.origin(),
    ));
    let words = ["login", "--flow", "device", "--no-browser", &home.host.origin()];
    let login = home.sandbox.valetkey(&words).start();
    login.expect_stderr("only do so if");
    let said = login.stderr_text();
    let code = said.lines().find_map(|line| line.strip_prefix("and enter the code "));
    let code = code.unwrap_or_else(|| panic!("{said}"));
    let confirm = http_post_form(&format!("{issuer}/device/"), &[("user_code", code)]);
    let confirm = confirm.location().unwrap_or_else(|| panic!("{}", confirm.text()));
    let confirm = url::Url::parse(issuer).and_then(|url| url.join(&confirm)).expect("a URL");
    http_post_form(confirm.as_str(), &[("action", "accept")]);
    login.wait().assert_status(0);
    home.clone("s");
}
