//! Tokens that a person makes by hand, against the demonstration server that issues them: kept once
//! for every host of a profile, shown to the provider first, never renewed.

use serde_json::Value;

use crate::lab::{GitHost, Sandbox, Scheme, TokenServer, client, token_server, tokens, watched};
use crate::scene::{Scene, program, value};

/// A home, the demonstration server, and a git host that takes its tokens.
struct Stage {
    sandbox: Sandbox,
    server: TokenServer,
    host: GitHost,
}

impl Stage {
    fn new() -> Self {
        Self::with("flow = \"token\"")
    }

    fn with(more: &str) -> Self {
        let server = TokenServer::start("alice", "correct horse");
        let judge = std::sync::Arc::clone(&server.tokens);
        let takes = move |token: &str| judge.verify(token, token_server::now()).is_some();
        let host = GitHost::start(Scheme::Basic, takes);
        host.create("team/s.git");
        let stage = Self { sandbox: home(), server, host };
        stage.profile(&stage.sandbox, more);
        stage
    }

    fn profile(&self, sandbox: &Sandbox, more: &str) {
        let (git, api) = (self.host.origin(), self.server.origin());
        sandbox.config(&format!(
            "[profile.lab]\norigins = [\"{git}\", {{ url = \"{api}\", scheme = \"bearer\" }}]\n\
             token_env = [\"LAB_TOKEN\"]\ntoken_page = \"{api}/tokens\"\n\
             account = {{ url = \"{api}/me\", id = \"/login\" }}\n{more}\n",
        ));
    }

    /// A token as the person makes it on the page.
    fn made(&self) -> String {
        self.server.tokens.issue("alice", "laptop", &["read"], None, token_server::now())
    }

    fn login(&self, token: &str, more: &[&str]) -> crate::lab::Finished {
        let origin = self.host.origin();
        let arguments = [&["login", &origin, "--token-stdin"], more].concat();
        self.sandbox.valetkey(&arguments).stdin(format!("{token}\n")).run()
    }

    fn get(&self) -> crate::lab::Run {
        let host = self.host.origin().replace("http://", "");
        let question = format!("capability[]=state\nprotocol=http\nhost={host}\n");
        self.sandbox.valetkey(&["get"]).stdin(question)
    }

    fn records(&self) -> Vec<String> {
        let files = self.sandbox.files();
        let records = files.iter().filter(|file| file.path.starts_with("data/valetkey/sessions"));
        records.map(|file| String::from_utf8_lossy(&file.content).into_owned()).collect()
    }
}

fn home() -> Sandbox {
    let sandbox = Sandbox::new(program());
    sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "never");
    sandbox.link("git-credential-valetkey");
    sandbox.git_config("[credential]\n\thelper = valetkey\n");
    sandbox
}

