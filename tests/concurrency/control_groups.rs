//! Control groups that dead owners have left are found and removed, and no other ones.

use std::fs;
use std::path::Path;

use cc_ci_core::process::ProcessIdentity;
use cc_ci_core::system_info::BootId;
use cc_ci_tests::{World, skip};
use serde_json::Value;

use crate::janitor::{decision, pass};

#[test]
fn a_control_group_of_a_dead_owner_is_residue_and_one_that_stays_keeps_no_other() {
    let test = "a_control_group_of_a_dead_owner_is_residue_and_one_that_stays_keeps_no_other";
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount =
        mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    let Some(mount) = mount else { return skip(test, "cgroup v2 is not mounted") };
    let world = World::new();
    let own = ProcessIdentity::current(BootId::current().unwrap()).unwrap();
    let name = |start: u64, number| {
        let domain = world.domain("group", number);
        Path::new(mount).join(format!("cc-ci-sandbox.{}-{start}-1.{domain}", own.pid))
    };
    // Nobody with this pid began then.
    let dead = own.start_time + 1;
    let (left, busy, live) = (name(dead, 1), name(dead, 2), name(own.start_time, 3));
    if let Err(error) = fs::create_dir(&left) {
        return skip(test, &error.to_string());
    }
    // With another one in it, a group can't be removed.
    let inner = busy.join("inner");
    for group in [&busy, &inner, &live] {
        fs::create_dir(group).unwrap();
    }
    let audit = world.cc_ci(["audit"]).run();
    let report = world.cc_ci(["janitor", "--format", "json"]).run();
    let stayed = [&left, &busy, &live].map(|group| group.exists());
    for group in [&inner, &busy, &live] {
        fs::remove_dir(group).unwrap();
    }
    assert!(audit.expect(4).stdout.contains("control group"));
    let report = report.expect(4).json();
    let decided = [1, 2, 3].map(|number| decision(&report, &world.domain("group", number)));
    assert_eq!(decided, ["reaped".into(), "failed".into(), Value::Null], "{report}");
    assert_eq!(stayed, [false, true, true]);
    // What failed is nobody's any more, and its lock file goes.
    pass(&world, 0);
    world.assert_empty();
}
