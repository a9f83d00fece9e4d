//! `token`, `header` and `json`: one line on standard output for every tool that runs a command,
//! and never a sign-in. pnpm and cargo themselves are in `peers`.

use serde_json::{Value, json};

use crate::lab::{Finished, Options, Person, Scheme};
use crate::scene::Scene;

const SERVER: &str = "CLAUDE_CODE_MCP_SERVER_URL";
const COMMANDS: [&str; 3] = ["token", "header", "json"];

fn scene(scheme: Scheme) -> Scene {
    let scene = Scene::with(scheme, Options::default());
    scene.sign_in();
    scene
}

#[track_caller]
fn line(finished: &Finished) -> String {
    let text = finished.assert_success();
    let line = text.strip_suffix('\n').expect("a line");
    assert!(!line.contains('\n'), "{text:?}");
    line.to_owned()
}

#[test]
fn each_command_says_the_same_token_in_its_own_form() {
    for (scheme, basic) in [(Scheme::Basic, true), (Scheme::Bearer, false)] {
        let scene = scene(scheme);
        let url = format!("{}/some/path", scene.host.origin());
        let run = |command: &str| line(&scene.sandbox.valetkey(&[command, &url]).run());
        let token = run("token");
        assert!(scene.authority.token_is_live(&token));
        let value = match basic {
            true => {
                use base64::Engine as _;
                let pair = format!("oauth2:{token}");
                format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair))
            }
            false => format!("Bearer {token}"),
        };
        assert_eq!(run("header"), format!("Authorization: {value}"));
        let json: Value = serde_json::from_str(&run("json")).expect("JSON");
        assert_eq!(json, json!({"Authorization": value}));
    }
}

#[test]
fn private_tokens_go_in_their_own_header() {
    let scene = scene(Scheme::Basic);
    let origin = scene.host.origin();
    let token = line(&scene.sandbox.valetkey(&["token", &origin]).run());
    scene.sandbox.config(&format!(
        "[profile.lab]\norigins = [\"{origin}\"]\nissuer = \"{}\"\nclient_id = \"lab-client\"\n\
         scheme = \"private-token\"\n",
        scene.authority.issuer()
    ));
    let header = line(&scene.sandbox.valetkey(&["header", &origin]).run());
    assert_eq!(header, format!("PRIVATE-TOKEN: {token}"));
}

#[test]
fn a_miss_fails_at_once_with_the_command_to_run_whoever_is_there() {
    let scene = Scene::new();
    let browser = scene.browser(Person::Approves);
    let origin = scene.host.origin();
    for command in COMMANDS {
        let miss = scene.sandbox.valetkey(&[command, &origin]).terminal().run();
        let says = format!("error: not signed in to {origin}\nhint: valetkey login {origin}\n");
        miss.assert(2, "", &says);
        let unknown = scene.sandbox.valetkey(&[command, "https://nowhere.example/x"]).run();
        unknown.assert_status(2).assert_stdout("");
        unknown.assert_stderr_has("error: nothing is stored for https://nowhere.example/x\nhint: ");
    }
    assert_eq!(browser.opened().len(), 0);
}

#[test]
fn an_expired_token_is_renewed_and_a_dead_grant_is_a_miss() {
    let scene = Scene::with(Scheme::Basic, Options { expires_in: Some(30), ..Options::default() });
    scene.sign_in();
    scene.age(20);
    let origin = scene.host.origin();
    scene.authority.expire_all_access();
    scene.authority.tune(|options| options.expires_in = Some(3600));
    for command in COMMANDS {
        scene.sandbox.valetkey(&[command, &origin]).run().assert_success();
    }
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    scene.sandbox.valetkey(&["docker", "erase"]).stdin(&origin).run().assert_success();
    scene.authority.revoke_grants();
    let browser = scene.browser(Person::Approves);
    scene.sandbox.valetkey(&["token", &origin]).run().assert_status(2).assert_stdout("");
    assert_eq!(browser.opened().len(), 0);
}

