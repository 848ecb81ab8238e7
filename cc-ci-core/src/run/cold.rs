//! The cold lane: the previous release is deployed once, upgraded in place to the commit under test, backed up,
//! restored, tested, and taken down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::Failure;
use super::checks;
use super::drive::Running;
use super::matrix;
use super::scripts::Scripts;
use super::seeds::Seeds;
use super::steps::Revision;
use super::tiers::{Halt, OpenTier, StepError};
use crate::engine::{App, Backup, Engine, EngineError, ServiceState};
use crate::model::record::{Tier, TierName};
use crate::names::Domain;

/// An app that is up, as a fixture's body sees it.
#[derive(Debug, Clone)]
pub struct Deployed {
    /// Its address and name.
    pub domain: Domain,
    /// An address that reaches it from this host.
    pub address: SocketAddr,
    /// Its secrets, by short name.
    pub secrets: BTreeMap<String, String>,
}

/// The state of the app under test, from tier to tier.
pub(super) struct Cold<'r> {
    pub(super) run: &'r Running<'r>,
    app: App,
    scripts: &'r Scripts,
    seeds: Seeds,
    /// The backup that was taken.
    backup: Option<Backup>,
    /// The services right after the one deploy.
    first: Vec<ServiceState>,
    /// The services right after the last deploy, upgrade or restore.
    last: Vec<ServiceState>,
}

/// The lane.
pub(super) async fn lane(run: &Running<'_>) -> Result<(), Failure> {
    let scripts = run.snapshot_scripts().await?;
    run.deploy_dependencies().await?;
    let releases: Vec<Revision> = run.upgrade_from().iter().map(Revision::release).collect();
    let (previous, older) =
        releases.split_first().map_or((None, &[][..]), |(first, rest)| (Some(first), rest));
    for name in TierName::ALL {
        let from = previous.filter(|_| name == TierName::Upgrade).map(|release| release.name.clone());
        run.record().put_tier(Tier { from, ..Tier::not_run(name) });
    }
    for release in older {
        run.record().put_tier(matrix::not_run(release));
    }
    Box::pin(main(run, &scripts, previous)).await?;
    for release in older {
        Box::pin(matrix::pass(run, &scripts, release)).await?;
    }
    Ok(())
}

/// From the newest release to the custom tests, with one app.
async fn main(run: &Running<'_>, scripts: &Scripts, previous: Option<&Revision>) -> Result<(), Failure> {
    let mut cold = Cold::new(run, scripts);
    if !cold.install(previous).await? {
        return Ok(());
    }
    if !cold.upgrade(previous).await? {
        return Ok(());
    }
    if cold.backup().await? {
        cold.restore().await?;
    }
    cold.custom().await
}

/// Deploys the commit under test, and nothing else: what a fixture needs.
pub(super) async fn bring_up(run: &Running<'_>) -> Result<Deployed, Failure> {
    let app = run.main_app();
    let scripts = run.snapshot_scripts().await?;
    run.deploy_dependencies().await?;
    run.enter("install");
    let commit = run.tested()?;
    let engine = run.harness.site.engine.as_ref();
    let up = async {
        run.create(&app, &commit, &scripts).await?;
        run.deploy_once(&app).await?;
        checks::serving(&run.harness, &app).await
    };
    up.await.map_err(|error| match error {
        StepError::Failed(reason) | StepError::Skipped(reason) => Failure::recipe(reason),
        StepError::Broken(failure) => failure,
    })?;
    let endpoint = engine.endpoint(&app.domain).await?;
    let secrets =
        run.secrets(&app).map_err(|error| Failure::host(format!("can't read the secrets: {error}")))?;
    Ok(Deployed { domain: app.domain, address: endpoint.address, secrets })
}

impl<'r> Cold<'r> {
    pub(super) fn new(run: &'r Running<'r>, scripts: &'r Scripts) -> Self {
        let (app, seeds) = (run.main_app(), Seeds::default());
        Self { run, app, scripts, seeds, backup: None, first: Vec::new(), last: Vec::new() }
    }
}

