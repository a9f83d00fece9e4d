//! What every dialect owes its caller, tried on each of them: the same token from a variable, no
//! success without an answer, no text that acts, no number that cannot be read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::lab::{Finished, Run, Sandbox};
use crate::scene::program;
use crate::urls::{TOKEN, WAYS, gives_it, home, home_of};

/// The last second that RFC 3339 can write.
const LAST_SECOND: u64 = 253_402_300_799;

#[test]
fn a_token_of_a_variable_is_the_same_in_every_dialect() {
    let sandbox = home();
    for (name, way) in WAYS {
        let ask = || way(&sandbox, "https://good.example").expect("a plain URL");
        let clean = ask().run();
        assert!(gives_it(&clean), "{name}: {clean}");
        for (before, after) in
            [("", "\n"), ("", "\r\n"), (" ", " "), ("\t", ""), ("\u{feff}", "\r\n"), ("\u{a0}", "")]
        {
            let dressed = ask().env("LAB_TOKEN", format!("{before}{TOKEN}{after}")).run();
            assert_eq!(dressed.stdout, clean.stdout, "{name} {before:?} {after:?}: {dressed}");
        }
    }
}

#[test]
fn what_is_no_token_is_given_by_no_dialect() {
    let sandbox = home();
    let long = "canary".repeat(11_000);
    let values: [&[u8]; 9] = [
        b"canary x",
        b"canary\nx",
        b"canary\tx",
        b"canary\r\nX: y",
        "canary\u{feff}x".as_bytes(),
        "canary\u{200b}".as_bytes(),
        "canary\u{e9}".as_bytes(),
        b"canary\xff",
        long.as_bytes(),
    ];
    for (name, way) in WAYS {
        for value in values {
            let run = way(&sandbox, "https://good.example").expect("a plain URL");
            let finished = run.env("LAB_TOKEN", OsStr::from_bytes(value)).run();
            let said = format!("{}{}", finished.stdout_text(), finished.stderr_text());
            let quoted = said.contains("canary") || said.contains("Y2FuYXJ5");
            assert!(!quoted && !said.contains(TOKEN), "{name}: {finished}");
            // These two have no other status for an answer.
            assert!(finished.status != 0 || matches!(*name, "google" | "cargo"), "{name}");
        }
    }
    let run = sandbox.valetkey(&["token", "https://good.example"]);
    run.env("LAB_TOKEN", " \n").run().assert_status(2).assert_stdout("");
}

/// A sandbox whose programs write their answers to a full disk.
fn full(directory: &Path) -> Sandbox {
    let real = program().display();
    let path = directory.join("valetkey");
    crate::lab::sandbox::write_program(
        &path,
        &format!("#!/bin/sh\nexec {real} \"$@\" >/dev/full\n"),
    );
    home_of(&path)
}

#[track_caller]
fn assert_unwritten(name: &str, run: Run) {
    let finished = run.run();
    let said = finished.stderr_text();
    let once = said.matches("error: the answer cannot be written").count() == 1;
    assert!(finished.status == 1 && once, "{name}: {finished}");
}

#[test]
fn an_answer_that_cannot_be_written_is_no_success() {
    let directory = tempfile::tempdir().expect("a directory");
    let sandbox = full(directory.path());
    for (name, way) in WAYS {
        assert_unwritten(name, way(&sandbox, "https://good.example").expect("a plain URL"));
        // These answer a miss on standard output too.
        if ["docker", "bazel", "cargo", "terraform", "google"].contains(name) {
            assert_unwritten(name, way(&sandbox, "https://nothing.example").expect("a plain URL"));
        }
    }
    for words in [
        &["capability"][..],
        &["docker", "list"],
        &["docker", "version"],
        &["docker", "--help"],
        &["docker", "unknown"],
        &["goauth"],
        &["list", "--json"],
        &["status", "https://good.example"],
        &["status", "https://good.example", "--json"],
        &["setup", "bazel", "--print"],
        &["completions", "bash"],
        &["--help"],
        &["--version"],
        &["token", "--help"],
        &["help"],
        &["version"],
    ] {
        assert_unwritten(&words.join(" "), sandbox.valetkey(words));
    }
}

