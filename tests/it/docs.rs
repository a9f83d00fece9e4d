//! Every example of protocol.md, README.md and settings.md is run, or compared with what is run. The
//! word behind the fence says how:
//!
//! | fence | what is done |
//! | --- | --- |
//! | `console` | each `$ ` line is run by a shell (one that ends in a backslash goes on in the next), in one home for the whole document, in order |
//! | `console elsewhere` | not run: it needs a network or another system |
//! | `toml` | must be accepted as config.toml |
//! | `text from GROUP/FILE` | must stand in that vector, line by line |
//! | `text picture` | looked at by people |
//!
//! Below a command stands what it prints on both streams, in which `...` is any text, and a line of
//! `...` any number of lines; a command with nothing below it prints nothing, or something that
//! nobody needs to see. `(exit status N)` is its last line if it does not end with 0.
//!
//! In that home `valetkey` is on PATH, a person sits before the browser and approves, the store is
//! files, and `https://git.example.com` is a git host with the repository `team/project.git`, whose
//! tokens an authorization server issues to `alice`. A profile called `example` binds the two, and
//! a platform vouches for a job of that repository by the variable `EXAMPLE_ID_TOKEN`.
//! `cargo` does nothing there: what it would install is installed already.

use std::sync::Arc;

use crate::lab::job::jwt;
use crate::lab::{Authority, Browser, CLIENT_ID, GitHost, Person, Sandbox, Scheme};
use crate::scene::program;
use crate::vectors::root;

struct Block {
    /// Of the opening fence.
    line: usize,
    fence: String,
    lines: Vec<String>,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(fence) => {
                inside = true;
                let fence = fence.trim().to_owned();
                found.push(Block { line: number + 1, fence, lines: Vec::new() });
            }
            None if inside => {
                found.last_mut().expect("an open block").lines.push(line.to_owned());
            }
            None => {}
        }
    }
    assert!(!inside, "a block is not closed");
    found
}

struct Home {
    sandbox: Sandbox,
    authority: Arc<Authority>,
    host: GitHost,
    _browser: Browser,
}

impl Home {
    fn new() -> Self {
        let authority = Arc::new(Authority::start());
        let judge = Arc::clone(&authority);
        let host = GitHost::start(Scheme::Basic, move |token| judge.token_is_live(token));
        host.create("team/project.git");
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "always");
        sandbox.link("valetkey");
        sandbox.script("cargo", "#!/bin/sh\n");
        let origin = host.origin();
        sandbox
            .git_config(&format!("[url \"{origin}/\"]\n\tinsteadOf = https://git.example.com/\n"));
        sandbox.config(&format!(
            "[profile.example]\norigins = [\"https://git.example.com\", \"{origin}\"]\n\
             issuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
             account = {{ url = \"{}\", id = \"/login\" }}\n\
             [profile.example.workload]\ntoken_env = \"EXAMPLE_ID_TOKEN\"\n",
            authority.issuer(),
            authority.url("/me"),
        ));
        sandbox.env("EXAMPLE_ID_TOKEN", jwt(&authority.issuer(), 1));
        let browser = Browser::start(&sandbox, Person::Approves);
        Self { sandbox, authority, host, _browser: browser }
    }

    /// Runs the commands of a block, each compared with what stands below it.
    fn play(&self, block: &Block) -> Result<(), String> {
        let mut lines = block.lines.iter().peekable();
        while let Some(line) = lines.next() {
            let Some(first) = line.strip_prefix("$ ") else {
                return Err(format!("{line:?} stands below no command"));
            };
            let mut command = first.to_owned();
            while command.ends_with('\\')
                && let Some(more) = lines.next()
            {
                command.push('\n');
                command.push_str(more);
            }
            let mut wanted = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                wanted.push(line.as_str());
            }
            self.compare(&command, &wanted)?;
        }
        Ok(())
    }

