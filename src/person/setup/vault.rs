//! `valetkey setup vault`: a link, because a token helper gets no arguments, and one line of the
//! configuration of Vault's and OpenBao's command line.

use std::path::PathBuf;

use super::{Setup, Step, text_of};
use crate::error::{Error, Kind, Result};

const LINK: &str = "vault-token-valetkey";
const KEY: &str = "token_helper";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    setup.no_hosts("vault asks one token helper about every address")?;
    let helper = setup.program()?.with_file_name(LINK);
    // It is handed to a shell as it stands.
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@,".contains(letter);
    let Some(helper) = helper.to_str().filter(|path| path.chars().all(plain)) else {
        let what = format!("a shell would take {} apart", helper.display());
        return Err(
            Error::new(Kind::Failed, what).hint("put valetkey into a directory with a plain name")
        );
    };
    let mut steps: Vec<Step> = setup.link(LINK)?.into_iter().collect();
    let path = match setup.world.environment.raw("VAULT_CONFIG_PATH") {
        Some(path) => PathBuf::from(path),
        None => setup.in_home(".vault")?,
    };
    let before = text_of(&path)?;
    let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
    let present = lines.iter().position(|line| key(line) == Some(KEY));
    let ours = format!("{KEY} = \"{helper}\"");
    let is_ours = |line: &String| value(line) == Some(helper);
    match (present, setup.typed.undo) {
        (Some(index), true) if is_ours(&lines[index]) => drop(lines.remove(index)),
        (_, true) => {}
        (Some(index), false) if is_ours(&lines[index]) => {}
        (Some(index), false) if setup.typed.replace => lines[index] = ours,
        (Some(index), false) => {
            let what = format!("{} has another line: {}", path.display(), lines[index].trim());
            return Err(Error::new(Kind::Failed, what).hint("--replace puts valetkey in its place"));
        }
        (None, false) => lines.push(ours),
    }
    let mut after = lines.join("\n");
    if !after.is_empty() {
        after.push('\n');
    }
    if before.lines().ne(after.lines()) {
        steps.push(Step::Write { path, content: after });
    }
    Ok(steps)
}

fn key(line: &str) -> Option<&str> {
    line.split_once('=').map(|(key, _)| key.trim().trim_matches('"'))
}

fn value(line: &str) -> Option<&str> {
    let (_, value) = line.split_once('=')?;
    value.trim().strip_prefix('"')?.split('"').next()
}
