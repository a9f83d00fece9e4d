//! go's `GOAUTH` command (`go help goauth`, go 1.24 and later). Rules GO1 to GO13 of protocol.md.
//! The first call names nothing and gets what is ready; another one follows for each URL that was
//! refused, with the answer's head on standard input.

use std::io::Read;

use zeroize::Zeroizing;

use super::{Call, Dialect, Served};
use crate::error::{Error, Kind, Result};
use crate::model::{
    Bound, Caller, Credential, Outcome, Request, Resource, Split, Verb, is_plain_path,
};

pub const DIALECT: Dialect =
    Dialect { name: "goauth", link: None, usage: "[URL]", about: "go's GOAUTH command", serve };

/// Bytes of the head of an answer; what is longer is not read on.
const LIMIT: u64 = 1 << 20;

/// Seconds: an answer has no expiry, but go asks again when it was refused.
const LIFETIME: u64 = 60;

fn serve(call: &mut Call<'_>) -> Result<Served> {
    match call.arguments {
        [] => first(call),
        [url] => again(call, url),
        _ => Err(Error::new(Kind::Usage, "more than one URL is given").hint("valetkey goauth")),
    }
}

/// What is ready, without the network: whatever is missing will be asked for by its URL.
fn first(call: &Call<'_>) -> Result<Served> {
    let mut answer = Zeroizing::new(String::new());
    for (url, credential) in ready(call) {
        if let Some(set) = set(&url, &credential) {
            answer.push_str(&set);
        }
    }
    call.wire.send(answer.as_bytes())?;
    Ok(Served::default())
}

/// The prefixes that the first call gives, each with its token.
fn ready(call: &Call<'_>) -> Vec<(String, Box<Credential>)> {
    let (mut ready, mut missing) = (Vec::new(), Vec::new());
    for Bound { url, registry } in bound(call) {
        // go fetches nothing from there, unless it asks for it by its URL.
        let resource = Resource::parse(&url).ok().filter(|_| !registry).map(Resource::of_url);
        match resource.and_then(|resource| cached(call, resource)) {
            Some(credential) => ready.push((url, credential)),
            None => missing.push(url),
        }
    }
    // go gives a host's token to everything below it, also where another one belongs.
    ready.retain(|(url, _)| !missing.iter().any(|below| is_below(below, url)));
    ready
}

fn again(call: &mut Call<'_>, url: &str) -> Result<Served> {
    let Some(refused) = Refused::read(url) else { return Ok(Served::default()) };
    let mut head = Vec::new();
    let read = call.input.take(LIMIT).read_to_end(&mut head);
    read.map_err(|error| Error::new(Kind::Usage, "the answer cannot be read").because(error))?;
    let (verb, caller) = match status(&head) {
        Some("401") if refused.had_token(call) => (Verb::Again, Caller::Patient),
        Some("401") => (Verb::Get, Caller::Patient),
        // Not found is an everyday answer of a module proxy, and no reason to ask a person.
        _ => (Verb::Get, Caller::Hasty),
    };
    match (call.ask)(&request(verb, caller, refused.resource.clone())) {
        Outcome::Found(credential) => {
            let prefix = refused.prefix(call, &credential);
            if let Some(set) = prefix.and_then(|prefix| set(&prefix, &credential)) {
                call.wire.send(set.as_bytes())?;
            }
            Ok(Served::default())
        }
        Outcome::NotFound(why) => Ok(Served::nothing(Some(why))),
        Outcome::Failed(error) => Err(error),
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => Ok(Served::default()),
    }
}

/// A URL that was answered with an error.
struct Refused<'a> {
    url: &'a str,
    /// The scheme and the host as go spells them: it compares prefixes as text.
    origin: &'a str,
    resource: Resource,
}

impl<'a> Refused<'a> {
    fn read(url: &'a str) -> Option<Self> {
        let split = Split::new(url).ok()?;
        let answered = split.scheme == Some("https") && split.user.is_none();
        let resource = Resource::parse(url).ok().filter(|_| answered)?.of_url();
        Some(Self { url, origin: &url[..url.len() - split.rest.len()], resource })
    }

    /// Whether go sent a token: it has what the first call gave, and compares prefixes as text.
    fn had_token(&self, call: &Call<'_>) -> bool {
        ready(call).iter().any(|(prefix, _)| is_below(self.url, prefix))
    }

