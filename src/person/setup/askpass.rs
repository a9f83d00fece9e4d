//! `valetkey setup askpass`: a link, because the variable that names it takes no arguments.

use super::{Setup, Step};
use crate::error::Result;

const LINK: &str = "askpass-valetkey";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    setup.no_hosts("git asks one program about every host")?;
    let link = setup.link(LINK)?;
    let mut steps = link.steps;
    if !steps.is_empty() || setup.typed.print {
        steps.push(Step::Tell(match setup.typed.undo {
            true => "unset GIT_ASKPASS".to_owned(),
            false => {
                let path = crate::ui::shell_word(&link.path.to_string_lossy());
                format!("export GIT_ASKPASS={path}")
            }
        }));
    }
    Ok(steps)
}
