//! Hosts without configuration against real authorization servers: registration, resource
//! indicators, pushed requests, documents about the client.

use std::sync::Arc;

use serde_json::{Value, json};

use super::approver::Approver;
use super::provider::Provider;
use super::{Peer, here, peer};
use crate::lab::{Answer, Finished, GitHost, Sandbox, Scheme};
use crate::scene::{age, program};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// A git host that publishes who issues its tokens, and nothing else is known to anybody.
pub(super) struct Home<P> {
    pub(super) provider: Arc<P>,
    pub(super) host: GitHost,
    pub(super) sandbox: Sandbox,
}

impl<P: Send + Sync + 'static> Home<P> {
    pub(super) fn around(
        provider: P,
        issuer: &str,
        scopes: &[&str],
        is_live: fn(&P, &str) -> bool,
    ) -> Self {
        let provider = Arc::new(provider);
        let judge = Arc::clone(&provider);
        let host = GitHost::start(Scheme::Bearer, move |token| is_live(&judge, token));
        host.create("team/s.git");
        let document = json!({
            "resource": host.origin(),
            "authorization_servers": [issuer],
            "scopes_supported": scopes,
        });
        host.document(WELL_KNOWN, Answer::json(200, &document));
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "always");
        sandbox.link("git-credential-valetkey");
        sandbox.git_config("[credential]\n\thelper = valetkey\n");
        Self { provider, host, sandbox }
    }

    /// Nobody is here, and git works.
    pub(super) fn clone(&self, name: &str) {
        self.sandbox.env("VALETKEY_INTERACTIVE", "never");
        let url = self.host.url("team/s.git");
        self.sandbox.git(&["clone", "--quiet", &url, name]).run().assert(0, "", "");
        self.sandbox.env("VALETKEY_INTERACTIVE", "always");
    }
}

fn home(options: &[&str]) -> Home<Provider> {
    let provider = Provider::start(options);
    let issuer = provider.issuer.clone();
    Home::around(provider, &issuer, &["api:read", "api:write"], Provider::is_live)
}

impl Home<Provider> {
    fn login(&self, more: &[&str]) -> Finished {
        let words: Vec<&str> = ["login"].into_iter().chain(more.iter().copied()).collect();
        self.sandbox.valetkey(&words).arg(self.host.origin()).run()
    }
}

#[test]
fn a_stranger_registers_signs_in_and_renews_for_one_resource() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let home = home(&["--registration"]);
    let person = Approver::start(&home.sandbox);
    home.login(&[]).assert_status(0);
    assert_eq!(person.opened().len(), 1);
    let registered = home.provider.journal("/reg");
    assert_eq!(registered.len(), 1);
    assert_eq!(registered[0]["status"], 201);
    let asked = home.provider.journal("/auth").remove(0);
    let query = &asked["query"];
    assert_eq!(query["resource"], json!(home.host.origin()));
    assert_eq!(query["scope"], "api:read api:write offline_access");
    let client = query["client_id"].as_str().expect("a client").to_owned();
    assert_ne!(client, "valetkey-test");
    home.clone("first");

    age(&home.sandbox, 4000);
    home.clone("second");
    let renewals = home.provider.asked_for("refresh_token");
    assert_eq!(renewals.len(), 1);
    assert_eq!(renewals[0]["status"], 200);
    assert_eq!(renewals[0]["form"]["resource"], json!(home.host.origin()));
    assert_eq!(renewals[0]["form"]["client_id"], json!(client));

    // The registration is used again, by the device flow too.
    let answer = home.login(&["--force"]);
    answer.assert_status(0);
    assert_eq!(home.provider.journal("/reg").len(), 1);
    let last: Value = home.provider.journal("/auth").pop().expect("a request");
    assert_eq!(last["query"]["client_id"], json!(client));
}

/// RFC 9126 where the server insists: it would refuse a request that the browser carries.
#[test]
fn a_request_is_pushed_where_the_server_insists() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let home = home(&["--registration", "--only-pushed"]);
    let person = Approver::start(&home.sandbox);
    home.login(&[]).assert_status(0);
    let opened = url::Url::parse(&person.opened()[0]).expect("a URL");
    let names: Vec<_> = opened.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["client_id", "request_uri"]);
    let pushed = home.provider.journal("/request");
    assert_eq!(pushed.len(), 1);
    assert_eq!(pushed[0]["status"], 201);
    assert_eq!(pushed[0]["form"]["resource"], json!(home.host.origin()));
    home.clone("s");
}

/// draft-ietf-oauth-client-id-metadata-document: nobody registers, and the server knows us.
#[test]
fn a_document_about_the_client_is_its_id() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let document = "https://tools.example/valetkey.json";
    let home = home(&["--registration", "--client-document", document]);
    home.sandbox.config(&format!("client_metadata = \"{document}\"\n"));
    let _person = Approver::start(&home.sandbox);
    home.login(&[]).assert_status(0);
    assert_eq!(home.provider.journal("/reg"), [] as [Value; 0]);
    let asked = home.provider.journal("/auth").remove(0);
    assert_eq!(asked["query"]["client_id"], document);
    home.clone("first");
    age(&home.sandbox, 4000);
    home.clone("second");
    let renewal = home.provider.asked_for("refresh_token").remove(0);
    assert_eq!(
        (&renewal["status"], &renewal["form"]["client_id"]),
        (&json!(200), &json!(document))
    );
}

/// One registration is good for both ways in.
#[test]
fn a_stranger_signs_in_by_device_too() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let home = home(&["--registration", "--device-interval", "1"]);
    let words = ["login", "--flow", "device", "--no-browser", &home.host.origin()];
    let login = home.sandbox.valetkey(&words).start();
    login.expect_stderr("or open http");
    login.expect_stderr("only do so if");
    let said = login.stderr_text();
    let link = said.lines().find_map(|line| line.strip_prefix("or open ")).expect("a link");
    let program = peer("oidc-provider/approve.mjs");
    home.sandbox.run("node", &[]).arg(program).arg(link).run().assert_status(0);
    login.wait().assert_status(0);
    let asked = home.provider.journal("/device/auth").remove(0);
    assert_eq!(asked["form"]["resource"], json!(home.host.origin()));
    home.clone("s");
    let _person = Approver::start(&home.sandbox);
    home.login(&["--force"]).assert_status(0);
    assert_eq!(home.provider.journal("/reg").len(), 1);
}
