//! docker's credential helper protocol, byte by byte, through the whole program: as the link that
//! docker starts, and as `valetkey docker VERB`. The real clients are in `peers/docker`.

use serde_json::{Value, json};

use crate::lab::{Finished, Options, Person, Refreshing, Scheme};
use crate::scene::Scene;

const NOT_FOUND: &str = "credentials not found in native keychain\n";
const HUB: &str = "https://index.docker.io/v1/";

/// What docker keeps of its own sign-in to the Hub.
const DOCKERS_OWN: [&str; 4] = [
    "https://index.docker.io/v1/access-token",
    "https://index.docker.io/v1/refresh-token",
    "index.docker.io/v1/refresh-token/",
    "HTTP://Docker.IO:443/v1/access-token",
];

fn scene(options: Options) -> Scene {
    let scene = Scene::with(Scheme::Basic, options);
    scene.sandbox.link("docker-credential-valetkey");
    scene
}

/// As docker starts it.
fn call(scene: &Scene, verb: &str, stdin: impl AsRef<[u8]>) -> Finished {
    scene.sandbox.run("docker-credential-valetkey", &[verb]).stdin(stdin.as_ref()).run()
}

fn host(scene: &Scene) -> String {
    scene.host.origin().replace("http://", "")
}

#[track_caller]
fn answer(finished: &Finished) -> Value {
    let text = finished.assert_success();
    assert!(text.ends_with("}\n") && text.lines().count() == 1, "{text:?}");
    serde_json::from_str(&text).expect("JSON")
}

#[track_caller]
fn secret(finished: &Finished) -> String {
    answer(finished)["Secret"].as_str().expect("a secret").to_owned()
}

fn entry(server: &str, username: &str, secret: &str) -> String {
    format!("{}\n", json!({"ServerURL": server, "Username": username, "Secret": secret}))
}

#[test]
fn get_answers_under_every_spelling_and_echoes_it() {
    let scene = scene(Options::default());
    scene.sign_in();
    let host = host(&scene);
    for spelling in [
        host.clone(),
        format!("http://{host}"),
        format!("https://{host}"),
        format!("https://{host}/v2/"),
        format!("{host}/team/image"),
        format!(" {host}\n"),
    ] {
        let answer = answer(&call(&scene, "get", &spelling));
        let token = answer["Secret"].as_str().expect("a secret");
        assert!(scene.authority.token_is_live(token));
        let server = spelling.trim();
        assert_eq!(
            answer,
            json!({"ServerURL": server, "Username": "oauth2", "Secret": token}),
            "{spelling}"
        );
        assert_eq!(answer.as_object().map(|members| members.len()), Some(3));
    }
    let by_name = scene.sandbox.valetkey(&["docker", "get"]).stdin(&host).run();
    assert_eq!(answer(&by_name)["ServerURL"], host.as_str());
    // Another port and another name are other hosts.
    for stranger in [format!("{host}0"), format!("x.{host}"), "127.0.0.1".to_owned()] {
        call(&scene, "get", &stranger).assert(1, NOT_FOUND, "");
    }
}

/// The sentence alone, whoever asks for whatever is not there.
#[test]
fn a_miss_is_the_frozen_sentence_alone() {
    let scene = scene(Options::default());
    for unknown in [
        "ghcr.io",
        HUB,
        "nerdctl-experimental://ns/host/ghcr.io",
        "user@ghcr.io",
        "unix:///run/docker.sock",
        "a b",
        "gh\u{1}cr.io",
        "ghcr.io\nhost=evil.example",
        "ghcr.io\0",
        "{\"ServerURL\":\"ghcr.io\"}",
    ] {
        call(&scene, "get", unknown).assert(1, NOT_FOUND, "");
    }
    call(&scene, "get", [0xff, 0xfe, 0x80]).assert(1, NOT_FOUND, "");
    // A host of ours says on standard error what a person could do; docker shows that.
    let ours = call(&scene, "get", host(&scene));
    ours.assert_status(1).assert_stdout(NOT_FOUND);
    ours.assert_stderr_has(&format!("hint: valetkey login {}\n", scene.host.origin()));
}

