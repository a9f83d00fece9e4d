//! SkillMeat: device flow with an audience, everything by variables, and a mode without sign-in.

use crate::lab::systems::skillmeat::{AUDIENCE, CLIENT, Skillmeat, State, USER_CODE};
use crate::lab::{Browser, Finished, Person, http};
use crate::scene::age;

type Scene = super::Scene<State>;

impl Scene {
    fn new() -> Self {
        let scene = Self::unconfigured();
        scene
            .sandbox
            .env("SKILLMEAT_AUTH_ISSUER_URL", scene.site.origin())
            .env("SKILLMEAT_AUTH_CLIENT_ID", CLIENT)
            .env("SKILLMEAT_AUTH_AUDIENCE", AUDIENCE);
        scene
    }

    /// None of the variables is set.
    fn unconfigured() -> Self {
        let takes = |site: &Skillmeat, token: &str| site.takes(token);
        Self::at(Skillmeat::start(), takes, |origin, git| {
            format!(
                "[profile.skillmeat]\norigins = [\"{origin}\", \"{git}\"]\n\
                issuer_env = \"SKILLMEAT_AUTH_ISSUER_URL\"\nclient_id_env = \"SKILLMEAT_AUTH_CLIENT_ID\"\n\
                audience_env = \"SKILLMEAT_AUTH_AUDIENCE\"\ntoken_env = [\"SKILLMEAT_AUTH_TOKEN\"]\n\
                flow = \"device\"\nrevoke = false\n\
                flow_env = {{ name = \"SKILLMEAT_AUTH_MODE\", words = {{ clerk = \"device\", local = \"none\" }} }}\n"
            )
        })
    }

    fn person(&self) {
        self.sandbox.env("VALETKEY_INTERACTIVE", "always");
    }

    fn sign_in(&self) -> Finished {
        self.person();
        let finished = self.valetkey("login", &[]).run();
        self.sandbox.env("VALETKEY_INTERACTIVE", "never");
        finished
    }

    /// What the API says to the token that a script gets.
    fn list_skills(&self) -> u16 {
        let token = self.valetkey("token", &[]).run().assert_success();
        let bearer = format!("Bearer {}", token.trim());
        let url = format!("{}/api/list", self.site.origin());
        http("GET", &url, &[("Authorization", &bearer)], b"").expect("an answer").status
    }

    fn asked(&self, path: &str) -> usize {
        self.site.journal().at_path(path).len()
    }
}

/// S60, S63, S64, S66, S75, S76, S77, S80: the code is shown with its address and its life, a
/// browser opens, we poll with the audience, and say where the tokens are.
#[test]
fn s60_login_with_a_device_code() {
    let scene = Scene::new();
    scene.person();
    let browser = Browser::start(&scene.sandbox, Person::Ignores);
    let finished = scene.valetkey("login", &[]).run();
    finished.assert_status(0).assert_stdout("");
    let origin = scene.site.origin();
    finished.assert_stderr_has(&format!("to sign in to {origin}, open {origin}/authorize"));
    finished.assert_stderr_has(&format!("and enter the code {USER_CODE}"));
    finished.assert_stderr_has("there are 10 minutes to do it");
    finished.assert_stderr_has(&format!("signed in to {origin}; kept in files in"));
    assert_eq!(browser.wait_for_opened(1), [format!("{origin}/authorize")]);
    let asked = scene.site.journal().at_path("/oauth/device");
    assert_eq!(asked[0].request.field("client_id").as_deref(), Some(CLIENT));
    assert_eq!(asked[0].request.field("audience").as_deref(), Some(AUDIENCE));
    assert_eq!(scene.list_skills(), 200);
    scene.clone("one").assert_success();
}

/// S77: without the variable no audience is asked for, and this API wants one.
#[test]
fn s77_the_audience_is_optional() {
    let scene = Scene::new();
    scene.sandbox.remove_env("SKILLMEAT_AUTH_AUDIENCE");
    scene.sign_in().assert_status(0);
    assert_eq!(scene.site.journal().at_path("/oauth/device")[0].request.field("audience"), None);
    assert_eq!(scene.list_skills(), 401);
}

