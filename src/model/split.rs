//! The one reader of URLs and host names, for every dialect, for arguments and for the
//! configuration: rules U1 to U6 of protocol.md. Parsers disagree about odd URLs (WHATWG, RFC 3986
//! and older ones), so a text that two of them could take for different hosts is refused.

use crate::error::{Error, Kind, Result};

/// The parts of a URL, as they stand in its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split<'a> {
    /// `None` for a bare host.
    pub scheme: Option<&'a str>,
    pub user: Option<&'a str>,
    pub password: Option<&'a str>,
    /// With its port. Empty where nothing stands between `://` and the path.
    pub host: &'a str,
    /// From the first `/`, `?` or `#` behind the host.
    pub rest: &'a str,
}

impl<'a> Split<'a> {
    /// Splits a URL, or a bare host, with whatever follows it.
    ///
    /// # Errors
    /// `Usage` for what rule U2 refuses; the message holds nothing of the text.
    pub fn new(text: &'a str) -> Result<Self> {
        let refuse = |what: &str| {
            let what = format!("the URL {what}");
            Err(Error::new(Kind::Usage, what).hint("write it as https://HOST/PATH"))
        };
        let (scheme, behind) = match text.split_once("://") {
            Some((scheme, behind)) => (Some(scheme), behind),
            None => (None, text),
        };
        let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
        let (authority, rest) = behind.split_at(end);
        let (user, host) = match authority.split_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let odd = |letter: char| letter == '\\' || letter.is_whitespace() || letter.is_control();
        if host.contains(odd) {
            return Err(no_host());
        }
        if text.contains(odd) {
            return refuse("holds a space, a backslash or a control character");
        }
        // Old parsers end the authority at a slash and nowhere else.
        let open =
            !rest.starts_with('/') && rest.split('/').next().is_some_and(|r| r.contains('@'));
        if host.contains('@') || open {
            return refuse("holds more than one @, or one behind its host");
        }
        let plain = |letter: char| letter.is_alphanumeric() || "-._~!$&'()*+,;=:%".contains(letter);
        if user.is_some_and(|user| !user.chars().all(plain)) {
            return refuse("has a user name that is not percent-encoded");
        }
        // `https:443` is https://0.0.1.187 to browsers.
        let word = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let special = ["http", "https", "ws", "wss", "ftp", "file"];
        if scheme.is_none() && special.contains(&word.as_str()) {
            return refuse("has no :// behind its scheme");
        }
        let (user, password) = match user.and_then(|user| user.split_once(':')) {
            Some((user, password)) => (Some(user), Some(password)),
            None => (user, None),
        };
        Ok(Self { scheme, user, password, host, rest })
    }

    /// The path without query and fragment, as it stands: with the slash that begins it, if any.
    #[must_use]
    pub fn path(&self) -> &'a str {
        &self.rest[..self.rest.find(['?', '#']).unwrap_or(self.rest.len())]
    }
}

/// Percent-decodes once, as git does: an escape that is none stays as it is.
///
/// # Errors
/// What is wrong with it: it is not UTF-8 then, or holds LF, CR or NUL.
pub fn decoded(text: &str) -> std::result::Result<String, &'static str> {
    let text = String::from_utf8(unescaped(text.as_bytes()));
    let text = text.map_err(|_| "an escape that is not UTF-8")?;
    match text.contains(['\n', '\r', '\0']) {
        true => Err("a line end or a NUL"),
        false => Ok(text),
    }
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

fn no_host() -> Error {
    Error::new(Kind::Usage, "the request's host is not a host name")
}

/// A host name or address in lower case and ASCII, without one trailing dot, with its port unless
/// that is the protocol's own. Rule U3.
///
/// # Errors
/// `Usage` for anything that is no host, or that is not the same host to every parser.
pub(super) fn normal_host(protocol: &str, text: &str) -> Result<String> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (text, None),
    };
    let name = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => {
            let address: std::net::Ipv6Addr = address.parse().map_err(|_| no_host())?;
            url::Host::<String>::Ipv6(address).to_string()
        }
        None => normal_name(name).ok_or_else(no_host)?,
    };
    let Some(port) = port else { return Ok(name) };
    // `parse` would take a sign, and some parsers take a leading zero for octal.
    let decimal = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    match (protocol, port.parse::<u16>().ok().filter(|_| decimal)) {
        ("https", Some(443)) | ("http", Some(80)) => Ok(name),
        (_, Some(number)) => Ok(format!("{name}:{number}")),
        (_, None) => Err(no_host()),
    }
}

