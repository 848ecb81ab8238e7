//! Who takes backups: the host's backup service, which abra asks, or cc-ci itself by what the recipe's labels say.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cc_ci_core::engine::{App, Backup, Engine, Failure, RunContext, restore_by_labels, take_by_labels};
use cc_ci_core::event::Event;
use cc_ci_core::names::Domain;

use crate::call::Call;
use crate::capabilities::{Flag, Subcommand};
use crate::installed::Abra;

/// Who takes backups of apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backups {
    /// The host's backup service where there is one that abra can ask, else cc-ci itself.
    #[default]
    Auto,
    /// The host's backup service. Without one, a backup fails.
    Service,
    /// cc-ci itself, by the recipe's labels.
    Labels,
}

/// Before the id of a backup that cc-ci took; what follows is its name there.
const BY_LABELS: &str = "labels:";

/// The id of a backup that the service took: the newest snapshot of the domain.
const BY_SERVICE: &str = "service";

/// A backup copies data, and hooks of the recipe run in it.
const BACKUP_LIMIT: Duration = Duration::from_mins(20);

/// What helps where there is no service.
const HINT: &str = "set `backups = \"labels\"` below `[abra]` in the configuration";

/// Takes backups and brings them back.
#[derive(Debug)]
pub(crate) struct BackupTaker {
    abra: Abra,
    engine: Arc<dyn Engine>,
    backups: Backups,
    /// The domains of which the service has a snapshot through us.
    snapshots: Mutex<BTreeSet<Domain>>,
}

impl BackupTaker {
    /// Refuses a configuration that wants a service where there is none, before anything is touched.
    pub async fn new(abra: Abra, engine: Arc<dyn Engine>, backups: Backups) -> Result<Self, Failure> {
        let taker = Self { abra, engine, backups, snapshots: Mutex::default() };
        if backups == Backups::Service
            && let Some(why) = taker.no_service().await?
        {
            return Err(Failure::configuration(why).with_hint(HINT));
        }
        Ok(taker)
    }

    /// Takes a backup.
    pub async fn take(&self, context: &RunContext, app: &App) -> Result<Backup, Failure> {
        if !self.by_service().await? {
            let taken = take_by_labels(self.engine.as_ref(), context, app).await?;
            return Ok(Backup { id: format!("{BY_LABELS}{}", taken.id) });
        }
        let is_first =
            self.snapshots.lock().unwrap_or_else(PoisonError::into_inner).insert(app.domain.clone());
        if is_first {
            let text = format!(
                "the host's backup service keeps its snapshot of {}, and ends what it was told to do though its client is \
                 killed: cc-ci can't remove the one or end the other; `backups = \"labels\"` avoids both",
                app.domain
            );
            context.reporter.report(&Event::Warning { text });
        }
        self.ask(context, app, Subcommand::BackupCreate).await?;
        Ok(Backup { id: BY_SERVICE.to_owned() })
    }

    /// Brings a backup back, the way that it was taken.
    pub async fn restore(&self, context: &RunContext, app: &App, backup: &Backup) -> Result<(), Failure> {
        if let Some(id) = backup.id.strip_prefix(BY_LABELS) {
            let taken = Backup { id: id.to_owned() };
            return restore_by_labels(self.engine.as_ref(), context, app, &taken).await;
        }
        if backup.id != BY_SERVICE {
            return Err(Failure::host(format!("{:?} is no backup that was taken with abra", backup.id)));
        }
        self.ask(context, app, Subcommand::Restore).await
    }

    async fn by_service(&self) -> Result<bool, Failure> {
        match self.backups {
            Backups::Labels => Ok(false),
            Backups::Auto => Ok(self.no_service().await?.is_none()),
            // It was there when the run began.
            Backups::Service => match self.no_service().await? {
                Some(why) => Err(Failure::host(why).with_hint(HINT)),
                None => Ok(true),
            },
        }
    }

    /// Why no service can be asked, where none can.
    async fn no_service(&self) -> Result<Option<&'static str>, Failure> {
        let can = |subcommand: &Subcommand| self.abra.can(*subcommand);
        if ![Subcommand::BackupCreate, Subcommand::Restore].iter().all(can) {
            return Ok(Some("this abra can't ask a backup service"));
        }
        let there = self.engine.has_backup_service().await?;
        Ok((!there).then_some("there is no backup service on this engine"))
    }

    async fn ask(&self, context: &RunContext, app: &App, subcommand: Subcommand) -> Result<(), Failure> {
        // Without it, some versions check a release out for this too, or refuse an untracked file.
        let call = Call::new(&self.abra, subcommand, BACKUP_LIMIT).flag(Flag::Chaos);
        let call = call.arg(app.domain.as_str());
        call.run(context, &app.domain).await.map(drop)
    }
}
