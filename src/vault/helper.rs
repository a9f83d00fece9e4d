//! Any `docker-credential-NAME` program as the store, so that pass, 1Password or a company's own
//! vault serve. Rule V6 of protocol.md: one entry per record, the record as its secret.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Answer, Store, record};
use crate::clock::{Clock, System};
use crate::disk;
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{Key, Place, Record};
use crate::program::{self, Finished};

/// Its own pinentry may have to ask a person.
const PATIENCE: Duration = Duration::from_secs(60);

/// Before a question that failed is asked again: pass lists a folder that somebody is just filling
/// as broken, and what is just written cannot be read.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_millis(2000),
];

/// Every helper's word for a miss; docker compares this sentence too.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// Is set for a helper and all that it starts: a valetkey among them must not ask a helper again.
const ASKED: &str = "VALETKEY_IS_ASKING_ITS_STORE";

/// What helpers and the programs behind them say, what that means, and whether asking again could
/// help. Their own words are not repeated: there may be a secret in them.
const CAUSES: &[(&str, &str, bool)] = &[
    // Its agent says so too while many ask it at once.
    ("no secret key", "gpg has no secret key for it here", true),
    ("not initialized", "pass is not initialized: pass init GPG-ID", false),
    ("no usernames for", "one of its folders is empty", true),
    ("illegal base64", "one of its folders has a name that it did not make", true),
    ("inappropriate ioctl", "gpg could not ask for its passphrase: export GPG_TTY=$(tty)", false),
    ("no pinentry", "gpg has no pinentry to ask for its passphrase", false),
    ("cancel", "the question for its passphrase was cancelled", false),
    ("bad passphrase", "the passphrase was wrong", false),
    ("d-bus", "it does not reach a D-Bus session", false),
    ("locked", "what it keeps them in is locked", false),
    ("not signed in", "it is not signed in", false),
    ("is its own store", "it leads back to valetkey", false),
    ("permission denied", "it is denied access", false),
    ("no space left", "the disk is full", false),
    ("decryption failed", "gpg could not decrypt an entry", true),
    ("no such file", "it does not find a file", true),
];

pub(super) struct Program {
    name: String,
    path: OsString,
    environment: Environment,
    /// Where the entries of ours are remembered that it listed last. They are no secret.
    index: Option<PathBuf>,
    /// Set once it has not ended in time: the next call would not either.
    hung: Cell<bool>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(rename = "ServerURL", default)]
    server_url: std::borrow::Cow<'a, str>,
    #[serde(default)]
    username: std::borrow::Cow<'a, str>,
    #[serde(default)]
    secret: Zeroizing<String>,
}

impl Program {
    /// `own`: the path of this very program.
    pub(super) fn new(
        suffix: &str,
        own: Option<&Path>,
        environment: &Environment,
        hidden: &dyn Fn(&str) -> bool,
    ) -> Result<Self> {
        let name = format!("docker-credential-{suffix}");
        let other = "choose another store in config.toml";
        if environment.get(ASKED).is_some() {
            let what = format!("valetkey is its own store: {name} leads back to it");
            return Err(Error::new(Kind::Storage, what).hint(other));
        }
        let Some(path) = program::find(&name, environment) else {
            return Err(Error::new(Kind::Storage, format!("{name} is not on PATH"))
                .hint("install it, or choose another store in config.toml"));
        };
        let same = |own: &Path| path.canonicalize().ok() == own.canonicalize().ok();
        if suffix == "valetkey" || own.is_some_and(same) {
            let what = format!("store = \"helper:{suffix}\" is valetkey itself");
            return Err(Error::new(Kind::Configuration, what).hint(other));
        }
        let own = environment.without(hidden).map(|(name, value)| (name.clone(), value.clone()));
        let index = environment.state_directory().ok();
        Ok(Self {
            environment: own.chain([(ASKED.into(), "1".into())]).collect(),
            index: index.map(|state| state.join("entries").join(suffix)),
            name,
            path: path.into(),
            hung: Cell::new(false),
        })
    }

    fn failed(&self, what: &str) -> Error {
        Error::new(Kind::Storage, format!("{} {what}", self.name))
    }

