//! What the page shows of a record: text that is harmless already, in the order of the template.

use std::collections::BTreeSet;

use askama::Template;

use super::log::Log;
use super::outcome::{self, Outcome};
use super::timeline::Timeline;
use super::words::{line, text, tier_name, time};
use crate::model::digest::Digest;
use crate::model::inventory::Resource;
use crate::model::level::Level;
use crate::model::record::{RunRecord, Status, Step, Tier};
use crate::sys::text::{sanitize, took};

/// The style sheet of the page.
pub(super) const STYLE: &str = include_str!("../../templates/report.css");

/// What the page's policy knows the style sheet by; a test says what it must be.
pub(super) const STYLE_HASH: &str = "sha256-5xYY/wG1XdnM3hDdzwPx8+kIjYfkgJsexuPdh7QrF7Y=";

/// So many of a list are shown.
const ITEMS: usize = 500;

#[derive(Debug, Template)]
#[template(path = "report.html")]
pub(super) struct Page {
    style: &'static str,
    style_hash: &'static str,
    verdict: Outcome,
    recipe: String,
    subject: String,
    run_id: String,
    facts: Vec<Fact>,
    parts: Vec<Part>,
    doing: Option<String>,
    digest: Option<Why>,
    tiers: Vec<TierView>,
    timeline: Option<Timeline>,
    receipt: Option<ReceiptView>,
    level: Option<LevelView>,
    remarks: Vec<List>,
    logs: Vec<LogView>,
    about: Vec<Fact>,
}

/// Something that is known of the run.
#[derive(Debug)]
struct Fact {
    name: &'static str,
    value: String,
    is_code: bool,
}

/// A part of the page, for those who look for it.
#[derive(Debug)]
struct Part {
    id: &'static str,
    name: &'static str,
}

#[derive(Debug)]
struct Why {
    what: String,
    place: String,
    cause: String,
    log: Option<LogView>,
    blame: String,
    evidence: String,
    next: Vec<String>,
}

#[derive(Debug)]
struct TierView {
    outcome: Outcome,
    name: String,
    took: String,
    reason: Option<String>,
    is_open: bool,
    steps: Vec<StepView>,
    /// What is not shown of many steps.
    more: Option<String>,
}

#[derive(Debug)]
struct StepView {
    outcome: Outcome,
    name: String,
    took: String,
    detail: Option<String>,
    log: Option<LogView>,
    is_open: bool,
}

#[derive(Debug)]
struct LogView {
    of: String,
    file: String,
    size: String,
    text: String,
    is_cut: bool,
}

#[derive(Debug)]
struct ReceiptView {
    outcome: Outcome,
    sentence: String,
    lists: Vec<List>,
}

#[derive(Debug)]
struct List {
    id: &'static str,
    title: &'static str,
    count: usize,
    items: Vec<String>,
}

#[derive(Debug)]
struct LevelView {
    reached: usize,
    rules: Vec<RuleView>,
}

#[derive(Debug)]
struct RuleView {
    outcome: Outcome,
    name: &'static str,
    why: Option<String>,
}

