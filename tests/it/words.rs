//! What people are told, and what becomes of what they type: each refusal names its cause, and each
//! hint leads on.

use std::time::{Duration, Instant};

use crate::lab::{Answer, Options, Person, Scheme, Step};
use crate::scene::{Scene, program};

/// A host that nobody configured, under git in a terminal: one line, once a day for each host.
#[test]
fn git_in_a_terminal_hears_once_a_day_what_to_type_for_an_unknown_host() {
    let scene = Scene::new();
    let ask = |host: &str| {
        scene
            .sandbox
            .valetkey(&["get"])
            .stdin(format!("protocol=https\nhost={host}\n"))
            .remove_env("GIT_TERMINAL_PROMPT")
    };
    let line = "to sign in to https://code.example once for all tools: \
                valetkey login https://code.example\r\n";
    let silent = ask("code.example").run();
    silent.assert(2, "", "");
    let told = ask("code.example").terminal().run();
    told.assert(2, "", "");
    assert_eq!(told.terminal, line);
    assert_eq!(ask("code.example").terminal().run().terminal, "", "once a day");
    let other = ask("other.example\nusername=carol").terminal().run();
    other.assert_terminal_has("valetkey login https://other.example --account carol");
    // Nobody is told who could not do it, or does not want to hear it.
    let plain = scene.sandbox.valetkey(&["get"]).stdin("protocol=http\nhost=plain.example\n");
    assert_eq!(plain.terminal().run().terminal, "");
    for (name, value) in
        [("VALETKEY_INTERACTIVE", "never"), ("CI", "true"), ("GIT_TERMINAL_PROMPT", "0")]
    {
        let run = ask("third.example").terminal().env(name, value).run();
        assert_eq!(run.terminal, "", "{name}");
    }
    // Only git asks for a user name itself.
    let docker = scene.sandbox.valetkey(&["docker", "get"]).stdin("fourth.example").terminal();
    assert_eq!(docker.run().terminal, "");
}

#[test]
fn a_variable_that_says_nothing_is_an_error_that_names_it() {
    let scene = Scene::new();
    let missing = scene.sandbox.root().join("nowhere.toml");
    let missing = missing.to_str().expect("plain");
    for (name, value) in [
        ("VALETKEY_INTERACTIVE", "0"),
        ("VALETKEY_INTERACTIVE", "true"),
        ("VALETKEY_INTERACTIVE", "Always"),
        ("VALETKEY_STORE", "sqlite"),
        ("VALETKEY_STORE", "helper:../x"),
        ("VALETKEY_FLOW", "magic"),
        ("VALETKEY_CONFIG", missing),
    ] {
        for command in
            [&["list"][..], &["get"], &["login", "https://git.example"], &["docker", "list"]]
        {
            let refused = scene.sandbox.valetkey(command).env(name, value).run();
            let said = format!("{}{}", refused.stdout_text(), refused.stderr_text());
            assert!(said.contains(name), "{name}={value} {command:?}: {refused}");
            assert!(!said.contains("config.toml"), "it is not the file's fault: {refused}");
            assert_eq!(refused.status, 78, "{name}={value} {command:?}: {refused}");
        }
    }
    for value in ["auto", "always", "never", ""] {
        scene.sandbox.valetkey(&["list"]).env("VALETKEY_INTERACTIVE", value).run().assert_status(0);
    }
}

