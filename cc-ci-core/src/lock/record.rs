//! What a holder writes into its lock file. It explains, it never decides.
//!
//! 512 bytes, always written whole with one `pwrite` at offset 0, so that a reader sees the old or the new one.
//! They are text, for `cat` and for other languages:
//!
//! ```text
//! cc-ci.lock/v1 <CRC-32 of the lines below, 8 hex digits>
//! pid <pid> <start time in ticks> <boot id>
//! since <RFC 3339 stamp>
//! run <run id>          (where the holder is a run)
//! recipe <name>         (where there is one)
//! phase <what it does>
//! ```
//!
//! then blanks and a last line feed. `run`, `recipe` and `phase` are missing until the holder describes itself.
//!
//! # Limitations
//! Whoever can open the file can write anything here. So reading never fails, what is no record is none, and
//! nobody believes one before the kernel has confirmed it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use jiff::Timestamp;

use super::Description;
use crate::sys::process::ProcessIdentity;
use crate::sys::system_info::BootId;

pub(super) const SIZE: usize = 512;
const SCHEMA: &str = "cc-ci.lock/v1 ";
/// Where the lines begin that the checksum covers.
const BODY: usize = SCHEMA.len() + 9;
/// The longest phase that is kept.
const PHASE: usize = 32;

/// A holder's account of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The process.
    pub(super) process: ProcessIdentity,
    /// When it took the lock.
    pub(super) since: Timestamp,
    /// What it does, once it said so.
    pub(super) description: Option<Description>,
}

