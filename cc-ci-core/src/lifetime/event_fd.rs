//! Wakes a thread that waits for descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

/// An eventfd. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct SharedEventFd(Arc<EventFd>);

impl SharedEventFd {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_value_and_flags(0, flags)?)))
    }

    pub(super) fn notify(&self) {
        // It can only fail when the counter is full, and then the thread is awake already.
        let _full = self.0.write(1).is_err();
    }

    pub(super) fn clear(&self) {
        // Nothing to read is as good.
        let _empty = self.0.read().is_err();
    }
}

impl AsFd for SharedEventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
