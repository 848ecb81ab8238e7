//! Teardown: what happens always, once, and under the locks that the body took.

use std::time::Duration;

use super::held::Held;
use super::rollback::{RolledBack, roll_back};
use super::service_logs;
use super::state::Run;
use crate::engine::{Kind, Resource};
use crate::janitor::{PendingRequests, inspect, reap};
use crate::lifetime::{ChildrenEnded, Teardown};
use crate::lock::{AppGuard, LostOwnership};
use crate::model::exit::Exit;
use crate::model::record::{Lane, Receipt, Status, TierName};

/// One more look, and removing the run's tree, must still be possible when the budget is spent.
const LAST_WORK: Duration = Duration::from_secs(5);

/// How the body of a run ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyEnd<'e> {
    pub children: &'e ChildrenEnded,
    /// It was dropped, and may have been waiting for the engine's answer.
    pub dropped: bool,
}

impl BodyEnd<'_> {
    /// Whether a client of the engine may have been killed while it gave an order.
    fn in_flight(&self) -> bool {
        self.dropped || self.children.by_force
    }
}

/// What a lane's own part of the teardown brought.
struct Undone {
    exit: Exit,
    hint: Option<String>,
    /// Whether the domains are verified to be as they should.
    verified: bool,
    /// Whom the run's tree tells what, while they are not.
    tree_tells: &'static str,
}

/// Takes down what the run deployed, or rolls it back; looks, and writes the receipt. Gives how the run exits for it,
/// and what helps.
pub(super) async fn tear_down(run: &Run<'_>, held: &Held, end: BodyEnd<'_>) -> (Exit, Option<String>) {
    let teardown = run.harness.lifetime.begin_teardown();
    let mut receipt = run.record().receipt.clone().unwrap_or_default();
    receipt.left.extend(processes(&end.children.left));
    let undone = match run.lane() {
        Lane::Cold => remove_apps(run, &held.guards, end, &teardown, &mut receipt).await,
        Lane::Quick | Lane::Warm => undo_upgrade(run, held, end, &teardown, &mut receipt).await,
    };
    // Whoever a service had detached without its mark lost its parent just now, and became our child.
    let mut orphans = run.harness.lifetime.end_children().await.left;
    orphans.retain(|pid| !end.children.left.contains(pid));
    receipt.left.extend(processes(&orphans));
    let nothing_known = receipt.left.is_empty() || Resource::only_owed(&receipt.left);
    if undone.verified && !end.children.is_at_work() {
        if let Err(why) = remove_tree(run, teardown.remaining()).await {
            receipt.failures.push(why);
            receipt.left.extend(tree_residue(run));
        }
    } else if end.children.is_at_work() || !nothing_known {
        receipt.left.extend(tree_residue(run));
    } else {
        let tree = run.directory.root().display();
        receipt.failures.push(format!("{tree} stays: {}", undone.tree_tells));
    }
    if let Some(left) = run.strangers.left(run.harness.ci_host.engine.as_ref()).await {
        run.warn(&left);
    }
    for failure in &mut receipt.failures {
        *failure = run.context.redactor.redact(failure);
    }
    let exit = match receipt.left.as_slice() {
        [] => undone.exit,
        left if Resource::only_owed(left) => undone.exit.or_graver(Exit::Harness),
        _ => Exit::Residue,
    };
    run.record().receipt = Some(receipt);
    (exit, undone.hint)
}

/// Removes everything of the domains whose locks the run holds.
async fn remove_apps(
    run: &Run<'_>,
    guards: &[AppGuard],
    end: BodyEnd<'_>,
    teardown: &Teardown,
    receipt: &mut Receipt,
) -> Undone {
    run.enter_for("teardown", Some(teardown.remaining()), guards);
    if !guards.is_empty() && !end.children.is_at_work() {
        service_logs::keep(run, service_logs::LIMIT.min(teardown.remaining() / 4)).await;
    }
    if end.children.is_at_work() {
        // That is the janitor's, once we are dead.
        receipt.failures.push(
            "the run's own work did not end in time, or could not be looked for, so nothing was removed"
                .to_owned(),
        );
    }
    let pending = if end.in_flight() { PendingRequests::InFlight } else { PendingRequests::Done };
    let (ci_host, own) = (&run.harness.ci_host, Some(&run.context.run_id));
    let mut exit = Exit::Green;
    for guard in guards {
        let domain = guard.domain();
        let limit = teardown.remaining().max(LAST_WORK);
        let reaped = if end.children.is_at_work() {
            inspect(ci_host, guard, own).await
        } else {
            reap(ci_host, guard, own, pending, limit).await
        };
        match reaped {
            Ok(reaped) => {
                receipt.verified.extend(reaped.left.is_empty().then(|| domain.clone()));
                receipt.removed.extend(reaped.removed);
                receipt.left.extend(reaped.left);
                receipt.failures.extend(reaped.failures);
            }
            Err(failure) => {
                exit = Exit::Harness;
                receipt.failures.push(format!("{domain} could not be verified empty: {}", failure.chain()));
            }
        }
    }
    Undone {
        exit,
        hint: None,
        verified: guards.iter().all(|guard| receipt.verified.contains(guard.domain())),
        tree_tells: "it tells a janitor that something may yet appear",
    }
}

