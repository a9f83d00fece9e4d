//! `valetkey setup vault`: a link, because a token helper gets no arguments, and one line of the
//! configuration of Vault's and OpenBao's command line.

use std::path::Path;

use super::files::Lines;
use super::{Setup, Step, taken};
use crate::error::{Error, Kind, Result};

const LINK: &str = "vault-token-valetkey";
const KEY: &str = "token_helper";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    setup.no_hosts("vault asks one token helper about every address")?;
    let link = setup.link(LINK)?;
    let file = setup.open(&setup.file("VAULT_CONFIG_PATH", ".vault")?)?;
    let mut lines = Lines::of(file.text());
    let present = lines.iter().position(|line| key(line) == Some(KEY));
    let there = present.map(|at| lines.get(at).to_owned()).unwrap_or_default();
    if setup.typed.undo {
        if let Some(at) = present.filter(|_| is_ours(&there)) {
            match setup.noted(file.path(), KEY).flatten() {
                Some(other) if !is_ours(&other) => lines.set(at, other),
                _ => lines.remove(at),
            }
        }
    } else {
        let ours = line(&link.path)?;
        match present {
            Some(_) if there == ours || value(&there) == value(&ours) => {}
            Some(at) if is_ours(&there) => lines.set(at, ours),
            Some(at) if setup.typed.replace => {
                setup.note(file.path(), KEY, Some(&there));
                lines.set(at, ours);
            }
            Some(_) => {
                let what = format!("{} has another line: {}", file.path().display(), there.trim());
                return Err(taken(what));
            }
            None => {
                setup.note(file.path(), KEY, None);
                lines.push(ours);
            }
        }
    }
    let after = lines.text();
    Ok(link.steps.into_iter().chain(file.says(&after, false, setup)).collect())
}

fn line(helper: &Path) -> Result<String> {
    // It is handed to a shell as it stands.
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@,".contains(letter);
    match helper.to_str().filter(|path| path.chars().all(plain)) {
        Some(helper) => Ok(format!("{KEY} = \"{helper}\"")),
        None => {
            let what = format!("a shell would take {} apart", helper.display());
            let error = Error::new(Kind::Failed, what);
            Err(error.hint("put valetkey into a directory with a plain name"))
        }
    }
}

fn is_ours(line: &str) -> bool {
    let name = value(line).map(Path::new).and_then(Path::file_name);
    key(line) == Some(KEY) && name.is_some_and(|name| name == LINK)
}

fn key(line: &str) -> Option<&str> {
    line.split_once('=').map(|(key, _)| key.trim().trim_matches('"'))
}

fn value(line: &str) -> Option<&str> {
    let (_, value) = line.split_once('=')?;
    value.trim().strip_prefix('"')?.split('"').next()
}
