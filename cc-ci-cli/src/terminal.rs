//! stdout for results, stderr for everything else. Neither ever fails a command, and nothing but a result that is due blocks
//! one, for seconds at the most.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cc_ci_core::event::{Event, EventLine, Reporter};
use cc_ci_core::exit::Exit;
use cc_ci_core::output::QueuedWriter;
use cc_ci_core::sys::text::{sanitize, sanitize_json};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::args::{Cli, Colour, Format};
use crate::live::{self, Live, Manner, Shows};
use crate::render::{self, Detail};
use crate::shown::{Shown, indent};
use cc_ci_core::Failure;

/// What is still unwritten when a command ends may take so long.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Whoever reads past runs may take so long.
const AT_LEISURE: Duration = Duration::from_hours(24);

/// Both outputs of the command. Clones share them.
#[derive(Debug, Clone)]
pub struct Terminal {
    out: QueuedWriter,
    err: QueuedWriter,
    /// Whether stdout shows colour.
    pub colour: bool,
    /// How much is told.
    pub detail: Detail,
    format: Format,
    live: Live,
}

impl Terminal {
    /// The outputs of this process.
    pub fn open() -> Self {
        // anstream knows NO_COLOR, CLICOLOR_FORCE, and what is no terminal.
        let colour = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
        let err = QueuedWriter::new("stderr", io::stderr());
        // A program may read the results: no line among them is for people.
        let out = QueuedWriter::beside("stdout", io::stdout(), err.clone());
        Self { colour, ..Self::new(out, err) }
    }

    fn new(out: QueuedWriter, err: QueuedWriter) -> Self {
        let live = Live::new(err.clone());
        Self { out, err, colour: false, detail: Detail::Usual, format: Format::Human, live }
    }

    /// The same outputs in the manner that the flags ask for.
    pub fn as_asked(&self, cli: &Cli) -> Self {
        let settings = &cli.settings;
        let detail = match (settings.quiet, settings.verbose) {
            (true, _) => Detail::Little,
            (false, true) => Detail::All,
            (false, false) => Detail::Usual,
        };
        let colour = match settings.color {
            Colour::Auto => self.colour,
            Colour::Always => true,
            Colour::Never => false,
        };
        Self { colour, detail, format: cli.format(), ..self.clone() }
    }

    /// Shows what goes on until what is given back is dropped. Whoever reads results by program reads no progress.
    pub fn show_progress(&self) -> Shows {
        let is_asked = self.format == Format::Human && self.detail != Detail::Little;
        self.live.show(if is_asked { live::manner() } else { Manner::Silent })
    }

    /// Text of the result, for people.
    pub fn result(&self, text: impl Into<Shown>) {
        // However many lines wait before it: it is what the command was called for.
        self.out.write_within(text.into().into_text(), CLOSE_LIMIT);
    }

    /// Text of the result in the place of what was shown before; below it, where that is no terminal.
    pub fn screen(&self, text: impl Into<Shown>) {
        use io::IsTerminal as _;
        let clear = if io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        self.out.write(clear.to_owned() + &text.into().into_text());
    }

    /// A result as JSON. What a terminal would obey is escaped in it.
    pub fn json(&self, value: &impl Serialize) {
        let text = match self.format {
            Format::Human | Format::Json => json_text(value),
            Format::Ndjson => json_line(value),
        };
        match text {
            Ok(text) => self.out.write_within(text, CLOSE_LIMIT),
            Err(error) => self.progress(format!("error: can't write the result as JSON: {error}\n")),
        }
    }

    /// An event as JSON; none where too many wait already.
    fn json_event(&self, event: &Event) {
        match json_line(&EventLine::new(Timestamp::now(), event)) {
            Ok(line) => self.out.write(line),
            Err(error) => self.progress(format!("error: can't write an event as JSON: {error}\n")),
        }
    }

