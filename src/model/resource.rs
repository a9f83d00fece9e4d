//! What a credential is for, where it is kept, and what both are called.

use std::fmt;

use super::TokenKind;
use super::secret::fingerprint;
use super::split::{Split, decoded, normal_host};
use crate::error::{Error, Kind, Result};

/// What a caller wants a credential for, normalised: protocol and host in lower case, the host in
/// ASCII, without the scheme's own port and without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub protocol: String,
    /// Host with its port, if that is not the protocol's own. Empty for protocols without hosts.
    pub host: String,
    /// Without slashes at either end. `None`: the caller did not say.
    pub path: Option<String>,
    /// The user name that the caller asked for.
    pub account: Option<String>,
    /// Who issues tokens for it, if the caller says so.
    pub offer: Option<Offer>,
}

/// What a caller says about who issues tokens for a resource. It counts for that very resource and
/// for nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// A page on which a person finds a token to paste.
    Page(String),
    Issuer(Issuer),
    /// The host's own words when it refused the caller: values of `WWW-Authenticate`.
    Challenges(Vec<String>),
}

/// An authorization server, as the file that names the resource names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    pub url: String,
    pub client_id: String,
    pub scopes: Vec<String>,
    pub token: TokenKind,
}

impl Resource {
    /// Checks and normalises what a caller sent.
    ///
    /// # Errors
    /// `Usage` when the protocol or the host cannot be one.
    pub fn new(
        protocol: &str,
        host: &str,
        path: Option<&str>,
        account: Option<&str>,
    ) -> Result<Self> {
        let refuse = |what: &str| Err(Error::new(Kind::Usage, what));
        let protocol = protocol.to_ascii_lowercase();
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if protocol.is_empty() || !protocol.bytes().all(letter) {
            return refuse("the request names no usable protocol");
        }
        let web = web_protocol(&protocol);
        if matches!(web, "http" | "https") && host.is_empty() {
            return refuse("the request names no host");
        }
        let host = if host.is_empty() { String::new() } else { normal_host(web, host)? };
        // One slash at each end: more of them are segments, and empty (rule U5).
        let path = path.map(|path| path.strip_prefix('/').unwrap_or(path));
        let path = path.map(|path| path.strip_suffix('/').unwrap_or(path).to_owned());
        let account = account.map(str::to_owned);
        Ok(Self { protocol, host, path, account, offer: None })
    }

    /// Reads an absolute URL, or a bare host, which then means `https`. A query and a fragment mean
    /// nothing.
    ///
    /// # Errors
    /// `Usage` when it is neither, holds a password, or could be read in two ways (rule U2).
    pub fn parse(text: &str) -> Result<Self> {
        let url = Split::new(text)?;
        if url.password.is_some() {
            return Err(Error::new(Kind::Usage, "the URL holds a password")
                .hint("leave it out: `valetkey login` asks for what is needed"));
        }
        let user = url.user.map(decoded).transpose().ok();
        let plain = |user: &Option<String>| {
            user.as_ref().is_none_or(|user| !user.contains(char::is_control))
        };
        let Some(user) = user.filter(plain) else {
            return Err(Error::new(Kind::Usage, "the user name in the URL cannot be one"));
        };
        let user = user.filter(|user| !user.is_empty());
        let path = Some(url.path()).filter(|path| !matches!(*path, "" | "/"));
        Self::new(url.scheme.unwrap_or("https"), url.host, path, user.as_deref())
    }

    /// A URL says its path even when it has none: then it is for what serves the whole origin, and
    /// not for what is bound to one path of it.
    #[must_use]
    pub fn of_url(self) -> Self {
        Self { path: self.path.or_else(|| Some(String::new())), ..self }
    }

    /// Scheme, host and port: the unit that a credential is bound to.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.protocol, self.host)
    }

    /// As `origin`, without the word by which a dialect keeps what its tool hands over apart from
    /// what git and docker hand over for the same host: a registry's token is no password.
    #[must_use]
    pub fn web_origin(&self) -> String {
        format!("{}://{}", web_protocol(&self.protocol), self.host)
    }

    /// Whether the host is this machine, by a name or an address that cannot be another one.
    #[must_use]
    pub fn is_here(&self) -> bool {
        let name = match self.host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => name,
            _ => &self.host,
        };
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost"
            || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether what lies at this URL says to which other hosts the caller takes the credential.
    /// Then the URL itself must be trusted: a folder on a trusted host can be a stranger's.
    #[must_use]
    pub fn leads_on(&self) -> bool {
        self.protocol.starts_with("sparse+")
    }
}

