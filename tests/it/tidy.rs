//! The rules of the house, read off the sources: who imports whom, who may see a secret, how long
//! a room may be, and what a dependency must be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Each room and the rooms that it may use. What is not listed is an arrow upward.
const ARROWS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("clock", &[]),
    ("model", &["error"]),
    ("disk", &["error"]),
    ("environment", &["error"]),
    ("program", &["environment"]),
    ("profile", &["disk", "environment", "error", "model"]),
    ("ui", &["clock", "environment", "error", "model", "program"]),
    ("dialect", &["disk", "environment", "error", "model"]),
    ("vault", &["clock", "disk", "environment", "error", "model", "program"]),
    ("oauth", &["clock", "disk", "environment", "error", "model", "profile", "program", "ui"]),
    ("broker", &["clock", "environment", "error", "model", "oauth", "profile", "ui", "vault"]),
    ("cli", &["dialect", "error", "model", "profile"]),
    // Feeds the others, by the whole program too, and is in no release.
    (
        "fuzzing",
        &[
            "clock",
            "dialect",
            "environment",
            "error",
            "model",
            "oauth",
            "person",
            "profile",
            "run_with",
            "vault",
        ],
    ),
    (
        "person",
        &[
            "broker",
            "cli",
            "dialect",
            "disk",
            "environment",
            "error",
            "model",
            "oauth",
            "profile",
            "program",
            "ui",
            "vault",
        ],
    ),
];

/// Where the bytes of a secret must leave.
const EXPOSING: &[&str] =
    &["src/model", "src/dialect/", "src/oauth", "src/vault/", "src/person.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources without their tests, by path below the root.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut directories = vec![root().join("src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a readable directory") {
            let path: PathBuf = entry.expect("a readable entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a readable source");
                let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
                let name = path.strip_prefix(root()).expect("a path below the root");
                found.push((name.to_str().expect("a plain name").to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

fn room(path: &str) -> &str {
    let path = path.trim_start_matches("src/");
    path.split(['/', '.']).next().unwrap_or(path)
}

#[test]
fn no_arrow_points_upward() {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for (path, text) in sources() {
        let from = room(&path);
        if matches!(from, "lib" | "main") {
            continue;
        }
        let allowed = arrows.get(from).unwrap_or_else(|| panic!("{path} is in no known room"));
        for rest in text.split("crate::").skip(1) {
            let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            let to = &rest[..end.unwrap_or(rest.len())];
            let fine = to == from || allowed.contains(&to) || to == "Process";
            assert!(fine, "{path} uses {to}, which its room may not");
        }
    }
}

#[test]
fn rooms_stay_small_and_say_what_they_are_for() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        let most = if path == "src/broker.rs" { 400 } else { 600 };
        assert!(lines <= most, "{path} has {lines} lines, {most} are a sign to look again");
        assert!(text.starts_with("//! "), "{path} does not say what it is for");
        for word in ["todo!", "unimplemented!", "FIXME", "allow(dead_code)"] {
            assert!(!text.contains(word), "{path} holds {word}");
        }
    }
}

#[test]
fn secrets_are_exposed_only_where_bytes_must_leave() {
    for (path, text) in sources() {
        if text.contains(".expose()") {
            let fine = EXPOSING.iter().any(|place| path.starts_with(place));
            assert!(fine, "{path} exposes a secret");
        }
    }
}

/// Of this machine's target, because only its packages are here without a network.
fn metadata() -> Value {
    let version = std::process::Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let target = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", target])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Licences that a binary under MIT or Apache-2.0 can carry.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

type Version = (u64, u64, u64);

/// Crates with an advisory (RUSTSEC), and the first version without it; `None`: unmaintained.
const ADVISORIES: &[(&str, Option<Version>)] = &[
    ("anyhow", Some((1, 0, 103))),
    ("atty", None),
    ("backoff", None),
    ("bincode", None),
    ("derivative", None),
    ("instant", None),
    ("number_prefix", None),
    ("paste", None),
    ("rand", Some((0, 8, 6))),
    ("rustls-pemfile", None),
    ("serde_yml", None),
    ("time", Some((0, 3, 47))),
    ("tracing-subscriber", Some((0, 3, 20))),
    ("webbrowser", Some((1, 2, 2))),
];

#[test]
fn dependencies_are_licensed_and_without_known_advisories() {
    for package in metadata()["packages"].as_array().expect("packages") {
        let text = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
        let (name, version) = (text("name"), text("version"));
        let licence = text("license").replace('/', " OR ").replace(['(', ')'], " ");
        let fine = licence
            .split(" OR ")
            .any(|choice| choice.split(" AND ").all(|part| LICENCES.contains(&part.trim())));
        assert!(fine, "{name} {version} is under {licence:?}");
        if let Some((_, mended)) = ADVISORIES.iter().find(|(known, _)| *known == name) {
            let number = |index: usize| {
                let part = version.split(['.', '-', '+']).nth(index);
                part.and_then(|part| part.parse::<u64>().ok()).unwrap_or_default()
            };
            let found = (number(0), number(1), number(2));
            let old = mended.is_none_or(|mended| found < mended);
            assert!(!old, "{name} {version} has an advisory");
        }
    }
}

#[test]
fn each_dependency_says_what_it_is_for() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let mut inside = false;
    let mut seen = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies]");
        } else if inside && line.contains(" = ") {
            let name = line.split(" = ").next().unwrap_or_default();
            assert!(line.contains('#') || !seen.insert(name), "{name} does not say what it is for");
            seen.insert(name);
        }
    }
    assert!(seen.len() > 10, "the manifest was read");
}
