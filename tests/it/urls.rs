//! Whose host a URL names: one reader for every dialect, argument and variable; rules U1 to U6.

use std::path::Path;

use valetkey::model::Resource;

use crate::lab::{Finished, Run, Sandbox};
use crate::scene::program;

/// URLs that clients really use, and the origin that each of them connects to.
pub const PLAIN: &[(&str, &str)] = &[
    ("https://good.example", "https://good.example"),
    ("https://good.example/", "https://good.example"),
    ("https://good.example/a/b", "https://good.example"),
    ("https://good.example/a%20b", "https://good.example"),
    ("https://good.example/a;b=c,d", "https://good.example"),
    ("https://good.example/@scope/package", "https://good.example"),
    ("https://good.example/a:b", "https://good.example"),
    ("https://good.example//a", "https://good.example"),
    ("https://good.example/../a", "https://good.example"),
    ("https://good.example/%2e%2e/a", "https://good.example"),
    ("https://good.example/a%2fb", "https://good.example"),
    ("https://good.example/caf\u{e9}", "https://good.example"),
    ("https://good.example?a=b", "https://good.example"),
    ("https://good.example/?a=b@c", "https://good.example"),
    ("https://good.example#a", "https://good.example"),
    ("https://good.example/#a@b", "https://good.example"),
    ("HTTPS://GOOD.Example/A", "https://good.example"),
    ("https://good.example:443", "https://good.example"),
    ("https://good.example:8443/a", "https://good.example:8443"),
    ("http://good.example", "http://good.example"),
    ("http://good.example:80/", "http://good.example"),
    ("http://good.example:443/", "http://good.example:443"),
    ("https://user@good.example/a", "https://good.example"),
    ("https://a%40b@good.example/a", "https://good.example"),
    ("https://a%2fb@good.example/a", "https://good.example"),
    ("https://good.example%2f@evil.example/", "https://evil.example"),
    ("https://good.example/@evil.example/", "https://good.example"),
    ("https://evil.example/@good.example/", "https://evil.example"),
    ("https://under_score.example/", "https://under_score.example"),
    ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example"),
    ("https://b\u{fc}cher.example/", "https://xn--bcher-kva.example"),
    ("https://B\u{dc}CHER.example/", "https://xn--bcher-kva.example"),
    ("https://127.0.0.1/", "https://127.0.0.1"),
    ("https://127.0.0.1:8200/v1", "https://127.0.0.1:8200"),
    ("https://[::1]/", "https://[::1]"),
    ("https://[::1]:8443/a", "https://[::1]:8443"),
    ("https://[2001:DB8::1]/", "https://[2001:db8::1]"),
    ("https://[2001:db8:0:0:0:0:0:1]/", "https://[2001:db8::1]"),
    ("https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]"),
    ("https://localhost:5000", "https://localhost:5000"),
    ("https://a-b.c--d.example", "https://a-b.c--d.example"),
    ("https://1.2.3.4.example", "https://1.2.3.4.example"),
    ("https://0x7f.example", "https://0x7f.example"),
];

