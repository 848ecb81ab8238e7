//! Tiers and their steps: who counts what, and what a failing step means.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::digest::Place;
use super::scripts::Script;
use super::service_logs;
use super::state::Run;
use super::step::StepOutcome;
use super::test_run::Tests;
use crate::lock::AppGuard;
use crate::model::event::Event;
use crate::model::failure::{Failure, Fault};
use crate::model::record::{Status, Step, Tier, TierName};

/// How the tests of a tier ended together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TestsEnd {
    /// There is none.
    None,
    /// Each says that it does not apply.
    AllSkipped,
    /// One at least proved something, or failed to.
    Ran,
}

/// How a tier of tests alone ends: without one that ran, nothing is proved.
impl From<TestsEnd> for StepOutcome {
    fn from(end: TestsEnd) -> Self {
        match end {
            TestsEnd::None => Self::skipped(NO_CUSTOM_TESTS),
            TestsEnd::AllSkipped => Self::skipped(ALL_SKIPPED),
            TestsEnd::Ran => Self::Passed,
        }
    }
}

const NO_CUSTOM_TESTS: &str = "neither the operator nor the recipe has custom tests";
const ALL_SKIPPED: &str = "every test skipped itself";

/// One tier while it goes on. Its record is in the run's from the start, so that a run which ends in the middle
/// of it says so.
///
/// A failure that is the recipe's is a red step, and the end of what stands on it; any other ends the run.
#[derive(Debug)]
pub(super) struct TierRun<'r> {
    run: &'r Run<'r>,
    tests: Option<&'r Tests<'r>>,
    tier: Tier,
    /// Whose tests and replaced checks apply, and the version that they are told, where that is not the tier itself.
    stage: Option<(TierName, String)>,
    /// What is said of it where it passes.
    remark: Option<String>,
    began: Instant,
}

impl<'r> TierRun<'r> {
    pub async fn begin(tests: &'r Tests<'r>, name: TierName) -> Self {
        Self::open(tests, Tier::not_run(name), name.as_str()).await
    }

    /// The same of a `tier` that is told apart by more than its name, in the run's phase `phase`.
    pub async fn open(tests: &'r Tests<'r>, tier: Tier, phase: &str) -> Self {
        let ready = tests.ready;
        Self::new(ready.run, Some(tests), tier, phase, ready.guards).await
    }

    /// The same of a tier that has no tests.
    pub async fn without_tests(run: &'r Run<'r>, name: TierName, guards: &[AppGuard]) -> Self {
        Self::new(run, None, Tier::not_run(name), name.as_str(), guards).await
    }

    async fn new(
        run: &'r Run<'r>,
        tests: Option<&'r Tests<'r>>,
        mut tier: Tier,
        phase: &str,
        guards: &[AppGuard],
    ) -> Self {
        run.enter(phase, guards);
        tier.reason = Some("the run ended in the middle of it".to_owned());
        run.record().put_tier(tier.clone());
        run.keep_record(0).await;
        tier.reason = None;
        Self { run, tests, tier, stage: None, remark: None, began: Instant::now() }
    }

    /// The version that the tier proves.
    pub fn proves(&mut self, version: String) {
        self.tier.version = Some(version);
    }

    /// From now on the tier does what `name` does, at `version`.
    pub fn enter_stage(&mut self, name: TierName, version: &str) {
        self.stage = Some((name, version.to_owned()));
    }

    /// What the tier did not prove, though it passes.
    pub fn remark(&mut self, remark: &str) {
        self.remark = Some(remark.to_owned());
    }

    /// Whether a step failed.
    pub fn is_red(&self) -> bool {
        self.tier.steps.iter().any(|step| step.status == Status::Failed)
    }

    /// Whose tests and checks apply now.
    fn stage(&self) -> TierName {
        self.stage.as_ref().map_or(self.tier.name, |(name, _)| *name)
    }

    /// Concludes the tier. `Ok(true)` when what stands on it may go on.
    pub async fn end(mut self, end: Result<StepOutcome, Failure>) -> Result<bool, Failure> {
        self.tier.seconds = self.began.elapsed().as_secs_f64();
        let failed = self.tier.steps.iter().find(|step| step.status == Status::Failed);
        let why = |step: &Step| step.detail.as_deref()?.lines().next().map(|line| format!(": {line}"));
        let failed = failed.map(|step| format!("{} failed{}", step.name, why(step).unwrap_or_default()));
        let (status, reason, result) = match end {
            Ok(StepOutcome::Passed) => (Status::Passed, self.remark, Ok(failed.is_none())),
            Ok(StepOutcome::Skipped(reason)) => (Status::Skipped, Some(reason), Ok(failed.is_none())),
            Err(failure) if failure.fault() == Fault::Recipe => {
                (Status::Failed, Some(failure.chain()), Ok(false))
            }
            Err(failure) => (Status::NotRun, Some(failure.chain()), Err(failure)),
        };
        self.tier.status = if failed.is_some() { Status::Failed } else { status };
        self.tier.reason = failed.or(reason).map(|reason| self.run.text(&reason));
        let is_red = self.tier.status == Status::Failed;
        self.run.record().put_tier(self.tier);
        if is_red {
            self.run.fail_phase();
            // Before the next tier, or the teardown, changes what there is to see.
            service_logs::keep(self.run, service_logs::LIMIT).await;
        }
        result
    }

    /// A step that the rest of the tier stands on.
    pub async fn must<T: Into<StepOutcome>>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(), Failure> {
        self.step(name, work).await?.map_or(Ok(()), Err)
    }

