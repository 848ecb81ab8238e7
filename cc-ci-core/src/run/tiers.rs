//! Tiers and their steps: who counts what, and what a failing step means.

use std::future::Future;
use std::time::Instant;

use super::Failure;
use super::drive::Running;
use super::scripts::{Script, Scripts};
use crate::engine::{EngineError, Fault};
use crate::model::event::Event;
use crate::model::record::{Status, Step, Tier, TierName};

/// How long a text of the record may be: what a recipe has said is in it.
const TEXT_LIMIT: usize = 8 << 10;

/// `text`, redacted before, as long as one of the record may be.
pub(super) fn bounded(mut text: String) -> String {
    if text.len() > TEXT_LIMIT {
        let end = text.floor_char_boundary(TEXT_LIMIT);
        let more = text.len() - end;
        text.truncate(end);
        return format!("{text} … and {more} bytes more");
    }
    text
}

/// A step that did not pass.
#[derive(Debug)]
pub(super) enum StepError {
    /// What it checks does not hold: the tier is red.
    Failed(String),
    /// It does not apply, for this reason.
    Skipped(String),
    /// It could not be judged: the run ends.
    Broken(Failure),
}

impl From<EngineError> for StepError {
    fn from(error: EngineError) -> Self {
        match error.fault() {
            Fault::Recipe => Self::Failed(crate::model::error_chain(&error)),
            Fault::Host | Fault::Configuration => Self::Broken(error.into()),
        }
    }
}

/// Why the rest of a tier is not run.
#[derive(Debug)]
pub(super) enum Halt {
    /// A step failed that the rest stands on.
    Red,
    /// The tier does not apply.
    Skipped(String),
    /// The run ends.
    Run(Failure),
}

/// One tier while it goes on. Its record is in the run's from the start, so that a run which ends in the middle
/// of it says so.
#[derive(Debug)]
pub(super) struct OpenTier<'r> {
    run: &'r Running<'r>,
    scripts: &'r Scripts,
    tier: Tier,
    /// Whose tests and replaced checks apply, and the version that they are told, where that is not the tier itself.
    stands_in: Option<(TierName, String)>,
    began: Instant,
}

impl<'r> OpenTier<'r> {
    pub fn begin(run: &'r Running<'r>, scripts: &'r Scripts, name: TierName) -> Self {
        Self::open(run, scripts, Tier::not_run(name), name.as_str())
    }

    /// The same of a `tier` that is told apart by more than its name, in the run's phase `phase`.
    pub fn open(run: &'r Running<'r>, scripts: &'r Scripts, mut tier: Tier, phase: &str) -> Self {
        run.enter(phase);
        tier.reason = Some("the run ended in the middle of it".to_owned());
        run.record().put_tier(tier.clone());
        tier.reason = None;
        Self { run, scripts, tier, stands_in: None, began: Instant::now() }
    }

    /// The version that the tier proves.
    pub fn proves(&mut self, version: String) {
        self.tier.version = Some(version);
    }

    /// From now on the tier does what `name` does, at `version`.
    pub fn stands_in(&mut self, name: TierName, version: &str) {
        self.stands_in = Some((name, version.to_owned()));
    }

    /// Whether a step failed.
    pub fn is_red(&self) -> bool {
        self.tier.steps.iter().any(|step| step.status == Status::Failed)
    }

    /// Whose tests and checks apply now.
    fn part(&self) -> TierName {
        self.stands_in.as_ref().map_or(self.tier.name, |(name, _)| *name)
    }

    /// Concludes the tier. `Ok(true)` when what stands on it may go on.
    pub fn end(mut self, end: Result<(), Halt>) -> Result<bool, Failure> {
        self.tier.seconds = self.began.elapsed().as_secs_f64();
        let failed = self.tier.steps.iter().find(|step| step.status == Status::Failed);
        let why = |step: &Step| step.detail.as_deref()?.lines().next().map(|line| format!(": {line}"));
        let failed = failed.map(|step| format!("{} failed{}", step.name, why(step).unwrap_or_default()));
        self.tier.status = match (&end, &failed) {
            (Err(Halt::Run(_)), None) => Status::NotRun,
            (Err(Halt::Skipped(_)), None) => Status::Skipped,
            (Ok(()), None) => Status::Passed,
            _ => Status::Failed,
        };
        let (reason, result) = match end {
            Err(Halt::Run(failure)) => (Some(failure.message.clone()), Err(failure)),
            Err(Halt::Skipped(reason)) => (Some(reason), Ok(true)),
            Ok(()) | Err(Halt::Red) => (None, Ok(self.tier.status == Status::Passed)),
        };
        self.tier.reason = failed.or(reason).map(|reason| bounded(self.run.session.redactor.redact(&reason)));
        self.run.record().put_tier(self.tier);
        result
    }

    /// A step that the rest of the tier stands on.
    pub async fn must(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<(), StepError>>,
    ) -> Result<(), Halt> {
        if self.step(name, work).await? { Ok(()) } else { Err(Halt::Red) }
    }

    /// A generic check, or what the operator put in its place.
    pub async fn check(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<(), StepError>>,
    ) -> Result<(), Halt> {
        match self.scripts.replacement(self.part(), name) {
            Some(script) => self.script(script).await,
            None => self.step(&format!("generic/{name}"), work).await.map(drop),
        }
    }

    /// The tests of this tier, the operator's first. One that fails does not hide the next.
    pub async fn scripts(&mut self) -> Result<(), Halt> {
        let scripts = self.scripts;
        for script in scripts.of(self.part()) {
            self.script(script).await?;
        }
        Ok(())
    }

    /// Whether a test of this tier exists.
    pub fn has_scripts(&self) -> bool {
        self.scripts.of(self.tier.name).next().is_some()
    }

    async fn script(&mut self, script: &Script) -> Result<(), Halt> {
        let (run, part) = (self.run, self.part());
        let version =
            self.stands_in.as_ref().map(|(_, version)| version).or(self.tier.version.as_ref()).cloned();
        self.step(&script.name(), run.run_script(script, part, version.as_deref())).await.map(drop)
    }

    async fn step(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<(), StepError>>,
    ) -> Result<bool, Halt> {
        // Two stages of one tier have steps of the same names.
        let name = match self.part() {
            part if part == self.tier.name => name.to_owned(),
            part => format!("{part}: {name}"),
        };
        let began = Instant::now();
        let end = work.await;
        let (status, detail, halt) = match end {
            Ok(()) => (Status::Passed, None, None),
            Err(StepError::Failed(reason)) => (Status::Failed, Some(reason), None),
            Err(StepError::Skipped(reason)) => (Status::Skipped, Some(reason), None),
            Err(StepError::Broken(failure)) => {
                (Status::NotRun, Some(failure.message.clone()), Some(Halt::Run(failure)))
            }
        };
        let detail = detail.map(|detail| bounded(self.run.session.redactor.redact(&detail)));
        self.run.session.reporter.report(&Event::Step {
            tier: self.tier.name.to_string(),
            name: name.clone(),
            status: status.as_str().to_owned(),
            detail: detail.clone(),
        });
        self.tier.steps.push(Step { name, status, detail, seconds: began.elapsed().as_secs_f64() });
        match halt {
            Some(halt) => Err(halt),
            None => Ok(status != Status::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_the_record_is_cut_between_characters_and_says_so() {
        assert_eq!(bounded("short".to_owned()), "short");
        let cut = bounded("ä€".repeat(1 << 16));
        assert!(cut.len() < TEXT_LIMIT + 64 && cut.ends_with("bytes more"), "{}", cut.len());
    }
}
