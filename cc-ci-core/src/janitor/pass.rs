//! The janitor's pass over a CI host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::process::{Resource as Limit, getrlimit};

use super::quarantine::{note_failure, quarantined};
use super::reap::{DomainSnapshot, PendingRequests, Reaped, by_domain, clear, end_quarantine};
use super::{Decision, Finding, Janitor, Pass, Report, finding};
use crate::engine::{Inventory, Kind, Owners, RemovedImages};
use crate::inventory::ci_host::CiHost;
use crate::inventory::run_store::RunSummary;
use crate::lifetime::RunLifetime;
use crate::lock::{AppGuard, Description, LockError, LockView};
use crate::model::error_chain;
use crate::model::event::Event;
use crate::model::failure::Failure;
use crate::names::Domain;
use crate::sys::blocking;
use crate::workspace::{Pruned, WorkspaceError};

/// So many domains that seem to have nothing but a lock file are held and looked at together, by how many files may be
/// open: one look serves them all, and they are free after it.
const EMPTY_BATCH: RangeInclusive<usize> = 64..=2048;
/// One in so many of the files that may be open is such a lock file.
const FILES_A_LOCK: u64 = 4;

/// So many orphans are held, looked at and removed together; a run that wants one of them waits for all.
const ORPHAN_BATCH: usize = 128;

/// What the removal of a batch may take, and for each of its orphans as much longer.
const REMOVAL_LIMIT: Duration = Duration::from_mins(1);
const REMOVAL_LIMIT_EACH: Duration = Duration::from_secs(1);

/// A lock held for longer is worth a word.
const LONG_HELD: Duration = Duration::from_hours(2);

/// The janitor of a [`CiHost`].
#[derive(Debug, Clone)]
pub struct HostJanitor {
    ci_host: CiHost,
    lifetime: Arc<dyn RunLifetime>,
    progress: Arc<Mutex<Progress>>,
}

/// How far a pass has come.
#[derive(Debug, Default)]
struct Progress {
    domains: Vec<Domain>,
    report: Report,
}

impl HostJanitor {
    /// A janitor whose unfinished work is a job of `lifetime`.
    pub fn new(ci_host: CiHost, lifetime: Arc<dyn RunLifetime>) -> Self {
        Self { ci_host, lifetime, progress: Arc::default() }
    }

    /// What the pass that goes on, or was broken off, has found and done; what it has not concluded is not reached.
    pub fn so_far(&self) -> Report {
        let progress = self.progress();
        let mut report = progress.report.clone();
        let open = |domain: &&Domain| report.findings.iter().all(|finding| finding.domain != **domain);
        let open: Vec<Finding> = progress
            .domains
            .iter()
            .filter(open)
            .map(|domain| finding(domain, Decision::NotReached))
            .collect();
        report.findings.extend(open);
        report.findings.sort_by(|a, b| a.domain.cmp(&b.domain));
        report
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostJanitor {
    /// Removes the oldest run directories until `keep` are left, never one that lives or holds residue; and those
    /// of runs that died before they said what they are. It ends with the budget and the cancellation of `pass`; what
    /// is due then is the next one's. Gives what went wrong.
    pub async fn prune(&self, keep: usize, pass: &Pass) -> Vec<String> {
        let ci_host = self.ci_host.clone();
        let (until, cancellation) =
            (crate::sys::after(Instant::now(), pass.budget), pass.cancellation.clone());
        let stop = move || Instant::now() >= until || cancellation.cause().is_some();
        let work = move || {
            for run in ci_host.runs.run_files()? {
                if stop() {
                    return Ok(Pruned::default());
                }
                if !run.has_record()
                    && let Some(nameless) = ci_host.runs.try_lock_dead(run.id())?
                {
                    match nameless.discard(&stop) {
                        Err(_) if stop() => return Ok(Pruned::default()),
                        discarded => discarded?,
                    }
                }
            }
            ci_host.runs.prune(keep, &stop)
        };
        match self.lifetime.blocking_tasks().run(work).await {
            Ok(pruned) => pruned
                .failed
                .iter()
                .map(|(id, error)| format!("run {id} could not be pruned: {}", error_chain(error)))
                .collect(),
            Err::<_, WorkspaceError>(error) => {
                vec![format!("old runs could not be pruned: {}", error_chain(&error))]
            }
        }
    }
}

impl HostJanitor {
    /// Removes the images that runs pulled, that nobody uses, and that no run has used for so long. It begins no further one
    /// when the budget of `pass` is over, or at its cancellation.
    pub async fn remove_images(&self, unused_for: Duration, pass: &Pass) -> RemovedImages {
        let until = crate::sys::after(Instant::now(), pass.budget);
        let stop = || Instant::now() >= until || pass.cancellation.cause().is_some();
        self.ci_host.engine.remove_images(unused_for, &stop).await
    }
}

impl fmt::Display for HostJanitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "janitor of {}", self.ci_host.engine)
    }
}

