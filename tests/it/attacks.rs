//! Defences that stand alone: each test here failed once with its defence taken out. The numbers
//! are those of docs/threats.md; what is tested beside its flow or dialect is named there.

use std::collections::HashSet;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::asked::Asked;
use crate::installed::left_out;
use crate::lab::{Answer, CLIENT_ID, Job, Options, Person, Request, Sandbox, Server, Step};
use crate::scene::{Home, Scene, program, value};

/// What no terminal may be sent: C0 but line ends, DEL, C1, and marks that reorder text.
fn acts_on_a_terminal(text: &str) -> bool {
    text.chars().any(|letter| {
        (letter.is_control() && letter != '\n')
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

/// Git 12, 6.1-1: state and PKCE verifier are 256 random bits each, anew at every sign-in
/// (RFC 7636 section 7.1).
#[test]
fn git_12_state_and_verifier_hold_256_random_bits() {
    let scene = Scene::new();
    let mut seen = HashSet::new();
    for round in 0..4 {
        let browser = scene.browser(Person::Approves);
        let login = ["login", "--force", &scene.host.origin()];
        scene.sandbox.valetkey(&login).run().assert_status(0);
        let state = Asked::by(&browser).parameter("state");
        let entries = scene.authority.journal().at_path("/token");
        let verifier = entries[round].request.field("code_verifier").expect("a verifier");
        for text in [state, verifier] {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(&text).expect("base64url");
            assert!(bytes.len() >= 32, "{} bytes", bytes.len());
            // 32 random bytes have 30 different values; fewer than 16 come once in 10^15 draws.
            let values: HashSet<u8> = bytes.iter().copied().collect();
            assert!(values.len() >= 16, "{} different bytes", values.len());
            assert!(seen.insert(text), "it came twice");
        }
    }
}

/// Git 21, git 1: an account name that cannot stand on one line of git's protocol is none.
#[test]
fn git_21_an_account_name_with_control_characters_is_no_name() {
    let names = ["eve\nhost=evil.example", "eve\rx", "eve\0", "eve\u{85}", "\u{1b}[2Jeve", "\t"];
    for name in names {
        let home = Home::new(Options::default());
        let server = {
            let name = name.to_owned();
            Server::start(move |_: &Request| Answer::json(200, &json!({ "login": name })).into())
        };
        home.sandbox.config(&format!(
            "[profile.lab]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
             origins = [{{ url = \"https://git.example\", username = \"{{account}}\" }}]\n\
             account = {{ url = \"{}/me\", id = \"/login\" }}\n",
            home.authority.issuer(),
            server.origin(),
        ));
        home.sign_in_to("https://git.example");
        let question = "protocol=https\nhost=git.example\n";
        let finished = home.sandbox.valetkey(&["get"]).stdin(question).run();
        finished.assert_status(0);
        assert_eq!(value(&finished, "username").as_deref(), Some("oauth2"), "{name:?}");
        assert_eq!(value(&finished, "host"), None, "{name:?}");
        let status = home.sandbox.valetkey(&["status", "https://git.example"]).run();
        assert!(!status.stdout_text().contains("eve"), "{name:?}: {status}");
        assert!(!acts_on_a_terminal(&status.stdout_text()), "{name:?}: {status}");
    }
}

/// Git 22, 6.2-16: no text of a server's acts on the terminal, whichever verb shows it.
#[test]
fn git_22_no_servers_text_acts_on_a_terminal() {
    const ACTS: &str = "x\u{1b}]0;t\u{7}\u{9b}2J\u{202e}\u{200f}\u{7f}y";
    let scene = Scene::new();
    scene.profile("");
    let who = json!({ "login": "alice", "name": ACTS, "email": ACTS, ACTS: ACTS });
    scene.authority.always("/me", Step::json(200, &who));
    scene.sign_in();
    let origin = scene.host.origin();
    let verbs: [&[&str]; 6] = [
        &["status"],
        &["status", &origin],
        &["whoami", &origin],
        &["list"],
        &["status", "--json"],
        &["list", "--json"],
    ];
    for verb in verbs {
        let finished = scene.sandbox.valetkey(verb).run();
        finished.assert_status(0);
        for text in [finished.stdout_text(), finished.stderr_text()] {
            assert!(!acts_on_a_terminal(&text), "{verb:?}: {text:?}");
        }
    }
    let refusal = json!({
        "error": "invalid_request", "error_description": ACTS, "error_uri": ACTS, ACTS: ACTS,
    });
    for (status, path) in [(400, "/token"), (400, "/device_authorization"), (500, "/token")] {
        scene.authority.always(path, Step::json(status, &refusal));
        let flow = if path == "/token" { "browser" } else { "device" };
        let _browser = scene.browser(Person::Approves);
        let login = ["login", "--force", "--flow", flow, "--timeout", "20", &origin];
        let finished = scene.sandbox.valetkey(&login).terminal().run();
        assert_ne!(finished.status, 0, "{finished}");
        let text = finished.stderr_text();
        assert!(!acts_on_a_terminal(&text), "{flow}: {text:?}");
        scene.authority.always(path, Step::Default);
    }
}

/// Git 24: only absolute directories of PATH are searched, so nothing that lies in a checked-out
/// repository is ever started.
#[test]
fn git_24_no_program_of_the_working_directory_is_started() {
    let scene = Scene::new();
    let real = std::env::var("PATH").expect("a PATH");
    let planted = "#!/bin/sh\necho started >>\"$PLANTED\"\nexit 1\n";
    let marker = scene.sandbox.root().join("started");
    scene.sandbox.env("PLANTED", &marker);
    for directory in ["work", "work/bin"] {
        for name in ["git", "xdg-open", "sensible-browser", "docker-credential-lab", "mybrowser"] {
            scene.sandbox.write(&format!("{directory}/{name}"), planted.as_bytes(), 0o755);
        }
    }
    for path in
        [format!(".:{real}"), format!(":{real}"), format!("bin:./bin:{real}"), format!("{real}:.")]
    {
        let run = |arguments: &[&str]| {
            scene.sandbox.valetkey(arguments).env("PATH", &path).env("DISPLAY", ":77").run()
        };
        let origin = scene.host.origin();
        scene.sandbox.env("VALETKEY_INTERACTIVE", "always").env("BROWSER", "mybrowser");
        run(&["login", "--timeout", "1", &origin]);
        scene.sandbox.remove_env("BROWSER");
        run(&["login", "--timeout", "1", &origin]);
        scene.sandbox.env("VALETKEY_INTERACTIVE", "auto").env("VALETKEY_STORE", "helper:lab");
        run(&["token", &origin]);
        scene.sandbox.env("VALETKEY_STORE", "file");
        assert!(!marker.exists(), "PATH={path} started a program of the working directory");
    }
}

/// Git 15, 24: a helper store's name is one word, never a path.
#[test]
fn git_24_a_helper_stores_name_is_no_path() {
    let sandbox = Sandbox::new(program());
    for name in ["../x", "a/b", "/bin/sh", "", ".", "..", "a b", "a;b", "$(x)", "a\\\\b", "-x/y"] {
        sandbox.config(&format!("store = \"helper:{name}\"\n"));
        let finished = sandbox.valetkey(&["list"]).run();
        finished.assert_status(78).assert_stdout("");
        finished.assert_stderr_has("hint: use auto, keychain");
    }
}

/// 6.4-28: a field adds a header of its own. It never replaces the ones that say who calls, whom
/// the request is for, or where it ends (RFC 9110 sections 7.2, 7.6.1, 8.6 and 11.6).
#[test]
fn a_field_replaces_no_header_that_proves_or_frames() {
    let sandbox = Sandbox::new(program());
    for header in [
        "Authorization",
        "authorization",
        "Proxy-Authorization",
        "Cookie",
        "Host",
        "HOST",
        "PRIVATE-TOKEN",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "TE",
        "Trailer",
        "Upgrade",
    ] {
        sandbox.config(&format!(
            "[profile.lab]\norigins = [\"https://git.example\"]\nissuer = \"https://a.example\"\n\
             client_id = \"x\"\n[profile.lab.fields.f]\nheader = \"{header}\"\nvalue = \"v\"\n"
        ));
        let finished = sandbox.valetkey(&["header", "https://git.example"]).run();
        finished.assert_status(78).assert_stdout("");
        finished.assert_stderr_has(&format!("may not be sent as {header}"));
    }
}

/// Git 23, 6.4-32: a configuration that another user owns is not believed, whatever its mode.
#[test]
fn git_23_a_configuration_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        left_out("only root can give a file to another user");
        return;
    }
    let sandbox = Sandbox::new(program());
    let path = sandbox.config(
        "[profile.lab]\norigins = [\"https://git.example\"]\nissuer = \"https://a.example\"\n\
         client_id = \"x\"\ntoken_env = [\"LAB_TOKEN\"]\n",
    );
    sandbox.env("LAB_TOKEN", "canary");
    sandbox.valetkey(&["token", "https://git.example"]).run().assert(0, "canary\n", "");
    std::os::unix::fs::chown(&path, Some(4242), None).expect("root may");
    let finished = sandbox.valetkey(&["token", "https://git.example"]).run();
    finished.assert_status(78).assert_stdout("");
    finished.assert_stderr_has(&format!("{} belongs to another user", path.display()));
}

/// Git 25, 6.4-30: a document kept "in the future" comes from a clock that went back, and is
/// fetched anew.
#[test]
fn git_25_a_metadata_cache_from_the_future_is_not_believed() {
    let scene = Scene::new();
    scene.sign_in();
    let mut planted = 0;
    for file in scene.sandbox.files() {
        if !file.path.starts_with("cache/valetkey/metadata") {
            continue;
        }
        let mut kept: Value = serde_json::from_slice(&file.content).expect("JSON");
        kept["fetched"] = (kept["fetched"].as_u64().expect("a time") + 10 * 365 * 86_400).into();
        kept["document"]["token_endpoint"] = scene.authority.url("/planted").into();
        let path = file.path.to_str().expect("a plain path");
        scene.sandbox.write(path, kept.to_string().as_bytes(), 0o600);
        planted += 1;
    }
    assert_eq!(planted, 1);
    scene.end_tokens();
    scene.get().run().assert_status(0);
    assert_eq!(scene.authority.asked("/planted"), 0);
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

/// 6.4-33: without an audience PyPI's token service is not asked, because an identity token for
/// everybody could be replayed anywhere.
#[test]
fn attack_33_no_identity_token_is_asked_for_without_an_audience() {
    for audience in ["", " ", "\t"] {
        let job = Job::new(program());
        let origin = job.origin();
        job.sandbox.config(&format!(
            "[profile.pypi]\norigins = [\"{origin}\"]\nflow = \"workload\"\n\
             [profile.pypi.workload]\nexchange = \"mint\"\n"
        ));
        job.next("/_/oidc/audience", Answer::json(200, &json!({ "audience": audience })));
        let finished = job.sandbox.valetkey(&["token", &origin]).run();
        assert!([4, 78].contains(&finished.status), "{finished}");
        finished.assert_stdout("");
        assert_eq!(job.vouched(), 0, "an identity token for {audience:?} was asked for");
        assert!(job.asked("/_/oidc/mint-token").is_empty());
    }
}
