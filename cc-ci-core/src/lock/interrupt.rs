//! The signal that gets a thread out of a blocking `flock`.
//!
//! A real-time signal with an empty handler and without `SA_RESTART`: the system call returns `EINTR` and nothing
//! else happens. It is the only thing that the lock code takes from the process, and it takes one that nobody
//! uses: default disposition, and not blocked (a blocked one may be read through a signalfd).
#![expect(unsafe_code, reason = "no safe wrapper sends, handles or masks real-time signals")]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

use nix::libc::{self, c_int, c_void};
use nix::unistd::Pid;

/// The signal, once its handler is in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interrupt(c_int);

impl Interrupt {
    /// Chooses the signal and installs its handler, once per process.
    pub(super) fn get() -> io::Result<Self> {
        static CHOSEN: OnceLock<Option<c_int>> = OnceLock::new();
        CHOSEN
            .get_or_init(choose)
            .map(Self)
            .ok_or_else(|| io::Error::other("every real-time signal is in use"))
    }

    /// Leaves this thread open to the interrupt and to its own faults only, so that it takes no signal that is
    /// meant for the program.
    pub(super) fn shield_this_thread(self) {
        let faults = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP];
        let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigfillset` initialises the whole set before anything reads it; the other calls get valid
        // pointers to it and valid signal numbers. They can't fail with these arguments.
        unsafe {
            libc::sigfillset(mask.as_mut_ptr());
            for signal in faults.into_iter().chain([self.0]) {
                libc::sigdelset(mask.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, mask.as_ptr(), ptr::null_mut());
        }
    }

    /// Sends it to one thread of this process. A failure (a full signal queue) is for the caller's next try.
    pub(super) fn send(self, thread: Pid) {
        // SAFETY: the call touches no memory of ours, and the handler of this signal is installed.
        unsafe {
            libc::syscall(libc::SYS_tgkill, libc::getpid(), thread.as_raw(), self.0);
        }
    }
}

extern "C" fn nothing(_: c_int) {}

fn choose() -> Option<c_int> {
    let mut blocked = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: with a null new mask the call only writes the current one, in full.
    let blocked = unsafe {
        libc::sigemptyset(blocked.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), blocked.as_mut_ptr());
        blocked.assume_init()
    };
    (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(|&signal| {
        // SAFETY: every pointer is valid for its call, an all-zero `sigaction` is a valid value (default
        // disposition, empty mask, no flags), and a handler that does nothing is async-signal-safe.
        unsafe {
            let mut current: libc::sigaction = std::mem::zeroed();
            if libc::sigismember(&raw const blocked, signal) == 1
                || libc::sigaction(signal, ptr::null(), &raw mut current) != 0
                || current.sa_sigaction != libc::SIG_DFL
            {
                return false;
            }
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = nothing as *const c_void as libc::sighandler_t;
            libc::sigaction(signal, &raw const ours, ptr::null_mut()) == 0
        }
    })
}