#[test]
fn a_wrong_type_in_the_configuration_is_named_by_line_and_key() {
    let scene = Scene::new();
    let profile =
        "[profile.x]\norigins = [\"https://x.example\"]\nissuer = \"https://i.example\"\n";
    for (text, place) in [
        ("store = 1\n".to_owned(), "line 1: store: "),
        ("# a comment\n\nflow = true\n".to_owned(), "line 3: flow: "),
        ("flow = \"magic\"\n".to_owned(), "line 1: flow: "),
        (format!("{profile}refresh_margin = \"soon\"\n"), "line 4: refresh_margin: "),
        (format!("{profile}scopes = \"openid\"\n"), "line 4: scopes: "),
        (format!("{profile}client_id = 7\n"), "line 4: client_id: "),
        (format!("{profile}token_env = [1]\n"), "line 4: token_env: "),
        (format!("{profile}revoke = \"no\"\n"), "line 4: revoke: "),
        (format!("\n{profile}\nscheme = \"digest\"\n"), "line 6: scheme: "),
        ("[profile.x]\norigins = [7]\n".to_owned(), "line 2: origins: "),
        ("[profile.x]\norigins = \"https://x.example\"\n".to_owned(), "line 2: origins: "),
        (format!("{profile}[profile.x.redirect]\nports = [\"x\"]\n"), "line 5: ports: "),
    ] {
        scene.sandbox.config(&text);
        let refused = scene.sandbox.valetkey(&["list"]).run();
        refused.assert_status(78).assert_stdout("");
        let said = refused.stderr_text();
        assert!(said.contains(&format!("config.toml: {place}")), "{text}: {said}");
    }
}

