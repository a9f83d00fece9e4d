//! A record as bytes: JSON, the same in every store. Rule V2 of protocol.md.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::model::timestamp::readable;
use crate::model::{
    Exchanged, Fields, Holder, Identity, Key, Place, Record, Secret, Session, Static, TokenSet,
};

const VERSION: u32 = 1;

/// Both kinds of record; `kind` says which fields mean something.
#[derive(Default, Serialize, Deserialize)]
struct Written<'a> {
    v: u32,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    account: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    fields: Fields,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    registry: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    stored_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewed_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exchanged: Vec<WrittenExchange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct WrittenExchange {
    origin: String,
    token: Zeroizing<String>,
    expires_at: u64,
}

fn exposed(secret: &Secret) -> Zeroizing<String> {
    Zeroizing::new(secret.expose().to_owned())
}

pub(super) fn write(record: &Record) -> Zeroizing<Vec<u8>> {
    let mut written = match record {
        Record::Session(session) => {
            let Session {
                key: _,
                holder: _,
                fields: _,
                authority,
                tokens,
                signed_in,
                renewed,
                chosen,
                exchanged,
                former,
            } = session;
            let TokenSet { identity, access, refresh, expires, scope } = tokens;
            Written {
                kind: "session",
                authority: Some(authority.clone()),
                access_token: access.as_ref().map(exposed),
                refresh_token: refresh.as_ref().map(exposed),
                id_token: identity.as_ref().map(|identity| exposed(&identity.token)),
                id_expires_at: identity.as_ref().map(|identity| identity.expires),
                expires_at: *expires,
                scope: scope.clone(),
                stored_at: *signed_in,
                chosen_at: (chosen != signed_in).then_some(*chosen),
                renewed_at: Some(*renewed),
                exchanged: exchanged
                    .iter()
                    .map(|Exchanged { origin, token, expires }| WrittenExchange {
                        origin: origin.clone(),
                        token: exposed(token),
                        expires_at: *expires,
                    })
                    .collect(),
                former: former.clone(),
                ..Written::default()
            }
        }
        Record::Static(entry) => {
            let Static {
                key: _,
                holder: _,
                fields: _,
                registry,
                secret,
                authtype,
                expires,
                refresh,
                stored,
                chosen,
            } = entry;
            Written {
                kind: "static",
                registry: *registry,
                secret: Some(exposed(secret)),
                authtype: authtype.clone(),
                expires_at: *expires,
                refresh_token: refresh.as_ref().map(exposed),
                stored_at: *stored,
                chosen_at: (chosen != stored).then_some(*chosen),
                ..Written::default()
            }
        }
    };
    let Key { place, client_id, account, path } = record.key();
    written.v = VERSION;
    written.account.clone_from(account);
    written.path.clone_from(path);
    let Holder { id, name, email } = record.holder();
    written.provider_account.clone_from(id);
    written.name.clone_from(name);
    written.email.clone_from(email);
    written.fields.clone_from(record.fields());
    match place {
        Place::Profile(name) => {
            written.profile = Some(name.clone());
            // A token that a person pasted was issued to no client.
            written.client_id = matches!(record, Record::Session(_)).then(|| client_id.clone());
        }
        Place::Origin(origin) => written.origin = Some(origin.clone()),
    }
    // Strings and numbers cannot fail to become JSON.
    Zeroizing::new(serde_json::to_vec(&written).unwrap_or_default())
}

/// Whether a newer program than this one may read it.
pub(super) fn is_of_a_later_version(content: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    serde_json::from_slice(content).is_ok_and(|Versioned { v }| v > VERSION)
}

