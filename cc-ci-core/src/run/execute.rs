//! A run from top to bottom: opened, fetched, locked, ready, its lane, and the teardown that always comes.

use std::any::Any;
use std::panic::resume_unwind;

use super::acquire::acquire;
use super::admission::admit;
use super::baseline::Baseline;
use super::cold::{Deployed, bring_up};
use super::fetch::fetch;
use super::held::{Held, HeldWarm};
use super::ready::Ready;
use super::recover::{recover, sweep_others};
use super::redacted::redacted;
use super::request::{Harness, Request};
use super::restore::Restore;
use super::state::{Run, verdict};
use super::teardown::{BodyEnd, hands_off, tear_down};
use super::{quick, upgrade_passes};
use crate::lifetime::{RunLifetimeExt as _, ScopeEnd};
use crate::model::digest::Blame;
use crate::model::event::Event;
use crate::model::exit::Exit;
use crate::model::failure::Failure;
use crate::model::record::{Lane, RunRecord};

/// How a run ended, and what its lane gave.
#[derive(Debug)]
pub struct RunEnd<T> {
    /// What `run.json` says too.
    pub record: RunRecord,
    /// How the command exits.
    pub exit: Exit,
    /// What helps, where something does.
    pub hint: Option<String>,
    /// The lane's value, where it came to its end.
    pub value: Option<T>,
}

impl Harness {
    /// Runs the cold lane: the main job.
    pub async fn run_cold(&self, request: &Request) -> RunEnd<()> {
        let body = async |run: &Run<'_>, held: &mut Held| cold(run, held, upgrade_passes::lane).await;
        self.execute(request, Lane::Cold, body).await.0
    }

    /// Runs the quick lane: the recipe's warm app is upgraded in place, tested, and rolled back.
    pub async fn run_quick(&self, request: &Request) -> RunEnd<()> {
        Box::pin(self.execute(request, Lane::Quick, warm)).await.0
    }

    /// Deploys the recipe, hands the running app to `body`, and takes the app down again: on return, error,
    /// cancellation and panic. A panic is passed on after the teardown.
    ///
    /// The lifetime bounds all of it: its deadline ends `body` where it waits, its teardown budget what follows.
    ///
    /// Not cancel-safe: where this future is dropped nobody tears down, and the app is the next janitor's. Cancel the
    /// lifetime instead ([`EmbeddedMode::cancel`](crate::lifetime::EmbeddedMode::cancel)).
    ///
    /// # Panics
    /// Where `body` does.
    pub async fn with_app<T>(&self, request: &Request, body: impl AsyncFnOnce(&Deployed) -> T) -> RunEnd<T> {
        let lane = async |ready: &Ready<'_>| {
            let deployed = bring_up(ready).await?;
            Ok(body(&deployed).await)
        };
        let body = async |run: &Run<'_>, held: &mut Held| cold(run, held, lane).await;
        match self.execute(request, Lane::Cold, body).await {
            (_, Some(panic)) => resume_unwind(panic),
            (end, None) => end,
        }
    }

    /// The column of every lane. A panic has been torn down like any other end when it comes back.
    async fn execute<T>(
        &self,
        request: &Request,
        lane: Lane,
        body: impl AsyncFnOnce(&Run<'_>, &mut Held) -> Result<T, Failure>,
    ) -> (RunEnd<T>, Option<Box<dyn Any + Send>>) {
        let run = match self.open(request, lane).await {
            Ok(run) => run,
            Err((record, failure)) => return (refused(*record, &failure), None),
        };
        let mut held = Held::default();
        let (end, children) = self.lifetime.scope(body(&run, &mut held)).await;
        // From here on nothing ends us but our own budget: signals are swallowed and the children are gone.
        let dropped = !matches!(end, ScopeEnd::Returned(_));
        let interrupted = run.interrupted();
        let (mut value, mut hint, mut panic) = (None, None, None);
        let body_exit = match end {
            ScopeEnd::Returned(Ok(returned)) => {
                value = Some(returned);
                Exit::Green
            }
            ScopeEnd::Returned(Err(failure)) => {
                run.fail_with(&failure);
                hint = failure.hint().map(str::to_owned);
                failure.fault().into()
            }
            ScopeEnd::Cancelled(cause) => {
                // The lifetime has told it; it belongs to the run's record too.
                run.events.keep(&Event::Cancelled { cause });
                if run.end_kept(Some(cause)) {
                    // It was red before, and only somebody's look was ended.
                    Exit::Green
                } else {
                    run.record().cancelled_by = Some(cause);
                    Exit::Cancelled(cause)
                }
            }
            ScopeEnd::Panicked(payload) => {
                let failure = Failure::host(format!("cc-ci panicked: {}", panic_text(payload.as_ref())));
                run.fail_with(&failure.with_blame(Blame::Harness));
                panic = Some(payload);
                Exit::Harness
            }
        };
        run.context.reporter.report(&Event::ChildrenEnded {
            groups: children.groups,
            escaped: children.escaped,
            left: children.left.clone(),
            signalled_after: children.signalled_after,
        });
        let mut exit = body_exit;
        // Whoever owns the app now would lose what is torn down here.
        if run.owners.check_all().is_ok() {
            let end = BodyEnd { children: &children, dropped };
            let (torn_down, way_out) = Box::pin(tear_down(&run, &held, end)).await;
            if torn_down != Exit::Green {
                run.fail_phase();
            }
            exit = exit.or_graver(torn_down);
            hint = way_out.or(hint);
        }
        if let Err(lost) = run.owners.check_all() {
            exit = hands_off(&run, body_exit, &lost);
            hint = hint.or_else(|| Some(lost.hint()));
        }
        exit = run.finish(exit, interrupted.as_ref()).await;
        let record = redacted(&run.record(), &run.context.redactor);
        // The locks go last: whoever waits for them finds the report written and the domain empty.
        drop((run, held));
        (RunEnd { record, exit, hint, value }, panic)
    }
}

