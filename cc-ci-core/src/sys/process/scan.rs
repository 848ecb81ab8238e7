//! Finds marked processes, and ends those whose owner is dead.
//!
//! # Limitations
//! A mark is what a process says of itself in its environment: one that strips or overwrites it is not found
//! here, nor one that became another user.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use memchr::memmem;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};

use super::identity::read_proc;
use super::pidfd::{PidFd, Signal};
use super::{Marker, MarkerOwner, ProcessIdentity, StatLine};
use crate::names::Domain;
use crate::sys::blocking::blocks;
use crate::sys::system_info::BootId;

/// How long the dead owner's processes may take to go once they are killed.
const BOUND: Duration = Duration::from_secs(10);

/// A process that carries a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// The process.
    pub process: ProcessIdentity,
    /// Its mark.
    pub marker: Marker,
}

/// Every marked process of this user, in one pass over `/proc`. This process and its ancestors are left out: nobody here
/// has any business with them. So are other users': root can read their environments, and they may write anything there.
///
/// # Errors
/// When `/proc` can't be read.
pub fn marked(now: &BootId) -> io::Result<Vec<Marked>> {
    tracing::debug!("all of /proc is searched for marks");
    Ok(marked_among(processes()?, now))
}

/// The same of those that were not there `before`: one list, and a look at what is new in it.
///
/// # Errors
/// When `/proc` can't be read.
pub(crate) fn marked_since(before: &Present, now: &BootId) -> io::Result<Vec<Marked>> {
    Ok(marked_among(processes()?.filter(|process| !before.0.contains(process)), now))
}

fn marked_among(listed: impl Iterator<Item = Listed>, now: &BootId) -> Vec<Marked> {
    let (own, mut spared) = (OwnUser::now(), None);
    let mut marked = Vec::new();
    for Listed { pid, .. } in listed {
        // The start time is read between two looks: a mark that is read after it can only be of this process or a
        // successor, and whoever signals checks again. Others' are not even read; the first look spares the many that have
        // no mark the rest.
        if own.has(pid)
            && marker_of(pid).is_some()
            && !spared.get_or_insert_with(self_and_ancestors).contains(&pid)
            && let Ok(process) = ProcessIdentity::of(pid, now.clone())
            && let Some(marker) = marker_of(pid)
            && own.has(pid)
        {
            marked.push(Marked { process, marker });
        }
    }
    marked
}

/// The processes that were there at one moment.
#[derive(Debug, Default)]
pub(crate) struct Present(HashSet<Listed>);

impl Present {
    /// Those that are there now.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub(crate) fn now() -> io::Result<Self> {
        Ok(Self(processes()?.collect()))
    }
}

/// A process in the list of all. With the inode of its directory it is told from a later one with the same pid: the kernel
/// drops that with the process.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Listed {
    pid: i32,
    inode: u64,
}

/// Whether the process makes a sandbox, or is the first one in it. It may say so falsely: then it is not asked to end
/// before it is killed.
pub(crate) fn is_sandbox(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"bwrap\n")
}

/// Processes of a dead owner could not be ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndMarkedError {
    /// `/proc` can't be read.
    #[error("can't look for what a dead owner of {domain} left running")]
    Look {
        /// Whose processes.
        domain: Domain,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Some would not go.
    #[error("what a dead owner of {domain} left running is still there: pids {left:?}")]
    Left {
        /// Whose processes.
        domain: Domain,
        /// How many were ended.
        ended: usize,
        /// Those that are left.
        left: Vec<i32>,
    },
}

/// Ends every process that carries a run's mark of `domain` and whose owner is dead; never this process, an
/// ancestor, or a service. Returns how many, once two looks in a row found none. Blocks, for seconds at most.
///
/// The caller owns the domain.
///
/// # Errors
/// When processes are left, or the look failed.
pub fn end_marked_of_dead_owners(domain: &Domain, now: &BootId) -> Result<usize, EndMarkedError> {
    let ended = end_marked_of_many(&BTreeSet::from([domain.clone()]), now);
    let EndedMarked { ended, left } = ended
        .map_err(|source| EndMarkedError::Look { domain: domain.clone(), source })?
        .remove(domain)
        .unwrap_or_default();
    if left.is_empty() {
        Ok(ended)
    } else {
        Err(EndMarkedError::Left { domain: domain.clone(), ended, left })
    }
}