fn web_protocol(protocol: &str) -> &str {
    match protocol.split_once('+') {
        Some(("sparse" | "terraform", web)) => web,
        _ => protocol,
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}", self.protocol, self.host)?;
        match self.path.as_deref() {
            Some("") | None => Ok(()),
            Some(path) => write!(out, "/{path}"),
        }
    }
}

/// Where a record belongs: everything in one place may answer the same requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The sessions of the profile of this name.
    Profile(String),
    /// What tools handed over for one origin.
    Origin(String),
}

/// Identifies one record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub place: Place,
    /// The client that the tokens were issued to, and that alone may refresh them. Empty for what
    /// a tool handed over.
    pub client_id: String,
    /// Empty when the provider has no notion of one, or it could not be learned.
    pub account: String,
    /// Only for what a tool handed over with a path.
    pub path: Option<String>,
}

impl Place {
    /// The spelled-out, versioned name; rule V1 of protocol.md.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Profile(name) => format!("valetkey/1 profile={}", escape(name)),
            Self::Origin(origin) => format!("valetkey/1 origin={}", escape(origin)),
        }
    }

    /// As `Key::digest`.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.text())
    }
}

impl Key {
    /// The place's name followed by what is particular to this record, sorted; rule V1 of
    /// protocol.md.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{} account={}", self.place.text(), escape(&self.account));
        if !self.client_id.is_empty() {
            text.push_str(" client=");
            text.push_str(&escape(&self.client_id));
        }
        if let Some(path) = &self.path {
            text.push_str(" path=");
            text.push_str(&escape(path));
        }
        text
    }

    /// The first 32 hexadecimal digits of the SHA-256 of `text`: the name of files about it.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.text())
    }
}

fn digest(text: &str) -> String {
    let mut digest = fingerprint(text.as_bytes());
    digest.truncate(32);
    digest
}

/// Percent-encodes what would make a key ambiguous.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, letter| {
        if letter <= ' ' || letter == '%' || letter == '=' || letter == '\x7f' {
            escaped.push_str(&format!("%{:02X}", u32::from(letter)));
        } else {
            escaped.push(letter);
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> String {
        Resource::parse(text).map_or_else(|error| error.what, |resource| resource.origin())
    }

    #[test]
    fn hosts_are_normalised_before_anything_is_compared() {
        assert_eq!(origin("https://Example.COM:443/a"), "https://example.com");
        assert_eq!(origin("https://example.com.:8443"), "https://example.com:8443");
        assert_eq!(origin("http://example.com:80"), "http://example.com");
        assert_eq!(origin("http://example.com:443"), "http://example.com:443");
        assert_eq!(origin("https://b\u{fc}cher.example"), "https://xn--bcher-kva.example");
        assert_eq!(origin("https://[::1]:8443/"), "https://[::1]:8443");
        assert_eq!(origin("example.com"), "https://example.com");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "https://",
            "https://a b",
            "https://a%20b",
            "https://exa\\mple",
            "https://example.com:99999",
            "https://example.com:+1",
            "https://example.com:+443",
            "https://[zz]",
            "https://x\u{200b}\u{2028}.example/",
            "https://user@",
            "ht tp://example.com",
        ] {
            assert!(Resource::parse(text).is_err(), "{text}");
        }
        assert!(Resource::parse("https://user:secret@example.com").is_err());
    }

    #[test]
    fn a_tools_own_word_stands_before_the_protocol() {
        let index = Resource::parse("sparse+https://Example.com:443/index/").unwrap();
        assert_eq!(index.origin(), "sparse+https://example.com");
        assert_eq!(index.web_origin(), "https://example.com");
        assert!(index.leads_on());
        let host = Resource::parse("terraform+https://example.com").unwrap();
        assert_eq!(host.web_origin(), "https://example.com");
        assert!(!host.leads_on());
        let other = Resource::parse("any+https://example.com").unwrap();
        assert_eq!(other.web_origin(), "any+https://example.com");
        assert!(Resource::parse("sparse+https://").is_err());
    }

    #[test]
    fn keys_are_spelled_out_and_pinned() {
        let key = |place, client_id: &str, account: &str, path: Option<&str>| Key {
            place,
            client_id: client_id.into(),
            account: account.into(),
            path: path.map(str::to_owned),
        };
        let session = key(Place::Profile("acme".into()), "id 1", "a=b", None);
        assert_eq!(session.text(), "valetkey/1 profile=acme account=a%3Db client=id%201");
        assert_eq!(session.digest(), "10b7cac1bdfd8d24e00efe4a0a0fe60d");
        let place = Place::Origin("https://example.com".into());
        let handed = key(place, "", "", Some("team/s.git"));
        assert_eq!(handed.text(), "valetkey/1 origin=https://example.com account= path=team/s.git");
    }
}