/// The body of a cold run: up to empty domains, then the `lane`.
async fn cold<T>(
    run: &Run<'_>,
    held: &mut Held,
    lane: impl AsyncFnOnce(&Ready<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    run.enter("fetch", &[]);
    run.keep_record(0).await;
    let fetched = fetch(run).await?;
    run.enter("lock", &[]);
    let Held { guards, place, .. } = held;
    let guards = acquire(run, guards).await?;
    run.note_engine().await;
    run.enter("recover", guards);
    recover(run, guards).await?;
    run.enter("janitor", guards);
    sweep_others(run).await;
    // What dead runs had left has made room.
    admit(run, guards, place).await?;
    lane(&Ready::new(run, &fetched, guards)).await
}

/// The body of a quick run: up to a warm app at its baseline, then the lane.
async fn warm(run: &Run<'_>, held: &mut Held) -> Result<(), Failure> {
    run.enter("fetch", &[]);
    run.keep_record(0).await;
    let fetched = fetch(run).await?;
    let baseline = Baseline::fetch(run).await?;
    baseline.guard_ancestry(run, &fetched).await?;
    run.enter("lock", &[]);
    let Held { guards, warm, place } = held;
    let guards = acquire(run, guards).await?;
    run.note_engine().await;
    // To restore it may be to deploy it.
    admit(run, guards, place).await?;
    run.enter("restore the baseline", guards);
    let HeldWarm { baseline, before } = warm.insert(HeldWarm { baseline, before: None });
    Restore::new(run, baseline, &run.context).restore().await?;
    run.enter("janitor", guards);
    sweep_others(run).await;
    quick::lane(&Ready::new(run, &fetched, guards), baseline, before).await
}

fn refused<T>(mut record: RunRecord, failure: &Failure) -> RunEnd<T> {
    let exit = failure.fault().into();
    if let Exit::Cancelled(cause) = exit {
        record.cancelled_by = Some(cause);
    }
    record.verdict = Some(verdict(exit));
    record.exit_code = Some(exit.code());
    record.errors.push(failure.chain());
    RunEnd { record, exit, hint: failure.hint().map(str::to_owned), value: None }
}

pub(super) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
