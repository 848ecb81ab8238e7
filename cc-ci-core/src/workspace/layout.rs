//! Whether a run's abra trees are what was made: a plain file or directory in place of a symlink would be taken for the real
//! thing by abra, and half used.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Catalogue, WorkspaceError};

/// What the trees of a run are to be.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(super) abra: PathBuf,
    /// The tree of a warm app's baseline, where there is one.
    pub(super) warm: Option<PathBuf>,
    pub(super) canonical: Option<PathBuf>,
    pub(super) catalogue: Catalogue,
    /// Whether the run has a `servers/` of its own.
    pub(super) own_servers: bool,
}

impl Layout {
    /// Looks whether they are so. Blocks.
    pub fn check(&self) -> Result<(), WorkspaceError> {
        if let Some(warm) = &self.warm {
            expect_own_directory(&warm.join("servers"))?;
            self.check_catalogue(warm)?;
        }
        let Some(canonical) = &self.canonical else { return Ok(()) };
        let servers = self.abra.join("servers");
        if self.own_servers {
            expect_own_directory(&servers)?;
        } else {
            expect_symlink(&servers, &canonical.join("servers"))?;
        }
        self.check_catalogue(&self.abra)
    }

    fn check_catalogue(&self, tree: &Path) -> Result<(), WorkspaceError> {
        let Some(wanted) = self.canonical.as_ref().map(|canonical| canonical.join("catalogue")) else {
            return Ok(());
        };
        match self.catalogue {
            Catalogue::Symlink if wanted.is_dir() => expect_symlink(&tree.join("catalogue"), &wanted),
            Catalogue::Symlink | Catalogue::Copy => Ok(()),
        }
    }
}

/// The canonical tree's own directory, which may be reached through a symlink of the operator's.
pub(super) fn expect_directory(path: &Path) -> Result<(), WorkspaceError> {
    let metadata = path.metadata().map_err(WorkspaceError::io("look at the canonical directory", path))?;
    if metadata.is_dir() {
        return Ok(());
    }
    Err(WorkspaceError::InTheWay {
        path: path.to_owned(),
        found: kind(&metadata),
        wanted: "a directory".into(),
    })
}

/// A directory that is no symlink.
fn expect_own_directory(path: &Path) -> Result<(), WorkspaceError> {
    let metadata = path.symlink_metadata().map_err(WorkspaceError::io("look at", path))?;
    if metadata.is_dir() {
        return Ok(());
    }
    let found = if metadata.is_symlink() { "a symlink".to_owned() } else { kind(&metadata) };
    Err(WorkspaceError::InTheWay { path: path.to_owned(), found, wanted: "the run's own directory".into() })
}

fn expect_symlink(path: &Path, target: &Path) -> Result<(), WorkspaceError> {
    let metadata = path.symlink_metadata().map_err(WorkspaceError::io("look at", path))?;
    let found = match fs::read_link(path) {
        Ok(found) if found == target => return Ok(()),
        Ok(found) => format!("a symlink to {}", found.display()),
        Err(_) => kind(&metadata),
    };
    let wanted = format!("a symlink to {}", target.display());
    Err(WorkspaceError::InTheWay { path: path.to_owned(), found, wanted })
}

fn kind(metadata: &fs::Metadata) -> String {
    if metadata.is_file() {
        "a plain file"
    } else if metadata.is_dir() {
        "a plain directory"
    } else {
        "a special file"
    }
    .to_owned()
}
