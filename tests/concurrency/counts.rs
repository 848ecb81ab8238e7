//! How often a command does what costs most, however much there is to do. It counts; it measures no time.

use std::fs;

use cc_ci_tests::{Ended, World};

const SCAN: &str = "all of /proc is searched for marks";
const RECORDS: &str = "the records of all runs are read";

/// How often all of `/proc` was searched, and all records read.
fn counts(end: &Ended) -> (usize, usize) {
    let count = |what| end.stderr.lines().filter(|line| line.contains(what)).count();
    (count(SCAN), count(RECORDS))
}

fn pass(world: &World) -> (usize, usize) {
    let end = world.cc_ci(["janitor"]).env("CCCI_LOG", "cc_ci_core=debug").run().expect(0);
    counts(&end)
}

#[test]
fn free_lock_files_are_looked_at_together_and_each_is_gone_after_one_pass() {
    let world = World::new();
    // The local executor looks for marks as well: two scans make one look. A batch has 256 files.
    for (files, batches) in [(1, 1), (256, 1), (257, 2), (700, 3)] {
        for number in 0..files {
            fs::write(world.lock_file(&world.domain("free", number)), "").unwrap();
        }
        assert_eq!(pass(&world), (2 + 2 * batches, 1 + 2 * batches), "{files} lock files");
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
        // each app that it removes. Records are read for these three, for live owners, for dead trees, and for the results of
        // killed runs.
        assert_eq!((scans, records), (3 * 2 + 2 + usize::try_from(orphans).unwrap(), 6), "{orphans} orphans");
        assert_eq!(fs::read_dir(&servers).unwrap().count(), 0);
    }
    world.assert_empty();
}

#[test]
fn a_command_under_a_lock_looks_for_what_a_dead_owner_left_and_for_what_it_leaves_itself() {
    let world = World::new();
    let domain = world.domain("own", 1);
    let end = world
        .cc_ci(["with-lock", domain.as_str(), "--", "true"])
        .env("CCCI_LOG", "cc_ci_core=debug")
        .run()
        .expect(0);
    assert_eq!(counts(&end), (4, 0));
}