/// # Errors
/// `Storage` when the bytes are not a record of ours; the message holds none of them.
pub(super) fn read(content: &[u8], place: &str) -> Result<Record> {
    let broken = |what: &str| {
        Error::new(Kind::Storage, format!("the record in {place} {what}"))
            .hint("valetkey logout --all removes what cannot be read; then sign in again")
    };
    // An editor's mark, which RFC 8259 section 8.1 lets a reader drop.
    let content = content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(content);
    // serde_json's own message could quote the content.
    let written: Written<'_> =
        serde_json::from_slice(content).map_err(|_| broken("cannot be read"))?;
    if written.v != VERSION {
        return Err(broken("was written by another version of valetkey"));
    }
    let (place, client_id) = match (written.profile, written.client_id, written.origin) {
        (Some(name), Some(client_id), None) => (Place::Profile(name), client_id),
        (Some(name), None, None) if written.kind == "static" => {
            (Place::Profile(name), String::new())
        }
        (None, None, Some(origin)) => (Place::Origin(origin), String::new()),
        _ => return Err(broken("names no place")),
    };
    let key = Key { place, client_id, account: written.account, path: written.path };
    let holder = Holder { id: written.provider_account, name: written.name, email: written.email };
    let (fields, stored) = (written.fields, readable(written.stored_at));
    let chosen = written.chosen_at.map_or(stored, readable);
    let secret = |text: Option<Zeroizing<String>>| text.map(|text| Secret::new(text.as_str()));
    match (written.kind, secret(written.secret)) {
        ("session", None) => Ok(Record::Session(Session {
            key,
            holder,
            fields,
            authority: written.authority.unwrap_or_default(),
            tokens: TokenSet {
                identity: secret(written.id_token)
                    .zip(written.id_expires_at)
                    .map(|(token, expires)| Identity { token, expires: readable(expires) }),
                access: secret(written.access_token),
                refresh: secret(written.refresh_token),
                expires: written.expires_at.map(readable),
                scope: written.scope,
            },
            signed_in: stored,
            renewed: written.renewed_at.map_or(stored, readable),
            chosen,
            exchanged: written
                .exchanged
                .into_iter()
                .map(|WrittenExchange { origin, token, expires_at }| Exchanged {
                    origin,
                    token: Secret::new(token.as_str()),
                    expires: readable(expires_at),
                })
                .collect(),
            former: written.former,
        })),
        ("static", Some(secret_value)) => Ok(Record::Static(Static {
            key,
            secret: secret_value,
            authtype: written.authtype,
            expires: written.expires_at.map(readable),
            refresh: secret(written.refresh_token),
            holder,
            fields,
            registry: written.registry,
            stored,
            chosen,
        })),
        _ => Err(broken("is of an unknown kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Record {
        let key = Key {
            place: Place::Profile("acme".into()),
            client_id: "id".into(),
            account: "alice".into(),
            path: None,
        };
        Record::Session(Session {
            key,
            holder: Holder { id: None, name: Some("Alice".into()), email: None },
            fields: Fields::new(),
            authority: "https://auth.acme.dev/".into(),
            tokens: TokenSet {
                identity: None,
                access: Some(Secret::new("at")),
                refresh: Some(Secret::new("rt")),
                expires: Some(20),
                scope: None,
            },
            signed_in: 10,
            renewed: 11,
            chosen: 10,
            exchanged: vec![Exchanged {
                origin: "https://r".into(),
                token: Secret::new("xt"),
                expires: 30,
            }],
            former: vec!["ff".into()],
        })
    }

    #[test]
    fn the_bytes_of_a_session_are_pinned() {
        let bytes = write(&session());
        let text = r#"{"v":1,"kind":"session","profile":"acme","client_id":"id","account":"alice","name":"Alice","authority":"https://auth.acme.dev/","access_token":"at","refresh_token":"rt","expires_at":20,"stored_at":10,"renewed_at":11,"exchanged":[{"origin":"https://r","token":"xt","expires_at":30}],"former":["ff"]}"#;
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), text);
        let Record::Session(back) = read(&bytes, "x").unwrap() else { panic!("a session") };
        assert_eq!(*back.key.account, *"alice");
        assert!(back.tokens.refresh == Some(Secret::new("rt")));
        assert_eq!(write(&Record::Session(back)), bytes);
    }

    #[test]
    fn the_bytes_of_a_static_credential_are_pinned() {
        let text = r#"{"v":1,"kind":"static","origin":"https://a","path":"p","account":"u","registry":true,"secret":"s","authtype":"Bearer","expires_at":5,"stored_at":1}"#;
        let pasted = r#"{"v":1,"kind":"static","profile":"acme","account":"u","provider_account":"id","email":"e","fields":{"tenant":"t"},"secret":"s","stored_at":1,"chosen_at":2}"#;
        for text in [text, pasted] {
            let record = read(text.as_bytes(), "x").unwrap();
            assert_eq!(std::str::from_utf8(&write(&record)).unwrap(), text);
        }
    }

    #[test]
    fn a_broken_record_is_an_error_that_quotes_nothing() {
        for text in [
            "",
            "{",
            "[]",
            r#"{"v":1,"kind":"session","account":"canary","stored_at":1}"#,
            r#"{"v":2,"kind":"static","origin":"canary","account":"","secret":"s","stored_at":1}"#,
            r#"{"v":1,"kind":"canary","origin":"o","account":"","secret":"s","stored_at":1}"#,
            r#"{"v":1,"kind":"static","origin":"o","account":"","secret":["canary"],"stored_at":1}"#,
        ] {
            let error = read(text.as_bytes(), "here").unwrap_err();
            assert_eq!(error.kind, Kind::Storage);
            let shown = format!("{error:?}");
            assert!(!shown.contains("canary") && shown.contains("here"), "{shown}");
        }
    }
}
