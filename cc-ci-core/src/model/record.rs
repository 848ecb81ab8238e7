//! `run.json`: what a run was, as machines read it.
//!
//! It is written when the run begins, so that whoever finds the directory of a dead run knows its domains, while it goes on, and
//! again when it ends.

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::cancellation::Cause;
use super::digest::{Digest, Doing};
use super::inventory::{Kind, Resource};
pub use super::span::{Span, SpanKind};
pub use super::tier_name::TierName;
use crate::names::{Domain, RecipeName, RunId, Subject};
use crate::sys::process::ProcessIdentity;
use crate::sys::text::took;

/// The schema of [`RunRecord`].
pub const RUN_SCHEMA: &str = "cc-ci.run/v1";

/// A run, from its first second to its receipt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RunRecord {
    /// [`RUN_SCHEMA`].
    pub schema: String,
    /// Its id: the name of its directory.
    pub run_id: RunId,
    /// The process that runs it.
    pub owner: ProcessIdentity,
    /// How it went about it.
    #[serde(default)]
    pub lane: Lane,
    /// What it tests.
    pub recipe: RecipeName,
    /// Of which pull request or ref.
    pub subject: Subject,
    /// What it was asked for, to be asked for again; absent of a run that the command did not start.
    #[serde(default)]
    pub asked: Option<Asked>,
    /// The app under test.
    pub domain: Domain,
    /// All domains of the run, in the order of their locks: the app's and its dependencies'.
    pub domains: Vec<Domain>,
    /// The commit under test, once it is fetched.
    pub commit: Option<String>,
    /// The releases that the commit builds on, once they are known; absent where that can't be told, since its history is cut, or
    /// where releases are there and it builds on none of them.
    #[serde(default)]
    pub releases_before: Option<ReleasesBefore>,
    /// What `cc-ci recipe check` finds in the commit under test; of the cold lane only.
    #[serde(default)]
    pub lint: Option<Lint>,
    /// The executor.
    pub executor: String,
    /// What ran it.
    #[serde(default)]
    pub versions: Versions,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; absent while it goes on, and for ever if it was killed.
    pub finished: Option<Timestamp>,
    /// Whether the warm app may be another than its baseline by this run's doing; always false of a cold run.
    /// It is written before the app is touched, and again once it is proven to be at its baseline.
    #[serde(default)]
    pub dirty: bool,
    /// Whether it has taken the locks of all its domains. Until it has concluded, they are its own while it holds its
    /// `run.lock`, whatever became of their lock files.
    #[serde(default)]
    pub owned: bool,
    /// How it ended.
    pub verdict: Option<Verdict>,
    /// The exit code of the command.
    pub exit_code: Option<u8>,
    /// What ended it early.
    pub cancelled_by: Option<Cause>,
    /// How long it waited for locks, in seconds.
    pub lock_waited_seconds: f64,
    /// That its red app was kept up for a person to look, where it was.
    #[serde(default)]
    pub kept: Option<Kept>,
    /// How often it deployed: 1 for each app of a cold run that got so far, which is one but for older releases to
    /// upgrade from.
    pub deploy_count: u32,
    /// Its tiers, in order.
    pub tiers: Vec<Tier>,
    /// The level that it proved, from 0 to 8 (docs/levels.md); none of a run that says nothing of the recipe.
    #[serde(default)]
    pub level: Option<usize>,
    /// What it did when, in the order of beginnings: its phases, what they wait for, and the tasks of its services.
    #[serde(default)]
    pub timeline: Vec<Span>,
    /// What was there before and after.
    pub receipt: Option<Receipt>,
    /// The privileges that the recipe asked for and the operator grants.
    #[serde(default)]
    pub granted: BTreeSet<String>,
    /// How what the recipe brought was run on the host: `confined`, or `not confined: ` and why.
    #[serde(default)]
    pub recipe_code: String,
    /// What it does, while it goes on; of a run that was killed, what it did then.
    #[serde(default)]
    pub doing: Option<Doing>,
    /// Why it is not green, in one look.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// What went wrong outside of the tiers.
    pub errors: Vec<String>,
    /// What is worth knowing.
    pub warnings: Vec<String>,
}

impl RunRecord {
    pub(crate) fn tier_mut(&mut self, name: TierName) -> Option<&mut Tier> {
        self.tiers.iter_mut().find(|tier| tier.name == name)
    }

    /// Puts a tier in its place: in order, each once.
    pub(crate) fn put_tier(&mut self, tier: Tier) {
        match self.tiers.iter_mut().find(|known| (known.name, &known.from) == (tier.name, &tier.from)) {
            Some(known) => *known = tier,
            None => self.tiers.push(tier),
        }
    }
}

