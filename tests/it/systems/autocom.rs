//! autocom moved to valetkey: one profile for each environment, whose name stands for `--api-url`.

use std::net::TcpListener;

use super::home;
use crate::asked::Asked;
use crate::installed;
use crate::lab::systems::autocom::{Autocom, CLIENT};
use crate::lab::{Browser, Finished, Person, Sandbox, client};
use crate::scene::value;

/// Five ports that are free, in the place of the five that are registered in the field.
fn ports() -> Vec<u16> {
    let sockets: Vec<_> =
        (0..5).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    sockets.iter().map(|socket| socket.local_addr().expect("it is bound").port()).collect()
}

struct Stage {
    sandbox: Sandbox,
    ports: Vec<u16>,
    staging: Autocom,
    production: Autocom,
}

/// The profile of one environment.
fn profile(name: &str, system: &Autocom, ports: &[u16], more: &str) -> String {
    let (origin, api) = (system.origin(), system.api());
    format!(
        "[profile.{name}]\norigins = [{{ url = \"{api}\", scheme = \"bearer\" }}]\n\
         authorization_endpoint = \"{origin}/oauth/authorize\"\n\
         token_endpoint = \"{origin}/oauth/token\"\nclient_id = \"{CLIENT}\"\n\
         client_id_env = \"AUTOCOM_CLIENT_ID\"\ntoken_env = [\"AUTOCOM_TOKEN\"]\n\
         redirect = {{ ports = {ports:?} }}\ntoken_page = \"{origin}/settings/security\"\n\
         [profile.{name}.account]\nurl = \"{api}/profile\"\nid = \"/data/email\"\n\
         name = \"/data/name\"\nemail = \"/data/email\"\n\
         [profile.{name}.fields.tenant]\nheader = \"X-Tenant\"\nenv = \"AUTOCOM_TENANT\"\n\
         account = \"/data/tenant/slug\"\n{more}\n"
    )
}

impl Stage {
    fn new() -> Self {
        let ports = ports();
        let (staging, production) = (Autocom::start(&ports), Autocom::start(&ports));
        let stage = Self { sandbox: home(), ports, staging, production };
        stage.configure("");
        stage
    }

    /// With these lines in the tenant field of production.
    fn configure(&self, more: &str) {
        let staging = profile("staging", &self.staging, &self.ports, "");
        let production = profile("production", &self.production, &self.ports, more);
        self.sandbox.config(&format!("{staging}{production}"));
    }

    fn browser(&self, person: Person) -> Browser {
        self.sandbox.env("VALETKEY_INTERACTIVE", "always");
        Browser::start(&self.sandbox, person)
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        self.sandbox.valetkey(arguments).run()
    }

    fn login(&self, system: &Autocom, more: &[&str]) -> Finished {
        let _browser = self.browser(Person::Approves);
        let finished = self.run(&[&["login", &system.api()], more].concat());
        self.sandbox.env("VALETKEY_INTERACTIVE", "never");
        finished
    }

    /// What the API says to the headers that a command would send: tenant and user.
    fn orders(&self, system: &Autocom, more: &[&str]) -> (String, String) {
        let url = format!("{}/orders", system.api());
        let headers = self.run(&[&["header"], more, &[&url]].concat()).assert_success();
        let headers: Vec<_> = headers.lines().filter_map(|line| line.split_once(": ")).collect();
        let page = client::http("GET", &url, &headers, b"").expect("an answer");
        assert_eq!(page.status, 200, "{}", String::from_utf8_lossy(&page.body));
        let page: serde_json::Value = serde_json::from_slice(&page.body).expect("JSON");
        let text = |name: &str| page[name].as_str().expect("text").to_owned();
        (text("tenant"), text("of"))
    }

    fn records(&self) -> usize {
        let files = self.sandbox.files();
        files.iter().filter(|file| file.path.starts_with("data/valetkey/sessions")).count()
    }
}

