//! The Secret Service of the desktop (GNOME Keyring, KWallet, KeePassXC), over a plain session:
//! the bus is a local socket, and whoever could listen there could as well ask the service.
//!
//! Every call runs on a worker thread with a deadline, because no client library bounds them all
//! and a daemon can hang; the worker is left behind when it does.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use dbus_secret_service::{EncryptionType, Error as ServiceError, Item, SecretService};
use zeroize::Zeroizing;

use super::{Answer, Store, Trouble, lock, record};
use crate::clock::System;
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{Key, Place, Record};

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a call may take whose outcome is safe elsewhere only after it.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Seconds that a person gets to type the keychain's password.
const PROMPT: u64 = 60;

/// Seconds that a prompt gets which nobody has to answer: KeePassXC answers each CreateItem and
/// Delete with one, and completes it itself.
const UNASKED: u64 = 3;
const WITH_PROMPT: Duration = Duration::from_secs(PATIENCE.as_secs() + UNASKED);

const APPLICATION: &str = "valetkey";
const SCHEMA: &str = "dev.valetkey.Record";

pub(super) struct Keychain {
    environment: Environment,
    worker: OnceCell<mpsc::Sender<Job>>,
    /// Set once a call has not come back: the next one would not either.
    hung: Cell<bool>,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The worker's side: the service, and for how many seconds its dialogue may stand open.
#[derive(Default)]
struct Connection(Option<(u64, SecretService)>);

type Said<T> = std::result::Result<T, ServiceError>;

/// Something to do with the service. It may be done twice, and knows whether it may wait for the
/// service's own dialogue.
trait Work<T>: Fn(&SecretService, bool) -> Said<T> + Send + Sync + 'static {}
impl<T, F: Fn(&SecretService, bool) -> Said<T> + Send + Sync + 'static> Work<T> for F {}

const SILENT: Trouble = Trouble::Silent("the keychain did not answer");

impl Keychain {
    pub(super) fn new(environment: &Environment) -> Self {
        Self { environment: environment.clone(), worker: OnceCell::new(), hung: Cell::new(false) }
    }

    /// Known without asking libdbus, which would try to start a bus of its own.
    fn has_bus(&self) -> bool {
        match self.environment.raw("DBUS_SESSION_BUS_ADDRESS") {
            Some(address) => address != "disabled:",
            None => self
                .environment
                .raw("XDG_RUNTIME_DIR")
                .is_some_and(|directory| Path::new(directory).join("bus").exists()),
        }
    }

    /// A locked keychain may be opened by its own dialogue where there is a screen for it and
    /// somebody who looks at it.
    fn may_prompt(&self) -> bool {
        let screen = ["DISPLAY", "WAYLAND_DISPLAY"];
        let forbidden = self.environment.get("CI").is_some()
            || self.environment.get("VALETKEY_INTERACTIVE") == Some("never")
            || self.environment.get("GIT_TERMINAL_PROMPT") == Some("0");
        screen.iter().any(|name| self.environment.raw(name).is_some()) && !forbidden
    }

    fn call<T: Send + 'static>(&self, patience: Duration, work: impl Work<T>) -> Answer<T> {
        if !self.has_bus() {
            let remote = self.environment.get("SSH_CONNECTION").is_some();
            return Err(Trouble::Absent(match remote {
                true => "the keychain is out of reach over ssh (no D-Bus session)",
                false => "there is no keychain (no D-Bus session)",
            }));
        }
        let work = Arc::new(work);
        // Only who is there and locked gets the time that a person needs.
        match self.ask(&work, patience, UNASKED)? {
            Err(error) if waits(&error) && self.may_prompt() && patience != AT_ONCE => {
                let limit = PATIENCE + Duration::from_secs(PROMPT);
                self.ask(&work, limit, PROMPT)?.map_err(|error| trouble(error, true))
            }
            said => said.map_err(|error| trouble(error, false)),
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        work: &Arc<impl Work<T>>,
        patience: Duration,
        prompt: u64,
    ) -> Answer<Said<T>> {
        if self.hung.get() {
            return Err(SILENT);
        }
        let worker = self.worker.get_or_init(start_worker);
        let (sender, receiver) = mpsc::channel();
        let work = Arc::clone(work);
        let job = move |connection: &mut Connection| {
            // Whoever asked may have given up.
            let _ = sender.send(connection.attempt(&*work, prompt));
        };
        worker.send(Box::new(job)).map_err(|_| SILENT)?;
        receiver.recv_timeout(patience).map_err(|_| {
            self.hung.set(patience != AT_ONCE);
            SILENT
        })
    }

