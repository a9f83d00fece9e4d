//! `valetkey setup` for cargo and terraform: what it writes, what it leaves alone, and what it
//! takes back. The files are compared byte by byte. That the tools then ask us is shown in
//! `peers::cargo`, `peers::kubectl` and `peers::terraform`.

use std::path::PathBuf;

use crate::lab::{Finished, Sandbox};
use crate::scene::program;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new(program());
    sandbox.env("VALETKEY_STORE", "file");
    sandbox.link("valetkey");
    sandbox
}

fn setup(sandbox: &Sandbox, words: &[&str]) -> Finished {
    words.iter().fold(sandbox.valetkey(&["setup"]), |run, word| run.arg(word)).run()
}

fn text(path: &PathBuf) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Writes each text in turn, sets up and takes back; `changed` is what stands there in between.
#[track_caller]
fn there_and_back(sandbox: &Sandbox, words: &[&str], path: &str, before: &str, changed: &str) {
    let file = sandbox.write(path, before.as_bytes(), 0o640);
    setup(sandbox, words).assert_status(0).assert_stdout("");
    assert_eq!(text(&file).as_deref(), Some(changed), "set up over {before:?}");
    setup(sandbox, words).assert_status(0).assert_stdout("");
    assert_eq!(text(&file).as_deref(), Some(changed), "set up twice over {before:?}");
    let undo: Vec<&str> = words.iter().copied().chain(["--undo"]).collect();
    setup(sandbox, &undo).assert_status(0).assert_stdout("");
    let after = text(&file).unwrap_or_default();
    assert_eq!(after, before, "taken back");
}

#[test]
fn cargo_gets_a_link_and_one_more_provider() {
    let sandbox = sandbox();
    let link = sandbox.bin().join("cargo-credential-valetkey");
    let config = sandbox.home().join(".cargo/config.toml");
    let written = "[registry]\n\
                   global-credential-providers = [\"cargo:token\", \"cargo-credential-valetkey\"]\n";
    let printed = setup(&sandbox, &["cargo", "--print"]);
    printed.assert_status(0);
    assert!(printed.stdout_text().ends_with(&format!("# {}\n{written}", config.display())));
    assert!(!link.exists() && !config.exists());
    setup(&sandbox, &["cargo"]).assert_status(0).assert_stdout("");
    assert_eq!(text(&config).as_deref(), Some(written));
    assert!(link.is_symlink());
    setup(&sandbox, &["cargo"]).assert_status(0).assert_stderr_has("nothing to do");
    setup(&sandbox, &["cargo", "--undo"]).assert_status(0).assert_stdout("");
    assert!(!config.exists() && !link.exists());
    setup(&sandbox, &["cargo", "--undo"]).assert_status(0).assert_stderr_has("nothing to undo");
}

#[test]
fn cargos_configuration_keeps_what_it_had() {
    let sandbox = sandbox();
    let path = "home/.cargo/config.toml";
    for (before, changed) in [
        (
            "# mine\n[net]\nretry = 3 # often\n",
            "# mine\n[net]\nretry = 3 # often\n\n[registry]\nglobal-credential-providers = \
             [\"cargo:token\", \"cargo-credential-valetkey\"]\n",
        ),
        (
            "[registry]\ndefault = \"x\"\nglobal-credential-providers = [\"other --flag\"] # x\n\
             [build]\n",
            "[registry]\ndefault = \"x\"\nglobal-credential-providers = [\"other --flag\", \
             \"cargo-credential-valetkey\"] # x\n[build]\n",
        ),
        (
            "registry = { default = \"x\" }\n",
            "registry = { default = \"x\" , global-credential-providers = [\"cargo:token\", \
             \"cargo-credential-valetkey\"]}\n",
        ),
    ] {
        let file = sandbox.write(path, before.as_bytes(), 0o640);
        setup(&sandbox, &["cargo"]).assert_status(0).assert_stdout("");
        let after = text(&file).expect("a file");
        let same = |text: &str| text.parse::<toml_edit::DocumentMut>().expect("TOML").to_string();
        assert_eq!(same(&after).replace(' ', ""), same(changed).replace(' ', ""));
        setup(&sandbox, &["cargo"]).assert_status(0).assert_stderr_has("nothing to do");
        setup(&sandbox, &["cargo", "--undo"]).assert_status(0);
        assert_eq!(
            text(&file).expect("a file").trim_end().replace(' ', ""),
            before.trim_end().replace(' ', "")
        );
    }
    // Providers that somebody chose for good stay, also where we were never among them.
    let own = "[registry]\nglobal-credential-providers = [\"cargo:token\"]\n";
    let file = sandbox.write(path, own.as_bytes(), 0o644);
    setup(&sandbox, &["cargo", "--undo"]).assert_status(0);
    assert_eq!(text(&file).as_deref(), Some(own));
}

