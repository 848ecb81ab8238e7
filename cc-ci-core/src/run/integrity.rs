//! Around every call of a deployer: the app's `.env` and the recipe's checkout are what they were.
//!
//! abra rewrites the `.env` of the app that it works on (`TYPE=recipe:version`) and moves the recipe's checkout to that
//! version. What a deployer rewrote is put back whole, and said once. A checkout that moved under a call which deploys
//! ends the run: nobody knows what was deployed. Under another call it is moved back.
//!
//! What changed *before* a call was none of the deployer: a test or `install_steps.sh` did it. The checkout is moved back;
//! tracked files that differ from the commit make a deploy red, since it would not be of that commit.
//!
//! And what the recipe says is checked before each call that follows it, the commit under test, a release or a dependency
//! alike: a name that is not of the app's stack would be a bystander's volume or secret.
//!
//! # Limitations
//! Files that git does not track are nobody's commit: install steps may add some. A script that forges objects in the
//! clone's store is not seen. Nor is what a process that a test left running changes between a look and the call.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::recipe;
use super::state::{Fetched, Revision, Run};
use super::step::first_few;
use crate::engine::App;
use crate::model::error_chain;
use crate::model::failure::Failure;
use crate::names::RecipeName;
use crate::recipe::EnvFile;
use crate::workspace::{CommitId, GitError, RecipeTree};

/// A call of a deployer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Create,
    GenerateSecrets,
    Deploy,
    Upgrade,
    Backup,
    Restore,
}

impl Call {
    /// Whether the engine gets orders that are made of the checkout.
    fn deploys(self) -> bool {
        matches!(self, Self::Deploy | Self::Upgrade)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::GenerateSecrets => "generate secrets",
            Self::Deploy => "deploy",
            Self::Upgrade => "upgrade",
            Self::Backup => "backup",
            Self::Restore => "restore",
        })
    }
}

/// The checkouts of a run, and what each is meant to show.
#[derive(Debug)]
pub(super) struct CheckoutGuard<'r> {
    run: &'r Run<'r>,
    fetched: &'r Fetched,
    expected: Mutex<BTreeMap<RecipeName, CommitId>>,
    /// Whether a test or install step was run: it may have broken what git needs.
    dirty: AtomicBool,
}

impl<'r> CheckoutGuard<'r> {
    pub fn new(run: &'r Run<'r>, fetched: &'r Fetched) -> Self {
        Self { run, fetched, expected: Mutex::default(), dirty: AtomicBool::new(false) }
    }

    /// Checks `revision` out: from now on the tree of the recipe is meant to show it.
    pub async fn checkout(&self, tree: &RecipeTree, revision: &Revision) -> Result<(), Failure> {
        let checked_out = tree.checkout(self.run.context.lifetime.as_ref(), &revision.commit).await;
        checked_out.map_err(|error| self.git_failed(tree, error))?;
        self.expected().insert(tree.name().clone(), revision.commit.clone());
        Ok(())
    }

