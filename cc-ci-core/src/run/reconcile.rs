//! Restoring the baselines of warm apps, outside of any test.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::acquire::acquire;
use super::baseline::Baseline;
use super::checks;
use super::diff::REMOVAL_LIMIT;
use super::execute::panic_text;
use super::request::{Harness, Request};
use super::restore::{Restore, Restored, ended_in_the_middle, other_version};
use super::state::Run;
use super::teardown::remove_tree;
use super::upgrade_from::UpgradeFrom;
use crate::engine::Resource;
use crate::lifetime::{RunLifetimeExt as _, ScopeEnd};
use crate::lock::AppGuard;
use crate::model::exit::Exit;
use crate::model::failure::{Failure, Fault};
use crate::model::record::Lane;
use crate::names::{Domain, RecipeName, RunId, Subject};
use crate::workspace::RecipeSource;

/// What became of one warm app.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct WarmEnd {
    /// Its recipe.
    pub recipe: RecipeName,
    /// Its domain, where it is configured.
    pub domain: Option<Domain>,
    /// The run that worked on it: the name of its directory.
    pub run_id: Option<RunId>,
    /// Its baseline, where it is known.
    pub version: Option<String>,
    /// What was done.
    pub outcome: Outcome,
    /// Why.
    pub reasons: Vec<String>,
    /// What a dead run had added, and is gone.
    pub removed: Vec<Resource>,
    /// What went wrong.
    pub errors: Vec<String>,
    /// What helps.
    pub hint: Option<String>,
    /// How a command exits for it.
    #[serde(skip)]
    pub exit: Exit,
}

/// What was done with a warm app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It is as it should be; nothing was touched.
    AtBaseline,
    /// It was not, and is now.
    Restored,
    /// It was not deployed, and is now.
    Deployed,
    /// Dry run: it would be restored, or deployed.
    WouldRestore,
    /// Dry run: nothing tells that it is not as it should be.
    LooksAtBaseline,
    /// It could not be looked at or restored.
    Failed,
    /// The command ended before.
    NotReached,
}

/// A run that works on a warm app, and the lock that it took: both outlive the work.
struct Current<'h> {
    run: Run<'h>,
    guards: Vec<AppGuard>,
}

impl Harness {
    /// Restores the baselines of the warm apps of `recipes`, one after the other, each under its lock and in a run
    /// directory of its own. One that fails does not hide the next.
    pub async fn reconcile(&self, recipes: &[RecipeName], run_id: &RunId) -> Vec<WarmEnd> {
        let requests: Vec<Request> = recipes.iter().map(|recipe| self.warm_request(recipe, run_id)).collect();
        let mut ends = Vec::new();
        // Outside of the scope: a lock goes after the last child that works under it.
        let mut current = None;
        let body = async {
            for request in &requests {
                ends.push(self.reconcile_one(request, &mut current).await);
            }
        };
        let (end, children) = Box::pin(self.lifetime.scope(body)).await;
        let end_of_all = match end {
            ScopeEnd::Returned(()) => None,
            ScopeEnd::Cancelled(cause) => Some(Failure::cancelled(cause)),
            ScopeEnd::Panicked(payload) => {
                Some(Failure::host(format!("cc-ci panicked: {}", panic_text(payload.as_ref()))))
            }
        };
        let exit = end_of_all.as_ref().map_or(Exit::Green, |failure| failure.fault().into());
        if let (Some(current), Some(failure)) = (&current, end_of_all) {
            ends.push(self.interrupted(&current.run, failure, children.is_at_work()).await);
        }
        drop(current);
        let last = ends.len().saturating_sub(1);
        for recipe in &recipes[ends.len()..] {
            ends.push(WarmEnd { exit, ..self.warm_end(recipe, Outcome::NotReached) });
        }
        if let Some(last) = ends.get_mut(last)
            && children.is_at_work()
        {
            last.exit = last.exit.or_graver(Exit::Residue);
            last.errors.push(format!(
                "the command's own work did not end in time, or could not be looked for: processes {:?}, {} blocking tasks",
                children.left, children.tasks_left
            ));
        }
        ends
    }