#[async_trait]
impl Janitor for HostJanitor {
    async fn pass(&self, pass: &Pass) -> Result<Report, Failure> {
        let tell = |done, of| self.ci_host.reporter.report(&Event::Sweep { done, of });
        tell(0, None);
        let Candidates { domains, orphans, mut report } = candidates(&self.ci_host, pass).await?;
        *self.progress() = Progress { domains: domains.clone(), report: report.clone() };
        if pass.dry_run {
            report.findings.extend(plan(&self.ci_host, pass, &domains).await?);
            report.findings.sort_by(|a, b| a.domain.cmp(&b.domain));
            tell(domains.len(), Some(domains.len()));
            return Ok(report);
        }
        let until = crate::sys::after(Instant::now(), pass.budget);
        let (mut done, of) = (0, Some(domains.len()));
        // A hint, like the domain itself: what a batch holds is decided by a look that begins under its locks.
        let (orphans, empty): (Vec<Domain>, Vec<Domain>) =
            domains.into_iter().partition(|domain| orphans.contains(domain));
        for batch in empty.chunks(empty_batch()).chain(orphans.chunks(ORPHAN_BATCH)) {
            tell(done, of);
            done += batch.len();
            let (ci_host, pass, batch) = (self.ci_host.clone(), pass.clone(), batch.to_vec());
            // A task of its own: it keeps the locks until what it began is done, also when nobody waits any more.
            let work = async move { sweep(&ci_host, &pass, &batch, until).await };
            let found = self.lifetime.blocking_tasks().task(work).await?;
            self.progress().report.findings.extend(found.iter().cloned());
            report.findings.extend(found);
        }
        tell(done, of);
        report.findings.sort_by(|a, b| a.domain.cmp(&b.domain));
        Ok(report)
    }
}

/// How many free locks are held together.
fn empty_batch() -> usize {
    // No limit is more than enough.
    let files = getrlimit(Limit::Nofile).current.unwrap_or(u64::MAX);
    let batch = usize::try_from(files / FILES_A_LOCK).unwrap_or(usize::MAX);
    batch.clamp(*EMPTY_BATCH.start(), *EMPTY_BATCH.end())
}

/// The run apps that leave any trace, in order.
struct Candidates {
    domains: Vec<Domain>,
    /// Those of which more than a lock file seems to be there.
    orphans: BTreeSet<Domain>,
    /// What else was met.
    report: Report,
}

/// A source that fails is a warning, not an end: but without the engine nothing can be verified.
async fn candidates(ci_host: &CiHost, pass: &Pass) -> Result<Candidates, Failure> {
    let inventory = ci_host.inventory(None, pass.own_run.as_ref()).await?;
    let orphans: BTreeSet<Domain> = inventory.domains().cloned().collect();
    let mut domains = orphans.clone();
    let in_the_way = inventory.in_the_way().map(str::to_owned).collect();
    let mut report = Report { in_the_way, ..Report::default() };
    let locks = ci_host.locks.clone();
    match blocking::run(move || locks.domains()).await {
        Ok(locked) => domains.extend(locked),
        Err(error) => report.warnings.push(format!("lock files could not be listed: {error}")),
    }
    let (looking, of_pass) = (ci_host.clone(), pass.clone());
    match blocking::run(move || quarantined(&looking, &of_pass, &inventory)).await {
        Ok((recorded, aside)) => {
            // What exists no more is concluded under its lock like any other.
            domains.extend(recorded);
            domains.retain(|domain| aside.iter().all(|finding| finding.domain != *domain));
            report.findings = aside;
        }
        Err(error) => report.warnings.push(error),
    }
    domains.retain(|domain| ci_host.pattern.is_run_app(domain));
    Ok(Candidates { domains: domains.into_iter().collect(), orphans, report })
}

