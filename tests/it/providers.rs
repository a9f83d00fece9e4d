//! The table of known providers: as a profile's defaults against a server that has their paths, and
//! what it says of public services that this machine never reaches.

use crate::lab::{Authority, Browser, CLIENT_ID, Finished, Options, Person, Sandbox};
use crate::scene::{age, program, value};

struct Home {
    authority: Authority,
    sandbox: Sandbox,
}

impl Home {
    fn new() -> Self {
        let authority = Authority::start_with(Options {
            approve_devices_after: Some(0),
            verification_uri_complete: false,
            ..Options::default()
        });
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "never");
        Self { authority, sandbox }
    }

    fn profile(&self, provider: &str, more: &str) {
        self.sandbox.config(&format!(
            "[profile.own]\nprovider = \"{provider}\"\norigins = [\"{}\"]\n\
             client_id = \"{CLIENT_ID}\"\n{more}\n",
            self.authority.origin(),
        ));
    }

    fn browser(&self) -> Browser {
        self.sandbox.env("VALETKEY_INTERACTIVE", "always");
        Browser::start(&self.sandbox, Person::Approves)
    }

    fn login(&self, words: &[&str]) -> Finished {
        let words: Vec<&str> = ["login"].into_iter().chain(words.iter().copied()).collect();
        self.sandbox.valetkey(&words).run()
    }

    fn get(&self) -> Finished {
        let host = self.authority.origin().replace("http://", "");
        let question = format!("protocol=http\nhost={host}\n");
        self.sandbox.valetkey(&["get"]).stdin(question).run()
    }
}

/// Issue 4, item 6: a row with a host of one's own signs in, answers git, renews and signs out by
/// the row's paths, scopes and user name.
#[test]
fn a_row_serves_a_host_of_ones_own() {
    for (provider, begins, renews, scope, user) in [
        ("github", "/login/device/code", "/login/oauth/access_token", "repo gist", "oauth2"),
        ("gitlab", "/oauth/authorize", "/oauth/token", "read_repository", "oauth2"),
        ("gitea", "/login/oauth/authorize", "/login/oauth/access_token", "", "oauth2"),
        ("forgejo", "/login/oauth/authorize", "/login/oauth/access_token", "", "oauth2"),
        ("huggingface", "/oauth/authorize", "/oauth/token", "openid profile", "oauth2"),
    ] {
        let home = Home::new();
        home.profile(provider, "");
        let _browser = home.browser();
        let origin = home.authority.origin();
        home.login(&[&origin]).assert_status(0);
        let journal = home.authority.journal();
        let begun = journal.at_path(begins);
        assert_eq!(begun.len(), 1, "{provider}\n{journal}");
        let request = &begun[0].request;
        let asked =
            request.parameter("scope").map(str::to_owned).or_else(|| request.field("scope"));
        assert!(asked.unwrap_or_default().starts_with(scope), "{provider}");
        home.sandbox.env("VALETKEY_INTERACTIVE", "never");
        age(&home.sandbox, 4000);
        let finished = home.get();
        assert_eq!(value(&finished, "username").as_deref(), Some(user), "{provider} {finished}");
        let token = value(&finished, "password").expect("a token");
        assert!(home.authority.token_is_live(&token), "{provider}");
        let last = journal.at_path(renews).pop().expect("a renewal").request;
        assert_eq!(last.field("grant_type").as_deref(), Some("refresh_token"), "{provider}");
        home.sandbox.valetkey(&["logout", &origin]).run().assert_status(0);
        let revoked = usize::from(provider == "gitlab") * 2;
        assert_eq!(journal.at_path("/oauth/revoke").len(), revoked, "{provider}");
    }
}