#[test]
fn one_registry_of_cargo_can_be_chosen_by_its_host() {
    let sandbox = sandbox();
    let path = "home/.cargo/config.toml";
    let before = "[registries.acme]\nindex = \"sparse+https://crates.acme.example/index/\"\n\n\
                  [registries.other]\nindex = \"https://other.example/index\"\n\
                  credential-provider = [\"other\"]\n";
    let changed = before
        .replace("index/\"\n", "index/\"\ncredential-provider = \"cargo-credential-valetkey\"\n");
    there_and_back(&sandbox, &["cargo", "--host", "crates.acme.example"], path, before, &changed);
    let file = sandbox.write(path, before.as_bytes(), 0o644);
    let told = setup(&sandbox, &["cargo", "--host", "https://crates.acme.example/index"]);
    told.assert_status(0)
        .assert_stderr_has("{ url = \"https://crates.acme.example/index\", scheme = \"bearer\" }");
    assert_eq!(text(&file).as_deref(), Some(changed.as_str()));
    let taken = setup(&sandbox, &["cargo", "--host", "other.example"]);
    taken.assert_status(1).assert_stderr_has("hint: --replace puts valetkey in its place");
    let nowhere = setup(&sandbox, &["cargo", "--host", "nowhere.example"]);
    nowhere.assert_status(1).assert_stderr_has("has its index at nowhere.example");
    assert_eq!(text(&file).as_deref(), Some(changed.as_str()));
    setup(&sandbox, &["cargo", "--host", "other.example", "--replace"]).assert_status(0);
    assert!(!text(&file).expect("a file").contains("[\"other\"]"));
    // Everything that is ours goes at once; the link stays as long as one registry needs it.
    setup(&sandbox, &["cargo", "--undo", "--host", "other.example"]).assert_status(0);
    assert!(sandbox.bin().join("cargo-credential-valetkey").exists());
    setup(&sandbox, &["cargo", "--undo"]).assert_status(0);
    assert!(!sandbox.bin().join("cargo-credential-valetkey").exists());
    assert!(!text(&file).expect("a file").contains("valetkey"));
    setup(&sandbox, &["cargo", "--host", "crates.io"]).assert_status(0);
    assert!(
        text(&file)
            .expect("a file")
            .ends_with("\n[registry]\ncredential-provider = \"cargo-credential-valetkey\"\n")
    );
}

#[test]
fn what_cargo_could_not_use_is_refused() {
    let sandbox = sandbox();
    let path = "home/.cargo/config.toml";
    for (content, why) in [
        ("[registry\n", "is not TOML"),
        ("registry = 1\n", "registry of cargo's config is no table"),
        ("[registry]\nglobal-credential-providers = \"x\"\n", "is no list"),
    ] {
        let file = sandbox.write(path, content.as_bytes(), 0o644);
        setup(&sandbox, &["cargo"]).assert_status(1).assert_stdout("").assert_stderr_has(why);
        assert_eq!(text(&file).as_deref(), Some(content));
    }
    assert!(!sandbox.bin().join("cargo-credential-valetkey").exists());
}

