//! The verbs for people: what they print, what they say, and how they end.

use crate::lab::{CLIENT_ID, Options, Person, Scheme};
use crate::scene::Scene;

#[test]
fn login_says_who_and_where_and_does_not_ask_twice() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let origin = scene.host.origin();
    let login = |arguments: &[&str]| {
        let arguments: Vec<&str> =
            ["login", &origin].into_iter().chain(arguments.iter().copied()).collect();
        scene.sandbox.valetkey(&arguments).run()
    };
    let first = login(&[]);
    first.assert_status(0).assert_stdout("");
    first.assert_stderr_has(&format!("signed in to {origin} as alice; kept in files in"));
    // S16: a session that works is left alone.
    login(&[]).assert_status(0).assert_stderr_has("already signed in");
    assert_eq!(browser.opened().len(), 1);
    // S15, S17: --force signs in again, as somebody else if they like.
    scene.authority.sign_in_as("bob");
    login(&["--force"]).assert_status(0).assert_stderr_has("as bob");
    assert_eq!(browser.opened().len(), 2);
    scene.sandbox.valetkey(&["whoami"]).run().assert(0, "alice at lab\nbob at lab\n", "");
    scene.sandbox.valetkey(&["whoami", &origin]).run().assert(0, "bob\n", "");
}

