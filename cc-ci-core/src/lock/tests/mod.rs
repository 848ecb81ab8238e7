//! Tests of the locks as a whole, with real files, processes and signals; what belongs to one file is tested there.

mod broken;
mod left_clean;
mod looking;
mod rules;
mod waiting;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use super::conformance::{CASES, run_all};
use super::{AppGuard, AppLock, FlockLocks, MemoryLocks};
use crate::names::Domain;
use crate::sys::system_info::KernelSystemInfo;

fn space() -> (TempDir, FlockLocks) {
    let directory = tempfile::tempdir().unwrap();
    let locks = FlockLocks::new(directory.path(), Arc::new(KernelSystemInfo::new().unwrap()));
    (directory, locks)
}

fn domain() -> Domain {
    "note-012345.ci.example.org".parse().unwrap()
}

fn take(locks: &FlockLocks) -> AppGuard {
    locks.try_acquire(&domain()).unwrap().expect("the lock is free")
}

/// Another process that holds the lock through flock(1) until it is told to end or is killed.
struct Holder(Child);

impl Holder {
    fn of(path: &Path) -> Self {
        Self::run(Command::new("flock").arg("--no-fork").arg(path).args(["sh", "-c", "echo held; exec cat"]))
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut message = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut message).unwrap();
        assert_eq!(message, "held\n");
        Self(child)
    }

    fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn the_kernels_locks_keep_every_promise() {
    let (_directory, locks) = space();
    run_all(Arc::new(locks)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_kernels_locks_keep_every_promise_on_many_threads() {
    let (_directory, locks) = space();
    run_all(Arc::new(locks)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_locks_in_memory_keep_every_promise() {
    run_all(Arc::new(MemoryLocks::new())).await;
}

#[test]
fn no_promise_has_two_names() {
    let names: std::collections::BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), CASES.len());
}
