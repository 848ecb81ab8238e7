//! How far a recipe has come: eight rules, each of which counts once those before it are met.
//!
//! A level is read from a run's record alone. It says what that run proved, and of a run that proved nothing of the recipe (it was
//! ended, the host failed) there is none. docs/levels.md is this for people.

use std::fmt;

use super::record::{Lane, Lint, RunRecord, Status, Tier, TierName, Verdict};

/// The names of the rules, the first one first.
const RULES: [&str; 8] = [
    "no errors in the files",
    "installs",
    "fresh install",
    "upgrades from the last release",
    "upgrades from older releases",
    "backup and restore, proved by content",
    "tests of its own",
    "no findings",
];

/// The check of a fresh install, and what an operator has put in its place.
const FRESH_INSTALL: [&str; 2] = ["generic/fresh-install", "operator/upgrade.fresh-install"];

/// What a run says of each rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// So many rules are met, each with all before it.
    pub reached: usize,
    /// Every rule, in order.
    pub rules: Vec<RuleOutcome>,
}

/// One rule and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleOutcome {
    /// Its name.
    pub name: &'static str,
    /// Whether it is met.
    pub met: Met,
    /// Why it is not met, or does not apply.
    pub why: Option<String>,
}

/// Whether a rule is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// It is.
    Yes,
    /// There is nothing that it could be about. It stops nobody.
    NotApplicable,
    /// It is not.
    No,
}

/// What one rule says: `Err` says why it is not met.
type Outcome = Result<Met, String>;

impl Level {
    /// The highest there is.
    pub const HIGHEST: usize = RULES.len();

    /// The level that a run proved. `None` of one that is not of the cold lane, or says nothing of the recipe.
    pub fn of(record: &RunRecord) -> Option<Self> {
        // Runs of before levels have no lint, and one whose files could not be judged has none either.
        let lint = record.lint.as_ref()?;
        if record.lane != Lane::Cold || !matches!(record.verdict, Some(Verdict::Green | Verdict::Red)) {
            return None;
        }
        let outcomes: [Outcome; Self::HIGHEST] = [
            no_errors(lint),
            installs(record),
            fresh_install(record),
            from_last_release(record),
            from_older_releases(record),
            restores_content(record),
            own_tests(record),
            no_findings(lint),
        ];
        let reached = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
        let rules = RULES.into_iter().zip(outcomes).map(|(name, outcome)| match outcome {
            Ok(Met::NotApplicable) => {
                let why = Some("there is no release that it could be about".to_owned());
                RuleOutcome { name, met: Met::NotApplicable, why }
            }
            Ok(met) => RuleOutcome { name, met, why: None },
            Err(why) => RuleOutcome { name, met: Met::No, why: Some(why) },
        });
        Some(Self { reached, rules: rules.collect() })
    }

    /// The first rule that is not met: what to do for the next level.
    pub fn next(&self) -> Option<&RuleOutcome> {
        self.rules.get(self.reached)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.reached, Self::HIGHEST)
    }
}

fn no_errors(lint: &Lint) -> Outcome {
    match lint.errors {
        0 => Ok(Met::Yes),
        errors => Err(format!("cc-ci recipe check finds {}", counted(errors, "error"))),
    }
}

fn no_findings(lint: &Lint) -> Outcome {
    no_errors(lint)?;
    match lint.warnings {
        0 => Ok(Met::Yes),
        warnings => Err(format!("cc-ci recipe check finds {}", counted(warnings, "warning"))),
    }
}

fn installs(record: &RunRecord) -> Outcome {
    passed(tier(record, TierName::Install), "install")
}