impl Record {
    /// Writes it: one `pwrite`, or nothing.
    pub(super) fn write_to(&self, file: &File) -> io::Result<()> {
        let bytes = self.encode().ok_or_else(|| io::Error::other("it does not fit"))?;
        match file.write_at(&bytes, 0)? {
            SIZE => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Whether the file may hold a record of a process with this pid.
    pub(super) fn may_name(file: &File, pid: i32) -> bool {
        let mut start = [0; BODY + 16];
        let read = file.read_at(&mut start, 0).unwrap_or(start.len());
        let named = start.get(BODY + 4..read).unwrap_or_default().split(|&byte| byte == b' ').next();
        named.and_then(|pid| std::str::from_utf8(pid).ok()?.parse().ok()) == Some(pid)
    }

    /// Reads one, if there is one. Never reads more than its 512 bytes.
    pub(super) fn read_from(file: &File) -> Option<Self> {
        let mut bytes = [0; SIZE];
        (file.read_at(&mut bytes, 0).ok()? == SIZE).then(|| Self::decode(&bytes))?
    }

    fn encode(&self) -> Option<[u8; SIZE]> {
        let mut bytes = [b' '; SIZE];
        bytes[SIZE - 1] = b'\n';
        let mut rest = &mut bytes[BODY..SIZE - 1];
        let room = rest.len();
        let ProcessIdentity { pid, start_time, boot_id } = &self.process;
        // A line that does not fit is the only error.
        write!(rest, "pid {pid} {start_time} {boot_id}\nsince {}\n", self.since).ok()?;
        if let Some(Description { run_id, recipe, phase }) = &self.description {
            if let Some(run_id) = run_id {
                writeln!(rest, "run {run_id}").ok()?;
            }
            if let Some(recipe) = recipe {
                writeln!(rest, "recipe {recipe}").ok()?;
            }
            writeln!(rest, "phase {}", clean_phase(phase)).ok()?;
        }
        let body = room - rest.len();
        let checksum = crc32fast::hash(&bytes[BODY..BODY + body]);
        writeln!(&mut bytes[..BODY], "{SCHEMA}{checksum:08x}").ok()?;
        Some(bytes)
    }

    fn decode(bytes: &[u8; SIZE]) -> Option<Self> {
        let rest = bytes.strip_prefix(SCHEMA.as_bytes())?;
        let (checksum, body) = (rest.get(..8)?, rest.get(8..)?.strip_prefix(b"\n")?.strip_suffix(b"\n")?);
        let body = body.get(..=body.iter().rposition(|&byte| byte != b' ')?)?;
        let checksum = u32::from_str_radix(std::str::from_utf8(checksum).ok()?, 16).ok()?;
        if crc32fast::hash(body) != checksum {
            return None;
        }
        let mut lines = std::str::from_utf8(body).ok()?.split_terminator('\n').peekable();
        let mut field = |key: &str| {
            let value = lines.peek()?.strip_prefix(key)?;
            lines.next();
            Some(value)
        };
        let mut process = field("pid ")?.split(' ');
        let process = ProcessIdentity {
            pid: process.next()?.parse().ok().filter(|&pid| pid > 0)?,
            start_time: process.next()?.parse().ok()?,
            boot_id: BootId::new(process.next()?),
        };
        let since = field("since ")?.parse().ok()?;
        let run_id = field("run ").map(str::parse).transpose().ok()?;
        let recipe = field("recipe ").map(str::parse).transpose().ok()?;
        let description = match field("phase ") {
            Some(phase) if phase == clean_phase(phase) => {
                Some(Description { run_id, recipe, phase: phase.to_owned() })
            }
            None if run_id.is_none() && recipe.is_none() => None,
            _ => return None,
        };
        lines.next().is_none().then_some(Self { process, since, description })
    }
}

/// This process. Its start time is read once: it costs more than taking a lock.
pub(super) fn this_process(boot_id: BootId) -> io::Result<ProcessIdentity> {
    static START: OnceLock<(i32, u64)> = OnceLock::new();
    let pid = nix::unistd::getpid().as_raw();
    match START.get() {
        Some(&(known, start_time)) if known == pid => Ok(ProcessIdentity { pid, start_time, boot_id }),
        _ => {
            let identity = ProcessIdentity::of(pid, boot_id)?;
            START.get_or_init(|| (pid, identity.start_time));
            Ok(identity)
        }
    }
}

/// One line of plain characters, cut: it ends up on other users' terminals.
fn clean_phase(phase: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | ':' | '/');
    let cut: String = phase.chars().map(|c| if plain(c) { c } else { '_' }).take(PHASE).collect();
    cut.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(description: Option<Description>) -> Record {
        let boot_id = BootId::current().unwrap();
        Record { process: this_process(boot_id).unwrap(), since: Timestamp::now(), description }
    }

    fn longest() -> Description {
        Description {
            run_id: Some("9".repeat(64).parse().unwrap()),
            recipe: Some("r".repeat(64).parse().unwrap()),
            phase: "p".repeat(PHASE),
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let plain = Description { run_id: None, recipe: None, phase: "janitor".into() };
        let empty = Description { phase: String::new(), ..plain.clone() };
        for description in [None, Some(plain), Some(empty), Some(longest())] {
            let record = record(description);
            assert_eq!(Record::decode(&record.encode().unwrap()), Some(record));
        }
    }

    #[test]
    fn a_record_of_this_pid_is_recognised_at_its_start() {
        let mut file = tempfile::tempfile().unwrap();
        let record = record(None);
        let pid = record.process.pid;
        assert!(!Record::may_name(&file, pid));
        record.write_to(&file).unwrap();
        assert!(Record::may_name(&file, pid));
        assert!(!Record::may_name(&file, pid / 10));
        file.set_len(0).unwrap();
        file.write_all(&[0xff; 4096]).unwrap();
        assert!(!Record::may_name(&file, pid));
    }

    #[test]
    fn the_checksum_is_the_one_that_other_languages_know() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_torn_record_is_none() {
        let old = record(Some(longest())).encode().unwrap();
        let new = record(None).encode().unwrap();
        for cut in 1..SIZE {
            let mut torn = old;
            torn[..cut].copy_from_slice(&new[..cut]);
            if torn != old && torn != new {
                let read = Record::decode(&torn);
                assert!(read.is_none(), "cut at {cut}: {read:?}");
            }
        }
    }

    #[test]
    fn a_phase_cannot_write_lines_or_terminal_codes() {
        let phase = "a\nrun 7\u{1b}[2J\0".to_owned() + &"é".repeat(40);
        let bytes = record(Some(Description { run_id: None, recipe: None, phase })).encode().unwrap();
        let read = Record::decode(&bytes).unwrap().description.unwrap();
        assert_eq!(read.run_id, None);
        assert!(read.phase.starts_with("a_run 7__2J_"), "{read:?}");
        assert!(read.phase.len() <= PHASE);
    }

    proptest! {
        #[test]
        fn no_content_is_an_error(bytes in proptest::collection::vec(any::<u8>(), SIZE)) {
            let bytes: [u8; SIZE] = bytes.try_into().unwrap();
            prop_assert_eq!(Record::decode(&bytes), None);
        }

        #[test]
        fn a_flipped_byte_is_noticed(at in 0..SIZE, flip in 1..=255_u8) {
            let record = record(Some(longest()));
            let mut bytes = record.encode().unwrap();
            bytes[at] ^= flip;
            let read = Record::decode(&bytes);
            prop_assert!(read.is_none() || read == Some(record), "{:?}", read);
        }
    }
}
