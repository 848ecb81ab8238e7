//! Repositories of this host.

use std::io;
use std::path::{Path, PathBuf};

use super::super::copy::{copy_tree, find_symlink};
use super::super::fetch_error::FetchError;
use super::super::git::Git;
use crate::lifetime::RunLifetime;
use crate::model::cancellation::Cancellation;

/// The path as git must see it: absolute, so that nothing in front makes it an option or a host.
fn existing_directory(path: &Path) -> Result<PathBuf, FetchError> {
    let fail = |source| FetchError::Path { path: path.to_owned(), source };
    let resolved = path.canonicalize().map_err(fail)?;
    if resolved.is_dir() { Ok(resolved) } else { Err(fail(io::ErrorKind::NotADirectory.into())) }
}

/// The same of a repository's own top: that a directory is none, or a part of one, is told before git is asked.
pub(super) async fn existing_repository(
    lifetime: &dyn RunLifetime,
    path: PathBuf,
) -> Result<PathBuf, FetchError> {
    let find = move || {
        let resolved = existing_directory(&path)?;
        if is_repository(&resolved) { Ok(resolved) } else { Err(FetchError::NoRepository { path: resolved }) }
    };
    lifetime.blocking_tasks().run(find).await
}

/// The same of one that can be copied: it is all there. Blocks.
pub(super) fn whole_repository(path: &Path) -> Result<PathBuf, FetchError> {
    let resolved = existing_directory(path)?;
    let git_dir = resolved.join(".git");
    if !git_dir.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        let source = io::Error::new(io::ErrorKind::NotFound, "it has no .git directory of its own");
        return Err(FetchError::Path { path: resolved, source });
    }
    if is_partial(&git_dir) {
        return Err(FetchError::Partial { source_name: resolved.display().to_string() });
    }
    Ok(resolved)
}

pub(super) fn is_repository(path: &Path) -> bool {
    let is_bare = path.join("HEAD").is_file() && path.join("objects").is_dir();
    path.join(".git").symlink_metadata().is_ok() || is_bare
}

/// Whether git counts on another repository for a part of its objects.
fn is_partial(git_dir: &Path) -> bool {
    let packs = std::fs::read_dir(git_dir.join("objects/pack"));
    packs.is_ok_and(|packs| {
        packs.flatten().any(|pack| pack.path().extension().is_some_and(|end| end == "promisor"))
    })
}

/// The objects of a canonical recipe, where git can name them in a line of its list of alternates.
pub(super) fn objects_of(recipe: &Path) -> Option<PathBuf> {
    let objects =
        [recipe.join(".git/objects"), recipe.join("objects")].into_iter().find(|path| path.is_dir())?;
    let resolved = objects.canonicalize().ok()?;
    let plain = resolved.to_str().is_some_and(|text| !text.contains(['\n', '"']));
    plain.then_some(resolved)
}

/// Copies the tree and its repository, which gets our own configuration. git writes through symlinks in a
/// repository, and that would be into the canonical one: so there must be none.
pub(super) fn copy_repository(
    from: &Path,
    git: &Git,
    cancellation: &Cancellation,
) -> Result<(), (PathBuf, io::Error)> {
    copy_tree(from, git.root(), cancellation)?;
    let git_dir = git.root().join(".git");
    let fail = |error| (git_dir.clone(), error);
    if let Some(link) = find_symlink(&git_dir).map_err(fail)? {
        let original = link.strip_prefix(git.root()).map_or(link.clone(), |inside| from.join(inside));
        return Err((
            original,
            io::Error::new(io::ErrorKind::Unsupported, "a symlink inside of a repository"),
        ));
    }
    git.neutralise(&|| cancellation.cause().is_some()).map_err(|error| fail(io::Error::other(error)))
}
