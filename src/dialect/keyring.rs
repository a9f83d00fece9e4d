//! The command line of Python's keyring, as pip, uv and PDM run it, in both of its generations.
//! Rules P1 to P16 of protocol.md. What is not ours goes on to the next `keyring` on PATH.

use std::io::Read;

use zeroize::Zeroizing;

use super::{Call, Dialect, Served, is_one_line, unmarked};
use crate::error::{Error, Kind, Result};
use crate::model::{
    Caller, Credential, Form, Outcome, Presented, Request, Resource, Secret, Verb, json,
};

pub const DIALECT: Dialect = Dialect {
    name: "keyring",
    link: Some(NAME),
    usage: "[--mode password|creds] [--output plain|json] get|set|del SERVICE [USERNAME]",
    about: "the command line of Python's keyring, for pip, uv and PDM",
    serve,
};

const NAME: &str = "keyring";

/// Bytes of a password.
const LIMIT: u64 = 1 << 20;

/// Seconds: an answer has no expiry, and an installation can take a while.
const LIFETIME: u64 = 600;

/// argparse ends a wrong command line with this, and pip reads it.
const WRONG: u8 = 2;

fn serve(call: &mut Call<'_>) -> Result<Served> {
    let asked = match read(call.arguments) {
        Reading::Asked(asked) => asked,
        Reading::Wrong(what) => return Ok(wrong(what)),
        Reading::Strange => {
            let what = "valetkey answers as keyring here, and knows only get, set and del";
            return Ok(handed_on(call)?.unwrap_or_else(|| wrong(what.to_owned())));
        }
    };
    let Some(resource) = resource(asked.service, asked.username) else {
        return Ok(handed_on(call)?.unwrap_or_else(|| match asked.operation {
            Operation::Get => nothing(None),
            Operation::Set | Operation::Delete => nothing(Some(no_host())),
        }));
    };
    match asked.operation {
        Operation::Get => get(call, &asked, resource),
        Operation::Set => set(call, resource),
        Operation::Delete => delete(call, resource),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Operation {
    Get,
    Set,
    Delete,
}

#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    operation: Operation,
    service: &'a str,
    username: Option<&'a str>,
    /// User name and password are wanted, not the password alone.
    both: bool,
    json: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Reading<'a> {
    Asked(Asked<'a>),
    Wrong(String),
    /// Something that another keyring may know.
    Strange,
}

/// Options may stand before, between and after the words.
fn read(arguments: &[String]) -> Reading<'_> {
    let (mut mode, mut output) = ("password", "plain");
    let mut words = Vec::new();
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument, None),
        };
        let (choice, known) = match name {
            "--mode" => (&mut mode, ["password", "creds"]),
            "--output" => (&mut output, ["plain", "json"]),
            "--" if value.is_none() => {
                words.extend(rest.by_ref());
                continue;
            }
            option if option.len() > 1 && option.starts_with('-') => return Reading::Strange,
            _ => {
                words.push(argument);
                continue;
            }
        };
        match value.or_else(|| rest.next()).filter(|value| known.contains(value)) {
            Some(value) => *choice = value,
            None => {
                let [one, other] = known;
                return Reading::Wrong(format!("argument {name}: choose from '{one}', '{other}'"));
            }
        }
    }
    let both = mode == "creds";
    let (operation, needed) = match words.first() {
        Some(&"get") if both => (Operation::Get, "service"),
        Some(&"get") => (Operation::Get, "service and username"),
        Some(&"set") => (Operation::Set, "service and username"),
        Some(&"del") => (Operation::Delete, "service and username"),
        _ => return Reading::Strange,
    };
    match words[1..] {
        [service] if needed == "service" => Reading::Asked(Asked {
            operation,
            service,
            username: None,
            both,
            json: output == "json",
        }),
        [service, username] => {
            let username = Some(username);
            Reading::Asked(Asked { operation, service, username, both, json: output == "json" })
        }
        [] | [_] => Reading::Wrong(format!("{} requires {needed}", words[0])),
        _ => Reading::Wrong("more than a service and a username are given".to_owned()),
    }
}

