//! `cc-ci locks`: who holds and who awaits what. It takes no lock to look.

use cc_ci_core::exit::Exit;
use cc_ci_core::lock::{AppLock as _, LockError, LockView};
use cc_ci_core::names::Domain;
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::Base;
use crate::args::{self, Format};
use crate::render;
use crate::terminal::{Document, Terminal};
use cc_ci_core::Failure;

pub fn locks(
    domains: Vec<Domain>,
    settings: &args::Settings,
    base: &Base,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let failed = |error: LockError| Failure::host("can't look at the locks").with_source(error);
    let domains = if domains.is_empty() { base.locks.domains().map_err(failed)? } else { domains };
    let mut views = Vec::new();
    for domain in domains {
        match base.locks.inspect(&domain) {
            Ok(view) => views.extend(view),
            Err(error) => terminal.warn(format_args!("{domain}: {error}")),
        }
    }
    match settings.format {
        Format::Human => terminal.result(render::locks(&views, std::time::SystemTime::now())),
        Format::Json | Format::Ndjson => terminal.json(&document(&views)),
    }
    Ok(Exit::Green)
}

/// What `cc-ci locks` writes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Locks<'v> {
    /// Every app with a lock file, or those that were asked for.
    locks: &'v [LockView],
}

pub fn document(locks: &[LockView]) -> Document<Locks<'_>> {
    Document { schema: "cc-ci.locks/v1", content: Locks { locks } }
}
