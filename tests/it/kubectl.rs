//! client-go's exec credential plugin, byte by byte through the whole program.

use serde_json::{Value, json};

use crate::lab::{CLIENT_ID, Finished, Options, Person, Run, Step};
use crate::scene::Home;

const CLUSTER: &str = "https://cluster.acme.example:6443";
const V1: &str = "client.authentication.k8s.io/v1";

/// A profile for one cluster, which takes the ID token. The cluster is never asked.
fn home(options: Options) -> Home {
    let home = Home::new(options);
    profile(&home, "id");
    home.nobody();
    home
}

fn profile(home: &Home, token: &str) {
    home.sandbox.config(&format!(
        "[profile.acme]\norigins = [{{ url = \"{CLUSTER}\", token = \"{token}\" }}]\n\
         issuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nscopes = [\"openid\"]\n",
        home.authority.issuer(),
    ));
}

fn ask(home: &Home, question: &Value) -> Run {
    home.sandbox.valetkey(&["kubectl"]).env("KUBERNETES_EXEC_INFO", question.to_string())
}

fn get(home: &Home) -> Finished {
    ask(home, &question(false)).run()
}

/// The question about a cluster of which its kubeconfig says who issues its tokens.
fn offering(home: &Home, server: &str) -> Value {
    let config = json!({
        "issuer": home.authority.issuer(), "client-id": CLIENT_ID,
        "scopes": ["offline_access"], "somebody-elses": true,
    });
    with_config(server, &config)
}

/// As kubectl 1.37 asks with provideClusterInfo.
fn question(interactive: bool) -> Value {
    json!({
        "kind": "ExecCredential",
        "apiVersion": V1,
        "spec": {
            "interactive": interactive,
            "cluster": { "server": CLUSTER, "certificate-authority-data": "eA==", "config": null },
        },
    })
}

fn with_config(server: &str, config: &Value) -> Value {
    let mut asked = question(true);
    asked["spec"]["cluster"]["server"] = server.into();
    asked["spec"]["cluster"]["config"] = config.clone();
    asked
}

fn token(finished: &Finished) -> String {
    finished.assert_status(0);
    let answer: Value = serde_json::from_slice(&finished.stdout).expect("JSON");
    answer["status"]["token"].as_str().expect("a token").to_owned()
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).expect("an ID token");
    let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64");
    serde_json::from_slice(&bytes).expect("claims")
}

#[test]
fn a_hit_is_the_token_that_the_cluster_takes_in_the_version_that_was_asked_for() {
    let home = home(Options::default());
    home.sign_in_to(CLUSTER);
    for version in [V1, "client.authentication.k8s.io/v1beta1"] {
        let mut asked = question(false);
        asked["apiVersion"] = version.into();
        let finished = ask(&home, &asked).run();
        let token = token(&finished);
        let end = claims(&token)["exp"].as_u64().expect("an end") - 60;
        let date = std::process::Command::new("date")
            .args(["-u", "-d", &format!("@{end}"), "+%Y-%m-%dT%H:%M:%SZ"])
            .output()
            .expect("date runs");
        let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
        let expected = format!(
            "{{\"kind\":\"ExecCredential\",\"apiVersion\":\"{version}\",\
             \"status\":{{\"token\":\"{token}\",\"expirationTimestamp\":\"{date}\"}}}}\n"
        );
        finished.assert(0, &expected, "");
    }
    profile(&home, "access");
    assert!(home.authority.token_is_live(&token(&get(&home))));
    // kubectl 1.20 says nothing about interaction, and the URL can come from the kubeconfig's args.
    let bare = json!({ "kind": "ExecCredential", "apiVersion": V1, "spec": {} });
    let finished = ask(&home, &bare).arg(CLUSTER).run();
    finished.assert_success();
}

#[test]
fn a_token_without_an_end_has_none() {
    let home = home(Options { expires_in: None, ..Options::default() });
    profile(&home, "access");
    home.sign_in_to(CLUSTER);
    let finished = get(&home);
    let expected = format!(
        "{{\"kind\":\"ExecCredential\",\"apiVersion\":\"{V1}\",\"status\":{{\"token\":\"{}\"}}}}\n",
        token(&finished)
    );
    finished.assert(0, &expected, "");
}

#[test]
fn a_miss_is_no_byte_and_the_command_to_run() {
    let home = home(Options::default());
    let expected = format!("error: not signed in to {CLUSTER}\nhint: valetkey login {CLUSTER}\n");
    get(&home).assert(2, "", &expected);
    let mut other = question(false);
    other["spec"]["cluster"]["server"] = "https://other.example".into();
    let finished = ask(&home, &other).run();
    finished.assert_status(2).assert_stdout("");
    finished.assert_stderr_has("error: no profile serves https://other.example\nhint: ");
}

