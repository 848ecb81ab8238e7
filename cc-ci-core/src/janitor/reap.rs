//! Removing whatever of a domain exists, under its lock (I4).
//!
//! Recovering, a janitor's reap and a run's own teardown are the same work: end what a dead owner left running,
//! remove, look again. They differ in who calls, and in what the caller does with the lock afterwards.
//!
//! What a client had ordered when it was killed may be carried out after a look that reads empty. So where one may
//! have been killed in flight, the look that verifies comes the engine's request lag after the one before the removal
//! and after the removal itself, and what it finds is removed likewise.
//!
//! Whether that is so, a dead run's tree tells: it is made before the run can order anything, and goes when the
//! run's teardown has verified its domains empty. A reap removes it last, and only when the engine has removed all that
//! it knew of: whoever comes after a janitor that was killed or failed in the middle knows that it has to wait, too. So
//! a lock file without any residue is that of a run that concluded, and one look is enough.
//!
//! # Limitations
//! `with-lock` has no tree, and that of a run whose future was dropped is not a dead run's while its process lives:
//! what their clients had ordered when they were killed may appear after a pass, and is the next one's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::killed;
use crate::engine::{Inventory, Kind, Owners, Resource};
use crate::inventory::ci_host::CiHost;
use crate::inventory::debts::{Debts, Nodes};
use crate::inventory::run_store::RunSummary;
use crate::lock::{AppGuard, LostOwnership};
use crate::model::failure::Failure;
use crate::names::{Domain, RunId};
use crate::sys::blocking;
use crate::sys::cgroups;
use crate::sys::process::{self, EndedMarked};
use crate::sys::system_info::SystemInfo;
use crate::workspace::WorkspaceError;

/// What the caller knows of the orders that the domain's clients gave to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingRequests {
    /// All are carried out: each client, the caller's own, came to an end of its own.
    Done,
    /// A client of the caller's may have been killed in flight.
    InFlight,
    /// They were a dead owner's: if it left anything at all, it may have been killed in flight.
    Unknown,
}

/// What a reap did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaped {
    /// What was there and is gone, orphaned processes among it.
    pub removed: Vec<Resource>,
    /// What the last look still found: empty means verified empty.
    pub left: Vec<Resource>,
    /// What went wrong on the way. It explains what is left; alone it is no verdict.
    pub failures: Vec<String>,
    /// Why it was broken off, with all else as it was then: the domain is no longer the caller's.
    pub lost: Option<LostOwnership>,
}

impl Reaped {
    /// From two looks and what went wrong between them.
    pub(super) fn between(before: &[Resource], left: Vec<Resource>, failures: Vec<String>) -> Self {
        // A node that is seen again was not removed.
        let is_gone = |residue: &&Resource| residue.kind != Kind::UnseenNode && !left.contains(residue);
        let removed = before.iter().filter(is_gone).cloned().collect();
        Self { removed, left, failures, lost: None }
    }
}

/// Makes the domain of `guard` empty and verifies it. Of an app that is no run app, only the processes of dead
/// owners are ended (I5). `own` is the caller's run, whose tree is its own affair.
///
/// `limit` bounds the removal; the look that verifies it comes always.
///
/// Not to be dropped half-way by somebody who then drops the guard: the engine may still be at work.
pub async fn reap(
    ci_host: &CiHost,
    guard: &AppGuard,
    own: Option<&RunId>,
    pending: PendingRequests,
    limit: Duration,
) -> Result<Reaped, Failure> {
    let until = crate::sys::after(Instant::now(), limit);
    let domain = guard.domain();
    let asked = Some(std::slice::from_ref(domain));
    let look = match pending {
        PendingRequests::Unknown => ci_host.inventory(asked, own).await?,
        PendingRequests::Done | PendingRequests::InFlight => ci_host.inventory_after_work(asked, own).await?,
    };
    let residue = look.of(domain);
    let mut found = DomainSnapshot { domain: domain.clone(), residue, failures: Vec::new() };
    let owners = Owners::of([guard]);
    if let Err(lost) = owners.check(domain) {
        return Ok(Reaped { left: found.residue, lost: Some(lost), ..Reaped::default() });
    }
    let is_run_app = ci_host.pattern.is_run_app(domain);
    if found.residue.is_empty() || !is_run_app {
        let orphans = end_orphans(ci_host.host.as_ref(), domain).await;
        let none = orphans == Orphans::default();
        found.failures = orphans.failures;
        if !is_run_app {
            found.failures.extend(remove_groups(&found.residue).await);
            return Ok(Reaped { failures: found.failures, ..Reaped::default() });
        }
        if none && (pending != PendingRequests::InFlight || ci_host.engine.request_lag().is_zero()) {
            return Ok(Reaped::default());
        }
    }
    let mut reaped = clear(ci_host, &owners, vec![found], own, pending, until).await?;
    Ok(reaped.pop().unwrap_or_default())
}

