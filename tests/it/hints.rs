//! Errors lead out: the program is put into a state that it complains about, the command of its hint
//! is run as it stands, and what failed before then works.

use crate::lab::{Options, Person, Scheme, Step};
use crate::scene::Scene;

/// A state, and the command that finds it. `{home}` is the host's origin.
struct State {
    name: &'static str,
    make: fn(&Scene),
    command: &'static str,
    status: i32,
}

const GET: &str = "printf 'protocol=http\\nhost={host}\\n' | valetkey get";

const STATES: &[State] = &[
    State { name: "nobody is signed in", make: |_| {}, command: GET, status: 2 },
    State { name: "token", make: |_| {}, command: "valetkey token {home}", status: 2 },
    State { name: "status", make: |_| {}, command: "valetkey status {home}", status: 2 },
    State { name: "whoami", make: |_| {}, command: "valetkey whoami {home}", status: 2 },
    State {
        name: "whoami of somebody",
        make: |_| {},
        command: "valetkey whoami {home} --account alice",
        status: 2,
    },
    State {
        name: "use of somebody who is not there",
        make: |_| {},
        command: "valetkey use {home} --account alice",
        status: 2,
    },
    State {
        name: "an account in the URL",
        make: |_| {},
        command: "printf 'protocol=http\\nhost={host}\\nusername=alice\\n' | valetkey get",
        status: 2,
    },
    State {
        name: "a dead grant",
        make: |scene| {
            scene.sign_in();
            scene.age(3600);
            scene.authority.revoke_grants();
        },
        command: GET,
        status: 2,
    },
    State {
        name: "a refused renewal",
        make: |scene| {
            scene.sign_in();
            scene.age(3600);
            scene.authority.next("/token", vec![Step::error("interaction_required")]);
        },
        command: GET,
        status: 2,
    },
    State {
        name: "a renewal that no token endpoint answers",
        make: |scene| {
            scene.sign_in();
            scene.age(3600);
            let page = crate::lab::Answer::html(200, "<html>a hotel");
            scene.authority.next("/token", vec![Step::Answer(page)]);
        },
        command: GET,
        status: 4,
    },
    State {
        name: "a session of another issuer",
        make: |scene| {
            scene.sign_in();
            let issuer = scene.authority.issuer();
            let other = format!("token_endpoint = \"{issuer}/token\"");
            let config = format!(
                "[profile.lab]\norigins = [\"{}\"]\nclient_id = \"{}\"\n\
                 authorization_endpoint = \"{issuer}/authorize\"\n{other}\n",
                scene.host.origin(),
                crate::lab::CLIENT_ID,
            );
            scene.sandbox.config(&config);
        },
        command: GET,
        status: 2,
    },
    State {
        name: "a sign-in that the person refused",
        make: |scene| {
            let _browser = scene.browser(Person::Denies);
            scene.get().run().assert_status(3);
            scene.nobody();
        },
        command: GET,
        status: 2,
    },
    State {
        name: "a session without a refresh token that has ended",
        make: |scene| {
            scene.authority.tune(|options| options.refreshing = crate::lab::Refreshing::Never);
            scene.sign_in();
            scene.age(3600);
        },
        command: GET,
        status: 4,
    },
    State {
        name: "login where CI says that nobody is here",
        make: |_| {},
        command: "CI=true VALETKEY_INTERACTIVE= valetkey login {home}",
        status: 2,
    },
];

#[test]
fn the_command_of_a_hint_leaves_the_state_that_printed_it() {
    for state in STATES {
        let scene = Scene::with(Scheme::Basic, Options::default());
        scene.sandbox.link("valetkey");
        scene.nobody();
        (state.make)(&scene);
        let home = scene.host.origin();
        let host = home.replace("http://", "");
        let command = state.command.replace("{home}", &home).replace("{host}", &host);
        let shell = |command: &str| scene.sandbox.run("sh", &["-c", command]).run();
        let failed = shell(&command);
        let name = state.name;
        assert_eq!(failed.status, state.status, "{name}: {failed}");
        let said = failed.stderr_text();
        let hint = said.lines().find_map(|line| line.strip_prefix("hint: "));
        let hint = hint.unwrap_or_else(|| panic!("{name} has no hint: {failed}"));
        assert!(hint.contains("valetkey login"), "{name}: {hint}");
        let browser = scene.browser(Person::Approves);
        let done = shell(hint);
        assert_eq!(done.status, 0, "{name}: {hint}: {done}");
        drop(browser);
        scene.nobody();
        let works = shell(&command);
        assert_eq!(works.status, 0, "{name}: after {hint}: {works}");
    }
}
