//! `valetkey setup terraform`: the link in the one directory where terraform looks for helpers,
//! and the block in its configuration that names it. tofu reads the same files, and one of its own.

use std::ops::Range;
use std::path::PathBuf;

use super::{Setup, Step, files, taken};
use crate::error::{Error, Kind, Result};

const LINK: &str = "terraform-credentials-valetkey";
const NAME: &str = "valetkey";
/// What is remembered of a block that was replaced.
const KEY: &str = "credentials_helper";
const BLOCK: &str = "credentials_helper \"valetkey\" {\n  args = []\n}\n";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    setup.no_hosts("terraform asks one helper for every host, so --host means nothing to it")?;
    let (home, plugins) = if cfg!(windows) {
        let home = setup.world.environment.raw("APPDATA").map(PathBuf::from);
        let home = home.ok_or_else(|| Error::new(Kind::Failed, "APPDATA is not set"))?;
        (home.clone(), home.join("terraform.d").join("plugins"))
    } else {
        let home = setup.home()?;
        (home.clone(), home.join(".terraform.d").join("plugins"))
    };
    let mut steps = setup.link_at(plugins.join(LINK))?.steps;
    let own = home.join(if cfg!(windows) { "terraform.rc" } else { ".terraformrc" });
    let tofu = home.join(if cfg!(windows) { "tofu.rc" } else { ".tofurc" });
    let first = match setup.world.environment.raw("TF_CLI_CONFIG_FILE") {
        Some(_) => setup.file("TF_CLI_CONFIG_FILE", "")?,
        None => own,
    };
    // tofu reads its own file instead where there is one.
    for path in [Some(first), tofu.is_file().then_some(tofu)].into_iter().flatten() {
        let file = setup.open(&path)?;
        let before = file.text();
        let refused = |what: &str| {
            let what = format!("{} {what}", path.display());
            Error::new(Kind::Failed, what).hint(format!("change it by hand: {}", one_line()))
        };
        let newline = files::newline(before);
        let block = BLOCK.replace('\n', newline);
        let helpers = helpers(before).ok_or_else(|| refused("cannot be understood"))?;
        let ours = helpers.iter().find(|(name, _)| name == NAME);
        let after = match (ours, helpers.first(), setup.typed.undo) {
            (Some((_, place)), _, true) => match setup.noted(file.path(), KEY).flatten() {
                Some(other) => replaced(before, place, &other),
                None => without(before, place),
            },
            (None, _, true) | (Some(_), _, false) => before.to_owned(),
            (None, Some((_, place)), false) if setup.typed.replace => {
                setup.note(file.path(), KEY, Some(&before[place.clone()]));
                replaced(before, place, block.trim_end())
            }
            (None, Some((other, _)), false) => {
                let what = format!("{} names the helper {other}", path.display());
                return Err(taken(format!("{what}, and can name only one")));
            }
            (None, None, false) => {
                setup.note(file.path(), KEY, None);
                let whole = before.is_empty() || before.ends_with('\n');
                match whole {
                    true => format!("{before}{block}"),
                    // A last line without an end stays one.
                    false => format!("{before}{newline}{}", block.trim_end()),
                }
            }
        };
        steps.extend(file.says(&after, false, setup));
    }
    Ok(steps)
}

fn replaced(text: &str, place: &Range<usize>, other: &str) -> String {
    format!("{}{other}{}", &text[..place.start], &text[place.end..])
}

