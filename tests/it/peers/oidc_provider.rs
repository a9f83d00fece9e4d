//! Every flow against an OpenID-certified authorization server: sign in, renew, revoke, and what
//! happens when fifty programs want the same at once.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::approver::Approver;
use super::provider::Scene;
use super::{Peer, heavy, here, peer};
use crate::lab::{Finished, Run, Started};
use crate::scene::value;

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// As the journal shows a secret.
fn shown(secret: &str) -> String {
    Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hexadecimal: &Value) -> Vec<u8> {
    let text = hexadecimal.as_str().expect("a fingerprint");
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(pair).collect()
}

fn statuses(entries: &[Value]) -> Vec<u64> {
    entries.iter().map(|entry| entry["status"].as_u64().expect("a status")).collect()
}

/// As many programs at once as a workstation that wakes up starts.
#[track_caller]
fn fifty(run: impl Fn() -> Run) -> Vec<Finished> {
    let all: Vec<Started> = (0..50).map(|_| run().start()).collect();
    all.into_iter().map(Started::wait).collect()
}

/// The one token that all of them printed.
#[track_caller]
fn same_password(all: &[Finished]) -> String {
    let first = value(&all[0], "password").unwrap_or_else(|| panic!("no password, {}", all[0]));
    for finished in all {
        finished.assert_status(0);
        assert_eq!(value(finished, "password").as_ref(), Some(&first), "{finished}");
    }
    first
}

#[test]
fn a_clone_signs_in_by_the_browser_once_and_is_silent_ever_after() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let scene = Scene::new(&[]);
    let person = Approver::start(&scene.sandbox);
    scene.person(true);
    scene.git_clone("first").run().assert_status(0).assert_stdout("");
    let end = person.ends(1).remove(0);
    assert_eq!((&end["steps"], &end["status"]), (&json!(["login", "consent"]), &json!(200)));
    assert_eq!(end["title"], "valetkey: signed in");

    scene.person(false);
    scene.git_clone("second").run().assert(0, "", "");
    scene.fetch("first").run().assert(0, "", "");
    assert_eq!(person.opened().len(), 1);

    // RFC 7636: the verifier that went to the token endpoint is what the browser's URL promised.
    let asked = scene.provider.journal("/auth").remove(0);
    let query = &asked["query"];
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["scope"], "openid offline_access");
    let exchanges = scene.provider.journal("/token");
    let [exchange] = exchanges.as_slice() else { panic!("one token request, {exchanges:#?}") };
    assert_eq!(exchange["form"]["grant_type"], "authorization_code");
    let promised = BASE64_URL_SAFE_NO_PAD.encode(bytes(&exchange["form"]["code_verifier"]));
    assert_eq!(query["code_challenge"], json!(promised));
    assert_eq!(exchange["form"]["redirect_uri"], query["redirect_uri"]);
    assert_eq!(exchange["form"]["client_secret"], Value::Null);
    assert_eq!(exchange["issued"]["scope"], "openid offline_access");
    // RFC 9207, and the state that we sent.
    let resumed = |path: &str| path.starts_with("/auth/");
    let journal = crate::lab::http_get(&format!("{}/lab/journal", scene.provider.issuer)).json();
    let last = journal.as_array().expect("a list").iter().rfind(|entry| {
        entry["path"].as_str().is_some_and(resumed) && entry["location"] == query["redirect_uri"]
    });
    let last = last.unwrap_or_else(|| panic!("no redirect to us in {journal:#}"));
    assert_eq!(last["parameters"]["iss"], json!(scene.provider.issuer));
    assert_eq!(last["parameters"]["state"], query["state"]);

    // The name comes from the userinfo endpoint, and is asked for once.
    let named = scene.provider.journal("/me");
    assert_eq!(statuses(&named), [200]);
    assert_eq!(named[0]["authorization"]["scheme"], "Bearer");
    assert_eq!(named[0]["authorization"]["sha256"], exchange["issued"]["access_token"]);
    scene.valetkey("whoami").assert(0, "alice\n", "");
}

#[test]
fn a_sign_in_that_is_refused_ends_the_clone() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let scene = Scene::new(&[]);
    let person = Approver::with(&scene.sandbox, &peer("oidc-provider/approve.mjs"), "--deny", "");
    scene.person(true);
    let finished = scene.git_clone("first").run();
    assert_ne!(finished.status, 0);
    finished.assert_stderr_has(&format!("the sign-in to {} was refused", scene.host.origin()));
    let end = person.ends(1).remove(0);
    assert_eq!(end["title"], "valetkey: not signed in", "{end}");
    scene.get().run().assert_status(2).assert_stdout("");
    assert_eq!(person.opened().len(), 1, "who said no is not asked again at once");
    assert_eq!(scene.provider.journal("/token"), [] as [Value; 0]);
}

