//! From the run's directory to its report: the frame that every lane runs in.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::canonical::Warm;
use super::conclude::verdict;
use super::guarded::Watch;
use super::matrix::Pass;
use super::recorded::Recorded;
use super::tiers::bounded;
use super::{Failure, Harness, Request};
use crate::engine::{App, Owners, Session};
use crate::inventory::env_files::EnvFiles;
use crate::inventory::site::Site;
use crate::lifetime::{RunLifetimeExt as _, ScopeEnd};
use crate::lock::{AppGuard, Description};
use crate::model::event::Event;
use crate::model::exit::Exit;
use crate::model::record::{Lane, RUN_SCHEMA, RunRecord};
use crate::names::{Domain, RecipeName, Stack, Subject};
use crate::workspace::{RecipeSource, RecipeTree, Release, RunDir};

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

/// A run that goes on: what its lane works with.
#[derive(Debug)]
pub struct Running<'h> {
    /// In the hands of its own locks.
    pub(super) harness: Harness,
    /// For the work on everybody else's leftovers.
    pub(super) site: &'h Site,
    pub(super) owners: Owners,
    pub(super) request: &'h Request,
    pub(super) session: Session,
    pub(super) directory: Arc<RunDir>,
    /// Where its apps have their `.env`.
    env_files: EnvFiles,
    /// What it knows of the warm app that it works on.
    pub(super) warm: Warm,
    record: Mutex<RunRecord>,
    events: Arc<Recorded>,
    pub(super) trees: OnceLock<Trees>,
    pub(super) guards: OnceLock<Vec<AppGuard>>,
    pub(super) watch: Watch,
    pub(super) pass: Mutex<Pass>,
}

/// The checkouts of a run.
#[derive(Debug)]
pub(super) struct Trees {
    pub tested: RecipeTree,
    /// The release that the commit under test is, where it is one.
    pub release: Option<Release>,
    /// The releases to upgrade from, newest first.
    pub upgrade_from: Vec<Release>,
    pub dependencies: Vec<(RecipeTree, Domain)>,
}

impl Harness {
    /// Runs the cold lane: the main job.
    pub async fn run_cold(&self, request: &Request) -> RunEnd<()> {
        self.drive(request, Lane::Cold, super::cold::lane).await.0
    }

    /// Runs the quick lane: the recipe's warm app is upgraded in place, tested, and rolled back.
    pub async fn run_quick(&self, request: &Request) -> RunEnd<()> {
        Box::pin(self.drive(request, Lane::Quick, super::quick::lane)).await.0
    }