    /// gnome-keyring rewrites its whole file on a write and does not like two at a time. That is
    /// a courtesy: what is to be written may exist nowhere else, so nobody waits for it in vain.
    fn write_lock(&self) -> Option<lock::Lock> {
        let path = self.environment.state_directory().ok()?.join("locks").join("keychain.lock");
        lock::take(&path, PATIENCE, &System::start(), &|| ()).ok()
    }
}

fn start_worker() -> mpsc::Sender<Job> {
    let (sender, jobs) = mpsc::channel::<Job>();
    std::thread::spawn(move || {
        let mut connection = Connection::default();
        for job in jobs {
            job(&mut connection);
        }
    });
    sender
}

impl Connection {
    /// Does the work, and once more over a new connection if the daemon was lost on the way:
    /// gnome-keyring 42 can crash under quick clients and is started again by the bus.
    fn attempt<T>(&mut self, work: &impl Work<T>, prompt: u64) -> Said<T> {
        match self.once(work, prompt) {
            Err(error) if lost_daemon(&error) => {
                self.0 = None;
                self.once(work, prompt)
            }
            said => said,
        }
    }

    fn once<T>(&mut self, work: &impl Work<T>, prompt: u64) -> Said<T> {
        if let Some((seconds, service)) = &self.0
            && *seconds == prompt
        {
            return work(service, prompt == PROMPT);
        }
        let service =
            SecretService::connect_with_max_prompt_timeout(EncryptionType::Plain, prompt)?;
        let (_, service) = self.0.insert((prompt, service));
        work(service, prompt == PROMPT)
    }
}

fn name_of(error: &ServiceError) -> &str {
    match error {
        ServiceError::Dbus(error) => error.name().unwrap_or_default(),
        _ => "",
    }
}

fn lost_daemon(error: &ServiceError) -> bool {
    matches!(
        name_of(error),
        "org.freedesktop.DBus.Error.NoReply"
            | "org.freedesktop.DBus.Error.NameHasNoOwner"
            | "org.freedesktop.DBus.Error.Disconnected"
            // An item that somebody else removed after we found it.
            | "org.freedesktop.DBus.Error.UnknownObject"
            | "org.freedesktop.DBus.Error.UnknownMethod"
            | "org.freedesktop.Secret.Error.NoSession"
    )
}

fn is_locked(error: &ServiceError) -> bool {
    matches!(error, ServiceError::Locked)
        || name_of(error) == "org.freedesktop.Secret.Error.IsLocked"
}

/// Whether it waits for a person: it is locked, or has a question of its own.
fn waits(error: &ServiceError) -> bool {
    is_locked(error) || matches!(error, ServiceError::Prompt)
}

/// `asked`: its dialogue has been shown.
fn trouble(error: ServiceError, asked: bool) -> Trouble {
    if waits(&error) {
        let what = match (is_locked(&error), asked) {
            (true, false) => "the keychain is locked",
            (true, true) => "the keychain is locked and was not opened",
            (false, _) => "the keychain asked something that nobody has answered",
        };
        let hint = "unlock it (log in to the desktop, or gnome-keyring-daemon --unlock)";
        return Trouble::Failed(Error::new(Kind::Storage, what).hint(hint));
    }
    match &error {
        ServiceError::Unavailable => return Trouble::Absent("there is no keychain"),
        ServiceError::NoResult => {
            return Trouble::Absent("the keychain has no default collection");
        }
        _ => {}
    }
    let name = name_of(&error).strip_prefix("org.freedesktop.DBus.Error.").unwrap_or_default();
    match name {
        "NoReply" | "Timeout" | "TimedOut" => SILENT,
        "ServiceUnknown" | "NameHasNoOwner" => Trouble::Absent("there is no keychain"),
        "NoServer" | "FileNotFound" | "NotSupported" | "Disconnected" | "NoNetwork"
        | "BadAddress" => {
            Trouble::Absent("the keychain is out of reach (its D-Bus session is gone)")
        }
        name if name.starts_with("Spawn.") => Trouble::Absent("the keychain cannot be started"),
        "AccessDenied" | "AuthFailed" => {
            Trouble::Failed(Error::new(Kind::Storage, "the keychain denies access").because(error))
        }
        // Whoever says anything else is there.
        _ => Trouble::Failed(Error::new(Kind::Storage, "the keychain failed").because(error)),
    }
}

/// `service` and `username` are what every keychain client searches for; the other two keep us
/// off everybody else's items, and them off ours.
fn attributes(key: &Key) -> HashMap<String, String> {
    HashMap::from([
        ("service".to_owned(), key.place.text()),
        ("username".to_owned(), username(key)),
        ("application".to_owned(), APPLICATION.to_owned()),
        ("xdg:schema".to_owned(), SCHEMA.to_owned()),
    ])
}

/// The account, and what else tells two records of a place apart. No two keys share one.
fn username(key: &Key) -> String {
    let account = key.account.replace('%', "%25").replace(' ', "%20");
    let more = match &key.place {
        Place::Profile(_) => Some(&key.client_id).filter(|id| !id.is_empty()),
        Place::Origin(_) => key.path.as_ref(),
    };
    more.map_or(account.clone(), |more| format!("{account} {more}"))
}

fn borrowed(attributes: &HashMap<String, String>) -> HashMap<&str, &str> {
    attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Our items with these attributes, opened. Locked ones are an error, never a miss; and where
/// nothing is found in a locked collection, it may only be that nothing shows.
fn search<'a>(
    service: &'a SecretService,
    attributes: &HashMap<String, String>,
    may_prompt: bool,
) -> Said<Vec<Item<'a>>> {
    let mut found = service.search_items(borrowed(attributes))?;
    if !found.locked.is_empty() {
        if !may_prompt {
            return Err(ServiceError::Locked);
        }
        service.unlock_all(&found.locked.iter().collect::<Vec<_>>()).map_err(unopened)?;
        found.unlocked.append(&mut found.locked);
    }
    if found.unlocked.is_empty() && open_collection(service, may_prompt)? {
        return Ok(service.search_items(borrowed(attributes))?.unlocked);
    }
    Ok(found.unlocked)
}

