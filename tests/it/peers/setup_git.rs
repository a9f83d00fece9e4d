//! `valetkey setup git` with a new git and an old one: what it writes, what it leaves alone, and
//! what it takes back. The files are compared byte by byte.

use std::path::PathBuf;
use std::process::Command;

use super::{OLD_GIT, Peer, here, with_old_git};
use crate::lab::{Finished, Sandbox};
use crate::scene::{Scene, program, value};

/// A home for each git that is here, with `valetkey` on the PATH.
fn sandboxes() -> Vec<Sandbox> {
    let sandbox = || {
        let sandbox = Sandbox::new(program());
        sandbox.link("valetkey");
        sandbox
    };
    let mut all = vec![sandbox()];
    if here(&[Peer::OldGit]) {
        let old = sandbox();
        with_old_git(&old);
        all.push(old);
    }
    all
}

fn helper(sandbox: &Sandbox) -> String {
    sandbox.bin().join("valetkey").to_str().expect("a plain path").to_owned()
}

fn configuration(sandbox: &Sandbox) -> String {
    std::fs::read_to_string(sandbox.home().join(".gitconfig")).expect("a git configuration")
}

fn write(sandbox: &Sandbox, text: &str) {
    sandbox.write("home/.gitconfig", text.as_bytes(), 0o644);
}

#[track_caller]
fn setup(sandbox: &Sandbox, options: &[&str]) -> Finished {
    let mut run = sandbox.valetkey(&["setup", "git"]);
    for option in options {
        run = run.arg(option);
    }
    let finished = run.run();
    finished.assert_status(0);
    finished
}

#[test]
fn it_adds_one_line_once_and_takes_it_back() {
    for sandbox in sandboxes() {
        let before = configuration(&sandbox);
        setup(&sandbox, &[]).assert_stdout("");
        let after = format!("{before}[credential]\n\thelper = {}\n", helper(&sandbox));
        assert_eq!(configuration(&sandbox), after);
        setup(&sandbox, &[]).assert_stdout("");
        assert_eq!(configuration(&sandbox), after);
        setup(&sandbox, &["--undo"]).assert_stdout("");
        assert_eq!(configuration(&sandbox), before);
        setup(&sandbox, &["--undo"]).assert_stdout("");
        assert_eq!(configuration(&sandbox), before);
    }
}

const OTHERS: &str = "# mine\n[credential]\n\thelper = store\n\thelper = \"!f() { echo x; }; f\"\n\
    [alias]\n\tco = checkout ; short\n[credential \"https://other.example\"]\n\thelper =\n\
    \thelper = manager\n";

#[test]
fn other_helpers_stay_where_they_are() {
    for sandbox in sandboxes() {
        write(&sandbox, OTHERS);
        setup(&sandbox, &[]);
        let line = format!("\thelper = {}\n", helper(&sandbox));
        let expected = OTHERS.replace("; f\"\n", &format!("; f\"\n{line}"));
        assert_eq!(configuration(&sandbox), expected);
        setup(&sandbox, &["--undo"]);
        assert_eq!(configuration(&sandbox), OTHERS);
    }
}

#[test]
fn replace_puts_an_empty_line_before_ours() {
    for sandbox in sandboxes() {
        write(&sandbox, OTHERS);
        setup(&sandbox, &["--replace"]);
        let lines = format!("\thelper = \n\thelper = {}\n", helper(&sandbox));
        let expected = OTHERS.replace("; f\"\n", &format!("; f\"\n{lines}"));
        assert_eq!(configuration(&sandbox), expected);
        setup(&sandbox, &["--replace"]);
        assert_eq!(configuration(&sandbox), expected);
        // It is there, and that is all that was asked for.
        setup(&sandbox, &[]);
        assert_eq!(configuration(&sandbox), expected);
        setup(&sandbox, &["--undo"]);
        assert_eq!(configuration(&sandbox), OTHERS);

        // From one of several to the only one.
        setup(&sandbox, &[]);
        setup(&sandbox, &["--replace"]);
        assert_eq!(configuration(&sandbox), expected);
    }
}