/// The host that a service means. Any word can be some other program's service: only a URL or
/// what looks like a host is one.
fn resource(service: &str, username: Option<&str>) -> Option<Resource> {
    let web = |scheme: &str| ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web));
    let host = match service.split_once("://") {
        Some((scheme, _)) => web(scheme),
        None => service.contains(['.', ':']) || service.eq_ignore_ascii_case("localhost"),
    };
    let mut resource = Resource::parse(service).ok().filter(|_| host)?;
    let username = username.filter(|username| !username.is_empty());
    resource.account = username.map(str::to_owned).or(resource.account);
    Some(resource)
}

fn get(call: &mut Call<'_>, asked: &Asked<'_>, resource: Resource) -> Result<Served> {
    // A URL needs a user name where pip and uv are to ask at all, and it is seldom an account's:
    // an account of that name is preferred, and any other will do.
    let resource = resource.of_url();
    let anybody = Resource { account: None, ..resource.clone() };
    let mut outcome = match resource.account {
        None => Outcome::NotMine,
        Some(_) => (call.ask)(&request(Verb::Get, Caller::Hasty, resource.clone(), None)),
    };
    if matches!(outcome, Outcome::NotFound(_) | Outcome::NotMine) {
        outcome = (call.ask)(&request(Verb::Get, Caller::Patient, anybody, None));
    }
    match outcome {
        Outcome::Found(credential) => match answer(asked, &resource, &credential) {
            Some(answer) => {
                call.wire.send(answer.as_bytes())?;
                Ok(Served::default())
            }
            None => Ok(handed_on(call)?.unwrap_or_else(|| nothing(None))),
        },
        Outcome::NotFound(why) | Outcome::Failed(why) => Ok(nothing(Some(why))),
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => {
            Ok(handed_on(call)?.unwrap_or_else(|| nothing(None)))
        }
    }
}

/// `None` for what is no answer to this question: a ready value for a header, or somebody else's
/// password.
fn answer(
    asked: &Asked<'_>,
    resource: &Resource,
    credential: &Credential,
) -> Option<Zeroizing<String>> {
    let username = match credential.username.as_str() {
        "" => resource.account.as_deref().unwrap_or("oauth2"),
        username => username,
    };
    let secret = credential.secret.expose();
    let whose = resource.account.as_deref().is_none_or(|account| account == username);
    match credential.form {
        Form::Encoded(_) => return None,
        Form::Password if !whose => return None,
        Form::Password | Form::Token(_) => {}
    }
    let torn = !is_one_line(secret) || asked.both && !is_one_line(username);
    if torn && !asked.json {
        return None;
    }
    Some(Zeroizing::new(match (asked.json, asked.both) {
        (false, false) => format!("{secret}\n"),
        (false, true) => format!("{username}\n{secret}\n"),
        (true, false) => format!("{{\"password\": {}}}\n", *json(&secret)),
        (true, true) => {
            format!("{{\"username\": {}, \"password\": {}}}\n", *json(&username), *json(&secret))
        }
    }))
}

