//! Which directories are cc-ci's own.
//!
//! A runs directory or a local root gets a mark file when it is made. One that has no mark and holds something else is
//! refused: a clean-up there would take what is somebody's. One of an earlier version, without a mark, is known by its
//! content and marked. A directory of another user is refused as well: whoever owns it can put anything in the place of
//! what is in it.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Dir;
use crate::sys::text::first_few;

/// What is in a mark file.
const TEXT: &str =
    "This directory belongs to cc-ci, which removes what it finds here. Keep nothing of your own in it.\n";

/// So many of the names that are in the way are told.
const SHOWN: usize = 3;

/// What a root is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootKind {
    /// The directory that run directories are in.
    Runs,
    /// The root of the local executor.
    Local,
}

impl RootKind {
    const fn mark(self) -> &'static str {
        match self {
            Self::Runs => ".cc-ci-runs",
            Self::Local => ".cc-ci-local",
        }
    }

    const fn variable(self) -> &'static str {
        match self {
            Self::Runs => "CCCI_RUNS_DIR",
            Self::Local => "CCCI_LOCAL_ROOT",
        }
    }

    /// Whether an entry of an unmarked directory is what an earlier version, or the file system, put there.
    fn knows(self, dir: &Dir, name: &OsString, owner: u32) -> bool {
        // A file system's own.
        if name == "lost+found" {
            return true;
        }
        let Some(text) = name.to_str() else { return false };
        match self {
            Self::Runs => {
                matches!(text, ".abra.json" | ".debts" | ".images" | ".quarantine")
                    || text.parse::<crate::names::RunId>().is_ok()
                        // An empty one may be anybody's.
                        && is_run_directory(dir, name.as_ref(), owner)
                        && !dir.names(name.as_ref()).is_ok_and(|names| names.is_empty())
            }
            Self::Local => {
                matches!(text, "apps" | "ports" | "trash" | "servers" | "lock-space.json" | "lock-space.lock")
            }
        }
    }
}

/// Whether `name` is a run's directory: the user's own, with a `run.lock` as a run makes it. One without has a record, or
/// is still empty. What a script of the same user can forge is no more than what it could remove itself.
pub(crate) fn is_run_directory(runs: &Dir, name: &Path, owner: u32) -> bool {
    let own = runs
        .find(name)
        .is_ok_and(|found| found.is_some_and(|found| found.is_directory() && found.owner == owner));
    own && match runs.find(&name.join(RUN_LOCK)) {
        Ok(Some(lock)) => lock.is_own_file(owner),
        Ok(None) => has_record(runs, name, owner) || runs.names(name).is_ok_and(|names| names.is_empty()),
        Err(_) => false,
    }
}

fn has_record(runs: &Dir, name: &Path, owner: u32) -> bool {
    runs.find(&name.join(RUN_RECORD)).is_ok_and(|found| found.is_some_and(|found| found.is_own_file(owner)))
}

/// What a run was, in its directory.
pub(crate) const RUN_RECORD: &str = "run.json";

/// The lock of a run, in its directory.
pub(crate) const RUN_LOCK: &str = "run.lock";

/// A directory that cc-ci does not take for its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    #[error("{path} belongs to user {owner}, and this is user {user}")]
    Owner { kind: RootKind, path: PathBuf, owner: u32, user: u32 },
    #[error("{path} is not cc-ci's own: it holds {names}")]
    Foreign { kind: RootKind, path: PathBuf, names: String },
    #[error("can't {doing} {path}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

impl RootError {
    /// A root that is not there any more.
    pub fn missing(path: &Path) -> Self {
        Self::Io { doing: "open", path: path.to_owned(), source: io::ErrorKind::NotFound.into() }
    }

    /// What helps.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Owner { kind, owner, .. } => Some(format!(
                "run cc-ci as that user (setpriv --reuid {owner} --init-groups …, or sudo -u '#{owner}' …), or name a \
                 directory of your own: {}",
                kind.variable()
            )),
            Self::Foreign { kind, path, .. } => Some(format!(
                "name a new or empty directory: {}; where all that is in this one may be removed: touch {}",
                kind.variable(),
                path.join(kind.mark()).display()
            )),
            Self::Io { .. } => None,
        }
    }
}

impl From<RootError> for io::Error {
    fn from(error: RootError) -> Self {
        let kind = match &error {
            RootError::Io { source, .. } => source.kind(),
            RootError::Owner { .. } | RootError::Foreign { .. } => io::ErrorKind::PermissionDenied,
        };
        Self::new(kind, error)
    }
}

/// Opens the root `path`, which must be this user's; `None` where there is none. Changes nothing.
pub(crate) fn open_root(path: &Path, kind: RootKind) -> Result<Option<Dir>, RootError> {
    let fail = |doing, source| RootError::Io { doing, path: path.to_owned(), source };
    let dir = match Dir::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| fail("open", error))?,
    };
    let (owner, user) = (dir.owner().map_err(|error| fail("look at", error))?, user());
    if owner != user {
        return Err(RootError::Owner { kind, path: path.to_owned(), owner, user });
    }
    Ok(Some(dir))
}

/// Whether the root `path` could be claimed; one that is missing can. Changes nothing.
pub(crate) fn check_root(path: &Path, kind: RootKind) -> Result<(), RootError> {
    open_root(path, kind)?.map_or(Ok(()), |dir| is_marked(&dir, kind).map(drop))
}