    /// Text beside the result. It has no colour, and whatever it quotes moves nothing on a terminal.
    pub fn progress(&self, text: impl AsRef<str>) {
        self.live.beside(|| self.err.write(sanitize(text.as_ref())));
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

    /// The same as the result, where that is read by a program.
    pub fn error_result(&self, failure: &Failure, exit: Exit) {
        if self.format != Format::Human {
            self.json(&error_document(failure, exit));
        }
    }

    /// Refused arguments, as clap tells them.
    pub fn usage_error(&self, text: &str) {
        self.progress(text);
        if self.format != Format::Human {
            self.json(&usage_document(text));
        }
    }

    /// The same outputs, with results in `format`.
    pub fn in_format(&self, format: Format) -> Self {
        Self { format, ..self.clone() }
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
    /// the process, and its locks. What goes on is not cleared away for it: whoever panicked may hold that.
    pub fn tell_panics(&self) {
        let terminal = self.clone();
        std::panic::set_hook(Box::new(move |panic| {
            terminal.err.write(sanitize(&format!("error: cc-ci {panic}\n")));
        }));
    }

    /// What is queued is written, within a bound of seconds: a stuck pipe must not keep the process.
    pub fn close(&self) {
        let until = Instant::now() + CLOSE_LIMIT;
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
        self.live.note(event);
        if self.format == Format::Ndjson {
            self.json_event(event);
        }
        if let Event::Asked { children } = event {
            self.progress(render::answer(self.live.line(), children));
        } else if let Some(lines) = render::event(event, self.detail) {
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
    let causes = causes(failure);
    if !causes.is_empty() {
        text.push_str("Caused by:\n");
    }
    for cause in causes {
        let _ = writeln!(text, "    {}", indent(&cause));
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

/// What lies beneath an error, the nearest first.
fn causes(failure: &Failure) -> Vec<String> {
    let (mut causes, mut source) = (Vec::new(), failure.source());
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    causes
}

/// An error as a program reads it: what a command that it ended has in the place of its result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorResult {
    /// What went wrong.
    error: String,
    /// Why, from the outermost cause to the first.
    causes: Vec<String>,
    /// What helps.
    hint: Option<String>,
    /// How the command exits.
    exit_code: u8,
}

impl ErrorResult {
    fn document(self) -> Document<Self> {
        Document { schema: "cc-ci.error/v1", content: self }
    }
}

pub fn error_document(failure: &Failure, exit: Exit) -> Document<ErrorResult> {
    let hint = failure.hint().map(str::to_owned);
    let (error, causes) = (failure.to_string(), causes(failure));
    ErrorResult { error, causes, hint, exit_code: exit.code() }.document()
}

fn usage_document(text: &str) -> Document<ErrorResult> {
    let error = text.trim().strip_prefix("error: ").unwrap_or(text.trim()).to_owned();
    ErrorResult { error, causes: Vec::new(), hint: None, exit_code: Exit::Usage.code() }.document()
}

/// Returns `value` as harmless JSON, in one line.
fn json_line(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(sanitize_json(&serde_json::to_string(value)?) + "\n")
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
        let err = QueuedWriter::new("test", pipe);
        let out = QueuedWriter::new("test", io::sink());
        let text = "one\r\ntwo\t\u{1b}[2J\u{9b}1m\u{202e}\u{7} ü".to_owned();
        let terminal = Terminal::new(out, err);
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
        let err = QueuedWriter::new("test", pipe);
        let out = QueuedWriter::new("test", io::sink());
        let before = std::panic::take_hook();
        Terminal::new(out, err).tell_panics();
        let panicked = std::panic::catch_unwind(|| std::panic::panic_any("in the middle"));
        // With the hook goes the last writer.
        std::panic::set_hook(before);
        assert!(panicked.is_err());
        let mut told = String::new();
        reader.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("error: cc-ci panicked at") && told.contains("in the middle"), "{told}");
    }
}
