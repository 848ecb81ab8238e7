//! Bringing warm apps back to their canonical versions, outside of any test.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::added::REMOVAL_LIMIT;
use super::drive::{Running, panic_text};
use super::quick::LAST_WORK;
use super::{Failure, Harness, Request, UpgradeFrom};
use crate::engine::Residue;
use crate::lifetime::{ChildrenEnded, RunLifetimeExt as _, ScopeEnd};
use crate::model::error_chain;
use crate::model::exit::Exit;
use crate::model::record::Lane;
use crate::names::{Domain, RecipeName, RunId, Subject};
use crate::workspace::RecipeSource;

/// What became of one warm app.
#[derive(Debug, Clone, Serialize)]
pub struct WarmEnd {
    /// Its recipe.
    pub recipe: RecipeName,
    /// Its domain, where it is configured.
    pub domain: Option<Domain>,
    /// The run that worked on it: the name of its directory.
    pub run_id: Option<RunId>,
    /// Its canonical version, where it is known.
    pub version: Option<String>,
    /// What was done.
    pub outcome: Outcome,
    /// Why.
    pub reasons: Vec<String>,
    /// What a dead run had added, and is gone.
    pub removed: Vec<Residue>,
    /// What went wrong.
    pub errors: Vec<String>,
    /// What helps.
    pub hint: Option<String>,
    /// How a command exits for it.
    #[serde(skip)]
    pub exit: Exit,
}

/// What was done with a warm app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It is as it should be; nothing was touched.
    Canonical,
    /// It was not, and is now.
    BroughtBack,
    /// It was not deployed, and is now.
    Deployed,
    /// Dry run: it would be brought back, or deployed.
    WouldBringBack,
    /// Dry run: nothing tells that it is not as it should be.
    LooksCanonical,
    /// It could not be looked at or brought back.
    Failed,
    /// The command ended before.
    NotReached,
}

impl Harness {
    /// Brings the warm apps of `recipes` back to their canonical versions, one after the other, each under its lock
    /// and in a run directory of its own. One that fails does not hide the next.
    pub async fn reconcile(&self, recipes: &[RecipeName], run_id: &RunId) -> Vec<WarmEnd> {
        let requests: Vec<Request> = recipes.iter().map(|recipe| self.warm_request(recipe, run_id)).collect();
        let ends = Mutex::new(Vec::new());
        // Outside of the scope: a lock goes after the last child that works under it.
        let running = Mutex::new(None::<Arc<Running<'_>>>);
        let body = async {
            for request in &requests {
                let end = self.reconcile_one(request, &running).await;
                ends.lock().unwrap_or_else(PoisonError::into_inner).push(end);
            }
        };
        let (end, children) = Box::pin(self.lifetime.scope(body)).await;
        let ended = match end {
            ScopeEnd::Returned(()) => Failure { exit: Exit::Green, ..Failure::host("") },
            ScopeEnd::Cancelled(cause) => Failure::cancelled(cause),
            ScopeEnd::Panicked(payload) => {
                Failure::host(format!("cc-ci panicked: {}", panic_text(payload.as_ref())))
            }
        };
        let (exit, at_work) = (ended.exit, at_work(&children));
        let mut ends = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = running.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let ended = run.ended(ended, at_work.is_some()).await;
            let id = run.record().run_id.clone();
            ends.push(self.failed(run.request, Some(id), ended));
        }
        let last = ends.len().saturating_sub(1);
        for recipe in &recipes[ends.len()..] {
            ends.push(WarmEnd { exit, ..self.warm_end(recipe, Outcome::NotReached) });
        }
        if let (Some(at_work), Some(last)) = (at_work, ends.get_mut(last)) {
            last.exit = last.exit.or_graver(Exit::Residue);
            last.errors.push(at_work);
        }
        ends
    }

