//! The result of a run that was killed: it could not write one, so whoever removed what it had left does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::engine::Resource;
use crate::inventory::ci_host::CiHost;
use crate::inventory::run_store::RunSummary;
use crate::model::digest::{Blame, Digest, logs_command, test_name};
use crate::model::record::{RunRecord, Status, Verdict};
use crate::names::{Domain, RunId};
use crate::sys::files::RUN_RECORD;
use crate::sys::text::sanitize_json;
use crate::workspace::{RECORD_LIMIT, RunDir};

/// Concludes the runs of domains that died without a result, once each domain is verified empty: each is `killed`, and the one
/// that owned a domain last has what was removed in its receipt. Gives what went wrong. Blocks.
///
/// A run that is alive is never touched: its lock is taken, or it is left alone.
pub(super) fn conclude(
    ci_host: &CiHost,
    emptied: &[(Domain, Vec<Resource>)],
    own: Option<&RunId>,
) -> BTreeMap<Domain, Vec<String>> {
    if emptied.is_empty() {
        return BTreeMap::new();
    }
    let dead = ci_host.run_summaries().map(|mut dead| {
        dead.retain(|run| {
            let is_open = matches!(run.verdict, None | Some(Verdict::Killed));
            !run.alive && is_open && !run.lane.is_warm() && own != Some(&run.id)
        });
        dead.sort_by_key(|run| (run.owned, run.started));
        dead
    });
    let conclude = |(domain, removed): &(Domain, Vec<Resource>)| {
        let failures = match &dead {
            Ok(dead) => conclude_all(ci_host, dead, domain, removed),
            Err(error) => vec![crate::model::error_chain(error)],
        };
        (domain.clone(), failures)
    };
    emptied.iter().map(conclude).collect()
}

/// The same of one domain, and of those of the `dead` runs, the last owner last, that had it.
fn conclude_all(ci_host: &CiHost, dead: &[RunSummary], domain: &Domain, removed: &[Resource]) -> Vec<String> {
    let mut failures = Vec::new();
    let had_it: Vec<&RunSummary> = dead.iter().filter(|run| run.domains.contains(domain)).collect();
    for (place, run) in had_it.iter().enumerate() {
        let removed = if place + 1 == had_it.len() { removed } else { &[] };
        let concluded = match ci_host.runs.try_lock_dead(&run.id) {
            Ok(Some(directory)) => conclude_one(run, &directory, domain, removed),
            Ok(None) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = concluded {
            failures.push(format!("the result of run {} can't be written: {error}", run.id));
        }
    }
    failures
}

fn conclude_one(
    run: &RunSummary,
    directory: &RunDir,
    domain: &Domain,
    removed: &[Resource],
) -> io::Result<()> {
    // A recipe's test may have put anything there: what is no record stays as it is.
    let Some(mut record) = run.files.record() else { return Ok(()) };
    let is_known = |receipt: &crate::model::record::Receipt| receipt.verified.contains(domain);
    if record.verdict == Some(Verdict::Killed) && record.receipt.as_ref().is_some_and(is_known) {
        return Ok(());
    }
    if record.verdict.is_none() {
        record.digest = Some(digest(&record));
    }
    record.verdict = Some(Verdict::Killed);
    let receipt = record.receipt.get_or_insert_default();
    // What it had removed itself is there already, in a run of many releases.
    let known: BTreeSet<Resource> = receipt.removed.iter().cloned().collect();
    receipt.removed.extend(removed.iter().filter(|resource| !known.contains(resource)).cloned());
    receipt.verified.push(domain.clone());
    let text = sanitize_json(&serde_json::to_string_pretty(&record)?);
    // Nobody would read it again: it stays as it is, that of a dead run.
    if text.len() as u64 > RECORD_LIMIT {
        return Ok(());
    }
    // Before the result, after which nobody makes them again: without them it is as good.
    if let Err(error) = directory.write_reports(&record) {
        tracing::warn!(run = %run.id, %error, "can't write the reports of a run that was killed");
    }
    directory.write(RUN_RECORD.as_ref(), text.as_bytes())
}

/// What is known of a death: what went on, by the run's own word.
fn digest(record: &RunRecord) -> Digest {
    let what = match &record.doing {
        Some(doing) => format!("killed in the middle of {doing}, which had begun at {:.0}", doing.since),
        None => "killed before it had begun to do anything".to_owned(),
    };
    let evidence =
        "a SIGKILL, the kernel for want of memory, or the host's end: the log of the kernel may tell";
    let mut digest = Digest::new(what, Blame::Unknown, evidence);
    if let Some(doing) = &record.doing {
        let tier = record.tiers.iter().find(|tier| doing.phase.starts_with(tier.name.as_str()));
        digest.tier = tier.map(|tier| tier.name);
        digest.step.clone_from(&doing.step);
    }
    // Its app was kept up for a look: it had ended as red as that.
    let failed = record.tiers.iter().find(|tier| tier.status == Status::Failed);
    if let Some(failed) = failed.filter(|_| record.kept.is_some()) {
        let reason = failed.reason.as_deref().and_then(|reason| reason.lines().next()).unwrap_or_default();
        digest.what = format!("{} failed: {reason}; killed while its app was kept up", failed.label());
        digest.tier = Some(failed.name);
        digest.step =
            failed.steps.iter().find(|step| step.status == Status::Failed).map(|step| step.name.clone());
    }
    let test = digest.step.as_deref().and_then(test_name);
    digest.next.push(logs_command(&record.run_id, test));
    digest
}
