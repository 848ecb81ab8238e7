//! A run's own checkout of a recipe.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::git::{Git, GitError};
use super::releases::{FORMAT, Release, Releases};
use super::source::CommitId;
use rustix::fs::OFlags;

use crate::lifetime::RunLifetime;
use crate::model::error_chain;
use crate::model::failure::{Failure, Fault};
use crate::names::RecipeName;
use crate::sys::beneath::{BeneathError, open_beneath, read_beneath, resolve_beneath};
use crate::sys::files::{self, Dir, write_whole};

/// For whatever needs no network.
pub(super) const LOCAL: Duration = Duration::from_mins(2);

/// A HEAD that names its commit by itself is shorter.
const HEAD_LIMIT: u64 = 128;

/// More than the index of any real recipe has. What is larger is made anew each time.
const INDEX_LIMIT: u64 = 1 << 20;

/// The recipe's tree in a run's `recipes/`. Its git never runs a hook, a filter or a configured program, and what
/// is pushed from it goes nowhere (I13).
#[derive(Debug)]
pub struct RecipeTree {
    name: RecipeName,
    git: Git,
    tested: CommitId,
    is_cut: bool,
    /// The commit that was looked for last, and an index that is its and knows no file's times.
    index: Mutex<Option<(CommitId, Vec<u8>)>>,
}

impl RecipeTree {
    pub(super) fn new(name: RecipeName, git: Git, tested: CommitId, is_cut: bool) -> Self {
        Self { name, git, tested, is_cut, index: Mutex::default() }
    }

    /// The recipe's name, also the tree's.
    pub fn name(&self) -> &RecipeName {
        &self.name
    }

    /// Where the tree is.
    pub fn root(&self) -> &Path {
        self.git.root()
    }

    /// The commit under test.
    pub fn tested(&self) -> &CommitId {
        &self.tested
    }

    /// The commit that the tree shows now.
    pub async fn head(&self, lifetime: &dyn RunLifetime) -> Result<CommitId, GitError> {
        // As a checkout of ours leaves it, it is read at the cost of a file; whatever else it is, git knows.
        let root = self.root().to_owned();
        let read = move || read_beneath(&root, ".git/HEAD", HEAD_LIMIT).ok();
        match lifetime
            .blocking_tasks()
            .run(read)
            .await
            .and_then(|head| str::from_utf8(&head).ok()?.trim_end().parse().ok())
        {
            Some(commit) => Ok(commit),
            None => commit_of(&self.git, lifetime, "HEAD").await,
        }
    }

    /// Moves the tree to `commit`. Changes of tracked files are lost, other files stay.
    pub async fn checkout(&self, lifetime: &dyn RunLifetime, commit: &CommitId) -> Result<(), GitError> {
        let args = ["checkout", "--quiet", "--force", "--detach", commit.as_str(), "--"];
        self.git.run(lifetime, args, LOCAL).await.map(drop)
    }

    /// The same with every file written anew, whatever the tree's own index says of it: a script may have marked
    /// files as unchanged there.
    pub async fn checkout_anew(&self, lifetime: &dyn RunLifetime, commit: &CommitId) -> Result<(), GitError> {
        self.git.forget_index(lifetime).await?;
        self.checkout(lifetime, commit).await
    }

