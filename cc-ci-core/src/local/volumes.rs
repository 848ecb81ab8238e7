//! Copies of volumes, for backups.

use std::io;
use std::path::PathBuf;

use super::state_dir::{StateDir, host};
use crate::engine::{Failure, RunContext};
use crate::lifetime::User;
use crate::sys::files::private_directory;
use crate::workspace::copy_entries;

/// Copies the volume's directory. `to` is new.
pub(super) async fn save(context: &RunContext, from: PathBuf, to: PathBuf) -> Result<(), Failure> {
    copy(context, from, to).await
}

/// Puts the copy in the place of what the volume holds now. The volume's own directory stays: the app has it open.
pub(super) async fn load(
    context: &RunContext,
    state_dir: &StateDir,
    from: PathBuf,
    to: PathBuf,
    user: User,
) -> Result<(), Failure> {
    let (state_dir, emptied) = (state_dir.clone(), to.clone());
    let empty = move || Ok::<_, io::Error>(state_dir.dir()?.sub(&emptied)?.clear(&|| false)?);
    context.lifetime.blocking_tasks().run(empty).await.map_err(host)?;
    copy(context, from, to.clone()).await?;
    if context.recipe_code.confined().is_none() {
        return Ok(());
    }
    // The confined service goes on with what is its own.
    context.lifetime.blocking_tasks().run(move || user.own(&to)).await.map_err(host)
}

async fn copy(context: &RunContext, from: PathBuf, to: PathBuf) -> Result<(), Failure> {
    let cancellation = context.lifetime.cancellation().clone();
    let work = move || {
        private_directory(&to)?;
        copy_entries(&from, &to, "", &cancellation)
    };
    context
        .lifetime
        .blocking_tasks()
        .run(work)
        .await
        .map_err(|error| Failure::host("can't copy a volume").with_source(error))
}
