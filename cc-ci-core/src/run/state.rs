//! The states of a run: opened, fetched, locked, ready. What a step needs, its arguments name.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::digest::{self, First, Place};
use super::event_log::EventLog;
use super::evidence::Evidence;
use super::redacted::redacted;
use super::request::{Harness, Request};
use super::scripts::Scripts;
use super::step::bounded;
use super::strangers::Strangers;
use crate::engine::{App, Owners, Redactor, RunContext};
use crate::inventory::ci_host::CiHost;
use crate::inventory::env_files::EnvFiles;
use crate::lock::{AppGuard, Description};
use crate::model::digest::Doing;
use crate::model::event::Event;
use crate::model::exit::Exit;
use crate::model::failure::Failure;
use crate::model::level::Level;
use crate::model::record::{Lane, RunRecord, Status, Verdict};
use crate::names::{Domain, RecipeName, Version};
use crate::sys::files::RUN_RECORD;
use crate::workspace::{CommitId, RecipeTree, Release, RunDir};

/// A run that has its directory. Dropped last: whoever waits for its locks finds the result written.
#[derive(Debug)]
pub(super) struct Run<'h> {
    /// In the hands of the run's own locks.
    pub harness: Harness,
    /// For the work on everybody else's leftovers.
    pub ci_host: &'h CiHost,
    /// What it owns: nothing until it is locked.
    pub owners: Owners,
    pub request: &'h Request,
    pub context: RunContext,
    pub directory: Arc<RunDir>,
    /// Where its apps have their `.env`.
    pub env_files: EnvFiles,
    pub record: Arc<Mutex<RunRecord>>,
    pub events: Arc<EventLog>,
    /// What is said once.
    pub announced: Mutex<BTreeSet<String>>,
    /// What its tests may have left on the engine.
    pub strangers: Strangers,
    /// What its services came to and logged.
    pub evidence: Evidence,
    /// What went wrong first.
    pub first: First,
    /// Whether what was deployed is not what was judged: nobody keeps that.
    pub unfit: AtomicBool,
    /// When the record was last written while the run goes on.
    pub written: Mutex<Option<Instant>>,
    /// Held by whoever writes it.
    pub writing: Arc<Mutex<()>>,
}

/// The checkouts of a run.
#[derive(Debug)]
pub(super) struct Fetched {
    pub tested: RecipeTree,
    /// Whose tags the releases are, where they are not those of the tested repository.
    pub releases_of: Option<String>,
    /// The release that the commit under test is, where it is one.
    pub release: Option<Release>,
    /// The newest release that is another commit, wherever it is in the history.
    pub newest: Option<Version>,
    /// Whether there are tags that look like a release and are none.
    pub has_unfit_tags: bool,
    /// The releases to upgrade from, newest first.
    pub upgrade_from: Vec<Release>,
    pub dependencies: Vec<(RecipeTree, Domain)>,
    /// The tests, as they are in the commit under test.
    pub scripts: Scripts,
}

/// What is deployed: a release, or the commit under test.
#[derive(Debug, Clone)]
pub(super) struct Revision {
    pub commit: CommitId,
    /// The release's version, or the commit's first digits.
    pub name: String,
}

impl Revision {
    pub fn release(release: &Release) -> Self {
        Self { commit: release.commit.clone(), name: release.version.to_string() }
    }

    pub fn commit(commit: &CommitId) -> Self {
        Self { commit: commit.clone(), name: commit.short().to_owned() }
    }
}

impl Fetched {
    /// The commit under test; by its version where it is a release.
    pub fn revision(&self) -> Revision {
        self.release.as_ref().map_or_else(|| Revision::commit(self.tested.tested()), Revision::release)
    }

    /// Why there is no release to upgrade from, and whose tags say so: those of a pull request are its author's.
    pub fn why_no_upgrade(&self) -> String {
        if self.tested.is_cut() {
            let commit = self.tested.tested().short();
            return format!(
                "what {commit} builds on can't be told: the copied repository is a shallow clone (git fetch --unshallow --tags)"
            );
        }
        let why = self.no_release_before();
        match &self.releases_of {
            Some(of) => format!("{why} (the releases are those of {of})"),
            None => format!("{why} (the tested repository's own tags say so)"),
        }
    }

