//! The list of defences that can be taken out, tests/defences.txt. `scripts/mutants` takes each out
//! in a copy of the tree and expects the named tests to fail; a test of the suite sees that the list
//! still fits the sources.
//!
//! An entry, and a blank line after it:
//!
//! ```text
//! # what the defence is for, with its number in docs/threats.md
//! tests attacks::name_of_a_test lib::oauth::name_of_a_unit_test
//! in src/disk.rs
//! - the lines as they stand there, once in the file, without their indentation
//! + the lines that take the defence out
//! ```
//!
//! A defence that stands twice has several `in` parts, which are taken out together.

use std::path::Path;

pub const LIST: &str = "tests/defences.txt";

#[derive(Clone, Debug, Default)]
pub struct Defence {
    /// The line of the list on which it begins, counted from 1.
    pub line: usize,
    pub title: String,
    /// Filters of the integration tests, or of unit tests behind `lib::`.
    pub tests: Vec<String>,
    pub edits: Vec<Edit>,
}

/// What is replaced in one file.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    pub file: String,
    pub old: Vec<String>,
    pub new: Vec<String>,
}

impl Edit {
    /// The text with the replacement made.
    ///
    /// # Errors
    /// How often the old lines stand in the text, where that is not once.
    pub fn apply(&self, text: &str) -> Result<String, usize> {
        let lines: Vec<&str> = text.lines().collect();
        let fits = |at: &usize| {
            let found = lines[*at..].iter().take(self.old.len());
            found.map(|line| line.trim()).eq(self.old.iter().map(String::as_str))
        };
        let places: Vec<usize> = (0..lines.len()).filter(fits).collect();
        let [at] = places[..] else { return Err(places.len()) };
        let (before, rest) = lines.split_at(at);
        let new = self.new.iter().map(String::as_str);
        let all = before.iter().copied().chain(new).chain(rest[self.old.len()..].iter().copied());
        Ok(all.map(|line| format!("{line}\n")).collect())
    }
}

/// Reads the list.
///
/// # Panics
/// With the line that cannot be read.
#[track_caller]
pub fn read(root: &Path) -> Vec<Defence> {
    let text = std::fs::read_to_string(root.join(LIST)).expect("the list of defences");
    let mut defences: Vec<Defence> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let (mark, words) = line.split_once(' ').unwrap_or((line, ""));
        if mark == "#" {
            defences.push(Defence { line: number, title: words.into(), ..Defence::default() });
            continue;
        }
        if mark.is_empty() {
            continue;
        }
        let wrong = || panic!("{LIST}:{number}: {line}");
        let Some(defence) = defences.last_mut() else { wrong() };
        match (mark, defence.edits.last_mut()) {
            ("tests", _) => defence.tests.extend(words.split_whitespace().map(str::to_owned)),
            ("in", _) => {
                defence.edits.push(Edit { file: words.to_owned(), ..Edit::default() });
            }
            ("-", Some(edit)) => edit.old.push(words.trim().to_owned()),
            ("+", Some(edit)) => edit.new.push(words.to_owned()),
            _ => wrong(),
        }
    }
    defences
}
