//! What bounds a sandbox as a whole, where a host lets cc-ci make control groups.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use cc_ci_tests::{skip, until};

use crate::escapes::{kill, processes, sleepers};
use crate::sandbox_host::{Host, for_each_user};

/// A sandbox that sleeps so long.
fn asleep(host: &Host, user: Option<u32>, more: &[String], seconds: &str) -> Child {
    let mut probe = host.call_with(user, true, more, &["/bin/sleep", seconds]);
    let probe = probe.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("it sleeps", || sleepers(seconds) == 1);
    probe
}

/// Where the group of a process is mounted here.
fn group_of(pid: i32) -> PathBuf {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
    PathBuf::from(mount.split(' ').nth(4).unwrap()).join(group)
}

#[test]
fn a_sandbox_is_bounded_by_a_group_that_goes_with_it() {
    let test = "a_sandbox_is_bounded_by_a_group_that_goes_with_it";
    for_each_user(test, |host, user| {
        let domain = format!("group-00a1b2.t{}.test", std::process::id());
        let more = [format!("domain={domain}")];
        let tried = host.call_with(user, true, &more, &["/bin/true"]).output().unwrap();
        let told = String::from_utf8_lossy(&tried.stderr).into_owned();
        if let Some(why) = told.strip_prefix("unbounded: ") {
            return skip(test, why.trim());
        }
        assert!(tried.status.success(), "{tried:?}");
        for is_killed in [false, true] {
            let seconds = format!("6{}{}", std::process::id(), u8::from(is_killed));
            let mut probe = asleep(host, user, &more, &seconds);
            let sleeper = processes(&seconds)
                .into_iter()
                .find(|pid| fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"sleep\n"));
            let group = group_of(sleeper.unwrap());
            let name = group.file_name().unwrap().to_string_lossy().into_owned();
            assert!(name.starts_with("cc-ci-sandbox.") && name.ends_with(&domain), "{name}");
            let limit = |file: &str| fs::read_to_string(group.join(file)).unwrap();
            assert_eq!((limit("memory.max"), limit("pids.max")), ("4294967296\n".into(), "1024\n".into()));
            kill(if is_killed { probe.id().cast_signed() } else { sleeper.unwrap() });
            drop(probe.wait());
            until("all of it is gone", || processes(&seconds).is_empty());
            // What nobody could remove any more is empty, and removed by whoever finds it.
            assert_eq!(group.exists(), is_killed);
            if is_killed {
                until("it is empty", || fs::remove_dir(&group).is_ok());
            }
        }
    });
}
