//! oidc-provider on a port of its own, and a scene around it: a git host that asks it about every
//! token, a home, and a profile that binds the two.

use std::sync::Arc;

use serde_json::Value;
use url::form_urlencoded::byte_serialize;

use super::peer;
use super::spoken::Spoken;
use crate::lab::{Finished, GitHost, Run, Sandbox, Scheme, http_get, http_post_form};
use crate::scene::program;

/// Runs until dropped.
pub(super) struct Provider {
    _server: Spoken,
    pub(super) issuer: String,
}

impl Provider {
    pub(super) fn start(options: &[&str]) -> Self {
        let server = Spoken::start("node", &peer("oidc-provider/server.mjs"), options);
        Self { issuer: server.said("issuer"), _server: server }
    }

    fn order(&self, what: &str) -> Value {
        let answer = http_post_form(&format!("{}/lab/{what}", self.issuer), &[]);
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        answer.json()
    }

    /// For the tokens that are issued from now on.
    pub(super) fn tokens_live(&self, seconds: u32) {
        self.order(&format!("access-ttl?seconds={seconds}"));
    }

    pub(super) fn is_live(&self, token: &str) -> bool {
        let token: String = byte_serialize(token.as_bytes()).collect();
        http_get(&format!("{}/lab/live?token={token}", self.issuer)).json() == true
    }

    pub(super) fn revoke_access(&self, token: &str) {
        let token: String = byte_serialize(token.as_bytes()).collect();
        assert_eq!(self.order(&format!("revoke-access?token={token}")), true);
    }

    pub(super) fn revoke_grants(&self) {
        self.order("revoke-grants");
    }

    /// What clients sent, and got, at a path.
    pub(super) fn journal(&self, path: &str) -> Vec<Value> {
        let journal = http_get(&format!("{}/lab/journal", self.issuer)).json();
        let entries = journal.as_array().expect("a list").iter();
        entries.filter(|entry| entry["path"] == path).cloned().collect()
    }

    /// The token requests of a grant type.
    pub(super) fn asked_for(&self, grant: &str) -> Vec<Value> {
        let mut entries = self.journal("/token");
        entries.retain(|entry| entry["form"]["grant_type"] == grant);
        entries
    }
}

pub(super) struct Scene {
    pub(super) provider: Arc<Provider>,
    pub(super) host: GitHost,
    pub(super) sandbox: Sandbox,
}

impl Scene {
    pub(super) fn new(options: &[&str]) -> Self {
        let provider = Arc::new(Provider::start(options));
        let judge = Arc::clone(&provider);
        let host = GitHost::start(Scheme::Basic, move |token| judge.is_live(token));
        host.create("team/s.git");
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "never");
        sandbox.link("git-credential-valetkey");
        sandbox.git_config("[credential]\n\thelper = valetkey\n");
        let config = sandbox.config(&format!(
            "[profile.real]\norigins = [\"{}\"]\nissuer = \"{}\"\nclient_id = \"valetkey-test\"\n\
             scopes = [\"openid\", \"offline_access\"]\n",
            host.origin(),
            provider.issuer,
        ));
        // For programs that get other directories from the keyring.
        sandbox.env("VALETKEY_CONFIG", config);
        Self { provider, host, sandbox }
    }

    /// Whether somebody is there from now on.
    pub(super) fn person(&self, here: bool) {
        self.sandbox.env("VALETKEY_INTERACTIVE", if here { "always" } else { "never" });
    }

    pub(super) fn git_clone(&self, name: &str) -> Run {
        self.sandbox.git(&["clone", "--quiet", &self.host.url("team/s.git"), name])
    }

    pub(super) fn fetch(&self, name: &str) -> Run {
        self.sandbox.git(&["fetch", "--quiet"]).cwd(self.sandbox.work().join(name))
    }

    pub(super) fn question(&self) -> String {
        format!("protocol=http\nhost={}\n", self.host.origin().replace("http://", ""))
    }

    pub(super) fn get(&self) -> Run {
        self.sandbox.valetkey(&["get"]).stdin(self.question())
    }

    /// The access token that is handed out now.
    #[track_caller]
    pub(super) fn token(&self) -> String {
        let printed = self.sandbox.valetkey(&["token", &self.host.origin()]).run();
        printed.assert_success().trim_end().to_owned()
    }

    #[track_caller]
    pub(super) fn valetkey(&self, verb: &str) -> Finished {
        self.sandbox.valetkey(&[verb, &self.host.origin()]).run()
    }
}