    /// `None`: it says that there is no such entry. What only reads is asked again where that may
    /// help.
    fn call(&self, verb: &str, input: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let reads = matches!(verb, "get" | "list");
        let mut pauses = PAUSES.iter().filter(|_| reads);
        loop {
            let (finished, output) = self.once(verb, input)?;
            if String::from_utf8_lossy(&output).trim() == NOT_FOUND {
                return Ok(None);
            }
            if finished.success {
                return Ok(Some(output));
            }
            let said = [output.as_slice(), &Zeroizing::new(finished.errors)].concat();
            let said = Zeroizing::new(String::from_utf8_lossy(&said).to_ascii_lowercase());
            let known = CAUSES.iter().find(|(words, _, _)| said.contains(words));
            if known.is_none_or(|(_, _, transient)| *transient)
                && let Some(pause) = pauses.next()
            {
                System::start().sleep(*pause);
                continue;
            }
            let cause = known
                .map_or_else(|| finished.status.to_string(), |(_, cause, _)| (*cause).to_owned());
            let hint = format!("see what `{} list` says in a terminal", self.name);
            return Err(self.failed(&format!("{verb} failed")).because(cause).hint(hint));
        }
    }

    fn once(&self, verb: &str, input: &[u8]) -> Result<(Finished, Zeroizing<Vec<u8>>)> {
        let failed = || self.failed(&format!("{verb} did not answer"));
        if self.hung.get() {
            return Err(failed());
        }
        let finished = program::run(
            &self.path,
            &[OsStr::new(verb)],
            input,
            &self.environment,
            |_| false,
            PATIENCE,
        );
        let mut finished = finished.map_err(|error| {
            self.hung.set(error.kind() == std::io::ErrorKind::TimedOut);
            let hint = format!("see what `{} list` does in a terminal", self.name);
            failed().because(error).hint(hint)
        })?;
        let output = Zeroizing::new(std::mem::take(&mut finished.output));
        Ok((finished, output))
    }

    fn closed(&self) -> Error {
        Error::new(Kind::Storage, format!("{} lists an entry that it does not give", self.name))
            .hint("see whether what it keeps them in is locked")
    }

    /// The secret of an entry that was listed. None in it is no miss: docker-credential-secretservice
    /// calls a locked keychain empty.
    fn secret(&self, url: &str) -> Result<Zeroizing<String>> {
        let output = self.call("get", url.as_bytes())?.unwrap_or_else(|| b"{}".to_vec().into());
        let entry: Entry<'_> =
            first_value(&output).ok_or_else(|| self.failed("answers no JSON"))?;
        if entry.secret.is_empty() {
            return Err(self.closed());
        }
        Ok(entry.secret)
    }

    fn record(&self, url: &str) -> Result<Record> {
        record::read(self.secret(url)?.as_bytes(), &self.name)
    }

    fn urls(&self, prefix: &str) -> Result<Vec<String>> {
        let output = self.call("list", b"")?;
        let listed: BTreeMap<String, String> = match output {
            None => BTreeMap::new(),
            Some(output) => first_value::<Option<_>>(&output)
                .ok_or_else(|| self.failed("lists no JSON"))?
                .unwrap_or_default(),
        };
        // docker-credential-secretservice shows a locked keychain as one entry without a name.
        if listed.contains_key("") {
            return Err(self.closed());
        }
        self.remember(listed.keys().filter(|url| url.starts_with(ROOT)).cloned());
        Ok(listed.into_keys().filter(|url| url.starts_with(prefix)).collect())
    }

    fn remember(&self, urls: impl Iterator<Item = String>) {
        let Some(index) = &self.index else { return };
        let lines: String = urls.map(|url| url + "\n").collect();
        let known = disk::read(index).ok().flatten().unwrap_or_default();
        if known != lines.as_bytes() {
            // Without it a broken folder of somebody else's hides what is ours.
            let _ = disk::replace(index, lines.as_bytes());
        }
    }

    fn remembered(&self) -> Vec<String> {
        let index = self.index.as_ref().and_then(|index| disk::read(index).ok().flatten());
        let known = String::from_utf8(index.unwrap_or_default()).unwrap_or_default();
        known.lines().map(str::to_owned).collect()
    }

    /// Every record of ours below this URL. Where the list fails, because one entry among it is
    /// broken, those are asked for that were listed before; it is never taken for empty then.
    fn records(&self, prefix: &str) -> Result<Vec<Result<Record>>> {
        let error = match self.urls(prefix) {
            Ok(urls) => return Ok(urls.iter().map(|url| self.record(url)).collect()),
            Err(error) => error,
        };
        let known = self.remembered().into_iter().filter(|url| url.starts_with(prefix));
        let records: Vec<_> = known.filter_map(|url| self.record(&url).ok()).map(Ok).collect();
        if records.is_empty() { Err(error) } else { Ok(records) }
    }

