//! JSON that somebody else wrote, edited by its members' places in the text: numbers, escapes,
//! members that come twice and the layout stay as they are.

use std::ops::Range;

use serde_json::Value;

/// A text that is one JSON object.
#[derive(Clone)]
pub(super) struct Json {
    text: String,
}

/// One member of an object, by the places of its name and its value.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    key: Range<usize>,
    value: Range<usize>,
}

impl Json {
    /// A text without anything is an object without anything. `None` where it is not one object.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self { text: text.to_owned() });
        }
        // Walked by place below, which the reader's own walk makes safe.
        serde_json::from_str::<serde_json::Map<String, Value>>(text).ok()?;
        Some(Self { text: text.to_owned() })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The members of the whole text's object.
    pub(super) fn members(&self) -> Vec<Member> {
        members(&self.text, skip(&self.text, 0))
    }

    /// The members of a member that is an object; `None` where it is none.
    pub(super) fn below(&self, member: &Member) -> Option<Vec<Member>> {
        let object = self.raw(member).starts_with('{');
        object.then(|| members(&self.text, member.value.start))
    }

    /// The last member of this name, which is the one that counts: of the whole text's object, or
    /// of `parent`'s.
    pub(super) fn find(&self, parent: Option<&Member>, name: &str) -> Option<Member> {
        let members = match parent {
            None => self.members(),
            Some(parent) => self.below(parent)?,
        };
        members.into_iter().rev().find(|member| member.name == name)
    }

    /// The value as it is written.
    pub(super) fn raw(&self, member: &Member) -> &str {
        &self.text[member.value.clone()]
    }

    pub(super) fn value(&self, member: &Member) -> Value {
        serde_json::from_str(self.raw(member)).unwrap_or_default()
    }

    pub(super) fn set(&mut self, member: &Member, raw: &str) {
        self.text.replace_range(member.value.clone(), raw);
    }

    /// Adds a member at the end of an object: of the whole text's, or of `parent`'s.
    pub(super) fn add(&mut self, parent: Option<&Member>, name: &str, raw: &str) {
        let name = Value::from(name).to_string();
        if self.text.trim().is_empty() {
            // As docker itself writes it. What is there is white space, and stays.
            let newline = super::files::newline(&self.text);
            self.text.insert_str(0, &format!("{{{newline}\t{name}: {raw}{newline}}}"));
            return;
        }
        let open = parent.map_or_else(|| skip(&self.text, 0), |parent| parent.value.start);
        let all = members(&self.text, open);
        match all.as_slice() {
            [.., last] => {
                let before = all.len().checked_sub(2).map_or(open + 1, |index| {
                    let end = all[index].value.end;
                    end + self.text[end..].find(',').map_or(0, |comma| comma + 1)
                });
                let space = self.text[before..last.key.start].to_owned();
                let colon = self.text[last.key.end..last.value.start].to_owned();
                let text = format!(",{space}{name}{colon}{raw}");
                self.text.insert_str(last.value.end, &text);
            }
            [] => {
                let close = skip(&self.text, open + 1);
                let inside = match self.text.contains('\n') || parent.is_none() {
                    false => format!("{name}:{raw}"),
                    true => {
                        let newline = super::files::newline(&self.text);
                        let line = self.text[..open].rfind('\n').map_or(0, |end| end + 1);
                        let indent: String = self.text[line..]
                            .chars()
                            .take_while(|letter| matches!(letter, ' ' | '\t'))
                            .collect();
                        let unit = self.unit();
                        format!("{newline}{indent}{unit}{name}: {raw}{newline}{indent}")
                    }
                };
                self.text.replace_range(open + 1..close, &inside);
            }
        }
    }

    /// By what the members of the text's object are indented.
    fn unit(&self) -> String {
        let first = self.members().first().map(|member| member.key.start);
        let line = first.map(|first| &self.text[..first]).unwrap_or_default();
        let indent = line.rsplit('\n').next().unwrap_or_default();
        match indent.is_empty() || !indent.trim().is_empty() {
            true => "\t".to_owned(),
            false => indent.to_owned(),
        }
    }

    /// Takes a member away, with the comma that it needed.
    pub(super) fn remove(&mut self, parent: Option<&Member>, member: &Member) {
        let open = parent.map_or_else(|| skip(&self.text, 0), |parent| parent.value.start);
        let all = members(&self.text, open);
        let Some(index) = all.iter().position(|other| other.key == member.key) else { return };
        let place = match (index.checked_sub(1), all.get(index + 1)) {
            (Some(before), _) => all[before].value.end..member.value.end,
            (None, Some(next)) => member.key.start..next.key.start,
            (None, None) => open + 1..skip(&self.text, member.value.end),
        };
        self.text.replace_range(place, "");
    }
}

