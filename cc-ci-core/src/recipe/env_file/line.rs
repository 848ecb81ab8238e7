//! One statement of an `.env` file: a comment, or an assignment, which takes several lines where its quotes do.

use std::collections::BTreeMap;

/// What joho/godotenv takes for a blank; a line feed is none.
const BLANKS: [char; 7] = [' ', '\t', '\r', '\x0b', '\x0c', '\u{85}', '\u{a0}'];

/// Lines as they stand, and what they assign.
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
    /// Where in the raw text the value begins, its opening quote included.
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

    /// How many lines it takes.
    pub(super) fn height(&self) -> usize {
        1 + self.raw.matches('\n').count()
    }

    pub(super) fn assignment(&self) -> Option<&Assignment> {
        self.assignment.as_ref()
    }

    /// Reads the first statement of `text`, and gives what stands below it.
    pub(super) fn read(text: &str) -> Result<(Self, Option<&str>), &'static str> {
        let (first, _) = split_line(text);
        let inner = first.trim_start();
        if inner.is_empty() || inner.starts_with('#') {
            return Self::ending_at(text, first.len(), None);
        }
        let exported = inner.strip_prefix("export").filter(|rest| rest.starts_with(BLANKS));
        let inner = exported.unwrap_or(inner).trim_start_matches(BLANKS);
        let (name, value) = inner.split_once('=').ok_or("a line is NAME=value or a comment")?;
        let name = name.trim_end_matches(BLANKS);
        check_name(name)?;
        let blank = value.len() - value.trim_start_matches(BLANKS).len();
        // An empty value is put right behind its `=`.
        let start = first.len() - value.len() + if blank == value.len() { 0 } else { blank };
        let value = Value::read(&text[start..])?;
        let end = start + value.len;
        let assignment = Assignment {
            name: name.to_owned(),
            comment: split_line(&text[end..]).0.to_owned(),
            start,
            body: value.body.replace("\r\n", "\n"),
            quote: value.quote,
        };
        assignment.check_body()?;
        Self::ending_at(text, end + assignment.comment.len(), Some(assignment))
    }

    fn ending_at(
        text: &str,
        end: usize,
        assignment: Option<Assignment>,
    ) -> Result<(Self, Option<&str>), &'static str> {
        let (raw, below) = (&text[..end], text[end..].strip_prefix('\n'));
        if raw.contains('\0') {
            return Err("an .env file has no NUL bytes");
        }
        if raw.strip_suffix('\r').unwrap_or(raw).replace("\r\n", "").contains('\r') {
            return Err("a carriage return stands at the end of a line only; in double quotes write \\r");
        }
        Ok((Self { raw: raw.to_owned(), assignment }, below))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        match Self::read(text)? {
            (line, None) => Ok(line),
            (_, Some(_)) => Err("an assignment is one statement"),
        }
    }

    /// A new line that assigns exactly `value`.
    pub(super) fn of(name: &str, value: &str) -> Result<Self, &'static str> {
        check_name(name)?;
        Self::parse(&format!("{name}={}", quoted(value)?))
    }

    /// This line with exactly `value` in place of its own.
    pub(super) fn with_value(&self, name: &str, value: &str) -> Result<Self, &'static str> {
        let Some(old) = &self.assignment else { return Self::of(name, value) };
        // Without quotes a comment may be read as the value, or a part of it.
        let value = if old.comment.contains('#') { in_quotes(value)? } else { quoted(value)? };
        Self::parse(&format!("{}{value}{}", &self.raw[..old.start], old.comment))
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

    /// Refuses what joho/godotenv reads otherwise than it was meant, or not in all versions alike.
    fn check_body(&self) -> Result<(), &'static str> {
        let mut rest = match self.quote {
            Some('\'') => return Ok(()),
            _ => self.body.as_str(),
        };
        while let Some(at) = rest.find(['$', '\\']) {
            let tail = &rest[at..];
            let taken = if tail.starts_with('$') {
                check_variable(tail)?;
                1
            } else {
                if tail.starts_with(r"\\$") || tail.starts_with("\\\n") {
                    return Err(
                        r"a backslash before a $ of its own, or at the end of a line, is not read alike \
                                everywhere: use single quotes",
                    );
                }
                escaped(tail, self.quote.is_some()).1
            };
            rest = &tail[taken..];
        }
        Ok(())
    }
}