/// URLs that two parsers read differently, or that none reads: `good.example` has a token, and
/// none of these is an address of it.
pub const ODD: &[&str] = &[
    // What ends the authority.
    "https://evil.example#@good.example",
    "https://evil.example?@good.example",
    "https://evil.example#@good.example/",
    "https://evil.example?x@good.example:443/a",
    "https://evil.example#x:y@good.example/a",
    "https://good.example?@evil.example",
    "https://good.example#@evil.example/",
    "https://evil.example\\@good.example",
    "https://evil.example\\@good.example/",
    "https://good.example\\@evil.example/",
    "https://evil.example\\.good.example/",
    "https://good.example\\.evil.example/",
    "https://good.example\\evil",
    "https:\\\\good.example/",
    "https:/\\good.example/",
    "https:\\/good.example/",
    "https://\\good.example/",
    "https://good.example/a\\b",
    "\\\\good.example",
    // Users.
    "https://user@evil.example@good.example/",
    "https://user@good.example@evil.example/",
    "https://good.example@@evil.example/",
    "https://evil.example@@good.example/",
    "https://a@b@good.example/",
    "https://user:secret@good.example/",
    "https://:@good.example/",
    "https://us er@good.example/",
    "https://[evil]@good.example/",
    "https://<evil>@good.example/",
    "https://evil.example\u{ff20}good.example/",
    "https://evil.example\u{ff0f}@good.example/",
    "https://u%0as@good.example/",
    // Control characters and white space, which some parsers drop and others cut at.
    " https://good.example/",
    "https://good.example/ ",
    "\thttps://good.example/",
    "https://good.example/\n",
    "\nhttps://good.example/",
    "https://good.example\n@evil.example/",
    "https://evil.example\n@good.example/",
    "https://good.exa\tmple/",
    "https://good.exa\rmple/",
    "ht\ntps://good.example/",
    "https:/\t/good.example/",
    "https://good.example\u{7f}/",
    "https://good.example\u{1b}/",
    "https://good.example /",
    "https://good.example%20/",
    "https://go od.example/",
    "https://good.example\u{a0}/",
    "https://good.example\u{85}/",
    "https://good.example\u{2028}/",
    "https://good.example/a b",
    // Escapes in the host.
    "https://good%2eexample/",
    "https://%67ood.example/",
    "https://good.example%2fevil.example/",
    "https://evil.example%2fgood.example/",
    "https://evil.example%23.good.example/",
    "https://evil.example%3f.good.example/",
    "https://evil.example%40good.example/",
    "https://evil.example%5c.good.example/",
    "https://good.example%00/",
    "https://good.example%00.evil.example/",
    "https://good.example%3a443/",
    "https://good.example%/",
    // Ports.
    "https://good.example:/",
    "https://good.example:",
    "https://good.example:0/",
    "https://good.example:00443/",
    "https://good.example:0443/",
    "https://good.example:+443/",
    "https://good.example:-443/",
    "https://good.example:443x/",
    "https://good.example:0x1bb/",
    "https://good.example:65536/",
    "https://good.example:65979/",
    "https://good.example:4294967739/",
    "https://good.example:443:443/",
    "https://good.example:443:80/",
    "https://good.example:443@evil.example/",
    "https://good.example:\u{664}\u{664}\u{663}/",
    "https://:443/",
    // Slashes and schemes.
    "https:good.example/",
    "https:/good.example/",
    "https:///good.example/",
    "https:////good.example/",
    "https:443",
    "HTTP:80/a",
    "//good.example/",
    "/good.example",
    "://good.example/",
    "https//good.example/",
    "https://https://good.example/",
    "https://",
    "https:///",
    "https://?good.example",
    "https://#good.example",
    "https://@/good.example",
    "ht tps://good.example/",
    "evil.example/https://good.example/",
    "evil.example?https://good.example/",
    "evil.example#https://good.example/",
    "",
    // Names that are none.
    "https://good..example/",
    "https://.good.example/",
    "https://good.example../",
    "https://-good.example/",
    "https://good-.example/",
    "https://good.-example/",
    "https://good.example-/",
    "https://./",
    "https://good.example,evil.example/",
    "https://good.example;evil.example/",
    "https://good.example|evil.example/",
    "https://good.example^/",
    "https://good.example`/",
    "https://good.example'/",
    "https://good.example\"/",
    "https://good.example{}/",
    "https://good.example<>/",
    "https://good.example*/",
    "https://good.example!/",
    "https://good.example&evil.example/",
    "https://good.example$/",
    "https://good.example~/",
    "https://(good.example)/",
    // Addresses in other notations.
    "https://127.1/",
    "https://127.0.1/",
    "https://0x7f.1/",
    "https://0x7f.0.0.1/",
    "https://0x7f000001/",
    "https://2130706433/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.0.0.01/",
    "https://127.0.0.1./",
    "https://127.0.0.256/",
    "https://256/",
    "https://1.2.3.4.5/",
    "https://good.example.1/",
    "https://good.example.0x1/",
    "https://good.0x/",
    "https://4294967296/",
    "https://[::1%25eth0]/",
    "https://[::1%eth0]/",
    "https://[fe80::1%25lo]/",
    "https://[::1/",
    "https://::1]/",
    "https://::1/",
    "https://[::1]x/",
    "https://[::1].good.example/",
    "https://[good.example]/",
    "https://[v1.good]/",
    "https://[]/",
    "https://[127.0.0.1]/",
    "https://[::1]:/",
    "https://[::127.0.0.01]/",
    // Letters that IDNA reads as others.
    "https://\u{ff47}ood.example/",
    "https://good\u{3002}example/",
    "https://good\u{ff0e}example/",
    "https://good\u{ff61}example/",
    "https://good.example\u{3002}/",
    "https://good.example\u{ff0f}.evil.example/",
    "https://evil.example\u{ff0f}.good.example/",
    "https://evil.example\u{ff03}.good.example/",
    "https://evil.example\u{ff1f}.good.example/",
    "https://evil.example\u{2100}.good.example/",
    "https://evil.example\u{2488}good.example/",
    "https://goo\u{ad}d.example/",
    "https://goo\u{200b}d.example/",
    "https://goo\u{200d}d.example/",
    "https://goo\u{2060}d.example/",
    "https://\u{fb00}.example/",
    "https://\u{2460}.example/",
    "https://stra\u{df}e.example/",
    "https://stra\u{1e9e}e.example/",
    "https://\u{3b2}\u{3cc}\u{3bb}\u{3bf}\u{3c2}.example/",
    "https://\u{212a}.example/",
    "https://\u{130}.example/",
    "https://\u{1d420}ood.example/",
    "https://u\u{308}.example/",
    "https://\u{ff11}27.0.0.1/",
    "https://127\u{3002}0\u{3002}0\u{3002}1/",
    "https://xn--a/",
    "https://xn--/",
    "https://xn--good-.example/",
    "https://xn--zzzzzzzzzzz.example/",
];

