//! What a caller says, to every dialect, and what the dialect makes of it. Whatever comes, a request
//! names a host that stands in the caller's own bytes and that can be connected to; an answer is a
//! whole one of its language, with the credential and nothing else; and no error repeats a secret.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use url::Url;

use super::scratch;
use crate::dialect::{self, Call, Dialect, Served, Wire};
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{
    Bound, Credential, Form, Outcome, Proof, Request, Resource, Scheme, Secret, Sent, Verb,
};

/// What the vault gives in these calls. Every form of it holds this word, or its Base64.
const TOKEN: &str = "c4n4ry-token";
const USERNAME: &str = "alice";
/// What seeds hand over: in nothing that is said afterwards, wherever it stood.
const HANDED: &str = "hunter2-c4n4ry";
/// Of a profile that binds a path too.
const BOUND: [&str; 2] = ["https://bound.example", "https://bound.example/team"];

/// A call, as a seed writes it down: a line for each argument, or `$NAME=value` for a variable, and
/// behind a blank line what stands on standard input.
struct Spoken<'b> {
    arguments: Vec<String>,
    environment: Environment,
    input: &'b [u8],
    /// All of it, in lower case and with the escapes of URLs and JSON undone.
    plain: String,
}

/// What came of a call.
struct Heard {
    requests: Vec<Request>,
    output: Vec<u8>,
    result: Result<Served>,
}

impl<'b> Spoken<'b> {
    fn read(bytes: &'b [u8]) -> Self {
        let blank = bytes.windows(2).position(|pair| pair == b"\n\n");
        let (head, input) = match (bytes.strip_prefix(b"\n"), blank) {
            (Some(input), _) => (&b""[..], input),
            (None, Some(blank)) => (&bytes[..blank], &bytes[blank + 2..]),
            (None, None) => (bytes.strip_suffix(b"\n").unwrap_or(bytes), &b""[..]),
        };
        let head = String::from_utf8_lossy(head);
        let (mut arguments, mut variables) = (Vec::new(), Vec::new());
        for line in head.split('\n').filter(|_| !head.is_empty()) {
            match line.strip_prefix('$').and_then(|line| line.split_once('=')) {
                // Names a file to write to.
                Some((name, _)) if name.ends_with("OUTPUT_FILE") => {}
                Some((name, value)) => variables.push((name.into(), value.into())),
                None => arguments.push(line.to_owned()),
            }
        }
        let environment = variables.into_iter().collect();
        Self { arguments, environment, input, plain: plain(&String::from_utf8_lossy(bytes)) }
    }

    fn call(&self, dialect: &Dialect, outcome: &dyn Fn(&Request) -> Outcome) -> Heard {
        let requests = RefCell::new(Vec::new());
        let ask = |request: &Request| {
            requests.borrow_mut().push(request.clone());
            outcome(request)
        };
        let untouched = Cell::new(true);
        let mut input = Touched { bytes: self.input, untouched: &untouched };
        let elsewhere = |_: &str| {
            assert!(untouched.get(), "the next program is to read what was read here");
            Ok(self.input.len().is_multiple_of(2).then_some(7))
        };
        let output = scratch();
        let mut call = Call {
            arguments: &self.arguments,
            environment: &self.environment,
            input: &mut input,
            wire: &Wire::new(&output),
            ask: &ask,
            bound: &|| BOUND.map(|url| Bound { url: url.to_owned(), registry: false }).to_vec(),
            mask: &|_| (),
            elsewhere: &elsewhere,
        };
        let result = (dialect.serve)(&mut call);
        let heard = Heard { requests: requests.into_inner(), output: written(&output), result };
        self.check(&heard);
        heard
    }

    fn check(&self, heard: &Heard) {
        for request in &heard.requests {
            self.check_resource(&request.resource);
        }
        let why = match &heard.result {
            Ok(served) => served.why.as_ref(),
            Err(error) => Some(error),
        };
        let said = why.map_or_else(String::new, |why| {
            format!("{} {:?} {:?}", why.what, why.hint, why.source.as_ref().map(|s| s.to_string()))
        });
        // Where it stands in a name it may be repeated as one.
        let named = heard.requests.iter().any(|request| {
            let Resource { host, path, account, offer, .. } = &request.resource;
            let all = format!("{host} {path:?} {account:?} {offer:?}");
            all.contains(HANDED)
        });
        let given = format!("{:?}{:?}", self.arguments, self.environment.get("VAULT_ADDR"));
        if !named && !given.contains(HANDED) {
            assert!(!said.contains(HANDED), "{said}");
        }
    }

