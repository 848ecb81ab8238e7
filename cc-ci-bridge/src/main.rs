//! The `cc-ci-bridge` command.

mod args;
mod commands;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return terminal::usage(&error),
    };
    terminal::log();
    match commands::dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            terminal::error(&failure);
            cc_ci_core::exit::Exit::from(failure.fault()).into()
        }
    }
}
