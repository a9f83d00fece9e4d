//! go's GOAUTH command, byte for byte, through the whole program; rules GO1 to GO13.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::lab::{Browser, CLIENT_ID, Finished, Options, Person, Scheme};
use crate::scene::Scene;

const PROXY: &str = "https://go.lab.example";
const TEAM: &str = "https://deep.lab.example/team";

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\nDate: now\n\
                            Www-Authenticate: Basic realm=\"x\", Bearer\nServer: HTTP/1.1 404\n\n";
const NOT_FOUND: &str = "HTTP/2.0 404 Not Found\nX-Status: 401\n\n";

/// A profile for two https origins. Nobody listens there: go is the one who connects.
fn scene(options: Options) -> Scene {
    let scene = Scene::with(Scheme::Basic, options);
    configure(&scene, &[("lab", &[PROXY, TEAM])]);
    scene.nobody();
    scene
}

fn configure(scene: &Scene, profiles: &[(&str, &[&str])]) {
    let issuer = scene.authority.issuer();
    let text: String = profiles
        .iter()
        .map(|(name, origins)| {
            format!(
                "[profile.{name}]\norigins = {origins:?}\nissuer = \"{issuer}\"\n\
                 client_id = \"{CLIENT_ID}\"\n"
            )
        })
        .collect();
    scene.sandbox.config(&text);
}

fn first(scene: &Scene) -> Finished {
    scene.sandbox.valetkey(&["goauth"]).run()
}

fn again(scene: &Scene, url: &str, head: &str) -> Finished {
    scene.sandbox.valetkey(&["goauth", url]).stdin(head).run()
}

fn set(scene: &Scene, prefix: &str, url: &str) -> String {
    let token = scene.sandbox.valetkey(&["token", url]).run().assert_success();
    let pair = BASE64_STANDARD.encode(format!("oauth2:{}", token.trim()));
    format!("{prefix}\n\nAuthorization: Basic {pair}\n\n")
}

#[test]
fn the_first_call_gives_what_is_ready_and_asks_nobody() {
    let scene = scene(Options::default());
    let browser = scene.browser(Person::Approves);
    first(&scene).assert(0, "", "");
    assert!(scene.authority.journal().snapshot().is_empty() && browser.opened().is_empty());
    scene.sign_in_to(PROXY);
    let asked = scene.authority.journal().snapshot().len();
    let both = set(&scene, PROXY, PROXY) + &set(&scene, TEAM, TEAM);
    first(&scene).assert(0, &both, "");
    assert_eq!(scene.authority.journal().snapshot().len(), asked);
}

#[test]
fn what_is_about_to_end_is_renewed_on_the_second_call() {
    let scene = scene(Options { expires_in: Some(30), ..Options::default() });
    scene.sign_in_to(PROXY);
    scene.age(20);
    scene.authority.tune(|options| options.expires_in = Some(3600));
    first(&scene).assert(0, "", "");
    assert_eq!(scene.authority.asked_for("refresh_token"), 0);
    for head in [NOT_FOUND, UNAUTHORIZED] {
        let answer = again(&scene, &format!("{PROXY}/m/@v/list"), head).assert_success();
        assert_eq!(answer, set(&scene, PROXY, PROXY));
    }
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
    first(&scene).assert(0, &(set(&scene, PROXY, PROXY) + &set(&scene, TEAM, TEAM)), "");
}

