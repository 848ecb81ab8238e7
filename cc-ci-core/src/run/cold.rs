//! The cold lane: the previous release is deployed once, upgraded in place to the commit under test, backed up,
//! restored, tested, and taken down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::checks;
use super::covered::Covered;
use super::probe_files::{self, Places, ProbeFiles};
use super::ready::Ready;
use super::recipe;
use super::state::Revision;
use super::step::StepOutcome;
use super::test_run::Tests;
use super::tier_run::{TestsEnd, TierRun};
use crate::engine::{App, Backup, Engine, ServiceState};
use crate::model::error_chain;
use crate::model::failure::Failure;
use crate::model::record::{Tier, TierName};
use crate::model::secret::Secret;
use crate::names::Domain;
use crate::workspace::DeployCountError;

const NO_BACKUP: &str = "the recipe declares no backup (label backupbot.backup)";
const NOTHING_IN_BACKUP: &str = "no volume of the app is in the backup: there is nothing to restore";
const NO_VOLUME: &str = "the app declares no volume";
const NO_DIRECTORY: &str = "the backup takes no directory that a probe file could stay in";
const NOTHING_PROVED: &str = "nothing was proved: no directory of a volume is in the backup that a probe file could stay in, and \
                              there is no pair of `change…` and `restore…` tests that ran";
const PROBES_ALONE: &str =
    "proved with cc-ci's own files alone: there is no pair of `change…` and `restore…` tests that ran";

/// The tier `name` of an upgrade from `release`, before anybody got to it.
pub(super) fn tier_from(name: TierName, release: Option<&Revision>) -> Tier {
    Tier { from: release.map(|release| release.name.clone()), ..Tier::not_run(name) }
}

/// An app that is up, as a fixture's body sees it.
#[derive(Debug, Clone)]
pub struct Deployed {
    /// Its address and name.
    pub domain: Domain,
    /// An address that reaches it from this host.
    pub address: SocketAddr,
    /// Its secrets, by short name.
    pub secrets: BTreeMap<String, Secret>,
}

/// The app under test, from tier to tier.
pub(super) struct Cold<'r> {
    tests: &'r Tests<'r>,
    app: App,
    deployed: bool,
    probes: ProbeFiles,
    /// What the backup takes.
    covered: Covered,
    /// The backup that was taken.
    backup: Option<Backup>,
    /// The variables that install steps have set.
    set_by_steps: BTreeMap<String, String>,
    /// The services right after the one deploy.
    first: Vec<ServiceState>,
    /// The services right after the last deploy, upgrade or restore.
    last: Vec<ServiceState>,
}

/// Deploys the commit under test, and nothing else: what a fixture needs.
pub(super) async fn bring_up(ready: &Ready<'_>) -> Result<Deployed, Failure> {
    ready.deploy_dependencies().await?;
    ready.enter("install");
    let tests = Tests::new(ready);
    let mut cold = Cold::new(&tests);
    cold.create(&ready.fetched.revision()).await?;
    cold.deploy().await?;
    let app = cold.app;
    checks::serving(ready.run, &app).await?;
    let endpoint = ready.run.harness.ci_host.engine.endpoint(&app.domain).await?;
    let secrets = ready.secrets(&app).await?;
    Ok(Deployed { domain: app.domain, address: endpoint.address, secrets })
}

impl<'r> Cold<'r> {
    /// The app that nobody has deployed yet.
    pub fn new(tests: &'r Tests<'r>) -> Self {
        let app = tests.ready.run.main_app();
        let probes = ProbeFiles::default();
        let set_by_steps = BTreeMap::new();
        Self {
            tests,
            app,
            deployed: false,
            probes,
            covered: Covered::default(),
            backup: None,
            set_by_steps,
            first: Vec::new(),
            last: Vec::new(),
        }
    }

    /// From the release, or the commit itself, to the custom tests.
    pub async fn all_tiers(&mut self, previous: Option<&Revision>) -> Result<(), Failure> {
        if !self.install(previous).await? || !self.upgrade(previous).await? {
            return Ok(());
        }
        if self.backup().await? {
            self.restore().await?;
        }
        self.custom().await
    }

    async fn install(&mut self, previous: Option<&Revision>) -> Result<bool, Failure> {
        let mut tier = TierRun::begin(self.tests, TierName::Install).await;
        let tested = self.tests.ready.fetched.revision();
        let revision = previous.unwrap_or(&tested);
        tier.proves(revision.name.clone());
        let end = self.install_steps(&mut tier, revision).await;
        tier.end(end).await
    }

