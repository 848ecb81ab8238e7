//! What is read of a line.

use super::*;

#[test]
fn the_arguments_are_consistent() {
    command().debug_assert();
}

/// What is read by the command alone that a line begins with is read, refused and told as by all of them.
#[test]
fn a_line_is_read_by_its_command_as_by_all_of_them() {
    let rests: [&[&str]; 12] = [
        &[],
        &["--help"],
        &["-h"],
        &["--version"],
        &["--strange"],
        &["x"],
        &["--config", "/x", "--format", "json"],
        &["a.example.org", "--", "true", "--help"],
        &["run", "--help"],
        &["show"],
        &["check", "x", "--sarif", "--strange"],
        &["reconcile", "--dry-run", "--lock-dir", "relative"],
    ];
    let all = command();
    let told = |cli: Result<Cli, clap::Error>| match cli {
        Ok(cli) => format!("{cli:?}"),
        Err(error) => format!("{} {}", error.exit_code(), error.render()),
    };
    let mut read = 0;
    for name in all.get_subcommands().map(clap::Command::get_name).chain(["jantor", "--config"]) {
        for rest in rests {
            let line: Vec<OsString> = ["cc-ci", name].iter().chain(rest).map(OsString::from).collect();
            let by_all = read_by(command(), line.clone());
            read += usize::from(by_all.is_ok());
            assert_eq!(told(read_by(command_of(&line), line.clone())), told(by_all), "{line:?}");
        }
    }
    assert!(read > 30, "nearly all lines are refused, {read} were read");
}
