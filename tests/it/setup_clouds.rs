//! `valetkey setup aws|google`: what it writes, what it leaves alone, and what it takes back. That
//! AWS's command line and google-auth then ask us is shown in `peers::aws` and `peers::google`.

use serde_json::{Value, json};

use crate::lab::{Finished, Sandbox};
use crate::scene::program;

const STS: &str = "https://sts.eu-central-1.amazonaws.com";
const PROVIDER: &str = "projects/1/locations/global/workloadIdentityPools/p/providers/r";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new(program());
    sandbox.env("VALETKEY_STORE", "file");
    sandbox.link("valetkey");
    let role = |path: &str| {
        format!("{{ url = \"{STS}{path}\", exchange = \"aws-sts\", role = \"arn{path}\" }}")
    };
    sandbox.config(&format!(
        "[profile.clouds]\nissuer = \"https://i.example\"\nclient_id = \"c\"\n\
         origins = [{}, {}, \"https://git.example\", \"https://iam.googleapis.com/{PROVIDER}\"]\n",
        role(""),
        role("/deploy/it"),
    ));
    sandbox
}

fn setup(sandbox: &Sandbox, words: &[&str]) -> Finished {
    sandbox.valetkey(&[&["setup"], words].concat()).run()
}

fn text(sandbox: &Sandbox, path: &str) -> Option<String> {
    std::fs::read_to_string(sandbox.root().join(path)).ok()
}

const CONFIG: &str = "home/.aws/config";

#[test]
fn aws_gets_a_profile_for_each_role() {
    let sandbox = sandbox();
    let link = sandbox.bin().join("valetkey").display().to_string();
    let both = format!(
        "[profile valetkey]\ncredential_process = {link} aws {STS}\n\n\
         [profile valetkey-deploy-it]\ncredential_process = {link} aws {STS}/deploy/it\n"
    );
    let printed = setup(&sandbox, &["aws", "--print"]);
    printed.assert_status(0);
    assert!(printed.stdout_text().contains(&both), "{printed}");
    assert!(text(&sandbox, CONFIG).is_none());
    setup(&sandbox, &["aws"])
        .assert_status(0)
        .assert_stderr_has("aws --profile valetkey-deploy-it");
    assert_eq!(text(&sandbox, CONFIG).as_deref(), Some(&*both));
    setup(&sandbox, &["aws"]).assert_status(0).assert_stderr_has("nothing to do");
    setup(&sandbox, &["aws", "--undo", "--host", STS]).assert_status(0);
    let left = text(&sandbox, CONFIG).expect("a file");
    assert!(!left.contains("[profile valetkey]") && left.contains("[profile valetkey-deploy-it]"));
    setup(&sandbox, &["aws", "--undo"]).assert_status(0);
    assert!(text(&sandbox, CONFIG).is_none());
    setup(&sandbox, &["aws", "--undo"]).assert_stderr_has("nothing to undo");
    // Another place, as CI systems like it.
    let path = sandbox.root().join("work/aws.ini");
    sandbox.env("AWS_CONFIG_FILE", &path);
    setup(&sandbox, &["aws", "--host", STS]).assert_status(0);
    assert!(text(&sandbox, "work/aws.ini").expect("a file").contains("credential_process"));
}

#[test]
fn aws_keeps_what_it_had() {
    let sandbox = sandbox();
    let before = "# mine\n[default]\nregion = x\n\n[profile valetkey]\nregion = eu-central-1\n";
    sandbox.write(CONFIG, before.as_bytes(), 0o640);
    setup(&sandbox, &["aws", "--host", STS]).assert_status(0);
    let changed = text(&sandbox, CONFIG).expect("a file");
    assert!(
        changed.starts_with("# mine\n[default]\nregion = x\n\n[profile valetkey]\ncredential_")
    );
    assert!(changed.ends_with("\nregion = eu-central-1\n"));
    setup(&sandbox, &["aws", "--undo"]).assert_status(0);
    assert_eq!(text(&sandbox, CONFIG).as_deref(), Some(before));
    let other = "[profile valetkey]\ncredential_process = other thing\n";
    sandbox.write(CONFIG, other.as_bytes(), 0o640);
    let refused = setup(&sandbox, &["aws", "--host", STS]);
    refused.assert_status(1).assert_stderr_has("has credential_process = other thing already");
    assert_eq!(text(&sandbox, CONFIG).as_deref(), Some(other));
    setup(&sandbox, &["aws", "--undo"]).assert_stderr_has("nothing to undo");
    setup(&sandbox, &["aws", "--host", STS, "--replace"]).assert_status(0);
    assert!(!text(&sandbox, CONFIG).expect("a file").contains("other"));
}

#[test]
fn google_gets_a_configuration_that_a_person_may_add_to() {
    let sandbox = sandbox();
    let printed = setup(&sandbox, &["google", "--print"]);
    printed.assert_status(0);
    let name = "config/valetkey/google_projects_1_locations_global_workloadIdentityPools_p_providers_r.json";
    assert!(printed.stdout_text().contains("export GOOGLE_APPLICATION_CREDENTIALS="));
    assert!(text(&sandbox, name).is_none());
    setup(&sandbox, &["google"]).assert_status(0).assert_stdout("");
    let written: Value =
        serde_json::from_str(&text(&sandbox, name).expect("a file")).expect("JSON");
    let command = format!("{} google", sandbox.bin().join("valetkey").display());
    assert_eq!(
        written,
        json!({
            "type": "external_account",
            "audience": format!("//iam.googleapis.com/{PROVIDER}"),
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": { "executable": { "command": command } },
        })
    );
    setup(&sandbox, &["google"]).assert_stderr_has("nothing to do");
    let mut own = written.clone();
    own["service_account_impersonation_url"] = "https://x".into();
    own["credential_source"]["executable"]["command"] = "/gone/valetkey google".into();
    sandbox.write(name, own.to_string().as_bytes(), 0o600);
    setup(&sandbox, &["google", "--host", &format!("//iam.googleapis.com/{PROVIDER}")])
        .assert_status(0);
    own["credential_source"]["executable"]["command"] = command.into();
    let now: Value = serde_json::from_str(&text(&sandbox, name).expect("a file")).expect("JSON");
    assert_eq!(now, own);
    sandbox.write(name, b"[[", 0o600);
    setup(&sandbox, &["google"]).assert_status(1).assert_stderr_has("is not a JSON object");
    // What a person wrote is not setup's to remove, whatever it is.
    setup(&sandbox, &["google", "--undo"])
        .assert_status(1)
        .assert_stderr_has("hint: mend it, or rm");
    assert_eq!(text(&sandbox, name).as_deref(), Some("[["));
    sandbox.write(name, own.to_string().as_bytes(), 0o600);
    setup(&sandbox, &["google", "--undo"]).assert_status(0);
    own.as_object_mut().expect("an object").remove("credential_source");
    let left: Value = serde_json::from_str(&text(&sandbox, name).expect("a file")).expect("JSON");
    assert_eq!(left, own);
    setup(&sandbox, &["google", "--undo"]).assert_stderr_has("nothing to undo");
}

#[test]
fn a_cloud_that_no_profile_serves_is_refused() {
    let sandbox = sandbox();
    for words in [["aws", "--host", "git.example"], ["google", "--host", "git.example"]] {
        setup(&sandbox, &words).assert_status(78).assert_stderr_has("no profile ");
    }
    sandbox.config("");
    for tool in ["aws", "google"] {
        setup(&sandbox, &[tool]).assert_status(78).assert_stderr_has("hint: add an origin ");
    }
}
