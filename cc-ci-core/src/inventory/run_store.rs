//! What the runs' directories tell of their runs.

use std::fs::TryLockError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::engine::Resource;
use crate::inventory::ci_host::CiHost;
use crate::lock::takers_of;
use crate::model::failure::Failure;
use crate::model::record::{Lane, Verdict};
use crate::names::{Domain, RecipeName, RunId};
use crate::sys::blocking;
use crate::sys::process::ProcessIdentity;
use crate::sys::system_info::BootId;
use crate::workspace::RunFiles;

/// The name of an executor is a word.
const EXECUTOR_LIMIT: usize = 64;

/// An app and what it depends on. Every look keeps the domains of all runs.
const DOMAINS_LIMIT: usize = 256;

/// A run, as its directory and the kernel tell. Everything but whether it lives is its own word: it explains.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of its own in the record")]
#[non_exhaustive]
pub struct RunSummary {
    /// Its id.
    pub id: RunId,
    /// Its directory.
    pub path: PathBuf,
    /// The process that runs it.
    pub owner: ProcessIdentity,
    /// Whether that one is alive.
    pub alive: bool,
    /// Whether something of its tree is there.
    pub tree: bool,
    /// All domains of the run, in the order of their locks.
    pub domains: Vec<Domain>,
    /// How it went about it; cold where it does not say.
    pub lane: Lane,
    /// What it tests.
    pub recipe: Option<RecipeName>,
    /// What it deployed with, and so where its app is; where it says so.
    pub executor: Option<String>,
    /// Whether its warm app may be another than the baseline by its doing; it may be where it does not say.
    pub dirty: bool,
    /// Whether it had taken its locks, by its own word.
    pub owned: bool,
    /// When it began.
    pub started: Option<Timestamp>,
    /// How it ended, if it did.
    pub verdict: Option<Verdict>,
    /// Where all of this was read, and is read again.
    pub(crate) files: RunFiles,
}

/// What a look needs of `run.json`, whatever else its schema says: nothing else is kept, however much there is.
#[derive(serde::Deserialize)]
struct Record<'t> {
    owner: ProcessIdentity,
    domains: Vec<Domain>,
    #[serde(borrow)]
    lane: Option<&'t RawValue>,
    #[serde(borrow)]
    recipe: Option<&'t RawValue>,
    #[serde(borrow)]
    executor: Option<&'t RawValue>,
    #[serde(borrow)]
    dirty: Option<&'t RawValue>,
    #[serde(borrow)]
    owned: Option<&'t RawValue>,
    #[serde(borrow)]
    started: Option<&'t RawValue>,
    #[serde(borrow)]
    verdict: Option<&'t RawValue>,
}

/// What explains only may be anything, and is then not told.
fn lenient<T: DeserializeOwned>(value: Option<&RawValue>) -> Option<T> {
    serde_json::from_str(value?.get()).ok()
}

/// The run of a directory. One without a readable record has not begun, or is being removed: nothing of any
/// domain. What a recipe's test may have put in its place is not waited for.
fn summary(files: RunFiles, boot: &BootId) -> Option<RunSummary> {
    let text = files.read_record().ok()?;
    let Record { owner, mut domains, lane, recipe, executor, dirty, owned, started, verdict } =
        serde_json::from_slice(&text).ok()?;
    domains.truncate(DOMAINS_LIMIT);
    domains.shrink_to_fit();
    Some(RunSummary {
        alive: owner.is_alive(boot),
        tree: files.has_tree(),
        lane: lenient(lane).unwrap_or_default(),
        recipe: lenient(recipe),
        executor: lenient::<String>(executor).filter(|executor| executor.len() <= EXECUTOR_LIMIT),
        dirty: lenient(dirty).unwrap_or(true),
        owned: lenient(owned).unwrap_or(false),
        started: lenient(started),
        verdict: lenient(verdict),
        id: files.id().clone(),
        path: files.path(),
        owner,
        domains,
        files,
    })
}

/// What of `run.json` tells how a warm app was before its upgrade.
#[derive(serde::Deserialize)]
struct BeforeRecord {
    receipt: Option<BeforeReceipt>,
}

#[derive(serde::Deserialize)]
struct BeforeReceipt {
    before: Vec<Resource>,
}

impl RunSummary {
    /// What lasts of the warm app, as it was before this run upgraded it; `None` where it came not so far, or does
    /// not say. Blocks.
    pub(crate) fn before(&self) -> Option<Vec<Resource>> {
        let text = self.files.read_record().ok()?;
        let record: BeforeRecord = serde_json::from_slice(&text).ok()?;
        record.receipt.map(|receipt| receipt.before).filter(|before| !before.is_empty())
    }

