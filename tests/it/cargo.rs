//! cargo's credential provider protocol, byte by byte through the whole program.

use crate::lab::{Finished, Options, Person, Run};
use crate::scene::Home;

const INDEX: &str = "https://crates.acme.example/team/index";

/// A profile for one index; nobody signed in. The index is never asked.
fn home(options: Options) -> Home {
    let home = Home::new(options);
    home.sandbox.link("cargo-credential-valetkey");
    home.bind(&[INDEX], "scheme = \"bearer\"");
    home.nobody();
    home
}

fn ask(home: &Home, lines: &str) -> Run {
    home.sandbox.run("cargo-credential-valetkey", &["--cargo-plugin"]).stdin(lines)
}

fn got(home: &Home) -> Finished {
    ask(home, &get(INDEX)).run()
}

fn token_of(finished: &Finished) -> String {
    let answer = answers(finished).pop().expect("an answer");
    answer["Ok"]["token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
}

/// As cargo 1.95 writes it.
fn request(index: &str, rest: &str) -> String {
    format!(
        "{{\"v\":1,\"registry\":{{\"index-url\":\"sparse+{index}/\",\"name\":\"acme\",\
         \"headers\":[\"WWW-Authenticate: Cargo login_url=\\\"https://x.example\\\"\"]}},{rest}}}\n"
    )
}

fn get(index: &str) -> String {
    request(index, "\"kind\":\"get\",\"operation\":\"read\"")
}

/// Everything that was said after the hello.
fn answers(finished: &Finished) -> Vec<serde_json::Value> {
    let text = finished.stdout_text();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(r#"{"v":[1]}"#), "{finished}");
    lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn hello_and(answer: &str) -> String {
    format!("{{\"v\":[1]}}\n{answer}\n")
}

#[test]
fn the_hello_comes_before_the_first_question_and_an_end_is_a_goodbye() {
    let home = home(Options::default());
    let provider = home.sandbox.run("cargo-credential-valetkey", &["--cargo-plugin"]);
    let mut started = provider.stdin_open().start();
    started.expect_stdout("{\"v\":[1]}\n");
    started.send(get("https://nowhere.example"));
    started.expect_stdout("{\"v\":[1]}\n{\"Err\":{\"kind\":\"not-found\"}}\n");
    assert!(started.is_running(), "the conversation is not over");
    started.close_stdin();
    started.wait().assert_status(0);
    ask(&home, "").run().assert(0, "{\"v\":[1]}\n", "");
}

#[test]
fn a_hit_is_the_whole_header_with_its_end_a_little_early() {
    let home = home(Options::default());
    home.sign_in_to(INDEX);
    let finished = got(&home);
    let answer = answers(&finished).pop().expect("an answer");
    let token = token_of(&finished);
    assert!(home.authority.token_is_live(token.strip_prefix("Bearer ").expect("Bearer")));
    let expiration = answer["Ok"]["expiration"].as_u64().expect("an expiration");
    let expected = format!(
        "{{\"Ok\":{{\"kind\":\"get\",\"token\":\"{token}\",\"cache\":\"expires\",\
         \"operation_independent\":true,\"expiration\":{expiration}}}}}"
    );
    finished.assert(0, &hello_and(&expected), "");
    let listed = home.sandbox.valetkey(&["list", "--json"]).run();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed[0]["expires_at"].as_u64(), Some(expiration + 60));
    // Where the registry takes a token without a scheme before it.
    home.bind(&[INDEX], "scheme = \"private-token\"");
    assert_eq!(format!("Bearer {}", token_of(&got(&home))), token);
}

#[test]
fn a_token_without_an_end_is_good_for_the_command() {
    let home = home(Options { expires_in: None, ..Options::default() });
    home.sign_in_to(INDEX);
    let finished = got(&home);
    let token = token_of(&finished);
    let expected = format!(
        "{{\"Ok\":{{\"kind\":\"get\",\"token\":\"{token}\",\"cache\":\"session\",\
         \"operation_independent\":true}}}}"
    );
    finished.assert(0, &hello_and(&expected), "");
}

#[test]
fn every_operation_gets_the_same_token_and_unknown_ones_none() {
    let home = home(Options::default());
    home.sign_in_to(INDEX);
    let token = token_of(&got(&home));
    let operation = |rest: &str| request(INDEX, &format!("\"kind\":\"get\",{rest}"));
    let questions = [
        operation("\"operation\":\"publish\",\"name\":\"a\",\"vers\":\"0.1.1\",\"cksum\":\"00\""),
        operation("\"operation\":\"yank\",\"name\":\"a\",\"vers\":\"0.1.1\""),
        operation("\"operation\":\"unyank\",\"name\":\"a\",\"vers\":\"0.1.1\""),
        operation("\"operation\":\"owners\",\"name\":\"a\",\"args\":[\"--x\"]"),
        operation("\"operation\":\"defenestrate\""),
        request(INDEX, "\"kind\":\"transmogrify\""),
        operation("\"x\":1"),
    ];
    let finished = ask(&home, &questions.concat()).run();
    finished.assert_status(0).assert_success();
    let answers = answers(&finished);
    assert_eq!(answers.len(), questions.len());
    for answer in &answers[..4] {
        assert_eq!(answer["Ok"]["token"], token);
    }
    assert_eq!(answers[4]["Err"]["kind"], "operation-not-supported");
    assert_eq!(answers[5]["Err"]["kind"], "operation-not-supported");
    assert_eq!(answers[6]["Err"]["kind"], "other");
}

#[test]
fn a_miss_lets_the_next_provider_try_and_names_the_command() {
    let home = home(Options::default());
    let expected = "error: not signed in to https://crates.acme.example/team/index\n\
                    hint: valetkey login https://crates.acme.example/team/index\n";
    got(&home).assert(0, &hello_and(r#"{"Err":{"kind":"not-found"}}"#), expected);
    // A registry that nobody told us about is not even worth a word.
    ask(&home, &get("https://nowhere.example")).run().assert(
        0,
        &hello_and(r#"{"Err":{"kind":"not-found"}}"#),
        "",
    );
}

/// The token goes to whatever hosts the index names, so being on a trusted host is not enough.
#[test]
fn only_the_index_that_a_profile_names_gets_a_session() {
    let home = home(Options::default());
    home.sign_in_to(INDEX);
    for index in [
        "https://crates.acme.example/evil/index",
        "https://crates.acme.example/team/index/evil",
        "https://crates.acme.example/team",
        "https://crates.acme.example",
        "https://crates.acme.example:8443/team/index",
        "http://crates.acme.example/team/index",
        "https://crates.acme.example.evil.example/team/index",
        "https://crates.acme.example/evil/../team/index",
        "https://crates.acme.example/team/index?x=",
    ] {
        let answer = answers(&ask(&home, &get(index)).run()).pop().expect("an answer");
        assert!(answer["Err"]["kind"].is_string(), "{index}: {answer}");
    }
    let repository = get(INDEX).replace("sparse+", "");
    let answer = answers(&ask(&home, &repository).run()).pop().expect("an answer");
    assert_eq!(answer["Err"]["kind"], "not-found");
}

#[test]
fn a_miss_signs_in_where_a_person_is_and_an_end_renews_silently() {
    let home = home(Options { expires_in: Some(30), ..Options::default() });
    let browser = home.browser(Person::Approves);
    let first = token_of(&got(&home));
    assert_eq!(browser.opened().len(), 1);
    home.nobody();
    home.age(20);
    let second = got(&home);
    second.assert_status(0).assert_success();
    assert_ne!(token_of(&second), first);
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
    assert_eq!(browser.opened().len(), 1);
}

#[test]
fn login_with_a_token_keeps_it_as_it_was_typed_for_that_index_alone() {
    let home = home(Options::default());
    let other = "https://crates.other.example/index";
    for typed in ["cio1234567890", "Basic cGF0OnRva2Vu", "Bearer abc"] {
        let login = request(other, &format!("\"kind\":\"login\",\"token\":\"{typed}\""));
        ask(&home, &login).run().assert(0, &hello_and(r#"{"Ok":{"kind":"login"}}"#), "");
        assert_eq!(token_of(&ask(&home, &get(other)).run()), typed);
    }
    let answer = answers(&ask(&home, &get("https://crates.other.example/evil")).run()).pop();
    assert_eq!(answer.expect("an answer")["Err"]["kind"], "not-found");
    // It is no password of the same host.
    let git = "protocol=https\nhost=crates.other.example\n";
    home.sandbox.valetkey(&["get"]).stdin(git).run().assert(2, "", "");
    let logout = request(other, "\"kind\":\"logout\"");
    ask(&home, &logout).run().assert(0, &hello_and(r#"{"Ok":{"kind":"logout"}}"#), "");
    ask(&home, &logout).run().assert(0, &hello_and(r#"{"Err":{"kind":"not-found"}}"#), "");
    let answer = answers(&ask(&home, &get(other)).run()).pop();
    assert_eq!(answer.expect("an answer")["Err"]["kind"], "not-found");
}

#[test]
fn login_without_a_token_signs_in_where_a_profile_says_how() {
    let home = home(Options::default());
    let login = request(INDEX, "\"kind\":\"login\"");
    let refused = answers(&ask(&home, &login).run()).pop().expect("an answer");
    assert_eq!(refused["Err"]["kind"], "other");
    let index = "https://crates.acme.example/team/index";
    assert_eq!(refused["Err"]["message"], format!("not signed in to {index}"));
    let hint = format!("hint: valetkey login {index}");
    assert_eq!(refused["Err"]["caused-by"], serde_json::json!([hint]));
    let browser = home.browser(Person::Approves);
    let done = ask(&home, &login).run();
    done.assert_status(0).assert_stdout(&hello_and(r#"{"Ok":{"kind":"login"}}"#));
    assert_eq!(browser.opened().len(), 1);
    ask(&home, &login).run().assert_status(0);
    assert_eq!(browser.opened().len(), 1);
}

/// What a person types does not show, and a token can be longer than a terminal's line.
#[test]
fn login_without_a_token_lets_the_person_paste_one() {
    let home = home(Options::default());
    home.sandbox.remove_env("VALETKEY_INTERACTIVE");
    let other = "https://crates.other.example/index";
    let page = "https://crates.other.example/me\\u001b[2J";
    let login = request(other, &format!("\"kind\":\"login\",\"login-url\":\"{page}\""));
    let nobody = answers(&ask(&home, &login).run()).pop().expect("an answer");
    assert_eq!(nobody["Err"]["kind"], "other", "{nobody}");
    let token = format!("cio{}", "x".repeat(6_000));
    let started = ask(&home, &login).terminal().start();
    started.terminal_expect("paste the token for sparse+https://crates.other.example/index, which");
    started.terminal_type(&format!("wrong\x15{token}y\x7f\n"));
    let finished = started.wait();
    finished.assert(0, &hello_and(r#"{"Ok":{"kind":"login"}}"#), "");
    finished.assert_terminal_has("find at https://crates.other.example/me[2J, and press Enter");
    assert!(!finished.terminal.contains("cioxx"), "{}", finished.terminal);
    assert_eq!(token_of(&ask(&home, &get(other)).run()), token);
    // Ctrl-C is a no, and the terminal is left as it was.
    let started = ask(&home, &login).terminal().start();
    started.terminal_expect("press Enter");
    started.terminal_type("abc\x03");
    let refused = answers(&started.wait()).pop().expect("an answer");
    assert_eq!(refused["Err"]["kind"], "other", "{refused}");
    assert_eq!(token_of(&ask(&home, &get(other)).run()), token);
}

#[test]
fn logout_of_a_session_forgets_its_token_and_holds_nothing_against_the_host() {
    let home = home(Options::default());
    home.sign_in_to(INDEX);
    let first = token_of(&got(&home));
    let logout = request(INDEX, "\"kind\":\"logout\"");
    for _ in 0..4 {
        ask(&home, &logout).run().assert(0, &hello_and(r#"{"Ok":{"kind":"logout"}}"#), "");
        assert_ne!(token_of(&got(&home)), first);
    }
}

#[test]
fn hostile_input_gets_an_answer_and_no_token() {
    let home = home(Options::default());
    home.sign_in_to(INDEX);
    let whole = get(INDEX);
    let headers = format!("\"headers\":[\"{}\"]", "x".repeat(1 << 20));
    let other = |text: &str| {
        format!("{{\"Err\":{{\"kind\":\"other\",\"message\":\"{text}\",\"caused-by\":[]}}}}")
    };
    let not_one = other("the request is not one of cargo's");
    for (line, expected) in [
        ("\n".to_owned(), not_one.clone()),
        ("null\n".to_owned(), not_one.clone()),
        ("{\"token\":\"secret\"\n".to_owned(), not_one.clone()),
        (whole.replace("\"v\":1", "\"v\":1,\"v\":1"), not_one.clone()),
        (whole.replace("\"kind\"", "\"kind\":\"login\",\"kind\""), not_one.clone()),
        (whole.replace("acme.example", "acme\u{0}.example"), not_one.clone()),
        (
            whole.replace("\"v\":1", "\"v\":2"),
            other("the request is of a version that was not offered"),
        ),
        (
            whole.replacen("\"headers\":[", &format!("{headers},\"x\":["), 1),
            other("the request is longer than 1 MiB"),
        ),
        (
            whole.replace("sparse+https://crates", "sparse+https:crates"),
            r#"{"Err":{"kind":"url-not-supported"}}"#.to_owned(),
        ),
        (
            whole.replace("crates.acme.example", "a b"),
            r#"{"Err":{"kind":"url-not-supported"}}"#.to_owned(),
        ),
        (
            whole.replace("crates.acme.example", ""),
            r#"{"Err":{"kind":"url-not-supported"}}"#.to_owned(),
        ),
    ] {
        ask(&home, &line).run().assert(0, &hello_and(&expected), "");
    }
    // A line without its end is a line.
    assert!(answers(&ask(&home, whole.trim_end()).run())[0]["Ok"].is_object());
    for token in ["", " ", "a\\nb", "a\\u0000", "\u{e4}"] {
        let login = request(INDEX, &format!("\"kind\":\"login\",\"token\":\"{token}\""));
        let answer = answers(&ask(&home, &login).run()).pop().expect("an answer");
        assert_eq!(answer["Err"]["kind"], "other", "{token:?}");
    }
    for arguments in [&[][..], &["get"], &["--cargo-plugin", "x"]] {
        let finished = home.sandbox.run("cargo-credential-valetkey", arguments).run();
        finished
            .assert_status(64)
            .assert_stdout("")
            .assert_stderr_has("hint: valetkey setup cargo");
    }
}
