//! What behaves as abra where abra can't be: see [`cc_ci_tests::stand_in`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cc_ci_tests::stand_in::main(std::env::args().skip(1).collect()))
}