/// The empty line of somebody else has a meaning of its own.
#[test]
fn an_empty_line_that_was_there_stays() {
    for sandbox in sandboxes() {
        let before = "[credential]\n\thelper =\n\thelper = store\n";
        write(&sandbox, before);
        setup(&sandbox, &[]);
        setup(&sandbox, &["--undo"]);
        assert_eq!(configuration(&sandbox), before);

        setup(&sandbox, &["--replace"]);
        let all = || {
            let git = sandbox.git(&["config", "--global", "--get-all", "credential.helper"]);
            git.run().assert_success()
        };
        assert_eq!(all(), format!("\nstore\n\n{}\n", helper(&sandbox)));
        setup(&sandbox, &["--undo"]);
        assert_eq!(all(), "\nstore\n", "after it `store` must work again");
    }
}

#[test]
fn a_host_has_a_section_of_its_own() {
    for sandbox in sandboxes() {
        let before = configuration(&sandbox);
        let hosts = ["--host", "Git.Example", "--host", "https://b.example:8443/x"];
        setup(&sandbox, &hosts);
        let helper = helper(&sandbox);
        let expected = format!(
            "{before}[credential \"https://git.example\"]\n\thelper = {helper}\n\
             [credential \"https://b.example:8443\"]\n\thelper = {helper}\n"
        );
        assert_eq!(configuration(&sandbox), expected);
        let chosen = sandbox.git(&[
            "config",
            "--get-urlmatch",
            "credential.helper",
            "https://git.example/team/s.git",
        ]);
        assert_eq!(chosen.run().assert_success(), format!("{helper}\n"));
        setup(&sandbox, &["--host", "git.example", "--undo"]);
        setup(&sandbox, &["--host", "b.example:8443", "--undo"]);
        assert_eq!(configuration(&sandbox), before);
    }
}

#[test]
fn print_changes_nothing_and_what_it_prints_does_the_same() {
    for sandbox in sandboxes() {
        for (before, options) in [
            ("", vec!["--print"]),
            (OTHERS, vec!["--print", "--replace"]),
            (OTHERS, vec!["--print", "--host", "git.example"]),
        ] {
            write(&sandbox, before);
            let printed = setup(&sandbox, &options).stdout_text();
            assert_eq!(configuration(&sandbox), before);
            assert!(printed.lines().all(|line| line.starts_with("git config --global ")));
            sandbox.run("sh", &["-e"]).stdin(&printed).run().assert_success();
            let by_hand = configuration(&sandbox);
            write(&sandbox, before);
            setup(&sandbox, &options[1..]);
            assert_eq!(configuration(&sandbox), by_hand);
            assert_ne!(by_hand, before);
        }
    }
}

/// The program copied to where a shell would stumble.
fn at_an_odd_place(sandbox: &Sandbox) -> PathBuf {
    let directory = sandbox.root().join("odd dir's \"place\" $HOME `x` \\ #;");
    std::fs::create_dir(&directory).expect("a new directory");
    let copy = directory.join("valetkey");
    // A file that this process wrote itself could be busy when it is to run.
    let copied = Command::new("cp").arg(program()).arg(&copy).status();
    assert!(copied.is_ok_and(|status| status.success()));
    copy
}

#[test]
fn a_clone_works_from_the_configuration_that_it_wrote() {
    for git in ["git", OLD_GIT] {
        if git == OLD_GIT && !here(&[Peer::OldGit]) {
            continue;
        }
        let scene = Scene::new();
        let sandbox = &scene.sandbox;
        if git == OLD_GIT {
            with_old_git(sandbox);
        }
        std::fs::remove_file(sandbox.bin().join("git-credential-valetkey")).expect("a link");
        scene.sign_in();
        let odd = at_an_odd_place(sandbox);
        for own in [program(), &odd] {
            write(sandbox, "");
            assert_ne!(scene.clone_to("too-early").status, 0, "nothing is configured yet");
            sandbox.run(own, &["setup", "git"]).run().assert_status(0);
            let fill = sandbox.git(&["credential", "fill"]).stdin(scene.question()).run();
            let token = value(&fill, "password").unwrap_or_else(|| panic!("{fill}"));
            fill.assert_status(0);
            assert!(scene.authority.token_is_live(&token));
            scene.clone_to("s").assert(0, "", "");
            std::fs::remove_dir_all(sandbox.work().join("s")).expect("a clone");
            sandbox.run(own, &["setup", "git", "--undo"]).run().assert_status(0);
            assert_eq!(configuration(sandbox), "");
            // For one host, with the same words.
            let host = scene.host.origin();
            sandbox.run(own, &["setup", "git", "--host", &host]).run().assert_status(0);
            scene.clone_to("s").assert(0, "", "");
            std::fs::remove_dir_all(sandbox.work().join("s")).expect("a clone");
        }
    }
}