/// A home in which one host has a token, and nobody can be asked.
pub fn home() -> Sandbox {
    home_of(program())
}

/// As `home`, with another program in the place of ours.
pub fn home_of(program: &Path) -> Sandbox {
    let sandbox = Sandbox::new(program);
    sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "never");
    sandbox.env("LAB_TOKEN", TOKEN);
    // The next keyring on PATH, which knows nothing.
    sandbox.script("keyring", "#!/bin/sh\nexit 1\n");
    sandbox.config(
        "[profile.good]\norigins = [\"https://good.example\"]\nflow = \"token\"\n\
         token_env = [\"LAB_TOKEN\"]\n",
    );
    sandbox
}

const GOOD: &str = "good.example";

pub const TOKEN: &str = "lab-good-token";

/// Whether the token is in an answer: as it is, or as Basic encodes it.
pub fn gives_it(finished: &Finished) -> bool {
    let text = finished.stdout_text();
    text.contains(TOKEN) || text.contains("b2F1dGgyOmxhYi1nb29kLXRva2Vu")
}

pub type Way = (&'static str, fn(&Sandbox, &str) -> Option<Run>);

/// Every way by which a caller's URL comes in.
pub const WAYS: &[Way] = &[
    ("token", |sandbox, url| Some(sandbox.valetkey(&["token", url]))),
    ("token of a variable", |sandbox, url| {
        let run = sandbox.valetkey(&["token"]).env("CARGO_REGISTRY_INDEX_URL", url);
        (!url.is_empty()).then_some(run)
    }),
    ("header", |sandbox, url| Some(sandbox.valetkey(&["header", url]))),
    ("header of a variable", |sandbox, url| {
        let run = sandbox.valetkey(&["header"]).env("CLAUDE_CODE_MCP_SERVER_URL", url);
        (!url.is_empty()).then_some(run)
    }),
    ("json", |sandbox, url| Some(sandbox.valetkey(&["json", url]))),
    ("kubectl", |sandbox, url| {
        let question = serde_json::json!({
            "kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",
            "spec": { "interactive": false, "cluster": { "server": url } },
        });
        let run = sandbox.valetkey(&["kubectl"]);
        Some(run.env("KUBERNETES_EXEC_INFO", question.to_string()))
    }),
    ("kubectl with a URL", |sandbox, url| {
        let question = "{\"kind\":\"ExecCredential\",\"spec\":{},\
                        \"apiVersion\":\"client.authentication.k8s.io/v1\"}";
        let run = sandbox.valetkey(&["kubectl", url]);
        Some(run.env("KUBERNETES_EXEC_INFO", question))
    }),
    ("vault", |sandbox, url| {
        let run = sandbox.valetkey(&["vault", "get"]).env("VAULT_ADDR", url);
        (!url.is_empty()).then_some(run)
    }),
    ("bazel", |sandbox, url| {
        let question = serde_json::json!({ "uri": url }).to_string();
        Some(sandbox.valetkey(&["bazel", "get"]).stdin(question))
    }),
    ("keyring", |sandbox, url| Some(sandbox.valetkey(&["keyring", "--mode", "creds", "get", url]))),
    ("goauth", |sandbox, url| {
        let head = "HTTP/1.1 401 Unauthorized\n\n";
        Some(sandbox.valetkey(&["goauth", url]).stdin(head))
    }),
    ("docker", |sandbox, url| Some(sandbox.valetkey(&["docker", "get"]).stdin(url))),
    ("askpass", |sandbox, url| {
        Some(sandbox.valetkey(&["askpass", &format!("Password for '{url}': ")]))
    }),
    ("git", |sandbox, url| Some(sandbox.valetkey(&["get"]).stdin(format!("url={url}\n\n")))),
    ("git by parts", |sandbox, url| {
        let (scheme, host) = url.split_once("://")?;
        let host = host.split('/').next().filter(|host| *host != GOOD || url.ends_with(GOOD))?;
        Some(sandbox.valetkey(&["get"]).stdin(format!("protocol={scheme}\nhost={host}\n\n")))
    }),
    ("cargo", |sandbox, url| {
        let question = serde_json::json!({
            "v": 1, "kind": "get", "operation": "read",
            "registry": { "index-url": format!("sparse+{url}") },
        });
        Some(sandbox.valetkey(&["cargo", "--cargo-plugin"]).stdin(format!("{question}\n")))
    }),
    ("terraform", |sandbox, url| {
        let host = url.strip_prefix("https://")?;
        Some(sandbox.valetkey(&["terraform", "get", host.strip_suffix('/').unwrap_or(host)]))
    }),
    ("google", |sandbox, url| {
        let run = sandbox.valetkey(&["google"]);
        Some(run.env("GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE", url.strip_prefix("https:")?))
    }),
];

/// What a dialect takes off by its own protocol is not there for it.
fn takes_off(way: &str, url: &str) -> bool {
    match way {
        "docker" => url != url.trim(),
        // git hands over the password of a URL, and each line is one of its own.
        "git" => url.contains('\n') || url.contains(":secret@") || url.contains("/:@"),
        "git by parts" => url.contains('\n'),
        _ => false,
    }
}

#[test]
fn no_dialect_names_a_host_that_a_client_could_take_for_another() {
    let sandbox = home();
    let answers = |(name, way): &Way| {
        let control = way(&sandbox, "https://good.example").expect("a plain URL").run();
        assert!(gives_it(&control), "{name} gives nothing for a plain URL: {control}");
        for url in ODD.iter().filter(|url| !takes_off(name, url)) {
            let finished = way(&sandbox, url).map(Run::run);
            let given = finished.as_ref().is_some_and(gives_it);
            assert!(!given, "{name} for {url:?}: {finished:?}");
        }
    };
    std::thread::scope(|scope| {
        let (one, other) = WAYS.split_at(WAYS.len() / 2);
        scope.spawn(|| one.iter().for_each(answers));
        scope.spawn(|| other.iter().for_each(answers));
    });
}

/// The refusal is a usage error that repeats nothing of the URL.
#[test]
fn a_refused_url_is_exit_status_64_and_is_not_repeated() {
    let sandbox = home();
    for url in ODD.iter().filter(|url| !url.is_empty()) {
        let finished = sandbox.valetkey(&["token", url]).run();
        finished.assert_status(64).assert_stdout("");
        let said = finished.stderr_text();
        assert!(!said.contains("good") && !said.contains("evil"), "{url:?}: {said}");
    }
}

/// The other half of the promise: real URLs are read, all of them.
#[test]
fn the_urls_that_clients_use_are_read() {
    for (url, origin) in PLAIN {
        let read = Resource::parse(url).map(|resource| resource.origin());
        assert_eq!(read.ok().as_deref(), Some(*origin), "{url:?}");
    }
    let read: Vec<_> = ODD.iter().filter(|url| Resource::parse(url).is_ok()).collect();
    assert!(read.is_empty(), "{read:?}");
}
