//! No CI: the order is a row of the same database, which `work` reads.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Creation, JobStatus, Order};
use crate::request::Job;
use crate::store::{JobRow, JobState, NewJob, Store, StoreError};

/// The outbox.
#[derive(Debug)]
pub struct Outbox {
    store: Arc<Store>,
}

impl Outbox {
    /// Returns the outbox in `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    pub(super) async fn look_up(&self, order: &Order) -> Result<Vec<Job>, StoreError> {
        let key = order.key.clone();
        Ok(self.store.run(move |store| store.job(&key)).await?.iter().map(job).collect())
    }

    pub(super) async fn create(&self, order: &Order) -> Result<Creation, StoreError> {
        let new = NewJob {
            key: order.key.clone(),
            repo: order.repo.clone(),
            pull: order.pull,
            head: order.head.clone(),
            quick: order.quick,
        };
        let row = self.store.run(move |store| store.order(&new, Timestamp::now())).await?;
        Ok(Creation::Made(job(&row)))
    }

    pub(super) async fn watch(&self, order: &Order) -> Result<JobStatus, StoreError> {
        let key = order.key.clone();
        let row = self.store.run(move |store| store.job(&key)).await?;
        Ok(match row {
            None => JobStatus::Missing,
            Some(JobRow { state: JobState::Over { outcome }, .. }) => JobStatus::Over(outcome),
            Some(row) => JobStatus::Alive(job(&row)),
        })
    }

    pub(super) async fn cancel(&self, order: &Order) -> Result<(), StoreError> {
        let key = order.key.clone();
        self.store.run(move |store| store.cancel_job(&key)).await
    }
}

fn job(row: &JobRow) -> Job {
    let running_since = match row.state {
        JobState::Running { since } => Some(since),
        _ => None,
    };
    Job { number: row.id, url: None, running_since }
}
