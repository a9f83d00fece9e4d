//! What a host says when it refuses (RFC 9110 section 11.6.1): the challenges of a
//! `WWW-Authenticate` header. They are a stranger's words, and say how to sign in at that very
//! host; they never decide whose credential it gets.

/// One scheme and its parameters, both with names in lower case.
#[derive(Debug, PartialEq)]
pub(super) struct Challenge {
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

/// Bytes of a header that are read.
const LONGEST: usize = 8 << 10;

impl Challenge {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads one header. A challenge that says something twice says nothing; a header that cannot be
/// understood is heard up to there.
pub(super) fn read(header: &str) -> Vec<Challenge> {
    let mut rest = header.get(..LONGEST.min(header.len())).unwrap_or_default();
    let mut found: Vec<Challenge> = Vec::new();
    let mut twice = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, behind) = token(rest);
        if word.is_empty() {
            break;
        }
        let value = behind.trim_start_matches([' ', '\t']).strip_prefix('=');
        match (value.map(|value| value.trim_start_matches([' ', '\t'])), found.last_mut()) {
            (Some(value), Some(challenge)) => {
                let Some((value, behind)) = read_value(value) else { break };
                rest = behind;
                let name = word.to_ascii_lowercase();
                if challenge.parameter(&name).is_some() {
                    twice.push(found.len() - 1);
                } else {
                    challenge.parameters.push((name, value));
                }
            }
            (Some(_), None) => break,
            (None, _) => {
                let scheme = word.to_ascii_lowercase();
                found.push(Challenge { scheme, parameters: Vec::new() });
                rest = after_token68(behind);
            }
        }
    }
    let mut number = 0..;
    found.retain(|_| number.next().is_some_and(|number| !twice.contains(&number)));
    found
}

/// A token of RFC 9110 section 5.6.2, and what follows it.
fn token(text: &str) -> (&str, &str) {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    text.split_at(text.bytes().position(|byte| !letter(byte)).unwrap_or(text.len()))
}

/// Skips the one word that some schemes say in place of parameters (RFC 9110 section 11.2).
fn after_token68(text: &str) -> &str {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let word = text.trim_start_matches(' ');
    let end = word.bytes().position(|byte| !letter(byte)).unwrap_or(word.len());
    let behind = word[end..].trim_start_matches('=').trim_start_matches([' ', '\t']);
    if end > 0 && (behind.is_empty() || behind.starts_with(',')) { behind } else { text }
}

/// A parameter's value, a token or a quoted string, and what follows it.
fn read_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, behind) = token(text);
        return Some((value.to_owned(), behind));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(letters.next().filter(|(_, letter)| !letter.is_control())?.1),
            letter if letter.is_control() => return None,
            letter => value.push(letter),
        }
    }
    None
}

/// For fuzzing: whatever a host says, names are tokens and no value could end a line.
///
/// # Panics
/// When that is not so.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for Challenge { scheme, parameters } in read(text) {
        assert!(!scheme.is_empty() && scheme == scheme.to_ascii_lowercase());
        for (place, (name, value)) in parameters.iter().enumerate() {
            assert!(!name.is_empty() && token(name).1.is_empty());
            assert!(!value.contains('\n'), "{value:?}");
            assert!(parameters[..place].iter().all(|(earlier, _)| earlier != name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(header: &str) -> Vec<String> {
        let parameters = |challenge: &Challenge| {
            let pairs = challenge.parameters.iter().map(|(name, value)| format!(" {name}={value}"));
            pairs.collect::<String>()
        };
        read(header).iter().map(|one| format!("{}{}", one.scheme, parameters(one))).collect()
    }

    #[test]
    fn challenges_are_read_in_every_spelling() {
        for (header, expected) in [
            ("Bearer", vec!["bearer"]),
            ("Basic realm=\"a, b\", charset=UTF-8", vec!["basic realm=a, b charset=UTF-8"]),
            (
                "Bearer realm = \"x\" ,scope=\"a b\",, DPoP algs=\"ES256\"",
                vec!["bearer realm=x scope=a b", "dpop algs=ES256"],
            ),
            ("Negotiate dG9rZW4=, Basic realm=\"\"", vec!["negotiate", "basic realm="]),
            (
                "NTLM, Bearer RESOURCE_METADATA=\"https://h/x\"",
                vec!["ntlm", "bearer resource_metadata=https://h/x"],
            ),
            (r#"Bearer realm="a \"b\" \\", x=y"#, vec![r#"bearer realm=a "b" \ x=y"#]),
            ("", vec![]),
            ("=x", vec![]),
            ("Bearer realm=\"no end", vec!["bearer"]),
            ("Bearer a=\"1\", a=\"2\", Basic realm=x", vec!["basic realm=x"]),
            ("Bearer x=\"a\u{1}b\", Basic", vec!["bearer"]),
        ] {
            assert_eq!(shown(header), expected, "{header}");
        }
    }
}
