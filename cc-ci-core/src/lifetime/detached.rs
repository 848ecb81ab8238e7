//! Processes that outlive the run on purpose.
//!
//! The process forks twice, tells its pid, and waits for a word before it executes its program. The word is sent
//! only after it was recorded; when this process dies before that, the pipe ends and so does the process. So
//! nothing runs that nobody knows of.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::sync::oneshot;

use super::descendants::children_of;
use super::exec::{self, Handshake};
use super::sandbox::{BOUND_IN_WORDS, kill_first, until_over};
use super::supervisor::{Prepared, Supervisor, prepare};
use super::{Command, Output, RecordDetached, SpawnError, Stage, spawner};
use crate::sys::blocking;
use crate::sys::files::open_log;
use crate::sys::process::ProcessIdentity;
use crate::sys::system_info::BootId;

impl Supervisor {
    pub(super) async fn spawn_detached(
        self: &Arc<Self>,
        command: Command,
        record: RecordDetached,
    ) -> Result<ProcessIdentity, SpawnError> {
        let starting = self.enter(&command).await?;
        let program = command.program();
        let watched = match (&command.sandbox, &command.output) {
            (Some(sandbox), Output::File(log)) => Some((sandbox.written(), log.clone())),
            _ => None,
        };
        let supervisor = Arc::clone(self);
        // Off the runtime, and not on the spawner's thread: that one waits for the process until it executes.
        let started = tokio::task::spawn_blocking(move || {
            let started = start(&supervisor, command, record);
            drop(starting);
            started
        });
        let started = started.await.unwrap_or_else(|_| Err(io::Error::other("the recorder panicked")));
        if let (Ok(process), Some((trees, log))) = (&started, watched) {
            tokio::spawn(watch(Arc::downgrade(self), process.clone(), trees, log));
        }
        started.map_err(|source| SpawnError::Io { program, source })
    }
}

/// Ends a confined process that has more on disk than a sandbox may have, as long as the lifetime is there.
async fn watch(lifetime: Weak<Supervisor>, process: ProcessIdentity, trees: Vec<PathBuf>, log: PathBuf) {
    let is_wanted = || lifetime.strong_count() > 0 && process.is_alive(&process.boot_id);
    while until_over(trees.clone(), process.pid, is_wanted).await {
        let killed = children_of(process.pid).into_iter().any(|first| kill_first(first, process.pid));
        tracing::warn!(%process, killed, "what a service may write to has more than a sandbox may have");
        if killed {
            let tell = move || {
                open_log(&log).and_then(|mut log| {
                    writeln!(log, "cc-ci: ended: what it may write to had more than {BOUND_IN_WORDS}")
                })
            };
            // Whoever reads the log sees why; that it can't be told changes nothing.
            let _untold = blocking::run(tell).await;
            return;
        }
    }
}

fn start(
    supervisor: &Arc<Supervisor>,
    command: Command,
    record: RecordDetached,
) -> io::Result<ProcessIdentity> {
    let (message, report) = pipe2(OFlag::O_CLOEXEC)?;
    let (go, word) = pipe2(OFlag::O_CLOEXEC)?;
    let (reply, answer) = oneshot::channel();
    let of_body = command.stage == Stage::Body;
    let go_writer = word.as_raw_fd();
    spawner::submit(move || {
        // Dropped with this frame: `told` ends when the process is gone too.
        let spawned = prepare(&command).and_then(|Prepared { command: mut prepared, entry, .. }| {
            exec::detached(&mut prepared, Handshake { report, go, go_writer }, entry);
            prepared.spawn()?.wait()
        });
        let _gone = reply.send(spawned).is_err();
    })?;
    let recorded = admit(supervisor, File::from(message), File::from(word), record, of_body);
    let spawned = answer.blocking_recv().unwrap_or_else(|_| Err(io::Error::other("the spawner panicked")));
    match (recorded, spawned) {
        // What std tells of the start explains more than a pipe that ended.
        (Err(error), Err(refused)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(refused),
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        (Ok(identity), Ok(_)) => Ok(identity),
    }
}

/// Records the process that tells its pid, then lets it go on.
fn admit(
    supervisor: &Supervisor,
    mut message: File,
    mut word: File,
    record: RecordDetached,
    of_body: bool,
) -> io::Result<ProcessIdentity> {
    let mut pid = [0; 4];
    message.read_exact(&mut pid)?;
    let identity = ProcessIdentity::of(i32::from_ne_bytes(pid), BootId::current()?)?;
    supervisor.remember_service(&identity);
    record(&identity)?;
    if of_body && supervisor.is_admission_closed() {
        // Whoever tears down waits for this start, but not for ever.
        return Err(io::Error::other("teardown has begun"));
    }
    word.write_all(&[1])?;
    Ok(identity)
}
