//! What tiers are made of: bringing an app up, upgrading it, backing it up, running a test.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use sha2::{Digest as _, Sha256};

use super::Failure;
use super::drive::Running;
use super::guarded::Call;
use super::reading::Said;
use super::scripts::{INSTALL_STEPS, Script, Scripts};
use super::tiers::StepError;
use crate::engine::{App, Backup, EngineError, Fault};
use crate::lifetime::{ChildError, RunLifetimeExt as _, SpawnError};
use crate::model::error_chain;
use crate::model::event::Event;
use crate::model::record::TierName;
use crate::sys::contained::read_contained;
use crate::workspace::{CommitId, RecipeTree, Release, SnapshotError, StateError};

/// A test says with this status that it does not apply.
const SKIPPED: i32 = 77;

/// More than any secret has.
const SECRET_LIMIT: u64 = 1 << 16;

/// How much of a test's output a report keeps.
const OUTPUT_TAIL: usize = 4000;

/// And how much of the line in which it says why it skipped itself.
const REASON_LIMIT: usize = 1024;

/// How long the name of a log may be, without its ending.
const NAME_LIMIT: usize = 120;

/// What is deployed: a release, or the commit under test.
#[derive(Debug, Clone)]
pub(super) struct Revision {
    pub commit: CommitId,
    /// The release's version, or the commit's first digits.
    pub name: String,
}

impl Revision {
    pub fn release(release: &Release) -> Self {
        Self { commit: release.commit.clone(), name: release.version.to_string() }
    }

    pub fn commit(commit: &CommitId) -> Self {
        Self { commit: commit.clone(), name: commit.short().to_owned() }
    }
}