#[test]
fn the_time_to_paste_a_token_is_what_was_asked_for() {
    let scene = Scene::new();
    let origin = scene.host.origin();
    let started = Instant::now();
    let arguments = ["login", &origin, "--flow", "token", "--timeout", "1"];
    let over = scene.sandbox.valetkey(&arguments).terminal().run();
    over.assert_status(3).assert_stderr_has("no token was given");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_host_that_cannot_be_reached_is_not_one_without_a_profile() {
    let scene = Scene::new();
    let _browser = scene.browser(Person::Approves);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let gone = socket.local_addr().expect("an address");
    drop(socket);
    for url in [format!("http://{gone}"), "https://no-such-host.invalid".to_owned()] {
        let away = scene.sandbox.valetkey(&["login", &url]).run();
        away.assert_status(5).assert_stdout("").assert_stderr_has("cannot be reached");
        away.assert_stderr_has("hint: check the network");
    }
}

#[test]
fn logout_of_somebody_who_is_not_there_says_who_is() {
    let scene = Scene::new();
    scene.sign_in();
    let origin = scene.host.origin();
    let out = scene.sandbox.valetkey(&["logout", &origin, "--account", "zoe"]).run();
    out.assert(0, "", "zoe is not signed in there: nothing is forgotten; alice can be\n");
    scene.session_file();
    let out = scene.sandbox.valetkey(&["logout", &origin, "--account", "alice"]).run();
    out.assert_status(0).assert_stderr_has("signed out alice");
    let out = scene.sandbox.valetkey(&["logout", &origin, "--account", "zoe"]).run();
    out.assert(0, "", "nothing is stored there: you are signed out\n");
}

/// RFC 7009 section 2.1: a server may listen only to clients that have a secret.
#[test]
fn a_server_that_revokes_for_no_public_client_is_no_failure_of_logout() {
    for (status, body) in [
        (401, "<html>no"),
        (401, r#"{"error":"invalid_client"}"#),
        (400, r#"{"error":"invalid_client"}"#),
        (403, r#"{"error":"unauthorized_client"}"#),
    ] {
        let scene = Scene::new();
        scene.sign_in();
        scene.authority.always("/revoke", Step::Answer(Answer::typed(status, "text/plain", body)));
        let out = scene.sandbox.valetkey(&["logout", &scene.host.origin()]).run();
        out.assert_status(0)
            .assert_stderr_has("tokens that the server issued live until they expire");
        scene.sandbox.valetkey(&["list", "--json"]).run().assert(0, "[]\n", "");
    }
    // What was refused for another reason is said.
    let scene = Scene::new();
    scene.sign_in();
    scene.authority.always("/revoke", Step::status(400));
    scene.sandbox.valetkey(&["logout", &scene.host.origin()]).run().assert_status(4);
}

#[test]
fn an_address_of_ssh_is_answered_with_that_of_the_web() {
    let scene = Scene::new();
    for url in
        ["ssh://git@code.example:2222/team/s.git", "ssh://code.example", "git://code.example/s.git"]
    {
        for more in [&[][..], &["--token-stdin"]] {
            let refused =
                scene.sandbox.valetkey(&[&["login", url], more].concat()).stdin("x").run();
            refused.assert_status(64).assert_stdout("");
            refused.assert_stderr_has("\nhint: valetkey login https://code.example\n");
        }
    }
}

/// The device flow needs nobody at this machine: the address and the code go to standard error.
#[test]
fn a_device_code_needs_no_terminal_where_it_was_asked_for() {
    let options = Options { approve_devices_after: Some(0), ..Options::default() };
    let scene = Scene::with(Scheme::Basic, options);
    scene.sandbox.remove_env("VALETKEY_INTERACTIVE");
    let origin = scene.host.origin();
    let login = scene.sandbox.valetkey(&["login", &origin, "--flow", "device"]).run();
    login.assert_status(0).assert_stdout("").assert_stderr_has("and enter the code ");
    scene.sandbox.valetkey(&["logout", &origin]).run().assert_status(0);
    let by_variable =
        scene.sandbox.valetkey(&["login", &origin]).env("VALETKEY_FLOW", "device").run();
    by_variable.assert_status(0);
    scene.sandbox.valetkey(&["logout", &origin]).run().assert_status(0);
    // In so many words nobody is here.
    let arguments = ["login", &origin, "--flow", "device"];
    let never = scene.sandbox.valetkey(&arguments).env("VALETKEY_INTERACTIVE", "never").run();
    never.assert_status(2);
    let hint = format!("hint: VALETKEY_INTERACTIVE=always valetkey login {origin}\n");
    never.assert_stderr_has(&hint);
    // And no other way works without one.
    scene.sandbox.valetkey(&["login", &origin]).run().assert_status(2);
}

/// In a terminal of one's own a hint to a terminal of one's own would lead nowhere.
#[test]
fn login_that_is_refused_in_a_terminal_names_a_command_that_works_there() {
    let scene = Scene::new();
    let origin = scene.host.origin();
    for (name, value) in [("CI", "true"), ("VALETKEY_INTERACTIVE", "never")] {
        let refused = scene.sandbox.valetkey(&["login", &origin]).env(name, value).terminal().run();
        let hint = format!("hint: VALETKEY_INTERACTIVE=always valetkey login {origin}");
        refused.assert_status(2).assert_stderr_has(&hint);
        let command = hint.trim_start_matches("hint: ").to_owned();
        let _browser = crate::lab::Browser::start(&scene.sandbox, Person::Approves);
        scene.sandbox.link("valetkey");
        let run = scene.sandbox.run("sh", &["-c", &command]).env(name, value).run();
        run.assert_status(0).assert_stderr_has("signed in to");
        std::fs::remove_file(scene.sandbox.bin().join("valetkey")).expect("the link");
        scene.sandbox.valetkey(&["logout", &origin]).run().assert_status(0);
    }
    assert!(program().exists());
}

/// A message is about what was asked for, not about the first host of a profile with several.
#[test]
fn a_message_names_the_origin_that_was_asked_for() {
    let scene = Scene::new();
    let origins = ["https://first.example", "https://second.example", "https://third.example"];
    scene.bind(&origins, "");
    for origin in origins {
        let host = origin.trim_start_matches("https://");
        let hint = format!("hint: valetkey login {origin}");
        let what = format!("not signed in to {origin}\n");
        for (arguments, stdin) in [
            (&["get"][..], format!("protocol=https\nhost={host}\n")),
            (&["token", origin], String::new()),
            (&["status", origin], String::new()),
        ] {
            let missed = scene.sandbox.valetkey(arguments).stdin(stdin).run();
            missed.assert_status(2).assert_stderr_has(&what).assert_stderr_has(&hint);
        }
        let _browser = scene.browser(Person::Approves);
        let login = scene.sandbox.valetkey(&["login", origin, "--force"]).run();
        login.assert_status(0).assert_stderr_has(&format!("signed in to {origin}"));
        scene.nobody();
        scene.sandbox.valetkey(&["logout", origin]).run().assert_status(0);
    }
    // An address with a path where the host alone would not do.
    scene.bind(&["https://many.example/a", "https://many.example/b"], "");
    for path in ["a", "b"] {
        let url = format!("https://many.example/{path}");
        let missed = scene.sandbox.valetkey(&["token", &url]).run();
        missed.assert_status(2).assert_stderr_has(&format!("hint: valetkey login {url}\n"));
    }
}