    /// Deploys the recipe, hands the running app to `body`, and takes the app down again: on return, error,
    /// cancellation and panic. A panic is passed on after the teardown.
    pub async fn with_app<T>(
        &self,
        request: &Request,
        body: impl AsyncFnOnce(&super::cold::Deployed) -> T,
    ) -> RunEnd<T> {
        let lane = async |run: &Running<'_>| {
            let deployed = super::cold::bring_up(run).await?;
            Ok(body(&deployed).await)
        };
        match self.drive(request, Lane::Cold, lane).await {
            (_, Some(panic)) => resume_unwind(panic),
            (end, None) => end,
        }
    }

    /// The frame of every lane. A panic has been torn down like any other end when it comes back.
    async fn drive<T>(
        &self,
        request: &Request,
        lane: Lane,
        work: impl AsyncFnOnce(&Running<'_>) -> Result<T, Failure>,
    ) -> (RunEnd<T>, Option<Box<dyn Any + Send>>) {
        let run = match self.open(request, lane).await {
            Ok(run) => run,
            Err((record, failure)) => return (refused(*record, failure), None),
        };
        let body = async {
            run.prepare().await?;
            work(&run).await
        };
        let (end, ended) = self.lifetime.scope(body).await;
        // From here on nothing ends us but our own budget: signals are swallowed and the children are gone.
        let mut exit = Exit::Green;
        let (mut value, mut hint, mut panic) = (None, None, None);
        let dropped = !matches!(end, ScopeEnd::Returned(_));
        match end {
            ScopeEnd::Returned(Ok(returned)) => value = Some(returned),
            ScopeEnd::Returned(Err(failure)) => {
                exit = failure.exit;
                hint = failure.hint;
                run.record().errors.push(bounded(run.session.redactor.redact(&failure.message)));
            }
            ScopeEnd::Cancelled(cause) => exit = Exit::Cancelled(cause),
            ScopeEnd::Panicked(payload) => {
                exit = Exit::Harness;
                let text = format!("cc-ci panicked: {}", panic_text(payload.as_ref()));
                run.record().errors.push(bounded(run.session.redactor.redact(&text)));
                panic = Some(payload);
            }
        }
        if let Exit::Cancelled(cause) = exit {
            run.record().cancelled_by = Some(cause);
            // The lifetime has told it; it belongs to the run's record too.
            run.events.keep(&Event::Cancelled { cause });
        }
        run.session.reporter.report(&Event::ChildrenEnded {
            groups: ended.groups,
            escaped: ended.escaped,
            left: ended.left.clone(),
            signalled_after: ended.signalled_after,
        });
        let before = exit;
        // Whoever owns the app now would lose what is torn down here.
        if run.owners.check_all().is_ok() {
            exit = exit.or_graver(match lane {
                Lane::Cold => run.tear_down(&ended, dropped).await,
                Lane::Quick | Lane::Warm => {
                    let (exit, way_out) = Box::pin(run.roll_back(&ended, dropped)).await;
                    hint = way_out.or(hint);
                    exit
                }
            });
        }
        if let Err(lost) = run.owners.check_all() {
            exit = run.hands_off(before, &lost);
            hint = hint.or_else(|| Some(lost.hint()));
        }
        exit = run.finish(exit);
        run.close_events();
        let record = super::redacted::redacted(&run.record(), &run.session.redactor);
        // The locks go last: whoever waits for them finds the report written and the domain empty.
        drop(run);
        (RunEnd { record, exit, hint, value }, panic)
    }

    /// Everything that can be refused before anything is changed, then the run's directory.
    pub(super) async fn open<'h>(
        &'h self,
        request: &'h Request,
        lane: Lane,
    ) -> Result<Running<'h>, (Box<RunRecord>, Failure)> {
        let of_run = || Domain::of_run(&request.recipe, &request.subject, self.site.pattern.suffix());
        let warm = self.settings.warm.get(&request.recipe).filter(|_| lane.is_warm());
        let domain = warm.map_or_else(of_run, |warm| warm.domain.clone());
        // What a warm app needs is there already, and is none of ours.
        let dependencies = if lane.is_warm() { Ok(Vec::new()) } else { self.dependencies(request) };
        let mut domains = vec![domain.clone()];
        domains.extend(dependencies.iter().flatten().map(|(_, domain)| domain.clone()));
        domains.sort();
        domains.dedup();
        let mut record = RunRecord {
            schema: RUN_SCHEMA.to_owned(),
            run_id: request.run_id.clone(),
            owner: self.lifetime.owner().clone(),
            lane,
            recipe: request.recipe.clone(),
            subject: request.subject.clone(),
            domain: domain.clone(),
            domains,
            commit: None,
            executor: self.deployer.to_string(),
            started: self.site.host.now(),
            finished: None,
            touched: false,
            owned: false,
            verdict: None,
            exit_code: None,
            cancelled_by: None,
            lock_waited_seconds: 0.0,
            deploy_count: 0,
            tiers: Vec::new(),
            receipt: None,
            errors: Vec::new(),
            warnings: Vec::new(),
        };
        let opened = async {
            dependencies?;
            if lane.is_warm() {
                self.guard_warm(&request.recipe)?;
            } else {
                self.guard_cold(&record.domains)?;
            }
            // Another's claim may be stuck, and no scope ends us yet.
            tokio::select! {
                biased;
                cause = self.lifetime.cancellation().cancelled() => return Err(Failure::cancelled(cause)),
                claimed = self.claim() => claimed?,
            }
            let (runs, wanted) = (self.site.runs.clone(), request.run_id.clone());
            let directory = self.lifetime.jobs().run(move || runs.create(&wanted)).await?;
            record.run_id = directory.id().clone();
            super::conclude::write_record(&directory, &record, &self.site.engine.redactor())?;
            let env_files = match lane {
                Lane::Quick => {
                    let server = self.site.env_files.server();
                    EnvFiles::new(&directory.own_servers(server)?, server)
                }
                Lane::Cold | Lane::Warm => self.site.env_files.clone(),
            };
            Ok((directory, env_files))
        };
        let (directory, env_files) = match opened.await {
            Ok((directory, env_files)) => (Arc::new(directory), env_files),
            Err(failure) => return Err((Box::new(record), failure)),
        };
        let redactor = self.site.engine.redactor();
        let (host, reporter) = (self.site.host.clone(), self.site.reporter.clone());
        let events = Arc::new(Recorded::start(&directory, host, reporter, redactor.clone()));
        let session = Session {
            run_id: record.run_id.clone(),
            lifetime: self.lifetime.clone(),
            reporter: events.clone(),
            environment: [directory.environment(), self.deployer.environment()].concat(),
            tmp: directory.tmp(),
            redactor,
        };
        let executor = match &self.settings.why_executor {
            Some(why) => format!("{} ({why})", record.executor),
            None => record.executor.clone(),
        };
        let (run_id, recipe) = (record.run_id.clone(), record.recipe.clone());
        let owners = Owners::default();
        session.reporter.report(&Event::RunStarted { run_id, recipe, domain, executor });
        Ok(Running {
            harness: self.owned_by(&owners),
            site: &self.site,
            owners,
            request,
            session,
            directory,
            env_files,
            warm: Warm::default(),
            record: Mutex::new(record),
            events,
            trees: OnceLock::new(),
            guards: OnceLock::new(),
            watch: Watch::default(),
            pass: Mutex::default(),
        })
    }

    fn guard_cold(&self, domains: &[Domain]) -> Result<(), Failure> {
        for domain in domains {
            // Nothing of it would be settled, torn down or verified (I5).
            if !self.site.pattern.is_run_app(domain) {
                return Err(Failure {
                    hint: Some("take it out of `protect`, or test another pull request".to_owned()),
                    ..Failure::usage(format!("{domain} is protected: no run deploys there"))
                });
            }
            if domain.stack().as_str().len() > Stack::MAX_LEN {
                return Err(Failure {
                    hint: Some("choose a shorter --suffix".to_owned()),
                    ..Failure::usage(format!(
                        "the stack name {} is longer than {} characters",
                        domain.stack(),
                        Stack::MAX_LEN
                    ))
                });
            }
        }
        Ok(())
    }

    /// Claims the engine, before anything is changed.
    async fn claim(&self) -> Result<(), Failure> {
        self.site.claim().await.map_err(|error| match error {
            crate::inventory::site::ClaimError::Engine(error) => error.into(),
            crate::inventory::site::ClaimError::Runs(error) => Failure {
                hint: Some(error.hint().unwrap_or("choose one that you can write: CCCI_RUNS_DIR").to_owned()),
                ..Failure::usage(format!(
                    "can't use the runs directory: {}",
                    crate::model::error_chain(&error)
                ))
            },
            crate::inventory::site::ClaimError::Lock(error) => Failure {
                hint: Some("choose a lock directory that you can write: CCCI_APP_LOCK_DIR".to_owned()),
                ..Failure::usage(crate::model::error_chain(&error))
            },
        })
    }

    /// The recipes that the recipe under test needs, each with its domain in this run.
    pub(super) fn dependencies(&self, request: &Request) -> Result<Vec<(RecipeSource, Domain)>, Failure> {
        let recipe = &request.recipe;
        let sources = self.settings.dependencies.get(recipe).into_iter().flatten();
        let mut names = BTreeSet::from([recipe.clone()]);
        sources
            .map(|source| {
                let name = source
                    .recipe_name()
                    .map_err(|error| Failure::usage(crate::model::error_chain(&error)))?;
                // Each is checked out under its name.
                if !names.insert(name.clone()) {
                    return Err(Failure::usage(format!(
                        "the run of {recipe} would need two recipes with the name {name}"
                    )));
                }
                let subject = Subject::reference(format!("for-{recipe}-{}", request.subject));
                Ok((source.clone(), Domain::of_run(&name, &subject, self.site.pattern.suffix())))
            })
            .collect()
    }
}