/// S83: a session that has expired is renewed, and that is all.
#[test]
fn login_renews_what_has_expired() {
    let scene = Scene::with(Scheme::Basic, Options { expires_in: Some(30), ..Options::default() });
    scene.sign_in();
    scene.age(20);
    scene.sandbox.valetkey(&["login", &scene.host.origin()]).run().assert_status(0);
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

/// S114, S138, S163: who signed in is learned once and told offline.
#[test]
fn whoami_tells_name_and_email_without_the_server() {
    let scene = Scene::new();
    let me = scene.authority.url("/me");
    let document = "id = \"/login\", name = \"/name\", email = \"/email\"";
    scene.sandbox.config(&format!(
        "[profile.lab]\norigins = [\"{}\"]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
         account = {{ url = \"{me}\", {document} }}\n",
        scene.host.origin(),
        scene.authority.issuer(),
    ));
    scene.sign_in();
    let asked = scene.authority.journal().snapshot().len();
    let line = "alice (alice of the lab, alice@lab.example)";
    scene.sandbox.valetkey(&["whoami", &scene.host.origin()]).run().assert(
        0,
        &format!("{line}\n"),
        "",
    );
    scene.sandbox.valetkey(&["whoami"]).run().assert(0, &format!("{line} at lab\n"), "");
    let listed = scene.sandbox.valetkey(&["list", "--json"]).run();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed[0]["name"], "alice of the lab");
    assert_eq!(listed[0]["email"], "alice@lab.example");
    assert_eq!(scene.authority.journal().snapshot().len(), asked);
}

/// S121: usable as `whoami || login`.
#[test]
fn whoami_ends_with_two_when_nobody_is_signed_in() {
    let scene = Scene::new();
    let finished = scene.sandbox.valetkey(&["whoami"]).run();
    finished.assert(2, "", "error: not signed in\nhint: valetkey login HOST\n");
    let finished = scene.sandbox.valetkey(&["whoami", &scene.host.origin()]).run();
    finished.assert_status(2).assert_stdout("");
}

#[test]
fn list_and_status_show_everything_but_the_secrets() {
    let scene = Scene::new();
    scene.sign_in();
    let pat = "protocol=https\nhost=github.com\nusername=me\npassword=ghp_0123456789abcdef\n";
    scene.sandbox.valetkey(&["store"]).stdin(pat).run().assert(0, "", "");
    let listed = scene.sandbox.valetkey(&["list"]).run();
    let text = listed.stdout_text();
    assert!(text.contains("lab  alice, signed in for 60 minutes\n"), "{text}");
    assert!(
        text.contains("https://github.com  me, a stored credential (ghp_..., SHA-256 "),
        "{text}"
    );
    assert!(!text.contains("0123456789"), "{text}");
    let json = scene.sandbox.valetkey(&["list", "--json"]).run();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json[1]["account"], "me");
    assert_eq!(json[1]["prefix"], "ghp_");
    assert_eq!(json[0]["profile"], "lab");
    assert_eq!(json[0]["renewable"], true);
    let origin = scene.host.origin();
    let status = scene.sandbox.valetkey(&["status", &origin]).run();
    let expected = format!("{origin}: profile lab; answered by alice, signed in for 60 minutes\n");
    status.assert(0, &expected, "");
    let unknown = scene.sandbox.valetkey(&["status", "https://nowhere.example"]).run();
    unknown.assert_status(2);
    assert_eq!(unknown.stdout_text(), "https://nowhere.example: no profile; answered by nothing\n");
}

#[test]
fn token_prints_one_valid_token_and_never_opens_a_browser() {
    let scene = Scene::with(Scheme::Basic, Options { expires_in: Some(30), ..Options::default() });
    let browser = scene.browser(Person::Approves);
    let origin = scene.host.origin();
    let miss = scene.sandbox.valetkey(&["token", &origin]).run();
    let expected = format!("error: not signed in to {origin}\nhint: valetkey login {origin}\n");
    miss.assert(2, "", &expected);
    scene.sandbox.valetkey(&["login", &origin]).run().assert_status(0);
    scene.age(20);
    let hit = scene.sandbox.valetkey(&["token", &origin]).run();
    hit.assert_status(0);
    let token = hit.stdout_text();
    assert!(scene.authority.token_is_live(token.trim_end()));
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    assert_eq!(browser.opened().len(), 1);
}

/// S19, S95 to S98, S155: both tokens are revoked, nothing is left, and again is no error.
#[test]
fn logout_revokes_forgets_and_can_be_repeated() {
    let scene = Scene::new();
    scene.sign_in();
    let origin = scene.host.origin();
    let out = scene.sandbox.valetkey(&["logout", &origin]).run();
    out.assert_status(0).assert_stdout("").assert_stderr_has("the tokens are revoked");
    assert_eq!(scene.authority.live_grants(), 0);
    scene.sandbox.valetkey(&["logout", &origin]).run().assert_status(0);
    scene.sandbox.valetkey(&["list", "--json"]).run().assert(0, "[]\n", "");
    scene.get().run().assert_status(2).assert_stdout("");
}

/// S102, S122: local only, and said.
#[test]
fn logout_local_tells_nobody() {
    let scene = Scene::new();
    scene.sign_in();
    let out = scene.sandbox.valetkey(&["logout", "--local", &scene.host.origin()]).run();
    out.assert_status(0).assert_stderr_has("live until they expire");
    assert_eq!(scene.authority.live_grants(), 1);
    assert_eq!(scene.authority.asked("/revoke"), 0);
}

#[test]
fn a_typing_mistake_gets_a_suggestion_and_a_program_gets_silence() {
    let scene = Scene::new();
    let finished = scene.sandbox.valetkey(&["logn", "x"]).run();
    finished.assert_status(64).assert_stdout("").assert_stderr_has("hint: ");
    finished.assert_stderr_has("login");
    // gitcredentials(7): an operation of a later git is ignored silently.
    scene.sandbox.valetkey(&["approve-later"]).run().assert(0, "", "");
    scene.sandbox.valetkey(&["git", "approve-later"]).run().assert(0, "", "");
    let nothing = scene.sandbox.valetkey(&[]).run();
    nothing.assert_status(64).assert_stdout("").assert_stderr_has("get|store|erase|capability");
    scene.sandbox.valetkey(&["git"]).run().assert_status(64).assert_stdout("");
    scene.sandbox.valetkey(&["--help"]).run().assert_status(0).assert_stderr_has("");
    scene.sandbox.valetkey(&["completions", "bash"]).run().assert_status(0);
}

/// A file that others can write decides nothing.
#[test]
fn a_configuration_that_others_can_write_is_refused() {
    let scene = Scene::new();
    scene.sandbox.write("config/valetkey/config.toml", b"store = \"file\"\n", 0o622);
    let finished = scene.get().run();
    finished.assert_status(78).assert_stdout("").assert_stderr_has("hint: chmod go-w");
}
