//! A JSON object, or a form, that somebody else wrote: the metadata of a server, the answer of a
//! token endpoint, the claims of a token. It is read member by member, so that one that nobody
//! needs can be of any kind and spoils nothing; what a step cannot do without is said by its name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;
use zeroize::Zeroize;

/// The members of an object. A member that is given twice with different values says nothing:
/// RFC 8259 section 4 leaves it open which of them counts, so that two programs of one server can
/// read two things. Inside of a member the last one counts.
#[derive(Default)]
pub struct Document {
    members: BTreeMap<String, Member>,
}

enum Member {
    Value(Value),
    Twice,
    /// Nested too deeply, a number out of range, half a pair of surrogates.
    Unreadable,
}

/// Why some bytes are no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It is JSON, and ends in the middle.
    Cut,
    NotJson,
    NotAnObject,
}

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Cut => "JSON that ends in the middle",
            Self::NotJson => "no JSON",
            Self::NotAnObject => "no JSON object",
        })
    }
}

/// The text of foreign bytes: without a byte order mark (RFC 8259 section 8.1 allows to ignore
/// one), from UTF-16 where its mark says so, as some shells write files, and with U+FFFD for what is
/// none.
#[must_use]
pub fn foreign_text(bytes: &[u8]) -> Cow<'_, str> {
    let words = |rest: &[u8], word: fn([u8; 2]) -> u16| {
        let pairs = rest.chunks(2).map(|pair| word([pair[0], pair.get(1).copied().unwrap_or(0)]));
        let letters = char::decode_utf16(pairs).map(|letter| letter.unwrap_or('\u{fffd}'));
        Cow::Owned(letters.collect())
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest),
        [0xff, 0xfe, rest @ ..] => words(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => words(rest, u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes),
    }
}

impl Document {
    /// Reads a JSON object. Its members are looked at one by one, and none of them can fail it.
    ///
    /// # Errors
    /// When the bytes are no JSON object.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let text = foreign_text(bytes);
        match serde_json::from_str::<Self>(&text) {
            Ok(document) => Ok(document),
            Err(error) if error.is_eof() && !text.trim().is_empty() => Err(Malformed::Cut),
            Err(error) if error.is_data() => Err(Malformed::NotAnObject),
            Err(_) => Err(Malformed::NotJson),
        }
    }

    /// Reads a form (`application/x-www-form-urlencoded`).
    #[must_use]
    pub fn of_form(bytes: &[u8]) -> Self {
        let mut document = Self::default();
        for (name, value) in url::form_urlencoded::parse(bytes) {
            document.add(name.into_owned(), Some(value.into_owned().into()));
        }
        document
    }

    fn add(&mut self, name: String, value: Option<Value>) {
        let member = value.map_or(Member::Unreadable, Member::Value);
        match self.members.entry(name) {
            Entry::Vacant(place) => {
                place.insert(member);
            }
            Entry::Occupied(mut earlier) => match (earlier.get(), &member) {
                (Member::Value(one), Member::Value(other)) if one == other => {}
                _ => drop(earlier.insert(Member::Twice)),
            },
        }
    }

    /// Whether it says anything by this name, readable or not.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// What each member is called, readable or not.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Each member that can be read.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.members.iter().filter_map(|(name, member)| match member {
            Member::Value(value) => Some((name.as_str(), value)),
            Member::Twice | Member::Unreadable => None,
        })
    }

    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        match self.members.get(name)? {
            Member::Value(value) => Some(value),
            Member::Twice | Member::Unreadable => None,
        }
    }

    /// What a JSON pointer (RFC 6901) leads to.
    #[must_use]
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        let path = pointer.strip_prefix('/')?;
        let (name, rest) = path.find('/').map_or((path, ""), |end| path.split_at(end));
        self.value(&name.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
    }

    /// A text that is not empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.as_str().filter(|text| !text.trim().is_empty())
    }

    /// A number, which some servers write as text.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        let number = match self.value(name)? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|number| number.is_finite())
    }

    /// Whether the member is the word `true`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.value(name) == Some(&Value::Bool(true))
    }

    /// The texts of a list; a list without any says nothing.
    #[must_use]
    pub fn list(&self, name: &str) -> Option<Vec<String>> {
        let list = self.value(name)?.as_array()?.iter();
        let texts = list.filter_map(Value::as_str).filter(|text| !text.trim().is_empty());
        let texts: Vec<_> = texts.map(str::to_owned).collect();
        (!texts.is_empty()).then_some(texts)
    }

    /// An absolute URL.
    #[must_use]
    pub fn url(&self, name: &str) -> Option<Url> {
        Url::parse(self.text(name)?).ok().filter(Url::has_host)
    }

    /// An object inside of this one.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<Self> {
        let members = self.value(name)?.as_object()?.iter();
        let members = members.map(|(name, value)| (name.clone(), Member::Value(value.clone())));
        Some(Self { members: members.collect() })
    }

    /// What is wrong with a member that is needed, as `NAME is null`.
    #[must_use]
    pub fn lacks(&self, name: &str) -> String {
        let state = match self.members.get(name) {
            None => "missing",
            Some(Member::Twice) => "given twice",
            Some(Member::Unreadable) => "nothing that can be read",
            Some(Member::Value(value)) => match value {
                Value::Null => "null",
                Value::Bool(_) => "true or false",
                Value::Number(_) => "a number",
                Value::Array(_) => "a list",
                Value::Object(_) => "an object",
                Value::String(text) if text.trim().is_empty() => "empty",
                Value::String(_) => "nothing that can be used",
            },
        };
        format!("{name} is {state}")
    }
}

