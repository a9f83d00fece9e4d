//! `valetkey setup askpass`: a link, because the variable that names it takes no arguments.

use super::{Setup, Step};
use crate::error::Result;

const LINK: &str = "askpass-valetkey";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    setup.no_hosts("git asks one program about every host")?;
    let mut steps: Vec<Step> = setup.link(LINK)?.into_iter().collect();
    if !steps.is_empty() || setup.typed.print {
        let path = setup.program()?.with_file_name(LINK);
        steps.push(Step::Tell(match setup.typed.undo {
            true => "unset GIT_ASKPASS".to_owned(),
            false => {
                format!("export GIT_ASKPASS={}", crate::ui::shell_word(&path.to_string_lossy()))
            }
        }));
    }
    Ok(steps)
}
