//! Removing whatever of a domain exists, under its lock (I4).
//!
//! Settling, a janitor's reap and a run's own teardown are the same work: end what a dead owner left running,
//! remove, look again. They differ in who calls, and in what the caller does with the lock afterwards.

use std::time::Duration;

use crate::executor::{Inventory, Residue};
use crate::lock::AppGuard;
use crate::names::{Domain, RunId};
use crate::process;
use crate::site::{LookError, Site};

/// What a reap did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaped {
    /// What was there and is gone, orphaned processes among it.
    pub removed: Vec<Residue>,
    /// What the last look still found: empty means verified empty.
    pub left: Vec<Residue>,
    /// What went wrong on the way. It explains what is left; alone it is no verdict.
    pub failures: Vec<String>,
}

impl Reaped {
    /// From two looks and what went wrong between them.
    pub(super) fn between(before: &[Residue], left: Vec<Residue>, failures: Vec<String>) -> Self {
        let removed = before.iter().filter(|residue| !left.contains(residue)).cloned().collect();
        Self { removed, left, failures }
    }
}

/// Makes the domain of `guard` empty and verifies it. Of an app that is no run app, only the processes of dead
/// owners are ended (I5). `own` is the caller's run, whose tree is its own affair.
///
/// Not to be dropped half-way by somebody who then drops the guard: the engine may still be at work.
pub async fn reap(site: &Site, guard: &AppGuard, own: Option<&RunId>, limit: Duration) -> Result<Reaped, LookError> {
    let domain = guard.domain();
    let domains = [domain.clone()];
    let before = site.inventory(Some(&domains), own).await?.of(domain);
    let mut failures = end_orphans(site, domain).await;
    if !site.pattern.is_run_app(domain) {
        return Ok(Reaped { removed: Vec::new(), left: Vec::new(), failures });
    }
    if before.is_empty() && failures.is_empty() {
        return Ok(Reaped::default());
    }
    failures.extend(clear(site, domain, own, limit).await);
    let left = site.inventory(Some(&domains), own).await?.of(domain);
    Ok(Reaped::between(&before, left, failures))
}

/// Ends the processes that dead owners left running on `domain`; gives what went wrong.
pub async fn end_orphans(site: &Site, domain: &Domain) -> Vec<String> {
    match process::end_orphans(domain, &site.host.boot_id()).await {
        Ok(orphans) if orphans.left.is_empty() => Vec::new(),
        Ok(orphans) => vec![format!("processes survived SIGKILL: {:?}", orphans.left)],
        Err(error) => vec![format!("can't look for processes: {error}")],
    }
}

/// Removes everything of a run app, without a look; gives what went wrong.
pub(super) async fn clear(site: &Site, domain: &Domain, own: Option<&RunId>, limit: Duration) -> Vec<String> {
    let mut failures = Vec::new();
    if let Err(error) = site.engine.remove(domain, limit).await {
        failures.push(error.chain());
    }
    if let Err(error) = site.env_files.remove(domain) {
        failures.push(format!("can't remove the .env file: {error}"));
    }
    let runs = site.runs.clone();
    let (domain, own, boot) = (domain.clone(), own.cloned(), site.host.boot_id());
    let trees = tokio::task::spawn_blocking(move || {
        let mut failures = Vec::new();
        for run in runs.dead_trees(&boot).unwrap_or_default() {
            if run.domains.contains(&domain)
                && own.as_ref() != Some(&run.id)
                && let Err(error) = runs.remove_dead_tree(&run.id)
            {
                failures.push(format!("can't remove the tree of run {}: {error}", run.id));
            }
        }
        failures
    });
    failures.extend(trees.await.unwrap_or_else(|error| vec![format!("removing run trees failed: {error}")]));
    failures
}

/// What `inventory` knows of each of `domains`, for callers that look once for many.
pub(super) fn looks<'a>(
    inventory: &'a Inventory,
    domains: impl IntoIterator<Item = &'a Domain> + 'a,
) -> impl Iterator<Item = (&'a Domain, Vec<Residue>)> + 'a {
    domains.into_iter().map(|domain| (domain, inventory.of(domain)))
}
