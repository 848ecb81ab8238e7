//! A probe process, as the tests hold it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cc_ci_core::process::{ProcessIdentity, Signal, kill_process, wait_gone};
use cc_ci_core::system_info::BootId;
use nix::sys::signal::kill;
use nix::unistd::Pid;

pub use nix::sys::signal::Signal as UnixSignal;

/// The probe's program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_lifetime-probe");

/// A started process and the lines that it tells. It is killed when the test fails.
#[derive(Debug)]
pub struct Probe {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
    stdin: Option<ChildStdin>,
}

impl Probe {
    /// The probe with `words`.
    pub fn start(words: &[&str]) -> Self {
        Self::command(Command::new(PROGRAM).args(words))
    }

    /// A shell script, where `$0` is the probe's program; `$1`… are `words`.
    pub fn shell(script: &str, words: &[&str]) -> Self {
        Self::command(Command::new("sh").args(["-c", script, PROGRAM]).args(words))
    }

    /// Whatever starts a probe.
    pub fn command(command: &mut Command) -> Self {
        let mut child = command
            .env_remove("CCCI_MARKER")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = child.stdout.take().map(BufReader::new);
        Self { stdin: child.stdin.take(), child, lines }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn send(&self, signal: UnixSignal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// The next line; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next line, which begins so; what follows.
    pub fn expect(&mut self, beginning: &str) -> String {
        let line = self.line();
        let Some(rest) = line.strip_prefix(beginning) else {
            panic!("expected {beginning:?}, was told {line:?}");
        };
        rest.trim_start().to_owned()
    }

    /// The pids that the probe tells, and then that it is ready.
    pub fn started(&mut self) -> Vec<ProcessIdentity> {
        let mut started = Vec::new();
        loop {
            let line = self.line();
            let Some(pid) = line.strip_prefix("pid: ") else {
                assert_eq!(line, "ready");
                return started;
            };
            started.push(identity(pid.parse().unwrap()));
        }
    }

    /// The end of a probe that was cancelled: torn down in order, with nobody left.
    pub fn expect_teardown(&mut self, cause: &str, code: u8) {
        assert_eq!(self.expect("cancelled:"), cause);
        self.expect_removal();
        assert_eq!(self.expect("exit:"), code.to_string());
    }

    /// Until the teardown would remove something.
    pub fn expect_removal(&mut self) -> String {
        assert_eq!(self.expect("removing:"), "0 alive, 0 left");
        let ended = self.expect("ended:");
        let after: u32 = self.expect("signalled after ms:").parse().unwrap();
        // 100 ms are promised on a host that has time for us.
        assert!(after < 1000, "the children were signalled {after} ms after the cancellation");
        ended
    }

    /// Closes the probe's stdin.
    pub fn close_stdin(&mut self) {
        drop(self.stdin.take());
    }

    /// Closes the reading end of the probe's stdout.
    pub fn close_output(&mut self) {
        drop(self.lines.take());
    }

    pub fn stdin(&mut self) -> &mut ChildStdin {
        self.stdin.as_mut().unwrap()
    }

    /// The exit status of the process that was started.
    pub fn code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Waits for it, and keeps reading what it left.
    pub fn wait(&mut self) {
        self.child.wait().unwrap();
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Std refuses to signal what it has waited for.
        let _ended = self.child.kill().is_err();
        let _waited = self.child.wait().is_err();
    }
}

/// Says why a test proves nothing here, past the capture of what tests print.
pub fn skipped(reason: impl std::fmt::Display) {
    let _closed = writeln!(std::io::stderr(), "skipped: {reason}").is_err();
}

pub fn identity(pid: i32) -> ProcessIdentity {
    ProcessIdentity::of(pid, BootId::current().unwrap()).unwrap()
}

pub fn is_alive(process: &ProcessIdentity) -> bool {
    process.is_alive(&process.boot_id)
}

pub fn end(process: &ProcessIdentity) {
    kill_process(process, &process.boot_id, Signal::Kill).unwrap();
}

/// Waits for the end of every process; panics when one stays.
pub fn all_go(processes: &[ProcessIdentity]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let until = Instant::now() + Duration::from_mins(1);
    for process in processes {
        let gone = runtime.block_on(wait_gone(process, &process.boot_id, until)).unwrap();
        assert!(gone, "{process} stays");
    }
}