    /// A test or install step is run.
    pub fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Relaxed);
    }

    /// Awaits `work`, which is the deployer's `call` on `app`, and sees that it leaves alone what it must.
    pub async fn around<T>(
        &self,
        app: &App,
        call: Call,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let tree = self.fetched.tree_of(&app.recipe);
        let commit = self.expected().get(tree.name()).unwrap_or(tree.tested()).clone();
        let changed = self.check_before(tree, &commit, call).await?;
        if call != Call::Create {
            // Each call does what the tree and the `.env` say now, and either may have changed since the last.
            recipe::check(self.run, app).await?;
        }
        let env = if call == Call::Create { None } else { Some(env_text(self.run, app).await?) };
        let done = Box::pin(work).await;
        let checked = async {
            if let Some(env) = env {
                put_env_back(self.run, app, env).await?;
            }
            self.check_after(tree, &commit, call, &changed).await
        };
        match (done, Box::pin(checked).await) {
            (Ok(done), Ok(None)) => Ok(done),
            (Ok(_), Ok(Some(broke))) => Err(Failure::host(broke)),
            (Err(failure), Ok(Some(broke))) => {
                Err(Failure::host(format!("{broke}; it failed: {}", failure.chain())))
            }
            // What ended the call may keep us from looking, too.
            (Ok(_), Err(failure)) | (Err(failure), Ok(None) | Err(_)) => Err(failure),
        }
    }

    /// Gives the files that somebody changed before, of what does not deploy.
    async fn check_before(
        &self,
        tree: &RecipeTree,
        commit: &CommitId,
        call: Call,
    ) -> Result<Vec<String>, Failure> {
        let lifetime = self.run.context.lifetime.as_ref();
        let name = tree.name();
        let failed = |error| self.git_failed(tree, error);
        let head = tree.head(lifetime).await.map_err(failed)?;
        if head != *commit {
            tree.checkout(lifetime, commit).await.map_err(failed)?;
            self.run.warn_once(&format!(
                "a test or install step moved the checkout of {name} from {commit} to {head}; moved back"
            ));
        }
        let changed = tree.changed(lifetime, commit).await.map_err(failed)?;
        if call.deploys() && !changed.is_empty() {
            let files = first_few(&changed);
            return Err(Failure::recipe(format!(
                "before the {call}, a test or install step changed files of {name} ({files}): what would be deployed is \
                 not the commit {commit}"
            )));
        }
        Ok(changed)
    }

    /// What makes the call's result worthless, if anything does.
    async fn check_after(
        &self,
        tree: &RecipeTree,
        commit: &CommitId,
        call: Call,
        before: &[String],
    ) -> Result<Option<String>, Failure> {
        let lifetime = self.run.context.lifetime.as_ref();
        let (deployer, name) = (&self.run.harness.deployer, tree.name());
        let head = tree.head(lifetime).await?;
        if head != *commit {
            let moved = format!("{call} of {deployer} moved the checkout of {name} from {commit} to {head}");
            if call.deploys() {
                return Ok(Some(format!("{moved}: what it deployed is not known")));
            }
            tree.checkout(lifetime, commit).await?;
            self.run.warn_once(&format!("{moved}; moved back"));
        }
        let mut changed = tree.changed(lifetime, commit).await?;
        changed.retain(|file| !before.contains(file));
        if changed.is_empty() {
            return Ok(None);
        }
        let files = first_few(&changed);
        Ok(Some(format!(
            "{call} of {deployer} changed files of {name} that are the commit {commit}'s: {files}"
        )))
    }

    /// git worked in the clone until tests and install steps ran there: what it can't read now is their doing, unless
    /// the host says otherwise.
    fn git_failed(&self, tree: &RecipeTree, error: GitError) -> Failure {
        if self.dirty.load(Ordering::Relaxed) && error.is_of_repository() {
            let (recipe, why) = (tree.name(), error_chain(&error));
            return Failure::recipe(format!(
                "a test or install step broke the repository of {recipe}: {why}"
            ));
        }
        error.into()
    }

    fn expected(&self) -> MutexGuard<'_, BTreeMap<RecipeName, CommitId>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text of the app's `.env`, as it is now.
pub(super) async fn env_text(run: &Run<'_>, app: &App) -> Result<Vec<u8>, Failure> {
    let app = app.clone();
    run.context.lifetime.blocking_tasks().run(move || app.env_text()).await
}

/// Puts the `.env` back whole, where it is another one than `before`.
pub(super) async fn put_env_back(run: &Run<'_>, app: &App, before: Vec<u8>) -> Result<(), Failure> {
    let after = env_text(run, app).await;
    if after.as_ref().is_ok_and(|after| *after == before) {
        return Ok(());
    }
    // Names alone: a value may be a secret.
    let what = match after.as_ref().map(|after| changed_names(&before, after)) {
        Ok(Some(names)) if names.is_empty() => "no variable changed".to_owned(),
        Ok(Some(names)) => format!("changed: {}", first_few(&names)),
        Ok(None) => "it was no .env file any more".to_owned(),
        Err(_) => "it could not be read any more".to_owned(),
    };
    let back = app.clone();
    run.context.lifetime.blocking_tasks().run(move || back.set_env_text(&before)).await?;
    let (deployer, domain) = (&run.harness.deployer, &app.domain);
    run.note_once(&format!("{deployer} rewrote the .env of {domain} ({what}); it was put back"));
    Ok(())
}

/// The variables that are not the same in both; `None` where one of the two is no `.env`.
fn changed_names(before: &[u8], after: &[u8]) -> Option<Vec<String>> {
    let parse = |text: &[u8]| String::from_utf8_lossy(text).parse::<EnvFile>().ok();
    let (before, after) = (parse(before)?, parse(after)?);
    let names: BTreeSet<&String> = before.vars().keys().chain(after.vars().keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(name) != after.get(name));
    Some(changed.cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_by_name_and_never_by_value() {
        let before = b"TYPE=app\nDOMAIN=x\nOLD=1\n# a comment\n";
        let names = |after: &[u8]| changed_names(before, after);
        assert_eq!(
            names(b"TYPE=app:1.0.0+1\nDOMAIN=x\nNEW=hunter22\n"),
            Some(["NEW", "OLD", "TYPE"].map(str::to_owned).to_vec())
        );
        assert_eq!(names(b"TYPE=app\nDOMAIN=x\nOLD=1\n"), Some(Vec::new()), "a comment is no variable");
        assert_eq!(names(b"TYPE=app\n=x=\n"), None);
    }
}