/// What stands behind a prefix on a line of a text.
fn behind<'a>(text: &'a str, prefix: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(prefix));
    line.unwrap_or_else(|| panic!("no {prefix:?} in {text}")).trim()
}

#[test]
fn a_device_is_approved_with_the_code_on_the_terminal() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let scene = Scene::new(&["--device-interval", "1"]);
    scene.sandbox.remove_env("VALETKEY_INTERACTIVE");
    let arguments = ["login", "--flow", "device", "--no-browser", &scene.host.origin()];
    let login = scene.sandbox.valetkey(&arguments).terminal().start();
    login.terminal_expect("only do so if");
    let shown = login.terminal_text();
    let code = behind(&shown, "and enter the code ");
    let address = behind(&shown, &format!("to sign in to {}, open ", scene.host.origin()));
    assert_eq!(address, format!("{}/device", scene.provider.issuer));
    let program = peer("oidc-provider/approve.mjs");
    scene
        .sandbox
        .run("node", &[])
        .arg(program)
        .arg("--code")
        .arg(code)
        .arg(address)
        .run()
        .assert_status(0);
    let finished = login.wait();
    finished.assert(0, "", "").assert_terminal_has(" as alice");

    let asked = scene.provider.journal("/device/auth").remove(0);
    assert_eq!(asked["form"]["scope"], "openid offline_access");
    let polls = scene.provider.asked_for(DEVICE);
    assert_eq!(statuses(&polls).last(), Some(&200));
    assert!(scene.provider.is_live(&scene.token()));
    // The refresh token of a device lives as any other.
    scene.provider.revoke_access(&scene.token());
    scene.git_clone("s").run().assert(0, "", "");
    assert_eq!(statuses(&scene.provider.asked_for("refresh_token")), [200]);
}

#[test]
fn a_device_without_a_terminal_is_approved_by_its_link_in_a_clone() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let scene = Scene::new(&["--device-interval", "1"]);
    scene.person(true);
    scene.sandbox.env("VALETKEY_FLOW", "device");
    let clone = scene.git_clone("s").start();
    clone.expect_stderr("only do so if");
    let devices = scene.provider.journal("/device/auth");
    assert_eq!(devices.len(), 1);
    clone.expect_stderr("or open http");
    let said = clone.stderr_text();
    let link = behind(&said, "or open ");
    let program = peer("oidc-provider/approve.mjs");
    scene.sandbox.run("node", &[]).arg(program).arg(link).run().assert_status(0);
    clone.wait().assert_status(0).assert_stdout("");
    scene.person(false);
    scene.git_clone("again").run().assert(0, "", "");
}

#[test]
fn fifty_gets_with_an_expired_token_cost_one_refresh() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let scene = Scene::new(&["--access-ttl", "1"]);
    let _person = Approver::start(&scene.sandbox);
    scene.person(true);
    scene.valetkey("login").assert_status(0);
    scene.person(false);
    scene.provider.tokens_live(3600);
    crate::scene::age(&scene.sandbox, 1);
    let token = same_password(&fifty(|| scene.get()));
    let refreshed = scene.provider.asked_for("refresh_token");
    assert_eq!(statuses(&refreshed), [200]);
    assert_eq!(refreshed[0]["issued"]["access_token"], json!(shown(&token)));
    assert!(scene.provider.is_live(&token));

    // A refresh token that went out twice would have ended the grant.
    scene.provider.revoke_access(&token);
    scene.git_clone("s").run().assert(0, "", "");
    assert_eq!(statuses(&scene.provider.asked_for("refresh_token")), [200, 200]);
}