/// What became of the processes that dead owners had left running on one domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndedMarked {
    /// How many were ended.
    pub ended: usize,
    /// Those that are left.
    pub left: Vec<i32>,
}

/// The same for many domains, whose processes are looked for together; nothing of those that had none. The caller owns
/// them all.
///
/// # Errors
/// When a look failed.
pub fn end_marked_of_many(
    domains: &BTreeSet<Domain>,
    now: &BootId,
) -> io::Result<BTreeMap<Domain, EndedMarked>> {
    let until = Instant::now() + BOUND;
    let mut ended: BTreeMap<Domain, EndedMarked> = BTreeMap::new();
    let mut killed = BTreeSet::new();
    let mut clean = 0;
    while clean < 2 {
        let found = marked(now)?.into_iter().filter(|marked| is_orphan(&marked.marker, domains, now));
        let mut left: BTreeMap<Domain, Vec<i32>> = BTreeMap::new();
        let mut dying = Vec::new();
        for Marked { process, marker: Marker { domain, .. } } in found {
            match end_orphan(&process, domains, now) {
                Ok(Some(fd)) => {
                    if killed.insert((process.pid, process.start_time)) {
                        ended.entry(domain.clone()).or_default().ended += 1;
                    }
                    left.entry(domain).or_default().push(process.pid);
                    dying.push(fd);
                }
                Ok(None) => {}
                Err(_) => left.entry(domain).or_default().push(process.pid),
            }
        }
        clean = if left.is_empty() { clean + 1 } else { 0 };
        let all_ended = wait_ended(&dying, until);
        if !left.is_empty() && (!all_ended || Instant::now() >= until) {
            for (domain, left) in left {
                ended.entry(domain).or_default().left = left;
            }
            break;
        }
    }
    Ok(ended)
}

fn is_orphan(marker: &Marker, domains: &BTreeSet<Domain>, now: &BootId) -> bool {
    domains.contains(&marker.domain)
        && matches!(&marker.owner, MarkerOwner::Run { owner, .. } if !owner.is_alive(now))
}

/// Opened, looked at again, killed: in this order no successor of the pid can be hit.
fn end_orphan(
    process: &ProcessIdentity,
    domains: &BTreeSet<Domain>,
    now: &BootId,
) -> io::Result<Option<PidFd>> {
    let Some(fd) = PidFd::of(process, now)? else { return Ok(None) };
    if !marker_of(process.pid).is_some_and(|marker| is_orphan(&marker, domains, now)) {
        return Ok(None);
    }
    match fd.send(Signal::Kill) {
        Ok(()) => Ok(Some(fd)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Blocks until all have ended, or until `until`.
fn wait_ended(processes: &[PidFd], until: Instant) -> bool {
    for process in processes {
        while !process.has_ended() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            // An interrupted or refused poll is only a reason to look again.
            let _interrupted =
                poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)).is_err();
        }
    }
    true
}

/// The mark in the environment of `pid`, if it is there and ours to read. A zombie has none.
pub(crate) fn marker_of(pid: i32) -> Option<Marker> {
    let environ = read_proc(&format!("/proc/{pid}/environ")).ok()?;
    // Searched before it is split: this reads every process there is.
    let begins = |&at: &usize| at == 0 || environ[at - 1] == 0;
    let at = memmem::find_iter(&environ, Marker::VARIABLE)
        .filter(begins)
        .find_map(|at| environ[at..].strip_prefix(Marker::VARIABLE.as_bytes())?.strip_prefix(b"="))?;
    let value = &at[..memchr::memchr(0, at).unwrap_or(at.len())];
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Every pid there is.
pub(crate) fn pids() -> io::Result<Vec<i32>> {
    Ok(processes()?.map(|listed| listed.pid).collect())
}

/// Every process there is.
fn processes() -> io::Result<impl Iterator<Item = Listed>> {
    blocks();
    let mut listed = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            listed.push(Listed { pid, inode: entry.ino() });
        }
    }
    Ok(listed.into_iter())
}

