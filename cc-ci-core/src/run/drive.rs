//! From the run's directory to its report: the frame that every lane runs in.

use std::any::Any;
use std::fs::File;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::record::{RUN_SCHEMA, Receipt, RunRecord, Verdict};
use super::{Failure, Harness, Request};
use crate::event::{Event, Reporter};
use crate::executor::{App, Kind, Redactor, Residue, Session};
use crate::exit::Exit;
use crate::host::Host;
use crate::janitor::{Janitor, Pass, SiteJanitor, look, reap};
use crate::lifetime::{ChildrenEnded, RunLifetimeExt as _, ScopeEnd};
use crate::lock::{AcquireError, AppGuard, Description, Wait};
use crate::names::{Domain, RecipeName, Stack, Subject};
use crate::output::QueuedWriter;
use crate::workspace::{self, FetchRequest, RUN_RECORD, RecipeSource, RecipeTree, Revision, RunDir};

/// What settling one domain may take.
const SETTLE_LIMIT: Duration = Duration::from_mins(2);

/// What writing the last events may take.
const EVENTS_LIMIT: Duration = Duration::from_secs(5);

/// One more look, when the budget is spent, must still be possible.
const LAST_LOOK: Duration = Duration::from_secs(5);

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
    pub(super) harness: &'h Harness,
    pub(super) request: &'h Request,
    pub(super) session: Session,
    pub(super) directory: Arc<RunDir>,
    record: Mutex<RunRecord>,
    events: Arc<Recorded>,
    trees: OnceLock<Trees>,
    guards: OnceLock<Vec<AppGuard>>,
}

/// Keeps a run's events in `events.ndjson` beside telling them.
#[derive(Debug)]
struct Recorded {
    file: Option<QueuedWriter>,
    host: Arc<dyn Host>,
    inner: Arc<dyn Reporter>,
}

/// One line of `events.ndjson`.
#[derive(serde::Serialize)]
struct EventLine<'e> {
    schema: &'static str,
    at: Timestamp,
    #[serde(flatten)]
    event: &'e Event,
}

impl Recorded {
    fn start(directory: &RunDir, host: Arc<dyn Host>, inner: Arc<dyn Reporter>) -> Self {
        let path = directory.root().join("events.ndjson");
        let file = File::create(path).and_then(|file| QueuedWriter::start("events", file));
        if let Err(error) = &file {
            inner.report(&Event::Warning { text: format!("events are not recorded: {error}") });
        }
        Self { file: file.ok(), host, inner }
    }

    /// Keeps what somebody else has told already.
    fn keep(&self, event: &Event) {
        let line = EventLine { schema: "cc-ci.event/v1", at: self.host.now(), event };
        if let (Some(file), Ok(line)) = (&self.file, serde_json::to_string(&line)) {
            file.write(line + "\n");
        }
    }

    /// Waits, within a bound, until what was kept is written.
    fn close(&self) {
        // A disk that is full or stuck costs events, never the run's end.
        let _written = self.file.as_ref().is_none_or(|file| file.flush(EVENTS_LIMIT));
    }
}

impl Reporter for Recorded {
    fn report(&self, event: &Event) {
        self.keep(event);
        self.inner.report(event);
    }
}

/// The checkouts of a run.
#[derive(Debug)]
struct Trees {
    tested: RecipeTree,
    dependencies: Vec<(RecipeTree, Domain)>,
}

impl Harness {
    /// Runs the cold lane: the main job.
    pub async fn run_cold(&self, request: &Request) -> RunEnd<()> {
        self.drive(request, super::cold::lane).await.0
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
        match self.drive(request, lane).await {
            (_, Some(panic)) => resume_unwind(panic),
            (end, None) => end,
        }
    }

