//! What the person sees of the device flow (RFC 8628 section 3.3), and what a hostile server cannot
//! make them see or do.

use serde_json::{Value, json};

use crate::lab::{Answer, Browser, Finished, Options, Person, Program, Scheme, Step};
use crate::scene::{Scene, value};

fn scene() -> Scene {
    let options = Options { approve_devices_after: Some(0), ..Options::default() };
    let scene = Scene::with(Scheme::Basic, options);
    scene.profile("flow = \"device\"");
    scene.sandbox.env("VALETKEY_INTERACTIVE", "always");
    scene
}

/// Logs in at a server that answers the device authorization with these members.
fn login(scene: &Scene, members: &Value) -> Finished {
    let mut document = json!({
        "device_code": "c", "user_code": "WDJB-MJHT", "interval": 1, "expires_in": 600,
        "verification_uri": "https://idp.example/device",
    });
    for (name, value) in members.as_object().expect("an object") {
        document[name] = value.clone();
    }
    scene.authority.next("/device_authorization", vec![Step::json(200, &document)]);
    scene.authority.next("/token", vec![Step::error("access_denied")]);
    scene.sandbox.valetkey(&["login", &scene.host.origin()]).terminal().run()
}

/// Nothing that a terminal would obey, or that would turn the reading round.
#[track_caller]
fn assert_harmless(finished: &Finished) {
    let text = format!("{}{}", finished.terminal, finished.stderr_text());
    // The colours of our own picture.
    let text = text.replace("\u{1b}[38;5;231;48;5;16m", "").replace("\u{1b}[0m", "");
    let harmful = |letter: char| {
        (letter.is_control() && !matches!(letter, '\n' | '\r'))
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(harmful), "{:?}", text);
}

/// D10, D14, S30, S31, S63: the code, the plain address and the complete one, a QR code on a
/// terminal, a warning against other people's codes, and how long there is. git's pipes stay
/// git's: the person is met on the terminal alone.
#[test]
fn d10_a_terminal_shows_the_code_both_addresses_and_a_picture() {
    let scene = scene();
    let finished = scene.get().terminal().run();
    assert!(value(&finished, "password").is_some(), "{finished}");
    let code = scene.authority.wait_for_device(1);
    let page = scene.authority.url("/device");
    for text in [
        format!("open {page}\r\n"),
        format!("code {code}\r\n"),
        format!("{page}?user_code={code}"),
        "only do so if you started this sign-in yourself".into(),
        "10 minutes".into(),
    ] {
        finished.assert_terminal_has(&text);
    }
    let picture = finished.terminal.lines().filter(|line| line.contains('\u{2588}'));
    assert!(picture.clone().count() > 10, "{}", finished.terminal);
    assert!(picture.clone().all(|line| line.trim_end().chars().count() <= 80));
    assert!(finished.stderr.is_empty());
}

/// D10: without a terminal the same is said on stderr, and no picture is drawn into a log.
#[test]
fn d10_a_log_shows_no_picture() {
    let scene = scene();
    let finished = scene.get().run();
    let code = scene.authority.wait_for_device(1);
    finished.assert_status(0).assert_stderr_has(&format!("and enter the code {code}\n"));
    assert!(!finished.stderr_text().contains('\u{2588}'), "{finished}");
}

/// S32, S90: a browser is opened on the complete address where there is one; that it fails, or
/// stays, is no trouble.
#[test]
fn s32_a_browser_is_a_courtesy() {
    for program in [Program::Quiet, Program::Fails, Program::Hangs, Program::Noisy] {
        let scene = scene();
        let browser = Browser::start_program(&scene.sandbox, Person::Ignores, program);
        let finished = scene.get().run();
        assert!(value(&finished, "password").is_some(), "{finished}");
        if program == Program::Quiet {
            let code = scene.authority.wait_for_device(1);
            let complete = format!("{}?user_code={code}", scene.authority.url("/device"));
            assert_eq!(browser.wait_for_opened(1), [complete]);
        }
    }
    let scene = scene();
    scene.sandbox.env("BROWSER", "/no/such/browser");
    scene.get().run().assert_status(0).assert_stderr_has("no browser could be opened here");
}

/// S65: `--no-browser` shows address and code only.
#[test]
fn s65_no_browser_means_none() {
    let scene = scene();
    let browser = scene.browser(Person::Ignores);
    let login = ["login", "--no-browser", &scene.host.origin()];
    let finished = scene.sandbox.valetkey(&login).run();
    finished.assert_status(0).assert_stderr_has("and enter the code");
    assert_eq!(browser.opened(), [""; 0]);
}

/// Attack 6.2-15, check 11: an address is shown and opened only if it is plain https, without a
/// user name to hide the host behind; else the sign-in ends and nobody polls.
#[test]
fn attack_15_an_address_that_is_not_safe_to_open_ends_the_sign_in() {
    let scene = scene();
    let browser = scene.browser(Person::Ignores);
    let long = format!("https://idp.example/{}", "x".repeat(10 << 10));
    for address in [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "vscode://open",
        "-remote",
        "http://idp.example/device",
        "https://github.com@idp.example/device",
        "https://:x@idp.example/device",
        "",
        &long,
    ] {
        let finished = login(&scene, &json!({ "verification_uri": address }));
        finished.assert_status(4).assert_stderr_has("an address that is not safe to open");
        assert!(!finished.terminal.contains("open "), "{finished}");
        assert_harmless(&finished);
    }
    assert_eq!(scene.authority.asked("/token"), 0);
    assert_eq!(browser.opened(), [""; 0]);
}

