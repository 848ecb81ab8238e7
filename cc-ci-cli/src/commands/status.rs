//! `cc-ci status`: what goes on here. It takes no lock, and looks at the engine once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use cc_ci_core::blocking;
use cc_ci_core::engine::{Kind, Resource};
use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::TakenOver;
use cc_ci_core::lock::LockView;
use cc_ci_core::names::{Domain, RecipeName, RunId};
use cc_ci_core::run::Verdict;
use cc_ci_core::{AppStatus, AppStatuses, CiHost, Failure, Fault, Ownership, Quarantine, RunSummary};
use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::{self, Base, inspection_failed};
use crate::args::{self, Format};
use crate::commands::audit::unseen_line;
use crate::render;
use crate::terminal::{Document, Terminal};

#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    /// The executor and its engine, in one line.
    pub engine: String,
    /// When this was so.
    pub at: Timestamp,
    pub live: Vec<Live>,
    pub waiting: Vec<Waiting>,
    pub left: Vec<Left>,
    pub warm: Vec<Warm>,
    pub warnings: Vec<String>,
}

/// A run app that somebody owns, or the warm app that a run works on. It is a run's where it has an id.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Live {
    pub domain: Domain,
    pub run_id: Option<RunId>,
    pub recipe: Option<RecipeName>,
    pub phase: Option<String>,
    /// The process that the kernel confirmed to hold the lock.
    pub holder: Option<i32>,
    pub since: Option<Timestamp>,
    /// Whether it is a warm app.
    pub warm: bool,
    /// What exists, by kind; of a warm app nothing is counted.
    pub exists: BTreeMap<Kind, usize>,
    /// At least so many wait for it.
    pub waiting: usize,
}

/// A run that lives and does not have all of its locks.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Waiting {
    pub run_id: RunId,
    pub recipe: Option<RecipeName>,
    /// Whose lock it waits for; none while it does not wait yet, but fetches.
    pub domain: Option<Domain>,
    pub pid: i32,
    pub since: Option<Timestamp>,
}

/// What nobody owns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Left {
    pub domain: Domain,
    /// The dead runs that left it, by their own word.
    pub by: Vec<RunId>,
    pub exists: BTreeMap<Kind, usize>,
    /// How often the janitor could not reap it, where it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
}

/// A warm app that awaits `cc-ci warm reconcile`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Warm {
    pub domain: Domain,
    /// The runs that ended before they had restored it.
    pub by: Vec<RunId>,
}

/// How often it is looked again.
const PAUSE: Duration = Duration::from_secs(2);

pub fn status(
    args: &args::Status,
    settings: &args::Settings,
    base: Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    if args.watch && settings.format == Format::Json {
        return Err(Failure::configuration(
            "--watch writes one result after the other, and JSON is one alone",
        )
        .with_hint("with --format ndjson each is a line"));
    }
    let lifetime = app::start_read_only(taken, terminal)?;
    let end = app::block_on_read_only(lifetime.as_ref(), async {
        let parts = base.wire().await?;
        parts.tell_engine(terminal);
        let mut looked = false;
        loop {
            if args.watch && !is_read() {
                return Ok(Exit::Green);
            }
            let look = look(&parts.ci_host, parts.engine_line(), parts.choice.engine.executor());
            match look.await.map_err(inspection_failed) {
                Ok(status) => show(&status, args.watch, settings.format, terminal),
                // What goes on is seen again once it can be.
                Err(failure) if looked => terminal.warn(failure.chain()),
                Err(failure) => return Err(failure),
            }
            if !args.watch {
                return Ok(Exit::Green);
            }
            looked = true;
            tokio::time::sleep(PAUSE).await;
        }
    });
    match end {
        // That is how a watch ends: nothing went wrong.
        Err(failure) if args.watch && matches!(failure.fault(), Fault::Cancelled(_)) => {
            Ok(failure.fault().into())
        }
        end => end,
    }
}

fn show(status: &Status, watched: bool, format: Format, terminal: &Terminal) {
    for warning in status.warnings.iter().filter(|_| !watched) {
        terminal.warn(warning);
    }
    match format {
        Format::Human if watched => terminal.screen(render::watched(status)),
        Format::Human => terminal.result(render::status(status)),
        Format::Json | Format::Ndjson => terminal.json(&document(status)),
    }
}

/// Whether anybody can still read stdout: no write fails for one that is gone.
fn is_read() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    !matches!(poll(&mut polled, PollTimeout::ZERO), Ok(gone) if gone > 0)
}

pub fn document(status: &Status) -> Document<&Status> {
    Document { schema: "cc-ci.status/v1", content: status }
}

async fn look(ci_host: &CiHost, engine: String, executor: &str) -> Result<Status, Failure> {
    let statuses = ci_host.app_status(None).await?;
    let (ci_host, executor) = (ci_host.clone(), executor.to_owned());
    blocking::run(move || status_of(&ci_host, engine, &executor, statuses)).await
}

