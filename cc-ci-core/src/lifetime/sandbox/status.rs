//! What bubblewrap tells of a sandbox while it goes on: a line of JSON when its first process is there, one when it has ended.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;

use serde::Deserialize;

use crate::sys::cgroups::Group;
use crate::sys::process::{PidFd, Signal, StatLine, is_own, is_sandbox};

/// More than bubblewrap says.
const LIMIT: usize = 1 << 16;

/// The reading end of what bubblewrap tells, and what it has told.
#[derive(Debug)]
pub(in crate::lifetime) struct Status {
    pipe: File,
    text: Vec<u8>,
    /// The other end of the program's gate: without it, it does not begin.
    _gate: OwnedFd,
    /// What bounds it: gone once its end is told.
    _group: Option<Group>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Report {
    child_pid: Option<i32>,
    exit_code: Option<i32>,
}

impl Status {
    /// The pipe does not block.
    pub(super) fn new(pipe: File, gate: OwnedFd, group: Option<Group>) -> Self {
        Self { pipe, text: Vec::new(), _gate: gate, _group: group }
    }

    fn report(&mut self) -> Report {
        let mut buffer = [0; 1024];
        while self.text.len() < LIMIT {
            match self.pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => self.text.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It has nothing more to say yet.
                Err(_) => break,
            }
        }
        let documents = serde_json::Deserializer::from_slice(&self.text).into_iter::<Report>();
        documents.map_while(Result::ok).fold(Report::default(), |all, one| Report {
            child_pid: one.child_pid.or(all.child_pid),
            exit_code: one.exit_code.or(all.exit_code),
        })
    }

    /// Whether its program was executed, and came to an end of its own. Asked once the leader has ended.
    pub fn has_exited(&mut self) -> bool {
        self.report().exit_code.is_some()
    }

    /// Kills its first process, and so all of it, once the leader has ended: it may not have asked yet to die with it, and it
    /// dies after it. Gives the one to wait for.
    pub fn kill_rest(&mut self) -> Option<PidFd> {
        let first = self.first_process()?;
        let process = PidFd::open(first).ok()?;
        // No other process has its number by now, a moment later, unless all numbers were given away meanwhile.
        let is_killed = is_own(first) && is_sandbox(first) && process.send(Signal::Kill).is_ok();
        is_killed.then_some(process)
    }

    /// The pid of its first process, once there was one.
    fn first_process(&mut self) -> Option<i32> {
        self.report().child_pid
    }

    /// Kills its first process, and so all of it; the leader, which waits for it, ends when all are gone. False where there
    /// is none, or none any more.
    pub fn kill(&mut self, leader: i32) -> bool {
        self.first_process().is_some_and(|first| kill_first(first, leader))
    }
}

/// Kills `first` where it is a child of `leader`'s: a sandbox's first process, and so all of that.
pub(in crate::lifetime) fn kill_first(first: i32, leader: i32) -> bool {
    let Ok(process) = PidFd::open(first) else { return false };
    // Opened, then looked at: the leader has not waited for it, so it is no other process with this number.
    let is_its_own = StatLine::read(first).is_ok_and(|stat| stat.parent == leader);
    is_its_own && process.send(Signal::Kill).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;

    use super::*;

    #[test]
    fn what_is_told_is_read_as_it_comes() {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
        let (mut status, mut write) =
            (Status::new(read.into(), pipe2(OFlag::O_CLOEXEC).unwrap().0, None), File::from(write));
        assert_eq!(status.first_process(), None);
        write.write_all(b"{ \"child-pid\": 17, \"cgroup-names").unwrap();
        assert_eq!(status.first_process(), None, "half a line says nothing");
        write.write_all(b"pace\": 4026534097 }\n").unwrap();
        assert_eq!((status.first_process(), status.has_exited()), (Some(17), false));
        write.write_all(b"{ \"exit-code\": 3 }\n").unwrap();
        drop(write);
        assert_eq!((status.first_process(), status.has_exited()), (Some(17), true));
    }
}