impl Running<'_> {
    pub(super) fn tests_directory(&self) -> PathBuf {
        self.session.tmp.join("recipe-tests")
    }

    /// Keeps the recipe's tests as they are in the commit under test, before a checkout moves the tree.
    pub(super) async fn snapshot_scripts(&self) -> Result<Scripts, Failure> {
        let to = self.tests_directory();
        self.directory
            .make_private(&to)
            .map_err(|error| Failure::host(format!("can't make {}: {error}", to.display())))?;
        let tree = self.tree()?;
        tree.snapshot(self.session.lifetime.as_ref(), "tests", &to).await.map_err(|error| {
            let failure = if is_of_recipe(&error) { Failure::recipe } else { Failure::host };
            failure(error_chain(&error))
        })?;
        Scripts::find(self.operator_tests().as_deref(), Some(&to.join("tests")))
            .map_err(|error| Failure::host(format!("can't read the tests: {error}")))
    }

    /// The commit under test; by its version where it is a release.
    pub(super) fn tested(&self) -> Result<Revision, Failure> {
        match self.tested_release() {
            Some(release) => Ok(Revision::release(release)),
            None => Ok(Revision::commit(self.tree()?.tested())),
        }
    }

    /// Brings up the recipes that the one under test needs.
    pub(super) async fn deploy_dependencies(&self) -> Result<(), Failure> {
        for (tree, domain) in self.dependency_trees() {
            self.enter(&format!("dependency {}", tree.name()));
            let lifetime = self.session.lifetime.as_ref();
            let releases =
                tree.releases(lifetime).await.map_err(|error| Failure::host(error_chain(&error)))?;
            let newest = releases.releases.first();
            let revision = newest.map_or_else(|| Revision::commit(tree.tested()), Revision::release);
            let app = self.app(tree.name(), domain);
            let up = async {
                self.checkout(tree, &revision).await?;
                self.create_env(&app).await?;
                self.generate_secrets(&app).await?;
                self.harness.site.engine.pre_pull(&app).await?;
                self.deploy(&app).await?;
                self.wait_converged(&app).await
            };
            up.await.map_err(|error| match error {
                StepError::Broken(failure) => failure,
                // A dependency that doesn't come up says nothing of the recipe under test.
                StepError::Failed(reason) | StepError::Skipped(reason) => {
                    Failure::host(format!("the dependency {} did not come up: {reason}", tree.name()))
                }
            })?;
        }
        Ok(())
    }

    /// Checks `revision` out, creates the app, generates its secrets, runs the install steps, pre-pulls.
    pub(super) async fn create(
        &self,
        app: &App,
        revision: &Revision,
        scripts: &Scripts,
    ) -> Result<(), StepError> {
        self.checkout(self.tree().map_err(StepError::Broken)?, revision).await?;
        self.create_env(app).await?;
        self.generate_secrets(app).await?;
        for script in &scripts.install_steps {
            self.run_script(script, TierName::Install, Some(&revision.name)).await.map_err(|error| {
                match error {
                    StepError::Failed(reason) => StepError::Failed(format!("{INSTALL_STEPS}: {reason}")),
                    // Install steps have nothing to skip.
                    StepError::Skipped(_) => {
                        StepError::Failed(format!("{INSTALL_STEPS}: exit status {SKIPPED}"))
                    }
                    broken @ StepError::Broken(_) => broken,
                }
            })?;
        }
        // They may have asked for more.
        self.generate_secrets(app).await?;
        Ok(self.harness.site.engine.pre_pull(app).await?)
    }

    /// The one deploy of an app (I10).
    pub(super) async fn deploy_once(&self, app: &App) -> Result<(), StepError> {
        let count = self.directory.state().count_deploy().map_err(|error| match error {
            StateError::Write { .. } => broken(error_chain(&error)),
            // A script can write there; nobody else does.
            error => StepError::Failed(error_chain(&error)),
        })?;
        let known = {
            let mut record = self.record();
            record.deploy_count = record.deploy_count.saturating_add(1);
            record.deploy_count
        };
        if std::mem::replace(&mut self.pass().deployed, true) {
            return Err(broken(format!(
                "an app is deployed once, and this would be deploy {known} of the run"
            )));
        }
        if count != u64::from(known) {
            return Err(StepError::Failed(format!("something else changed the deploy count: {count}")));
        }
        self.deploy(app).await?;
        self.wait_converged(app).await
    }

    /// In place to `revision`: new variables and secrets first.
    pub(super) async fn upgrade_in_place(&self, app: &App, revision: &Revision) -> Result<(), StepError> {
        self.checkout(self.tree().map_err(StepError::Broken)?, revision).await?;
        self.add_new_variables(app).await?;
        self.generate_secrets(app).await?;
        self.harness.site.engine.pre_pull(app).await?;
        let upgrade = self.harness.deployer.upgrade(&self.session, app);
        self.guarded(app, Call::Upgrade, upgrade).await?;
        self.wait_converged(app).await
    }

    pub(super) async fn backup(&self, app: &App) -> Result<Backup, StepError> {
        self.guarded(app, Call::Backup, self.harness.deployer.backup(&self.session, app)).await
    }

    pub(super) async fn restore(&self, app: &App, backup: &Backup) -> Result<(), StepError> {
        let restore = self.harness.deployer.restore(&self.session, app, backup);
        self.guarded(app, Call::Restore, restore).await?;
        self.wait_converged(app).await
    }

    pub(super) async fn wait_converged(&self, app: &App) -> Result<(), StepError> {
        let limit = self.converge_limit(app, &self.said(app).await?);
        Ok(self.harness.site.engine.wait_converged(&app.domain, limit).await?)
    }

    /// What the app gets to come up: what its recipe asks for, as far as the operator lets it.
    pub(super) fn converge_limit(&self, app: &App, said: &Said) -> Duration {
        let settings = &self.harness.settings;
        let (limit, most) = (settings.converge_limit, settings.converge_max.max(settings.converge_limit));
        match said.labels.timeout {
            Some(asked) if asked > most => {
                self.warn_once(&format!(
                    "{} asks for {asked:?} to come up; it gets {most:?} at the most (converge_max)",
                    app.recipe
                ));
                most
            }
            asked => asked.unwrap_or(limit),
        }
    }

    async fn checkout(&self, tree: &RecipeTree, revision: &Revision) -> Result<(), StepError> {
        tree.checkout(self.session.lifetime.as_ref(), &revision.commit)
            .await
            .map_err(|error| self.git_failed(tree.name(), error))?;
        self.watch.moved(tree, &revision.commit);
        Ok(())
    }

    async fn create_env(&self, app: &App) -> Result<(), StepError> {
        self.guarded(app, Call::Create, self.harness.deployer.create(&self.session, app)).await
    }

    async fn deploy(&self, app: &App) -> Result<(), StepError> {
        self.guarded(app, Call::Deploy, self.harness.deployer.deploy(&self.session, app)).await
    }

    /// New secrets are hidden from every output before anything can print them, and put where tests find them.
    async fn generate_secrets(&self, app: &App) -> Result<(), StepError> {
        let generate = async {
            let generated = self.harness.deployer.generate_secrets(&self.session, app).await?;
            for value in generated.values() {
                self.session.redactor.hide(value);
            }
            Ok(generated)
        };
        let generated = self.guarded(app, Call::GenerateSecrets, generate).await?;
        let directory = self.secrets_directory(app);
        let kept = || -> io::Result<()> {
            self.directory.make_private(&directory)?;
            for (name, value) in &generated {
                // A recipe's script may have put anything in its place: it is replaced, never opened.
                self.directory.write(&directory.join(name), value.as_bytes())?;
            }
            Ok(())
        };
        kept().map_err(|error| broken(format!("can't keep the secrets for the tests: {error}")))
    }

    pub(super) fn secrets_directory(&self, app: &App) -> PathBuf {
        self.session.tmp.join("secrets").join(app.domain.as_str())
    }

    /// The secrets of an app, by short name.
    pub(super) fn secrets(&self, app: &App) -> io::Result<BTreeMap<String, String>> {
        let mut secrets = BTreeMap::new();
        let directory = self.secrets_directory(app);
        for entry in fs::read_dir(&directory)? {
            let name = entry?.file_name();
            let value = read_contained(&directory, &name, SECRET_LIMIT).map_err(io::Error::other)?;
            let value = String::from_utf8(value).map_err(io::Error::other)?;
            secrets.insert(name.to_string_lossy().into_owned(), value);
        }
        Ok(secrets)
    }

    /// Runs one test. Its output goes to the run's logs, and into the report when it fails.
    pub(super) async fn run_script(
        &self,
        script: &Script,
        tier: TierName,
        version: Option<&str>,
    ) -> Result<(), StepError> {
        let app = self.main_app();
        // Each app has its own: a test runs once for each of them.
        let of_pass = self.pass().from.as_ref().map(|from| format!("from-{from}-")).unwrap_or_default();
        let log_name = file_name(format!("{of_pass}{tier}-{}", script.name().replace('/', "-")));
        let scratch = self.session.tmp.join("scratch");
        let state = self.session.tmp.join(file_name(format!("{of_pass}state")));
        let scratch = scratch.join(&log_name);
        for directory in [&scratch, &state] {
            self.directory
                .make_private(directory)
                .map_err(|error| broken(format!("can't make {}: {error}", directory.display())))?;
        }
        let mut command = self
            .session
            .command(&app.domain, &script.path, &scratch)
            .grace(Duration::ZERO)
            .env("CCCI_TIER", tier.as_str())
            .env("CCCI_RECIPE", app.recipe.as_str())
            .env("CCCI_RECIPE_DIR", &app.tree)
            .env("CCCI_DOMAIN", app.domain.as_str())
            .env("CCCI_STACK", app.domain.stack().as_str())
            .env("CCCI_COMMIT", self.record().commit.clone().unwrap_or_default())
            .env("CCCI_VERSION", version.unwrap_or_default())
            .env("CCCI_ENV_FILE", &app.env_file)
            .env("CCCI_SECRETS_DIR", self.secrets_directory(&app))
            .env("CCCI_STATE_DIR", &state)
            .env("CCCI_EXECUTOR", self.harness.deployer.to_string());
        if let Ok(endpoint) = self.harness.site.engine.endpoint(&app.domain).await {
            command = command.env("CCCI_URL", format!("http://{}", endpoint.address));
        }
        for (tree, domain) in self.dependency_trees() {
            let name = tree.name().as_str().to_ascii_uppercase().replace(['-', '.'], "_");
            command = command.env(format!("CCCI_DEPENDENCY_{name}_DOMAIN"), domain.as_str());
        }
        self.owners.check(&app.domain).map_err(|lost| StepError::Broken(lost.into()))?;
        let mut output = String::new();
        let limit = self.harness.settings.script_limit;
        self.watch.touched();
        let ended = self
            .session
            .lifetime
            .run(command, limit, &mut |line| {
                output.push_str(&self.session.redactor.redact_line(line));
                output.push('\n');
            })
            .await;
        let output = self.keep_log(log_name, output).await;
        let reason = match ended {
            Ok(ended) if ended.success() => return Ok(()),
            Ok(ended) if ended.code == Some(SKIPPED) => {
                return Err(StepError::Skipped(why_skipped(&output).to_owned()));
            }
            Ok(ended) => ended.to_string(),
            Err(error @ ChildError::TimedOut { .. }) => error.to_string(),
            Err(ChildError::Spawn(error)) if cannot_be_executed(&error) => error_chain(&error),
            Err(error) => return Err(broken(error_chain(&error))),
        };
        let text = tail(&output, OUTPUT_TAIL).to_owned();
        self.session.reporter.report(&Event::Output { of: script.name(), text });
        Err(StepError::Failed(reason))
    }

    /// A log that can't be kept never ends a run, and what a test put in its place is replaced.
    async fn keep_log(&self, name: String, output: String) -> String {
        // Replaced and never opened: a script can reach it, and may have put a pipe there.
        let (directory, log) = (self.directory.clone(), self.directory.logs().join(format!("{name}.log")));
        let keep = move || {
            if let Err(error) = directory.write(&log, output.as_bytes()) {
                tracing::warn!(name, %error, "can't keep a log");
            }
            output
        };
        self.session.lifetime.jobs().run(keep).await
    }
}

