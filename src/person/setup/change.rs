//! What an edit took from a file and what it put there: enough to go back, and no more of the file
//! than that, because other tools' files hold passwords.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use similar::{Algorithm, DiffOp, capture_diff_slices};

/// One place where two contents differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hunk {
    /// Bytes of the new content.
    at: usize,
    length: usize,
    /// What stood there before, as base64: it need not be text.
    before: String,
}

/// The places where `after` differs from `before`, in their order.
pub(super) fn between(before: &[u8], after: &[u8]) -> Vec<Hunk> {
    let hunk = |(old, new): (Range<usize>, Range<usize>)| Hunk {
        at: new.start,
        length: new.len(),
        before: STANDARD.encode(&before[old]),
    };
    places(before, after).into_iter().map(hunk).collect()
}

/// The content that `hunks` were made from. `None` where they do not fit.
pub(super) fn back(after: &[u8], hunks: &[Hunk]) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(after.len());
    let mut done = 0;
    for hunk in hunks {
        content.extend_from_slice(after.get(done..hunk.at)?);
        content.extend(STANDARD.decode(&hunk.before).ok()?);
        done = hunk.at.checked_add(hunk.length)?;
    }
    content.extend_from_slice(after.get(done..)?);
    Some(content)
}

/// The same for a person: the lines that go and those that come. Of JSON, which can be one long
/// line with passwords in it, only what changes in a line.
pub(super) fn shown(before: &[u8], after: &[u8]) -> String {
    let json = after.trim_ascii_start().starts_with(b"{");
    let mut lines: Vec<String> = Vec::new();
    let mut add = |sign: char, bytes: &[u8]| {
        for line in String::from_utf8_lossy(bytes).lines() {
            if line.chars().any(char::is_alphanumeric) {
                let line = if json { line.trim_matches([',', ' ', '\t']) } else { line.trim_end() };
                lines.push(format!("{sign} {line}"));
            }
        }
    };
    for (old, new) in places(before, after) {
        let (old, new) = match json {
            true => (old, new),
            false => (whole(before, old), whole(after, new)),
        };
        let (old, new) = (&before[old], &after[new]);
        // A line that another one was put beside has not changed.
        let came = new.strip_prefix(old).or(new.strip_suffix(old)).filter(|_| !json);
        if came.is_none() {
            add('-', old);
        }
        add('+', came.unwrap_or(new));
    }
    lines.dedup();
    lines.join("\n")
}

/// The lines that a range touches.
fn whole(text: &[u8], range: Range<usize>) -> Range<usize> {
    let start = text[..range.start].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let ends = range.end > range.start && text[range.end - 1] == b'\n';
    let end = text[range.end..].iter().position(|byte| *byte == b'\n');
    let end = if ends { range.end } else { end.map_or(text.len(), |at| range.end + at + 1) };
    start..end
}

fn places(before: &[u8], after: &[u8]) -> Vec<(Range<usize>, Range<usize>)> {
    let (old, new) = (words(before), words(after));
    // With its heuristics it ends soon, at times with a larger change, which is as right.
    let found = capture_diff_slices(Algorithm::Myers, &old, &new);
    let start = |words: &[&[u8]], index: usize| words[..index].iter().map(|word| word.len()).sum();
    let mut places: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    for change in found.iter().filter(|change| !matches!(change, DiffOp::Equal { .. })) {
        let (from, to) = (change.old_range(), change.new_range());
        let from = start(&old, from.start)..start(&old, from.end);
        let to = start(&new, to.start)..start(&new, to.end);
        match places.last_mut() {
            Some((old, new)) if old.end == from.start && new.end == to.start => {
                (old.end, new.end) = (from.end, to.end);
            }
            _ => places.push((from, to)),
        }
    }
    places
}

/// Runs of the letters that a secret is made of, and each other byte for itself: a secret that
/// stays is never part of a change.
fn words(content: &[u8]) -> Vec<&[u8]> {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_-.~%\\".contains(&byte);
    content.chunk_by(|one, next| inside(*one) && inside(*next)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_goes_back_to_the_very_bytes() {
        let texts: [&[u8]; 10] = [
            b"",
            b"\n\n",
            b"a\nb\nc\n",
            b"a\r\nb\r\nc",
            b"{\"auths\":{\"x\":{\"auth\":\"c2VjcmV0\"}}}",
            b"{\"auths\":{\"x\":{\"auth\":\"c2VjcmV0\"}},\"credsStore\":\"valetkey\"}",
            b"\xff\xfe\x00 not text",
            b"b\nc\na\n",
            "\u{feff}# \u{e4}\n".as_bytes(),
            b"{\n\t\"credsStore\": \"desktop\",\n\t\"a\": 1\n}",
        ];
        for before in texts {
            for after in texts {
                let hunks = between(before, after);
                assert_eq!(back(after, &hunks).as_deref(), Some(before));
                assert_eq!(hunks.is_empty(), before == after);
            }
        }
        assert_eq!(back(b"short", &between(b"x", b"a longer text")), None);
    }

    #[test]
    fn what_stays_is_not_part_of_a_change() {
        let before = b"{\"auths\":{\"x\":{\"auth\":\"c2VjcmV0\"}},\"credsStore\":\"desktop\"}";
        let after = b"{\"auths\":{\"x\":{\"auth\":\"c2VjcmV0\"}},\"credsStore\":\"valetkey\"}";
        let hunks = between(before, after);
        assert_eq!(hunks.len(), 1);
        assert_eq!(STANDARD.decode(&hunks[0].before).ok().as_deref(), Some(b"desktop".as_slice()));
        assert_eq!(shown(before, after), "- desktop\n+ valetkey");
        assert_eq!(shown(b"{\"a\": 1}", b"{\"a\": 1, \"b\": 2}"), "+ \"b\": 2");
        for (before, after, text) in [
            ("a\n", "a\n\tx = 1\n", "+ \tx = 1"),
            ("a", "a\nb", "+ b"),
            ("a = \"x\"\nb\n", "a = \"y\"\nb\n", "- a = \"x\"\n+ a = \"y\""),
            ("a\nb\n", "a\n", "- b"),
        ] {
            assert_eq!(shown(before.as_bytes(), after.as_bytes()), text);
        }
    }
}
