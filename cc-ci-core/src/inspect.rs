//! `recipe check`: looks at a recipe and its releases, deploys nothing and changes nothing.
//!
//! The files are judged as they are on disk, the releases as its repository has them. That is somebody else's: it is
//! fetched into a clone of ours in a directory that the caller removes, and only there read, as a run does.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lifetime::RunLifetime;
use crate::names::Domain;
use crate::recipe::rules::{self, History, LayoutError, PreviousRelease, Report};
use crate::recipe::{Recipe, RecipeError};
use crate::workspace::{
    FetchError, FetchRequest, GitCredentials, GitError, InvalidSource, RecipeSource, RecipeTree, Release,
    Releases, ReleasesOf, RunDir, fetch,
};

/// A recipe could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// What is there is no recipe.
    #[error("{} is no recipe: {rule}", path.display())]
    NoRecipe {
        /// Where.
        path: PathBuf,
        /// What a recipe has.
        rule: &'static str,
    },
    /// The directory's name is no recipe's.
    #[error(transparent)]
    Name(#[from] InvalidSource),
    /// The tree can't be read.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The directory can't be read.
    #[error("can't list {}", path.display())]
    List {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The repository can't be read.
    #[error("can't read the releases")]
    Fetch(#[from] FetchError),
    /// git failed.
    #[error("can't read the releases")]
    Git(#[from] GitError),
}

/// Judges the recipe at `path`; its repository is read through `scratch`, within `limit`.
///
/// Cancel-safe in that what is left lies in `scratch`, and children are left to the lifetime's end.
pub async fn inspect(
    path: &Path,
    scratch: &RunDir,
    lifetime: &dyn RunLifetime,
    limit: Duration,
) -> Result<Report, InspectError> {
    let source = RecipeSource::Path(path.to_owned());
    let (of, named) = (path.to_owned(), source.clone());
    let open = move || Ok::<_, InspectError>((open(&of, &named)?, without_history(&of)));
    let ((recipe, domain), no_history) = lifetime.blocking_tasks().run(open).await?;
    let (history, skipped) = match no_history {
        Some(why) => (History::default(), Some(why)),
        None => look_back(&recipe, &domain, source, scratch, lifetime, limit).await?,
    };
    let mut report = check_files(recipe, domain, history, lifetime).await?;
    report.skipped.extend(skipped.map(|why| format!("rules about releases: {why}")));
    Ok(report)
}

/// The recipe at `path`, and the domain that it is judged as. Blocks.
fn open(path: &Path, source: &RecipeSource) -> Result<(Recipe, Domain), InspectError> {
    let no_recipe = |rule| InspectError::NoRecipe { path: path.to_owned(), rule };
    if !path.is_dir() {
        return Err(no_recipe("there is no such directory"));
    }
    let name = source.recipe_name()?;
    let domain = rules::domain_of(&name).ok_or_else(|| no_recipe("its name makes no domain"))?;
    let recipe = Recipe::open(name, path)?;
    if path.join("compose.yml").symlink_metadata().is_err() {
        return Err(no_recipe("it has no compose.yml"));
    }
    Ok((recipe, domain))
}

/// Judges the commit that `tree` shows, as a commit that follows `before`. It shows it afterwards, too.
pub(crate) async fn check_checkout(
    tree: &RecipeTree,
    releases: &Releases,
    before: Option<&Release>,
    lifetime: &dyn RunLifetime,
) -> Result<Report, InspectError> {
    let no_recipe = |rule| InspectError::NoRecipe { path: tree.root().to_owned(), rule };
    let recipe = of_tree(tree, lifetime).await?;
    let domain = rules::domain_of(tree.name()).ok_or_else(|| no_recipe("its name makes no domain"))?;
    let is_release = releases.at(tree.tested()).map(|release| release.version.clone());
    let mut history = History { is_release, unfit: releases.unfit.clone(), previous: None };
    if let Some(release) = before {
        let read = read_release(tree, recipe.clone(), release.clone(), &domain, lifetime).await;
        // Whatever came of it.
        tree.checkout(lifetime, tree.tested()).await?;
        history.previous = Some(read?);
    }
    let mut report = check_files(recipe, domain, history, lifetime).await?;
    if before.is_none() && tree.is_cut() {
        report.skipped.push("rules about releases: the history is cut".to_owned());
    }
    Ok(report)
}

/// The recipe that `tree` shows.
async fn of_tree(tree: &RecipeTree, lifetime: &dyn RunLifetime) -> Result<Recipe, RecipeError> {
    let (name, root) = (tree.name().clone(), tree.root().to_owned());
    lifetime.blocking_tasks().run(move || Recipe::open(name, &root)).await
}

/// Judges the files of `recipe` as they are.
async fn check_files(
    recipe: Recipe,
    domain: Domain,
    history: History,
    lifetime: &dyn RunLifetime,
) -> Result<Report, InspectError> {
    let path = recipe.root().to_owned();
    let judged = lifetime.blocking_tasks().run(move || rules::check(&recipe, domain, &history)).await;
    judged.map_err(|look| match look {
        LayoutError::NoRecipe => InspectError::NoRecipe { path, rule: "it has no compose.yml" },
        LayoutError::Io(source) => InspectError::List { path, source },
    })
}

/// Reads the `release` of `recipe` in its `tree`, which shows that release afterwards.
async fn read_release(
    tree: &RecipeTree,
    recipe: Recipe,
    release: Release,
    domain: &Domain,
    lifetime: &dyn RunLifetime,
) -> Result<PreviousRelease, GitError> {
    tree.checkout(lifetime, &release.commit).await?;
    let judged_as = domain.clone();
    let read = move || PreviousRelease::read(&recipe, release.version, &judged_as);
    Ok(lifetime.blocking_tasks().run(read).await)
}

/// Why there are no releases to look at. Blocks.
fn without_history(path: &Path) -> Option<String> {
    let git_dir = path.join(".git");
    if git_dir.symlink_metadata().is_err() {
        return Some("it is no git repository".to_owned());
    }
    let shallow = "it is a shallow clone; git fetch --unshallow --tags makes it whole";
    git_dir.join("shallow").exists().then(|| shallow.to_owned())
}

async fn look_back(
    recipe: &Recipe,
    domain: &Domain,
    source: RecipeSource,
    scratch: &RunDir,
    lifetime: &dyn RunLifetime,
    limit: Duration,
) -> Result<(History, Option<String>), InspectError> {
    let releases = ReleasesOf::Itself;
    let request = FetchRequest {
        source,
        revision: None,
        releases,
        skip_fetch: false,
        limit,
        marker: None,
        credentials: GitCredentials::default(),
    };
    let tree = match Box::pin(fetch(scratch, lifetime, &request)).await {
        Ok(fetched) => fetched.tree,
        Err(FetchError::NoSuchRevision { .. }) => {
            return Ok((History::default(), Some("nothing was committed yet".to_owned())));
        }
        Err(error) => return Err(error.into()),
    };
    let releases = tree.releases(lifetime).await?;
    let head = tree.tested().clone();
    let committed = of_tree(&tree, lifetime).await?;
    let (on_disk, of_head, judged_as) = (recipe.clone(), committed.clone(), domain.clone());
    let same = move || rules::fingerprint(&on_disk, &judged_as) == rules::fingerprint(&of_head, &judged_as);
    let unchanged = lifetime.blocking_tasks().run(same).await;
    let at_head = releases.at(&head).cloned();
    // What was changed since a release is compared with that one; the release itself with the one before it.
    let before = match at_head.clone().filter(|_| !unchanged) {
        Some(release) => Some(release),
        None => tree.newest_before(lifetime, &head).await?,
    };
    let is_release = at_head.filter(|_| unchanged).map(|release| release.version);
    let unfit = releases.unfit;
    let Some(release) = before else {
        let why = match &is_release {
            Some(version) => format!("there is none before {version}"),
            None => "it has none yet".to_owned(),
        };
        return Ok((History { is_release, unfit, previous: None }, Some(why)));
    };
    let previous = read_release(&tree, committed, release, domain, lifetime).await?;
    Ok((History { is_release, unfit, previous: Some(previous) }, None))
}
