//! cargo's credential provider protocol, byte by byte through the whole program.

use crate::lab::{Authority, Browser, CLIENT_ID, Finished, Options, Person, Run, Sandbox};
use crate::scene::program;

/// A home with a profile for one index; nobody signed in. The index is never asked.
struct Home {
    authority: Authority,
    sandbox: Sandbox,
}

const INDEX: &str = "https://crates.acme.example/team/index";

impl Home {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let authority = Authority::start_with(options);
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "never");
        sandbox.link("cargo-credential-valetkey");
        let home = Self { authority, sandbox };
        home.profile("bearer");
        home
    }

    fn profile(&self, scheme: &str) {
        self.sandbox.config(&format!(
            "[profile.acme]\norigins = [\"{INDEX}\"]\nissuer = \"{}\"\n\
             client_id = \"{CLIENT_ID}\"\nscheme = \"{scheme}\"\n",
            self.authority.issuer(),
        ));
    }

    fn browser(&self, person: Person) -> Browser {
        self.sandbox.env("VALETKEY_INTERACTIVE", "always");
        Browser::start(&self.sandbox, person)
    }

    fn sign_in(&self) {
        let _browser = self.browser(Person::Approves);
        self.sandbox.valetkey(&["login", INDEX]).run().assert_status(0);
        self.sandbox.env("VALETKEY_INTERACTIVE", "never");
    }

    fn ask(&self, lines: &str) -> Run {
        self.sandbox.run("cargo-credential-valetkey", &["--cargo-plugin"]).stdin(lines)
    }

    fn get(&self) -> Finished {
        self.ask(&get(INDEX)).run()
    }

    fn token_of(&self, finished: &Finished) -> String {
        let answer = answers(finished).pop().expect("an answer");
        answer["Ok"]["token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }
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
    let home = Home::new();
    let provider = home.sandbox.run("cargo-credential-valetkey", &["--cargo-plugin"]);
    let mut started = provider.stdin_open().start();
    started.expect_stdout("{\"v\":[1]}\n");
    started.send(get("https://nowhere.example"));
    started.expect_stdout("{\"v\":[1]}\n{\"Err\":{\"kind\":\"not-found\"}}\n");
    assert!(started.is_running(), "the conversation is not over");
    started.close_stdin();
    started.wait().assert_status(0);
    home.ask("").run().assert(0, "{\"v\":[1]}\n", "");
}

#[test]
fn a_hit_is_the_whole_header_with_its_end_a_little_early() {
    let home = Home::new();
    home.sign_in();
    let finished = home.get();
    let answer = answers(&finished).pop().expect("an answer");
    let token = home.token_of(&finished);
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
    home.profile("private-token");
    assert_eq!(format!("Bearer {}", home.token_of(&home.get())), token);
}

#[test]
fn a_token_without_an_end_is_good_for_the_command() {
    let home = Home::with(Options { expires_in: None, ..Options::default() });
    home.sign_in();
    let finished = home.get();
    let token = home.token_of(&finished);
    let expected = format!(
        "{{\"Ok\":{{\"kind\":\"get\",\"token\":\"{token}\",\"cache\":\"session\",\
         \"operation_independent\":true}}}}"
    );
    finished.assert(0, &hello_and(&expected), "");
}

#[test]
fn every_operation_gets_the_same_token_and_unknown_ones_none() {
    let home = Home::new();
    home.sign_in();
    let token = home.token_of(&home.get());
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
    let finished = home.ask(&questions.concat()).run();
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
    let home = Home::new();
    let expected = "error: not signed in to https://crates.acme.example\n\
                    hint: valetkey login https://crates.acme.example\n";
    home.get().assert(0, &hello_and(r#"{"Err":{"kind":"not-found"}}"#), expected);
    // A registry that nobody told us about is not even worth a word.
    home.ask(&get("https://nowhere.example")).run().assert(
        0,
        &hello_and(r#"{"Err":{"kind":"not-found"}}"#),
        "",
    );
}

/// The token goes to whatever hosts the index names, so being on a trusted host is not enough.
#[test]
fn only_the_index_that_a_profile_names_gets_a_session() {
    let home = Home::new();
    home.sign_in();
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
        let answer = answers(&home.ask(&get(index)).run()).pop().expect("an answer");
        assert!(answer["Err"]["kind"].is_string(), "{index}: {answer}");
    }
    let repository = get(INDEX).replace("sparse+", "");
    let answer = answers(&home.ask(&repository).run()).pop().expect("an answer");
    assert_eq!(answer["Err"]["kind"], "not-found");
}

#[test]
fn a_miss_signs_in_where_a_person_is_and_an_end_renews_silently() {
    let home = Home::with(Options { expires_in: Some(30), ..Options::default() });
    let browser = home.browser(Person::Approves);
    let first = home.token_of(&home.get());
    assert_eq!(browser.opened().len(), 1);
    home.sandbox.env("VALETKEY_INTERACTIVE", "never");
    let second = home.get();
    second.assert_status(0).assert_success();
    assert_ne!(home.token_of(&second), first);
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
    assert_eq!(browser.opened().len(), 1);
}

#[test]
fn login_with_a_token_keeps_it_as_it_was_typed_for_that_index_alone() {
    let home = Home::new();
    let other = "https://crates.other.example/index";
    for typed in ["cio1234567890", "Basic cGF0OnRva2Vu", "Bearer abc"] {
        let login = request(other, &format!("\"kind\":\"login\",\"token\":\"{typed}\""));
        home.ask(&login).run().assert(0, &hello_and(r#"{"Ok":{"kind":"login"}}"#), "");
        assert_eq!(home.token_of(&home.ask(&get(other)).run()), typed);
    }
    let answer = answers(&home.ask(&get("https://crates.other.example/evil")).run()).pop();
    assert_eq!(answer.expect("an answer")["Err"]["kind"], "not-found");
    // It is no password of the same host.
    let git = "protocol=https\nhost=crates.other.example\n";
    home.sandbox.valetkey(&["get"]).stdin(git).run().assert(2, "", "");
    let logout = request(other, "\"kind\":\"logout\"");
    home.ask(&logout).run().assert(0, &hello_and(r#"{"Ok":{"kind":"logout"}}"#), "");
    home.ask(&logout).run().assert(0, &hello_and(r#"{"Err":{"kind":"not-found"}}"#), "");
    let answer = answers(&home.ask(&get(other)).run()).pop();
    assert_eq!(answer.expect("an answer")["Err"]["kind"], "not-found");
}

#[test]
fn login_without_a_token_signs_in_where_a_profile_says_how() {
    let home = Home::new();
    let login = request(INDEX, "\"kind\":\"login\"");
    let refused = answers(&home.ask(&login).run()).pop().expect("an answer");
    assert_eq!(refused["Err"]["kind"], "other");
    assert_eq!(refused["Err"]["message"], "not signed in to https://crates.acme.example");
    let hint = "hint: valetkey login https://crates.acme.example";
    assert_eq!(refused["Err"]["caused-by"], serde_json::json!([hint]));
    let browser = home.browser(Person::Approves);
    let done = home.ask(&login).run();
    done.assert_status(0).assert_stdout(&hello_and(r#"{"Ok":{"kind":"login"}}"#));
    assert_eq!(browser.opened().len(), 1);
    home.ask(&login).run().assert_status(0);
    assert_eq!(browser.opened().len(), 1);
}

/// What a person types does not show, and a token can be longer than a terminal's line.
#[test]
fn login_without_a_token_lets_the_person_paste_one() {
    let home = Home::new();
    home.sandbox.remove_env("VALETKEY_INTERACTIVE");
    let other = "https://crates.other.example/index";
    let page = "https://crates.other.example/me\\u001b[2J";
    let login = request(other, &format!("\"kind\":\"login\",\"login-url\":\"{page}\""));
    let nobody = answers(&home.ask(&login).run()).pop().expect("an answer");
    assert_eq!(nobody["Err"]["kind"], "other", "{nobody}");
    let token = format!("cio{}", "x".repeat(6_000));
    let started = home.ask(&login).terminal().start();
    started.terminal_expect("paste the token for sparse+https://crates.other.example/index, which");
    started.terminal_type(&format!("wrong\x15{token}y\x7f\n"));
    let finished = started.wait();
    finished.assert(0, &hello_and(r#"{"Ok":{"kind":"login"}}"#), "");
    finished.assert_terminal_has("find at https://crates.other.example/me[2J, and press Enter");
    assert!(!finished.terminal.contains("cioxx"), "{}", finished.terminal);
    assert_eq!(home.token_of(&home.ask(&get(other)).run()), token);
    // Ctrl-C is a no, and the terminal is left as it was.
    let started = home.ask(&login).terminal().start();
    started.terminal_expect("press Enter");
    started.terminal_type("abc\x03");
    let refused = answers(&started.wait()).pop().expect("an answer");
    assert_eq!(refused["Err"]["kind"], "other", "{refused}");
    assert_eq!(home.token_of(&home.ask(&get(other)).run()), token);
}

#[test]
fn logout_of_a_session_forgets_its_token_and_holds_nothing_against_the_host() {
    let home = Home::new();
    home.sign_in();
    let first = home.token_of(&home.get());
    let logout = request(INDEX, "\"kind\":\"logout\"");
    for _ in 0..4 {
        home.ask(&logout).run().assert(0, &hello_and(r#"{"Ok":{"kind":"logout"}}"#), "");
        assert_ne!(home.token_of(&home.get()), first);
    }
}

#[test]
fn hostile_input_gets_an_answer_and_no_token() {
    let home = Home::new();
    home.sign_in();
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
        home.ask(&line).run().assert(0, &hello_and(&expected), "");
    }
    // A line without its end is a line.
    assert!(answers(&home.ask(whole.trim_end()).run())[0]["Ok"].is_object());
    for token in ["", " ", "a\\nb", "a\\u0000", "\u{e4}"] {
        let login = request(INDEX, &format!("\"kind\":\"login\",\"token\":\"{token}\""));
        let answer = answers(&home.ask(&login).run()).pop().expect("an answer");
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
