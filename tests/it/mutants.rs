//! Takes one defence after the other out of a copy of the tree, and runs the tests that guard it:
//! `scripts/mutants` prints which defences no test guards. With words after it, only the defences
//! whose title or tests contain one of them.

#![allow(unreachable_pub, reason = "a program has no public face")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "the nevers are for src")]

mod defences;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use defences::{Defence, Edit};

/// What became of the tests once the defence was gone.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// A test failed, as it should.
    Guarded,
    /// Every test passed.
    Unguarded,
    /// It could not be tried: the list does not fit the sources.
    Broken(String),
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words: Vec<String> = std::env::args().skip(1).collect();
    let chosen = |defence: &Defence| {
        let text = format!("{} {}", defence.title, defence.tests.join(" "));
        words.is_empty() || words.iter().any(|word| text.contains(word.as_str()))
    };
    let defences: Vec<Defence> = defences::read(root).into_iter().filter(chosen).collect();
    let tree = Tree::copy(root);
    let all: Vec<String> = defences.iter().flat_map(|defence| defence.tests.clone()).collect();
    if !defences.is_empty() && tree.test(&all) != Verdict::Unguarded {
        println!("the tests fail before anything is taken out");
        return ExitCode::FAILURE;
    }
    let mut bad = 0;
    for (number, defence) in defences.iter().enumerate() {
        let verdict = tree.without(defence);
        bad += usize::from(verdict != Verdict::Guarded);
        let Defence { line, title, .. } = defence;
        println!("{}/{} {verdict:?}: line {line}: {title}", number + 1, defences.len());
    }
    println!("{} defences taken out, {bad} of them not guarded", defences.len());
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A copy of the files that git knows, with a build directory of its own.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn copy(from: &Path) -> Self {
        let root = from.join("target/mutants/tree");
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(from)
            .output()
            .expect("git runs");
        for name in String::from_utf8_lossy(&listed.stdout).split_terminator('\0') {
            let Ok(content) = fs::read(from.join(name)) else { continue };
            let to = root.join(name);
            // What is the same keeps its time, and is not built again.
            if fs::read(&to).is_ok_and(|there| there == content) {
                continue;
            }
            fs::create_dir_all(to.parent().expect("a directory")).expect("directories");
            fs::copy(from.join(name), &to).expect("a copy");
        }
        Self { root }
    }

    fn without(&self, defence: &Defence) -> Verdict {
        let mut before = Vec::new();
        let mut broken = None;
        for Edit { file, .. } in &defence.edits {
            let path = self.root.join(file);
            if !before.iter().any(|(kept, _)| *kept == path) {
                before.push((path.clone(), fs::read(&path).unwrap_or_default()));
            }
        }
        for edit in &defence.edits {
            let path = self.root.join(&edit.file);
            let text = fs::read_to_string(&path).unwrap_or_default();
            match edit.apply(&text) {
                Ok(text) => fs::write(&path, text).expect("a file of the copy"),
                Err(count) => {
                    broken = Some(format!("{} has the lines {count} times", edit.file));
                }
            }
        }
        let verdict = broken.map_or_else(|| self.test(&defence.tests), Verdict::Broken);
        for (path, content) in before {
            fs::write(path, content).expect("a file of the copy");
        }
        verdict
    }

    /// Runs the tests of these names. `Guarded` where one fails.
    fn test(&self, names: &[String]) -> Verdict {
        let (unit, integration): (Vec<_>, Vec<_>) =
            names.iter().partition(|name| name.starts_with("lib::"));
        let built = self.cargo(&["--lib", "--test", "it", "--no-run"], &[]);
        if !built.status.success() {
            let text = String::from_utf8_lossy(&built.stderr).into_owned();
            let error = text.lines().find(|line| line.starts_with("error")).unwrap_or("no error");
            return Verdict::Broken(format!("it does not build: {error}"));
        }
        let unit: Vec<&str> = unit.iter().map(|name| &name["lib::".len()..]).collect();
        let integration: Vec<&str> = integration.iter().map(|name| name.as_str()).collect();
        for (which, names) in [(&["--lib"][..], unit), (&["--test", "it"], integration)] {
            if names.is_empty() {
                continue;
            }
            let output = self.cargo(which, &names);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.contains("running 0 tests") {
                return Verdict::Broken(format!("there is no test {}", names.join(" ")));
            }
            if !output.status.success() {
                return Verdict::Guarded;
            }
        }
        Verdict::Unguarded
    }

    fn cargo(&self, which: &[&str], names: &[&str]) -> Output {
        Command::new(env!("CARGO"))
            .args(["test", "--locked", "--quiet"])
            .args(which)
            .arg("--")
            .args(names)
            .env("CARGO_TARGET_DIR", self.root.with_file_name("build"))
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .current_dir(&self.root)
            .output()
            .expect("cargo runs")
    }
}
