//! Copies of volumes, for backups.

use std::io;
use std::path::PathBuf;

use super::world::{World, copy_entries, host};
use crate::engine::{Failure, Session};
use crate::sys::files::private_directory;

/// Copies the volume's directory. `to` is new.
pub(super) async fn save(session: &Session, from: PathBuf, to: PathBuf) -> Result<(), Failure> {
    copy(session, from, to).await
}

/// Puts the copy in the place of what the volume holds now. The volume's own directory stays: the app has it open.
pub(super) async fn load(
    session: &Session,
    world: &World,
    from: PathBuf,
    to: PathBuf,
) -> Result<(), Failure> {
    let (world, emptied) = (world.clone(), to.clone());
    let empty = move || Ok::<_, io::Error>(world.dir()?.sub(&emptied)?.clear(&|| false)?);
    session.lifetime.jobs().run(empty).await.map_err(host)?;
    copy(session, from, to).await
}

async fn copy(session: &Session, from: PathBuf, to: PathBuf) -> Result<(), Failure> {
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
        .map_err(|error| Failure::host("can't copy a volume").with_source(error))
}