    pub async fn install_steps(
        &mut self,
        tier: &mut TierRun<'_>,
        revision: &Revision,
    ) -> Result<StepOutcome, Failure> {
        tier.must("create", self.create(revision)).await?;
        tier.must("deploy", async {
            self.deploy().await?;
            self.first = self.services().await?;
            Ok(())
        })
        .await?;
        self.last.clone_from(&self.first);
        self.check_serving(tier).await?;
        tier.must("write-probes", async {
            let tops = probe_files::tops(self.engine(), &self.app).await?;
            self.write_probes("install", &tops).await
        })
        .await?;
        tier.scripts().await?;
        self.check_no_restart(tier).await
    }

    async fn upgrade(&mut self, previous: Option<&Revision>) -> Result<bool, Failure> {
        let name = TierName::Upgrade;
        let mut tier = TierRun::open(self.tests, tier_from(name, previous), name.as_str()).await;
        let ready = self.tests.ready;
        let tested = ready.fetched.revision();
        tier.proves(tested.name.clone());
        let end = match previous {
            Some(_) => self.upgrade_and_check(&mut tier, &tested).await,
            None if ready.run.request.fresh => {
                Ok(StepOutcome::skipped("--fresh: the commit itself was installed"))
            }
            None => {
                let why = ready.fetched.why_no_upgrade();
                Ok(StepOutcome::skipped(format!("{why}: the commit itself was installed")))
            }
        };
        tier.end(end).await
    }

    /// Upgrades, and judges what a fresh install would be: that is not proved by an upgrade.
    async fn upgrade_and_check(
        &mut self,
        tier: &mut TierRun<'_>,
        tested: &Revision,
    ) -> Result<StepOutcome, Failure> {
        let end = self.upgrade_steps(tier, tested).await?;
        let judged = recipe::check_fresh(self.tests.ready.run, &self.app, &self.set_by_steps);
        tier.check("fresh-install", judged).await?;
        Ok(end)
    }

    pub async fn upgrade_steps(
        &mut self,
        tier: &mut TierRun<'_>,
        tested: &Revision,
    ) -> Result<StepOutcome, Failure> {
        let mut unmounted = BTreeSet::new();
        tier.must("upgrade", async {
            let compose = self.tests.ready.upgrade(&self.app, tested).await?;
            self.last = self.services().await?;
            unmounted = self.probes.forget_unmounted(&compose.mounted_volumes());
            Ok(())
        })
        .await?;
        let unproved = (!unmounted.is_empty()).then(|| {
            let volumes = unmounted.into_iter().collect::<Vec<_>>().join(", ");
            format!("no service mounts {volumes} any more: what the release kept there is not seen after the upgrade")
        });
        if let Some(unproved) = &unproved {
            tier.remark(unproved);
        }
        self.check_serving(tier).await?;
        self.check_data(tier, unproved.as_deref().unwrap_or(NO_VOLUME)).await?;
        tier.scripts().await?;
        self.check_no_restart(tier).await
    }

    async fn backup(&mut self) -> Result<bool, Failure> {
        let mut tier = TierRun::begin(self.tests, TierName::Backup).await;
        let end = self.backup_steps(&mut tier).await;
        tier.end(end).await
    }

    async fn backup_steps(&mut self, tier: &mut TierRun<'_>) -> Result<StepOutcome, Failure> {
        let ready = self.tests.ready;
        let mut loaded = None;
        tier.must("read", async {
            loaded = Some(recipe::load(ready.run, &self.app).await?);
            Ok(())
        })
        .await?;
        let Some(loaded) = loaded.filter(|loaded| loaded.labels.backup.declared) else {
            return Ok(StepOutcome::skipped(NO_BACKUP));
        };
        // The tests put their facts in place before the backup is taken.
        tier.scripts().await?;
        tier.must("write-probes", async {
            self.covered = Covered::look(self.engine(), &self.app, &loaded).await?;
            let places = self.covered.places.clone();
            self.write_probes("backup", &places).await
        })
        .await?;
        let mut unknown = None;
        tier.must("backup", async {
            self.backup = Some(ready.backup(&self.app).await?);
            let engine = ready.run.harness.ci_host.engine.as_ref();
            self.covered.forget_gone(&mut self.probes, engine, &self.app).await?;
            unknown = self.covered.check(self.engine(), &self.app).await?;
            Ok(())
        })
        .await?;
        if let Some(unknown) = unknown {
            tier.remark(&unknown);
        }
        self.check_no_restart(tier).await
    }

    async fn restore(&mut self) -> Result<(), Failure> {
        let mut tier = TierRun::begin(self.tests, TierName::Restore).await;
        let end = self.restore_steps(&mut tier).await;
        tier.end(end).await.map(drop)
    }

