//! `valetkey setup` over files as people have them, and back: `--undo` gives the very bytes, mode,
//! link and absence back; in between nothing else in the file has changed; and what a person adds
//! in between stays. The tools that write their files themselves are in `peers::setup_files`.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::lab::{Finished, Sandbox};
use crate::scene::program;

/// Everything below a directory but our own state: what it is, its mode, and what is in it.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).expect("below the root").to_owned();
            if ["state", "tmp", "cache"].iter().any(|own| name == Path::new(own)) {
                continue;
            }
            let metadata = path.symlink_metadata().expect("it is there");
            let content = if metadata.is_symlink() {
                let target = path.read_link().expect("a link");
                target.into_os_string().into_encoded_bytes()
            } else if metadata.is_dir() {
                directories.push(path);
                Vec::new()
            } else {
                std::fs::read(&path).expect("a file")
            };
            found.insert(name, (metadata.mode(), u64::from(metadata.uid()), content));
        }
    }
    found
}

const STS: &str = "https://sts.eu-central-1.amazonaws.com";
const PROVIDER: &str = "projects/1/locations/global/workloadIdentityPools/p/providers/r";

pub fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new(program());
    sandbox.env("VALETKEY_STORE", "file");
    sandbox.link("valetkey");
    sandbox.config(&format!(
        "[profile.clouds]\nissuer = \"https://i.example\"\nclient_id = \"c\"\norigins = [{{ url = \
         \"{STS}\", exchange = \"aws-sts\", role = \"arn\" }}, \"https://iam.googleapis.com/{PROVIDER}\"]\n",
    ));
    sandbox
}

pub fn setup(sandbox: &Sandbox, words: &[&str]) -> Finished {
    sandbox.valetkey(&[&["setup"], words].concat()).run()
}

/// One tool, the file that setup edits, and contents that people have.
struct Kind {
    words: &'static [&'static str],
    file: &'static str,
    contents: &'static [&'static str],
    /// What a person puts behind the first so many bytes.
    edit: (&'static str, &'static str),
    /// Whether the tool reads a file with a byte order mark.
    mark: bool,
}