/// S65, S90: nothing is opened where nobody wants it; where nothing can be opened it is said and
/// no error.
#[test]
fn s65_s90_no_browser_is_no_error() {
    let scene = Scene::new();
    scene.person();
    let browser = Browser::start(&scene.sandbox, Person::Ignores);
    let finished = scene.valetkey("login", &["--no-browser"]).run();
    finished.assert_status(0).assert_stderr_has(USER_CODE);
    assert_eq!(browser.opened().len(), 0);
    let finished = scene.valetkey("login", &["--force"]).env("BROWSER", "/nowhere/browser").run();
    finished.assert_status(0);
    finished.assert_stderr_has("no browser could be opened here: open the address on any device");
}

/// S67, D11: the person may have less time than the code has, never more, and is told so.
#[test]
fn s67_timeout_ends_at_the_life_of_the_code() {
    let scene = Scene::new();
    scene.person();
    let finished = scene.valetkey("login", &["--timeout", "900"]).run();
    finished.assert_status(0).assert_stderr_has("the server's code lives for 600 seconds");
    scene.site.turn(|knobs| knobs.answer = None);
    let finished = scene.valetkey("login", &["--force", "--timeout", "2"]).run();
    finished.assert_status(3).assert_stderr_has("nobody signed in to");
}

/// S68, S69, S99, S83: the issuer says how long a token lives; then it is renewed, by `login` too.
#[test]
fn s68_s69_tokens_are_renewed_while_the_issuer_lets_them() {
    let scene = Scene::new();
    scene.site.turn(|knobs| knobs.lifetime = 3600);
    scene.sign_in().assert_status(0);
    let before = scene.asked("/oauth/token");
    crate::scene::age(&scene.sandbox, 3570);
    assert_eq!(scene.list_skills(), 200);
    assert_eq!(scene.asked("/oauth/token"), before + 1, "within a minute of its end");
    scene.valetkey("login", &[]).run().assert_status(0).assert_stderr_has("already signed in");
    assert_eq!(scene.asked("/oauth/device"), 1);
    scene.site.end_sessions();
    crate::scene::age(&scene.sandbox, 3600);
    let finished = scene.valetkey("token", &[]).run();
    finished.assert_status(2).assert_stderr_has("not signed in to");
    finished.assert_stderr_has(&format!("hint: valetkey login {}", scene.site.origin()));
}

/// S91: expired or revoked is a new sign-in; a provider that is down is said to be down, and
/// costs nothing.
#[test]
fn s91_a_provider_that_is_down_is_said_to_be_down() {
    let scene = Scene::new();
    scene.site.turn(|knobs| knobs.lifetime = 30);
    scene.sign_in().assert_status(0);
    age(&scene.sandbox, 100);
    scene.site.turn(|knobs| knobs.down = true);
    let finished = scene.valetkey("token", &[]).run();
    finished.assert_status(5).assert_stderr_has("answered 503").assert_stderr_has("try again");
    scene.site.turn(|knobs| knobs.down = false);
    assert_eq!(scene.list_skills(), 200);
}

/// S78, S93: a variable first, then what is stored, then nothing; `status` says which it was.
#[test]
fn s78_s93_a_variable_comes_before_what_is_stored() {
    let scene = Scene::new();
    let personal = scene.site.personal_token();
    scene.valetkey("token", &[]).run().assert_status(2).assert_stdout("");
    scene.sign_in().assert_status(0);
    let stored = scene.valetkey("token", &[]).run().assert_success();
    scene.sandbox.env("SKILLMEAT_AUTH_TOKEN", &personal);
    scene.valetkey("token", &[]).run().assert(0, &format!("{personal}\n"), "");
    let status = scene.valetkey("status", &[]).run();
    assert!(status.stdout_text().contains("a variable of the environment"), "{status}");
    assert_eq!(scene.list_skills(), 200);
    scene.sandbox.remove_env("SKILLMEAT_AUTH_TOKEN");
    scene.valetkey("token", &[]).run().assert(0, &stored, "");
}

