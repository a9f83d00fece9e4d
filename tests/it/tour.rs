//! The main job from end to end, in plain words: an empty home, a private git host, an
//! authorization server, and one sign-in that outlives an expired and a revoked token. Everything
//! is on loopback and in a throwaway directory; `scripts/tour` runs it.

#![allow(unreachable_pub, reason = "a program has no public face")]
#![allow(dead_code, reason = "the tour visits a part of the laboratory")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "the nevers are for src")]

mod lab;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use lab::{Authority, Browser, CLIENT_ID, Finished, GitHost, Person, Run, Sandbox, Scheme};

fn main() {
    let own = std::env::current_exe().expect("a path of its own");
    let program: PathBuf = own.ancestors().nth(2).expect("a directory above").join("valetkey");
    let authority = Arc::new(Authority::start());
    let judge = Arc::clone(&authority);
    let host = GitHost::start(Scheme::Basic, move |token| judge.token_is_live(token));
    host.create("team/project.git");
    let home = Sandbox::new(&program);
    home.env("VALETKEY_STORE", "file");
    step("an empty home, a git host that wants a token, and an authorization server");
    tell(&format!("git host              {}", host.origin()));
    tell(&format!("authorization server  {}", authority.issuer()));

    step("tell valetkey which server issues this host's tokens");
    let profile = format!(
        "[profile.tour]\norigins = [\"{}\"]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
         account = {{ url = \"{}\", id = \"/login\" }}\n",
        host.origin(),
        authority.issuer(),
        authority.url("/me"),
    );
    home.config(&profile);
    profile.lines().for_each(tell);

    step("make git ask valetkey");
    show(home.valetkey(&["setup", "git"]), "valetkey setup git");
    let browser = open_browser(&home);

    step("git clone: nothing is stored, so the browser opens once");
    let url = host.url("team/project.git");
    show(home.git(&["clone", "--quiet", &url, "project"]), &format!("git clone {url}"));
    assert_eq!(authority.asked_for("authorization_code"), 1, "one sign-in");
    match &browser {
        Some(browser) => {
            tell(&format!("the person approved; opened {} page", browser.opened().len()))
        }
        None => tell("you approved in your own browser"),
    }
    home.env("VALETKEY_INTERACTIVE", "never");
    let git = |arguments: &[&str]| home.git(arguments).cwd(home.work().join("project"));

    step("git push: the token comes from the vault, nobody is asked");
    git(&["commit", "--quiet", "--allow-empty", "-m", "a change"]).run().assert_success();
    show(git(&["push", "--quiet"]), "git push");
    tell(&format!("the host now has {}", &host.tip("team/project.git", "main")[..12]));

    step("the token expires; git fetch renews it silently");
    forget_freshness(&home);
    authority.expire_all_access();
    show(git(&["fetch", "--quiet"]), "git fetch");
    assert_eq!(authority.asked_for("refresh_token"), 1, "one renewal");
    tell("one refresh request, no question");

    step("somebody revokes the token; the same git fetch finds out and goes on");
    authority.expire_all_access();
    show(git(&["fetch", "--quiet"]), "git fetch");
    assert_eq!(authority.asked_for("refresh_token"), 2, "one more renewal");
    tell("the host said 401, valetkey renewed, git tried again: one command");

    step("what is stored");
    show(home.valetkey(&["list"]), "valetkey list");

    step("sign out: the server is told first");
    show(home.valetkey(&["logout", &host.origin()]), "valetkey logout");
    assert_eq!(authority.live_grants(), 0, "the grant is revoked");

    let opened = if browser.is_some() { "approved by the tour itself" } else { "approved by you" };
    println!("\nthat was it: one sign-in, {opened}, and git never noticed the rest");
}

/// A person at a desktop sees their own browser; otherwise the tour plays the person.
fn open_browser(home: &Sandbox) -> Option<Browser> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let screen = variable("DISPLAY").or_else(|| variable("WAYLAND_DISPLAY"));
    if screen.is_some() && variable("CI").is_none() && std::io::stdout().is_terminal() {
        for name in ["DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "BROWSER"] {
            if let Some(value) = variable(name) {
                home.env(name, value);
            }
        }
        home.remove_env("GIT_TERMINAL_PROMPT");
        return None;
    }
    home.env("VALETKEY_INTERACTIVE", "always");
    Some(Browser::start(home, Person::Approves))
}

/// Lets the stored expiry pass: the record's own field is set to a time long ago.
fn forget_freshness(home: &Sandbox) {
    for file in home.files() {
        let text = String::from_utf8_lossy(&file.content).into_owned();
        if let Some((before, after)) = text.split_once("\"expires_at\":") {
            let rest = after.trim_start_matches(|letter: char| letter.is_ascii_digit());
            let path = file.path.to_str().expect("a plain path");
            home.write(path, format!("{before}\"expires_at\":1{rest}").as_bytes(), 0o600);
        }
    }
}

fn step(text: &str) {
    println!("\n* {text}");
}

fn tell(text: &str) {
    println!("    {text}");
}

fn show(run: Run, command: &str) -> Finished {
    println!("    $ {command}");
    let finished = run.run();
    for line in finished.stdout_text().lines().chain(finished.stderr_text().lines()) {
        // The address of a sign-in is long, and good only once.
        let short: String = line.chars().take(100).collect();
        tell(&format!("  {short}"));
    }
    assert_eq!(finished.status, 0, "{command} ended with {finished}");
    finished
}
