//! The one thread that starts every child.
//!
//! The kernel sends a death signal when the parent *thread* ends that forked, with the process alive. A child
//! started from a runtime's worker would be killed when that idle worker retires. So one thread, which never
//! ends, forks for all.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, mpsc};

use nix::sys::signal::SigSet;

type Job = Box<dyn FnOnce() + Send>;

static SPAWNER: Mutex<Option<mpsc::Sender<Job>>> = Mutex::new(None);

/// Runs `job` on the spawner's thread.
///
/// # Errors
/// When the thread can't be started.
pub(super) fn submit(job: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    let sender = if let Some(sender) = spawner.as_ref() {
        sender
    } else {
        let (sender, blocking_tasks) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("cc-ci-spawner".into()).spawn(move || {
            // The host's signal handlers have no business here.
            let _refused = SigSet::all().thread_block().is_err();
            for job in blocking_tasks {
                // A panic of one job is that job's: its reply channel closes.
                let _panicked = catch_unwind(AssertUnwindSafe(job)).is_err();
            }
        })?;
        spawner.insert(sender)
    };
    sender.send(Box::new(job)).map_err(|_| io::Error::other("the spawner's thread is gone"))
}