/// A `$` and what follows it: `$NAME` and `${NAME}` in capitals, or a dollar sign that stands for itself.
fn check_variable(tail: &str) -> Result<(), &'static str> {
    let after = &tail[1..];
    let inner = after.strip_prefix('(').unwrap_or(after);
    let inner = inner.strip_prefix('{').unwrap_or(inner);
    let len = name_len(inner);
    let (name, end) = inner.split_at(len);
    if len == 0 {
        return Ok(());
    }
    if name.as_bytes()[0].is_ascii_digit() {
        return Err("a $ before a digit is lost: use single quotes, or write \\$");
    }
    let whole = match after.as_bytes()[0] {
        b'{' => end.starts_with('}'),
        b'(' => false,
        _ => !end.starts_with('}'),
    };
    if !whole || end.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(
            "only $NAME and ${NAME} in capitals are replaced, without operators: write it so, use single \
                    quotes, or write \\$",
        );
    }
    Ok(())
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
    let len = name_len(name);
    (len > 0).then(|| (&name[..len], if braced { len + 3 } else { len + 1 }))
}

/// How much of a text's start is a variable's name: godotenv replaces capitals only.
fn name_len(text: &str) -> usize {
    let is_part = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    text.bytes().take_while(is_part).count()
}

/// A value as it stands: its quote, what is in it, and how long the whole is.
struct Value<'a> {
    quote: Option<char>,
    body: &'a str,
    len: usize,
}

impl<'a> Value<'a> {
    /// Reads the value at the start of `text`.
    fn read(text: &'a str) -> Result<Self, &'static str> {
        match text.chars().next() {
            Some(quote @ ('"' | '\'')) => Self::quoted(text, quote),
            _ => Self::bare(split_line(text).0),
        }
    }

    fn bare(line: &'a str) -> Result<Self, &'static str> {
        if line.trim_start_matches(BLANKS).starts_with('#') {
            return Err(
                "a # right after the = is not a comment everywhere: write NAME=\"\" # …, or quotes around \
                        the value",
            );
        }
        let mut comments =
            line.match_indices('#').map(|(at, _)| at).filter(|at| line[..*at].ends_with(BLANKS));
        let comment = comments.next();
        if comments.next().is_some() {
            return Err(
                "of several # with a blank before them it is not clear which begins the comment: keep one, \
                        or put quotes around the value",
            );
        }
        let body = line[..comment.unwrap_or(line.len())].trim_end_matches(BLANKS);
        Ok(Self { quote: None, body, len: body.len() })
    }

    fn quoted(text: &'a str, quote: char) -> Result<Self, &'static str> {
        let inner = &text[1..];
        let ends = |at: &usize| !inner[..*at].ends_with('\\');
        let end = inner.match_indices(quote).map(|(at, _)| at).find(ends);
        let (body, rest) = inner.split_at(
            end.ok_or("a quoted value ends with the quote that begins it, without a backslash before")?,
        );
        if body.ends_with(quote) {
            return Err("a quoted value can't end with its own quote: use the other one");
        }
        let behind = split_line(&rest[1..]).0.trim_start_matches(BLANKS);
        if !behind.is_empty() && !behind.starts_with('#') {
            return Err("after a quoted value comes only a comment");
        }
        Ok(Self { quote: Some(quote), body, len: body.len() + 2 })
    }
}

/// The first line of a text, and what is below it.
fn split_line(text: &str) -> (&str, Option<&str>) {
    text.split_once('\n').map_or((text, None), |(first, below)| (first, Some(below)))
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
    if name.is_empty() || name.as_bytes()[0].is_ascii_digit() || !name.bytes().all(plain) {
        return Err("a name is letters, digits, _ and ., first no digit");
    }
    Ok(())
}

/// `value` as it must stand to be read back unchanged, by a shell too.
fn quoted(value: &str) -> Result<String, &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:@%+,-".contains(&b);
    if value.bytes().all(plain) {
        return Ok(value.to_owned());
    }
    in_quotes(value)
}

/// The same, in quotes whatever it is.
fn in_quotes(value: &str) -> Result<String, &'static str> {
    // What ends it would be taken for an escaped quote, or cut off with the closing one.
    if !value.contains(['\'', '\n', '\r']) && !value.ends_with('\\') {
        return Ok(format!("'{value}'"));
    }
    if value.ends_with(['\\', '"']) {
        return Err(
            "a value that ends with a backslash, or with a double quote and has single ones or line feeds, \
                    can't be written",
        );
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
    Ok(text)
}