/// A dashboard that asks every few seconds must not open windows where nobody looks.
#[test]
fn a_person_is_asked_if_the_caller_says_so_or_a_screen_is_there() {
    let home = home(Options::default());
    let browser = home.browser(Person::Approves);
    home.sandbox.remove_env("VALETKEY_INTERACTIVE");
    ask(&home, &question(false)).terminal().run().assert_status(2).assert_stdout("");
    ask(&home, &question(true)).run().assert_status(2).assert_stdout("");
    ask(&home, &question(false)).env("DISPLAY", ":9").env("CI", "1").run().assert_status(2);
    assert!(browser.opened().is_empty());
    ask(&home, &question(true)).terminal().run().assert_status(0).assert_terminal_has("opening");
    assert_eq!(browser.opened().len(), 1);
    home.sandbox.valetkey(&["logout", CLUSTER]).run().assert_status(0);
    ask(&home, &question(false)).env("DISPLAY", ":9").run().assert_status(0);
    assert_eq!(browser.opened().len(), 2);
}

#[test]
fn an_ended_id_token_is_renewed_and_one_that_cannot_be_is_never_handed_out() {
    let home = home(Options::default());
    home.sign_in_to(CLUSTER);
    home.age(4_000);
    assert!(!token(&get(&home)).is_empty());
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
    get(&home).assert_success();
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
    // OpenID Connect Core section 12.2: a renewal may come without an ID token.
    home.age(4_000);
    home.authority.tune(|options| options.id_token = false);
    get(&home).assert_status(2).assert_stdout("");
    assert_eq!(home.authority.asked_for("refresh_token"), 2);
}

#[test]
fn twenty_callers_at_once_renew_once_and_sign_in_once() {
    let home = home(Options::default());
    let browser = home.browser(Person::Approves);
    let all = || {
        let started: Vec<_> = (0..20).map(|_| ask(&home, &question(true)).start()).collect();
        let tokens: Vec<_> = started.into_iter().map(|started| token(&started.wait())).collect();
        assert!(tokens.iter().all(|token| *token == tokens[0]));
    };
    all();
    assert_eq!(browser.opened().len(), 1);
    home.age(4_000);
    home.nobody();
    all();
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
}

#[test]
fn a_refused_sign_in_is_not_asked_again_for_a_while() {
    let home = home(Options::default());
    let browser = home.browser(Person::Denies);
    ask(&home, &question(true)).run().assert_status(3).assert_stdout("");
    for _ in 0..4 {
        ask(&home, &question(true)).run().assert_status(2).assert_stdout("");
    }
    assert_eq!(browser.opened().len(), 1);
}

#[test]
fn a_server_that_is_away_is_no_miss() {
    let home = home(Options::default());
    home.sign_in_to(CLUSTER);
    home.age(4_000);
    home.authority.always("/token", Step::status(503));
    get(&home).assert_status(5).assert_stdout("").assert_stderr_has("error: ");
}

/// What the kubeconfig says beside a cluster is a profile for that cluster.
#[test]
fn a_clusters_own_issuer_needs_no_profile() {
    let home = home(Options::default());
    home.sandbox.config("");
    let mine = "https://mine.example/k8s/clusters/one";
    let refused = ask(&home, &offering(&home, mine)).run();
    refused.assert_status(2).assert_stdout("");
    refused.assert_stderr_has("hint: run the same command in a terminal of your own");
    let browser = home.browser(Person::Approves);
    let first = token(&ask(&home, &offering(&home, mine)).run());
    assert_eq!(claims(&first)["aud"], CLIENT_ID);
    let opened = browser.opened();
    assert!(opened[0].contains("scope=openid%20offline_access"), "{opened:?}");
    home.nobody();
    // Silent from now on, also where the kubeconfig no longer says it.
    ask(&home, &offering(&home, mine)).run().assert_success();
    let plain = with_config(mine, &Value::Null);
    ask(&home, &plain).run().assert_success();
    home.age(4_000);
    ask(&home, &plain).run().assert_success();
    assert_eq!(home.authority.asked_for("refresh_token"), 1);
    for other in ["https://mine.example/k8s/clusters/two", "https://other.example"] {
        ask(&home, &with_config(other, &Value::Null)).run().assert_status(2).assert_stdout("");
    }
    home.sandbox.valetkey(&["whoami", mine]).run().assert_status(0);
    home.sandbox.valetkey(&["logout", mine]).run().assert_status(0);
    assert_eq!(home.authority.live_grants(), 0);
    assert!(
        home.sandbox.files().iter().all(|file| !file.path.starts_with("state/valetkey/providers"))
    );
    ask(&home, &plain).run().assert_status(2).assert_stdout("");
}

#[test]
fn the_users_own_profile_comes_before_what_a_cluster_offers() {
    let home = home(Options::default());
    home.sign_in_to(CLUSTER);
    let elsewhere = json!({ "issuer": "https://evil.example", "client-id": "x" });
    ask(&home, &with_config(CLUSTER, &elsewhere)).run().assert_success();
    // Nor is an offer believed for another cluster than its own.
    let finished = ask(&home, &with_config("https://evil.example", &elsewhere)).arg(CLUSTER).run();
    finished.assert_success();
    let finished =
        ask(&home, &offering(&home, "https://evil.example")).arg("https://x.example").run();
    finished.assert_status(2).assert_stderr_has("no profile serves https://x.example");
}

