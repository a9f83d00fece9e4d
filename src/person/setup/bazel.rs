//! `valetkey setup bazel`: a link, because a helper gets no arguments, and lines of the user's own
//! `.bazelrc`.

use std::path::Path;

use super::files::Lines;
use super::{Setup, Step, taken};
use crate::error::{Error, Kind, Result};
use crate::model::Resource;

const LINK: &str = "bazel-credential-valetkey";
const FLAG: &str = "--credential_helper=";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let link = setup.link(LINK)?;
    let scopes = scopes(setup)?;
    let file = setup.open(&setup.home()?.join(".bazelrc"))?;
    let mut lines = Lines::of(file.text());
    if setup.typed.undo {
        let all = setup.typed.hosts.is_empty();
        let meant = |line: &str| {
            let scope = value(line).filter(|(_, path)| is_ours(path)).map(|(scope, _)| scope);
            scope.is_some_and(|scope| all || scopes.iter().any(|wanted| wanted == scope))
        };
        while let Some(at) = (0..lines.len()).find(|&at| meant(lines.get(at))) {
            lines.remove(at);
        }
    } else {
        let Some(helper) = link.path.to_str().filter(|path| !path.contains(['"', '\\', '\n']))
        else {
            let what = format!("a bazelrc cannot hold the path {}", link.path.display());
            return Err(Error::new(Kind::Failed, what)
                .hint("put valetkey into a directory with a plain name"));
        };
        for scope in scopes {
            let present =
                lines.iter().rposition(|line| value(line).is_some_and(|(there, _)| there == scope));
            let named =
                present.and_then(|at| value(lines.get(at))).map(|(_, path)| path.to_owned());
            match (present, named) {
                (_, Some(path)) if path == helper => {}
                // From where the link was before.
                (Some(at), Some(path)) if is_ours(&path) => lines.set(at, line(&scope, helper)),
                (_, Some(other)) if !setup.typed.replace => {
                    let what = format!("{} names {other} already", file.path().display());
                    return Err(taken(what).hint(
                        "--replace adds valetkey after it, where it wins; --host HOST is for one \
                         host only",
                    ));
                }
                _ => lines.push(line(&scope, helper)),
            }
        }
    }
    let ours = lines.iter().any(|line| value(line).is_some_and(|(_, path)| is_ours(path)));
    let after = lines.text();
    let mut steps = Vec::new();
    // The link stays for as long as another line needs it.
    if !(setup.typed.undo && ours) {
        steps.extend(link.steps);
    }
    steps.extend(file.says(&after, ours, setup));
    if !setup.typed.undo && setup.typed.hosts.is_empty() && !steps.is_empty() {
        let text =
            "bazel asks no .netrc about hosts with a helper: --host HOST is for one host only";
        steps.push(Step::Tell(text.to_owned()));
    }
    Ok(steps)
}

/// By the name of the link, wherever it was.
fn is_ours(helper: &str) -> bool {
    Path::new(helper).file_name().is_some_and(|name| name == LINK)
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
    let (command, rest) = line.trim().split_once(char::is_whitespace)?;
    if command.starts_with('#') {
        return None;
    }
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
            assert_eq!(value(other), None, "{other}");
        }
    }
}
