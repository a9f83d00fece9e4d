//! Several accounts of one host: which of them answers, how a person chooses, and that none takes
//! the place of another.

use serde_json::Value;

use crate::lab::Person;
use crate::scene::{Scene, value};

/// Alice is signed in.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.sign_in();
    scene
}

/// Signs in as somebody, with these arguments of `login`.
fn login(scene: &Scene, account: &str, more: &[&str]) -> crate::lab::Finished {
    scene.authority.sign_in_as(account);
    let _browser = scene.browser(Person::Approves);
    let origin = scene.host.origin();
    let finished = scene.sandbox.valetkey(&[&["login", &origin], more].concat()).run();
    scene.nobody();
    finished
}

/// Whose token `get` gives, with these lines in its question.
fn answers(scene: &Scene, more: &str) -> Option<String> {
    let question = format!("{}{more}", scene.question());
    let finished = scene.sandbox.valetkey(&["get"]).stdin(question).run();
    scene.authority.owner_of(&value(&finished, "password")?)
}

fn run(scene: &Scene, arguments: &[&str]) -> crate::lab::Finished {
    let origin = scene.host.origin();
    let arguments: Vec<_> =
        arguments.iter().map(|word| if *word == "URL" { &origin } else { *word }).collect();
    scene.sandbox.valetkey(&arguments).run()
}

/// Whom a person signs in answers from then on, and is told who stays; `use` goes back and forth.
#[test]
fn a_second_account_stands_beside_the_first_and_use_chooses() {
    let scene = scene();
    let second = login(&scene, "bob", &["--account", "bob"]);
    let back = format!("valetkey use {} --account alice", scene.host.origin());
    let told = format!("bob answers now; alice stays, and {back} brings it back");
    second.assert_status(0).assert_stderr_has(&told);
    assert_eq!(answers(&scene, "").as_deref(), Some("bob"));
    assert_eq!(answers(&scene, "username=alice\n").as_deref(), Some("alice"));
    run(&scene, &["use", "URL", "--account", "alice"]).assert_status(0).assert_stdout("");
    assert_eq!(answers(&scene, "").as_deref(), Some("alice"));
    assert_eq!(answers(&scene, "username=bob\n").as_deref(), Some("bob"));
    run(&scene, &["whoami", "URL"]).assert(0, "alice\n", "");
    run(&scene, &["whoami", "URL", "--account", "bob"]).assert(0, "bob\n", "");
    run(&scene, &["whoami", "URL", "--account", "carol"]).assert_status(2).assert_stdout("");
    run(&scene, &["use", "URL", "--account", "bob"]).assert_status(0);
    assert_eq!(answers(&scene, "").as_deref(), Some("bob"));
    // It lasts, whoever is renewed meanwhile.
    scene.age(7200);
    assert_eq!(answers(&scene, "username=alice\n").as_deref(), Some("alice"));
    assert_eq!(answers(&scene, "").as_deref(), Some("bob"));
    assert_eq!(scene.authority.live_grants(), 2);
}

/// Who is named at a sign-in answers from then on, also where there is nothing left to sign in to.
#[test]
fn who_is_named_and_signed_in_already_is_chosen() {
    let scene = scene();
    login(&scene, "bob", &["--account", "bob"]).assert_status(0);
    run(&scene, &["login", "URL", "--account", "alice"])
        .assert_status(0)
        .assert_stderr_has("already signed in");
    assert_eq!(answers(&scene, "").as_deref(), Some("alice"));
    run(&scene, &["login", "URL"]).assert_status(0).assert_stderr_has("already signed in");
    assert_eq!(answers(&scene, "").as_deref(), Some("alice"));
    assert_eq!(scene.authority.asked_for("authorization_code"), 2);
}

/// The choice is kept with the account: no file more, so no request looks for one.
#[test]
fn a_choice_costs_no_file() {
    let scene = scene();
    login(&scene, "bob", &["--account", "bob"]).assert_status(0);
    let names = || {
        let files = scene.sandbox.files();
        files.into_iter().map(|file| file.path).collect::<Vec<_>>()
    };
    let before = names();
    run(&scene, &["use", "URL", "--account", "alice"]).assert_status(0);
    assert_eq!(names(), before);
}

#[test]
fn who_is_not_there_cannot_be_chosen() {
    let scene = scene();
    let missing = run(&scene, &["use", "URL", "--account", "bob smith"]);
    let origin = scene.host.origin();
    let text = format!(
        "error: bob smith is not signed in to {origin}\n\
         hint: valetkey login {origin} --account 'bob smith'\n"
    );
    missing.assert(2, "", &text);
    run(&scene, &["use", "URL", "--account", "alice", "--token"]).assert_status(2);
    run(&scene, &["use", "URL"]).assert_status(64);
    run(&scene, &["use", "https://nowhere.example", "--account", "x"]).assert_status(2);
}

