//! The word that a holder leaves for the next one.

use std::fs;
use std::process::Command;

use rustix::fs::{XattrFlags, setxattr};

use super::{domain, space, take};
use crate::lock::{AppGuard, AppLock as _, Description, FlockLocks, Wait};
use crate::model::cancellation::Cancellation;
use crate::model::event::Silent;

async fn acquire(locks: &FlockLocks) -> AppGuard {
    locks.acquire(&domain(), Wait::No, &Cancellation::new(), &Silent).await.unwrap()
}

/// A space where the last holder has left its word; none where this user can't leave one.
async fn left_clean() -> Option<(tempfile::TempDir, FlockLocks)> {
    let (directory, locks) = space();
    let first = acquire(&locks).await;
    assert!(!first.was_left_clean(), "there was nobody before");
    first.leave_clean();
    drop(first);
    let path = locks.path(&domain());
    if setxattr(&path, "trusted.cc-ci.test", b"", XattrFlags::empty()).is_err() {
        println!("skipped: only root of the host can leave a word");
        assert!(!acquire(&locks).await.was_left_clean());
        return None;
    }
    Some((directory, locks))
}

#[tokio::test]
async fn a_holders_word_is_for_the_next_one_and_for_nobody_after_it() {
    let Some((_directory, locks)) = left_clean().await else { return };
    let next = acquire(&locks).await;
    assert!(next.was_left_clean());
    // As one that is killed: it leaves none.
    drop(next);
    assert!(!acquire(&locks).await.was_left_clean());
}

#[tokio::test]
async fn a_word_says_nothing_once_somebody_else_wrote_into_the_file() {
    let Some((_directory, locks)) = left_clean().await else { return };
    // A janitor that looked and let go, or a cc-ci that knows of no word.
    let other = take(&locks);
    other.describe(&Description { run_id: None, recipe: None, phase: "other".to_owned() });
    drop(other);
    assert!(!acquire(&locks).await.was_left_clean());

    let Some((_directory, locks)) = left_clean().await else { return };
    fs::write(locks.path(&domain()), "").unwrap();
    assert!(!acquire(&locks).await.was_left_clean());
}

#[tokio::test]
async fn who_may_write_to_the_file_can_leave_no_word() {
    let Some((directory, locks)) = left_clean().await else { return };
    let path = locks.path(&domain());
    drop(acquire(&locks).await);
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    fs::set_permissions(directory.path(), mode(0o777)).unwrap();
    fs::set_permissions(&path, mode(0o666)).unwrap();
    let script = "import os, sys; os.setxattr(sys.argv[1], 'trusted.cc-ci.left-clean', open(sys.argv[1], 'rb').read())";
    let leaves = |user: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(user).args(["python3", "-c", script]).arg(&path);
        command.output().unwrap().status.success()
    };
    let ordinary = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    if !leaves(&[]) {
        println!("skipped: no python3");
        return;
    }
    assert!(acquire(&locks).await.was_left_clean());
    assert!(!leaves(&ordinary));
    assert!(!acquire(&locks).await.was_left_clean());
}