/// GO8: a proxy says 404 every day; only 401 is worth a person's time.
#[test]
fn a_person_is_asked_for_401_and_nothing_else() {
    let scene = scene(Options::default());
    let browser: Browser = scene.browser(Person::Approves);
    let url = format!("{PROXY}/m/@v/list");
    let hint = format!("hint: valetkey login {PROXY}");
    for head in [
        NOT_FOUND,
        "HTTP/1.1 410 Gone\n\n",
        "HTTP/1.1 403 Forbidden\n\n",
        "HTTP/1.1 200 401\n\n",
        "401 Unauthorized\n\n",
        "X: HTTP/1.1 401 Unauthorized\n\n",
        "\u{0}\u{1b}[2J",
        "",
    ] {
        again(&scene, &url, head).assert_status(2).assert_stdout("").assert_stderr_has(&hint);
    }
    again(&scene, "https://stranger.example/m/@v/list", UNAUTHORIZED).assert(0, "", "");
    again(&scene, "http://go.lab.example/m/@v/list", UNAUTHORIZED).assert(0, "", "");
    assert!(browser.opened().is_empty());
    let run = scene.sandbox.valetkey(&["goauth", &url]).stdin(UNAUTHORIZED);
    run.remove_env("VALETKEY_INTERACTIVE").env("CI", "1").run().assert_status(2).assert_stdout("");
    assert!(browser.opened().is_empty());
    let signed_in = again(&scene, &url, UNAUTHORIZED);
    signed_in.assert_status(0).assert_stdout(&set(&scene, PROXY, PROXY));
    assert_eq!(browser.opened().len(), 1);
    again(&scene, &url, UNAUTHORIZED).assert(0, &set(&scene, PROXY, PROXY), "");
    assert_eq!(browser.opened().len(), 1);
}

/// GO6: the host as go spells it, and never more than the profile binds.
#[test]
fn the_prefix_is_what_the_profile_binds() {
    let scene = scene(Options::default());
    scene.sign_in_to(PROXY);
    for (url, prefix, of) in [
        ("https://go.lab.example/", "https://go.lab.example", PROXY),
        ("https://go.lab.example?go-get=1", "https://go.lab.example", PROXY),
        ("https://Go.Lab.example:443/m/@v/list", "https://Go.Lab.example:443", PROXY),
        ("https://deep.lab.example/team/m/@v/list", TEAM, TEAM),
        ("https://deep.lab.example/team?go-get=1", TEAM, TEAM),
    ] {
        again(&scene, url, UNAUTHORIZED).assert(0, &set(&scene, prefix, of), "");
    }
    for url in [
        "https://deep.lab.example/",
        "https://deep.lab.example/other/m/@v/list",
        "https://deep.lab.example/teams/m/@v/list",
        "https://go.lab.example.evil.example/",
        "https://go.lab.example:8443/",
        "https://go.lab.example@evil.example/",
        "https://user:secret@go.lab.example/",
        "https://go.lab.example/a\n\nAuthorization: Basic x",
        "https://",
        "go.lab.example/m",
        "",
    ] {
        again(&scene, url, UNAUTHORIZED).assert(0, "", "");
    }
    scene.sandbox.valetkey(&["goauth", PROXY, PROXY]).run().assert_status(64).assert_stdout("");
}

/// GO7: go gives a prefix's token to everything below it.
#[test]
fn a_token_never_covers_the_path_of_another_profile() {
    let scene = scene(Options::default());
    configure(&scene, &[("a", &["https://h.example"]), ("b", &["https://h.example/b"])]);
    scene.sign_in_to("https://h.example");
    first(&scene).assert(0, "", "");
    let url = "https://h.example/a/@v/list";
    again(&scene, url, UNAUTHORIZED).assert(0, &set(&scene, url, url), "");
    again(&scene, "https://h.example/b/@v/list", UNAUTHORIZED).assert_status(2).assert_stdout("");
    again(&scene, "https://h.example/?go-get=1", UNAUTHORIZED).assert(0, "", "");
    scene.sign_in_to("https://h.example/b");
    let below = "https://h.example/b";
    let both = set(&scene, "https://h.example", "https://h.example/a") + &set(&scene, below, below);
    first(&scene).assert(0, &both, "");
    again(&scene, "https://h.example/b/@v/list", UNAUTHORIZED).assert(
        0,
        &set(&scene, below, below),
        "",
    );
}

