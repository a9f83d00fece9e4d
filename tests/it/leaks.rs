//! Secrets and where they may be: in the vault's files, in an answer, on their way to the server,
//! and nowhere else. Every program that ours starts is replaced by one that writes down what it
//! can see: its own environment and arguments, and ours.

use std::collections::BTreeSet;

use serde_json::json;

use crate::lab::{Answer, Browser, Finished, Gate, Person, Reply, Request, Server, Step};
use crate::planted;
use crate::scene::{Scene, value};

const CLIENT_SECRET: &str = "c4n4ry-client-secret";
const PASSWORD: &str = "c4n4ry-password";
const OF_HOST: &str = "c4n4ry-token-of-a-host";
const OF_PROFILE: &str = "c4n4ry-token-of-a-profile";

/// Where the vault is, below the sandbox.
const VAULT: &str = "data/valetkey";

/// Where the spies write.
const SEEN: &str = "seen";

/// A program in front of another one.
fn spy(scene: &Scene, name: &str, then: &str) {
    let seen = scene.sandbox.root().join(SEEN);
    std::fs::create_dir_all(&seen).expect("a directory");
    let text = format!(
        "#!/bin/bash\ncat /proc/$$/environ /proc/$$/cmdline /proc/$PPID/cmdline \
         >{}/{name}.$$\n{then}\n",
        seen.display()
    );
    scene.sandbox.script(name, &text);
}

/// A scene with secrets everywhere, and with spies.
fn scene() -> Scene {
    let scene = Scene::new();
    let more = format!(
        "[profile.other]\nflow = \"none\"\nclient_secret = \"{CLIENT_SECRET}\"\norigins = \
         [\"https://other.example\"]\ntoken_env = [\"OTHER_TOKEN\"]\n"
    );
    scene.profile(&more);
    scene.sandbox.env("VALETKEY_LOG", "debug");
    scene.sandbox.env("VALETKEY_TOKEN_host_example", OF_HOST);
    scene.sandbox.env("OTHER_TOKEN", OF_PROFILE);
    spy(&scene, "git", "exit 1");
    scene
}

/// A browser behind a spy.
fn browser(scene: &Scene, person: Person) -> Browser {
    let browser = scene.browser(person);
    let then = format!("exec {} \"$@\"", browser.script().display());
    spy(scene, "browser", &then);
    scene.sandbox.env("BROWSER", scene.sandbox.bin().join("browser"));
    browser
}

/// Everything that must not be seen, planted by us or made up on the way.
fn secrets(scene: &Scene) -> BTreeSet<String> {
    let mut secrets: BTreeSet<String> = scene.authority.secrets().into_iter().collect();
    for entry in scene.authority.journal().snapshot() {
        secrets.extend(entry.request.field("code_verifier"));
    }
    secrets.extend([CLIENT_SECRET, PASSWORD, OF_HOST, OF_PROFILE].map(str::to_owned));
    secrets
}

/// No secret on stderr; on stdout only the one that was asked for; and in no file but the
/// vault's and the person's own configuration.
#[track_caller]
fn assert_kept(scene: &Scene, finished: &Finished, answer: Option<&str>) {
    for secret in secrets(scene) {
        assert!(!finished.stderr_text().contains(&secret), "{secret} on stderr, {finished}");
        let answered = answer == Some(&*secret);
        assert!(answered || !finished.stdout_text().contains(&secret), "{secret}, {finished}");
        for path in scene.sandbox.files_with(secret.as_bytes()) {
            let configured = secret == CLIENT_SECRET && path.ends_with("config.toml");
            assert!(configured || path.starts_with(VAULT), "{secret} in {path:?}");
        }
    }
}

fn token(finished: &Finished) -> String {
    value(finished, "password").unwrap_or_else(|| panic!("no token, {finished}"))
}

