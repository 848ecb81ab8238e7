//! What go-yaml, which Docker reads with, takes for another thing than other readers do. All of it is told by its line, with
//! the form that everybody reads alike.

use granit_parser::{Event, Options, Parser, ScalarStyle, StructureStyle};

use super::YamlFault;
use super::merges::Merges;

/// A list or a map that is being read.
#[derive(Debug)]
struct Collection {
    in_brackets: bool,
    /// Of a map, whether the next thing is a key.
    at_key: Option<bool>,
    merges: bool,
}

/// Refuses a text, that is YAML within bounds, for the first such thing.
pub(super) fn check(text: &str) -> Result<(), YamlFault> {
    let mut open: Vec<Collection> = Vec::new();
    let mut merges = Merges::default();
    let mut options = Options::default();
    // Else many lines of comment are refused, and `%YAML 1.2` is not, which go-yaml does.
    options.set_emit_comments(false);
    options.disallow_directives = true;
    for event in Parser::new_from_str_with_options(text, options) {
        let fault = |line: usize, detail: &str| YamlFault {
            line: u64::try_from(line).ok(),
            detail: detail.to_owned(),
        };
        let (event, span) = event.map_err(|error| fault(error.marker().line(), &error.info()))?;
        let line = span.start.line();
        if event.tag().is_some() {
            return Err(fault(line, "a tag (!), which readers take in different ways: leave it out"));
        }
        merges.take(&event, line)?;
        let (style, is_map) = match &event {
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
                continue;
            }
            Event::Scalar(..) | Event::Alias(_) => (None, false),
            Event::SequenceStart(style, ..) => (Some(*style), false),
            Event::MappingStart(style, ..) => (Some(*style), true),
            _ => continue,
        };
        let is_key = open.last().is_some_and(|of| of.at_key == Some(true));
        let in_brackets = open.last().is_some_and(|of| of.in_brackets);
        if let Some(of) = open.last_mut() {
            of.at_key = of.at_key.map(|_| !is_key);
        }
        if let Event::Scalar(text, ScalarStyle::Plain, ..) = &event {
            if in_brackets && text.contains('?') {
                return Err(fault(line, "a ? within brackets, where Docker ends a text: write it in quotes"));
            }
            if let Some(detail) = doubted(text, is_key) {
                return Err(fault(line, detail));
            }
        }
        match &event {
            Event::Scalar(text, style, ..) if is_key && text == "<<" => {
                let of = open.last_mut().filter(|of| *style == ScalarStyle::Plain && !of.merges);
                let Some(of) = of else {
                    return Err(fault(line, "a second merge key: write one, `<<: [*a, *b]`"));
                };
                of.merges = true;
            }
            _ => {}
        }
        if let Some(style) = style {
            let in_brackets = in_brackets || style == StructureStyle::Flow;
            open.push(Collection { in_brackets, at_key: is_map.then_some(true), merges: false });
        }
    }
    Ok(())
}

/// What speaks against a text without quotes.
fn doubted(text: &str, is_key: bool) -> Option<&'static str> {
    if is_date(text) {
        return Some("a date without quotes, which Docker takes for a time: write it in quotes");
    }
    let number = text.replace('_', "");
    if number != text
        && text.starts_with(|c: char| c.is_ascii_digit() || "+-".contains(c))
        && is_number(&number)
    {
        return Some("a number with _ in it, which readers take in different ways: write it without");
    }
    let word = text.to_ascii_lowercase();
    let is_other =
        matches!(word.as_str(), "" | "~" | "null" | "true" | "false" | ".inf" | "-.inf" | "+.inf" | ".nan");
    (is_key && (is_other || is_number(text))).then_some("a key that is no text: write it in quotes")
}

/// Whether it looks like a date, or like a time of a day.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let is = |part: Option<&str>, lengths: std::ops::RangeInclusive<usize>| {
        part.is_some_and(|part| lengths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()))
    };
    let (year, month) = (parts.next(), parts.next());
    let day = parts.next().map(|rest| rest.split(['T', 't', ' ']).next().unwrap_or_default());
    is(year, 4..=4) && is(month, 1..=2) && is(day, 1..=2)
}

/// Whether go-yaml takes it for a number.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let of = |prefixes: [&str; 2], is_digit: fn(u8) -> bool| {
        let digits = prefixes.into_iter().find_map(|prefix| unsigned.strip_prefix(prefix));
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(is_digit))
    };
    let exponent = unsigned.find(['e', 'E']).unwrap_or(unsigned.len());
    let (mantissa, exponent) = (&unsigned[..exponent], unsigned.get(exponent + 1..));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    let is_float = digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
    is_float
        || of(["0x", "0X"], |b| b.is_ascii_hexdigit())
        || of(["0b", "0B"], |b| matches!(b, b'0' | b'1'))
        || of(["0o", "0O"], |b| matches!(b, b'0'..=b'7'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_take_for_two_things_is_told_by_its_line() {
        for (text, line, says) in [
            ("a: 1\nb: 2024-01-01", 2, "a date without quotes"),
            ("a: [2024-1-1]", 1, "a date without quotes"),
            ("a: 2024-01-01 10:00:00", 1, "a date without quotes"),
            ("a: 2024-01-01T10:00:00Z", 1, "a date without quotes"),
            ("2024-01-01: a", 1, "a date without quotes"),
            ("a: 1_0.5", 1, "a number with _"),
            ("a: -1_000", 1, "a number with _"),
            ("a: 0x_1F", 1, "a number with _"),
            ("a: 1__0", 1, "a number with _"),
            ("a:\n  1: b", 2, "a key that is no text"),
            ("~: b", 1, "a key that is no text"),
            ("a: {true: b}", 1, "a key that is no text"),
            ("1.5: b", 1, "a key that is no text"),
            ("m: &m {a: 1}\nb:\n  <<: *m\n  <<: *m", 4, "a second merge key"),
            ("m: &m {a: 1}\nb: {\"<<\": *m}", 2, "a second merge key"),
            ("a: {b: http://h/?q}", 1, "a ? within brackets"),
            ("a:\n- [b, c?]", 2, "a ? within brackets"),
            ("a: !!str 5", 1, "a tag"),
            ("a: ! 5", 1, "a tag"),
            ("a: !reset []", 1, "a tag"),
            ("%YAML 1.2\n---\na: 1", 1, "directive"),
        ] {
            let fault = check(text).expect_err(text);
            assert!(fault.detail.contains(says), "{text}: {}", fault.detail);
            assert_eq!(fault.line, Some(line), "{text}");
        }
    }

    #[test]
    fn what_all_read_alike_is_left_alone() {
        for text in [
            "a: '2024-01-01'",
            "a: 2024-01",
            "a: 2024-01-01x",
            "a: 2024-01-01-x",
            "a: 1_a",
            "a: _1",
            "'1': b",
            "y: b",
            "a: http://h/?q",
            "a: ['b?', {c: \"d?\"}]",
            "m: &m {a: 1}\nb: {<<: *m}\nc: [{<<: *m}, {<<: [*m, *m]}]",
            "a: [b, {c: d}, <<]\n? b\n: c",
            "",
        ] {
            assert!(check(text).is_ok(), "{text}: {:?}", check(text));
        }
    }
}
