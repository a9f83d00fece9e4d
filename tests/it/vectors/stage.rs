//! The stage of a vector: a home with what its setup names, then one step after the other, each
//! compared to the byte. What a step does not mention must be nothing.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use valetkey::model::{Key, Place};

use super::format::{Field, Vector, bytes, matches};
use super::root;
use crate::lab::systems::{myclaude::Myclaude, tinykit::Tinykit};
use crate::lab::{Answer, Authority, Browser, CLIENT_ID, Finished, Person, Run, Sandbox, Step};
use crate::scene::program;

/// A site with a way of its own.
enum System {
    Tinykit(Tinykit),
    Myclaude(Myclaude),
}

impl System {
    fn start(name: &str) -> Self {
        match name {
            "tinykit" => Self::Tinykit(Tinykit::start()),
            "myclaude" => Self::Myclaude(Myclaude::start()),
            other => panic!("no system is called {other}"),
        }
    }

    fn origin(&self) -> String {
        match self {
            Self::Tinykit(site) => site.origin(),
            Self::Myclaude(site) => site.origin(),
        }
    }
}

struct Stage {
    sandbox: Sandbox,
    authority: Authority,
    browser: Option<Browser>,
    keychain: Option<String>,
    system: Option<System>,
    secrets: Vec<String>,
}

pub fn play(vector: &Vector) -> Result<(), String> {
    let mut stage = Stage::empty();
    for field in &vector.setup {
        match field.name.as_str() {
            "key" => compare_key(field)?,
            "keychain" if !keyring_is_here() => return Ok(()),
            _ => stage.set_up(field),
        }
    }
    for (index, step) in vector.steps.iter().enumerate() {
        stage.step(step).map_err(|why| format!("step {}: {why}", index + 1))?;
    }
    Ok(())
}

impl Stage {
    fn empty() -> Self {
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_INTERACTIVE", "never").env("VALETKEY_STORE", "file");
        sandbox.link("valetkey");
        let authority = Authority::start();
        Self {
            sandbox,
            authority,
            browser: None,
            keychain: None,
            system: None,
            secrets: Vec::new(),
        }
    }

    fn set_up(&mut self, field: &Field) {
        let value = self.filled(&field.value);
        let block = field.block.as_deref().unwrap_or_default();
        match field.name.as_str() {
            "attack" => {}
            "document" => {
                let (path, document) = value.split_once(' ').expect("PATH JSON");
                let document = serde_json::from_str(document).expect("JSON");
                self.authority.always(path, Step::json(200, &document));
            }
            "environment" => {
                let (name, value) = value.split_once('=').expect("NAME=VALUE");
                let value = String::from_utf8(bytes(&[format!("{value}\\")])).expect("UTF-8");
                self.sandbox.env(name, value);
            }
            "file" => self.put(&value, block),
            "keychain" => {
                self.sandbox.env("VALETKEY_STORE", "keychain");
                self.keychain = Some(value);
            }
            "page" => {
                let mut words = value.split(' ');
                let mut word = || words.next().expect("PATH STATUS TYPE");
                let (path, status, kind) = (word(), word(), word());
                let text = self.filled(&String::from_utf8(bytes(block)).expect("UTF-8"));
                let status = status.parse().expect("a status");
                self.authority.always(path, Step::Answer(Answer::typed(status, kind, &text)));
            }
            "person" => {
                let person = match value.as_str() {
                    "approves" => Person::Approves,
                    "denies" => Person::Denies,
                    "ignores" => Person::Ignores,
                    other => panic!("nobody is called {other}"),
                };
                self.sandbox.env("VALETKEY_INTERACTIVE", "always");
                self.browser = Some(Browser::start(&self.sandbox, person));
            }
            "profile" => {
                let more = self.filled(&String::from_utf8(bytes(block)).expect("UTF-8"));
                self.sandbox.config(&format!(
                    "[profile.{value}]\norigins = [\"https://git.example\"]\n\
                     issuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n{more}",
                    self.authority.issuer()
                ));
            }
            "program" => {
                let text = self.filled(&String::from_utf8(bytes(block)).expect("UTF-8"));
                self.sandbox.script(&value, &text);
            }
            "secret" => self.secrets.push(value),
            "session" => self.session(&value),
            "system" => self.system = Some(System::start(&value)),
            "token-endpoint" => {
                let (status, answer) = value.split_once(' ').expect("STATUS JSON");
                let answer = serde_json::from_str(answer).expect("JSON");
                let step = Step::json(status.parse().expect("a status"), &answer);
                self.authority.next("/token", vec![step]);
            }
            other => panic!("no setup is called {other}"),
        }
    }

