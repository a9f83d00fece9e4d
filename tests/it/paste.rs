//! The code brought home by hand: on the terminal, while the listener waits or without one, and
//! git's pipes untouched.

use crate::asked::{Asked, listening};
use crate::lab::{Options, Person, Scheme, Started};
use crate::scene::{Scene, value};

const INVITATION: &str = "paste its address";

/// `get` with pipes for stdin, stdout and stderr, and a person at the terminal.
fn get(scene: &Scene) -> (Started, Asked) {
    let started = scene.get().terminal().start();
    started.terminal_expect(INVITATION);
    let asked = Asked::shown(&started.terminal_text());
    (started, asked)
}

/// S144, check 13: the whole address, as the browser shows it with and without its scheme, with a
/// fragment, or the bare code; while the listener waits.
#[test]
fn check_13_address_or_code_are_taken_while_the_listener_waits() {
    for dress in ["{url}", "  {url}  ", "{url}#_=_", "{bare}", "{schemeless}", "{query}"] {
        let scene = Scene::new();
        let _browser = scene.browser(Person::Ignores);
        let (started, asked) = get(&scene);
        let url = asked.approved();
        let line = dress
            .replace("{url}", &url)
            .replace("{schemeless}", url.trim_start_matches("http://"))
            .replace("{query}", &url[url.find('?').expect("a query")..])
            .replace("{bare}", &Asked::read(&url).parameter("code"));
        started.terminal_type(&format!("{line}\n"));
        let finished = started.wait();
        assert!(value(&finished, "password").is_some(), "{dress}: {finished}");
        assert!(finished.stderr.is_empty(), "{finished}");
        assert_eq!(scene.authority.asked_for("authorization_code"), 1, "{dress}");
    }
}

/// Check 13: an address of another sign-in, or with another issuer, gives nothing away; a slip
/// of the hand costs a sentence; the listener hears all the while.
#[test]
fn check_13_what_does_not_belong_here_is_refused_and_the_wait_goes_on() {
    let scene = Scene::new();
    let _browser = scene.browser(Person::Ignores);
    let (started, asked) = get(&scene);
    let url = asked.approved();
    let state = asked.parameter("state");
    let issuer = "iss=http%3A%2F%2F127.0.0.1";
    for line in [
        url.replace(&state, "another"),
        url.trim_start_matches("http://").replace(&state, "another"),
        url.replace(issuer, "iss=http%3A%2F%2Fevil.example"),
        format!("{url}&code=again"),
        "https://evil.example/".to_owned(),
        "two words".to_owned(),
    ] {
        started.terminal_type(&format!("{line}\n"));
    }
    // Lines are taken in their order, so after this one all have been answered.
    started.terminal_type("\nmistyped\n");
    started.terminal_expect("paste the whole address");
    for (answer, times) in [
        ("does not belong to this sign-in: another state", 2),
        ("does not belong to this sign-in: another issuer", 1),
        ("that address holds no code", 1),
        ("that is neither the address nor the code", 2),
    ] {
        assert_eq!(started.terminal_text().matches(answer).count(), times, "{answer}");
    }
    assert_eq!(scene.authority.asked("/token"), 1, "{}", scene.authority.journal());
    assert_eq!(asked.approve().status, 200);
    assert!(value(&started.wait(), "password").is_some());
}

/// Attack 6.1-2 by hand: a no of the server's is believed only with the state of this sign-in.
#[test]
fn a_pasted_no_counts_if_it_is_ours() {
    let scene = Scene::new();
    let _browser = scene.browser(Person::Ignores);
    let (started, asked) = get(&scene);
    let issuer = scene.authority.issuer();
    let no = |state: &str| {
        asked.callback(&[("error", "access_denied"), ("state", state), ("iss", &issuer)])
    };
    started.terminal_type(&format!("{}\n", no("x")));
    started.terminal_expect("another state");
    started.terminal_type(&format!("{}\n", no(&asked.parameter("state"))));
    started.wait().assert_status(3).assert_stdout("");
}

