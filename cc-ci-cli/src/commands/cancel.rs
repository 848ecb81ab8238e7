//! `cc-ci cancel`: asks a live run to end, as SIGTERM does, and waits until it has.

use std::time::Instant;

use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::TakenOver;
use cc_ci_core::process::{Signal, kill_process, wait_gone};
use cc_ci_core::run::{RunRecord, Verdict};
use cc_ci_core::{Failure, PastRuns};

use crate::app::{self, Base};
use crate::args::{self, Format};
use crate::overtime;
use crate::render;
use crate::terminal::Terminal;

pub fn cancel(
    args: &args::Cancel,
    settings: &args::Settings,
    base: &Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let (id, boot) = (&args.run, base.host.boot_id());
    let runs = PastRuns::new(base.config.runs_dir.clone());
    let RunRecord { owner, .. } = runs.live(id, &boot)?;
    let lifetime = app::start_read_only(taken, terminal)?;
    let was_there = kill_process(&owner, &boot, Signal::Term).map_err(|error| {
        Failure::host(format!("can't ask run {id} ({owner}) to end"))
            .with_source(error)
            .with_hint(format!("ask as the user who runs it: sudo cc-ci cancel {id}"))
    })?;
    // What comes after its teardown's budget, it ends itself.
    let limit = base.config.teardown_budget + overtime::GRACE;
    if was_there {
        let limit = humantime::format_duration(limit);
        terminal.progress(format!(
            "== run {id}: {owner} was told to end (SIGTERM) — waiting for its teardown, {limit} at the most \
             (--teardown-budget) ==\n"
        ));
    }
    let gone = app::block_on_read_only(lifetime.as_ref(), async {
        let gone = wait_gone(&owner, &boot, Instant::now() + limit).await;
        gone.map_err(|error| Failure::host(format!("can't wait for the end of {owner}")).with_source(error))
    })?;
    if !gone {
        return Err(Failure::host(format!("run {id} ({owner}) was told to end, and has not"))
            .with_hint(format!("cc-ci logs {id} and cc-ci status show what it does")));
    }
    let record = runs.record(id)?;
    let Some(verdict) = record.verdict else {
        return Err(Failure::host(format!("run {id} ended without a result, before its teardown"))
            .with_hint("cc-ci janitor removes what it left"));
    };
    match settings.format {
        Format::Human => terminal.result(render::past::ended(&record)),
        Format::Json | Format::Ndjson => terminal.json(&record),
    }
    let is_verified = record.receipt.as_ref().is_some_and(|receipt| !receipt.verified.is_empty());
    Ok(match verdict {
        Verdict::Residue => Exit::Residue,
        // It could not tell what it left.
        Verdict::HarnessFailed if !is_verified => Exit::Harness,
        _ => Exit::Green,
    })
}
