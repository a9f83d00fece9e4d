//! keyring's command line, byte for byte, through the whole program; rules P1 to P16.

use std::path::{Path, PathBuf};

use crate::lab::{Finished, Options, Person, Scheme};
use crate::scene::Scene;

/// One home where `keyring` is valetkey, and nothing else of that name is on PATH.
pub struct Index {
    pub scene: Scene,
}

impl Index {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let scene = Scene::with(Scheme::Basic, options);
        scene.sandbox.link("keyring");
        scene.sandbox.env("PATH", only(&scene, &[]));
        Self { scene }
    }

    pub fn url(&self) -> String {
        format!("{}/simple/", self.scene.host.origin())
    }

    fn host(&self) -> String {
        self.scene.host.origin().replace("http://", "")
    }

    fn keyring(&self, words: &[&str]) -> Finished {
        self.scene.sandbox.run("keyring", words).run()
    }

    fn set(&self, service: &str, user: &str, password: &str) -> Finished {
        self.scene.sandbox.run("keyring", &["set", service, user]).stdin(password).run()
    }

    fn token(&self) -> String {
        let run = self.scene.sandbox.valetkey(&["token", &self.scene.host.origin()]);
        run.run().assert_success().trim().to_owned()
    }
}

/// A PATH with the sandbox's own programs, those that the laboratory cannot do without, and `more`.
fn only(scene: &Scene, more: &[&Path]) -> String {
    let tools = scene.sandbox.root().join("tools");
    std::fs::create_dir_all(&tools).expect("a directory");
    for name in ["setsid", "sh", "bash", "cat"] {
        let real = std::env::var_os("PATH").expect("a PATH");
        let real = std::env::split_paths(&real).map(|directory| directory.join(name));
        let real = real.into_iter().find(|file| file.is_file()).expect("it is there");
        let _ = std::os::unix::fs::symlink(real, tools.join(name));
    }
    let all = [scene.sandbox.bin(), &tools].into_iter().chain(more.iter().copied());
    let all = std::env::join_paths(all).expect("plain paths");
    all.into_string().expect("plain paths")
}

/// A keyring of somebody else's, behind ours on PATH, that says what it was asked.
fn another(index: &Index, text: &str) -> PathBuf {
    let directory = index.scene.sandbox.root().join("other");
    std::fs::create_dir_all(&directory).expect("a directory");
    crate::lab::sandbox::write_program(&directory.join("keyring"), text);
    index.scene.sandbox.env("PATH", only(&index.scene, &[&directory]));
    directory
}

const SAYS: &str = "#!/bin/sh\nprintf '<%s>' \"$@\"\ncat\nexit 7\n";

#[test]
fn both_generations_get_the_bytes_of_the_real_keyring() {
    let index = Index::new();
    index.scene.sign_in();
    let (url, host, token) = (index.url(), index.host(), index.token());
    let json = format!("{{\"username\": \"oauth2\", \"password\": \"{token}\"}}\n");
    let lines = format!("oauth2\n{token}\n");
    let alone = format!("{token}\n");
    for (words, answer) in [
        (vec!["get", url.as_str(), "oauth2"], &alone),
        (vec!["get", &host, "oauth2"], &alone),
        (vec!["get", &host, "alice"], &alone),
        (vec!["get", &url, "__token__"], &alone),
        (vec!["--mode=creds", "--output=json", "get", &url], &json),
        (vec!["--mode=creds", "--output=json", "get", &url, "oauth2"], &json),
        (vec!["--mode=creds", "--output=json", "get", &host, "someone"], &json),
        (vec!["get", &url, "--mode", "creds"], &lines),
        (vec!["--output", "plain", "get", "--mode=creds", &url, "alice"], &lines),
    ] {
        index.keyring(&words).assert(0, answer, "");
    }
    let only = format!("{{\"password\": \"{token}\"}}\n");
    index.keyring(&["get", &url, "oauth2", "--output=json"]).assert(0, &only, "");
    // The same without the link.
    let named = index.scene.sandbox.valetkey(&["keyring", "get", &url, "oauth2"]).run();
    named.assert(0, &alone, "");
    assert_eq!(index.scene.authority.asked_for("refresh_token"), 0);
}