const BLOCK: &str = "credentials_helper \"valetkey\" {\n  args = []\n}\n";

#[test]
fn terraform_gets_a_link_where_it_looks_and_a_block() {
    let sandbox = sandbox();
    let link = sandbox.home().join(".terraform.d/plugins/terraform-credentials-valetkey");
    let config = sandbox.home().join(".terraformrc");
    let printed = setup(&sandbox, &["terraform", "--print"]);
    printed.assert_status(0);
    assert!(printed.stdout_text().ends_with(&format!("# {}\n{BLOCK}", config.display())));
    assert!(!link.exists() && !config.exists());
    setup(&sandbox, &["terraform"]).assert_status(0).assert_stdout("");
    assert_eq!(text(&config).as_deref(), Some(BLOCK));
    sandbox.run(&link, &["get", "nowhere.example"]).run().assert(0, "{}\n", "");
    setup(&sandbox, &["terraform"]).assert_status(0).assert_stderr_has("nothing to do");
    // The program has moved since.
    std::fs::remove_file(&link).expect("it is there");
    std::os::unix::fs::symlink("/gone/valetkey", &link).expect("a new link");
    setup(&sandbox, &["terraform"]).assert_status(0).assert_stdout("");
    assert!(link.exists());
    setup(&sandbox, &["terraform", "--undo"]).assert_status(0).assert_stdout("");
    assert!(!link.exists() && !config.exists());
    let hosts = setup(&sandbox, &["terraform", "--host", "tf.example"]);
    hosts.assert_status(64).assert_stderr_has("--host means nothing to it");
}

#[test]
fn terraforms_configuration_keeps_what_it_had() {
    let sandbox = sandbox();
    let before = "# credentials_helper \"x\" {}\nplugin_cache_dir = \"$HOME/a{b\"\n";
    let words = ["terraform"];
    there_and_back(&sandbox, &words, "home/.terraformrc", before, &format!("{before}{BLOCK}"));
    sandbox.write("home/.tofurc", b"disable_checkpoint = true\n", 0o644);
    setup(&sandbox, &words).assert_status(0);
    let tofu = text(&sandbox.home().join(".tofurc")).expect("a file");
    assert_eq!(tofu, format!("disable_checkpoint = true\n{BLOCK}"));
    setup(&sandbox, &["terraform", "--undo"]).assert_status(0);
    // Another place, as CI systems like it.
    let elsewhere = sandbox.write("work/terraform.rc", b"", 0o644);
    sandbox.env("TF_CLI_CONFIG_FILE", &elsewhere);
    setup(&sandbox, &words).assert_status(0);
    assert_eq!(text(&elsewhere).as_deref(), Some(BLOCK));
}

#[test]
fn what_terraform_could_not_use_is_refused() {
    let sandbox = sandbox();
    for (content, why) in [
        ("{\"plugin_cache_dir\": \"x\"}\n", "cannot be understood"),
        ("a = <<EOF\nx\nEOF\n", "cannot be understood"),
    ] {
        let file = sandbox.write("home/.terraformrc", content.as_bytes(), 0o644);
        let finished = setup(&sandbox, &["terraform"]);
        finished.assert_status(1).assert_stdout("").assert_stderr_has(why);
        finished.assert_stderr_has("hint: change it by hand: credentials_helper \"valetkey\" {");
        assert_eq!(text(&file).as_deref(), Some(content));
    }
    let other = "credentials_helper \"other\" {\n}\n# end\n";
    let file = sandbox.write("home/.terraformrc", other.as_bytes(), 0o644);
    let refused = setup(&sandbox, &["terraform"]);
    refused.assert_status(1).assert_stderr_has("names the helper other, and can name only one");
    refused.assert_stderr_has("hint: --replace puts valetkey in its place");
    assert_eq!(text(&file).as_deref(), Some(other));
    assert!(!sandbox.home().join(".terraform.d").exists());
}
