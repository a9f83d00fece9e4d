//! A real terraform, and a private module registry. terraform comes in no package, so these tests
//! run where one is on PATH, and nowhere else.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use super::same_cases::{Client, Start, bearers};
use crate::lab::{Answer, CLIENT_ID, Options, Person, Reply, Request, Run, Server};
use crate::scene::Home;

/// Not an error under CI either: no registry of packages has it.
#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn terraform() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join("terraform"));
    let found = found.into_iter().find(|path| path.is_file());
    if found.is_none() {
        eprintln!("left out: no terraform is on PATH, and no package has one");
    }
    found
}

struct Workshop {
    terraform: PathBuf,
    home: Home,
    /// Tokens that are good although the authority knows nothing of them.
    pasted: Arc<Mutex<Vec<String>>>,
    registry: Server,
}

/// The host as terraform knows it; its configuration says where the services are, so that no name
/// is looked up.
const HOST: &str = "modules.lab.example";
const ORIGIN: &str = "https://modules.lab.example";

impl Workshop {
    fn start() -> Option<Self> {
        let terraform = terraform()?;
        let home = Home::new(Options::default());
        let pasted: Arc<Mutex<Vec<String>>> = Arc::default();
        let archive = archive();
        let registry = Server::start_knowing_origin(|origin| {
            let (origin, is_live, pasted) = (origin.to_owned(), home.judge(), Arc::clone(&pasted));
            move |request: &Request| -> Reply {
                let good = request.bearer().is_some_and(|token| {
                    let pasted = pasted.lock().unwrap_or_else(PoisonError::into_inner);
                    is_live(token) || pasted.iter().any(|good| good == token)
                });
                match request.path.as_str() {
                    "/archive.tar.gz" => {
                        Answer { body: archive.clone(), ..Answer::empty(200) }.into()
                    }
                    _ if !good => Answer::text(401, "a token, please\n").into(),
                    "/v1/modules/lab/hello/any/versions" => {
                        let versions = json!([{ "version": "1.0.0" }]);
                        Answer::json(200, &json!({ "modules": [{ "versions": versions }] })).into()
                    }
                    "/v1/modules/lab/hello/any/1.0.0/download" => Answer::empty(204)
                        .with_header("X-Terraform-Get", &format!("{origin}/archive.tar.gz"))
                        .into(),
                    _ => Answer::text(404, "no such page\n").into(),
                }
            }
        });
        home.nobody();
        home.sandbox.env("CHECKPOINT_DISABLE", "1");
        let configuration = format!(
            "host \"{HOST}\" {{\n  services = {{\n    \"modules.v1\" = \"{}/v1/modules/\"\n    \
             \"login.v1\" = {{ client = \"{CLIENT_ID}\", authz = \"{}\", token = \"{}\", \
             ports = [20000, 60000] }}\n  }}\n}}\n",
            registry.origin(),
            home.authority.url("/authorize"),
            home.authority.url("/token"),
        );
        home.sandbox.write("home/.terraformrc", configuration.as_bytes(), 0o644);
        home.sandbox.valetkey(&["setup", "terraform"]).run().assert_status(0);
        home.bind(&[ORIGIN], "");
        Some(Self { terraform, home, pasted, registry })
    }

    fn call(&self, arguments: &[&str]) -> Run {
        self.home.sandbox.run(&self.terraform, arguments)
    }

    /// Downloads the module into a directory that has never seen it.
    fn init(&self, name: &str) -> Run {
        let main = format!("module \"hello\" {{\n  source = \"{HOST}/lab/hello/any\"\n}}\n");
        self.home.sandbox.write(&format!("work/{name}/main.tf"), main.as_bytes(), 0o644);
        self.call(&["init", "-no-color"]).cwd(self.home.sandbox.work().join(name))
    }
}

pub(super) fn clients() -> Vec<Start> {
    let start = || Box::new(Workshop::start().expect("it was there before")) as Box<dyn Client>;
    terraform().map(|_| Box::new(start) as Start).into_iter().collect()
}

impl Client for Workshop {
    fn name(&self) -> String {
        "terraform".to_owned()
    }

    fn home(&self) -> &Home {
        &self.home
    }

    fn url(&self) -> String {
        ORIGIN.to_owned()
    }

    fn ask(&self, number: usize) -> Run {
        self.init(&format!("place-{number}"))
    }

    fn tokens(&self) -> Vec<String> {
        bearers(self.registry.journal())
    }

    /// It hides what a helper says and goes on without a token.
    fn shows(&self) -> bool {
        false
    }
}

fn archive() -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a place");
    std::fs::write(directory.path().join("main.tf"), "output \"x\" {\n  value = 1\n}\n")
        .expect("a module");
    let packed = Command::new("tar")
        .args(["-cz", "main.tf"])
        .current_dir(directory.path())
        .output()
        .expect("tar runs");
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    packed.stdout
}

#[test]
fn an_init_signs_in_once_and_everything_after_it_is_silent() {
    let Some(workshop) = Workshop::start() else { return };
    let browser = workshop.home.browser(Person::Approves);
    workshop.init("one").run().assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    workshop.home.nobody();
    workshop.init("two").run().assert_success();
    assert_eq!(workshop.home.authority.asked_for("authorization_code"), 1);
    assert_eq!(workshop.home.authority.asked_for("refresh_token"), 0);
}

/// terraform shows nothing that a helper says, so the person is met on the terminal itself.
#[test]
fn a_person_is_met_on_the_terminal() {
    let Some(workshop) = Workshop::start() else { return };
    let browser = workshop.home.browser(Person::Approves);
    workshop.home.sandbox.remove_env("VALETKEY_INTERACTIVE");
    let finished = workshop.init("one").terminal().run();
    finished.assert_success();
    finished.assert_terminal_has(&format!("opening a browser to sign in to https://{HOST}"));
    assert_eq!(browser.opened().len(), 1);
}

/// terraform's own sign-in ends in `store`.
#[test]
fn login_and_logout_of_a_host_without_a_profile() {
    let Some(workshop) = Workshop::start() else { return };
    workshop.home.sandbox.config("");
    let browser = workshop.home.browser(Person::Approves);
    std::os::unix::fs::symlink(browser.script(), workshop.home.sandbox.bin().join("xdg-open"))
        .expect("a new link");
    workshop.home.nobody();
    assert_ne!(workshop.init("before").run().status, 0);
    let login = workshop.call(&["login", "-no-color", HOST]).stdin("yes\n").run();
    login.assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    workshop.init("one").run().assert_success();
    let place = format!("terraform+https://{HOST}");
    assert!(workshop.home.sandbox.valetkey(&["list"]).run().stdout_text().starts_with(&place));
    assert!(!workshop.home.sandbox.home().join(".terraform.d/credentials.tfrc.json").exists());
    workshop.call(&["logout", "-no-color", HOST]).run().assert_status(0);
    assert_ne!(workshop.init("after").run().status, 0);
    // A token that a person made on a page goes the same way.
    workshop.pasted.lock().unwrap_or_else(PoisonError::into_inner).push("made-by-hand".to_owned());
    let store = workshop.home.sandbox.valetkey(&["terraform", "store", HOST]);
    store.stdin("{\"token\":\"made-by-hand\"}").run().assert(0, "", "");
    workshop.init("last").run().assert_success();
}
