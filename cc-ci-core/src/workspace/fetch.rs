//! Brings one commit of one recipe, and the tags, into a run's own tree.

mod repository;
mod revision;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::credentials::GitCredentials;
use super::fetch_error::FetchError;
use super::git::{Git, GitError};
use super::recipe_tree::{RecipeTree, commit_of};
use super::source::{CommitId, RecipeSource, Revision};
use super::{RunDir, WorkspaceError};
use crate::lifetime::RunLifetime;
use crate::sys::files::{self, remove_tree, replace_file};
use crate::sys::process::Marker;
use repository::{copy_repository, existing_repository, is_repository, objects_of, whole_repository};
use revision::known;

/// Where the commit under test is kept from being lost.
const TESTED: &str = "refs/cc-ci/tested";

/// Whose tags are a recipe's releases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleasesOf {
    /// The tags of what is fetched.
    #[default]
    Itself,
    /// Those of the canonical tree's recipe of that name, where there is one.
    Canonical,
    /// Those of this repository.
    Source(RecipeSource),
}

/// What git fetches, and to where.
const TAGS: &str = "+refs/tags/*:refs/tags/*";
/// The tags of what is tested, where somebody else says what was released.
const OWN_TAGS: &str = "+refs/tags/*:refs/cc-ci/tags/*";
const BRANCHES: &str = "+refs/heads/*:refs/cc-ci/heads/*";
const PULLS: &str = "+refs/pull/*/head:refs/cc-ci/pull/*";

/// What to fetch.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// From where.
    pub source: RecipeSource,
    /// Which commit; `None`: what the source's `HEAD` names.
    pub revision: Option<Revision>,
    /// Whose tags are its releases: a pull request's own say what its author likes.
    pub releases: ReleasesOf,
    /// Copy the canonical tree's recipe of that name instead of fetching (`CCCI_SKIP_FETCH`).
    pub skip_fetch: bool,
    /// How long it may take in all.
    pub limit: Duration,
    /// Marks git and what it starts.
    pub marker: Option<Marker>,
    /// With what git signs in.
    pub credentials: GitCredentials,
}

/// What was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// The checkout, at the commit under test.
    pub tree: RecipeTree,
    /// Whose tags its releases are, where they are not of what was fetched.
    pub releases_of: Option<String>,
    /// What the user should know, a line each: uncommitted changes that are not tested, a cache that was no use.
    pub notes: Vec<String>,
}

/// Fetches the commit under test and all tags into `run`'s recipes, and checks the commit out.
///
/// Nothing of the source's hooks, filters, configuration or submodules is used. A recipe of the same name in the
/// canonical tree serves as a cache of objects; the clone does not depend on it afterwards, and as a cache a broken one
/// only costs time. Where it says what the releases are, it must be whole.
///
/// Cancel-safe in that what is left lies in the run's directory, and children are left to the run's end.
pub async fn fetch(
    run: &RunDir,
    lifetime: &dyn RunLifetime,
    request: &FetchRequest,
) -> Result<Fetched, FetchError> {
    fetch_into(run, &run.recipes(), lifetime, request).await
}