/// A red app that was kept up for a person to look (`--keep-on-red`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Kept {
    /// Since when.
    pub since: Timestamp,
    /// Until when at the latest.
    pub until: Timestamp,
    /// For how long, in seconds; absent while it is kept.
    pub seconds: Option<f64>,
    /// What ended it early: the run is as red as it was.
    pub ended_by: Option<Cause>,
}

impl Kept {
    pub(crate) fn new(since: Timestamp, until: Timestamp) -> Self {
        Self { since, until, seconds: None, ended_by: None }
    }

    /// As people read it: `12m of 30m, ended by TERM`.
    pub fn in_words(&self) -> String {
        let whole = |seconds: f64| took(seconds, 0);
        let limit = whole(self.until.duration_since(self.since).as_secs_f64());
        let Some(seconds) = self.seconds else {
            return format!("until {} at the latest", clock_time(self.until));
        };
        let by = self.ended_by.map(|cause| format!(", ended by {cause}")).unwrap_or_default();
        format!("{} of {limit}{by}", whole(seconds))
    }
}

/// A time, as a line has it: `2026-11-29T21:14:05Z`.
pub(crate) fn clock_stamp(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// A time of the day, as a line has it: `21:14 UTC`.
pub(crate) fn clock_time(at: Timestamp) -> String {
    at.strftime("%H:%M UTC").to_string()
}

/// How a run goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Lane {
    /// A throw-away app of its own.
    #[default]
    Cold,
    /// The recipe's warm app, upgraded in place and rolled back: no install, backup or restore is proven.
    Quick,
    /// No test: a warm app is restored to its baseline.
    Warm,
}

impl Lane {
    /// Whether it works on a warm app.
    pub const fn is_warm(self) -> bool {
        matches!(self, Self::Quick | Self::Warm)
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Quick => "quick",
            Self::Warm => "warm",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Every tier passed or was skipped with a reason, and nothing is left.
    Green,
    /// A tier failed.
    Red,
    /// The call or the configuration was wrong; nothing was changed.
    Refused,
    /// The harness or the host failed: nothing is said of the recipe.
    HarnessFailed,
    /// Something was left behind.
    Residue,
    /// The lock did not come in time.
    LockTimeout,
    /// It was ended early.
    Cancelled,
    /// It died before it could conclude; written by whoever removed what it had left.
    Killed,
}

/// The releases that a commit builds on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleasesBefore {
    /// The newest of them, where there is any.
    pub newest: Option<String>,
    /// How many there are.
    pub count: usize,
}

/// What the rules of `cc-ci recipe check` say of the commit under test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lint {
    /// How many findings are errors.
    pub errors: usize,
    /// How many are warnings; what could not be judged is one, too.
    pub warnings: usize,
    /// The first of all findings, one a line: severity, place, rule and what is wrong; before them what could not be judged.
    pub findings: Vec<String>,
}

impl Lint {
    /// So many findings are kept in a record.
    pub const FINDINGS: usize = 50;
}

/// The programs of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Versions {
    /// Of cc-ci.
    pub cc_ci: String,
    /// Of the program that deploys, where it is one of its own: `abra 0.10.1`.
    pub deployer: Option<String>,
    /// Of the engine, where it tells.
    pub engine: Option<String>,
}

impl Verdict {
    /// What a verdict is called, or that there is none.
    pub const fn word(verdict: Option<Self>) -> &'static str {
        match verdict {
            Some(Self::Green) => "green",
            Some(Self::Red) => "red",
            Some(Self::Refused) => "refused",
            Some(Self::HarnessFailed) => "harness failed",
            Some(Self::Residue) => "residue left",
            Some(Self::LockTimeout) => "lock timed out",
            Some(Self::Cancelled) => "cancelled",
            Some(Self::Killed) => "killed",
            None => "unfinished",
        }
    }
}

/// One tier. Skipped is not green, and not run is neither (I9).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Tier {
    /// Which.
    pub name: TierName,
    /// What became of it.
    pub status: Status,
    /// Why, where it did not pass; what it did not prove, where it did.
    pub reason: Option<String>,
    /// The release that it upgrades from, of an upgrade.
    pub from: Option<String>,
    /// The version that it proves, where there is one.
    pub version: Option<String>,
    /// What it took, in seconds.
    pub seconds: f64,
    /// Its steps, in order.
    pub steps: Vec<Step>,
}

impl Tier {
    /// A tier that nobody got to yet.
    pub fn not_run(name: TierName) -> Self {
        Self {
            name,
            status: Status::NotRun,
            reason: None,
            from: None,
            version: None,
            seconds: 0.0,
            steps: Vec::new(),
        }
    }

    /// As people tell it from others of its name: `upgrade from 1.0.0+1`.
    pub fn label(&self) -> String {
        match &self.from {
            Some(from) => format!("{} from {from}", self.name),
            None => self.name.to_string(),
        }
    }
}

/// What became of a tier or a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// Left out, for the reason that is given.
    Skipped,
    /// The run ended, or something that it stands on failed, before.
    NotRun,
}

