//! Files as those of the file store, each sealed with a key that does not lie beside them (rule
//! V19). The key is given by a variable, a file or systemd, or made from a passphrase that is asked
//! for once and kept by the kernel until the machine stops.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, pbkdf2};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{Answer, Store, record};
use crate::disk;
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{Key, Place, Record, Secret, fingerprint};

const HEADER: &str = "valetkey-sealed/1 ";

/// Of PBKDF2-HMAC-SHA256; the passphrase is asked for once, so this may take a while.
const ROUNDS: u32 = 1_000_000;

/// Bytes of a master key.
const LENGTH: usize = 32;

type Master = Zeroizing<[u8; LENGTH]>;

/// How the passphrase becomes the key. It is no secret.
#[derive(Serialize, Deserialize)]
struct Recipe {
    v: u32,
    salt: String,
    rounds: u32,
    /// Of the key that comes of it: a wrong passphrase is noticed at once.
    key: String,
}

/// A key that opens and seals.
struct Sealing {
    id: String,
    key: LessSafeKey,
}

pub(super) struct Encrypted {
    directory: PathBuf,
    /// The first one seals, all of them open. Or why there is none.
    keys: Result<Vec<Sealing>>,
}

/// Asks a person for a passphrase, on a terminal where it does not show.
pub(super) type Ask<'a> = &'a dyn Fn(&str) -> Option<Secret>;

impl Encrypted {
    pub(super) fn new(
        directory: PathBuf,
        key_file: Option<&str>,
        environment: &Environment,
        ask: Ask<'_>,
    ) -> Self {
        let masters = given(key_file, environment)
            .and_then(|given| given.map_or_else(|| remembered(&directory, ask), Ok));
        let keys = masters.and_then(|masters| masters.iter().map(sealing).collect());
        Self { directory, keys }
    }

    fn keys(&self) -> Result<&[Sealing]> {
        self.keys.as_deref().map_err(|error| Error {
            kind: error.kind,
            what: error.what.clone(),
            hint: error.hint.clone(),
            source: None,
        })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.directory.join(key.place.digest()).join(format!("{}.sealed", key.digest()))
    }

    /// What lies in one place's directory.
    fn read_directory(&self, directory: &Path) -> Result<Vec<Result<Record>>> {
        let mut records = Vec::new();
        for path in entries(directory)? {
            if path.extension().is_none_or(|extension| extension != "sealed") {
                continue;
            }
            if let Some(content) = disk::read(&path)? {
                // A key that is not at hand is not a matter of this record.
                let keys = self.keys()?;
                records.push(opened(&path, content, keys));
            }
        }
        Ok(records)
    }
}

/// Where the key of a file is not at hand, it is said which one is wanted.
fn opened(path: &Path, mut content: Vec<u8>, keys: &[Sealing]) -> Result<Record> {
    let shown = path.display().to_string();
    let damaged = || {
        Error::new(Kind::Storage, format!("the record in {shown} is damaged"))
            .hint("valetkey logout --all removes what cannot be read; then sign in again")
    };
    let end = content.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
    let header = std::str::from_utf8(&content[..end]).ok();
    let id = header.and_then(|line| line.strip_prefix(HEADER)).ok_or_else(damaged)?.to_owned();
    let Some(sealing) = keys.iter().find(|sealing| sealing.id == id) else {
        return Err(wrong_key(&shown, &id, keys));
    };
    let start = end + 1 + NONCE_LEN;
    let nonce = content.get(end + 1..start).ok_or_else(damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
    let bound = Aad::from(bound(path));
    let plain = sealing.key.open_within(nonce, bound, &mut content, start..);
    let record = plain.map_err(|_| damaged()).and_then(|plain| record::read(plain, &shown));
    content.zeroize();
    record
}

fn wrong_key(shown: &str, id: &str, keys: &[Sealing]) -> Error {
    let own: Vec<_> = keys.iter().map(|key| key.id.as_str()).collect();
    let own = own.join(", ");
    Error::new(Kind::Storage, format!("{shown} is sealed with key {id}, and the key here is {own}"))
        .hint("give the old key too, on a line behind the new one; without it, remove that file")
}

/// What a sealed record is bound to: it opens in the place of no other.
fn bound(path: &Path) -> String {
    let name = |path: Option<&Path>| {
        let name = path.and_then(Path::file_name).unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    format!("{}/{}", name(path.parent()), name(Some(path)))
}

fn sealing(master: &Master) -> Result<Sealing> {
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"valetkey/1").extract(&master[..]);
    let derived = |what: &'static str| {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        let info = [what.as_bytes()];
        let okm = secret.expand(&info, hkdf::HKDF_SHA256).map_err(|_| unusable())?;
        okm.fill(&mut bytes[..]).map_err(|_| unusable())?;
        Ok::<_, Error>(bytes)
    };
    let key = UnboundKey::new(&CHACHA20_POLY1305, &derived("record")?[..]);
    let key = LessSafeKey::new(key.map_err(|_| unusable())?);
    Ok(Sealing { id: hex(&derived("id")?[..8]), key })
}