/// They may be tokens.
impl Drop for Document {
    fn drop(&mut self) {
        for member in self.members.values_mut() {
            if let Member::Value(Value::String(text)) = member {
                text.zeroize();
            }
        }
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Document;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Document, M::Error> {
                let mut document = Document::default();
                // The raw text of a member is skipped without recursion, so that none is too deep.
                while let Some((name, raw)) = map.next_entry::<String, &RawValue>()? {
                    document.add(name, serde_json::from_str(raw.get()).ok());
                }
                Ok(document)
            }
        }

        input.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Document {
        Document::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn one_member_spoils_no_other() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for odd in [
            "null",
            "\"\"",
            "0",
            "[]",
            "{}",
            "\"/x\"",
            "true",
            "1e999",
            "\"\\ud800\"",
            "[[[1]]]",
            "\"\u{fffd}\"",
            &deep,
        ] {
            let document = read(&format!("{{\"odd\":{odd},\"good\":\"x\",\"odd2\":{odd}}}"));
            assert_eq!(document.text("good"), Some("x"));
            assert_eq!(document.url("odd"), None);
            assert_eq!(document.list("odd"), None);
            assert!(document.has("odd") && document.lacks("odd").starts_with("odd is "));
        }
        let latin = Document::parse(b"{\"odd\":\"caf\xe9\",\"good\":\"x\"}").unwrap();
        assert_eq!(latin.text("good"), Some("x"));
    }

    #[test]
    fn a_member_given_twice_says_nothing_unless_it_says_the_same() {
        let document = read(r#"{"a":"1","b":"x","a":"2","b":"x","a":"1"}"#);
        assert_eq!((document.text("a"), document.text("b")), (None, Some("x")));
        assert_eq!(document.lacks("a"), "a is given twice");
        let form = Document::of_form(b"a=1&b=x&a=2&b=x");
        assert_eq!((form.text("a"), form.text("b")), (None, Some("x")));
    }

    #[test]
    fn what_is_no_object_is_told_apart() {
        let why = |bytes: &[u8]| Document::parse(bytes).err();
        for (bytes, expected) in [
            (&b""[..], Malformed::NotJson),
            (b"<html>", Malformed::NotJson),
            (b"{\"a\":1}x", Malformed::NotJson),
            (b"[]", Malformed::NotAnObject),
            (b"null", Malformed::NotAnObject),
            (b"\"a\"", Malformed::NotAnObject),
            (b"{\"a\":", Malformed::Cut),
            (b"{\"a\":\"x", Malformed::Cut),
            (b"{\"a\":1", Malformed::Cut),
        ] {
            assert_eq!(why(bytes), Some(expected), "{bytes:?}");
        }
        assert!(Document::parse(b"\xef\xbb\xbf {\"a\":1}\r\n").is_ok());
        assert!(Document::parse(b"\xff\xfe{\0}\0").is_ok());
        assert!(Document::parse(b"\xfe\xff\0{\0}").is_ok());
    }

    #[test]
    fn a_pointer_leads_into_a_member() {
        let document = read(r#"{"a":{"b":["x"]},"c/d":1}"#);
        assert_eq!(document.at("/a/b/0"), Some(&Value::from("x")));
        assert_eq!(document.at("/c~1d"), Some(&Value::from(1)));
        assert_eq!((document.at("/a/x"), document.at("a")), (None, None));
    }
}