fn set(call: &mut Call<'_>, resource: Resource) -> Result<Served> {
    // Whose it is must be known before the password is read: the next keyring reads it itself.
    let anybody = Resource { account: None, ..resource.clone() }.of_url();
    if let Outcome::NotMine = (call.ask)(&request(Verb::Cached, Caller::Hasty, anybody, None))
        && let Some(served) = handed_on(call)?
    {
        return Ok(served);
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let read = call.input.take(LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| refused("the password cannot be read").because(error))?;
    let Ok(text) = std::str::from_utf8(unmarked(&bytes)) else {
        return Ok(nothing(Some(refused("the password is not UTF-8"))));
    };
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || bytes.len() as u64 > LIMIT {
        return Ok(nothing(Some(refused("there is no password on standard input"))));
    }
    let presented = Presented::alone(Secret::new(text));
    match (call.ask)(&request(Verb::Store, Caller::Hasty, resource, Some(presented))) {
        Outcome::Failed(error) => Ok(nothing(Some(error))),
        _ => Ok(Served::default()),
    }
}

fn delete(call: &mut Call<'_>, resource: Resource) -> Result<Served> {
    let what = format!("nothing is stored for {resource}");
    match (call.ask)(&request(Verb::Erase, Caller::Hasty, resource, None)) {
        Outcome::Done => Ok(Served::default()),
        Outcome::Failed(error) => Ok(nothing(Some(error))),
        _ => {
            Ok(handed_on(call)?
                .unwrap_or_else(|| nothing(Some(Error::new(Kind::NotSignedIn, what)))))
        }
    }
}

fn request(
    verb: Verb,
    caller: Caller,
    resource: Resource,
    presented: Option<Presented>,
) -> Request {
    Request { verb, resource, caller, lifetime: LIFETIME, presented, proof: None }
}

fn handed_on(call: &Call<'_>) -> Result<Option<Served>> {
    let status = (call.elsewhere)(NAME)?;
    Ok(status.map(|status| Served { status, why: None }))
}

fn nothing(why: Option<Error>) -> Served {
    Served { status: 1, why }
}

/// Never the words by which pip recognises a keyring that knows no modes.
fn wrong(what: String) -> Served {
    let usage = format!("usage: {NAME} {}", DIALECT.usage);
    Served { status: WRONG, why: Some(Error::new(Kind::Usage, what).hint(usage)) }
}

fn no_host() -> Error {
    refused("the service is no host, and there is no other keyring on PATH")
}

fn refused(what: &str) -> Error {
    Error::new(Kind::Usage, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn both_generations_of_arguments_are_read_in_any_order() {
        for (text, username, both, json) in [
            ("get https://x.example/s/ oauth2", Some("oauth2"), false, false),
            ("--mode=creds --output=json get https://x.example/s/", None, true, true),
            ("--mode creds --output json get https://x.example/s/ a", Some("a"), true, true),
            ("get https://x.example/s/ --mode creds", None, true, false),
            ("get --mode=creds https://x.example/s/ a --output=plain", Some("a"), true, false),
            ("get --output json -- https://x.example/s/ -a", Some("-a"), false, true),
        ] {
            let asked = Asked {
                operation: Operation::Get,
                service: "https://x.example/s/",
                username,
                both,
                json,
            };
            assert_eq!(read(&words(text)), Reading::Asked(asked), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_from_what_is_somebody_elses() {
        for wrong in [
            "get",
            "get https://x.example",
            "set https://x.example",
            "del https://x.example",
            "get a b c",
            "--mode=all get a b",
            "get a b --mode",
        ] {
            assert!(matches!(read(&words(wrong)), Reading::Wrong(_)), "{wrong}");
        }
        for strange in ["", "--help", "diagnose", "-b x get a b", "--mode=creds --new get a b", "l"]
        {
            assert_eq!(read(&words(strange)), Reading::Strange, "{strange}");
        }
    }

    #[test]
    fn only_urls_and_hosts_are_hosts() {
        let origin = |service: &str| resource(service, None).map(|found| found.to_string());
        for (service, found) in [
            ("https://x.example/a/simple/?q#f", "https://x.example/a/simple"),
            ("x.example:8443", "https://x.example:8443"),
            ("localhost", "https://localhost"),
            ("http://127.0.0.1:80/simple/", "http://127.0.0.1/simple"),
        ] {
            assert_eq!(origin(service).as_deref(), Some(found));
        }
        for word in ["system", "", "My App", "ssh://x.example", "login:alice", "https://", "a b.c"]
        {
            assert_eq!(origin(word), None, "{word}");
        }
    }
}