/// A sign-in for a request that names an account is for that request: alice still answers for the
/// others, and bob is told so.
#[test]
fn a_sign_in_for_a_name_leaves_the_others_alone() {
    let scene = scene();
    scene.authority.sign_in_as("bob");
    let _browser = scene.browser(Person::Approves);
    let question = format!("{}username=bob\n", scene.question());
    let finished = scene.sandbox.valetkey(&["get"]).stdin(question).run();
    let token = value(&finished, "password").expect("a token");
    assert_eq!(scene.authority.owner_of(&token).as_deref(), Some("bob"));
    finished.assert_stderr_has("alice still answers where bob is not named");
    scene.nobody();
    assert_eq!(answers(&scene, "").as_deref(), Some("alice"));
    // With alice gone, bob is the only one.
    run(&scene, &["logout", "URL", "--account", "alice"]).assert_status(0);
    assert_eq!(answers(&scene, "").as_deref(), Some("bob"));
}

/// Section 3.4 of oauth.md, (a): a browser that is signed in as somebody else does not put that
/// one's tokens where alice is kept; the tokens that nobody keeps are revoked.
#[test]
fn nobody_is_put_in_the_place_of_another() {
    let scene = scene();
    let before = scene.session_file().content;
    let refused = login(&scene, "mallory", &["--account", "alice", "--force"]);
    refused.assert_status(3).assert_stdout("");
    refused.assert_stderr_has("error: mallory signed in where alice is kept; nothing was changed");
    assert_eq!(scene.session_file().content, before);
    assert_eq!(scene.authority.live_grants(), 1, "mallory's grant is revoked");
    assert_eq!(answers(&scene, "").as_deref(), Some("alice"));
    // A name that the person made up stays that person's, once they have said yes to it.
    as_work(&scene, "yes").assert_status(0);
    login(&scene, "bob", &["--account", "work", "--force"]).assert_status(0);
    login(&scene, "mallory", &["--account", "work", "--force"]).assert_status(3);
    run(&scene, &["whoami", "URL", "--account", "work"]).assert(0, "work (bob)\n", "");
}

/// `login --account work` in a terminal, where bob signs in and types this.
fn as_work(scene: &Scene, typed: &str) -> crate::lab::Finished {
    scene.authority.sign_in_as("bob");
    let _browser = scene.browser(Person::Approves);
    let origin = scene.host.origin();
    let started =
        scene.sandbox.valetkey(&["login", &origin, "--account", "work"]).terminal().start();
    started.terminal_expect("asked for work, but bob signed in; it is kept as work: type yes");
    started.terminal_type(&format!("{typed}\n"));
    let finished = started.wait();
    scene.nobody();
    finished
}

/// Whose tokens they are is not for whoever sits in the browser to say: the person who named an
/// account is asked, and where nobody can be asked nothing is kept.
#[test]
fn another_than_the_one_who_was_named_is_kept_only_with_a_yes() {
    let scene = Scene::new();
    let origin = scene.host.origin();
    let refused = login(&scene, "mallory", &["--account", "bob"]);
    let what = "error: asked for bob, but mallory signed in; nothing was kept\n";
    refused.assert_status(3).assert_stdout("").assert_stderr_has(what);
    refused.assert_stderr_has(&format!("valetkey login {origin} --account mallory\n"));
    as_work(&scene, "no").assert_status(3);
    as_work(&scene, "").assert_status(3);
    assert_eq!(scene.authority.live_grants(), 0, "what nobody keeps is revoked");
    scene.sandbox.valetkey(&["list", "--json"]).run().assert(0, "[]\n", "");
    // The way out that the hint names.
    login(&scene, "mallory", &["--account", "mallory"]).assert_status(0);
    run(&scene, &["logout", "URL"]).assert_status(0);
    // Both names stand wherever the account is named from then on.
    as_work(&scene, "yes").assert_status(0).assert_terminal_has("as work (bob); kept in");
    for (command, text) in [
        (&["list"][..], "work (bob), signed in"),
        (&["status", "URL"], "work (bob), signed in"),
        (&["status"], "work (bob), signed in"),
        (&["whoami", "URL"], "work (bob)"),
        (&["list", "--json"], "\"provider_account\":\"bob\""),
    ] {
        let shown = run(&scene, command).assert_success();
        assert!(shown.contains(text), "{command:?}: {shown}");
    }
    login(&scene, "bob", &["--account", "work"]).assert_stderr_has("as work (bob)");
    run(&scene, &["use", "URL", "--account", "work"]).assert_stderr_has("work (bob) answers");
    run(&scene, &["logout", "URL"]).assert_stderr_has("signed out work (bob) at lab");
}

