//! The process that a run was started for.

use std::fs;
use std::io;

use nix::unistd::getppid;

use crate::sys::process::{PidFd, StatLine};

/// Whose death ends the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ParentWatch {
    /// That of the process which started this one.
    #[default]
    Parent,
    /// That of this process, parent or not: sudo, a forking `setsid` or a subreaper may stand in between.
    Pid {
        /// Its pid.
        pid: i32,
        /// When it started, in clock ticks since boot: guards against a reused pid.
        start_time: Option<u64>,
    },
    /// Nobody's: a systemd unit has a manager instead.
    None,
}

/// The direct parent as it was before anything was asked of the kernel.
#[derive(Debug)]
pub(super) struct DirectParent {
    pub(super) pid: i32,
    /// `None`: it died while it was being opened.
    fd: Option<PidFd>,
}

/// Who is watched from now on.
#[derive(Debug)]
pub(super) enum Watched {
    /// The direct parent: it is also dead when we have another one.
    Direct { pid: i32, fd: PidFd },
    /// Somebody above it.
    Other(PidFd),
    /// Already dead.
    Dead,
    /// There is nobody to watch.
    Nobody {
        /// Why, where the user may not expect it.
        reason: Option<&'static str>,
    },
}

impl DirectParent {
    pub(super) fn open() -> io::Result<Self> {
        let pid = getppid().as_raw();
        if pid == 0 {
            return Ok(Self { pid, fd: None });
        }
        match PidFd::open(pid) {
            // Still the parent: then the descriptor is its, and not a successor's.
            Ok(fd) => Ok(Self { pid, fd: (getppid().as_raw() == pid).then_some(fd) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { pid, fd: None }),
            Err(error) => Err(error),
        }
    }

    /// Resolves what the user asked for. `None`: our parent is init, so the one that started us may be long dead.
    pub(super) fn resolve(self, watch: ParentWatch) -> io::Result<Option<Watched>> {
        Ok(Some(match watch {
            ParentWatch::None => Watched::Nobody { reason: None },
            ParentWatch::Pid { pid, start_time } => match PidFd::open(pid) {
                Ok(fd) => named(fd, start_time, || Ok(StatLine::read(pid)?.start_time))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Watched::Dead,
                Err(error) => return Err(error),
            },
            ParentWatch::Parent => match self {
                Self { pid: 0, .. } => {
                    Watched::Nobody { reason: Some("the parent is outside of this pid namespace") }
                }
                Self { pid: 1, .. } if in_initial_pid_namespace() => return Ok(None),
                Self { pid, fd: Some(fd) } => Watched::Direct { pid, fd },
                Self { fd: None, .. } => Watched::Dead,
            },
        }))
    }
}

impl Watched {
    /// Whether the watched process is dead.
    pub(super) fn is_dead(&self) -> bool {
        match self {
            Self::Direct { pid, fd } => getppid().as_raw() != *pid || fd.has_ended(),
            Self::Other(fd) => fd.has_ended(),
            Self::Dead => true,
            Self::Nobody { .. } => false,
        }
    }

    /// What becomes readable when it dies.
    pub(super) fn descriptor(&self) -> Option<&PidFd> {
        match self {
            Self::Direct { fd, .. } | Self::Other(fd) => Some(fd),
            Self::Dead | Self::Nobody { .. } => None,
        }
    }
}

/// The process of `fd`, which is alive or a zombie: watched through its descriptor alone, unless it is known not to be the
/// one that is meant. Where `/proc` hides other users' processes (`hidepid`), nobody can tell when it started.
fn named(
    fd: PidFd,
    expected: Option<u64>,
    start_time: impl FnOnce() -> io::Result<u64>,
) -> io::Result<Watched> {
    let Some(expected) = expected else { return Ok(Watched::Other(fd)) };
    match start_time() {
        Ok(found) if found == expected => Ok(Watched::Other(fd)),
        Ok(_) => Ok(Watched::Dead),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(if fd.has_ended() { Watched::Dead } else { Watched::Other(fd) })
        }
        Err(error) => Err(error),
    }
}

/// There, init has no business starting us: whoever did is dead. In a container a shell may well be pid 1.
fn in_initial_pid_namespace() -> bool {
    // PROC_PID_INIT_INO, part of the kernel's interface.
    fs::read_link("/proc/self/ns/pid").is_ok_and(|name| name.as_os_str() == "pid:[4026531836]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> PidFd {
        PidFd::open(nix::unistd::getpid().as_raw()).unwrap()
    }

    #[test]
    fn a_parent_that_proc_hides_is_watched_through_its_pidfd_alone() {
        let hidden = || Err(io::ErrorKind::NotFound.into());
        assert!(matches!(named(me(), Some(1), hidden).unwrap(), Watched::Other(_)));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let fd = PidFd::open(child.id().cast_signed()).unwrap();
        child.wait().unwrap();
        assert!(matches!(named(fd, Some(1), hidden).unwrap(), Watched::Dead));
        // Where nobody says when it started, nothing is read.
        let read = || panic!("it was read");
        assert!(matches!(named(me(), None, read).unwrap(), Watched::Other(_)));
        assert!(matches!(named(me(), Some(1), || Ok(2)).unwrap(), Watched::Dead));
    }
}
