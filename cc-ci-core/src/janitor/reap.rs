//! Removing whatever of a domain exists, under its lock (I4).
//!
//! Settling, a janitor's reap and a run's own teardown are the same work: end what a dead owner left running,
//! remove, look again. They differ in who calls, and in what the caller does with the lock afterwards.

use std::time::{Duration, Instant};

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
pub async fn reap(
    site: &Site,
    guard: &AppGuard,
    own: Option<&RunId>,
    limit: Duration,
) -> Result<Reaped, LookError> {
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
    let reaped = Reaped::between(&before, left, failures);
    again(site, guard, own, limit, before, reaped).await
}

/// Removes what was not `seen` when the removal began: other runs of the domain, that still fetched or waited for
/// its lock, were live then and have died meanwhile. Ends when a look brings nothing new, or with `limit`.
pub(super) async fn again(
    site: &Site,
    guard: &AppGuard,
    own: Option<&RunId>,
    limit: Duration,
    mut seen: Vec<Residue>,
    mut reaped: Reaped,
) -> Result<Reaped, LookError> {
    let (domain, until) = (guard.domain(), Instant::now() + limit);
    loop {
        let new: Vec<Residue> =
            reaped.left.iter().filter(|residue| !seen.contains(residue)).cloned().collect();
        let limit = until.saturating_duration_since(Instant::now());
        if new.is_empty() || limit.is_zero() {
            return Ok(reaped);
        }
        seen.extend(new);
        let mut failures = reaped.failures;
        failures.extend(end_orphans(site, domain).await);
        failures.extend(clear(site, domain, own, limit).await);
        let left = site.inventory(Some(std::slice::from_ref(domain)), own).await?.of(domain);
        reaped = Reaped::between(&seen, left, failures);
    }
}

/// What exists of the domain of `guard`, left as it is.
pub(crate) async fn look(site: &Site, guard: &AppGuard, own: Option<&RunId>) -> Result<Reaped, LookError> {
    let domain = guard.domain();
    let left = site.inventory(Some(std::slice::from_ref(domain)), own).await?.of(domain);
    Ok(Reaped { left, ..Reaped::default() })
}

/// Ends the processes that dead owners left running on `domain`; gives what went wrong.
pub async fn end_orphans(site: &Site, domain: &Domain) -> Vec<String> {
    let (domain, boot) = (domain.clone(), site.host.boot_id());
    // It only ever ends what no live owner has, so it may outlive a caller that gives up.
    let ended = tokio::task::spawn_blocking(move || process::end_marked_of_dead_owners(&domain, &boot)).await;
    match ended {
        Ok(Ok(_)) => Vec::new(),
        Ok(Err(error)) => vec![crate::error_chain(&error)],
        Err(error) => vec![format!("ending orphaned processes failed: {error}")],
    }
}

/// Removes everything of a run app, without a look; gives what went wrong.
pub(super) async fn clear(site: &Site, domain: &Domain, own: Option<&RunId>, limit: Duration) -> Vec<String> {
    let mut failures = Vec::new();
    if let Err(error) = site.engine.remove(domain, limit).await {
        failures.push(crate::error_chain(&error));
    }
    if let Err(error) = site.env_files.remove(domain) {
        failures.push(format!("can't remove the .env file: {error}"));
    }
    let trees = match site.dead_trees() {
        Ok(trees) => trees,
        Err(error) => {
            failures.push(crate::error_chain(&error));
            return failures;
        }
    };
    for tree in trees.into_iter().filter(|tree| tree.domains.contains(domain) && own != Some(&tree.id)) {
        let (runs, id) = (site.runs.clone(), tree.id.clone());
        // Under the run's own lock: a run that still waits for its domain has a directory too.
        let removed = tokio::task::spawn_blocking(move || match runs.try_lock_dead(&id) {
            Ok(Some(dead)) => dead.remove_tree(),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        });
        match removed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failures.push(crate::error_chain(&error)),
            Err(error) => failures.push(format!("removing the tree of run {} failed: {error}", tree.id)),
        }
    }
    failures
}

/// What `inventory` knows of each of `domains`, for callers that look once for many.
pub(super) fn looks<'a>(
    inventory: &'a Inventory,
    domains: impl IntoIterator<Item = &'a Domain> + 'a,
) -> impl Iterator<Item = (&'a Domain, Vec<Residue>)> + 'a {
    domains.into_iter().map(|domain| (domain, inventory.of(domain)))
}
