//! What could not be reaped in some passes is left alone for a while, and told.

use super::{Decision, Finding, Pass, finding};
use crate::engine::Inventory;
use crate::inventory::ci_host::CiHost;
use crate::lock::AppGuard;
use crate::model::error_chain;
use crate::model::quarantine::Quarantine;
use crate::names::Domain;
use crate::workspace::QuarantineDir;

/// The domains that have a record, and those of them that this pass leaves alone. Blocks.
pub(super) fn quarantined(
    ci_host: &CiHost,
    pass: &Pass,
    inventory: &Inventory,
) -> Result<(Vec<Domain>, Vec<Finding>), String> {
    let quarantine = ci_host.runs.quarantine().map_err(|error| error_chain(&error))?;
    let recorded =
        quarantine.domains().map_err(|error| format!("the quarantine could not be read: {error}"))?;
    let aside = in_quarantine(ci_host, pass, inventory, &quarantine, &recorded);
    Ok((recorded, aside))
}

/// What of the domains that have a record is left alone by this pass: what exists, has no owner, and failed not long ago.
fn in_quarantine(
    ci_host: &CiHost,
    pass: &Pass,
    inventory: &Inventory,
    quarantine: &QuarantineDir,
    recorded: &[Domain],
) -> Vec<Finding> {
    let (now, boot) = (ci_host.host.now(), ci_host.host.boot_id());
    let is_tried = |domain: &Domain| {
        pass.own.contains(domain) || pass.retry.contains(domain) || !ci_host.pattern.is_run_app(domain)
    };
    let aside = recorded.iter().filter(|domain| !is_tried(domain)).filter_map(|domain| {
        let left = inventory.of(domain);
        let record = quarantine.of(domain).filter(|record| record.is_paused(now, &boot))?;
        // Whose lock is held is live: a run recovers its domain at any time. One that can't be looked at says so.
        let is_free = ci_host.locks.inspect(domain).is_ok_and(|view| view.is_none_or(|view| !view.held));
        (is_free && !left.is_empty()).then(|| Finding {
            left,
            detail: vec![record.in_words()],
            ..finding(domain, Decision::Quarantined)
        })
    });
    aside.collect()
}

/// Notes that the domain of `guard` could not be reaped: after some passes it is put aside. Gives what is worth knowing of that.
pub(super) fn note_failure(ci_host: &CiHost, guard: &AppGuard, reasons: &[String]) -> Option<String> {
    let (domain, now, boot) = (guard.domain(), ci_host.host.now(), ci_host.host.boot_id());
    // Only what is ours is written to.
    let quarantine = ci_host.runs.prepare().and_then(|()| ci_host.runs.quarantine());
    let noted = quarantine.map_err(|error| error_chain(&error));
    let noted = noted.and_then(|quarantine| {
        let record = Quarantine::after(quarantine.of(domain), domain, reasons, now, &boot);
        quarantine.put(&record).map(|()| record).map_err(|error| error.to_string())
    });
    match noted {
        Ok(record) => record.next().map(|next| format!("in quarantine until {next:.0}")),
        Err(error) => Some(format!("that it failed can't be noted: {error}")),
    }
}
