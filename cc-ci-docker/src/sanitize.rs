//! What apps and engines say, made fit for a message: short, and harmless on a terminal.
//!
//! Secrets are taken out first: half of one, or one in which a character was replaced, would not be known for one.

use cc_ci_core::engine::Redactor;
use cc_ci_core::sys::text::sanitize;

/// How much of an output is shown.
const TAIL: usize = 800;

/// How much of one message is shown.
const MESSAGE: usize = 400;

/// A message of the engine, in one line. It may quote what an app says.
pub(crate) fn message(redactor: &Redactor, text: &str) -> String {
    written(&redactor.redact(text))
}

/// What somebody wrote into a recipe, in one line: no secret of a run.
pub(crate) fn written(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.len() + word.len() > MESSAGE {
            line.push('…');
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&sanitize(word));
    }
    line
}

/// The last whole lines of an output; empty when it has none.
pub(crate) fn tail(redactor: &Redactor, text: &str) -> String {
    let text = redactor.redact(text);
    let mut room = TAIL;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().rev().map(str::trim_end).filter(|line| !line.is_empty()) {
        let line = sanitize(line);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_harmless_line() {
        assert_eq!(written("task:  non-zero\n exit (1)"), "task: non-zero exit (1)");
        assert_eq!(written("a\u{1b}[31mb\u{202e}c\u{7}"), r"a\u{1b}[31mb\u{202e}c\u{7}");
        assert_eq!(written(&"x".repeat(MESSAGE)), "x".repeat(MESSAGE));
        assert_eq!(written(&format!("not so {}", "x".repeat(MESSAGE))), "not so…");
    }

    #[test]
    fn an_output_is_cut_between_lines() {
        assert_eq!(tail(&Redactor::default(), "one\r\n\ntwo\n"), "one\ntwo");
        assert_eq!(tail(&Redactor::default(), " \n"), "");
        let lines =
            |range: std::ops::Range<usize>| range.map(|i| format!("{i:09}")).collect::<Vec<_>>().join("\n");
        assert_eq!(tail(&Redactor::default(), &lines(0..100)), lines(20..100));
        assert_eq!(tail(&Redactor::default(), &"s".repeat(TAIL)), "a line of 800 bytes");
        assert_eq!(tail(&Redactor::default(), &format!("{}\nend", "s".repeat(TAIL))), "end");
        assert_eq!(tail(&Redactor::default(), "\u{1b}]0;x\u{7}"), r"\u{1b}]0;x\u{7}");
    }

    #[test]
    fn no_secret_is_cut_in_two_or_made_unknown_by_a_replacement() {
        let redactor = Redactor::default();
        redactor.hide("two words\u{202e}and more");
        let hidden = "two words\u{202e}and more";
        let text = format!("{} {hidden}", "x".repeat(MESSAGE - 4));
        assert_eq!(message(&redactor, &text), format!("{}…", "x".repeat(MESSAGE - 4)));
        assert_eq!(message(&redactor, &format!("it is {hidden}!")), "it is [secret]!");
        assert_eq!(tail(&redactor, &format!("it is {hidden}!")), "it is [secret]!");
    }
}
