//! What people see: results on stdout, everything else on stderr. A reader that is gone changes nothing.

use std::io::Write as _;
use std::process::ExitCode;

use cc_ci_core::Failure;
use cc_ci_core::exit::Exit;
use cc_ci_core::model::error_chain;
use cc_ci_core::sys::text::{sanitize, sanitize_line};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;

/// A result.
pub fn result(text: &str) {
    // There is nobody to tell that nobody reads it.
    let _written = std::io::stdout().write_all(sanitize(text).as_bytes());
}

/// Anything else.
pub fn progress(text: &str) {
    let _written = std::io::stderr().write_all(sanitize(text).as_bytes());
}

/// Help, or what is wrong with the call.
pub fn usage(error: &clap::Error) -> ExitCode {
    // As above.
    let _written = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Green.into() }
}

/// An error that ends the command.
pub fn error(failure: &Failure) {
    let source = std::error::Error::source(failure).map(error_chain);
    let cause = source.map_or(String::new(), |source| format!("Caused by: {}\n", sanitize_line(&source)));
    let hint = failure.hint().map_or(String::new(), |hint| format!("\nhint: {}\n", sanitize_line(hint)));
    let text = format!("error: {}\n{cause}{hint}", sanitize_line(&failure.to_string()));
    progress(&text);
}

/// A line of the log can't begin another one.
struct Line;

impl std::io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        progress(&format!("{}\n", sanitize_line(text.trim_end())));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Where the log goes: to stderr, from warnings on unless `CCCI_LOG` says otherwise.
pub fn log() {
    let asked = std::env::var("CCCI_LOG").ok().and_then(|asked| asked.parse().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_writer(|| Line)
        .finish()
        .with(filter);
    // Nobody else has set one.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
