//! Teardown, receipt, report: what happens always, once, and under the locks that the body took.

use std::time::Duration;

use super::Failure;
use super::drive::Running;
use super::redacted::redacted;
use crate::engine::{Kind, Redactor, Residue};
use crate::janitor::{Orders, look, reap};
use crate::lifetime::ChildrenEnded;
use crate::lock::LostOwnership;
use crate::model::exit::Exit;
use crate::model::record::{RunRecord, Status, Verdict};
use crate::workspace::{RUN_RECORD, RunDir};

/// One more look, when the budget is spent, must still be possible.
const LAST_LOOK: Duration = Duration::from_secs(5);

impl Running<'_> {
    /// Removes everything of the domains whose locks this run holds, looks, and writes the receipt. A body that was
    /// `dropped` may have been waiting for the engine's answer.
    pub(super) async fn tear_down(&self, ended: &ChildrenEnded, dropped: bool) -> Exit {
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
        let orders = if dropped || ended.by_force { Orders::InFlight } else { Orders::Done };
        for guard in self.guards() {
            let limit = teardown.remaining().max(LAST_LOOK);
            let (site, own) = (&self.harness.site, Some(&self.session.run_id));
            let reaped = if at_work {
                look(site, guard, own).await
            } else {
                reap(site, guard, own, orders, limit).await
            };
            match reaped {
                Ok(reaped) => {
                    if reaped.left.is_empty() {
                        receipt.verified.push(guard.domain().clone());
                    }
                    receipt.removed.extend(reaped.removed);
                    receipt.left.extend(reaped.left);
                    receipt.failures.extend(reaped.failures);
                }
                Err(error) => {
                    exit = Exit::Harness;
                    let domain = guard.domain();
                    let text = format!(
                        "{domain} could not be verified empty: {}",
                        crate::model::error_chain(&error)
                    );
                    receipt.failures.push(text);
                }
            }
        }
        // Whoever a service had detached without its mark lost its parent just now, and became our child.
        let orphans = self.harness.lifetime.end_children().await.left;
        let orphans = orphans.iter().filter(|pid| !ended.left.contains(pid));
        receipt.left.extend(orphans.map(|pid| Residue::new(Kind::Process, format!("pid {pid}"))));
        // Without a look nobody knows what may yet appear, and the tree is what tells the next janitor to wait for it.
        let verified = self.guards().iter().all(|guard| receipt.verified.contains(guard.domain()));
        let directory = self.directory.clone();
        let removed = if at_work || !verified {
            Ok(false)
        } else {
            let work = self.harness.lifetime.jobs().run(move || directory.remove_tree());
            // It goes on past the budget, under the run's own lock: that is in the job's hands too.
            match tokio::time::timeout(teardown.remaining().max(LAST_LOOK), work).await {
                Ok(removed) => removed.map(|()| true),
                Err(_) => Ok(false),
            }
        };
        if let Err(error) = &removed {
            receipt.failures.push(crate::model::error_chain(error));
        }
        let tree = self.directory.root().display().to_string();
        if verified || at_work || !receipt.left.is_empty() {
            if !matches!(removed, Ok(true)) {
                receipt.left.push(Residue::new(Kind::RunTree, tree));
                let mounts = self.directory.mounts().into_iter();
                receipt
                    .left
                    .extend(mounts.map(|path| Residue::new(Kind::RunTree, path.display().to_string())));
            }
        } else {
            receipt.failures.push(format!("{tree} stays: it tells a janitor that something may yet appear"));
        }
        if !receipt.left.is_empty() {
            exit = Exit::Residue;
        }
        self.record().receipt = Some(receipt);
        exit
    }

    /// What is left of the app is no longer this run's to judge, or to remove: its tree stays, and tells whoever owns
    /// the domain next that something may yet appear.
    pub(super) fn hands_off(&self, exit: Exit, lost: &LostOwnership) -> Exit {
        // Signals and the deadline end nothing any more: only the result is left to be written.
        self.harness.lifetime.begin_teardown();
        let text = lost.to_string();
        let mut record = self.record();
        record.receipt.get_or_insert_default().failures.push(format!("nothing was torn down: {text}"));
        if !record.errors.iter().any(|error| error.contains(&text)) {
            record.errors.push(text);
        }
        if matches!(exit, Exit::Cancelled(_)) { exit } else { Exit::Harness }
    }

    /// Concludes the record and writes it. What can't be written is said, and never loses the verdict.
    pub(super) fn finish(&self, exit: Exit) -> Exit {
        let red = self.record().tiers.iter().any(|tier| tier.status == Status::Failed);
        let mut exit = if red { exit.or_graver(Exit::Red) } else { exit };
        {
            let mut record = self.record();
            record.warnings = self.warnings();
            record.finished = Some(self.harness.site.host.now());
            record.verdict = Some(verdict(exit));
            record.exit_code = Some(exit.code());
        }
        let written = write_record(&self.directory, &self.record(), &self.session.redactor);
        if let Err(failure) = written {
            exit = exit.or_graver(Exit::Harness);
            self.warn(&failure.message);
            let mut record = self.record();
            record.warnings = self.warnings();
            record.verdict = Some(verdict(exit));
            record.exit_code = Some(exit.code());
        }
        exit
    }
}

/// Writes `run.json`: whole or not at all, without the run's secrets.
pub(super) fn write_record(
    directory: &RunDir,
    record: &RunRecord,
    redactor: &Redactor,
) -> Result<(), Failure> {
    let written =
        serde_json::to_string_pretty(&redacted(record, redactor)).map_err(std::io::Error::from).and_then(
            |text| directory.write(RUN_RECORD.as_ref(), crate::sys::text::sanitize_json(&text).as_bytes()),
        );
    written.map_err(|error| Failure::host(format!("the result could not be written: {error}")))
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