/// One domain, and what a look found of it.
#[derive(Debug, Clone)]
pub(super) struct DomainSnapshot {
    pub domain: Domain,
    pub residue: Vec<Resource>,
    /// What went wrong so far.
    pub failures: Vec<String>,
}

/// Removes everything of run apps whose locks `owners` hold, and looks, once for all of them; gives what became
/// of each, in their order.
///
/// What a look brings that was not there before is removed too: orders of a client that was killed in flight, and
/// what other runs of the domain left, that still fetched or waited for its lock, were live at first and have died
/// meanwhile. It ends when a look brings nothing new, or with `until`.
pub(super) async fn clear(
    ci_host: &CiHost,
    owners: &Owners,
    found: Vec<DomainSnapshot>,
    own: Option<&RunId>,
    pending: PendingRequests,
    until: Instant,
) -> Result<Vec<Reaped>, Failure> {
    let ci_host = &ci_host.owned_by(owners);
    let lag = if pending == PendingRequests::Done { Duration::ZERO } else { ci_host.engine.request_lag() };
    let mut reaped = vec![Reaped::default(); found.len()];
    let all: Vec<Domain> = found.iter().map(|found| found.domain.clone()).collect();
    let mut open: Vec<(usize, DomainSnapshot)> = found.into_iter().enumerate().collect();
    while !open.is_empty() {
        let owned = open.iter().map(|(_, found)| &found.domain).filter(|domain| owners.check(domain).is_ok());
        let owned: BTreeSet<Domain> = owned.cloned().collect();
        let mut orphans = end_orphans_of(ci_host.host.as_ref(), owned.clone()).await;
        let limit = until.saturating_duration_since(Instant::now());
        let removals = join_all(open.iter_mut().map(async |(_, found)| {
            if !owned.contains(&found.domain) {
                return None;
            }
            let groups = remove_groups(&found.residue).await;
            found.failures.extend(groups);
            let error = ci_host.engine.remove(&found.domain, limit).await.err()?;
            found.failures.push(crate::model::error_chain(&error));
            Some(found.domain.clone())
        }))
        .await;
        for (_, found) in &mut open {
            let ended = orphans.remove(&found.domain).unwrap_or_default();
            found.failures.splice(0..0, ended.failures);
        }
        let failed: Vec<Domain> = removals.into_iter().flatten().collect();
        if !lag.is_zero() {
            tokio::time::sleep(lag).await;
        }
        open.retain_mut(|(place, found)| match owners.check(&found.domain) {
            Ok(()) => true,
            Err(lost) => {
                reaped[*place] = Reaped {
                    left: std::mem::take(&mut found.residue),
                    failures: std::mem::take(&mut found.failures),
                    lost: Some(lost),
                    ..Reaped::default()
                };
                false
            }
        });
        let domains: Vec<Domain> = open.iter().map(|(_, found)| found.domain.clone()).collect();
        let mut failures = clear_files(ci_host, &domains, own, &failed).await;
        for (_, found) in &mut open {
            found.failures.extend(failures.remove(&found.domain).into_iter().flatten());
        }
        let after = ci_host.inventory_after_work(Some(&domains), own).await?;
        let over = Instant::now() >= until;
        let mut again = Vec::new();
        for (place, mut found) in open {
            let left = after.of(&found.domain);
            let seen = found.residue.len();
            let is_new = |residue: &&Resource| !found.residue.contains(residue);
            let new: Vec<Resource> = left.iter().filter(is_new).cloned().collect();
            found.residue.extend(new);
            if over || found.residue.len() == seen {
                reaped[place] = Reaped::between(&found.residue, left, found.failures);
            } else {
                again.push((place, found));
            }
        }
        open = again;
    }
    let emptied: Vec<(Domain, Vec<Resource>)> = all
        .iter()
        .zip(&reaped)
        .filter(|(_, reaped)| reaped.left.is_empty() && reaped.lost.is_none())
        .map(|(domain, reaped)| (domain.clone(), reaped.removed.clone()))
        .collect();
    let (concluding, own) = (ci_host.clone(), own.cloned());
    let concluded = move || {
        let mut failures = killed::conclude(&concluding, &emptied, own.as_ref());
        for (domain, _) in &emptied {
            if let Err(error) = end_quarantine(&concluding, domain) {
                failures.entry(domain.clone()).or_default().push(error);
            }
        }
        failures
    };
    let mut failures = blocking::run(concluded).await;
    let ours = all.iter().zip(&reaped).filter(|(_, reaped)| reaped.lost.is_none());
    let ours = ours.map(|(domain, reaped)| (domain.clone(), reaped.left.clone())).collect();
    let unwritten = write_debts(ci_host, ours).await;
    for (domain, reaped) in all.iter().zip(&mut reaped) {
        reaped.failures.extend(failures.remove(domain).into_iter().flatten());
        reaped.failures.extend(unwritten.iter().filter(|(of, _)| of == domain).map(|(_, why)| why.clone()));
    }
    Ok(reaped)
}