    /// Whether the run itself holds its `run.lock`. Whoever cleans up after a dead one holds it too, for a while.
    fn holds_its_lock(&self) -> bool {
        let Ok(file) = self.files.open_lock() else { return false };
        match file.try_lock_shared() {
            // Whom the kernel does not name may be of another pid namespace.
            Err(TryLockError::WouldBlock) => {
                takers_of(&file).map_or(true, |takers| takers.is_empty() || takers.contains(&self.owner.pid))
            }
            Ok(()) | Err(TryLockError::Error(_)) => false,
        }
    }

    /// Whether its app is of another executor than `executor`.
    fn is_elsewhere(&self, executor: &str) -> bool {
        self.executor.as_ref().is_some_and(|own| own != executor)
    }

    /// Whether nobody takes its app down any more: it is dead, or has concluded while its process lives on.
    pub fn is_over(&self) -> bool {
        !self.alive || self.verdict.is_some()
    }
}

impl CiHost {
    /// Every run that has a directory, in the order of their ids. Whether one lives is asked of the process that it
    /// names: a look takes no lock.
    pub fn run_summaries(&self) -> Result<Vec<RunSummary>, Failure> {
        tracing::debug!("the records of all runs are read");
        let boot = self.host.boot_id();
        let runs = self.runs.run_files()?.into_iter();
        Ok(runs.filter_map(|files| summary(files, &boot)).collect())
    }