#[test]
fn an_offer_that_would_leak_is_refused() {
    let home = home(Options::default());
    let browser = home.browser(Person::Approves);
    let server = "https://mine.example";
    for (config, why) in [
        (json!({ "issuer": "http://issuer.example", "client-id": "x" }), "neither https nor on"),
        (json!({ "issuer": "file:///etc/passwd", "client-id": "x" }), "neither https nor on"),
        (json!({ "issuer": "no url", "client-id": "x" }), "it is no absolute URL"),
        (json!({ "issuer": "https://issuer.example?x=", "client-id": "x" }), "has a query"),
        (json!({ "issuer": "https://issuer.example" }), "needs both issuer and client-id"),
        (json!({ "issuer": 1, "client-id": "x" }), "cannot be understood"),
    ] {
        let finished = ask(&home, &with_config(server, &config)).run();
        finished.assert_status(78).assert_stdout("").assert_stderr_has(why);
    }
    let plain = ask(&home, &offering(&home, "http://mine.example")).run();
    plain.assert_status(78).assert_stdout("").assert_stderr_has("is not an https URL");
    assert!(browser.opened().is_empty());
    // What is no object was meant for somebody else.
    ask(&home, &with_config(CLUSTER, &json!("audience"))).run().assert_status(0);
}

/// Nobody else can put a provider there, and what cannot be believed is not.
#[test]
fn a_remembered_provider_is_believed_only_where_it_is_safe() {
    let home = home(Options::default());
    home.sandbox.config("");
    let mine = "https://mine.example";
    let _browser = home.browser(Person::Approves);
    ask(&home, &offering(&home, mine)).run().assert_status(0);
    home.nobody();
    let plain = with_config(mine, &Value::Null);
    ask(&home, &plain).run().assert_success();
    let files = home.sandbox.files();
    let file = files
        .iter()
        .find(|file| file.path.starts_with("state/valetkey/providers"))
        .expect("a remembered provider");
    assert_eq!(file.mode & 0o777, 0o600);
    let path = file.path.to_str().expect("a plain path");
    let text = String::from_utf8_lossy(&file.content).into_owned();
    for (content, mode) in [
        (text.clone(), 0o644),
        (text.replace("http://127.0.0.1", "http://evil.example"), 0o600),
        (text.replace('{', ""), 0o600),
        (text.replacen('{', "{\"x\":1,", 1), 0o600),
    ] {
        home.sandbox.write(path, content.as_bytes(), mode);
        ask(&home, &plain).run().assert_status(2).assert_stdout("");
    }
    home.sandbox.write(path, text.as_bytes(), 0o600);
    ask(&home, &plain).run().assert_success();
}

#[test]
fn hostile_input_gets_no_token() {
    let home = home(Options::default());
    home.sign_in_to(CLUSTER);
    let changed = |pointer: &str, value: Value| {
        let mut asked = question(false);
        *asked.pointer_mut(pointer).expect("a member") = value;
        asked.to_string()
    };
    for (text, why) in [
        (String::new(), "KUBERNETES_EXEC_INFO is not set"),
        ("{".to_owned(), "cannot be understood"),
        ("[]".to_owned(), "cannot be understood"),
        (changed("/kind", "Status".into()), "is no ExecCredential"),
        (changed("/apiVersion", "client.authentication.k8s.io/v1alpha1".into()), "only client"),
        (changed("/apiVersion", "v1".into()), "only client.authentication.k8s.io/v1 and v1beta1"),
        (changed("/spec/interactive", "yes".into()), "cannot be understood"),
        (changed("/spec/cluster", Value::Null), "the request names no cluster"),
        (changed("/spec/cluster/server", "https://a b".into()), "is not a host name"),
        (
            changed("/spec/cluster/server", "https://u:p@cluster.acme.example:6443".into()),
            "password",
        ),
        (
            question(false).to_string().replacen('{', "{\"kind\":\"ExecCredential\",", 1),
            "cannot be",
        ),
    ] {
        let finished = home.sandbox.valetkey(&["kubectl"]).env("KUBERNETES_EXEC_INFO", &text).run();
        finished.assert_status(64).assert_stdout("").assert_stderr_has(why);
    }
    for server in [
        "http://cluster.acme.example:6443",
        "https://cluster.acme.example",
        "https://cluster.acme.example:6443.evil.example",
        "https://evil.example/https://cluster.acme.example:6443",
    ] {
        let mut asked = question(false);
        asked["spec"]["cluster"]["server"] = server.into();
        let finished = ask(&home, &asked).run();
        assert_ne!(finished.status, 0, "{server}");
        finished.assert_stdout("");
    }
    ask(&home, &question(false))
        .arg(CLUSTER)
        .arg(CLUSTER)
        .run()
        .assert_status(64)
        .assert_stdout("");
}