impl Running<'_> {
    /// The record, to be changed. Never held over an await.
    pub(super) fn record(&self) -> MutexGuard<'_, RunRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The locks that the run holds: all of its domains', or none yet.
    pub(super) fn guards(&self) -> &[AppGuard] {
        self.guards.get().map_or(&[], Vec::as_slice)
    }

    /// Says what the run does now: to the reporter, and to whoever waits for its locks.
    pub(super) fn enter(&self, phase: &str) {
        self.session.reporter.report(&Event::Phase { phase: phase.to_owned() });
        let description = {
            let record = self.record();
            Description {
                run_id: Some(record.run_id.clone()),
                recipe: Some(record.recipe.clone()),
                phase: phase.to_owned(),
            }
        };
        for guard in self.guards() {
            guard.describe(&description);
        }
    }

    pub(super) fn warn(&self, text: &str) {
        let text = bounded(self.session.redactor.redact(text));
        self.session.reporter.report(&Event::Warning { text });
    }

    /// The warnings of the run: its own, and those of whoever it works with.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.events.warnings()
    }

    /// The lane that it is of.
    pub(super) fn lane(&self) -> Lane {
        self.record().lane
    }

    /// Concludes what is told of it, once its result is written.
    pub(super) fn close_events(&self) {
        self.events.close();
    }

    /// The app of `recipe` at `domain`, with its tree in this run.
    pub(super) fn app(&self, recipe: &RecipeName, domain: &Domain) -> App {
        App {
            domain: domain.clone(),
            recipe: recipe.clone(),
            tree: self.directory.recipes().join(recipe.as_str()),
            env_file: self.env_files.path(domain),
        }
    }

    /// The operator's tests of the recipe under test.
    pub(super) fn operator_tests(&self) -> Option<PathBuf> {
        let recipe = &self.request.recipe;
        self.harness.settings.operator_tests.as_ref().map(|tests| tests.join(recipe.as_str()))
    }

    /// The checkout of the recipe under test.
    pub(super) fn tree(&self) -> Result<&RecipeTree, Failure> {
        self.trees
            .get()
            .map(|trees| &trees.tested)
            .ok_or_else(|| Failure::host("the recipe is not fetched yet"))
    }

    /// The release that the commit under test is, where it is one.
    pub(super) fn tested_release(&self) -> Option<&Release> {
        self.trees.get().and_then(|trees| trees.release.as_ref())
    }

    /// The releases to upgrade it from, newest first.
    pub(super) fn upgrade_from(&self) -> &[Release] {
        self.trees.get().map_or(&[], |trees| &trees.upgrade_from)
    }

    /// The checkouts of the recipes that it needs, each with its domain in this run.
    pub(super) fn dependency_trees(&self) -> &[(RecipeTree, Domain)] {
        self.trees.get().map_or(&[], |trees| &trees.dependencies)
    }

    /// The app under test.
    pub(super) fn main_app(&self) -> App {
        let (recipe, domain) = {
            let record = self.record();
            (record.recipe.clone(), record.domain.clone())
        };
        self.app(&recipe, &domain)
    }
}

fn refused<T>(mut record: RunRecord, failure: Failure) -> RunEnd<T> {
    if let Exit::Cancelled(cause) = failure.exit {
        record.cancelled_by = Some(cause);
    }
    record.verdict = Some(verdict(failure.exit));
    record.exit_code = Some(failure.exit.code());
    record.errors.push(failure.message);
    RunEnd { record, exit: failure.exit, hint: failure.hint, value: None }
}

pub(super) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
