//! A throwaway home. Programs run in it see an environment built from nothing, a `PATH` that begins
//! with the sandbox's own `bin`, and no terminal, desktop or bus unless the test gives them one. It
//! never touches the real home, and is gone with everything in it when dropped.

mod run;
mod terminal;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use signal_hook::consts::{SIGINT, SIGQUIT};
use tempfile::TempDir;

pub use run::{Finished, Run, Started};

type Environment = BTreeMap<OsString, OsString>;

pub struct Sandbox {
    directory: TempDir,
    bin: PathBuf,
    /// The program under test.
    program: PathBuf,
    environment: Mutex<Environment>,
}

/// A file as `Sandbox::files` found it.
#[derive(Clone, Debug)]
pub struct FileSeen {
    /// Below the sandbox.
    pub path: PathBuf,
    /// The permission bits.
    pub mode: u32,
    pub content: Vec<u8>,
}

/// A shell that starts the tests in the background lets them ignore `^C` and `^\`, and so would
/// everything that they start: no terminal of theirs could interrupt a program. What is listened to
/// instead is at its default again in a program that is started.
fn listen_to_interrupts() {
    for signal in [SIGINT, SIGQUIT] {
        let always = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_default(signal, always).expect("a signal");
    }
}

static LISTENS: OnceLock<()> = OnceLock::new();

impl Sandbox {
    pub fn new(program: &Path) -> Self {
        LISTENS.get_or_init(listen_to_interrupts);
        let directory = tempfile::Builder::new().prefix("lab-").tempdir().expect("a directory");
        let root = directory.path();
        let inside = |name: &str, mode: u32| {
            let path = root.join(name);
            fs::create_dir(&path).expect("a new directory");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
            path
        };
        let bin = inside("bin", 0o755);
        inside("work", 0o755);
        let home = inside("home", 0o755);
        let mut environment = Environment::new();
        for (name, place) in [
            ("HOME", home.clone()),
            ("XDG_CONFIG_HOME", inside("config", 0o755)),
            ("XDG_DATA_HOME", inside("data", 0o755)),
            ("XDG_STATE_HOME", inside("state", 0o755)),
            ("XDG_CACHE_HOME", inside("cache", 0o755)),
            ("XDG_RUNTIME_DIR", inside("runtime", 0o700)),
            ("TMPDIR", inside("tmp", 0o755)),
        ] {
            environment.insert(name.into(), place.into());
        }
        for (name, value) in [
            ("LANG", "C.UTF-8"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("DBUS_SESSION_BUS_ADDRESS", "disabled:"),
        ] {
            environment.insert(name.into(), value.into());
        }
        environment.insert("PATH".into(), path_with(&bin));
        fs::write(
            home.join(".gitconfig"),
            "[user]\n\tname = Alice\n\temail = alice@lab.example\n[init]\n\tdefaultBranch = main\n",
        )
        .expect("a git configuration");
        Self { bin, program: program.to_owned(), environment: Mutex::new(environment), directory }
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// First on the `PATH`.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Where programs start unless told otherwise.
    pub fn work(&self) -> PathBuf {
        self.root().join("work")
    }

    pub fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    /// For every program started from now on.
    pub fn env(&self, name: &str, value: impl AsRef<OsStr>) -> &Self {
        self.environment().insert(name.into(), value.as_ref().to_owned());
        self
    }

    pub fn remove_env(&self, name: &str) -> &Self {
        self.environment().remove(OsStr::new(name));
        self
    }

    /// The program under test by another name, on the `PATH`.
    pub fn link(&self, name: &str) -> PathBuf {
        let link = self.bin.join(name);
        std::os::unix::fs::symlink(&self.program, &link).expect("a new link");
        link
    }

    /// A program of the test's own on the `PATH`.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.bin.join(name);
        write_program(&path, text);
        path
    }

    /// A file below the sandbox, with the directories above it.
    pub fn write(&self, path: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = self.root().join(path);
        write_file(&path, content, mode);
        path
    }

    /// valetkey's configuration.
    pub fn config(&self, text: &str) -> PathBuf {
        self.write("config/valetkey/config.toml", text.as_bytes(), 0o600)
    }

    /// Adds to the person's git configuration.
    pub fn git_config(&self, text: &str) {
        let path = self.home().join(".gitconfig");
        let mut file = fs::OpenOptions::new().append(true).open(path).expect("it is there");
        file.write_all(text.as_bytes()).expect("and takes more");
    }

    pub fn valetkey(&self, arguments: &[&str]) -> Run {
        self.run(&self.program, arguments)
    }

    pub fn git(&self, arguments: &[&str]) -> Run {
        self.run("git", arguments)
    }

    /// Any program, found on the sandbox's `PATH`.
    pub fn run(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Run {
        Run::new(
            program.as_ref(),
            arguments,
            self.environment().clone(),
            self.work(),
            self.root().join("tmp"),
        )
    }

    /// Every regular file below the sandbox, sorted by path.
    pub fn files(&self) -> Vec<FileSeen> {
        let mut found = Vec::new();
        collect(self.root(), self.root(), &mut found);
        found.sort_by(|one, other| one.path.cmp(&other.path));
        found
    }

    /// The files that contain these bytes: none, if they were a secret.
    pub fn files_with(&self, bytes: &[u8]) -> Vec<PathBuf> {
        let mut files = self.files();
        files.retain(|file| {
            !bytes.is_empty() && file.content.windows(bytes.len()).any(|window| window == bytes)
        });
        files.into_iter().map(|file| file.path).collect()
    }

    fn environment(&self) -> MutexGuard<'_, Environment> {
        self.environment.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a script that can be started at once. The shell does the writing, because a file that
/// this process has open for writing, be it for a moment, may be inherited by a program that
/// another thread starts at that moment, and then the script is "text file busy".
pub fn write_program(path: &Path, text: &str) {
    let mut shell = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut pipe = shell.stdin.take().expect("stdin is a pipe");
    pipe.write_all(text.as_bytes()).expect("cat reads everything");
    drop(pipe);
    assert!(shell.wait().is_ok_and(|status| status.success()), "cannot write {}", path.display());
}

fn path_with(bin: &Path) -> OsString {
    let real = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let all = std::iter::once(bin.to_owned()).chain(std::env::split_paths(&real));
    std::env::join_paths(all).expect("no colon in the sandbox's path")
}

fn write_file(path: &Path, content: &[u8], mode: u32) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("directories inside the sandbox");
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.write_all(content).expect("a file inside the sandbox");
    // The mode above is subject to the umask, and says nothing about a file that was there before.
    file.set_permissions(fs::Permissions::from_mode(mode)).expect("a mode of one's own file");
}

// Files come and go while programs run, so what cannot be read is not there.
fn collect(root: &Path, directory: &Path, found: &mut Vec<FileSeen>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        if kind.is_dir() {
            collect(root, &path, found);
        } else if kind.is_file()
            && let (Ok(metadata), Ok(content)) = (entry.metadata(), fs::read(&path))
        {
            found.push(FileSeen {
                path: path.strip_prefix(root).unwrap_or(&path).to_owned(),
                mode: metadata.permissions().mode() & 0o7777,
                content,
            });
        }
    }
}