/// What the server says about the client is not the person's slip, and ends it.
#[test]
fn a_server_that_refuses_the_client_is_not_asked_again() {
    let scene = Scene::new();
    let _browser = scene.browser(Person::Ignores);
    let (started, asked) = get(&scene);
    scene.authority.next("/token", vec![crate::lab::Step::error("invalid_client")]);
    started.terminal_type(&format!("{}\n", asked.code()));
    started.wait().assert_status(78).assert_stdout("");
}

/// S131, S143: without a listener, to the redirect that the profile registers.
#[test]
fn s143_the_paste_flow_has_no_listener() {
    let scene = Scene::new();
    scene.profile("flow = \"paste\"\nredirect = { ports = [0, 8765], path = \"/cb\" }");
    let browser = scene.browser(Person::Ignores);
    let (started, asked) = get(&scene);
    assert_eq!(asked.parameter("redirect_uri"), "http://127.0.0.1:8765/cb");
    assert_eq!(listening(&started), []);
    started.terminal_type(&format!("{}\n", asked.approved()));
    assert!(value(&started.wait(), "password").is_some());
    assert_eq!(browser.opened().len(), 0, "a browser that could not come home");
}

/// Without a terminal nothing can be pasted, and nobody is sent away for nothing.
#[test]
fn a_paste_without_a_terminal_ends_at_once() {
    let scene = Scene::new();
    scene.profile("flow = \"paste\"");
    scene.sandbox.env("VALETKEY_INTERACTIVE", "always");
    let finished = scene.get().run();
    finished.assert_status(2).assert_stdout("");
    finished.assert_stderr_has("there is no terminal to paste the code into");
    assert!(!finished.stderr_text().contains("code_challenge"), "{finished}");
}

/// Design section 6, check 15: which way is taken when nobody says: a browser where one can be
/// opened, else a device code, else paste; and nobody is asked in CI.
#[test]
fn check_15_the_flow_that_fits_where_the_person_sits() {
    let scene = |device: bool| {
        let scene = Scene::with(Scheme::Basic, Options::default());
        if !device {
            scene.authority.metadata(|document| {
                document.remove("device_authorization_endpoint");
            });
        }
        scene
    };
    for (device, variables, expected) in [
        (true, &[("SSH_CONNECTION", "a b c d")][..], "and enter the code"),
        (false, &[("SSH_CONNECTION", "a b c d")], "8765%2Fcallback"),
        (true, &[("BROWSER", "/bin/true")], "opening a browser"),
        (true, &[("SSH_CONNECTION", "a b c d"), ("BROWSER", "/bin/true")], "opening a browser"),
        (true, &[("VSCODE_IPC_HOOK_CLI", "x"), ("BROWSER", "/bin/true")], "and enter the code"),
        (true, &[("VALETKEY_FLOW", "paste"), ("BROWSER", "/bin/true")], "8765%2Fcallback"),
        (true, &[("VALETKEY_FLOW", "device"), ("BROWSER", "/bin/true")], "and enter the code"),
    ] {
        let scene = scene(device);
        let mut run = scene.get().terminal();
        for (name, value) in variables {
            run = run.env(name, value);
        }
        run.start().terminal_expect(expected);
    }
    for forbidden in
        [("CI", "true"), ("GIT_TERMINAL_PROMPT", "0"), ("VALETKEY_INTERACTIVE", "never")]
    {
        let scene = scene(true);
        let browser = crate::lab::Browser::start(&scene.sandbox, Person::Approves);
        let run = scene.get().terminal().env(forbidden.0, forbidden.1).env("DISPLAY", ":9");
        run.run().assert_status(2).assert_stdout("");
        assert_eq!(browser.opened().len(), 0, "{forbidden:?}");
        assert_eq!(scene.authority.journal().snapshot().len(), 0, "{forbidden:?}");
    }
}