/// P9: exit status 1 and nothing on standard output; a person is told only where one can help.
#[test]
fn nothing_found_is_status_1_and_silence() {
    let index = Index::new();
    index.scene.nobody();
    for service in ["https://stranger.example/simple/", "stranger.example:8443", "system", "a b"] {
        index.keyring(&["get", service, "oauth2"]).assert(1, "", "");
        index.keyring(&["--mode=creds", "--output=json", "get", service]).assert(1, "", "");
    }
    let hint = format!("hint: valetkey login {}", index.scene.host.origin());
    let missed = index.keyring(&["get", &index.url(), "oauth2"]);
    missed.assert_status(1).assert_stdout("").assert_stderr_has(&hint);
    let missed = index.keyring(&["get", &index.url(), "--mode", "creds"]);
    missed.assert_status(1).assert_stdout("").assert_stderr_has(&hint);
}

#[test]
fn a_person_signs_in_once_and_nobody_is_asked_in_ci() {
    let index = Index::new();
    let url = index.url();
    let browser = index.scene.browser(Person::Approves);
    index.scene.sandbox.remove_env("VALETKEY_INTERACTIVE").env("CI", "true");
    index.keyring(&["get", &url, "oauth2"]).assert_status(1).assert_stdout("");
    index.scene.sandbox.remove_env("CI").env("VALETKEY_INTERACTIVE", "always");
    index.keyring(&["get", "https://stranger.example/", "a"]).assert(1, "", "");
    assert!(browser.opened().is_empty());
    let first = index.keyring(&["--mode=creds", "--output=json", "get", &url]);
    first.assert_status(0);
    assert!(first.stdout_text().starts_with("{\"username\": \"oauth2\", \"password\": \""));
    index.keyring(&["get", &url, "oauth2"]).assert_success();
    // No account of that name: the one that is there will do.
    index.keyring(&["get", &url, "someone"]).assert_success();
    assert_eq!(browser.opened().len(), 1);
}

/// P8: the answer has no expiry, so it must live for ten more minutes.
#[test]
fn a_token_that_is_about_to_end_is_renewed_first() {
    let index = Index::new();
    index.scene.sign_in();
    let before = index.scene.authority.secrets();
    index.scene.age(2900);
    index.keyring(&["get", &index.url(), "oauth2"]).assert_success();
    assert_eq!(index.scene.authority.asked_for("refresh_token"), 0);
    index.scene.age(200);
    let token = index.keyring(&["get", &index.url(), "oauth2"]).assert_success();
    assert!(!before.contains(&token.trim().to_owned()), "the old token was handed out");
    assert!(index.scene.authority.token_is_live(token.trim()));
    assert_eq!(index.scene.authority.asked_for("refresh_token"), 1);
}

/// pip asks for the host when the URL is not known, and then sends what it got to the URL.
#[test]
fn a_token_that_is_bound_to_a_path_is_not_given_to_the_host() {
    let index = Index::new();
    index.scene.sign_in();
    let (origin, token) = (index.scene.host.origin(), index.token());
    index.scene.sandbox.config(&format!(
        "[profile.lab]\norigins = [\"{origin}/team\"]\nissuer = \"{}\"\n\
         client_id = \"{}\"\n",
        index.scene.authority.issuer(),
        crate::lab::CLIENT_ID,
    ));
    let team = format!("{origin}/team/simple/");
    index.keyring(&["get", &team, "oauth2"]).assert(0, &format!("{token}\n"), "");
    for service in [index.url(), index.host(), format!("{origin}/"), format!("{origin}/teams/")] {
        index.keyring(&["get", &service, "oauth2"]).assert(1, "", "");
        index.keyring(&["--mode=creds", "get", &service]).assert(1, "", "");
    }
}

