//! `cc-ci janitor`: one pass, by hand or from a timer.

use std::sync::Arc;

use cc_ci_core::exit::Exit;
use cc_ci_core::janitor::{HostJanitor, Janitor as _, Pass, Report, forget_node};
use cc_ci_core::lifetime::{Bounds, RunLifetime, TakenOver};
use nix::sys::resource::{Resource as Limit, getrlimit, setrlimit};
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::{self, Base, Parts, inspection_failed};
use crate::args::{self, Format};
use crate::overtime;
use crate::render;
use crate::terminal::{Document, Terminal};
use cc_ci_core::Failure;

pub fn janitor(
    args: &args::Janitor,
    settings: &args::Settings,
    base: Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let bounds = Bounds { deadline: None, teardown: base.config.teardown_budget };
    let lifetime: Arc<dyn RunLifetime> = app::start(taken, settings, bounds, terminal)?;
    let pass = Pass { dry_run: args.dry_run, ..Pass::by_hand(lifetime.cancellation().clone()) };
    let deadline = args.deadline.unwrap_or(base.config.janitor_deadline);
    let pass = Pass { budget: pass.budget.min(deadline), retry: args.retry.clone(), ..pass };
    open_many_files();
    let mut begun = None;
    let work = async {
        let parts = tokio::select! {
            biased;
            cause = pass.cancellation.cancelled() => return Err(Failure::cancelled(cause)),
            ready = ready(base, args.dry_run, terminal) => ready?,
        };
        if let Some(other) = args.retry.iter().find(|domain| !parts.ci_host.pattern.is_run_app(domain)) {
            return Err(Failure::configuration(format!(
                "{other} is no run app: nothing of it is ever reaped"
            ))
            .with_hint("cc-ci status names what is in quarantine"));
        }
        if let Some(node) = &args.forget_node {
            for domain in forget_node(&parts.ci_host, node).await? {
                terminal.warn(format!(
                    "{domain}: nobody looks any more for what it had on {node}, and nobody has verified that it is gone"
                ));
            }
        }
        let janitor = HostJanitor::new(parts.ci_host.clone(), lifetime.clone());
        let janitor = begun.insert(janitor);
        // A cancellation is the pass's own affair: what it holds, it finishes.
        let mut report = janitor.pass(&pass).await.map_err(inspection_failed)?;
        if !args.dry_run && pass.cancellation.cause().is_none() {
            for warning in janitor.prune(parts.config.run.keep_runs, &pass).await {
                terminal.warn(warning);
            }
            let images = janitor.remove_images(parts.config.keep_images, &pass).await;
            report.warnings.extend(images.warnings);
            report.images = images.removed;
        }
        Ok::<_, Failure>(report)
    };
    // Whoever hangs in a call of the engine is ended with the process, as by a kill: the next pass finishes it.
    let work = async { Ok(tokio::time::timeout(deadline, Box::pin(work)).await.ok()) };
    let shows = terminal.show_progress();
    let end = overtime::bounded(&lifetime, Some(deadline), terminal, || app::block_on(work))?;
    drop(shows);
    let over = end.is_none();
    let report = match end {
        Some(report) => report?,
        None => begun.map(|janitor| janitor.so_far()).unwrap_or_default(),
    };
    if over {
        terminal.progress(format!(
            "error: the janitor's time is over, after {deadline:?}: what was not reached is left; hint: see what hangs with \
             cc-ci doctor, or give it longer: --deadline\n"
        ));
    }
    for warning in report.warnings.iter().chain(&report.in_the_way) {
        terminal.warn(warning);
    }
    match settings.format {
        Format::Human => terminal.result(render::janitor(&report, terminal.detail)),
        Format::Json | Format::Ndjson => terminal.json(&document(args.dry_run, &report)),
    }
    let exit = if report.leaves_only_debts() {
        Exit::Harness
    } else if report.leaves_residue() {
        Exit::Residue
    } else {
        Exit::Green
    };
    if over {
        return Ok(Exit::Harness);
    }
    Ok(match lifetime.cancellation().cause() {
        Some(cause) => Exit::Cancelled(cause).or_graver(exit),
        None => exit,
    })
}

/// What `cc-ci janitor` writes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Findings<'r> {
    /// Whether nothing was changed.
    dry_run: bool,
    #[serde(flatten)]
    report: &'r Report,
}

pub fn document(dry_run: bool, report: &Report) -> Document<Findings<'_>> {
    Document { schema: "cc-ci.janitor/v1", content: Findings { dry_run, report } }
}

/// Has this process open as many files as the host allows, so that a pass holds more locks at once. It starts no other
/// programs, which would inherit that.
fn open_many_files() {
    let files = Limit::RLIMIT_NOFILE;
    if let Err(error) = getrlimit(files).and_then(|(_, most)| setrlimit(files, most, most)) {
        tracing::debug!(%error, "the janitor takes fewer locks at once");
    }
}

/// The engine; claimed, unless it is only looked at.
async fn ready(base: Base, dry_run: bool, terminal: &Terminal) -> Result<Parts, Failure> {
    let parts = base.wire().await?;
    parts.tell_engine(terminal);
    if !dry_run {
        parts.ci_host.claim().await?;
    }
    Ok(parts)
}
