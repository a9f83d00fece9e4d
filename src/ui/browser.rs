//! `$BROWSER` as people write it: entries between colons, each a path or a command line with the
//! quotes of a shell. Nothing here starts a shell.

use std::ffi::{OsStr, OsString};

/// The entries, in order: separated by colons that are not quoted. A quote without an end is a
/// letter like others.
pub(super) fn entries(list: &OsStr) -> Vec<OsString> {
    let list = bytes_of(list);
    let mut found = vec![Vec::new()];
    let separator = if cfg!(windows) { b';' } else { b':' };
    for (byte, _, quoted) in marks(&list) {
        match found.last_mut() {
            Some(entry) if byte != separator || quoted => entry.push(byte),
            _ => found.push(Vec::new()),
        }
    }
    found.retain(|entry| !entry.trim_ascii().is_empty());
    found.iter().map(|entry| text_of(entry.trim_ascii())).collect()
}

/// The words of an entry, without their quotes. `%s` is the URL; without a `%s` it goes
/// last. An `&` at the end, which once meant not to wait, is dropped.
pub(super) fn words(entry: &OsStr, url: &str) -> Vec<OsString> {
    let entry = bytes_of(entry);
    let mut words = split(&entry);
    if words.last().is_some_and(|word| word == b"&") {
        words.pop();
    }
    let named = words.iter().any(|word| fill(word, url).is_some());
    let filled = |word: &Vec<u8>| text_of(&fill(word, url).unwrap_or_else(|| word.clone()));
    let mut words: Vec<OsString> = words.iter().map(filled).collect();
    if !named && !words.is_empty() {
        words.push(url.into());
    }
    words
}

fn split(entry: &[u8]) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut inside = false;
    for (byte, is_quote, quoted) in marks(entry) {
        if byte.is_ascii_whitespace() && !quoted {
            inside = false;
            continue;
        }
        if !inside {
            words.push(Vec::new());
            inside = true;
        }
        if let Some(word) = words.last_mut().filter(|_| !is_quote) {
            word.push(byte);
        }
    }
    words
}

/// A word with the URL in it; `None` where it has no place for one. In a text that is itself
/// a command line, as in `sh -c 'firefox %s'`, the URL, which a server wrote, stays one word.
fn fill(word: &[u8], url: &str) -> Option<Vec<u8>> {
    let commands =
        word.iter().any(|byte| byte.is_ascii_whitespace() || b";&|<>()`$".contains(byte));
    let mut quotes = Quotes::default();
    let mut filled = Vec::new();
    let mut found = false;
    let mut rest = word;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, behind.first()) {
            (b'%', Some(b's')) => {
                found = true;
                rest = &behind[1..];
                match (commands, quotes.open) {
                    (false, _) => filled.extend_from_slice(url.as_bytes()),
                    (true, None) => filled.extend(quoted(url).bytes()),
                    (true, Some(b'\'')) => filled.extend(url.replace('\'', r"'\''").bytes()),
                    (true, Some(_)) => {
                        for letter in url.bytes() {
                            let acts = b"\"\\$`".contains(&letter);
                            filled.extend(acts.then_some(b'\\'));
                            filled.push(letter);
                        }
                    }
                }
            }
            _ => {
                quotes.step(byte, behind.first());
                filled.push(byte);
            }
        }
    }
    found.then_some(filled)
}

fn quoted(url: &str) -> String {
    format!("'{}'", url.replace('\'', r"'\''"))
}

/// Each byte, whether it is a quote that falls away, and whether it is quoted, by the rules of
/// a POSIX shell. Where a quote has no end, all are letters.
fn marks(text: &[u8]) -> Vec<(u8, bool, bool)> {
    let mut quotes = Quotes::default();
    let mut marks = Vec::with_capacity(text.len());
    for (index, &byte) in text.iter().enumerate() {
        let (is_quote, quoted) = quotes.step(byte, text.get(index + 1));
        marks.push((byte, is_quote, quoted));
    }
    if quotes.open.is_some() || quotes.escaped {
        marks.iter_mut().for_each(|mark| *mark = (mark.0, false, false));
    }
    marks
}

