//! The Secret Service of the desktop (GNOME Keyring, KWallet, KeePassXC), over a plain session:
//! the bus is a local socket, and whoever could listen there could as well ask the service.
//!
//! Every call runs on a worker thread with a deadline, because no client library bounds them all
//! and a daemon can hang; the worker is left behind when it does.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use dbus_secret_service::{EncryptionType, Error as ServiceError, Item, SecretService};
use zeroize::Zeroizing;

use super::{Store, Trouble, lock, record};
use crate::clock::System;
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{Key, Place, Record};

/// Seconds that a call may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Seconds that a person gets to type the keychain's password.
const PROMPT: u64 = 60;

const APPLICATION: &str = "valetkey";
const SCHEMA: &str = "dev.valetkey.Record";

pub(super) struct Keychain {
    environment: Environment,
    worker: OnceCell<mpsc::Sender<Job>>,
    /// Set once a call has not come back: the next one would not either.
    hung: Cell<bool>,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The worker's side.
struct Connection {
    service: Option<SecretService>,
    may_prompt: bool,
}

impl Keychain {
    pub(super) fn new(environment: &Environment) -> Self {
        Self { environment: environment.clone(), worker: OnceCell::new(), hung: Cell::new(false) }
    }

    /// Known without asking libdbus, which would try to start a bus of its own.
    fn has_bus(&self) -> bool {
        match self.environment.get("DBUS_SESSION_BUS_ADDRESS") {
            Some(address) => address != "disabled:",
            None => self
                .environment
                .get("XDG_RUNTIME_DIR")
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
        screen.iter().any(|name| self.environment.get(name).is_some()) && !forbidden
    }

    fn call<T: Send + 'static>(
        &self,
        work: impl Fn(&SecretService, bool) -> std::result::Result<T, ServiceError> + Send + 'static,
    ) -> std::result::Result<T, Trouble> {
        if !self.has_bus() {
            return Err(Trouble::Unreachable("there is no keychain (no D-Bus session)".to_owned()));
        }
        let silent = || Trouble::Unreachable("the keychain did not answer".to_owned());
        if self.hung.get() {
            return Err(silent());
        }
        let may_prompt = self.may_prompt();
        let worker = self.worker.get_or_init(|| start_worker(may_prompt));
        let (sender, receiver) = mpsc::channel();
        let job = Box::new(move |connection: &mut Connection| {
            let _ = sender.send(connection.attempt(&work));
        });
        worker.send(job).map_err(|_| silent())?;
        let patience = if may_prompt { PATIENCE + Duration::from_secs(PROMPT) } else { PATIENCE };
        match receiver.recv_timeout(patience) {
            Ok(answer) => answer.map_err(trouble),
            Err(_) => {
                self.hung.set(true);
                Err(silent())
            }
        }
    }

    /// gnome-keyring rewrites its whole file on a write and does not like two at a time.
    fn write_lock(&self) -> Result<Option<lock::Lock>> {
        let path = self.environment.state_directory()?.join("locks").join("keychain.lock");
        lock::take(&path, Duration::from_secs(10), &System::start(), &|| ())
    }
}

fn start_worker(may_prompt: bool) -> mpsc::Sender<Job> {
    let (sender, jobs) = mpsc::channel::<Job>();
    std::thread::spawn(move || {
        let mut connection = Connection { service: None, may_prompt };
        for job in jobs {
            job(&mut connection);
        }
    });
    sender
}

impl Connection {
    /// Runs the work, and once more over a new connection if the daemon was lost on the way:
    /// gnome-keyring 42 can crash under quick clients and is started again by the bus.
    fn attempt<T>(
        &mut self,
        work: &impl Fn(&SecretService, bool) -> std::result::Result<T, ServiceError>,
    ) -> std::result::Result<T, ServiceError> {
        let first = self.once(work);
        match first {
            Err(error) if lost_daemon(&error) => {
                self.service = None;
                self.once(work)
            }
            answer => answer,
        }
    }