/// The commit under test itself was installed, or what a fresh install of it would be was judged after the upgrade to it.
fn fresh_install(record: &RunRecord) -> Outcome {
    let upgrade = tier(record, TierName::Upgrade);
    if upgrade.is_some_and(|tier| tier.from.is_none()) {
        return installs(record);
    }
    let steps = upgrade.into_iter().flat_map(|tier| &tier.steps);
    match steps.into_iter().find(|step| FRESH_INSTALL.contains(&step.name.as_str())) {
        Some(step) if step.status == Status::Passed => Ok(Met::Yes),
        Some(step) => Err(format!("{} {}", step.name, step.status.as_str())),
        None => Err("a fresh install of the commit was not judged".to_owned()),
    }
}

fn from_last_release(record: &RunRecord) -> Outcome {
    let Some(before) = &record.releases_before else { return Err(no_releases()) };
    let Some(newest) = &before.newest else { return Ok(Met::NotApplicable) };
    let tier = upgrades(record).find(|tier| tier.from.as_ref() == Some(newest));
    upgraded(tier, newest)
}

/// At least one release before the last, and none of those that were tried fails.
fn from_older_releases(record: &RunRecord) -> Outcome {
    let Some(before) = &record.releases_before else { return Err(no_releases()) };
    if before.count < 2 {
        return Ok(Met::NotApplicable);
    }
    let older: Vec<&Tier> = upgrades(record).filter(|tier| tier.from != before.newest).collect();
    if older.is_empty() {
        return Err("no older release was tried: --upgrade-from 2, or more".to_owned());
    }
    for tier in older {
        let from = tier.from.as_deref().unwrap_or_default();
        upgraded(Some(tier), from)?;
    }
    Ok(Met::Yes)
}

fn upgraded(tier: Option<&Tier>, from: &str) -> Outcome {
    passed(tier, &format!("the upgrade from {from}"))?;
    whole(tier)
}

fn restores_content(record: &RunRecord) -> Outcome {
    passed(tier(record, TierName::Backup), "backup")?;
    let restore = tier(record, TierName::Restore);
    passed(restore, "restore")?;
    whole(restore)
}

fn own_tests(record: &RunRecord) -> Outcome {
    passed(tier(record, TierName::Custom), "custom")
}

/// A tier that passes says only what it did not prove.
fn whole(tier: Option<&Tier>) -> Outcome {
    tier.and_then(|tier| tier.reason.clone()).map_or(Ok(Met::Yes), Err)
}

fn passed(tier: Option<&Tier>, name: &str) -> Outcome {
    match tier {
        Some(tier) if tier.status == Status::Passed => Ok(Met::Yes),
        Some(tier) => {
            let reason = tier.reason.as_deref().and_then(|reason| reason.lines().next());
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            Err(format!("{name}: {}{reason}", tier.status.as_str()))
        }
        None => Err(format!("{name}: not run")),
    }
}