pub(super) fn broken(message: impl Into<String>) -> StepError {
    StepError::Broken(EngineError::new(Fault::Host, message).into())
}

/// Whether the tests can't be taken because of what they are. A path that is too long is one that the recipe chose.
fn is_of_recipe(error: &SnapshotError) -> bool {
    match error {
        SnapshotError::Refused(_) => true,
        SnapshotError::Copy { source, .. } => source.kind() == io::ErrorKind::InvalidFilename,
        _ => false,
    }
}

/// Whether it is the test's own fault that it was not started: what it is, or names as its interpreter, can't be
/// executed. All else, such as no memory for one more process, is the host's.
fn cannot_be_executed(error: &SpawnError) -> bool {
    let SpawnError::Io { source, .. } = error else { return false };
    source.raw_os_error().map(Errno::from_raw).is_some_and(|errno| {
        matches!(
            errno,
            Errno::ENOENT
                | Errno::EACCES
                | Errno::ENOEXEC
                | Errno::ELIBBAD
                | Errno::ELOOP
                | Errno::E2BIG
                | Errno::ENOTDIR
                | Errno::EISDIR
                | Errno::ENAMETOOLONG
                | Errno::ETXTBSY
        )
    })
}

/// `name` as the name of a file that gets an ending yet: a test's own name may be as long as any file's.
fn file_name(mut name: String) -> String {
    if name.len() > NAME_LIMIT {
        let digest = Sha256::digest(&name);
        name.truncate(name.floor_char_boundary(NAME_LIMIT - 17));
        name.push('-');
        name.extend(digest[..8].iter().map(|byte| format!("{byte:02x}")));
    }
    name
}

