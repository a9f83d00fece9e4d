//! `valetkey setup bazel`: a link, because a helper gets no arguments, and lines of the user's own
//! `.bazelrc`.

use super::{Setup, Step, text_of};
use crate::error::{Error, Kind, Result};
use crate::model::Resource;

const LINK: &str = "bazel-credential-valetkey";
const FLAG: &str = "--credential_helper=";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = setup.link(LINK)?.into_iter().collect();
    let helper = setup.program()?.with_file_name(LINK);
    let Some(helper) = helper.to_str().filter(|path| !path.contains(['"', '\\', '\n'])) else {
        let what = format!("a bazelrc cannot hold the path {}", helper.display());
        return Err(
            Error::new(Kind::Failed, what).hint("put valetkey into a directory with a plain name")
        );
    };
    let path = setup.in_home(".bazelrc")?;
    let before = text_of(&path)?;
    let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
    if setup.typed.undo {
        let scopes = scopes(setup)?;
        let all = setup.typed.hosts.is_empty();
        lines.retain(|line| {
            let ours = value(line).filter(|(_, path)| *path == helper);
            !ours.is_some_and(|(scope, _)| all || scopes.iter().any(|wanted| wanted == scope))
        });
    } else {
        for scope in scopes(setup)? {
            let present = lines.iter().rev().find_map(|line| {
                value(line).filter(|(there, _)| *there == scope).map(|(_, path)| path)
            });
            match present {
                Some(path) if path == helper => {}
                Some(other) if !setup.typed.replace => {
                    let what = format!("{} names {other} already", path.display());
                    return Err(Error::new(Kind::Failed, what).hint(
                        "--replace adds valetkey after it, where it wins; --host HOST is for one \
                         host only",
                    ));
                }
                _ => lines.push(line(&scope, helper)),
            }
        }
    }
    let mut after = lines.join("\n");
    if !after.is_empty() {
        after.push('\n');
    }
    if before.lines().ne(after.lines()) {
        steps.push(Step::Write { path, content: after });
    }
    if !setup.typed.undo && setup.typed.hosts.is_empty() && !steps.is_empty() {
        let text =
            "bazel asks no .netrc about hosts with a helper: --host HOST is for one host only";
        steps.push(Step::Tell(text.to_owned()));
    }
    Ok(steps)
}

/// The hosts as bazel names them; the empty one stands for all.
fn scopes(setup: &Setup<'_>) -> Result<Vec<String>> {
    if setup.typed.hosts.is_empty() {
        return Ok(vec![String::new()]);
    }
    let scope = |host: &String| {
        let host = Resource::parse(host)?.host;
        // It compares names without their ports.
        let name = host.rsplit_once(':').filter(|(name, _)| !name.ends_with(':'));
        Ok(name.map_or(host.as_str(), |(name, _)| name).to_owned())
    };
    setup.typed.hosts.iter().map(scope).collect()
}

fn line(scope: &str, helper: &str) -> String {
    let value = match scope {
        "" => helper.to_owned(),
        scope => format!("{scope}={helper}"),
    };
    match value.contains(char::is_whitespace) {
        true => format!("common \"{FLAG}{value}\""),
        false => format!("common {FLAG}{value}"),
    }
}

/// The scope and the helper that a line names, if it is one of those that `line` makes.
fn value(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.trim().split_once(char::is_whitespace)?;
    let word = rest.trim();
    let word = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word);
    let value = word.strip_prefix(FLAG)?;
    Some(match value.split_once('=') {
        Some((scope, path)) if !scope.contains('/') => (scope, path),
        _ => ("", value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_again() {
        for (scope, helper) in
            [("", "/a/b"), ("", "/a b/c=d"), ("x.example", "/a/b"), ("*.x", "/a b")]
        {
            assert_eq!(value(&line(scope, helper)), Some((scope, helper)));
        }
        assert_eq!(value("build --credential_helper=%workspace%/x"), Some(("", "%workspace%/x")));
        for other in ["", "# common --credential_helper=/a", "common --jobs=2", "import x"] {
            assert_eq!(value(other).filter(|_| !other.starts_with('#')), None, "{other}");
        }
    }
}
