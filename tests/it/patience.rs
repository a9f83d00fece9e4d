//! How long a caller waits for a server that does not answer: a renewal that is only a precaution
//! ends while the caller still listens, and one that is needed before the caller gives up.

use std::time::{Duration, Instant};

use crate::lab::{Gate, Run, Step};
use crate::scene::{Scene, value};

/// Signed in, with this many seconds left and a token endpoint that accepts and never answers.
fn silent(left: u64) -> Scene {
    let scene = Scene::new();
    scene.sign_in();
    scene.age(3600 - left);
    scene.authority.always("/token", Step::HoldAndClose(Gate::new()));
    scene
}

fn took(run: &dyn Fn() -> Run) -> (crate::lab::Finished, Duration) {
    let started = Instant::now();
    let finished = run().run();
    (finished, started.elapsed())
}

fn bazel(scene: &Scene) -> Run {
    let question = format!("{{\"uri\":\"{}/x\"}}", scene.host.origin());
    scene.sandbox.valetkey(&["bazel", "get"]).stdin(question)
}

/// bazel's `--credential_helper_timeout` is ten seconds, and Claude Code's for a headersHelper too.
const TEN: Duration = Duration::from_secs(10);

#[test]
fn slow_a_precaution_ends_within_seconds_and_the_old_token_is_answered() {
    type Way = (&'static str, fn(&Scene) -> Run);
    let all: &[Way] = &[
        ("bazel", bazel),
        ("git", Scene::get),
        ("token", |scene| scene.sandbox.valetkey(&["token", &scene.host.origin()])),
        ("docker", |scene| scene.sandbox.valetkey(&["docker", "get"]).stdin(scene.host.origin())),
        ("login", |scene| {
            scene
                .sandbox
                .valetkey(&["login", &scene.host.origin()])
                .env("VALETKEY_INTERACTIVE", "always")
        }),
    ];
    std::thread::scope(|scope| {
        for (name, run) in all {
            scope.spawn(move || {
                let scene = silent(30);
                let (finished, took) = took(&|| run(&scene));
                assert_eq!(finished.status, 0, "{name}: {finished}");
                assert!(took < TEN, "{name} took {took:?}");
                assert_eq!(scene.authority.asked_for("refresh_token"), 1, "{name}");
            });
        }
    });
}

/// The lock that a hanging renewal holds is waited for no longer than the renewal itself.
#[test]
fn slow_twenty_callers_of_a_silent_server_are_all_answered_in_time() {
    let scene = silent(30);
    let started = Instant::now();
    let all: Vec<_> = (0..20).map(|_| bazel(&scene).start()).collect();
    for one in all {
        one.wait().assert_success();
    }
    assert!(started.elapsed() < 2 * TEN, "one after the other: {:?}", started.elapsed());
    assert_eq!(scene.authority.asked_for("refresh_token"), 1, "nobody asks without time to hear");
}

#[test]
fn slow_what_has_ended_is_an_error_before_the_caller_gives_up() {
    let scene = silent(0);
    let (finished, took) = took(&|| bazel(&scene));
    finished.assert_status(1).assert_stdout("").assert_stderr_has("hint: ");
    assert!(took < TEN, "{took:?}");
    let (finished, took) = self::took(&|| {
        let server = scene.host.origin();
        let run = scene.sandbox.valetkey(&["header", &server]);
        run.env("CLAUDE_CODE_MCP_SERVER_URL", server)
    });
    finished.assert_status(5).assert_stdout("");
    assert!(took < TEN, "{took:?}");
    scene.authority.always("/token", Step::Default);
    assert!(value(&scene.get().run(), "password").is_some(), "nothing was lost");
}
