//! Homes as people have them: of another user, open to others, with an odd umask, full of links;
//! and what of this process others could get at.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::installed;
use crate::lab::{Finished, Gate, Person, Sandbox, Step};
use crate::planted;
use crate::scene::{Scene, program, value};

const OTHER: u32 = 4242;
const OTHER_GROUP: u32 = 4343;

const ENTRY: &str = "protocol=https\nhost=a.example\nusername=me\npassword=p\n";
const XDG: [&str; 4] = ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"];

fn is_root() -> bool {
    rustix::process::geteuid().is_root() || installed::left_out("only root can give files away")
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a mode");
}

fn directory(path: &Path, owner: u32) {
    std::fs::create_dir_all(path).expect("a directory");
    chmod(path, 0o755);
    chown(path, Some(owner), Some(owner)).expect("an owner");
}

/// Owner, group, mode and, of a file, the content, of everything below.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, u32, u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = path.symlink_metadata().expect("it is there");
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a directory");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        let content = if metadata.is_file() { std::fs::read(&path) } else { Ok(Vec::new()) };
        let content = content.expect("a readable file");
        found.insert(path, (metadata.uid(), metadata.gid(), metadata.mode(), content));
    }
    found
}

/// `sudo` without `-H`: HOME is a user's, and everything in it stays the user's.
#[test]
fn nothing_is_made_below_a_directory_of_another_user() {
    if !is_root() {
        return;
    }
    type Shape = (&'static str, fn(&Sandbox) -> Vec<(&'static str, PathBuf)>);
    let shapes: &[Shape] = &[
        ("a home without anything", |sandbox| {
            directory(&sandbox.home(), OTHER);
            Vec::new()
        }),
        ("a home with the directories of the specification", |sandbox| {
            for below in ["", ".local", ".local/share", ".local/state", ".config", ".cache"] {
                directory(&sandbox.home().join(below), OTHER);
            }
            Vec::new()
        }),
        ("root's home with directories of the user", |sandbox| {
            for below in [".local", ".config", ".docker", ".cargo"] {
                directory(&sandbox.home().join(below), OTHER);
            }
            Vec::new()
        }),
        ("a home with directories of root's, from an earlier mistake", |sandbox| {
            directory(&sandbox.home(), OTHER);
            for below in [".local", ".local/share", ".local/state"] {
                directory(&sandbox.home().join(below), 0);
            }
            Vec::new()
        }),
        ("the user's own XDG directories", |sandbox| {
            let there = sandbox.root().join("theirs");
            directory(&there, OTHER);
            let named = XDG.map(|name| (name, there.join(name)));
            directory(&sandbox.home(), OTHER);
            named.into()
        }),
        ("a link to the user's home", |sandbox| {
            let there = sandbox.root().join("theirs");
            directory(&there, OTHER);
            let link = sandbox.root().join("link");
            symlink(&there, &link).expect("a link");
            vec![("HOME", link)]
        }),
        ("links into the user's home", |sandbox| {
            let there = sandbox.root().join("theirs");
            directory(&there, OTHER);
            for below in [".local", ".config", ".docker", ".cargo"] {
                symlink(&there, sandbox.home().join(below)).expect("a link");
            }
            Vec::new()
        }),
    ];
    let commands: &[(&[&str], &str)] = &[
        (&["store"], ENTRY),
        (&["login", "--token-stdin", "https://a.example"], "t0ken"),
        (&["setup", "docker"], ""),
        (&["setup", "cargo"], ""),
    ];
    for (shape, make) in shapes {
        for (command, input) in commands {
            let sandbox = Sandbox::new(program());
            sandbox.link("valetkey");
            sandbox.env("VALETKEY_STORE", "file");
            for name in XDG {
                sandbox.remove_env(name);
            }
            std::fs::remove_file(sandbox.home().join(".gitconfig")).expect("it was made");
            for (name, value) in make(&sandbox) {
                sandbox.env(name, value);
            }
            // Where a program goes is another matter: this one is root's.
            for link in ["docker-credential-valetkey", "cargo-credential-valetkey"] {
                sandbox.link(link);
            }
            let before = tree(sandbox.root());
            let finished = sandbox.valetkey(command).stdin(input).run();
            finished.assert_status(6).assert_stdout("");
            finished.assert_stderr_has("belongs to another user").assert_stderr_has("sudo -H");
            assert_eq!(finished.stderr_text().lines().count(), 2, "{shape}: {finished}");
            assert_eq!(tree(sandbox.root()), before, "{shape}: {command:?}");
        }
    }
}

