//! stdout for results, stderr for everything else; neither ever blocks or fails a command.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cc_ci_core::event::{Event, Reporter};
use cc_ci_core::output::QueuedWriter;
use cc_ci_core::sys::text::{sanitize, sanitize_json};
use schemars::JsonSchema;
use serde::Serialize;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::render;
use crate::shown::{Shown, indent};
use cc_ci_core::Failure;

/// What is still unwritten when a command ends may take so long.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Whoever reads past runs may take so long.
const AT_LEISURE: Duration = Duration::from_hours(24);

/// Both outputs of the command. Clones share them.
#[derive(Debug, Clone)]
pub struct Terminal {
    out: QueuedWriter,
    err: QueuedWriter,
    /// Whether stdout shows colour.
    pub colour: bool,
}

impl Terminal {
    /// Starts the writers.
    pub fn open() -> io::Result<Self> {
        // anstream knows NO_COLOR, CLICOLOR_FORCE, and what is no terminal.
        let colour = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
        Ok(Self {
            out: QueuedWriter::start("stdout", io::stdout())?,
            err: QueuedWriter::start("stderr", io::stderr())?,
            colour,
        })
    }

    /// Text of the result, for people.
    pub fn result(&self, text: impl Into<Shown>) {
        self.out.write(text.into().into_text());
    }

    /// A result as JSON. What a terminal would obey is escaped in it.
    pub fn json(&self, value: &impl Serialize) {
        match json_text(value) {
            Ok(text) => self.out.write(text),
            Err(error) => self.progress(format!("error: can't write the result as JSON: {error}\n")),
        }
    }

    /// Text beside the result. It has no colour, and whatever it quotes moves nothing on a terminal.
    pub fn progress(&self, text: impl AsRef<str>) {
        self.err.write(sanitize(text.as_ref()));
    }

    /// What is worth knowing beside the result.
    pub fn warn(&self, warning: impl std::fmt::Display) {
        self.progress(format!("warning: {}\n", indent(&warning.to_string())));
    }

    /// What may help.
    pub fn hint(&self, hint: &str) {
        self.progress(hint_text(hint));
    }

    /// An error that ends the command.
    pub fn error(&self, failure: &Failure) {
        self.progress(error_text(failure));
    }

    /// Where diagnostics of the libraries go.
    pub fn log(&self) {
        let asked = std::env::var("CCCI_LOG").ok().and_then(|asked| asked.parse().ok());
        let filter = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(move || Log(writer.clone()))
            .finish()
            .with(filter);
        if tracing::subscriber::set_global_default(subscriber).is_err() {
            self.warn("diagnostics go elsewhere already");
        }
    }

    /// Tells panics like everything else: the usual hook writes to stderr itself, where a stuck reader would keep
    /// the process, and its locks.
    pub fn tell_panics(&self) {
        let terminal = self.clone();
        std::panic::set_hook(Box::new(move |panic| terminal.progress(format!("error: cc-ci {panic}\n"))));
    }

    /// The last words, within a bound of seconds: a stuck pipe must not keep the process.
    pub fn close(&self) {
        let until = Instant::now() + LAST_WORDS;
        // The result first: a reader of stderr that is stuck must not cost it.
        for writer in [&self.out, &self.err] {
            // A reader that is gone or stuck has lost them; there is nobody to tell.
            let _written = writer.flush(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Waits until the result is read, or nobody is there to read it: for a command that holds nothing.
    pub fn wait_for_reader(&self) {
        let _read = self.out.flush(AT_LEISURE);
    }

    /// A reporter that tells events to people.
    pub fn reporter(&self) -> Arc<dyn Reporter> {
        Arc::new(self.clone())
    }
}

impl Reporter for Terminal {
    fn report(&self, event: &Event) {
        if let Some(lines) = render::event(event) {
            self.progress(lines);
        }
    }
}

/// Lines of diagnostics, on their way to stderr.
struct Log(Terminal);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.progress(String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error, what lies beneath it, and what helps.
pub fn error_text(failure: &Failure) -> String {
    let mut text = format!("error: {}\n", indent(&failure.to_string()));
    let mut source = failure.source();
    if source.is_some() {
        text.push_str("Caused by:\n");
    }
    while let Some(cause) = source {
        let _ = writeln!(text, "    {}", indent(&cause.to_string()));
        source = cause.source();
    }
    failure.hint().map(hint_text).into_iter().fold(text, |text, hint| text + &hint)
}

fn hint_text(hint: &str) -> String {
    format!("\nhint: {}\n", indent(hint))
}

/// A result that says its own form.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Document<T> {
    pub schema: &'static str,
    #[serde(flatten)]
    pub content: T,
}

/// Returns `value` as harmless JSON, in lines.
pub fn json_text(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(sanitize_json(&serde_json::to_string_pretty(value)?) + "\n")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_an_app_says_reaches_no_terminal_as_an_order() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let err = QueuedWriter::start("test", pipe).unwrap();
        let out = QueuedWriter::start("test", io::sink()).unwrap();
        let text = "one\r\ntwo\t\u{1b}[2J\u{9b}1m\u{202e}\u{7} ü".to_owned();
        let terminal = Terminal { out, err, colour: true };
        terminal.report(&Event::Output { of: "a\u{1b}c".to_owned(), text: text.clone() });
        terminal.report(&Event::Warning { text });
        drop(terminal);
        let mut told = String::new();
        reader.read_to_string(&mut told).unwrap();
        let message = r"one
      two\u{9}\u{1b}[2J\u{9b}1m\u{202e}\u{7} ü";
        assert_eq!(
            told,
            format!("   the end of the output of a\\u{{1b}}c:\n      {message}\nwarning: {message}\n")
        );
    }

    #[test]
    fn a_panic_is_told_by_the_writer_that_never_blocks() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let err = QueuedWriter::start("test", pipe).unwrap();
        let out = QueuedWriter::start("test", io::sink()).unwrap();
        let before = std::panic::take_hook();
        Terminal { out, err, colour: false }.tell_panics();
        let panicked = std::panic::catch_unwind(|| std::panic::panic_any("in the middle"));
        // With the hook goes the last writer.
        std::panic::set_hook(before);
        assert!(panicked.is_err());
        let mut told = String::new();
        reader.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("error: cc-ci panicked at") && told.contains("in the middle"), "{told}");
    }
}
