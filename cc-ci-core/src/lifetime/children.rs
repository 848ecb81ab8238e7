//! The children of one lifetime: which there are, how they are signalled, and how they are reaped.
//!
//! A group is only signalled while its leader is unreaped, under the one lock that reaping takes too: so the id
//! can't have become somebody else's. The leader's exit is not the group's end: when it is seen, the rest of the
//! group is killed first, and only then is the leader reaped.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::{self, WaitId, WaitIdOptions};
use tokio::sync::watch;

use super::descendants::members_of;
use super::ended::Ended;
use super::sandbox::Status;
use crate::sys::process::{PidFd, ProcessIdentity};

/// The leaders of all lifetimes of this process that are not reaped yet: one that has taken the process over ends none of
/// another's.
static LEADERS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Held from the fork of a child until it is among the leaders, and while somebody looks for who is a leader's.
static STARTS: Mutex<()> = Mutex::new(());

/// Keeps every lifetime of this process from starting children, and waits for the start that is under way.
pub(super) fn between_starts() -> MutexGuard<'static, ()> {
    STARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether `pid` leads a group of any lifetime of this process that is not reaped yet.
pub(super) fn is_led(pid: i32) -> bool {
    leaders().contains(&pid)
}

fn leaders() -> MutexGuard<'static, BTreeSet<i32>> {
    LEADERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The children that are not reaped yet.
#[derive(Debug)]
pub(super) struct Children {
    live: Mutex<BTreeMap<i32, Live>>,
    /// How many are not reaped yet: what waits for all of them listens to it.
    count: watch::Sender<usize>,
    /// Members that were left in a group when its leader was reaped. They were killed; they may not be gone yet.
    lingering: Mutex<Vec<ProcessIdentity>>,
    /// One of them came to no end of its own.
    by_force: AtomicBool,
    /// One of them had left others in its group.
    left_in_group: AtomicBool,
    owner: ProcessIdentity,
    /// Tells the watcher's thread of exits: each child's pidfd, with its pid as the token.
    pub(super) exits: Epoll,
}

/// One child that is not reaped yet.
#[derive(Debug)]
struct Live {
    pidfd: PidFd,
    program: String,
    started: Instant,
    grace: Duration,
    /// What is told of its sandbox, where it is confined.
    sandbox: Option<Status>,
    /// The sandbox's first process, once the leader has ended before it.
    first: Option<PidFd>,
    /// It was asked to end, with the rest of the children.
    asked: bool,
    ended: watch::Sender<Option<Ended>>,
}

impl Children {
    pub(super) fn new(owner: ProcessIdentity) -> io::Result<Self> {
        Ok(Self {
            owner,
            live: Mutex::default(),
            count: watch::Sender::new(0),
            lingering: Mutex::default(),
            by_force: AtomicBool::new(false),
            left_in_group: AtomicBool::new(false),
            exits: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        })
    }