    fn compare(&self, command: &str, wanted: &[&str]) -> Result<(), String> {
        let finished = self.sandbox.run("sh", &["-c", &format!("exec 2>&1; {command}")]).run();
        // git takes the laboratory's host for the one that the reader sees.
        let text = finished.stdout_text().replace(&self.host.origin(), "https://git.example.com");
        let status = format!("(exit status {})", finished.status);
        let mut seen: Vec<_> = text.lines().collect();
        if finished.status != 0 {
            seen.push(&status);
        }
        let unseen = wanted.is_empty() && finished.status == 0;
        if unseen || lines_match(wanted, &seen) {
            return Ok(());
        }
        Err(format!("$ {command}\n{}\nwanted\n{}", seen.join("\n"), wanted.join("\n")))
    }

    fn accepts(&self, block: &Block) -> Result<(), String> {
        let path = self.sandbox.write("tried.toml", block.lines.join("\n").as_bytes(), 0o600);
        let run = self.sandbox.valetkey(&["list"]).env("VALETKEY_CONFIG", path);
        let finished = run.env("VALETKEY_STORE", "file").run();
        if finished.status == 0 { Ok(()) } else { Err(finished.to_string()) }
    }
}

fn lines_match(wanted: &[&str], seen: &[&str]) -> bool {
    match (wanted, seen) {
        ([], []) => true,
        (["...", rest @ ..], _) => (0..=seen.len()).any(|count| lines_match(rest, &seen[count..])),
        ([first, rest @ ..], [line, more @ ..]) => {
            line_matches(first, line) && lines_match(rest, more)
        }
        _ => false,
    }
}

fn line_matches(wanted: &str, seen: &str) -> bool {
    let Some((start, rest)) = wanted.split_once("...") else { return wanted == seen };
    let Some(seen) = seen.strip_prefix(start) else { return false };
    let ends = seen.char_indices().map(|(at, _)| at).chain([seen.len()]);
    ends.into_iter().any(|at| line_matches(rest, &seen[at..]))
}

/// Whether the lines stand in the vector, one below the other.
fn quoted(name: &str, lines: &[String]) -> Result<(), String> {
    let path = root().join("tests/vectors").join(name);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
    let there: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("| ")).collect();
    let found = there.windows(lines.len()).any(|window| window == lines);
    if found { Ok(()) } else { Err(format!("{name} does not say so")) }
}

/// The number of blocks that were tried.
fn try_document(name: &str) -> usize {
    let path = root().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let home = Home::new();
    let mut tried = 0;
    for block in blocks(&text) {
        let outcome = match block.fence.as_str() {
            "console" => home.play(&block),
            "toml" => home.accepts(&block),
            "console elsewhere" | "text picture" => continue,
            fence => match fence.strip_prefix("text from ") {
                Some(vector) => quoted(vector, &block.lines),
                None => Err(format!("nobody knows what to do with {fence:?}")),
            },
        };
        if let Err(why) = outcome {
            let asked = home.authority.journal().snapshot().len();
            panic!("{name}:{}: {why}\n(the server was asked {asked} times)", block.line);
        }
        tried += 1;
    }
    tried
}

#[test]
fn the_specification_shows_what_happens() {
    assert!(try_document("protocol.md") >= 8);
}

#[test]
fn the_readme_shows_what_happens() {
    assert!(try_document("README.md") >= 8);
}

#[test]
fn the_settings_that_are_shown_are_accepted() {
    assert!(try_document("settings.md") >= 1);
}

#[test]
fn an_example_that_lies_is_found() {
    let home = Home::new();
    let tell = |text: &str| {
        let lines = text.lines().map(str::to_owned).collect();
        home.play(&Block { line: 1, fence: "console".to_owned(), lines })
    };
    assert_eq!(tell("$ valetkey login https://git.example.com"), Ok(()));
    assert_eq!(tell("$ valetkey whoami https://git.example.com\nalice"), Ok(()));
    assert_eq!(
        tell(
            "$ git -c credential.helper='!valetkey git' clone -q \\\n  https://git.example.com/team/project.git\n$ ls project/src\nlib.rs"
        ),
        Ok(())
    );
    assert_eq!(tell("$ echo a; echo b; echo c\n...\nc\n$ echo a-b-c\na-...c"), Ok(()));
    assert_eq!(tell("$ false\n(exit status 1)"), Ok(()));
    for lie in ["$ echo a\nb", "$ false", "$ echo a; echo b\na", "a", "$ true\n(exit status 1)"] {
        assert!(tell(lie).is_err(), "{lie}");
    }
}
