//! The loop: reads what is due, learns what there is to be learned of it, decides, writes it down, and does it.

use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::model::error_chain;
use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};

use crate::forge::Forge;
use crate::http::HttpError;
use crate::names::{Key, Repo};
use crate::poll;
use crate::request::{
    CommentNow, Event, Facts, Order, Permission, Request, RequestId, State, Validity, decide, order,
    superseded, turn, validity_of,
};
use crate::settings::{Settings, backoff};
use crate::starter::{self, Creation, JobStatus, Starter, StarterError};
use crate::store::{News, Row, Store, StoreError};
use crate::tell::Teller;

/// So many requests are worked on at once.
const CONCURRENT: usize = 8;

/// So long the loop sleeps at the most. Clocks are set, too.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// And so long at least, where it is not woken.
const SHORTEST_SLEEP: Duration = Duration::from_millis(100);

/// A forge lists a push so long after the head has moved at the latest: a busy one was seen to take 2 s.
const LISTED: Duration = Duration::from_secs(10);

/// A forge that does not list a push after so long never will.
const ANSWER_LIMIT: SignedDuration = SignedDuration::from_mins(10);

/// Why a step was not taken. It is tried again.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("the forge")]
    Forge(#[from] HttpError),
    #[error("the CI")]
    Starter(#[from] StarterError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StepError {
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Forge(error) => error.retry_after(),
            Self::Starter(error) => error.retry_after(),
            Self::Store(_) => None,
        }
    }
}

/// All that works on requests.
#[derive(Debug)]
pub struct Bridge {
    store: Arc<Store>,
    forge: Forge,
    starter: Starter,
    settings: Settings,
    teller: Teller,
    wake: Arc<Notify>,
    own_name: String,
}

impl Bridge {
    /// Returns a bridge; `own_name` is the forge's name of the token's user, and `wake` says that there is something new.
    pub fn new(
        store: Arc<Store>,
        forge: Forge,
        starter: Starter,
        settings: Settings,
        wake: Arc<Notify>,
        own_name: String,
    ) -> Self {
        let teller = Teller::new(store.clone(), forge.clone(), settings.clone(), own_name.clone());
        Self { store, forge, starter, settings, teller, wake, own_name }
    }

    /// Works until `end` says so. What is under way then is finished, or done again after the next start.
    pub async fn run(&self, end: watch::Receiver<bool>) {
        let working = async {
            let mut jobs = self.store.news(News::Jobs);
            let mut ordered = false;
            loop {
                let pause = match self.pass(ordered).await {
                    Ok(due) => due.clamp(SHORTEST_SLEEP, LONGEST_SLEEP),
                    Err(error) => {
                        tracing::error!("{}", error_chain(&error));
                        Duration::from_secs(5)
                    }
                };
                ordered = tokio::select! {
                    // `work` has written what became of a job.
                    Ok(()) = jobs.changed() => true,
                    () = self.wake.notified() => false,
                    () = tokio::time::sleep(pause) => false,
                };
            }
        };
        let polling = futures_util::future::join_all(self.settings.repos.iter().map(|repo| self.poll(repo)));
        let mut end = end;
        tokio::select! {
            () = working => {}
            _ = polling => {}
            () = self.forget() => {}
            _ = end.wait_for(|end| *end) => {}
        }
    }