impl Status {
    /// As people and machines write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::NotRun => "not run",
        }
    }
}

/// A step of a tier: a generic check, or a test of the operator or the recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Step {
    /// Its name: `generic/serving`, `operator/install-login`, `recipe/custom.sh`.
    pub name: String,
    /// What became of it.
    pub status: Status,
    /// Why, where it did not pass; secrets are taken out.
    pub detail: Option<String>,
    /// When it began.
    #[serde(default)]
    pub started: Option<Timestamp>,
    /// What it took, in seconds.
    pub seconds: f64,
    /// Its log, of a test: a path in the run's directory.
    #[serde(default)]
    pub log: Option<String>,
}

/// What of the run's domains existed before and after (I6).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Receipt {
    /// What was there when the run took its locks, and was removed: a dead run's leftovers.
    pub recovered: Vec<Resource>,
    /// What was there after that, before the first deploy; of a warm app, before its upgrade, what lasts: no
    /// process, task or container.
    pub before: Vec<Resource>,
    /// What teardown removed, and what was taken down before another release was deployed.
    pub removed: Vec<Resource>,
    /// What is left after teardown.
    pub left: Vec<Resource>,
    /// The domains that the last look verified to be empty, or a warm app to be as it was. A run that ended before it
    /// owned its app has none.
    pub verified: Vec<Domain>,
    /// What went wrong while removing.
    pub failures: Vec<String>,
}

impl Receipt {
    /// What a run removed and left, in one line. Where nothing is verified, nobody may read that nothing is left.
    pub fn in_words(&self, lane: Lane, owned: bool) -> String {
        let (unseen, left): (Vec<_>, Vec<_>) =
            self.left.iter().cloned().partition(|left| left.kind == Kind::UnseenNode);
        let nodes: BTreeSet<&str> = unseen.iter().map(|node| node.name.as_str()).collect();
        let nodes = nodes.into_iter().collect::<Vec<_>>().join(", ");
        let left = match (left.as_slice(), nodes.as_str()) {
            ([], "") => None,
            ([], nodes) => Some(format!(", not verified on {nodes}")),
            (left, "") => Some(format!(", left {}", Resource::brief(left))),
            (left, nodes) => Some(format!(", left {}, not verified on {nodes}", Resource::brief(left))),
        };
        let end = match (lane.is_warm(), left, self.verified.is_empty()) {
            (true, left, true) => left.unwrap_or_default(),
            (true, left, false) => left.unwrap_or_default() + ", the app is proven to be as before",
            (false, Some(left), _) => left,
            (false, None, false) => ", left nothing".to_owned(),
            (false, None, true) if owned => ", could not tell what is left".to_owned(),
            (false, None, true) => return "the run never owned its app, and removed nothing".to_owned(),
        };
        format!("removed {}{end}", Resource::counts(&self.removed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_says_that_nothing_is_left_only_where_that_was_verified() {
        let (nothing, mut verified, mut left) = (Receipt::default(), Receipt::default(), Receipt::default());
        verified.verified.push("a.test".parse().unwrap());
        left.left.push(Resource::new(Kind::Volume, "data"));
        let (mut unseen, mut both) = (Receipt::default(), left.clone());
        unseen.left.push(Resource::new(Kind::UnseenNode, "worker-2"));
        both.left.extend(unseen.left.clone());
        let cold = |receipt: &Receipt, owned| receipt.in_words(Lane::Cold, owned);
        assert_eq!(cold(&nothing, false), "the run never owned its app, and removed nothing");
        assert_eq!(cold(&nothing, true), "removed nothing, could not tell what is left");
        assert_eq!(cold(&verified, true), "removed nothing, left nothing");
        assert_eq!(cold(&left, true), "removed nothing, left volume data");
        assert_eq!(cold(&unseen, true), "removed nothing, not verified on worker-2");
        assert_eq!(cold(&both, true), "removed nothing, left volume data, not verified on worker-2");
        let warm = |receipt: &Receipt| receipt.in_words(Lane::Quick, true);
        assert_eq!(warm(&nothing), "removed nothing");
        assert_eq!(warm(&verified), "removed nothing, the app is proven to be as before");
        assert_eq!(warm(&left), "removed nothing, left volume data");
    }
    #[test]
    fn a_receipt_of_a_later_version_is_read_and_what_it_says_is_left_stays_left() {
        let written = serde_json::json!({
            "recovered": [], "before": [], "removed": [{ "kind": "volume", "name": "data" }],
            "left": [{ "kind": "quantum_volume", "name": "x" }], "verified": [], "failures": []
        });
        let receipt: Receipt = serde_json::from_value(written).unwrap();
        assert_eq!(receipt.left, [Resource::new(Kind::Unknown, "x")]);
        assert_eq!(receipt.in_words(Lane::Cold, true), "removed 1 volume, left thing of an unknown kind x");
    }
}
