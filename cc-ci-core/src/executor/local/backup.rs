//! Backup and restore: the volumes' content, copied between the hooks that the recipe's labels name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::LocalExecutor;
use super::deploy::host;
use super::plan;
use super::world::{copy_entries, names};
use crate::executor::{App, Backup, EngineError, Session};
use crate::files::{new_id, private_directory};
use crate::recipe::HookKind;

/// What one hook may take.
const HOOK_LIMIT: Duration = Duration::from_mins(5);

/// Copies the declared volumes into the run's scratch space: a backup is the run's, not the app's.
pub(super) async fn take(
    executor: &LocalExecutor,
    session: &Session,
    app: &App,
) -> Result<Backup, EngineError> {
    hooks(executor, session, app, HookKind::BackupPre).await?;
    let id = new_id().map_err(host)?;
    let to = backup_directory(session, &id);
    for volume in declared(executor, app)? {
        let (from, to) = (executor.world.of(&app.domain, "volumes").join(&volume), to.join(&volume));
        copy(session, from, to).await?;
    }
    hooks(executor, session, app, HookKind::BackupPost).await?;
    Ok(Backup { id })
}

/// Puts the copies in the place of what the volumes hold now. The volumes' own directories stay: the app has them
/// open.
pub(super) async fn restore(
    executor: &LocalExecutor,
    session: &Session,
    app: &App,
    backup: &Backup,
) -> Result<(), EngineError> {
    hooks(executor, session, app, HookKind::RestorePre).await?;
    let from = backup_directory(session, &backup.id);
    for volume in names(&from).map_err(host)? {
        let to = executor.world.of(&app.domain, "volumes").join(&volume);
        let emptied = to.clone();
        session.lifetime.jobs().run(move || empty(&emptied)).await.map_err(host)?;
        copy(session, from.join(&volume), to).await?;
    }
    hooks(executor, session, app, HookKind::RestorePost).await
}

fn backup_directory(session: &Session, id: &str) -> PathBuf {
    session.tmp.join("backups").join(id)
}

/// The volumes that the recipe's labels don't leave out.
fn declared(executor: &LocalExecutor, app: &App) -> Result<Vec<String>, EngineError> {
    let (compose, _) = plan::read(app)?;
    let left_out = compose.backup().left_out(&compose);
    let volumes = names(&executor.world.of(&app.domain, "volumes")).map_err(host)?;
    Ok(volumes.into_iter().filter(|volume| !left_out.contains(volume)).collect())
}

async fn copy(session: &Session, from: PathBuf, to: PathBuf) -> Result<(), EngineError> {
    let cancellation = session.lifetime.cancellation().clone();
    let work = move || {
        private_directory(&to)?;
        copy_entries(&from, &to, "", &cancellation)
    };
    session
        .lifetime
        .jobs()
        .run(work)
        .await
        .map_err(|error| EngineError::host("can't copy a volume").because(error))
}

fn empty(directory: &Path) -> io::Result<()> {
    for name in names(directory)? {
        let path = directory.join(name);
        if path.symlink_metadata()?.is_dir() {
            crate::workspace::remove_tree(&path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The hooks of one kind, service by service. They are the recipe's own shell lines, run in the service's
/// environment, as the real backup service runs them in its container.
async fn hooks(
    executor: &LocalExecutor,
    session: &Session,
    app: &App,
    kind: HookKind,
) -> Result<(), EngineError> {
    let (compose, _) = plan::read(app)?;
    for (service, line) in compose.backup().hooks(kind) {
        let command = ["sh".to_owned(), "-c".to_owned(), line.to_owned()];
        super::execute(executor, session, app, service, &command, HOOK_LIMIT).await.map_err(|error| {
            EngineError::recipe(format!("the {kind} of the service {service} failed")).because(error)
        })?;
    }
    Ok(())
}