#[test]
fn the_account_of_that_name_is_preferred() {
    let index = Index::new();
    index.scene.sign_in();
    index.scene.authority.sign_in_as("bob");
    let browser = index.scene.browser(Person::Approves);
    let login = ["login", "--force", &index.scene.host.origin()];
    index.scene.sandbox.valetkey(&login).run().assert_status(0);
    drop(browser);
    index.scene.nobody();
    for (user, owner) in [("alice", "alice"), ("bob", "bob"), ("oauth2", "bob"), ("x", "bob")] {
        let token = index.keyring(&["get", &index.url(), user]).assert_success();
        assert_eq!(index.scene.authority.owner_of(token.trim()).as_deref(), Some(owner), "{user}");
    }
}

/// P10, P11, P12: pip keeps what was typed by host, and asks by URL first.
#[test]
fn what_is_set_is_got_and_deleted() {
    let index = Index::new();
    index.scene.nobody();
    index.set("pypi.example:8443", "me", "p\u{e4}ss word\n").assert(0, "", "");
    let url = "https://pypi.example:8443/simple/";
    index.keyring(&["get", url, "me"]).assert(0, "p\u{e4}ss word\n", "");
    index.keyring(&["get", "pypi.example:8443", "me"]).assert(0, "p\u{e4}ss word\n", "");
    index.keyring(&["--mode=creds", "--output=json", "get", url]).assert(
        0,
        "{\"username\": \"me\", \"password\": \"p\u{e4}ss word\"}\n",
        "",
    );
    // A password is one person's.
    index.keyring(&["get", url, "you"]).assert(1, "", "");
    index.keyring(&["get", url, "you", "--mode=creds"]).assert(1, "", "");
    index.keyring(&["get", url, "--mode=creds"]).assert(0, "me\np\u{e4}ss word\n", "");
    // What is stored for one path goes to no other.
    index.set("https://paths.example/one/", "me", "1\r\n").assert(0, "", "");
    index.keyring(&["get", "https://paths.example/one/", "me"]).assert(0, "1\n", "");
    index.keyring(&["get", "https://paths.example/two/", "me"]).assert(1, "", "");
    index.keyring(&["get", "http://paths.example/one/", "me"]).assert(1, "", "");

    index.keyring(&["del", "pypi.example:8443", "you"]).assert_status(1).assert_stdout("");
    index.keyring(&["del", "pypi.example:8443", "me"]).assert(0, "", "");
    index.keyring(&["del", "pypi.example:8443", "me"]).assert_status(1).assert_stdout("");
    index.keyring(&["get", url, "me"]).assert(1, "", "");
}

/// pip offers to keep what it was given; our own token is no news.
#[test]
fn our_own_token_is_not_kept_a_second_time() {
    let index = Index::new();
    index.scene.sign_in();
    let kept = || {
        let mut files = index.scene.sandbox.files();
        files.retain(|file| file.path.starts_with("data"));
        files.len()
    };
    assert_eq!(kept(), 1);
    index.set(&index.host(), "oauth2", &format!("{}\n", index.token())).assert(0, "", "");
    assert_eq!(kept(), 1);
    // A deleted session forgets its access token, and renews when it is asked again.
    index.keyring(&["del", &index.host(), "oauth2"]).assert(0, "", "");
    index.keyring(&["get", &index.host(), "oauth2"]).assert_success();
    assert_eq!(index.scene.authority.asked_for("refresh_token"), 1);
}

/// P13: the next keyring gets the very call, its streams and its status.
#[test]
fn what_is_not_ours_goes_on_to_the_next_keyring() {
    let index = Index::new();
    index.scene.sign_in();
    another(&index, SAYS);
    for words in [
        vec!["get", "system", "alice"],
        vec!["get", "https://stranger.example/simple/", "alice"],
        vec!["--mode=creds", "--output=json", "get", "https://stranger.example/simple/"],
        vec!["-b", "some.Backend", "get", "x.example", "y"],
        vec!["diagnose"],
        vec!["--list-backends"],
        vec!["del", "stranger.example", "alice"],
    ] {
        let said: String = words.iter().map(|word| format!("<{word}>")).collect();
        index.keyring(&words).assert(7, &said, "");
    }
    let said = "<set><stranger.example><alice>typed\n";
    index.set("stranger.example", "alice", "typed\n").assert(7, said, "");
    index.set("system", "alice", "typed").assert(7, "<set><system><alice>typed", "");
    let arguments = ["keyring", "get", "system", "alice"];
    let named = index.scene.sandbox.valetkey(&arguments).run();
    named.assert(7, "<get><system><alice>", "");
    // Ours stays ours, found or not.
    index.keyring(&["get", &index.url(), "x"]).assert(0, &format!("{}\n", index.token()), "");
    index.set(&index.host(), "pat", "typed\n").assert(0, "", "");
    index.scene.sandbox.valetkey(&["logout", "--all"]).run().assert_status(0);
    index.keyring(&["get", &index.url(), "x"]).assert_status(1).assert_stdout("");
    // The arguments need not be text.
    let bytes = std::os::unix::ffi::OsStringExt::from_vec(b"\xff/\xfe".to_vec());
    let bytes: std::ffi::OsString = bytes;
    let finished = index.scene.sandbox.run("keyring", &["get"]).arg(&bytes).arg("u").run();
    assert_eq!(finished.stdout, b"<get><\xff/\xfe><u>");
}