/// What a pass would do, without taking a lock.
async fn plan(ci_host: &CiHost, pass: &Pass, domains: &[Domain]) -> Result<Vec<Finding>, Failure> {
    let inventory = ci_host.inventory(Some(domains), pass.own_run.as_ref()).await?;
    let all: Vec<&Domain> = domains.iter().collect();
    let lived = ci_host.live_owners(&all, pass.own_run.as_ref()).await?;
    let (ci_host, pass, domains) = (ci_host.clone(), pass.clone(), domains.to_vec());
    Ok(blocking::run(move || planned(&ci_host, &pass, &domains, &inventory, &lived)).await)
}

/// The same, by what exists and which runs live. Blocks.
fn planned(
    ci_host: &CiHost,
    pass: &Pass,
    domains: &[Domain],
    inventory: &Inventory,
    lived: &[(Domain, RunSummary)],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (domain, residue) in by_domain(inventory, domains) {
        if pass.own.contains(domain) {
            findings.push(finding(domain, Decision::Own));
            continue;
        }
        match ci_host.locks.inspect(domain) {
            Ok(Some(view)) if view.held => findings.push(live(ci_host, domain, Some(view))),
            Ok(_) if let Some((_, run)) = lived.iter().find(|(_, run)| run.domains.contains(domain)) => {
                findings.push(lockless(domain, run));
            }
            Ok(file) if residue.is_empty() => {
                findings.extend(file.map(|_| finding(domain, Decision::WouldRemoveLock)));
            }
            Ok(_) => findings.push(Finding { removed: residue, ..finding(domain, Decision::WouldReap) }),
            Err(error) => findings.push(refused(domain, &error)),
        }
    }
    findings
}

/// Takes what locks of the batch are free, looks once, and removes the lock files of what is empty at once; then reaps what
/// is there, looks once more, and removes the lock files of what is verified empty.
async fn sweep(
    ci_host: &CiHost,
    pass: &Pass,
    batch: &[Domain],
    until: Instant,
) -> Result<Vec<Finding>, Failure> {
    let (mut findings, guards) = {
        let (ci_host, pass, batch) = (ci_host.clone(), pass.clone(), batch.to_vec());
        // A probe that meets a holder without a record blocks for a while: not where a cancellation is waited for.
        blocking::run(move || probe(&ci_host, &pass, &batch, until)).await
    };
    if guards.is_empty() {
        // A look takes as long as it would for all: a pass whose time is over is not to make one for each batch.
        return Ok(findings);
    }
    let guards = without_live(ci_host, pass, guards, &mut findings).await?;
    let held: Vec<Domain> = guards.iter().map(|guard| guard.domain().clone()).collect();
    let before = ci_host.inventory(Some(&held), pass.own_run.as_ref()).await?;
    let found: Vec<DomainSnapshot> = by_domain(&before, &held)
        .filter(|(_, residue)| !residue.is_empty())
        .map(|(domain, residue)| DomainSnapshot { domain: domain.clone(), residue, failures: Vec::new() })
        .collect();
    let orphans: Vec<Domain> = found.iter().map(|found| found.domain.clone()).collect();
    let is_orphan: BTreeSet<&Domain> = orphans.iter().collect();
    let (guards, empty): (Vec<AppGuard>, Vec<AppGuard>) =
        guards.into_iter().partition(|guard| is_orphan.contains(guard.domain()));
    let empty = empty.into_iter().map(|guard| (guard, Reaped::default())).collect();
    findings.extend(conclude_all(ci_host, empty).await);
    if !guards.is_empty() {
        let each = REMOVAL_LIMIT_EACH.saturating_mul(u32::try_from(guards.len()).unwrap_or(u32::MAX));
        let until = crate::sys::after(Instant::now(), REMOVAL_LIMIT + each);
        let (owners, own) = (Owners::of(&guards), pass.own_run.as_ref());
        let reaped = clear(ci_host, &owners, found, own, PendingRequests::Unknown, until).await?;
        let mut reaped: BTreeMap<Domain, Reaped> = orphans.into_iter().zip(reaped).collect();
        let reaped = guards.into_iter().map(|guard| {
            let reaped = reaped.remove(guard.domain()).unwrap_or_default();
            (guard, reaped)
        });
        findings.extend(conclude_all(ci_host, reaped.collect()).await);
    }
    findings.sort_by(|a, b| a.domain.cmp(&b.domain));
    Ok(findings)
}