#[test]
fn fifty_gets_through_the_keychain_cost_one_refresh() {
    if !here(&[Peer::OidcProvider, Peer::Keyring]) {
        return;
    }
    let scene = Scene::new(&["--access-ttl", "1"]);
    let _person = Approver::start(&scene.sandbox);
    scene.sandbox.env("VALETKEY_STORE", "keychain");
    scene.sandbox.write("work/question", scene.question().as_bytes(), 0o644);
    let _heavy = heavy();
    let script = "VALETKEY_INTERACTIVE=always \"$0\" login \"$1\" && read -r _ || exit 1\n\
        for i in $(seq 50); do \"$0\" get <question >answer.$i 2>trouble.$i & done; wait\n\
        cat answer.*; cat trouble.* >&2; echo the fifty; read -r _\n\
        \"$0\" erase <rejected && \"$0\" token \"$1\"";
    let mut running = scene
        .sandbox
        .run(peer("with-keyring"), &["sh", "-c", script])
        .arg(crate::scene::program())
        .arg(scene.host.origin())
        .stdin_open()
        .start();
    running.expect_stderr("kept in the ");
    scene.provider.tokens_live(3600);
    // What lies in the keychain cannot be made older: the token's one second has to pass.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    running.send("go\n");
    running.expect_stdout("the fifty\n");
    let printed = running.stdout_text();
    let passwords: Vec<&str> =
        printed.lines().filter_map(|line| line.strip_prefix("password=")).collect();
    assert_eq!(passwords.len(), 50, "{printed}\n{}", running.stderr_text());
    assert!(passwords.iter().all(|password| *password == passwords[0]), "{passwords:?}");
    assert_eq!(statuses(&scene.provider.asked_for("refresh_token")), [200]);

    // The grant lives on.
    let rejected = format!("{}username=oauth2\npassword={}\n", scene.question(), passwords[0]);
    scene.sandbox.write("work/rejected", rejected.as_bytes(), 0o600);
    running.send("go\n");
    let finished = running.wait();
    finished.assert_status(0);
    let printed = finished.stdout_text();
    let newest = printed.lines().last().expect("a token");
    assert!(newest != passwords[0] && scene.provider.is_live(newest), "{finished}");
    assert_eq!(statuses(&scene.provider.asked_for("refresh_token")), [200, 200]);
    assert_eq!(scene.sandbox.files_with(newest.as_bytes()), [] as [std::path::PathBuf; 0]);
}

#[test]
fn fifty_gets_with_nothing_stored_cost_one_sign_in() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let scene = Scene::new(&[]);
    let person = Approver::start(&scene.sandbox);
    scene.person(true);
    let token = same_password(&fifty(|| scene.get()));
    assert!(scene.provider.is_live(&token));
    assert_eq!(person.opened().len(), 1);
    assert_eq!(scene.provider.journal("/token").len(), 1);
}

#[test]
fn a_logout_revokes_the_refresh_token_first() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let scene = Scene::new(&[]);
    let _person = Approver::start(&scene.sandbox);
    let sign_in = || {
        scene.person(true);
        scene.valetkey("login").assert_status(0);
        scene.person(false);
        scene.token()
    };
    let kept = sign_in();
    let origin = scene.host.origin();
    let local = scene.sandbox.valetkey(&["logout", "--local", &origin]).run();
    local.assert_status(0).assert_stdout("");
    assert_eq!(scene.provider.journal("/token/revocation"), [] as [Value; 0]);
    assert!(scene.provider.is_live(&kept), "nobody told the server");
    scene.get().run().assert_status(2).assert_stdout("");

    let token = sign_in();
    scene.valetkey("logout").assert_status(0).assert_stdout("");
    let told = scene.provider.journal("/token/revocation");
    assert_eq!(statuses(&told), [200, 200]);
    let issued = &scene.provider.asked_for("authorization_code")[1]["issued"];
    let forms: Vec<&Value> = told.iter().map(|entry| &entry["form"]).collect();
    assert_eq!(forms[0]["token_type_hint"], "refresh_token");
    assert_eq!(forms[0]["token"], issued["refresh_token"]);
    assert_eq!(forms[1]["token_type_hint"], "access_token");
    assert_eq!(forms[1]["token"], json!(shown(&token)));
    assert!(!scene.provider.is_live(&token));
    assert!(scene.provider.is_live(&kept), "another session is no business of this one");
    scene.valetkey("logout").assert_status(0);
    assert_eq!(scene.provider.journal("/token/revocation").len(), 2);
}

#[test]
fn what_is_revoked_is_replaced_inside_the_same_command() {
    if !here(&[Peer::OidcProvider]) {
        return;
    }
    let scene = Scene::new(&[]);
    let person = Approver::start(&scene.sandbox);
    scene.person(true);
    scene.git_clone("s").run().assert_status(0);
    scene.person(false);

    scene.provider.revoke_access(&scene.token());
    scene.fetch("s").run().assert(0, "", "");
    assert_eq!(statuses(&scene.provider.asked_for("refresh_token")), [200]);

    scene.provider.revoke_grants();
    scene.person(true);
    scene.fetch("s").run().assert_status(0).assert_stdout("");
    assert_eq!(person.opened().len(), 2);
    assert_eq!(statuses(&scene.provider.asked_for("refresh_token")), [200, 400]);

    scene.provider.revoke_grants();
    scene.person(false);
    let finished = scene.fetch("s").run();
    assert_ne!(finished.status, 0, "{finished}");
    finished.assert_stderr_has(&format!("hint: valetkey login {}", scene.host.origin()));
    assert_eq!(person.opened().len(), 2);
}
