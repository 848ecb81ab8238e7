//! A process that doesn't end when it is killed, until the test lets it: as one does that is stuck in the kernel.

use cc_ci_tests::{pipes, skip};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// It stops on its way out, and is kept there.
#[derive(Debug)]
pub struct Frozen(Pid);

impl Frozen {
    /// Keeps `pid` from its end; a visible skip of `test` where the kernel doesn't let us.
    pub fn keep(test: &str, pid: i32) -> Option<Self> {
        let pid = Pid::from_raw(pid);
        match ptrace::seize(pid, Options::PTRACE_O_TRACEEXIT) {
            Ok(()) => Some(Self(pid)),
            Err(Errno::EPERM | Errno::ENOSYS) => {
                skip(test, "needs ptrace");
                None
            }
            Err(error) => panic!("can't keep {pid} from its end: {error}"),
        }
    }

    /// Waits until somebody killed it.
    #[track_caller]
    pub fn wait_for_its_end(&self) {
        let pid = self.0;
        let stopped = pipes::in_time("the process is killed", move || waitpid(pid, None));
        assert!(matches!(stopped, Ok(WaitStatus::PtraceEvent(..))), "{stopped:?}");
    }

    /// Lets it end. It has been waited for.
    pub fn let_go(self) {
        ptrace::detach(self.0, None).expect("a stopped process can be let go");
    }
}
