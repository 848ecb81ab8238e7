//! The lines of a file that a finding is about.
//!
//! A YAML file's keys are where its parser says. Below a key, a finding is at the line that holds what it is about.

use std::collections::HashMap;

use granit_parser::{Event, Options, Parser};

use crate::names::Domain;

/// The deepest keys that are told apart.
const MAX_DEPTH: usize = 8;

/// More than any text has that is judged: what comes after is told at the last key before.
const MAX_EVENTS: usize = 500_000;

/// The rows of a key with all that is below it, from 0; the last one is part of it.
#[derive(Debug, Clone, Copy)]
struct Block {
    start: usize,
    end: usize,
}

/// A text, and where its keys are.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    rows: Vec<&'a str>,
    keys: HashMap<Vec<String>, Block>,
    /// The rows in lower case, with the app's two names in them.
    shown: Vec<String>,
}

impl<'a> Lines<'a> {
    /// The lines of a text in which `${STACK_NAME}` and `${DOMAIN}` stand for these.
    pub(super) fn of(text: &'a str, domain: &Domain) -> Self {
        let names = [("${STACK_NAME}", domain.stack().to_string()), ("${DOMAIN}", domain.to_string())];
        let rows: Vec<&str> = text.lines().collect();
        let shown = rows.iter().map(|line| {
            let line = names.iter().fold((*line).to_owned(), |line, (name, value)| line.replace(name, value));
            line.to_ascii_lowercase()
        });
        Self { shown: shown.collect(), keys: keys(text), rows }
    }

    /// The line, from 1, of the deepest known key of `path`, or below it the first that has one of `marks`, of which
    /// an earlier one counts more.
    pub(super) fn find(&self, path: &[String], marks: &[String]) -> Option<usize> {
        let block = (1..=path.len()).rev().find_map(|len| self.keys.get(&path[..len]))?;
        let marked = marks.iter().find_map(|mark| {
            let mark = mark.to_ascii_lowercase();
            let has_mark = |row: &usize| {
                self.rows.get(*row).is_some_and(|line| !is_comment(line)) && has(&self.shown[*row], &mark)
            };
            (block.start..=block.end).find(has_mark)
        });
        Some(marked.unwrap_or(block.start) + 1)
    }

    /// The first line, from 1, that uses this variable.
    pub(super) fn variable(&self, name: &str) -> Option<usize> {
        self.rows.iter().position(|line| !is_comment(line) && uses(line, name)).map(|index| index + 1)
    }

    /// The text of a line, counted from 1.
    pub(super) fn text(&self, line: usize) -> &'a str {
        line.checked_sub(1).and_then(|index| self.rows.get(index)).copied().unwrap_or_default()
    }
}

/// The keys of a text, by the path that leads to each, as far as the text is YAML. A key that is there twice is where it is
/// first.
fn keys(text: &str) -> HashMap<Vec<String>, Block> {
    let mut options = Options::default();
    // Else many lines of comment are refused.
    options.set_emit_comments(false);
    let mut keys = Keys::default();
    for event in Parser::new_from_str_with_options(text, options).take(MAX_EVENTS) {
        let Ok((event, span)) = event else { break };
        if keys.take(&event, span.start.line().saturating_sub(1)).is_none() {
            break;
        }
    }
    let rows = text.lines().count();
    // What breaks off ends there.
    keys.open.clear();
    while !keys.path.is_empty() {
        keys.end_value();
    }
    keys.end_blocks(rows);
    keys.found
}

/// The keys that are found so far.
#[derive(Debug, Default)]
struct Keys {
    found: HashMap<Vec<String>, Block>,
    /// The keys around what is read.
    path: Vec<String>,
    /// The maps and lists around it; of a map, whether a key comes next.
    open: Vec<Option<bool>>,
    /// The row of the last thing that was read.
    last: usize,
    /// Keys whose values have ended. Where, the next thing tells: it begins after them.
    ended: Vec<Vec<String>>,
}

impl Keys {
    /// Takes the next event, which begins at `row`; nothing more can be told after a key that is no text.
    fn take(&mut self, event: &Event<'_>, row: usize) -> Option<()> {
        let at_key = self.open.last() == Some(&Some(true));
        match event {
            Event::MappingEnd | Event::SequenceEnd => {
                self.open.pop();
                self.end_value();
                return Some(());
            }
            Event::Scalar(..) | Event::Alias(_) | Event::MappingStart(..) | Event::SequenceStart(..) => {
                self.end_blocks(row);
                self.last = row;
            }
            _ => return Some(()),
        }
        match event {
            Event::Scalar(text, ..) if at_key => self.begin_key(text, row),
            _ if at_key => return None,
            Event::MappingStart(..) => self.open.push(Some(true)),
            Event::SequenceStart(..) => self.open.push(None),
            _ => self.end_value(),
        }
        Some(())
    }

    fn begin_key(&mut self, key: &str, row: usize) {
        self.path.push(key.to_owned());
        if let Some(Some(at_key)) = self.open.last_mut() {
            *at_key = false;
        }
        if self.path.len() <= MAX_DEPTH && !self.found.contains_key(&self.path) {
            self.found.insert(self.path.clone(), Block { start: row, end: row });
        }
    }

    /// What was read last is all of a value; where it is one of a map, its key has ended.
    fn end_value(&mut self) {
        match self.open.last_mut() {
            Some(Some(at_key)) => *at_key = true,
            Some(None) => return,
            None => {}
        }
        if !self.path.is_empty() {
            self.ended.push(self.path.clone());
            self.path.pop();
        }
    }

    /// The next thing begins at `row`.
    fn end_blocks(&mut self, row: usize) {
        for path in self.ended.drain(..) {
            if let Some(block) = self.found.get_mut(&path).filter(|block| block.end == block.start) {
                block.end = self.last.max(row.saturating_sub(1)).max(block.start);
            }
        }
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

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
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
    fn keys_are_where_the_parser_says_whatever_they_look_like() {
        let text = "services: {\n  \"my app\" : {image: a,\n    ports: [\"80:80\",\n      \"81:81\"], command: x},\n  web:\n    {ports: \
                    [\"81:81\"]}\n}\nx-text: |\n  volumes:\n    data: 81:81\nvolumes:\n  ? data\n  : {}\nsecrets:\n- key: \
                    1\nconfigs: [*a";
        let find = |path: &[&str], mark: &str| {
            let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
            lines(text).find(&path, &[mark.to_owned()])
        };
        assert_eq!(find(&["services", "my app"], "-"), Some(2));
        assert_eq!(find(&["services", "my app", "ports"], "81:81"), Some(4));
        assert_eq!(find(&["services", "web", "ports"], "81:81"), Some(6));
        assert_eq!(find(&["x-text"], "81:81"), Some(10));
        assert_eq!(find(&["volumes", "data"], "81:81"), Some(12));
        assert_eq!(find(&["secrets", "key"], "-"), Some(15));
        assert_eq!(find(&["configs"], "-"), Some(16));
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