    /// The runs that took the locks of some of `domains`, have not concluded, and hold their `run.lock`: live ones,
    /// whatever became of their lock files since (I16). Each with its domain; `own` is the caller's.
    ///
    /// The kernel frees the locks of a killed run one after the other: what is held is looked at again for a moment.
    pub async fn live_owners(
        &self,
        domains: &[&Domain],
        own: Option<&RunId>,
    ) -> Result<Vec<(Domain, RunSummary)>, Failure> {
        const LOOKS: u32 = 10;
        let mut pause = Duration::from_micros(200);
        let domains: Arc<[Domain]> = domains.iter().map(|domain| (*domain).clone()).collect();
        for look in 1.. {
            let (ci_host, domains, own) = (self.clone(), domains.clone(), own.cloned());
            let live = blocking::run(move || ci_host.live_owners_now(&domains, own.as_ref())).await?;
            if live.is_empty() || look == LOOKS {
                return Ok(live);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(Vec::new())
    }

    /// The same, by one look. Blocks.
    pub(super) fn live_owners_now(
        &self,
        domains: &[Domain],
        own: Option<&RunId>,
    ) -> Result<Vec<(Domain, RunSummary)>, Failure> {
        let mut live = Vec::new();
        for run in self.run_summaries()? {
            let shared = domains.iter().find(|domain| run.domains.contains(domain));
            if let Some(domain) = shared
                && run.owned
                && run.verdict.is_none()
                && own != Some(&run.id)
                && run.holds_its_lock()
            {
                live.push((domain.clone(), run));
            }
        }
        Ok(live)
    }

    /// The runs that worked with `executor` on the warm app of `domain` and are over, with a tree left: those that
    /// touched it and did not restore it, dead ones and such as could not, and those that never came so far. Each
    /// the oldest first.
    pub(crate) async fn over_on(
        &self,
        domain: &Domain,
        executor: &str,
    ) -> Result<(Vec<RunSummary>, Vec<RunSummary>), Failure> {
        let (ci_host, executor) = (self.clone(), executor.to_owned());
        let mut summaries = blocking::run(move || ci_host.warm_trees(&executor)).await?;
        summaries.retain(|run| run.domains.contains(domain));
        summaries.sort_by_key(|run| run.started);
        Ok(summaries.into_iter().partition(|run| run.dirty))
    }

    /// The runs that touched a warm app of `executor` and ended without having restored it: what `cc-ci warm
    /// reconcile` finishes.
    pub fn awaiting_reconcile(&self, executor: &str) -> Result<Vec<RunSummary>, Failure> {
        let mut summaries = self.warm_trees(executor)?;
        summaries.retain(|run| run.dirty);
        Ok(summaries)
    }

    fn warm_trees(&self, executor: &str) -> Result<Vec<RunSummary>, Failure> {
        let mut summaries = self.dead_trees()?;
        // A record may say anything; what is a run app is the janitor's.
        let warm = |domain: &Domain| !self.pattern.is_run_app(domain);
        summaries
            .retain(|run| run.lane.is_warm() && run.domains.iter().any(warm) && !run.is_elsewhere(executor));
        Ok(summaries)
    }

    /// The runs that are over, and of which a tree is left.
    pub(crate) fn dead_trees(&self) -> Result<Vec<RunSummary>, Failure> {
        let mut summaries = self.run_summaries()?;
        summaries.retain(|run| run.tree && run.is_over());
        Ok(summaries)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::sys::files::RUN_RECORD;
    use crate::workspace::{AbraWorkspace as _, KernelWorkspace, RunDir, Settings};

    /// A run in the runs directory `runs`, and its files.
    fn run_in(runs: &Path) -> (RunDir, RunFiles) {
        let workspace = KernelWorkspace::new(Settings::new(runs).unwrap()).unwrap();
        let run = workspace.create(&"1".parse().unwrap()).unwrap();
        (run, workspace.run_files().unwrap().remove(0))
    }

    /// A look at a run's directory with this record.
    fn summarized(record: &Value) -> Option<RunSummary> {
        let directory = tempfile::tempdir().unwrap();
        let (run, files) = run_in(&directory.path().join("runs"));
        fs::write(run.root().join(RUN_RECORD), record.to_string()).unwrap();
        summary(files, &BootId::new("boot"))
    }

    fn record() -> Value {
        let owner = json!({ "pid": 1, "start_time": 1, "boot_id": "another" });
        json!({ "owner": owner, "domains": ["a-000001.runs.test"], "recipe": "app", "verdict": "residue" })
    }

    #[test]
    fn a_record_of_thousands_of_steps_is_read() {
        let mut record = record();
        let step = json!({ "name": "recipe/custom-a", "status": "skipped", "detail": "x".repeat(1024) });
        record["tiers"] = json!([{ "steps": vec![step; 3000] }]);
        let summary = summarized(&record).unwrap();
        assert_eq!((summary.domains.len(), summary.verdict), (1, Some(Verdict::Residue)));
        assert_eq!(summary.recipe.unwrap().as_str(), "app");
    }

    #[test]
    fn what_a_hostile_record_says_is_bounded_and_costs_no_summary() {
        let mut record = record();
        record["domains"] = json!(vec!["a-000001.runs.test"; 10_000]);
        for odd in [json!(7), json!({ "deep": [[["../x"]]] }), json!("x".repeat(1 << 19)), Value::Null] {
            for key in ["recipe", "executor", "touched", "started", "verdict"] {
                record[key] = odd.clone();
            }
            let summary = summarized(&record).unwrap();
            assert!(summary.domains.len() == DOMAINS_LIMIT && summary.domains.capacity() < 2 * DOMAINS_LIMIT);
            assert!(summary.recipe.is_none() && summary.started.is_none() && summary.verdict.is_none());
            assert!(summary.executor.is_none() && summary.dirty, "what does not tell was touched");
        }
    }

    #[test]
    fn what_is_longer_than_any_record_is_none() {
        let mut record = record();
        record["more"] = "x".repeat(4 << 20).into();
        assert!(summarized(&record).is_none());
    }

    #[test]
    fn what_is_read_is_what_is_changed_whatever_the_runs_path_names_since() {
        let world = tempfile::tempdir().unwrap();
        let (runs, moved) = (world.path().join("runs"), world.path().join("moved"));
        let (run, files) = run_in(&runs);
        let mut own = record();
        own["owner"]["pid"] = json!(std::process::id());
        own["receipt"] = json!({ "before": [{ "kind": "volume", "name": "own" }] });
        fs::write(run.root().join(RUN_RECORD), own.to_string()).unwrap();
        fs::rename(&runs, &moved).unwrap();
        // Another world, with a run of the same id that says something else, holds no lock and has no tree.
        fs::create_dir_all(runs.join("1")).unwrap();
        fs::write(runs.join("1/run.lock"), "").unwrap();
        let mut other = record();
        other["domains"] = json!(["b-000002.runs.test"]);
        fs::write(runs.join("1").join(RUN_RECORD), other.to_string()).unwrap();
        let summary = summary(files, &BootId::new("boot")).unwrap();
        assert_eq!(summary.domains[0].as_str(), "a-000001.runs.test");
        assert_eq!(summary.before().unwrap()[0].name, "own");
        assert!(summary.tree && summary.holds_its_lock());
    }

    #[test]
    fn a_time_that_no_clock_has_explains_nothing_and_costs_no_run() {
        let hostile =
            ["9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "-009999-01-02T01:59:59Z", "+999999-01-01"];
        let hostile = hostile.map(Value::from).into_iter();
        for time in hostile.chain([json!(u64::MAX), json!(1e300), json!(-1)]) {
            let mut record = record();
            record["started"] = time.clone();
            let summary = summarized(&record).unwrap();
            assert_eq!(summary.verdict, Some(Verdict::Residue), "{time}");
            assert_eq!(summary.started.is_some(), serde_json::from_value::<Timestamp>(time).is_ok());
        }
        for time in [json!(u64::MAX), json!(0)] {
            let mut record = record();
            record["owner"]["start_time"] = time;
            record["owner"]["pid"] = json!(std::process::id());
            assert!(!summarized(&record).unwrap().alive, "somebody else's start is no life of ours");
        }
    }
}
