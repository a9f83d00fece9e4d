//! git's own tests for credential helpers: t0303-credential-external.sh as git ships it, then the
//! tests that git runs for its cache helper alone.

use super::{Peer, heavy, here, peer};
use crate::lab::{Finished, Sandbox};
use crate::scene::program;

fn assert_all_passed(finished: &Finished) {
    finished.assert_status(0).assert_stdout(
        "t0303-credential-external.sh 21 passed, 0 failed\nt-all.sh 28 passed, 0 failed\n\
         49 passed, 0 failed\n",
    );
}

fn sandbox(store: &str) -> Sandbox {
    let sandbox = Sandbox::new(program());
    sandbox.link("git-credential-valetkey");
    sandbox.env("VALETKEY_STORE", store).env("VALETKEY_PEERS", super::installed());
    sandbox
}

#[test]
fn git_finds_nothing_wrong_with_the_file_store() {
    if !here(&[Peer::GitSuite]) {
        return;
    }
    let _heavy = heavy();
    assert_all_passed(&sandbox("file").run(peer("git-suite/run"), &["valetkey"]).run());
}

#[test]
fn git_finds_nothing_wrong_with_the_keychain() {
    if !here(&[Peer::GitSuite, Peer::Keyring]) {
        return;
    }
    let _heavy = heavy();
    let sandbox = sandbox("keychain");
    let inside = sandbox.run(peer("with-keyring"), &[]).arg(peer("git-suite/run")).arg("valetkey");
    assert_all_passed(&inside.run());
}
