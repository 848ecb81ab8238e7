//! Copies of volumes, for backups.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::deploy::host;
use super::world::{copy_entries, names};
use crate::executor::{EngineError, Session};
use crate::files::private_directory;

/// Copies the volume's directory. `to` is new.
pub(super) async fn save(session: &Session, from: PathBuf, to: PathBuf) -> Result<(), EngineError> {
    copy(session, from, to).await
}

/// Puts the copy in the place of what the volume holds now. The volume's own directory stays: the app has it open.
pub(super) async fn load(session: &Session, from: PathBuf, to: PathBuf) -> Result<(), EngineError> {
    let emptied = to.clone();
    session.lifetime.jobs().run(move || empty(&emptied)).await.map_err(host)?;
    copy(session, from, to).await
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
