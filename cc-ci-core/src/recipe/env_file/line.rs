//! One line of an `.env` file.

use std::collections::BTreeMap;

/// A line as it stands, and what it assigns.
#[derive(Debug, Clone)]
pub(super) struct Line {
    raw: String,
    assignment: Option<Assignment>,
}

/// `NAME=value`.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    pub(super) name: String,
    /// What follows the value: blanks and a comment.
    pub(super) comment: String,
    /// Where in the raw line the value begins, its opening quote included.
    start: usize,
    body: String,
    quote: Option<char>,
}

impl Line {
    pub(super) fn empty() -> Self {
        Self { raw: String::new(), assignment: None }
    }

    pub(super) fn raw(&self) -> &str {
        &self.raw
    }

    pub(super) fn assignment(&self) -> Option<&Assignment> {
        self.assignment.as_ref()
    }

    pub(super) fn parse(raw: &str) -> Result<Self, &'static str> {
        if raw.contains('\0') {
            return Err("an .env file has no NUL bytes");
        }
        let text = raw.trim_start();
        if text.is_empty() || text.starts_with('#') {
            return Ok(Self { raw: raw.to_owned(), assignment: None });
        }
        let exported = text.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
        let text = exported.unwrap_or(text).trim_start();
        let (name, value) = text.split_once('=').ok_or("a line is NAME=value or a comment")?;
        let name = name.trim_end();
        check_name(name)?;
        let blank = value.len() - value.trim_start().len();
        // `NAME= # comment` has no value; `NAME=#x` has one.
        let (quote, body, comment) = if blank > 0 && value[blank..].starts_with('#') {
            (None, "", value)
        } else {
            split_value(&value[blank..])?
        };
        let start =
            raw.len() - if body.is_empty() && quote.is_none() { value.len() } else { value.len() - blank };
        let (name, body, comment) = (name.to_owned(), body.to_owned(), comment.to_owned());
        Ok(Self { raw: raw.to_owned(), assignment: Some(Assignment { name, comment, start, body, quote }) })
    }

    /// A new line that assigns exactly `value`.
    pub(super) fn of(name: &str, value: &str) -> Result<Self, &'static str> {
        check_name(name)?;
        Self::parse(&format!("{name}={}", quoted(value)))
    }

    /// This line with exactly `value` in place of its own.
    pub(super) fn with_value(&self, name: &str, value: &str) -> Result<Self, &'static str> {
        let Some(old) = &self.assignment else { return Self::of(name, value) };
        Self::parse(&format!("{}{}{}", &self.raw[..old.start], quoted(value), old.comment))
    }
}

impl Assignment {
    /// The value with the variables in it replaced; nothing if it would be longer than `max` bytes.
    pub(super) fn expand(&self, vars: &BTreeMap<String, String>, max: usize) -> Option<String> {
        let mut value = String::new();
        let mut rest = self.body.as_str();
        while !rest.is_empty() {
            let stop = match self.quote {
                Some('\'') => None,
                _ => rest.find(['$', '\\']),
            };
            let (plain, tail) = rest.split_at(stop.unwrap_or(rest.len()));
            let (text, taken) = match tail.as_bytes() {
                [] => ("", 0),
                [b'\\', ..] => escaped(tail, self.quote.is_some()),
                _ => variable(tail)
                    .map_or(("$", 1), |(name, taken)| (vars.get(name).map_or("", String::as_str), taken)),
            };
            if value.len() + plain.len() + text.len() > max {
                return None;
            }
            value.push_str(plain);
            value.push_str(text);
            rest = &tail[taken..];
        }
        Some(value)
    }
}

/// What the backslash at the start of `tail` and what follows it stand for, and how long they are.
fn escaped(tail: &str, in_quotes: bool) -> (&str, usize) {
    match (tail[1..].chars().next(), in_quotes) {
        (Some('$'), _) => ("$", 2),
        (Some('n'), true) => ("\n", 2),
        (Some('r'), true) => ("\r", 2),
        (Some(next), true) => (&tail[1..=next.len_utf8()], 1 + next.len_utf8()),
        _ => ("\\", 1),
    }
}

/// The name in the `$NAME` or `${NAME}` at the start of `tail`, and the length of the whole.
fn variable(tail: &str) -> Option<(&str, usize)> {
    let braced = tail[1..].starts_with('{');
    let name = &tail[if braced { 2 } else { 1 }..];
    let len = name.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    if len == 0 || name.as_bytes()[0].is_ascii_digit() || (braced && !name[len..].starts_with('}')) {
        return None;
    }
    Some((&name[..len], if braced { len + 3 } else { len + 1 }))
}

/// Splits what follows `=` into quote, body and the rest of the line.
fn split_value(value: &str) -> Result<(Option<char>, &str, &str), &'static str> {
    let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let comment = value.match_indices('#').map(|(at, _)| at);
        let comment = comment.into_iter().find(|at| value[..*at].ends_with([' ', '\t']));
        let body = value[..comment.unwrap_or(value.len())].trim_end();
        return Ok((None, body, &value[body.len()..]));
    };
    let mut escape = false;
    let end = value[1..].find(|c| {
        let ends = c == quote && !escape;
        escape = quote == '"' && c == '\\' && !escape;
        ends
    });
    let end = 1 + end.ok_or("a quoted value ends on its line")?;
    let rest = &value[end + 1..];
    if rest.trim_start().is_empty() || (rest.starts_with([' ', '\t']) && rest.trim_start().starts_with('#')) {
        Ok((Some(quote), &value[1..end], rest))
    } else {
        Err("after a quoted value comes only a comment")
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
    if name.is_empty() || name.as_bytes()[0].is_ascii_digit() || !name.bytes().all(plain) {
        return Err("a name is letters, digits, _ and ., first no digit");
    }
    Ok(())
}

/// `value` as it must stand to be read back unchanged, by a shell too.
fn quoted(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:@%+,-".contains(&b);
    if value.bytes().all(plain) {
        return value.to_owned();
    }
    if !value.contains(['\'', '\n', '\r']) {
        return format!("'{value}'");
    }
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '"' | '\\' | '$' | '`' => text.extend(['\\', c]),
            _ => text.push(c),
        }
    }
    text.push('"');
    text
}
