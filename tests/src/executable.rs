//! Programs that a test writes and something else executes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes an executable at `path`, in place of what may be there.
///
/// Another process writes it: a child of this one that another test has just forked would have a copy of the open file
/// until it executes, and a file that is open for writing can't be executed.
///
/// # Panics
/// When it can't be written.
#[track_caller]
pub fn executable(path: &Path, text: &str) {
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("install can be started");
    let mut pipe = install.stdin.take().expect("a pipe");
    pipe.write_all(text.as_bytes()).expect("install reads");
    drop(pipe);
    assert!(install.wait().expect("install ends").success(), "{} can't be written", path.display());
}