impl Cold<'_> {
    fn engine(&self) -> &dyn Engine {
        self.run.harness.site.engine.as_ref()
    }

    async fn services(&self) -> Result<Vec<ServiceState>, EngineError> {
        self.engine().services(&self.app.domain).await
    }

    async fn install(&mut self, previous: Option<&Revision>) -> Result<bool, Failure> {
        let mut tier = OpenTier::begin(self.run, self.scripts, TierName::Install);
        let tested = self.run.tested()?;
        let revision = previous.unwrap_or(&tested);
        tier.proves(revision.name.clone());
        let end = self.install_steps(&mut tier, revision).await;
        tier.end(end)
    }

    pub(super) async fn install_steps(
        &mut self,
        tier: &mut OpenTier<'_>,
        revision: &Revision,
    ) -> Result<(), Halt> {
        let (run, app) = (self.run, self.app.clone());
        tier.must("create", run.create(&app, revision, self.scripts)).await?;
        tier.must("deploy", async {
            run.deploy_once(&app).await?;
            self.first = self.services().await?;
            Ok(())
        })
        .await?;
        self.last.clone_from(&self.first);
        self.check_serving(tier).await?;
        tier.must("seed", async {
            self.seeds = Seeds::write(
                run.harness.site.engine.as_ref(),
                &app,
                &format!("{} install", run.session.run_id),
            )
            .await?;
            Ok(())
        })
        .await?;
        tier.scripts().await?;
        self.check_no_restart(tier).await
    }

    async fn upgrade(&mut self, previous: Option<&Revision>) -> Result<bool, Failure> {
        let name = TierName::Upgrade;
        let tier = Tier { from: previous.map(|release| release.name.clone()), ..Tier::not_run(name) };
        let mut tier = OpenTier::open(self.run, self.scripts, tier, name.as_str());
        let tested = self.run.tested()?;
        tier.proves(tested.name.clone());
        let end = match previous {
            Some(_) => self.upgrade_steps(&mut tier, &tested).await,
            None if self.run.request.fresh => {
                Err(Halt::Skipped("--fresh: the commit itself was installed".to_owned()))
            }
            None => Err(Halt::Skipped("no previous release: the commit itself was installed".to_owned())),
        };
        tier.end(end)
    }

    pub(super) async fn upgrade_steps(
        &mut self,
        tier: &mut OpenTier<'_>,
        tested: &Revision,
    ) -> Result<(), Halt> {
        let (run, app) = (self.run, self.app.clone());
        tier.must("upgrade", async {
            run.upgrade_in_place(&app, tested).await?;
            self.last = self.services().await?;
            Ok(())
        })
        .await?;
        self.check_serving(tier).await?;
        self.check_data(tier, &BTreeSet::new()).await?;
        tier.scripts().await?;
        self.check_no_restart(tier).await
    }

    async fn backup(&mut self) -> Result<bool, Failure> {
        let mut tier = OpenTier::begin(self.run, self.scripts, TierName::Backup);
        let end = self.backup_steps(&mut tier).await;
        tier.end(end)
    }

    async fn backup_steps(&mut self, tier: &mut OpenTier<'_>) -> Result<(), Halt> {
        let (run, app) = (self.run, self.app.clone());
        let mut declared = false;
        tier.must("read", async {
            declared = run.said(&app).await?.labels.backup.declared;
            Ok(())
        })
        .await?;
        if !declared {
            return Err(Halt::Skipped(NO_BACKUP.to_owned()));
        }
        // The tests put their facts in place before the backup is taken.
        tier.scripts().await?;
        tier.must("seed", async {
            self.seeds = Seeds::write(
                run.harness.site.engine.as_ref(),
                &app,
                &format!("{} backup", run.session.run_id),
            )
            .await?;
            Ok(())
        })
        .await?;
        tier.must("backup", async {
            self.backup = Some(run.backup(&app).await?);
            Ok(())
        })
        .await?;
        self.check_no_restart(tier).await
    }

    async fn restore(&mut self) -> Result<(), Failure> {
        let mut tier = OpenTier::begin(self.run, self.scripts, TierName::Restore);
        let end = self.restore_steps(&mut tier).await;
        tier.end(end).map(drop)
    }

    async fn restore_steps(&mut self, tier: &mut OpenTier<'_>) -> Result<(), Halt> {
        let (run, app) = (self.run, self.app.clone());
        let Some(backup) = self.backup.clone() else { return Err(Halt::Skipped(NO_BACKUP.to_owned())) };
        let mut left_out = BTreeSet::new();
        tier.must("read", async {
            let said = run.said(&app).await?;
            left_out = said.labels.backup.left_out(&said.compose);
            Ok(())
        })
        .await?;
        tier.must("change", async {
            Seeds::write(self.engine(), &app, &format!("{} changed after the backup", run.session.run_id))
                .await?;
            Ok(())
        })
        .await?;
        tier.must("restore", async {
            run.restore(&app, &backup).await?;
            self.last = self.services().await?;
            Ok(())
        })
        .await?;
        self.check_data(tier, &left_out).await?;
        self.check_serving(tier).await?;
        tier.scripts().await?;
        self.check_no_restart(tier).await
    }

    async fn custom(&mut self) -> Result<(), Failure> {
        let mut tier = OpenTier::begin(self.run, self.scripts, TierName::Custom);
        let end = self.custom_steps(&mut tier).await;
        tier.end(end).map(drop)
    }

    async fn custom_steps(&mut self, tier: &mut OpenTier<'_>) -> Result<(), Halt> {
        let none = !tier.has_scripts();
        tier.scripts().await?;
        self.check_no_restart(tier).await?;
        if none {
            Err(Halt::Skipped("neither the operator nor the recipe has custom tests".to_owned()))
        } else {
            Ok(())
        }
    }

    async fn check_serving(&self, tier: &mut OpenTier<'_>) -> Result<(), Halt> {
        tier.check("serving", checks::serving(&self.run.harness, &self.app)).await?;
        tier.check("healthy", async { checks::healthy(&self.services().await?) }).await
    }

    async fn check_data(&self, tier: &mut OpenTier<'_>, left_out: &BTreeSet<String>) -> Result<(), Halt> {
        tier.check("data", self.seeds.verify(self.engine(), &self.app, left_out)).await
    }

    /// Nothing restarted since the last order, and nothing was made anew since the first.
    async fn check_no_restart(&self, tier: &mut OpenTier<'_>) -> Result<(), Halt> {
        tier.check("no-restart", async { checks::no_restart(&self.last, &self.services().await?) }).await?;
        tier.check("in-place", async { checks::in_place(&self.first, &self.services().await?) }).await
    }
}

const NO_BACKUP: &str = "the recipe declares no backup (label backupbot.backup)";