    async fn reconcile_one<'h>(
        &'h self,
        request: &'h Request,
        running: &Mutex<Option<Arc<Running<'h>>>>,
    ) -> WarmEnd {
        let run = match self.open(request, Lane::Warm).await {
            Ok(run) => Arc::new(run),
            Err((_, failure)) => return self.failed(request, None, failure),
        };
        let keep = |kept| *running.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        keep(Some(run.clone()));
        let end = Box::pin(run.reconciled()).await;
        let id = run.record().run_id.clone();
        drop(run);
        // The lock goes with it.
        keep(None);
        match end {
            Ok(end) => WarmEnd { run_id: Some(id), ..end },
            Err(failure) => self.failed(request, Some(id), failure),
        }
    }

    /// What [`reconcile`](Self::reconcile) would do, as far as a look tells: it takes no lock, and fetches nothing.
    pub async fn foresee_reconcile(&self, recipes: &[RecipeName]) -> Vec<WarmEnd> {
        let mut ends = Vec::new();
        for recipe in recipes {
            let request = self.warm_request(recipe, &RunId::manual(std::process::id()));
            ends.push(match self.foresee(recipe).await {
                Ok(reasons) => {
                    let outcome =
                        if reasons.is_empty() { Outcome::LooksCanonical } else { Outcome::WouldBringBack };
                    WarmEnd { reasons, ..self.warm_end(recipe, outcome) }
                }
                Err(failure) => self.failed(&request, None, failure),
            });
        }
        ends
    }

    async fn foresee(&self, recipe: &RecipeName) -> Result<Vec<String>, Failure> {
        let warm = self.guard_warm(recipe)?;
        let executor = self.deployer.to_string();
        let (dead, _) =
            self.site.over_on(&warm.domain, &executor).map_err(|error| Failure::host(error_chain(&error)))?;
        let services = self.site.engine.services(&warm.domain).await?;
        let mut reasons: Vec<String> =
            dead.iter().map(|run| format!("run {} ended in the middle of its work", run.id)).collect();
        if services.is_empty() {
            reasons.push("it is not deployed".to_owned());
        } else if let Err(super::tiers::StepError::Failed(reason)) = super::checks::healthy(&services) {
            reasons.push(reason);
        }
        let wanted = warm.version.as_ref().map(ToString::to_string);
        reasons.extend(super::canonical::other_version(wanted.as_deref(), &services));
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

    fn failed(&self, request: &Request, run_id: Option<RunId>, failure: Failure) -> WarmEnd {
        // A warm app is not what is tested: nothing here is red.
        let exit = if failure.exit == Exit::Red { Exit::Harness } else { failure.exit };
        WarmEnd {
            run_id,
            exit,
            errors: vec![failure.message],
            hint: failure.hint,
            ..self.warm_end(&request.recipe, Outcome::Failed)
        }
    }
}

/// What did not end with the command, in words.
fn at_work(children: &ChildrenEnded) -> Option<String> {
    let ChildrenEnded { left, jobs_left, .. } = children;
    (!left.is_empty() || *jobs_left > 0).then(|| {
        format!("the command's own work did not end in time: processes {left:?}, {jobs_left} blocking jobs")
    })
}

impl Running<'_> {
    /// Writes the result. An app that was touched and not brought back keeps the tree: whoever comes next finds it,
    /// and goes on.
    async fn conclude_warm(&self, exit: Exit, at_work: bool, limit: Duration) {
        if !at_work && !self.record().touched {
            let directory = self.directory.clone();
            let removal = self.harness.lifetime.jobs().run(move || directory.remove_tree());
            match tokio::time::timeout(limit, removal).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.warn(&error_chain(&error)),
                Err(_) => self.warn("removing the run's tree took too long"),
            }
        }
        self.finish(exit);
        self.close_events();
    }

    /// Concludes a run that `ended` in the middle; gives how that is told.
    async fn ended(&self, ended: Failure, at_work: bool) -> Failure {
        let teardown = self.harness.lifetime.begin_teardown();
        let domain = self.record().domain.clone();
        let message = self.session.redactor.redact(&ended.message);
        if let Exit::Cancelled(cause) = ended.exit {
            self.record().cancelled_by = Some(cause);
        }
        let ended = if self.record().touched {
            Failure {
                exit: ended.exit.or_graver(Exit::Residue),
                message: format!("{message}: {domain} may not be as it should be"),
                hint: Some(format!("bring it back with `cc-ci warm reconcile {domain}`")),
            }
        } else {
            Failure { message, ..ended }
        };
        self.record().errors.push(ended.message.clone());
        let exit = if at_work { ended.exit.or_graver(Exit::Residue) } else { ended.exit };
        self.conclude_warm(exit, at_work, teardown.remaining().max(LAST_WORK)).await;
        ended
    }

    /// The whole work on one app, and its record.
    async fn reconciled(&self) -> Result<WarmEnd, Failure> {
        let work = async {
            self.enter("fetch");
            self.fetch_canonical().await?;
            self.enter("lock");
            self.lock().await?;
            self.enter("bring back");
            self.bring_back(&self.session).await
        };
        let end = work.await;
        // What failed by a cancellation is told as one: the scope ends us here.
        if end.is_err() && self.harness.lifetime.cancellation().cause().is_some() {
            std::future::pending::<()>().await;
        }
        let exit = end.as_ref().map_or_else(|failure| failure.exit, |()| Exit::Green);
        if let Err(failure) = &end {
            let message = self.session.redactor.redact(&failure.message);
            self.record().errors.push(message);
        }
        self.conclude_warm(exit, false, REMOVAL_LIMIT).await;
        end.map_err(|failure| Failure {
            message: self.session.redactor.redact(&failure.message),
            ..failure
        })?;
        let brought = self.warm.brought_back.get().cloned().unwrap_or_default();
        let outcome = match (brought.reasons.is_empty(), brought.was_down) {
            (true, _) => Outcome::Canonical,
            (false, false) => Outcome::BroughtBack,
            (false, true) => Outcome::Deployed,
        };
        Ok(WarmEnd {
            version: Some(brought.version),
            reasons: brought.reasons,
            removed: brought.removed,
            ..self.harness.warm_end(&self.request.recipe, outcome)
        })
    }
}
