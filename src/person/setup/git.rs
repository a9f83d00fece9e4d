//! `valetkey setup git`: git's own program writes the configuration, so that nothing but the
//! lines in question changes.

use std::path::{Path, PathBuf};

use super::{Setup, Step, files, tool};
use crate::broker::World;
use crate::error::{Error, Kind, Result};
use crate::model::Resource;

/// The key about every host.
const ALL: &str = "credential.helper";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let file = files::followed(&configuration(setup)?)?;
    match setup.typed.undo {
        true => undo(setup, &file),
        false => written(setup, &file),
    }
}

fn written(setup: &Setup<'_>, file: &Path) -> Result<Vec<Step>> {
    let helper = helper(&setup.program()?)?;
    let mut steps = Vec::new();
    for key in keys(&setup.typed.hosts)? {
        let present = values(&key, setup.world)?;
        let mut kept = present.clone();
        // From where this program was before.
        for moved in present.iter().filter(|value| **value != helper && is_ours(value, setup)) {
            steps.extend(taken_back(&key, moved, &kept));
            kept.retain(|value| value != moved);
        }
        steps.extend(added(&key, &helper, &kept, setup.typed.replace));
        if !setup.typed.replace {
            warn(&key, &helper, setup)?;
        }
    }
    Ok(steps.into_iter().map(|words| run(words, file)).collect())
}

fn undo(setup: &Setup<'_>, file: &Path) -> Result<Vec<Step>> {
    let meant = keys(&setup.typed.hosts)?;
    let all = everywhere(setup)?;
    let ours = |key: &str| setup.typed.hosts.is_empty() || meant.iter().any(|meant| meant == key);
    // Where nothing of ours is left, the file gets back what it was.
    if all.iter().all(|(key, _)| ours(key))
        && let Some(steps) = setup.restored(&[file.to_owned()])?
    {
        return Ok(steps);
    }
    let mut steps = Vec::new();
    for (key, value) in all.into_iter().filter(|(key, _)| ours(key)) {
        let present = values(&key, setup.world)?;
        steps.extend(taken_back(&key, &value, &present));
    }
    Ok(steps.into_iter().map(|words| run(words, file)).collect())
}

/// The file that `git config --global` reads and writes (git-config(1), FILES).
fn configuration(setup: &Setup<'_>) -> Result<PathBuf> {
    let environment = setup.world.environment;
    if environment.raw("GIT_CONFIG_GLOBAL").is_some() {
        return setup.file("GIT_CONFIG_GLOBAL", "");
    }
    let own = setup.home()?.join(".gitconfig");
    let base = environment.raw("XDG_CONFIG_HOME").map(PathBuf::from);
    let other = base.unwrap_or(setup.home()?.join(".config")).join("git/config");
    Ok(if !own.exists() && other.exists() { other } else { own })
}

fn keys(hosts: &[String]) -> Result<Vec<String>> {
    if hosts.is_empty() {
        return Ok(vec![ALL.to_owned()]);
    }
    hosts
        .iter()
        .map(|host| Ok(format!("credential.{}.helper", Resource::parse(host)?.origin())))
        .collect()
}

/// What git runs, which it hands to a shell.
fn helper(program: &Path) -> Result<String> {
    let Some(text) = program.to_str() else {
        return Err(Error::new(Kind::Failed, "the path of this program is not UTF-8"));
    };
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@,".contains(letter);
    Ok(match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("!'{}'", text.replace('\'', r"'\''")),
    })
}

/// Whether a value is one that `helper` makes for this program, wherever it was.
fn is_ours(value: &str, setup: &Setup<'_>) -> bool {
    let quoted = value.strip_prefix("!'").and_then(|value| value.strip_suffix('\''));
    match quoted {
        Some(quoted) => setup.is_own(&quoted.replace(r"'\''", "'")),
        None => value.starts_with('/') && setup.is_own(value),
    }
}

/// The commands that make `key` name the helper, last, after an empty line where others are to
/// be put aside (gitcredentials(7)).
fn added(key: &str, helper: &str, present: &[String], replace: bool) -> Vec<Vec<String>> {
    let add = |value: &str| command(&["--add", key, value]);
    let there = present.iter().any(|value| value == helper);
    let alone = present.last().is_some_and(|value| value == helper)
        && present.len() >= 2
        && present[present.len() - 2].is_empty();
    match (replace, there) {
        (false, true) => Vec::new(),
        (true, true) if alone => Vec::new(),
        (true, true) => {
            let mut steps = taken_back(key, helper, present);
            steps.extend([add(""), add(helper)]);
            steps
        }
        (true, false) => vec![add(""), add(helper)],
        (false, false) => vec![add(helper)],
    }
}

