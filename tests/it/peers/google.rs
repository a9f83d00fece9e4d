//! google-auth runs `valetkey google`, by the configuration that `setup google` writes, and trades
//! what it gets at a scripted token service.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::same_cases::{Client, Start};
use super::{Peer, here, installed, peer};
use crate::lab::{Answer, CLIENT_ID, Job, Options, Request, Run, Sandbox, Server};
use crate::scene::{Home, program};

const PROVIDER: &str = "projects/1/locations/global/workloadIdentityPools/p/providers/r";

/// The configuration that `setup google` writes, with the token service somewhere else.
fn set_up(sandbox: &Sandbox, token_url: &str) {
    sandbox.link("valetkey");
    sandbox.valetkey(&["setup", "google"]).run().assert_status(0);
    edit(sandbox, |document| document["token_url"] = token_url.into());
    sandbox.valetkey(&["setup", "google"]).run().assert_stderr_has("nothing to do");
    sandbox
        .env("GOOGLE_APPLICATION_CREDENTIALS", file(sandbox))
        .env("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
        .env("GOOGLE_CLOUD_PROJECT", "lab")
        .env("NO_GCE_CHECK", "true");
}

fn file(sandbox: &Sandbox) -> PathBuf {
    let found = sandbox.files().into_iter().find(|file| {
        let name = file.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("google_")
    });
    sandbox.root().join(found.expect("a configuration").path)
}

fn edit(sandbox: &Sandbox, change: impl FnOnce(&mut Value)) {
    let text = std::fs::read_to_string(file(sandbox)).expect("a file");
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut document);
    let text = serde_json::to_string_pretty(&document).expect("JSON") + "\n";
    std::fs::write(file(sandbox), text).expect("a file");
}

fn obtain(sandbox: &Sandbox) -> Run {
    let python = installed().join("google-auth/bin/python");
    sandbox.run(python, &[]).arg(peer("google-auth/obtain.py"))
}

struct Cloud {
    job: Job,
}

impl Cloud {
    fn new() -> Self {
        let job = Job::new(program());
        job.sandbox.config(&format!(
            "[profile.google]\nflow = \"workload\"\n\
             origins = [\"https://iam.googleapis.com/{PROVIDER}\"]\n\
             [profile.google.workload]\nexchange = \"none\"\n",
        ));
        set_up(&job.sandbox, &job.url("/token"));
        Self { job }
    }

    fn token(&self) -> Run {
        obtain(&self.job.sandbox)
    }
}

/// A person's session, and a token service that takes its ID token.
struct Office {
    home: Home,
    service: Server,
}

impl Office {
    fn start() -> Self {
        let home = Home::new(Options::default());
        let service = Server::start(|_: &Request| {
            let token = json!({
                "access_token": "issued", "token_type": "Bearer", "expires_in": 3600,
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            });
            Answer::json(200, &token).into()
        });
        let office = Self { home, service };
        office.home.sandbox.config(&format!(
            "[profile.google]\norigins = [{{ url = \"{}\", token = \"id\" }}]\nissuer = \"{}\"\n\
             client_id = \"{CLIENT_ID}\"\nscopes = [\"openid\"]\n",
            office.url(),
            office.home.authority.issuer(),
        ));
        office.home.nobody();
        set_up(&office.home.sandbox, &format!("{}/token", office.service.origin()));
        office
    }
}

pub(super) fn clients() -> Vec<Start> {
    let start: Start = Box::new(|| Box::new(Office::start()));
    here(&[Peer::GoogleAuth]).then_some(start).into_iter().collect()
}

impl Client for Office {
    fn name(&self) -> String {
        "google-auth".to_owned()
    }

    fn home(&self) -> &Home {
        &self.home
    }

    fn url(&self) -> String {
        format!("https://iam.googleapis.com/{PROVIDER}")
    }

    fn ask(&self, _number: usize) -> Run {
        obtain(&self.home.sandbox)
    }

    fn tokens(&self) -> Vec<String> {
        let requests = self.service.journal().snapshot();
        requests.iter().filter_map(|entry| entry.request.field("subject_token")).collect()
    }

    fn signs_in(&self) -> bool {
        false
    }
}

/// Issue 3, item 7: google-auth gets the identity token of the job, although it reads standard
/// error as part of the answer and GitHub's runner wants a line there.
#[test]
fn google_auth_trades_the_identity_of_the_job() {
    if !here(&[Peer::GoogleAuth]) {
        return;
    }
    let cloud = Cloud::new();
    cloud.token().env("VALETKEY_LOG", "debug").run().assert(0, "issued-1-for-id-1\n", "");
    let form = cloud.job.asked("/token")[0].request.form();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| &**value);
    assert_eq!(field("audience"), Some(&*format!("//iam.googleapis.com/{PROVIDER}")));
    let identity = field("subject_token").expect("a token");
    let audience = crate::lab::job::claim(identity, "aud");
    assert_eq!(audience, Some(format!("https://iam.googleapis.com/{PROVIDER}")));
}

/// What goes wrong arrives as google-auth's own error, with our words.
#[test]
fn google_auth_says_what_we_say() {
    if !here(&[Peer::GoogleAuth]) {
        return;
    }
    let cloud = Cloud::new();
    cloud.job.next("/idtoken", Answer::json(403, &json!({ "message": "not you" })));
    let refused = cloud.token().run();
    refused.assert_status(1).assert_stdout("").assert_stderr_has(
        "RefreshError: Executable returned unsuccessful response: code: 401, message: \
         github-actions gives no identity token, it answered 403: not you.",
    );
    cloud.job.sandbox.config("stoer = 1\n");
    cloud.token().run().assert_status(1).assert_stderr_has("stoer is no setting");
}

/// The file that google-auth reads before it runs us: one exchange of the platform for two.
#[test]
fn google_auth_reads_the_output_file_first() {
    if !here(&[Peer::GoogleAuth]) {
        return;
    }
    let cloud = Cloud::new();
    let output = cloud.job.sandbox.root().join("cached.json");
    let path = output.display().to_string();
    edit(&cloud.job.sandbox, |document| {
        document["credential_source"]["executable"]["output_file"] = path.into();
    });
    cloud.token().run().assert_success();
    assert_eq!(cloud.job.vouched(), 1);
    // The lab's service takes a token once, so the second exchange is refused; but we were not run.
    let again = cloud.token().run();
    again.assert_status(1).assert_stderr_has("it was shown before");
    assert_eq!(cloud.job.vouched(), 1);
    std::fs::remove_file(output).expect("it was written");
    cloud.token().run().assert_success();
    assert_eq!(cloud.job.vouched(), 2);
}
