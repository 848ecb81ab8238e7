//! Interpolation of every value of a section, except what the `local` executor interpolates later.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{ComposeError, LOCAL_KEY};
use crate::recipe::interpolate::{InterpolateError, interpolate};

/// What the values of one section may hold together.
const MAX_BYTES: usize = 8 << 20;

/// The variables of a recipe's texts.
#[derive(Debug, Default)]
pub(super) struct Variables {
    pub used: BTreeSet<String>,
    /// Those without a default that are not set.
    pub unset: BTreeSet<String>,
}

/// Interpolates all texts below `section`, and adds its variables to `found`. Keys stay as they are.
pub(super) fn run(
    file: &str,
    section: &str,
    value: &mut Value,
    vars: &BTreeMap<String, String>,
    found: &mut Variables,
) -> Result<(), ComposeError> {
    let mut walk = Walk { vars, found, left: MAX_BYTES };
    walk.run(value).map_err(|(mut path, source)| {
        path.push(section.to_owned());
        path.reverse();
        ComposeError::Interpolate { file: file.to_owned(), path: path.join("."), source }
    })
}

struct Walk<'a> {
    vars: &'a BTreeMap<String, String>,
    found: &'a mut Variables,
    left: usize,
}

impl Walk<'_> {
    /// The parser bounds the depth of `value`. An error carries the key path, innermost first.
    fn run(&mut self, value: &mut Value) -> Result<(), (Vec<String>, InterpolateError)> {
        let within = |key: String| {
            move |(mut path, error): (Vec<String>, _)| {
                path.push(key);
                (path, error)
            }
        };
        match value {
            Value::String(text) => {
                let mut result = interpolate(text, self.vars).map_err(|error| (Vec::new(), error))?;
                self.left = self
                    .left
                    .checked_sub(result.text.len())
                    .ok_or((Vec::new(), InterpolateError::TooLong))?;
                *text = result.text;
                self.found.used.append(&mut result.used);
                self.found.unset.append(&mut result.unset);
            }
            Value::Array(list) => {
                for (index, item) in list.iter_mut().enumerate() {
                    self.run(item).map_err(within(index.to_string()))?;
                }
            }
            Value::Object(map) => {
                for (key, item) in map.iter_mut().filter(|(key, _)| *key != LOCAL_KEY) {
                    self.run(item).map_err(within(key.clone()))?;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        Ok(())
    }
}