#[test]
fn what_cannot_be_a_question_is_refused_on_standard_output() {
    let scene = scene(Options::default());
    for verb in ["get", "erase"] {
        for nothing in ["", "\n", " \t\r\n"] {
            call(&scene, verb, nothing).assert(1, "no credentials server URL\n", "");
        }
        let huge = vec![b'a'; (1 << 20) + 1];
        call(&scene, verb, &huge).assert(1, "the request is longer than 1 MiB\n", "");
    }
    let long = format!("{}.example", "a".repeat(1000));
    call(&scene, "get", long).assert(1, NOT_FOUND, "");
}

#[test]
fn store_refuses_what_could_not_be_answered() {
    let scene = scene(Options::default());
    let broken = "the credentials are not a JSON object of three strings\n";
    for (stdin, says) in [
        ("", broken),
        ("{", broken),
        ("[1]", broken),
        ("\"ghcr.io\"", broken),
        ("{\"ServerURL\":\"ghcr.io\",\"Username\":7,\"Secret\":\"s\"}", broken),
        ("{\"ServerURL\":\"ghcr.io\",\"Username\":\"u\",\"Secret\":[\"canary\"]}", broken),
        ("{\"ServerURL\":\"ghcr.io\",\"Username\":\"u\",\"Secret\":\"canary\"} {}", broken),
        ("{}", "no credentials server URL\n"),
        (
            "{\"ServerURL\":\" \",\"Username\":\"u\",\"Secret\":\"s\"}",
            "no credentials server URL\n",
        ),
        ("{\"ServerURL\":\"ghcr.io\",\"Secret\":\"s\"}", "no credentials username\n"),
        (
            "{\"ServerURL\":\"ghcr.io\",\"Username\":\"u\\nhost=evil\",\"Secret\":\"s\"}",
            "the user name holds a control character\n",
        ),
        (
            "{\"ServerURL\":\"gh cr.io\",\"Username\":\"u\",\"Secret\":\"s\"}",
            "the server URL cannot be understood\n",
        ),
        (
            "{\"ServerURL\":\"nerdctl-experimental://n/host/h\",\"Username\":\"u\",\"Secret\":\"s\"}",
            "the server URL cannot be understood\n",
        ),
    ] {
        call(&scene, "store", stdin).assert(1, says, "");
    }
    call(&scene, "store", b"{\"ServerURL\":\"\xff\"}").assert(1, broken, "");
    call(&scene, "store", vec![b' '; (1 << 20) + 1]).assert(
        1,
        "the request is longer than 1 MiB\n",
        "",
    );
    call(&scene, "list", "unused").assert(0, "{}\n", "");
}

/// Written as Go, as docker-py and as nobody writes them.
#[test]
fn store_takes_what_clients_write_and_get_gives_it_back() {
    let scene = scene(Options::default());
    let key_file = "{\n  \"type\": \"service_account\"\n}\n";
    for (stdin, server, username, secret) in [
        (
            "{\"ServerURL\":\"127.0.0.1:1\",\"Username\":\"\\u003ctoken\\u003e\",\"Secret\":\"a\\u0026b\"}\n"
                .to_owned(),
            "127.0.0.1:1",
            "<token>",
            "a&b",
        ),
        (
            "{\"Username\": \"me\", \"Secret\": \"p w\", \"ServerURL\": \"https://a.example/v2/\"}".to_owned(),
            "a.example",
            "me",
            "p w",
        ),
        (
            "{\"ServerURL\":\"b.example\",\"Username\":\"u\",\"Secret\":\"\",\"Expiry\":{\"x\":[1]}}\n"
                .to_owned(),
            "b.example",
            "u",
            "",
        ),
        (entry("gcr.io", "_json_key", key_file), "gcr.io", "_json_key", key_file),
        (entry("docker.io", "me", "dckr_pat_x"), HUB, "me", "dckr_pat_x"),
        (entry("\u{fc}.example", "\u{fc}ser", "g\u{e9}heim"), "xn--tda.example", "\u{fc}ser", "g\u{e9}heim"),
    ] {
        call(&scene, "store", &stdin).assert(0, "", "");
        let expected = json!({"ServerURL": server, "Username": username, "Secret": secret});
        assert_eq!(answer(&call(&scene, "get", server)), expected);
    }
    let listed: Value = answer(&call(&scene, "list", "unused"));
    assert_eq!(
        listed,
        json!({
            "127.0.0.1:1": "<token>", "a.example": "me", "b.example": "u",
            "gcr.io": "_json_key", HUB: "me", "xn--tda.example": "\u{fc}ser",
        })
    );
    // docker-py writes nothing to `list`.
    assert_eq!(answer(&call(&scene, "list", "")), listed);
    // What has lines in it would be attributes to git and headers to curl.
    let git = "protocol=https\nhost=gcr.io\n";
    scene.sandbox.valetkey(&["get"]).stdin(git).run().assert_stdout("");
    scene.sandbox.valetkey(&["token", "https://gcr.io"]).run().assert_status(1).assert_stdout("");
    // Basic wraps it.
    scene.sandbox.valetkey(&["header", "https://gcr.io"]).run().assert_success();
}

