//! What the systems that users come from promise them: the list S1 to S164. Each promise is shown
//! by a test whose comment names it, or protocol.md says why it is none of ours; never both.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const LAST: usize = 164;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The numbers of the list that a text names as `S1`, `S2`.
fn named(text: &str) -> impl Iterator<Item = usize> + '_ {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    let number = |word: &str| word.strip_prefix('S')?.parse::<usize>().ok();
    words.filter_map(number).filter(|number| (1..=LAST).contains(number))
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root().join("tests/it")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// What the comments of tests name. A comment belongs to a test if nothing but attributes stands
/// between the two.
fn shown() -> BTreeSet<usize> {
    let mut shown = BTreeSet::new();
    for path in sources() {
        let text = std::fs::read_to_string(&path).expect("a readable source");
        let mut comment = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(words) = line.strip_prefix("///") {
                comment.push_str(words);
                comment.push('\n');
            } else if line == "#[test]" {
                shown.extend(named(&comment));
            } else if !line.starts_with("#[") {
                comment.clear();
            }
        }
    }
    shown
}

/// The first column of the table "Promises that do not apply" of section 17.
fn excused() -> BTreeSet<usize> {
    let text = std::fs::read_to_string(root().join("protocol.md")).expect("a specification");
    let (_, section) = text.split_once("\n## 17. The systems that users come from\n").expect("17");
    let section = section.split("\n## ").next().unwrap_or_default();
    let (_, table) = section.split_once("Promises that do not apply").expect("the table");
    let table = table.split("\n#").next().unwrap_or_default();
    let mut excused = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| S")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [numbers, reason] = cells[..] else { panic!("a row has two cells: {row}") };
        assert!(reason.len() > 20, "no reason: {row}");
        for number in named(numbers) {
            assert!(excused.insert(number), "S{number} is excused twice");
        }
    }
    excused
}

fn list(numbers: impl Iterator<Item = usize>) -> String {
    numbers.map(|number| format!("S{number}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_promise_is_shown_or_excused_and_none_is_both() {
    let (shown, excused) = (shown(), excused());
    let neither = (1..=LAST).filter(|number| !shown.contains(number) && !excused.contains(number));
    let neither = list(neither);
    assert!(neither.is_empty(), "neither shown nor excused: {neither}");
    let both = list(shown.intersection(&excused).copied());
    assert!(both.is_empty(), "both shown and excused: {both}");
}
