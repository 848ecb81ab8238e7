//! What every call of one run shares.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Redactor;
use crate::lifetime::{Command, InTeardown, RunLifetime};
use crate::model::event::Reporter;
use crate::names::{Domain, RunId};
use crate::sys::process::{Marker, MarkerOwner};

/// A run, as deployers and tests see it: whose children to start, in which environment, and what to hide.
#[derive(Debug, Clone)]
pub struct RunContext {
    /// The run.
    pub run_id: RunId,
    /// Starts and ends the children.
    pub lifetime: Arc<dyn RunLifetime>,
    /// Takes events.
    pub reporter: Arc<dyn Reporter>,
    /// The whole environment of a child, but for its mark.
    pub environment: Vec<(OsString, OsString)>,
    /// Scratch space of the run; goes with its tree.
    pub tmp: PathBuf,
    /// What no output may show.
    pub redactor: Redactor,
}

impl RunContext {
    /// A child of this run that works on `domain`: marked, with the run's environment.
    pub fn command(&self, domain: &Domain, program: impl AsRef<std::ffi::OsStr>, cwd: &Path) -> Command {
        Command::new(program, cwd)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .marker(self.marker(domain))
    }

    /// The same run in its teardown: what it starts now is part of that, and what ended the run does not end it.
    pub fn in_teardown(&self) -> Self {
        Self { lifetime: Arc::new(InTeardown::new(self.lifetime.clone())), ..self.clone() }
    }

    /// The mark of the children that work on `domain`.
    pub fn marker(&self, domain: &Domain) -> Marker {
        let owner = MarkerOwner::Run { run_id: self.run_id.clone(), owner: self.lifetime.owner().clone() };
        Marker { domain: domain.clone(), owner }
    }
}
