//! What the stand-in was asked, one line of JSON at its start and one at its end.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const FILE: &str = "journal.ndjson";

/// One call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// Its process.
    pub pid: u32,
    /// What it was called with.
    pub args: Vec<String>,
    /// `ABRA_DIR`.
    pub abra_dir: Option<PathBuf>,
    /// Where it was started.
    pub cwd: PathBuf,
    /// The names of its variables.
    pub environment: Vec<String>,
    /// What its stdin is.
    pub stdin: PathBuf,
    /// Whether it leads a process group of its own.
    pub own_group: bool,
    /// When it began.
    pub began: Timestamp,
    /// When it ended, and how; `None` where it was killed.
    #[serde(skip)]
    pub ended: Option<(Timestamp, u8)>,
    /// What it said that it does on the way.
    #[serde(skip)]
    pub notes: Vec<String>,
}

impl Call {
    /// Whether it is a call of this command, e.g. `app deploy`.
    pub fn is(&self, command: &str) -> bool {
        self.args.join(" ").starts_with(command)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Began(Call),
    Note(u32, String),
    Ended(u32, Timestamp, u8),
}

/// The calls of a world, in their order.
pub(crate) fn calls(world: &Path) -> Vec<Call> {
    let text = fs::read_to_string(world.join(FILE)).unwrap_or_default();
    let mut calls: Vec<Call> = Vec::new();
    let mut places = BTreeMap::new();
    // Who is killed while it writes leaves half a line.
    for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
        match line {
            Line::Began(call) => {
                places.insert(call.pid, calls.len());
                calls.push(call);
            }
            Line::Note(pid, text) => {
                if let Some(&place) = places.get(&pid) {
                    calls[place].notes.push(text);
                }
            }
            Line::Ended(pid, at, code) => {
                if let Some(&place) = places.get(&pid) {
                    calls[place].ended = Some((at, code));
                }
            }
        }
    }
    calls
}

/// The journal, in a call.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    deploys: usize,
}

impl Journal {
    /// Writes that a call began.
    pub fn begin(world: &Path, args: &[String]) -> io::Result<Self> {
        let deploys = |call: &Call| call.is("app deploy") && !call.args.iter().any(|arg| arg == "--help");
        let call = Call {
            pid: std::process::id(),
            args: args.to_vec(),
            abra_dir: env::var_os("ABRA_DIR").map(PathBuf::from),
            cwd: env::current_dir()?,
            environment: env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect(),
            stdin: fs::read_link("/proc/self/fd/0")?,
            own_group: nix::unistd::getpgrp() == nix::unistd::getpid(),
            began: Timestamp::now(),
            ended: None,
            notes: Vec::new(),
        };
        let path = world.join(FILE);
        let before = calls(world).iter().filter(|call| deploys(call)).count();
        let journal = Self { path, deploys: before + usize::from(deploys(&call)) };
        journal.write(&Line::Began(call))?;
        Ok(journal)
    }

    /// How many deploys were asked for in this world, this call included.
    pub fn deploys(&self) -> usize {
        self.deploys
    }

    /// Writes what is done now.
    pub fn note(&self, text: &str) {
        self.write(&Line::Note(std::process::id(), text.to_owned())).expect("the journal can be written");
    }

    /// Writes that the call ended.
    pub fn end(&self, code: u8) {
        // The world may be gone by now: a test does not wait for what it killed.
        drop(self.write(&Line::Ended(std::process::id(), Timestamp::now(), code)));
    }

    /// In one piece, so that calls at the same time don't mix.
    fn write(&self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        OpenOptions::new().create(true).append(true).open(&self.path)?.write_all(text.as_bytes())
    }
}