    fn store(&self, entry: &Entry<'_>) -> Result<()> {
        let input = Zeroizing::new(serde_json::to_vec(entry).unwrap_or_default());
        let stored = self.call("store", &input)?;
        stored.map(drop).ok_or_else(|| self.failed("store failed").because("it found nothing"))
    }

    /// The claims of a key that somebody still stands behind.
    fn claims(&self, of_key: &str, now: u64) -> Result<BTreeSet<String>> {
        let alive = |url: &String| {
            let since = url.strip_prefix(of_key).and_then(|rest| rest.split('-').next());
            let since = since.and_then(|since| since.parse::<u64>().ok());
            since.is_some_and(|since| since.abs_diff(now) < CLAIM)
        };
        Ok(self.urls(of_key)?.into_iter().filter(alive).collect())
    }
}

/// The first JSON value, as docker reads it: what stands behind it means nothing.
fn first_value<'a, T: Deserialize<'a>>(output: &'a [u8]) -> Option<T> {
    let output = output.strip_prefix(b"\xef\xbb\xbf").unwrap_or(output);
    serde_json::Deserializer::from_slice(output).into_iter().next()?.ok()
}

/// Seconds after which nobody stands behind a claim any more: far longer than a renewal, and than
/// the clocks of two machines are apart.
const CLAIM: u64 = 300;

/// Helpers want a URL with a host; `.invalid` is nobody's (RFC 6761).
const ROOT: &str = "https://valetkey.invalid/1/";
const CLAIMS: &str = "https://valetkey.invalid/claim/";

fn place_url(place: &Place) -> String {
    format!("{ROOT}{}/", place.digest())
}

fn url(key: &Key) -> String {
    format!("{}{}", place_url(&key.place), key.digest())
}

impl Store for Program {
    fn read(&self, place: &Place) -> Answer<Vec<Result<Record>>> {
        Ok(self.records(&place_url(place))?)
    }

    fn all(&self) -> Answer<Vec<Result<Record>>> {
        Ok(self.records(ROOT)?)
    }

    fn write(&self, record: &Record, _: bool) -> Answer<()> {
        let content = record::write(record);
        let entry = Entry {
            server_url: url(record.key()).into(),
            // docker-credential-pass makes a file name of it.
            username: "valetkey".into(),
            secret: Zeroizing::new(String::from_utf8_lossy(&content).into_owned()),
        };
        self.store(&entry)?;
        let mut known: BTreeSet<_> = self.remembered().into_iter().collect();
        if known.insert(url(record.key())) {
            self.remember(known.into_iter());
        }
        Ok(())
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

    /// Other machines may use the same store, and none of them sees our locks. Each writes a claim,
    /// and then renews only if it finds no other: of two that come at once at least one finds both.
    /// The older one waits, the younger one takes its own back.
    fn claim(&self, key: &Key, patience: Duration, clock: &dyn Clock) -> Answer<Option<String>> {
        let of_key = format!("{CLAIMS}{}/", key.digest());
        let until = clock.elapsed() + patience;
        loop {
            let claim = format!("{of_key}{:012}-{:016x}", clock.now(), rand::random::<u64>());
            self.store(&Entry {
                server_url: claim.as_str().into(),
                username: "valetkey".into(),
                secret: Zeroizing::new("claim".to_owned()),
            })?;
            loop {
                let claims = match self.claims(&of_key, clock.now()) {
                    Ok(claims) => claims,
                    // A folder of somebody else's is broken: without turns, rather than not at all.
                    Err(_) => return Ok(Some(claim)),
                };
                if claims.iter().all(|other| *other == claim) {
                    return Ok(Some(claim));
                }
                let late = clock.elapsed() >= until;
                let younger = claims.first().is_some_and(|first| *first < claim);
                if late || younger {
                    self.release(&claim);
                }
                if late {
                    let what = format!("another machine is renewing it in {}", self.name);
                    return Err(Error::new(Kind::Temporary, what).hint("try again").into());
                }
                clock.sleep(Duration::from_millis(50 + rand::random::<u64>() % 200));
                if younger {
                    break;
                }
            }
        }
    }

    fn release(&self, claim: &str) {
        // One that stays is in nobody's way for longer than its time.
        let _ = self.call("erase", claim.as_bytes());
    }

    fn caution(&self) -> Option<String> {
        let name = &self.name;
        Some(format!(
            "machines that share the store of {name} take turns; where it is only copied between \
             them (git, a cloud), sign in on one of them"
        ))
    }
}
