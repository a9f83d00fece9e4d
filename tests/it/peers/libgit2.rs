//! cargo fetches a dependency from a git host by libgit2, which has helper code of its own: no
//! capability, no challenge, no `store` and no `erase`.

use std::path::Path;

use crate::lab::{Finished, Person};
use crate::scene::Scene;

/// A crate behind the scene's door, and one that depends on it.
fn scene() -> Scene {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    let bare = scene.host.create("team/crate.git");
    sandbox.git(&["clone", "--quiet"]).arg(&bare).arg("crate").run().assert_status(0);
    sandbox.write(
        "work/crate/Cargo.toml",
        b"[package]\nname = \"leaf\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
        0o644,
    );
    sandbox.write("work/crate/src/lib.rs", b"", 0o644);
    scene.git_in("crate", &["add", "."]).run().assert_success();
    scene.git_in("crate", &["commit", "--quiet", "-m", "a crate"]).run().assert_success();
    scene.git_in("crate", &["push", "--quiet"]).run().assert_status(0);

    let origin = scene.host.origin().replace("127.0.0.1", "localhost");
    sandbox.config(&format!(
        "[profile.lab]\norigins = [\"{origin}\"]\nissuer = \"{}\"\nclient_id = \"lab-client\"\n",
        scene.authority.issuer(),
    ));
    sandbox.write(
        "work/root/Cargo.toml",
        format!(
            "[package]\nname = \"root\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             [dependencies]\nleaf = {{ git = \"{origin}/team/crate.git\" }}\n"
        )
        .as_bytes(),
        0o644,
    );
    sandbox.write("work/root/src/lib.rs", b"", 0o644);
    scene
}

fn fetch(scene: &Scene) -> Finished {
    let home = scene.sandbox.home().join("cargo");
    let _ = std::fs::remove_dir_all(&home);
    let cargo = Path::new(env!("CARGO"));
    let fetch = scene.sandbox.run(cargo, &["fetch", "--quiet"]).env("CARGO_HOME", home);
    // Not rustup's, which looks for its toolchains at home.
    let fetch = fetch.env("RUSTC", cargo.with_file_name("rustc"));
    fetch.cwd(scene.sandbox.work().join("root")).run()
}

#[test]
fn cargo_fetches_a_dependency_with_our_token() {
    let scene = scene();
    let browser = scene.browser(Person::Approves);
    fetch(&scene).assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    scene.nobody();
    fetch(&scene).assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    assert_eq!(scene.authority.asked_for("refresh_token"), 0);
}

/// As `setup git` writes it.
#[test]
fn cargo_finds_us_by_our_path_too() {
    let scene = scene();
    scene.sandbox.link("valetkey");
    scene.sandbox.write("home/.gitconfig", b"", 0o644);
    std::fs::remove_file(scene.sandbox.bin().join("git-credential-valetkey")).expect("a link");
    scene.sandbox.valetkey(&["setup", "git"]).run().assert_status(0);
    let browser = scene.browser(Person::Approves);
    fetch(&scene).assert_status(0);
    assert_eq!(browser.opened().len(), 1);
}
