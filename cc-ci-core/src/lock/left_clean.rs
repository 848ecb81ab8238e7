//! The word of a holder to the next one that it left no process running, so that nobody needs to search for one.
//!
//! It is an attribute of the lock file in the kernel's namespace `trusted`, which only a process with `CAP_SYS_ADMIN`
//! on the host reads or writes: nothing that is confined has it, and a user who may write to the lock file need not. It
//! repeats the record of its holder, so it says nothing once another record stands there; and whoever takes the lock
//! takes it away, so that a holder that is killed leaves none.
//!
//! # Limitations
//! Without that capability nobody leaves a word, and the next one searches. What is not confined and runs as root may
//! write one; it may take off its mark as well.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr};

use super::record::SIZE;

const NAME: &str = "trusted.cc-ci.left-clean";

/// Leaves the word for the next holder. The caller holds the lock, and has written its record.
pub(super) fn leave(file: &File) -> io::Result<()> {
    let record = record_in(file).ok_or(io::ErrorKind::InvalidData)?;
    Ok(fsetxattr(file, NAME, &record, XattrFlags::empty())?)
}

/// Takes the word away; returns whether there was one, of the last who held the lock. The caller holds it, and has not
/// written its record yet.
pub(super) fn take(file: &File) -> bool {
    let mut word = [0; SIZE];
    // One that stays would stand for a holder that is killed.
    fgetxattr(file, NAME, &mut word) == Ok(SIZE)
        && fremovexattr(file, NAME).is_ok()
        && record_in(file) == Some(word)
}

fn record_in(file: &File) -> Option<[u8; SIZE]> {
    let mut record = [0; SIZE];
    (file.read_at(&mut record, 0).ok()? == SIZE).then_some(record)
}
