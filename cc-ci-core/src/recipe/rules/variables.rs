//! Which variables a compose file needs, and which an `.env.sample` names in comments.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::recipe::compose::LOCAL_KEY;
use crate::recipe::env_file::EnvFile;
use crate::recipe::interpolate::{InterpolateError, interpolate};

/// The variables that `value` uses without a default, what the `local` executor interpolates left out.
pub(super) fn needed(value: &Value) -> BTreeSet<String> {
    let none = BTreeMap::new();
    let mut found = BTreeSet::new();
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::String(text) => match interpolate(text, &none) {
                Ok(mut result) => found.append(&mut result.unset),
                Err(InterpolateError::Required { name, .. }) => drop(found.insert(name)),
                // Said by whoever loads the file.
                Err(_) => {}
            },
            Value::Array(list) => open.extend(list),
            Value::Object(map) => {
                let read = map.iter().filter(|(key, _)| *key != LOCAL_KEY && !key.starts_with("x-"));
                open.extend(read.map(|(_, value)| value));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    found
}

/// The sample together with the assignments that stand in its comments: what an operator has who takes an overlay
/// into use as the sample says. The first of several counts.
pub(super) fn uncommented(sample: &EnvFile, text: &str) -> EnvFile {
    let mut lines = String::new();
    let mut seen = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.trim_start().strip_prefix('#')) {
        let line = line.trim_start_matches(['#', ' ', '\t']);
        let Some((name, _)) = line.split_once('=') else { continue };
        // A sentence may have an equals sign too.
        let is_name = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let is_ours = is_name && name != "COMPOSE_FILE" && !seen.contains(name);
        if is_ours && line.parse::<EnvFile>().is_ok_and(|one| one.secrets().is_ok()) {
            seen.insert(name);
            lines.push_str(line);
            lines.push('\n');
        }
    }
    let mut whole = sample.clone();
    let added = lines.parse::<EnvFile>().map(|commented| whole.add_missing(&commented));
    // Together they may outgrow an .env file's bounds; then the sample counts alone.
    if matches!(added, Ok(Ok(_))) { whole } else { sample.clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_a_default_or_is_for_the_local_executor_is_not_needed() {
        let value = json!({
            "services": {"app": {
                "image": "a:${TAG:-1}",
                "environment": ["A=$A", "B=${B:?say it}", "C=${C-x}", "D=${D:-e}", "F=$$F"],
                "x-cc-ci-local": {"command": ["$CCCI_PORT"]},
            }},
            "x-common": {"a": "$NEVER"},
        });
        assert_eq!(needed(&value).into_iter().collect::<Vec<_>>(), ["A", "B"]);
    }

    #[test]
    fn assignments_in_comments_count_as_said() {
        let text = "A=1\n#A=2\n## B=3 # why\n# B=4\n#SECRET_X_VERSION=\n# SECRET_Y_VERSION=v1\n# if x = y, then\n\
                    #COMPOSE_FILE=compose.yml:x.yml\n# see http://h/?a=b\n";
        let whole = uncommented(&text.parse().unwrap(), text);
        let vars: Vec<_> = whole.vars().iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(vars, ["A=1", "B=3", "SECRET_Y_VERSION=v1"]);
        assert_eq!(whole.secrets().unwrap().len(), 1);
    }
}
