//! Questions in words: `GIT_ASKPASS` and its like, through the whole program and with a real git;
//! rules A1 to A8.

use crate::lab::{Finished, Options, Person, Scheme};
use crate::scene::Scene;

/// git asks nobody but the program in `GIT_ASKPASS`.
fn scene(options: Options) -> Scene {
    let scene = Scene::with(Scheme::Basic, options);
    let link = scene.sandbox.link("askpass-valetkey");
    scene.sandbox.env("GIT_ASKPASS", link);
    scene.sandbox.git_config("[credential]\n\thelper =\n");
    scene
}

fn ask(scene: &Scene, prompt: &str) -> Finished {
    scene.sandbox.run("askpass-valetkey", &[prompt]).run()
}

#[test]
fn a_clone_and_a_push_without_a_helper() {
    let scene = scene(Options::default());
    let browser = scene.browser(Person::Approves);
    scene.clone_to("s").assert_status(0);
    assert_eq!(browser.opened().len(), 1);
    scene.nobody();
    scene.git_in("s", &["commit", "--quiet", "--allow-empty", "-m", "x"]).run().assert_success();
    scene.git_in("s", &["push", "--quiet"]).run().assert(0, "", "");
    assert_eq!(scene.authority.asked_for("refresh_token"), 0);
}

#[test]
fn a_token_that_is_about_to_end_is_renewed_between_two_questions_of_one_clone() {
    let scene = scene(Options { expires_in: Some(30), ..Options::default() });
    scene.sign_in();
    scene.age(20);
    scene.authority.expire_all_access();
    scene.authority.tune(|options| options.expires_in = Some(3600));
    scene.clone_to("s").assert(0, "", "");
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

#[test]
fn git_and_git_lfs_are_answered_in_one_line() {
    let scene = scene(Options::default());
    scene.sign_in();
    let origin = scene.host.origin();
    let host = origin.replace("http://", "");
    let token = scene.sandbox.valetkey(&["token", &origin]).run().assert_success();
    for (prompt, answer) in [
        (format!("Username for '{origin}': "), "oauth2\n"),
        (format!("Username for \"{origin}\""), "oauth2\n"),
        (format!("Password for 'http://oauth2@{host}': "), token.as_str()),
        (format!("Password for 'http://alice@{host}': "), &token),
        (format!("Password for \"http://oauth2@{host}/team/s.git\""), &token),
    ] {
        ask(&scene, &prompt).assert(0, answer, "");
    }
    let named = scene.sandbox.valetkey(&["askpass", &format!("Username for '{origin}': ")]).run();
    named.assert(0, "oauth2\n", "");
    // Nobody is there for another account.
    let missed = ask(&scene, &format!("Password for 'http://bob@{host}': "));
    missed.assert_status(1).assert_stdout("").assert_stderr_has("--account bob");
}

#[test]
fn other_questions_are_not_ours() {
    let scene = scene(Options::default());
    scene.sign_in();
    let host = scene.host.origin().replace("http://", "");
    for prompt in [
        "",
        "Enter passphrase for key '/home/me/.ssh/id_ed25519': ",
        "me@git.example's password: ",
        "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
        "Username for 'https://stranger.example': ",
        "Password for 'https://stranger.example': ",
        &format!("Password for 'http://user:secret@{host}': "),
        &format!("Password for 'http://{host}.evil.example': "),
        &format!("Password for 'http://{host}@evil.example': "),
        &format!("Password for 'http://{host}\n': "),
        &format!("Password for 'http://a%0ab@{host}': "),
        &format!("Token for 'http://{host}': "),
        &format!("Password for 'http://{host}' or 'http://evil.example': "),
    ] {
        ask(&scene, prompt).assert(1, "", "");
    }
    scene.sandbox.run("askpass-valetkey", &[]).run().assert(1, "", "");
    let two = [format!("Username for 'http://{host}': "), "x".to_owned()];
    let two: Vec<&str> = two.iter().map(String::as_str).collect();
    scene.sandbox.run("askpass-valetkey", &two).run().assert(1, "", "");
}

/// The same as for git's own helpers: GIT_TERMINAL_PROMPT=0 and CI mean that nobody is there.
#[test]
fn nobody_is_asked_where_git_says_so() {
    let scene = scene(Options::default());
    let browser = scene.browser(Person::Approves);
    scene.sandbox.remove_env("VALETKEY_INTERACTIVE");
    let hint = format!("hint: valetkey login {}", scene.host.origin());
    let refused = scene.clone_to("s");
    assert_ne!(refused.status, 0);
    refused.assert_stderr_has(&hint);
    let run = scene.git_clone("s").remove_env("GIT_TERMINAL_PROMPT").env("CI", "1");
    assert_ne!(run.run().assert_stderr_has(&hint).status, 0);
    assert!(browser.opened().is_empty());
}

#[test]
fn twenty_at_once_renew_once() {
    let scene = scene(Options { expires_in: Some(30), ..Options::default() });
    scene.sign_in();
    scene.age(20);
    scene.authority.tune(|options| options.expires_in = Some(3600));
    let prompt = scene.host.origin().replace("http://", "Password for 'http://oauth2@") + "': ";
    let all: Vec<_> =
        (0..20).map(|_| scene.sandbox.run("askpass-valetkey", &[&prompt]).start()).collect();
    let answers: Vec<String> = all.into_iter().map(|one| one.wait().assert_success()).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

#[test]
fn setup_makes_the_link_and_says_the_variable() {
    let scene = Scene::new();
    let own = scene.sandbox.link("valetkey");
    let setup = |more: &[&str]| {
        let words: Vec<&str> =
            ["setup", "askpass"].into_iter().chain(more.iter().copied()).collect();
        scene.sandbox.run(&own, &words).run()
    };
    let link = scene.sandbox.bin().join("askpass-valetkey");
    let said = format!("export GIT_ASKPASS={}", link.display());
    assert!(setup(&["--print"]).assert_success().ends_with(&format!("{said}\n")));
    assert!(!link.exists());
    setup(&[]).assert_status(0).assert_stderr_has(&said);
    assert_eq!(link.read_link().expect("a link"), own);
    setup(&[]).assert_status(0).assert_stderr_has("nothing to do");
    setup(&["--undo"]).assert_status(0).assert_stderr_has("unset GIT_ASKPASS");
    assert!(link.symlink_metadata().is_err());
    setup(&["--host", "x.example"]).assert_status(64);
}
