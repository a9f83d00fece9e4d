//! TOML that somebody else wrote, edited by the places of its keys and values in the text.

use std::ops::Range;

use toml_edit::{Array, Document, Item, TableLike, TomlError, Value};

use super::files::{self, Lines};

/// A text that is TOML.
pub(super) struct Toml {
    text: String,
    document: Document<String>,
}

impl Toml {
    pub(super) fn parse(text: &str) -> Result<Self, TomlError> {
        let document = Document::parse(text.to_owned())?;
        Ok(Self { text: text.to_owned(), document })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What stands at a path of keys.
    pub(super) fn get(&self, path: &[&str]) -> Option<&Item> {
        let (first, rest) = path.split_first()?;
        let first = self.document.as_table().get(first)?;
        rest.iter().try_fold(first, |item, key| item.as_table_like()?.get(key))
    }

    /// A value as it is written.
    pub(super) fn raw(&self, path: &[&str]) -> Option<&str> {
        self.text.get(self.get(path)?.span()?)
    }

    pub(super) fn array(&self, path: &[&str]) -> Option<&Array> {
        self.get(path)?.as_array()
    }

    /// Puts a text in the place of a value.
    pub(super) fn set(&mut self, path: &[&str], raw: &str) {
        if let Some(span) = self.get(path).and_then(Item::span) {
            self.splice(span, raw);
        }
    }

    /// Adds a key to the table at `path`, which is made where there is none. `false` where
    /// something else stands there.
    pub(super) fn add(&mut self, path: &[&str], key: &str, raw: &str) -> bool {
        match self.get(path) {
            None => self.append(path, key, raw),
            Some(Item::Value(Value::InlineTable(table))) => {
                let Some(span) = table.span() else { return false };
                let last = table.iter().filter_map(|(_, value)| value.span()).map(|span| span.end);
                match last.max() {
                    Some(end) => self.splice(end..end, &format!(", {key} = {raw}")),
                    None => self.splice(span.start + 1..span.end - 1, &format!(" {key} = {raw} ")),
                }
            }
            Some(Item::Table(table)) => {
                let last = self.end_of(table);
                let name = match table.is_dotted() {
                    false => key.to_owned(),
                    true => format!("{}.{key}", self.dotted(path).join(".")),
                };
                match last {
                    None => self.append(path, key, raw),
                    Some(end) => {
                        let line = self.text[..end].matches('\n').count();
                        let mut lines = Lines::of(&self.text);
                        let indent = indent(lines.get(line)).to_owned();
                        lines.insert(line + 1, format!("{indent}{name} = {raw}"));
                        let text = lines.text();
                        self.renew(text);
                    }
                }
            }
            Some(_) => return false,
        }
        true
    }

    /// Whether a table has a place for keys: its own name, or a key that is there.
    pub(super) fn has_place(&self, path: &[&str]) -> bool {
        match self.get(path) {
            Some(Item::Table(table)) => self.end_of(table).is_some(),
            item => item.is_some(),
        }
    }

    /// Where the last value of a table ends, or its name begins.
    fn end_of(&self, table: &toml_edit::Table) -> Option<usize> {
        let header = table.span().filter(|span| {
            let named = self.text.get(span.start..).is_some_and(|text| text.starts_with('['));
            named && !table.is_dotted() && !table.is_implicit()
        });
        last_of(table).max(header.map(|span| span.start))
    }

    /// The keys of a dotted table from the last table that has a header of its own.
    fn dotted<'p>(&self, path: &'p [&'p str]) -> &'p [&'p str] {
        let own = |length: usize| {
            let table = self.get(&path[..length]).and_then(Item::as_table);
            table.is_none_or(|table| !table.is_dotted())
        };
        let start = (1..=path.len()).rev().find(|length| own(*length)).unwrap_or(0);
        &path[start..]
    }

    fn append(&mut self, path: &[&str], key: &str, raw: &str) {
        let mut lines = Lines::of(&self.text);
        // Always, so that `remove_header` knows that there is one of ours.
        if lines.len() > 0 {
            lines.push("");
        }
        lines.push(format!("[{}]", path.join(".")));
        lines.push(format!("{key} = {raw}"));
        let text = lines.text();
        self.renew(text);
    }

    /// Takes a key and its value away: the line, unless there is a comment behind it.
    pub(super) fn remove(&mut self, table: &[&str], key: &str) {
        let Some(item) = self.get(table) else { return };
        let inline = item.is_inline_table();
        let Some(table) = item.as_table_like() else { return };
        let Some((place, value)) = table.get_key_value(key) else { return };
        let (Some(place), Some(value)) = (place.span(), value.span()) else { return };
        if !inline {
            let start = self.text[..place.start].rfind('\n').map_or(0, |end| end + 1);
            self.cut_lines(start..value.end);
            return;
        }
        let own = place.start..value.end;
        match (entries(table).as_slice(), item.span()) {
            ([_], Some(span)) => self.splice(span.start + 1..span.end - 1, ""),
            (entries, _) => self.cut_item(&own, entries, false),
        }
    }

    /// Adds a value at the end of a list.
    pub(super) fn push(&mut self, path: &[&str], raw: &str) {
        let Some(list) = self.array(path) else { return };
        let Some(span) = list.span() else { return };
        let items: Vec<Range<usize>> = list.iter().filter_map(Value::span).collect();
        match items.as_slice() {
            [] => self.splice(span.start + 1..span.start + 1, raw),
            [.., last] => {
                let before = items.len().checked_sub(2).map_or(span.start + 1, |index| {
                    let end = items[index].end;
                    end + self.text[end..].find(',').map_or(0, |comma| comma + 1)
                });
                let space = self.text[before..last.start].to_owned();
                let space = match space.contains('\n') && space.trim().is_empty() {
                    true => space,
                    false => " ".to_owned(),
                };
                self.splice(last.end..last.end, &format!(",{space}{raw}"));
            }
        }
    }

    /// Takes a value out of a list.
    pub(super) fn pull(&mut self, path: &[&str], index: usize) {
        let Some(list) = self.array(path) else { return };
        let items: Vec<Range<usize>> = list.iter().filter_map(Value::span).collect();
        let Some(own) = items.get(index).cloned() else { return };
        self.cut_item(&own, &items, true);
    }

    /// Takes the line of a table's name away, where nothing else stands in it and the table has no
    /// value of its own.
    pub(super) fn remove_header(&mut self, path: &[&str]) {
        let Some(Item::Table(table)) = self.get(path) else { return };
        let Some(span) = table.span().filter(|_| last_of(table).is_none() && !table.is_dotted())
        else {
            return;
        };
        let at = self.text[..span.start].matches('\n').count();
        let mut lines = Lines::of(&self.text);
        if lines.get(at).trim() != format!("[{}]", path.join(".")) {
            return;
        }
        lines.remove(at);
        // The empty line that was put above it.
        if at > 0 && at == lines.len() && lines.get(at - 1).is_empty() {
            lines.remove(at - 1);
        }
        let text = lines.text();
        self.renew(text);
    }

    /// One of several between commas. A comment between two of them stays.
    fn cut_item(&mut self, own: &Range<usize>, all: &[Range<usize>], trailing: bool) {
        let Some(index) = all.iter().position(|other| other == own) else { return };
        let plain = |range: Range<usize>| !self.text[range].contains('#');
        let before = index.checked_sub(1).map(|index| all[index].end);
        let next = all.get(index + 1).map(|next| next.start);
        let comma = |end: usize| {
            let rest = self.text[end..].trim_start();
            let comma = self.text.len() - rest.len();
            if rest.starts_with(',') { comma + 1 } else { end }
        };
        let place = match (before, next) {
            (Some(before), _) if plain(before..own.start) => before..own.end,
            (None, Some(next)) if plain(own.end..next) => own.start..next,
            (Some(_), None) if !trailing => own.clone(),
            _ => own.start..comma(own.end),
        };
        self.splice(place, "");
    }

    fn cut_lines(&mut self, place: Range<usize>) {
        let rest = &self.text[place.end..];
        let line_end = rest.find('\n').unwrap_or(rest.len());
        if !rest[..line_end].trim().is_empty() {
            let space = rest.len() - rest.trim_start_matches([' ', '\t']).len();
            self.splice(place.start..place.end + space, "");
            return;
        }
        let first = self.text[..place.start].matches('\n').count();
        let count = self.text[place].matches('\n').count() + 1;
        let mut lines = Lines::of(&self.text);
        for _ in 0..count {
            lines.remove(first);
        }
        let text = lines.text();
        self.renew(text);
    }

    fn splice(&mut self, place: Range<usize>, raw: &str) {
        let mut text = self.text.clone();
        text.replace_range(
            place,
            &raw.replace('\n', files::newline(&self.text)).replace("\r\r", "\r"),
        );
        self.renew(text);
    }

    fn renew(&mut self, text: String) {
        // Each edit leaves TOML behind; where it would not, the text stays as it was.
        if let Ok(document) = Document::parse(text.clone()) {
            *self = Self { text, document };
        }
    }
}

/// Where the last value of a table ends, without the tables that have headers of their own.
fn last_of(table: &dyn TableLike) -> Option<usize> {
    let ends = table.iter().filter_map(|(_, item)| match item {
        Item::Value(value) => value.span().map(|span| span.end),
        Item::Table(table) if table.is_dotted() => last_of(table),
        _ => None,
    });
    ends.max()
}

fn entries(table: &dyn TableLike) -> Vec<Range<usize>> {
    let keys: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
    let mut all: Vec<Range<usize>> = keys
        .iter()
        .filter_map(|key| {
            let (key, value) = table.get_key_value(key)?;
            Some(key.span()?.start..value.span()?.end)
        })
        .collect();
    all.sort_by_key(|range| range.start);
    all
}

fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_came_goes_and_nothing_else_changes() {
        for text in [
            "",
            "# mine\n",
            "[registry]",
            "[registry] # keep\r\n# me\r\n",
            "  [registry]\n  a = 1 # x\n\n[other]\n",
            "registry = { a = 1 }\n[x]\n",
            "registry.a = 1\nregistry.b.c = 2 # x\n",
            "[registry.below]\na = 1\n",
            "[a]\nb = [\n  1,\n]\n[registry]\na = [\n  1, # one\n  2\n] # end\n\n[c]",
            "[registries]\nx.index = \"y\"\n",
        ] {
            let mut toml = Toml::parse(text).expect("TOML");
            assert!(toml.add(&["registry"], "key", "[\"v\"]"));
            assert_eq!(toml.raw(&["registry", "key"]), Some("[\"v\"]"), "{text}");
            toml.push(&["registry", "key"], "'w'");
            assert_eq!(toml.array(&["registry", "key"]).map(Array::len), Some(2));
            toml.pull(&["registry", "key"], 1);
            toml.set(&["registry", "key"], "7");
            assert_eq!(toml.raw(&["registry", "key"]), Some("7"));
            toml.remove(&["registry"], "key");
            if !text.contains("[registry]") {
                toml.remove_header(&["registry"]);
            }
            assert_eq!(toml.text(), text);
        }
    }

    #[test]
    fn an_item_of_a_list_comes_and_goes_in_any_layout() {
        for text in [
            "l = []",
            "l = [ 'a' ]\n",
            "l = ['a', 'b',]\n",
            "l = [\n  'a', # one\n  'b', # two\n]\n",
            "l = [\r\n\t'a'\r\n]\r\n",
        ] {
            let mut toml = Toml::parse(text).expect("TOML");
            let count = toml.array(&["l"]).map_or(0, Array::len);
            toml.push(&["l"], "'x'");
            assert_eq!(toml.array(&["l"]).map(Array::len), Some(count + 1), "{text}");
            toml.pull(&["l"], count);
            assert_eq!(toml.array(&["l"]).map(Array::len), Some(count), "{text}");
            assert_eq!(toml.text(), text);
        }
        for (text, index, after) in [
            ("l = ['a', 'b', 'c']", 1, "l = ['a', 'c']"),
            ("l = ['a', 'b']", 0, "l = ['b']"),
            ("l = [\n 'a', # one\n 'b'\n]", 1, "l = [\n 'a', # one\n \n]"),
        ] {
            let mut toml = Toml::parse(text).expect("TOML");
            toml.pull(&["l"], index);
            assert_eq!(toml.text(), after);
        }
    }
}