    fn once<T>(
        &mut self,
        work: &impl Fn(&SecretService, bool) -> std::result::Result<T, ServiceError>,
    ) -> std::result::Result<T, ServiceError> {
        if self.service.is_none() {
            let seconds = if self.may_prompt { PROMPT } else { 0 };
            self.service = Some(SecretService::connect_with_max_prompt_timeout(
                EncryptionType::Plain,
                seconds,
            )?);
        }
        match &self.service {
            Some(service) => work(service, self.may_prompt),
            None => Err(ServiceError::Unavailable),
        }
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
            | "org.freedesktop.DBus.Error.UnknownObject"
            | "org.freedesktop.Secret.Error.NoSession"
    )
}

fn trouble(error: ServiceError) -> Trouble {
    let locked = |what: &str| {
        Trouble::Failed(
            Error::new(Kind::Storage, what)
                .hint("unlock it (log in to the desktop, or gnome-keyring-daemon --unlock)"),
        )
    };
    match &error {
        ServiceError::Locked => locked("the keychain is locked"),
        ServiceError::Prompt => locked("the keychain is locked and was not opened"),
        ServiceError::Unavailable => Trouble::Unreachable("there is no keychain".to_owned()),
        ServiceError::NoResult => {
            Trouble::Unreachable("the keychain has no default collection".to_owned())
        }
        _ => match name_of(&error) {
            "org.freedesktop.Secret.Error.IsLocked" => locked("the keychain is locked"),
            "org.freedesktop.DBus.Error.AccessDenied" => Trouble::Failed(
                Error::new(Kind::Storage, "the keychain denies access").because(error),
            ),
            "org.freedesktop.DBus.Error.NoReply" | "org.freedesktop.DBus.Error.TimedOut" => {
                Trouble::Unreachable("the keychain did not answer".to_owned())
            }
            // Everything else that a bus says is about a service that cannot be had.
            name if name.starts_with("org.freedesktop.DBus.Error.") => {
                Trouble::Unreachable("the keychain cannot be reached".to_owned())
            }
            _ => Trouble::Failed(Error::new(Kind::Storage, "the keychain failed").because(error)),
        },
    }
}

/// `service` and `username` are what every keychain client searches for; the other two keep us
/// off everybody else's items, and them off ours.
fn attributes(key: &Key) -> HashMap<String, String> {
    let (client, path) = (key.client_id.as_str(), key.path.as_deref().unwrap_or_default());
    let particular = [key.account.as_str(), client, path];
    let username = particular.join(" ").trim().to_owned();
    HashMap::from([
        ("service".to_owned(), key.place.text()),
        ("username".to_owned(), username),
        ("application".to_owned(), APPLICATION.to_owned()),
        ("xdg:schema".to_owned(), SCHEMA.to_owned()),
    ])
}

fn borrowed(attributes: &HashMap<String, String>) -> HashMap<&str, &str> {
    attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// The items with these attributes, opened. Locked ones are an error, never a miss.
fn search<'a>(
    service: &'a SecretService,
    attributes: &HashMap<String, String>,
    may_prompt: bool,
) -> std::result::Result<Vec<Item<'a>>, ServiceError> {
    let mut found = service.search_items(borrowed(attributes))?;
    if !found.locked.is_empty() {
        if !may_prompt {
            return Err(ServiceError::Locked);
        }
        service.unlock_all(&found.locked.iter().collect::<Vec<_>>())?;
        found.unlocked.append(&mut found.locked);
    }
    Ok(found.unlocked)
}

fn records(contents: Vec<Zeroizing<Vec<u8>>>) -> std::result::Result<Vec<Record>, Trouble> {
    let read = |content: &Zeroizing<Vec<u8>>| record::read(content, "the keychain");
    Ok(contents.iter().map(read).collect::<Result<_>>()?)
}

fn contents(
    service: &SecretService,
    wanted: &HashMap<String, String>,
    may_prompt: bool,
) -> std::result::Result<Vec<Zeroizing<Vec<u8>>>, ServiceError> {
    let items = search(service, wanted, may_prompt)?;
    items.iter().map(|item| item.get_secret().map(Zeroizing::new)).collect()
}

impl Store for Keychain {
    fn read(&self, place: &Place) -> std::result::Result<Vec<Record>, Trouble> {
        let wanted = HashMap::from([
            ("service".to_owned(), place.text()),
            ("application".to_owned(), APPLICATION.to_owned()),
        ]);
        records(self.call(move |service, may_prompt| contents(service, &wanted, may_prompt))?)
    }

    fn all(&self) -> std::result::Result<Vec<Record>, Trouble> {
        let wanted = HashMap::from([
            ("application".to_owned(), APPLICATION.to_owned()),
            ("xdg:schema".to_owned(), SCHEMA.to_owned()),
        ]);
        records(self.call(move |service, may_prompt| contents(service, &wanted, may_prompt))?)
    }

    fn write(&self, record: &Record) -> std::result::Result<(), Trouble> {
        let _lock = self.write_lock()?;
        let content = record::write(record);
        let attributes = attributes(record.key());
        let label = record.key().text();
        self.call(move |service, may_prompt| {
            match search(service, &attributes, may_prompt)?.first() {
                Some(item) => item.set_secret(&content, "text/plain"),
                None => {
                    let collection = service.get_default_collection()?;
                    if collection.is_locked()? {
                        if !may_prompt {
                            return Err(ServiceError::Locked);
                        }
                        collection.unlock()?;
                    }
                    collection
                        .create_item(&label, borrowed(&attributes), &content, true, "text/plain")
                        .map(drop)
                }
            }
        })
    }

    fn remove(&self, key: &Key) -> std::result::Result<bool, Trouble> {
        let _lock = self.write_lock()?;
        let attributes = attributes(key);
        self.call(move |service, may_prompt| {
            let items = search(service, &attributes, may_prompt)?;
            items.iter().try_for_each(Item::delete)?;
            Ok(!items.is_empty())
        })
    }

    fn probe(&self, key: &Key) -> std::result::Result<(), Trouble> {
        let attributes = attributes(key);
        self.call(move |service, may_prompt| {
            if search(service, &attributes, may_prompt)?.is_empty()
                && service.get_default_collection()?.is_locked()?
            {
                return Err(ServiceError::Locked);
            }
            Ok(())
        })
    }

    fn name(&self) -> String {
        "the keychain".to_owned()
    }
}