    /// A session of profile `lab` as if somebody had signed in: `ACCOUNT [MEMBERS]`.
    fn session(&self, value: &str) {
        let (account, members) = value.split_once(' ').unwrap_or((value, "{}"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.expect("a clock after 1970").as_secs();
        let mut record = json!({
            "v": 1, "kind": "session", "profile": "lab", "client_id": CLIENT_ID,
            "account": account, "authority": format!("{}/", self.authority.issuer()),
            "access_token": "lab-access", "refresh_token": "lab-refresh",
            // Its token is too new for a host to have refused it.
            "stored_at": 1_700_000_000, "renewed_at": now,
        });
        let members: Value = serde_json::from_str(members).expect("JSON members");
        for (name, value) in members.as_object().expect("an object") {
            record[name] = value.clone();
        }
        let key = Key {
            place: Place::Profile("lab".to_owned()),
            client_id: CLIENT_ID.to_owned(),
            account: account.to_owned(),
            path: None,
        };
        let path = format!("data/valetkey/sessions/{}/{}.json", key.place.digest(), key.digest());
        write(&self.sandbox.root().join(path), record.to_string().as_bytes(), 0o600);
    }

    /// `PATH MODE`, with the content in the block.
    fn put(&self, value: &str, block: &[String]) {
        let (path, mode) = value.rsplit_once(' ').expect("PATH MODE");
        let mode = u32::from_str_radix(mode, 8).expect("an octal mode");
        let block: Vec<_> = block.iter().map(|line| self.filled(line)).collect();
        write(&self.sandbox.root().join(path), &bytes(&block), mode);
    }

    fn filled(&self, text: &str) -> String {
        let system = self.system.as_ref().map(System::origin).unwrap_or_default();
        text.replace("{server}", &self.authority.issuer())
            .replace("{system}", &system)
            .replace("{home}", &self.sandbox.root().display().to_string())
    }

    fn step(&self, fields: &[Field]) -> Result<(), String> {
        let one = |name: &str| fields.iter().find(|field| field.name == name);
        let all = |name: &str| {
            let name = name.to_owned();
            fields.iter().filter(move |field| field.name == name)
        };
        for field in all("file") {
            self.put(&self.filled(&field.value), field.block.as_deref().unwrap_or_default());
        }
        let finished = self.perform(fields)?;
        let shown = |what: String| format!("{what}\n{finished}");

        let status = one("expect-status").map_or("0", |field| &field.value);
        if finished.status.to_string() != status {
            return Err(shown(format!("wanted status {status}")));
        }
        for (name, seen) in [("stdout", finished.stdout_text()), ("stderr", finished.stderr_text())]
        {
            let parts: Vec<_> = all(&format!("expect-{name}-has")).collect();
            for part in &parts {
                if !seen.contains(&self.filled(&part.value)) {
                    return Err(shown(format!("wanted {:?} on {name}", part.value)));
                }
            }
            let whole = one(&format!("expect-{name}"));
            let whole = whole.map(|field| field.block.as_deref().unwrap_or_default());
            if parts.is_empty() || whole.is_some() {
                let wanted =
                    String::from_utf8_lossy(&bytes(whole.unwrap_or_default())).into_owned();
                if !matches(&self.filled(&wanted), &seen) {
                    return Err(shown(format!("wanted exactly this on {name}:\n{wanted}---")));
                }
            }
            if let Some(secret) = self.secrets.iter().find(|secret| seen.contains(*secret)) {
                return Err(shown(format!("the secret {secret:?} is on {name}")));
            }
        }
        for field in all("expect-file") {
            self.expect_file(field)?;
        }
        for field in all("expect-no-file") {
            if self.sandbox.root().join(&field.value).symlink_metadata().is_ok() {
                return Err(shown(format!("{} is there", field.value)));
            }
        }
        if let Some(field) = one("expect-token-requests") {
            let asked = self.authority.asked("/token").to_string();
            if asked != field.value {
                return Err(shown(format!("{asked} token requests, not {}", field.value)));
            }
        }
        if let Some(browser) = &self.browser {
            let wanted = one("expect-windows").map_or("0", |field| &field.value);
            let opened = browser.opened().len().to_string();
            if opened != wanted {
                return Err(shown(format!("{opened} browser windows, not {wanted}")));
            }
        }
        Ok(())
    }

    fn perform(&self, fields: &[Field]) -> Result<Finished, String> {
        let one = |name: &str| fields.iter().find(|field| field.name == name);
        let first = &fields[0];
        let mut run = match first.name.as_str() {
            "run" => self.in_keychain("sh", &["-c", &self.filled(&first.value)]),
            _ => {
                let line = self.filled(&first.value);
                let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
                let name = one("as").map_or("valetkey", |field| &field.value);
                let link = self.sandbox.bin().join(name);
                if !link.exists() {
                    self.sandbox.link(name);
                }
                self.in_keychain(&link.display().to_string(), &words)
            }
        };
        let input = one("stdin").and_then(|field| field.block.as_deref()).unwrap_or_default();
        let input: Vec<_> = input.iter().map(|line| self.filled(line)).collect();
        if let Some(field) = one("stdin-stays-open") {
            let mut started = run.stdin_open().start();
            started.send(bytes(&input));
            started.expect_stdout(&field.value);
            return Ok(started.wait());
        }
        run = run.stdin(bytes(&input));
        let Some(lock) = one("lock") else { return Ok(run.run()) };

        let path = self.sandbox.root().join(&lock.value);
        write(&path, b"", 0o600);
        let held = File::options().write(true).open(&path).map_err(|error| error.to_string())?;
        held.lock().map_err(|error| error.to_string())?;
        let started = run.start();
        started.expect_stderr("waiting for");
        if let Some(field) = one("then-file") {
            self.put(&self.filled(&field.value), field.block.as_deref().unwrap_or_default());
        }
        drop(held);
        Ok(started.wait())
    }

    fn in_keychain(&self, program: &str, arguments: &[&str]) -> Run {
        let Some(mode) = &self.keychain else { return self.sandbox.run(program, arguments) };
        let wrapper = root().join("tests/peers/with-keyring");
        let mut all = vec![program];
        all.extend(arguments);
        self.sandbox.run(wrapper, &all).env("KEYRING", mode).remove_env("DBUS_SESSION_BUS_ADDRESS")
    }

    /// `PATH MODE`; with a block also the content.
    fn expect_file(&self, field: &Field) -> Result<(), String> {
        let (path, mode) = field.value.rsplit_once(' ').expect("PATH MODE");
        let place = self.sandbox.root().join(path);
        let metadata = place.symlink_metadata().map_err(|error| format!("{path}: {error}"))?;
        let found = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if format!("{found:o}") != mode.trim_start_matches('0') {
            return Err(format!("{path} has mode {found:o}, not {mode}"));
        }
        if let Some(block) = &field.block {
            let content = std::fs::read_to_string(&place).map_err(|error| error.to_string())?;
            let wanted = self.filled(&String::from_utf8_lossy(&bytes(block)));
            if !matches(&wanted, &content) {
                return Err(format!("{path} holds\n{content}\nwanted\n{wanted}"));
            }
        }
        Ok(())
    }
}

/// The directories below the base one are private, as the program itself would make them.
fn write(path: &Path, content: &[u8], mode: u32) {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let parent = path.parent().expect("a file has a directory");
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(parent).expect("directories in the sandbox");
    std::fs::write(path, content).expect("a file in the sandbox");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode");
}

/// A key by its parts in the block, compared with its text and its digest.
fn compare_key(field: &Field) -> Result<(), String> {
    let lines = field.block.as_deref().unwrap_or_default();
    let part = |name: &str| {
        let prefix = format!("{name}=");
        let line = lines.iter().find_map(|line| line.strip_prefix(&prefix))?;
        Some(String::from_utf8(bytes(&[format!("{line}\\")])).expect("UTF-8"))
    };
    let place = match (part("profile"), part("origin")) {
        (Some(name), None) => Place::Profile(name),
        (None, Some(origin)) => Place::Origin(origin),
        _ => return Err("a key has a profile or an origin".to_owned()),
    };
    let key = Key {
        place,
        client_id: part("client").unwrap_or_default(),
        account: part("account").unwrap_or_default(),
        path: part("path"),
    };
    for (what, wanted, found) in [
        ("place", part("place-text"), key.place.text()),
        ("place digest", part("place-digest"), key.place.digest()),
        ("text", part("text"), key.text()),
        ("digest", part("digest"), key.digest()),
    ] {
        if wanted.as_ref().is_some_and(|wanted| *wanted != found) {
            return Err(format!("the {what} is {found}, not {wanted:?}"));
        }
    }
    match (part("text"), part("digest")) {
        (Some(_), Some(_)) => Ok(()),
        _ => Err("the block names no text or no digest".to_owned()),
    }
}

#[expect(clippy::print_stdout, reason = "who runs the tests is told what was left out")]
fn keyring_is_here() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = |name: &str| {
        std::env::split_paths(&path).map(|place: PathBuf| place.join(name)).any(|at| at.exists())
    };
    let missing = ["dbus-daemon", "gnome-keyring-daemon", "secret-tool"]
        .into_iter()
        .find(|name| !on_path(name));
    match missing {
        None => true,
        Some(name) if std::env::var_os("CI").is_some() => panic!("{name} is not installed"),
        Some(name) => {
            println!("left out, because {name} is not installed: a vector of the keychain");
            false
        }
    }
}