    /// The frame of every lane. A panic has been torn down like any other end when it comes back.
    async fn drive<T>(
        &self,
        request: &Request,
        lane: impl AsyncFnOnce(&Running<'_>) -> Result<T, Failure>,
    ) -> (RunEnd<T>, Option<Box<dyn Any + Send>>) {
        let run = match self.open(request).await {
            Ok(run) => run,
            Err((record, failure)) => return (refused(*record, failure), None),
        };
        let body = async {
            run.prepare().await?;
            lane(&run).await
        };
        let (end, ended) = self.lifetime.scope(body).await;
        // From here on nothing ends us but our own budget: signals are swallowed and the children are gone.
        let mut exit = Exit::Green;
        let (mut value, mut hint, mut panic) = (None, None, None);
        match end {
            ScopeEnd::Returned(Ok(returned)) => value = Some(returned),
            ScopeEnd::Returned(Err(failure)) => {
                exit = failure.exit;
                hint = failure.hint;
                run.record().errors.push(run.session.redactor.redact(&failure.message));
            }
            ScopeEnd::Cancelled(cause) => exit = Exit::Cancelled(cause),
            ScopeEnd::Panicked(payload) => {
                exit = Exit::Harness;
                run.record().errors.push(format!("cc-ci panicked: {}", panic_text(payload.as_ref())));
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
        exit = exit.or_graver(run.tear_down(&ended).await);
        exit = run.finish(exit);
        run.events.close();
        let record = run.record().clone();
        // The locks go last: whoever waits for them finds the report written and the domain empty.
        drop(run);
        (RunEnd { record, exit, hint, value }, panic)
    }

    /// Everything that can be refused before anything is changed, then the run's directory.
    async fn open<'h>(&'h self, request: &'h Request) -> Result<Running<'h>, (Box<RunRecord>, Failure)> {
        let domain = Domain::of_run(&request.recipe, &request.subject, self.site.pattern.suffix());
        let dependencies = self.dependencies(request);
        let mut domains = vec![domain.clone()];
        domains.extend(dependencies.iter().flatten().map(|(_, domain)| domain.clone()));
        domains.sort();
        domains.dedup();
        let mut record = RunRecord {
            schema: RUN_SCHEMA.to_owned(),
            run_id: request.run_id.clone(),
            owner: self.lifetime.owner().clone(),
            recipe: request.recipe.clone(),
            subject: request.subject.clone(),
            domain: domain.clone(),
            domains,
            commit: None,
            executor: self.deployer.to_string(),
            started: self.site.host.now(),
            finished: None,
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
            self.guard(&record.domains).await?;
            let (runs, wanted) = (self.site.runs.clone(), request.run_id.clone());
            let directory = self.lifetime.jobs().run(move || runs.create(&wanted)).await?;
            record.run_id = directory.id().clone();
            write_record(&directory, &record)?;
            Ok(directory)
        };
        let directory = match opened.await {
            Ok(directory) => Arc::new(directory),
            Err(failure) => return Err((Box::new(record), failure)),
        };
        let events =
            Arc::new(Recorded::start(&directory, self.site.host.clone(), self.site.reporter.clone()));
        let session = Session {
            run_id: record.run_id.clone(),
            lifetime: self.lifetime.clone(),
            reporter: events.clone(),
            environment: directory.environment(),
            tmp: directory.tmp(),
            redactor: Redactor::default(),
        };
        session.reporter.report(&Event::RunStarted {
            run_id: record.run_id.clone(),
            recipe: record.recipe.clone(),
            domain,
            executor: record.executor.clone(),
        });
        Ok(Running {
            harness: self,
            request,
            session,
            directory,
            record: Mutex::new(record),
            events,
            trees: OnceLock::new(),
            guards: OnceLock::new(),
        })
    }

    async fn guard(&self, domains: &[Domain]) -> Result<(), Failure> {
        for domain in domains {
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
        self.site.claim().await.map_err(|error| match error {
            crate::site::ClaimError::Engine(error) => error.into(),
            crate::site::ClaimError::Lock(error) => Failure {
                hint: Some("choose a lock directory that you can write: CCCI_APP_LOCK_DIR".to_owned()),
                ..Failure::usage(crate::error_chain(&error))
            },
        })
    }

    /// The recipes that the recipe under test needs, each with its domain in this run.
    fn dependencies(&self, request: &Request) -> Result<Vec<(RecipeSource, Domain)>, Failure> {
        let recipe = &request.recipe;
        let sources = self.settings.dependencies.get(recipe).into_iter().flatten();
        sources
            .map(|source| {
                let name =
                    source.recipe_name().map_err(|error| Failure::usage(crate::error_chain(&error)))?;
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
    fn guards(&self) -> &[AppGuard] {
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
        let text = self.session.redactor.redact(text);
        self.session.reporter.report(&Event::Warning { text: text.clone() });
        self.record().warnings.push(text);
    }

    /// The app of `recipe` at `domain`, with its tree in this run.
    pub(super) fn app(&self, recipe: &RecipeName, domain: &Domain) -> App {
        App {
            domain: domain.clone(),
            recipe: recipe.clone(),
            tree: self.directory.recipes().join(recipe.as_str()),
            env_file: self.harness.site.env_files.path(domain),
        }
    }

    /// The operator's tests of the recipe under test.
    pub(super) fn operator_tests(&self) -> Option<PathBuf> {
        let recipe = &self.request.recipe;
        self.harness.settings.operator_tests.as_ref().map(|tests| tests.join(recipe.as_str()))
    }

    /// Fetch, lock, settle, janitor: up to the point where the run's domains are its own and empty.
    async fn prepare(&self) -> Result<(), Failure> {
        self.enter("fetch");
        self.fetch().await?;
        self.enter("lock");
        self.lock().await?;
        self.enter("settle");
        self.settle().await?;
        self.enter("janitor");
        self.sweep_others().await;
        Ok(())
    }

    async fn fetch(&self) -> Result<(), Failure> {
        let domain = self.record().domain.clone();
        let tested = self.fetch_one(&self.request.source, self.request.revision.clone(), &domain).await?;
        self.record().commit = Some(tested.tested().to_string());
        let mut dependencies = Vec::new();
        for (source, domain) in self.harness.dependencies(self.request)? {
            dependencies.push((self.fetch_one(&source, None, &domain).await?, domain));
        }
        self.trees.get_or_init(|| Trees { tested, dependencies });
        Ok(())
    }

    async fn fetch_one(
        &self,
        source: &RecipeSource,
        revision: Option<Revision>,
        domain: &Domain,
    ) -> Result<RecipeTree, Failure> {
        let request = FetchRequest {
            source: source.clone(),
            revision,
            skip_fetch: self.request.skip_fetch,
            limit: self.harness.settings.fetch_limit,
            marker: Some(self.session.marker(domain)),
        };
        let fetched = workspace::fetch(&self.directory, self.harness.lifetime.as_ref(), &request).await?;
        for note in fetched.notes {
            self.warn(&note);
        }
        Ok(fetched.tree)
    }

    /// The checkout of the recipe under test.
    pub(super) fn tree(&self) -> Result<&RecipeTree, Failure> {
        self.trees
            .get()
            .map(|trees| &trees.tested)
            .ok_or_else(|| Failure::host("the recipe is not fetched yet"))
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

    /// Takes the locks of all domains, in their order, so that two runs never wait for each other.
    async fn lock(&self) -> Result<(), Failure> {
        let _clock_stands_still = self.harness.lifetime.hold_deadline();
        let began = Instant::now();
        let until = began + self.harness.settings.lock_timeout;
        let domains = self.record().domains.clone();
        let mut guards = Vec::new();
        for domain in domains {
            let wait = Wait::Until(until.saturating_duration_since(Instant::now()));
            let lifetime = &self.harness.lifetime;
            let site = &self.harness.site;
            let guard = site
                .locks
                .acquire(&domain, wait, lifetime.cancellation(), self.session.reporter.as_ref())
                .await
                .map_err(|error| lock_failure(&error))?;
            guards.push(guard);
        }
        // Nothing is deployed before all are held, so a wait that ends early just gives back what it has.
        self.guards.get_or_init(|| guards);
        self.record().lock_waited_seconds = began.elapsed().as_secs_f64();
        Ok(())
    }

    /// Makes the run's own domains empty (I4), whatever a dead owner left.
    async fn settle(&self) -> Result<(), Failure> {
        let mut receipt = Receipt::default();
        for guard in self.guards() {
            let domain = guard.domain();
            let reaped = reap(&self.harness.site, guard, Some(&self.session.run_id), SETTLE_LIMIT)
                .await
                .map_err(|error| Failure::host(crate::error_chain(&error)))?;
            if !reaped.left.is_empty() {
                let left = list(&reaped.left);
                return Err(Failure::host(format!(
                    "{domain} could not be settled; left: {left}; {}",
                    reaped.failures.join("; ")
                )));
            }
            if !reaped.removed.is_empty() {
                let text = format!("{domain}: a dead run had left {}; removed", list(&reaped.removed));
                self.session.reporter.report(&Event::Note { text });
            }
            receipt.settled.extend(reaped.removed);
        }
        self.record().receipt = Some(receipt);
        Ok(())
    }

    /// A janitor's pass over everybody else's leftovers. Its failure is a warning.
    async fn sweep_others(&self) {
        let janitor = SiteJanitor::new(self.harness.site.clone(), self.harness.lifetime.clone());
        let pass = Pass {
            dry_run: false,
            own: self.record().domains.clone(),
            own_run: Some(self.session.run_id.clone()),
            budget: self.harness.settings.janitor_budget,
            cancellation: self.harness.lifetime.cancellation().clone(),
        };
        match janitor.pass(&pass).await {
            Ok(report) => {
                for finding in report.findings.iter().filter(|finding| finding.is_worth_a_line()) {
                    self.session.reporter.report(&Event::Note { text: format!("janitor: {finding}") });
                }
                for warning in report.warnings {
                    self.warn(&format!("janitor: {warning}"));
                }
            }
            Err(error) => self.warn(&format!("janitor: {}", crate::error_chain(&error))),
        }
        for warning in janitor.prune(self.harness.settings.keep_runs).await {
            self.warn(&warning);
        }
    }

    /// Removes everything of the domains whose locks this run holds, looks, and writes the receipt.
    async fn tear_down(&self, ended: &ChildrenEnded) -> Exit {
        let teardown = self.harness.lifetime.begin_teardown();
        self.enter("teardown");
        let mut exit = Exit::Green;
        let mut receipt = self.record().receipt.clone().unwrap_or_default();
        receipt.left.extend(ended.left.iter().map(|pid| Residue::new(Kind::Process, format!("pid {pid}"))));
        // Whoever is still at work would make again what is removed: that is the janitor's, once we are dead.
        let at_work = !ended.left.is_empty() || ended.jobs_left > 0;
        if at_work {
            receipt
                .failures
                .push("the run's own work did not end in time, so nothing was removed".to_owned());
        }
        for guard in self.guards() {
            let limit = teardown.remaining().max(LAST_LOOK);
            let (site, own) = (&self.harness.site, Some(&self.session.run_id));
            let reaped =
                if at_work { look(site, guard, own).await } else { reap(site, guard, own, limit).await };
            match reaped {
                Ok(reaped) => {
                    receipt.removed.extend(reaped.removed);
                    receipt.left.extend(reaped.left);
                    receipt.failures.extend(reaped.failures);
                }
                Err(error) => {
                    exit = Exit::Harness;
                    let domain = guard.domain();
                    let text =
                        format!("{domain} could not be verified empty: {}", crate::error_chain(&error));
                    receipt.failures.push(text);
                }
            }
        }
        let directory = self.directory.clone();
        let removed = if at_work {
            Ok(false)
        } else {
            self.harness.lifetime.jobs().run(move || directory.remove_tree()).await.map(|()| true)
        };
        if let Err(error) = &removed {
            receipt.failures.push(crate::error_chain(error));
        }
        if !matches!(removed, Ok(true)) {
            receipt.left.push(Residue::new(Kind::RunTree, self.directory.root().display().to_string()));
        }
        if !receipt.left.is_empty() {
            exit = Exit::Residue;
        }
        self.record().receipt = Some(receipt);
        exit
    }

    /// Concludes the record and writes it. What can't be written is said, and never loses the verdict.
    fn finish(&self, exit: Exit) -> Exit {
        let red = self.record().tiers.iter().any(|tier| tier.status == super::Status::Failed);
        let mut exit = if red { exit.or_graver(Exit::Red) } else { exit };
        {
            let mut record = self.record();
            record.finished = Some(self.harness.site.host.now());
            record.verdict = Some(verdict(exit));
            record.exit_code = Some(exit.code());
        }
        let written = write_record(&self.directory, &self.record());
        if let Err(failure) = written {
            exit = exit.or_graver(Exit::Harness);
            self.warn(&failure.message);
            let mut record = self.record();
            record.verdict = Some(verdict(exit));
            record.exit_code = Some(exit.code());
        }
        exit
    }
}

/// Writes `run.json`: whole or not at all.
fn write_record(directory: &RunDir, record: &RunRecord) -> Result<(), Failure> {
    let written = serde_json::to_vec_pretty(record)
        .map_err(std::io::Error::from)
        .and_then(|text| crate::files::write_whole(&directory.root().join(RUN_RECORD), &text, 0o600));
    written.map_err(|error| Failure::host(format!("the result could not be written: {error}")))
}

fn refused<T>(mut record: RunRecord, failure: Failure) -> RunEnd<T> {
    record.verdict = Some(verdict(failure.exit));
    record.exit_code = Some(failure.exit.code());
    record.errors.push(failure.message);
    RunEnd { record, exit: failure.exit, hint: failure.hint, value: None }
}

fn verdict(exit: Exit) -> Verdict {
    match exit {
        Exit::Green => Verdict::Green,
        Exit::Red => Verdict::Red,
        Exit::Usage => Verdict::Refused,
        Exit::Residue => Verdict::Residue,
        Exit::LockTimeout => Verdict::LockTimeout,
        Exit::Cancelled(_) => Verdict::Cancelled,
        // No run ends with another program's status.
        Exit::Harness | Exit::Status(_) => Verdict::HarnessFailed,
    }
}

fn lock_failure(error: &AcquireError) -> Failure {
    let (exit, hint) = match error {
        AcquireError::TimedOut { domain, .. } => (
            Exit::LockTimeout,
            Some(format!("see who holds it: cc-ci locks {domain}; or wait longer: --lock-timeout")),
        ),
        AcquireError::Cancelled { cause, .. } => (Exit::Cancelled(*cause), None),
        AcquireError::Lock(_) => (Exit::Harness, None),
    };
    Failure { exit, message: crate::error_chain(error), hint }
}

fn list(residue: &[Residue]) -> String {
    residue.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