#[test]
fn erase_forgets_one_host_and_nothing_is_nothing() {
    let scene = scene(Options::default());
    for (server, secret) in [("a.example", "1"), ("b.example", "2"), (HUB, "3")] {
        call(&scene, "store", entry(server, "u", secret)).assert(0, "", "");
    }
    // As `docker logout a.example` does.
    for spelling in ["a.example", "a.example", "http://a.example", "https://a.example"] {
        call(&scene, "erase", spelling).assert(0, "", "");
    }
    call(&scene, "get", "a.example").assert(1, NOT_FOUND, "");
    assert_eq!(secret(&call(&scene, "get", "b.example")), "2");
    for nothing in ["ghcr.io", "nerdctl-experimental://n/host/h", "a b", "\u{1}"] {
        call(&scene, "erase", nothing).assert(0, "", "");
    }
    for own in DOCKERS_OWN {
        call(&scene, "erase", own).assert(0, "", "");
    }
    assert_eq!(secret(&call(&scene, "get", "registry-1.docker.io:443")), "3");
    call(&scene, "erase", "docker.io").assert(0, "", "");
    call(&scene, "get", HUB).assert(1, NOT_FOUND, "");
}

/// The Hub's entry is one under every name, and docker's own keys are not among them.
#[test]
fn dockers_own_keys_are_never_answered_and_never_a_sign_in() {
    let scene = scene(Options::default());
    let browser = scene.browser(Person::Approves);
    scene.sandbox.config(&format!(
        "[profile.hub]\norigins = [\"https://index.docker.io\"]\nissuer = \"{}\"\n\
         client_id = \"lab-client\"\n",
        scene.authority.issuer()
    ));
    for own in DOCKERS_OWN {
        call(&scene, "get", own).assert(1, NOT_FOUND, "");
        // `docker login` without arguments hands them over, and goes on.
        call(&scene, "store", entry(own, "u", "canary-of-docker")).assert(0, "", "");
        call(&scene, "get", own).assert(1, NOT_FOUND, "");
    }
    assert_eq!(browser.opened().len(), 0);
    assert!(scene.sandbox.files_with(b"canary-of-docker").is_empty());
    call(&scene, "store", entry(HUB, "me", "dckr_pat_x")).assert(0, "", "");
    for name in [
        HUB,
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "index.docker.io/library/alpine",
        "index.docker.io:443",
        "https://registry-1.docker.io:443",
    ] {
        assert_eq!(secret(&call(&scene, "get", name)), "dckr_pat_x", "{name}");
    }
    for own in DOCKERS_OWN {
        call(&scene, "get", own).assert(1, NOT_FOUND, "");
    }
    assert_eq!(browser.opened().len(), 0);
}

