//! `cc-ci demo`: every promise, on a small example.

use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::TakenOver;

use crate::args;
use crate::error::CliError;
use crate::terminal::Terminal;

/// The example app is this same binary, under another name.
pub fn is_note_keeper() -> bool {
    std::env::args_os()
        .next()
        .is_some_and(|name| std::path::Path::new(&name).file_name().is_some_and(|name| name == "note-keeper"))
}

pub fn demo(
    _args: &args::Demo,
    _settings: &args::Settings,
    _taken: TakenOver,
    _terminal: &Terminal,
) -> Result<Exit, CliError> {
    Err(CliError::harness("not yet"))
}
