//! The CI runners that cc-ci is called from, as far as a step of a pipeline can tell them from the real ones.
//!
//! What they do to a step was read from the sources of Drone's exec runner and of Woodpecker's local backend:
//! dollar signs in the YAML are replaced before anything else; commands become one script that echoes each; a step has
//! a fresh workspace and home, no input, and one pipe for all that it says; a cancel is a SIGKILL, after which
//! workspace and home are deleted and nobody reads the pipe.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use cc_ci_core::process::{self, ProcessIdentity};
use cc_ci_core::system_info::BootId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::EVENT_LIMIT;
use crate::command::{Ended, built};
use crate::pipeline::{self, Pipeline};
use crate::pipes::gone;
use crate::world::{World, until};

/// Whose runner it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Drone's exec runner.
    Drone,
    /// Woodpecker's local backend.
    Woodpecker,
}

/// What a step's script is read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// `/bin/sh` of Debian.
    Dash,
    /// Where a step names it.
    Bash,
    /// `/bin/sh` of others: bash by that name keeps to POSIX.
    BashAsSh,
}

impl Shell {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dash, Self::Bash, Self::BashAsSh];

    fn command(self) -> Command {
        // By its path: the runner finds it, whatever PATH the step is given.
        let mut command = Command::new(host_program(if self == Self::Dash { "dash" } else { "bash" }));
        if self == Self::BashAsSh {
            command.arg0("/bin/sh");
        }
        command
    }
}

/// Where this host has a program.
///
/// # Panics
/// When it has none.
pub fn host_program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|path| path.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed"))
}

/// Whom a cancel kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// The step's shell and nobody else: Drone, and Woodpecker for long.
    Shell,
    /// The shell's process group: today's Woodpecker.
    Group,
}

/// A runner in a world, about to run a step.
#[derive(Debug)]
pub struct Runner {
    system: System,
    shell: Shell,
    pipeline: String,
    root: PathBuf,
    environment: BTreeMap<OsString, OsString>,
    metadata: BTreeMap<String, String>,
}

impl Runner {
    /// A runner that will run a step of the pipeline in the file `path`, relative to the workspace of the sources.
    pub fn new(world: &World, system: System, shell: Shell, path: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        let pipeline =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Its own commands, before the host's.
        let bin = world.path().join("bin");
        if fs::create_dir(&bin).is_ok() {
            std::os::unix::fs::symlink(built("cc-ci"), bin.join("cc-ci")).expect("a link to the command");
        }
        let mut path = bin.into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut environment: BTreeMap<OsString, OsString> = world
            .cc_ci([] as [&str; 0])
            .command()
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        environment.insert("PATH".into(), path);
        let root =
            tempfile::Builder::new().prefix("step-").tempdir_in(world.path()).expect("a directory").keep();
        Self { system, shell, pipeline, root, environment, metadata: BTreeMap::new() }
    }

    /// Changes the pipeline's text, as an operator might.
    pub fn edit(mut self, change: impl FnOnce(String) -> String) -> Self {
        self.pipeline = change(self.pipeline);
        self
    }

    /// A variable that the CI system sets, or a parameter of the build: both come from outside.
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(name.to_owned(), value.into());
        self
    }

    /// A variable of the runner's own environment.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// The directory in which a step works.
    pub fn workspace(&self) -> PathBuf {
        self.root.join("workspace")
    }

    /// Starts the step with this name.
    pub fn start(self, step: &str) -> Step {
        let text = pipeline::substitute(&self.pipeline, &self.metadata);
        let pipeline = Pipeline::parse(self.system, &text);
        let step = pipeline.steps.iter().find(|found| found.name == step).expect("the pipeline has the step");
        let (workspace, home) = (self.workspace(), self.root.join("home"));
        for directory in [&workspace, &home] {
            fs::create_dir_all(directory).expect("a directory of the step");
        }
        let mut command = self.shell.command();
        command.arg("-e");
        match self.system {
            System::Drone => {
                let script = self.root.join("script");
                fs::write(&script, pipeline::drone_script(&step.commands)).expect("a script");
                command.arg(script);
            }
            System::Woodpecker => {
                assert_eq!(step.image.as_deref(), Some("sh"), "the image is the shell");
                command.arg("-c").arg(pipeline::woodpecker_script(&step.commands)).process_group(0);
            }
        }
        let (log, writer) = io::pipe().expect("a pipe");
        let (open, closed) = io::pipe().expect("a pipe");
        command
            .env_clear()
            .envs(&self.environment)
            .envs(&self.metadata)
            .env("HOME", &home)
            .current_dir(workspace)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().expect("a pipe's end can be cloned"))
            .stderr(writer);
        let child = command.spawn().expect("the shell starts");
        // It has the pipe's ends of its own.
        drop(command);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || read_lines(log, &open, &sender));
        Step { child, root: self.root, home, lines, seen: String::new(), reading: Some(closed) }
    }
}