/// S131 to S138, S145, S162, S163: one click. Every step that the page lists, in its order; then
/// `whoami` knows name and e-mail without asking anybody.
#[test]
fn a_browser_sign_in_in_ten_seconds_and_one_click() {
    let stage = Stage::new();
    let browser = stage.browser(Person::Approves);
    let api = stage.production.api();
    let done = stage.run(&["login", &api, "--set", "tenant=acme"]);
    done.assert_status(0).assert_stdout("");
    done.assert_stderr_has(" as alice@autocom.example; kept in files in ");
    let asked = Asked::by(&browser);
    assert!(asked.url().starts_with(&format!("{}/oauth/authorize?", stage.production.origin())));
    assert_eq!(asked.parameter("response_type"), "code");
    assert_eq!(asked.parameter("client_id"), CLIENT);
    assert_eq!(
        asked.parameter("redirect_uri"),
        format!("http://127.0.0.1:{}/callback", stage.ports[0]),
    );
    let page = &browser.wait_for_pages(1)[0];
    let text = String::from_utf8_lossy(&page.body).to_lowercase();
    assert!(page.status == 200 && text.contains("signed in"), "{text}");
    let journal = stage.production.journal().snapshot();
    let paths: Vec<_> = journal.iter().map(|entry| entry.request.path.as_str()).collect();
    assert_eq!(paths, ["/oauth/authorize", "/oauth/token", "/api/v1/profile"]);
    assert_eq!(journal[2].request.header("X-Tenant"), Some("acme"));
    let verifier = journal[1].request.field("code_verifier").expect("a verifier");
    assert!(stage.sandbox.files_with(verifier.as_bytes()).is_empty());
    assert!(!asked.url().contains(&verifier));

    let who = "alice@autocom.example (alice of autocom)\n";
    stage.run(&["whoami", &api]).assert(0, who, "");
    assert_eq!(stage.orders(&stage.production, &[]), ("acme".to_owned(), "alice".to_owned()));
    // Asked for the orders, and for nothing else since.
    assert_eq!(stage.production.journal().snapshot().len(), 4);
    // Another sign-in has nothing in common with this one.
    stage.run(&["login", &api, "--force"]).assert_status(0);
    let again = Asked::read(&browser.wait_for_opened(2)[1]);
    for name in ["state", "code_challenge"] {
        assert_ne!(again.parameter(name), asked.parameter(name));
    }
}

/// S136: an answer with another state is no answer.
#[test]
fn an_answer_with_another_state_is_no_answer() {
    let stage = Stage::new();
    let browser = stage.browser(Person::Ignores);
    let started = stage.sandbox.valetkey(&["login", &stage.production.api()]).start();
    let asked = Asked::by(&browser);
    let forged = asked.callback(&[("code", "def502forged"), ("state", "forged")]);
    assert_eq!(crate::asked::navigate(&forged).status, 400);
    asked.approve();
    started.wait().assert_status(0);
    assert_eq!(stage.production.journal().at_path("/oauth/token").len(), 1);
}

