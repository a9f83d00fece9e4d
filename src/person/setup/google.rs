//! `valetkey setup google`: a credential configuration for each identity provider that a profile
//! serves, as google-auth and its siblings read it. What a person added to it stays.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Setup, Step, text_of};
use crate::error::{Error, Kind, Result};
use crate::model::Resource;
use crate::profile::Prefix;
use crate::ui::shell_word;

const HOST: &str = "https://iam.googleapis.com";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for provider in providers(setup)? {
        let path = path(setup, &provider)?;
        let before = text_of(&path)?;
        if setup.typed.undo {
            if !before.is_empty() {
                steps.push(Step::Unlink(path));
            }
            continue;
        }
        let after = written(setup, &provider, &before)?;
        if after == before {
            continue;
        }
        let exported = shell_word(&path.to_string_lossy());
        steps.push(Step::Write { path, content: after });
        steps.push(Step::Tell(format!(
            "# to use it: export GOOGLE_APPLICATION_CREDENTIALS={exported} \
             GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1"
        )));
    }
    Ok(steps)
}

fn written(setup: &Setup<'_>, provider: &str, before: &str) -> Result<String> {
    let program = setup.program()?;
    // The command is cut at white space, and nothing escapes it.
    let Some(program) = program.to_str().filter(|path| !path.contains(char::is_whitespace)) else {
        let what = format!("google-auth cannot run a program with the path {}", program.display());
        return Err(Error::new(Kind::Failed, what).hint("give valetkey's directory a plain name"));
    };
    let mut document: Value = match before {
        "" => json!({
            "type": "external_account",
            "audience": format!("//iam.googleapis.com/{provider}"),
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "token_url": "https://sts.googleapis.com/v1/token",
        }),
        text => serde_json::from_str(text).map_err(|_| {
            let what = format!("the credential configuration of {provider} is not JSON");
            Error::new(Kind::Failed, what).hint("valetkey setup google --undo")
        })?,
    };
    document["credential_source"]["executable"]["command"] = format!("{program} google").into();
    // Objects and strings cannot fail to become JSON.
    Ok(serde_json::to_string_pretty(&document).unwrap_or_default() + "\n")
}

/// The name of the file says which provider it is for.
fn path(setup: &Setup<'_>, provider: &str) -> Result<PathBuf> {
    let plain = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' => letter,
        _ => '_',
    };
    let name: String = provider.chars().map(plain).collect();
    Ok(setup.world.environment.config_directory()?.join(format!("google_{name}.json")))
}

/// What `--host` names, else every provider of every profile: `projects/...`.
fn providers(setup: &Setup<'_>) -> Result<Vec<String>> {
    let profiles = setup.world.profiles;
    let is_google = |prefix: &&Prefix| prefix.origin == HOST && !prefix.path.is_empty();
    let none = |place: &str| {
        let what = format!("no profile serves an identity provider of Google's{place}");
        Error::new(Kind::Configuration, what).hint(format!(
            "add an origin {HOST}/projects/N/locations/global/workloadIdentityPools/POOL/providers/\
             NAME to config.toml"
        ))
    };
    if setup.typed.hosts.is_empty() {
        let all = profiles.iter().flat_map(|profile| &profile.origins);
        let found: Vec<_> = all.filter(is_google).map(|prefix| prefix.path.clone()).collect();
        return if found.is_empty() { Err(none("")) } else { Ok(found) };
    }
    let provider = |host: &String| {
        let resource = Resource::parse(host.trim_start_matches("//"))?;
        let service = profiles.find(&resource).map(|service| service.prefix).filter(is_google);
        let prefix = service.ok_or_else(|| none(&format!(" at {resource}")))?;
        Ok(prefix.path.clone())
    };
    setup.typed.hosts.iter().map(provider).collect()
}
