//! Finds the descendants that left their group, and ends them.
//!
//! In owning mode the process is their subreaper: whatever loses its parent becomes our child, and is seen
//! whatever it did to its environment. In both modes the marks of this run are looked for in all of `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::life::Life;
use crate::sys::process::{ProcessIdentity, Signal, StatLine, kill_process, marked, marker_of, pids};

/// Who was our child before we took the process over: an exec'd shell's background jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct Bystanders {
    children: Vec<ProcessIdentity>,
    groups: BTreeSet<i32>,
}

impl Bystanders {
    /// Those who are there now.
    pub(super) fn now(own: &ProcessIdentity) -> Self {
        let mut bystanders = Self::default();
        for pid in children_of(own.pid) {
            if let Ok(stat) = StatLine::read(pid) {
                bystanders.groups.insert(stat.group);
                let (start_time, boot_id) = (stat.start_time, own.boot_id.clone());
                bystanders.children.push(ProcessIdentity { pid, start_time, boot_id });
            }
        }
        bystanders
    }
}

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Escaped, and killed just now.
    pub(super) escaped: Vec<ProcessIdentity>,
    /// Killed before, and not gone yet.
    pub(super) dying: Vec<ProcessIdentity>,
}

/// Looks once, kills what it finds, and reaps what has ended.
pub(super) fn look(life: &Life) -> io::Result<Found> {
    let boot = &life.owner.boot_id;
    let mut found = Found { dying: life.children.lingering(), ..Found::default() };
    let mut targets = Vec::new();
    if life.has_marks() {
        let ours = marked(boot)?.into_iter().filter(|found| life.is_mark(&found.marker));
        targets.extend(ours.map(|found| found.process));
    }
    if let Some(bystanders) = &life.adopts {
        targets.extend(adopted(life, bystanders));
    }
    for target in targets {
        if life.children.contains(target.pid) || found.dying.contains(&target) {
            continue;
        }
        match kill_process(&target, boot, Signal::Kill) {
            Ok(true) => found.escaped.push(target),
            Ok(false) => {}
            // Another user's: told as left when the bound is reached.
            Err(_) => found.dying.push(target),
        }
    }
    Ok(found)
}

/// The living among our descendants that nobody else answers for. The dead among our own children are reaped:
/// the group leaders' reaping is the watcher's.
fn adopted(life: &Life, bystanders: &Bystanders) -> Vec<ProcessIdentity> {
    let boot_id = &life.owner.boot_id;
    let mut living = Vec::new();
    let mut seen = BTreeSet::new();
    let mut queue = children_of(life.owner.pid);
    let direct: BTreeSet<i32> = queue.iter().copied().collect();
    while let Some(pid) = queue.pop() {
        let Ok(stat) = StatLine::read(pid) else { continue };
        let process = ProcessIdentity { pid, start_time: stat.start_time, boot_id: boot_id.clone() };
        if !seen.insert(pid) || bystanders.children.contains(&process) {
            continue;
        }
        if matches!(stat.state, 'Z' | 'X' | 'x') {
            if direct.contains(&pid) && !life.children.contains(pid) {
                // By its pid: a host may wait for children of its own.
                let _status = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).is_err();
            }
            continue;
        }
        // A service by what was recorded here when it started, never by what its environment says: that is the
        // recipe's to write.
        if life.is_service_group(stat.group) || belongs_to(life, bystanders, pid, &stat) {
            continue;
        }
        queue.extend(children_of(pid));
        living.push(process);
    }
    living
}

/// An orphan of a bystander is adopted by us as well; children of ours have groups of their own.
fn belongs_to(life: &Life, bystanders: &Bystanders, pid: i32, stat: &StatLine) -> bool {
    bystanders.groups.contains(&stat.group) && !marker_of(pid).is_some_and(|marker| life.is_mark(&marker))
}

/// The children of every thread of `pid`; none when it is gone.
fn children_of(pid: i32) -> Vec<i32> {
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
