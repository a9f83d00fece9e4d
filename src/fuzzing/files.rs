//! Files of other tools, which `setup` edits: fed to the whole verb, in a home that is made for it.
//! What cannot be understood stays as it is; what is set up once is set up; and what is taken back
//! leaves the file that was there before.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::scratch;
use crate::Process;
use crate::clock;
use crate::environment::Environment;
use crate::run_with;

/// A tool, its file below the home, and what is typed behind its name.
const TOOLS: &[(&str, &str, &[&str])] = &[
    ("aws", ".aws/config", &[]),
    ("bazel", ".bazelrc", &[]),
    ("cargo", ".cargo/config.toml", &[]),
    ("cargo", ".cargo/config.toml", &["--host", "crates.example"]),
    ("docker", ".docker/config.json", &[]),
    ("docker", ".docker/config.json", &["--host", "registry.example"]),
    ("pnpm", ".npmrc", &["--host", "https://npm.example/"]),
    ("podman", ".config/containers/registries.conf", &[]),
    ("terraform", ".terraformrc", &[]),
    ("vault", ".vault", &[]),
];

const CONFIGURATION: &str = "[profile.fuzz]\nissuer = \"https://auth.example\"\nclient_id = \"x\"\n\
    origins = [\"https://registry.example\", { url = \"https://sts.example\", \
    exchange = \"aws-sts\", role = \"arn:aws:iam::123456789012:role/x\" }]\n";

/// Of this process and thread; every run begins with an empty one.
fn home() -> PathBuf {
    let name = format!("valetkey-home-{}-{:?}", std::process::id(), std::thread::current().id());
    std::env::temp_dir().join(name.replace(['(', ')'], ""))
}

fn program() -> Option<PathBuf> {
    Some(home().join("bin/valetkey"))
}

/// The exit status of `valetkey setup`.
fn setup(words: &[&str]) -> u8 {
    let home = home();
    let environment: Environment = [
        ("HOME", home.as_path()),
        ("PATH", &home.join("bin")),
        ("VALETKEY_STORE", Path::new("file")),
        ("VALETKEY_INTERACTIVE", Path::new("never")),
    ]
    .into_iter()
    .map(|(name, value)| (name.into(), value.into()))
    .collect();
    let process = Process {
        arguments: ["valetkey", "setup"].iter().chain(words).map(Into::into).collect(),
        environment,
        program,
        input: Box::new(std::io::empty()),
        input_is_terminal: || false,
        output: scratch(),
        // Keeps it off the terminal.
        stderr_is_terminal: || true,
    };
    #[cfg(test)]
    let _quiet = Quiet::start();
    run_with(process, &clock::System::start())
}

/// What is said for people is no news in a test that passes. A panic is told all the same: the tests
/// keep those themselves.
#[cfg(test)]
struct Quiet(Option<std::os::fd::OwnedFd>);

#[cfg(test)]
impl Quiet {
    fn start() -> Self {
        let own = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3).ok();
        crate::close_stderr();
        Self(own)
    }
}

#[cfg(test)]
impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = self.0.as_ref().map(rustix::stdio::dup2_stderr);
    }
}

#[expect(clippy::disallowed_methods, reason = "plays another tool")]
fn put(path: &Path, content: &[u8]) {
    let above = path.parent().map_or(Ok(()), fs::create_dir_all);
    let put = above.and_then(|()| fs::write(path, content));
    put.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn content(path: &Path) -> Option<Vec<u8>> {
    match fs::read(path) {
        Ok(content) => Some(content),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

fn clean() {
    match fs::remove_dir_all(home()) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}

/// The number of a row of `TOOLS` in the first line, and a file behind it.
///
/// # Panics
/// When something above does not hold.
pub fn editors(bytes: &[u8]) {
    let Some(line) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let (first, before) = (&bytes[..line], &bytes[line + 1..]);
    let row = std::str::from_utf8(first).ok().and_then(|text| text.parse::<usize>().ok());
    let Some((tool, file, more)) = row.and_then(|row| TOOLS.get(row)) else { return };
    clean();
    let home = home();
    put(&home.join("bin/valetkey"), b"");
    put(&home.join(".config/valetkey/config.toml"), CONFIGURATION.as_bytes());
    let path = home.join(file);
    put(&path, before);
    let typed = |last: &'static [&'static str]| {
        let words: Vec<&str> = std::iter::once(tool).chain(*more).chain(last).copied().collect();
        setup(&words)
    };
    let shown = || format!("{tool} {more:?}: {:?}", String::from_utf8_lossy(before));
    let status = typed(&[]);
    let once = content(&path);
    if status == 0 {
        assert_eq!(typed(&[]), 0, "{}", shown());
        assert_eq!(content(&path), once, "twice is not once, {}", shown());
        // What was ours before is not told from what is ours now.
        let theirs = !before.windows(8).any(|word| word == b"valetkey");
        if theirs {
            assert_eq!(typed(&["--undo"]), 0, "{}", shown());
            let left = content(&path).unwrap_or_default();
            assert!(left == before, "{:?} is left of {}", String::from_utf8_lossy(&left), shown());
        }
    } else {
        assert_eq!(once.as_deref(), Some(before), "refused, and changed: {}", shown());
    }
    clean();
}
