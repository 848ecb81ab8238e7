//! Polling: the comments of the forge are what counts, whatever was delivered.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::forge::{Comment, Forge};
use crate::http::HttpError;
use crate::names::Repo;
use crate::request::{Asked, Via};
use crate::store::{Recorded, Store, StoreError};
use crate::trigger::Trigger;

/// What was read before is read again for so long back: times have a resolution of a second, and a forge may take a moment
/// to list what it has stamped.
const OVERLAP: SignedDuration = SignedDuration::from_secs(120);

/// Comments could not be read or recorded. Nothing is skipped: the next pass begins at the same place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PollError {
    /// The forge did not give them.
    #[error("can't read the comments of {repo}")]
    Forge {
        /// Of which repository.
        repo: Repo,
        /// Why.
        source: HttpError,
    },
    /// The database did not take them.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PollError {
    /// Returns for how long the forge wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Forge { source, .. } => source.retry_after(),
            Self::Store(_) => None,
        }
    }
}

/// Reads what is new in a repository, and says how many requests were. A repository that is read for the first time begins
/// now: what was asked for before there was a bridge is nobody's request any more.
///
/// # Errors
/// When not all of it is recorded.
pub async fn poll(
    store: &Arc<Store>,
    forge: &Forge,
    repo: &Repo,
    now: Timestamp,
) -> Result<usize, PollError> {
    let known = {
        let repo = repo.clone();
        store.run(move |store| store.cursor(&repo)).await?
    };
    let since = known.unwrap_or(now);
    // Before the beginning of time there are no comments.
    let from = since.checked_sub(OVERLAP).unwrap_or(Timestamp::UNIX_EPOCH);
    let comments = forge
        .comments_since(repo, from)
        .await
        .map_err(|source| PollError::Forge { repo: repo.clone(), source })?;
    let mut new = 0;
    let mut newest = since;
    for comment in comments {
        newest = newest.max(comment.updated_at);
        if let Some(asked) = asked(repo, &comment, now) {
            let recorded = store.run(move |store| store.record(&asked)).await?;
            new += usize::from(matches!(recorded, Recorded::New(_)));
        }
    }
    // Only once all of them are on the disk. A clock of the forge's that was ahead must not hide what comes next.
    let newest = if known.is_some() { newest.min(now.max(since)) } else { since };
    let repo = repo.clone();
    store.run(move |store| store.advance(&repo, newest)).await?;
    Ok(new)
}

fn asked(repo: &Repo, comment: &Comment, received: Timestamp) -> Option<Asked> {
    if !Trigger::is_attempt(&comment.body) {
        return None;
    }
    Some(Asked {
        repo: repo.clone(),
        pull: comment.pull()?,
        comment: comment.id,
        author: comment.user.login.chars().take(100).collect(),
        trigger: Trigger::parse(&comment.body),
        created: comment.created_at,
        via: Via::Poll,
        received,
    })
}