/// The same, into the run's directory `recipes`.
pub(crate) async fn fetch_into(
    run: &RunDir,
    recipes: &Path,
    lifetime: &dyn RunLifetime,
    request: &FetchRequest,
) -> Result<Fetched, FetchError> {
    let layout = run.layout();
    lifetime.blocking_tasks().run(move || layout.check()).await?;
    let name = request.source.recipe_name()?;
    let root = recipes.join(name.as_str());
    let git = Git::new(run, root, request.marker.clone()).await;
    let git = git.with_credentials(request.credentials.clone());
    let canonical = run.canonical().map(|canonical| canonical.join("recipes").join(name.as_str()));
    let needed = || canonical.clone().ok_or_else(|| FetchError::NoCanonicalTree { name: name.to_string() });
    let releases = match &request.releases {
        // What is copied has its own.
        _ if request.skip_fetch => None,
        ReleasesOf::Itself => None,
        // It is the canonical one itself.
        ReleasesOf::Canonical if matches!(request.source, RecipeSource::Name(_)) => None,
        ReleasesOf::Canonical => {
            let there = canonical.clone();
            let find = move || there.filter(|path| is_repository(path));
            lifetime.blocking_tasks().run(find).await.map(RecipeSource::Path)
        }
        ReleasesOf::Source(source) => Some(source.clone()),
    };
    let fetching = Fetching {
        lifetime,
        git,
        source_name: request.source.to_string(),
        revision: request.revision.clone().filter(|revision| revision.as_str() != "HEAD"),
        until: crate::sys::after(Instant::now(), request.limit),
        own_tags: releases.is_none(),
    };
    let mut notes = Vec::new();
    let tested = if request.skip_fetch {
        fetching.copy(&needed()?, &mut notes).await?
    } else {
        let (address, local, cache) = match &request.source {
            RecipeSource::Url(url) => (OsString::from(url.as_str()), None, canonical.clone()),
            RecipeSource::Path(path) => {
                let path = existing_repository(lifetime, path.clone()).await?;
                (path.clone().into(), Some(path), canonical.clone())
            }
            RecipeSource::Name(_) => {
                let path = existing_repository(lifetime, needed()?).await?;
                (path.clone().into(), Some(path), None)
            }
        };
        let find = move || cache.and_then(|cache| objects_of(&cache));
        let cache = lifetime.blocking_tasks().run(find).await;
        let tested = fetching.fetch(&address, cache, &mut notes).await?;
        if let Some(path) = local.filter(|_| fetching.revision.is_none()) {
            notes.extend(fetching.uncommitted(&path, &tested).await);
        }
        tested
    };
    if let Some(releases) = &releases {
        fetching.fetch_releases(releases, needed).await?;
    }
    let releases_of = releases.as_ref().map(RecipeSource::to_string);
    let shallow = fetching.git.root().join(".git/shallow");
    let is_cut = lifetime.blocking_tasks().run(move || shallow.symlink_metadata().is_ok()).await;
    Ok(Fetched { tree: RecipeTree::new(name, fetching.git, tested, is_cut), releases_of, notes })
}

struct Fetching<'a> {
    lifetime: &'a dyn RunLifetime,
    git: Git,
    source_name: String,
    revision: Option<Revision>,
    until: Instant,
    /// Whether the source's tags are the releases.
    own_tags: bool,
}