/// Opens the root `path`, and makes and marks it where it is missing. One that is there must be marked, or hold nothing
/// that is not cc-ci's: then it is marked now.
pub(crate) fn claim_root(path: &Path, kind: RootKind, mode: u32) -> Result<Dir, RootError> {
    let fail = |doing, source| RootError::Io { doing, path: path.to_owned(), source };
    let dir = if let Some(dir) = open_root(path, kind)? {
        dir
    } else {
        Dir::make(path, mode).map_err(|error| fail("make", error))?;
        // Whoever was faster made it, whoever that was.
        open_root(path, kind)?.ok_or_else(|| RootError::missing(path))?
    };
    if is_marked(&dir, kind)? {
        return Ok(dir);
    }
    // By its own name from the start: another one would be in the way of whoever looks meanwhile.
    let mark = dir.open_file(Path::new(kind.mark()), OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o644);
    match mark.and_then(|mut mark| mark.write_all(TEXT.as_bytes())) {
        // A full disk is cleaned all the same: what is in it is known.
        Err(error) if is_full(&error) => Ok(dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_marked(&dir, kind)? => Ok(dir),
        written => written.map(|()| dir).map_err(|error| fail("mark", error)),
    }
}

/// Whether the root has its mark. One without it that holds what is not cc-ci's is an error.
fn is_marked(dir: &Dir, kind: RootKind) -> Result<bool, RootError> {
    let fail = |doing, source| RootError::Io { doing, path: dir.path().to_owned(), source };
    let marked = || Ok(dir.find(Path::new(kind.mark()))?.is_some_and(|found| found.is_own_file(user())));
    let look = |error| fail("look for the mark of", error);
    if marked().map_err(look)? {
        return Ok(true);
    }
    let names = dir.names(Path::new(".")).map_err(|error| fail("list", error))?;
    let foreign: Vec<&OsString> = names.iter().filter(|name| !kind.knows(dir, name, user())).collect();
    // Somebody else may have marked it meanwhile, and begun to use it.
    if foreign.is_empty() || marked().map_err(look)? {
        return Ok(false);
    }
    let quoted = foreign.iter().map(|name| format!("\"{}\"", name.to_string_lossy().escape_debug()));
    Err(RootError::Foreign { kind, path: dir.path().to_owned(), names: first_few(quoted, SHOWN) })
}

/// Whether there is no room, or no inode.
pub(crate) fn is_full(error: &io::Error) -> bool {
    [Errno::NOSPC, Errno::DQUOT].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The user who owns what this process makes.
pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn a_directory_with_somebodys_things_is_refused_and_left_as_it_is() {
        let world = tempfile::tempdir().unwrap();
        for kind in [RootKind::Runs, RootKind::Local] {
            fs::create_dir_all(world.path().join("documents")).unwrap();
            let error = claim_root(world.path(), kind, 0o755).unwrap_err();
            assert!(
                matches!(&error, RootError::Foreign { names, .. } if names.contains("documents")),
                "{error:?}"
            );
            assert!(error.hint().unwrap().contains(kind.variable()));
            assert_eq!(fs::read_dir(world.path()).unwrap().count(), 1, "something was made");
        }
        // Its owner says that it may go.
        fs::write(world.path().join(RootKind::Runs.mark()), "").unwrap();
        claim_root(world.path(), RootKind::Runs, 0o755).unwrap();
    }

    #[test]
    fn records_of_ours_are_no_strangers_where_the_mark_could_not_be_written() {
        let root = tempfile::tempdir().unwrap();
        for records in [".debts", ".images", ".quarantine"] {
            std::fs::create_dir(root.path().join(records)).unwrap();
        }
        claim_root(root.path(), RootKind::Runs, 0o755).unwrap();
    }

    #[test]
    fn a_link_is_no_mark() {
        let world = tempfile::tempdir().unwrap();
        fs::create_dir(world.path().join("documents")).unwrap();
        symlink("documents", world.path().join(RootKind::Runs.mark())).unwrap();
        assert!(claim_root(world.path(), RootKind::Runs, 0o755).is_err());
    }

    #[test]
    fn a_new_an_empty_and_an_earlier_versions_directory_are_taken() {
        let world = tempfile::tempdir().unwrap();
        let runs = world.path().join("new/runs");
        for _ in 0..2 {
            claim_root(&runs, RootKind::Runs, 0o755).unwrap();
        }
        fs::remove_file(runs.join(RootKind::Runs.mark())).unwrap();
        for name in ["lost+found", "7"] {
            fs::create_dir(runs.join(name)).unwrap();
        }
        fs::write(runs.join("7/run.lock"), "").unwrap();
        fs::write(runs.join("7/run.json"), "").unwrap();
        claim_root(&runs, RootKind::Runs, 0o755).unwrap();
        assert!(runs.join(RootKind::Runs.mark()).exists());
        // A name alone makes no run.
        fs::remove_file(runs.join(RootKind::Runs.mark())).unwrap();
        fs::create_dir(runs.join("8")).unwrap();
        assert!(matches!(claim_root(&runs, RootKind::Runs, 0o755), Err(RootError::Foreign { .. })));

        let local = world.path().join("local");
        fs::create_dir_all(local.join("apps/x.test")).unwrap();
        fs::write(local.join("lock-space.json"), "{}").unwrap();
        claim_root(&local, RootKind::Local, 0o700).unwrap();
    }

    #[test]
    fn another_users_directory_is_refused() {
        if user() != 0 {
            println!("skipped: only root can give a directory away");
            return;
        }
        let world = tempfile::tempdir().unwrap();
        chown(world.path(), Some(65534), None).unwrap();
        let error = claim_root(world.path(), RootKind::Local, 0o700).unwrap_err();
        assert!(matches!(error, RootError::Owner { owner: 65534, user: 0, .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("65534"));
        assert_eq!(fs::read_dir(world.path()).unwrap().count(), 0);
        chown(world.path(), Some(0), None).unwrap();
    }
}
