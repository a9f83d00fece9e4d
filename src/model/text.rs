//! Text that strangers chose, where it is shown or sent on: what cannot be seen must not act.

use serde::Serialize;
use zeroize::Zeroizing;

/// Takes out everything that a terminal could act on or that hides what is there: control
/// characters but LF, marks that change the direction of writing, and what has no width.
#[must_use]
pub fn sanitize(text: &str) -> String {
    text.chars().filter(|&letter| letter == '\n' || is_visible(letter)).collect()
}

/// As `sanitize`, in one line.
#[must_use]
pub fn one_line(text: &str) -> String {
    sanitize(&text.replace('\n', " "))
}

fn is_visible(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A value as JSON in one line, without a line end. What `sanitize` would take out is escaped: to
/// a reader of JSON it is the same text.
#[must_use]
pub fn json(value: &impl Serialize) -> Zeroizing<String> {
    // Our values are strings and numbers below string keys, and those are always JSON.
    let plain = Zeroizing::new(serde_json::to_string(value).unwrap_or_default());
    if plain.chars().all(is_visible) {
        return plain;
    }
    let mut escaped = Zeroizing::new(String::with_capacity(2 * plain.len()));
    for letter in plain.chars() {
        match is_visible(letter) {
            true => escaped.push(letter),
            // Outside of a string there is none of them.
            false => {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    escaped.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_nothing_that_acts_and_reads_as_the_same_text() {
        for letter in ('\0'..=char::MAX).step_by(7).chain('\0'..='\u{3000}') {
            let text = format!("a{letter}b\"\\");
            let written = json(&serde_json::json!({ "key": text, text.as_str(): [text] }));
            assert!(written.chars().all(is_visible), "{letter:?}");
            let read: serde_json::Value = serde_json::from_str(&written).unwrap();
            assert_eq!(read["key"], text);
            assert_eq!(read[text.as_str()][0], text);
        }
    }
}