/// Letters that a terminal acts on, or that hide what is there.
const ACTING: &str = "\u{7f}\u{80}\u{9b}31m\u{9d}0;x\u{9c}\u{ad}\u{61c}\u{180e}\u{200b}\u{200e}\u{200f}\
                      \u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{feff}\u{fffb}\u{e0041}";

fn acts(text: &str) -> bool {
    let acting = |letter: char| ACTING.contains(letter) && !letter.is_ascii_graphic();
    text.chars().any(|letter| acting(letter) || letter.is_control() && letter != '\n')
}

/// Records as another program, or an older one of ours, could have left them.
#[test]
fn what_strangers_chose_acts_in_no_list() {
    let sandbox = Sandbox::new(program());
    sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "never");
    sandbox.config(
        "[profile.lab]\norigins = [{ url = \"https://good.example\", registry = true }]\n\
         flow = \"token\"\nusername = \"{account}\"\n",
    );
    let text = format!("a{ACTING}\u{1b}[2J\nb");
    let record = |place: Value| {
        let mut record = json!({
            "v": 1, "kind": "static", "account": text, "provider_account": text, "name": text,
            "email": text, "fields": { "f": text }, "secret": "lab-secret", "stored_at": 1,
        });
        for (name, value) in place.as_object().expect("an object") {
            record[name] = value.clone();
        }
        record.to_string()
    };
    // The digests of the places.
    for (directory, place) in [
        ("92704e92e5954b13e4eb237db891d70f", json!({ "profile": "lab" })),
        (
            "00000000000000000000000000000000",
            json!({ "origin": "https://a.example", "path": text }),
        ),
    ] {
        let path = format!("data/valetkey/sessions/{directory}/0.json");
        sandbox.write(&path, record(place).as_bytes(), 0o600);
    }
    for directory in ["data", "data/valetkey", "data/valetkey/sessions"] {
        let path = sandbox.root().join(directory);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(path, mode).expect("one's own directory");
    }
    let ask = |words: &[&str]| -> Finished { sandbox.valetkey(words).run() };
    let mut seen = 0;
    for words in [
        &["list"][..],
        &["list", "--json"],
        &["status"],
        &["status", "--json"],
        &["status", "https://good.example"],
        &["status", "https://good.example", "--json"],
        &["whoami"],
        &["whoami", "https://good.example"],
        &["docker", "list"],
    ] {
        let finished = ask(words);
        let said = format!("{}{}", finished.stdout_text(), finished.stderr_text());
        assert!(!acts(&said) && finished.status == 0, "{words:?}: {said:?}");
        seen += usize::from(said.contains("31m"));
        if words.contains(&"--json") {
            let document: Value = serde_json::from_slice(&finished.stdout).expect("JSON");
            assert!(find(&document, &text), "{document}");
        } else if words[0] != "docker" {
            assert!(finished.stdout_text().lines().all(|line| !line.starts_with('b')), "{said}");
        }
    }
    assert_eq!(seen, 9);
    // The same user name, to whoever reads JSON.
    let listed = ask(&["docker", "list"]).assert_success();
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed["good.example"], text);
}

fn find(document: &Value, text: &str) -> bool {
    match document {
        Value::String(own) => own == text,
        Value::Array(all) => all.iter().any(|one| find(one, text)),
        Value::Object(all) => all.values().any(|one| find(one, text)),
        _ => false,
    }
}

