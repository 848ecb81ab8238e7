//! Tests deployable apps on a shared, live host without leaving a trace.
//!
//! The crate holds what every way of using cc-ci shares: the words of the field ([`names`]), the four traits
//! that keep its two promises ([`lock::AppLock`], [`lifetime::RunLifetime`], [`workspace::AbraWorkspace`],
//! [`janitor::Janitor`]) with their kernel-backed implementations, the [`engine`] traits with the embedded
//! `local` executor, and the [`run`] pipeline. It knows neither Docker nor abra.
//!
//! # In a test fixture
//! [`run::Harness::with_app`] deploys a recipe, hands the running app to a closure, and takes the app down again
//! whether the closure returns, panics or is cancelled. An [`lifetime::EmbeddedMode`] lifetime leaves the test process
//! alone: no signal, no subreaper, no death signal of its own.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use cc_ci_core::event::Silent;
//! use cc_ci_core::local::LocalExecutor;
//! use cc_ci_core::system_info::{KernelSystemInfo, SystemInfo};
//! use cc_ci_core::lifetime::{Bounds, EmbeddedMode};
//! use cc_ci_core::lock::FlockLocks;
//! use cc_ci_core::names::{RunAppPattern, RunId, Subject};
//! use cc_ci_core::run::{Harness, Request, Settings, Verdict};
//! use cc_ci_core::workspace::{KernelWorkspace, Settings as Runs};
//! use cc_ci_core::{CiHost, EnvFiles};
//!
//! /// Everything below one directory; whoever shares it shares its locks.
//! fn harness(state: &Path) -> Result<Harness, Box<dyn std::error::Error>> {
//!     let host: Arc<dyn SystemInfo> = Arc::new(KernelSystemInfo::new()?);
//!     let local = Arc::new(LocalExecutor::new(state.join("local"), host.clone()));
//!     std::fs::create_dir_all(state.join("locks"))?;
//!     let ci_host = CiHost {
//!         pattern: RunAppPattern::new("fixture.localhost".parse()?, []),
//!         locks: Arc::new(FlockLocks::new(state.join("locks"), host.clone())),
//!         engine: local.clone(),
//!         env_files: EnvFiles::new(&state.join("servers"), "local"),
//!         runs: Arc::new(KernelWorkspace::new(Runs::new(state.join("runs"))?)?),
//!         reporter: Arc::new(Silent),
//!         host,
//!     };
//!     let lifetime = Arc::new(EmbeddedMode::new(Bounds::default(), ci_host.reporter.clone())?);
//!     Ok(Harness { ci_host, deployer: local, lifetime, settings: Settings::default() })
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

pub mod engine;
mod http;
pub mod inspect;
mod inventory;
pub mod janitor;
pub mod lifetime;
pub mod local;
pub mod lock;
pub mod model;
pub mod names;
pub mod recipe;
pub mod run;
pub mod sys;
pub mod workspace;

#[cfg(test)]
mod architecture;

pub use inventory::app_status::{AppStatus, Ownership};
pub use inventory::ci_host::CiHost;
pub use inventory::env_files::EnvFiles;
pub use inventory::run_store::RunSummary;
pub use model::failure::{Failure, Fault};
pub use model::secret::Secret;
pub use model::{cancellation, error_chain, event, exit};
pub use sys::{beneath, files, output, process, system_info};
