//! Tests deployable apps on a shared, live host without leaving a trace.
//!
//! The crate holds what every way of using cc-ci shares: the words of the field ([`names`]), the four traits
//! that keep its two promises ([`lock::AppLock`], [`lifetime::RunLifetime`], [`workspace::AbraWorkspace`],
//! [`janitor::Janitor`]) with their kernel-backed implementations, the [`executor`] traits with the embedded
//! `local` executor, and the [`run`] pipeline. It knows neither Docker nor abra.
//!
//! # In a test fixture
//! [`run::Harness::with_app`] deploys a recipe, hands the running app to a closure, and takes the app down again
//! whether the closure returns, panics or is cancelled. An [`lifetime::Embedded`] lifetime leaves the test process
//! alone: no signal, no subreaper, no death signal of its own.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use cc_ci_core::event::Silent;
//! use cc_ci_core::executor::local::LocalExecutor;
//! use cc_ci_core::host::{Host, SystemHost};
//! use cc_ci_core::lifetime::{Bounds, Embedded};
//! use cc_ci_core::lock::FlockLocks;
//! use cc_ci_core::names::{RunAppPattern, RunId, Subject};
//! use cc_ci_core::run::{Harness, Request, Settings, Verdict};
//! use cc_ci_core::workspace::{KernelWorkspace, Settings as Runs};
//! use cc_ci_core::{EnvFiles, Site};
//!
//! /// Everything below one directory; whoever shares it shares its locks.
//! fn harness(state: &Path) -> Result<Harness, Box<dyn std::error::Error>> {
//!     let host: Arc<dyn Host> = Arc::new(SystemHost::new()?);
//!     let local = Arc::new(LocalExecutor::new(state.join("local"), host.clone()));
//!     std::fs::create_dir_all(state.join("locks"))?;
//!     let site = Site {
//!         pattern: RunAppPattern::new("fixture.localhost".parse()?, []),
//!         locks: Arc::new(FlockLocks::new(state.join("locks"), host.clone())),
//!         engine: local.clone(),
//!         env_files: EnvFiles::new(&state.join("servers"), "local"),
//!         runs: Arc::new(KernelWorkspace::new(Runs::new(state.join("runs"))?)?),
//!         reporter: Arc::new(Silent),
//!         host,
//!     };
//!     let lifetime = Arc::new(Embedded::new(Bounds::default(), site.reporter.clone())?);
//!     Ok(Harness { site, deployer: local, lifetime, settings: Settings::default() })
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let harness = harness(Path::new("/var/tmp/my-fixtures"))?;
//! let subject = Subject::reference("my-test");
//! let request = Request::new("./recipes/hello".parse()?, subject, RunId::manual(std::process::id()))?;
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! let end = runtime.block_on(harness.with_app(&request, async |app| {
//!     std::net::TcpStream::connect(app.address).expect("the app answers");
//! }));
//! assert_eq!(end.record.verdict, Some(Verdict::Green), "{:?}", end.record.errors);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests make what they look at"))]

pub mod cancellation;
pub mod contained;
mod env_files;
pub mod event;
pub mod executor;
pub mod exit;
pub mod host;
mod http;
pub mod inspect;
pub mod janitor;
pub mod lifetime;
pub mod lock;
pub mod names;
pub mod output;
pub mod process;
pub mod recipe;
pub mod run;
mod site;
mod survey;
pub mod sys;
mod traces;
pub mod workspace;

pub use env_files::EnvFiles;
pub use site::{ClaimError, LookError, Site};
pub use survey::{Standing, Surveyed};
pub use sys::files;
pub use traces::RunTrace;

/// When `limit` from `now` on is over. What no clock can count is a time that nobody sees: callers may say "for
/// ever".
pub(crate) fn after(now: std::time::Instant, limit: std::time::Duration) -> std::time::Instant {
    const FAR: std::time::Duration = std::time::Duration::from_hours(24 * 366 * 30);
    now.checked_add(limit).unwrap_or(now + FAR)
}

/// An error and everything beneath it, in one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    line
}
