//! The end of abra's output: what of it an error tells, and whose fault they say it is.

use std::collections::VecDeque;

use anstream::adapter::strip_str;
use cc_ci_core::engine::{Fault, Redactor};
use cc_ci_core::lifetime::{Line, Stream};
use cc_ci_core::sys::text::sanitize_line;

/// How many lines of each stream are kept.
const KEPT: usize = 64;
/// How many lines an error tells.
const SHOWN: usize = 6;
/// How much of one line an error tells, in bytes.
const LINE_LIMIT: usize = 500;

/// The end of a child's output, as it came: nobody sees it but through [`tell`](Self::tell).
#[derive(Default)]
pub(crate) struct StderrTail {
    stdout: VecDeque<String>,
    stderr: VecDeque<String>,
}

impl StderrTail {
    /// Takes one line.
    pub(crate) fn hear(&mut self, line: &Line, redactor: &Redactor) {
        let kept = match line.stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        if line.text.trim().is_empty() {
            return;
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        // What is too long to be kept as it is loses its secrets before it is cut.
        let is_short = line.text.len() <= Line::MAX;
        kept.push_back(if is_short { line.text.clone() } else { sanitize(&line.text, redactor, LINE_LIMIT) });
    }

    /// What an error tells, in one line, without secrets or control characters: from abra's first FATA line on, else
    /// the last lines; stdout's where nothing was said on stderr.
    pub(crate) fn tell(&self, redactor: &Redactor) -> String {
        let message = if self.stderr.is_empty() { &self.stdout } else { &self.stderr };
        let message: Vec<String> = message.iter().map(|line| sanitize(line, redactor, LINE_LIMIT)).collect();
        let fatal = message.iter().position(|line| is_fatal(line));
        let first = fatal.unwrap_or_else(|| message.len().saturating_sub(SHOWN));
        message.into_iter().skip(first).take(SHOWN).collect::<Vec<_>>().join(" | ")
    }
}

fn is_fatal(line: &str) -> bool {
    line.starts_with("FATA") || line.contains(" FATA ") || line.contains("level=fatal")
}

/// `text` without secrets and colours, in one harmless line of at most `limit` bytes and an ellipsis.
pub(crate) fn sanitize(text: &str, redactor: &Redactor, limit: usize) -> String {
    // Twice: a colour in the middle of a secret must not hide it from the second look.
    let plain = redactor.redact(&strip_str(&redactor.redact(text)).to_string());
    let plain = sanitize_line(plain.trim());
    let cut = &plain[..plain.floor_char_boundary(limit)];
    if cut.len() < plain.len() { format!("{cut}…") } else { cut.to_owned() }
}

/// Words of the host's troubles. They come first: an engine that is gone makes everything else that is said unsure.
const OF_THE_HOST: [&str; 9] = [
    "locally unstaged changes",
    "unable to resolve",
    "cannot connect to the docker daemon",
    "context deadline exceeded",
    "connection refused",
    "no such host",
    "no space left on device",
    "permission denied",
    "too many open files",
];

/// Words that are only said of what a recipe's files hold.
const OF_THE_RECIPE: [&str; 7] = [
    "secret not generated",
    "secret not inserted",
    "invalid interpolation format",
    "is missing a value",
    "refers to undefined",
    "unsupported compose file version",
    "additional property ",
];

/// Whose fault these words say it is: the host's, unless they are known to be said of recipes only.
pub(crate) fn fault(words: &str) -> Fault {
    let lower = words.to_lowercase();
    if OF_THE_HOST.iter().any(|known| lower.contains(known)) {
        return Fault::Host;
    }
    if OF_THE_RECIPE.iter().any(|known| lower.contains(known)) || names_a_lint_rule(words) {
        return Fault::Recipe;
    }
    // A parser's word names no file: only beside one that is a recipe's.
    if lower.contains("yaml: ") && lower.contains("compose") {
        return Fault::Recipe;
    }
    Fault::Host
}

/// `R014: …`, a rule of abra's lint.
fn names_a_lint_rule(words: &str) -> bool {
    words.split_whitespace().filter_map(|word| word.strip_suffix(':')).any(|word| {
        word.strip_prefix("R0")
            .is_some_and(|rest| rest.len() == 2 && rest.bytes().all(|b| b.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lines: &[(Stream, &str)], redactor: &Redactor) -> String {
        let mut words = StderrTail::default();
        for (stream, text) in lines {
            words.hear(&Line { stream: *stream, text: (*text).to_owned() }, redactor);
        }
        words.tell(redactor)
    }

    #[test]
    fn a_fatal_line_and_what_follows_it_are_told_before_all_else() {
        use Stream::{Stderr, Stdout};
        let none = Redactor::default();
        let lines = [
            (Stderr, "INFO working"),
            (Stdout, "an overview"),
            (Stderr, "FATA <deploy.go:12> secret not generated: key"),
            (Stderr, ""),
            (Stderr, "see the manual"),
        ];
        let expected = "FATA <deploy.go:12> secret not generated: key | see the manual";
        assert_eq!(shown(&lines, &none), expected);
        assert_eq!(shown(&[(Stderr, "one"), (Stderr, "two")], &none), "one | two");
        assert_eq!(shown(&[(Stdout, "only this")], &none), "only this");
        let many: Vec<_> = (0..1000).map(|_| (Stderr, "x")).collect();
        assert_eq!(shown(&many, &none).matches('x').count(), SHOWN);
    }

    #[test]
    fn a_secret_is_taken_out_before_the_line_is_cut() {
        let redactor = Redactor::default();
        redactor.hide("hunter22hunter22");
        for before in [LINE_LIMIT - 4, 0] {
            let text = format!("{}hunter22hunter22 tail", "x".repeat(before));
            let shown = shown(&[(Stream::Stderr, &text)], &redactor);
            assert!(!shown.contains("hunt"), "{shown}");
            assert!(shown.len() <= LINE_LIMIT + '…'.len_utf8());
        }
        let shown = shown(&[(Stream::Stderr, "hunter22\u{1b}[1mhunter22")], &redactor);
        assert_eq!(shown, "[secret]");
    }

    #[test]
    fn control_characters_reach_no_terminal() {
        let text = "\u{1b}[31mFATA\u{1b}[0m a\u{7}b\rc\u{202e}d\u{1b}]0;title\u{9b}1m\u{1b}[";
        let shown = shown(&[(Stream::Stderr, text)], &Redactor::default());
        assert!(shown.starts_with("FATA ab"), "{shown}");
        assert!(!shown.contains('\u{202e}'), "{shown}");
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }

    #[test]
    fn only_what_is_said_of_recipes_alone_is_the_recipes_fault() {
        for recipe in [
            "FATA secret not generated: key",
            "FATA secret not inserted (#generate=false): smtp_password",
            "FATA R014: only annotated tags used for recipe version",
            "FATA invalid interpolation format for services.app.image: \"${X\"",
            "FATA services.app Additional property imagee is not allowed",
            "FATA compose.yml: yaml: line 3: mapping values are not allowed in this context",
        ] {
            assert_eq!(fault(recipe), Fault::Recipe, "{recipe}");
        }
        for host in [
            "",
            "FATA something that nobody knows",
            "FATA r014-ab12cd.ci.example.org has locally unstaged changes? R014 is mentioned",
            "FATA unable to resolve 'swarm.example.org'",
            "FATA yaml: line 3: in abra's own configuration",
            "FATA Cannot connect to the Docker daemon at unix:///x. secret not generated: key",
            "R0142: no rule, xR014: neither, R014 without its colon",
        ] {
            assert_eq!(fault(host), Fault::Host, "{host}");
        }
    }
}
