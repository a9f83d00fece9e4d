//! The token helper of Vault and OpenBao, byte for byte, through the whole program; rules VT1 to
//! VT8.

use crate::lab::{Finished, Person, Run};
use crate::scene::Scene;

fn scene() -> Scene {
    let scene = Scene::new();
    scene.sandbox.link("vault-token-valetkey");
    scene.nobody();
    scene
}

fn helper(scene: &Scene, verb: &str) -> Run {
    // As vault does it: through a shell.
    let line = format!("{} {verb}", scene.sandbox.bin().join("vault-token-valetkey").display());
    scene.sandbox.run("sh", &["-c", &line])
}

fn store(scene: &Scene, address: &str, token: impl AsRef<[u8]>) -> Finished {
    helper(scene, "store").env("VAULT_ADDR", address).stdin(token).run()
}

fn get(scene: &Scene, address: &str) -> Finished {
    helper(scene, "get").env("VAULT_ADDR", address).run()
}

#[test]
fn a_token_is_kept_for_each_address_and_comes_back_as_it_is() {
    let scene = scene();
    helper(&scene, "get").run().assert(0, "", "");
    helper(&scene, "erase").run().assert(0, "", "");
    helper(&scene, "store").stdin("hvs.default").run().assert(0, "", "");
    store(&scene, "https://vault.example:8200", "hvs.one\n").assert(0, "", "");
    store(&scene, "https://vault.example:8201/", "hvs.two").assert(0, "", "");
    helper(&scene, "get").run().assert(0, "hvs.default", "");
    get(&scene, "https://127.0.0.1:8200").assert(0, "hvs.default", "");
    get(&scene, "https://vault.example:8200").assert(0, "hvs.one", "");
    get(&scene, "https://Vault.example:8200/some/path/").assert(0, "hvs.one", "");
    get(&scene, "https://vault.example:8201").assert(0, "hvs.two", "");
    get(&scene, "http://vault.example:8200").assert(0, "", "");
    get(&scene, "https://vault.example").assert(0, "", "");
    store(&scene, "https://vault.example:8200", "hvs.new").assert(0, "", "");
    get(&scene, "https://vault.example:8200").assert(0, "hvs.new", "");
    let erase = helper(&scene, "erase").env("VAULT_ADDR", "https://vault.example:8200");
    erase.run().assert(0, "", "");
    get(&scene, "https://vault.example:8200").assert(0, "", "");
    get(&scene, "https://vault.example:8201").assert(0, "hvs.two", "");
    let named = scene.sandbox.valetkey(&["vault", "get"]).run();
    named.assert(0, "hvs.default", "");
}

#[test]
fn a_configured_address_answers_from_its_session_and_never_asks() {
    let scene = scene();
    let browser = scene.browser(Person::Approves);
    scene.bind(&["https://vault.example"], "");
    let missed = get(&scene, "https://vault.example");
    // Vault's own sign-in begins like this, and would end with any other status.
    missed.assert_status(0).assert_stdout("");
    missed.assert_stderr_has("hint: valetkey login https://vault.example");
    assert!(browser.opened().is_empty());
    scene.authority.tune(|options| options.expires_in = Some(30));
    scene.sandbox.valetkey(&["login", "https://vault.example"]).run().assert_status(0);
    scene.age(20);
    scene.authority.tune(|options| options.expires_in = Some(3600));
    let all: Vec<_> = (0..20)
        .map(|_| helper(&scene, "get").env("VAULT_ADDR", "https://vault.example").start())
        .collect();
    let tokens: Vec<String> = all.into_iter().map(|one| one.wait().assert_success()).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0] && !token.contains('\n')), "{tokens:?}");
    assert!(scene.authority.token_is_live(&tokens[0]));
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let scene = scene();
    for token in [&b""[..], b"\n", b" ", b"a\nb", b"a\0b", b"\xff", &[b'a'; (1 << 20) + 1]] {
        let refused = store(&scene, "https://vault.example", token);
        refused.assert_status(64).assert_stdout("").assert_stderr_has("error: there is no token");
    }
    get(&scene, "https://vault.example").assert(0, "", "");
    for address in ["unix:///run/vault.sock", "vault.example", "https://", "https://u:p@v.example"]
    {
        for finished in [store(&scene, address, "hvs.x"), get(&scene, address)] {
            finished.assert_status(64).assert_stdout("").assert_stderr_has("VAULT_ADDR");
        }
    }
    for verb in ["", "list", "get x"] {
        assert_ne!(helper(&scene, verb).run().assert_stdout("").status, 0, "{verb}");
    }
}

#[test]
fn setup_writes_one_line_and_keeps_the_others() {
    let scene = Scene::new();
    let own = scene.sandbox.link("valetkey");
    let setup = |own: &std::path::Path, more: &[&str]| {
        let words: Vec<&str> = ["setup", "vault"].into_iter().chain(more.iter().copied()).collect();
        scene.sandbox.run(own, &words).run()
    };
    let path = scene.sandbox.home().join(".vault");
    let text = || std::fs::read_to_string(&path).unwrap_or_default();
    let link = scene.sandbox.bin().join("vault-token-valetkey");
    let line = format!("token_helper = \"{}\"\n", link.display());
    assert!(setup(&own, &["--print"]).assert_success().contains(&line));
    assert!(text().is_empty() && !link.exists());
    std::fs::write(&path, "# mine\n").expect("a home");
    setup(&own, &[]).assert_status(0);
    assert_eq!(text(), format!("# mine\n{line}"));
    assert_eq!(link.read_link().expect("a link"), own);
    setup(&own, &[]).assert_status(0).assert_stderr_has("nothing to do");
    setup(&own, &["--undo"]).assert_status(0);
    assert_eq!(text(), "# mine\n");
    assert!(link.symlink_metadata().is_err());
    std::fs::write(&path, "token_helper=\"/opt/other\" # theirs\n").expect("a home");
    setup(&own, &[]).assert_status(1).assert_stderr_has("another line: token_helper");
    setup(&own, &["--undo"]).assert_status(0);
    assert_eq!(text(), "token_helper=\"/opt/other\" # theirs\n");
    setup(&own, &["--replace"]).assert_status(0);
    assert_eq!(text(), line);
    setup(&own, &["--host", "x.example"]).assert_status(64);
    let elsewhere = scene.sandbox.root().join("elsewhere");
    scene.sandbox.env("VAULT_CONFIG_PATH", &elsewhere);
    setup(&own, &[]).assert_status(0);
    assert_eq!(std::fs::read_to_string(&elsewhere).expect("it is there"), line);
    // Vault runs it through a shell.
    let spaced = scene.sandbox.root().join("a b");
    std::fs::create_dir(&spaced).expect("a directory");
    std::os::unix::fs::symlink(&own, spaced.join("valetkey")).expect("a link");
    scene.sandbox.env("PATH", format!("{}:/usr/bin:/bin", spaced.display()));
    let refused = setup(&spaced.join("valetkey"), &[]);
    refused.assert_status(1).assert_stderr_has("take").assert_stderr_has("hint: ");
    assert!(!spaced.join("vault-token-valetkey").exists());
}
