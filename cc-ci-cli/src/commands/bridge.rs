//! `cc-ci bridge`: this process becomes `cc-ci-bridge`, where that is installed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use cc_ci_core::Failure;

/// The program.
const PROGRAM: &str = "cc-ci-bridge";

/// Whether it is asked for: before anything else of the call, since whoever is executed inherits what is taken over.
pub fn is_asked() -> bool {
    std::env::args_os().nth(1).is_some_and(|command| command == "bridge")
}

/// Executes the program with the rest of the call. It returns only where it could not.
pub fn execute() -> Failure {
    // Beside this one, as both are installed; else wherever the PATH has it.
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    let program = beside.filter(|beside| beside.is_file()).unwrap_or_else(|| PathBuf::from(PROGRAM));
    let args: Vec<OsString> = std::env::args_os().skip(2).collect();
    let error = Command::new(program).args(args).exec();
    Failure::configuration(format!("can't execute {PROGRAM}"))
        .with_source(error)
        .with_hint("install it beside cc-ci, as docs/bridge.md says")
}

/// A call in which something comes before it.
pub fn misplaced() -> Failure {
    Failure::configuration("`bridge` is not the first word of the call")
        .with_hint("cc-ci bridge serve --config FILE: what follows it is for cc-ci-bridge")
}