#[test]
fn a_file_that_is_replaced_keeps_its_owner_its_group_and_its_mode() {
    if !is_root() {
        return;
    }
    for mode in [0o600, 0o640, 0o664] {
        let sandbox = Sandbox::new(program());
        sandbox.link("valetkey");
        let path = sandbox.write("home/.docker/config.json", b"{}\n", mode);
        chown(&path, Some(OTHER), Some(OTHER_GROUP)).expect("an owner");
        sandbox.valetkey(&["setup", "docker"]).run().assert_status(0);
        let found = path.metadata().expect("a file");
        assert!(found.len() > 4, "it was written");
        assert_eq!((found.uid(), found.gid()), (OTHER, OTHER_GROUP));
        assert_eq!(found.mode() & 0o7777, mode);
    }
}

/// Also one to a file that is not there yet.
#[test]
fn a_link_in_the_place_of_a_tools_file_stays_a_link() {
    let sandbox = Sandbox::new(program());
    sandbox.link("valetkey");
    let docker = sandbox.home().join(".docker");
    std::fs::create_dir(&docker).expect("a directory");
    let dotfiles = sandbox.root().join("dotfiles");
    let link = docker.join("config.json");
    let setup = || sandbox.valetkey(&["setup", "docker"]).run();
    for target in [dotfiles.join("docker.json"), PathBuf::from("../../dotfiles/docker.json")] {
        symlink(&target, &link).expect("a link");
        setup().assert_status(0);
        assert_eq!(link.read_link().expect("a link"), target);
        let written = std::fs::read_to_string(dotfiles.join("docker.json")).expect("a file");
        assert!(written.contains("valetkey"), "{written}");
        std::fs::remove_dir_all(&dotfiles).expect("a directory");
        std::fs::remove_file(&link).expect("a link");
    }
    symlink(&link, &link).expect("a link to itself");
    setup().assert_status(1);
    assert_eq!(link.read_link().expect("a link"), link);
}

/// Whoever can write above a directory of ours can put another in its place.
#[test]
fn nothing_is_believed_or_kept_below_a_directory_that_others_can_write() {
    for (mode, fine) in [(0o777, false), (0o757, false), (0o1777, true), (0o755, true)] {
        for (variable, status) in
            [("XDG_CONFIG_HOME", 78), ("XDG_DATA_HOME", 6), ("XDG_STATE_HOME", 6)]
        {
            let scene = Scene::new();
            scene.nobody();
            planted::expired(&scene, "alice");
            let open = scene.sandbox.root().join("open");
            let below = match variable {
                "XDG_CONFIG_HOME" => "config",
                "XDG_DATA_HOME" => "data",
                _ => "state",
            };
            std::fs::create_dir(&open).expect("a directory");
            let moved = open.join("below");
            std::fs::rename(scene.sandbox.root().join(below), &moved).expect("a directory");
            chmod(&open, mode);
            let link = scene.sandbox.root().join("link");
            symlink(&moved, &link).expect("a link");
            for place in [&moved, &link] {
                scene.sandbox.env(variable, place);
                let get = scene.get().run();
                let token = value(&get, "password");
                if fine {
                    get.assert_status(0);
                    assert!(token.is_some(), "{variable} {mode:o}: {get}");
                } else {
                    get.assert_status(status).assert_stdout("");
                    let hint = format!("hint: chmod go-w {}", open.display());
                    get.assert_stderr_has("error: others can write").assert_stderr_has(&hint);
                    assert_eq!(scene.authority.asked("/token"), 0, "{variable} {mode:o}");
                }
            }
            // The hint leads out.
            chmod(&open, 0o755);
            scene.get().run().assert_status(0);
        }
    }
}

