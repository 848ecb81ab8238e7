//! Mounts for tests.

use std::path::Path;
use std::process::Command;

/// Runs the test `name`, a whole path, again in a mount namespace of its own, where it may mount; gives whether this is that run.
pub(crate) fn alone(name: &str) -> bool {
    const INNER: &str = "CCCI_TEST_MOUNTS";
    if std::env::var_os(INNER).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let probe = Command::new("unshare").args(["--map-root-user", "--mount", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        println!("skipped: no mount namespaces here");
        return false;
    }
    let exe = std::env::current_exe().unwrap();
    // What it mounts goes with its namespace, and only then can what is beneath be removed.
    let tmp = tempfile::tempdir().unwrap();
    let output = command
        .args(["--mount", "--propagation", "private"])
        .arg(exe)
        .args(["--exact", name, "--nocapture"])
        .env(INNER, "1")
        .env("TMPDIR", tmp.path())
        .output()
        .unwrap();
    tmp.close().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
    false
}

pub(crate) fn mount(args: &[&str], source: &Path, at: &Path) {
    assert!(Command::new("mount").args(args).arg(source).arg(at).status().unwrap().success());
}

pub(crate) fn unmount(at: &Path) {
    assert!(Command::new("umount").arg(at).status().unwrap().success());
}