const KINDS: &[Kind] = &[
    Kind {
        words: &["docker"],
        file: "home/.docker/config.json",
        contents: &[
            "",
            " \n",
            "{}",
            "{}\n",
            "{\n}\n",
            "{\n\t\"auths\": {\n\t\t\"z.example\": {}\n\t},\n\t\"psFormat\": \"x\\u00e4\"\n}",
            "{\"auths\":{},\"n\":12345678901234567890123,\"f\":1.50,\"e\":1E5}",
            "{ \"a\" : 1 ,\n\n  \"a\" : [ 1,2 ],\n  \"HttpHeaders\": {\"X\": \"\\/\"} }\n\n",
            "{\n    \"credsStore\": \"\",\n    \"proxies\": {}\n}\n",
            "{\n  \"credHelpers\": {},\n  \"x\": null\n}\n",
            "{\n  \"CREDHELPERS\": {\"a.example\": \"b\"},\n  \"x\": {}\n}\n",
        ],
        edit: ("{", "\"mine\": 1,"),
        mark: false,
    },
    Kind {
        words: &["docker", "--host", "ghcr.io", "--host", "docker.io"],
        file: "home/.docker/config.json",
        contents: &[
            "",
            "{}",
            "{\n\t\"auths\": {}\n}",
            "{\"credHelpers\":{\"gcr.io\":\"gcloud\"}}",
            "{\n\t\"credHelpers\": {\n\t\t\"gcr.io\": \"gcloud\"\n\t},\n\t\"credsStore\": \"x\"\n}\n",
            "{\n\t\"credHelpers\": {\n\t},\n\t\"x\": 1.0\n}\n",
            "{\n \"credHelpers\": null\n}\n",
        ],
        edit: ("{", "\"mine\": 1,"),
        mark: false,
    },
    Kind {
        words: &["cargo"],
        file: "home/.cargo/config.toml",
        contents: &[
            "",
            "\n",
            "# mine\n",
            "# about registries\n[registry]\n# why this list\nglobal-credential-providers = [\"cargo:token\"] # because\n",
            "[registry] # keep me\n# and me\n",
            "[registry]\n",
            "[net]\nretry = 3 # often\n\n\n",
            "[registry]\n  default = \"x\"\n\n[build]\njobs = 2\n",
            "[registry]\nglobal-credential-providers = [\n    \"cargo:token\",\n    \"other --flag\", # last\n]\n[build]\n",
            "[registry]\nglobal-credential-providers = []\n",
            "registry = { default = \"x\" }\n",
            "registry = {}\n",
            "registry.default = 'x' # dotted\n[net]\n",
            "\"registry\".default = \"x\"\n",
            "[registries.acme]\nindex = \"sparse+https://a.example/\"\n",
            "[registry.credential]\nx = 1\n",
            "\t[registry]   \n\tdefault = \"x\"   \n",
            "[alias]\nb = \"build\" \\\n",
            "a = '''\n[registry]\n'''\n",
        ],
        edit: ("", "# added\n"),
        mark: true,
    },
    Kind {
        words: &["cargo", "--host", "a.example"],
        file: "home/.cargo/config.toml",
        contents: &[
            "[registries.acme]\nindex = \"sparse+https://a.example/\"",
            "[registries.acme] # one\nindex = \"https://a.example/\" # two\n# three\n\n[net]\n",
            "[registries]\nacme = { index = \"https://a.example/\" } # x\n",
            "[registries]\nacme = { index = \"https://a.example/\" , token = \"t\" }\n",
            "[registries]\nacme.index = \"https://a.example/\"\nother.index = \"https://b.example\"\n",
            "registries.acme.index = \"https://a.example/\"\n[net]\n",
            "[registries.\"acme corp\"]\nindex = \"https://a.example/\"\n",
            "[registries.x]\nindex = \"https://x.example\"\n[registries.acme]\n\n  index = \"https://a.example/\"\n\n",
        ],
        edit: ("", "# added\n"),
        mark: true,
    },
    Kind {
        words: &["terraform"],
        file: "home/.terraformrc",
        contents: &[
            "",
            "\n\n",
            "# credentials_helper \"x\" {}\nplugin_cache_dir = \"$HOME/a{b\"\n",
            "plugin_cache_dir = \"x\" # y",
            "provider_installation {\n  direct {}\n}\n/* end */\n",
            "disable_checkpoint=true\n\n\n",
            "\tcredentials \"app.terraform.io\" {\n\t\ttoken = \"x\"\n\t}\n",
        ],
        edit: ("", "# added\n"),
        mark: true,
    },
    Kind {
        words: &["pnpm", "--host", "https://b.example/npm/"],
        file: "home/.npmrc",
        contents: &[
            "",
            "\n",
            "; c\n# d\nregistry=https://r.example/\n//r.example/:_authToken=x",
            "a = b\n\n\n",
            "  //b.example/:x = y  \n",
            "key[]=1\nkey[]=2\n",
        ],
        edit: ("", "; added\n"),
        mark: true,
    },
    Kind {
        words: &["bazel"],
        file: "home/.bazelrc",
        contents: &[
            "",
            "build --jobs=2 # x\n\nimport %workspace%/x",
            "# common --credential_helper=/x/bazel-credential-valetkey\n",
            "common --credential_helper=*.x.example=/a/b\n",
            "build \\\n  --jobs=2\n",
        ],
        edit: ("", "# added\n"),
        mark: false,
    },
    Kind {
        words: &["bazel", "--host", "x.example", "--host", "y.example:8443"],
        file: "home/.bazelrc",
        contents: &["", "build --jobs=2\n\n", "\n\n", "common --credential_helper=/a/b"],
        edit: ("", "# added\n"),
        mark: false,
    },
    Kind {
        words: &["vault"],
        file: "home/.vault",
        contents: &["", "# token_helper\n", "# x", "\n\n"],
        edit: ("", "# added\n"),
        mark: false,
    },
    Kind {
        words: &["podman"],
        file: "home/.config/containers/registries.conf.d/valetkey.conf",
        contents: &[
            "",
            "# mine\n",
            "[[registry]]\nlocation = \"x\"",
            "unqualified-search-registries = [\"docker.io\"]\n\n",
        ],
        edit: ("", "# added\n"),
        mark: false,
    },
    Kind {
        words: &["aws"],
        file: "home/.aws/config",
        contents: &[
            "",
            "\n",
            "[default]\nregion = x\n",
            "[default]\nregion=x\n\n[profile valetkey]\nregion = y\n\n\n",
            "# a\n[profile b]\n  s3 =\n    max = 1\n; c",
            "[profile valetkey]\n# mine\n[profile z]\n",
            "[profile valetkey] # keep\n",
        ],
        edit: ("", "# added\n"),
        mark: false,
    },
];

