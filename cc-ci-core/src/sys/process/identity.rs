//! A process that can't be mistaken for a later one with the same pid.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sys::system_info::BootId;

/// A pid, when it started (clock ticks since boot) and in which boot: together they name one process for ever.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ProcessIdentity {
    /// The process id, in this pid namespace.
    pub pid: i32,
    /// Start time in clock ticks since boot (`/proc/<pid>/stat`, field 22).
    pub start_time: u64,
    /// The boot that the process belongs to.
    pub boot_id: BootId,
}

impl ProcessIdentity {
    /// The process `pid` of this boot.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn of(pid: i32, boot_id: BootId) -> io::Result<Self> {
        Ok(Self { pid, start_time: StatLine::read(pid)?.start_time, boot_id })
    }

    /// This process.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn current(boot_id: BootId) -> io::Result<Self> {
        Self::of(nix::unistd::getpid().as_raw(), boot_id)
    }

    /// Whether the process lives in the boot `now`. A zombie counts as dead: it holds nothing any more.
    pub fn is_alive(&self, now: &BootId) -> bool {
        self.boot_id == *now
            && StatLine::read(self.pid).is_ok_and(|stat| {
                stat.start_time == self.start_time && !matches!(stat.state, 'Z' | 'X' | 'x')
            })
    }
}

impl fmt::Display for ProcessIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)
    }
}

/// What we use of `/proc/<pid>/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatLine {
    /// State letter: `R`, `S`, `Z`, …
    pub state: char,
    /// Parent's pid.
    pub parent: i32,
    /// Process group.
    pub group: i32,
    /// Session.
    pub session: i32,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
}

impl StatLine {
    /// Reads the line of `pid`.
    ///
    /// # Errors
    /// `NotFound` when there is no such process (`ESRCH` while it goes away is told as that too), `InvalidData`
    /// when the line is none.
    pub fn read(pid: i32) -> io::Result<Self> {
        let gone = |error: io::Error| {
            let no_process = error.raw_os_error() == Some(nix::libc::ESRCH);
            if no_process { io::Error::new(io::ErrorKind::NotFound, error) } else { error }
        };
        let line = read_proc(&format!("/proc/{pid}/stat")).map_err(gone)?;
        Self::parse(&line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a stat line"))
    }

    fn parse(line: &[u8]) -> Option<Self> {
        // The command's name may hold anything, `) R 1` too: the fields start after the last parenthesis.
        let end = line.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(&line[end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        // Fields 3 to 6 are taken; the start time is field 22.
        let start_time = fields.nth(15)?.parse().ok()?;
        Some(Self { state, parent, group, session, start_time })
    }
}

/// Reads `stat` or `environ` of a process whole: they have no size to be asked for, and mostly fit into one read. One that
/// the kernel did not fill has reached the end: it goes on over pages, and stops short only there.
pub(super) fn read_proc(path: &str) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let (mut bytes, mut end) = (vec![0; 8 * 1024], 0);
    loop {
        match file.read(&mut bytes[end..]) {
            Ok(0) => break,
            Ok(read) => {
                end += read;
                if end < bytes.len() {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if end == bytes.len() {
            bytes.resize(2 * end, 0);
        }
    }
    bytes.truncate(end);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_cannot_forge_the_fields() {
        let line = b"42 (a) R 1 1) S 7 8 9 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 9900 1 2\n";
        let stat = StatLine::parse(line).unwrap();
        assert_eq!(stat, StatLine { state: 'S', parent: 7, group: 8, session: 9, start_time: 9900 });
    }

    #[test]
    fn an_environment_of_many_pages_is_read_to_its_end() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let mut command = Command::new("cat");
        command.env_clear().env("A", "x".repeat(100_000)).env("Z", "last");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // What answers has come through its exec: the kernel shows no environment in the middle of one.
        child.stdin.as_mut().unwrap().write_all(b"?").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let environ = read_proc(&format!("/proc/{}/environ", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(environ.len() > 100_000 && environ.ends_with(b"\0Z=last\0"), "{} bytes", environ.len());
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let boot = BootId::current().unwrap();
        let me = ProcessIdentity::current(boot.clone()).unwrap();
        assert!(me.is_alive(&boot));
        assert!(!ProcessIdentity { start_time: me.start_time + 1, ..me.clone() }.is_alive(&boot));
        assert!(!ProcessIdentity { boot_id: BootId::new("another"), ..me.clone() }.is_alive(&boot));
        assert!(!me.is_alive(&BootId::new("another")));
    }

    #[test]
    fn a_zombie_is_dead() {
        let boot = BootId::current().unwrap();
        let mut child =
            std::process::Command::new("true").stdout(std::process::Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let identity = ProcessIdentity::of(pid, boot.clone()).unwrap();
        // WNOWAIT leaves it a zombie.
        nix::sys::wait::waitid(
            nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(pid)),
            nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT,
        )
        .unwrap();
        assert!(!identity.is_alive(&boot));
        child.wait().unwrap();
        assert_eq!(StatLine::read(pid).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
