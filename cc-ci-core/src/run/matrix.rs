//! The upgrade matrix: after the main lane, each older release that was selected gets a pass of its own.
//!
//! A pass begins where a run does: the app is taken down whole and verified empty, the release is deployed, once,
//! tested and seeded, and upgraded in place to the commit under test. So the recipe's tests see what they see in the
//! main lane, a `CCCI_STATE_DIR` of this pass alone included, and one that fails says nothing of the other releases.

use std::sync::PoisonError;

use super::Failure;
use super::cold::Cold;
use super::drive::Running;
use super::scripts::Scripts;
use super::steps::Revision;
use super::tiers::{Halt, OpenTier};
use crate::janitor::Orders;
use crate::model::record::{Tier, TierName};

/// Which of a run's apps is up, and whether it was deployed.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// The release that it began with; none in the main lane.
    pub from: Option<String>,
    pub deployed: bool,
}

/// The tier of a pass that nobody got to yet.
pub(super) fn not_run(release: &Revision) -> Tier {
    Tier { from: Some(release.name.clone()), ..Tier::not_run(TierName::Upgrade) }
}

/// One pass. A red one does not keep the next from running.
pub(super) async fn pass(run: &Running<'_>, scripts: &Scripts, release: &Revision) -> Result<(), Failure> {
    let phase = format!("upgrade from {}", release.name);
    let mut tier = OpenTier::open(run, scripts, not_run(release), &phase);
    let tested = run.tested()?;
    tier.proves(tested.name.clone());
    let mut app = Cold::new(run, scripts);
    let end = steps(&mut app, &mut tier, release, &tested).await;
    tier.end(end).map(drop)
}

async fn steps(
    app: &mut Cold<'_>,
    tier: &mut OpenTier<'_>,
    release: &Revision,
    tested: &Revision,
) -> Result<(), Halt> {
    app.run.start_over(&release.name).await.map_err(Halt::Run)?;
    tier.stands_in(TierName::Install, &release.name);
    app.install_steps(tier, release).await?;
    if tier.is_red() {
        return Err(Halt::Red);
    }
    tier.stands_in(TierName::Upgrade, &tested.name);
    app.upgrade_steps(tier, tested).await
}

impl Running<'_> {
    /// Which app is up. Never held over an await.
    pub(super) fn pass(&self) -> std::sync::MutexGuard<'_, Pass> {
        self.pass.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the app under test down whole, so that the release `from` can be deployed in its place.
    async fn start_over(&self, from: &str) -> Result<(), Failure> {
        let app = self.main_app();
        let guard = self.guards().iter().find(|guard| *guard.domain() == app.domain);
        let guard = guard.ok_or_else(|| Failure::host("the app's lock is not held"))?;
        // A call of ours may have been killed by its bound.
        let emptied = self.empty(guard, Orders::InFlight, "taken down").await?;
        if let Some(receipt) = &mut self.record().receipt {
            receipt.removed.extend(emptied.removed);
        }
        let secrets = self.secrets_directory(&app);
        let directory = self.directory.clone();
        let removed = self.session.lifetime.jobs().run(move || directory.remove(&secrets)).await;
        removed
            .map_err(|error| Failure::host(format!("can't remove the secrets of the app before: {error}")))?;
        *self.pass() = Pass { from: Some(from.to_owned()), deployed: false };
        Ok(())
    }
}
