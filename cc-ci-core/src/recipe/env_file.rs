//! A recipe's `.env.sample` and an app's `<domain>.env`.
//!
//! abra reads it with a library of its own, made from joho/godotenv 1.5. So it is read here as all releases of 1.5
//! read it, and what 1.4 or the coming 1.6 read otherwise, or what is lost on the way without a word, is refused with
//! the form to write instead.
//!
//! Each statement is a comment or an assignment: `NAME=value`, with or without `export`, quotes and a comment behind
//! it; a quoted value may take several lines. A value may use variables of *earlier* statements, so
//! `COMPOSE_FILE="$COMPOSE_FILE:compose.db.yml"` grows what came before; only `$NAME` and `${NAME}` in capitals are
//! replaced, never in single quotes, and what is not set is empty. The file keeps its lines, their order and their
//! comments: abra and the app's owner read it too.

mod line;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use line::{Assignment, Line};

/// How long a file may be.
const MAX_LEN: usize = 1 << 20;
/// What all values may hold together once expanded, earlier values of the same name included.
const MAX_EXPANDED: usize = 4 << 20;

/// A text is no valid `.env` file, or a change would make it one no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvFileError {
    /// It is too long.
    #[error("an .env file has at most {MAX_LEN} bytes")]
    TooLong,
    /// A line breaks a rule.
    #[error("line {line}: {rule}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// The rule.
        rule: &'static str,
    },
    /// A variable can't be set.
    #[error("setting {name:?}: {rule}")]
    Set {
        /// Which, cut at 80 characters.
        name: String,
        /// The rule.
        rule: &'static str,
    },
}

impl EnvFileError {
    /// The line that breaks the rule, where it is one.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Self::Line { line, .. } => Some(*line),
            _ => None,
        }
    }
}

/// What a recipe says about one of its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    /// Its name, `db_password` for `SECRET_DB_PASSWORD_VERSION`.
    pub name: String,
    /// Its version, the variable's value.
    pub version: String,
    /// `length=`, 1 to 4096.
    pub length: Option<u32>,
    /// `charset=`, e.g. `hex` or `alnum`.
    pub charset: Option<String>,
    /// Not `generate=false`: a value of our own making will do.
    pub generate: bool,
}

/// A parsed `.env` file; its `Display` is the file's text.
#[derive(Debug, Clone, Default)]
pub struct EnvFile {
    lines: Vec<Line>,
    vars: BTreeMap<String, String>,
}

impl FromStr for EnvFile {
    type Err = EnvFileError;

    fn from_str(text: &str) -> Result<Self, EnvFileError> {
        if text.len() > MAX_LEN {
            return Err(EnvFileError::TooLong);
        }
        if text.starts_with('\u{feff}') {
            let rule = "it begins with a byte order mark: save it as UTF-8 without one";
            return Err(EnvFileError::Line { line: 1, rule });
        }
        let (mut lines, mut number, mut rest) = (Vec::new(), 1, Some(text));
        while let Some(text) = rest {
            let (line, below) = Line::read(text).map_err(|rule| EnvFileError::Line { line: number, rule })?;
            number += line.height();
            rest = below;
            lines.push(line);
        }
        Self::of_lines(lines)
    }
}

impl fmt::Display for EnvFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(line.raw())?;
        }
        Ok(())
    }
}

impl EnvFile {
    fn of_lines(lines: Vec<Line>) -> Result<Self, EnvFileError> {
        if lines.iter().map(|line| line.raw().len() + 1).sum::<usize>() > MAX_LEN + 1 {
            return Err(EnvFileError::TooLong);
        }
        let mut vars = BTreeMap::new();
        let mut left = MAX_EXPANDED;
        for (line, assignment) in assignments(&lines) {
            let rule = "the values, once expanded, hold more than 4 MiB";
            let value = assignment.expand(&vars, left).ok_or(EnvFileError::Line { line, rule })?;
            left -= value.len();
            vars.insert(assignment.name.clone(), value);
        }
        Ok(Self { lines, vars })
    }

    /// The expanded value of a variable: that of its last assignment.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// All variables, expanded.
    pub fn vars(&self) -> &BTreeMap<String, String> {
        &self.vars
    }

