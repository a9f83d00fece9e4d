//! Bazel's credential helper protocol, byte for byte, through the whole program; rules B1 to B10.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::lab::{Finished, Options, Person, Scheme};
use crate::scene::Scene;

const NOTHING: &str = "{\"headers\":{}}\n";

/// A signed-in profile for an origin and a path of another.
fn scene(options: Options) -> Scene {
    let scene = Scene::with(Scheme::Bearer, options);
    scene.sandbox.link("bazel-credential-valetkey");
    scene.bind(&["https://cache.example", "https://h.example/team"], "scheme = \"bearer\"");
    scene.nobody();
    scene
}

fn ask(scene: &Scene, request: impl AsRef<[u8]>) -> Finished {
    scene.sandbox.run("bazel-credential-valetkey", &["get"]).stdin(request).run()
}

fn asked_for(scene: &Scene, uri: &str) -> Finished {
    ask(scene, serde_json::json!({ "uri": uri }).to_string())
}

/// Seconds of Unix time, as another program reads them.
fn seconds(scene: &Scene, timestamp: &str) -> u64 {
    let date = scene.sandbox.run("date", &["-u", "+%s", "-d", timestamp]).run();
    date.assert_success().trim().parse().expect("a number")
}

#[test]
fn an_answer_has_a_header_and_ends_a_little_early() {
    let scene = scene(Options::default());
    scene.sign_in_to("https://cache.example");
    let run = scene.sandbox.valetkey(&["token", "https://cache.example"]).run();
    let token = run.assert_success().trim().to_owned();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    for uri in [
        "https://cache.example",
        "https://Cache.Example:443/a/b?c#d",
        "grpcs://cache.example",
        "https://h.example/team/x",
    ] {
        let answer = asked_for(&scene, uri).assert_success();
        let start =
            format!("{{\"headers\":{{\"Authorization\":[\"Bearer {token}\"]}},\"expires\":\"");
        let rest = answer.strip_prefix(&start).unwrap_or_else(|| panic!("{uri}: {answer}"));
        let expires = rest.strip_suffix("\"}\n").unwrap_or_else(|| panic!("{uri}: {answer}"));
        let shape = |letter: char| if letter.is_ascii_digit() { '0' } else { letter };
        assert_eq!(expires.chars().map(shape).collect::<String>(), "0000-00-00T00:00:00Z");
        let left = seconds(&scene, expires).abs_diff(now);
        assert!((3400..=3545).contains(&left), "{left} seconds");
    }
    // The same by name, with fields of a later specification.
    let run = scene.sandbox.valetkey(&["bazel", "get"]);
    let answer = run.stdin("{\"x\":[1],\"uri\":\"https://cache.example\"}\n").run();
    assert!(answer.assert_success().contains(&token));
}

/// B6: whatever is not ours is answered at once, so that public downloads go on.
#[test]
fn strangers_get_no_header_and_no_error() {
    let scene = scene(Options::default());
    scene.sign_in_to("https://cache.example");
    for uri in [
        "https://stranger.example/x",
        "https://h.example/teams/x",
        "https://h.example/",
        "http://cache.example/",
        "grpc://cache.example",
        "https://cache.example:8443/",
        "https://cache.example@evil.example/",
        "https://cache.example.evil.example/",
        "https://user:secret@cache.example/",
        "file:///etc/passwd",
        "cache.example",
        "",
        "://",
        "https://a b/",
    ] {
        asked_for(&scene, uri).assert(0, NOTHING, "");
    }
}

#[test]
fn nobody_is_ever_asked() {
    let scene = scene(Options::default());
    let browser = scene.browser(Person::Approves);
    let missed = asked_for(&scene, "https://cache.example/x");
    missed.assert_status(1).assert_stdout("");
    missed.assert_stderr_has("hint: valetkey login https://cache.example\n");
    assert!(browser.opened().is_empty());
}