/// Nor is it in the call of a tool, which has no terminal.
#[test]
fn a_tool_that_names_an_account_gets_no_other() {
    let scene = Scene::new();
    scene.authority.sign_in_as("mallory");
    let _browser = scene.browser(Person::Approves);
    let host = scene.host.origin().replace("http://", "");
    let question = format!("protocol=http\nhost={host}\nusername=carol\n");
    let refused = scene.sandbox.valetkey(&["get"]).stdin(question).run();
    refused.assert_status(3).assert_stdout("");
    refused.assert_stderr_has("asked for carol, but mallory signed in; nothing was kept");
    assert_eq!(scene.authority.live_grants(), 0);
}

/// S17, S129: `--force` is how a person changes the account that answers.
#[test]
fn a_forced_sign_in_as_another_answers_from_then_on() {
    let scene = scene();
    login(&scene, "bob", &["--force"]).assert_status(0).assert_stderr_has("alice stays");
    assert_eq!(answers(&scene, "").as_deref(), Some("bob"));
    assert_eq!(answers(&scene, "username=alice\n").as_deref(), Some("alice"));
}

/// Rules by path: the longest whole segments win, a name in the request comes before them, and
/// `status` says why. git sends the path where it is told to.
#[test]
fn a_path_belongs_to_an_account() {
    let scene = scene();
    login(&scene, "bob", &["--account", "bob"]).assert_status(0);
    scene
        .profile("paths = { \"team\" = \"alice\", \"/team/bobs/\" = \"bob\", \"x\" = \"nobody\" }");
    for (path, expected) in [
        ("team/s.git", Some("alice")),
        ("team", Some("alice")),
        ("team/bobs/s.git", Some("bob")),
        ("team/bobs2/s.git", Some("alice")),
        ("teams/s.git", Some("bob")),
        ("x/y", None),
    ] {
        assert_eq!(answers(&scene, &format!("path={path}\n")).as_deref(), expected, "{path}");
    }
    assert_eq!(answers(&scene, "path=team/s.git\nusername=bob\n").as_deref(), Some("bob"));
    let origin = scene.host.origin();
    let because = |url: &str| {
        let status = scene.sandbox.valetkey(&["status", "--json", url]).run().assert_success();
        let status: Value = serde_json::from_str(&status).expect("JSON");
        let answer = status["answer"]["account"].as_str().map(str::to_owned);
        (answer.expect("an account"), status["because"].as_str().map(str::to_owned))
    };
    let alice = |why: &str| ("alice".to_owned(), Some(why.to_owned()));
    assert_eq!(because(&format!("{origin}/team/s.git")), alice("its path belongs to it"));
    let named = origin.replace("http://", "http://alice@");
    assert_eq!(because(&named), alice("the URL names it"));
    assert_eq!(because(&origin), ("bob".to_owned(), Some("it was chosen last".to_owned())));

    scene.sandbox.git_config("[credential]\n\tuseHttpPath = true\n");
    scene.clone_to("s").assert_success();
    let used = scene.host.authorizations().into_iter().flatten().next_back().expect("a header");
    let token = value(&run(&scene, &["header", &named]), "").unwrap_or_default();
    let header = run(&scene, &["header", &named]).assert_success();
    assert_eq!(header.trim_end(), format!("Authorization: {used}"), "{token}");
    // The hint names whom it is for.
    let missing = run(&scene, &["token", &format!("{origin}/x/y")]);
    missing.assert_status(2).assert_stderr_has("hint: valetkey login");
    missing.assert_stderr_has("--account nobody");
}