/// The commands that take the helper away, and the empty line right before it, which `--replace`
/// wrote.
fn taken_back(key: &str, helper: &str, present: &[String]) -> Vec<Vec<String>> {
    let Some(position) = present.iter().rposition(|value| value == helper) else {
        return Vec::new();
    };
    let reset = position.checked_sub(1).filter(|before| present[*before].is_empty());
    let empty = present.iter().filter(|value| value.is_empty()).count();
    match reset {
        None => vec![command(&["--fixed-value", "--unset-all", key, helper])],
        Some(_) if empty == 1 => vec![
            command(&["--fixed-value", "--unset-all", key, helper]),
            command(&["--unset-all", key, "^$"]),
        ],
        // git cannot name one of several equal lines, so all of them are written anew.
        Some(reset) => {
            let others = present.iter().enumerate();
            let others = others.filter(|(at, value)| *at != reset && *value != helper);
            let again = others.map(|(_, value)| command(&["--add", key, value]));
            std::iter::once(command(&["--unset-all", key])).chain(again).collect()
        }
    }
}

fn command(arguments: &[&str]) -> Vec<String> {
    ["git", "config", "--global"].iter().chain(arguments).map(|word| (*word).to_owned()).collect()
}

fn run(words: Vec<String>, file: &Path) -> Step {
    Step::Run { words, files: vec![file.to_owned()] }
}

/// The values of a key in the person's own configuration, in their order.
fn values(key: &str, world: &World<'_>) -> Result<Vec<String>> {
    let words = ["git", "config", "--global", "--null", "--get-all", key];
    let text = String::from_utf8_lossy(&tool::run(&words, b"", world)?.output).into_owned();
    Ok(text.split_terminator('\0').map(str::to_owned).collect())
}

/// Every key of the person's own configuration that names us, with the value that does.
fn everywhere(setup: &Setup<'_>) -> Result<Vec<(String, String)>> {
    let pattern = r"^credential\.(.*\.)?helper$";
    let words = ["git", "config", "--global", "--null", "--get-regexp", pattern];
    let text = String::from_utf8_lossy(&tool::run(&words, b"", setup.world)?.output).into_owned();
    let mut found: Vec<(String, String)> = Vec::new();
    for entry in text.split_terminator('\0') {
        let Some((key, value)) = entry.split_once('\n') else { continue };
        let entry = (key.to_owned(), value.to_owned());
        if is_ours(value, setup) && !found.contains(&entry) {
            found.push(entry);
        }
    }
    Ok(found)
}

/// A helper beside us is given every token to keep, and one before us answers with it after its
/// end: the command fails once, and only then is our turn.
fn warn(key: &str, helper: &str, setup: &Setup<'_>) -> Result<()> {
    let mut asked = Vec::new();
    for key in [ALL, key] {
        let words = ["git", "config", "--includes", "--null", "--get-all", key];
        let output = tool::run(&words, b"", setup.world)?.output;
        for value in String::from_utf8_lossy(&output).split_terminator('\0') {
            match value {
                "" => asked.clear(),
                value if value == helper || is_ours(value, setup) || is_generator(value) => {}
                value if asked.iter().any(|known| known == value) => {}
                value => asked.push(value.to_owned()),
            }
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    let named = |name: &str| asked.iter().any(|value| value.split(' ').next() == Some(name));
    let how = if named("store") { " in plain text" } else { "" };
    let hosts: Vec<String> = setup
        .typed
        .hosts
        .iter()
        .map(|host| format!(" --host {}", crate::ui::shell_word(host)))
        .collect();
    setup.world.ui.warn(&format!(
        "git hands valetkey's tokens to {} too, which keeps them{how} and answers with them after \
         their end\nhint: valetkey setup git{} --replace puts it aside",
        asked.join(", "),
        hosts.concat()
    ));
    Ok(())
}

/// One that makes credentials and keeps none: what it is told to store, it forgets.
fn is_generator(value: &str) -> bool {
    let name = value.trim_start_matches('!').split(' ').next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    matches!(name, "oauth" | "git-credential-oauth" | "gh" | "glab")
}