/// The status, by what exists and who owns it, and what the runs' directories and the locks tell. Blocks.
fn status_of(
    ci_host: &CiHost,
    engine: String,
    executor: &str,
    AppStatuses { apps: statuses, unseen }: AppStatuses,
) -> Result<Status, Failure> {
    let runs = ci_host.run_summaries()?;
    let mut status = Status {
        engine,
        at: ci_host.host.now(),
        live: Vec::new(),
        waiting: Vec::new(),
        left: Vec::new(),
        warm: warm(ci_host, executor)?,
        warnings: unseen.iter().map(|(node, unseen)| unseen_line(node, unseen)).collect(),
    };
    let (mut views, mut unlocked_runs) = (BTreeMap::new(), BTreeSet::new());
    for AppStatus { domain, ownership, exists, lock, owner, quarantine, .. } in statuses {
        let exists = by_kind(&exists);
        match ownership {
            Ownership::Live => {
                if let Some(run) = owner {
                    status
                        .warnings
                        .push(format!("{domain}: run {} owns it, and its lock file was removed", run.id));
                    unlocked_runs.insert(run.id.clone());
                    status.live.push(unlocked(&domain, run, exists));
                    continue;
                }
                status.live.extend(lock.as_ref().map(|view| live(&domain, view, exists)));
                views.extend(lock.map(|view| (domain, view)));
            }
            Ownership::Left | Ownership::Refused(_) => {
                if let Ownership::Refused(error) = ownership {
                    status.warnings.push(format!("{domain}: {error}"));
                }
                status.left.push(Left { by: leavers(&domain, &runs), domain, exists, quarantine });
            }
            Ownership::Empty | Ownership::NotARunApp => {}
        }
    }
    let alive: Vec<&RunSummary> = runs.iter().filter(|run| !run.is_over()).collect();
    // No status opens the lock of what is no run app: only those of apps that a live run names are looked at.
    let warm = alive.iter().filter(|run| run.lane.is_warm()).flat_map(|run| &run.domains);
    for domain in warm.filter(|domain| !ci_host.pattern.is_run_app(domain)).collect::<BTreeSet<_>>() {
        match ci_host.locks.inspect(domain) {
            Ok(Some(view)) if view.held => {
                let held = Live { warm: true, ..live(domain, &view, BTreeMap::new()) };
                if alive.iter().any(|run| held.run_id.as_ref() == Some(&run.id)) {
                    status.live.push(held);
                }
                views.insert(domain.clone(), view);
            }
            Ok(_) => {}
            Err(error) => status.warnings.push(format!("{domain}: {error}")),
        }
    }
    let others = alive.into_iter().filter(|run| !unlocked_runs.contains(&run.id));
    status.waiting.extend(others.filter_map(|run| waiting(run, &views)));
    Ok(status)
}

fn warm(ci_host: &CiHost, executor: &str) -> Result<Vec<Warm>, Failure> {
    let mut apps: BTreeMap<Domain, Vec<RunId>> = BTreeMap::new();
    for run in ci_host.awaiting_reconcile(executor)? {
        for domain in run.domains.into_iter().filter(|domain| !ci_host.pattern.is_run_app(domain)) {
            apps.entry(domain).or_default().push(run.id.clone());
        }
    }
    Ok(apps.into_iter().map(|(domain, by)| Warm { domain, by }).collect())
}

fn live(domain: &Domain, view: &LockView, exists: BTreeMap<Kind, usize>) -> Live {
    let message = view.holder.as_ref().and_then(|holder| holder.description.clone());
    Live {
        domain: domain.clone(),
        holder: view.holder.as_ref().map(|holder| holder.pid),
        phase: message.as_ref().map(|message| message.phase.clone()),
        recipe: message.as_ref().and_then(|message| message.recipe.clone()),
        run_id: message.and_then(|message| message.run_id),
        since: view.since,
        warm: false,
        exists,
        waiting: view.waiting,
    }
}

/// The app of a live run whose lock file was removed: it holds the lock of a file that nobody can open any more.
fn unlocked(domain: &Domain, run: RunSummary, exists: BTreeMap<Kind, usize>) -> Live {
    Live {
        domain: domain.clone(),
        holder: Some(run.owner.pid),
        phase: None,
        recipe: run.recipe,
        run_id: Some(run.id),
        since: run.started,
        warm: false,
        exists,
        waiting: 0,
    }
}

/// A run that has not all of its locks yet.
fn waiting(run: &RunSummary, views: &BTreeMap<Domain, LockView>) -> Option<Waiting> {
    let holds = |domain: &Domain| {
        let holder = views.get(domain).and_then(|view| view.holder.as_ref());
        let message = holder.and_then(|holder| holder.description.as_ref());
        holder.is_some_and(|holder| holder.pid == run.owner.pid)
            && message.is_none_or(|message| message.run_id.as_ref().is_none_or(|id| *id == run.id))
    };
    if run.domains.iter().all(holds) {
        return None;
    }
    let awaits = |domain: &&Domain| {
        !holds(domain) && views.get(*domain).is_some_and(|view| view.waiters.contains(&run.owner.pid))
    };
    Some(Waiting {
        run_id: run.id.clone(),
        recipe: run.recipe.clone(),
        domain: run.domains.iter().find(awaits).cloned(),
        pid: run.owner.pid,
        since: run.started,
    })
}

/// The dead runs of `domain` that did not say that they left it empty.
fn leavers(domain: &Domain, runs: &[RunSummary]) -> Vec<RunId> {
    let of_domain = runs.iter().filter(|run| run.is_over() && run.domains.contains(domain));
    let left = |run: &&RunSummary| run.tree || matches!(run.verdict, None | Some(Verdict::Residue));
    of_domain.filter(left).map(|run| run.id.clone()).collect()
}

fn by_kind(exists: &[Resource]) -> BTreeMap<Kind, usize> {
    let mut counts = BTreeMap::new();
    for resource in exists {
        *counts.entry(resource.kind).or_default() += 1;
    }
    counts
}