    /// A generic check, or what the operator put in its place.
    pub async fn check<T: Into<StepOutcome>>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(), Failure> {
        let scripts = self.tests.map(Tests::scripts);
        match scripts.and_then(|scripts| scripts.replacement(self.stage(), name)) {
            Some(script) => self.script(script).await,
            None => self.step(&format!("generic/{name}"), work).await.map(drop),
        }
    }

    /// The tests of this tier, the operator's first. One that fails does not hide the next.
    pub async fn scripts(&mut self) -> Result<TestsEnd, Failure> {
        let (tests, stage) = (self.tests, self.stage());
        self.each(tests.into_iter().flat_map(|tests| tests.scripts().of(stage))).await
    }

    /// The tests that change, between backup and restore, what the backup tests wrote.
    pub async fn changes(&mut self) -> Result<TestsEnd, Failure> {
        let tests = self.tests;
        self.each(tests.into_iter().flat_map(|tests| tests.scripts().changes())).await
    }

    async fn each(&mut self, scripts: impl Iterator<Item = &'r Script>) -> Result<TestsEnd, Failure> {
        let mut end = TestsEnd::None;
        for script in scripts {
            self.script(script).await?;
            let skipped = self.tier.steps.last().is_some_and(|step| step.status == Status::Skipped);
            end = match (end, skipped) {
                (TestsEnd::None | TestsEnd::AllSkipped, true) => TestsEnd::AllSkipped,
                _ => TestsEnd::Ran,
            };
        }
        Ok(end)
    }

    /// Whether a test of this tier exists.
    pub fn has_scripts(&self) -> bool {
        self.tests.is_some_and(|tests| tests.scripts().of(self.tier.name).next().is_some())
    }

    async fn script(&mut self, script: &Script) -> Result<(), Failure> {
        let Some(tests) = self.tests else { return Ok(()) };
        let stage = self.stage();
        let version = self.stage.as_ref().map(|(_, version)| version).or(self.tier.version.as_ref()).cloned();
        let limit = Some(self.run.harness.settings.script_limit);
        let log = format!("logs/{}.log", tests.log_name(script, stage));
        let work = tests.run(script, stage, version.as_deref());
        self.step_with_log(&script.name(), limit, Some(log), work).await.map(drop)
    }

    /// The run's record says what goes on: whoever ends or kills the run leaves the step's name there. Gives when it began.
    async fn begin_step(&self, name: &str, limit: Option<Duration>) -> Timestamp {
        let since = self.run.harness.ci_host.host.now();
        if let Some(doing) = &mut self.run.record().doing {
            (doing.step, doing.since) = (Some(name.to_owned()), since);
        }
        self.run.first.begin_step();
        self.run.keep_record(self.tier.steps.len()).await;
        let (tier, name) = (self.tier.name.to_string(), name.to_owned());
        self.run.context.reporter.report(&Event::StepStarted { tier, name, limit });
        since
    }

    /// And what has passed.
    fn end_step(&self) {
        let mut record = self.run.record();
        if let Some(doing) = &mut record.doing {
            doing.step = None;
        }
        let (name, from) = (self.tier.name, &self.tier.from);
        let step = self.tier.steps.last().cloned();
        if let Some(known) = record.tiers.iter_mut().find(|known| known.name == name && known.from == *from) {
            known.version.clone_from(&self.tier.version);
            known.steps.extend(step);
        }
    }

    fn place(&self, step: &str) -> Place {
        let version = self.stage.as_ref().map(|(_, version)| version).or(self.tier.version.as_ref()).cloned();
        let tested = self.tests.map(|tests| tests.ready.fetched.revision().name);
        Place {
            tier: Some(self.tier.name),
            step: Some(step.to_owned()),
            phase: None,
            // A tier without a version is about what was deployed last: after the upgrade, the commit.
            is_tested: version.is_none() || version == tested,
            version,
        }
    }

    /// Does one step, and notes how it ended. Gives why it failed, where it did; an error ends the run.
    async fn step<T: Into<StepOutcome>>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Option<Failure>, Failure> {
        self.step_with_log(name, None, None, work).await
    }

    /// The same of a test, which `work` itself ends at its `limit`, and which has a log if it ran.
    async fn step_with_log<T: Into<StepOutcome>>(
        &mut self,
        name: &str,
        limit: Option<Duration>,
        log: Option<String>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Option<Failure>, Failure> {
        // Two stages of one tier have steps of the same names.
        let name = match self.stage() {
            stage if stage == self.tier.name => name.to_owned(),
            stage => format!("{stage}: {name}"),
        };
        let began = Instant::now();
        let started = Some(self.begin_step(&name, limit).await);
        let end = work.await.map(Into::into);
        let log = log.filter(|_| self.run.first.has_run());
        let (status, detail) = match &end {
            Ok(StepOutcome::Passed) => (Status::Passed, None),
            Ok(StepOutcome::Skipped(reason)) => (Status::Skipped, Some(reason.clone())),
            Err(failure) if failure.fault() == Fault::Recipe => (Status::Failed, Some(failure.chain())),
            Err(failure) => (Status::NotRun, Some(failure.chain())),
        };
        if let Err(failure) = &end {
            self.run.first.note(self.place(&name), failure);
        }
        let (detail, took) = (detail.map(|detail| self.run.text(&detail)), began.elapsed());
        self.run.context.reporter.report(&Event::Step {
            tier: self.tier.name.to_string(),
            name: name.clone(),
            status: status.as_str().to_owned(),
            detail: detail.clone(),
            took,
        });
        let seconds = took.as_secs_f64();
        self.tier.steps.push(Step { name, status, detail, started, seconds, log });
        self.end_step();
        match end {
            Ok(_) => Ok(None),
            Err(failure) if status == Status::Failed => Ok(Some(failure)),
            Err(failure) => Err(failure),
        }
    }
}
