//! What is known of a request.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use crate::names::{Repo, Sha};
use crate::trigger::Trigger;

/// The row of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub i64);

/// A comment that asks for a test, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Its row.
    pub id: RequestId,
    /// What was asked for.
    pub asked: Asked,
    /// What became of it.
    pub state: State,
}

/// What was asked for: never changed once it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Asked {
    /// In which repository.
    pub repo: Repo,
    /// On which pull request.
    pub pull: u64,
    /// By which comment.
    pub comment: u64,
    /// By whom.
    pub author: String,
    /// For what; `None` where the comment only looks like a request.
    pub trigger: Option<Trigger>,
    /// When the comment was made, by the forge's clock.
    pub created: Timestamp,
    /// How the bridge learned of it first.
    pub via: Via,
    /// When, by its own clock.
    pub received: Timestamp,
}

/// How the bridge learned of a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// The forge delivered it.
    Hook,
    /// It was found among the comments.
    Poll,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum State {
    /// It is recorded, and nothing else is known.
    Received,
    /// It is not a request that is run.
    Refused {
        /// Why.
        why: Refusal,
    },
    /// It is valid, its commit is pinned, and it waits for its turn.
    Queued {
        /// The commit that was meant.
        head: Sha,
    },
    /// A newer request for the same pull request took its place before it was started.
    Superseded {
        /// The newer comment.
        by: u64,
        /// The commit that was meant, if that was found out: then its author may ask, and is told.
        head: Option<Sha>,
    },
    /// The CI is to have exactly one job of it, and may have it already.
    Intent {
        /// The commit under test.
        head: Sha,
        /// When the CI was asked last; `None`: never, or it said that it made none.
        asked: Option<Timestamp>,
        /// How often the CI said that it made none.
        refused: u8,
        /// A newer request that came meanwhile: the CI is not asked again.
        newer: Option<u64>,
    },
    /// The CI has a job of it.
    Started {
        /// The commit under test.
        head: Sha,
        /// The job.
        job: Job,
        /// Whether the job is to be ended.
        cancel: Option<Cancel>,
        /// How often in a row the CI did not know it.
        missing: u8,
    },
    /// It is over.
    Ended {
        /// The commit under test.
        head: Sha,
        /// The job, where there was one.
        job: Option<Job>,
        /// How it ended.
        outcome: Outcome,
        /// What the pull request's head was then, where it had moved.
        moved: Option<Sha>,
    },
}

impl State {
    /// Returns its name, as it is stored and shown.
    pub const fn phase(&self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Refused { .. } => "refused",
            Self::Queued { .. } => "queued",
            Self::Superseded { .. } => "superseded",
            Self::Intent { .. } => "intent",
            Self::Started { .. } => "started",
            Self::Ended { .. } => "ended",
        }
    }

    /// Whether nothing becomes of it any more.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Superseded { .. } | Self::Ended { .. })
    }

    /// Whether it was found to be valid, now or before.
    pub const fn is_accepted(&self) -> bool {
        !matches!(self, Self::Received | Self::Refused { .. })
    }

    /// The commit under test.
    pub const fn head(&self) -> Option<&Sha> {
        match self {
            Self::Queued { head }
            | Self::Intent { head, .. }
            | Self::Started { head, .. }
            | Self::Ended { head, .. } => Some(head),
            Self::Superseded { head, .. } => head.as_ref(),
            Self::Received | Self::Refused { .. } => None,
        }
    }
}

/// Why a comment is not run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// It only looks like a request.
    NotExact,
    /// A bot wrote it, or the bridge itself.
    Bot,
    /// Its author may not write to the repository and is not on the operator's list.
    NotPermitted,
    /// The forge does not tell the bridge who may write, and the author is not on the operator's list.
    PermissionUnknown,
    /// It was changed: the words may be somebody else's.
    Edited,
    /// It was deleted.
    Deleted,
    /// The pull request is not open.
    Closed,
    /// The branch was pushed to since, or at the same second: the commit that was meant is not known.
    PushedSince {
        /// What it was pushed to.
        head: Sha,
    },
}

impl Refusal {
    /// Whether it is said on the pull request. Whoever may not ask for a test gets silence: an answer to strangers would
    /// make the bridge an amplifier.
    pub const fn is_said(&self) -> bool {
        matches!(self, Self::Edited | Self::Closed | Self::PushedSince { .. })
    }
}

/// A job of the CI.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Job {
    /// Its number in the CI, or its row in the outbox.
    pub number: u64,
    /// Where people find it.
    pub url: Option<String>,
    /// Since when it runs, in seconds since the epoch; `None` while it waits.
    pub running_since: Option<i64>,
}

/// Why a job is to be ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancel {
    /// A newer request came, and the policy is to end the older one's job.
    Newer(u64),
}

/// What is to be done in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    Nothing,
    /// Ask the forge for what decides whether it is valid.
    Check,
    /// When its turn comes, ask the forge the same again.
    AwaitTurn,
    /// Ask the CI for jobs with the request's key.
    LookUp,
    /// Ask the CI how the job is.
    Watch(Job),
    /// Tell the CI to end the job, and ask how it is.
    Cancel(Job),
}
