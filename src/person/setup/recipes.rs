//! `valetkey setup curl|mcp|rclone`: tools whose configuration names a command, one place for each
//! host, which a person writes better than a program does. The line to write is shown.

use super::{Setup, Step};
use crate::cli::Tool;
use crate::error::{Error, Kind, Result};
use crate::model::Resource;

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    if setup.typed.hosts.is_empty() {
        let error = Error::new(Kind::Usage, "the line to write depends on the host");
        return Err(error.hint("add --host https://HOST/"));
    }
    if setup.typed.undo {
        return Err(Error::new(Kind::Usage, "setup wrote nothing that it could take back"));
    }
    let program = setup.program()?;
    let program = crate::ui::shell_word(&program.to_string_lossy());
    let line = |host: &String| {
        let url = crate::ui::shell_word(&Resource::parse(host)?.to_string());
        Ok(Step::Tell(match setup.typed.tool {
            Tool::Mcp => {
                // The client says which server it means, so the command is the same for all.
                let text = serde_json::json!({ "headersHelper": format!("{program} json") });
                format!("{text}")
            }
            Tool::Rclone => {
                format!(
                    "rclone config update REMOTE bearer_token_command \"{program} token {url}\""
                )
            }
            _ => format!("{program} header {url} | curl -H @- {url}"),
        }))
    };
    setup.typed.hosts.iter().map(line).collect()
}