#[test]
fn a_relative_path_in_a_variable_is_refused() {
    let sandbox = Sandbox::new(program());
    sandbox.env("VALETKEY_STORE", "file");
    let evil = "[profile.lab]\norigins = [\"https://git.example\"]\ntoken_env = \"T\"\n";
    for place in ["relative", "work/relative", "work/relative/valetkey/config.toml"] {
        if place.ends_with("toml") {
            sandbox.write(place, evil.as_bytes(), 0o600);
        }
    }
    let question = "protocol=https\nhost=git.example\n";
    for variable in XDG.into_iter().chain(["HOME", "VALETKEY_CONFIG", "XDG_RUNTIME_DIR"]) {
        for path in ["relative", "./relative", "../work/relative", "~/relative", "."] {
            for arguments in [&["get"][..], &["status"], &["token", "https://git.example"]] {
                let run = sandbox.valetkey(arguments).stdin(question).env(variable, path);
                let finished = run.run();
                finished.assert_status(78).assert_stdout("");
                finished.assert_stderr_has(&format!("error: {variable} is no absolute path"));
            }
        }
        // Empty is unset (XDG Base Directory Specification).
        if variable != "HOME" {
            let empty = sandbox.valetkey(&["get"]).stdin(question).env(variable, "").run();
            empty.assert(2, "", "");
        }
    }
}

/// Modes are set: the umask neither opens nor closes what is made.
#[test]
fn whatever_the_umask_says_the_modes_are_the_same() {
    for umask in ["000", "022", "077", "277", "477", "777"] {
        let scene = Scene::new();
        scene.sandbox.link("valetkey");
        let _browser = scene.browser(Person::Approves);
        let run = |arguments: &str, input: &str| {
            let script = format!("umask {umask}; exec \"$0\" {arguments}");
            scene.sandbox.run("sh", &["-c", &script]).arg(program()).stdin(input).run()
        };
        run("get", &scene.question()).assert_status(0);
        run("store", ENTRY).assert(0, "", "");
        run("erase", &format!("{}username=oauth2\npassword=x\n", scene.question()));
        run("setup docker", "").assert_status(0);
        run("setup cargo", "").assert_status(0);
        let mut seen = 0;
        for place in ["data/valetkey", "state/valetkey", "home/.docker", "home/.cargo"] {
            for (path, (_, _, mode, _)) in tree(&scene.sandbox.root().join(place)) {
                let wanted = if path.is_dir() { 0o700 } else { 0o600 };
                assert_eq!(mode & 0o7777, wanted, "umask {umask}: {}", path.display());
                seen += 1;
            }
        }
        assert!(seen > 10, "umask {umask}: {seen}");
    }
}

/// A program of the sandbox as another user, who may use all of it.
fn as_another(scene: &Scene) -> Option<[String; 4]> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    chmod(scene.sandbox.root(), 0o755);
    for path in tree(scene.sandbox.root()).into_keys() {
        std::os::unix::fs::lchown(&path, Some(OTHER), Some(OTHER)).expect("an owner");
    }
    let words = ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups"];
    Some(words.map(str::to_owned))
}