impl Page {
    pub fn new(record: &RunRecord, logs: &[Log]) -> Self {
        let digest = record.digest.as_ref().map(Why::of);
        let tiers: Vec<TierView> = record.tiers.iter().map(|tier| TierView::of(tier, logs)).collect();
        let in_steps: BTreeSet<&str> =
            record.tiers.iter().flat_map(|tier| &tier.steps).filter_map(|step| step.log.as_deref()).collect();
        let others = logs.iter().filter(|log| !in_steps.contains(log.file.as_str()));
        let logs: Vec<LogView> = others.map(LogView::of).collect();
        let timeline = Timeline::of(record);
        let (receipt, level) = (ReceiptView::of(record), LevelView::of(record));
        let remarks = remarks(record);
        let parts = [
            (digest.is_some(), "why", "Why"),
            (!tiers.is_empty(), "tiers", "Tiers"),
            (timeline.is_some(), "timeline", "Timeline"),
            (receipt.is_some(), "receipt", "What it left"),
            (level.is_some(), "level", "Level"),
        ];
        let parts =
            parts.into_iter().filter_map(|(is_there, id, name)| is_there.then_some(Part { id, name }));
        let parts = parts.chain(remarks.iter().map(|list| Part { id: list.id, name: list.title }));
        let last = [(!logs.is_empty(), "logs", "Logs"), (true, "about", "This run")];
        let last = last.into_iter().filter_map(|(is_there, id, name)| is_there.then_some(Part { id, name }));
        Self {
            style: STYLE,
            style_hash: STYLE_HASH,
            verdict: outcome::of_verdict(record.verdict),
            recipe: record.recipe.to_string(),
            subject: line(&record.subject.to_string()),
            run_id: record.run_id.to_string(),
            facts: facts(record),
            parts: parts.chain(last).collect(),
            doing: record
                .doing
                .as_ref()
                .filter(|_| record.verdict.is_none())
                .map(|doing| format!("{}, since {}", line(&doing.to_string()), time(doing.since))),
            digest,
            tiers,
            timeline,
            receipt,
            level,
            remarks,
            logs,
            about: about(record),
        }
    }
}

impl Why {
    fn of(digest: &Digest) -> Self {
        let log = digest.log.as_ref().map(|log| LogView {
            of: line(&log.service),
            file: line(&log.file),
            size: String::new(),
            text: text(&log.lines.join("\n")),
            is_cut: true,
        });
        Self {
            what: line(&digest.what),
            place: [
                digest.tier.map(|tier| format!("tier {tier}")),
                digest.step.as_ref().map(|step| format!("step {step}")),
                digest.service.as_ref().map(|service| format!("service {service}")),
            ]
            .into_iter()
            .flatten()
            .map(|part| line(&part))
            .collect::<Vec<_>>()
            .join(" · "),
            cause: text(&digest.cause.join("\n")),
            log,
            blame: digest.blame.to_string(),
            evidence: line(&digest.evidence),
            next: List::of("", "", digest.next.len(), digest.next.iter().cloned()).items,
        }
    }
}

impl TierView {
    fn of(tier: &Tier, logs: &[Log]) -> Self {
        let mut shown: Vec<&Step> = tier.steps.iter().collect();
        let more = shown.len().checked_sub(ITEMS).filter(|more| *more > 0);
        if more.is_some() {
            // What failed is not what is left out.
            shown.sort_by_key(|step| step.status != Status::Failed);
            shown.truncate(ITEMS);
        }
        let steps = shown.into_iter().map(|step| {
            let log = step.log.as_ref().and_then(|file| logs.iter().find(|log| log.file == *file));
            StepView {
                outcome: outcome::of_status(step.status),
                name: line(&step.name),
                took: took(step.seconds, 1),
                detail: step.detail.as_deref().map(text),
                log: log.map(LogView::of),
                is_open: step.status == Status::Failed,
            }
        });
        Self {
            outcome: outcome::of_status(tier.status),
            name: line(&tier_name(tier)),
            took: if tier.status == Status::NotRun { String::new() } else { took(tier.seconds, 1) },
            reason: tier.reason.as_deref().map(text),
            is_open: tier.status == Status::Failed,
            steps: steps.collect(),
            more: more.map(|more| format!("and {more} more")),
        }
    }
}

impl LogView {
    fn of(log: &Log) -> Self {
        let name = log.file.strip_prefix("logs/").unwrap_or(&log.file);
        let name = name.strip_suffix(".log").unwrap_or(name);
        let of = match name.strip_prefix("service-") {
            Some(service) => format!("the service {service}"),
            None => name.to_owned(),
        };
        let lines = log.text.lines().count();
        let size = format!("{lines} line{}", if lines == 1 { "" } else { "s" });
        Self { of: line(&of), file: line(&log.file), size, text: sanitize(&log.text), is_cut: log.is_cut }
    }
}