#[test]
fn a_token_that_is_about_to_end_is_renewed_and_twenty_at_once_renew_once() {
    let scene = scene(Options::default());
    scene.sign_in_to("https://cache.example");
    let old = scene.authority.secrets();
    // Whoever gets it would have half a minute.
    scene.age(3510);
    let all: Vec<_> = (0..20)
        .map(|_| {
            let run = scene.sandbox.run("bazel-credential-valetkey", &["get"]);
            run.stdin("{\"uri\":\"https://cache.example/x\"}").start()
        })
        .collect();
    let answers: Vec<String> = all.into_iter().map(|one| one.wait().assert_success()).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert!(old.iter().all(|secret| !answers[0].contains(secret.as_str())));
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

#[test]
fn a_dead_grant_is_an_error_with_the_command() {
    let scene = scene(Options { expires_in: Some(30), ..Options::default() });
    scene.sign_in_to("https://cache.example");
    scene.age(20);
    scene.authority.revoke_grants();
    let missed = asked_for(&scene, "https://cache.example/x");
    missed.assert_status(1).assert_stdout("").assert_stderr_has("hint: valetkey login ");
}

#[test]
fn what_is_no_request_is_refused_and_not_repeated() {
    let scene = scene(Options::default());
    scene.sign_in_to("https://cache.example");
    let long = format!("{{\"uri\":\"https://cache.example\",\"x\":\"{}\"}}", "a".repeat(1 << 20));
    for request in [
        &b""[..],
        b"{}",
        b"[]",
        b"{\"uri\":1}",
        b"{\"uri\":null}",
        b"{\"uri\":\"https://cache.example\"",
        b"{\"uri\":\"https://cache.example\"} {}",
        b"{\"uri\":\"https://stranger.example\",\"uri\":\"https://cache.example\"}",
        b"{\"uri\":\"\xff\"}",
        b"uri=hunter2",
        long.as_bytes(),
    ] {
        let refused = ask(&scene, request);
        refused.assert_status(1).assert_stdout("").assert_stderr_has("error: the request");
        assert!(!refused.stderr_text().contains("hunter2"));
    }
    for words in [&[][..], &["store"], &["get", "x"], &["--help"]] {
        let run = scene.sandbox.run("bazel-credential-valetkey", words).run();
        run.assert_status(1).assert_stdout("").assert_stderr_has("only operation is get");
    }
}

#[test]
fn setup_adds_its_lines_and_keeps_the_others() {
    let scene = Scene::new();
    let own = scene.sandbox.link("valetkey");
    let setup = |more: &[&str]| {
        let words: Vec<&str> = ["setup", "bazel"].into_iter().chain(more.iter().copied()).collect();
        scene.sandbox.run(&own, &words).run()
    };
    let path = scene.sandbox.home().join(".bazelrc");
    let text = || std::fs::read_to_string(&path).unwrap_or_default();
    let link = scene.sandbox.bin().join("bazel-credential-valetkey");
    let kept = "# mine\nbuild --jobs=2\ncommon --credential_helper=*.corp.example=/opt/corp\n";
    std::fs::write(&path, kept).expect("a home");
    assert!(setup(&["--print"]).assert_success().contains("common --credential_helper="));
    assert!(text() == kept && !link.exists());
    let all = format!("{kept}common --credential_helper={}\n", link.display());
    setup(&[]).assert_status(0).assert_stderr_has(".netrc");
    assert_eq!(text(), all);
    assert_eq!(link.read_link().expect("a link"), own);
    setup(&[]).assert_status(0).assert_stderr_has("nothing to do");
    assert_eq!(text(), all);
    setup(&["--host", "https://cache.example:8443", "--host", "x.example"]).assert_status(0);
    let hosts = format!(
        "{all}common --credential_helper=cache.example={0}\n\
         common --credential_helper=x.example={0}\n",
        link.display()
    );
    assert_eq!(text(), hosts);
    setup(&["--host", "x.example", "--undo"]).assert_status(0);
    assert!(!text().contains("x.example=") && text().contains("=cache.example="));
    setup(&["--undo"]).assert_status(0);
    assert_eq!(text(), kept);
    assert!(link.symlink_metadata().is_err());
    let taken = "build --credential_helper=/opt/other\n";
    std::fs::write(&path, taken).expect("a home");
    setup(&[]).assert_status(1).assert_stderr_has("names /opt/other already");
    assert!(text() == taken && link.symlink_metadata().is_err(), "all or nothing");
    setup(&["--replace"]).assert_status(0);
    assert_eq!(text(), format!("{taken}common --credential_helper={}\n", link.display()));
    setup(&["--undo"]).assert_status(0);
    assert_eq!(text(), taken);
}
