//! What both modes of a kernel-backed lifetime share.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use tokio::sync::{oneshot, watch};

use super::child::Child;
use super::children::Children;
use super::command::{Command, Output, Stage, Stdin};
use super::deadline::Clock;
use super::descendants::PreexistingChildren;
use super::ended::Ended;
use super::output::Lines;

use super::event_fd::SharedEventFd;
use super::exec::Entry;
use super::sandbox::{DiskWatch, Forwards, Status, Target};
use super::{BlockingTasks, Sandbox, SpawnError, Teardown, children, exec, sandbox, spawner};
use crate::model::cancellation::{Cancellation, Cause};
use crate::model::event::{Event, Reporter};
use crate::sys::process::{Marker, MarkerOwner, Present, ProcessIdentity, StatLine};
use crate::sys::programs;

/// The state of one lifetime.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) owner: ProcessIdentity,
    pub(super) cancellation: Cancellation,
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) clock: Arc<Clock>,
    pub(super) event_fd: SharedEventFd,
    pub(super) children: Arc<Children>,
    pub(super) blocking_tasks: BlockingTasks,
    /// The lifetime's handle is gone: the watcher's thread ends what is left, then itself.
    pub(super) abandoned: AtomicBool,
    cancelled_at: OnceLock<Instant>,
    budget: Duration,
    admission: Mutex<Admission>,
    /// Starts under way. Admission is closed first, then whoever ends children waits for these.
    starting: watch::Sender<usize>,
    /// In owning mode, where we are the subreaper of our descendants.
    pub(super) subreaper: Option<PreexistingChildren>,
    /// One end of the children at a time.
    pub(super) ending: tokio::sync::Mutex<()>,
    /// The marks of run children that were started here.
    marks: Mutex<BTreeSet<String>>,
    /// Who was there before the first of them was started, and so carries none of their marks.
    before_marks: OnceLock<Present>,
    /// The detached processes that were started here: as subreaper we adopt them.
    services: Mutex<Vec<ProcessIdentity>>,
    /// Who waits for the cancellation or the teardown, outside of any runtime.
    message: Mutex<Vec<mpsc::Sender<()>>>,
}

/// Who may still come in.
#[derive(Debug, Default)]
struct Admission {
    teardown: Option<Teardown>,
    closed: bool,
    cancelled: bool,
}

/// Counts one start until it is dropped.
pub(super) struct Starting(watch::Sender<usize>, SharedEventFd);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.send_modify(|starting| *starting -= 1);
        // An abandoned lifetime's thread waits for the last one.
        self.1.notify();
    }
}

/// A child that runs, before its output has a reader.
struct Started {
    pid: i32,
    ended: watch::Receiver<Option<Ended>>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Those of its sandbox.
    listeners: Vec<(TcpListener, Target)>,
}

impl Supervisor {
    pub(super) fn new(
        owner: ProcessIdentity,
        deadline: Option<Duration>,
        budget: Duration,
        reporter: Arc<dyn Reporter>,
        subreaper: Option<PreexistingChildren>,
    ) -> io::Result<Self> {
        let event_fd = SharedEventFd::new()?;
        let children = Children::new(owner.clone())?;
        Ok(Self {
            owner,
            cancellation: Cancellation::new(),
            reporter,
            clock: Arc::new(Clock::new(deadline, event_fd.clone())),
            event_fd,
            children: Arc::new(children),
            blocking_tasks: BlockingTasks::default(),
            abandoned: AtomicBool::new(false),
            cancelled_at: OnceLock::new(),
            budget,
            admission: Mutex::default(),
            starting: watch::Sender::new(0),
            subreaper,
            ending: tokio::sync::Mutex::default(),
            marks: Mutex::default(),
            before_marks: OnceLock::new(),
            services: Mutex::default(),
            message: Mutex::default(),
        })
    }

    /// Says why, then cancels: what follows from it is told after it. Only the first cause counts, and none once
    /// teardown has begun: what ended the run is decided then.
    pub(super) fn cancel(&self, cause: Cause) -> bool {
        {
            let mut admission = self.admission();
            if admission.teardown.is_some() || admission.cancelled || self.cancellation.cause().is_some() {
                return false;
            }
            admission.cancelled = true;
        }
        let _again = self.cancelled_at.set(Instant::now()).is_err();
        self.reporter.report(&Event::Cancelled { cause });
        let first = self.cancellation.cancel(cause);
        self.tell();
        first
    }

    pub(super) fn since_cancellation(&self) -> Option<Duration> {
        self.cancelled_at.get().map(Instant::elapsed)
    }

    pub(super) fn begin_teardown(&self) -> Teardown {
        let teardown = {
            let mut admission = self.admission();
            admission.closed = true;
            *admission.teardown.get_or_insert_with(|| {
                let began = Instant::now();
                Teardown { began, until: crate::sys::after(began, self.budget) }
            })
        };
        self.tell();
        teardown
    }