    fn no_release_before(&self) -> String {
        let commit = self.tested.tested().short();
        match (&self.newest, &self.release) {
            (None, _) if self.has_unfit_tags => {
                "no tag is a release, and those that look like one are warned of".to_owned()
            }
            (None, _) => "there is no previous release".to_owned(),
            (Some(newest), Some(release)) => {
                format!(
                    "no release before {} that it builds on; the newest other one is {newest}",
                    release.version
                )
            }
            (Some(newest), None) => {
                format!(
                    "there are releases, the newest {newest}, and the commit {commit} builds on none of them"
                )
            }
        }
    }

    /// The tree of a recipe of the run.
    pub fn tree_of(&self, recipe: &RecipeName) -> &RecipeTree {
        let mut dependencies = self.dependencies.iter().map(|(tree, _)| tree);
        dependencies.find(|tree| tree.name() == recipe).unwrap_or(&self.tested)
    }
}

impl Run<'_> {
    /// The record, to be changed. Never held over an await.
    pub fn record(&self) -> MutexGuard<'_, RunRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `run.json`: whole or not at all, without the run's secrets.
    pub async fn write_record(&self) -> Result<(), Failure> {
        let (directory, redactor) = (self.directory.clone(), self.context.redactor.clone());
        let (record, writing) = (self.record.clone(), self.writing.clone());
        // One after the other, each with the record of that moment: a write that nobody waits for any more, and that a slow
        // disk holds up, takes nothing back.
        let write = move || {
            let _one = writing.lock().unwrap_or_else(PoisonError::into_inner);
            let record = record.lock().unwrap_or_else(PoisonError::into_inner).clone();
            write_record(&directory, &record, &redactor)
        };
        self.harness.lifetime.blocking_tasks().run(write).await
    }

    /// Writes the record in the middle of the run: if it is killed, that is all that tells. Each of the first steps is worth it;
    /// of thousands one a second is. What can't be written now is the end's to tell.
    pub async fn keep_record(&self, steps: usize) {
        const EACH: usize = 64;
        let is_due = {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = steps < EACH || written.is_none_or(|at| at.elapsed() >= Duration::from_secs(1));
            if is_due {
                *written = Some(Instant::now());
            }
            is_due
        };
        if is_due && let Err(failure) = self.write_record().await {
            tracing::warn!(error = %failure, "can't write the record of a run that goes on");
        }
    }

    /// Says what the run does now: to the reporter, and to whoever waits for `guards`.
    pub fn enter(&self, phase: &str, guards: &[AppGuard]) {
        self.enter_for(phase, None, guards);
    }

    /// The same of a phase that may take so long.
    pub fn enter_for(&self, phase: &str, limit: Option<Duration>, guards: &[AppGuard]) {
        let now = self.harness.ci_host.host.now();
        self.begin_phase(phase, now);
        self.record().doing = Some(Doing::phase(phase, now));
        self.context.reporter.report(&Event::Phase { phase: phase.to_owned(), limit });
        let description = {
            let record = self.record();
            Description {
                run_id: Some(record.run_id.clone()),
                recipe: Some(record.recipe.clone()),
                phase: phase.to_owned(),
            }
        };
        for guard in guards {
            guard.describe(&description);
        }
    }

    /// Notes which engine it is. One that does not tell is none the worse for it.
    pub async fn note_engine(&self) {
        let version = self.harness.ci_host.engine.version().await;
        self.record().versions.engine = version;
    }

    /// What goes on, and for how long it has.
    pub fn interrupted(&self) -> Option<(Doing, Duration)> {
        let doing = self.record().doing.clone()?;
        let lasted = self.harness.ci_host.host.now().duration_since(doing.since);
        Some((doing, Duration::try_from(lasted).unwrap_or_default()))
    }

    /// The phase, as where something went wrong outside of a tier.
    pub fn phase(&self) -> Place {
        let phase = self.record().doing.as_ref().map(ToString::to_string);
        Place { phase, ..Place::default() }
    }

    pub fn note(&self, text: String) {
        self.context.reporter.report(&Event::Note { text });
    }

    pub fn warn(&self, text: &str) {
        self.context.reporter.report(&Event::Warning { text: self.text(text) });
    }

    pub fn warn_once(&self, text: &str) {
        if self.is_new(text) {
            self.warn(text);
        }
    }

    pub fn note_once(&self, text: &str) {
        if self.is_new(text) {
            self.note(self.context.redactor.redact(text));
        }
    }

    fn is_new(&self, text: &str) -> bool {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned())
    }

    /// Notes what went wrong in the phase that goes on.
    pub fn fail_with(&self, failure: &Failure) {
        self.fail(&failure.chain());
        self.first.note(self.phase(), failure);
        self.fail_phase();
    }

    /// Adds an error to the record.
    pub fn fail(&self, text: &str) {
        let text = self.text(text);
        self.record().errors.push(text);
    }

    /// `text` as the record may have it.
    pub fn text(&self, text: &str) -> String {
        bounded(self.context.redactor.redact(text))
    }

    /// Whether a tier failed.
    pub fn is_red(&self) -> bool {
        self.record().tiers.iter().any(|tier| tier.status == Status::Failed)
    }

    pub fn lane(&self) -> Lane {
        self.record().lane
    }

    /// The app of `recipe` at `domain`, with its tree in this run.
    pub fn app(&self, recipe: &RecipeName, domain: &Domain) -> App {
        App {
            domain: domain.clone(),
            recipe: recipe.clone(),
            tree: self.directory.recipes().join(recipe.as_str()),
            env_file: self.env_files.path(domain),
        }
    }

    /// The app under test.
    pub fn main_app(&self) -> App {
        let domain = self.record().domain.clone();
        self.app(&self.request.recipe, &domain)
    }

    /// The operator's tests of the recipe under test.
    pub fn operator_tests(&self) -> Option<PathBuf> {
        let recipe = &self.request.recipe;
        self.harness.settings.operator_tests.as_ref().map(|tests| tests.join(recipe.as_str()))
    }

    /// Where the secrets of an app are, for its tests.
    pub fn secrets_directory(&self, app: &App) -> PathBuf {
        self.context.tmp.join("secrets").join(app.domain.as_str())
    }

    /// Where the operator's files for the recipe's tests are in this run, where there are any.
    pub fn fixtures(&self) -> Option<PathBuf> {
        let given = self.harness.settings.fixtures.contains_key(&self.request.recipe);
        given.then(|| self.context.tmp.join("fixtures"))
    }

    /// Concludes the record, writes it, and closes the event log. What can't be written is said, and never loses the
    /// verdict.
    pub async fn finish(&self, exit: Exit, interrupted: Option<&(Doing, Duration)>) -> Exit {
        let mut exit = if self.is_red() { exit.or_graver(Exit::Red) } else { exit };
        let now = self.harness.ci_host.host.now();
        self.end_timeline(now);
        {
            let mut record = self.record();
            let redactor = &self.context.redactor;
            let digest = digest::of(&record, exit, &self.first, &self.evidence, redactor, interrupted);
            record.finished = Some(now);
            record.digest = digest;
            record.doing = None;
        }
        self.conclude(exit);
        if let Err(failure) = self.write_record().await {
            exit = exit.or_graver(Exit::Harness);
            self.warn(&failure.chain());
            self.conclude(exit);
        }
        // The result is written: without its pages it is as good.
        let seen = redacted(&self.record(), &self.context.redactor);
        let directory = self.directory.clone();
        let write = move || directory.write_reports(&seen);
        if let Err(error) = self.harness.lifetime.blocking_tasks().run(write).await {
            self.note(format!("the reports are not written: {error}"));
        }
        self.events.close();
        exit
    }

    fn conclude(&self, exit: Exit) {
        let mut record = self.record();
        record.warnings = self.events.warnings();
        record.verdict = Some(verdict(exit));
        record.exit_code = Some(exit.code());
        record.level = Level::of(&record).map(|level| level.reached);
    }
}

/// Writes the `run.json` of `directory`. Blocks.
pub(super) fn write_record(
    directory: &RunDir,
    record: &RunRecord,
    redactor: &Redactor,
) -> Result<(), Failure> {
    let written =
        serde_json::to_string_pretty(&redacted(record, redactor)).map_err(std::io::Error::from).and_then(
            |text| directory.write(RUN_RECORD.as_ref(), crate::sys::text::sanitize_json(&text).as_bytes()),
        );
    written.map_err(|error| {
        let path = directory.root().join(RUN_RECORD);
        Failure::host(format!("can't write {}", path.display()))
            .with_source(error)
            .with_hint("make room there, or name another place: CCCI_RUNS_DIR")
    })
}

pub(super) fn verdict(exit: Exit) -> Verdict {
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