/// Forgets that passes could not reap a domain, which is empty by now, and whose lock the caller holds. Blocks.
pub(super) fn end_quarantine(ci_host: &CiHost, domain: &Domain) -> Result<(), String> {
    let told = |error: WorkspaceError| crate::model::error_chain(&error);
    if !ci_host.runs.quarantine().map_err(told)?.has(domain) {
        return Ok(());
    }
    let quarantine = ci_host.runs.prepare().and_then(|()| ci_host.runs.quarantine()).map_err(told)?;
    quarantine.remove(domain).map_err(|error| format!("the quarantine of {domain} can't be ended: {error}"))
}

/// Writes down which nodes are still to be looked at for what is `left` of each domain, and strikes off what is verified.
/// Gives what went wrong.
async fn write_debts(ci_host: &CiHost, left: Vec<(Domain, Vec<Resource>)>) -> Vec<(Domain, String)> {
    let (debts, now) = (Debts::of(ci_host.runs.runs_dir()), ci_host.host.now());
    let write = move || {
        let known = debts.read().unwrap_or_default();
        let write = |(domain, left): (Domain, Vec<Resource>)| {
            let unseen = left.iter().filter(|resource| resource.kind == Kind::UnseenNode);
            let nodes: Nodes = unseen
                .map(|node| {
                    let since = known.get(&domain).and_then(|nodes| nodes.get(&node.name)).copied();
                    (node.name.clone(), since.unwrap_or(now))
                })
                .collect();
            let done = match (nodes.is_empty(), known.contains_key(&domain)) {
                (true, false) => Ok(()),
                (true, true) => debts.remove(&domain),
                (false, _) => debts.write(&domain, nodes),
            };
            let why = done.err().map(|error| format!("can't write down what is to be looked at: {error}"));
            why.map(|why| (domain, why))
        };
        left.into_iter().filter_map(write).collect()
    };
    blocking::run(write).await
}

/// What exists of the domain of `guard`, left as it is.
pub(crate) async fn inspect(
    ci_host: &CiHost,
    guard: &AppGuard,
    own: Option<&RunId>,
) -> Result<Reaped, Failure> {
    let domain = guard.domain();
    let left = ci_host.inventory_after_work(Some(std::slice::from_ref(domain)), own).await?.of(domain);
    Ok(Reaped { left, ..Reaped::default() })
}

/// The processes that dead owners had left running.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orphans {
    /// How many were ended.
    pub ended: usize,
    /// What went wrong.
    pub failures: Vec<String>,
}

/// Ends the processes that dead owners left running on `domain`.
pub async fn end_orphans(host: &dyn SystemInfo, domain: &Domain) -> Orphans {
    end_orphans_of(host, BTreeSet::from([domain.clone()])).await.remove(domain).unwrap_or_default()
}

