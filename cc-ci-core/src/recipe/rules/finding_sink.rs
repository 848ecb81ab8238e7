//! Collects findings: each once, at its place.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::layout::COMPOSE;
use super::lines::{Lines, uses};
use super::table::{self, Rule, Severity};
use crate::names::Domain;
use crate::recipe::issue::Issue;

/// More warnings and notes are no help to anybody.
const MAX_FINDINGS: usize = 1000;
/// So many errors are told, however many warnings there are: none of them may make a recipe look well.
const MAX_ERRORS: usize = 1000;
/// How long one may be.
const MAX_CHARS: usize = 400;

/// A file, and what was told there: the rule, the keys, the words.
type Seen = (String, &'static str, Vec<String>, String);

#[derive(Debug)]
pub(super) struct FindingSink<'a> {
    texts: BTreeMap<&'a str, Lines<'a>>,
    seen: BTreeSet<Seen>,
    findings: Vec<Finding>,
    errors: usize,
    /// Whether some found no room.
    is_cut: bool,
}

impl<'a> FindingSink<'a> {
    /// For findings in these files, of the app at `domain`.
    pub(super) fn of(texts: impl IntoIterator<Item = (&'a str, &'a str)>, domain: &Domain) -> Self {
        let texts = texts.into_iter().map(|(file, text)| (file, Lines::of(text, domain))).collect();
        Self { texts, seen: BTreeSet::new(), findings: Vec::new(), errors: 0, is_cut: false }
    }

    /// Takes an issue of `file` in, unless it was told there or at the `compose.yml` beneath.
    pub(super) fn issue(&mut self, file: &str, issue: &Issue) {
        if !self.has_room(issue.rule) {
            self.is_cut = true;
            return;
        }
        let at = |file: &str| (file.to_owned(), issue.rule.id, issue.path.clone(), issue.what.clone());
        if self.seen.contains(&at(COMPOSE)) || !self.seen.insert(at(file)) {
            return;
        }
        let line = self.texts.get(file).and_then(|lines| match &issue.variable {
            Some(name) => lines.variable(name),
            None => lines.find(&issue.path, &issue.marks),
        });
        self.write(issue.rule, file, line, &issue.what);
    }

    /// Takes a finding in as it is.
    pub(super) fn write(&mut self, rule: &'static Rule, file: &str, line: Option<usize>, what: &str) {
        if !self.has_room(rule) {
            self.is_cut = true;
            return;
        }
        self.errors += usize::from(rule.severity == Severity::Error);
        self.findings.push(Finding {
            rule: rule.id,
            severity: rule.severity,
            file: file.to_owned(),
            line: line.filter(|line| *line > 0),
            what: what.chars().take(MAX_CHARS).collect(),
            why: rule.why,
            mend: rule.mend,
        });
    }

    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    fn has_room(&self, rule: &Rule) -> bool {
        if rule.severity == Severity::Error {
            self.errors < MAX_ERRORS
        } else {
            self.findings.len() - self.errors < MAX_FINDINGS
        }
    }

    /// What was left out, in words.
    pub(super) fn left_out(&self) -> Option<String> {
        self.is_cut.then(|| format!("findings beyond {MAX_ERRORS} errors and {MAX_FINDINGS} others"))
    }

    /// Where a key of a file is.
    pub(super) fn find(&self, file: &str, path: &[&str]) -> Option<usize> {
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        self.texts.get(file)?.find(&path, &[])
    }

    /// All findings, the gravest of a line first.
    pub(super) fn close(mut self) -> Vec<Finding> {
        // The variable of an unfinished name is the same fault.
        let unfinished: BTreeSet<(String, usize)> = self
            .findings
            .iter()
            .filter(|finding| finding.rule == table::NAME_UNFINISHED.id)
            .filter_map(|finding| Some((finding.file.clone(), finding.line?)))
            .collect();
        let texts = &self.texts;
        self.findings.retain(|finding| {
            let Some(line) = finding.line.filter(|_| finding.rule == table::VARIABLE_NOT_IN_SAMPLE.id) else {
                return true;
            };
            let text = texts.get(finding.file.as_str()).map_or("", |lines| lines.text(line));
            let name = finding.what.split(' ').next().unwrap_or_default();
            !(unfinished.contains(&(finding.file.clone(), line)) && uses(text, name))
        });
        self.findings.sort_by(|one, other| {
            let key = |finding: &Finding| (finding.file != COMPOSE, finding.file.clone(), finding.line);
            key(one).cmp(&key(other)).then(one.severity.cmp(&other.severity)).then(one.rule.cmp(other.rule))
        });
        self.findings
    }
}
