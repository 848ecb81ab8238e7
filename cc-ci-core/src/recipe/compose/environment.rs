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
        let mut own: Variables = texts.flat_map(|text| variables(text)).collect();
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
fn variables(text: &str) -> impl Iterator<Item = (String, Option<String>)> {
    let lines = text.trim_start_matches('\u{feff}').split('\n');
    let lines = lines.map(|line| line.strip_suffix('\r').unwrap_or(line).trim_start());
    let lines = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
}
