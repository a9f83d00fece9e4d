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