/// Makes sure that the default collection is open, if there is one. `true`: it was locked before.
fn open_collection(service: &SecretService, may_prompt: bool) -> Said<bool> {
    let collection = match service.get_default_collection() {
        Err(ServiceError::NoResult) => return Ok(false),
        collection => collection?,
    };
    match (collection.is_locked()?, may_prompt) {
        (false, _) => Ok(false),
        (true, false) => Err(ServiceError::Locked),
        (true, true) => collection.unlock().map_err(unopened).map(|()| true),
    }
}

/// A prompt for a lock that ended without its opening.
fn unopened(error: ServiceError) -> ServiceError {
    if matches!(error, ServiceError::Prompt) { ServiceError::Locked } else { error }
}

/// Makes an item. One that is there counts, however its prompt has ended.
fn create(
    service: &SecretService,
    label: &str,
    attributes: &HashMap<String, String>,
    content: &[u8],
) -> Said<()> {
    let collection = service.get_default_collection()?;
    let made = collection.create_item(label, borrowed(attributes), content, true, "text/plain");
    match made {
        Err(error @ (ServiceError::Prompt | ServiceError::Parse)) => {
            let found = service.search_items(borrowed(attributes))?.unlocked;
            let kept = found.first().map(|item| item.get_secret().map(Zeroizing::new));
            match kept.transpose()? {
                Some(kept) if **kept == *content => Ok(()),
                _ => Err(error),
            }
        }
        made => made.map(drop),
    }
}

fn everything() -> HashMap<String, String> {
    HashMap::from([
        ("application".to_owned(), APPLICATION.to_owned()),
        ("xdg:schema".to_owned(), SCHEMA.to_owned()),
    ])
}

fn understood(content: &[u8]) -> Result<Record> {
    record::read(content, "the keychain")
}

impl Keychain {
    fn records(&self, wanted: HashMap<String, String>) -> Answer<Vec<Result<Record>>> {
        let contents = self.call(PATIENCE, move |service, may_prompt| {
            let items = search(service, &wanted, may_prompt)?;
            let contents = items.iter().map(|item| item.get_secret().map(Zeroizing::new));
            contents.collect::<Said<Vec<_>>>()
        })?;
        Ok(contents.iter().map(|content| understood(content)).collect())
    }
}

impl Store for Keychain {
    fn read(&self, place: &Place) -> Answer<Vec<Result<Record>>> {
        self.records(HashMap::from([
            ("service".to_owned(), place.text()),
            ("application".to_owned(), APPLICATION.to_owned()),
        ]))
    }

    fn all(&self) -> Answer<Vec<Result<Record>>> {
        self.records(everything())
    }

    fn write(&self, record: &Record, at_once: bool) -> Answer<()> {
        let _lock = self.write_lock();
        let content = record::write(record);
        let attributes = attributes(record.key());
        let label = record.key().text();
        let patience = if at_once { AT_ONCE } else { WITH_PROMPT };
        self.call(patience, move |service, may_prompt| {
            match search(service, &attributes, may_prompt)?.first() {
                Some(item) => item.set_secret(&content, "text/plain"),
                None => create(service, &label, &attributes, &content),
            }
        })
    }

    fn remove(&self, key: &Key) -> Answer<bool> {
        let _lock = self.write_lock();
        let attributes = attributes(key);
        self.call(WITH_PROMPT, move |service, may_prompt| {
            let items = search(service, &attributes, may_prompt)?;
            for item in &items {
                match item.delete() {
                    // As for a new item: what is gone is gone, however its prompt has ended.
                    Err(ServiceError::Prompt) if item.get_label().is_err() => {}
                    deleted => deleted?,
                }
            }
            Ok(!items.is_empty())
        })
    }

    fn remove_unreadable(&self) -> Answer<()> {
        let _lock = self.write_lock();
        self.call(WITH_PROMPT, move |service, may_prompt| {
            for item in search(service, &everything(), may_prompt)? {
                let content = Zeroizing::new(item.get_secret()?);
                if understood(&content).is_err() {
                    item.delete()?;
                }
            }
            Ok(())
        })
    }

    fn probe(&self, key: &Key) -> Answer<()> {
        let attributes = attributes(key);
        self.call(PATIENCE, move |service, may_prompt| {
            if search(service, &attributes, may_prompt)?.is_empty() {
                service.get_default_collection()?;
            }
            Ok(())
        })
    }

    fn name(&self) -> String {
        "the keychain".to_owned()
    }
}