/// Rolls the warm app back, where this run may have touched it. What can't be proven keeps the run's tree: it tells the
/// next `cc-ci warm reconcile`, or quick run, what to finish.
async fn undo_upgrade(
    run: &Run<'_>,
    held: &Held,
    end: BodyEnd<'_>,
    teardown: &Teardown,
    receipt: &mut Receipt,
) -> Undone {
    let dirty = run.record().dirty;
    let rolled_back = match &held.warm {
        _ if end.children.is_at_work() => {
            let why = "the run's own work did not end in time, or could not be looked for, so nothing was rolled back";
            receipt.failures.push(why.to_owned());
            RolledBack::Unproven
        }
        Some(warm) if dirty => {
            Box::pin(roll_back(run, &held.guards, warm, end.in_flight(), teardown, receipt)).await
        }
        // Nothing is touched before the baseline is there.
        _ => {
            run.enter("rollback", &held.guards);
            if let Some(tier) = run.record().tier_mut(TierName::Rollback) {
                tier.status = Status::Skipped;
                tier.reason = Some("the app was not touched".to_owned());
            }
            RolledBack::AsBefore
        }
    };
    let domain = run.record().domain.clone();
    let verified = rolled_back != RolledBack::Unproven;
    if verified {
        // Its record is written with the result.
        run.record().dirty = false;
    } else {
        receipt
            .failures
            .push(format!("{domain} may not be as it was: restore it with `cc-ci warm reconcile {domain}`"));
    }
    Undone {
        exit: match rolled_back {
            RolledBack::AsBefore => Exit::Green,
            RolledBack::AtBaseline => Exit::Harness,
            RolledBack::Unproven => Exit::Residue,
        },
        hint: (!verified).then(|| format!("restore {domain}: cc-ci warm reconcile {domain}")),
        verified,
        tree_tells: "it tells the next reconcile, or quick run, what to finish",
    }
}

/// Removes the run's tree, within `limit` and no less than a last look takes; gives why it is still there.
pub(super) async fn remove_tree(run: &Run<'_>, limit: Duration) -> Result<(), String> {
    let directory = run.directory.clone();
    let removal = run.harness.lifetime.blocking_tasks().run(move || directory.remove_tree());
    // It goes on past the limit, under the run's own lock: that is in the job's hands too.
    match tokio::time::timeout(limit.max(LAST_WORK), removal).await {
        Ok(removed) => removed.map_err(|error| crate::model::error_chain(&error)),
        Err(_) => Err("removing the run's tree took too long".to_owned()),
    }
}

/// What is left of the run's is no longer its own to judge, or to remove: its tree stays, and tells whoever owns the
/// domain next that something may yet appear.
pub(super) fn hands_off(run: &Run<'_>, exit: Exit, lost: &LostOwnership) -> Exit {
    // Signals and the deadline end nothing any more: only the result is left to be written.
    run.harness.lifetime.begin_teardown();
    let text = lost.to_string();
    let mut record = run.record();
    record.receipt.get_or_insert_default().failures.push(format!("nothing was torn down: {text}"));
    if !record.errors.iter().any(|error| error.contains(&text)) {
        record.errors.push(text);
    }
    if matches!(exit, Exit::Cancelled(_)) { exit } else { Exit::Harness }
}

fn processes(pids: &[i32]) -> impl Iterator<Item = Resource> {
    pids.iter().map(|pid| Resource::new(Kind::Process, format!("pid {pid}")))
}

/// The run's tree, and what is mounted in it.
fn tree_residue(run: &Run<'_>) -> impl Iterator<Item = Resource> {
    let paths = std::iter::once(run.directory.root().to_owned()).chain(run.directory.mounts());
    paths.map(|path| Resource::new(Kind::RunTree, path.display().to_string()))
}