/// S134, S141, S161, check 14: the field's own five ports, in order, each for one sign-in; the
/// sixth ends with the words that the page names. In a network of its own, so that nobody's
/// ports matter.
#[test]
fn the_fields_own_ports_are_tried_in_order() {
    if !installed::all(&["unshare", "ip"]) {
        return;
    }
    let sandbox = home();
    sandbox.env("VALETKEY_INTERACTIVE", "always");
    // Who is root needs no other user's name for it, and some systems give none away.
    let alone = if rustix::process::geteuid().is_root() { "-n" } else { "-rn" };
    if sandbox.run("unshare", &[alone, "true"]).run().status != 0 {
        installed::left_out("this system gives a program no network of its own");
        return;
    }
    let profiles = ["a", "b", "c", "d", "e", "f"].map(|name| {
        format!(
            "[profile.{name}]\norigins = [\"https://{name}.example\"]\nclient_id = \"x\"\n\
             authorization_endpoint = \"https://{name}.example/oauth/authorize\"\n\
             token_endpoint = \"https://{name}.example/oauth/token\"\n\
             redirect = {{ ports = [8765, 8766, 8767, 8768, 8769] }}\n"
        )
    });
    sandbox.config(&profiles.concat());
    sandbox.link("valetkey");
    // The browser says where it was sent; each sign-in waits with its port until all is over.
    let browser = sandbox.script("told", "#!/bin/sh\nprintf '%s\\n' \"$1\" >urls\n");
    let script = "ip link set lo up && mkfifo urls && exec 3<>urls || exit 9
        for name in a b c d e; do
            valetkey login https://$name.example >>$name 2>&1 &
            read -r url <&3 && echo \"$url\"
        done
        valetkey login https://f.example; echo $?
        kill $(jobs -p)";
    let inside = [alone, "--", "bash", "-c", script];
    let finished = sandbox.run("unshare", &inside).env("BROWSER", browser).run();
    let text = finished.stdout_text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{finished}");
    for (line, port) in lines.iter().zip(8765..) {
        if port < 8770 {
            let uri = format!("http://127.0.0.1:{port}/callback");
            assert_eq!(Asked::read(line).parameter("redirect_uri"), uri);
        }
    }
    assert_eq!(lines[5], "5");
    finished.assert_stderr_has("error: no callback port available\n");
}

/// S141: a list that is registered only in part fails at the server, as there; nothing is kept.
#[test]
fn a_port_that_is_not_registered_is_the_servers_to_refuse() {
    let stage = Stage::new();
    stage.production.register(CLIENT, &stage.ports[1..]);
    let browser = stage.browser(Person::Approves);
    let login = ["login", &stage.production.api(), "--timeout", "2"];
    stage.run(&login).assert_status(3);
    assert_eq!(browser.wait_for_pages(1)[0].status, 401);
    assert_eq!(stage.records(), 0);
}

/// S21, S142: `$BROWSER` first; where it opens nothing the address is shown, and the listener hears
/// the person's own browser.
#[test]
fn a_browser_that_will_not_launch_is_no_end() {
    let stage = Stage::new();
    stage.sandbox.env("VALETKEY_INTERACTIVE", "always").env("BROWSER", "/no/such/browser");
    let started = stage.sandbox.valetkey(&["login", &stage.production.api()]).start();
    started.expect_stderr("code_challenge_method");
    Asked::shown(&started.stderr_text()).approve();
    started.wait().assert_status(0);
}

/// S131, S143, S144, check 13: no listener; the page explains the refused connection, and takes the
/// bare code or the whole address.
#[test]
fn a_code_is_brought_home_by_hand() {
    for whole in [false, true] {
        let stage = Stage::new();
        stage.sandbox.env("VALETKEY_INTERACTIVE", "always");
        let login = ["login", &stage.production.api(), "--flow", "paste", "--set", "tenant=acme"];
        let started = stage.sandbox.valetkey(&login).terminal().start();
        started.terminal_expect("if the browser ends on a page that cannot be reached, paste its");
        let asked = Asked::shown(&started.terminal_text());
        assert_eq!(
            asked.parameter("redirect_uri"),
            format!("http://127.0.0.1:{}/callback", stage.ports[0]),
        );
        assert_eq!(crate::asked::listening(&started), []);
        let line = if whole { asked.approved() } else { asked.code() };
        started.terminal_type(&format!("{line}\n"));
        started.wait().assert_status(0);
        assert_eq!(stage.orders(&stage.production, &[]).0, "acme");
    }
    // S143: `--no-browser` shows the address and opens nothing; the listener is a bonus.
    let stage = Stage::new();
    let browser = stage.browser(Person::Approves);
    let login = ["login", &stage.production.api(), "--no-browser"];
    let started = stage.sandbox.valetkey(&login).terminal().start();
    started.terminal_expect("code_challenge_method");
    let asked = Asked::shown(&started.terminal_text());
    started.terminal_type(&format!("{}\n", asked.code()));
    started.wait().assert_status(0);
    assert_eq!(browser.opened().len(), 0);
}