    fn check_resource(&self, resource: &Resource) {
        let origin = resource.web_origin();
        let web = origin.starts_with("http://") || origin.starts_with("https://");
        if web {
            let url = Url::parse(&origin).unwrap_or_else(|error| panic!("{origin}: {error}"));
            assert_eq!(url.origin().ascii_serialization(), origin, "two spellings of one origin");
            assert_ne!(url.port(), Some(0), "{origin}: no server has that port");
        }
        assert!(!resource.host.contains(|letter: char| letter.is_control() || letter == ' '));
        // Shown to a person and typed again, it is the same.
        let odd = |letter: char| "?#\\".contains(letter) || letter.is_whitespace();
        let path = resource.path.as_deref().unwrap_or_default();
        if web && !path.contains(|letter: char| odd(letter) || letter.is_control()) {
            let text = resource.to_string();
            let again = Resource::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((&again.protocol, &again.host), (&resource.protocol, &resource.host));
            // One that ends with an empty segment is below nothing either way (rule U5).
            let again = again.path.unwrap_or_default();
            assert_eq!(again.trim_end_matches('/'), path.trim_end_matches('/'), "{text}");
        }
        let host = match resource.host.rsplit_once(':') {
            Some((host, _)) if !host.is_empty() => host,
            _ => &resource.host,
        };
        // Docker's hub has several names, and two questions have no host of the caller's.
        let known = ["index.docker.io", "valetkey.invalid", "127.0.0.1", "bound.example"];
        // Other spellings of these are for the parser of URLs to know.
        let spelled = host.parse::<std::net::Ipv4Addr>().is_ok() || host.starts_with('[');
        let foreign = !self.plain.is_ascii();
        let there = self.plain.contains(host) || known.contains(&host) || spelled || foreign;
        assert!(there, "{host} is nowhere in what was said");
    }
}

/// Lower case, and the escapes of URLs (`%2E`) and of JSON (`\u002e`, `\/`) undone.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let escape = [("%", 2), ("\\u", 4)].into_iter().find_map(|(mark, length)| {
            let digits = rest.strip_prefix(mark)?.get(..length)?;
            let letter = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?;
            Some((letter, mark.len() + length))
        });
        let (letter, length) = match escape {
            Some(escape) => escape,
            None if rest.starts_with("\\/") => ('/', 2),
            None => (first, first.len_utf8()),
        };
        plain.extend(letter.to_lowercase());
        rest = &rest[length..];
    }
    plain
}

/// Standard input, and whether anybody has read of it.
struct Touched<'t> {
    bytes: &'t [u8],
    untouched: &'t Cell<bool>,
}

impl Read for Touched<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.untouched.set(false);
        self.bytes.read(into)
    }
}

fn written(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
    read.map_or_else(|error| panic!("{error}"), |_| bytes)
}

fn credential(secret: &str, form: Form) -> Credential {
    Credential {
        username: USERNAME.to_owned(),
        secret: Secret::new(secret),
        form,
        expires: Some(2_000_000_000),
        proof: Some(Proof { place: "0".repeat(32), key: "1".repeat(32), token: "2".repeat(64) }),
        renewable: true,
        refresh: None,
        fields: vec![Sent {
            name: "tenant".to_owned(),
            header: "X-Tenant".to_owned(),
            value: Some("acme".to_owned()),
        }],
    }
}

/// Finds the credential in an answer, as its tool would read it. `None`: there is none in it.
type Reads = fn(&str) -> Option<String>;

