//! Who holds a lock file and how many wait for it, as the kernel says, without taking the lock.
//!
//! The recorded process is asked for first: one of its descriptors must carry the lock (`/proc/<pid>/fdinfo`),
//! and it must be the process that wrote the record, not a later one with its pid. `/proc/locks` decides where
//! those descriptors can't be seen, and names the holders that left no record.
//!
//! # Limitations
//! `/proc/locks` names the process that took the lock. Where another one inherited the descriptor and the first
//! is gone or has closed it, the holder is unknown. In a pid namespace of its own, locks of processes outside are
//! not shown at all. On filesystems that show files under another device than their own (btrfs, overlayfs)
//! nothing matches, and the holder is unknown too.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::Holder;
use super::directory::FileId;
use super::record::Record;
use crate::sys::process::StatLine;
use crate::sys::system_info::BootId;

/// The most descriptors of a process that are looked through: more is a trap, or a long wait.
const DESCRIPTORS: usize = 1024;

/// What the kernel says of one lock file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The processes that took the lock; 0 where there is none any more.
    takers: Vec<i32>,
    /// How many wait.
    pub(super) waiting: usize,
    /// The processes that do; one of another pid namespace has no number here.
    pub(super) waiters: BTreeSet<i32>,
}

/// Reads `/proc/locks`.
///
/// The kernel gives it out in pieces: a lock and its waiters are never torn apart, but while locks come and go
/// one can be shown twice or, rarely, left out. So what is not there is looked for again.
pub(super) fn see(id: FileId) -> io::Result<Seen> {
    const LOOKS: u32 = 3;
    let mut seen = Seen::default();
    for _ in 0..LOOKS {
        let (text, pieces) = read_in_pieces("/proc/locks")?;
        seen = parse_locks(&text, id);
        if seen.held() || pieces <= 1 {
            break;
        }
    }
    Ok(seen)
}

fn read_in_pieces(path: &str) -> io::Result<(String, u32)> {
    let mut file = File::open(path)?;
    let (mut bytes, mut pieces) = (vec![0; 16 * 1024], 0);
    let mut end = 0;
    loop {
        match file.read(&mut bytes[end..])? {
            0 => break,
            read => (end, pieces) = (end + read, pieces + 1),
        }
        if end == bytes.len() {
            bytes.resize(2 * end, 0);
        }
    }
    bytes.truncate(end);
    Ok((String::from_utf8_lossy(&bytes).into_owned(), pieces))
}

/// The processes that hold `file`, as far as the kernel names them.
pub(crate) fn takers_of(file: &File) -> io::Result<Vec<i32>> {
    let stat = nix::sys::stat::fstat(file)?;
    let mut takers = see(FileId::from(&stat))?.takers;
    takers.retain(|pid| *pid > 0);
    Ok(takers)
}

/// Whether the process `pid` has `file` open and, by that descriptor, a lock on it; false where its descriptors can't be seen.
/// It is told on every filesystem: who looks has the file itself.
pub(crate) fn holds(pid: i32, file: &File) -> bool {
    let Ok(own) = nix::sys::stat::fstat(file) else { return false };
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return false };
    entries.take(DESCRIPTORS).filter_map(Result::ok).any(|entry| {
        // One that was closed meanwhile carries nothing.
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let mut locks = text.lines().filter_map(|line| line.strip_prefix("lock:")).filter_map(parse_lock);
        let path = Path::new("/proc").join(pid.to_string()).join("fd").join(entry.file_name());
        // Only one that is locked is asked for its file: that of another may be on a server that is gone.
        locks.any(|lock| lock.kind == "FLOCK")
            && nix::sys::stat::stat(&path)
                .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (own.st_dev, own.st_ino))
    })
}

impl Seen {
    /// Whether anybody holds it.
    pub(super) fn held(&self) -> bool {
        !self.takers.is_empty()
    }
}