/// S62, S74, S81, S98, S97: local mode needs no sign-in and says so; nothing is asked, nothing is
/// an error, and the host is served without a credential.
#[test]
fn s81_local_mode_needs_no_sign_in() {
    let scene = Scene::unconfigured();
    scene.site.turn(|knobs| knobs.local = true);
    scene.sandbox.env("SKILLMEAT_AUTH_MODE", "local");
    scene.person();
    let origin = scene.site.origin();
    let finished = scene.valetkey("login", &[]).run();
    let says = "takes anybody, says SKILLMEAT_AUTH_MODE=local: no sign-in is needed";
    finished.assert(0, "", &format!("{origin} {says}\n"));
    scene.valetkey("logout", &[]).run().assert_status(0);
    let finished = scene.valetkey("token", &[]).run();
    finished.assert_status(2).assert_stderr_has("takes anybody");
    assert_eq!(scene.site.journal().snapshot().len(), 0);
    let page = http("GET", &format!("{origin}/api/list"), &[], b"").expect("an answer");
    assert_eq!(page.status, 200);
}

/// S82, S85, S86: the three variables lead out of it; what is missing is named, in either mode's
/// words, and no other profile suffers.
#[test]
fn s85_s86_what_is_not_set_is_named() {
    let scene = Scene::unconfigured();
    scene.person();
    for mode in [None, Some("clerk")] {
        if let Some(mode) = mode {
            scene.sandbox.env("SKILLMEAT_AUTH_MODE", mode);
        }
        let finished = scene.valetkey("login", &[]).run();
        finished.assert(
            78,
            "",
            "error: the sign-in of profile skillmeat is not configured\n\
             hint: set SKILLMEAT_AUTH_ISSUER_URL and SKILLMEAT_AUTH_CLIENT_ID in the environment\n",
        );
    }
    scene.sandbox.valetkey(&["list"]).run().assert_status(0);
    scene.sandbox.env("SKILLMEAT_AUTH_ISSUER_URL", scene.site.origin());
    let finished = scene.valetkey("login", &[]).run();
    finished.assert_status(78).assert_stderr_has("set SKILLMEAT_AUTH_CLIENT_ID in the environment");
    scene.sandbox.env("SKILLMEAT_AUTH_CLIENT_ID", CLIENT).env("SKILLMEAT_AUTH_AUDIENCE", AUDIENCE);
    scene.valetkey("login", &[]).run().assert_status(0);
    assert_eq!(scene.list_skills(), 200);
}

/// S87, S88, S101: a code that ran out, and a no: said in words, with the command to run; a new
/// sign-in gets a new code.
#[test]
fn s87_s88_no_and_too_late_are_told_apart() {
    let scene = Scene::new();
    scene.person();
    scene.site.turn(|knobs| knobs.runs_out = true);
    let hint = format!("hint: valetkey login {}", scene.site.origin());
    let finished = scene.valetkey("login", &[]).run();
    finished.assert_status(3).assert_stderr_has("in time").assert_stderr_has(&hint);
    scene.site.turn(|knobs| (knobs.runs_out, knobs.answer) = (false, Some(false)));
    let finished = scene.valetkey("login", &[]).run();
    finished.assert_status(3).assert_stderr_has("was refused").assert_stderr_has(&hint);
    scene.site.turn(|knobs| knobs.answer = Some(true));
    scene.valetkey("login", &[]).run().assert_status(0);
    let codes: Vec<_> = scene.site.journal().at_path("/oauth/token");
    let mut codes: Vec<_> =
        codes.iter().filter_map(|entry| entry.request.field("device_code")).collect();
    codes.dedup();
    assert_eq!(codes.len(), 3, "each sign-in has its own code");
}

