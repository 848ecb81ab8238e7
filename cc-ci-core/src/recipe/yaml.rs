//! YAML from outside as a generic value, within bounds.
//!
//! Anchors and merge keys work, but what aliases make of a text is bounded too: what an alias repeats counts each
//! time. Duplicate keys are refused rather than resolved, since two readers of a recipe could choose differently.

mod doubted;
mod merges;

use serde_json::Value;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, Error};

/// What the strings and keys of one document may hold together, after aliases.
const MAX_BYTES: usize = 4 << 20;
/// How many values one document may hold, after aliases.
const MAX_VALUES: usize = 100_000;

/// How deep maps and lists may nest.
const MAX_DEPTH: usize = 32;

/// Why a text is no acceptable YAML: the line, from 1, where it is known, and the parser's words.
#[derive(Debug)]
pub(super) struct YamlFault {
    pub(super) line: Option<u64>,
    pub(super) detail: String,
}

/// What ends a line, and with it a comment, to go-yaml, and to no reader of YAML 1.2.
const OTHER_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

pub(super) fn parse(text: &str) -> Result<Value, YamlFault> {
    if let Some(at) = text.find(OTHER_BREAKS) {
        let line = text[..at].matches('\n').count() + 1;
        let detail =
            "a line break of Unicode (NEL, LS or PS), at which Docker begins a line: write a line feed";
        return Err(YamlFault { line: u64::try_from(line).ok(), detail: detail.to_owned() });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: MAX_DEPTH,
            max_nodes: MAX_VALUES,
            max_aliases: 1000,
            max_anchors: 1000,
            max_recorded_anchor_bytes: MAX_BYTES,
            max_recorded_anchor_events: MAX_VALUES,
            max_total_scalar_bytes: MAX_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_VALUES,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        // `on`, `y` and the like are texts, as today's engines read them.
        strict_booleans: true,
        // As go-yaml reads the mode of a file.
        legacy_octal_numbers: true,
        // Else 33 lines of comment below a key are refused.
        emit_comments: false,
        with_snippet: false,
    };
    let value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
        if let Error::Budget { breach, .. } = &error {
            return YamlFault { line, detail: beyond(breach) };
        }
        // The place is told apart, and the parser's advice is for programmers.
        let mut detail = error.to_string();
        for tail in ["\n", " at line ", " (defined", ", set "] {
            detail.truncate(detail.find(tail).unwrap_or(detail.len()));
        }
        // Where an alias is what it breaks at, its error is one of another kind.
        if let Some(breach) = detail.strip_prefix("budget breached: ") {
            detail = too_many_aliases(breach);
        }
        YamlFault { line, detail }
    })?;
    doubted::check(text)?;
    Ok(value)
}

/// What a text is beyond, and the form to write.
fn beyond(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Documents { .. } => {
            "a second document (---), which Docker does not read: write one, and the rest into it or a file of its own"
                .to_owned()
        }
        BudgetBreach::Depth { .. } => format!("maps and lists nest {MAX_DEPTH} deep at the most"),
        BudgetBreach::Nodes { .. } => format!("it has more than {MAX_VALUES} values: write fewer"),
        BudgetBreach::ScalarBytes { .. } => {
            format!("its texts and keys have more than {MAX_BYTES} bytes, those that aliases repeat too: write fewer")
        }
        other => too_many_aliases(&format!("{other:?}")),
    }
}