    /// Whether `commit` builds on `earlier`, or is it. One that the clone does not have is nobody's ancestor.
    pub async fn builds_on(
        &self,
        lifetime: &dyn RunLifetime,
        commit: &CommitId,
        earlier: &CommitId,
    ) -> Result<bool, GitError> {
        let args = ["merge-base", "--is-ancestor", earlier.as_str(), commit.as_str()];
        match self.git.run(lifetime, args, LOCAL).await {
            Ok(_) => Ok(true),
            Err(GitError::Failed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether `commit` has an ancestor in common with one of `releases`.
    pub async fn is_related(
        &self,
        lifetime: &dyn RunLifetime,
        commit: &CommitId,
        releases: &[Release],
    ) -> Result<bool, GitError> {
        // As many as are surely a command's arguments.
        for some in releases.chunks(1000) {
            let args = ["merge-base", commit.as_str()].into_iter();
            let args = args.chain(some.iter().map(|release| release.commit.as_str()));
            match self.git.run(lifetime, args, LOCAL).await {
                Ok(_) => return Ok(true),
                // Any other status is trouble, and says nothing of them.
                Err(GitError::Failed { ended, .. }) if ended.code == Some(1) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Whether its history ends where a shallow clone's did: what is behind that nobody can tell.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The files of `commit` that are not in the tree as they are in it, as git quotes their names. Files that the
    /// commit does not have are not looked at.
    pub async fn changed(
        &self,
        lifetime: &dyn RunLifetime,
        commit: &CommitId,
    ) -> Result<Vec<String>, GitError> {
        // In the tree's own index a script may have marked files as unchanged.
        let (git, index) = self.git.with_own_index()?;
        let fail = |source| GitError::Io { doing: "write", path: index.clone(), source };
        let looked = async {
            let path = index.clone();
            if let Some(known) = self.index_of(commit) {
                let write = move || write_whole(&path, &known, 0o600);
                lifetime.blocking_tasks().run(write).await.map_err(fail)?;
            } else {
                git.run(lifetime, ["read-tree", commit.as_str()], LOCAL).await?;
                let made = lifetime.blocking_tasks().run(move || read_index(&path)).await;
                self.keep_index(commit, made);
            }
            // It compares content: this index knows no file's times.
            let diff = ["diff", "--name-only", "--no-ext-diff", "--no-renames", "--ignore-submodules=all"];
            git.run(lifetime, diff, LOCAL).await
        };
        let changed = looked.await;
        // Best effort: it goes with the run's tree.
        let _gone = lifetime.blocking_tasks().run(move || files::remove_file(&index)).await;
        changed
    }

    fn index_of(&self, commit: &CommitId) -> Option<Vec<u8>> {
        let kept = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(of, _)| of == commit).map(|(_, index)| index.clone())
    }

    fn keep_index(&self, commit: &CommitId, index: Option<Vec<u8>>) {
        if let Some(index) = index {
            *self.index.lock().unwrap_or_else(PoisonError::into_inner) = Some((commit.clone(), index));
        }
    }

    /// All releases.
    pub async fn releases(&self, lifetime: &dyn RunLifetime) -> Result<Releases, GitError> {
        Releases::parse(&self.git.run(lifetime, ["for-each-ref", FORMAT, "refs/tags"], LOCAL).await?)
    }

    /// The releases that `commit` builds on, newest first: what it can be upgraded to from. Its own are left out;
    /// where it is a release, so are those that are newer by their version.
    pub async fn releases_before(
        &self,
        lifetime: &dyn RunLifetime,
        commit: &CommitId,
    ) -> Result<Vec<Release>, GitError> {
        let merged = format!("--merged={commit}");
        let lines = self.git.run(lifetime, ["for-each-ref", FORMAT, &merged, "refs/tags"], LOCAL).await?;
        let found = Releases::parse(&lines)?;
        let own = found.at(commit).map(|release| release.version.clone());
        let is_newer =
            |release: &Release| own.as_ref().is_some_and(|own| release.version.cmp_recipe_part(own).is_gt());
        let before = found.releases.into_iter();
        Ok(before.filter(|release| release.commit != *commit && !is_newer(release)).collect())
    }

    /// The newest of them.
    pub async fn newest_before(
        &self,
        lifetime: &dyn RunLifetime,
        commit: &CommitId,
    ) -> Result<Option<Release>, GitError> {
        Ok(self.releases_before(lifetime, commit).await?.into_iter().next())
    }

    /// The submodules of the commit under test in the directory `path`, as git quotes their names: nothing of them is fetched.
    pub async fn submodules(&self, lifetime: &dyn RunLifetime, path: &str) -> Result<Vec<String>, GitError> {
        let args = ["ls-tree", "-r", "--full-tree", self.tested.as_str(), "--", path];
        let lines = self.git.run(lifetime, args, LOCAL).await?;
        let name = |line: String| Some(line.strip_prefix("160000 ")?.split_once('\t')?.1.to_owned());
        Ok(lines.into_iter().filter_map(name).collect())
    }

    /// Copies `relative`, a file or a directory of the tree with all below it, into the directory `to` under the
    /// same name, before a checkout moves the tree. Nothing there is fine. Returns the copied files, sorted.
    ///
    /// # Errors
    /// When the tree does not show the commit under test, and for a symlink or special file, by its name: what
    /// counts as a test must be in the commit itself.
    pub async fn snapshot(
        &self,
        lifetime: &dyn RunLifetime,
        relative: impl AsRef<Path>,
        to: &Path,
    ) -> Result<Vec<PathBuf>, SnapshotError> {
        let head = self.head(lifetime).await?;
        if head != self.tested {
            return Err(SnapshotError::Moved { head, tested: self.tested.clone() });
        }
        let (root, relative, to) = (self.root().to_owned(), relative.as_ref().to_owned(), to.to_owned());
        let cancellation = lifetime.cancellation().clone();
        lifetime
            .blocking_tasks()
            .run(move || snapshot(&root, &relative, &to, &|| cancellation.cause().is_some()))
            .await
    }
}

fn read_index(path: &Path) -> Option<Vec<u8>> {
    read_beneath(path.parent()?, path.file_name()?, INDEX_LIMIT).ok()
}

/// A part of the recipe's tree could not be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The tree was moved before.
    #[error("the recipe's tree shows {head}, not the commit under test {tested}")]
    Moved {
        /// What it shows.
        head: CommitId,
        /// What it should show.
        tested: CommitId,
    },
    /// What is there is not taken.
    #[error("can't take a file of the recipe")]
    Refused(#[source] BeneathError),
    /// The copy failed.
    #[error("can't copy the recipe's {path}")]
    Copy {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        let fault = match &error {
            SnapshotError::Refused(_) => Fault::Recipe,
            // A path that is too long is one that the recipe chose.
            SnapshotError::Copy { source, .. } if source.kind() == io::ErrorKind::InvalidFilename => {
                Fault::Recipe
            }
            SnapshotError::Copy { .. } | SnapshotError::Moved { .. } | SnapshotError::Git(_) => Fault::Host,
        };
        Self::new(fault, error_chain(&error))
    }
}

fn snapshot(
    root: &Path,
    relative: &Path,
    to: &Path,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<PathBuf>, SnapshotError> {
    let target =
        Dir::make(to, 0o755).map_err(|source| SnapshotError::Copy { path: to.to_owned(), source })?;
    let mut copied = Vec::new();
    let mut open = vec![relative.to_owned()];
    while let Some(path) = open.pop() {
        let fail = |source| SnapshotError::Copy { path: path.clone(), source };
        if stop() {
            return Err(fail(io::Error::new(io::ErrorKind::Interrupted, "the run was cancelled")));
        }
        let inside = match resolve_beneath(root, &path) {
            Err(error) if error.is_not_found() && path == relative => return Ok(copied),
            found => found.map_err(SnapshotError::Refused)?,
        };
        if inside.symlink_metadata().map_err(fail)?.is_dir() {
            target.make_all(&path, 0o755).map_err(fail)?;
            // Whatever this process's own mask is: a confined test is another user.
            target.set_mode(&path, 0o755).map_err(fail)?;
            for entry in fs::read_dir(&inside).map_err(fail)? {
                open.push(path.join(entry.map_err(fail)?.file_name()));
            }
            continue;
        }
        let mut file = open_beneath(root, &path).map_err(SnapshotError::Refused)?;
        copy_file(&mut file, &target, &path).map_err(fail)?;
        copied.push(path);
    }
    copied.sort();
    Ok(copied)
}

fn copy_file(from: &mut File, to: &Dir, path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        to.make_all(parent, 0o755)?;
    }
    let mode = if from.metadata()?.mode() & 0o111 == 0 { 0o644 } else { 0o755 };
    let mut target = to.open_file(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode)?;
    io::copy(from, &mut target)?;
    files::set_mode(&target, mode)
}

/// The commit that `revision` names in the clone.
pub(super) async fn commit_of(
    git: &Git,
    lifetime: &dyn RunLifetime,
    revision: &str,
) -> Result<CommitId, GitError> {
    let peeled = format!("{revision}^{{commit}}");
    let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", &peeled];
    let lines = git.run(lifetime, args, LOCAL).await?;
    let answer = lines.first().map(String::as_str).unwrap_or_default();
    answer.parse().map_err(|_| GitError::answer("rev-parse", answer))
}
