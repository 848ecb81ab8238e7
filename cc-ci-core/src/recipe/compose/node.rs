//! A value together with its place, so that every error can name both.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Number, Value};

use super::ComposeError;

/// A value of a file, and the way to it.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    file: &'a str,
    path: String,
    pub(super) value: &'a Value,
}

impl<'a> Node<'a> {
    pub(super) fn root(file: &'a str, value: &'a Value) -> Self {
        Self { file, path: String::new(), value }
    }

    pub(super) fn error(&self, rule: impl fmt::Display) -> ComposeError {
        let path = if self.path.is_empty() { "the whole file".to_owned() } else { self.path.clone() };
        ComposeError::Invalid { file: self.file.to_owned(), path, rule: rule.to_string() }
    }

    pub(super) fn wrong_type(&self, expected: &str) -> ComposeError {
        let kind = match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a map",
        };
        self.error(format_args!("expected {expected}, found {kind}"))
    }

    pub(super) fn child(&self, key: impl fmt::Display, value: &'a Value) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { file: self.file, path: format!("{}{dot}{key}", self.path), value }
    }

    /// The value under `key`; nothing where it is missing or null.
    pub(super) fn get(&self, key: &str) -> Result<Option<Self>, ComposeError> {
        match self.value {
            Value::Null => Ok(None),
            Value::Object(map) => {
                Ok(map.get(key).filter(|value| !value.is_null()).map(|value| self.child(key, value)))
            }
            _ => Err(self.wrong_type("a map")),
        }
    }

    /// What `read` makes of the value under `key`, if there is one.
    pub(super) fn field<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Self) -> Result<T, ComposeError>,
    ) -> Result<Option<T>, ComposeError> {
        self.get(key)?.as_ref().map(read).transpose()
    }

    pub(super) fn entries(&self) -> Result<Vec<(&'a str, Self)>, ComposeError> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Object(map) => {
                Ok(map.iter().map(|(key, value)| (key.as_str(), self.child(key, value))).collect())
            }
            _ => Err(self.wrong_type("a map")),
        }
    }

    pub(super) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    pub(super) fn is_map(&self) -> bool {
        self.value.is_object()
    }

    pub(super) fn items(&self) -> Result<Vec<Self>, ComposeError> {
        match self.value {
            Value::Array(list) => {
                Ok(list.iter().enumerate().map(|(index, value)| self.child(index, value)).collect())
            }
            _ => Err(self.wrong_type("a list")),
        }
    }

    /// Each item of a list through `read`.
    pub(super) fn list<T>(
        &self,
        mut read: impl FnMut(&Self) -> Result<T, ComposeError>,
    ) -> Result<Vec<T>, ComposeError> {
        self.items()?.iter().map(&mut read).collect()
    }

    pub(super) fn text(&self) -> Result<String, ComposeError> {
        self.str().map(str::to_owned)
    }

    pub(super) fn str(&self) -> Result<&'a str, ComposeError> {
        self.value.as_str().ok_or_else(|| self.wrong_type("a text"))
    }

    /// A text, or a number as it is written; null is nothing. Booleans are refused, as Swarm refuses them.
    pub(super) fn scalar(&self) -> Result<Option<String>, ComposeError> {
        match self.value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            Value::Number(number) => Ok(Some(go_number(number))),
            _ => Err(self.wrong_type("a text, a number or nothing (a boolean needs quotes)")),
        }
    }

    /// A boolean; interpolation makes texts of them, and older YAML knows more words for them.
    pub(super) fn boolean(&self) -> Result<bool, ComposeError> {
        match self.value {
            Value::Bool(value) => Ok(*value),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "y" => Ok(true),
                "false" | "no" | "off" | "n" => Ok(false),
                _ => Err(self.error("a boolean is true or false")),
            },
            _ => Err(self.wrong_type("true or false")),
        }
    }

    /// A whole number in the range of `T`; interpolation makes texts of them.
    pub(super) fn number<T: FromStr>(&self) -> Result<T, ComposeError> {
        let text = match self.value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => return Err(self.wrong_type("a whole number")),
        };
        text.parse().map_err(|_| self.error("a whole number that is neither negative nor too big"))
    }

    pub(super) fn duration(&self) -> Result<Duration, ComposeError> {
        super::short::duration(self.str()?).map_err(|rule| self.error(rule))
    }
}

/// A number as Go prints one: `1.0` is `1`, and from a million on, a fraction has an exponent.
fn go_number(number: &Number) -> String {
    let Some(value) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    // The fewest digits that tell it.
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{value}"),
    }
}

/// Refuses what no process's environment can hold.
pub(super) fn check_variable(at: &Node<'_>, name: &str, value: &str) -> Result<(), ComposeError> {
    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        return Err(at.error("a variable has a name without =, and no NUL bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As docker/cli printed them.
    #[test]
    fn numbers_are_those_that_go_prints() {
        for (written, printed) in [
            ("1.0", "1"),
            ("1.10", "1.1"),
            ("1e3", "1000"),
            ("123456.7", "123456.7"),
            ("1e6", "1e+06"),
            ("12345678.9", "1.23456789e+07"),
            ("1e21", "1e+21"),
            ("1e-4", "0.0001"),
            ("1e-7", "1e-07"),
            ("-0.5", "-0.5"),
            ("10000000000", "10000000000"),
        ] {
            let number: Number = serde_json::from_str(written).unwrap();
            assert_eq!(go_number(&number), printed, "{written}");
        }
    }
}