    async fn poll(&self, repo: &Repo) {
        let mut failures = 0;
        loop {
            let wait = match poll::poll(&self.store, &self.forge, repo, Timestamp::now()).await {
                Ok(new) => {
                    failures = 0;
                    if new > 0 {
                        self.wake.notify_one();
                    }
                    self.settings.poll
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!("{}", error_chain(&error));
                    backoff(failures, error.retry_after()).max(self.settings.poll)
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Removes what has been over for long.
    async fn forget(&self) {
        loop {
            let keep = SignedDuration::try_from(self.settings.keep).unwrap_or(SignedDuration::MAX);
            if let Ok(before) = Timestamp::now().checked_sub(keep)
                && let Err(error) = self.store.run(move |store| store.forget(before)).await
            {
                tracing::warn!("can't forget what is over: {}", error_chain(&error));
            }
            tokio::time::sleep(Duration::from_hours(6)).await;
        }
    }

    /// Takes each request that is due one step further, and tells what changed; those with a job as well if `jobs_changed`.
    /// Returns how long nothing is due after that.
    async fn pass(&self, jobs_changed: bool) -> Result<Duration, StoreError> {
        let rows = self.supersede().await?;
        let requests: Vec<Request> = rows.iter().map(|row| row.request.clone()).collect();
        let turns = turn(&requests, self.settings.at_once);
        let now = Timestamp::now();
        let is_due = |row: &&Row| {
            let is_news = jobs_changed && matches!(row.request.state, State::Started { .. });
            !row.request.state.is_final() && (row.due <= now || is_news)
        };
        let due: Vec<&Row> = rows.iter().filter(is_due).collect();
        futures_util::stream::iter(due)
            .for_each_concurrent(CONCURRENT, |row| self.work_on(row, &turns))
            .await;
        self.teller.pass().await?;
        let next = self.store.run(move |store| store.next_due(now)).await?;
        let until = |next: Timestamp| next.duration_since(Timestamp::now()).try_into().unwrap_or_default();
        Ok(next.map_or(Duration::MAX, until))
    }

    async fn supersede(&self) -> Result<Vec<Row>, StoreError> {
        let rows = self.store.run(Store::of_open_pulls).await?;
        let requests: Vec<Request> = rows.iter().map(|row| row.request.clone()).collect();
        let older = superseded(&requests);
        let mut changed = false;
        for (id, by) in older {
            let Some(row) = rows.iter().find(|row| row.request.id == id) else { continue };
            let event = Event::Newer { by, policy: self.settings.policy };
            if decide(&row.request, &event).state != row.request.state {
                changed |= self.apply(row, &event).await?.is_some();
            }
        }
        if changed { self.store.run(Store::of_open_pulls).await } else { Ok(rows) }
    }

    async fn work_on(&self, row: &Row, turns: &[RequestId]) {
        let Err(error) = Box::pin(self.step(row, turns)).await else { return };
        if matches!(error, StepError::Store(StoreError::Changed)) {
            return;
        }
        let text = error_chain(&error);
        let wait = backoff(row.failures.saturating_add(1), error.retry_after());
        tracing::warn!(
            "{}#{} comment {}: {text}",
            row.request.asked.repo,
            row.request.asked.pull,
            row.request.asked.comment
        );
        if let Err(error) = self.put_off(row, wait, Some(text)).await {
            tracing::error!("{}", error_chain(&error));
        }
    }

    /// One step of one request.
    async fn step(&self, row: &Row, turns: &[RequestId]) -> Result<(), StepError> {
        let request = &row.request;
        let (event, wait) = match order(&request.state) {
            Order::Nothing => return Ok(()),
            Order::AwaitTurn if !turns.contains(&request.id) => return Ok(()),
            Order::Check | Order::AwaitTurn => {
                (Event::Checked(self.facts(request).await?), Duration::from_secs(3))
            }
            Order::LookUp => {
                let Some(job) = self.job_order(request) else { return Ok(()) };
                let jobs = self.starter.look_up(&job).await?;
                (Event::LookedUp { jobs, now: Timestamp::now() }, Duration::from_secs(5))
            }
            Order::Watch(job) => {
                let Some(order) = self.job_order(request) else { return Ok(()) };
                (self.watch(request, &order, &job).await?, self.settings.watch)
            }
            Order::Cancel(job) => {
                let Some(order) = self.job_order(request) else { return Ok(()) };
                // It is asked again each time until the job is over.
                if let Err(error) = self.starter.cancel(&order, &job).await {
                    tracing::warn!("can't end job {}: {}", job.number, error_chain(&error));
                }
                (self.watch(request, &order, &job).await?, self.settings.watch)
            }
        };
        match self.apply(row, &event).await? {
            Some((row, true)) => self.create(&row).await,
            Some((row, false)) => {
                // It is asked again right before the CI is: by then a push of this moment is listed.
                let is_listed = !matches!(&event, Event::Checked(facts) if !facts.is_head_listed());
                if !is_listed && matches!(row.request.state, State::Queued { .. }) {
                    self.put_off(&row, LISTED, None).await?;
                }
                self.wake.notify_one();
                Ok(())
            }
            None => Ok(self.put_off(row, wait, None).await?),
        }
    }

    /// Decides, and writes it down. `None`: nothing changed.
    async fn apply(&self, row: &Row, event: &Event) -> Result<Option<(Row, bool)>, StoreError> {
        let decision = decide(&row.request, event);
        if decision.state == row.request.state && !decision.create {
            return Ok(None);
        }
        let (row, why, create) = (row.clone(), event.name(), decision.create);
        let saved = self.store.run(move |store| store.save(&row, &decision, why, Timestamp::now())).await?;
        Ok(Some((saved, create)))
    }

    /// Asks for the job that is written down as asked for.
    async fn create(&self, row: &Row) -> Result<(), StepError> {
        let Some(order) = self.job_order(&row.request) else { return Ok(()) };
        let event = match self.starter.create(&order).await {
            Ok(Creation::Made(job)) => Event::Created(job),
            Ok(Creation::Refused(why)) => Event::NotCreated { why },
            Err(error) => {
                // Whether there is a job is found out by looking. The state is the new one: so is what is put off.
                let text = format!("no clear answer of the CI: {}", error_chain(&error));
                tracing::warn!("{}: {text}", order.key);
                let wait = backoff(2, error.retry_after());
                return Ok(self.put_off(row, wait, Some(text)).await?);
            }
        };
        self.apply(row, &event).await?;
        self.wake.notify_one();
        Ok(())
    }

    async fn watch(
        &self,
        request: &Request,
        order: &starter::Order,
        job: &crate::request::Job,
    ) -> Result<Event, StepError> {
        Ok(match self.starter.watch(order, job).await? {
            JobStatus::Alive(job) => Event::Alive(job),
            JobStatus::Missing => Event::Missing,
            JobStatus::Over(outcome) => {
                // The verdict is said whether or not the forge tells where the branch is by now.
                let pull = self.forge.pull(&request.asked.repo, request.asked.pull).await;
                Event::Over { outcome, head: pull.ok().map(|pull| pull.head().clone()) }
            }
        })
    }

    /// Asks the forge for all that is judged.
    async fn facts(&self, request: &Request) -> Result<Facts, StepError> {
        let asked = &request.asked;
        let now = Timestamp::now();
        let is = |name: &String| name.eq_ignore_ascii_case(&asked.author);
        let bot = is(&self.own_name) || self.settings.bots.iter().any(is) || asked.author.ends_with("[bot]");
        let listed = self.settings.allow.iter().any(is);
        let comment = self.forge.comment(&asked.repo, asked.comment).await?;
        // The comment's author is who the API says: a delivery may say what it likes.
        let other =
            comment.as_ref().is_some_and(|comment| !comment.user.login.eq_ignore_ascii_case(&asked.author));
        let permission = if bot || other {
            Permission::MayNot
        } else if listed {
            Permission::May
        } else {
            self.forge.permission(&asked.repo, &asked.author).await?
        };
        let comment = comment.map(|comment| CommentNow {
            body: comment.body,
            created: comment.created_at,
            updated: comment.updated_at,
        });
        let pull = self.forge.pull(&asked.repo, asked.pull).await?;
        let last_push = self.forge.last_push(&asked.repo, asked.pull).await?;
        let had_time_to_list = now.duration_since(asked.received) > ANSWER_LIMIT;
        let facts = Facts {
            comment,
            bot,
            permission,
            open: pull.is_open(),
            head: pull.head().clone(),
            last_push,
            had_time_to_list,
        };
        if validity_of(asked, &facts) == Validity::NotYet {
            tracing::info!(
                "{}#{}: the forge does not list the push to {} yet",
                asked.repo,
                asked.pull,
                facts.head
            );
        }
        Ok(facts)
    }

    fn job_order(&self, request: &Request) -> Option<starter::Order> {
        let asked = &request.asked;
        let (State::Intent { head, .. } | State::Started { head, .. }) = &request.state else { return None };
        Some(starter::Order {
            key: Key::of(self.forge.address(), &asked.repo, asked.comment),
            repo: asked.repo.clone(),
            url: format!("{}/{}.git", self.forge.address(), asked.repo),
            pull: asked.pull,
            head: head.clone(),
            quick: asked.trigger == Some(crate::trigger::Trigger::Quick),
            since: asked.created,
        })
    }

    async fn put_off(&self, row: &Row, wait: Duration, failure: Option<String>) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let until = now.checked_add(wait).unwrap_or(Timestamp::MAX);
        let row = row.clone();
        self.store.run(move |store| store.postpone(&row, until, failure.as_deref(), now)).await
    }
}
