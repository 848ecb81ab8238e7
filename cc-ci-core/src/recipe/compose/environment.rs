//! A service's environment, put together as docker/cli does: of each compose file first what its `env_file` has, then its own
//! variables; an empty one gets the value of whoever deploys, if there is one; then file over file, where an empty value
//! replaces none.

use std::collections::BTreeMap;
use std::path::PathBuf;

type Variables = BTreeMap<String, Option<String>>;

/// What one compose file says of a service's environment.
#[derive(Debug, Clone, Default)]
pub(super) struct EnvironmentLayer {
    pub files: Vec<PathBuf>,
    pub variables: Variables,
}

/// The whole: `files` has the texts of the files, `vars` are those of whoever deploys.
pub(super) fn lay(
    layers: &[EnvironmentLayer],
    vars: &BTreeMap<String, String>,
    files: &BTreeMap<PathBuf, String>,
) -> Variables {
    let mut whole = Variables::new();
    for layer in layers {
        let texts = layer.files.iter().filter_map(|file| files.get(file));
        let mut own: Variables = texts.flat_map(|text| variables(text, vars)).collect();
        own.extend(layer.variables.clone());
        for (name, mut value) in own {
            if is_empty(value.as_ref()) {
                value = vars.get(&name).cloned().or(value);
            }
            let known = whole.entry(name).or_default();
            if !is_empty(value.as_ref()) || is_empty(known.as_ref()) {
                *known = value;
            }
        }
    }
    whole
}

fn is_empty(value: Option<&String>) -> bool {
    value.is_none_or(String::is_empty)
}

/// The variables of a file. One without a `=` is the deployer's own, if it has one.
fn variables<'a>(
    text: &'a str,
    vars: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (String, Option<String>)> {
    lines(text).filter_map(|line| {
        let (name, value) =
            line.split_once('=').or_else(|| Some((line, vars.get(line).map(String::as_str)?)))?;
        Some((name.to_owned(), Some(value.to_owned())))
    })
}

/// Lines that say something.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.trim_start_matches('\u{feff}').split('\n');
    let lines = lines.map(|line| line.strip_suffix('\r').unwrap_or(line).trim_start());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The rule that an `env_file` of this text breaks, and the line, from 1.
pub(in crate::recipe) fn fault(text: &str) -> Option<(usize, &'static str)> {
    /// As long as docker/cli takes a line.
    const MAX_LINE: usize = 64 << 10;
    text.split('\n').enumerate().find_map(|(index, whole)| {
        let line = lines(whole).next()?;
        let name = line.split('=').next().unwrap_or_default();
        let rule = if whole.len() >= MAX_LINE {
            "Docker takes lines of less than 64 KiB"
        } else if name.is_empty() || name.contains([' ', '\t']) {
            "Docker takes a name without blanks before the ="
        } else if !line.contains('=') {
            "Docker puts there what whoever deploys has, or nothing: write NAME=value"
        } else {
            return None;
        };
        Some((index + 1, rule))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_docker_refuses_or_fills_by_itself_are_told() {
        for (text, expected) in [
            ("\u{feff}A=1\n# none\n\n  B = x\n", Some((4, "blanks"))),
            ("A=1\r\nB\r\n", Some((2, "NAME=value"))),
            ("=x", Some((1, "blanks"))),
            ("A\tB=1", Some((1, "blanks"))),
            ("A==\n  C=x y \n\r\n#B\n", None),
            ("", None),
        ] {
            let message = fault(text);
            assert_eq!(message.map(|(line, _)| line), expected.map(|(line, _)| line), "{text}");
            assert!(
                expected.is_none_or(|(_, says)| message.is_some_and(|(_, rule)| rule.contains(says))),
                "{text}"
            );
        }
        let long = format!("A=1\nB={}", "x".repeat(64 << 10));
        assert_eq!(fault(&long).map(|(line, _)| line), Some(2));
    }

    #[test]
    fn a_line_without_a_value_has_the_deployers() {
        let files = BTreeMap::from([(PathBuf::from("f"), "A\nB\nC=\nD=${A}\n".to_owned())]);
        let layer = EnvironmentLayer { files: vec!["f".into()], variables: Variables::new() };
        let vars = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let read = lay(&[layer], &vars, &files);
        let text = |text: &str| Some(text.to_owned());
        let expected = [("A", text("1")), ("C", text("")), ("D", text("${A}"))];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }
}
