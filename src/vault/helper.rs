//! Any `docker-credential-NAME` program as the store, so that pass, 1Password or a company's own
//! vault serve. Rule V6 of protocol.md: one entry per record, the record as its secret.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Answer, Store, record};
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{Key, Place, Record};
use crate::program;

/// Its own pinentry may have to ask a person.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every helper's word for a miss; docker compares this sentence too.
const NOT_FOUND: &str = "credentials not found in native keychain";

pub(super) struct Program {
    name: String,
    path: OsString,
    environment: Environment,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(rename = "ServerURL", default)]
    server_url: std::borrow::Cow<'a, str>,
    #[serde(default)]
    username: std::borrow::Cow<'a, str>,
    #[serde(default)]
    secret: zeroize::Zeroizing<String>,
}

impl Program {
    pub(super) fn new(
        suffix: &str,
        environment: &Environment,
        hidden: &dyn Fn(&str) -> bool,
    ) -> Result<Self> {
        let name = format!("docker-credential-{suffix}");
        let Some(path) = program::find(&name, environment) else {
            return Err(Error::new(Kind::Storage, format!("{name} is not on PATH"))
                .hint("install it, or choose another store in config.toml"));
        };
        let own = environment.without(hidden).map(|(name, value)| (name.clone(), value.clone()));
        Ok(Self { name, path: path.into(), environment: own.collect() })
    }

    /// `None`: it says that there is no such entry.
    fn call(&self, verb: &str, input: &[u8]) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>> {
        let failed = |what: &str| Error::new(Kind::Storage, format!("{} {verb} {what}", self.name));
        let finished = program::run(
            &self.path,
            &[OsStr::new(verb)],
            input,
            &self.environment,
            |_| false,
            PATIENCE,
        )
        .map_err(|error| failed("did not answer").because(error))?;
        let output = zeroize::Zeroizing::new(finished.output);
        match finished.success {
            true => Ok(Some(output)),
            false if String::from_utf8_lossy(&output).trim() == NOT_FOUND => Ok(None),
            // What it printed may hold a secret.
            false => Err(failed("failed")),
        }
    }

    fn closed(&self) -> Error {
        Error::new(Kind::Storage, format!("{} lists an entry that it does not give", self.name))
            .hint("see whether what it keeps them in is locked")
    }

    /// The secret of an entry that was listed. None in it is no miss: docker-credential-secretservice
    /// calls a locked keychain empty.
    fn secret(&self, url: &str) -> Result<zeroize::Zeroizing<String>> {
        let failed = |what: &str| Error::new(Kind::Storage, format!("{} {what}", self.name));
        let output = self.call("get", url.as_bytes())?.unwrap_or_else(|| b"{}".to_vec().into());
        let entry: Entry<'_> =
            serde_json::from_slice(&output).map_err(|_| failed("answers no JSON"))?;
        if entry.secret.is_empty() {
            return Err(self.closed());
        }
        Ok(entry.secret)
    }

    fn record(&self, url: &str) -> Result<Record> {
        record::read(self.secret(url)?.as_bytes(), &self.name)
    }

    fn urls(&self, prefix: &str) -> Result<Vec<String>> {
        let output = self.call("list", b"")?.unwrap_or_default();
        let unreadable = || Error::new(Kind::Storage, format!("{} lists no JSON", self.name));
        let listed: Option<std::collections::BTreeMap<String, String>> =
            serde_json::from_slice(&output).map_err(|_| unreadable())?;
        let urls = listed.unwrap_or_default().into_keys();
        // docker-credential-secretservice shows a locked keychain as one entry without a name.
        let urls: Vec<String> =
            urls.filter(|url| url.is_empty() || url.starts_with(prefix)).collect();
        if urls.iter().any(String::is_empty) {
            return Err(self.closed());
        }
        Ok(urls)
    }
}

/// Helpers want a URL with a host; `.invalid` is nobody's (RFC 6761).
const ROOT: &str = "https://valetkey.invalid/1/";

fn place_url(place: &Place) -> String {
    format!("{ROOT}{}/", place.digest())
}

fn url(key: &Key) -> String {
    format!("{}{}", place_url(&key.place), key.digest())
}

impl Store for Program {
    fn read(&self, place: &Place) -> Answer<Vec<Record>> {
        let urls = self.urls(&place_url(place))?;
        Ok(urls.iter().map(|url| self.record(url)).collect::<Result<_>>()?)
    }

    fn all(&self) -> Answer<Vec<Record>> {
        let urls = self.urls(ROOT)?;
        Ok(urls.iter().map(|url| self.record(url)).collect::<Result<_>>()?)
    }

    fn write(&self, record: &Record, _: bool) -> Answer<()> {
        let content = record::write(record);
        let entry = Entry {
            server_url: url(record.key()).into(),
            // docker-credential-pass makes a file name of it.
            username: "valetkey".into(),
            secret: zeroize::Zeroizing::new(String::from_utf8_lossy(&content).into_owned()),
        };
        let input = zeroize::Zeroizing::new(serde_json::to_vec(&entry).unwrap_or_default());
        match self.call("store", &input)? {
            Some(_) => Ok(()),
            None => Err(Error::new(Kind::Storage, format!("{} store failed", self.name)).into()),
        }
    }

    fn remove(&self, key: &Key) -> Answer<bool> {
        let url = url(key);
        // Some helpers fail to erase what is not there.
        if !self.urls(&url)?.contains(&url) {
            return Ok(false);
        }
        self.call("erase", url.as_bytes())?;
        Ok(true)
    }

    fn remove_unreadable(&self) -> Answer<()> {
        for url in self.urls(ROOT)? {
            if record::read(self.secret(&url)?.as_bytes(), &self.name).is_err() {
                self.call("erase", url.as_bytes())?;
            }
        }
        Ok(())
    }

    fn probe(&self, _: &Key) -> Answer<()> {
        // The protocol has no such question; that it just answered a read must do.
        Ok(())
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}