/// Attack 6.2-15: what is shown is the parsed address. Escapes are percent-encoded, other scripts
/// are spelled in ASCII, and a complete address that is not safe is left out.
#[test]
fn attack_15_the_parsed_address_is_shown_and_never_the_text() {
    for (address, shown) in [
        ("https://idp.example/\u{1b}[2Jx", "https://idp.example/%1B[2Jx"),
        ("https://idp.example/\u{202e}x", "https://idp.example/%E2%80%AEx"),
        ("https://idp.\nexample/x", "https://idp.example/x"),
        ("https://b\u{fc}cher.example/", "https://xn--bcher-kva.example/"),
        ("https://\u{430}pple.example/", "https://xn--pple-43d.example/"),
    ] {
        let finished = login(&scene(), &json!({ "verification_uri": address }));
        finished.assert_status(3).assert_terminal_has(&format!("open {shown}\r\n"));
        assert_harmless(&finished);
    }
    for unsafe_address in ["javascript:x", "https://a@idp.example/", "http://idp.example/?c"] {
        let members = json!({ "verification_uri_complete": unsafe_address });
        let finished = login(&scene(), &members);
        finished.assert_status(3).assert_terminal_has("open https://idp.example/device\r\n");
        assert!(!finished.terminal.contains("or open"), "{finished}");
    }
}

/// Attack 6.2-15: an address at another host than the issuer's is named as such.
#[test]
fn attack_15_an_address_at_another_host_is_pointed_out() {
    let finished = login(&scene(), &json!({}));
    finished.assert_terminal_has("mind that idp.example is not 127.0.0.1, which issues the tokens");
    let finished = scene().get().terminal().run();
    assert!(!finished.terminal.contains("mind that"), "{finished}");
}

/// Attack 6.2-16 and 18: a user code is shown as it is, on one line, without what a terminal obeys.
#[test]
fn attack_16_a_user_code_cannot_act() {
    for (code, shown) in [
        ("WDJB-MJHT", "WDJB-MJHT"),
        ("wdjb mjht", "wdjb mjht"),
        ("A\u{1b}]52;c;eA==\u{7}B", "A]52;c;eA==B"),
        ("A\u{202e}B\u{200b}\u{9b}C", "ABC"),
        ("A\nand enter the code B", "A and enter the code B"),
    ] {
        let finished = login(&scene(), &json!({ "user_code": code }));
        finished.assert_status(3).assert_terminal_has(&format!("enter the code {shown}\r\n"));
        assert_harmless(&finished);
    }
    for code in ["", "\u{1b}\u{7}", &"x".repeat(100)] {
        let finished = login(&scene(), &json!({ "user_code": code }));
        finished.assert_status(4).assert_stderr_has("a code that nobody can type");
    }
}

/// T6, attack 6.2-16: a server's own words lose what they may not contain, and come in one line.
#[test]
fn t6_a_servers_words_cannot_act() {
    let scene = scene();
    let words = "\u{1b}]52;c;eA==\u{7}\u{202e}no\nerror: forged \u{9b}2J";
    let hostile = json!({
        "error": "inva\u{1b}[2Jlid", "error_description": format!("{words}{}", "z".repeat(1000)),
    });
    scene.authority.always("/device_authorization", Step::json(400, &hostile));
    let finished = scene.get().run();
    finished.assert_status(4).assert_stderr_has("answered inva[2Jlid (]52;c;eA==noerror: forged");
    assert_harmless(&finished);
    assert_eq!(finished.stderr_text().lines().count(), 1, "{finished}");
    assert!(finished.stderr_text().len() < 600, "{finished}");
}

/// Attack 27, check 11: a token with a line end or a NUL in it reaches neither stdout nor the store.
#[test]
fn attack_27_a_token_with_a_line_end_never_reaches_stdout() {
    for member in ["access_token", "refresh_token"] {
        for bad in ["x\nhost=evil.example", "x\u{0}", "x y"] {
            let scene = scene();
            let mut tokens = json!({
                "access_token": "marked-good", "refresh_token": "marked-good",
                "token_type": "Bearer", "expires_in": 60,
            });
            tokens[member] = bad.into();
            scene.authority.next("/token", vec![Step::json(200, &tokens)]);
            let finished = scene.get().run();
            finished.assert_status(4).assert_stdout("");
            finished.assert_stderr_has("characters that no token may have");
            assert_eq!(
                scene.sandbox.files_with(b"marked-good"),
                [""; 0].map(std::path::PathBuf::from)
            );
        }
    }
}

/// T2, attack 27: a token of a type that is not understood is not used.
#[test]
fn t2_only_bearer_tokens_are_used() {
    for (kind, status) in [("MAC", 4), ("DPoP", 4), ("bEaReR", 0)] {
        let scene = scene();
        let tokens = json!({ "access_token": "x", "token_type": kind });
        scene.authority.next("/token", vec![Step::json(200, &tokens)]);
        scene.get().run().assert_status(status);
    }
}

/// Attack 22: a redirect of the device authorization, or of a poll, leads nowhere.
#[test]
fn attack_22_no_redirect_is_followed() {
    for path in ["/device_authorization", "/token"] {
        let scene = scene();
        let trap = crate::lab::Server::start(|_| Answer::empty(200).into());
        scene.authority.always(path, Step::Redirect(format!("{}/trap", trap.origin())));
        scene.get().run().assert_status(4).assert_stdout("");
        assert_eq!(trap.journal().snapshot().len(), 0, "{path}");
    }
}
