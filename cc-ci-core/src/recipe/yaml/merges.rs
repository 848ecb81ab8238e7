//! Merge keys that two versions of go-yaml read in different ways. The older one, which Docker reads with up to 27, merges
//! where the merge key stands: what is merged replaces what the map has above it. The newer one leaves that as it is. What
//! stands below the merge key counts for both, and of several merged maps the first.

use std::collections::{BTreeSet, HashMap};

use granit_parser::Event;

use super::YamlFault;
use crate::sys::text::sanitize_line;

/// The keys of a map.
type Keys = BTreeSet<String>;

/// What is being read.
#[derive(Debug)]
enum Open {
    Map {
        /// What it has itself, so far.
        own: Keys,
        merged: Keys,
        /// The key whose value comes next; none where a key does. One that is no text is empty.
        key: Option<String>,
        line: usize,
        anchor: usize,
    },
    List {
        /// Whether its maps are merged into the map around it.
        is_merged: bool,
    },
}

/// The maps that are open, and the keys of those that have an anchor.
#[derive(Debug, Default)]
pub(super) struct Merges {
    open: Vec<Open>,
    anchored: HashMap<usize, Keys>,
}

impl Merges {
    /// Takes the next event of a text, in whose lines it stands at `line`.
    pub(super) fn take(&mut self, event: &Event<'_>, line: usize) -> Result<(), YamlFault> {
        match event {
            Event::MappingStart(_, anchor, _) => {
                self.open.push(Open::Map {
                    own: Keys::new(),
                    merged: Keys::new(),
                    key: None,
                    line,
                    anchor: *anchor,
                });
            }
            Event::SequenceStart(..) => {
                let is_merged = self.is_merged();
                self.open.push(Open::List { is_merged });
            }
            Event::MappingEnd => {
                if let Some(Open::Map { own: mut keys, mut merged, anchor, .. }) = self.open.pop() {
                    keys.append(&mut merged);
                    if anchor > 0 {
                        self.anchored.insert(anchor, keys.clone());
                    }
                    if self.is_merged() {
                        self.merge(keys)?;
                    }
                }
                self.is_read(None, line);
            }
            Event::SequenceEnd => {
                self.open.pop();
                self.is_read(None, line);
            }
            Event::Scalar(..) if self.is_merged() => {
                let detail = "a merge key takes a map, or a list of maps".to_owned();
                return Err(YamlFault { line: u64::try_from(line).ok(), detail });
            }
            Event::Scalar(text, ..) => self.is_read(Some(text), line),
            Event::Alias(anchor) => {
                if self.is_merged() {
                    self.merge(self.anchored.get(anchor).cloned().unwrap_or_default())?;
                }
                self.is_read(None, line);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether what comes next is merged.
    fn is_merged(&self) -> bool {
        match self.open.last() {
            Some(Open::Map { key, .. }) => key.as_deref() == Some("<<"),
            Some(Open::List { is_merged }) => *is_merged,
            None => false,
        }
    }

    /// Merges `merged` into the innermost map that is open.
    fn merge(&mut self, mut keys: Keys) -> Result<(), YamlFault> {
        let map = self.open.iter_mut().rev().find_map(|open| match open {
            Open::Map { own, merged, line, .. } => Some((own, merged, *line)),
            Open::List { .. } => None,
        });
        let Some((own, all, line)) = map else { return Ok(()) };
        if let Some(key) = own.intersection(&keys).next() {
            let detail = format!(
                "{} stands above a merge key that brings one, too, and versions of Docker take the one or the other: write \
                 `<<:` first",
                sanitize_line(key)
            );
            return Err(YamlFault { line: u64::try_from(line).ok(), detail });
        }
        all.append(&mut keys);
        Ok(())
    }

    /// A key or a value was read.
    fn is_read(&mut self, text: Option<&str>, at: usize) {
        if let Some(Open::Map { own, key, line, .. }) = self.open.last_mut()
            && key.take().is_none()
        {
            let text = text.unwrap_or_default();
            *line = at;
            // Else a merge of a merge would meet itself.
            if text != "<<" {
                own.insert(text.to_owned());
            }
            *key = Some(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::doubted::check;

    const MAPS: &str = "a: &a {k: a, l: a}\nb: &b {k: b, m: b}\nc: &c {<<: *a, n: c}\n";

    #[test]
    fn what_is_no_map_is_not_merged() {
        for nothing in ["null", "~", "", "''", "5", "[~]"] {
            let fault = check(&format!("r:\n  k: own\n  <<: {nothing}\n")).expect_err(nothing);
            assert_eq!(
                (fault.line, fault.detail.contains("takes a map")),
                (Some(3), true),
                "{nothing}: {fault:?}"
            );
        }
    }

    #[test]
    fn what_stands_above_a_merge_that_has_it_too_is_told_by_its_line() {
        for (text, key) in [
            ("r: {k: own, <<: *a}", "k"),
            ("r: {k: , <<: *a}", "k"),
            ("r: {m: own, <<: [*a, *b]}", "m"),
            ("r: {k: own, <<: {j: in, k: in}}", "k"),
            ("r: {j: own, <<: [*a, {j: in}]}", "j"),
            ("r: {l: own, <<: *c}", "l"),
            ("r: {x: {y: 1}, z: [1], k: {q: 1}, <<: *a}", "k"),
            ("r: [{<<: *a}, {'k': own, <<: *a}]", "k"),
            ("k: own\n<<: *a", "k"),
            ("r: &r {<<: *a}\ns: {k: own, <<: *r}", "k"),
            ("r: {s: {<<: {t: 1, <<: {k: in}}, k: own, u: {k: own, <<: *a}}}", "k"),
        ] {
            let whole = format!("{MAPS}{text}");
            let fault = check(&whole).expect_err(text);
            assert!(
                fault.detail.contains(&format!("{key} stands above a merge key")),
                "{text}: {}",
                fault.detail
            );
            assert_eq!(fault.line, Some(whole.lines().count() as u64), "{text}");
        }
    }

    #[test]
    fn merges_that_all_read_alike_are_left_alone() {
        for text in [
            "r: {<<: *a, k: own}",
            "r: {n: own, <<: *a, k: own}",
            "r: {<<: [*a, *b], k: own}",
            "r: {<<: [*a, *a, {k: in}]}",
            "r: {<<: *c, k: own}",
            "r: {k: {l: 1, n: 2}, s: {<<: *a}}",
            "r: {k: *a, s: [*a]}",
            "r: {<<: {k: {l: 1}}, l: 1}",
            "r: {s: [k, l], <<: *a}",
            "k: own\nr: {<<: *a}",
            "r: {? k : 1, s: {<<: *a}}",
        ] {
            let whole = format!("{MAPS}{text}");
            assert!(check(&whole).is_ok(), "{text}: {:?}", check(&whole));
        }
    }
}
