//! What can be refused before anything is changed, then the run's directory.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::confine::recipe_code;
use super::digest::First;
use super::event_log::{EVENTS, EventLog};
use super::evidence::Evidence;
use super::request::{Harness, Request, WarmApp};
use super::state::{Run, write_record};
use super::strangers::Strangers;
use crate::engine::{Owners, RecipeCode, RunContext};
use crate::inventory::env_files::EnvFiles;
use crate::model::error_chain;
use crate::model::event::Event;
use crate::model::failure::Failure;
use crate::model::record::{Lane, RUN_SCHEMA, RunRecord, Versions};
use crate::names::{Domain, RecipeName, Stack, Subject};
use crate::sys::blocking;
use crate::sys::process::{Marker, MarkerOwner};
use crate::workspace::{RecipeSource, RunDir};

/// What a run has on disk from its first moment.
struct OnDisk {
    directory: RunDir,
    env_files: EnvFiles,
    /// The file of its events, where it could be made.
    events: io::Result<File>,
}

impl Harness {
    /// Opens a run. One that is refused has a record all the same, and no directory.
    pub(super) async fn open<'h>(
        &'h self,
        request: &'h Request,
        lane: Lane,
    ) -> Result<Run<'h>, (Box<RunRecord>, Failure)> {
        let dependencies = self.dependencies(request, lane);
        let mut record = self.new_record(request, lane, dependencies.as_deref().unwrap_or_default());
        let opened = async {
            if self.lifetime.teardown().is_some() {
                return Err(Failure::configuration(format!("{} has ended with its run", self.lifetime))
                    .with_hint("make a lifetime for each run"));
            }
            dependencies?;
            if let Some(tests) = self.settings.operator_tests.clone() {
                let shown = tests.display().to_string();
                if !self.lifetime.blocking_tasks().run(move || tests.is_dir()).await {
                    return Err(Failure::configuration(format!("{shown} is no directory of tests"))
                        .with_hint(
                            "name the directory that has one for each recipe: tests_dir, --tests-dir",
                        ));
                }
            }
            if lane.is_warm() {
                self.guard_warm(&request.recipe).await?;
            } else {
                self.guard_cold(&record.domains)?;
            }
            let owner = MarkerOwner::Run { run_id: record.run_id.clone(), owner: record.owner.clone() };
            let marker = Marker { domain: record.domain.clone(), owner };
            let recipe_code = recipe_code(self, marker).await?;
            // Another's claim may be stuck, and no scope ends us yet.
            tokio::select! {
                biased;
                cause = self.lifetime.cancellation().cancelled() => return Err(Failure::cancelled(cause)),
                claimed = self.ci_host.claim() => claimed?,
            }
            let (runs, wanted) = (self.ci_host.runs.clone(), request.run_id.clone());
            let directory = self.lifetime.blocking_tasks().run(move || runs.create(&wanted)).await?;
            record.run_id = directory.id().clone();
            let (ci_host, first) = (self.ci_host.clone(), record.clone());
            let make = move || {
                write_record(&directory, &first, &ci_host.engine.redactor())?;
                let env_files = match lane {
                    Lane::Quick => {
                        let server = ci_host.env_files.server();
                        EnvFiles::new(&directory.own_servers(server)?, server)
                    }
                    Lane::Cold | Lane::Warm => ci_host.env_files,
                };
                let events = directory.create_file(EVENTS.as_ref());
                Ok::<_, Failure>(OnDisk { directory, env_files, events })
            };
            Ok((self.lifetime.blocking_tasks().run(make).await?, recipe_code))
        };
        match opened.await {
            Ok((files, recipe_code)) => {
                record.recipe_code = recipe_code.to_string();
                Ok(self.begin(request, record, files, recipe_code))
            }
            Err(failure) => Err((Box::new(record), failure)),
        }
    }

    fn new_record(
        &self,
        request: &Request,
        lane: Lane,
        dependencies: &[(RecipeSource, Domain)],
    ) -> RunRecord {
        let of_run = || Domain::of_run(&request.recipe, &request.subject, self.ci_host.pattern.suffix());
        let warm = self.settings.warm.get(&request.recipe).filter(|_| lane.is_warm());
        let domain = warm.map_or_else(of_run, |warm| warm.domain.clone());
        let all = dependencies.iter().map(|(_, domain)| domain.clone()).chain([domain.clone()]);
        // In the order in which every run takes their locks.
        let domains = all.collect::<BTreeSet<_>>().into_iter().collect();
        RunRecord {
            schema: RUN_SCHEMA.to_owned(),
            run_id: request.run_id.clone(),
            owner: self.lifetime.owner().clone(),
            lane,
            recipe: request.recipe.clone(),
            subject: request.subject.clone(),
            asked: request.asked.clone(),
            domain,
            domains,
            commit: None,
            releases_before: None,
            lint: None,
            executor: self.deployer.to_string(),
            versions: Versions {
                cc_ci: env!("CARGO_PKG_VERSION").to_owned(),
                deployer: self.deployer.version(),
                engine: None,
            },
            started: self.ci_host.host.now(),
            finished: None,
            dirty: false,
            owned: false,
            verdict: None,
            exit_code: None,
            cancelled_by: None,
            lock_waited_seconds: 0.0,
            kept: None,
            deploy_count: 0,
            tiers: Vec::new(),
            level: None,
            timeline: Vec::new(),
            receipt: None,
            granted: BTreeSet::new(),
            recipe_code: String::new(),
            doing: None,
            digest: None,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The run that has its directory: from here on what happens is told, and kept.
    fn begin<'h>(
        &'h self,
        request: &'h Request,
        record: RunRecord,
        OnDisk { directory, env_files, events }: OnDisk,
        recipe_code: RecipeCode,
    ) -> Run<'h> {
        let redactor = self.ci_host.engine.redactor().of_run();
        for secret in self.settings.git_credentials.secrets() {
            redactor.hide(secret);
        }
        let (host, reporter) = (self.ci_host.host.clone(), self.ci_host.reporter.clone());
        let events = Arc::new(EventLog::start(events, host, reporter, redactor.clone()));
        let context = RunContext {
            run_id: record.run_id.clone(),
            lifetime: self.lifetime.clone(),
            reporter: events.clone(),
            environment: [directory.environment(), self.deployer.environment()].concat(),
            tmp: directory.tmp(),
            redactor,
            recipe_code,
        };
        let executor = match &self.settings.why_executor {
            Some(why) => format!("{} ({why})", record.executor),
            None => record.executor.clone(),
        };
        context.reporter.report(&Event::RunStarted {
            run_id: record.run_id.clone(),
            recipe: record.recipe.clone(),
            domain: record.domain.clone(),
            executor,
            recipe_code: record.recipe_code.clone(),
        });
        let owners = Owners::default();
        Run {
            harness: self.owned_by(&owners),
            ci_host: &self.ci_host,
            owners,
            request,
            context,
            directory: Arc::new(directory),
            env_files,
            record: Arc::new(Mutex::new(record)),
            events,
            announced: Mutex::default(),
            strangers: Strangers::default(),
            evidence: Evidence::default(),
            first: First::default(),
            unfit: AtomicBool::new(false),
            written: Mutex::default(),
            writing: Arc::default(),
        }
    }

    fn guard_cold(&self, domains: &[Domain]) -> Result<(), Failure> {
        for domain in domains {
            // Nothing of it would be recovered, torn down or verified (I5).
            if !self.ci_host.pattern.is_run_app(domain) {
                return Err(Failure::configuration(format!("{domain} is protected: no run deploys there"))
                    .with_hint("take it out of `protect`, or test another pull request"));
            }
            let stack = domain.stack();
            if stack.as_str().len() > Stack::MAX_LEN {
                let limit = Stack::MAX_LEN;
                return Err(Failure::configuration(format!(
                    "the stack name {stack} is longer than {limit} characters"
                ))
                .with_hint("choose a shorter --suffix"));
            }
        }
        Ok(())
    }

    /// The warm app of a recipe, where it can be worked on.
    pub(super) async fn guard_warm(&self, recipe: &RecipeName) -> Result<&WarmApp, Failure> {
        let Some(warm) = self.settings.warm.get(recipe) else {
            return Err(Failure::configuration(format!("{recipe} has no warm app")).with_hint(format!(
                "name it in the configuration: [recipes.{recipe}] warm = \"{recipe}.example.org\""
            )));
        };
        let domain = &warm.domain;
        if self.ci_host.pattern.is_run_app(domain) {
            return Err(Failure::configuration(format!(
                "the warm app {domain} has the name of a run app: any janitor would remove it"
            ))
            .with_hint("choose another domain, or add it to `protect` in every configuration of this host"));
        }
        let (env_files, of) = (self.ci_host.env_files.clone(), domain.clone());
        if !blocking::run(move || env_files.exists(&of)).await {
            let path = self.ci_host.env_files.path(domain);
            return Err(Failure::configuration(format!(
                "the warm app {domain} has no .env file at {}",
                path.display()
            ))
            .with_hint(format!("make the app first: abra app new {recipe} --domain={domain}")));
        }
        Ok(warm)
    }

    /// The recipes that the recipe under test needs, each with its domain in this run. What a warm app needs is there
    /// already, and is none of ours.
    pub(super) fn dependencies(
        &self,
        request: &Request,
        lane: Lane,
    ) -> Result<Vec<(RecipeSource, Domain)>, Failure> {
        let recipe = &request.recipe;
        let sources = self.settings.dependencies.get(recipe).filter(|_| !lane.is_warm());
        let mut names = BTreeSet::from([recipe.clone()]);
        let with_domains = sources.into_iter().flatten().map(|source| {
            let name = source.recipe_name().map_err(|error| Failure::configuration(error_chain(&error)))?;
            // Each is checked out under its name.
            if !names.insert(name.clone()) {
                return Err(Failure::configuration(format!(
                    "the run of {recipe} would need two recipes with the name {name}"
                )));
            }
            let subject = Subject::reference(format!("for-{recipe}-{}", request.subject));
            Ok((source.clone(), Domain::of_run(&name, &subject, self.ci_host.pattern.suffix())))
        });
        with_domains.collect()
    }
}