/// Feeds one dialect with every outcome. What it answers where something is found, `reads`
/// understands, and finds the token; where nothing is, no token is in the answer.
fn feed(name: &str, bytes: &[u8], reads: Reads) {
    let Some(dialect) = dialect::named(name) else { panic!("{name} is no dialect") };
    let spoken = Spoken::read(bytes);
    let forms = [
        Form::Token(Scheme::Basic),
        Form::Token(Scheme::Bearer),
        Form::Token(Scheme::PrivateToken),
        Form::Password,
        Form::Encoded("Bearer".to_owned()),
    ];
    for form in forms {
        let found = |request: &Request| match request.verb {
            Verb::Store | Verb::Erase | Verb::Paste => Outcome::Done,
            Verb::List => {
                Outcome::Listed(vec![("https://a.example".to_owned(), USERNAME.to_owned())])
            }
            Verb::Get | Verb::Again | Verb::Cached => {
                Outcome::Found(Box::new(credential(TOKEN, form.clone())))
            }
        };
        let heard = spoken.call(dialect, &found);
        let text = std::str::from_utf8(&heard.output);
        let text = text.unwrap_or_else(|error| panic!("the answer is no text: {error}"));
        let may_get =
            |request: &Request| matches!(request.verb, Verb::Get | Verb::Again | Verb::Cached);
        let asked = heard.requests.iter().any(may_get);
        let says = |text: &str| text.contains(TOKEN) || text.contains(&encoded(TOKEN)[..8]);
        // An error may repeat a caller's word, without what a terminal would act on.
        let said = String::from_utf8_lossy(bytes).replace(char::is_control, "");
        if says(text) && !says(&said) && !spoken.plain.contains(TOKEN) {
            assert!(asked && heard.result.is_ok(), "an answer that nobody gave");
            assert_eq!(reads(text).as_deref(), Some(TOKEN), "{text:?}");
        }
    }
    // What another tool has stored can hold anything; no answer gets another line by it.
    for form in [Form::Password, Form::Token(Scheme::Basic)] {
        let torn = format!("{TOKEN}\nhost=evil.example\r\n\0");
        let found = |_: &Request| Outcome::Found(Box::new(credential(&torn, form.clone())));
        let heard = spoken.call(dialect, &found);
        // Vault takes every byte for the token's own.
        if name != "vault" {
            assert!(!heard.output.windows(12).any(|bytes| bytes == b"\nhost=evil.e"));
        }
    }
    let none: [fn() -> Outcome; 4] = [
        || Outcome::NotFound(failed("nothing is there")),
        || Outcome::Failed(failed("it\nfailed")),
        || Outcome::NotMine,
        || Outcome::Done,
    ];
    for outcome in none {
        let heard = spoken.call(dialect, &|_| outcome());
        let text = String::from_utf8_lossy(&heard.output).into_owned();
        let shown = spoken.arguments.iter().map(|text| text.replace(char::is_control, ""));
        let handed = shown.into_iter().any(|text| text.contains(HANDED));
        assert!(handed || !text.contains(HANDED) || names_it(&heard), "{text:?}");
    }
}

fn failed(what: &str) -> Error {
    Error::new(Kind::Temporary, what).hint("valetkey login URL")
}

fn names_it(heard: &Heard) -> bool {
    heard.requests.iter().any(|request| format!("{:?}", request.resource).contains(HANDED))
}

fn encoded(text: &str) -> String {
    STANDARD.encode(format!("{USERNAME}:{text}"))
}

/// The credential in the value of an Authorization header.
fn of_header(value: &str) -> Option<String> {
    let token = match value.split_once(' ') {
        Some(("Basic", pair)) => {
            let pair = String::from_utf8(STANDARD.decode(pair).ok()?).ok()?;
            pair.strip_prefix(USERNAME)?.strip_prefix(':')?.to_owned()
        }
        Some(("Bearer", token)) => token.to_owned(),
        Some(_) => return None,
        None => value.to_owned(),
    };
    Some(token)
}

/// One JSON value in one line, and nothing behind it.
fn json(text: &str) -> Option<Value> {
    let line = text.strip_suffix('\n').filter(|line| !line.contains('\n'))?;
    serde_json::from_str(line).ok()
}

fn member(text: &str, pointer: &str) -> Option<String> {
    json(text)?.pointer(pointer)?.as_str().map(str::to_owned)
}

pub fn docker(bytes: &[u8]) {
    feed("docker", bytes, |text| member(text, "/Secret"));
}

/// A conversation: the token is in one of its lines or more.
pub fn cargo(bytes: &[u8]) {
    feed("cargo", bytes, |text| {
        let mut tokens = Vec::new();
        for line in text.split_inclusive('\n') {
            let line = json(line)?;
            let token = line.pointer("/Ok/token").and_then(Value::as_str);
            tokens.extend(token.and_then(of_header));
        }
        tokens.dedup();
        tokens.pop().filter(|_| tokens.is_empty())
    });
}

pub fn kubectl(bytes: &[u8]) {
    feed("kubectl", bytes, |text| member(text, "/status/token"));
}

