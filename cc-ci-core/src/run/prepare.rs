//! Fetch, lock, settle, janitor: up to the point where the run's domains are its own and empty.

use std::time::{Duration, Instant};

use super::Failure;
use super::conclude::write_record;
use super::drive::{Running, Trees};
use super::guarded::some_of;
use crate::engine::Residue;
use crate::janitor::{Janitor as _, Orders, Pass, Reaped, SiteJanitor, reap};
use crate::lock::{AcquireError, AppGuard, Wait};
use crate::model::event::Event;
use crate::model::exit::Exit;
use crate::model::record::Receipt;
use crate::names::{Domain, Version};
use crate::workspace::{self, FetchRequest, RecipeSource, RecipeTree, Revision};

/// What settling one domain may take.
const SETTLE_LIMIT: Duration = Duration::from_mins(2);

impl Running<'_> {
    /// Fetch, lock, settle, janitor: up to the point where the run's domains are its own and empty; a warm app is
    /// its own and as it should be.
    pub(super) async fn prepare(&self) -> Result<(), Failure> {
        let warm = self.lane().is_warm();
        self.enter("fetch");
        self.fetch().await?;
        if warm {
            self.fetch_canonical().await?;
            self.guard_ancestry().await?;
        }
        self.enter("lock");
        self.lock().await?;
        if warm {
            self.enter("bring back");
            self.bring_back(&self.session).await?;
        } else {
            self.enter("settle");
            self.settle().await?;
        }
        self.enter("janitor");
        self.sweep_others().await;
        Ok(())
    }

    async fn fetch(&self) -> Result<(), Failure> {
        let domain = self.record().domain.clone();
        let tested = self.fetch_one(&self.request.source, self.request.revision.clone(), &domain).await?;
        self.record().commit = Some(tested.tested().to_string());
        let mut dependencies = Vec::new();
        if !self.lane().is_warm() {
            for (source, domain) in self.harness.dependencies(self.request)? {
                dependencies.push((self.fetch_one(&source, None, &domain).await?, domain));
            }
        }
        let releases = tested.releases(self.harness.lifetime.as_ref()).await?;
        if !releases.lightweight.is_empty() {
            let tags: Vec<String> = releases.lightweight.iter().map(Version::to_string).collect();
            let tags = some_of(&tags);
            self.warn(&format!("R014: abra takes only annotated tags, so these are no releases: {tags}"));
        }
        let release = releases.at(tested.tested()).cloned();
        let upgrade_from = if self.request.fresh {
            Vec::new()
        } else {
            let before = tested.releases_before(self.harness.lifetime.as_ref(), tested.tested()).await?;
            self.request.upgrade_from.select(before, tested.tested())?
        };
        self.trees.get_or_init(|| Trees { tested, release, upgrade_from, dependencies });
        Ok(())
    }

    async fn fetch_one(
        &self,
        source: &RecipeSource,
        revision: Option<Revision>,
        domain: &Domain,
    ) -> Result<RecipeTree, Failure> {
        let request = FetchRequest {
            source: source.clone(),
            revision,
            skip_fetch: self.request.skip_fetch,
            limit: self.harness.settings.fetch_limit,
            marker: Some(self.session.marker(domain)),
        };
        let fetched = workspace::fetch(&self.directory, self.harness.lifetime.as_ref(), &request).await?;
        for note in fetched.notes {
            self.warn(&note);
        }
        Ok(fetched.tree)
    }

    /// Takes the locks of all domains, in their order, so that two runs never wait for each other.
    pub(super) async fn lock(&self) -> Result<(), Failure> {
        let _clock_stands_still = self.harness.lifetime.hold_deadline();
        let began = Instant::now();
        let until = crate::sys::after(began, self.harness.settings.lock_timeout);
        let domains = self.record().domains.clone();
        let mut guards = Vec::new();
        for domain in domains {
            let wait = Wait::Until(until.saturating_duration_since(Instant::now()));
            let lifetime = &self.harness.lifetime;
            let site = &self.harness.site;
            let guard = site
                .locks
                .acquire(&domain, wait, lifetime.cancellation(), self.session.reporter.as_ref())
                .await
                .map_err(|error| lock_failure(&error))?;
            guards.push(guard);
        }
        // Nothing is deployed before all are held, so a wait that ends early just gives back what it has.
        self.owners.add(self.guards.get_or_init(|| guards));
        {
            let mut record = self.record();
            record.lock_waited_seconds = began.elapsed().as_secs_f64();
            record.owned = true;
        }
        // Written before the locks are checked, and others' are read after: of two that took different files for one
        // domain, one at least sees the other.
        write_record(&self.directory, &self.record(), &self.session.redactor)?;
        self.owners.check_all()?;
        let domains: Vec<&Domain> = self.guards().iter().map(AppGuard::domain).collect();
        let live = self.site.live_owners(&domains, Some(&self.session.run_id)).await;
        let live = live.map_err(|error| Failure::host(crate::model::error_chain(&error)))?;
        match live.first() {
            None => Ok(()),
            Some((domain, run)) => {
                let text = format!(
                    "run {} (pid {}) still works on {domain}, though its lock file was removed or replaced",
                    run.id, run.owner.pid
                );
                // What this run would tear down is the other one's.
                self.owners.give_up(domain, &text);
                let hint =
                    format!("wait until it has ended, or end it: kill {}; then try again", run.owner.pid);
                Err(Failure::host(text).hint(hint))
            }
        }
    }

    /// Makes the run's own domains empty (I4), whatever a dead owner left.
    async fn settle(&self) -> Result<(), Failure> {
        let mut receipt = Receipt::default();
        for guard in self.guards() {
            let domain = guard.domain();
            let reaped = self.empty(guard, Orders::Unknown, "settled").await?;
            if !reaped.removed.is_empty() {
                let text =
                    format!("{domain}: a dead run had left {}; removed", Residue::list(&reaped.removed));
                self.session.reporter.report(&Event::Note { text });
            }
            receipt.settled.extend(reaped.removed);
        }
        self.record().receipt = Some(receipt);
        Ok(())
    }

    /// Makes a domain of the run empty, and verifies it.
    pub(super) async fn empty(
        &self,
        guard: &AppGuard,
        orders: Orders,
        done: &str,
    ) -> Result<Reaped, Failure> {
        let (site, own) = (&self.harness.site, Some(&self.session.run_id));
        let reaped = reap(site, guard, own, orders, SETTLE_LIMIT)
            .await
            .map_err(|error| Failure::host(crate::model::error_chain(&error)))?;
        if let Some(lost) = reaped.lost {
            return Err(lost.into());
        }
        if reaped.left.is_empty() {
            return Ok(reaped);
        }
        let (domain, left) = (guard.domain(), Residue::list(&reaped.left));
        let why = reaped.failures.join("; ");
        Err(Failure::host(format!("{domain} could not be {done}; left: {left}; {why}")))
    }

    /// A janitor's pass over everybody else's leftovers. Its failure is a warning.
    async fn sweep_others(&self) {
        let janitor = SiteJanitor::new(self.site.clone(), self.harness.lifetime.clone());
        let pass = Pass {
            dry_run: false,
            own: self.record().domains.clone(),
            own_run: Some(self.session.run_id.clone()),
            budget: self.harness.settings.janitor_budget,
            cancellation: self.harness.lifetime.cancellation().clone(),
        };
        let until = crate::sys::after(Instant::now(), pass.budget);
        match janitor.pass(&pass).await {
            Ok(report) => {
                for finding in report.findings.iter().filter(|finding| finding.is_worth_a_line()) {
                    self.session.reporter.report(&Event::Note { text: format!("janitor: {finding}") });
                }
                for warning in report.warnings {
                    self.warn(&format!("janitor: {warning}"));
                }
            }
            Err(error) => self.warn(&format!("janitor: {}", crate::model::error_chain(&error))),
        }
        // One budget for both.
        let pass = Pass { budget: until.saturating_duration_since(Instant::now()), ..pass };
        for warning in janitor.prune(self.harness.settings.keep_runs, &pass).await {
            self.warn(&warning);
        }
    }
}

fn lock_failure(error: &AcquireError) -> Failure {
    let (exit, hint) = match error {
        AcquireError::TimedOut { domain, .. } => (
            Exit::LockTimeout,
            Some(format!("see who holds it: cc-ci locks {domain}; or wait longer: --lock-timeout")),
        ),
        AcquireError::Cancelled { cause, .. } => (Exit::Cancelled(*cause), None),
        AcquireError::Lock(_) => (Exit::Harness, None),
    };
    Failure { exit, message: crate::model::error_chain(error), hint }
}
