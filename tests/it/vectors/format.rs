//! A vector as text: fields, blocks and escapes. What they mean is the stage's business.

/// One file.
#[derive(Debug, Default)]
pub struct Vector {
    pub rule: String,
    pub what: String,
    pub setup: Vec<Field>,
    pub steps: Vec<Vec<Field>>,
}

/// `name: value`, and the lines behind a bar below it.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub value: String,
    pub block: Option<Vec<String>>,
}

const SETUP: &[&str] = &[
    "attack",
    "document",
    "environment",
    "file",
    "keychain",
    "page",
    "person",
    "profile",
    "program",
    "secret",
    "session",
    "system",
    "token-endpoint",
    "key",
];

const STEP: &[&str] = &[
    "arguments",
    "as",
    "file",
    "lock",
    "run",
    "stdin",
    "stdin-stays-open",
    "expect-file",
    "expect-no-file",
    "expect-status",
    "expect-stderr",
    "expect-stderr-has",
    "expect-stdout",
    "expect-stdout-has",
    "expect-token-requests",
    "expect-windows",
    "then-file",
];

impl Vector {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields: Vec<Field> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let here = |what: &str| format!("line {}: {what}", number + 1);
            if let Some(rest) = line.strip_prefix('|') {
                let field = fields.last_mut().ok_or_else(|| here("a block of nothing"))?;
                let rest = rest.strip_prefix(' ').unwrap_or(rest);
                field.block.get_or_insert_default().push(rest.to_owned());
            } else if !line.is_empty() && !line.starts_with('#') {
                let (name, value) = line.split_once(':').ok_or_else(|| here("no field"))?;
                let (name, value) = (name.to_owned(), value.trim().to_owned());
                fields.push(Field { name, value, block: None });
            }
        }
        let mut vector = Self::default();
        for field in fields {
            match field.name.as_str() {
                "rule" => vector.rule = field.value,
                "what" => vector.what = field.value,
                "arguments" | "run" => vector.steps.push(vec![field]),
                name if vector.steps.is_empty() && SETUP.contains(&name) => {
                    vector.setup.push(field);
                }
                name if STEP.contains(&name) => match vector.steps.last_mut() {
                    Some(step) => step.push(field),
                    None => return Err(format!("{name} before the first arguments or run")),
                },
                name => return Err(format!("there is no field called {name} here")),
            }
        }
        if vector.rule.is_empty() || vector.what.is_empty() {
            return Err("rule or what is missing".to_owned());
        }
        let key = vector.setup.iter().any(|field| field.name == "key");
        if vector.steps.is_empty() && !key {
            return Err("nothing is run".to_owned());
        }
        Ok(vector)
    }
}

/// The bytes of a block: every line with its LF, escapes undone.
pub fn bytes(lines: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        let without_end = line.ends_with('\\') && !line.ends_with("\\\\");
        let line = if without_end { &line[..line.len() - 1] } else { line };
        let mut rest = line;
        while let Some(at) = rest.find(['\\', '{']) {
            bytes.extend_from_slice(&rest.as_bytes()[..at]);
            rest = &rest[at..];
            let (length, meant) = escape(rest);
            bytes.extend_from_slice(&meant);
            rest = &rest[length..];
        }
        bytes.extend_from_slice(rest.as_bytes());
        if !without_end {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// How long the escape at the start is, and what it means.
fn escape(text: &str) -> (usize, Vec<u8>) {
    if let Some(inside) = text.strip_prefix("{repeat ") {
        let inside = &inside[..inside.find('}').expect("a closed brace")];
        let (count, what) = inside.split_once(' ').expect("{repeat COUNT TEXT}");
        let length = "{repeat }".len() + inside.len();
        return (length, what.repeat(count.parse().expect("a count")).into_bytes());
    }
    match text.as_bytes() {
        [b'\\', b'r', ..] => (2, b"\r".to_vec()),
        [b'\\', b'e', ..] => (2, b"\x1b".to_vec()),
        [b'\\', b'0', ..] => (2, b"\0".to_vec()),
        [b'\\', b'\\', ..] => (2, b"\\".to_vec()),
        [b'\\', b'x', ..] => {
            let byte = u8::from_str_radix(&text[2..4], 16).expect("two hexadecimal digits");
            (4, vec![byte])
        }
        [b'\\', other, ..] => panic!("no such escape: \\{}", char::from(*other)),
        _ => (1, text.as_bytes()[..1].to_vec()),
    }
}

/// Whether `text` is `pattern`, in which `{any}` stands for any characters of one line.
pub fn matches(pattern: &str, text: &str) -> bool {
    let patterns: Vec<_> = pattern.split('\n').collect();
    let lines: Vec<_> = text.split('\n').collect();
    patterns.len() == lines.len()
        && patterns.iter().zip(lines).all(|(pattern, line)| line_matches(pattern, line))
}

fn line_matches(pattern: &str, line: &str) -> bool {
    let Some((start, mut pattern)) = pattern.split_once("{any}") else { return pattern == line };
    let Some(mut line) = line.strip_prefix(start) else { return false };
    while let Some((part, rest)) = pattern.split_once("{any}") {
        let Some((_, behind)) = line.split_once(part) else { return false };
        (pattern, line) = (rest, behind);
    }
    line.ends_with(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_any_is_any() {
        let lines = [r"a\r\x1b{b}".to_owned(), r"{repeat 3 xy}\".to_owned()];
        assert_eq!(bytes(&lines), b"a\r\x1b{b}\nxyxyxy");
        assert!(matches("a={any};{any}b\n", "a=1;2;b\n"));
        assert!(!matches("a={any}b\n", "a=1c\n") && !matches("a={any}", "a=\nb"));
    }

    #[test]
    fn a_misspelt_field_is_no_vector() {
        let text = "rule: G1\nwhat: x\narguments: get\nexpect-stauts: 0\n";
        assert!(Vector::parse(text).is_err());
        assert!(Vector::parse("rule: G1\nwhat: x\n").is_err());
    }
}