    /// Where the credential may go: everything that it is bound to, so that later modules need no
    /// call, unless something in there is bound to another one; then this very URL. `None` where
    /// even that would say too much.
    fn prefix(&self, call: &Call<'_>, credential: &Credential) -> Option<String> {
        let bound: Vec<String> = bound(call).into_iter().map(|bound| bound.url).collect();
        let here = self.resource.to_string();
        let own = bound.iter().filter(|url| is_below(&here, url)).max_by_key(|url| url.len());
        let path = match own {
            Some(own) if bound.iter().any(|url| url != own && is_below(url, &here)) => return None,
            Some(own) => {
                let alone = !bound.iter().any(|url| url != own && is_below(url, own));
                let path = own.strip_prefix(self.resource.origin().as_str()).unwrap_or_default();
                alone.then(|| path.to_owned())
            }
            None => {
                let everywhere = Resource { path: None, ..self.resource.clone() }.of_url();
                let same = cached(call, everywhere);
                same.filter(|same| same.secret == credential.secret).map(|_| String::new())
            }
        };
        Some(match path {
            Some(path) => format!("{}{path}", self.origin),
            None => self.url.trim_end_matches('/').to_owned(),
        })
    }
}

/// The https prefixes of all profiles.
fn bound(call: &Call<'_>) -> Vec<Bound> {
    let mut bound = (call.bound)();
    bound.retain(|bound| bound.url.starts_with("https://"));
    bound
}

/// As go compares prefixes, but for paths that are below nothing (rule U5).
fn is_below(url: &str, prefix: &str) -> bool {
    let rest = url.strip_suffix('/').unwrap_or(url).strip_prefix(prefix.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('/').is_some_and(is_plain_path))
}

fn cached(call: &Call<'_>, resource: Resource) -> Option<Box<Credential>> {
    match (call.ask)(&request(Verb::Cached, Caller::Hasty, resource)) {
        Outcome::Found(credential) => Some(credential),
        _ => None,
    }
}

fn request(verb: Verb, caller: Caller, resource: Resource) -> Request {
    Request { verb, ..Request::get(resource, caller, LIFETIME) }
}

/// The status of `HTTP/1.1 401 Unauthorized`; the protocol's version varies.
fn status(head: &[u8]) -> Option<&str> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|protocol| protocol.starts_with("HTTP/"))?;
    words.next()
}

/// One set: where to, a blank line, what, a blank line. go drops everything for one bad line.
fn set(prefix: &str, credential: &Credential) -> Option<Zeroizing<String>> {
    let (name, value) = credential.header();
    let plain = !value.expose().contains(char::is_control);
    let more: String =
        credential.more_headers().map(|(name, value)| format!("{name}: {value}\n")).collect();
    plain.then(|| Zeroizing::new(format!("{prefix}\n\n{name}: {}\n{more}\n", value.expose())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_from_any_version() {
        assert_eq!(status(b"HTTP/1.0 401 Unauthorized\nA: b\n\n"), Some("401"));
        assert_eq!(status(b"HTTP/2.0 404 Not Found\n\n"), Some("404"));
        for head in [&b""[..], b"\n", b"401", b"HTTP/1.1", b"A: 401 b\n", b"\xff 401 x"] {
            assert_ne!(status(head), Some("401"));
        }
    }

    #[test]
    fn prefixes_are_whole_segments() {
        assert!(is_below("https://x.example/a/b", "https://x.example/a"));
        assert!(is_below("https://x.example/", "https://x.example"));
        assert!(is_below("https://x.example", "https://x.example"));
        assert!(!is_below("https://x.example/ab", "https://x.example/a"));
        assert!(!is_below("https://x.example.evil/a", "https://x.example"));
        assert!(!is_below("https://x.example/a/../b", "https://x.example/a"));
        assert!(!is_below("https://x.example/a/%2e%2e/b", "https://x.example/a"));
    }

    #[test]
    fn a_refused_url_keeps_the_spelling_of_go() {
        let refused = Refused::read("https://X.example:443/m/@v/list?go-get=1").unwrap();
        assert_eq!(refused.origin, "https://X.example:443");
        assert_eq!(refused.resource.to_string(), "https://x.example/m/@v/list");
        for url in [
            "http://x.example/",
            "https://",
            "https://u:p@x.example/",
            "https://x.example/a\nb",
            "https://x.example/a b",
            "x.example/m",
            "https://u@x.example/",
            "https://x.example#@y.example/",
            "https://x.example\\@y.example/",
        ] {
            assert!(Refused::read(url).is_none(), "{url}");
        }
    }
}