fn unusable() -> Error {
    Error::new(Kind::Storage, "the key of the encrypted store cannot be used")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Keys from outside: a variable, a file, or what systemd hands to a service.
fn given(key_file: Option<&str>, environment: &Environment) -> Result<Option<Vec<Master>>> {
    if let Some(text) = environment.get("VALETKEY_KEY") {
        return masters(text.as_bytes(), "VALETKEY_KEY").map(Some);
    }
    let file = environment.get("VALETKEY_KEY_FILE").or(key_file).map(PathBuf::from);
    let credential = environment.get("CREDENTIALS_DIRECTORY");
    let credential = credential.map(|directory| Path::new(directory).join("valetkey-key"));
    let Some(path) = file.or_else(|| credential.filter(|path| path.exists())) else {
        return Ok(None);
    };
    let shown = path.display().to_string();
    let failed = |error: std::io::Error| {
        Error::new(Kind::Storage, format!("the key of the encrypted store in {shown} is not there"))
            .because(error)
            .hint("put it back, or make one for an empty store: openssl rand -base64 32")
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // systemd gives its credentials to the service by an access list, shown as the group's.
        if path.metadata().map_err(failed)?.permissions().mode() & 0o007 != 0 {
            return Err(Error::new(Kind::Storage, format!("others can read the key in {shown}"))
                .hint(format!("chmod 600 {shown}")));
        }
    }
    let content = Zeroizing::new(std::fs::read(&path).map_err(failed)?);
    masters(&content, &shown).map(Some)
}

/// 32 bytes as they are, or a key a line, in hexadecimal digits or base64.
fn masters(content: &[u8], shown: &str) -> Result<Vec<Master>> {
    let no_key = || {
        Error::new(Kind::Storage, format!("{shown} holds no key of 32 bytes"))
            .hint("make one with: openssl rand -base64 32")
    };
    if content.len() == LENGTH {
        return Ok(vec![master(content).ok_or_else(no_key)?]);
    }
    let text = std::str::from_utf8(content).map_err(|_| no_key())?;
    let lines: Vec<_> = text.split_ascii_whitespace().map(read_key).collect();
    let keys: Option<Vec<_>> = lines.into_iter().collect();
    keys.filter(|keys| !keys.is_empty()).ok_or_else(no_key)
}

fn master(bytes: &[u8]) -> Option<Master> {
    let mut master = Zeroizing::new([0; LENGTH]);
    (bytes.len() == LENGTH).then(|| master.copy_from_slice(bytes))?;
    Some(master)
}

fn read_key(text: &str) -> Option<Master> {
    if text.len() == 2 * LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let mut key = Zeroizing::new([0; LENGTH]);
        for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        return Some(key);
    }
    let decoded = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text));
    master(&Zeroizing::new(decoded.ok()?))
}

/// The key of a passphrase: as the kernel keeps it, else asked for.
fn remembered(directory: &Path, ask: Ask<'_>) -> Result<Vec<Master>> {
    let path = directory.join("passphrase");
    let recipe = disk::read(&path)?.map(|content| {
        let recipe: Option<Recipe> = serde_json::from_slice(&content).ok();
        recipe.filter(|recipe| recipe.v == 1 && recipe.rounds > 0).ok_or_else(|| {
            let what = format!("{} cannot be read: the passphrase needs it", path.display());
            Error::new(Kind::Storage, what).hint("bring it back from a backup, beside its files")
        })
    });
    let recipe = recipe.transpose()?;
    let name = format!("valetkey:{}", &fingerprint(directory.as_os_str().as_encoded_bytes())[..32]);
    let fits = |master: &Master| -> Result<bool> {
        let id = sealing(master)?.id;
        Ok(recipe.as_ref().is_none_or(|recipe| recipe.key == id))
    };
    if recipe.is_some()
        && let Some(master) = kernel::find(&name)
        && fits(&master)?
    {
        return Ok(vec![master]);
    }
    let locked = || {
        Error::new(
            Kind::Storage,
            "the encrypted store is locked: nobody is here who could be asked",
        )
        .hint("valetkey list in a terminal asks for its passphrase; or set VALETKEY_KEY_FILE")
    };
    let master = match &recipe {
        Some(recipe) => {
            let given = ask("passphrase of the encrypted store: ").ok_or_else(locked)?;
            let master = made(&given, &recipe.salt, recipe.rounds)?;
            if !fits(&master)? {
                let what = "that is not the passphrase of the encrypted store";
                return Err(Error::new(Kind::Storage, what).hint("try again"));
            }
            master
        }
        None => {
            let given = ask("new passphrase for the encrypted store: ").ok_or_else(locked)?;
            let again = ask("and once more: ").ok_or_else(locked)?;
            if given != again {
                let what = "the two passphrases are not the same";
                return Err(Error::new(Kind::Storage, what).hint("try again"));
            }
            let mut salt = [0; 16];
            SystemRandom::new().fill(&mut salt).map_err(|_| unusable())?;
            let salt = STANDARD.encode(salt);
            let master = made(&given, &salt, ROUNDS)?;
            let recipe = Recipe { v: 1, salt, rounds: ROUNDS, key: sealing(&master)?.id };
            disk::make_private_directory(directory)?;
            // Strings and numbers cannot fail to become JSON.
            disk::replace(&path, &serde_json::to_vec(&recipe).unwrap_or_default())?;
            master
        }
    };
    // In a container the kernel may keep nothing: then it is asked for at each call.
    let _ = kernel::keep(&name, &master);
    Ok(vec![master])
}

