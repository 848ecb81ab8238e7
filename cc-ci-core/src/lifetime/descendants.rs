//! Who is whose child, as the kernel says it.

use std::collections::BTreeSet;
use std::fs;

use crate::sys::process::{ProcessIdentity, StatLine, pids};

/// Who was our child before we took the process over: an exec'd shell's background jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct PreexistingChildren {
    pub(super) children: Vec<ProcessIdentity>,
    pub(super) groups: BTreeSet<i32>,
}

impl PreexistingChildren {
    /// Those who are there now.
    pub(super) fn now(own: &ProcessIdentity) -> Self {
        let mut preexisting = Self::default();
        for pid in children_of(own.pid) {
            if let Ok(stat) = StatLine::read(pid) {
                preexisting.groups.insert(stat.group);
                let (start_time, boot_id) = (stat.start_time, own.boot_id.clone());
                preexisting.children.push(ProcessIdentity { pid, start_time, boot_id });
            }
        }
        preexisting
    }
}

/// The children of every thread of `pid`; none when it is gone.
pub(super) fn children_of(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
        })
        .collect()
}

/// The living members of a group.
pub(super) fn members_of(group: i32, own: &ProcessIdentity) -> Vec<ProcessIdentity> {
    let member = |pid| {
        let stat = StatLine::read(pid).ok()?;
        let is = stat.group == group && !matches!(stat.state, 'Z' | 'X' | 'x');
        is.then(|| ProcessIdentity { pid, start_time: stat.start_time, boot_id: own.boot_id.clone() })
    };
    pids().unwrap_or_default().into_iter().filter_map(member).collect()
}
