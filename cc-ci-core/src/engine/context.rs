//! What every call of one run shares.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Redactor;
use crate::lifetime::{Command, Confinement, InTeardown, RunLifetime, Sandbox, User};
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
    /// How what the recipe brings is run.
    pub recipe_code: RecipeCode,
}

/// How what a recipe brings is run on this host: its tests, its install steps, and, where the deployer runs apps as
/// processes of this host, its services.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RecipeCode {
    /// In sandboxes.
    Confined(Confined),
    /// As whoever runs cc-ci, and why.
    Unconfined(String),
}

/// How sandboxes of a run are made.
#[derive(Debug, Clone)]
pub struct Confined {
    /// This host can make them.
    pub confinement: Confinement,
    /// Who the recipe's tests and install steps are to the kernel.
    pub user: User,
    /// What else of the host they may read: absolute paths.
    pub readable: Vec<PathBuf>,
}

impl Confined {
    /// A sandbox for `user`, with what the operator shows to all.
    pub fn sandbox(&self, user: User) -> Sandbox {
        self.readable.iter().fold(Sandbox::new(&self.confinement, user), Sandbox::read)
    }
}

impl RecipeCode {
    /// How sandboxes are made, where there are any.
    pub fn confined(&self) -> Option<&Confined> {
        match self {
            Self::Confined(confined) => Some(confined),
            Self::Unconfined(_) => None,
        }
    }
}

impl std::fmt::Display for RecipeCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Confined(_) => f.write_str("confined"),
            Self::Unconfined(why) => write!(f, "not confined: {why}"),
        }
    }
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
