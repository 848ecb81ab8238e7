//! `--keep-on-red`: a red app stays up for a person to look.
//!
//! The run is meanwhile what it was: the live owner of its domains, which waits, for the time and for whatever ends a run. Either
//! is the end of the body, after which the app is taken down as always; the run is as red as it was. What was deployed otherwise
//! than it was judged is kept by nobody (I14).

use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::ready::Ready;
use super::state::Run;
use crate::engine::Kind;
use crate::model::cancellation::Cause;
use crate::model::digest::logs_command;
use crate::model::event::Event;
use crate::model::record::{Kept, clock_time};

/// Why an older release is not tried.
pub(super) const NOT_TRIED: &str = "a red app was kept up in its place (--keep-on-red)";

/// Whether there is a red app that is to be kept. Where it can't be seen whether anything runs, there is.
pub(super) async fn is_due(ready: &Ready<'_>) -> bool {
    let run = ready.run;
    if run.harness.settings.keep_on_red.is_zero() || !run.is_red() {
        return false;
    }
    if run.unfit.load(Ordering::Relaxed) {
        run.note_once("the red app is not kept: it is not deployed as its files were judged");
        return false;
    }
    let domain = run.record().domain.clone();
    let found = run.harness.ci_host.engine.inventory(Some(std::slice::from_ref(&domain))).await;
    let runs = |kind| matches!(kind, Kind::Process | Kind::Container | Kind::Service | Kind::Task);
    let is_up = found.map_or(true, |found| found.of(&domain).iter().any(|resource| runs(resource.kind)));
    if !is_up {
        run.note_once("the red app is not kept: nothing of it was deployed");
    }
    is_up
}

/// Keeps it. What ends the run drops this where it waits.
pub(super) async fn keep(ready: &Ready<'_>) {
    let run = ready.run;
    let wanted = run.harness.settings.keep_on_red;
    let limit = run.harness.lifetime.deadline_remaining().map_or(wanted, |left| left.min(wanted));
    let since = run.harness.ci_host.host.now();
    let until = since.checked_add(limit).unwrap_or(Timestamp::MAX);
    run.enter_for(&format!("red: kept until {}", clock_time(until)), Some(limit), ready.guards);
    run.record().kept = Some(Kept::new(since, until));
    run.keep_record(0).await;
    let look = look(run).await;
    let (run_id, domain) = (run.context.run_id.clone(), run.record().domain.clone());
    run.context.reporter.report(&Event::Kept { run_id, domain, until, look });
    let left = until.duration_since(run.harness.ci_host.host.now());
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
    run.end_kept(None);
}

/// What shows the app: where it answers, its logs, and what the engine has of it.
async fn look(run: &Run<'_>) -> Vec<String> {
    let (engine, domain) = (&run.harness.ci_host.engine, run.record().domain.clone());
    let address = match &run.harness.settings.proxy {
        Some(_) => Some(format!("https://{domain}/")),
        None => engine.endpoint(&domain).await.ok().map(|endpoint| format!("http://{}/", endpoint.address)),
    };
    let logs = logs_command(&run.context.run_id, None);
    address.into_iter().chain([logs]).chain(engine.shown_by(&domain)).collect()
}

impl Run<'_> {
    /// Notes the end of the time that the red app was kept up, and what ended it early. Gives whether it was kept at all.
    pub fn end_kept(&self, by: Option<Cause>) -> bool {
        let now = self.harness.ci_host.host.now();
        let mut record = self.record();
        let Some(kept) = &mut record.kept else { return false };
        if kept.seconds.is_none() {
            kept.seconds = Some(now.duration_since(kept.since).as_secs_f64().max(0.0));
            kept.ended_by = by;
        }
        true
    }
}
