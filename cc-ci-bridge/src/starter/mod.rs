//! What runs the tests: a Drone, a Woodpecker, or this host's own `work` with the outbox between.
//!
//! All three promise the same: a job is made with a key, and found again by it. Which parameters a job has is fixed here;
//! nothing of a comment, a branch or a title is among them.

mod drone;
mod outbox;
mod steps;
mod woodpecker;

use jiff::Timestamp;

use crate::http::HttpError;
use crate::names::{Key, Repo, Sha};
use crate::request::{Job, Outcome};
use crate::store::StoreError;

pub use drone::Drone;
pub use outbox::Outbox;
pub use woodpecker::Woodpecker;

/// What a job is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What it is found by.
    pub key: Key,
    /// The recipe's repository.
    pub repo: Repo,
    /// Its address.
    pub url: String,
    /// The pull request.
    pub pull: u64,
    /// The commit.
    pub head: Sha,
    /// Whether the quick lane is asked for.
    pub quick: bool,
    /// When it was asked for: no job of it is older.
    pub since: Timestamp,
}

impl Order {
    /// Returns the parameters of its job.
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = vec![
            ("RECIPE", self.url.clone()),
            ("COMMIT", self.head.to_string()),
            ("PR", self.pull.to_string()),
            (KEY, self.key.to_string()),
        ];
        if self.quick {
            parameters.push(("QUICK", "1".to_owned()));
        }
        parameters
    }
}

/// The parameter with the key.
const KEY: &str = "CCCI_REQUEST";

/// What became of the question for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// It is made.
    Made(Job),
    /// It is not made, and never will be.
    Refused(String),
}

/// How a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobStatus {
    /// It waits or runs.
    Alive(Job),
    /// It is over.
    Over(Outcome),
    /// Nobody knows it.
    Missing,
}

/// What starts jobs did not answer as it should. What was asked for may have happened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StarterError {
    /// The CI.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The outbox.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StarterError {
    /// Returns for how long the CI wants to be left alone.
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Http(error) => error.retry_after(),
            Self::Store(_) => None,
        }
    }
}

/// What starts jobs.
#[derive(Debug)]
pub enum Starter {
    /// A Drone server.
    Drone(Drone),
    /// A Woodpecker server.
    Woodpecker(Woodpecker),
    /// `work` on this host.
    Outbox(Outbox),
}

impl Starter {
    /// Returns the jobs that there are of an order.
    ///
    /// # Errors
    /// When that can't be told.
    pub async fn look_up(&self, order: &Order) -> Result<Vec<Job>, StarterError> {
        match self {
            Self::Drone(drone) => Ok(drone.look_up(order).await?),
            Self::Woodpecker(woodpecker) => Ok(woodpecker.look_up(order).await?),
            Self::Outbox(outbox) => Ok(outbox.look_up(order).await?),
        }
    }

    /// Asks for a job. Dropping the future does not take the question back.
    ///
    /// # Errors
    /// When it is not known whether there is one now.
    pub async fn create(&self, order: &Order) -> Result<Creation, StarterError> {
        match self {
            Self::Drone(drone) => Ok(drone.create(order).await?),
            Self::Woodpecker(woodpecker) => Ok(woodpecker.create(order).await?),
            Self::Outbox(outbox) => Ok(outbox.create(order).await?),
        }
    }

    /// Returns how a job is. One that was started again is the newer one.
    ///
    /// # Errors
    /// When that can't be told.
    pub async fn watch(&self, order: &Order, job: &Job) -> Result<JobStatus, StarterError> {
        let status = match self {
            Self::Drone(drone) => drone.watch(job.number).await?,
            Self::Woodpecker(woodpecker) => woodpecker.watch(job.number).await?,
            Self::Outbox(outbox) => return Ok(outbox.watch(order).await?),
        };
        if matches!(status, JobStatus::Over(_)) {
            let again = self.look_up(order).await?.into_iter().max_by_key(|job| job.number);
            if let Some(again) = again.filter(|again| again.number > job.number) {
                return Ok(JobStatus::Alive(again));
            }
        }
        Ok(status)
    }

    /// Asks for a job's end.
    ///
    /// # Errors
    /// When that was not heard.
    pub async fn cancel(&self, order: &Order, job: &Job) -> Result<(), StarterError> {
        match self {
            Self::Drone(drone) => Ok(drone.cancel(job.number).await?),
            Self::Woodpecker(woodpecker) => Ok(woodpecker.cancel(job.number).await?),
            Self::Outbox(outbox) => Ok(outbox.cancel(order).await?),
        }
    }
}

/// What a CI's answer to the question for a job means: a refusal that is about the job is one, anything else is tried again.
fn creation<T>(
    answer: Result<Option<T>, HttpError>,
    nothing: &str,
    job: impl FnOnce(T) -> Job,
) -> Result<Creation, HttpError> {
    match answer {
        Ok(Some(made)) => Ok(Creation::Made(job(made))),
        Ok(None) => Ok(Creation::Refused(nothing.to_owned())),
        Err(error) if matches!(error.status(), Some(400 | 404 | 409 | 422)) => {
            Ok(Creation::Refused(cc_ci_core::model::error_chain(&error)))
        }
        Err(error) => Err(error),
    }
}

/// What is not there is missing.
fn present<T>(answer: Result<T, HttpError>) -> Result<Option<T>, HttpError> {
    match answer {
        Ok(there) => Ok(Some(there)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}
