//! What apps and engines say, made fit for a message: short, and harmless on a terminal.
//!
//! It is cut between words or lines only. Secrets are taken out of messages further on, and half of one would not be
//! known for one.

/// How much of an output is shown.
const TAIL: usize = 800;

/// How much of one message is shown.
const MESSAGE: usize = 400;

/// A message of the engine, in one line. It may quote what a recipe says.
pub(crate) fn message(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.len() + word.len() > MESSAGE {
            line.push('…');
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&harmless(word));
    }
    line
}

/// The last whole lines of an output; empty when it has none.
pub(crate) fn tail(text: &str) -> String {
    let mut room = TAIL;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().rev().map(str::trim_end).filter(|line| !line.is_empty()) {
        let line = harmless(line);
        let Some(left) = room.checked_sub(line.len() + 1) else {
            if lines.is_empty() {
                lines.push(format!("a line of {} bytes", line.len()));
            }
            break;
        };
        room = left;
        lines.push(line);
    }
    lines.reverse();
    lines.join("\n")
}

/// Without what moves a cursor, colours, or turns the direction of writing.
fn harmless(text: &str) -> String {
    let tricks = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if tricks(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_harmless_line() {
        assert_eq!(message("task:  non-zero\n exit (1)"), "task: non-zero exit (1)");
        assert_eq!(message("a\u{1b}[31mb\u{202e}c\u{7}"), "a?[31mb?c?");
        assert_eq!(message(&"x".repeat(MESSAGE)), "x".repeat(MESSAGE));
        assert_eq!(message(&format!("not so {}", "x".repeat(MESSAGE))), "not so…");
    }

    #[test]
    fn an_output_is_cut_between_lines() {
        assert_eq!(tail("one\r\n\ntwo\n"), "one\ntwo");
        assert_eq!(tail(" \n"), "");
        let lines =
            |range: std::ops::Range<usize>| range.map(|i| format!("{i:09}")).collect::<Vec<_>>().join("\n");
        assert_eq!(tail(&lines(0..100)), lines(20..100));
        assert_eq!(tail(&"s".repeat(TAIL)), "a line of 800 bytes");
        assert_eq!(tail(&format!("{}\nend", "s".repeat(TAIL))), "end");
        assert_eq!(tail("\u{1b}]0;x\u{7}"), "?]0;x?");
    }
}
