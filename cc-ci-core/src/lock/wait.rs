//! Waiting for a lock in the kernel's own queue, in a way that can be given up at any moment.
//!
//! One thread per wait blocks in `flock`, so waiters are served in order and waiting costs nothing. The thread
//! owns the descriptor until it hands it over, and closes it when the wait was given up, whatever `flock`
//! returned: nobody ends up with a lock that no one wants any more. To give a wait up is to raise a flag and to
//! interrupt the thread until it says that it is through: one interrupt could fall just before the system call.
//! A single thread does the interrupting for all waits, so that giving up is a message, which can't fail, and the
//! future that waits can simply be dropped.
//!
//! A waiter that wakes on a file that is no longer the one at the path starts over on that one. It first tries
//! there while the old lock still keeps back those who wait behind it, so the first of them stays the first.
//!
//! # Limitations
//! The order is the kernel's. When one in the queue gives up, it wakes the next one, which queues up again with
//! all behind it; who comes at that very moment may get in between. The same holds for the second and later
//! waiters when the lock file is removed.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::unistd::{Pid, gettid};
use tokio::sync::oneshot;

use super::LockError;
use super::directory::{LockDirectory, LockFile, failed};
use super::interrupt::Interrupt;

/// How long between two interrupts of a thread that has not acknowledged.
const AGAIN: Duration = Duration::from_millis(2);
/// How often a wait starts over on another file: each time somebody held and removed one.
const ROUNDS: u32 = 1000;

/// How many waits were given up and have not been acknowledged.
static ENDING: AtomicUsize = AtomicUsize::new(0);

/// A wait in the kernel's queue. Dropping it is giving it up.
#[derive(Debug)]
pub(super) struct Waiting {
    thread: Arc<WaitThread>,
    interrupts: mpsc::Sender<Arc<WaitThread>>,
    granted: oneshot::Receiver<Result<LockFile, LockError>>,
}

/// What a wait's thread shares with those who may interrupt it.
#[derive(Debug, Default)]
struct WaitThread {
    given_up: AtomicBool,
    /// The thread, from its first step until it acknowledges, which it does last: nothing of the wait is open
    /// then. Whoever holds this mutex can interrupt it.
    running: Mutex<Option<Pid>>,
}

impl Waiting {
    /// Starts to wait for the lock file at `path`.
    pub(super) fn begin(directory: &Arc<LockDirectory>, path: &Path) -> Result<Self, LockError> {
        let cannot = |source: io::Error| failed("wait for", path, source);
        let interrupt = Interrupt::get().map_err(cannot)?;
        let interrupts = interrupter(interrupt).map_err(cannot)?;
        let thread = Arc::new(WaitThread::default());
        let (grant, granted) = oneshot::channel();
        let (ours, directory, path) = (Arc::clone(&thread), Arc::clone(directory), path.to_owned());
        spawn("cc-ci-lock-wait", move || {
            interrupt.shield_this_thread();
            let running = RunningThread::begin(&ours);
            if let Some(result) = wait_for(&directory, &path, running.0).transpose() {
                // Unsent, the file comes back and is closed here; sent and never looked at, with the channel.
                drop(grant.send(result));
            }
        })
        .map_err(cannot)?;
        Ok(Self { thread, interrupts, granted })
    }

    /// The lock. Cancel-safe.
    pub(super) async fn granted(&mut self) -> Result<LockFile, LockError> {
        match (&mut self.granted).await {
            Ok(result) => result,
            // Only a wait that was given up ends without an answer, and then nobody asks.
            Err(_) => std::future::pending().await,
        }
    }

    /// Gives the wait up, and returns when its descriptor is closed: a few milliseconds at most.
    pub(super) async fn end(mut self) {
        const END_LIMIT: Duration = Duration::from_millis(50);
        self.give_up();
        drop(tokio::time::timeout(END_LIMIT, &mut self.granted).await);
    }

    /// Whether a wait of this process was given up and may still have its descriptor for a moment.
    pub(super) fn any_ends() -> bool {
        ENDING.load(Ordering::SeqCst) > 0
    }

    fn give_up(&self) {
        if !self.thread.given_up.swap(true, Ordering::SeqCst) {
            ENDING.fetch_add(1, Ordering::SeqCst);
            // The receiver is never dropped: its thread does not end.
            self.interrupts.send(Arc::clone(&self.thread)).ok();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl WaitThread {
    fn given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    fn running(&self) -> MutexGuard<'_, Option<Pid>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While this lives the thread may block, and may be interrupted.
struct RunningThread<'a>(&'a WaitThread);

impl<'a> RunningThread<'a> {
    fn begin(thread: &'a WaitThread) -> Self {
        *thread.running() = Some(gettid());
        Self(thread)
    }
}

impl Drop for RunningThread<'_> {
    fn drop(&mut self) {
        *self.0.running() = None;
    }
}

/// Blocks until the lock is ours, or the wait is given up: `None`.
fn wait_for(
    directory: &LockDirectory,
    path: &Path,
    thread: &WaitThread,
) -> Result<Option<LockFile>, LockError> {
    let mut outdated: Option<LockFile> = None;
    for _ in 0..ROUNDS {
        let opened = directory.open(path)?;
        let mut taken = outdated.take().is_some_and(|_keeps_others_back| opened.file.try_lock().is_ok());
        while !taken {
            if thread.given_up() {
                return Ok(None);
            }
            match opened.file.lock() {
                Ok(()) => taken = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(failed("lock", path, error)),
            }
        }
        if thread.given_up() {
            return Ok(None);
        }
        if opened.is_current()? {
            return Ok(Some(opened));
        }
        outdated = Some(opened);
    }
    Err(LockError::Unstable { path: path.to_owned(), attempts: ROUNDS })
}

/// The way to the one thread that interrupts waits; starts it the first time.
fn interrupter(interrupt: Interrupt) -> io::Result<mpsc::Sender<Arc<WaitThread>>> {
    static WAY: Mutex<Option<mpsc::Sender<Arc<WaitThread>>>> = Mutex::new(None);
    let mut way = WAY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(way) = &*way {
        return Ok(way.clone());
    }
    let (sender, receiver) = mpsc::channel();
    spawn("cc-ci-lock-stop", move || {
        interrupt.shield_this_thread();
        interrupt_until_acknowledged(interrupt, &receiver);
    })?;
    Ok(way.insert(sender).clone())
}

fn interrupt_until_acknowledged(interrupt: Interrupt, given_up: &mpsc::Receiver<Arc<WaitThread>>) {
    let mut pending: Vec<Arc<WaitThread>> = Vec::new();
    loop {
        let next = if pending.is_empty() {
            given_up.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            given_up.recv_timeout(AGAIN)
        };
        match next {
            Ok(thread) => pending.push(thread),
            Err(RecvTimeoutError::Timeout) => (),
            // The static end of the channel lives as long as the process.
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // A thread that has not begun yet sees the flag when it does. Under the mutex it can't end, so its id
        // is its own.
        pending.retain(|thread| {
            let running = thread.running();
            if let Some(id) = *running {
                interrupt.send(id);
            } else {
                ENDING.fetch_sub(1, Ordering::SeqCst);
            }
            running.is_some()
        });
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    const STACK: usize = 128 * 1024;
    thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(body).map(drop)
}