fn normal_name(text: &str) -> Option<String> {
    let dotted = text.strip_suffix('.');
    let name = dotted.unwrap_or(text).to_ascii_lowercase();
    let name = if name.is_ascii() { name } else { ascii_name(&name)? };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
            // Browsers refuse a label of this kind that decodes to nothing.
            && (!label.starts_with("xn--") || url::Host::parse(label).is_ok())
    };
    if !name.split('.').all(label) {
        return None;
    }
    // `127.1`, `0x7f.1` and `2130706433` are addresses to some parsers and names to others.
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(hexadecimal);
    let address = || dotted.is_none() && name.parse::<std::net::Ipv4Addr>().is_ok();
    (!number || address()).then_some(name)
}

/// The IDNA form of a name, where every version of IDNA maps each letter to itself or to its lower
/// case: `straße` is two hosts, and fullwidth letters are other letters.
fn ascii_name(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    // The sign for kelvin would become a plain k.
    let kept = |letter: char| {
        let mut lower = letter.to_lowercase();
        letter.is_ascii() || lower.next().is_some_and(|one| !one.is_ascii()) && lower.len() == 0
    };
    // Deviations of UTS 46: IDNA 2003 reads them as something else.
    let deviates = ['\u{df}', '\u{3c2}', '\u{200c}', '\u{200d}'];
    if !name.chars().all(kept) || lower.contains(deviates) {
        return None;
    }
    let ascii = url::Host::parse(&lower).ok()?.to_string();
    (url::quirks::domain_to_unicode(&ascii) == lower).then_some(ascii)
}

/// Whether a path, without slashes at either end, is another one or lies below it, by whole
/// segments. A path that a server could read as another one is below nothing (rule U5).
#[must_use]
pub fn is_below(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) && is_plain_path(path)
}

/// Whether every server reads each segment of a path as it stands: none is empty or made of dots,
/// none holds a slash or a backslash, however often it is encoded.
#[must_use]
pub fn is_plain_path(path: &str) -> bool {
    path.is_empty() || path.split('/').all(is_plain_segment)
}

fn is_plain_segment(segment: &str) -> bool {
    let mut bytes = segment.as_bytes().to_vec();
    loop {
        let next = unescaped(&bytes);
        if next == bytes {
            break;
        }
        bytes = next;
    }
    // An escape that is none, and an overlong encoding of a dot, are read by some as one.
    let Ok(text) = String::from_utf8(bytes) else { return false };
    let broken = text.contains(['%', '/', '\\']) || text.contains(char::is_control);
    // Some servers cut parameters off, `..;x`, before they look for dots.
    let name = text.split(';').next().unwrap_or_default().trim();
    !broken && !name.is_empty() && !name.bytes().all(|byte| byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_dots_is_below_nothing() {
        for path in ["team", "team/a", "team/...a", "team/caf%C3%A9", "team/a;v=1"] {
            assert!(is_below(path, "team"), "{path}");
        }
        for path in [
            "teams",
            "te",
            "/team",
            "team//a",
            "team//",
            "team/",
            "team/a/",
            "team/.",
            "team/..",
            "team/../evil",
            "team/a/../../evil",
            "team/%2e%2e/evil",
            "team/.%2E/evil",
            "team/%252e%252e/evil",
            "team/%25252e%25252e/evil",
            "team/..%2fevil",
            "team/..%5cevil",
            "team/a%2fb",
            "team/a%5Cb",
            "team/a%252fb",
            "team/a\\b",
            "team/..;/evil",
            "team/..;x=1/evil",
            "team/;/evil",
            "team/%c0%ae%c0%ae/evil",
            "team/%u002e%u002e/evil",
            "team/..%00/evil",
            "team/..%20/evil",
            "team/.../evil",
        ] {
            assert!(!is_below(path, "team"), "{path}");
        }
    }

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(decoded("a%40b+c%2525%4").unwrap(), "a@b+c%25%4");
        for text in ["%0a", "%0D", "%00", "%ff"] {
            assert!(decoded(text).is_err(), "{text}");
        }
    }
}