/// The users of sandboxes, where cc-ci is root: between those that systemd gives out and the end of what programs take for
/// a user, nobody else's.
pub(crate) const SANDBOX_USERS: Range<u32> = 1_879_048_192..2_013_265_920;
/// The same of services, which outlive a run.
pub(crate) const SERVICE_USERS: Range<u32> = 2_013_265_920..2_080_374_784;

/// Whose processes are our own. It is asked once a scan: a call a process is as dear as the rest of the look.
#[derive(Clone, Copy)]
struct OwnUser(nix::unistd::Uid);

impl OwnUser {
    fn now() -> Self {
        Self(nix::unistd::geteuid())
    }

    fn has(self, pid: i32) -> bool {
        let is_ours = |user: u32| {
            user == self.0.as_raw()
                || (self.0.is_root() && (SANDBOX_USERS.contains(&user) || SERVICE_USERS.contains(&user)))
        };
        fs::metadata(format!("/proc/{pid}")).is_ok_and(|process| is_ours(process.uid()))
    }
}

/// Whether the process is of this user, or of one of root's sandboxes: one that the kernel shows to somebody else is not,
/// nor one that is gone.
pub(crate) fn is_own(pid: i32) -> bool {
    OwnUser::now().has(pid)
}

/// This process and those above it.
pub(crate) fn self_and_ancestors() -> BTreeSet<i32> {
    let mut line = BTreeSet::new();
    let mut pid = nix::unistd::getpid().as_raw();
    // A pid that comes twice was reused while we climbed.
    while pid > 0 && line.insert(pid) {
        pid = StatLine::read(pid).map_or(0, |stat| stat.parent);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A marked process, until it is dropped.
    struct Sleeper(Child);

    impl Sleeper {
        fn start(domain: &Domain, owner: &ProcessIdentity) -> Self {
            let owner = MarkerOwner::Run { run_id: "1".parse().unwrap(), owner: owner.clone() };
            let mark = Marker { domain: domain.clone(), owner }.to_string();
            let mut command = Command::new("cat");
            command.env(Marker::VARIABLE, mark).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            // What answers has come through its exec.
            child.stdin.as_mut().unwrap().write_all(b"?").unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            Self(child)
        }

        fn pid(&self) -> i32 {
            self.0.id().cast_signed()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn marks_are_searched_among_all_or_among_those_who_came_since() {
        let boot = BootId::current().unwrap();
        let own = ProcessIdentity::current(boot.clone()).unwrap();
        let domain: Domain = "scan-012345.own.test".parse().unwrap();
        let pids = |found: Vec<Marked>| -> BTreeSet<i32> {
            let ours = found.into_iter().filter(|found| found.marker.domain == domain);
            ours.map(|found| found.process.pid).collect()
        };
        let first = Sleeper::start(&domain, &own);
        let before = Present::now().unwrap();
        let second = Sleeper::start(&domain, &own);
        assert_eq!(pids(marked(&boot).unwrap()), BTreeSet::from([first.pid(), second.pid()]));
        assert_eq!(pids(marked_since(&before, &boot).unwrap()), BTreeSet::from([second.pid()]));
    }

    #[test]
    fn who_has_the_pid_of_one_who_was_there_was_not() {
        let boot = BootId::current().unwrap();
        let own = ProcessIdentity::current(boot.clone()).unwrap();
        let domain: Domain = "scan-6789ab.own.test".parse().unwrap();
        let sleeper = Sleeper::start(&domain, &own);
        let mut before = Present::now().unwrap();
        let listed = processes().unwrap().find(|listed| listed.pid == sleeper.pid()).unwrap();
        before.0.remove(&listed);
        before.0.insert(Listed { inode: listed.inode + 1, ..listed });
        let found = marked_since(&before, &boot).unwrap();
        assert!(found.iter().any(|found| found.process.pid == sleeper.pid()));
    }
}
