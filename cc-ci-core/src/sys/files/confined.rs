//! What is beneath a directory, by its descriptor alone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat2, statx};
use rustix::io::Errno;

use crate::sys::blocking::blocks;

/// Beneath the directory, through no link, and on the directory's own mount.
const CONFINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// How often the kernel may say that a path changed while it was followed.
const AGAIN: u32 = 64;

/// Opens `path` beneath `at` as [`CONFINED`] says.
pub(super) fn open_confined(
    at: BorrowedFd<'_>,
    path: impl rustix::path::Arg + Copy,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    blocks();
    for _ in 0..AGAIN {
        match openat2(at, path, flags | OFlags::CLOEXEC, mode, CONFINED) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// What a directory is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: (u32, u32),
    inode: u64,
    mount: u64,
}

impl Identity {
    pub fn of(fd: impl AsFd) -> io::Result<Self> {
        let found = look(fd, StatxFlags::INO | StatxFlags::MNT_ID)?;
        Ok(Self {
            device: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            mount: found.stx_mnt_id,
        })
    }
}

pub(super) fn look(fd: impl AsFd, wanted: StatxFlags) -> io::Result<Statx> {
    Ok(statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, wanted)?)
}