    async fn restore_steps(&mut self, tier: &mut TierRun<'_>) -> Result<StepOutcome, Failure> {
        let ready = self.tests.ready;
        let Some(backup) = self.backup.clone() else { return Ok(StepOutcome::skipped(NO_BACKUP)) };
        if self.covered.is_empty {
            return Ok(StepOutcome::skipped(NOTHING_IN_BACKUP));
        }
        tier.must("change", async {
            let text = format!("{} changed after the backup", ready.run.context.run_id);
            ProbeFiles::write(self.engine(), &self.app, &text, &self.probes.places()).await?;
            Ok(())
        })
        .await?;
        // What they change a restore test finds as it was.
        let changed = tier.changes().await?;
        tier.must("restore", async {
            ready.restore(&self.app, &backup).await?;
            self.last = self.services().await?;
            Ok(())
        })
        .await?;
        self.check_data(tier, NO_DIRECTORY).await?;
        self.check_serving(tier).await?;
        let has_pair = (changed, tier.scripts().await?) == (TestsEnd::Ran, TestsEnd::Ran);
        self.check_no_restart(tier).await?;
        if !has_pair && self.probes.is_empty() {
            return Ok(StepOutcome::skipped(NOTHING_PROVED));
        }
        if !has_pair {
            tier.remark(PROBES_ALONE);
        }
        Ok(StepOutcome::Passed)
    }

    async fn custom(&mut self) -> Result<(), Failure> {
        let mut tier = TierRun::begin(self.tests, TierName::Custom).await;
        let end = self.custom_steps(&mut tier).await;
        tier.end(end).await.map(drop)
    }

    async fn custom_steps(&mut self, tier: &mut TierRun<'_>) -> Result<StepOutcome, Failure> {
        let end = tier.scripts().await?;
        self.check_no_restart(tier).await?;
        Ok(end.into())
    }

    /// Creates the app at `revision`, with its install steps, and pulls its images.
    async fn create(&mut self, revision: &Revision) -> Result<(), Failure> {
        let ready = self.tests.ready;
        ready.prepare(&self.app, revision).await?;
        if !self.tests.scripts().install_steps.is_empty() {
            let created = recipe::variables(ready.run, &self.app).await?;
            self.tests.install_steps(&revision.name).await?;
            self.set_by_steps = recipe::variables(ready.run, &self.app).await?;
            self.set_by_steps.retain(|name, value| created.get(name) != Some(value));
        }
        // They may have asked for more.
        ready.generate_secrets(&self.app).await?;
        ready.pull(&self.app).await
    }

    /// The one deploy of an app (I10).
    async fn deploy(&mut self) -> Result<(), Failure> {
        let ready = self.tests.ready;
        let directory = ready.run.directory.clone();
        let count = move || directory.deploy_count().increment();
        let count =
            ready.run.context.lifetime.blocking_tasks().run(count).await.map_err(|error| match error {
                DeployCountError::Write { .. } => Failure::host(error_chain(&error)),
                // A script can write there; nobody else does.
                error => Failure::recipe(error_chain(&error)),
            })?;
        let known = {
            let mut record = ready.run.record();
            record.deploy_count = record.deploy_count.saturating_add(1);
            record.deploy_count
        };
        if std::mem::replace(&mut self.deployed, true) {
            return Err(Failure::host(format!(
                "an app is deployed once, and this would be deploy {known} of the run"
            )));
        }
        if count != u64::from(known) {
            return Err(Failure::recipe(format!("something else changed the deploy count: {count}")));
        }
        ready.deploy(&self.app).await
    }

    fn engine(&self) -> &dyn Engine {
        self.tests.ready.run.harness.ci_host.engine.as_ref()
    }

    async fn services(&self) -> Result<Vec<ServiceState>, Failure> {
        self.engine().services(&self.app.domain).await
    }

    async fn write_probes(&mut self, tier: &str, places: &Places) -> Result<(), Failure> {
        let text = format!("{} {tier}", self.tests.ready.run.context.run_id);
        self.probes = ProbeFiles::write(self.engine(), &self.app, &text, places).await?;
        Ok(())
    }

    async fn check_serving(&self, tier: &mut TierRun<'_>) -> Result<(), Failure> {
        tier.check("serving", checks::serving(self.tests.ready.run, &self.app)).await?;
        tier.check("healthy", async { checks::healthy(&self.services().await?) }).await
    }

    async fn check_data(&self, tier: &mut TierRun<'_>, nothing: &str) -> Result<(), Failure> {
        tier.check("data", self.probes.verify(self.engine(), &self.app, nothing)).await
    }

    /// Nothing restarted since the last order, and nothing was made anew since the first.
    async fn check_no_restart(&self, tier: &mut TierRun<'_>) -> Result<StepOutcome, Failure> {
        tier.check("no-restart", async { checks::no_restart(&self.last, &self.services().await?) }).await?;
        tier.check("in-place", async { checks::in_place(&self.first, &self.services().await?) }).await?;
        Ok(StepOutcome::Passed)
    }
}
