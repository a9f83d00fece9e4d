//! The standard streams as a caller may leave them: closed before the program starts, or with a
//! reader that goes away.

use crate::lab::{Gate, Step};
use crate::scene::{Scene, program};

/// A session that has to be renewed before it can be answered with, and who asks for it.
fn expired() -> (Scene, String) {
    let scene = Scene::new();
    scene.sign_in();
    scene.age(3600);
    let ask = format!("{} token {}", program().display(), scene.host.origin());
    (scene, ask)
}

/// No lock and no record gets the number of a standard stream, where a message would end up in it.
#[test]
fn what_is_closed_at_the_start_is_nobodys_file() {
    let (scene, ask) = expired();
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let started = scene.sandbox.run("sh", &["-c", &format!("exec {ask} <&- >&- 2>&-")]).start();
    gate.reached();
    for stream in 0..=2 {
        let link = std::fs::read_link(format!("/proc/{}/fd/{stream}", started.id()));
        assert_eq!(link.expect("it is open").to_str(), Some("/dev/null"), "stream {stream}");
    }
    gate.open();
    started.wait().assert(0, "", "");
    scene.sandbox.valetkey(&["token", &scene.host.origin()]).run().assert_status(0);
    assert_eq!(scene.authority.asked_for("refresh_token"), 1);
}

/// Who writes to a reader that has gone goes on: what is renewed is kept, and the exit status is
/// that of the work.
#[test]
fn a_reader_that_goes_away_ends_nothing() {
    let (scene, ask) = expired();
    for (answer, status) in [(Step::status(503), 5), (Step::Default, 0)] {
        scene.authority.next("/token", vec![answer]);
        scene.sandbox.run("mkfifo", &["gone"]).run().assert_status(0);
        let line = format!(
            "(read _ <gone; {ask} 2>&1; echo ended $? >ended) | (exec <&-; echo x >gone); rm gone"
        );
        scene.sandbox.run("sh", &["-c", &line]).run().assert(0, "", "");
        let ended = std::fs::read_to_string(scene.sandbox.work().join("ended"));
        assert_eq!(ended.expect("it ended"), format!("ended {status}\n"));
    }
    scene.sandbox.valetkey(&["token", &scene.host.origin()]).run().assert_status(0);
    assert_eq!(scene.authority.asked_for("refresh_token"), 2);
}
