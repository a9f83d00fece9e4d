//! `valetkey setup terraform`: the link in the one directory where terraform looks for helpers,
//! and the block in its configuration that names it. tofu reads the same files, and one of its own.

use std::ops::Range;
use std::path::PathBuf;

use super::{Setup, Step};
use crate::error::{Error, Kind, Result};

const LINK: &str = "terraform-credentials-valetkey";
const NAME: &str = "valetkey";
const BLOCK: &str = "credentials_helper \"valetkey\" {\n  args = []\n}\n";

pub(super) fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    if !setup.typed.hosts.is_empty() {
        let what = "terraform asks one helper for every host, so --host means nothing to it";
        return Err(Error::new(Kind::Usage, what).hint("valetkey setup terraform"));
    }
    let (home, plugins) = if cfg!(windows) {
        let home = setup.world.environment.raw("APPDATA").map(PathBuf::from);
        let home = home.ok_or_else(|| Error::new(Kind::Failed, "APPDATA is not set"))?;
        (home.clone(), home.join("terraform.d").join("plugins"))
    } else {
        let home = setup.home()?;
        (home.clone(), home.join(".terraform.d").join("plugins"))
    };
    let mut steps: Vec<Step> = setup.link_at(plugins.join(LINK))?.into_iter().collect();
    let own = home.join(if cfg!(windows) { "terraform.rc" } else { ".terraformrc" });
    let tofu = home.join(if cfg!(windows) { "tofu.rc" } else { ".tofurc" });
    let first = setup.world.environment.raw("TF_CLI_CONFIG_FILE").map_or(own, PathBuf::from);
    // tofu reads its own file instead where there is one.
    for path in [Some(first), tofu.is_file().then_some(tofu)].into_iter().flatten() {
        let before = super::text_of(&path)?;
        let refused = |what: &str| {
            let what = format!("{} {what}", path.display());
            Error::new(Kind::Failed, what).hint(format!("change it by hand: {}", one_line()))
        };
        let helpers = helpers(&before).ok_or_else(|| refused("cannot be understood"))?;
        let ours = helpers.iter().find(|(name, _)| name == NAME);
        let after = match (ours, helpers.first(), setup.typed.undo) {
            (Some((_, place)), _, true) => without(&before, place),
            (None, _, true) | (Some(_), _, false) => before.clone(),
            (None, Some((other, _)), false) => {
                return Err(refused(&format!("names the helper {other}, and can name only one")));
            }
            (None, None, false) => {
                let end = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
                format!("{before}{end}{BLOCK}")
            }
        };
        steps.extend(super::rewritten(path, &before, after));
    }
    Ok(steps)
}

fn one_line() -> String {
    BLOCK.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text without a block and the end of its line.
fn without(text: &str, place: &Range<usize>) -> String {
    let rest = &text[place.end..];
    let rest = rest.strip_prefix("\r\n").or(rest.strip_prefix('\n')).unwrap_or(rest);
    format!("{}{rest}", &text[..place.start])
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