/// The shapes of one content: line ends, the end of the last line, a mark at the beginning.
fn shapes(kind: &Kind) -> Vec<Vec<u8>> {
    let mut all: Vec<String> = Vec::new();
    for content in kind.contents {
        all.push((*content).to_owned());
        all.push(content.replace('\n', "\r\n"));
        all.push(content.trim_end_matches('\n').to_owned());
        if kind.mark && !content.is_empty() {
            all.push(format!("\u{feff}{content}"));
        }
    }
    all.sort();
    all.dedup();
    all.into_iter().map(String::into_bytes).collect()
}

/// Where the file is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Plain(u32),
    Link,
    LinkToLink,
}

fn put(sandbox: &Sandbox, file: &str, content: &[u8], place: Place) -> PathBuf {
    let path = sandbox.root().join(file);
    match place {
        Place::Plain(mode) => sandbox.write(file, content, mode),
        Place::Link | Place::LinkToLink => {
            let kept = sandbox.write("home/dotfiles/kept", content, 0o644);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            if matches!(place, Place::Link) {
                symlink("dotfiles/kept", sandbox.home().join("direct")).expect("a link");
                symlink(&kept, &path).expect("a link");
            } else {
                symlink("kept", sandbox.home().join("dotfiles/other")).expect("a link");
                symlink(sandbox.home().join("dotfiles/other"), &path).expect("a link");
            }
            path
        }
    }
}

/// Whether all of `one` stands in `other`, in its order.
fn is_within(one: &[u8], other: &[u8]) -> bool {
    let mut rest = other.iter();
    one.iter().all(|byte| rest.any(|other| other == byte))
}

#[test]
fn what_setup_does_to_a_file_is_taken_back_to_the_byte() {
    let mut count = 0;
    for kind in KINDS {
        for content in shapes(kind) {
            let as_it_is = kind.contents.iter().any(|text| text.as_bytes() == content);
            let links: &[Place] = if as_it_is { &[Place::Link] } else { &[] };
            for &place in [Place::Plain(0o640)].iter().chain(links) {
                let sandbox = sandbox();
                let path = put(&sandbox, kind.file, &content, place);
                let shape = format!(
                    "{:?} over {:?} {place:?}",
                    kind.words,
                    String::from_utf8_lossy(&content)
                );
                let before = tree(sandbox.root());
                let first = setup(&sandbox, kind.words);
                if first.status != 0 {
                    // What is not understood is left alone, and nothing is half done.
                    first.assert_status(1).assert_stdout("");
                    assert_eq!(tree(sandbox.root()), before, "{shape} refused: {first}");
                    assert!(shape.contains("\\\\") || shape.contains("/a/b"), "{shape}: {first}");
                    continue;
                }
                let changed = std::fs::read(&path).expect("a file");
                assert_ne!(changed, content, "{shape}");
                let kept = String::from_utf8_lossy(&content).replace("\"credsStore\": \"\"", "");
                let kept = kept.replace("\"credHelpers\": null", "");
                if !content.trim_ascii().starts_with(b"{") || kept.len() == content.len() {
                    let own = content.trim_ascii();
                    assert!(is_within(own, &changed), "{shape} became {changed:?}");
                }
                let habit = content.ends_with(b"\n");
                if !content.trim_ascii().is_empty() {
                    assert_eq!(changed.ends_with(b"\n"), habit, "{shape}: the last line's end");
                    let alone = |text: &[u8]| {
                        text.windows(2).filter(|two| two[1] == b'\n' && two[0] != b'\r').count()
                    };
                    if content.windows(2).any(|two| two == b"\r\n") {
                        assert_eq!(alone(&changed), alone(&content), "{shape}: line ends");
                    }
                }
                setup(&sandbox, kind.words).assert_status(0);
                assert_eq!(
                    std::fs::read(&path).expect("a file"),
                    changed,
                    "{shape}: twice is once"
                );
                let undo = [kind.words, &["--undo"]].concat();
                setup(&sandbox, &undo).assert_status(0);
                assert_eq!(tree(sandbox.root()), before, "{shape}: and back");
                if count % 3 == 1 {
                    setup(&sandbox, &undo).assert_status(0).assert_stderr_has("nothing to undo");
                    assert_eq!(tree(sandbox.root()), before, "{shape}: and back again");
                }
                count += 1;
            }
        }
    }
    assert!(count > 200, "{count} shapes");
}