    /// Takes a child that was just started into care. When that fails, the child is ended.
    pub(super) fn adopt(
        &self,
        pid: i32,
        program: String,
        grace: Duration,
        sandbox: Option<Status>,
    ) -> io::Result<watch::Receiver<Option<Ended>>> {
        let mut live = self.lock();
        let adopted = PidFd::open(pid).and_then(|pidfd| {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(pid.cast_unsigned()));
            self.exits.add(&pidfd, event)?;
            Ok(pidfd)
        });
        let pidfd = match adopted {
            Ok(pidfd) => pidfd,
            Err(error) => {
                self.force(pid, None, Signal::SIGKILL);
                let _status = waitpid(Pid::from_raw(pid), None).is_err();
                return Err(error);
            }
        };
        let (ended, receiver) = watch::channel(None);
        let started = Instant::now();
        leaders().insert(pid);
        live.insert(pid, Live { pidfd, program, started, grace, sandbox, first: None, asked: false, ended });
        self.count.send_replace(live.len());
        Ok(receiver)
    }

    /// Sweeps the group of a leader that has exited, then reaps the leader. That of a sandbox is reaped when all in it are
    /// gone: this is called again then.
    pub(super) fn reap(&self, pid: i32) {
        let mut live = self.lock();
        let Some(child) = live.get_mut(&pid) else { return };
        let end = look_at_end(pid);
        if !matches!(end, Ok(None)) && self.waits_for_sandbox(pid, child) {
            return;
        }
        let mut ended = match end {
            Ok(Some(ended)) => {
                signal_group(pid, Signal::SIGKILL);
                let _status = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).is_err();
                ended
            }
            Ok(None) => return,
            // Somebody else reaped it: the host waits for every child, or ignores SIGCHLD. Then the group's id may
            // be a stranger's by now.
            Err(_) => Ended { code: None, signal: None, unstarted: false },
        };
        let others = group_has_members(pid);
        if others || ended.code.is_none() {
            self.by_force.store(true, Ordering::Release);
        }
        if others {
            self.left_in_group.store(true, Ordering::Release);
            // Their id is taken as long as they are there.
            let members = members_of(pid, &self.owner);
            self.lingering.lock().unwrap_or_else(PoisonError::into_inner).extend(members);
        }
        let Some(mut child) = live.remove(&pid) else { return };
        leaders().remove(&pid);
        if let Some(sandbox) = &mut child.sandbox {
            ended.unstarted = ended.code.is_some() && !sandbox.has_exited();
        }
        // Without its leader, it became a child of a process that adopts, such as this one.
        child.first.iter().for_each(PidFd::reap);
        // Closing is not enough: a child between fork and exec holds a copy.
        let _absent = self.exits.delete(child.first.as_ref().unwrap_or(&child.pidfd)).is_err();
        drop(live);
        // Before whoever waits looks at what is left, and while nobody waits for the others.
        drop(child.sandbox.take());
        child.ended.send_replace(Some(ended));
        let live = self.lock();
        self.count.send_replace(live.len());
    }

    /// Kills what is left of the sandbox of a leader that has ended, and gives whether its end is to be waited for: it is told in
    /// the leader's place. bubblewrap ends with its program, a moment before the kernel has ended everybody else.
    fn waits_for_sandbox(&self, pid: i32, child: &mut Live) -> bool {
        if child.first.is_some() {
            return false;
        }
        let Some(first) = child.sandbox.as_mut().and_then(Status::kill_rest) else { return false };
        let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(pid.cast_unsigned()));
        if self.exits.add(&first, event).is_err() {
            return false;
        }
        let _absent = self.exits.delete(&child.pidfd).is_err();
        child.first = Some(first);
        true
    }

    /// Signals one child's group; false when the child is reaped already.
    pub(super) fn signal(&self, pid: i32, signal: Signal) -> bool {
        let mut live = self.lock();
        let Some(child) = live.get_mut(&pid) else { return false };
        self.force(pid, child.sandbox.as_mut(), signal);
        true
    }

    fn force(&self, leader: i32, sandbox: Option<&mut Status>, signal: Signal) {
        self.by_force.store(true, Ordering::Release);
        // A sandbox is killed from within, once: its leader ends when all in it are gone, and so its end is theirs.
        let killed = signal == Signal::SIGKILL && sandbox.is_some_and(|sandbox| sandbox.kill(leader));
        if !killed {
            signal_group(leader, signal);
        }
    }

    /// See [`ChildrenEnded::by_force`](super::ChildrenEnded::by_force).
    pub(super) fn any_by_force(&self) -> bool {
        self.by_force.load(Ordering::Acquire)
    }

    /// See [`ChildrenEnded::left_in_group`](super::ChildrenEnded::left_in_group).
    pub(super) fn any_left_in_group(&self) -> bool {
        self.left_in_group.load(Ordering::Acquire)
    }

    /// Asks every group to end that was not asked yet: with TERM where it has a grace, else with KILL. Returns
    /// how many.
    pub(super) fn ask_all(&self) -> usize {
        let mut live = self.lock();
        let unasked = live.iter_mut().filter(|(_, child)| !child.asked);
        unasked
            .map(|(&pid, child)| {
                child.asked = true;
                let signal = if child.grace.is_zero() { Signal::SIGKILL } else { Signal::SIGTERM };
                self.force(pid, child.sandbox.as_mut(), signal);
            })
            .count()
    }

    /// Kills every group whose grace is at most this.
    pub(super) fn kill_all(&self, grace: Duration) {
        for (&pid, child) in self.lock().iter_mut().filter(|(_, child)| child.grace <= grace) {
            self.force(pid, child.sandbox.as_mut(), Signal::SIGKILL);
        }
    }

    /// Whether `pid` leads a group of ours that is not reaped yet.
    pub(super) fn contains(&self, pid: i32) -> bool {
        self.lock().contains_key(&pid)
    }

    /// The pids that are not reaped yet.
    pub(super) fn pids(&self) -> Vec<i32> {
        self.lock().keys().copied().collect()
    }

    /// The graces of those that are left.
    pub(super) fn graces(&self) -> Vec<Duration> {
        self.lock().values().map(|child| child.grace).collect()
    }

    /// One line for each child: who, and for how long.
    pub(super) fn describe(&self) -> Vec<String> {
        let describe = |(pid, child): (&i32, &Live)| {
            format!(
                "{} (pid {pid}), running for {:.1} s",
                child.program,
                child.started.elapsed().as_secs_f64()
            )
        };
        self.lock().iter().map(describe).collect()
    }

    /// Waits until every child is reaped. Cancel-safe.
    pub(super) async fn all_reaped(&self) {
        let mut count = self.count.subscribe();
        // The sender lives in `self`.
        let _closed = count.wait_for(|count| *count == 0).await.is_err();
    }

    /// Members of a group that were killed, and are not gone yet.
    pub(super) fn lingering(&self) -> Vec<ProcessIdentity> {
        let mut lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        lingering.retain(|member| member.is_alive(&self.owner.boot_id));
        lingering.clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the child ended, if it has; it stays unreaped.
fn look_at_end(pid: i32) -> io::Result<Option<Ended>> {
    let pid = process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    // Not nix: to it, an end by a real-time signal is an error.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = rustix::io::retry_on_intr(|| process::waitid(WaitId::Pid(pid), look))?;
    Ok(status.map(|status| Ended {
        code: status.exit_status(),
        signal: status.terminating_signal(),
        unstarted: false,
    }))
}

/// The caller knows that the leader is unreaped.
fn signal_group(leader: i32, signal: Signal) {
    // A child that has only just been forked made its group before std's spawn returned, so this can only fail
    // because all members are gone.
    let _gone = killpg(Pid::from_raw(leader), signal).is_err();
}

fn group_has_members(group: i32) -> bool {
    killpg(Pid::from_raw(group), None) != Err(Errno::ESRCH)
}
