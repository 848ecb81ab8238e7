//! How a job ended, as the bridge knows it.

use cc_ci_core::run::Level;
use serde::{Deserialize, Serialize};

/// What is said of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The run is green, and the CI says so.
    Green,
    /// A tier failed.
    Red,
    /// The call or the configuration was refused; nothing was tested.
    Refused,
    /// The harness, the host or the CI failed; nothing is said of the commit.
    HarnessFailed,
    /// Something was left behind.
    Residue,
    /// The wait for the app's lock timed out.
    LockTimeout,
    /// It was ended early.
    Cancelled,
    /// The CI says that all is well, and that nothing was run.
    NothingRun,
    /// The CI did not start it.
    NotStarted,
    /// The job is gone, and with it what it found.
    Lost,
}

impl Verdict {
    /// Returns the verdict that a run's exit code stands for.
    pub const fn of_exit(code: u8) -> Self {
        match code {
            0 => Self::Green,
            1 => Self::Red,
            2 => Self::Refused,
            4 => Self::Residue,
            75 => Self::LockTimeout,
            129 | 130 | 142 | 143 => Self::Cancelled,
            _ => Self::HarnessFailed,
        }
    }

    /// Returns it in the words that people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Red => "red: a tier failed",
            Self::Refused => "refused: the call or the configuration is wrong, nothing was tested",
            Self::HarnessFailed => "the harness, the host or the CI failed: nothing is said of the commit",
            Self::Residue => "something was left behind",
            Self::LockTimeout => "the wait for the app's lock timed out",
            Self::Cancelled => "cancelled",
            Self::NothingRun => "the CI ran nothing",
            Self::NotStarted => "the CI did not start it",
            Self::Lost => "the job is gone",
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Outcome {
    /// What is said of the commit.
    pub verdict: Verdict,
    /// The exit code, where it is known.
    pub exit_code: Option<u8>,
    /// How far the recipe has come, where the run's record says so (docs/levels.md).
    #[serde(default)]
    pub level: Option<usize>,
    /// The run's tiers, where its record was read.
    pub tiers: Vec<TierLine>,
    /// What went wrong, in a line each.
    pub notes: Vec<String>,
    /// Whether the run's receipt says that its app is gone; `None` where nobody could look.
    pub receipt: Option<bool>,
}

impl Outcome {
    /// Returns an outcome of which nothing more is known.
    pub fn new(verdict: Verdict) -> Self {
        let (tiers, notes) = (Vec::new(), Vec::new());
        Self { verdict, exit_code: None, level: None, tiers, notes, receipt: None }
    }

    /// Returns the level in words.
    pub fn level_in_words(&self) -> Option<String> {
        self.level.map(|level| format!("level {level} of {}", Level::HIGHEST))
    }

    /// Adds a line.
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// A tier of a run, in short.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TierLine {
    /// Its name.
    pub name: String,
    /// What became of it: passed, failed, skipped or not run.
    pub status: String,
    /// Why, where it did not pass.
    pub reason: Option<String>,
}