#[test]
fn an_expired_token_is_renewed_and_ten_minutes_are_left_in_what_is_handed_out() {
    // Ten minutes cannot be had from most of these servers, so half of what they give has to do; what
    // has ended before it came says nothing.
    for (expires_in, refreshes) in
        [(-5, 0), (0, 0), (30, 0), (59, 0), (61, 0), (500, 0), (660, 0), (3600, 0)]
    {
        let options = Options { expires_in: Some(expires_in), ..Options::default() };
        let scene = scene(options);
        scene.sign_in();
        call(&scene, "get", host(&scene)).assert_success();
        let answer = call(&scene, "get", host(&scene));
        assert!(scene.authority.token_is_live(&secret(&answer)));
        assert_eq!(scene.authority.asked_for("refresh_token"), refreshes, "{expires_in}");
    }
    // An hour at sign-in, five minutes left now.
    let scene = scene(Options { expires_in: Some(3600), ..Options::default() });
    scene.sign_in();
    scene.age(3300);
    call(&scene, "get", host(&scene)).assert_success();
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    // git can say when a token ends, so it gets what is left.
    scene.age(3300);
    scene.plain_get().run().assert_success();
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

#[test]
fn a_miss_of_ours_signs_in_once_where_a_person_is_and_nowhere_else() {
    let scene = scene(Options::default());
    let browser = scene.browser(Person::Approves);
    // Neither of these is a question for a credential.
    call(&scene, "list", "unused").assert(0, "{}\n", "");
    call(&scene, "erase", host(&scene)).assert(0, "", "");
    assert_eq!(browser.opened().len(), 0);
    scene.sandbox.env("VALETKEY_INTERACTIVE", "never");
    call(&scene, "get", host(&scene)).assert_status(1).assert_stdout(NOT_FOUND);
    scene.sandbox.remove_env("VALETKEY_INTERACTIVE").env("CI", "true").env("DISPLAY", ":0");
    call(&scene, "get", host(&scene)).assert_status(1).assert_stdout(NOT_FOUND);
    assert_eq!(browser.opened().len(), 0);
    scene.sandbox.remove_env("CI").env("VALETKEY_INTERACTIVE", "always");
    let first = call(&scene, "get", host(&scene));
    first.assert_status(0);
    let token = serde_json::from_slice::<Value>(&first.stdout).expect("JSON")["Secret"].clone();
    assert_eq!(token, secret(&call(&scene, "get", host(&scene))));
    assert_eq!(browser.opened().len(), 1);
    // Who builds is told of no host that no profile calls a registry.
    call(&scene, "list", "unused").assert(0, "{}\n", "");
    scene.registry("");
    assert_eq!(answer(&call(&scene, "list", "unused")), json!({host(&scene): "oauth2"}));
}

/// A no is remembered: nerdctl asks for six spellings, compose for every registry.
#[test]
fn a_refused_sign_in_is_not_asked_again_for_the_next_spelling() {
    let scene = scene(Options::default());
    let browser = scene.browser(Person::Denies);
    let host = host(&scene);
    let first = call(&scene, "get", &host);
    let origin = scene.host.origin();
    let says = format!("the sign-in to {origin} was refused; valetkey login {origin}\n");
    first.assert_status(1).assert_stdout(&says);
    for spelling in [host.clone(), format!("https://{host}"), format!("http://{host}")] {
        call(&scene, "get", spelling).assert_status(1).assert_stdout(NOT_FOUND);
    }
    assert_eq!(browser.opened().len(), 1);
}

/// `docker login` stores the credential that `get` has just given it.
#[test]
fn a_token_of_ours_that_is_handed_back_is_no_news() {
    let scene = scene(Options::default());
    scene.sign_in();
    let first = secret(&call(&scene, "get", host(&scene)));
    let before = scene.session_file().content;
    call(&scene, "store", entry(&host(&scene), "oauth2", &first)).assert(0, "", "");
    assert_eq!(scene.session_file().content, before);
    // A late one, of a command that began before a renewal.
    scene.age(3300);
    let second = secret(&call(&scene, "get", host(&scene)));
    assert_ne!(first, second);
    call(&scene, "store", entry(&host(&scene), "oauth2", &first)).assert(0, "", "");
    assert_eq!(secret(&call(&scene, "get", host(&scene))), second);
    scene.session_file();
}

/// A sign-out that docker knows of is no rejection by the host, however often it comes.
#[test]
fn erase_of_a_session_forgets_the_access_token_as_often_as_you_like() {
    let scene = scene(Options::default());
    scene.sign_in();
    let mut seen = vec![secret(&call(&scene, "get", host(&scene)))];
    for round in 1..=4 {
        for _ in 0..4 {
            call(&scene, "erase", host(&scene)).assert(0, "", "");
        }
        let next = secret(&call(&scene, "get", host(&scene)));
        assert!(!seen.contains(&next));
        seen.push(next);
        assert_eq!(scene.authority.asked_for("refresh_token"), round);
    }
}

#[test]
fn a_dead_grant_is_a_miss_and_a_server_in_trouble_is_an_error() {
    let scene = scene(Options { expires_in: Some(30), ..Options::default() });
    scene.sign_in();
    scene.age(20);
    scene.authority.always("/token", crate::lab::Step::status(503));
    // What is left of the token is better than nothing.
    call(&scene, "get", host(&scene)).assert_success();
    scene.age(60);
    let trouble = call(&scene, "get", host(&scene));
    trouble.assert_status(1);
    let text = trouble.stdout_text();
    assert!(text.contains("answered 503; try again in a moment\n"), "{text}");
    assert_eq!(text.lines().count(), 1, "{trouble}");
    trouble.assert_stderr_has("answered 503\nhint: try again in a moment\n");
    scene.authority.always("/token", crate::lab::Step::Default);
    scene.authority.revoke_grants();
    call(&scene, "get", host(&scene)).assert_status(1).assert_stdout(NOT_FOUND);
}

#[test]
fn twenty_at_once_cause_one_renewal_and_one_sign_in() {
    for short in [None, Some(300)] {
        let scene = scene(Options { expires_in: Some(30), ..Options::default() });
        scene.sign_in();
        scene.age(20);
        scene.authority.tune(|options| options.expires_in = short.or(Some(3600)));
        all_agree(&scene);
        assert_eq!(scene.authority.asked_for("refresh_token"), 1, "{short:?}");
    }
    let scene = scene(Options { refreshing: Refreshing::Never, ..Options::default() });
    let browser = scene.browser(Person::Approves);
    all_agree(&scene);
    assert_eq!(browser.opened().len(), 1);
}

#[track_caller]
fn all_agree(scene: &Scene) {
    let start = || {
        let run = scene.sandbox.run("docker-credential-valetkey", &["get"]);
        run.stdin(host(scene)).start()
    };
    let all: Vec<_> = (0..20).map(|_| start()).collect();
    let secrets: std::collections::BTreeSet<_> = all
        .into_iter()
        .map(|started| {
            let finished = started.wait();
            finished.assert_status(0);
            let answer: Value = serde_json::from_slice(&finished.stdout).expect("JSON");
            answer["Secret"].to_string()
        })
        .collect();
    assert_eq!(secrets.len(), 1);
}

#[test]
fn one_verb_and_nothing_else() {
    let scene = scene(Options::default());
    let usage = "Usage: docker-credential-valetkey <get|store|erase|list|version>\n";
    let link = |arguments: &[&str]| {
        scene.sandbox.run("docker-credential-valetkey", arguments).stdin("ghcr.io").run()
    };
    link(&[]).assert(1, usage, "");
    link(&["get", "ghcr.io"]).assert(1, usage, "");
    link(&["--help"]).assert(0, usage, "");
    link(&["-h"]).assert(0, usage, "");
    let unknown = "docker-credential-valetkey: unknown action: gett[2J\n";
    link(&["gett\u{1b}[2J"]).assert(1, unknown, "");
    link(&[""]).assert(1, "docker-credential-valetkey: unknown action: \n", "");
    let version = format!("docker-credential-valetkey (valetkey) {}\n", env!("CARGO_PKG_VERSION"));
    for word in ["version", "--version", "-v"] {
        link(&[word]).assert(0, &version, "");
    }
    scene.sandbox.valetkey(&["docker"]).run().assert(1, usage, "");
}

/// A ready value for an Authorization header is nothing that docker could use.
#[test]
fn what_git_stored_for_another_scheme_is_a_miss() {
    let scene = scene(Options::default());
    let stored = "capability[]=authtype\nprotocol=https\nhost=a.example\nauthtype=Digest\n\
                  credential=xyz\n";
    scene.sandbox.valetkey(&["store"]).stdin(stored).run().assert(0, "", "");
    call(&scene, "get", "a.example").assert(1, NOT_FOUND, "");
    let stored = "protocol=https\nhost=b.example\nusername=me\npassword=pat\n";
    scene.sandbox.valetkey(&["store"]).stdin(stored).run().assert(0, "", "");
    assert_eq!(secret(&call(&scene, "get", "b.example")), "pat");
}