/// What one account's tool stores or rejects is nothing to the others.
#[test]
fn store_and_erase_touch_the_account_that_they_name() {
    let scene = scene();
    login(&scene, "bob", &["--account", "bob"]).assert_status(0);
    let question = scene.question();
    let token = |name: &str| {
        let question = format!("{question}username={name}\n");
        let finished = scene.sandbox.valetkey(&["get"]).stdin(question).run();
        value(&finished, "password").expect("a token")
    };
    let (alice, bob) = (token("alice"), token("bob"));
    let tell = |verb: &str, name: &str, secret: &str| {
        let entry = format!("{question}username={name}\npassword={secret}\n");
        scene.sandbox.valetkey(&[verb]).stdin(entry).run().assert(0, "", "");
    };
    // Another one's token under alice's name: nothing of alice's, and nothing of bob's.
    tell("erase", "alice", &bob);
    assert_eq!((token("alice"), token("bob")), (alice.clone(), bob.clone()));
    tell("erase", "alice", &alice);
    assert_ne!(token("alice"), alice);
    assert_eq!(token("bob"), bob);
    tell("store", "carol", "carols-own");
    assert_eq!(token("carol"), "carols-own");
    assert_eq!(token("bob"), bob);
}

/// docker, keyring and goauth list one user name for an origin: of the account that answers.
#[test]
fn a_list_names_the_account_that_answers() {
    let scene = scene();
    login(&scene, "bob", &["--account", "bob"]).assert_status(0);
    scene.registry("username = \"{account}\"");
    let listed = || {
        let listed = run(&scene, &["docker", "list"]).assert_success();
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        listed.as_object().expect("an object").values().next().cloned()
    };
    assert_eq!(listed(), Some("bob".into()));
    run(&scene, &["use", "URL", "--account", "alice"]).assert_status(0);
    assert_eq!(listed(), Some("alice".into()));
}

/// A rule that means nothing is an error of the configuration.
#[test]
fn a_rule_for_no_path_or_no_account_is_refused() {
    let scene = Scene::new();
    for (rule, what) in [
        ("\"/\" = \"alice\"", "paths has a rule for no path"),
        ("\"team\" = \"\"", "paths names no account for team"),
    ] {
        scene.profile(&format!("paths = {{ {rule} }}"));
        run(&scene, &["list"]).assert_status(78).assert_stderr_has(what);
    }
}

/// What a tool stored for several users of a host without a profile: the last one, until `use`.
#[test]
fn stored_credentials_are_chosen_in_the_same_way() {
    let scene = Scene::new();
    for name in ["alice", "bob"] {
        let entry = format!("protocol=https\nhost=x.example\nusername={name}\npassword={name}s\n");
        scene.sandbox.valetkey(&["store"]).stdin(entry).run().assert(0, "", "");
    }
    let answer = || run(&scene, &["token", "https://x.example"]).assert_success();
    for name in ["alice", "bob", "alice"] {
        run(&scene, &["use", "https://x.example", "--account", name]).assert_status(0);
        assert_eq!(answer(), format!("{name}s\n"));
    }
    let field = ["use", "https://x.example", "--set", "tenant=x"];
    run(&scene, &field).assert_status(78);
}

/// A choice cannot change what the configuration says about a path, and that is told.
#[test]
fn a_choice_for_a_path_with_an_owner_is_told_what_it_changes() {
    let scene = scene();
    login(&scene, "bob", &["--account", "bob"]).assert_status(0);
    scene.profile("paths = { \"team\" = \"alice\" }");
    let url = format!("{}/team/s.git", scene.host.origin());
    let chosen = run(&scene, &["use", &url, "--account", "bob"]);
    chosen.assert_status(0).assert_stderr_has(&format!("warning: {url} stays alice's"));
    assert_eq!(answers(&scene, "path=team/s.git\n").as_deref(), Some("alice"));
}

/// go gives the header of a prefix to everything below it, so a path of another account gets a set
/// of its own (GO5, GO7).
#[test]
fn go_hears_of_each_account_apart() {
    let scene = scene();
    login(&scene, "bob", &["--account", "bob"]).assert_status(0);
    let config = scene.sandbox.root().join("config/valetkey/config.toml");
    let text = std::fs::read_to_string(config).expect("it is there");
    let text = text.replace(&scene.host.origin(), "https://go.lab.example");
    scene.sandbox.config(&format!("{text}paths = {{ \"team\" = \"alice\" }}\n"));
    let sets = run(&scene, &["goauth"]).assert_success();
    let owner = |prefix: &str| {
        let rest = sets.split(&format!("{prefix}\n\n")).nth(1).expect("a set");
        let header = rest.lines().next().expect("a header");
        let pair = header.strip_prefix("Authorization: Basic ").expect("Basic");
        let pair = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, pair);
        let pair = String::from_utf8(pair.expect("base64")).expect("text");
        scene.authority.owner_of(pair.split_once(':').expect("a pair").1)
    };
    assert_eq!(owner("https://go.lab.example").as_deref(), Some("bob"));
    assert_eq!(owner("https://go.lab.example/team").as_deref(), Some("alice"));
}
