//! Running one test, or install step: an executable of the operator or the recipe.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::api::Api;
use super::confine;
use super::evidence::file_name;
use super::install_copy::Copies;
use super::ready::Ready;
use super::scripts::{Layer, Script, Scripts};
use super::step::StepOutcome;
use crate::lifetime::{ChildError, Command, RunLifetimeExt as _};
use crate::model::error_chain;
use crate::model::event::Event;
use crate::model::failure::{Failure, Fault};
use crate::model::record::TierName;
use crate::recipe::INSTALL_STEPS;
use crate::sys::output::QueuedWriter;
use crate::sys::text::sanitize;
use crate::workspace::{RunDir, home_environment};

/// A test says with this status that it does not apply.
const SKIPPED: i32 = 77;

/// The exit status of shells, and of env(1), for a program that is not there.
const NOT_FOUND: i32 = 127;

/// How much of a test's output a report keeps.
const OUTPUT_TAIL: usize = 4000;

/// And how much of the line in which it says why it skipped itself.
const REASON_LIMIT: usize = 1024;

/// The tests of one app of the run. Each app has its own state and logs: a test runs once for each of them.
#[derive(Debug)]
pub(super) struct Tests<'r> {
    pub ready: &'r Ready<'r>,
    /// What the names of its logs and its state directory begin with.
    prefix: String,
}

/// Where a test works.
struct Place {
    home: PathBuf,
    tmp: PathBuf,
    scratch: PathBuf,
    state: PathBuf,
    /// Where it is confined.
    copies: Option<Copies>,
}

impl<'r> Tests<'r> {
    /// Returns those of the main lane's app.
    pub fn new(ready: &'r Ready<'r>) -> Self {
        Self { ready, prefix: String::new() }
    }

    /// Returns those of the app that is upgraded from `release` in a pass of its own.
    pub fn of_pass(ready: &'r Ready<'r>, release: &str) -> Self {
        Self { ready, prefix: format!("from-{release}-") }
    }