/// Removes the lock files of what is empty, notes what could not be reaped, and gives all locks up.
async fn conclude_all(ci_host: &CiHost, ended: Vec<(AppGuard, Reaped)>) -> Vec<Finding> {
    let ci_host = ci_host.clone();
    let conclude = move |(guard, reaped)| conclude(&ci_host, guard, reaped);
    blocking::run(move || ended.into_iter().map(conclude).collect()).await
}

/// The guards of what no live run owns. Whoever removed a live run's lock file has made its domain no one's to reap.
async fn without_live(
    ci_host: &CiHost,
    pass: &Pass,
    guards: Vec<AppGuard>,
    findings: &mut Vec<Finding>,
) -> Result<Vec<AppGuard>, Failure> {
    let domains: Vec<&Domain> = guards.iter().map(AppGuard::domain).collect();
    let live = ci_host.live_owners(&domains, pass.own_run.as_ref()).await?;
    let mut free = Vec::new();
    for guard in guards {
        match live.iter().find(|(_, run)| run.domains.contains(guard.domain())) {
            None => free.push(guard),
            Some((_, run)) => findings.push(lockless(guard.domain(), run)),
        }
    }
    Ok(free)
}

fn lockless(domain: &Domain, run: &RunSummary) -> Finding {
    let detail =
        format!("run {} (pid {}) works on it, though its lock file was removed", run.id, run.owner.pid);
    Finding { detail: vec![detail], ..finding(domain, Decision::Live) }
}

/// Takes what locks of the batch are free; says why not, of the others. Blocks.
fn probe(ci_host: &CiHost, pass: &Pass, batch: &[Domain], until: Instant) -> (Vec<Finding>, Vec<AppGuard>) {
    let stopped = || Instant::now() >= until || pass.cancellation.cause().is_some();
    let mut findings = Vec::new();
    let mut guards = Vec::new();
    for domain in batch {
        if pass.own.contains(domain) {
            findings.push(finding(domain, Decision::Own));
        } else if stopped() {
            findings.push(finding(domain, Decision::NotReached));
        } else {
            match ci_host.locks.try_acquire(domain) {
                Ok(Some(guard)) => {
                    guard.describe(&Description { run_id: None, recipe: None, phase: "janitor".to_owned() });
                    guards.push(guard);
                }
                Ok(None) => {
                    findings.push(live(ci_host, domain, ci_host.locks.inspect(domain).ok().flatten()));
                }
                Err(error) => findings.push(refused(domain, &error)),
            }
        }
    }
    (findings, guards)
}

/// Only what is verified empty loses its lock file.
fn conclude(ci_host: &CiHost, guard: AppGuard, reaped: Reaped) -> Finding {
    let domain = guard.domain().clone();
    let Reaped { removed, left, failures: mut detail, lost } = reaped;
    if let Some(lost) = lost {
        detail.extend([lost.to_string(), lost.hint()]);
        return Finding { removed, left, detail, ..finding(&domain, Decision::Failed) };
    }
    if !left.is_empty() {
        // What a node keeps back that can't be seen is looked for by every pass: the node is back at any time.
        if left.iter().all(|resource| resource.kind != Kind::UnseenNode) {
            detail.extend(note_failure(ci_host, &guard, &detail));
        }
        return Finding { removed, left, detail, ..finding(&domain, Decision::Failed) };
    }
    if let Err(error) = end_quarantine(ci_host, &domain) {
        detail.push(error);
    }
    if let Err(error) = guard.unlink() {
        detail.push(error.to_string());
    }
    let decision = if removed.is_empty() { Decision::StaleLock } else { Decision::Reaped };
    Finding { removed, detail, ..finding(&domain, decision) }
}

fn live(ci_host: &CiHost, domain: &Domain, view: Option<LockView>) -> Finding {
    let since = view.as_ref().and_then(|view| view.since);
    let held_for = since.and_then(|since| Duration::try_from(ci_host.host.now().duration_since(since)).ok());
    let holder = view.and_then(|view| view.holder);
    let detail = held_for
        .filter(|held_for| *held_for > LONG_HELD)
        .map(|held_for| {
            let who =
                holder.as_ref().map_or("a holder that the kernel did not confirm".to_owned(), |holder| {
                    format!("pid {}", holder.pid)
                });
            format!("held for {} min by {who}", held_for.as_secs() / 60)
        })
        .into_iter()
        .collect();
    Finding { holder, detail, ..finding(domain, Decision::Live) }
}

fn refused(domain: &Domain, error: &LockError) -> Finding {
    Finding { detail: vec![error.to_string()], ..finding(domain, Decision::Failed) }
}
