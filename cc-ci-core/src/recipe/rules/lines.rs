//! The lines of a file that a finding is about.
//!
//! The YAML parser gives values without places, so keys are looked for in the text, by their indentation. What stands
//! in braces on one line is found by the nearest key around it.

use std::collections::HashMap;

use crate::names::Domain;

/// The deepest keys that are told apart.
const MAX_DEPTH: usize = 8;

/// A text, and where its keys are.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    rows: Vec<&'a str>,
    keys: HashMap<Vec<&'a str>, usize>,
    /// The rows in lower case, with the app's two names in them.
    shown: Vec<String>,
}

impl<'a> Lines<'a> {
    /// The lines of a text in which `${STACK_NAME}` and `${DOMAIN}` stand for these.
    pub(super) fn of(text: &'a str, domain: &Domain) -> Self {
        let names = [("${STACK_NAME}", domain.stack().to_string()), ("${DOMAIN}", domain.to_string())];
        let lines: Vec<&str> = text.lines().collect();
        let mut keys = HashMap::new();
        let mut open: Vec<(usize, &str)> = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let Some((indent, key)) = key(line) else { continue };
            while open.last().is_some_and(|(outer, _)| *outer >= indent) {
                open.pop();
            }
            open.push((indent, key));
            if open.len() <= MAX_DEPTH {
                keys.entry(open.iter().map(|(_, key)| *key).collect()).or_insert(index);
            }
        }
        let shown = lines.iter().map(|line| {
            let line = names.iter().fold((*line).to_owned(), |line, (name, value)| line.replace(name, value));
            line.to_ascii_lowercase()
        });
        Self { shown: shown.collect(), rows: lines, keys }
    }

    /// The line, from 1, of the deepest known key of `path`, or below it the first that has one of `marks`, of which
    /// an earlier one counts more.
    pub(super) fn find(&self, path: &[String], marks: &[String]) -> Option<usize> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let start = (1..=path.len()).rev().find_map(|len| self.keys.get(&path[..len]).copied())?;
        let marked = marks.iter().find_map(|mark| {
            let mut below = self.block(start).filter(|(_, line)| !is_comment(line));
            let mark = mark.to_ascii_lowercase();
            below.find(|(index, _)| has(&self.shown[*index], &mark)).map(|(index, _)| index)
        });
        Some(marked.unwrap_or(start) + 1)
    }

    /// The first line, from 1, that uses this variable.
    pub(super) fn variable(&self, name: &str) -> Option<usize> {
        self.rows.iter().position(|line| !is_comment(line) && uses(line, name)).map(|index| index + 1)
    }

    /// The text of a line, counted from 1.
    pub(super) fn text(&self, line: usize) -> &'a str {
        line.checked_sub(1).and_then(|index| self.rows.get(index)).copied().unwrap_or_default()
    }

    /// The line at `start` and all that are indented deeper.
    fn block(&self, start: usize) -> impl Iterator<Item = (usize, &'a str)> {
        let depth = indent(self.rows[start]);
        let deeper = move |line: &str| {
            line.trim().is_empty() || indent(line) > depth || line.trim_start().starts_with(['-', '#'])
        };
        let lines = self.rows.iter().copied().enumerate().skip(start);
        lines.take_while(move |(index, line)| *index == start || deeper(line))
    }
}

/// Whether a line has `mark`, both in lower case, as whole words.
fn has(line: &str, mark: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    line.match_indices(mark).any(|(at, _)| {
        let begins = mark.starts_with(is_part) && line[..at].ends_with(is_part);
        let ends = mark.ends_with(is_part) && line[at + mark.len()..].starts_with(is_part);
        !(begins || ends)
    })
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The key that `line` begins with, and how far it is indented.
fn key(line: &str) -> Option<(usize, &str)> {
    let (key, rest) = line.trim_start_matches(' ').split_once(':')?;
    let key = key.trim_matches(['"', '\'']);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let is_key =
        !key.is_empty() && key.bytes().all(plain) && (rest.is_empty() || rest.starts_with([' ', '\t']));
    is_key.then(|| (indent(line), key))
}

/// The names of the variables that a text uses.
pub(super) fn variables(text: &str) -> Vec<String> {
    let name = |at: usize| {
        let rest = &text[at + 1..];
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
    };
    text.match_indices('$').map(|(at, _)| name(at)).filter(|name| !name.is_empty()).collect()
}

/// Whether `$NAME` or `${NAME…}` is in `line`.
pub(super) fn uses(line: &str, name: &str) -> bool {
    line.match_indices('$').any(|(at, _)| {
        let rest = &line[at + 1..];
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        rest.strip_prefix(name).is_some_and(|rest| !rest.starts_with(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "services:\n  app:\n    image: a\n    ports:\n      # - \"80:80\"\n      - \"80:80\"\n    \
                        deploy:\n      labels:\n      - x=1\n      - y=2\n  'web': {image: b}\nvolumes:\n  app:\n";

    fn lines(text: &str) -> Lines<'_> {
        Lines::of(text, &"pad.example.org".parse().unwrap())
    }

    fn find(path: &[&str], mark: Option<&str>) -> Option<usize> {
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        let marks: Vec<String> = mark.iter().map(|mark| (*mark).to_owned()).collect();
        lines(TEXT).find(&path, &marks)
    }

    #[test]
    fn a_key_is_found_by_its_path() {
        assert_eq!(find(&["services", "app"], None), Some(2));
        assert_eq!(find(&["services", "app", "image"], None), Some(3));
        assert_eq!(find(&["services", "web", "image"], None), Some(11));
        assert_eq!(find(&["volumes", "app"], None), Some(13));
        assert_eq!(find(&["configs", "app"], None), None);
    }

    #[test]
    fn a_mark_is_found_below_its_key_and_not_in_comments() {
        assert_eq!(find(&["services", "app"], Some("80:80")), Some(6));
        assert_eq!(find(&["services", "app", "deploy", "labels"], Some("y=2")), Some(10));
        assert_eq!(find(&["services", "app", "image"], Some("y=2")), Some(3));
    }

    #[test]
    fn a_mark_is_whole_words_in_any_case_and_the_earlier_one_counts() {
        let text = "a:\n  - r.${STACK_NAME}-api.rule=x\n  - R.${STACK_NAME}.Rule=x\n  - 8080:80\n  - 80:81\n";
        let find = |marks: &[&str]| {
            let marks: Vec<String> = marks.iter().map(|mark| (*mark).to_owned()).collect();
            lines(text).find(&["a".to_owned()], &marks)
        };
        assert_eq!(find(&["r.pad_example_org.rule"]), Some(3));
        assert_eq!(find(&["r.pad_example_org-api.rule"]), Some(2));
        assert_eq!(find(&["80:", "80"]), Some(5));
        assert_eq!(find(&["81:", "80"]), Some(4));
        assert_eq!(find(&["nowhere"]), Some(1));
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let lines = lines("# $A\na: $AB\nb: ${A_B}\nc: ${A:-x}\n");
        assert_eq!(lines.variable("A"), Some(4));
        assert_eq!(lines.variable("AB"), Some(2));
        assert_eq!(lines.variable("B"), None);
        assert_eq!(lines.text(4), "c: ${A:-x}");
        assert_eq!(lines.text(0), "");
    }
}
