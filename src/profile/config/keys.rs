//! Which settings there are, and which of them was meant by one that there is not.

use super::wrong;
use crate::error::Result;

const FILE_KEYS: &[&str] = &["store", "flow", "client_metadata", "discover", "profile"];
const PROFILE_KEYS: &[&str] = &[
    "provider",
    "origins",
    "issuer",
    "issuer_env",
    "authorization_endpoint",
    "token_endpoint",
    "device_authorization_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
    "client_id",
    "client_id_env",
    "client_secret",
    "token_endpoint_auth_method",
    "scopes",
    "audience",
    "audience_env",
    "resource",
    "par",
    "device_pkce",
    "flow",
    "flow_env",
    "handoff",
    "relay",
    "workload",
    "redirect",
    "username",
    "scheme",
    "token",
    "token_env",
    "refresh_margin",
    "refresh",
    "persist",
    "revoke",
    "account",
    "paths",
    "token_page",
    "fields",
];
const ORIGIN_KEYS: &[&str] =
    &["url", "username", "scheme", "token", "exchange", "tenant", "role", "registry"];
const WORKLOAD_KEYS: &[&str] = &[
    "source",
    "token_env",
    "token_file",
    "command",
    "service_connection",
    "audience",
    "exchange",
    "provider",
    "impersonation_url",
    "identity",
];
const REDIRECT_KEYS: &[&str] = &["host", "ports", "path"];
const FLOW_KEYS: &[&str] = &["name", "words"];
const HANDOFF_KEYS: &[&str] = &["url", "names"];
const HANDOFF_NAMES: &[&str] = &["token", "email", "name"];
const RELAY_KEYS: &[&str] = &["url", "poll_endpoint", "interval", "names"];
const RELAY_NAMES: &[&str] = &[
    "state",
    "challenge",
    "verifier",
    "code",
    "status",
    "pending",
    "access_token",
    "refresh_token",
    "id_token",
    "expires_in",
];
const ACCOUNT_KEYS: &[&str] = &["url", "id", "name", "email"];

const FIELD_KEYS: &[&str] = &["header", "account", "env", "value"];

/// serde alone would name a key's neighbours in a list of twenty; a person wants the one.
pub(super) fn check(file: &toml::Table) -> Result<()> {
    let check = |table: &toml::Table, known: &[&str], place: &str| match table
        .keys()
        .find(|key| !known.contains(&key.as_str()))
    {
        None => Ok(()),
        Some(key) => {
            let error = wrong(format!("{place}{key} is no setting"));
            Err(match nearest(key, known) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error.hint(format!("known here: {}", known.join(", "))),
            })
        }
    };
    check(file, FILE_KEYS, "")?;
    let profiles = file.get("profile").and_then(toml::Value::as_table);
    for (name, profile) in profiles.into_iter().flatten() {
        let Some(profile) = profile.as_table() else { continue };
        check(profile, PROFILE_KEYS, &format!("[profile.{name}] "))?;
        let origins = profile.get("origins").and_then(toml::Value::as_array);
        for origin in origins.into_iter().flatten().filter_map(toml::Value::as_table) {
            check(origin, ORIGIN_KEYS, &format!("[profile.{name}] origins: "))?;
        }
        let fields = profile.get("fields").and_then(toml::Value::as_table);
        for (field, table) in fields.into_iter().flatten() {
            if let Some(table) = table.as_table() {
                check(table, FIELD_KEYS, &format!("[profile.{name}.fields.{field}] "))?;
            }
        }
        for (key, known) in [
            ("redirect", REDIRECT_KEYS),
            ("workload", WORKLOAD_KEYS),
            ("account", ACCOUNT_KEYS),
            ("flow_env", FLOW_KEYS),
            ("handoff", HANDOFF_KEYS),
            ("handoff.names", HANDOFF_NAMES),
            ("relay", RELAY_KEYS),
            ("relay.names", RELAY_NAMES),
        ] {
            let table = key.split('.').try_fold(profile, |table, key| table.get(key)?.as_table());
            if let Some(table) = table {
                check(table, known, &format!("[profile.{name}] {key}."))?;
            }
        }
    }
    Ok(())
}

/// The known name that differs in at most a third of its letters.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |other: &str| {
        let other: Vec<char> = other.chars().collect();
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (above, letter) in word.chars().enumerate() {
            let mut diagonal = row[0];
            row[0] = above + 1;
            for (column, candidate) in other.iter().enumerate() {
                let replaced = diagonal + usize::from(letter != *candidate);
                diagonal = row[column + 1];
                row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
            }
        }
        row[other.len()]
    };
    let (near, name) = known.iter().map(|name| (distance(name), *name)).min()?;
    (near <= name.len().div_ceil(3)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between the backticks of settings.md.
    #[test]
    fn each_setting_is_explained() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("settings.md");
        let text = std::fs::read_to_string(path).unwrap();
        let code = text.split('`').skip(1).step_by(2);
        let word = |letter: char| letter.is_ascii_lowercase() || letter == '_';
        let explained: Vec<&str> = code.flat_map(|code| code.split(|c| !word(c))).collect();
        for table in [
            FILE_KEYS,
            PROFILE_KEYS,
            ORIGIN_KEYS,
            WORKLOAD_KEYS,
            REDIRECT_KEYS,
            FLOW_KEYS,
            HANDOFF_KEYS,
            HANDOFF_NAMES,
            RELAY_KEYS,
            RELAY_NAMES,
            ACCOUNT_KEYS,
            FIELD_KEYS,
        ] {
            for key in table {
                assert!(explained.contains(key), "{key}");
            }
        }
    }
}
