//! Backup and restore by what the recipe's labels say, where nobody on the host takes backups: hooks inside of the
//! services, and copies of the volumes between them.
//!
//! As the backup service of a host does it: the app goes on running, and hooks are shell lines of the recipe that run
//! in the service which has them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{App, Backup, Engine, Failure, RunContext, ServiceCommand, VolumeCopy};
use crate::recipe::{Compose, HookKind, Recipe, RecipeError, VolumeBackup};
use crate::sys::files::{new_id, private_directory};

/// What one hook may take.
const HOOK_LIMIT: Duration = Duration::from_mins(5);

/// Copies what the labels declare into the run's scratch space: a backup is the run's, not the app's. Cancel-safe: what
/// was copied goes with the run's tree.
pub async fn take_by_labels(engine: &dyn Engine, context: &RunContext, app: &App) -> Result<Backup, Failure> {
    let compose = read(context, app).await?;
    hooks(engine, context, app, &compose, HookKind::BackupPre).await?;
    let id = new_id().map_err(scratch)?;
    let to = directory(context, &id);
    let made = to.clone();
    context.lifetime.blocking_tasks().run(move || private_directory(&made)).await.map_err(scratch)?;
    let declared = compose.backup();
    for volume in engine.volumes(&app.domain).await? {
        let rule = declared.rule(&compose, &volume);
        if rule != VolumeBackup::Excluded {
            let copy = VolumeCopy { app, volume: &volume, directory: &to.join(&volume) };
            engine.save_volume(context, &copy, &rule).await?;
        }
    }
    hooks(engine, context, app, &compose, HookKind::BackupPost).await?;
    Ok(Backup { id })
}

/// Brings such a backup back.
pub async fn restore_by_labels(
    engine: &dyn Engine,
    context: &RunContext,
    app: &App,
    backup: &Backup,
) -> Result<(), Failure> {
    let compose = read(context, app).await?;
    hooks(engine, context, app, &compose, HookKind::RestorePre).await?;
    let from = directory(context, &backup.id);
    let directory = from.clone();
    for volume in context.lifetime.blocking_tasks().run(move || names(&directory)).await.map_err(scratch)? {
        let copy = VolumeCopy { app, volume: &volume, directory: &from.join(&volume) };
        engine.load_volume(context, &copy).await?;
    }
    hooks(engine, context, app, &compose, HookKind::RestorePost).await
}

/// What is in a directory, in order. Blocks.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn directory(context: &RunContext, id: &str) -> PathBuf {
    context.tmp.join("backups").join(id)
}

fn scratch(error: io::Error) -> Failure {
    Failure::host("can't use the run's scratch space").with_source(error)
}

async fn read(context: &RunContext, app: &App) -> Result<Compose, Failure> {
    let app = app.clone();
    let read = move || {
        let env = app.env()?;
        let read = || {
            let recipe = Recipe::open(app.recipe.clone(), &app.tree)?;
            recipe.compose(&recipe.vars(&env, &app.domain)?)
        };
        read().map_err(|error: RecipeError| Failure::recipe("can't read the recipe").with_source(error))
    };
    context.lifetime.blocking_tasks().run(read).await
}

/// The hooks of one kind, service by service.
async fn hooks(
    engine: &dyn Engine,
    context: &RunContext,
    app: &App,
    compose: &Compose,
    kind: HookKind,
) -> Result<(), Failure> {
    for (service, line) in compose.backup().hooks(kind) {
        let words = ["sh".to_owned(), "-c".to_owned(), line.to_owned()];
        let command = ServiceCommand { app, service, words: &words, limit: HOOK_LIMIT };
        engine.execute(context, &command).await.map_err(|error| {
            Failure::new(error.fault(), format!("the {kind} of the service {service} failed"))
                .with_source(error)
        })?;
    }
    Ok(())
}
