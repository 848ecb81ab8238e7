//! Finds the descendants that left their group, and ends them.
//!
//! In owning mode the process is their subreaper: whatever loses its parent becomes our child, and is seen
//! whatever it did to its environment. In both modes the marks of this run are looked for in `/proc`, among all who were not
//! there before the run started its first child.

use std::collections::BTreeSet;
use std::io;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

use super::children::{between_starts, is_led};
use super::descendants::{PreexistingChildren, children_of};
use super::supervisor::Supervisor;
use crate::sys::process::{ProcessIdentity, Signal, StatLine, kill_process, marked_since, marker_of};

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Escaped, and killed just now.
    pub(super) escaped: Vec<ProcessIdentity>,
    /// Killed before, and not gone yet.
    pub(super) dying: Vec<ProcessIdentity>,
    /// The kernel says that nobody descends from this process.
    pub(super) is_alone: bool,
}

/// Looks once, kills what it finds, and reaps what has ended.
pub(super) fn find(supervisor: &Supervisor) -> io::Result<Found> {
    let boot = &supervisor.owner.boot_id;
    let mut found = Found { dying: supervisor.children.lingering(), ..Found::default() };
    let mut targets = Vec::new();
    if let Some(before) = supervisor.before_marks() {
        let ours = marked_since(before, boot)?.into_iter().filter(|found| supervisor.is_mark(&found.marker));
        targets.extend(ours.map(|found| found.process));
    }
    if let Some(preexisting) = &supervisor.subreaper {
        found.is_alone = !has_children();
        if !found.is_alone {
            targets.extend(adopted(supervisor, preexisting));
        }
    }
    for target in targets {
        if supervisor.children.contains(target.pid) || found.dying.contains(&target) {
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

/// Whether this process has a child, living or dead. A subreaper that has none has no descendants.
fn has_children() -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, look) != Err(Errno::ECHILD)
}

/// The living among our descendants that nobody else answers for. The dead among our own children are reaped:
/// the group leaders' reaping is the watcher's.
fn adopted(supervisor: &Supervisor, preexisting: &PreexistingChildren) -> Vec<ProcessIdentity> {
    let boot_id = &supervisor.owner.boot_id;
    // The child of another lifetime of this process is told from an orphan once it is among the leaders.
    let _no_start = between_starts();
    let mut living = Vec::new();
    let mut seen = BTreeSet::new();
    let mut queue = children_of(supervisor.owner.pid);
    let direct: BTreeSet<i32> = queue.iter().copied().collect();
    while let Some(pid) = queue.pop() {
        let Ok(stat) = StatLine::read(pid) else { continue };
        let process = ProcessIdentity { pid, start_time: stat.start_time, boot_id: boot_id.clone() };
        let is_anothers = is_led(pid) && !supervisor.children.contains(pid);
        if !seen.insert(pid) || is_anothers || preexisting.children.contains(&process) {
            continue;
        }
        if matches!(stat.state, 'Z' | 'X' | 'x') {
            if direct.contains(&pid) && !supervisor.children.contains(pid) {
                // By its pid: a host may wait for children of its own.
                let _status = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).is_err();
            }
            continue;
        }
        // A service by what was recorded here when it started, never by what its environment says: that is the
        // recipe's to write.
        if supervisor.is_service_group(stat.group) || belongs_to(supervisor, preexisting, pid, &stat) {
            continue;
        }
        queue.extend(children_of(pid));
        living.push(process);
    }
    living
}

/// An orphan of a preexisting child is adopted by us as well; children of ours have groups of their own.
fn belongs_to(supervisor: &Supervisor, preexisting: &PreexistingChildren, pid: i32, stat: &StatLine) -> bool {
    preexisting.groups.contains(&stat.group)
        && !marker_of(pid).is_some_and(|marker| supervisor.is_mark(&marker))
}
