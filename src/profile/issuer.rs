//! The name of an authorization server. A name is compared as it was written (RFC 8414 section
//! 3.3), and a parsed URL is for connecting: it spells host, port and root in its own way.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

/// An issuer identifier (RFC 8414 section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    text: String,
    url: Url,
}

impl Issuer {
    /// Reads a name. That it may be used is for others to say.
    ///
    /// # Errors
    /// When it is no URL.
    pub fn new(text: &str) -> Result<Self, url::ParseError> {
        Ok(Self { url: text.parse()?, text: text.to_owned() })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Whether somebody else calls the same server so: letter for letter as it was written here, or
    /// as a parser writes it. A root's slash makes no difference: it is often the parser's.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        let root = self.url.path() == "/";
        let plain = |name: &'_ str| match root {
            true => name.strip_suffix('/').unwrap_or(name).to_owned(),
            false => name.to_owned(),
        };
        let name = plain(name);
        name == plain(&self.text) || name == plain(self.url.as_str())
    }
}

impl From<Url> for Issuer {
    fn from(url: Url) -> Self {
        Self { text: url.as_str().to_owned(), url }
    }
}

impl std::fmt::Display for Issuer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.url.fmt(out)
    }
}

impl Serialize for Issuer {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Issuer {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(input)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_compared_as_it_was_written() {
        for (written, said, same) in [
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "https://a.example/", true),
            ("https://a.example/", "https://a.example", true),
            ("https://A.example/x", "https://A.example/x", true),
            ("https://A.example/x", "https://a.example/x", true),
            ("https://a.example:443/x", "https://a.example:443/x", true),
            ("https://a.example:443", "https://a.example:443/", true),
            ("https://a.example/x", "https://A.example/x", false),
            ("https://a.example", "https://a.example:443", false),
            ("https://a.example/x", "https://a.example/x/", false),
            ("https://a.example/x/", "https://a.example/x", false),
            ("https://a.example", "https://a.example//", false),
            ("https://a.example", "https://b.example", false),
            ("https://a.example", "", false),
        ] {
            assert_eq!(Issuer::new(written).unwrap().is(said), same, "{written} {said}");
        }
    }
}
