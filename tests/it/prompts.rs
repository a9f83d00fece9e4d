//! A keychain that answers each CreateItem, Delete and Unlock with a prompt, as KeePassXC does: a
//! double of the Secret Service, which completes its prompts by itself, or never.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zbus::blocking::Connection;
use zbus::blocking::connection::Builder;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value};

use crate::desktop::{Desktop, Keyring};
use crate::scene::{Scene, value};

type Attributes = HashMap<String, String>;
type Sealed = (OwnedObjectPath, Vec<u8>, Vec<u8>, String);

/// What a prompt does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prompts {
    None,
    Complete,
    /// The item is made, and the result says nothing of it.
    CompleteOddly,
    Dismissed,
    Never,
}

struct State {
    prompts: Prompts,
    items: HashMap<u32, (Attributes, Vec<u8>)>,
    last: u32,
}

type Shared = Arc<Mutex<State>>;

fn path(text: String) -> OwnedObjectPath {
    ObjectPath::try_from(text).expect("a path").into()
}

fn root() -> OwnedObjectPath {
    path("/".to_owned())
}

fn item_path(number: u32) -> OwnedObjectPath {
    path(format!("/org/freedesktop/secrets/collection/double/i{number}"))
}

struct Service(Shared);

#[zbus::interface(name = "org.freedesktop.Secret.Service")]
impl Service {
    fn open_session(&self, _algorithm: &str, _input: Value<'_>) -> (OwnedValue, OwnedObjectPath) {
        let nothing = Value::from("").try_to_owned().expect("a value");
        (nothing, path("/org/freedesktop/secrets/session/s1".to_owned()))
    }

    fn search_items(&self, wanted: Attributes) -> (Vec<OwnedObjectPath>, Vec<OwnedObjectPath>) {
        let state = self.0.lock().expect("no panic");
        let fits =
            |own: &Attributes| wanted.iter().all(|(name, value)| own.get(name) == Some(value));
        let found = state.items.iter().filter(|(_, (own, _))| fits(own));
        (found.map(|(number, _)| item_path(*number)).collect(), Vec::new())
    }

    fn read_alias(&self, _name: &str) -> OwnedObjectPath {
        path("/org/freedesktop/secrets/collection/double".to_owned())
    }
}

struct Collection(Shared);

#[zbus::interface(name = "org.freedesktop.Secret.Collection")]
impl Collection {
    #[zbus(property)]
    fn locked(&self) -> bool {
        false
    }

    async fn create_item(
        &self,
        properties: HashMap<String, OwnedValue>,
        secret: Sealed,
        _replace: bool,
        #[zbus(object_server)] server: &zbus::ObjectServer,
    ) -> (OwnedObjectPath, OwnedObjectPath) {
        let attributes = properties["org.freedesktop.Secret.Item.Attributes"].clone();
        let attributes = Attributes::try_from(attributes).expect("attributes");
        let (number, prompts) = {
            let mut state = self.0.lock().expect("no panic");
            state.last += 1;
            (state.last, state.prompts)
        };
        let make = Work::Make(number, attributes, secret.2);
        if prompts == Prompts::None {
            make.done(&self.0, server).await;
            return (item_path(number), root());
        }
        (root(), prompt(number, make, &self.0, server).await)
    }
}

/// What is done when a prompt completes.
enum Work {
    Make(u32, Attributes, Vec<u8>),
    Delete(u32),
}

impl Work {
    async fn done(self, state: &Shared, server: &zbus::ObjectServer) -> OwnedObjectPath {
        match self {
            Self::Make(number, attributes, secret) => {
                state.lock().expect("no panic").items.insert(number, (attributes, secret));
                let item = Item(number, Arc::clone(state));
                server.at(item_path(number), item).await.expect("a new path");
                item_path(number)
            }
            Self::Delete(number) => {
                state.lock().expect("no panic").items.remove(&number);
                root()
            }
        }
    }
}

async fn prompt(
    number: u32,
    work: Work,
    state: &Shared,
    server: &zbus::ObjectServer,
) -> OwnedObjectPath {
    let kind = if matches!(work, Work::Make(..)) { "make" } else { "delete" };
    let at = path(format!("/org/freedesktop/secrets/prompt/{kind}{number}"));
    let prompt = Prompt(Mutex::new(Some(work)), Arc::clone(state));
    // One that nobody has answered may be there already.
    let _ = server.at(at.clone(), prompt).await;
    at
}

struct Prompt(Mutex<Option<Work>>, Shared);