/// Hands on each line of the log, until nobody writes to it any more or the step says that it is closed.
fn read_lines(mut log: PipeReader, open: &PipeReader, lines: &mpsc::Sender<String>) {
    let mut line = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        let mut fds =
            [PollFd::new(log.as_fd(), PollFlags::POLLIN), PollFd::new(open.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue;
        }
        if fds[1].any() == Some(true) {
            return;
        }
        let Ok(count @ 1..) = log.read(&mut bytes) else { return };
        for byte in &bytes[..count] {
            if *byte == b'\n' {
                // A test that has ended hears no more; the pipe is read on all the same.
                let _unheard = lines.send(String::from_utf8_lossy(&line).into_owned()).is_err();
                line.clear();
            } else {
                line.push(*byte);
            }
        }
    }
}

/// A step that runs.
#[derive(Debug)]
pub struct Step {
    child: Child,
    root: PathBuf,
    home: PathBuf,
    lines: Receiver<String>,
    seen: String,
    /// Closed, it closes the log.
    reading: Option<PipeWriter>,
}

impl Step {
    /// Waits for a line of the log that contains `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let until = Instant::now() + EVENT_LIMIT;
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(text) {
                return;
            }
        }
        panic!("no line with {text:?}; seen:\n{}", self.seen)
    }

    /// Sends a signal to the step's shell.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)
            .expect("the shell is there to be signalled");
    }

    /// Nobody reads the log any more.
    pub fn close_log(&mut self) {
        drop(self.reading.take());
        // Its reader has gone when there is nobody to hear from.
        while self.lines.recv_timeout(EVENT_LIMIT).is_ok() {}
    }

    /// Waits for the step's end, and for that of everybody who could write to its log. The code is what the CI system
    /// goes by, the log is `stderr`.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        assert!(gone(self.child.id().cast_signed()), "the shell did not end in time; seen:\n{}", self.seen);
        let status = self.child.wait().expect("a child can be waited for");
        let until = Instant::now() + EVENT_LIMIT;
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        self.outlived();
        fs::remove_dir_all(&self.root).expect("the step's directory can be removed");
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        Ended { code, stdout: String::new(), stderr: std::mem::take(&mut self.seen) }
    }

    /// Cancels the step as the CI system does, and waits until whatever the step had started has ended by itself.
    #[track_caller]
    pub fn cancel(mut self, whom: Cancel) {
        let pid = self.child.id().cast_signed();
        kill(Pid::from_raw(if whom == Cancel::Group { -pid } else { pid }), Signal::SIGKILL)
            .expect("the step is there to be cancelled");
        self.child.wait().expect("a child can be waited for");
        fs::remove_dir_all(&self.root).expect("the step's directory can be removed");
        self.close_log();
        self.outlived();
    }

    /// Waits until no process has the step's home any more: nothing that the run starts has it.
    fn outlived(&self) {
        // Twice, since a child can begin where the look has passed already.
        let none = || self.processes().is_empty();
        until("the step's processes have ended", || none() && none());
    }

    /// Whoever has the step's home.
    fn processes(&self) -> Vec<ProcessIdentity> {
        let home = [b"HOME=", self.home.as_os_str().as_encoded_bytes()].concat();
        let boot = BootId::current().expect("a boot id");
        let pids = fs::read_dir("/proc").expect("/proc can be read").flatten();
        pids.filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            // Before the look: else it may be a successor's.
            let process = ProcessIdentity::of(pid, boot.clone()).ok()?;
            let environ = fs::read(entry.path().join("environ")).ok()?;
            environ.split(|byte| *byte == 0).any(|variable| variable == home).then_some(process)
        })
        .collect()
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A failed test's own; of a passed one nothing is left.
            for found in self.processes() {
                drop(process::kill_process(&found, &found.boot_id, process::Signal::Kill));
            }
        }
    }
}