pub fn keyring(bytes: &[u8]) {
    feed("keyring", bytes, |text| {
        let lines: Vec<&str> = text.strip_suffix('\n')?.split('\n').collect();
        match lines[..] {
            [line] if line.starts_with('{') => member(text, "/password"),
            [secret] => Some(secret.to_owned()),
            [USERNAME, secret] => Some(secret.to_owned()),
            _ => None,
        }
    });
}

pub fn terraform(bytes: &[u8]) {
    feed("terraform", bytes, |text| member(text, "/token"));
}

/// Sets of `URL`, blank line, headers, blank line; go drops everything for one bad line.
pub fn goauth(bytes: &[u8]) {
    feed("goauth", bytes, |text| {
        let parts: Vec<&str> = text.strip_suffix("\n\n")?.split("\n\n").collect();
        let mut found = None;
        for set in parts.chunks(2) {
            let [urls, headers] = set else { return None };
            for url in urls.lines() {
                url.strip_prefix("https://").filter(|rest| !rest.is_empty())?;
            }
            for header in headers.lines() {
                match header.split_once(": ")? {
                    ("Authorization", value) => found = of_header(value),
                    ("PRIVATE-TOKEN", value) => found = Some(value.to_owned()),
                    ("X-Tenant", "acme") => {}
                    _ => return None,
                }
            }
        }
        found
    });
}

pub fn bazel(bytes: &[u8]) {
    feed("bazel", bytes, |text| {
        let named = ["Authorization", "PRIVATE-TOKEN"];
        let value = named.iter().find_map(|name| member(text, &format!("/headers/{name}/0")))?;
        of_header(&value)
    });
}

pub fn vault(bytes: &[u8]) {
    feed("vault", bytes, |text| Some(text.to_owned()));
}

pub fn askpass(bytes: &[u8]) {
    feed("askpass", bytes, |text| text.strip_suffix('\n').map(str::to_owned));
}

/// The three keys of a role, which no other secret is.
pub fn aws(bytes: &[u8]) {
    feed("aws", bytes, |_| None);
    let keys = r#"{"AccessKeyId":"i","SecretAccessKey":"s","SessionToken":"c4n4ry-token"}"#;
    let Some(dialect) = dialect::named("aws") else { panic!("aws is a dialect") };
    let form = Form::Token(Scheme::Bearer);
    let found = |_: &Request| Outcome::Found(Box::new(credential(keys, form.clone())));
    let heard = Spoken::read(bytes).call(dialect, &found);
    if !heard.output.is_empty() {
        let text = String::from_utf8_lossy(&heard.output).into_owned();
        assert_eq!(member(&text, "/SessionToken").as_deref(), Some(TOKEN), "{text:?}");
        assert_eq!(member(&text, "/Expiration").as_deref(), Some("2033-05-18T03:33:20Z"));
    }
}

pub fn google(bytes: &[u8]) {
    feed("google", bytes, |text| member(text, "/id_token"));
}

/// `token`, `header` and `json`, with the same words.
pub fn generic(bytes: &[u8]) {
    feed("token", bytes, |text| text.strip_suffix('\n').map(str::to_owned));
    feed("header", bytes, |text| {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (name, value) = lines.next()?.split_once(": ")?;
        let more = lines.all(|line| line.starts_with("X-Tenant: "));
        let known = ["Authorization", "PRIVATE-TOKEN"].contains(&name);
        of_header(value).filter(|_| more && known)
    });
    feed("json", bytes, |text| {
        let named = ["Authorization", "PRIVATE-TOKEN"];
        of_header(&named.iter().find_map(|name| member(text, &format!("/{name}")))?)
    });
}

pub fn git_request(bytes: &[u8]) {
    crate::dialect::git::fuzz(bytes);
    for verb in ["get", "store", "erase"] {
        let mut call = format!("{verb}\n\n").into_bytes();
        call.extend_from_slice(bytes);
        feed("git", &call, |text| {
            let value = |name: &str| {
                let mut lines = text.strip_suffix('\n')?.split('\n');
                lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            };
            match (value("password"), value("authtype"), value("credential")) {
                (Some(password), ..) => Some(password.to_owned()),
                (_, Some(scheme), Some(encoded)) => of_header(&format!("{scheme} {encoded}")),
                _ => None,
            }
        });
    }
}