impl Fetching<'_> {
    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// The list of the other places where git finds objects.
    fn alternates(&self) -> PathBuf {
        self.git.root().join(".git/objects/info/alternates")
    }

    fn git_error(&self, source: GitError) -> FetchError {
        FetchError::of_git(&self.source_name, source)
    }

    async fn fetch(
        &self,
        address: &OsString,
        cache: Option<PathBuf>,
        notes: &mut Vec<String>,
    ) -> Result<CommitId, FetchError> {
        let reading =
            self.git.fetching(self.lifetime, address).await.map_err(|error| self.git_error(error))?;
        let wanted = self.find(&reading, address).await?;
        if let Some(objects) = cache {
            match self.fetch_into(&reading, address, wanted.as_deref(), Some(&objects)).await {
                Ok(tested) => return Ok(tested),
                Err(FetchError::Git { source, .. }) if source.is_final() => {
                    return Err(self.git_error(source));
                }
                // Without the cache we learn whether it was to blame.
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "fetch with cached objects");
                }
            }
            self.remove_clone().await?;
            let tested = self.fetch_into(&reading, address, wanted.as_deref(), None).await?;
            notes.push(format!("the cached objects in {} were no use", objects.display()));
            return Ok(tested);
        }
        self.fetch_into(&reading, address, wanted.as_deref(), None).await
    }

    async fn fetch_into(
        &self,
        reading: &Git,
        address: &OsString,
        wanted: Option<&str>,
        cache: Option<&Path>,
    ) -> Result<CommitId, FetchError> {
        let fail = |error| self.git_error(error);
        self.git.init(self.lifetime, self.left()).await.map_err(fail)?;
        if let Some(objects) = cache {
            let (list, text) = (self.alternates(), format!("{}\n", objects.display()));
            let path = list.clone();
            let write = move || replace_file(&path, text.as_bytes());
            let written = self.lifetime.blocking_tasks().run(write).await;
            written.map_err(|source| fail(GitError::Io { doing: "write", path: list, source }))?;
        }
        let tested = self.bring(reading, address, wanted).await?;
        let tested = tested.ok_or_else(|| self.no_such_revision())?;
        if let Some(wanted) =
            wanted.filter(|_| self.revision.as_ref().is_some_and(Revision::may_be_abbreviated))
        {
            self.guard_abbreviated(reading, address, wanted).await?;
        }
        self.local(&["update-ref", TESTED, tested.as_str()]).await?;
        if cache.is_some() {
            // Takes over what is needed, and thereby reads all of it: the canonical tree may be changed or be
            // broken, and we must not find out in the middle of the run.
            self.local(&["repack", "-a", "-d", "-q"]).await?;
            let list = self.alternates();
            let path = list.clone();
            let removed = self.lifetime.blocking_tasks().run(move || files::remove_file(&path)).await;
            removed.map_err(|source| fail(GitError::Io { doing: "remove", path: list, source }))?;
            self.local(&["rev-list", "--objects", "--quiet", "--all"]).await?;
        }
        self.local(&["checkout", "--quiet", "--force", "--detach", tested.as_str(), "--"]).await?;
        Ok(tested)
    }

    /// Fetches what is wanted, and the tags; `None` when the source has no such commit.
    async fn bring(
        &self,
        reading: &Git,
        address: &OsString,
        wanted: Option<&str>,
    ) -> Result<Option<CommitId>, FetchError> {
        let fail = |error| self.git_error(error);
        let tags = if self.own_tags { TAGS } else { OWN_TAGS };
        let ancestor = self.revision.as_ref().map_or("", Revision::ancestor);
        if let Some(id) = wanted {
            match self.git_fetch(reading, address, &[&format!("+{id}:{TESTED}"), tags]).await {
                Ok(()) => {
                    // git leaves out what a shallow clone has, and ends well.
                    let args = ["for-each-ref", "--count=1", "--format=%(refname)", TESTED];
                    if self.git.run(self.lifetime, args, self.left()).await.map_err(fail)?.is_empty() {
                        return Err(FetchError::CutHistory { source_name: self.source_name.clone() });
                    }
                    let tested = format!("{TESTED}{ancestor}");
                    return known(commit_of(&self.git, self.lifetime, &tested).await).map_err(fail);
                }
                Err(error) if error.is_final() => return Err(fail(error)),
                // Some servers give no commit by its id; then the branches and pull requests bring it.
                Err(_) => {}
            }
        }
        self.git_fetch(reading, address, &[BRANCHES, PULLS, tags]).await.map_err(fail)?;
        let name = wanted.or(self.revision.as_ref().map(Revision::name)).unwrap_or("HEAD");
        known(commit_of(&self.git, self.lifetime, &format!("{name}{ancestor}")).await).map_err(fail)
    }

    /// Fetches the tags of `source`; `canonical` is where it is if it is given by its name.
    async fn fetch_releases(
        &self,
        source: &RecipeSource,
        canonical: impl Fn() -> Result<PathBuf, FetchError>,
    ) -> Result<(), FetchError> {
        let local = match source {
            RecipeSource::Url(_) => None,
            RecipeSource::Path(path) => Some(existing_repository(self.lifetime, path.clone()).await?),
            RecipeSource::Name(_) => Some(existing_repository(self.lifetime, canonical()?).await?),
        };
        if let Some(path) = &local {
            // git takes from one what it likes, and ends well.
            let marks = ["shallow", ".git/shallow"].map(|mark| path.join(mark));
            let is_shallow = move || marks.iter().any(|mark| mark.exists());
            if self.lifetime.blocking_tasks().run(is_shallow).await {
                return Err(FetchError::Shallow { path: path.clone() });
            }
        }
        let address: OsString = match (source, local) {
            (RecipeSource::Url(url), _) => url.as_str().into(),
            (_, local) => local.unwrap_or_default().into(),
        };
        let fail = |error| FetchError::of_git(&source.to_string(), error);
        let reading = self.git.fetching(self.lifetime, &address).await.map_err(fail)?;
        self.git_fetch(&reading, &address, &[TAGS]).await.map_err(fail)
    }

    /// git in the clone, within the time that is left.
    async fn local(&self, args: &[&str]) -> Result<(), FetchError> {
        let ended = self.git.run(self.lifetime, args, self.left()).await;
        ended.map(drop).map_err(|error| self.git_error(error))
    }

    async fn git_fetch(&self, reading: &Git, address: &OsString, refs: &[&str]) -> Result<(), GitError> {
        let mut args: Vec<OsString> = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--",
        ]
        .map(OsString::from)
        .into();
        args.push(address.clone());
        args.extend(refs.iter().map(OsString::from));
        reading.run(self.lifetime, args, self.left()).await.map(drop)
    }

    async fn remove_clone(&self) -> Result<(), FetchError> {
        let root = self.git.root().to_owned();
        let removed = self
            .lifetime
            .blocking_tasks()
            .run(move || remove_tree(&root).map_err(WorkspaceError::io("remove", &root)));
        removed.await.map_err(FetchError::from)
    }

    /// Copies a canonical recipe as it is, and shows its commit.
    async fn copy(&self, canonical: &Path, notes: &mut Vec<String>) -> Result<CommitId, FetchError> {
        let canonical = canonical.to_owned();
        let from = self.lifetime.blocking_tasks().run(move || whole_repository(&canonical)).await?;
        let (source, git) = (from.clone(), self.git.clone());
        let cancellation = self.lifetime.cancellation().clone();
        let copied =
            self.lifetime.blocking_tasks().run(move || copy_repository(&source, &git, &cancellation)).await;
        copied.map_err(|(path, source)| FetchError::Path { path, source })?;
        let fail = |error| self.git_error(error);
        let revision = self.revision.as_ref().map_or("HEAD", Revision::as_str);
        let tested = known(commit_of(&self.git, self.lifetime, revision).await).map_err(fail)?;
        let tested = tested.ok_or_else(|| self.no_such_revision())?;
        if self.revision.is_none() {
            notes.extend(self.uncommitted(&from, &tested).await);
        }
        self.local(&["update-ref", TESTED, tested.as_str()]).await?;
        self.local(&["checkout", "--quiet", "--force", "--detach", tested.as_str(), "--"]).await?;
        notes.push(format!("nothing was fetched: {} was copied", from.display()));
        Ok(tested)
    }

    /// What of the tree at `path` is not in the commit. Looked at through the clone: the tree's own repository
    /// may have filters and monitors configured. Best effort.
    async fn uncommitted(&self, path: &Path, tested: &CommitId) -> Option<String> {
        let git_dir = path.join(".git");
        if !self.lifetime.blocking_tasks().run(move || git_dir.exists()).await {
            return None;
        }
        let index = self.git.root().join(".git/cc-ci-index");
        let git = self.git.with_env("GIT_INDEX_FILE", &index);
        let look = async {
            git.run_over(self.lifetime, path, ["read-tree", tested.as_str()], self.left()).await?;
            let args = ["status", "--porcelain", "--ignore-submodules=all", "--untracked-files=normal"];
            git.run_over(self.lifetime, path, args, self.left()).await
        };
        let changed = look.await;
        let _gone = self.lifetime.blocking_tasks().run(move || files::remove_file(&index)).await;
        match changed {
            Ok(changed) if changed.is_empty() => None,
            Ok(changed) => {
                let first = changed.first().and_then(|line| line.get(3..)).unwrap_or_default();
                let (count, place) = (changed.len(), path.display());
                Some(format!("uncommitted changes in {place} are not tested: {count} files, e.g. {first}"))
            }
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "look for uncommitted changes");
                None
            }
        }
    }
}