fn no_releases() -> String {
    "its history is cut, or there are releases and it builds on none of them".to_owned()
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn tier(record: &RunRecord, name: TierName) -> Option<&Tier> {
    record.tiers.iter().find(|tier| tier.name == name)
}

fn upgrades(record: &RunRecord) -> impl Iterator<Item = &Tier> {
    record.tiers.iter().filter(|tier| tier.name == TierName::Upgrade && tier.from.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A run that met every rule, with some fields changed.
    fn run(changes: &Value) -> RunRecord {
        let tier = |name: &str, from: Value, steps: Value| {
            json!({ "name": name, "status": "passed", "reason": null, "from": from, "version": "2.0.0+1", "seconds": 1.0,
                    "steps": steps })
        };
        let fresh =
            json!([{ "name": "generic/fresh-install", "status": "passed", "detail": null, "seconds": 0.1 }]);
        let mut record = json!({
            "schema": "cc-ci.run/v1", "run_id": "1", "owner": { "pid": 1, "start_time": 2, "boot_id": "3" },
            "recipe": "demo", "subject": { "pull_request": 7 }, "domain": "demo-pr7.ci.example.org", "domains": [],
            "executor": "local", "started": "2026-01-02T03:04:05Z", "lock_waited_seconds": 0.0, "deploy_count": 1,
            "errors": [], "warnings": [], "verdict": "green",
            "lint": { "errors": 0, "warnings": 0, "findings": [] },
            "releases_before": { "newest": "1.1.0+1", "count": 2 },
            "tiers": [
                tier("install", Value::Null, json!([])), tier("upgrade", json!("1.1.0+1"), fresh),
                tier("backup", Value::Null, json!([])), tier("restore", Value::Null, json!([])),
                tier("custom", Value::Null, json!([])), tier("upgrade", json!("1.0.0+1"), json!([])),
            ],
        });
        for (path, value) in changes.as_object().unwrap() {
            *record.pointer_mut(path).unwrap() = value.clone();
        }
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn each_rule_stops_a_run_at_the_level_below_it() {
        let cases = [
            ("/lint/errors", json!(1), 0),
            ("/tiers/0/status", json!("failed"), 1),
            ("/tiers/1/steps/0/status", json!("failed"), 2),
            ("/tiers/1/steps", json!([]), 2),
            ("/tiers/1/steps/0/name", json!("recipe/upgrade.fresh-install"), 2),
            ("/tiers/1/steps/0/name", json!("operator/upgrade.fresh-install"), 8),
            ("/releases_before", Value::Null, 3),
            ("/tiers/1/status", json!("failed"), 3),
            ("/releases_before/newest", json!("1.2.0+1"), 3),
            ("/tiers/1/reason", json!("no service mounts a volume any more"), 3),
            ("/tiers/5/status", json!("failed"), 4),
            ("/tiers/5/reason", json!("no service mounts a volume any more"), 4),
            ("/tiers/5/from", json!("1.1.0+1"), 4),
            ("/tiers/2/status", json!("skipped"), 5),
            ("/tiers/3/status", json!("not_run"), 5),
            ("/tiers/3/reason", json!("proved with cc-ci's own files alone"), 5),
            ("/tiers/4/status", json!("skipped"), 6),
            ("/lint/warnings", json!(1), 7),
            ("/recipe", json!("demo"), 8),
        ];
        for (path, value, reached) in cases {
            let level = Level::of(&run(&json!({ path: value }))).unwrap();
            assert_eq!(level.reached, reached, "{path} {value}: {level:?}");
            assert_eq!(
                level.next().map(|rule| rule.met),
                (reached < Level::HIGHEST).then_some(Met::No),
                "{path}"
            );
        }
    }

    #[test]
    fn where_there_is_no_release_there_is_none_to_upgrade_from() {
        let first = json!({ "/releases_before": { "newest": null, "count": 0 }, "/tiers/1/from": null,
                            "/tiers/1/status": "skipped", "/tiers/1/steps": [] });
        let level = Level::of(&run(&first)).unwrap();
        assert_eq!(level.reached, 8, "{level:?}");
        assert_eq!((level.rules[3].met, level.rules[4].met), (Met::NotApplicable, Met::NotApplicable));
        let fresh =
            json!({ "/tiers/1/from": null, "/tiers/1/status": "skipped", "/tiers/1/reason": "--fresh" });
        let level = Level::of(&run(&fresh)).unwrap();
        assert_eq!((level.reached, level.next().unwrap().met), (3, Met::No), "--fresh proves no upgrade");
    }

    #[test]
    fn a_run_that_says_nothing_of_the_recipe_has_no_level() {
        for verdict in ["cancelled", "killed", "refused", "harness_failed", "lock_timeout", "residue"] {
            assert_eq!(Level::of(&run(&json!({ "/verdict": verdict }))), None, "{verdict}");
        }
        assert_eq!(Level::of(&run(&json!({ "/verdict": null }))), None);
        assert_eq!(Level::of(&run(&json!({ "/lint": null }))), None, "its files were not judged");
        let quick = RunRecord { lane: Lane::Quick, ..run(&json!({})) };
        assert_eq!(Level::of(&quick), None);
    }
}
