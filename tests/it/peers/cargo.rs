//! A real cargo, and a registry that wants a token for everything.

use std::path::Path;

use super::same_cases::{Client, Start};
use crate::lab::{CrateHost, Options, Person, Run};
use crate::scene::Home;

/// What cargo runs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Provider {
    /// cargo's own protocol.
    Ours,
    /// `cargo:token-from-stdout`.
    Stdout,
}

struct Shop {
    provider: Provider,
    home: Home,
    registry: CrateHost,
}

/// cargo's own path, not rustup's, which would look for toolchains in the sandbox's home.
fn cargo() -> &'static Path {
    Path::new(env!("CARGO"))
}

impl Shop {
    fn new() -> Self {
        Self::with(Provider::Ours)
    }

    fn with(provider: Provider) -> Self {
        let home = Home::new(Options::default());
        let is_live = home.judge();
        let registry = CrateHost::start(move |sent| {
            sent == "pasted" || is_live(sent.strip_prefix("Bearer ").unwrap_or(sent))
        });
        home.nobody();
        let sandbox = &home.sandbox;
        sandbox.env("RUSTC", cargo().with_file_name("rustc"));
        sandbox.link("valetkey");
        let by_hand = match provider {
            Provider::Ours => "",
            Provider::Stdout => {
                "credential-provider = [\"cargo:token-from-stdout\", \"valetkey\", \"token\"]\n"
            }
        };
        let settings = format!(
            "[registries.lab]\nindex = \"sparse+{}\"\n{by_hand}[net]\nretry = 0\n",
            registry.index()
        );
        sandbox.write("home/.cargo/config.toml", settings.as_bytes(), 0o644);
        if provider == Provider::Ours {
            sandbox.valetkey(&["setup", "cargo"]).run().assert_status(0);
        }
        for (name, version) in [("work/user", "0.1.0"), ("work/hello", "0.1.1")] {
            let crate_name = if name.ends_with("hello") { "hello-lab" } else { "user" };
            let dependencies = match crate_name {
                "user" => "[dependencies]\nhello-lab = { version = \"0.1\", registry = \"lab\" }\n",
                _ => "",
            };
            let manifest = format!(
                "[package]\nname = \"{crate_name}\"\nversion = \"{version}\"\nedition = \"2021\"\n\
                 description = \"x\"\nlicense = \"MIT\"\n{dependencies}"
            );
            sandbox.write(&format!("{name}/Cargo.toml"), manifest.as_bytes(), 0o644);
            sandbox.write(&format!("{name}/src/lib.rs"), b"", 0o644);
        }
        home.bind(&[&registry.index()], "scheme = \"bearer\"");
        Self { provider, home, registry }
    }

    fn cargo(&self, place: &str, arguments: &[&str]) -> Run {
        self.home.sandbox.run(cargo(), arguments).cwd(self.home.sandbox.work().join(place))
    }

    /// Reads the index and downloads the crate anew.
    fn fetch(&self) -> Run {
        let place = self.home.sandbox.home().join(".cargo/registry");
        let _ = std::fs::remove_dir_all(place);
        self.cargo("user", &["fetch"])
    }
}

pub(super) fn clients() -> Vec<Start> {
    let start = |provider| -> Start { Box::new(move || Box::new(Shop::with(provider))) };
    vec![start(Provider::Ours), start(Provider::Stdout)]
}

impl Client for Shop {
    fn name(&self) -> String {
        format!("cargo, {:?}", self.provider)
    }

    fn home(&self) -> &Home {
        &self.home
    }

    fn url(&self) -> String {
        self.registry.index()
    }

    fn ask(&self, number: usize) -> Run {
        let home = format!("cargo-home-{number}");
        let sandbox = &self.home.sandbox;
        let config = std::fs::read(sandbox.home().join(".cargo/config.toml")).expect("it is there");
        sandbox.write(&format!("{home}/config.toml"), &config, 0o644);
        let owners = ["owner", "--list", "--registry", "lab", "hello-lab"];
        self.cargo("user", &owners).env("CARGO_HOME", sandbox.root().join(home))
    }

    fn tokens(&self) -> Vec<String> {
        let requests = self.registry.journal().snapshot();
        let sent = requests.iter().filter_map(|entry| entry.request.header("Authorization"));
        sent.map(str::to_owned).collect()
    }

    fn signs_in(&self) -> bool {
        self.provider == Provider::Ours
    }
}

#[test]
fn a_fetch_signs_in_once_and_everything_after_it_is_silent() {
    let shop = Shop::new();
    let browser = shop.home.browser(Person::Approves);
    shop.fetch().run().assert_status(0).assert_stderr_has("Downloaded hello-lab v0.1.0");
    assert_eq!(browser.opened().len(), 1);
    shop.home.nobody();
    let again = shop.fetch().run();
    again.assert_status(0);
    assert!(!again.stderr_text().contains("valetkey"), "{again}");
    shop.cargo("user", &["owner", "--list", "--registry", "lab", "hello-lab"])
        .run()
        .assert_status(0)
        .assert_stdout("alice (Alice)\n");
    let yank = ["yank", "--registry", "lab", "--version", "0.1.0", "hello-lab"];
    shop.cargo("user", &yank).run().assert_status(0);
    let publish = ["publish", "--registry", "lab", "--no-verify", "--allow-dirty"];
    shop.cargo("hello", &publish).run().assert_status(0).assert_stderr_has("Published hello-lab");
    assert_eq!(browser.opened().len(), 1);
    assert_eq!(shop.home.authority.asked_for("authorization_code"), 1);
    assert_eq!(shop.home.authority.asked_for("refresh_token"), 0);
}

#[test]
fn a_person_who_says_no_is_not_asked_again_for_a_while() {
    let shop = Shop::new();
    let browser = shop.home.browser(Person::Denies);
    let finished = shop.fetch().run();
    assert_ne!(finished.status, 0);
    finished
        .assert_stderr_has("credential provider `cargo-credential-valetkey` failed action `get`");
    finished.assert_stderr_has("was refused");
    let again = shop.fetch().run();
    assert_ne!(again.status, 0);
    again.assert_stderr_has("no token found for `lab`");
    assert_eq!(browser.opened().len(), 1);
}

#[test]
fn login_and_logout_of_a_registry_without_a_profile() {
    let shop = Shop::new();
    shop.home.sandbox.config("");
    let finished = shop.fetch().run();
    assert_ne!(finished.status, 0);
    finished.assert_stderr_has("no token found for `lab`");
    let login = ["login", "--registry", "lab"];
    shop.cargo("user", &login).stdin("pasted\n").run().assert_status(0);
    shop.fetch().run().assert_status(0);
    assert!(shop.home.sandbox.files_with(b"pasted").iter().all(|path| path.starts_with("data")));
    let logout = ["logout", "--registry", "lab"];
    shop.cargo("user", &logout).run().assert_status(0);
    assert_ne!(shop.fetch().run().status, 0);
    let again = shop.cargo("user", &logout).run();
    again.assert_stderr_has("not currently logged in");
}

#[test]
fn login_without_a_token_signs_in_or_lets_the_person_paste() {
    let shop = Shop::new();
    let browser = shop.home.browser(Person::Approves);
    let login = ["login", "--registry", "lab"];
    shop.cargo("user", &login).run().assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    shop.home.nobody();
    shop.fetch().run().assert_status(0);
}