    /// The whole work on one app, and its record.
    async fn reconcile_one<'h>(&'h self, request: &'h Request, current: &mut Option<Current<'h>>) -> WarmEnd {
        let run = match self.open(request, Lane::Warm).await {
            Ok(run) => run,
            Err((_, failure)) => return self.failed(request, None, &failure),
        };
        let Current { run, guards } = current.insert(Current { run, guards: Vec::new() });
        let end = Box::pin(restore(run, guards)).await;
        // What failed by a cancellation is told as one: the scope ends us here.
        if end.is_err() && self.lifetime.cancellation().cause().is_some() {
            std::future::pending::<()>().await;
        }
        let exit = match &end {
            Ok(_) => Exit::Green,
            Err(failure) => {
                run.fail(&failure.chain());
                run.first.note(run.phase(), failure);
                failure.fault().into()
            }
        };
        conclude(run, exit, false, REMOVAL_LIMIT).await;
        let end = match end {
            Ok(restored) => self.restored(request, run.context.run_id.clone(), restored),
            Err(failure) => self.failed(request, Some(run), &failure),
        };
        // The lock goes with it.
        *current = None;
        end
    }

    /// Concludes the `run` that the `failure` ended in the middle.
    async fn interrupted(&self, run: &Run<'_>, failure: Failure, at_work: bool) -> WarmEnd {
        let teardown = self.lifetime.begin_teardown();
        let mut exit = Exit::from(failure.fault());
        if let Exit::Cancelled(cause) = exit {
            run.record().cancelled_by = Some(cause);
        }
        let (domain, dirty) = {
            let record = run.record();
            (record.domain.clone(), record.dirty)
        };
        let failure = if dirty {
            exit = exit.or_graver(Exit::Residue);
            Failure::host(format!("{}: {domain} may not be as it should be", failure.chain()))
                .with_hint(format!("restore it with `cc-ci warm reconcile {domain}`"))
        } else {
            failure
        };
        run.fail(&failure.chain());
        run.first.note(run.phase(), &failure);
        let of_record = if at_work { exit.or_graver(Exit::Residue) } else { exit };
        conclude(run, of_record, at_work, teardown.remaining()).await;
        WarmEnd { exit, ..self.failed(run.request, Some(run), &failure) }
    }

    /// What [`reconcile`](Self::reconcile) would do, as far as a look tells: it takes no lock, and fetches nothing.
    pub async fn plan_reconcile(&self, recipes: &[RecipeName]) -> Vec<WarmEnd> {
        let mut ends = Vec::new();
        for recipe in recipes {
            let request = self.warm_request(recipe, &RunId::manual(std::process::id()));
            ends.push(match self.plan(recipe).await {
                Ok(reasons) => {
                    let outcome =
                        if reasons.is_empty() { Outcome::LooksAtBaseline } else { Outcome::WouldRestore };
                    WarmEnd { reasons, ..self.warm_end(recipe, outcome) }
                }
                Err(failure) => self.failed(&request, None, &failure),
            });
        }
        ends
    }

    async fn plan(&self, recipe: &RecipeName) -> Result<Vec<String>, Failure> {
        let warm = self.guard_warm(recipe).await?;
        let (dead, _) = self.ci_host.over_on(&warm.domain, &self.deployer.to_string()).await?;
        let services = self.ci_host.engine.services(&warm.domain).await?;
        let mut reasons: Vec<String> = dead.iter().map(ended_in_the_middle).collect();
        if services.is_empty() {
            reasons.push("it is not deployed".to_owned());
        } else if let Err(failure) = checks::healthy(&services) {
            reasons.push(failure.to_string());
        }
        let wanted = warm.version.as_ref().map(ToString::to_string);
        reasons.extend(other_version(wanted.as_deref(), &services));
        Ok(reasons)
    }

    fn warm_request(&self, recipe: &RecipeName, run_id: &RunId) -> Request {
        let source = self.settings.warm.get(recipe).and_then(|warm| warm.source.clone());
        Request {
            source: source.unwrap_or_else(|| RecipeSource::Name(recipe.clone())),
            recipe: recipe.clone(),
            revision: None,
            subject: Subject::reference("warm"),
            run_id: run_id.clone(),
            fresh: false,
            upgrade_from: UpgradeFrom::default(),
            skip_fetch: false,
            asked: None,
        }
    }

    fn warm_end(&self, recipe: &RecipeName, outcome: Outcome) -> WarmEnd {
        let warm = self.settings.warm.get(recipe);
        WarmEnd {
            recipe: recipe.clone(),
            domain: warm.map(|warm| warm.domain.clone()),
            run_id: None,
            version: warm.and_then(|warm| Some(warm.version.as_ref()?.to_string())),
            outcome,
            reasons: Vec::new(),
            removed: Vec::new(),
            errors: Vec::new(),
            hint: None,
            exit: Exit::Green,
        }
    }

    fn restored(&self, request: &Request, run_id: RunId, restored: Restored) -> WarmEnd {
        let outcome = match (restored.reasons.is_empty(), restored.was_down) {
            (true, _) => Outcome::AtBaseline,
            (false, false) => Outcome::Restored,
            (false, true) => Outcome::Deployed,
        };
        WarmEnd {
            run_id: Some(run_id),
            version: Some(restored.version),
            reasons: restored.reasons,
            removed: restored.removed,
            ..self.warm_end(&request.recipe, outcome)
        }
    }

    fn failed(&self, request: &Request, run: Option<&Run<'_>>, failure: &Failure) -> WarmEnd {
        let message = failure.chain();
        let message = run.map_or(message.clone(), |run| run.context.redactor.redact(&message));
        WarmEnd {
            run_id: run.map(|run| run.context.run_id.clone()),
            // A warm app is not what is tested: nothing here is red.
            exit: if failure.fault() == Fault::Recipe { Exit::Harness } else { failure.fault().into() },
            errors: vec![message],
            hint: failure.hint().map(str::to_owned),
            ..self.warm_end(&request.recipe, Outcome::Failed)
        }
    }
}

/// Opened → fetched → locked → restored.
async fn restore(run: &Run<'_>, guards: &mut Vec<AppGuard>) -> Result<Restored, Failure> {
    run.enter("fetch", &[]);
    let baseline = Baseline::fetch(run).await?;
    run.enter("lock", &[]);
    let guards = acquire(run, guards).await?;
    run.enter("restore the baseline", guards);
    Restore::new(run, &baseline, &run.context).restore().await
}

/// Writes the result. An app that was touched and is not at its baseline keeps the tree: whoever comes next finds it, and
/// goes on.
async fn conclude(run: &Run<'_>, exit: Exit, at_work: bool, limit: Duration) {
    let dirty = run.record().dirty;
    if !at_work
        && !dirty
        && let Err(why) = remove_tree(run, limit).await
    {
        run.warn(&why);
    }
    let interrupted = run.interrupted();
    run.finish(exit, interrupted.as_ref()).await;
}