#[test]
fn without_hosts_everything_is_taken_back() {
    for kind in KINDS {
        let sandbox = sandbox();
        let content = kind.contents.last().expect("a content");
        put(&sandbox, kind.file, content.as_bytes(), Place::LinkToLink);
        let before = tree(sandbox.root());
        if setup(&sandbox, kind.words).status == 0 {
            setup(&sandbox, &[kind.words[0], "--undo"]).assert_status(0);
        }
        assert_eq!(tree(sandbox.root()), before, "{:?}", kind.words);
    }
}

#[test]
fn what_was_not_there_is_gone_again() {
    for kind in KINDS {
        if kind.words[0] == "cargo" && kind.words.len() > 1 {
            continue;
        }
        let sandbox = sandbox();
        let before = tree(sandbox.root());
        setup(&sandbox, kind.words).assert_status(0);
        let path = sandbox.root().join(kind.file);
        assert!(path.is_file());
        for above in path.ancestors().skip(1).take_while(|above| {
            !before.contains_key(above.strip_prefix(sandbox.root()).expect("below"))
        }) {
            if above == sandbox.root() {
                break;
            }
            assert_eq!(above.metadata().expect("made").permissions().mode() & 0o777, 0o700);
        }
        setup(&sandbox, &[kind.words[0], "--undo"]).assert_status(0);
        assert_eq!(tree(sandbox.root()), before, "{:?}", kind.words);
        // Nothing is remembered of it either.
        assert!(!sandbox.root().join("state/valetkey/setup.json").exists());
        // A link to nowhere leads to a file for as long as one is wanted.
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        symlink("nowhere", &path).expect("a link");
        let before = tree(sandbox.root());
        setup(&sandbox, kind.words).assert_status(0);
        assert!(path.is_symlink() && path.is_file());
        setup(&sandbox, &[kind.words[0], "--undo"]).assert_status(0);
        assert_eq!(tree(sandbox.root()), before, "{:?} over a link to nowhere", kind.words);
    }
}

#[test]
fn what_a_person_changes_in_between_stays() {
    for kind in KINDS {
        for content in shapes(kind) {
            let text = String::from_utf8(content.clone()).expect("text");
            let json = text.trim_start().starts_with('{');
            let (behind, added) = kind.edit;
            let empty = text.trim().trim_matches('\u{feff}').is_empty();
            if empty || (json && !text.contains(':')) {
                continue;
            }
            let edited = |text: &str| {
                let mark = if text.starts_with('\u{feff}') { 3 } else { 0 };
                let at = text.find(behind).map_or(0, |at| at + behind.len()).max(mark);
                format!("{}{added}{}", &text[..at], &text[at..])
            };
            let sandbox = sandbox();
            let path = put(&sandbox, kind.file, &content, Place::Plain(0o600));
            if setup(&sandbox, kind.words).status != 0 {
                continue;
            }
            let changed = std::fs::read_to_string(&path).expect("a file");
            std::fs::write(&path, edited(&changed)).expect("written");
            setup(&sandbox, &[kind.words[0], "--undo"]).assert_status(0);
            let after = std::fs::read_to_string(&path).expect("a file");
            assert_eq!(after, edited(&text), "{:?} over {text:?}", kind.words);
        }
    }
}

/// What `--replace` puts aside, by the tool, its file, and two contents.
const REPLACED: &[(&[&str], &str, &str)] = &[
    (
        &["docker"],
        "home/.docker/config.json",
        "{\n\t\"credsStore\": \"desk\\u0074op\",\n\t\"a\": 1\n}",
    ),
    (
        &["docker", "--host", "ghcr.io"],
        "home/.docker/config.json",
        "{\"credHelpers\": {\"ghcr.io\": \"gh\", \"x\": \"y\"}, \"a\": 1}",
    ),
    (
        &["cargo", "--host", "a.example"],
        "home/.cargo/config.toml",
        "[registries.acme]\nindex = \"https://a.example/\"\ncredential-provider = [\"x\", '--y'] # why\n",
    ),
    (&["vault"], "home/.vault", "# a\n  token_helper='/x/y' # z\n"),
    (&["vault"], "home/.vault", "token_helper = \"/x/y\""),
    (
        &["terraform"],
        "home/.terraformrc",
        "a = 1\ncredentials_helper \"other\" {\n  args = [\"x\"] # y\n}\n# end\n",
    ),
    (
        &["pnpm", "--host", "https://b.example/npm/"],
        "home/.npmrc",
        "a=b\n//b.example/npm/:tokenHelper = \"/x/y\"\n",
    ),
    (&["bazel"], "home/.bazelrc", "common --credential_helper=/x/y\n# end\n"),
    (
        &["aws"],
        "home/.aws/config",
        "[profile valetkey]\ncredential_process = other thing # x\nregion = y\n",
    ),
    (
        &["podman"],
        "home/.config/containers/registries.conf.d/valetkey.conf",
        "# a\ncredential-helpers = [\"pass\"] # b\n",
    ),
];