impl ReceiptView {
    fn of(record: &RunRecord) -> Option<Self> {
        let receipt = record.receipt.as_ref()?;
        let list = |title, resources: &[Resource]| {
            List::of("", title, resources.len(), resources.iter().map(ToString::to_string))
        };
        let lists = [
            list("Left", &receipt.left),
            list("Removed", &receipt.removed),
            list("Left by a dead run, and removed before", &receipt.recovered),
            list("There before", &receipt.before),
            List::of("", "What went wrong", receipt.failures.len(), receipt.failures.iter().cloned()),
        ];
        let outcome = match (receipt.left.is_empty(), receipt.verified.is_empty()) {
            (true, false) => outcome::PASSED,
            (true, true) => outcome::of_status(Status::NotRun),
            (false, _) => outcome::FAILED,
        };
        let lists = lists.into_iter().filter(|list| list.count > 0).collect();
        Some(Self { outcome, sentence: line(&receipt.in_words(record.lane, record.owned)), lists })
    }
}

impl List {
    fn of(id: &'static str, title: &'static str, count: usize, items: impl Iterator<Item = String>) -> Self {
        let mut items: Vec<String> = items.take(ITEMS).map(|item| line(&item)).collect();
        if count > items.len() {
            items.push(format!("and {} more", count - items.len()));
        }
        Self { id, title, count, items }
    }
}

impl LevelView {
    fn of(record: &RunRecord) -> Option<Self> {
        let Level { reached, rules } = Level::of(record)?;
        let rules = rules.into_iter().map(|rule| RuleView {
            outcome: outcome::of_rule(rule.met),
            name: rule.name,
            why: rule.why.as_deref().map(line),
        });
        Some(Self { reached, rules: rules.collect() })
    }
}

fn remarks(record: &RunRecord) -> Vec<List> {
    let findings = record.lint.iter().flat_map(|lint| &lint.findings);
    let lists = [
        List::of("errors", "Errors", record.errors.len(), record.errors.iter().cloned()),
        List::of("warnings", "Warnings", record.warnings.len(), record.warnings.iter().cloned()),
        List::of("findings", "Findings in the files", findings.clone().count(), findings.cloned()),
    ];
    lists.into_iter().filter(|list| list.count > 0).collect()
}

fn facts(record: &RunRecord) -> Vec<Fact> {
    let fact = |name, value| Fact { name, value, is_code: false };
    let mut facts = vec![fact("Started", time(record.started))];
    if let Some(finished) = record.finished {
        facts.push(fact("Took", took(finished.duration_since(record.started).as_secs_f64(), 1)));
    }
    let commit = record.commit.as_deref().map(|commit| commit.chars().take(10).collect::<String>());
    if let Some(commit) = commit {
        facts.push(Fact { is_code: true, ..fact("Commit", line(&commit)) });
    }
    facts.push(Fact { is_code: true, ..fact("Domain", record.domain.to_string()) });
    if let Some(level) = Level::of(record) {
        facts.push(fact("Level", level.to_string()));
    }
    if record.lock_waited_seconds >= 0.1 {
        facts.push(fact("Waited before it began", took(record.lock_waited_seconds, 1)));
    }
    if let Some(kept) = &record.kept {
        facts.push(fact("Kept up for a look", kept.in_words()));
    }
    facts
}

fn about(record: &RunRecord) -> Vec<Fact> {
    let fact = |name, value: &str| Fact { name, value: line(value), is_code: false };
    let code = |name, value: &str| Fact { is_code: true, ..fact(name, value) };
    let mut about = vec![
        code("Run", record.run_id.as_str()),
        fact("Lane", record.lane.as_str()),
        fact("cc-ci", &record.versions.cc_ci),
        fact("Executor", record.versions.deployer.as_deref().unwrap_or(&record.executor)),
    ];
    about.extend(record.versions.engine.as_deref().map(|engine| fact("Engine", engine)));
    about.push(fact("The recipe's own code was", &record.recipe_code));
    if !record.granted.is_empty() {
        let granted = record.granted.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        about.push(fact("Privileges that it has", &granted));
    }
    about.push(fact("Deploys", &record.deploy_count.to_string()));
    about.extend(record.exit_code.map(|code| fact("Exit status", &code.to_string())));
    about.extend(record.commit.as_deref().map(|commit| code("Commit", commit)));
    about.retain(|fact| !fact.value.is_empty());
    about
}