fn one_line() -> String {
    BLOCK.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text without a block and the end of its line.
fn without(text: &str, place: &Range<usize>) -> String {
    let (before, rest) = (&text[..place.start], &text[place.end..]);
    match rest.strip_prefix("\r\n").or(rest.strip_prefix('\n')) {
        Some(rest) => format!("{before}{rest}"),
        None if rest.is_empty() => {
            let line = before.strip_suffix('\n').unwrap_or(before);
            line.strip_suffix('\r').unwrap_or(line).to_owned()
        }
        None => format!("{before}{rest}"),
    }
}

/// The `credentials_helper` blocks of a configuration: their names, and where they are. `None`
/// where this is not the HCL that people write: nothing is changed that is not understood.
fn helpers(text: &str) -> Option<Vec<(String, Range<usize>)>> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    // Where the statement began whose words these are.
    let mut start = 0;
    let mut words: Vec<&str> = Vec::new();
    let mut tokens = Tokens { text, at: 0 };
    while let Some((token, place)) = tokens.next()? {
        match token {
            "{" | "[" => {
                // JSON is HCL too, and is not ours to rewrite.
                if depth == 0 && words.is_empty() {
                    return None;
                }
                depth += 1;
            }
            "}" | "]" => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    if let ["credentials_helper", name] = words.as_slice() {
                        found.push((name.trim_matches('"').to_owned(), start..place.end));
                    }
                    words.clear();
                }
            }
            "\n" if depth == 0 => words.clear(),
            "\n" => {}
            word if depth == 0 => {
                if words.is_empty() {
                    start = place.start;
                }
                words.push(word);
            }
            _ => {}
        }
    }
    (depth == 0).then_some(found)
}

/// Words, strings, brackets and line ends; comments are left out.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    /// The inner `None` is the end, the outer one what nobody expects here.
    fn next(&mut self) -> Option<Option<(&'a str, Range<usize>)>> {
        loop {
            let rest = &self.text[self.at..];
            let Some(letter) = rest.chars().next() else { return Some(None) };
            let length = match letter {
                '\n' | '{' | '}' | '[' | ']' => 1,
                '"' => string(rest)?,
                '#' => {
                    self.at += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                '/' if rest.starts_with("//") => {
                    self.at += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                '/' if rest.starts_with("/*") => {
                    self.at += rest.find("*/")? + 2;
                    continue;
                }
                // A heredoc could hold anything.
                '<' => return None,
                letter if letter.is_whitespace() => {
                    self.at += letter.len_utf8();
                    continue;
                }
                _ => {
                    let end = |letter: char| letter.is_whitespace() || "{}[]\"#<".contains(letter);
                    rest.find(end).unwrap_or(rest.len())
                }
            };
            let place = self.at..self.at + length;
            self.at = place.end;
            return Some(Some((&self.text[place.clone()], place)));
        }
    }
}

/// The length of the string that a text begins with.
fn string(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            '\n' => return None,
            '"' if !escaped => return Some(at + 1),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Option<Vec<String>> {
        Some(helpers(text)?.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn a_helper_is_found_where_it_is_one() {
        for text in [
            "",
            "# credentials_helper \"x\" {}\n",
            "// credentials_helper \"x\" {}",
            "/* credentials_helper \"x\" {\n} */",
            "plugin_cache_dir = \"credentials_helper \\\"x\\\" {\"\n",
            "host \"a\" {\n  services = { \"credentials_helper\" = \"x\" }\n}\n",
            "host \"a\" {\n  credentials_helper \"x\" {}\n}\n",
        ] {
            assert_eq!(names(text), Some(vec![]), "{text}");
        }
        let two = "credentials_helper \"a\" { args = [\"{\"] } # x\ncredentials_helper \"b\" {}";
        assert_eq!(names(two), Some(vec!["a".to_owned(), "b".to_owned()]));
        let before = "host \"a\" {\n}\n";
        let both = format!("{before}{BLOCK}# end\n");
        let found = helpers(&both).unwrap();
        assert_eq!(without(&both, &found[0].1), format!("{before}# end\n"));
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        for text in [
            "{\"credentials_helper\": {}}",
            "a = <<EOF\n}\nEOF\n",
            "a {",
            "a }",
            "a = \"b\n\"",
            "/* x",
        ] {
            assert_eq!(names(text), None, "{text}");
        }
    }
}