#[test]
fn what_replace_puts_aside_comes_back() {
    for (words, file, content) in REPLACED {
        for content in [(*content).to_owned(), content.replace('\n', "\r\n")] {
            let sandbox = sandbox();
            let path = put(&sandbox, file, content.as_bytes(), Place::Plain(0o640));
            let before = tree(sandbox.root());
            let refused = setup(&sandbox, words);
            refused.assert_status(1).assert_stderr_has("hint: --replace ");
            assert_eq!(tree(sandbox.root()), before, "{words:?}");
            let replace = [words, &["--replace"][..]].concat();
            setup(&sandbox, &replace).assert_status(0);
            assert_ne!(std::fs::read_to_string(&path).expect("a file"), content);
            setup(&sandbox, &[words[0], "--undo"]).assert_status(0);
            assert_eq!(tree(sandbox.root()), before, "{words:?}");

            // It also comes back into a file that somebody has changed since.
            setup(&sandbox, &replace).assert_status(0);
            let changed = std::fs::read_to_string(&path).expect("a file");
            let edited = |text: &str| match text.strip_prefix('{') {
                Some(text) => format!("{{\"mine\": 2,{text}"),
                None => format!("# mine\n{text}"),
            };
            std::fs::write(&path, edited(&changed)).expect("written");
            setup(&sandbox, &[words[0], "--undo"]).assert_status(0);
            let after = std::fs::read_to_string(&path).expect("a file");
            assert_eq!(after, edited(&content), "{words:?} with an edit");
        }
    }
}

/// The program has moved, or another copy of it takes back what this one wrote.
#[test]
fn another_path_of_the_program_takes_back_what_this_one_wrote() {
    for kind in KINDS {
        let content =
            kind.contents.iter().find(|content| content.contains(':') || content.contains('='));
        let content = content.copied().unwrap_or_default();
        for edit in [false, true] {
            let sandbox = sandbox();
            let elsewhere = sandbox.root().join("elsewhere");
            std::fs::create_dir(&elsewhere).expect("a directory");
            std::fs::copy(program(), elsewhere.join("valetkey")).expect("a copy");
            let path = put(&sandbox, kind.file, content.as_bytes(), Place::Plain(0o600));
            let before = tree(sandbox.root());
            setup(&sandbox, kind.words).assert_status(0);
            if edit {
                let changed = std::fs::read_to_string(&path).expect("a file");
                let edited = match changed.trim_start().starts_with('{') {
                    true => format!("{changed}\n"),
                    false => format!("# mine\n{changed}"),
                };
                std::fs::write(&path, edited).expect("written");
            }
            let words = ["setup", kind.words[0], "--undo"];
            let run = sandbox.run(elsewhere.join("valetkey"), &words);
            run.run().assert_status(0);
            if edit {
                let after = std::fs::read_to_string(&path).expect("a file");
                let ours = after.replace("# common", "").contains("valetkey");
                assert!(!ours || content.contains("valetkey"), "{:?}: {after}", kind.words);
                assert!(is_within(content.trim().as_bytes(), after.as_bytes()));
            } else {
                assert_eq!(tree(sandbox.root()), before, "{:?}", kind.words);
            }
        }
    }
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_nothing_changes() {
    for kind in KINDS {
        let content =
            kind.contents.iter().find(|content| content.contains(':') || content.contains('='));
        let sandbox = sandbox();
        let content = content.copied().unwrap_or_default();
        let path = put(&sandbox, kind.file, content.as_bytes(), Place::Plain(0o444));
        let before = tree(sandbox.root());
        let refused = setup(&sandbox, kind.words);
        refused.assert_status(1).assert_stdout("").assert_stderr_has("it is read-only");
        refused.assert_stderr_has(&format!("hint: chmod u+w {}", path.display()));
        assert_eq!(tree(sandbox.root()), before, "{:?}", kind.words);
        // The hint leads out.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("its mode");
        setup(&sandbox, kind.words).assert_status(0);
    }
}