    /// Returns all tests of the run.
    pub fn scripts(&self) -> &'r Scripts {
        &self.ready.fetched.scripts
    }

    /// Runs the install steps at `version`.
    pub async fn install_steps(&self, version: &str) -> Result<(), Failure> {
        for script in &self.scripts().install_steps {
            match self.run(script, TierName::Install, Some(version)).await {
                Ok(StepOutcome::Passed) => {}
                // Install steps have nothing to skip.
                Ok(StepOutcome::Skipped(_)) => {
                    return Err(Failure::recipe(format!("{INSTALL_STEPS}: exit status {SKIPPED}")));
                }
                Err(failure) if failure.fault() == Fault::Recipe => {
                    return Err(failure.context(INSTALL_STEPS));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Returns the name of a test's log, without its ending.
    pub fn log_name(&self, script: &Script, tier: TierName) -> String {
        file_name(format!("{}{tier}-{}", self.prefix, script.name().replace('/', "-")))
    }

    /// Runs one test. Its output goes to the run's logs, and into the report when it fails.
    pub async fn run(
        &self,
        script: &Script,
        tier: TierName,
        version: Option<&str>,
    ) -> Result<StepOutcome, Failure> {
        if let Some(why) = script.unfit {
            return Err(Failure::recipe(why));
        }
        let run = self.ready.run;
        let log_name = self.log_name(script, tier);
        let place = self.place(script, &log_name).await?;
        // Install steps have no app yet, and a warm app is somebody's, who may allow it.
        let is_allowed = !run.lane().is_warm() || run.harness.settings.warm_api.contains(&run.request.recipe);
        let api = if script.layer == Layer::Recipe && !script.is_install_step() && is_allowed {
            let directory = run.context.tmp.join(Layer::Recipe.as_str());
            Some(Api::serve(run, self.ready.fetched, directory).await?)
        } else {
            None
        };
        let command = self.command(script, tier, version, &place, api.as_ref()).await?;
        run.owners.check(&run.main_app().domain)?;
        self.ready.checkouts.mark_dirty();
        let engine = run.harness.ci_host.engine.as_ref();
        run.strangers.begin(engine, script).await;
        let mut output = String::new();
        run.first.begin_output();
        let log = run.directory.logs().join(format!("{log_name}.log"));
        let (directory, path) = (run.directory.clone(), log.clone());
        let streamed = run.context.lifetime.blocking_tasks().run(move || stream_log(&directory, &path)).await;
        let ended = run
            .context
            .lifetime
            .run(command, run.harness.settings.script_limit, &mut |line| {
                let line = run.context.redactor.redact_line(line) + "\n";
                output.push_str(&line);
                run.first.note_line(&line);
                if let Some(streamed) = &streamed {
                    streamed.write(sanitize(&line));
                }
            })
            .await;
        drop(streamed);
        run.strangers.end(engine).await;
        let output = self.keep_log(log, output).await;
        let reason = match ended {
            Ok(ended) if ended.success() => {
                run.first.begin_output();
                if let Some(copies) = place.copies.filter(|_| script.is_install_step()) {
                    self.take_back(copies).await?;
                }
                return Ok(StepOutcome::Passed);
            }
            Ok(ended) if ended.code == Some(SKIPPED) => {
                run.first.begin_output();
                return Ok(StepOutcome::skipped(why_skipped(&output)));
            }
            Ok(ended) if ended.code == Some(NOT_FOUND) => {
                format!("{ended}: the interpreter of its #! line, or a command that it calls, was not found")
            }
            Ok(ended) => ended.to_string(),
            Err(error @ (ChildError::TimedOut { .. } | ChildError::Overfilled { .. })) => error.to_string(),
            Err(ChildError::Spawn(error)) if error.is_of_command() => error_chain(&error),
            Err(error) => return Err(Failure::host(error_chain(&error))),
        };
        let text = tail(&output, OUTPUT_TAIL).to_owned();
        run.context.reporter.report(&Event::Output { of: script.name(), text });
        Err(Failure::recipe(reason))
    }

    /// The directories of a test: those that its layer alone uses, and one of its own. What is confined gets copies of
    /// what it may change, or is not meant to reach.
    async fn place(&self, script: &Script, log_name: &str) -> Result<Place, Failure> {
        let run = self.ready.run;
        let layer = run.context.tmp.join(script.layer.as_str());
        let place = Place {
            home: layer.join("home"),
            tmp: layer.join("tmp"),
            scratch: layer.join("scratch").join(log_name),
            state: layer.join(file_name(format!("{}state", self.prefix))),
            copies: None,
        };
        let directory = run.directory.clone();
        let app = run.main_app();
        let copies = (script.layer == Layer::Recipe && run.context.recipe_code.confined().is_some())
            .then(|| Copies::new(&layer.join("copies").join(log_name), &app, script.is_install_step()));
        let cancellation = run.context.lifetime.cancellation().clone();
        let make = move || {
            for path in [&place.home, &place.tmp.join("runtime"), &place.scratch, &place.state] {
                directory.make_private(path).map_err(|error| {
                    Failure::host(format!("can't make {}", path.display())).with_source(error)
                })?;
            }
            if let Some(copies) = &copies {
                copies.make(&directory, &app, &cancellation)?;
            }
            Ok(Place { copies, ..place })
        };
        run.context.lifetime.blocking_tasks().run(make).await
    }

    /// The test's process.
    async fn command(
        &self,
        script: &Script,
        tier: TierName,
        version: Option<&str>,
        place: &Place,
        api: Option<&Api>,
    ) -> Result<Command, Failure> {
        let run = self.ready.run;
        let app = run.main_app();
        let secrets = run.secrets_directory(&app);
        let mut command = run
            .context
            .command(&app.domain, &script.path, &place.scratch)
            .grace(Duration::ZERO)
            .envs(home_environment(&place.home, &place.tmp))
            .env("CCCI_TIER", tier.as_str())
            .env("CCCI_RECIPE", app.recipe.as_str())
            .env("CCCI_RECIPE_DIR", &app.tree)
            .env("CCCI_DOMAIN", app.domain.as_str())
            .env("CCCI_STACK", app.domain.stack().as_str())
            .env("CCCI_COMMIT", self.ready.fetched.tested.tested().as_str())
            .env("CCCI_VERSION", version.unwrap_or_default())
            .env("CCCI_ENV_FILE", &app.env_file)
            .env("CCCI_SECRETS_DIR", &secrets)
            .env("CCCI_STATE_DIR", &place.state)
            .env("CCCI_EXECUTOR", run.harness.deployer.to_string());
        if let Some(api) = api {
            command = command.env("CCCI_API", &api.path);
        }
        let fixtures = run.fixtures();
        if let Some(fixtures) = &fixtures {
            command = command.env("CCCI_FIXTURES_DIR", fixtures);
        }
        for (tree, domain) in &self.ready.fetched.dependencies {
            let name = tree.name().as_str().to_ascii_uppercase().replace(['-', '.'], "_");
            command = command.env(format!("CCCI_DEPENDENCY_{name}_DOMAIN"), domain.as_str());
        }
        let endpoint = run.harness.ci_host.engine.endpoint(&app.domain).await.ok();
        let endpoint = endpoint.map(|endpoint| endpoint.address);
        let (Some(confined), Some(copies)) = (run.context.recipe_code.confined(), &place.copies) else {
            return Ok(match endpoint {
                Some(address) => command.env("CCCI_URL", format!("http://{address}")),
                None => command,
            });
        };
        // Neither the engine nor abra is its business.
        let of_deployer = run.harness.deployer.environment();
        let names = of_deployer.iter().map(|(name, _)| name.as_os_str());
        for name in names.chain(["ABRA_DIR", "CCCI_DEPLOY_COUNT_FILE"].map(OsStr::new)) {
            command = command.without(name);
        }
        let tests = script.path.parent().unwrap_or(&script.path);
        let mut sandbox = confined
            .sandbox(confined.user)
            .read(tests)
            .read_private(&secrets)
            .write(&place.home)
            .write(&place.scratch)
            .write(&place.state);
        sandbox = match &copies.tree {
            Some(tree) => sandbox.write(tree).write(&copies.env_directory),
            None => sandbox.read(&app.tree).read_private(&copies.env_directory),
        };
        command = command
            .envs(home_environment(&place.home, Path::new("/tmp")))
            .env("XDG_RUNTIME_DIR", "/run")
            .env("CCCI_RECIPE_DIR", copies.tree.as_ref().unwrap_or(&app.tree))
            .env("CCCI_ENV_FILE", copies.env_file());
        (command, sandbox) = confine::network(run, self.ready.fetched, endpoint, command, sandbox).await?;
        if let Some(api) = api {
            sandbox = sandbox.write(&api.path);
        }
        if let Some(fixtures) = fixtures {
            sandbox = sandbox.read_private(fixtures);
        }
        Ok(command.sandbox(sandbox))
    }

    /// Takes over what install steps did to their copies: cc-ci reads it, and what is then deployed is judged like all else.
    async fn take_back(&self, copies: Copies) -> Result<(), Failure> {
        let run = self.ready.run;
        let app = run.main_app();
        run.context.lifetime.blocking_tasks().run(move || copies.take_back(&app)).await
    }

    /// A log that can't be kept never ends a run, and what a test put in its place is replaced; so is what was streamed there,
    /// of which a slow disk may have dropped lines.
    async fn keep_log(&self, log: PathBuf, output: String) -> String {
        let run = self.ready.run;
        // Replaced and never opened: a script can reach it, and may have put a pipe there.
        let directory = run.directory.clone();
        let keep = move || {
            if let Err(error) = directory.write(&log, sanitize(&output).as_bytes()) {
                tracing::warn!(log = %log.display(), %error, "can't keep a log");
            }
            output
        };
        run.context.lifetime.blocking_tasks().run(keep).await
    }
}

/// The log of a test while it runs: of a run that is killed, it is all there is. Blocks.
fn stream_log(directory: &RunDir, log: &Path) -> Option<QueuedWriter> {
    let begin = || -> std::io::Result<_> {
        // Made anew and never opened: a script before may have put a pipe there.
        directory.remove(log)?;
        Ok(QueuedWriter::new("test log", directory.create_new(log)?))
    };
    begin().inspect_err(|error| tracing::warn!(log = %log.display(), %error, "can't stream a log")).ok()
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
    fn a_tail_is_whole_lines() {
        assert_eq!(tail("one\ntwo\nthree\n", 100), "one\ntwo\nthree\n");
        assert_eq!(tail("one\ntwo\nthree\n", 8), "three\n");
        assert_eq!(tail("äöü", 3), "ü");
        assert_eq!(tail("one\ntwo and three\n", 6), "three\n", "part of a long line is better than nothing");
    }
}