/// S95, S96, S98, S102, S97: everything goes, that the tokens live on is said, and a second time
/// is no error; the next command says what to run.
#[test]
fn s95_logout_forgets_everything_here() {
    let scene = Scene::new();
    scene.sign_in().assert_status(0);
    let asked = scene.site.journal().snapshot().len();
    let finished = scene.valetkey("logout", &[]).run();
    finished.assert_status(0);
    finished.assert_stderr_has("tokens that the server issued live until they expire");
    assert_eq!(scene.site.journal().snapshot().len(), asked, "the provider is not told");
    let left = scene.sandbox.files().into_iter().filter(|file| file.path.starts_with("data"));
    assert_eq!(left.count(), 0);
    scene.valetkey("logout", &[]).run().assert_status(0);
    let finished = scene.valetkey("token", &[]).run();
    finished.assert_status(2).assert_stderr_has("hint: valetkey login");
}

/// S103: who deletes the file is signed out.
#[test]
fn s103_a_deleted_file_is_a_sign_out() {
    let scene = Scene::new();
    scene.sign_in().assert_status(0);
    std::fs::remove_dir_all(scene.sandbox.root().join("data/valetkey")).expect("it is there");
    let finished = scene.valetkey("token", &[]).run();
    finished.assert_status(2).assert_stderr_has("hint: valetkey login");
}

/// S79, S100: the tool's own file is taken over, whole: the tokens, the time, and the renewal; its
/// file stays, a second time changes nothing, and it does not come in the place of a sign-in.
#[test]
fn s79_the_file_of_the_tool_is_taken_over() {
    let scene = Scene::new();
    let (access, refresh) = scene.site.tokens();
    let text = format!(
        r#"{{"access_token": "{access}", "token_type": "Bearer", "refresh_token": "{refresh}",
            "expires_at": 1741276800.0, "stored_at": 1741190400.0, "id_token": "eyJhbGc"}}"#
    );
    let file = scene.sandbox.write("home/.skillmeat/credentials.json", text.as_bytes(), 0o600);
    let file = file.to_str().expect("a plain path").to_owned();
    let import = || scene.sandbox.valetkey(&["import", &file, "--for", &scene.site.origin()]).run();
    import().assert_status(0).assert_stderr_has("which is left as it is; kept in files in");
    assert_eq!(std::fs::read_to_string(&file).expect("it stays"), text);
    let record = scene.sandbox.files_with(refresh.as_bytes());
    assert_eq!(record.len(), 2, "the tool's file and ours: {record:?}");
    assert_eq!(scene.list_skills(), 200, "it had expired, and was renewed");
    import().assert_status(0).assert_stderr_has("nothing is taken over");
    assert_eq!(scene.list_skills(), 200, "the newer refresh token is still there");
    scene.clone("one").assert_success();
}

/// S89, S92: a file that is no JSON, one that others can read, none at all, and one of an unknown
/// kind: each in one line that quotes nothing, with what mends it.
#[test]
fn s89_s92_a_file_that_cannot_be_taken_over_is_explained() {
    let scene = Scene::new();
    let import = |name: &str, text: &str, mode: u32| {
        let file = scene.sandbox.write(&format!("home/{name}"), text.as_bytes(), mode);
        let file = file.to_str().expect("a plain path");
        scene.sandbox.valetkey(&["import", file, "--for", &scene.site.origin()]).run()
    };
    let login = format!("hint: sign in anew: valetkey login {}", scene.site.origin());
    let finished = import("torn.json", r#"{"access_token": "canary-token", "refr"#, 0o600);
    finished.assert_status(1).assert_stderr_has("torn.json is not valid JSON");
    finished.assert_stderr_has(&login);
    assert!(!finished.stderr_text().contains("canary"));
    let finished = import("open.json", r#"{"access_token": "a"}"#, 0o644);
    finished.assert_status(6).assert_stderr_has("others can open").assert_stderr_has("chmod 600");
    let finished = import("odd.json", r#"{"password": "canary-token"}"#, 0o600);
    finished.assert_status(1).assert_stderr_has("holds no credentials of a kind that is known");
    assert!(!finished.stderr_text().contains("canary"));
    let nothing = ["import", "/nowhere/x.json", "--for", &scene.site.origin()];
    scene.sandbox.valetkey(&nothing).run().assert_status(1).assert_stderr_has("there is no file");
    let nobody = ["import", "/nowhere/x.json", "--for", "https://elsewhere.example"];
    scene.sandbox.valetkey(&nobody).run().assert_status(78);
}
