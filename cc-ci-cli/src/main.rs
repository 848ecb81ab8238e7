//! The `cc-ci` command: tests Co-op Cloud recipes, leaves nothing behind and touches nothing else.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests make what they look at"))]

mod app;
mod args;
mod commands;
mod config;
mod engine;
mod foreground;
mod live;
mod overtime;
mod render;
mod shown;
#[cfg(test)]
mod snapshots;
mod spelling;
mod terminal;

use std::process::ExitCode;

use args::Invocation;
use cc_ci_core::Failure;
use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::{ProcessMode, TakeOverError};
use terminal::Terminal;

fn main() -> ExitCode {
    #[cfg(feature = "demo")]
    if commands::demo::is_note_keeper() {
        return note_keeper::main_from_args(std::env::args_os());
    }
    if args::complete(std::env::args_os()) {
        return Exit::Green.into();
    }
    if commands::bridge::is_asked() {
        return bridge();
    }
    // Before any thread exists: from here on signals wait until somebody listens.
    let taken = ProcessMode::take_over();
    let Ok(terminal) = Terminal::open() else { return Exit::Harness.into() };
    let exit = match args::parse(std::env::args_os()) {
        Ok(Invocation::Help(text)) => {
            terminal.result(text);
            Exit::Green
        }
        Ok(Invocation::Command(command)) => match taken {
            Ok(taken) => {
                let terminal = terminal.as_asked(&command.settings);
                commands::dispatch(*command, taken, &terminal)
            }
            Err(error) => {
                let hint = matches!(error, TakeOverError::NoBootId(_)).then_some(
                    "let cc-ci see all of /proc: no subset=pid, in a systemd unit no ProcSubset=pid",
                );
                let failure = Failure::host("can't take the process over").with_source(error);
                terminal.error(&failure.with_any_hint(hint));
                Exit::Harness
            }
        },
        Err(text) => {
            terminal.in_format(args::format_of(std::env::args_os())).usage_error(&text);
            Exit::Usage
        }
    };
    terminal.close();
    exit.into()
}

/// Becomes `cc-ci-bridge`, or says why not.
fn bridge() -> ExitCode {
    let failure = commands::bridge::execute();
    let Ok(terminal) = Terminal::open() else { return Exit::Harness.into() };
    terminal.error(&failure);
    terminal.close();
    Exit::from(failure.fault()).into()
}