/// S146: an out-of-band redirect needs no change here, because `paste` takes a bare code.
#[test]
fn a_page_that_only_shows_the_code_would_do() {
    let stage = Stage::new();
    stage.sandbox.env("VALETKEY_INTERACTIVE", "always");
    let login = ["login", &stage.production.api(), "--flow", "paste"];
    let started = stage.sandbox.valetkey(&login).terminal().start();
    started.terminal_expect("paste its");
    let code = Asked::shown(&started.terminal_text()).code();
    started.terminal_type(&format!("   {code}  \n"));
    started.wait().assert_status(0);
}

/// S139, S140, S161: flag, then variable, then what the configuration has, then what was built in;
/// a wrong one is named by the server, and the hint says where to look.
#[test]
fn the_client_id_comes_from_flag_variable_and_configuration() {
    let stage = Stage::new();
    let used = |arguments: &[&str], variable: Option<&str>| {
        let browser = stage.browser(Person::Approves);
        let api = stage.production.api();
        let run = stage.sandbox.valetkey(&[&["login", &api, "--force"], arguments].concat());
        let run = match variable {
            Some(id) => run.env("AUTOCOM_CLIENT_ID", id),
            None => run,
        };
        run.run().assert_status(0);
        Asked::by(&browser).parameter("client_id")
    };
    for id in ["flagged", "said"] {
        stage.production.register(id, &stage.ports);
    }
    assert_eq!(used(&["--client-id", "flagged"], Some("said")), "flagged");
    assert_eq!(used(&[], Some("said")), "said");
    assert_eq!(used(&[], None), CLIENT);
    let without = profile("production", &stage.production, &stage.ports, "");
    stage.sandbox.config(&without.replace(&format!("client_id = \"{CLIENT}\"\n"), ""));
    let none = stage.run(&["login", &stage.production.api(), "--force"]);
    none.assert_status(78).assert_stderr_has("--client-id");
}