#[test]
fn handing_on_goes_round_once_at_most_and_takes_no_secret_along() {
    let index = Index::new();
    index.scene.nobody();
    let elsewhere = another(&index, "#!/bin/sh\necho once\nexec \"$OURS\" \"$@\"\n");
    index.scene.sandbox.env("OURS", index.scene.sandbox.bin().join("keyring"));
    index.keyring(&["get", "system", "alice"]).assert(1, "once\n", "");
    // Ourselves by another link are not the next.
    let twice = index.scene.sandbox.root().join("twice");
    std::fs::create_dir(&twice).expect("a directory");
    std::os::unix::fs::symlink(crate::scene::program(), twice.join("keyring")).expect("a link");
    index.scene.sandbox.env("PATH", only(&index.scene, &[&twice]));
    index.keyring(&["get", "system", "alice"]).assert(1, "", "");
    let seen = "#!/bin/sh\necho \"token ${VALETKEY_TOKEN_stranger_example-none}\"\n";
    crate::lab::sandbox::write_program(&elsewhere.join("keyring"), seen);
    index.scene.sandbox.env("PATH", only(&index.scene, &[&twice, &elsewhere]));
    index.scene.sandbox.env("VALETKEY_TOKEN_stranger_example", "secret-of-ours");
    index.keyring(&["get", "system", "alice"]).assert(0, "token none\n", "");
    index.keyring(&["get", "stranger.example", "alice"]).assert(0, "secret-of-ours\n", "");
    // One that cannot be started is said.
    crate::lab::sandbox::write_program(&elsewhere.join("keyring"), "#!/nowhere/to/be/found\n");
    let failed = index.keyring(&["get", "system", "alice"]);
    failed.assert_status(1).assert_stdout("").assert_stderr_has("cannot be started");
}

/// P15: never the words by which pip recognises a keyring that is too old.
#[test]
fn a_wrong_command_line_is_status_2() {
    let index = Index::new();
    for words in [
        vec![],
        vec!["get"],
        vec!["get", "https://x.example/"],
        vec!["set", "x.example"],
        vec!["get", "a", "b", "c"],
        vec!["--mode=creds", "--new-option", "get", "https://x.example/"],
        vec!["--mode=creds", "--output=xml", "get", "https://x.example/"],
        vec!["--mode=all", "get", "a", "b"],
        vec!["--help"],
        vec!["frobnicate", "a", "b"],
    ] {
        let finished = index.keyring(&words);
        finished.assert_status(2).assert_stdout("").assert_stderr_has("hint: usage: keyring");
        assert!(!finished.stderr_text().contains("unrecognized arguments"), "{finished}");
    }
}

