//! Pipelines as their CI systems read them: text, then YAML, then scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::ci::System;

/// A pipeline with no key but those which the templates need. Whatever else it had could turn red into green (ignored
/// failures, detached steps) or limit what runs at once, and has to be thought about here first.
#[derive(Debug)]
pub struct Pipeline {
    pub steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub name: String,
    pub image: Option<String>,
    pub commands: Vec<String>,
    /// Not looked at: tests choose the step.
    #[serde(rename = "when")]
    _when: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drone {
    kind: String,
    #[serde(rename = "type")]
    runner: String,
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "clone")]
    _clone: Option<serde_json::Value>,
    #[serde(rename = "trigger")]
    _trigger: serde_json::Value,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Woodpecker {
    #[serde(rename = "skip_clone")]
    _skip_clone: bool,
    #[serde(rename = "when")]
    _when: serde_json::Value,
    steps: Vec<Step>,
}

impl Pipeline {
    pub fn parse(system: System, text: &str) -> Self {
        let steps = match system {
            System::Drone => {
                let Drone { kind, runner, steps, .. } =
                    serde_saphyr::from_str(text).expect("the pipeline is one of ours");
                assert_eq!((&*kind, &*runner), ("pipeline", "exec"));
                steps
            }
            System::Woodpecker => {
                serde_saphyr::from_str::<Woodpecker>(text).expect("the pipeline is one of ours").steps
            }
        };
        Self { steps }
    }
}

/// Replaces variables in the text of a pipeline, before it is YAML: both systems do it with the same library. `$NAME`
/// is left to the shell, `$$` becomes `$`, `\\` and `\/` lose their backslash.
pub fn substitute(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '\\']) {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(behind) = rest.strip_prefix("${") {
            let (name, behind) = behind.split_once('}').expect("a brace is closed");
            let plain = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
            assert!(plain && !name.is_empty(), "this runner knows plain variables only: {name}");
            let value = variables.get(name).map(String::as_str).unwrap_or_default();
            result.push_str(&if value.contains('\n') { quoted(value) } else { value.to_owned() });
            rest = behind;
        } else {
            // Of an escaped character the first one goes and the second one is not looked at.
            let escaped = ["$$", r"\\", r"\/"].iter().any(|pair| rest.starts_with(pair));
            let taken = if escaped { 2 } else { 1 };
            result.push_str(&rest[taken - 1..taken]);
            rest = &rest[taken..];
        }
    }
    result + rest
}

/// What Drone makes of a step's commands.
pub fn drone_script(commands: &[String]) -> String {
    commands.iter().fold("\nset -e\n".to_owned(), |mut script, command| {
        let echoed = quoted(command).replace('$', "\\$");
        // Writing to a string can't fail.
        let _ = write!(script, "\necho + {echoed}\n{command}\n");
        script
    })
}

/// What Woodpecker makes of them, for `sh -e -c`.
pub fn woodpecker_script(commands: &[String]) -> String {
    let script = commands.iter().fold(String::new(), |mut script, command| {
        let echoed = format!("+ {command}").replace('\'', r#"'"'"'"#);
        let _ = write!(script, "echo '{}'\n{command}\n", echoed.trim());
        script
    });
    script.trim().to_owned()
}

/// As Go's `%q` writes a text: a backtick in it stays one, and a shell runs what it holds.
fn quoted(text: &str) -> String {
    let escaped = text.chars().fold(String::new(), |escaped, c| match c {
        '"' | '\\' => escaped + "\\" + &c.to_string(),
        '\n' => escaped + "\\n",
        '\t' => escaped + "\\t",
        c => escaped + &c.to_string(),
    });
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollar_signs_are_read_before_any_shell_does() {
        let variables =
            BTreeMap::from([("A".to_owned(), "x; y".to_owned()), ("B".to_owned(), "1\n2".to_owned())]);
        for (text, expected) in [
            ("a $A \"$A\" $! $", "a $A \"$A\" $! $"),
            ("run ${A}", "run x; y"),
            ("run ${B} ${C}.", "run \"1\\n2\" ."),
            ("$${A} $$ $$$$ $$$", "${A} $ $$ $$"),
            (r"a\\b \/ \n", r"a\b / \n"),
        ] {
            assert_eq!(substitute(text, &variables), expected, "{text}");
        }
    }

    #[test]
    fn a_pipeline_with_a_key_that_hides_a_failure_is_none_of_ours() {
        let text = "kind: pipeline\ntype: exec\nname: x\ntrigger: {}\nsteps:\n- name: a\n  commands: [b]\n";
        assert_eq!(Pipeline::parse(System::Drone, text).steps[0].commands, ["b"]);
        for more in ["  failure: ignore\n", "  detach: true\n", "concurrency: { limit: 1 }\n"] {
            let text = format!("{text}{more}");
            assert!(std::panic::catch_unwind(|| Pipeline::parse(System::Drone, &text)).is_err(), "{more}");
        }
    }
}