#[test]
fn no_secret_is_anywhere_but_in_the_vault_and_in_the_answer() {
    let scene = scene();
    let origin = scene.host.origin();
    let browser = browser(&scene, Person::Approves);

    let get = scene.plain_get().run();
    assert_kept(&scene, &get, Some(&token(&get)));
    assert_eq!(browser.opened().len(), 1);
    let hit = scene.plain_get().run();
    assert_kept(&scene, &hit, Some(&token(&hit)));
    let rejected = format!("{}username=oauth2\npassword={}\n", scene.question(), token(&hit));
    let erase = scene.sandbox.valetkey(&["erase"]).stdin(&rejected).run();
    assert_kept(&scene, &erase, None);
    let renewed = scene.plain_get().run();
    assert_kept(&scene, &renewed, Some(&token(&renewed)));
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);

    let entry = format!("protocol=https\nhost=pat.example\nusername=me\npassword={PASSWORD}\n");
    let question = "protocol=https\nhost=pat.example\n";
    for (verb, input, answer) in [
        ("store", entry.as_str(), None),
        ("get", question, Some(PASSWORD)),
        ("get", "protocol=https\nhost=host.example\n", Some(OF_HOST)),
        ("get", "protocol=https\nhost=other.example\n", Some(OF_PROFILE)),
    ] {
        let finished = scene.sandbox.valetkey(&[verb]).stdin(input).run();
        finished.assert_status(0);
        assert!(answer.is_none_or(|answer| finished.stdout_text().contains(answer)), "{finished}");
        assert_kept(&scene, &finished, answer);
    }
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["status"],
        &["status", &origin],
        &["status", "https://host.example"],
        &["whoami"],
        &["setup", "git", "--print"],
    ] {
        assert_kept(&scene, &scene.sandbox.valetkey(arguments).run(), None);
    }
    let erase = scene.sandbox.valetkey(&["erase"]).stdin(&entry).run();
    assert_kept(&scene, &erase, None);

    // By device code.
    scene.authority.tune(|options| options.approve_devices_after = Some(1));
    let device = ["login", "--force", "--flow", "device", &origin];
    let login = scene.sandbox.valetkey(&device).run();
    login.assert_status(0);
    assert_kept(&scene, &login, None);
    assert_eq!(scene.authority.asked("/device_authorization"), 1);

    let logout = scene.sandbox.valetkey(&["logout", "--all"]).run();
    logout.assert_status(0);
    assert_kept(&scene, &logout, None);
    let spied = std::fs::read_dir(scene.sandbox.root().join(SEEN)).expect("a directory");
    assert!(spied.count() >= 2, "git and the browser have been watched");
    for secret in secrets(&scene) {
        let left = scene.sandbox.files_with(secret.as_bytes());
        assert!(left.iter().all(|path| path.ends_with("config.toml")), "{secret} in {left:?}");
    }
}

/// The arguments of a process are everybody's to read, and its environment its children's.
#[test]
fn our_own_arguments_and_environment_hold_nothing_new() {
    let scene = scene();
    planted::expired(&scene, "alice");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let get = scene.plain_get().start();
    gate.reached();
    for file in ["cmdline", "environ"] {
        let seen = std::fs::read(format!("/proc/{}/{file}", get.id())).expect("a process");
        let seen = String::from_utf8_lossy(&seen);
        for secret in secrets(&scene) {
            let given = file == "environ" && (secret == OF_HOST || secret == OF_PROFILE);
            assert!(given || !seen.contains(&secret), "{secret} in {seen}");
        }
    }
    gate.open();
    get.wait().assert_status(0);
}

/// A store of another program gets records on its standard input and nothing by another way.
#[test]
fn a_helper_store_is_told_nothing_but_on_its_standard_input() {
    let scene = scene();
    let kept = scene.sandbox.root().join(VAULT).join("kept");
    std::fs::create_dir_all(&kept).expect("a directory");
    let then = format!(
        "cd {}\ncase $1 in\n\
         store) cat >entry ;;\n\
         list) if [ -e entry ]; then sed 's/^{{\"ServerURL\":\\(\"[^\"]*\"\\).*/{{\\1:\"x\"}}/' entry; \
         else echo '{{}}'; fi ;;\n\
         get) cat entry ;;\n\
         erase) rm entry ;;\nesac",
        kept.display()
    );
    spy(&scene, "docker-credential-spy", &then);
    scene.sandbox.env("VALETKEY_STORE", "helper:spy");
    let _browser = browser(&scene, Person::Approves);
    let first = scene.plain_get().run();
    assert_kept(&scene, &first, Some(&token(&first)));
    let again = scene.plain_get().run();
    assert_eq!(token(&again), token(&first));
    let logout = scene.sandbox.valetkey(&["logout", "--all"]).run();
    logout.assert_status(0);
    assert_kept(&scene, &logout, None);
    assert!(!kept.join("entry").exists());
}

/// A server that says no in the client's own words, and hands out device codes.
fn echo(dress: fn(&Request) -> Reply) -> Server {
    Server::start(move |request| {
        if request.path != "/device" {
            return dress(request);
        }
        let answer = json!({
            "device_code": "c4n4ry-device-code",
            "user_code": "ABCD-EFGH",
            "verification_uri": "http://127.0.0.1/device",
            "expires_in": 60,
            "interval": 1,
        });
        Answer::json(200, &answer).into()
    })
}

