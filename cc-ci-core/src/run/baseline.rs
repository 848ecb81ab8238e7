//! A warm app's baseline: the version that it has between tests.
//!
//! The operator's `.env` is never written: deployers work on copies of it. The baseline is checked out in an abra tree
//! of its own, from the source that the operator configured: nothing of what is tested decides what is deployed here,
//! whatever its tags say.

use std::ffi::OsString;
use std::path::Path;

use super::recipe;
use super::state::{Fetched, Run};
use super::step::first_few;
use crate::engine::{App, RunContext};
use crate::inventory::env_files::EnvFiles;
use crate::model::error_chain;
use crate::model::failure::Failure;
use crate::names::Version;
use crate::sys::files::write_whole;
use crate::workspace::{self, FetchRequest, RecipeSource, RecipeTree, Release, ReleasesOf};

/// The baseline, ready to be deployed.
#[derive(Debug)]
pub(super) struct Baseline {
    /// The environment of children, with the baseline's own abra tree and home.
    environment: Vec<(OsString, OsString)>,
    pub app: App,
    tree: RecipeTree,
    pub release: Release,
}

impl Baseline {
    /// Gets the baseline of the run's warm app into a tree of its own.
    pub async fn fetch(run: &Run<'_>) -> Result<Self, Failure> {
        let (recipe, domain) = (run.request.recipe.clone(), run.record().domain.clone());
        let warm = run.harness.guard_warm(&recipe).await?;
        let (directory, server) = (run.directory.clone(), run.harness.ci_host.env_files.server().to_owned());
        let lifetime = run.harness.lifetime.as_ref();
        let root = lifetime.blocking_tasks().run(move || directory.make_warm_tree(&server)).await?;
        let request = FetchRequest {
            source: warm.source.clone().unwrap_or_else(|| RecipeSource::Name(recipe.clone())),
            revision: None,
            releases: ReleasesOf::Itself,
            skip_fetch: false,
            limit: run.harness.settings.fetch_limit,
            marker: Some(run.context.marker(&domain)),
            credentials: run.harness.settings.git_credentials.clone(),
        };
        let fetched = workspace::fetch_into(&run.directory, &root.join("recipes"), lifetime, &request).await;
        let fetched = fetched.map_err(|error| {
            let hint = format!("say where its baseline is: [recipes.{recipe}] source");
            Failure::from(error).with_hint(hint)
        })?;
        for note in fetched.notes {
            run.warn(&format!("the warm app's recipe: {note}"));
        }
        let tree = fetched.tree;
        let releases = tree.releases(lifetime).await?.releases;
        let release = choose(releases, warm.version.as_ref()).map_err(|what| {
            Failure::configuration(format!("{} has {what}", run.request.source))
                .with_hint(format!("set [recipes.{recipe}] warm_version to a release, an annotated tag"))
        })?;
        tree.checkout(lifetime, &release.commit).await?;
        let files = EnvFiles::new(&root.join("servers"), run.harness.ci_host.env_files.server());
        let environment = [run.directory.warm_environment(), run.harness.deployer.environment()].concat();
        let app = App { env_file: files.path(&domain), tree: tree.root().to_owned(), recipe, domain };
        Ok(Self { environment, app, tree, release })
    }

    /// What is upgraded downwards proves nothing: the commit under test must build on the baseline.
    pub async fn guard_ancestry(&self, run: &Run<'_>, fetched: &Fetched) -> Result<(), Failure> {
        let (tree, release) = (&fetched.tested, &self.release);
        if tree.builds_on(run.harness.lifetime.as_ref(), tree.tested(), &release.commit).await? {
            return Ok(());
        }
        let (domain, version) = (&self.app.domain, &release.version);
        Err(Failure::configuration(format!(
            "the commit {} does not build on {version}, the baseline of {domain}: nothing can be upgraded",
            tree.tested().short()
        ))
        .with_hint(format!("rebase it onto {version}, or test it in the cold lane: leave --quick out")))
    }

    /// Its version, where it is the commit under test itself.
    pub fn version_under_test(&self, fetched: &Fetched) -> Option<&Version> {
        (self.release.commit == *fetched.tested.tested()).then_some(&self.release.version)
    }

    /// `context`, with the baseline's own abra tree.
    pub fn context(&self, context: &RunContext) -> RunContext {
        RunContext { environment: self.environment.clone(), ..context.clone() }
    }

    /// Copies the operator's `.env` to where the run's deployers see it, with the baseline's new variables; gives their
    /// names. Under the lock: it may have changed before.
    pub async fn copy_env(&self, run: &Run<'_>, to: &Path) -> Result<Vec<String>, Failure> {
        let files = run.harness.ci_host.env_files.clone();
        let copy = App { env_file: to.to_owned(), ..self.app.clone() };
        let work = move || {
            let content = files.read(&copy.domain).map_err(|error| {
                let path = files.path(&copy.domain);
                Failure::host(format!("can't use {}: {}", path.display(), error_chain(&error)))
            })?;
            let to = &copy.env_file;
            write_whole(to, &content, 0o600)
                .map_err(|error| Failure::host(format!("can't write {}", to.display())).with_source(error))?;
            recipe::add_missing(&copy, false)
        };
        run.harness.lifetime.blocking_tasks().run(work).await
    }

    /// Puts its files and `.env` in place: tests ran beside them, and a deployer's call may have changed them. Gives the
    /// names of the variables that the operator's `.env` lacks.
    pub async fn lay_out(&self, run: &Run<'_>, context: &RunContext) -> Result<Vec<String>, Failure> {
        self.tree.checkout_anew(context.lifetime.as_ref(), &self.release.commit).await?;
        self.guard_files(context, "before the deploy").await?;
        self.copy_env(run, &self.app.env_file).await
    }

    /// Its checkout shows its commit, and nothing else.
    pub async fn guard_files(&self, context: &RunContext, when: &str) -> Result<(), Failure> {
        let lifetime = context.lifetime.as_ref();
        let head = self.tree.head(lifetime).await?;
        if head != self.release.commit {
            return Err(Failure::recipe(format!("the checkout of the baseline shows {head} {when}")));
        }
        let changed = self.tree.changed(lifetime, &self.release.commit).await?;
        if changed.is_empty() {
            return Ok(());
        }
        let files = first_few(&changed);
        Err(Failure::recipe(format!(
            "files of the checkout of the baseline are not its commit's {when}: {files}"
        )))
    }
}

/// The release that is wanted, or the newest; else what there is in words.
fn choose(releases: Vec<Release>, wanted: Option<&Version>) -> Result<Release, String> {
    let known: Vec<String> = releases.iter().map(|release| release.version.to_string()).collect();
    let is_wanted = |release: &Release| wanted.is_none_or(|wanted| release.version == *wanted);
    releases.into_iter().find(is_wanted).ok_or_else(|| {
        let what = wanted.map_or_else(|| "no release".to_owned(), |wanted| format!("no release {wanted}"));
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        format!("{what}: its releases are {known}")
    })
}