#[zbus::interface(name = "org.freedesktop.Secret.Prompt")]
impl Prompt {
    async fn prompt(
        &self,
        _window: &str,
        #[zbus(object_server)] server: &zbus::ObjectServer,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) {
        let prompts = self.1.lock().expect("no panic").prompts;
        let work = self.0.lock().expect("no panic").take();
        let (dismissed, result) = match (prompts, work) {
            (Prompts::Never, _) | (_, None) => return,
            (Prompts::Dismissed, _) => (true, Value::from("")),
            (Prompts::CompleteOddly, Some(work)) => {
                work.done(&self.1, server).await;
                (false, Value::from(""))
            }
            (_, Some(work)) => (false, Value::from(work.done(&self.1, server).await)),
        };
        Self::completed(&emitter, dismissed, result).await.expect("a signal");
    }

    #[zbus(signal)]
    async fn completed(
        emitter: &SignalEmitter<'_>,
        dismissed: bool,
        result: Value<'_>,
    ) -> zbus::Result<()>;
}

struct Item(u32, Shared);

#[zbus::interface(name = "org.freedesktop.Secret.Item")]
impl Item {
    #[zbus(property)]
    fn locked(&self) -> bool {
        false
    }

    #[zbus(property)]
    fn label(&self) -> zbus::fdo::Result<String> {
        let there = self.1.lock().expect("no panic").items.contains_key(&self.0);
        there.then(String::new).ok_or_else(|| zbus::fdo::Error::UnknownObject("gone".to_owned()))
    }

    fn get_secret(&self, session: OwnedObjectPath) -> zbus::fdo::Result<(Sealed,)> {
        let state = self.1.lock().expect("no panic");
        let gone = || zbus::fdo::Error::UnknownObject("gone".to_owned());
        let (_, secret) = state.items.get(&self.0).ok_or_else(gone)?;
        Ok(((session, Vec::new(), secret.clone(), "text/plain".to_owned()),))
    }

    fn set_secret(&self, secret: Sealed) {
        let mut state = self.1.lock().expect("no panic");
        if let Some((_, own)) = state.items.get_mut(&self.0) {
            *own = secret.2;
        }
    }

    async fn delete(&self, #[zbus(object_server)] server: &zbus::ObjectServer) -> OwnedObjectPath {
        let prompts = self.1.lock().expect("no panic").prompts;
        if prompts == Prompts::None {
            Work::Delete(self.0).done(&self.1, server).await;
            return root();
        }
        prompt(self.0, Work::Delete(self.0), &self.1, server).await
    }
}

/// The service on the bus of the scene's desktop; it is gone when the connection is dropped.
fn serve(address: &str, state: &Shared) -> Connection {
    let at = "/org/freedesktop/secrets";
    Builder::address(address)
        .and_then(|builder| builder.serve_at(at, Service(Arc::clone(state))))
        .and_then(|builder| {
            builder.serve_at(format!("{at}/collection/double"), Collection(Arc::clone(state)))
        })
        .and_then(|builder| builder.name("org.freedesktop.secrets"))
        .and_then(|builder| builder.method_timeout(Duration::from_secs(30)).build())
        .expect("the double on the bus")
}

#[test]
fn a_prompt_that_completes_by_itself_is_no_lock() {
    for prompts in [Prompts::None, Prompts::Complete, Prompts::CompleteOddly] {
        let scene = Scene::new();
        let Some(desktop) = Desktop::start(&scene, Keyring::AbsentService) else { return };
        let state = Arc::new(Mutex::new(State { prompts, items: HashMap::new(), last: 0 }));
        let _service = serve(desktop.address(), &state);
        scene.sandbox.env("VALETKEY_STORE", "keychain");
        scene.sign_in();
        let get = scene.get().run();
        get.assert(0, &get.stdout_text(), "");
        assert!(value(&get, "password").is_some(), "{prompts:?}");
        assert_eq!(state.lock().expect("no panic").items.len(), 1, "{prompts:?}");
        scene.sandbox.valetkey(&["logout", "--all"]).run().assert_status(0);
        assert_eq!(state.lock().expect("no panic").items.len(), 0, "{prompts:?}");
    }
}

#[test]
fn a_prompt_that_nobody_answers_ends_and_is_said() {
    for prompts in [Prompts::Dismissed, Prompts::Never] {
        let scene = Scene::new();
        let Some(desktop) = Desktop::start(&scene, Keyring::AbsentService) else { return };
        let state = Arc::new(Mutex::new(State { prompts, items: HashMap::new(), last: 0 }));
        let _service = serve(desktop.address(), &state);
        scene.sandbox.env("VALETKEY_STORE", "keychain");
        let entry = "protocol=https\nhost=a.example\nusername=me\npassword=p\n";
        let store = scene.sandbox.valetkey(&["store"]).stdin(entry).run();
        store.assert_status(6).assert_stderr_has("asked something that nobody has answered");
        assert_eq!(state.lock().expect("no panic").items.len(), 0, "{prompts:?}");
    }
}