#[test]
fn hostile_requests_get_nothing_and_break_nothing() {
    let index = Index::new();
    index.scene.sign_in();
    let token = index.token();
    let host = index.host();
    let long = format!("http://{host}/{}", "a".repeat(100_000));
    for service in [
        format!("http://user:secret@{host}/simple/"),
        format!("http://{host}\n.evil.example/"),
        format!("http://{host}@evil.example/"),
        format!("http://evil.example/{host}"),
        format!("http://{host}\\@evil.example/"),
        format!("ftp://{host}/"),
        format!("http://{host}.evil.example/"),
        "https://".to_owned(),
        "://".to_owned(),
        "\u{1b}[2J.example".to_owned(),
    ] {
        let finished = index.keyring(&["--mode=creds", "--output=json", "get", &service]);
        finished.assert_status(1).assert_stdout("");
        assert!(
            !finished.stderr_text().contains(&token) && !finished.stderr_text().contains('\u{1b}')
        );
    }
    index.keyring(&["get", &long, "oauth2"]).assert(0, &format!("{token}\n"), "");
    let set = |bytes: &[u8]| {
        let run = index.scene.sandbox.run("keyring", &["set", "x.example", "me"]).stdin(bytes);
        run.run().status
    };
    assert_ne!(set(b""), 0);
    assert_ne!(set(b"\n"), 0);
    assert_ne!(set(b"\xff\xfe\n"), 0);
    assert_ne!(set(&vec![b'a'; (1 << 20) + 2]), 0);
    index.keyring(&["get", "x.example", "me"]).assert(1, "", "");
    // Lines would be too many.
    assert_eq!(set(b"one\ntwo\n"), 0);
    index.keyring(&["get", "x.example", "me"]).assert(1, "", "");
    let json = "{\"username\": \"me\", \"password\": \"one\\ntwo\"}\n";
    index.keyring(&["get", "x.example", "--mode=creds", "--output=json"]).assert(0, json, "");
}

#[test]
fn twenty_at_once_renew_once() {
    let index = Index::with(Options { expires_in: Some(30), ..Options::default() });
    index.scene.sign_in();
    index.scene.age(20);
    index.scene.authority.tune(|options| options.expires_in = Some(3600));
    let url = index.url();
    let all: Vec<_> = (0..20)
        .map(|_| index.scene.sandbox.run("keyring", &["get", &url, "oauth2"]).start())
        .collect();
    let answers: Vec<String> = all.into_iter().map(|one| one.wait().assert_success()).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(index.scene.authority.asked_for("refresh_token"), 1);
}

#[test]
fn setup_makes_the_link_and_says_what_it_stands_in_front_of() {
    let scene = Scene::new();
    let own = scene.sandbox.link("valetkey");
    scene.sandbox.env("PATH", only(&scene, &[]));
    let setup = |more: &[&str]| {
        let words: Vec<&str> =
            ["setup", "keyring"].into_iter().chain(more.iter().copied()).collect();
        scene.sandbox.run(&own, &words).run()
    };
    let link = scene.sandbox.bin().join("keyring");
    let printed = setup(&["--print"]).assert_success();
    assert!(printed.contains("ln -s ") && printed.contains("keyring-provider subprocess"));
    assert!(!link.exists());
    setup(&[]).assert_status(0).assert_stderr_has("gets valetkey");
    assert_eq!(link.read_link().expect("a link"), own);
    setup(&[]).assert_status(0).assert_stderr_has("nothing to do");
    scene.sandbox.run("keyring", &["get", "system", "a"]).run().assert(1, "", "");
    setup(&["--undo"]).assert_status(0);
    assert!(link.symlink_metadata().is_err());
    setup(&["--undo"]).assert_status(0).assert_stderr_has("nothing to undo");
    // In front of, behind, and in the place of another one.
    let other = scene.sandbox.root().join("other");
    std::fs::create_dir(&other).expect("a directory");
    crate::lab::sandbox::write_program(&other.join("keyring"), SAYS);
    scene.sandbox.env("PATH", only(&scene, &[&other]));
    setup(&[]).assert_status(0).assert_stderr_has("stands in front of");
    setup(&["--undo"]).assert_status(0);
    let reversed = format!("{}:{}", other.display(), only(&scene, &[]));
    scene.sandbox.env("PATH", reversed);
    setup(&[]).assert_status(0).assert_stderr_has("comes first on PATH");
    setup(&["--undo"]).assert_status(0);
    scene.sandbox.script("keyring", SAYS);
    setup(&[]).assert_status(1).assert_stderr_has("is another program");
    setup(&["--undo"]).assert_status(0);
    assert!(link.is_file());
    setup(&["--host", "x.example"]).assert_status(64);
}
