//! `cc-ci demo` as a new user starts it: it keeps its promises, it says when one is broken, and whatever ends it,
//! it leaves nothing.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use cc_ci_tests::executable;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// The command beside this test's own binary: `target/<profile>/cc-ci`.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.parent().unwrap().parent().unwrap().join("cc-ci");
    assert!(
        binary.is_file(),
        "{} is not there; build it first, in the same profile: cargo build -p cc-ci-cli",
        binary.display()
    );
    binary
}

/// The demo, with no environment but a `PATH` that begins with `first`, and all its files in `place`.
fn demo(place: &TempDir, first: &Path) -> Command {
    let mut path = first.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let mut command = Command::new(binary());
    command.arg("demo").env_clear().env("PATH", path).env("TMPDIR", place.path()).stdin(Stdio::null());
    command
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The processes whose environment names `place`.
fn processes(place: &Path) -> Vec<PathBuf> {
    let place = place.as_os_str().as_encoded_bytes();
    let named = |process: &PathBuf| {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        environment.windows(place.len()).any(|part| part == place)
    };
    entries(Path::new("/proc")).into_iter().filter(named).collect()
}

fn assert_nothing_is_left(place: &TempDir) {
    assert_eq!(entries(place.path()), [] as [PathBuf; 0]);
    assert_eq!(processes(place.path()), [] as [PathBuf; 0]);
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_claim_holds_and_nothing_is_left() {
    let place = tempfile::tempdir().unwrap();
    let output = demo(&place, Path::new("/bin")).args(["--format", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["schema"], "cc-ci.demo/v1");
    let claims = result["claims"].as_array().unwrap();
    assert_eq!(claims.len(), 7);
    assert!(claims.iter().all(|claim| claim["holds"] == true), "{result:#}");
    assert_nothing_is_left(&place);
}

#[test]
fn broken_claims_are_red_and_say_why_and_the_directory_is_kept() {
    let (place, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // The recipe's install steps need sed.
    let sed = tools.path().join("sed");
    executable(&sed, "#!/bin/sh\necho this sed is broken >&2\nexit 1\n");
    let output = demo(&place, tools.path()).output().unwrap();
    let message = text(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for wanted in ["FAIL a release is tested: run: exit status 1", "this sed is broken", "claims failed"] {
        assert!(message.contains(wanted), "{wanted:?} is not in {message}");
    }
    let kept = entries(place.path());
    assert_eq!(kept.len(), 1, "{message}");
    assert!(message.contains(&format!("kept: {}", kept[0].display())), "{message}");
    assert_eq!(processes(place.path()), [] as [PathBuf; 0]);
}

#[test]
fn ended_by_term_while_it_deploys_it_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(ended_at(&place, "-- install", Signal::SIGTERM), Some(143));
    assert_nothing_is_left(&place);
}

#[test]
fn ended_by_int_while_one_run_waits_for_another_it_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(ended_at(&place, "in flight — waiting", Signal::SIGINT), Some(130));
    assert_nothing_is_left(&place);
}

/// A demo that gets `signal` as soon as its progress says `event`; how it exits.
fn ended_at(place: &TempDir, event: &str, signal: Signal) -> Option<i32> {
    let mut demo =
        Killed(demo(place, Path::new("/bin")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut progress = BufReader::new(demo.0.stderr.take().unwrap());
    let mut message = String::new();
    while !message.contains(event) {
        assert_ne!(progress.read_line(&mut message).unwrap(), 0, "the demo ended: {message}");
    }
    kill(Pid::from_raw(demo.0.id().cast_signed()), signal).unwrap();
    progress.read_to_string(&mut message).unwrap();
    let status = demo.0.wait().unwrap();
    assert!(!message.contains("kept: ") && !message.contains("warning: "), "{message}");
    status.code()
}

/// A process that is killed when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Std refuses to signal what it has waited for.
        let _ended = self.0.kill().is_err();
        let _waited = self.0.wait().is_err();
    }
}
