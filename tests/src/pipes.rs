//! Events between a test and the processes that it started, all bounded by [`EVENT_LIMIT`].

use std::fs;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Write as _};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use cc_ci_core::process::{ProcessIdentity, wait_gone};
use cc_ci_core::system_info::BootId;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::EVENT_LIMIT;

/// Waits for whoever writes to the named pipe, and gives what it wrote until it closed the pipe.
#[track_caller]
pub fn hear(pipe: &Path) -> String {
    let path = pipe.to_owned();
    let heard = in_time("somebody writes to the pipe", move || fs::read_to_string(path));
    heard.expect("the pipe can be read").trim().to_owned()
}

/// Lets go whoever reads from the named pipe.
#[track_caller]
pub fn tell(pipe: &Path) {
    let path = pipe.to_owned();
    in_time("somebody reads from the pipe", move || fs::write(path, "go\n")).expect("a pipe to write to");
}

/// Waits until `work`, which blocks, has returned.
///
/// # Panics
/// When it does not in time.
#[track_caller]
pub fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        // The test has failed meanwhile.
        let _late = sender.send(work()).is_err();
    });
    // No closure: the caller's place is told.
    let Ok(done) = done.recv_timeout(EVENT_LIMIT) else { panic!("in vain until {what}") };
    done
}

/// A pipe that holds as much as it can.
pub fn full() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a flag can be set");
    // Bytes last, for what is free behind the last whole block.
    for size in [4096, 1] {
        loop {
            match writer.write(&vec![b'.'; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("can't fill a pipe: {error}"),
            }
        }
    }
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("a flag can be set");
    (reader, writer)
}

/// The process with this pid, as it is now.
pub fn process(pid: i32) -> ProcessIdentity {
    ProcessIdentity::of(pid, BootId::current().expect("a boot id")).expect("the process is there")
}

/// Whether the child with this pid ends in time. It stays to be waited for.
pub(crate) fn gone(pid: i32) -> bool {
    // A child that nobody waited for has its pid, dead or alive.
    ends(&process(pid))
}

/// Whether a process ends in time.
pub fn ends(process: &ProcessIdentity) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime
        .block_on(wait_gone(process, &process.boot_id, Instant::now() + EVENT_LIMIT))
        .expect("it can be watched")
}
