//! docs/threats.md and the list of defences fit the tree: every attack of the two lists has a rule
//! and a test that exists, and every defence that `scripts/mutants` takes out stands where the list
//! says.

use std::path::Path;

use crate::defences;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_defence_stands_where_the_list_says() {
    let defences = defences::read(root());
    assert!(defences.len() > 7, "the list was read");
    for defence in defences {
        let place = format!("{}:{}: {}", defences::LIST, defence.line, defence.title);
        assert!(!defence.tests.is_empty(), "{place}: no test guards it");
        assert!(!defence.edits.is_empty(), "{place}: nothing is taken out");
        for edit in &defence.edits {
            let text = std::fs::read_to_string(root().join(&edit.file))
                .unwrap_or_else(|error| panic!("{place}: {}: {error}", edit.file));
            let applied = edit.apply(&text);
            let changed = applied.unwrap_or_else(|count| {
                panic!("{place}: {} has these lines {count} times: {:#?}", edit.file, edit.old)
            });
            assert_ne!(changed, text, "{place}");
        }
    }
}

/// The rows of docs/threats.md: number, rules, tests.
fn rows(text: &str) -> Vec<(String, Vec<String>, Vec<String>)> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
    };
    let numbered = |cells: &Vec<String>| {
        let number = cells[0].trim_start_matches("git ");
        cells.len() == 5 && number.parse::<u32>().is_ok()
    };
    let words = |cell: &str| cell.split_whitespace().map(str::to_owned).collect();
    let row = |cells: Vec<String>| (cells[0].clone(), words(&cells[3]), words(&cells[4]));
    let lines = text.lines().filter(|line| line.starts_with('|'));
    lines.map(cells).filter(numbered).map(row).collect()
}

#[test]
fn every_attack_has_a_rule_and_a_test() {
    let text = |path: &str| std::fs::read_to_string(root().join(path)).expect("a text");
    let (rules, tests) = (text("protocol.md"), functions());
    let rows = rows(&text("docs/threats.md"));
    let numbers: Vec<&str> = rows.iter().map(|(number, ..)| number.as_str()).collect();
    let git = (1..=28).map(|number| format!("git {number}"));
    let wanted: Vec<String> = git.chain((1..=33).map(|number| number.to_string())).collect();
    assert_eq!(numbers, wanted);
    for (number, named, guards) in rows {
        assert!(!named.is_empty() && !guards.is_empty(), "{number} lacks a rule or a test");
        for rule in named {
            assert!(rules.contains(&format!("**{rule}**")), "{number}: there is no rule {rule}");
        }
        for guard in guards {
            let name = guard.trim_matches('`');
            let vector = root().join(format!("tests/vectors/{name}.txt"));
            let found = tests.contains(&format!("fn {name}()")) || vector.is_file();
            assert!(found, "{number}: there is no test {name}");
        }
    }
}

/// Every source and every test as one text.
fn functions() -> String {
    let mut all = String::new();
    let mut directories = vec![root().join("src"), root().join("tests/it")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                all.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }
    all
}
