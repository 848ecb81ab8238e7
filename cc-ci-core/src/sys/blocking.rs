//! Work that blocks, off the thread that drives a runtime.
//!
//! A file system, `/proc` and a lock answer when they like. Whoever asks them on the thread that drives the runtime
//! keeps every wait from its end meanwhile: a cancellation, a limit, a signal to the children. So [`run`] asks on a thread
//! of its own, and a thread that [is not to block](Unblocked) panics, in a debug build, where it asks all the same: the
//! command marks the thread that it waits on, and tests mark theirs.
//!
//! # Limitations
//! What is asked of one process by its number, and what is written to a descriptor that is open, is not looked at: that is
//! memory of the kernel, and a record of some hundred bytes in it.

use std::cell::Cell;
use std::marker::PhantomData;

use tokio::task::JoinHandle;

thread_local! {
    /// How many of [`Unblocked`] this thread has.
    static UNBLOCKED: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, this thread must not block: it drives a runtime.
#[derive(Debug)]
#[must_use = "the thread may block again once it is dropped"]
pub struct Unblocked {
    /// It is of this thread.
    _here: PhantomData<*const ()>,
}

impl Unblocked {
    /// Marks this thread.
    pub fn begin() -> Self {
        UNBLOCKED.set(UNBLOCKED.get() + 1);
        Self { _here: PhantomData }
    }
}

impl Drop for Unblocked {
    fn drop(&mut self) {
        UNBLOCKED.set(UNBLOCKED.get().saturating_sub(1));
    }
}

/// What blocks says so.
///
/// # Panics
/// In a debug build, on a thread that must not.
#[track_caller]
pub(crate) fn blocks() {
    debug_assert!(UNBLOCKED.get() == 0, "a call that blocks on the thread that drives the runtime");
}

/// Does `work` on this thread although it blocks: for the few steps that must not go on once their caller is gone, or that
/// are over sooner than another thread has begun.
pub fn briefly<T>(work: impl FnOnce() -> T) -> T {
    struct Again(usize);
    impl Drop for Again {
        fn drop(&mut self) {
            UNBLOCKED.set(self.0);
        }
    }
    let _again = Again(UNBLOCKED.replace(0));
    work()
}

/// Runs `work` on a thread where it may block. Once begun, it goes on to its end, also where nobody waits any more.
///
/// # Panics
/// Passes a panic of `work` on.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work)).await
}

/// What a task gave; a panic is passed on.
pub(crate) async fn joined<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // A task is cancelled only while the runtime shuts down, and then nobody polls us.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::path::Path;

    use super::*;
    use crate::sys::files::{Dir, write_whole};
    use crate::sys::process;
    use crate::sys::system_info::BootId;

    type Ask = Box<dyn Fn(&Path) + Send>;

    #[tokio::test]
    async fn a_thread_that_must_not_block_is_told_where_it_does() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        let asks: [(&str, Ask); 3] = [
            ("a directory", Box::new(|root| drop(Dir::open(root)))),
            ("a file", Box::new(|root| drop(write_whole(&root.join("file"), b"", 0o600)))),
            ("/proc", Box::new(|_| drop(process::marked(&BootId::new("boot"))))),
        ];
        for (what, ask) in asks {
            let refused = {
                let _unblocked = Unblocked::begin();
                catch_unwind(std::panic::AssertUnwindSafe(|| ask(&root))).is_err()
            };
            assert!(refused, "{what} was asked for");
            ask(&root);
            let _unblocked = Unblocked::begin();
            let root = root.clone();
            run(move || ask(&root)).await;
        }
    }
}
