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

use super::Failure;
use super::drive::Running;
use super::steps::broken;
use super::tiers::StepError;
use crate::engine::{App, EngineError};
use crate::model::error_chain;
use crate::model::event::Event;
use crate::names::RecipeName;
use crate::recipe::EnvFile;
use crate::workspace::{CommitId, GitError, RecipeTree};

/// So many names are enough for a line.
const NAMES: usize = 10;

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

/// What the run's trees are meant to show, and what was said of its deployer.
#[derive(Debug, Default)]
pub(super) struct Watch {
    shown: Mutex<BTreeMap<RecipeName, CommitId>>,
    /// Whether a test or install step was run: it may have broken what git needs.
    touched: AtomicBool,
    said: Mutex<BTreeSet<String>>,
}

impl Watch {
    /// The run itself moved `tree`.
    pub fn moved(&self, tree: &RecipeTree, commit: &CommitId) {
        locked(&self.shown).insert(tree.name().clone(), commit.clone());
    }

    /// A test or install step is run.
    pub fn touched(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }

    fn shows(&self, tree: &RecipeTree) -> CommitId {
        locked(&self.shown).get(tree.name()).unwrap_or(tree.tested()).clone()
    }

    fn is_new(&self, text: &str) -> bool {
        locked(&self.said).insert(text.to_owned())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running<'_> {
    /// `work`, which is the deployer's `call` on `app`, and what it must leave alone.
    pub(super) async fn guarded<T>(
        &self,
        app: &App,
        call: Call,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, StepError> {
        let tree = self.tree_of(&app.recipe)?;
        let commit = self.watch.shows(tree);
        let changed = self.look_before(tree, &commit, call).await?;
        if call != Call::Create {
            // Each call does what the tree and the `.env` say now, and either may have changed since the last.
            self.check_recipe(app).await?;
        }
        let env = if call == Call::Create { None } else { Some(self.env_text(app).await?) };
        let done = Box::pin(work).await;
        let looked = async {
            if let Some(env) = env {
                self.put_env_back(app, env).await?;
            }
            self.look_after(tree, &commit, call, &changed).await
        };
        match (done, Box::pin(looked).await) {
            (Ok(done), Ok(None)) => Ok(done),
            (Ok(_), Err(error)) => Err(error),
            (Ok(_), Ok(Some(broke))) => Err(broken(broke)),
            (Err(error), Ok(Some(broke))) => {
                Err(broken(format!("{broke}; it failed: {}", error_chain(&error))))
            }
            // What ended the call may keep us from looking, too.
            (Err(error), Ok(None) | Err(_)) => Err(error.into()),
        }
    }

    /// Gives the files that somebody changed before, of what does not deploy.
    async fn look_before(
        &self,
        tree: &RecipeTree,
        commit: &CommitId,
        call: Call,
    ) -> Result<Vec<String>, StepError> {
        let lifetime = self.session.lifetime.as_ref();
        let name = tree.name();
        let failed = |error| self.git_failed(name, error);
        let head = tree.head(lifetime).await.map_err(failed)?;
        if head != *commit {
            tree.checkout(lifetime, commit).await.map_err(failed)?;
            self.warn_once(&format!(
                "a test or install step moved the checkout of {name} from {commit} to {head}; moved back"
            ));
        }
        let changed = tree.changed(lifetime, commit).await.map_err(failed)?;
        if call.deploys() && !changed.is_empty() {
            let files = some_of(&changed);
            return Err(StepError::Failed(format!(
                "before the {call}, a test or install step changed files of {name} ({files}): what would be deployed is \
                 not the commit {commit}"
            )));
        }
        Ok(changed)
    }

    /// What makes the call's result worthless, if anything does.
    async fn look_after(
        &self,
        tree: &RecipeTree,
        commit: &CommitId,
        call: Call,
        before: &[String],
    ) -> Result<Option<String>, StepError> {
        let lifetime = self.session.lifetime.as_ref();
        let (deployer, name) = (&self.harness.deployer, tree.name());
        let head = tree.head(lifetime).await.map_err(host)?;
        if head != *commit {
            let moved = format!("{call} of {deployer} moved the checkout of {name} from {commit} to {head}");
            if call.deploys() {
                return Ok(Some(format!("{moved}: what it deployed is not known")));
            }
            tree.checkout(lifetime, commit).await.map_err(host)?;
            self.warn_once(&format!("{moved}; moved back"));
        }
        let mut changed = tree.changed(lifetime, commit).await.map_err(host)?;
        changed.retain(|file| !before.contains(file));
        if changed.is_empty() {
            return Ok(None);
        }
        let files = some_of(&changed);
        Ok(Some(format!(
            "{call} of {deployer} changed files of {name} that are the commit {commit}'s: {files}"
        )))
    }

    /// Puts the `.env` back whole, where it is another one than `before`.
    pub(super) async fn put_env_back(&self, app: &App, before: Vec<u8>) -> Result<(), StepError> {
        let after = self.env_text(app).await;
        if after.as_ref().is_ok_and(|after| *after == before) {
            return Ok(());
        }
        // Names alone: a value may be a secret.
        let what = match after.as_ref().map(|after| changed_names(&before, after)) {
            Ok(Some(names)) if names.is_empty() => "no variable changed".to_owned(),
            Ok(Some(names)) => format!("changed: {}", some_of(&names)),
            Ok(None) => "it was none any more".to_owned(),
            Err(_) => "it could not be read any more".to_owned(),
        };
        let back = app.clone();
        self.session.lifetime.jobs().run(move || back.set_env_text(&before)).await?;
        let text =
            format!("{} rewrote the .env of {} ({what}); it was put back", self.harness.deployer, app.domain);
        if self.watch.is_new(&text) {
            let text = self.session.redactor.redact(&text);
            self.session.reporter.report(&Event::Note { text });
        }
        Ok(())
    }

    /// git worked in the clone until tests and install steps ran there: what it can't read now is their doing, unless
    /// the host says otherwise.
    pub(super) fn git_failed(&self, recipe: &RecipeName, error: GitError) -> StepError {
        if self.watch.touched.load(Ordering::Relaxed) && error.is_of_repository() {
            let why = error_chain(&error);
            return StepError::Failed(format!(
                "a test or install step broke the repository of {recipe}: {why}"
            ));
        }
        host(error)
    }

    pub(super) async fn env_text(&self, app: &App) -> Result<Vec<u8>, EngineError> {
        let app = app.clone();
        self.session.lifetime.jobs().run(move || app.env_text()).await
    }

    pub(super) fn warn_once(&self, text: &str) {
        if self.watch.is_new(text) {
            self.warn(text);
        }
    }

    fn tree_of(&self, recipe: &RecipeName) -> Result<&RecipeTree, StepError> {
        let mut trees = self.dependency_trees().iter().map(|(tree, _)| tree);
        match trees.find(|tree| tree.name() == recipe) {
            Some(tree) => Ok(tree),
            None => self.tree().map_err(StepError::Broken),
        }
    }
}

fn host(error: GitError) -> StepError {
    StepError::Broken(Failure::from(error))
}

/// The variables that are not the same in both; `None` where one of the two is no `.env`.
fn changed_names(before: &[u8], after: &[u8]) -> Option<Vec<String>> {
    let parse = |text: &[u8]| String::from_utf8_lossy(text).parse::<EnvFile>().ok();
    let (before, after) = (parse(before)?, parse(after)?);
    let names: BTreeSet<&String> = before.vars().keys().chain(after.vars().keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(name) != after.get(name));
    Some(changed.cloned().collect())
}

/// The first of `names`, and how many more there are.
pub(super) fn some_of(names: &[String]) -> String {
    let first: Vec<String> = names.iter().take(NAMES).map(|name| name.chars().take(80).collect()).collect();
    match names.len().saturating_sub(NAMES) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
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

    #[test]
    fn a_line_names_a_few_and_counts_the_rest() {
        let names: Vec<String> = (0..12).map(|number| format!("N{number}")).collect();
        assert_eq!(some_of(&names[..2]), "N0, N1");
        assert!(some_of(&names).ends_with("N9 and 2 more"));
        assert_eq!(some_of(&["x".repeat(1 << 20)]).len(), 80);
    }
}