    pub(super) fn tell_turns(&self, to: mpsc::Sender<()>) {
        lock(&self.message).push(to);
    }

    fn tell(&self) {
        // Who does not listen any more needs no word.
        lock(&self.message).retain(|to| to.send(()).is_ok());
    }

    pub(super) fn teardown(&self) -> Option<Teardown> {
        self.admission().teardown
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Gives the lifetime up: see [`Self::abandoned`].
    pub(super) fn abandon(&self) {
        self.admission().closed = true;
        self.abandoned.store(true, Ordering::Release);
        self.event_fd.notify();
    }

    /// Refuses children of the body from now on.
    pub(super) fn close_admission(&self) {
        self.admission().closed = true;
    }

    pub(super) fn is_admission_closed(&self) -> bool {
        self.admission().closed
    }

    /// Waits until the children whose start is under way are started. Cancel-safe.
    pub(super) async fn all_started(&self) {
        let mut starting = self.starting.subscribe();
        // The sender lives in `self`.
        let _closed = starting.wait_for(|starting| *starting == 0).await.is_err();
    }

    /// Whether no start is under way.
    pub(super) fn nothing_starts(&self) -> bool {
        *self.starting.borrow() == 0
    }

    /// Lets one start in.
    pub(super) async fn enter(&self, command: &Command) -> Result<Starting, SpawnError> {
        let mark = command.marker.as_ref().filter(|mark| matches!(mark.owner, MarkerOwner::Run { .. }));
        if mark.is_some() && self.before_marks.get().is_none() {
            // Before whoever closes the admission would wait for it. Where they can't be listed, all are looked at.
            let present = self.blocking_tasks.run(|| Present::now().unwrap_or_default()).await;
            // Another start may have listed them meanwhile: before it started anything, as here.
            let _listed = self.before_marks.set(present).is_err();
        }
        let admission = self.admission();
        let abandoned = self.is_abandoned();
        if abandoned || (admission.closed && command.stage == Stage::Body) {
            return Err(SpawnError::TearingDown { program: command.program() });
        }
        if let Some(mark) = mark {
            lock(&self.marks).insert(mark.to_string());
        }
        self.starting.send_modify(|starting| *starting += 1);
        Ok(Starting(self.starting.clone(), self.event_fd.clone()))
    }

    pub(super) async fn spawn(self: &Arc<Self>, command: Command) -> Result<Child, SpawnError> {
        let starting = self.enter(&command).await?;
        let program = command.program();
        let failed = |source| SpawnError::Io { program, source };
        let (grace, limit, line_limit) = (command.grace, command.output_limit, command.line_limit);
        let written = command.sandbox.as_ref().map(Sandbox::written);
        let (reply, answer) = oneshot::channel();
        let supervisor = Arc::clone(self);
        let job = move || {
            // Under way until somebody has the child, or nobody wants it.
            let _under_way = starting;
            let started = supervisor.start(&command);
            if let Err(Ok(unwanted)) = reply.send(started) {
                // Whoever asked is gone.
                supervisor.children.signal(unwanted.pid, Signal::SIGKILL);
            }
        };
        let started = match spawner::submit(job) {
            Ok(()) => match answer.await {
                Ok(started) => started,
                Err(_) => Err(io::Error::other("the spawner panicked")),
            },
            Err(error) => Err(error),
        };
        let Started { pid, ended, stdout, stderr, listeners } = match started {
            Ok(started) => started,
            Err(error) => return Err(failed(error)),
        };
        let lines = Lines::new(stdout, stderr, limit, line_limit);
        match lines.and_then(|lines| Ok((lines, Forwards::start(listeners)?))) {
            Ok((lines, forwards)) => {
                let children = Arc::clone(&self.children);
                let end = move || {
                    children.signal(pid, Signal::SIGKILL);
                };
                let disk = written.map(|trees| DiskWatch::start(trees, pid, end));
                Ok(Child::new(pid, grace, Arc::clone(&self.children), ended, lines, forwards, disk))
            }
            Err(error) => {
                self.children.signal(pid, Signal::SIGKILL);
                Err(failed(error))
            }
        }
    }

    fn start(&self, command: &Command) -> io::Result<Started> {
        let Prepared { command: mut prepared, entry, status, listeners, pid } = prepare(command)?;
        // Who gets our own output writes as we do.
        let umask = command.output != Output::Inherit;
        let _start = children::between_starts();
        exec::supervised(&mut prepared, command.stdin == Stdin::Terminal, umask, entry);
        let spawned = prepared.spawn();
        // With it go the descriptors that are the child's alone.
        drop(prepared);
        let in_place = pid.and_then(told_pid);
        if let (Err(_), Some(pid)) = (&spawned, in_place) {
            // It told the error, and has ended.
            let _waited = waitpid(Pid::from_raw(pid), None).is_err();
        }
        let mut child = spawned?;
        if in_place.is_some() {
            // The one that it took the place of has ended.
            let _waited = child.wait().is_err();
        }
        let pid = in_place.unwrap_or(child.id().cast_signed());
        let ended = self.children.adopt(pid, command.program(), command.grace, status)?;
        let (stdout, stderr) =
            (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from));
        let listeners = listeners.map(|(from, leads)| sandbox::listeners(&from, leads)).transpose();
        let listeners = listeners.inspect_err(|_| {
            self.children.signal(pid, Signal::SIGKILL);
        })?;
        Ok(Started { pid, ended, stdout, stderr, listeners: listeners.unwrap_or_default() })
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        lock(&self.admission)
    }

