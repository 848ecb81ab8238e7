//! Who takes backups: the host's backup service, which abra asks, or cc-ci itself by what the recipe's labels say.

use cc_ci_core::engine::{App, Backup, EngineError, Session, restore_by_labels, take_by_labels};
use cc_ci_core::event::Event;

use crate::call::Call;
use crate::capabilities::{Flag, Subcommand};
use crate::deployer::{AbraDeployer, BACKUP_LIMIT};

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

/// Takes a backup.
pub(crate) async fn take(
    deployer: &AbraDeployer,
    session: &Session,
    app: &App,
) -> Result<Backup, EngineError> {
    if !by_service(deployer).await? {
        let taken = take_by_labels(deployer.engine(), session, app).await?;
        return Ok(Backup { id: format!("{BY_LABELS}{}", taken.id) });
    }
    if deployer.is_first_snapshot(&app.domain) {
        let text = format!(
            "the host's backup service keeps its snapshot of {}, and ends what it was told to do though its client is \
             killed: cc-ci can't remove the one or end the other; `backups = \"labels\"` avoids both",
            app.domain
        );
        session.reporter.report(&Event::Warning { text });
    }
    ask(deployer, session, app, Subcommand::BackupCreate).await?;
    Ok(Backup { id: BY_SERVICE.to_owned() })
}

/// Brings a backup back, the way that it was taken.
pub(crate) async fn restore(
    deployer: &AbraDeployer,
    session: &Session,
    app: &App,
    backup: &Backup,
) -> Result<(), EngineError> {
    if let Some(id) = backup.id.strip_prefix(BY_LABELS) {
        let taken = Backup { id: id.to_owned() };
        return restore_by_labels(deployer.engine(), session, app, &taken).await;
    }
    if backup.id != BY_SERVICE {
        return Err(EngineError::host(format!("{:?} is no backup that was taken with abra", backup.id)));
    }
    ask(deployer, session, app, Subcommand::Restore).await
}

/// What helps where there is no service.
const HINT: &str = "set `backups = \"labels\"` below `[abra]` in the configuration";

/// Refuses a configuration that wants a service where there is none, before anything is touched.
pub(crate) async fn require(deployer: &AbraDeployer) -> Result<(), EngineError> {
    if deployer.backups() != Backups::Service {
        return Ok(());
    }
    match no_service(deployer).await? {
        Some(why) => Err(EngineError::configuration(why).with_hint(HINT)),
        None => Ok(()),
    }
}

async fn by_service(deployer: &AbraDeployer) -> Result<bool, EngineError> {
    match deployer.backups() {
        Backups::Labels => Ok(false),
        Backups::Auto => Ok(no_service(deployer).await?.is_none()),
        // It was there when the run began.
        Backups::Service => match no_service(deployer).await? {
            Some(why) => Err(EngineError::host(why).with_hint(HINT)),
            None => Ok(true),
        },
    }
}

/// Why no service can be asked, where none can.
async fn no_service(deployer: &AbraDeployer) -> Result<Option<&'static str>, EngineError> {
    let can = |subcommand: &Subcommand| deployer.abra().can(*subcommand);
    if ![Subcommand::BackupCreate, Subcommand::Restore].iter().all(can) {
        return Ok(Some("this abra can't ask a backup service"));
    }
    let there = deployer.engine().has_backup_service().await?;
    Ok((!there).then_some("there is no backup service on this engine"))
}

async fn ask(
    deployer: &AbraDeployer,
    session: &Session,
    app: &App,
    subcommand: Subcommand,
) -> Result<(), EngineError> {
    // Without it, some versions check a release out for this too, or refuse an untracked file.
    let call = Call::new(deployer.abra(), subcommand, BACKUP_LIMIT).flag(Flag::Chaos);
    let call = call.arg(app.domain.as_str());
    call.run(session, &app.domain).await.map(drop)
}