/// S140: what stood in the environment of the build is in the program. The room that holds it is
/// built here with and without.
#[test]
fn a_client_id_can_be_built_in() {
    let sandbox = home();
    let room = concat!(env!("CARGO_MANIFEST_DIR"), "/src/profile/distributor.rs");
    let program = format!(
        "mod profile {{ #[path = {room:?}] mod distributor; pub fn of(name: &str) -> Option<&'static str> \
         {{ distributor::client_id(name) }} }}\nfn main() {{ for name in [\"autocom\", \"acme\", \"x\"] \
         {{ println!(\"{{:?}}\", profile::of(name)) }} }}\n"
    );
    let source = sandbox.write("work/main.rs", program.as_bytes(), 0o600);
    let build = |name: &str, ids: Option<&str>| {
        let mut rustc = std::process::Command::new("rustc");
        rustc.args(["--edition", "2024", "-o"]).arg(sandbox.work().join(name)).arg(&source);
        rustc.env_remove("VALETKEY_CLIENT_IDS");
        rustc.envs(ids.map(|ids| ("VALETKEY_CLIENT_IDS", ids)));
        let built = rustc.output().expect("rustc runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        sandbox.run(sandbox.work().join(name), &[]).run().assert_success()
    };
    let ids = format!("acme=a=b autocom={CLIENT}");
    assert_eq!(build("with", Some(&ids)), format!("Some({CLIENT:?})\nSome(\"a=b\")\nNone\n"));
    assert_eq!(build("without", None), "None\nNone\nNone\n");
}

/// S131, S147, S148, S150, S159: the token is shown to the profile endpoint first; a bad one ends
/// with 4 and is not kept; a good one has no end, and ends up where an OAuth token would.
#[test]
fn a_personal_token_is_checked_at_the_profile() {
    let stage = Stage::new();
    let api = stage.production.api();
    let login = |token: &str| {
        let login = ["login", &api, "--token-stdin", "--set", "tenant=acme"];
        stage.sandbox.valetkey(&login).stdin(format!("{token}\n")).run()
    };
    let bad = login("1|wrong");
    bad.assert_status(4).assert_stderr_has("does not take this token; nothing was kept");
    bad.assert_stderr_has(&format!("{}/settings/security", stage.production.origin()));
    assert_eq!(stage.records(), 0);
    let token = stage.production.generate_token("alice");
    login(&token).assert_status(0);
    let journal = stage.production.journal().at_path("/api/v1/profile");
    assert_eq!(journal.len(), 2);
    assert_eq!(journal[1].request.header("X-Tenant"), Some("acme"));
    assert_eq!(journal[1].request.bearer(), Some(token.as_str()));
    assert_eq!(stage.orders(&stage.production, &[]), ("acme".to_owned(), "alice".to_owned()));
    let who = "alice@autocom.example (alice of autocom)\n";
    stage.run(&["whoami", &api]).assert(0, who, "");
    let bob = stage.production.generate_token("bob");
    let typed = stage.run(&["login", &api, "--with-token", &bob]);
    typed.assert_status(0).assert_stderr_has("warning: a token on the command line");
    // Who came last answers, and the other one stays.
    assert_eq!(stage.orders(&stage.production, &[]), ("bobs-shop".to_owned(), "bob".to_owned()));
    assert_eq!(stage.records(), 2);
}

/// S149: a token for one command, from the environment, and nothing is kept.
#[test]
fn a_token_for_one_command_comes_from_the_environment() {
    let stage = Stage::new();
    let token = stage.production.generate_token("alice");
    let header = stage.sandbox.valetkey(&["header", &stage.production.api()]);
    let header = header.env("AUTOCOM_TOKEN", &token).env("AUTOCOM_TENANT", "acme").run();
    header.assert(0, &format!("Authorization: Bearer {token}\nX-Tenant: acme\n"), "");
    assert_eq!(stage.records(), 0);
}

/// S132, S151, S152: the flag of one command, then variable, then configuration, then what the
/// sign-in captured; `use` switches the last, as `tenants use` does. Which tenants there are is the
/// API's to list.
#[test]
fn the_tenant_is_resolved_in_order() {
    let stage = Stage::new();
    let api = stage.production.api();
    stage.login(&stage.production, &[]).assert_status(0);
    let tenant = |more: &[&str]| stage.orders(&stage.production, more).0;
    assert_eq!(tenant(&[]), "alices-shop", "captured");
    stage.run(&["use", &api, "--set", "tenant=other"]).assert_status(0).assert_stdout("");
    assert_eq!(tenant(&[]), "other", "switched");
    stage.configure("value = \"configured\"");
    assert_eq!(tenant(&[]), "configured");
    stage.run(&["use", &api, "--set", "tenant=x"]).assert_status(0).assert_stderr_has("warning:");
    stage.sandbox.env("AUTOCOM_TENANT", "said");
    assert_eq!(tenant(&[]), "said");
    assert_eq!(tenant(&["--set", "tenant=flagged"]), "flagged");
    // A value that would be more than a header reaches nobody.
    stage.sandbox.env("AUTOCOM_TENANT", "a\nEvil: b");
    stage.run(&["header", &api]).assert_status(78).assert_stdout("");
}

/// S153, S154: two environments side by side, neither knows of the other.
#[test]
fn environments_stand_side_by_side() {
    let stage = Stage::new();
    stage.login(&stage.staging, &["--set", "tenant=trial"]).assert_status(0);
    stage.production.turn(|knobs| knobs.user = "bob");
    stage.login(&stage.production, &[]).assert_status(0);
    assert_eq!(stage.orders(&stage.staging, &[]), ("trial".to_owned(), "alice".to_owned()));
    assert_eq!(stage.orders(&stage.production, &[]), ("bobs-shop".to_owned(), "bob".to_owned()),);
    // Each answers for its own API and for nothing else of its host.
    let elsewhere = format!("{}/other", stage.production.origin());
    stage.run(&["token", &elsewhere]).assert_status(2);
    for secret in stage.staging.secrets() {
        let journal = stage.production.journal().to_string();
        assert!(!journal.contains(&secret), "staging's secrets stay there");
    }
}

/// S154 to S157, check 16: the sign-out of one environment, from both stores, keeps the other one
/// and everything that the person prefers; a second one is no error.
#[test]
fn a_sign_out_is_for_one_environment_and_keeps_preferences() {
    let stage = Stage::new();
    stage.login(&stage.staging, &[]).assert_status(0);
    stage.login(&stage.production, &[]).assert_status(0);
    let files = |below: &str| {
        let mut files = stage.sandbox.files();
        files.retain(|file| file.path.starts_with(below));
        files.into_iter().map(|file| (file.path, file.mode, file.content)).collect::<Vec<_>>()
    };
    let config = files("config");
    assert!(files("data").iter().chain(&config).all(|(_, mode, _)| *mode == 0o600));
    let api = stage.staging.api();
    let out = stage.run(&["logout", &api]);
    out.assert_status(0).assert_stderr_has("live until they expire");
    assert_eq!(files("config"), config);
    for secret in stage.staging.secrets() {
        assert!(stage.sandbox.files_with(secret.as_bytes()).is_empty());
    }
    stage.run(&["logout", &api]).assert_status(0);
    stage.run(&["whoami", &api]).assert_status(2);
    assert_eq!(stage.orders(&stage.production, &[]).1, "alice");
}

/// S158: within thirty seconds of its end `whoami` warns, and the next call ends with 4 and the
/// command to run. The session stays, so that the reason stays known.
#[test]
fn credentials_that_end_soon_are_told_and_not_handed_out() {
    let stage = Stage::new();
    let api = stage.production.api();
    stage.production.turn(|knobs| (knobs.with_refresh, knobs.expires_in) = (false, 3600));
    stage.login(&stage.production, &[]).assert_status(0);
    crate::scene::age(&stage.sandbox, 3575);
    let whoami = stage.run(&["whoami", &api]);
    whoami.assert_status(0).assert_stderr_has(
        "warning: the credentials of alice@autocom.example at production expire in 2",
    );
    for _ in 0..2 {
        let call = stage.run(&["header", &api]);
        let text =
            format!("error: the credentials for {api} have expired\nhint: valetkey login {api}\n");
        call.assert(4, "", &text);
    }
    assert_eq!(stage.records(), 1);
    stage.login(&stage.production, &[]).assert_status(0);
    stage.run(&["header", &api]).assert_status(0);
}

/// S160: what is only planned there: silent, with the rotated refresh token kept first.
#[test]
fn an_expired_token_is_renewed_silently() {
    let stage = Stage::new();
    stage.login(&stage.production, &[]).assert_status(0);
    crate::scene::age(&stage.sandbox, 7200);
    assert_eq!(stage.orders(&stage.production, &[]).1, "alice");
    crate::scene::age(&stage.sandbox, 7200);
    assert_eq!(stage.orders(&stage.production, &[]).1, "alice");
    let grants = stage.production.journal().at_path("/oauth/token");
    let grants = grants.iter().filter_map(|entry| entry.request.field("grant_type"));
    let grants: Vec<_> = grants.collect();
    assert_eq!(grants, ["authorization_code", "refresh_token", "refresh_token"]);
}

/// The person's no is the server's own word, and ends it.
#[test]
fn a_no_on_the_approval_page_ends_it() {
    let stage = Stage::new();
    let _browser = stage.browser(Person::Denies);
    stage.run(&["login", &stage.production.api()]).assert_status(3).assert_stdout("");
    assert_eq!(value(&stage.run(&["list"]), "password"), None);
    assert_eq!(stage.records(), 0);
}
