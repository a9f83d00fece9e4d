//! A real browser: clicks through login and consent, and ends on our own page. The pictures of
//! our pages lie in target/screenshots afterwards, for people to look at.

use std::path::{Path, PathBuf};

use super::approver::Approver;
use super::provider::Scene;
use super::{Peer, heavy, here, peer};

const WELCOME: &str = include_str!("../../../src/oauth/code/welcome.html");
const SORRY: &str = include_str!("../../../src/oauth/code/sorry.html");

fn picture(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    std::fs::create_dir_all(&directory).expect("a directory in target");
    let path = directory.join(name);
    let _ = std::fs::remove_file(&path);
    path
}

fn with_chromium(scene: &Scene, arguments: &str, picture: &Path) -> Approver {
    let picture = format!("'{}'", picture.display());
    Approver::with(&scene.sandbox, &peer("chromium/approve.mjs"), arguments, &picture)
}

/// What a person reads on a page of ours.
fn text_of(page: &str) -> String {
    let (_, main) = page.split_once("<main>").expect("a page has a main part");
    let (main, _) = main.split_once("</main>").expect("which ends");
    let mut text = String::new();
    for part in main.split('<') {
        text.push_str(part.split_once('>').map_or(part, |(_, behind)| behind));
    }
    words(&text)
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn assert_is_a_picture(path: &Path) {
    let bytes = std::fs::read(path).expect("a picture");
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 2_000, "{}", path.display());
}

#[test]
fn a_browser_signs_in_and_ends_on_our_page() {
    if !here(&[Peer::OidcProvider, Peer::Chromium]) {
        return;
    }
    let _heavy = heavy();
    let scene = Scene::new(&[]);
    let picture = picture("welcome.png");
    let person = with_chromium(&scene, "", &picture);
    scene.person(true);
    scene.git_clone("s").run().assert_status(0).assert_stdout("");
    let end = person.ends(1).remove(0);
    assert_eq!(end["steps"], serde_json::json!(["login", "consent"]), "{end}");
    assert_eq!(end["status"], 200);
    assert_eq!(end["title"], "valetkey: signed in");
    assert_eq!(words(end["text"].as_str().expect("text")), text_of(WELCOME));
    let last = end["final"].as_str().expect("an address");
    assert!(last.ends_with("/done"), "the code stays out of the browser's history: {last}");
    assert_is_a_picture(&picture);
    scene.person(false);
    scene.fetch("s").run().assert(0, "", "");
}

#[test]
fn a_browser_that_says_no_ends_on_the_other_page() {
    if !here(&[Peer::OidcProvider, Peer::Chromium]) {
        return;
    }
    let _heavy = heavy();
    let scene = Scene::new(&[]);
    let picture = picture("sorry.png");
    let person = with_chromium(&scene, "--deny", &picture);
    scene.person(true);
    scene.valetkey("login").assert_status(3).assert_stdout("");
    let end = person.ends(1).remove(0);
    assert_eq!(end["title"], "valetkey: not signed in", "{end}");
    assert_eq!(words(end["text"].as_str().expect("text")), text_of(SORRY));
    assert_is_a_picture(&picture);
    assert_eq!(scene.provider.journal("/token").len(), 0);
}