/// The same of many domains, whose processes are looked for together.
async fn end_orphans_of(host: &dyn SystemInfo, domains: BTreeSet<Domain>) -> BTreeMap<Domain, Orphans> {
    let (all, boot) = (domains.clone(), host.boot_id());
    // It only ever ends what no live owner has, so it may outlive a caller that gives up.
    let end = move || process::end_marked_of_many(&domains, &boot);
    let why = match blocking::run(end).await {
        Ok(ended) => {
            return ended.into_iter().map(|(domain, ended)| (domain, Orphans::of(ended))).collect();
        }
        Err(error) => format!("can't look for what a dead owner left running: {error}"),
    };
    let failed = Orphans { ended: 0, failures: vec![why] };
    all.into_iter().map(|domain| (domain, failed.clone())).collect()
}

/// Removes the control groups among `residue`, which dead owners have left; gives what went wrong.
pub(crate) async fn remove_groups(residue: &[Resource]) -> Vec<String> {
    let groups: Vec<PathBuf> = residue
        .iter()
        .filter(|resource| resource.kind == Kind::ControlGroup)
        .map(|group| PathBuf::from(&group.name))
        .collect();
    if groups.is_empty() {
        return Vec::new();
    }
    let remove = move || {
        let failed = groups.iter().filter_map(|group| {
            let error = cgroups::remove_left(group).err()?;
            Some(format!("can't remove the control group {}: {error}", group.display()))
        });
        failed.collect()
    };
    blocking::run(remove).await
}

impl Orphans {
    fn of(EndedMarked { ended, left }: EndedMarked) -> Self {
        let still = |left: Vec<i32>| format!("what a dead owner left running is still there: pids {left:?}");
        Self { ended, failures: Some(left).filter(|left| !left.is_empty()).map(still).into_iter().collect() }
    }
}

/// Removes what run apps have on this host beside their engine: their `.env` files and the trees of their dead runs, but
/// for those of a domain whose removal `failed`: what was ordered of such an engine may yet appear. Gives what went wrong.
async fn clear_files(
    ci_host: &CiHost,
    domains: &[Domain],
    own: Option<&RunId>,
    failed: &[Domain],
) -> BTreeMap<Domain, Vec<String>> {
    let mut failures: BTreeMap<Domain, Vec<String>> = BTreeMap::new();
    let mut tell = |domain: &Domain, why: String| failures.entry(domain.clone()).or_default().push(why);
    let (env_files, owned) = (ci_host.env_files.clone(), domains.to_vec());
    let removed =
        blocking::run(move || owned.iter().map(|domain| env_files.remove(domain)).collect::<Vec<_>>()).await;
    for (domain, removed) in domains.iter().zip(removed) {
        if let Err(error) = removed {
            tell(domain, format!("can't remove the .env file: {error}"));
        }
    }
    let asked = ci_host.clone();
    let trees = match blocking::run(move || asked.dead_trees()).await {
        Ok(trees) => trees,
        Err(error) => {
            for domain in domains {
                tell(domain, crate::model::error_chain(&error));
            }
            return failures;
        }
    };
    let done = |tree: &RunSummary| !tree.domains.iter().any(|domain| failed.contains(domain));
    for tree in trees.into_iter().filter(|tree| own != Some(&tree.id) && done(tree)) {
        let ours: Vec<&Domain> = domains.iter().filter(|domain| tree.domains.contains(domain)).collect();
        if ours.is_empty() {
            continue;
        }
        let (runs, id) = (ci_host.runs.clone(), tree.id.clone());
        // Under the run's own lock: a run that still waits for its domain has a directory too.
        let removed = blocking::run(move || match runs.try_lock_dead(&id) {
            Ok(Some(dead)) => dead.remove_tree(),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        });
        let Err(error) = removed.await else { continue };
        let why = crate::model::error_chain(&error);
        for domain in ours {
            tell(domain, why.clone());
        }
    }
    failures
}

/// What `inventory` knows of each of `domains`, for callers that look once for many.
pub(super) fn by_domain<'a>(
    inventory: &'a Inventory,
    domains: impl IntoIterator<Item = &'a Domain> + 'a,
) -> impl Iterator<Item = (&'a Domain, Vec<Resource>)> + 'a {
    domains.into_iter().map(|domain| (domain, inventory.of(domain)))
}
