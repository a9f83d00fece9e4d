//! `valetkey setup keyring`: a link by the name of another program, which is why nothing else
//! makes it, and what pip and uv have to be told.

use std::path::Path;

use super::{Setup, Step};
use crate::error::{Error, Kind, Result};
use crate::program;

const NAME: &str = "keyring";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    setup.no_hosts("pip and uv ask one keyring about every host")?;
    let link = setup.link(NAME)?;
    let (path, mut steps) = (link.path, link.steps);
    if !setup.typed.undo && !steps.is_empty() && path.symlink_metadata().is_ok() {
        let what = format!("{} is another program", path.display());
        return Err(Error::new(Kind::Failed, what)
            .hint("put valetkey into a directory of its own, before that one on PATH"));
    }
    if steps.is_empty() && !setup.typed.print {
        return Ok(steps);
    }
    let said = match setup.typed.undo {
        true => vec!["pip config unset global.keyring-provider".to_owned()],
        false => said(setup, path.parent())?,
    };
    steps.extend(said.into_iter().map(Step::Tell));
    Ok(steps)
}

fn said(setup: &Setup<'_>, directory: Option<&Path>) -> Result<Vec<String>> {
    let environment = setup.world.environment;
    let own = setup.program()?;
    let path = environment.raw("PATH").unwrap_or_default();
    let position = |directory: Option<&Path>| {
        std::env::split_paths(path).position(|candidate| Some(candidate.as_path()) == directory)
    };
    let ours = position(directory);
    let order = match program::next(NAME, Some(&own), environment) {
        Some(next) if ours.is_none() || position(next.parent()) < ours => {
            format!("warning: {} comes first on PATH: nobody will ask valetkey", next.display())
        }
        Some(next) => format!(
            "warning: valetkey stands in front of {}, and hands on to it what is not its own",
            next.display()
        ),
        None => "warning: whoever asks for keyring gets valetkey, which keeps only what hosts want"
            .to_owned(),
    };
    Ok(vec![
        order,
        "pip: pip config set global.keyring-provider subprocess".to_owned(),
        "uv: keyring-provider = \"subprocess\" in uv.toml, or UV_KEYRING_PROVIDER=subprocess"
            .to_owned(),
        "name a user in the index URL, https://oauth2@HOST/simple/, or for uv set authenticate = \
         \"always\"; pip 26.2 needs neither"
            .to_owned(),
        "twine, poetry and hatch load Python's own keyring module: they cannot be served"
            .to_owned(),
    ])
}
