//! `cc-ci demo`: every promise, on a small example.
//!
//! The example's recipe is made into a git repository in a temporary directory, with locks, runs and apps of its
//! own beside it. Then the demo does what a CI system does: it starts this same binary as `cc-ci run …`, and looks
//! at what becomes of it. What must happen while something else goes on waits for an event, never for a time.
//!
//! # Limitations
//! Killed with SIGKILL, the demo leaves its temporary directory; its runs end by themselves, as any run whose
//! parent dies.

mod claims;
mod recipe;
mod world;

use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::{Bounds, RunLifetimeExt as _, ScopeEnd, TakenOver};
use schemars::JsonSchema;
use serde::Serialize;

use crate::app;
use crate::args::{self, Format};
use crate::render;
use crate::terminal::{Document, Terminal};
use cc_ci_core::Failure;
use world::World;

/// What the ends of the runs and the last janitor pass may take together.
const TEARDOWN: Duration = Duration::from_mins(3);

/// The example app is this same binary, under another name.
pub fn is_note_keeper() -> bool {
    std::env::args_os()
        .next()
        .is_some_and(|name| std::path::Path::new(&name).file_name().is_some_and(|name| name == "note-keeper"))
}

/// A promise, and whether it was kept.
#[derive(Debug, Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "these are the names of the JSON")]
pub struct Claim {
    pub claim: &'static str,
    pub holds: bool,
    /// What was seen.
    pub detail: String,
    /// The last lines of a run that broke it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
    pub seconds: f64,
}

/// What `cc-ci demo` writes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Claims<'c> {
    /// Each promise, in the order in which they were tried.
    claims: &'c [Claim],
}

pub fn document(claims: &[Claim]) -> Document<Claims<'_>> {
    Document { schema: "cc-ci.demo/v1", content: Claims { claims } }
}

pub fn demo(
    args: &args::Demo,
    settings: &args::Settings,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let began = Instant::now();
    let bounds = Bounds { deadline: None, teardown: TEARDOWN };
    let lifetime = app::start(taken, settings, bounds, terminal)?;
    let world = World::new(lifetime.clone(), terminal.clone(), settings.format == Format::Human)?;
    let mut claims = Vec::new();
    let (end, all_hold, clean) = app::block_on(async {
        let (end, children) = lifetime.scope(claims::all(&world, &mut claims)).await;
        let all_hold = matches!(end, ScopeEnd::Returned(Ok(()))) && claims.iter().all(|claim| claim.holds);
        let clean = (all_hold || world.sweep().await) && children.left.is_empty();
        Ok((end, all_hold, clean))
    })?;
    if settings.format != Format::Human {
        terminal.json(&document(&claims));
    } else if matches!(end, ScopeEnd::Returned(Ok(()))) {
        terminal.result(render::demo_end(&claims, began.elapsed()));
    }
    let cancelled = matches!(end, ScopeEnd::Cancelled(_));
    world.close(args.keep || !clean || !(all_hold || cancelled));
    let exit = match end {
        ScopeEnd::Returned(Ok(())) if all_hold => Exit::Green,
        ScopeEnd::Returned(Ok(())) => Exit::Red,
        ScopeEnd::Returned(Err(error)) => return Err(error),
        ScopeEnd::Cancelled(cause) => Exit::Cancelled(cause),
        ScopeEnd::Panicked(panic) => resume_unwind(panic),
    };
    Ok(if clean { exit } else { exit.or_graver(Exit::Residue) })
}