/// The last line of a test that skipped itself, as long as a reason is: the record keeps it.
fn why_skipped(output: &str) -> &str {
    let line = output.lines().next_back().unwrap_or("it said no reason");
    &line[..line.floor_char_boundary(REASON_LIMIT)]
}

/// The last `limit` bytes, from the start of a line where one begins there.
fn tail(text: &str, limit: usize) -> &str {
    let mut start = text.len().saturating_sub(limit);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    match text[start..].find('\n') {
        Some(line) if start > 0 && start + line + 1 < text.len() => &text[start + line + 1..],
        _ => &text[start..],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_line_and_bounded() {
        assert_eq!(why_skipped("setting up\nno network here\n"), "no network here");
        assert_eq!(why_skipped(""), "it said no reason");
        assert_eq!(why_skipped(&"ä€".repeat(1 << 20)).len(), REASON_LIMIT - 2);
    }

    #[test]
    fn a_name_as_long_as_a_file_system_has_them_leaves_room_for_an_ending() {
        assert_eq!(file_name("custom-recipe-custom".to_owned()), "custom-recipe-custom");
        let (one, other) = (file_name("ä".repeat(127) + "a"), file_name("ä".repeat(127) + "b"));
        assert!(one.len() <= NAME_LIMIT && other.len() <= NAME_LIMIT, "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn a_test_that_cannot_be_executed_is_told_from_a_host_that_starts_nothing() {
        let refused = |errno: Errno| SpawnError::Io { program: "x".into(), source: errno.into() };
        for errno in
            [Errno::ENOENT, Errno::EACCES, Errno::ENOEXEC, Errno::ELOOP, Errno::E2BIG, Errno::ENOTDIR]
        {
            assert!(cannot_be_executed(&refused(errno)), "{errno}");
        }
        for errno in [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE, Errno::EIO] {
            assert!(!cannot_be_executed(&refused(errno)), "{errno}");
        }
        assert!(!cannot_be_executed(&SpawnError::TearingDown { program: "x".into() }));
    }

    #[test]
    fn tests_that_cannot_be_copied_are_the_hosts_fault_and_refused_ones_the_recipes() {
        let copy = |kind: io::ErrorKind| SnapshotError::Copy { path: "tests/x".into(), source: kind.into() };
        assert!(!is_of_recipe(&copy(io::ErrorKind::StorageFull)));
        assert!(is_of_recipe(&copy(io::ErrorKind::InvalidFilename)));
    }

    #[test]
    fn a_tail_is_whole_lines() {
        assert_eq!(tail("one\ntwo\nthree\n", 100), "one\ntwo\nthree\n");
        assert_eq!(tail("one\ntwo\nthree\n", 8), "three\n");
        assert_eq!(tail("äöü", 3), "ü");
        assert_eq!(tail("one\ntwo and three\n", 6), "three\n", "part of a long line is better than nothing");
    }
}
