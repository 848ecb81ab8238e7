//! The one place that writes to stdout and stderr. A reader that went away never fails the app.

use std::error::Error;
use std::io::{self, Write as _};

/// Writes an error with its causes to stderr, on one line.
pub(crate) fn complain(error: &dyn Error) {
    let mut line = format!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    say(&line);
}

/// Names the command that helps.
pub(crate) fn hint(command: &str) {
    say(&format!("hint: {command}"));
}

/// Writes one line to stderr.
pub(crate) fn say(line: &str) {
    drop(io::stderr().lock().write_all(format!("{line}\n").as_bytes()));
}

/// Writes what was asked for to stdout.
pub(crate) fn answer(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    if !text.is_empty() && !text.ends_with(b"\n") {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}