/// The holder, where one can be confirmed. Its description is the record's, if the record is its own.
pub(super) fn confirm(record: Option<&Record>, seen: &Seen, id: FileId, boot: &BootId) -> Option<Holder> {
    if let Some(Record { process, since, description }) = record
        && process.is_alive(boot)
        && carries(process.pid, id).unwrap_or_else(|| seen.takers.contains(&process.pid))
        // The pid was its own before and after the look at its descriptors.
        && process.is_alive(boot)
    {
        return Some(Holder { pid: process.pid, description: description.clone(), since: Some(*since) });
    }
    let alive = |pid| StatLine::read(pid).is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X' | 'x'));
    let found = seen.takers.iter().find(|&&pid| pid > 0 && carries(pid, id).unwrap_or_else(|| alive(pid)))?;
    Some(Holder { pid: *found, description: None, since: None })
}

/// Whether one of the process's descriptors carries the lock; `None` where they can't be seen.
fn carries(pid: i32, id: FileId) -> Option<bool> {
    let mut left = DESCRIPTORS;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()? {
        left = left.checked_sub(1)?;
        // One that was closed meanwhile carries nothing.
        let Ok(text) = fs::read_to_string(entry.ok()?.path()) else { continue };
        let locks = text.lines().filter_map(|line| line.strip_prefix("lock:"));
        if locks.filter_map(parse_lock).any(|lock| lock.is_flock_of(id)) {
            return Some(true);
        }
    }
    Some(false)
}

/// A line of `/proc/locks` or, after `lock:`, of an fdinfo: `1: FLOCK ADVISORY WRITE 42 fe:00:1234 0 EOF`.
struct Line<'a> {
    waits: bool,
    kind: &'a str,
    pid: i32,
    major: u64,
    minor: u64,
    inode: u64,
}

impl Line<'_> {
    fn is_flock_of(&self, id: FileId) -> bool {
        self.kind == "FLOCK"
            && self.inode == id.inode
            && self.major == nix::sys::stat::major(id.device)
            && self.minor == nix::sys::stat::minor(id.device)
    }
}

fn parse_lock(line: &str) -> Option<Line<'_>> {
    let mut words = line.split_ascii_whitespace().skip(1).peekable();
    let waits = words.next_if_eq(&"->").is_some();
    let kind = words.next()?;
    let pid = words.nth(2)?.parse().ok()?;
    let mut file = words.next()?.split(':');
    Some(Line {
        waits,
        kind,
        pid,
        major: u64::from_str_radix(file.next()?, 16).ok()?,
        minor: u64::from_str_radix(file.next()?, 16).ok()?,
        inode: file.next()?.parse().ok()?,
    })
}

fn parse_locks(text: &str, id: FileId) -> Seen {
    let mut seen = Seen::default();
    let mut behind_this = 0;
    for lock in text.lines().filter_map(parse_lock).filter(|lock| lock.is_flock_of(id)) {
        if lock.waits {
            behind_this += 1;
            seen.waiters.extend(Some(lock.pid).filter(|pid| *pid > 0));
        } else {
            seen.takers.push(lock.pid);
            behind_this = 0;
        }
        // The longest queue, not the sum: the same one may be shown twice.
        seen.waiting = seen.waiting.max(behind_this);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flock_lines_of_the_very_file_count_and_once() {
        let text = "\
1: POSIX  ADVISORY  WRITE 9 fe:01:77 0 EOF
2: FLOCK  ADVISORY  WRITE 10 fe:01:77 0 EOF
2: -> FLOCK  ADVISORY  WRITE 11 fe:01:77 0 EOF
2:  -> FLOCK  ADVISORY  WRITE 12 fe:01:77 0 EOF
2: FLOCK  ADVISORY  WRITE 10 fe:01:77 0 EOF
2: -> FLOCK  ADVISORY  WRITE 11 fe:01:77 0 EOF
3: FLOCK  ADVISORY  WRITE 13 fe:02:77 0 EOF
4: FLOCK  ADVISORY  WRITE 14 fe:01:78 0 EOF
5: FLOCK  ADVISORY  WRITE
garbage
";
        let id = FileId { device: nix::sys::stat::makedev(0xfe, 1), inode: 77 };
        assert_eq!(
            parse_locks(text, id),
            Seen { takers: vec![10, 10], waiting: 2, waiters: BTreeSet::from([11, 12]) }
        );
    }
}
