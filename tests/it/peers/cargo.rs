//! A real cargo, and a registry that wants a token for everything.

use std::path::Path;

use super::same_cases::{Client, Start, bearers};
use crate::lab::{CrateHost, Options, Person, Run};
use crate::scene::Home;

struct Shop {
    home: Home,
    registry: CrateHost,
}

/// cargo's own path, not rustup's, which would look for toolchains in the sandbox's home.
fn cargo() -> &'static Path {
    Path::new(env!("CARGO"))
}

impl Shop {
    fn new() -> Self {
        let home = Home::new(Options::default());
        let is_live = home.judge();
        let registry = CrateHost::start(move |sent| {
            sent == "pasted" || sent.strip_prefix("Bearer ").is_some_and(&is_live)
        });
        home.nobody();
        let sandbox = &home.sandbox;
        sandbox.env("RUSTC", cargo().with_file_name("rustc"));
        sandbox.link("valetkey");
        sandbox.write(
            "home/.cargo/config.toml",
            format!(
                "[registries.lab]\nindex = \"sparse+{}\"\n[net]\nretry = 0\n",
                registry.index()
            )
            .as_bytes(),
            0o644,
        );
        sandbox.valetkey(&["setup", "cargo"]).run().assert_status(0);
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
        Self { home, registry }
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
    vec![Box::new(|| Box::new(Shop::new()))]
}

impl Client for Shop {
    fn name(&self) -> String {
        "cargo".to_owned()
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
        bearers(self.registry.journal())
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
