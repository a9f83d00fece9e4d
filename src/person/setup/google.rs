//! `valetkey setup google`: a credential configuration for each identity provider that a profile
//! serves, as google-auth and its siblings read it. What a person added to it stays.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::json::{Json, Member};
use super::{Setup, Step};
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::model::Resource;
use crate::profile::Prefix;
use crate::ui::shell_word;

const HOST: &str = "https://iam.googleapis.com";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (provider, path) in paths(setup)? {
        let file = setup.open(&path)?;
        let exported = shell_word(&path.to_string_lossy());
        let not_json = || {
            let what = format!("{} is not a JSON object", path.display());
            Error::new(Kind::Failed, what).hint(format!("mend it, or rm {exported}"))
        };
        let mut json = Json::parse(file.text()).ok_or_else(not_json)?;
        match (&provider, setup.typed.undo) {
            (_, true) => take_back(&mut json),
            (Some(provider), false) => write(&mut json, setup, provider)?,
            (None, false) => continue,
        }
        // What setup wrote and nobody added to is no configuration without the command.
        let after = match setup.typed.undo && is_ours_alone(&json) {
            true => String::new(),
            false => json.text().to_owned(),
        };
        let Some(written) = file.says(&after, false, setup) else { continue };
        steps.push(written);
        if !setup.typed.undo {
            steps.push(Step::Tell(format!(
                "# to use it: export GOOGLE_APPLICATION_CREDENTIALS={exported} \
                 GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1"
            )));
        }
    }
    Ok(steps)
}

/// The members above the command, outermost first.
const ABOVE: [&str; 2] = ["credential_source", "executable"];
const COMMAND: &str = "command";

/// Those of a new file beside the command.
const NEW: [&str; 4] = ["type", "audience", "subject_token_type", "token_url"];

fn write(json: &mut Json, setup: &Setup<'_>, provider: &str) -> Result<()> {
    let program = setup.program()?;
    // The command is cut at white space, and nothing escapes it.
    let Some(program) = program.to_str().filter(|path| !path.contains(char::is_whitespace)) else {
        let what = format!("google-auth cannot run a program with the path {}", program.display());
        return Err(Error::new(Kind::Failed, what).hint("give valetkey's directory a plain name"));
    };
    let command = format!("{program} google");
    if json.text().trim().is_empty() {
        let document = json!({
            "type": "external_account",
            "audience": format!("//iam.googleapis.com/{provider}"),
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": { "executable": { "command": command } },
        });
        // Objects and strings cannot fail to become JSON.
        let text = serde_json::to_string_pretty(&document).unwrap_or_default() + "\n";
        *json = Json::parse(&text).unwrap_or_else(|| json.clone());
        return Ok(());
    }
    let raw = Value::from(command).to_string();
    let mut parent: Option<Member> = None;
    for name in ABOVE {
        let member = match json.find(parent.as_ref(), name) {
            Some(member) if json.below(&member).is_none() => {
                json.set(&member, "{}");
                json.find(parent.as_ref(), name)
            }
            Some(member) => Some(member),
            None => {
                json.add(parent.as_ref(), name, "{}");
                json.find(parent.as_ref(), name)
            }
        };
        parent = member;
    }
    match json.find(parent.as_ref(), COMMAND) {
        Some(member) if json.raw(&member) == raw => {}
        Some(member) => json.set(&member, &raw),
        None => json.add(parent.as_ref(), COMMAND, &raw),
    }
    Ok(())
}

/// Removes the command, and the objects above it that have nothing else.
fn take_back(json: &mut Json) {
    let [outer, inner] = ABOVE;
    let Some(outer) = json.find(None, outer) else { return };
    let Some(inner) = json.find(Some(&outer), inner) else { return };
    let Some(command) = json.find(Some(&inner), COMMAND) else { return };
    let is_ours = json.value(&command).as_str().is_some_and(|text| text.ends_with(" google"));
    if !is_ours {
        return;
    }
    let alone = |member: &Member| json.below(member).is_some_and(|below| below.len() == 1);
    match (alone(&outer), alone(&inner)) {
        (true, true) => json.remove(None, &outer),
        (false, true) => json.remove(Some(&outer), &inner),
        (_, false) => json.remove(Some(&inner), &command),
    }
}

fn is_ours_alone(json: &Json) -> bool {
    json.members().iter().all(|member| NEW.contains(&member.name.as_str()))
}

/// The files, each with its provider. Taking back reaches those of providers that no profile
/// serves any more.
fn paths(setup: &Setup<'_>) -> Result<Vec<(Option<String>, PathBuf)>> {
    if setup.typed.undo && setup.typed.hosts.is_empty() {
        let directory = setup.world.environment.config_directory()?;
        let found = disk::entries(&directory)?.into_iter().map(|entry| entry.path);
        let mut found: Vec<PathBuf> = found
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("google_") && name.ends_with(".json")
            })
            .collect();
        found.sort();
        return Ok(found.into_iter().map(|path| (None, path)).collect());
    }
    let path = |provider: String| Ok((Some(provider.clone()), path(setup, &provider)?));
    providers(setup)?.into_iter().map(path).collect()
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