fn made(passphrase: &Secret, salt: &str, rounds: u32) -> Result<Master> {
    let salt = STANDARD.decode(salt).map_err(|_| unusable())?;
    let rounds = std::num::NonZeroU32::new(rounds).ok_or_else(unusable)?;
    let mut master = Zeroizing::new([0; LENGTH]);
    let text = passphrase.expose().as_bytes();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, text, &mut master[..]);
    Ok(master)
}

/// The user's keyring in the kernel: it is emptied when the machine stops.
#[cfg(target_os = "linux")]
mod kernel {
    use linux_keyutils::{KeyError, KeyPermissionsBuilder, KeyRing, KeyRingIdentifier, Permission};
    use zeroize::Zeroizing;

    use super::{Master, master};

    pub(super) fn find(name: &str) -> Option<Master> {
        let ring = KeyRing::from_special_id(KeyRingIdentifier::User, false).ok()?;
        master(&Zeroizing::new(ring.search(name).ok()?.read_to_vec().ok()?))
    }

    pub(super) fn keep(name: &str, master: &Master) -> Result<(), KeyError> {
        let ring = KeyRing::from_special_id(KeyRingIdentifier::User, false)?;
        let key = ring.add_key(name, &master[..])?;
        let user = KeyPermissionsBuilder::builder().posessor(Permission::ALL).user(Permission::ALL);
        key.set_perms(user.build())
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use super::Master;

    pub(super) fn find(_: &str) -> Option<Master> {
        None
    }

    pub(super) fn keep(_: &str, _: &Master) -> Result<(), ()> {
        Err(())
    }
}

/// Nothing, where there is no such directory.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    Ok(disk::entries(directory)?.into_iter().map(|entry| entry.path).collect())
}

impl Store for Encrypted {
    fn read(&self, place: &Place) -> Answer<Vec<Result<Record>>> {
        Ok(self.read_directory(&self.directory.join(place.digest()))?)
    }

    fn all(&self) -> Answer<Vec<Result<Record>>> {
        let mut records = Vec::new();
        for directory in entries(&self.directory)? {
            // A link is none: what it leads to is not ours to list.
            if directory.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                records.append(&mut self.read_directory(&directory)?);
            }
        }
        Ok(records)
    }

    fn write(&self, record: &Record, _: bool) -> Answer<()> {
        let path = self.path(record.key());
        let sealing = self.keys()?.first().ok_or_else(unusable)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| unusable())?;
        let mut sealed = record::write(record);
        let aad = Aad::from(bound(&path));
        let given = Nonce::assume_unique_for_key(nonce);
        let tag = sealing.key.seal_in_place_separate_tag(given, aad, &mut sealed);
        let tag = tag.map_err(|_| unusable())?;
        let header = format!("{HEADER}{}\n", sealing.id);
        let content = [header.as_bytes(), &nonce, &sealed, tag.as_ref()].concat();
        disk::make_private_directory(&self.directory)?;
        Ok(disk::replace(&path, &content)?)
    }

    fn remove(&self, key: &Key) -> Answer<bool> {
        Ok(disk::remove(&self.path(key))?)
    }

    /// Only what the key at hand should open: for another key the person may have a use.
    fn remove_unreadable(&self) -> Answer<()> {
        for directory in entries(&self.directory)? {
            if !directory.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                continue;
            }
            for path in entries(&directory)? {
                let Some(content) = disk::read(&path)? else { continue };
                let foreign = |key: &Sealing| !content.starts_with(key_line(key).as_bytes());
                let sealed = content.starts_with(HEADER.as_bytes());
                let keys = self.keys()?;
                if sealed && keys.iter().all(foreign) {
                    continue;
                }
                if opened(&path, content, keys).is_err() {
                    disk::remove(&path)?;
                }
            }
        }
        Ok(())
    }

    fn probe(&self, key: &Key) -> Answer<()> {
        self.keys()?;
        disk::make_private_directory(&self.directory)?;
        Ok(disk::probe(&self.path(key))?)
    }

    fn name(&self) -> String {
        format!("sealed files in {}", self.directory.display())
    }
}

fn key_line(key: &Sealing) -> String {
    format!("{HEADER}{}\n", key.id)
}