/// Every number of an answer is one that cargo, Go, JavaScript and Python read as a time.
#[test]
fn no_dialect_writes_a_time_that_its_caller_cannot_read() {
    let sandbox = home();
    sandbox.config("[profile.good]\norigins = [\"https://good.example\"]\nflow = \"token\"\n");
    let login = ["login", "https://good.example", "--token-stdin", "--expires"];
    let end = u64::MAX.to_string();
    let run = sandbox.valetkey(&login).arg(end).stdin(TOKEN);
    run.run().assert_status(0);
    let mut ends = 0;
    for (name, way) in WAYS {
        let finished = way(&sandbox, "https://good.example").expect("a plain URL").run();
        assert!(gives_it(&finished), "{name}: {finished}");
        let text = finished.stdout_text();
        for number in text.split(|letter: char| !letter.is_ascii_digit()) {
            let fits =
                number.len() < 10 || number.parse().is_ok_and(|time: u64| time <= LAST_SECOND);
            assert!(fits, "{name}: {text}");
        }
        ends += usize::from(text.contains("253402300799") || text.contains("9999-12-31T23:59:59Z"));
    }
    assert!(ends >= 6, "git, cargo, kubectl, bazel and google say when a token ends");
    let listed = sandbox.valetkey(&["list", "--json"]).run().assert_success();
    assert!(listed.contains("\"expires_at\":253402300799"), "{listed}");
}

/// PowerShell and .NET write a byte order mark before whatever they pipe, and end lines with CRLF.
#[test]
fn a_byte_order_mark_is_no_part_of_a_request() {
    let sandbox = home();
    let run = |words: &[&str], input: &str| {
        let run = sandbox.valetkey(words).env("VAULT_ADDR", "https://vault.example");
        run.stdin(format!("\u{feff}{input}")).run()
    };
    let stored = "{\"ServerURL\":\"r.example\",\"Username\":\"u\",\"Secret\":\"docked\"}\r\n";
    run(&["docker", "store"], stored).assert(0, "", "");
    let answer = run(&["docker", "get"], "r.example\r\n").assert_success();
    assert!(answer.starts_with("{\"ServerURL\":\"r.example\",") && answer.contains("docked"));
    run(&["terraform", "store", "tf.example"], "{\"token\":\"formed\"}\r\n").assert(0, "", "");
    run(&["terraform", "get", "tf.example"], "").assert(0, "{\"token\":\"formed\"}\n", "");
    run(&["vault", "store"], "vaulted\r\n").assert(0, "", "");
    run(&["vault", "get"], "").assert(0, "vaulted", "");
    let answer = run(&["get"], "protocol=https\nhost=good.example\n");
    assert!(gives_it(&answer), "{answer}");
    let question = "{\"v\":1,\"registry\":{\"index-url\":\"sparse+https://good.example\"},\
                    \"kind\":\"get\",\"operation\":\"read\"}\r\n";
    let answer = run(&["cargo", "--cargo-plugin"], question);
    assert!(gives_it(&answer), "{answer}");
    let answer = run(&["bazel", "get"], "{\r\n\"uri\":\"https://good.example\"}\r\n");
    assert!(gives_it(&answer), "{answer}");
}

/// A variable that says where the answer goes is not passed over because it cannot be read.
#[test]
fn an_address_that_is_no_text_is_not_one_that_is_not_set() {
    let sandbox = home();
    let strange = OsStr::from_bytes(b"https://evil.example/\xff");
    let run = sandbox.valetkey(&["vault", "store"]).stdin("t");
    run.env("VAULT_ADDR", "https://127.0.0.1:8200").run().assert(0, "", "");
    sandbox.valetkey(&["vault", "get"]).run().assert(0, "t", "");
    let run = sandbox.valetkey(&["vault", "get"]).env("VAULT_ADDR", strange);
    run.run().assert_status(64).assert_stdout("");
    for way in ["header", "json"] {
        let run = sandbox.valetkey(&[way, "https://good.example"]);
        let run = run.env("CLAUDE_CODE_MCP_SERVER_URL", strange);
        run.run().assert_status(64).assert_stdout("");
    }
}
