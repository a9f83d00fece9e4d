//! The same URLs, read by the parsers of other programs: we answer for no host that one of them
//! would not connect to.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use valetkey::model::Resource;

use super::{Peer, here, installed};
use crate::urls::{ODD, PLAIN};

/// What one parser sees: by number of the URL, `scheme host port`, in words of its own. What it
/// refuses is not there.
type Seen = BTreeMap<usize, String>;

fn urls() -> Vec<&'static str> {
    let plain = PLAIN.iter().map(|(url, _)| *url);
    plain.chain(ODD.iter().copied()).filter(|url| url.contains("://")).collect()
}

/// Runs a program that reads JSON texts, one a line, and prints `number scheme host port` for each
/// that it can read.
fn ask(mut command: Command) -> Seen {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut input = child.stdin.take().expect("stdin is a pipe");
    let lines: String =
        urls().iter().map(|url| format!("{}\n", serde_json::Value::from(*url))).collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("it reads everything");
    assert!(output.status.success(), "{command:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let line = |line: &str| {
        let (number, seen) = line.split_once(' ').expect("a number and what was seen");
        (number.parse().expect("a number"), seen.to_owned())
    };
    text.lines().map(line).collect()
}

fn python() -> Seen {
    let mut command = Command::new("python3");
    command.args(["-c", PYTHON]);
    ask(command)
}

const PYTHON: &str = r#"
import json, sys, urllib.parse
for number, line in enumerate(sys.stdin):
    try:
        url = urllib.parse.urlsplit(json.loads(line))
        if url.hostname:
            print(number, url.scheme, url.hostname, url.port or "-")
    except ValueError:
        pass
"#;

fn node() -> Seen {
    let mut command = Command::new("node");
    command.args(["-e", NODE]);
    ask(command)
}

const NODE: &str = r#"
require("node:fs").readFileSync(0, "utf8").trimEnd().split("\n").forEach((line, number) => {
    try {
        const url = new URL(JSON.parse(line));
        if (url.hostname) {
            const host = url.hostname.replace(/^\[|\]$/g, "");
            console.log(number, url.protocol.slice(0, -1), host, url.port || "-");
        }
    } catch {}
});
"#;

fn go() -> Seen {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("main.go");
    std::fs::write(&source, GO).expect("a file");
    let mut command = Command::new(installed().join("go/bin/go"));
    command.args(["run", "main.go"]).current_dir(directory.path());
    command.env("GOCACHE", installed().join("go-cache")).env("GOFLAGS", "");
    command.env("GOTOOLCHAIN", "local").env("GOTELEMETRY", "off").env("HOME", directory.path());
    command.env_remove("GOAUTH").env_remove("GOROOT");
    ask(command)
}

const GO: &str = r#"package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for number := 0; lines.Scan(); number++ {
		var text string
		json.Unmarshal(lines.Bytes(), &text)
		seen, err := url.Parse(text)
		if err != nil || seen.Hostname() == "" {
			continue
		}
		port := seen.Port()
		if port == "" {
			port = "-"
		}
		fmt.Println(number, seen.Scheme, seen.Hostname(), port)
	}
}
"#;

/// What curl would connect to: it tells its proxy.
fn curl() -> Seen {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let proxy = std::thread::spawn(move || {
        let mut seen = Seen::new();
        for stream in listener.incoming() {
            let head = head(&stream.expect("a connection"));
            if head == [END] {
                break;
            }
            let (number, what) = target(&head).unwrap_or_else(|| panic!("{head:?}"));
            seen.insert(number, what);
        }
        seen
    });
    for (number, url) in urls().into_iter().enumerate() {
        // A transfer of its own for each: one that curl refuses ends those behind it.
        let number = format!("X-Number: {number}");
        let mut curl = Command::new("curl");
        curl.args(["-q", "--globoff", "--silent", "--proxytunnel", "--max-time", "30"]);
        curl.args(["--noproxy", "", "--proxy", &format!("http://127.0.0.1:{port}")]);
        curl.args(["--proxy-header", &number, "--url", url]).env("LC_ALL", "C.UTF-8");
        let status = curl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(!status.expect("curl is there").success(), "the proxy lets nothing through");
    }
    let mut last = TcpStream::connect(("127.0.0.1", port)).expect("the proxy listens");
    last.write_all(format!("{END}\r\n\r\n").as_bytes()).expect("the proxy reads");
    proxy.join().expect("no panic")
}

const END: &str = "END";

/// The lines of a request up to the empty one; 403 is the answer.
fn head(mut stream: &TcpStream) -> Vec<String> {
    let lines = BufReader::new(stream).split(b'\n').map_while(Result::ok);
    let lines = lines.map(|line| String::from_utf8_lossy(&line).trim_end().to_owned());
    let head = lines.take_while(|line| !line.is_empty()).collect();
    let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    head
}

/// `CONNECT host:port` and the number of the URL.
fn target(head: &[String]) -> Option<(usize, String)> {
    let number = head.iter().find_map(|line| line.strip_prefix("X-Number: "))?;
    let target = head[0].strip_prefix("CONNECT ")?.strip_suffix(" HTTP/1.1")?;
    let (host, port) = target.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']).replace(' ', "%20");
    Some((number.parse().ok()?, format!("- {host} {port}")))
}

/// The origin that a parser's words mean, as we write it. `None`: not one that could be compared.
fn origin(seen: &str, scheme: &str) -> Option<String> {
    let mut words = seen.split(' ');
    let (own, host, port) = (words.next()?, words.next()?, words.next()?);
    let scheme = if own == "-" { scheme } else { own };
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let port = if port == "-" { String::new() } else { format!(":{port}") };
    let url = url::Url::parse(&format!("{scheme}://{host}{port}")).ok()?;
    Some(url.origin().ascii_serialization())
}

fn check(parser: &str, seen: &Seen) {
    // Each of them sees hosts where we see none.
    assert!(seen.len() > PLAIN.len(), "{parser} saw {seen:?}");
    for (number, url) in urls().into_iter().enumerate() {
        let Ok(resource) = Resource::parse(url) else { continue };
        // A parser that refuses the URL connects to nothing.
        let Some(seen) = seen.get(&number) else { continue };
        let theirs = origin(seen, &resource.protocol);
        assert_eq!(theirs, Some(resource.origin()), "{parser} sees {seen:?} in {url:?}");
    }
}

#[test]
fn the_crate_that_we_connect_with_sees_the_same_hosts() {
    let one = |(number, url): (usize, &str)| {
        let url = url::Url::parse(url).ok()?;
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let port = url.port().map_or("-".to_owned(), |port| port.to_string());
        Some((number, format!("{} {host} {port}", url.scheme())))
    };
    check("url", &urls().into_iter().enumerate().filter_map(one).collect());
}

#[test]
fn python_sees_the_same_hosts() {
    if here(&[Peer::Parsers]) {
        check("urllib", &python());
    }
}

#[test]
fn node_sees_the_same_hosts() {
    if here(&[Peer::Parsers]) {
        check("node", &node());
    }
}

#[test]
fn go_sees_the_same_hosts() {
    if here(&[Peer::Go]) {
        check("go", &go());
    }
}

#[test]
fn curl_sees_the_same_hosts() {
    if here(&[Peer::Parsers]) {
        check("curl", &curl());
    }
}
