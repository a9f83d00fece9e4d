//! google-auth runs `valetkey google`, by the configuration that `setup google` writes, and trades
//! what it gets at a scripted token service.

use serde_json::{Value, json};

use super::{Peer, here, installed, peer};
use crate::lab::{Answer, Job, Run};
use crate::scene::program;

const PROVIDER: &str = "projects/1/locations/global/workloadIdentityPools/p/providers/r";

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
        job.sandbox.link("valetkey");
        let told = job.sandbox.valetkey(&["setup", "google"]).run();
        told.assert_status(0);
        let cloud = Self { job };
        let file = cloud.file();
        // The token service is elsewhere; everything else is as it was written.
        let token = cloud.job.url("/token");
        cloud.edit(|document| document["token_url"] = token.into());
        cloud.job.sandbox.valetkey(&["setup", "google"]).run().assert_stderr_has("nothing to do");
        cloud
            .job
            .sandbox
            .env("GOOGLE_APPLICATION_CREDENTIALS", &file)
            .env("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
            .env("GOOGLE_CLOUD_PROJECT", "lab")
            .env("NO_GCE_CHECK", "true");
        cloud
    }

    fn file(&self) -> std::path::PathBuf {
        let files = self.job.sandbox.files();
        let found = files.into_iter().find(|file| {
            let name = file.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("google_")
        });
        self.job.sandbox.root().join(found.expect("a configuration").path)
    }

    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let text = std::fs::read_to_string(self.file()).expect("a file");
        let mut document: Value = serde_json::from_str(&text).expect("JSON");
        change(&mut document);
        let text = serde_json::to_string_pretty(&document).expect("JSON") + "\n";
        std::fs::write(self.file(), text).expect("a file");
    }

    fn token(&self) -> Run {
        let python = installed().join("google-auth/bin/python");
        self.job.sandbox.run(python, &[]).arg(peer("google-auth/obtain.py"))
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
    cloud.edit(|document| {
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