/// The members of the object that opens at a place, in a text that is JSON.
fn members(text: &str, open: usize) -> Vec<Member> {
    let mut found = Vec::new();
    if !text[open.min(text.len())..].starts_with('{') {
        return found;
    }
    let mut at = skip(text, open + 1);
    while text[at..].starts_with('"') {
        let key = at..end(text, at);
        let colon = skip(text, key.end);
        let start = skip(text, colon + 1);
        let value = start..end(text, start);
        let name = serde_json::from_str(&text[key.clone()]).unwrap_or_default();
        at = skip(text, value.end);
        found.push(Member { name, key, value });
        if text[at..].starts_with(',') {
            at = skip(text, at + 1);
        }
    }
    found
}

/// The next place that is not white space.
fn skip(text: &str, from: usize) -> usize {
    let rest = &text[from..];
    from + (rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len())
}

/// Where the value ends that begins at a place.
fn end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, start);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
        if depth == 0 && matches!(bytes[at - 1], b'"' | b'}' | b']') {
            return at;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_came_goes_and_nothing_else_changes() {
        for text in [
            "{}",
            "{ }",
            "{\n}\n",
            "{\"a\":1}",
            "{ \"a\" : 12345678901234567890123 , \"b\" : [ 1.50, {\"c\": \"}\\\"\"} ] }",
            "{\n  \"\\u00e4\": \"\\u00e4,\\\\\",\n  \"a\": null,\n  \"a\": {}\n}\n",
            "{\r\n\t\"a\": true\r\n}",
            "\n\n{\"a\": {\"b\": {}}}  \n",
        ] {
            let mut json = Json::parse(text).expect("an object");
            let before = json.members().len();
            json.add(None, "our\"s", "\"valetkey\"");
            let value: Value = serde_json::from_str(json.text()).expect("JSON");
            assert_eq!(value["our\"s"], "valetkey", "{}", json.text());
            let all = json.members();
            assert_eq!(all.len(), before + 1);
            let member = all.last().expect("a member").clone();
            json.set(&member, "1.50");
            let member = json.members().pop().expect("a member");
            assert_eq!(json.raw(&member), "1.50");
            json.remove(None, &member);
            let same = json.text().replace(char::is_whitespace, "");
            assert_eq!(same, text.replace(char::is_whitespace, ""));
            if before > 0 {
                assert_eq!(json.text(), text);
            }
        }
    }

    #[test]
    fn members_are_found_below_and_by_any_order() {
        let text = "{\"one\": {\"a\": 1, \"b\": 2}, \"two\": {}, \"three\": []}";
        let mut json = Json::parse(text).expect("an object");
        let all = json.members();
        assert!(json.below(&all[2]).is_none());
        let below = json.below(&all[0]).expect("an object");
        json.remove(Some(&all[0]), &below[0]);
        assert_eq!(json.text(), text.replace("\"a\": 1, ", ""));
        let two = json.members()[1].clone();
        json.add(Some(&two), "x", "3");
        assert!(json.text().contains("\"two\": {\"x\":3}"));
        for text in ["[]", "{", "{\"a\":1,}", "1", "{} {}", "// x\n{}"] {
            assert!(Json::parse(text).is_none(), "{text}");
        }
        assert!(Json::parse(" \n").is_some());
    }
}