fn description(request: &Request) -> Reply {
    let said = String::from_utf8_lossy(&request.body).into_owned();
    Answer::json(400, &json!({ "error": "invalid_request", "error_description": said })).into()
}

/// Only the values, in reverse, so that the first two hundred characters hold other ones.
fn values(request: &Request) -> Reply {
    let said: Vec<String> = request.form().into_iter().rev().map(|(_, value)| value).collect();
    Answer::json(400, &json!({ "error": "strange", "error_description": said.join(" ") })).into()
}

fn code(request: &Request) -> Reply {
    let said = String::from_utf8_lossy(&request.body).into_owned();
    Answer::json(400, &json!({ "error": said })).into()
}

fn client(request: &Request) -> Reply {
    let said = String::from_utf8_lossy(&request.body).into_owned();
    Answer::json(401, &json!({ "error": "invalid_client", "error_description": said })).into()
}

fn text(request: &Request) -> Reply {
    Answer::text(400, &String::from_utf8_lossy(&request.body)).into()
}

fn broken_json(request: &Request) -> Reply {
    let said = String::from_utf8_lossy(&request.body).into_owned();
    Answer::typed(200, "application/json", &format!("{{\"access_token\":\"{said}\"")).into()
}

fn strange_type(request: &Request) -> Reply {
    let said = String::from_utf8_lossy(&request.body).into_owned();
    Answer::json(200, &json!({ "access_token": said, "token_type": said })).into()
}

fn redirect(request: &Request) -> Reply {
    Answer::redirect(&format!("/?{}", String::from_utf8_lossy(&request.body))).into()
}

fn no_http(request: &Request) -> Reply {
    Reply::Raw(request.body.clone())
}

fn strange_header(request: &Request) -> Reply {
    let said = String::from_utf8_lossy(&request.body).into_owned();
    Reply::Raw(format!("HTTP/1.1 200 OK\r\n{said}\r\n: \r\n\r\n").into_bytes())
}

#[test]
fn a_server_that_quotes_secrets_back_is_not_repeated() {
    let dresses: [fn(&Request) -> Reply; 10] = [
        description,
        values,
        code,
        client,
        text,
        broken_json,
        strange_type,
        redirect,
        no_http,
        strange_header,
    ];
    for dress in dresses {
        let scene = scene();
        let server = echo(dress);
        let at = |path: &str| format!("{}{path}", server.origin());
        scene.sandbox.config(&format!(
            "[profile.lab]\norigins = [\"{}\"]\nclient_id = \"lab-client\"\nclient_secret = \
             \"{CLIENT_SECRET}\"\nauthorization_endpoint = \"{}\"\ntoken_endpoint = \"{}\"\n\
             device_authorization_endpoint = \"{}\"\nrevocation_endpoint = \"{}\"\n",
            scene.host.origin(),
            scene.authority.url("/authorize"),
            at("/token"),
            at("/device"),
            at("/revoke"),
        ));
        let mut record =
            planted::session(&scene, "alice", "lab-access-c4n4ry", "lab-refresh-c4n4ry", 1);
        record["authority"] = json!(at("/token"));
        planted::put(&scene, "alice", &record);
        let sent = || {
            let journal = server.journal().snapshot();
            let all = journal.iter().flat_map(|entry| entry.request.form());
            let names =
                ["code", "code_verifier", "refresh_token", "device_code", "token", "client_secret"];
            all.filter(|(name, _)| names.contains(&name.as_str())).collect::<Vec<_>>()
        };
        let check = |finished: &Finished| {
            finished.assert_stdout("");
            for (name, secret) in sent() {
                assert!(!finished.stderr_text().contains(&secret), "{name} {secret}: {finished}");
            }
        };
        // A renewal, a sign-in by browser, one by device code, and a revocation.
        scene.nobody();
        check(&scene.plain_get().run());
        let browser = browser(&scene, Person::Approves);
        let origin = scene.host.origin();
        let login = |flow: &str, seconds: &str| {
            let words = ["login", "--force", "--flow", flow, "--timeout", seconds, &origin];
            scene.sandbox.valetkey(&words).run()
        };
        check(&login("browser", "30"));
        assert_eq!(browser.opened().len(), 1);
        check(&login("device", "5"));
        check(&scene.sandbox.valetkey(&["logout", &origin]).run());
        let names: BTreeSet<String> = sent().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 6, "{names:?}");
    }
}
