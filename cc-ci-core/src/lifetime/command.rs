//! What to start, and how.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Line, Sandbox};
use crate::sys::process::Marker;

/// Where a child's standard input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// The caller's: only `with-lock` does this.
    Inherit,
    /// The caller's too, and a terminal: where the caller has it for reading, as its foreground group, the child gets it
    /// before it executes. Whoever asks for this takes it back.
    Terminal,
}

/// Where a child's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Output {
    /// To us, through pipes: see [`Child`](super::Child).
    #[default]
    Captured,
    /// To the caller's own descriptors: only `with-lock` does this.
    Inherit,
    /// Appended to this file: what a detached process needs.
    File(PathBuf),
}

/// When a child may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Refused once teardown has begun, and ended when it begins.
    #[default]
    Body,
    /// Part of the teardown itself.
    Teardown,
}

/// A program to start: nothing of the caller's environment reaches it.
#[derive(Debug, Clone)]
pub struct Command {
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
    pub(super) env: BTreeMap<OsString, OsString>,
    pub(super) cwd: PathBuf,
    pub(super) marker: Option<Marker>,
    pub(super) stdin: Stdin,
    pub(super) output: Output,
    pub(super) stage: Stage,
    pub(super) grace: Duration,
    pub(super) output_limit: usize,
    pub(super) line_limit: usize,
    pub(super) sandbox: Option<Sandbox>,
}

impl Command {
    /// `program` in the directory `cwd`. A program without a slash is looked up in the `PATH` that
    /// [`env`](Self::env) gave, of which the child gets the absolute parts only: see [`programs`](crate::sys::programs).
    pub fn new(program: impl AsRef<OsStr>, cwd: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: cwd.as_ref().to_owned(),
            marker: None,
            stdin: Stdin::default(),
            output: Output::default(),
            stage: Stage::default(),
            grace: Duration::from_secs(5),
            output_limit: 8 * 1024 * 1024,
            line_limit: Line::MAX,
            sandbox: None,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one variable of the child's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Sets variables of the child's environment.
    pub fn envs(mut self, vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        for (name, value) in vars {
            self = self.env(name, value);
        }
        self
    }

    /// Leaves out a variable that was set.
    pub fn without(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.remove(name.as_ref());
        self
    }

    /// Marks the child, see [`Marker`].
    pub fn marker(mut self, marker: Marker) -> Self {
        self.marker = Some(marker);
        self
    }

    /// See [`Stdin`].
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// See [`Output`].
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// See [`Stage`].
    pub fn stage(mut self, stage: Stage) -> Self {
        self.stage = stage;
        self
    }

    /// The time between TERM and KILL: 5 s unless set, 0 for what a recipe brought.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How many bytes of captured output are told: 8 MiB unless set. The lines beyond are counted and dropped.
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// How long a line of captured output may be, in bytes: [`Line::MAX`] unless set. What is longer is cut there.
    pub fn line_limit(mut self, bytes: usize) -> Self {
        self.line_limit = bytes;
        self
    }

    /// Confines it, see [`Sandbox`]. Its program is found there, and `cwd` is a path there.
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = Some(sandbox);
        self
    }

    /// The program, for messages.
    pub fn program(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }
}