#[test]
fn what_is_stored_for_the_whole_host_serves_a_path_of_it_and_not_the_other_way() {
    let scene = Scene::new();
    let store = |lines: &str| {
        scene.sandbox.valetkey(&["store"]).stdin(lines).run().assert(0, "", "");
    };
    store("protocol=https\nhost=a.example\nusername=me\npassword=whole\n");
    store("protocol=https\nhost=a.example\npath=team\nusername=me\npassword=team\n");
    store("protocol=https\nhost=b.example\npath=team\nusername=me\npassword=team\n");
    let token = |url: &str| scene.sandbox.valetkey(&["token", url]).run();
    token("https://a.example/index/config.json").assert(0, "whole\n", "");
    token("sparse+https://a.example/index/").assert(0, "whole\n", "");
    token("https://a.example/team").assert(0, "team\n", "");
    token("https://b.example/other").assert_status(2).assert_stdout("");
    token("http://a.example/").assert_status(2).assert_stdout("");
    // git wants what it names to be equal.
    let git = "protocol=https\nhost=a.example\npath=other\n";
    scene.sandbox.valetkey(&["get"]).stdin(git).run().assert_stdout("");
}

#[test]
fn the_url_comes_from_the_tools_variable_when_none_is_given() {
    let scene = scene(Scheme::Bearer);
    let origin = scene.host.origin();
    let run = |command: &str, variable: &str, url: &str| {
        scene.sandbox.valetkey(&[command]).env(variable, url).run()
    };
    let token = line(&scene.sandbox.valetkey(&["token", &origin]).run());
    let url = format!("{origin}/mcp?session=1");
    let json: Value = serde_json::from_str(&line(&run("json", SERVER, &url))).expect("JSON");
    assert_eq!(json["Authorization"], format!("Bearer {token}"));
    assert_eq!(line(&run("header", SERVER, &url)), format!("Authorization: Bearer {token}"));
    let index = format!("sparse+{origin}/index/");
    assert_eq!(line(&run("token", "CARGO_REGISTRY_INDEX_URL", &index)), token);
    for command in COMMANDS {
        let usage = run(command, "UNRELATED", &origin);
        usage
            .assert_status(64)
            .assert_stdout("")
            .assert_stderr_has("error: no URL is given\nhint:");
        run(command, SERVER, "").assert_status(64).assert_stdout("");
        let both = scene.sandbox.valetkey(&[command, &origin, &origin]).run();
        both.assert_status(64).assert_stdout("");
    }
}

/// The tool sends the headers to the server that it names. A command from a project's file cannot
/// have it send those of another.
#[test]
fn headers_of_one_host_are_not_given_out_for_another() {
    let scene = scene(Scheme::Bearer);
    let origin = scene.host.origin();
    for command in ["json", "header"] {
        for server in ["https://evil.example/mcp", "http://127.0.0.1:1", "https://127.0.0.1"] {
            let run = scene.sandbox.valetkey(&[command, &origin]).env(SERVER, server).run();
            run.assert_status(64).assert_stdout("").assert_stderr_has("the headers are for ");
        }
        let same = scene.sandbox.valetkey(&[command, &origin]).env(SERVER, format!("{origin}/mcp"));
        same.run().assert_success();
    }
}

#[test]
fn what_is_no_url_is_refused_and_not_repeated_as_it_came() {
    let scene = Scene::new();
    for url in [
        "https://",
        "https://user:secret@a.example",
        "a b",
        "https://a.example:99999",
        "https://\u{1b}[2J.example",
        "https://a.example\nX-Evil: 1",
    ] {
        for command in COMMANDS {
            let refused = scene.sandbox.valetkey(&[command, url]).run();
            let status = if url.contains('\n') { refused.status } else { 64 };
            refused.assert_status(status).assert_stdout("");
            assert_ne!(refused.status, 0);
            let said = refused.stderr_text();
            assert!(!said.contains('\u{1b}') && !said.contains("secret"), "{said}");
        }
    }
    let huge = format!("https://{}", "a".repeat(100_000));
    scene.sandbox.valetkey(&["token", &huge]).run().assert_status(2).assert_stdout("");
}

#[test]
fn the_environment_comes_first() {
    let scene = Scene::new();
    scene.sandbox.env("VALETKEY_TOKEN_a_example", "from-ci");
    scene.sandbox.valetkey(&["token", "https://a.example/x"]).run().assert(0, "from-ci\n", "");
}
