//! Runs every file of tests/vectors against the whole program, each in a home of its own, and sees
//! that the vectors and the rules of protocol.md name each other. What a vector may say stands in
//! tests/vectors/README.md; a new case is one file.

mod format;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use format::Vector;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every vector by its path below tests/vectors.
fn vectors() -> BTreeMap<String, Vector> {
    let directory = root().join("tests/vectors");
    let mut found = BTreeMap::new();
    for group in entries(&directory).into_iter().filter(|path| path.is_dir()) {
        for path in entries(&group) {
            let name = path.strip_prefix(&directory).expect("a path below the directory");
            let text = std::fs::read_to_string(&path).expect("a readable vector");
            let name = name.display().to_string();
            let vector = Vector::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            found.insert(name, vector);
        }
    }
    assert!(found.len() > 50, "the vectors are there");
    found
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a readable directory");
    entries.map(|entry| entry.expect("a readable entry").path()).collect()
}

#[test]
fn every_vector_holds() {
    let vectors: Vec<_> = vectors().into_iter().collect();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((name, vector)) = vectors.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let played = std::panic::catch_unwind(|| stage::play(vector));
                    let outcome = played.unwrap_or_else(|_| Err("the laboratory panicked".into()));
                    if let Err(why) = outcome {
                        let what = &vector.what;
                        let mut failed = failed.lock().expect("no panic while it is held");
                        failed.push(format!("=== {name}: {what}\n{why}\n"));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("no panic while it is held");
    failed.sort();
    assert!(failed.is_empty(), "{} failed\n{}", failed.len(), failed.concat());
}

/// A rule is a paragraph of protocol.md that opens with its number in bold.
fn rules() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("protocol.md")).expect("a specification");
    let mut rules = BTreeSet::new();
    for line in text.lines() {
        let Some((number, _)) = line.strip_prefix("**").and_then(|line| line.split_once("**"))
        else {
            continue;
        };
        let digits = number.trim_start_matches(|letter: char| letter.is_ascii_uppercase());
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            assert!(rules.insert(number.to_owned()), "two rules are called {number}");
        }
    }
    rules
}

#[test]
fn every_rule_has_a_vector_and_every_vector_a_rule() {
    let rules = rules();
    assert!(rules.len() > 50, "the rules were read");
    let proven: BTreeSet<_> = vectors().into_values().map(|vector| vector.rule).collect();
    let unproven: Vec<_> = rules.difference(&proven).collect();
    assert!(unproven.is_empty(), "rules without a vector: {unproven:?}");
    let unknown: Vec<_> = proven.difference(&rules).collect();
    assert!(unknown.is_empty(), "vectors of rules that do not exist: {unknown:?}");
}

/// `rule G4` in a source is a promise that protocol.md says it.
#[test]
fn the_sources_name_rules_that_exist() {
    let rules = rules();
    let mut directories = vec![root().join("src")];
    let mut named = 0;
    while let Some(directory) = directories.pop() {
        for path in entries(&directory) {
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a readable source");
            let words: Vec<_> = text.split(|letter: char| !letter.is_alphanumeric()).collect();
            for pair in words.windows(2) {
                if matches!(pair[0], "rule" | "rules" | "Rule" | "Rules" | "to")
                    && pair[1].len() > 1
                    && pair[1].starts_with(['G', 'V', 'E', 'N'])
                    && pair[1][1..].bytes().all(|byte| byte.is_ascii_digit())
                {
                    named += 1;
                    assert!(rules.contains(pair[1]), "{}: {}", path.display(), pair[1]);
                }
            }
        }
    }
    assert!(named > 5, "the sources were read");
}
