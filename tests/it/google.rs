//! `valetkey google`, the executable source of Google's `external_account` credentials. What
//! google-auth itself makes of it is in `peers::google`.

use serde_json::{Value, json};

use crate::lab::job::{EXPIRES, jwt};
use crate::lab::{Answer, Authority, Browser, CLIENT_ID, Finished, Job, Person, Run, Sandbox};
use crate::scene::program;

const PROVIDER: &str = "projects/1/locations/global/workloadIdentityPools/p/providers/r";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

fn job() -> Job {
    let job = Job::new(program());
    job.sandbox.config(&format!(
        "[profile.google]\norigins = [\"https://iam.googleapis.com/{PROVIDER}\"]\n\
         flow = \"workload\"\n[profile.google.workload]\nexchange = \"none\"\n"
    ));
    job
}

/// As google-auth calls it.
fn google(sandbox: &Sandbox) -> Run {
    sandbox
        .valetkey(&["google"])
        .env("GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE", format!("//iam.googleapis.com/{PROVIDER}"))
        .env("GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE", JWT)
        .env("GOOGLE_EXTERNAL_ACCOUNT_INTERACTIVE", "0")
        .env("GOOGLE_EXTERNAL_ACCOUNT_REVOKE", "0")
}

/// The answer, of which nothing may be on standard error.
#[track_caller]
fn answer(finished: &Finished) -> Value {
    finished.assert_status(0);
    assert!(finished.stderr.is_empty(), "google-auth would read this too: {finished}");
    serde_json::from_slice(&finished.stdout).expect("one JSON object")
}

/// GE3: the identity token of the job, for the very provider, and not one byte on standard error:
/// not even the line that masks it.
#[test]
fn a_job_gets_its_identity_token_and_standard_error_stays_empty() {
    let job = job();
    let token = jwt(&format!("https://iam.googleapis.com/{PROVIDER}"), 1);
    google(&job.sandbox).env("VALETKEY_LOG", "debug").run().assert(
        0,
        &format!(
            "{{\"version\":1,\"success\":true,\"token_type\":\"{JWT}\",\"id_token\":\"{token}\",\
             \"expiration_time\":{EXPIRES}}}\n"
        ),
        "",
    );
    assert!(job.sandbox.files_with(token.as_bytes()).is_empty());
    let other = google(&job.sandbox).remove_env("GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE").run();
    assert_eq!(answer(&other)["token_type"], "urn:ietf:params:oauth:token-type:id_token");
}

/// GE6: every failure is a JSON object with exit status 0, even of the configuration.
#[test]
fn every_failure_is_said_in_the_answer() {
    let job = job();
    let failed = |run: Run, code: &str, says: &str| {
        let finished = run.run();
        let answer = answer(&finished);
        assert_eq!(
            (&answer["success"], &answer["code"]),
            (&json!(false), &json!(code)),
            "{answer}"
        );
        assert_eq!(answer["version"], 1);
        let message = answer["message"].as_str().expect("a message");
        assert!(message.contains(says), "{message}");
        assert!(!message.contains(char::is_control), "{message:?}");
    };
    let variable = |name: &str| format!("GOOGLE_EXTERNAL_ACCOUNT_{name}");
    let with = |name: &str, value: &str| google(&job.sandbox).env(&variable(name), value);
    failed(google(&job.sandbox).arg("x"), "400", "nothing may follow google");
    failed(google(&job.sandbox).remove_env(&variable("AUDIENCE")), "400", "no audience is given");
    failed(with("AUDIENCE", "https://a.example"), "400", "the audience is no name");
    failed(with("AUDIENCE", "//iam.googleapis.com/other"), "401", "no profile serves");
    failed(with("AUDIENCE", "//\u{1b}[31m/x"), "400", "");
    let saml = "urn:ietf:params:oauth:token-type:saml2";
    failed(with("TOKEN_TYPE", saml), "400", "only jwt and id_token");
    failed(with("REVOKE", "1"), "400", "valetkey logout");
    for _ in 0..2 {
        job.next("/idtoken", Answer::empty(503));
    }
    failed(google(&job.sandbox), "503", "answered 503; try again");
    let no = json!({ "message": "no\u{1b}[31m way" });
    job.next("/idtoken", Answer::json(403, &no));
    failed(google(&job.sandbox), "401", "gives no identity token, it answered 403: no[31m way");
    let bare = google(&job.sandbox).remove_env("ACTIONS_ID_TOKEN_REQUEST_URL");
    failed(bare, "500", "permissions: { id-token: write }");
    job.sandbox.config("stoer = 1\n");
    failed(google(&job.sandbox), "500", "stoer is no setting; did you mean store?");
}

/// GE7: the answer also goes to the file that google-auth reads first, private, replaced whole,
/// and only with an end.
#[test]
fn the_output_file_is_private_and_holds_answers_only() {
    let job = job();
    let path = job.sandbox.write("work/out/cached.json", b"{}", 0o644);
    let with_file = || google(&job.sandbox).env("GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE", &path);
    let finished = with_file().run();
    answer(&finished);
    let seen = || {
        let files = job.sandbox.files();
        files.into_iter().find(|file| file.path.ends_with("cached.json")).expect("a file")
    };
    assert_eq!((seen().content, seen().mode), (finished.stdout, 0o600));
    let before = seen().content;
    job.next("/idtoken", Answer::json(403, &json!({})));
    assert_eq!(answer(&with_file().run())["success"], false);
    assert_eq!(seen().content, before, "a failure is no reason to touch it");
}

/// GE5: the ID token of a person's session, and never a sign-in, whatever google-auth would allow.
#[test]
fn a_persons_session_serves_and_nobody_is_asked() {
    let authority = Authority::start();
    let sandbox = Sandbox::new(program());
    sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "always");
    let url = format!("https://iam.googleapis.com/{PROVIDER}");
    sandbox.config(&format!(
        "[profile.google]\norigins = [{{ url = \"{url}\", token = \"id\" }}]\nissuer = \"{}\"\n\
         client_id = \"{CLIENT_ID}\"\nscopes = [\"openid\"]\n",
        authority.issuer(),
    ));
    let browser = Browser::start(&sandbox, Person::Approves);
    let ask = || google(&sandbox).env("GOOGLE_EXTERNAL_ACCOUNT_INTERACTIVE", "1").run();
    let refused = answer(&ask());
    assert_eq!(refused["code"], "401");
    let message = refused["message"].as_str().expect("a message");
    assert_eq!(message, format!("not signed in to {url}; valetkey login {url}"));
    assert!(browser.opened().is_empty());
    sandbox.valetkey(&["login", &url]).run().assert_status(0);
    let first = answer(&ask());
    assert_eq!(answer(&ask()), first);
    // Fresh again after a silent renewal.
    crate::scene::age(&sandbox, 3595);
    assert!(answer(&ask())["expiration_time"].as_u64() >= first["expiration_time"].as_u64());
    assert_eq!((browser.opened().len(), authority.asked_for("refresh_token")), (1, 1));
}
