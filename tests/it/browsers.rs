//! `$BROWSER` and the directories of `$PATH` as people have them: with spaces, quotes and letters of
//! no alphabet that we know.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::browser::Program;
use crate::lab::watched::PATIENCE;
use crate::lab::{Browser, Person};
use crate::scene::Scene;

/// A browser in a directory with this name.
fn browser_in(scene: &Scene, name: &[u8]) -> Browser {
    scene.sandbox.env("VALETKEY_INTERACTIVE", "always");
    let directory = scene.sandbox.root().join(OsStr::from_bytes(name));
    std::fs::create_dir(&directory).expect("a new directory");
    Browser::start_in(&directory, Person::Approves, Program::Quiet)
}

fn text(parts: &[&[u8]]) -> OsString {
    OsString::from_vec(parts.concat())
}

#[test]
fn a_browser_starts_however_its_path_is_quoted() {
    let scene = Scene::new();
    let browser = browser_in(&scene, b"Program Files (it's)");
    let path = browser.script().as_os_str().as_bytes().to_vec();
    let escape = |acts: &[u8]| -> Vec<u8> {
        let escaped = |byte: &u8| [b"\\".repeat(usize::from(acts.contains(byte))), vec![*byte]];
        path.iter().flat_map(escaped).flatten().collect()
    };
    let entries = [
        path.clone(),
        text(&[b"  ", &path, b" "]).into_vec(),
        text(&[b"\"", &path, b"\""]).into_vec(),
        text(&[b"\"", &path, b"\" %s"]).into_vec(),
        text(&[b"\"", &path, b"\" &"]).into_vec(),
        escape(b" ()'"),
        text(&[b"/no/such/browser:", &escape(b" ()'"), b":/nor/this"]).into_vec(),
        text(&[b"'/no/such browser' --new:\"", &path, b"\""]).into_vec(),
    ];
    for (number, entry) in entries.into_iter().enumerate() {
        let entry = OsString::from_vec(entry);
        let login = scene.sandbox.valetkey(&["login", "--force", &scene.host.origin()]);
        login.env("BROWSER", &entry).run().assert_status(0);
        assert_eq!(browser.opened().len(), number + 1, "{}", entry.display());
    }
}

/// The URL is one argument, and nothing of it is read by a shell.
#[test]
fn a_browser_gets_the_url_where_the_entry_says() {
    let scene = Scene::new();
    scene.sandbox.env("VALETKEY_INTERACTIVE", "always");
    scene
        .sandbox
        .script("show", "#!/bin/sh\nprintf '%s\\n' \"$#\" \"$@\" >part && mv part words\n");
    for (entry, count, at) in [
        ("show", 1, 0),
        ("show --new-window", 2, 1),
        ("show %s --new-window", 2, 0),
        ("show 'a b' \"%s\"", 2, 1),
        ("show --url=%s", 1, 0),
        ("sh -c 'show \"%s\"'", 1, 0),
        ("sh -c 'show %s x'", 2, 0),
    ] {
        let words = scene.sandbox.work().join("words");
        let _ = std::fs::remove_file(&words);
        let login = ["login", "--force", "--timeout", "1", &scene.host.origin()];
        scene.sandbox.valetkey(&login).env("BROWSER", entry).run().assert_status(3);
        let until = Instant::now() + PATIENCE;
        while !words.exists() && Instant::now() < until {
            thread::park_timeout(Duration::from_millis(10));
        }
        let seen = std::fs::read_to_string(&words).unwrap_or_else(|_| panic!("{entry}"));
        let seen: Vec<&str> = seen.lines().collect();
        assert_eq!(seen[0], count.to_string(), "{entry}");
        let url = seen[1 + at].trim_start_matches("--url=");
        assert!(url.starts_with(&scene.authority.url("/authorize?")), "{entry}: {url}");
        assert!(url.contains("&code_challenge_method=S256"), "{entry}: {url}");
    }
}

/// A directory of PATH that is not UTF-8 hides none of the others, and can hold the program itself.
#[test]
fn a_path_is_bytes() {
    let scene = Scene::new();
    let odd = browser_in(&scene, b"caf\xe9");
    let plain = browser_in(&scene, b"plain");
    let directory = |browser: &Browser| browser.script().parent().expect("it has one").to_owned();
    let path = [directory(&odd), directory(&plain), "/usr/bin".into(), "/bin".into()];
    let path = std::env::join_paths(path).expect("no colon");
    for browser in [&odd, &plain] {
        let name = browser.script().file_name().expect("it has one");
        let login = scene.sandbox.valetkey(&["login", "--force", &scene.host.origin()]);
        login.env("PATH", &path).env("BROWSER", name).run().assert_status(0);
        let login = scene.sandbox.valetkey(&["login", "--force", &scene.host.origin()]);
        login.env("PATH", &path).env("BROWSER", browser.script()).run().assert_status(0);
        assert_eq!(browser.opened().len(), 2);
    }
}

/// Every variable that names a place, at a place that is not UTF-8.
#[test]
fn a_home_is_bytes() {
    let scene = Scene::new();
    let root = scene.sandbox.root().join(OsStr::from_bytes(b"j\xf6rg"));
    let here = |name: &str| {
        let directory = root.join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        directory
    };
    let config = std::fs::read(scene.sandbox.root().join("config/valetkey/config.toml"));
    let config = config.expect("a configuration");
    let browser = scene.browser(Person::Approves);
    let run = |variables: &[(&str, &str)], words: &[&str]| {
        let mut run = scene.sandbox.valetkey(words);
        for name in ["CONFIG", "DATA", "STATE", "CACHE"] {
            run = run.remove_env(&format!("XDG_{name}_HOME"));
        }
        variables.iter().fold(run, |run, (name, place)| run.env(name, here(place)))
    };
    let origin = scene.host.origin();
    for variables in [
        &[("HOME", "home")][..],
        &[
            ("HOME", "other"),
            ("XDG_CONFIG_HOME", "other/.config"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
        ],
    ] {
        let home = here(variables[0].1);
        let place = home.join(".config/valetkey");
        std::fs::create_dir_all(&place).expect("a directory");
        std::fs::write(place.join("config.toml"), &config).expect("a file");
        run(variables, &["login", &origin]).run().assert_status(0);
        run(variables, &["token", &origin]).run().assert_status(0);
    }
    assert_eq!(browser.opened().len(), 2);
    assert!(root.join("home/.local/share/valetkey/sessions").is_dir());
    assert!(root.join("data/valetkey/sessions").is_dir());

    let file = here("elsewhere").join("named.toml");
    std::fs::write(&file, &config).expect("a file");
    let named = run(&[("HOME", "nowhere")], &["list"]).env("VALETKEY_CONFIG", &file).run();
    named.assert_status(0);
    for (variable, tool, written) in
        [("DOCKER_CONFIG", "docker", "config.json"), ("CARGO_HOME", "cargo", "config.toml")]
    {
        scene.sandbox.link("valetkey");
        let place = here(variable);
        let setup = run(&[("HOME", "nowhere")], &["setup", tool]).env(variable, &place).run();
        setup.assert_status(0);
        assert!(place.join(written).is_file(), "{setup}");
        let _ = std::fs::remove_file(scene.sandbox.bin().join("valetkey"));
    }
}