/// Where in a text we are, by the quotes of a POSIX shell.
#[derive(Default)]
struct Quotes {
    open: Option<u8>,
    escaped: bool,
}

impl Quotes {
    /// Whether this byte is a quote that falls away, and whether it is quoted.
    fn step(&mut self, byte: u8, next: Option<&u8>) -> (bool, bool) {
        if std::mem::take(&mut self.escaped) {
            return (false, true);
        }
        match (self.open, byte) {
            // Between double quotes it stands for itself before most letters.
            (Some(b'"'), b'\\') if !next.is_some_and(|next| b"$`\"\\".contains(next)) => {
                (false, true)
            }
            (None | Some(b'"'), b'\\') => {
                self.escaped = true;
                (true, true)
            }
            (None, b'"' | b'\'') => {
                self.open = Some(byte);
                (true, true)
            }
            (Some(open), _) if open == byte => {
                self.open = None;
                (true, true)
            }
            (open, _) => (false, open.is_some()),
        }
    }
}

#[cfg(unix)]
fn bytes_of(text: &OsStr) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(text).to_vec()
}

#[cfg(unix)]
fn text_of(bytes: &[u8]) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec())
}

#[cfg(not(unix))]
fn bytes_of(text: &OsStr) -> Vec<u8> {
    text.to_string_lossy().into_owned().into_bytes()
}

#[cfg(not(unix))]
fn text_of(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_cut_at_colons_that_are_not_quoted() {
        for (list, expected) in [
            ("a:b", &["a", "b"][..]),
            (" a %s :: b ", &["a %s", "b"]),
            ("'/x:y/a':b", &["'/x:y/a'", "b"]),
            (r"/x\:y/a:b", &[r"/x\:y/a", "b"]),
            ("it's:b", &["it's", "b"]),
            ("\"a:b", &["\"a", "b"]),
            (":", &[]),
        ] {
            assert_eq!(entries(OsStr::new(list)), expected, "{list}");
        }
        assert_eq!(entries(&text_of(b"/caf\xe9/a:b")), [text_of(b"/caf\xe9/a"), "b".into()]);
    }

    #[test]
    fn a_command_line_is_read_as_a_shell_reads_words() {
        for (entry, expected) in [
            ("firefox", &["firefox", "URL"][..]),
            ("firefox -P  work", &["firefox", "-P", "work", "URL"]),
            ("'/Program Files/ff' --new", &["/Program Files/ff", "--new", "URL"]),
            ("\"/Program Files/ff\"", &["/Program Files/ff", "URL"]),
            (r"/Program\ Files/ff", &["/Program Files/ff", "URL"]),
            ("/Program' 'Files/ff", &["/Program Files/ff", "URL"]),
            (r#""a\"b" ''"#, &["a\"b", "", "URL"]),
            (r#"ff "a\b""#, &["ff", r"a\b", "URL"]),
            ("ff --url=%s --now", &["ff", "--url=URL", "--now"]),
            ("ff '%s' %s", &["ff", "URL", "URL"]),
            ("ff 100%", &["ff", "100%", "URL"]),
            ("ff &", &["ff", "URL"]),
            ("ff it's", &["ff", "it's", "URL"]),
            ("", &[]),
        ] {
            assert_eq!(words(OsStr::new(entry), "URL"), expected, "{entry}");
        }
    }

    /// What a server wrote is one word of whatever reads the text next.
    #[test]
    fn a_url_in_a_command_text_stays_one_word() {
        let url = "https://a.example/?x&reboot;'\"$(id)`id`\\";
        for text in ["printf %1s %s", "printf %1s '%s'", "printf %1s \"%s\"", "(printf %1s %s)"] {
            let entry = format!("sh -c {}", super::super::shell_word(text));
            let words = words(OsStr::new(&entry), url);
            assert_eq!(words.len(), 3, "{text}");
            #[expect(clippy::disallowed_methods, reason = "a shell is the judge")]
            let said = std::process::Command::new(&words[0]).args(&words[1..]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout), url, "{text}");
        }
    }
}