/// S46, S47, S48, S49, S51: 256 random bits behind a prefix that a pattern finds; shown once; what
/// is kept is the hash, and beginning, name, scopes and times for the owner's list.
#[test]
fn the_server_shows_a_token_once_and_keeps_its_hash() {
    let server = TokenServer::start("alice", "correct horse");
    let as_alice = [
        ("Authorization", "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ=="),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let ask = |method: &str, path: &str, body: &str| {
        let page = client::http(method, &server.url(path), &as_alice, body.as_bytes());
        page.expect("an answer")
    };
    let made = ask("POST", "/tokens", "name=laptop&scopes=read+write&expires_in=60");
    assert_eq!(made.status, 201);
    let made: Value = serde_json::from_slice(&made.body).expect("JSON");
    let token = made["token"].as_str().expect("a token").to_owned();
    let random = token.strip_prefix("lab_").expect("the prefix");
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    assert!(random.len() == 43 && random.bytes().all(letter), "{token}");

    let listed = ask("GET", "/tokens", "");
    let text = String::from_utf8(listed.body).expect("text");
    assert!(!text.contains(&token) && !text.contains(&token[12..]), "{text}");
    let listed: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(listed[0]["beginning"], token[..12]);
    assert_eq!(listed[0]["name"], "laptop");
    assert_eq!(listed[0]["scopes"], serde_json::json!(["read", "write"]));
    assert!(listed[0]["expires"].as_u64() > Some(token_server::now()));
    assert_eq!(listed[0]["revoked"], Value::Null);
    let (row, _) = server.tokens.list("alice").remove(0);
    assert!(!format!("{row:?}").contains(&token[12..]));
    let hash = valetkey::model::fingerprint(token.as_bytes());
    let kept: String = row.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(kept, hash);

    assert_eq!(ask("DELETE", "/tokens/1", "").status, 204);
    assert!(!server.takes(&token));
    let stranger = client::http("GET", &server.url("/tokens"), &[], b"").expect("an answer");
    assert_eq!(stranger.status, 401);
}

/// S50: known, not revoked, not over; and nobody waits until its use is written down.
#[test]
fn the_server_checks_a_token_without_waiting_for_its_books() {
    let books = tokens::Tokens::new();
    let token = books.issue("alice", "laptop", &["read"], Some(100), 50);
    let held = books.hold_last_used();
    assert_eq!(books.verify(&token, 99).map(|row| row.owner).as_deref(), Some("alice"));
    drop(held);
    assert!(books.verify(&token, 100).is_none(), "over");
    assert!(books.verify(&format!("{token}x"), 99).is_none(), "unknown");
    let written = || (books.list("alice")[0].1 == Some(99)).then_some(());
    watched::poll("the use of the token, written down", written);
    assert!(!books.revoke("bob", 1, 60), "somebody else's");
    assert!(books.revoke("alice", 1, 60) && books.verify(&token, 99).is_none(), "revoked");
}

/// S61, S70, S71, S148: from standard input, without a person; then every host of the profile gets
/// it in its own form, and no command line ever holds it.
#[test]
fn a_token_from_standard_input_serves_every_host_of_its_profile() {
    let stage = Stage::new();
    let token = stage.made();
    let done = stage.login(&token, &[]);
    done.assert_status(0).assert_stdout("");
    done.assert_stderr_has("signed in with a token to http://127.0.0.1:");
    done.assert_stderr_has(" as alice; kept in files in ");
    assert!(!done.stderr_text().contains(&token), "{done}");
    stage.sandbox.git(&["clone", "-q", &stage.host.url("team/s.git"), "s"]).run().assert_success();
    let api = stage.server.url("/me");
    let header = stage.sandbox.valetkey(&["header", &api]).run().assert_success();
    assert_eq!(header, format!("Authorization: Bearer {token}\n"));
    let origin = stage.host.origin();
    stage.sandbox.valetkey(&["whoami", &origin]).run().assert(0, "alice\n", "");
    let listed = stage.sandbox.valetkey(&["list"]).run().assert_success();
    assert!(listed.starts_with("lab  alice, a pasted token (SHA-256 "), "{listed}");
    assert_eq!(stage.server.journal().at_path("/me").len(), 1, "asked once, at the sign-in");
    // Attack 26: no step says it either.
    stage.sandbox.env("VALETKEY_LOG", "debug");
    let logged = [stage.login(&token, &[]), stage.get().run(), stage.login("lab_canary", &[])];
    for finished in logged {
        let text = finished.stderr_text();
        assert!(text.contains("valetkey: "), "{text}");
        assert!(!text.contains(&token) && !text.contains("lab_canary"), "{text}");
    }
}

/// S72, S159: it does not end by itself, and serves a second machine too; it ends at the server.
#[test]
fn the_same_token_serves_two_machines_until_it_is_revoked() {
    let stage = Stage::new();
    let token = stage.made();
    stage.login(&token, &[]).assert_status(0);
    let second = home();
    stage.profile(&second, "flow = \"token\"");
    let origin = stage.host.origin();
    let login = second.valetkey(&["login", &origin, "--token-stdin"]).stdin(&token).run();
    login.assert_status(0);
    for sandbox in [&stage.sandbox, &second] {
        sandbox.git(&["clone", "-q", &stage.host.url("team/s.git"), "s"]).run().assert_success();
    }
    let out = stage.sandbox.valetkey(&["logout", &origin]).run();
    let page = format!("it lives until it is revoked at {}/tokens", stage.server.origin());
    out.assert_status(0).assert_stderr_has(&page);
    assert!(stage.server.takes(&token));
    assert!(stage.server.tokens.revoke("alice", 1, token_server::now()));
    // git says what the host rejected, and then there is nothing any more.
    let fetch = second.git(&["fetch", "-q"]).cwd(second.work().join("s")).run();
    assert_ne!(fetch.status, 0);
    second.valetkey(&["list", "--json"]).run().assert(0, "[]\n", "");
}

/// S45, S73, S94, S149: a variable that is bound to the profile or to the host comes first, and no
/// store is touched.
#[test]
fn a_token_in_the_environment_comes_before_a_kept_one() {
    let stage = Stage::new();
    stage.login(&stage.made(), &[]).assert_status(0);
    let answer = stage.get().env("LAB_TOKEN", "from-the-environment").run();
    assert_eq!(value(&answer, "password").as_deref(), Some("from-the-environment"));
    let origin = stage.host.origin();
    let status = stage.sandbox.valetkey(&["status", &origin]).env("LAB_TOKEN", "x").run();
    let line = format!("{origin}: profile lab; answered by a variable of the environment\n");
    status.assert(0, &line, "");
}

/// S150: a bad token is found out at once, and nothing is kept.
#[test]
fn a_token_that_the_provider_does_not_know_is_not_kept() {
    let stage = Stage::new();
    let bad = stage.login("lab_notatoken", &[]);
    bad.assert_status(4).assert_stdout("");
    let (home, page) = (stage.host.origin(), stage.server.url("/tokens"));
    assert_eq!(
        bad.stderr_text(),
        format!(
            "error: {home} does not take this token; nothing was kept\n\
             hint: make a new one at {page}\n"
        )
    );
    assert_eq!(stage.records(), [""; 0]);
    // What was there before stays.
    let token = stage.made();
    stage.login(&token, &[]).assert_status(0);
    stage.login("lab_notatoken", &[]).assert_status(4);
    assert_eq!(value(&stage.get().run(), "password"), Some(token));
}

/// Attack 22: a provider that cannot say yes or no decides nothing, and one that sends us elsewhere
/// does not get the token there.
#[test]
fn a_token_that_nobody_could_check_is_not_kept() {
    for (answer, status) in [(503, 5), (429, 5), (302, 78), (404, 78), (403, 4), (200, 4)] {
        let stage = Stage::new();
        let other = crate::lab::Server::start(move |_: &crate::lab::Request| {
            let answer = crate::lab::Answer::json(answer, &serde_json::json!({ "login": "" }));
            answer.with_header("Location", "https://elsewhere.example").into()
        });
        stage.sandbox.config(&format!(
            "[profile.lab]\norigins = [\"{}\"]\nflow = \"token\"\n\
             account = {{ url = \"{}/me\", id = \"/login\" }}\n",
            stage.host.origin(),
            other.origin(),
        ));
        stage.login(&stage.made(), &[]).assert_status(status).assert_stdout("");
        assert_eq!(stage.records(), [""; 0], "{answer}");
        assert_eq!(other.journal().snapshot().len(), 1, "no redirect is followed");
    }
    let stage = Stage::new();
    stage.sandbox.config(&format!(
        "[profile.lab]\norigins = [\"{}\"]\nflow = \"token\"\n\
         account = {{ url = \"http://127.0.0.1:1/me\", id = \"/login\" }}\n",
        stage.host.origin(),
    ));
    let away = stage.login(&stage.made(), &[]);
    away.assert_status(5).assert_stderr_has("error: 127.0.0.1:1 cannot be reached");
    assert_eq!(stage.records(), [""; 0]);
}

/// S147: it works, and the person is told what it costs. The text is shown nowhere.
#[test]
fn a_token_on_the_command_line_is_taken_with_a_warning() {
    let stage = Stage::new();
    let (origin, token) = (stage.host.origin(), stage.made());
    let done = stage.sandbox.valetkey(&["login", &origin, "--with-token", &token]).run();
    done.assert_status(0).assert_stdout("").assert_stderr_has("warning: a token on the command");
    assert!(!done.stderr_text().contains(&token), "{done}");
    assert_eq!(value(&stage.get().run(), "password"), Some(token.clone()));
    for more in [&["--flow", "device"][..], &["--token-stdin"], &["--force"], &["--expires", "x"]] {
        let arguments = [&["login", &origin, "--with-token", &token], more].concat();
        let wrong = stage.sandbox.valetkey(&arguments).run();
        wrong.assert_status(64).assert_stdout("");
        assert!(!wrong.stderr_text().contains(&token), "{wrong}");
    }
}

/// What is no token is refused before anybody is asked, and not repeated.
#[test]
fn what_cannot_be_a_token_is_refused_and_not_repeated() {
    let stage = Stage::new();
    let long = "x".repeat(70_000);
    let huge = "x".repeat(2_000_000);
    let cases: [&[u8]; 9] = [
        b"",
        b"\n\n",
        b"canary two",
        b"canary\nhost=evil.example",
        b"canary\x1b]52;c;x\x07",
        b"canary\0",
        "canary-ü".as_bytes(),
        long.as_bytes(),
        huge.as_bytes(),
    ];
    for case in cases {
        let origin = stage.host.origin();
        let run = stage.sandbox.valetkey(&["login", &origin, "--token-stdin"]).stdin(case);
        let refused = run.run();
        refused.assert_status(64).assert_stdout("");
        let text = refused.stderr_text();
        assert!(!text.contains("canary") && text.len() < 200, "{text}");
    }
    let binary = stage.sandbox.valetkey(&["login", &stage.host.origin(), "--token-stdin"]);
    binary.stdin(b"canary\xff").run().assert_status(64);
    assert_eq!(stage.server.journal().snapshot().len(), 0);
    assert_eq!(stage.records(), [""; 0]);
}

/// A terminal would show what is typed, so standard input is not read from one.
#[test]
fn a_token_is_not_read_from_a_terminal_that_shows_it() {
    let stage = Stage::new();
    let origin = stage.host.origin();
    let command = format!("exec valetkey login {origin} --token-stdin </dev/tty");
    stage.sandbox.link("valetkey");
    let refused = stage.sandbox.run("sh", &["-c", &command]).terminal().run();
    refused.assert_status(64).assert_stderr_has("a terminal, which would show the token");
}

/// S104: a token that a session was given is no token made by hand: it would end with the session.
#[test]
fn a_token_of_a_session_is_refused() {
    let scene = Scene::new();
    scene.sign_in();
    let origin = scene.host.origin();
    let record: Value = serde_json::from_slice(&scene.session_file().content).expect("JSON");
    for name in ["access_token", "refresh_token"] {
        let token = record[name].as_str().expect("a token");
        let run = scene.sandbox.valetkey(&["login", &origin, "--token-stdin"]).stdin(token);
        let refused = run.run();
        refused.assert_status(64).assert_stderr_has("this token is the session's");
        assert!(!refused.stderr_text().contains(token));
    }
    scene.session_file();
    let scene = Scene::new();
    scene.profile("flow = \"none\"");
    let token = scene.authority.grant("alice").access;
    scene
        .authority
        .next("/me", vec![crate::lab::Step::json(200, &serde_json::json!({ "login": "alice" }))]);
    let gho = format!("gho_{token}");
    let run = scene.sandbox.valetkey(&["login", &scene.host.origin(), "--token-stdin"]).stdin(gho);
    run.run().assert_status(0).assert_stderr_has("warning: this is a token that an application");
}

/// Its end is known where the person says it, and told a week before, once a day; then S158: what
/// has expired is rejected here, with the command that mends it.
#[test]
fn the_end_of_a_token_is_told_in_time() {
    let stage = Stage::new();
    let (origin, token) = (stage.host.origin(), stage.made());
    for wrong in ["0", "2001-02-03", "2026-02-30", "soon", "-5"] {
        stage.login(&token, &["--expires", wrong]).assert_status(64);
    }
    stage.login(&token, &["--expires", "9999-12-31"]).assert_status(0);
    assert!(stage.records()[0].contains("\"expires_at\":253402214400,"), "{:?}", stage.records());
    stage.login(&token, &["--expires", "172900"]).assert_status(0);
    let whoami = stage.sandbox.valetkey(&["whoami", &origin]).run();
    whoami.assert(0, "alice\n", "warning: the credentials of alice at lab expire in 2 days\n");
    // git's own streams say nothing; a person at the terminal hears of it, once today.
    let first = stage.get().terminal().run();
    let page = stage.server.url("/tokens");
    first.assert_terminal_has(&format!("ends in 2 days; make a new one at {page}"));
    assert!(first.stderr.is_empty(), "{first}");
    assert_eq!(stage.get().terminal().run().terminal, "");
    stage.get().run().assert_success();

    crate::scene::age(&stage.sandbox, 172_901);
    let whoami = stage.sandbox.valetkey(&["whoami", &origin]).run();
    whoami.assert(0, "alice\n", "warning: the credentials of alice at lab have expired\n");
    let expired = stage.get().run();
    let text = format!(
        "error: the credentials for {origin} have expired\n\
         hint: valetkey login {origin}, with a token from {page}\n"
    );
    expired.assert(4, "", &text);
    assert_eq!(stage.records().len(), 1, "it stays, so that the reason stays known");
}

/// `flow = "token"`: login asks for it on the terminal, and so does git's miss; nothing shows.
#[test]
fn a_token_is_pasted_on_the_terminal_and_does_not_show() {
    let stage = Stage::new();
    let (origin, token) = (stage.host.origin(), stage.made());
    let page = stage.server.url("/tokens");
    let ours = |run: crate::lab::Run| run.terminal().env("VALETKEY_INTERACTIVE", "always");
    let prompt = format!("paste a token for {origin}, made at {page}, and press Enter");

    let started = ours(stage.sandbox.valetkey(&["login", &origin])).start();
    started.terminal_expect(&prompt);
    started.terminal_type("lab_mistyped\n");
    started.wait().assert_status(4).assert_stderr_has("does not take this token");

    let started = ours(stage.get()).start();
    started.terminal_expect(&prompt);
    started.terminal_type(&format!("{token}\n"));
    let finished = started.wait();
    assert_eq!(value(&finished, "password"), Some(token.clone()));
    assert!(!finished.terminal.contains(&token), "{finished}");
    assert_eq!(value(&stage.get().run(), "password"), Some(token));

    stage.sandbox.valetkey(&["logout", &origin]).run().assert_status(0);
    let started = ours(stage.get()).start();
    started.terminal_expect(&prompt);
    started.terminal_type("\u{3}");
    started.wait().assert_status(3).assert_stdout("");
    // The person said no: five minutes of peace.
    ours(stage.get()).run().assert_status(2).assert_stdout("");
    // Without a terminal the hint says how.
    let login = stage.sandbox.valetkey(&["login", &origin]).env("VALETKEY_INTERACTIVE", "always");
    login.run().assert_status(2).assert_stderr_has("--token-stdin < FILE");
}

/// Design section 5: what a host rejects is deleted if it is that very secret; what worked is no
/// news; a sign-out at one host does not take it away from the others.
#[test]
fn only_the_rejected_token_is_erased() {
    let stage = Stage::new();
    let token = stage.made();
    stage.login(&token, &[]).assert_status(0);
    let host = stage.host.origin().replace("http://", "");
    let tell = |verb: &str, secret: Option<&str>| {
        let secret = secret.map_or_else(String::new, |secret| format!("password={secret}\n"));
        let entry = format!("protocol=http\nhost={host}\nusername=oauth2\n{secret}");
        stage.sandbox.valetkey(&[verb]).stdin(entry).run().assert(0, "", "");
    };
    let before = stage.records();
    tell("store", Some(&token));
    assert_eq!(stage.records(), before, "no news");
    tell("erase", Some("another"));
    tell("erase", None);
    assert_eq!(stage.records(), before);
    tell("erase", Some(&token));
    assert_eq!(stage.records(), [""; 0]);
}

/// A session and a token side by side: what was chosen last answers, until `use` says otherwise.
#[test]
fn a_session_and_a_token_of_one_account_stand_side_by_side() {
    let scene = Scene::new();
    scene.sign_in();
    let origin = scene.host.origin();
    let session = value(&scene.get().run(), "password").expect("a token");
    let made = scene.authority.grant("alice").access;
    let login = scene.sandbox.valetkey(&["login", &origin, "--token-stdin"]).stdin(&made);
    login.run().assert_status(0);
    let answer = || value(&scene.get().run(), "password").expect("a token");
    assert_eq!(answer(), made);
    let choose = |more: &[&str]| {
        let arguments = [&["use", &origin, "--account", "alice"], more].concat();
        scene.sandbox.valetkey(&arguments).run().assert_status(0);
    };
    choose(&[]);
    assert_eq!(answer(), session);
    let status = scene.sandbox.valetkey(&["status", &origin]).run().assert_success();
    assert!(status.ends_with(", because it was chosen last\n"), "{status}");
    choose(&["--token"]);
    assert_eq!(answer(), made);
    // What the host rejects goes, and the session answers again.
    scene.authority.expire_access(&made);
    assert_ne!(scene.clone_to("s").status, 0);
    assert_eq!(answer(), session);
}

/// Where no profile serves a host its token is kept for that origin alone, and nobody is shown it.
#[test]
fn without_a_profile_a_token_is_for_its_origin() {
    let stage = Stage::new();
    let keep = |url: &str, more: &[&str]| {
        let arguments = [&["login", url, "--token-stdin"], more].concat();
        stage.sandbox.valetkey(&arguments).stdin("ghp_canary\n").run()
    };
    keep("https://code.example", &[]).assert_status(0).assert_stderr_has("unseen by it");
    let question = |host: &str| format!("protocol=https\nhost={host}\n");
    let get = |host: &str| stage.sandbox.valetkey(&["get"]).stdin(question(host)).run();
    get("code.example").assert(0, "username=oauth2\npassword=ghp_canary\n", "");
    get("sub.code.example").assert(2, "", "");
    keep("http://code.example", &[]).assert_status(64);
    keep("https://code.example", &["--set", "tenant=x"]).assert_status(78);
    keep("https://bob@code.example", &[]).assert_status(0);
    let listed = stage.sandbox.valetkey(&["list"]).run().assert_success();
    assert!(
        listed.contains("https://code.example  bob, a stored credential (ghp_..., "),
        "{listed}"
    );
}

/// N10: who pastes a token for a request that names an account does not answer for the others.
#[test]
fn a_token_for_a_name_leaves_the_others_alone() {
    let stage = Stage::with("flow = \"token\"\nusername = \"{account}\"");
    let token = stage.made();
    stage.login(&token, &[]).assert_status(0);
    let bobs = stage.server.tokens.issue("bob", "laptop", &[], None, token_server::now());
    let host = stage.host.origin().replace("http://", "");
    let question = format!("protocol=http\nhost={host}\nusername=bob\n");
    let get = stage.sandbox.valetkey(&["get"]).stdin(question).terminal();
    let started = get.env("VALETKEY_INTERACTIVE", "always").start();
    started.terminal_expect("paste a token for");
    started.terminal_type(&format!("{bobs}\n"));
    started.terminal_expect("alice still answers where bob is not named");
    assert_eq!(value(&started.wait(), "password"), Some(bobs));
    let answer = stage.get().run();
    assert_eq!(value(&answer, "username").as_deref(), Some("alice"));
    assert_eq!(value(&answer, "password"), Some(token));
}