#[test]
fn a_crash_leaves_no_dump_and_no_neighbour_reads_the_memory() {
    let scene = Scene::new();
    scene.nobody();
    planted::expired(&scene, "alice");
    let gate = Gate::new();
    scene.authority.next("/token", vec![Step::HoldAnswer(gate.clone())]);
    let words = as_another(&scene).unwrap_or_default().join(" ");
    let script = format!("ulimit -c unlimited; exec {words} \"$0\" get");
    let run = scene.sandbox.run("sh", &["-c", &script]).arg(program()).stdin(scene.question());
    let get = run.start();
    gate.reached();
    // The numbers stay the same from the shell to the program.
    let process = PathBuf::from(format!("/proc/{}", get.id()));
    let limits = std::fs::read_to_string(process.join("limits")).expect("a process");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // proc(5): the files of a process that may not be dumped are root's.
    let environment = process.join("environ").metadata().expect("a process");
    assert_eq!(environment.uid(), 0, "it may be dumped");
    get.signal(rustix::process::Signal::ABORT);
    let killed = get.wait();
    gate.open();
    assert_eq!(killed.status, 128 + 6, "{killed}");
    let left = scene.sandbox.files();
    let is_core = |file: &&crate::lab::FileSeen| file.path.to_string_lossy().contains("core");
    let cores: Vec<_> = left.iter().filter(is_core).map(|file| &file.path).collect();
    assert!(cores.is_empty(), "{cores:?}");
}

/// The browser is started while locks, the listener and the answer's copy are open.
#[test]
fn what_we_start_inherits_no_descriptor_of_ours() {
    let scene = Scene::new();
    scene.sandbox.env("VALETKEY_INTERACTIVE", "always");
    let seen = scene.sandbox.root().join("descriptors");
    let script = format!(
        "#!/bin/sh\nfor each in /proc/$$/fd/*; do echo \"${{each##*/}} $(readlink $each)\"; done \
         >{0}.new\nmv {0}.new {0}\n",
        seen.display()
    );
    let browser = scene.sandbox.script("listing-browser", &script);
    scene.sandbox.env("BROWSER", &browser);
    // What the tests themselves were started with is inherited all the way.
    let numbers = |listed: &str| -> BTreeMap<u32, String> {
        let split = |line: &str| {
            let (number, target) = line.split_once(' ').expect("a number and a target");
            (number.parse().expect("a number"), target.to_owned())
        };
        listed.lines().map(split).filter(|(_, target)| !target.is_empty()).collect()
    };
    scene.sandbox.run(&browser, &[]).run().assert_status(0);
    let before = numbers(&std::fs::read_to_string(&seen).expect("a list"));
    std::fs::remove_file(&seen).expect("a list");
    let get = scene.get().start();
    get.expect_stderr("/authorize");
    let deadline = std::time::Instant::now() + crate::lab::watched::PATIENCE;
    while !seen.exists() && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    get.kill();
    get.wait();
    let listed = std::fs::read_to_string(&seen).expect("the browser ran");
    for (number, target) in numbers(&listed) {
        let kind = |target: &str| target.split(':').next().map(str::to_owned);
        let known = before.get(&number).is_some_and(|known| kind(known) == kind(&target));
        let of_the_shell = target.contains("listing-browser") || target == "/dev/null";
        assert!(number <= 2 || known || of_the_shell, "{number} is {target}");
    }
    assert!(!listed.contains("valetkey/locks"), "{listed}");
}

/// Without standard output nothing can be answered, and a word says so.
#[test]
fn what_keeps_the_program_from_starting_is_said() {
    let scene = Scene::new();
    if !crate::kill::strace_works(&scene) {
        return;
    }
    for calls in ["?dup2,?dup3", "fcntl", "?open,?openat"] {
        let inject = format!("inject={calls}:error=EIO:when=1+");
        let program = program().to_str().expect("a plain path");
        let words = ["-qq", "-o", "/dev/null", "-e", &inject, program, "get"];
        let finished: Finished = scene.sandbox.run("strace", &words).stdin(scene.question()).run();
        if finished.status == 127 {
            // The loader could not even read the C library.
            continue;
        }
        finished.assert_status(1).assert_stdout("");
        finished.assert_stderr_has("error: the standard streams cannot be used: ");
    }
}