#[test]
fn what_a_tool_stored_is_given_to_its_origin() {
    let scene = scene(Options::default());
    let store = |path: &str| {
        let text = format!("protocol=https\nhost=s.example\n{path}username=u\npassword=p\n");
        scene.sandbox.valetkey(&["store"]).stdin(text).run().assert(0, "", "");
    };
    let answer = |prefix: &str| format!("{prefix}\n\nAuthorization: Basic dTpw\n\n");
    store("path=one\n");
    again(&scene, "https://s.example/one", NOT_FOUND).assert(
        0,
        &answer("https://s.example/one"),
        "",
    );
    again(&scene, "https://s.example/two", NOT_FOUND).assert(0, "", "");
    store("");
    again(&scene, "https://s.example/two", NOT_FOUND).assert(0, &answer("https://s.example"), "");
    let run = scene.sandbox.valetkey(&["goauth", "https://e.example/m"]).stdin(UNAUTHORIZED);
    run.env("VALETKEY_TOKEN_e_example", "t").run().assert(
        0,
        "https://e.example\n\nAuthorization: Basic b2F1dGgyOnQ=\n\n",
        "",
    );
    // One bad line and go drops everything.
    let run = scene.sandbox.valetkey(&["goauth", "https://e.example/m"]).stdin(UNAUTHORIZED);
    run.env("VALETKEY_TOKEN_e_example", "a\nb").run().assert_status(78).assert_stdout("");
}

#[test]
fn twenty_at_once_renew_once() {
    let scene = scene(Options { expires_in: Some(30), ..Options::default() });
    scene.sign_in_to(PROXY);
    scene.age(20);
    scene.authority.tune(|options| options.expires_in = Some(3600));
    let url = format!("{PROXY}/m/@v/list");
    let all: Vec<_> = (0..20)
        .map(|_| scene.sandbox.valetkey(&["goauth", &url]).stdin(UNAUTHORIZED).start())
        .collect();
    let answers: Vec<String> = all.into_iter().map(|one| one.wait().assert_success()).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

/// go itself is a peer; here a script keeps its list.
#[test]
fn setup_puts_us_first_into_gos_own_list() {
    let scene = scene(Options::default());
    let state = scene.sandbox.write("goauth", b"netrc\n", 0o644);
    scene.sandbox.script(
        "go",
        &format!(
            "#!/bin/sh\nfile='{}'\ncase \"$1 $2\" in\n'env GOAUTH') cat \"$file\" ;;\n\
             'env -u') echo netrc >\"$file\" ;;\n\
             'env -w') printf '%s\\n' \"${{3#GOAUTH=}}\" >\"$file\" ;;\nesac\n",
            state.display()
        ),
    );
    let setup = |more: &[&str]| {
        let words: Vec<&str> = ["setup", "go"].into_iter().chain(more.iter().copied()).collect();
        scene.sandbox.valetkey(&words).run()
    };
    let list = || std::fs::read_to_string(&state).expect("it is there").trim().to_owned();
    let ours = format!("{} goauth", crate::scene::program().display());
    let printed = setup(&["--print"]).assert_success();
    assert_eq!(printed, format!("go env -w 'GOAUTH={ours}; netrc'\n"));
    assert_eq!(list(), "netrc");
    setup(&[]).assert_status(0);
    assert_eq!(list(), format!("{ours}; netrc"));
    setup(&[]).assert_status(0).assert_stderr_has("nothing to do");
    setup(&["--undo"]).assert_status(0);
    assert_eq!(list(), "netrc");
    setup(&["--undo"]).assert_status(0).assert_stderr_has("nothing to undo");
    std::fs::write(&state, "git /home/me; netrc\n").expect("it is there");
    setup(&[]).assert_status(0);
    assert_eq!(list(), format!("{ours}; git /home/me; netrc"));
    setup(&["--undo"]).assert_status(0);
    assert_eq!(list(), "git /home/me; netrc");
    setup(&["--replace"]).assert_status(0);
    assert_eq!(list(), ours);
    std::fs::write(&state, "off\n").expect("it is there");
    setup(&[]).assert_status(1).assert_stderr_has("GOAUTH is off");
    setup(&["--replace"]).assert_status(0);
    assert_eq!(list(), ours);
    // Before 1.24 go prints an empty line.
    std::fs::write(&state, "\n").expect("it is there");
    setup(&[]).assert_status(1).assert_stderr_has("install go 1.24 or later");
    scene.sandbox.env("GOAUTH", "netrc");
    setup(&[]).assert_status(1).assert_stderr_has("GOAUTH is set in the environment");
    setup(&["--host", "x.example"]).assert_status(64);
}
