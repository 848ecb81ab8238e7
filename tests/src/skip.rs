//! Skips that are seen: libtest knows none at run time, so each is a line in a file that the run script counts.

use std::fs::OpenOptions;
use std::io::Write as _;

/// The file that skips are written to, one a line.
const SKIPS: &str = "CCCI_TEST_SKIPS";

/// Says that `test` is skipped, and why. The test returns right after.
pub fn skip(test: &str, why: &str) {
    let line = format!("{test}: {why}\n");
    eprint!("SKIPPED {line}");
    if let Some(path) = std::env::var_os(SKIPS) {
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a skip must be seen");
    }
}

/// Whether this process is root; a skip is written where it is not.
#[must_use]
pub fn require_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip(test, "needs root");
    }
    root
}