/// A device needs no secret, and no browser is tried before one is there.
#[test]
fn github_signs_in_by_device_until_there_is_a_secret() {
    let home = Home::new();
    home.profile("github", "");
    let browser = home.browser();
    let origin = home.authority.origin();
    home.login(&[&origin]).assert_status(0).assert_stderr_has("and enter the code");
    let before = browser.opened().len();
    home.profile("github", "client_secret = \"not-a-secret\"");
    // The lab takes no secrets, so this ends at the token endpoint.
    home.login(&["--force", &origin]).assert_status(78);
    assert_eq!(browser.opened().len(), before + 1);
    // The row does not say how: first in the form, then in the header.
    let mut last = home.authority.journal().at_path("/login/oauth/access_token");
    let (header, form) = (last.pop().expect("a request"), last.pop().expect("a request"));
    assert_eq!(form.request.field("client_secret").as_deref(), Some("not-a-secret"));
    assert!(header.request.header("Authorization").is_some_and(|word| word.starts_with("Basic ")));
}

/// A public service without a client id is nobody's: git's other helpers get their turn, a person
/// who wants to sign in hears how, and nothing is connected to.
#[test]
fn a_public_service_without_a_client_is_left_to_others() {
    let home = Home::new();
    home.sandbox.env("VALETKEY_INTERACTIVE", "always").env("HTTPS_PROXY", "http://127.0.0.1:9");
    let browser = home.browser();
    for host in ["github.com", "gist.github.com", "gitlab.com", "codeberg.org", "huggingface.co"] {
        let question = format!("protocol=https\nhost={host}\n");
        home.sandbox.valetkey(&["get"]).stdin(question).run().assert(2, "", "");
    }
    for (url, page, then) in [
        ("https://github.com/team/s.git", "https://github.com/settings/applications/new", "ID"),
        ("gitlab.com", "https://gitlab.com/-/user_settings/applications", "ID"),
        ("https://codeberg.org", "https://codeberg.org/user/settings/applications", "ID"),
        ("https://bitbucket.org", "http://127.0.0.1:8765/callback", "client_secret in a [profile]"),
        ("https://dev.azure.com", "redirect URI http://localhost at", "ID"),
    ] {
        let finished = home.login(&[url]);
        finished
            .assert_status(78)
            .assert_stdout("")
            .assert_stderr_has("error: no OAuth client is known for https://")
            .assert_stderr_has(page)
            .assert_stderr_has(then)
            .assert_stderr_has("--token-stdin https://");
        assert_eq!(finished.stderr_text().lines().count(), 2, "{finished}");
    }
    let secret = home.login(&["--client-id", "x", "https://bitbucket.org"]);
    secret.assert_status(78).assert_stderr_has("no OAuth client secret is known for");
    assert_eq!(browser.opened().len(), 0);
}

/// S139: flag before environment; either makes the public service a host of ours. It cannot be
/// reached here, so what shows is where the sign-in would have begun.
#[test]
fn a_client_from_the_flag_or_the_environment_makes_it_ours() {
    let home = Home::new();
    home.sandbox.env("HTTPS_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "");
    home.sandbox.env("VALETKEY_INTERACTIVE", "always").env("VALETKEY_LOG", "debug");
    let login = home.login(&["--client-id", "flagged", "https://github.com"]);
    login.assert_status(5).assert_stderr_has("github.com cannot be reached");
    home.sandbox.env("VALETKEY_CLIENT_ID_GITHUB", "from-environment");
    let question = "protocol=https\nhost=gist.github.com\n";
    let get = home.sandbox.valetkey(&["get"]).stdin(question).run();
    get.assert_stdout("").assert_stderr_has("gist.github.com belongs to profile github");
    // A client id of the public service is not shown to a host of one's own.
    home.sandbox.config(&format!(
        "[profile.own]\nprovider = \"github\"\norigins = [\"{}\"]\n",
        home.authority.origin()
    ));
    home.login(&[&home.authority.origin()]).assert_status(78).assert_stderr_has("no OAuth client");
    let journal = home.authority.journal().snapshot();
    assert!(journal.iter().all(|entry| !entry.request.target.contains("from-environment")));
    // The user's own profile comes first.
    home.sandbox.config(
        "[profile.mine]\norigins = [\"https://github.com\"]\nissuer = \"https://auth.example\"\n",
    );
    let question = "protocol=https\nhost=github.com\n";
    let get = home.sandbox.valetkey(&["get"]).stdin(question).run();
    get.assert_stderr_has("github.com belongs to profile mine");
}
