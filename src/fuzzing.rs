//! What a stranger's bytes reach first, each as one function that panics where a property does not
//! hold. tests/fuzz feeds them, and the tests below its seeds.

mod calls;
mod files;

use std::fs::File;
use std::io::{Seek, SeekFrom};

pub use crate::oauth::fuzzing::{challenge, claims, handoff, keys, metadata, redirect};
pub use crate::oauth::fuzzing::{registration, relay, resource_metadata, token_answer};
pub use crate::person::fuzz as import;
pub use crate::profile::fuzz as configuration;
pub use crate::vault::fuzz as record;
pub use calls::{
    askpass, aws, bazel, cargo, docker, generic, git_request, goauth, google, keyring, kubectl,
    terraform, vault,
};
pub use files::editors;

/// A name, which is that of its directory of seeds too, and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("askpass", askpass),
    ("aws", aws),
    ("bazel", bazel),
    ("cargo", cargo),
    ("challenge", challenge),
    ("claims", claims),
    ("configuration", configuration),
    ("docker", docker),
    ("editors", editors),
    ("generic", generic),
    ("git_request", git_request),
    ("goauth", goauth),
    ("google", google),
    ("handoff", handoff),
    ("import", import),
    ("keyring", keyring),
    ("keys", keys),
    ("kubectl", kubectl),
    ("metadata", metadata),
    ("record", record),
    ("redirect", redirect),
    ("registration", registration),
    ("relay", relay),
    ("resource_metadata", resource_metadata),
    ("terraform", terraform),
    ("token_answer", token_answer),
    ("vault", vault),
];

thread_local! {
    /// One file without a name for all answers of a thread.
    static SCRATCH: File = {
        let name = format!("valetkey-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let _ = std::fs::remove_file(path);
        file
    };
}

/// An empty file for an answer.
fn scratch() -> File {
    SCRATCH.with(|file| {
        let emptied = file.set_len(0).and_then(|()| (&*file).seek(SeekFrom::Start(0)));
        emptied.and_then(|_| file.try_clone()).unwrap_or_else(|error| panic!("{error}"))
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the files of the tests are read as they are")]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::TARGETS;

    #[test]
    fn the_seeds_of_the_fuzz_targets_hold() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
        for (name, target) in TARGETS {
            let mut count = 0;
            for seed in std::fs::read_dir(fuzz.join("corpus").join(name)).unwrap() {
                let seed = seed.unwrap().path();
                let bytes = std::fs::read(&seed).unwrap();
                let held = std::panic::catch_unwind(|| target(&bytes));
                assert!(held.is_ok(), "{}", seed.display());
                count += 1;
            }
            assert!(count > 2, "{name} has no seeds");
        }
        let directories = std::fs::read_dir(fuzz.join("corpus")).unwrap();
        let seeds = directories.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names = TARGETS.iter().map(|(name, _)| (*name).to_owned());
        assert_eq!(seeds.collect::<BTreeSet<_>>(), names.collect());
    }
}
