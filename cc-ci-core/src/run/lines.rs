//! Which lines of a long text a person is shown.

use crate::sys::text::cut;

/// So many lines of a log are shown.
const LOG_LINES: usize = 30;

/// So many lines of an exception, or of what an engine says.
const CAUSE_LINES: usize = 12;

/// How long a line may be, in bytes.
pub(super) const LINE: usize = 400;

/// The end of a log. Lines one after the other that differ in their numbers only, such as those of requests, are one.
pub(super) fn log_end(log: &str) -> Vec<String> {
    let without_numbers = |line: &str| line.replace(|c: char| c.is_ascii_digit(), "");
    let mut groups: Vec<(&str, String, usize)> = Vec::new();
    for line in log.lines().rev() {
        let shape = without_numbers(line);
        let is_full = groups.len() == LOG_LINES;
        match groups.last_mut() {
            Some((_, known, count)) if *known == shape && !shape.trim().is_empty() => *count += 1,
            _ if is_full => break,
            _ => groups.push((line, shape, 1)),
        }
    }
    groups.reverse();
    let shown = |(line, _, count): (&str, String, usize)| match count {
        1 => cut(line, LINE),
        count => format!("{} ({count} lines like it)", cut(line, LINE)),
    };
    groups.into_iter().map(shown).collect()
}

/// The last lines that say something.
pub(super) fn last_lines(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(CAUSE_LINES)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_shape_are_one_and_what_is_rare_is_not_pushed_out() {
        let requests: Vec<String> = (0..100).map(|number| format!("GET /{number} 200\n")).collect();
        let log = format!("fatal: no database\n{}bye\n\n\n", requests.concat());
        assert_eq!(log_end(&log), ["fatal: no database", "GET /99 200 (100 lines like it)", "bye", "", ""]);
        let many: Vec<String> = (0..100).map(|number| format!("{}\n", "x".repeat(number))).collect();
        assert_eq!(log_end(&many.concat()).len(), LOG_LINES);
    }
}
