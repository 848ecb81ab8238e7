//! The note keeper as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    note_keeper::main_from_args(std::env::args_os())
}