    /// Sets a variable to exactly `value`: in its last assignment, whose comment stays, or in a new last line.
    ///
    /// # Errors
    /// A name that is none, a value with a NUL byte, or a file that would outgrow its bounds; it is then unchanged.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), EnvFileError> {
        let error = |rule| EnvFileError::Set { name: name.chars().take(80).collect(), rule };
        let mut lines = self.lines.clone();
        let is_it = |line: &Line| line.assignment().is_some_and(|assignment| assignment.name == name);
        match lines.iter().rposition(is_it) {
            Some(index) => lines[index] = lines[index].with_value(name, value).map_err(error)?,
            None => append(&mut lines, Line::of(name, value).map_err(error)?),
        }
        let changed = Self::of_lines(lines)?;
        if changed.get(name) != Some(value) {
            return Err(error("the value can't be written so that it is read back"));
        }
        *self = changed;
        Ok(())
    }

    /// Appends the lines of every variable that only `sample` assigns, as they stand there, and returns the names
    /// in the sample's order: an upgrade's new variables.
    ///
    /// # Errors
    /// A file that would outgrow its bounds; it is then unchanged.
    pub fn add_missing(&mut self, sample: &Self) -> Result<Vec<String>, EnvFileError> {
        let mut lines = self.lines.clone();
        let mut added = Vec::new();
        let mut seen = BTreeSet::new();
        for line in &sample.lines {
            let Some(assignment) = line.assignment() else { continue };
            if !self.vars.contains_key(&assignment.name) {
                append(&mut lines, line.clone());
                if seen.insert(&assignment.name) {
                    added.push(assignment.name.clone());
                }
            }
        }
        *self = Self::of_lines(lines)?;
        Ok(added)
    }

    /// The secrets that `SECRET_<NAME>_VERSION` variables declare, by name.
    ///
    /// # Errors
    /// A version or an option in the line's comment that breaks its rule.
    pub fn secrets(&self) -> Result<Vec<SecretSpec>, EnvFileError> {
        let mut secrets = BTreeMap::new();
        for (line, assignment) in assignments(&self.lines) {
            let name = assignment.name.strip_prefix("SECRET_").and_then(|rest| rest.strip_suffix("_VERSION"));
            let Some(name) = name.filter(|name| !name.is_empty()) else { continue };
            let version = self.get(&assignment.name).unwrap_or_default();
            let spec = secret_spec(name, version, &assignment.comment)
                .map_err(|rule| EnvFileError::Line { line, rule })?;
            secrets.insert(spec.name.clone(), spec);
        }
        Ok(secrets.into_values().collect())
    }
}

/// What is assigned, and in which line, from 1, it begins.
fn assignments(lines: &[Line]) -> impl Iterator<Item = (usize, &Assignment)> {
    let numbered = lines.iter().scan(1, |next, line| {
        let number = *next;
        *next += line.height();
        Some((number, line))
    });
    numbered.filter_map(|(number, line)| Some((number, line.assignment()?)))
}

/// Puts a line last, before the empty rest that follows a final line feed.
fn append(lines: &mut Vec<Line>, line: Line) {
    if lines.last().is_some_and(|last| last.raw().is_empty()) {
        lines.pop();
    }
    lines.push(line);
    lines.push(Line::empty());
}

fn secret_spec(name: &str, version: &str, comment: &str) -> Result<SecretSpec, &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    // It becomes a file's name.
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err("a secret's name is of [A-Za-z0-9_]");
    }
    if version.is_empty() || version.len() > 64 || !version.bytes().all(plain) {
        return Err("a secret's version is 1 to 64 of [A-Za-z0-9._-], e.g. v1");
    }
    let mut spec = SecretSpec {
        name: name.to_ascii_lowercase(),
        version: version.to_owned(),
        length: None,
        charset: None,
        generate: true,
    };
    for (key, value) in
        comment.split_whitespace().filter_map(|word| word.trim_start_matches('#').split_once('='))
    {
        match key {
            "length" => {
                let length = value.parse().ok().filter(|length| (1..=4096).contains(length));
                spec.length = Some(length.ok_or("a secret's length is a number from 1 to 4096")?);
            }
            "charset" => {
                if value.is_empty() || !value.bytes().all(|b| plain(b) || b == b',') {
                    return Err("a secret's charset is a word, e.g. hex");
                }
                spec.charset = Some(value.to_owned());
            }
            "generate" => {
                spec.generate = value.parse().map_err(|_| "a secret's generate is true or false")?;
            }
            _ => {}
        }
    }
    Ok(spec)
}

#[cfg(test)]
mod tests;
