//! `cc-ci janitor`: one pass, by hand or from a timer.

use std::sync::Arc;

use cc_ci_core::exit::Exit;
use cc_ci_core::janitor::{Janitor as _, Pass, Report, SiteJanitor};
use cc_ci_core::lifetime::{Bounds, RunLifetime, TakenOver};
use serde::Serialize;

use crate::args::{self, Format};
use crate::error::CliError;
use crate::render;
use crate::terminal::Terminal;
use crate::wiring::{self, Base, Wired, look_failed};

#[derive(Serialize)]
struct Output<'a> {
    schema: &'static str,
    dry_run: bool,
    #[serde(flatten)]
    report: &'a Report,
}

pub fn janitor(
    args: &args::Janitor,
    settings: &args::Settings,
    base: Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, CliError> {
    let bounds = Bounds { deadline: None, teardown: base.config.teardown_budget };
    let lifetime: Arc<dyn RunLifetime> = wiring::start(taken, settings, bounds, terminal)?;
    let pass = Pass { dry_run: args.dry_run, ..Pass::by_hand(lifetime.cancellation().clone()) };
    let report = wiring::block_on(async {
        let wired = tokio::select! {
            biased;
            cause = pass.cancellation.cancelled() => return Err(wiring::cancelled(cause)),
            ready = ready(base, args.dry_run, terminal) => ready?,
        };
        let janitor = SiteJanitor::new(wired.site.clone(), lifetime.clone());
        // A cancellation is the pass's own affair: what it holds, it finishes.
        let report = janitor.pass(&pass).await.map_err(|error| look_failed(&error))?;
        if !args.dry_run && pass.cancellation.cause().is_none() {
            for warning in janitor.prune(wired.config.run.keep_runs, &pass).await {
                terminal.progress(format!("warning: {warning}\n"));
            }
        }
        Ok::<_, CliError>(report)
    })?;
    for warning in &report.warnings {
        terminal.progress(format!("warning: {warning}\n"));
    }
    match settings.format {
        Format::Human => terminal.result(render::janitor(&report)),
        Format::Json => {
            terminal.json(&Output { schema: "cc-ci.janitor/v1", dry_run: args.dry_run, report: &report });
        }
    }
    let exit = if report.leaves_residue() { Exit::Residue } else { Exit::Green };
    Ok(match lifetime.cancellation().cause() {
        Some(cause) => Exit::Cancelled(cause).or_graver(exit),
        None => exit,
    })
}

/// The engine; claimed, unless it is only looked at.
async fn ready(base: Base, dry_run: bool, terminal: &Terminal) -> Result<Wired, CliError> {
    let wired = base.wire().await?;
    wired.tell_engine(terminal);
    if !dry_run {
        wiring::claim(&wired.site).await?;
    }
    Ok(wired)
}