    /// Who was there before the first run child was started; none was.
    pub(super) fn before_marks(&self) -> Option<&Present> {
        self.before_marks.get()
    }

    /// Whether a run child with this mark was started here.
    pub(super) fn is_mark(&self, mark: &Marker) -> bool {
        lock(&self.marks).contains(&mark.to_string())
    }

    pub(super) fn remember_service(&self, service: &ProcessIdentity) {
        lock(&self.services).push(service.clone());
    }

    /// Whether `group` is that of a detached process that was started here.
    pub(super) fn is_service_group(&self, group: i32) -> bool {
        // While the group has a member its leader's pid is taken, even when the leader is gone.
        let reused = |leader: &ProcessIdentity| {
            StatLine::read(leader.pid).is_ok_and(|stat| stat.start_time != leader.start_time)
        };
        lock(&self.services).iter().any(|leader| leader.pid == group && !reused(leader))
    }
}

/// The pid that a child tells which is not the process that was started first.
fn told_pid(from: OwnedFd) -> Option<i32> {
    let mut pid = [0; 4];
    File::from(from).read_exact(&mut pid).ok().map(|()| i32::from_ne_bytes(pid))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command as the standard library starts it, and what goes with a sandbox.
pub(super) struct Prepared {
    pub(super) command: std::process::Command,
    pub(super) entry: Option<Entry>,
    pub(super) status: Option<Status>,
    listeners: Option<(OwnedFd, Vec<Target>)>,
    pid: Option<OwnedFd>,
}

/// The whole environment of the program, with a `PATH` of absolute parts alone.
fn variables(command: &Command) -> BTreeMap<OsString, OsString> {
    let mut variables = command.env.clone();
    if let Some(path) = variables.get_mut(OsStr::new("PATH")) {
        *path = programs::absolute_parts(path);
    }
    if let Some(marker) = &command.marker {
        variables.insert(Marker::VARIABLE.into(), marker.to_string().into());
    }
    variables
}

/// The standard library's form of `command`, with nothing of our environment.
pub(super) fn prepare(command: &Command) -> io::Result<Prepared> {
    let variables = variables(command);
    let mut gate = None;
    let (mut prepared, entry, status, listeners, pid) = match &command.sandbox {
        None => {
            let path = variables.get(OsStr::new("PATH")).map_or(OsStr::new(""), |path| path);
            let mut prepared = std::process::Command::new(programs::find(&command.program, path)?);
            prepared.arg0(&command.program).args(&command.args).current_dir(&command.cwd);
            prepared.env_clear().envs(&variables);
            (prepared, None, None, None, None)
        }
        Some(confined) => {
            let (program, args) = (&command.program, &command.args);
            let domain = command.marker.as_ref().map(|marker| &marker.domain);
            let made = sandbox::prepare(confined, domain, program, args, &variables, &command.cwd)?;
            let mut prepared = std::process::Command::new(made.program);
            prepared.args(made.args).current_dir("/").env_clear();
            // The mark alone: whoever looks for it finds bubblewrap, too.
            prepared.envs(variables.get_key_value(OsStr::new(Marker::VARIABLE)));
            gate = made.gate;
            (prepared, Some(made.entry), Some(made.status), made.listeners, made.pid)
        }
    };
    prepared.stdin(match (gate, command.stdin) {
        (Some(gate), _) => Stdio::from(gate),
        (None, Stdin::Null) => Stdio::null(),
        (None, Stdin::Inherit | Stdin::Terminal) => Stdio::inherit(),
    });
    match &command.output {
        Output::Captured => prepared.stdout(Stdio::piped()).stderr(Stdio::piped()),
        Output::Inherit => prepared.stdout(Stdio::inherit()).stderr(Stdio::inherit()),
        Output::File(path) => {
            let log = crate::sys::files::open_log(path)?;
            prepared.stdout(log.try_clone()?).stderr(log)
        }
    };
    Ok(Prepared { command: prepared, entry, status, listeners, pid })
}
