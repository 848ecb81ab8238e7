//! The `cc-ci` command: tests Co-op Cloud recipes, leaves nothing behind and touches nothing else.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests make what they look at"))]

mod app;
mod args;
mod commands;
mod config;
mod engine;
mod foreground;
#[cfg(test)]
mod help_snapshots;
mod live;
mod overtime;
#[cfg(test)]
mod picture;
mod render;
#[cfg(test)]
mod run_snapshots;
mod shown;
#[cfg(test)]
mod snapshots;
mod terminal;

use std::io::Write as _;
use std::process::ExitCode;

use args::Invocation;
use cc_ci_core::Failure;
use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::{ProcessMode, TakeOverError};
use cc_ci_core::sys::text::sanitize;
use terminal::Terminal;

fn main() -> ExitCode {
    #[cfg(feature = "demo")]
    if commands::demo::is_note_keeper() {
        return note_keeper::main_from_args(std::env::args_os());
    }
    match args::complete(std::env::args_os()) {
        None => {}
        Some(Ok(())) => return Exit::Green.into(),
        Some(Err(text)) => {
            let _gone = std::io::stderr().write_all(sanitize(&text).as_bytes()).is_err();
            return Exit::Usage.into();
        }
    }
    if commands::bridge::is_asked() {
        return bridge();
    }
    // Before any thread exists: from here on signals wait until somebody listens.
    let taken = ProcessMode::take_over();
    let terminal = Terminal::open();
    let exit = match args::parse(std::env::args_os()) {
        Ok(Invocation::Help(text)) => {
            // It holds nothing: a pager takes its time, and any signal ends it.
            let is_free = taken.is_ok_and(|taken| taken.give_back().is_ok());
            terminal.result(text);
            if is_free {
                terminal.wait_for_reader();
            }
            Exit::Green
        }
        Ok(Invocation::Command(command)) => {
            let terminal = terminal.as_asked(&command);
            match taken {
                Ok(taken) => commands::dispatch(*command, taken, &terminal),
                Err(error) => {
                    let failure = not_taken(error);
                    terminal.error(&failure);
                    terminal.error_result(&failure, Exit::Harness);
                    Exit::Harness
                }
            }
        }
        Err(text) => {
            terminal.in_format(args::format_of(std::env::args_os())).usage_error(&text);
            Exit::Usage
        }
    };
    terminal.close();
    exit.into()
}

fn not_taken(error: TakeOverError) -> Failure {
    let hint = match &error {
        TakeOverError::NoBootId(_) => {
            Some("let cc-ci see all of /proc: no subset=pid, in a systemd unit no ProcSubset=pid")
        }
        error => app::thread_hint(error),
    };
    Failure::host("can't take the process over").with_any_hint(hint).with_source(error)
}

/// Becomes `cc-ci-bridge`, or says why not.
fn bridge() -> ExitCode {
    let failure = commands::bridge::execute();
    let terminal = Terminal::open();
    terminal.error(&failure);
    terminal.close();
    Exit::from(failure.fault()).into()
}
