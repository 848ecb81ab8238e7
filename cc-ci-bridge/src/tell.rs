//! Telling: what the pull request shows is compared with what it is to show, and what is different is written.

use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::model::error_chain;
use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};

use crate::forge::Forge;
use crate::http::HttpError;
use crate::names::Key;
use crate::request::told::{Around, mark, wanted};
use crate::request::{Request, State, place};
use crate::settings::{Settings, backoff};
use crate::store::{Row, Store, StoreError, Told};

/// So many requests are told of at once.
const CONCURRENT: usize = 4;

/// What is open is looked at again after so long: its place in the queue, and whether its status is still ours.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What is over is looked at once more after so long: a status that was under way may have come after the last one.
const ONCE_MORE: SignedDuration = SignedDuration::from_secs(90);

/// Writes to the forge.
#[derive(Debug)]
pub struct Teller {
    store: Arc<Store>,
    forge: Forge,
    settings: Settings,
    own_name: String,
}

#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error("can't tell the forge")]
    Forge(#[from] HttpError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Teller {
    /// Returns a teller that writes as the forge's user `own_name`.
    pub fn new(store: Arc<Store>, forge: Forge, settings: Settings, own_name: String) -> Self {
        Self { store, forge, settings, own_name }
    }

    /// Tells what is due.
    pub async fn pass(&self) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let (due, open, usual) = self
            .store
            .run(move |store| Ok((store.to_tell(now)?, store.of_open_pulls()?, store.usual_time()?)))
            .await?;
        let tell = async |row: &Row| {
            let around = self.around(&row.request, &open, usual);
            if let Err(error) = Box::pin(self.tell(row, around)).await {
                let asked = &row.request.asked;
                tracing::warn!("{}#{}: {}", asked.repo, asked.pull, error_chain(&error));
                let TellError::Forge(error) = error else { return };
                if let Err(error) = self.put_off(row, &error).await {
                    tracing::error!("{}", error_chain(&error));
                }
            }
        };
        futures_util::stream::iter(&due).for_each_concurrent(CONCURRENT, tell).await;
        Ok(())
    }

    async fn put_off(&self, row: &Row, error: &HttpError) -> Result<(), StoreError> {
        let id = row.request.id;
        let retry_after = error.retry_after();
        self.store
            .run(move |store| {
                let told = store.told(id)?;
                let failures = told.failures.saturating_add(1);
                let wait = backoff(failures, retry_after);
                let due = Timestamp::now().checked_add(wait).unwrap_or(Timestamp::MAX);
                store.tell(id, &Told { due, failures, ..told })
            })
            .await
    }

    /// Writes what is different, one thing at a time, each written down once the forge has it.
    async fn tell(&self, row: &Row, around: Around) -> Result<(), TellError> {
        let Request { id, asked, state } = &row.request;
        let id = *id;
        let mut told = self.store.run(move |store| store.told(id)).await?;
        let key = Key::of(self.forge.address(), &asked.repo, asked.comment);
        let around = Around { foreign: told.foreigner.clone(), ..around };
        let wanted = wanted(&row.request, &key, &around);
        let before = told.clone();
        if wanted.seen && !told.seen {
            // A comment that was deleted has no reaction, and needs none.
            match self.forge.react(&asked.repo, asked.comment).await {
                Err(error) if !matches!(error.status(), Some(403 | 404)) => return Err(error.into()),
                _ => told.seen = true,
            }
            self.write(id, &told).await?;
        }
        if let Some(status) = wanted.status.filter(|status| told.status.as_ref() != Some(status)) {
            // Until the answer is here, it is not known which one the forge has.
            told.status = None;
            self.write(id, &told).await?;
            self.forge.post_status(&asked.repo, &status).await?;
            told.status = Some(status);
            self.write(id, &told).await?;
        }
        if let Some(text) = wanted.comment.filter(|text| told.text.as_ref() != Some(text)) {
            told.comment = Some(self.write_comment(&row.request, &key, told.comment, &text).await?);
            told.text = Some(text);
        }
        let now = Timestamp::now();
        let later = |wait: SignedDuration| now.checked_add(wait).unwrap_or(Timestamp::MAX);
        told.failures = 0;
        told.due = if state.is_final() { later(ONCE_MORE) } else { later(AGAIN) };
        // Nothing was different: now it is looked whether the status is ours.
        if (&told.seen, &told.status, &told.text) == (&before.seen, &before.status, &before.text) {
            let other = match &told.status {
                Some(status) => self.forge.status_author(&asked.repo, &status.sha).await?,
                None => None,
            };
            let other = other.filter(|author| !author.eq_ignore_ascii_case(&self.own_name));
            match other {
                Some(other) if told.foreigner.as_ref() != Some(&other) => {
                    tracing::warn!("{}#{}: {other} posted a status in our name", asked.repo, asked.pull);
                    // Ours is posted once more, and our comment says so.
                    told = Told { foreigner: Some(other), status: None, due: now, ..told };
                }
                _ if state.is_final() => told.due = Timestamp::MAX,
                _ => {}
            }
        }
        self.write(id, &told).await?;
        Ok(())
    }

    /// Edits our comment, or makes it: after a look whether it is there, since whoever made it may have been killed.
    async fn write_comment(
        &self,
        request: &Request,
        key: &Key,
        known: Option<u64>,
        text: &str,
    ) -> Result<u64, TellError> {
        let asked = &request.asked;
        if let Some(known) = known
            && self.forge.edit_comment(&asked.repo, known, text).await?
        {
            return Ok(known);
        }
        let found = self
            .forge
            .find_comment(&asked.repo, asked.pull, &self.own_name, &mark(key), asked.created)
            .await?;
        match found {
            Some(found) if found.body == text => Ok(found.id),
            Some(found) if self.forge.edit_comment(&asked.repo, found.id, text).await? => Ok(found.id),
            _ => Ok(self.forge.create_comment(&asked.repo, asked.pull, text).await?),
        }
    }

    async fn write(&self, id: crate::request::RequestId, told: &Told) -> Result<(), StoreError> {
        let told = told.clone();
        self.store.run(move |store| store.tell(id, &told)).await
    }

    /// What beside the request itself goes into the text.
    fn around(&self, request: &Request, open: &[Row], usual: Option<Duration>) -> Around {
        let asked = &request.asked;
        let page =
            self.settings.pages.as_ref().map(|pages| format!("{pages}/r/{}/{}", asked.repo, asked.comment));
        if !matches!(request.state, State::Queued { .. }) {
            return Around { page, ..Around::default() };
        }
        let position = place(request, open.iter().map(|row| &row.request));
        let under_way: Vec<&Row> = open
            .iter()
            .filter(|row| matches!(row.request.state, State::Intent { .. } | State::Started { .. }))
            .collect();
        let ahead = under_way
            .iter()
            .map(|row| format!("{}#{}", row.request.asked.repo, row.request.asked.pull))
            .collect();
        let rounds = u32::try_from(position.div_ceil(self.settings.at_once.max(1))).unwrap_or(u32::MAX);
        let estimate = usual.map(|usual| usual.saturating_mul(rounds)).filter(|_| !under_way.is_empty());
        // In steps, so that the comment is not written anew all the time.
        let estimate = estimate.map(|estimate| Duration::from_secs(estimate.as_secs().div_ceil(300) * 300));
        Around { position: Some(position), ahead, estimate, foreign: None, page }
    }
}