fn too_many_aliases(breach: &str) -> String {
    format!("its anchors and aliases are more than is read ({breach}): write fewer")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_anchors_and_merge_keys_are_read() {
        assert_eq!(parse("[0440, 0o440, 0x10, '0440', 440]").unwrap(), json!([288, 288, 16, "0440", 440]));
        let text = "---\nx-base: &base {image: a, on: 1}\nservices:\n  app:\n    <<: *base\n    image: b\n  \
                    none:\n  list: [1, -1, 1.5, true, yes, ~, 'x', 80:80, 1.2.3]\n  text: |\n    one\n    two\n";
        let value = parse(text).unwrap();
        assert_eq!(value["services"]["app"], json!({"image": "b", "on": 1}));
        assert_eq!(value["services"]["none"], Value::Null);
        assert_eq!(value["services"]["list"], json!([1, -1, 1.5, true, "yes", null, "x", "80:80", "1.2.3"]));
        assert_eq!(value["services"]["text"], "one\ntwo\n");
    }

    #[test]
    fn an_empty_text_is_null_and_comments_cost_nothing() {
        assert_eq!(parse("").unwrap(), Value::Null);
        assert_eq!(parse("# only a comment\n").unwrap(), Value::Null);
        let comments = "# many\n".repeat(500);
        assert_eq!(parse(&comments).unwrap(), Value::Null);
        assert_eq!(parse(&format!("a:\n{comments}  b: c\n")).unwrap()["a"]["b"], "c");
    }

    #[test]
    fn hostile_texts_are_refused_with_a_reason() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..10 {
            let refs = vec![format!("*a{}", n - 1); 10].join(", ");
            writeln!(bomb, "a{n}: &a{n} [{refs}]").unwrap();
        }
        let big = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 90].join(", "));
        let merge_bomb = format!("a: &a {{k: {}}}\nb: [{}]\n", "x".repeat(99_999), "{<<: *a}, ".repeat(90));
        let cases = [
            ("deep flow", "[".repeat(50_000), "recursion limit"),
            ("deep block", (0..500).flat_map(|n| [" ".repeat(n), "a:\n".to_owned()]).collect(), "32 deep"),
            ("alias bomb", bomb, "anchors and aliases"),
            ("big alias", big, "ScalarBytes"),
            ("merge bomb", merge_bomb, "ScalarBytes"),
            ("huge scalar", format!("a: {}", "x".repeat(MAX_BYTES + 1)), "more than 4194304 bytes"),
            ("many values", "- 1\n".repeat(MAX_VALUES + 1), "more than 100000 values"),
            ("self alias", "a: &a [*a]".into(), "recursi"),
            ("unknown alias", "a: *nobody".into(), "unknown anchor"),
            ("duplicate key", "a: 1\nb: 2\na: 3".into(), "duplicate mapping key: a"),
            ("tab", "a:\n\tb: 1".into(), "tab"),
            ("two documents", "a: 1\n---\nb: 2".into(), "a second document (---)"),
            ("not finite", "a: .nan".into(), "finite"),
            ("list as key", "? [a]\n: 1".into(), "string scalar"),
            ("unclosed", "a: 'x".into(), "quote"),
            ("a line in a comment", "a: 1 # x\u{2028}b: 2".into(), "line break of Unicode"),
            ("a line of NEL", "a: 1 # x\u{85}b: 2".into(), "line break of Unicode"),
        ];
        for (case, text, says) in cases {
            let fault = parse(&text).expect_err(case);
            assert!(!fault.detail.is_empty() && fault.detail.len() < 400, "{case}: {}", fault.detail);
            assert!(fault.detail.contains(says), "{case}: {}", fault.detail);
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        parse(&nested(MAX_DEPTH)).unwrap();
        assert!(parse(&nested(MAX_DEPTH + 1)).unwrap_err().detail.contains("32 deep"));
    }

    #[test]
    fn a_fault_names_its_line() {
        assert_eq!(parse("a: 1\nb: 2\na: 3").unwrap_err().line, Some(3));
        assert_eq!(parse("a:\n\tb: 1").unwrap_err().line, Some(2));
        assert_eq!(parse("a: 1\n---\nb: 2").unwrap_err().line, Some(2));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([a-c]: |- |&a |\\*a|<<: |\\[|\\]|\\{|\\}|\\n|  |'|\"|\\||>|!|%|\\?|#|~|1){0,40}|\\PC{0,80}") {
            drop(parse(&text));
        }
    }
}
