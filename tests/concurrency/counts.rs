//! How often a command does what costs most, however much there is to do. It counts; it measures no time.

use std::fs;

use cc_ci_tests::{Ended, World};
use nix::sys::signal::Signal;

const SCAN: &str = "all of /proc is searched for marks";
const RECORDS: &str = "the records of all runs are read";

/// How often all of `/proc` was searched, and all records read.
fn counts(end: &Ended) -> (usize, usize) {
    let count = |what| end.stderr.lines().filter(|line| line.contains(what)).count();
    (count(SCAN), count(RECORDS))
}

fn pass(world: &World) -> (usize, usize) {
    counts(&world.cc_ci(["janitor"]).env("CCCI_LOG", "cc_ci_core=debug").run().expect(0))
}

/// The same of a janitor that may have so many files open: at first, and if it asks for more.
fn limited_pass(world: &World, files: &str) -> (usize, usize) {
    let janitor = world.cc_ci(["janitor"]).env("CCCI_LOG", "cc_ci_core=debug");
    counts(&janitor.inside(&["prlimit", &format!("--nofile={files}")]).run().expect(0))
}

#[test]
fn free_lock_files_are_looked_at_together_and_each_is_gone_after_one_pass() {
    let world = World::new();
    // The local executor looks for marks as well: two scans make one look. A batch has 256 files, and more where more files
    // may be open.
    let few = "1024:1024";
    let cases = [(1, few, 1), (256, few, 1), (257, few, 2), (700, few, 3), (700, "1024:4096", 1)];
    for (files, limit, batches) in cases {
        for number in 0..files {
            fs::write(world.lock_file(&world.domain("free", number)), "").unwrap();
        }
        assert_eq!(limited_pass(&world, limit), (2 + 2 * batches, 1 + 2 * batches), "{files} lock files");
        assert_eq!(fs::read_dir(world.locks()).unwrap().count(), 0, "{files} lock files");
    }
    world.assert_empty();
}

#[test]
fn orphans_are_looked_at_together() {
    let world = World::new();
    let servers = world.path().join("local/servers/local");
    fs::create_dir_all(&servers).unwrap();
    for orphans in [1, 40, 128] {
        for number in 0..orphans {
            fs::write(servers.join(format!("{}.env", world.domain("dead", number))), "TYPE=x\n").unwrap();
        }
        let (scans, records) = pass(&world);
        // Candidates, before, after: two scans each; two to end marked processes; and the local executor looks for those of
        // all apps that it removes, again for those that ask when it has begun. Records are read for these three, for live
        // owners, for dead trees, and for the results of killed runs.
        let shared = 1..=1 + usize::try_from(orphans).unwrap() / 4;
        assert!(shared.contains(&(scans - (3 * 2 + 2))), "{scans} scans for {orphans} orphans");
        assert_eq!(records, 6, "{orphans} orphans");
        assert_eq!(fs::read_dir(&servers).unwrap().count(), 0);
    }
    world.assert_empty();
}

/// Whether this is an administrator of the host itself, not of a namespace of users.
fn may_leave_a_word() -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    let users = fs::read_to_string("/proc/self/uid_map").unwrap();
    u64::from_str_radix(effective, 16).unwrap() & SYS_ADMIN != 0
        && users.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[test]
fn a_command_under_a_lock_looks_for_what_a_dead_owner_left_unless_the_one_before_left_nothing() {
    let world = World::new();
    let domain = world.domain("own", 1);
    let with_lock =
        || world.cc_ci(["with-lock", domain.as_str(), "--", "true"]).env("CCCI_LOG", "cc_ci_core=debug");
    let searches = |end: &Ended| counts(end).0;
    assert_eq!(searches(&with_lock().run().expect(0)), 2, "nobody was there before");
    let told = if may_leave_a_word() { 0 } else { 2 };
    assert_eq!(searches(&with_lock().run().expect(0)), told);
    let gate = world.gate("killed");
    let killed = world.cc_ci(["with-lock", domain.as_str(), "--", "sh", "-c", &gate.script()]).start();
    gate.wait();
    killed.signal(Signal::SIGKILL);
    killed.wait().expect(137);
    assert_eq!(searches(&with_lock().run().expect(0)), 2, "who was killed leaves no word");
    assert_eq!(searches(&with_lock().run().expect(0)), told);
}
