//! `valetkey setup` for tools that write their configuration themselves, over files as people have
//! them: the tool reads what comes of it, nothing else in it has changed, and `--undo` gives the
//! very bytes, mode, link and absence back.

use std::os::unix::fs::symlink;

use serde_json::Value;

use super::{Peer, here, installed, with_old_git};
use crate::lab::Sandbox;
use crate::setup_shapes::{sandbox, setup, tree};

/// With line ends of both kinds, and with and without one at the end.
fn shapes(contents: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = contents
        .iter()
        .flat_map(|content| {
            [
                (*content).to_owned(),
                content.replace('\n', "\r\n"),
                content.trim_end_matches('\n').to_owned(),
            ]
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

const GIT: &[&str] = &[
    "",
    "\n\n",
    "# mine\n",
    "[user]\n\tname = A ; b\n\n\n",
    "[credential]\n",
    "[credential] # keep\n\t# and this\n",
    "[credential]\n\thelper = store\n\thelper = \"!f() { echo x; }; f\"\n[alias]\n\tco = checkout\n",
    "[credential]\n\thelper =\n\thelper = store # why\n",
    "[include]\n\tpath = ~/other\n[credential \"https://x.example\"]\n  helper = y\n",
    "[CREDENTIAL]\n    HELPER=store\n[credential]\nusername = u\n",
    "[credential] helper = store\n",
    "\u{feff}[user]\n\tname = B\n",
    "[credential \"https://git.example\"]\n\tusername = me\n",
];

#[test]
fn git_gets_its_file_back() {
    for old in [false, true] {
        if old && !here(&[Peer::OldGit]) {
            continue;
        }
        for (number, content) in shapes(GIT).into_iter().enumerate() {
            let words: &[&str] = [
                &["git"][..],
                &["git", "--replace"],
                &["git", "--host", "git.example", "--host", "https://b.example:8443"],
            ][number % 3];
            let sandbox = sandbox();
            if old {
                with_old_git(&sandbox);
            }
            let path = sandbox.home().join(".gitconfig");
            std::fs::remove_file(&path).expect("it is there");
            match number % 4 {
                0 => {
                    sandbox.write("home/dotfiles/git", content.as_bytes(), 0o640);
                    symlink("dotfiles/git", &path).expect("a link");
                }
                1 => drop(sandbox.write("config/git/config", content.as_bytes(), 0o600)),
                2 => {
                    let other = sandbox.write("work/other", content.as_bytes(), 0o600);
                    sandbox.env("GIT_CONFIG_GLOBAL", other);
                }
                _ => drop(sandbox.write("home/.gitconfig", content.as_bytes(), 0o644)),
            }
            let list = || {
                let list = sandbox.git(&["config", "--global", "--list"]).run().assert_success();
                let ours = |line: &&str| line.contains("/valetkey") || line.ends_with("helper=");
                list.lines().filter(|line| !ours(line)).map(str::to_owned).collect::<Vec<_>>()
            };
            let (before, said) = (tree(sandbox.root()), list());
            let first = setup(&sandbox, words);
            assert_eq!(first.status, 0, "{words:?} over {content:?}: {first}");
            assert_eq!(list(), said, "{words:?} over {content:?}");
            let between = tree(sandbox.root());
            assert_ne!(between, before);
            setup(&sandbox, words).assert_status(0);
            assert_eq!(tree(sandbox.root()), between, "{words:?} over {content:?}: twice is once");
            setup(&sandbox, &["git", "--undo"]).assert_status(0);
            assert_eq!(tree(sandbox.root()), before, "{words:?} over {content:?}: and back");
            let again = setup(&sandbox, &["git", "--undo"]);
            again.assert_status(0).assert_stderr_has("nothing to undo");
            assert_eq!(tree(sandbox.root()), before);
        }
    }
}

/// Without a file, and with hosts of which one is taken back at a time.
#[test]
fn git_has_no_file_again_when_the_last_host_is_taken_back() {
    let sandbox = sandbox();
    std::fs::remove_file(sandbox.home().join(".gitconfig")).expect("it is there");
    let before = tree(sandbox.root());
    setup(&sandbox, &["git", "--host", "a.example", "--host", "b.example"]).assert_status(0);
    setup(&sandbox, &["git", "--host", "a.example", "--undo"]).assert_status(0);
    let left = std::fs::read_to_string(sandbox.home().join(".gitconfig")).expect("a file");
    assert!(left.contains("b.example") && !left.contains("a.example"), "{left}");
    setup(&sandbox, &["git", "--host", "b.example", "--undo"]).assert_status(0);
    assert_eq!(tree(sandbox.root()), before);
    // What somebody adds in between stays, and so does the file.
    setup(&sandbox, &["git", "--host", "a.example"]).assert_status(0);
    sandbox.git_config("[user]\n\tname = C\n");
    setup(&sandbox, &["git", "--undo"]).assert_status(0);
    let left = std::fs::read_to_string(sandbox.home().join(".gitconfig")).expect("a file");
    assert_eq!(left, "[user]\n\tname = C\n");
}

/// Each helper that keeps our tokens is named, with the command that puts it aside.
#[test]
fn git_behind_a_helper_that_keeps_tokens_is_warned_of() {
    for (config, hosts, named) in [
        ("[credential]\n\thelper = store\n", "", Some("store too, which keeps them in plain text")),
        ("[credential]\n\thelper = cache --timeout=9\n", "", Some("cache --timeout=9 too")),
        ("[credential]\n\thelper = store\n", "a.example", Some("store too")),
        (
            "[credential \"https://a.example\"]\n\thelper = manager\n",
            "a.example",
            Some("manager too"),
        ),
        ("[include]\n\tpath = other\n", "", Some("osxkeychain too")),
        ("[credential]\n\thelper = store\n\thelper =\n", "", None),
        ("[credential]\n\thelper = !gh auth git-credential\n\thelper = oauth\n", "", None),
        ("", "", None),
    ] {
        let sandbox = sandbox();
        sandbox.write("home/other", b"[credential]\n\thelper = osxkeychain\n", 0o644);
        let before = format!("[user]\n\tname = A\n{config}");
        let path = sandbox.write("home/.gitconfig", before.as_bytes(), 0o644);
        let host = ["--host", hosts];
        let host = if hosts.is_empty() { &[][..] } else { &host[..] };
        let finished = setup(&sandbox, &[&["git"], host].concat());
        finished.assert_status(0);
        let Some(named) = named else {
            assert!(!finished.stderr_text().contains("warning"), "{config}: {finished}");
            continue;
        };
        finished.assert_stderr_has(named).assert_stderr_has("warning: ");
        // The hint leads out.
        let text = finished.stderr_text();
        let hint = text.split("hint: valetkey ").nth(1).and_then(|hint| hint.split(" puts").next());
        let hint: Vec<&str> = hint.expect("a hint").split(' ').collect();
        let put_aside = sandbox.valetkey(&hint).run();
        put_aside.assert_status(0);
        assert!(!put_aside.stderr_text().contains("warning"), "{put_aside}");
        let again = setup(&sandbox, &[&["git"], host].concat());
        assert!(!again.stderr_text().contains("warning"), "{config}: {again}");
        setup(&sandbox, &["git", "--undo"]).assert_status(0);
        assert_eq!(std::fs::read_to_string(&path).ok(), Some(before));
    }
}

#[test]
fn go_gets_its_file_back() {
    if !here(&[Peer::Go]) {
        return;
    }
    let go = installed().join("go/bin/go");
    let contents = [
        "",
        "GOFLAGS=-mod=mod\nCGO_ENABLED=0",
        "# mine\nGOPROXY=direct\n\nGOAUTH=off\n",
        "GOAUTH=git /x; netrc\n",
    ];
    for content in contents.into_iter().map(Some).chain([None]) {
        let sandbox = sandbox();
        symlink(&go, sandbox.bin().join("go")).expect("a link");
        sandbox.env("GOROOT", installed().join("go"));
        // go counts what it does in files of its own.
        sandbox.run("go", &["env", "GOENV"]).run().assert_success();
        if let Some(content) = content {
            sandbox.write("config/go/env", content.as_bytes(), 0o640);
        }
        let seen = || {
            let mut seen = tree(sandbox.root());
            seen.retain(|path, _| !path.to_string_lossy().contains("telemetry"));
            seen
        };
        let value = |name: &str| sandbox.run("go", &["env", name]).run().assert_success();
        let (before, proxy) = (seen(), value("GOPROXY"));
        let replace =
            if content.is_some_and(|text| text.contains("off")) { "--replace" } else { "--print" };
        setup(&sandbox, &["go", replace]).assert_status(0);
        setup(&sandbox, &["go"]).assert_status(0);
        assert!(value("GOAUTH").contains("/valetkey goauth"));
        assert_eq!(value("GOPROXY"), proxy);
        setup(&sandbox, &["go", "--undo"]).assert_status(0);
        assert_eq!(seen(), before, "{content:?}");
        // What go itself changes in between stays, and the value of before comes back.
        let auth = value("GOAUTH");
        setup(&sandbox, &["go", replace]).assert_status(0);
        setup(&sandbox, &["go"]).assert_status(0);
        sandbox.run("go", &["env", "-w", "GOSUMDB=off"]).run().assert_success();
        setup(&sandbox, &["go", "--undo"]).assert_status(0);
        assert_eq!((value("GOAUTH"), value("GOSUMDB")), (auth, "off\n".to_owned()));
    }
}

const KUBE: &str = "# mine\napiVersion: v1\nkind: Config\nclusters:\n- name: lab # here\n  cluster:\n    \
     server: https://kube.example:6443\ncontexts:\n- name: lab\n  context: {cluster: lab, user: me, \
     namespace: ns}\nusers:\n- name: me\n  user:\n    token: canary\ncurrent-context: lab\n\
     extensions: []\n";

fn kubectls() -> Vec<(&'static str, std::path::PathBuf)> {
    let all = [("v1", Peer::Kubectl, "kubectl"), ("v1beta1", Peer::OldKubectl, "old-kubectl")];
    let all = all.into_iter().filter(|(_, peer, _)| here(&[*peer]));
    all.map(|(version, _, name)| (version, installed().join(name).join("kubectl"))).collect()
}

fn view(sandbox: &Sandbox) -> Value {
    let view = sandbox.run("kubectl", &["config", "view", "--raw", "-o", "json"]).run();
    serde_json::from_slice(&view.assert_success().into_bytes()).expect("JSON")
}

#[test]
fn kubectl_gets_its_files_back() {
    const HOST: &[&str] = &["kubectl", "--host", "kube.example:6443"];
    for (version, kubectl) in kubectls() {
        let json = serde_json::json!({
            "apiVersion": "v1", "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {"server": "https://kube.example:6443"}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
        });
        let crlf = KUBE.replace('\n', "\r\n");
        let json = json.to_string();
        let linked = KUBE.trim_end();
        for (number, content) in
            [Some(KUBE), Some(&crlf), Some(&json), Some(linked), Some(""), None]
                .into_iter()
                .enumerate()
        {
            let sandbox = sandbox();
            symlink(&kubectl, sandbox.bin().join("kubectl")).expect("a link");
            if let Some(content) = content {
                sandbox.write("home/dotfiles/kube", content.as_bytes(), 0o600);
                std::fs::create_dir(sandbox.home().join(".kube")).expect("made");
                let path = sandbox.home().join(".kube/config");
                match number {
                    3 => symlink("../dotfiles/kube", &path).expect("a link"),
                    _ => {
                        std::fs::rename(sandbox.home().join("dotfiles/kube"), &path).expect("moved")
                    }
                }
            }
            let words =
                if content.is_some_and(|text| text.contains("lab")) { HOST } else { &HOST[..1] };
            let (before, said) = (tree(sandbox.root()), view(&sandbox));
            let first = setup(&sandbox, words);
            assert_eq!(first.status, 0, "{version} over {content:?}: {first}");
            let mut now = view(&sandbox);
            let user = |user: &&Value| user["name"] == "valetkey";
            let exec = now["users"].as_array().and_then(|users| users.iter().find(user)).cloned();
            let exec = &exec.expect("our user")["user"]["exec"];
            assert_eq!(exec["apiVersion"], format!("client.authentication.k8s.io/{version}"));
            assert_eq!(exec["provideClusterInfo"], true, "{exec}");
            for (name, ours) in [("users", "valetkey"), ("contexts", "lab-valetkey")] {
                if let Some(list) = now[name].as_array_mut() {
                    list.retain(|entry| entry["name"] != ours);
                    if list.is_empty() {
                        now[name] = Value::Null;
                    }
                }
            }
            assert_eq!(now, said, "{version} over {content:?}");
            let between = tree(sandbox.root());
            setup(&sandbox, words).assert_status(0).assert_stderr_has("nothing to do");
            assert_eq!(tree(sandbox.root()), between);
            setup(&sandbox, &["kubectl", "--undo"]).assert_status(0);
            assert_eq!(tree(sandbox.root()), before, "{version} over {content:?}: and back");
        }
    }
}

/// The context that is current is never one that is gone.
#[test]
fn kubectls_current_context_is_one_that_is_there() {
    for (_, kubectl) in kubectls() {
        let sandbox = sandbox();
        symlink(&kubectl, sandbox.bin().join("kubectl")).expect("a link");
        let path = sandbox.write("home/.kube/config", KUBE.as_bytes(), 0o600);
        let before = view(&sandbox);
        setup(&sandbox, &["kubectl", "--host", "kube.example:6443"]).assert_status(0);
        let use_ours = ["config", "use-context", "lab-valetkey"];
        sandbox.run("kubectl", &use_ours).run().assert_success();
        setup(&sandbox, &["kubectl", "--undo"]).assert_status(0);
        assert_eq!(view(&sandbox), before);
        // Where the one that it was made from has gone too, none is current.
        setup(&sandbox, &["kubectl", "--host", "kube.example:6443"]).assert_status(0);
        sandbox.run("kubectl", &use_ours).run().assert_success();
        sandbox.run("kubectl", &["config", "delete-context", "lab"]).run().assert_success();
        setup(&sandbox, &["kubectl", "--undo"]).assert_status(0);
        assert_eq!(view(&sandbox)["current-context"], "");
        assert!(!std::fs::read_to_string(&path).expect("a file").contains("valetkey"));
    }
}

/// Whatever a tool complains of is said, in one line, and nothing is half done.
#[test]
fn what_a_tool_says_when_it_fails_is_quoted() {
    let sandbox = sandbox();
    let script = "#!/bin/sh\ncase \"$*\" in\n*view*) echo '{}' ;;\n*--help*) echo --exec-interactive-mode ;;\n\
                  *) printf '\\033[31mError: unknown flag: --x\\nSee help\\n' >&2; exit 1 ;;\nesac\n";
    sandbox.script("kubectl", script);
    sandbox.script(
        "git",
        "#!/bin/sh\ncase \"$*\" in *--add*) echo 'fatal: full' >&2; exit 4 ;; esac\n",
    );
    sandbox.script(
        "go",
        "#!/bin/sh\ncase \"$2\" in -w) echo 'go: no room' ; exit 1 ;; GOAUTH) echo netrc ;; esac\n",
    );
    let before = tree(sandbox.root());
    for (tool, said) in [
        (
            "kubectl",
            "--exec-provide-cluster-info=true failed\n  cause: [31mError: unknown flag: --x\n",
        ),
        ("git", "failed\n  cause: fatal: full\n"),
        ("go", "failed\n  cause: go: no room\n"),
    ] {
        let failed = setup(&sandbox, &[tool]);
        failed.assert_status(1).assert_stdout("");
        let text = failed.stderr_text().replace("caused by", "cause");
        assert!(text.contains(said.split('\n').next().expect("a line")), "{failed}");
        assert!(text.contains(said.split("cause: ").nth(1).expect("a cause").trim()), "{failed}");
        assert!(!text.contains('\u{1b}') && !text.contains("See help"), "{failed}");
        assert_eq!(tree(sandbox.root()), before, "{tool}");
    }
}
