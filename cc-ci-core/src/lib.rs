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
//! use cc_ci_core::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Everything is below one directory; whoever shares it shares its locks.
//! let harness = Harness::local("/var/tmp/my-fixtures".as_ref(), "fixture.localhost".parse()?)?;
//! let subject = Subject::reference("my-test");
//! let request = Request::new("./recipes/hello".parse()?, subject, RunId::manual(std::process::id()))?;
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! let end = runtime.block_on(harness.with_app(&request, async |app| {
//!     std::net::TcpStream::connect(app.address).expect("the app answers");
//! }));
//! assert_eq!(end.exit, Exit::Green, "{:?}", end.record.errors);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests make what they look at"))]

pub mod engine;
mod http;
#[doc(hidden)]
pub mod inspect;
mod inventory;
pub mod janitor;
pub mod lifetime;
pub mod local;
pub mod lock;
#[doc(hidden)]
pub mod model;
pub mod names;
pub mod recipe;
pub mod report;
pub mod run;
#[doc(hidden)]
pub mod sys;
pub mod workspace;

#[cfg(test)]
mod architecture;

pub use inventory::app_status::{AppStatus, AppStatuses, Ownership};
pub use inventory::ci_host::CiHost;
pub use inventory::env_files::EnvFiles;
pub use inventory::past_runs::PastRuns;
pub use inventory::run_store::RunSummary;
pub use model::failure::{Failure, Fault};
pub use model::quarantine::Quarantine;
pub use model::secret::Secret;
#[doc(inline)]
pub use model::{cancellation, event, exit};
#[doc(inline)]
pub use sys::{process, system_info};

// For the crates beside this one, and no promise to anybody else: like the hidden modules above.
#[doc(hidden)]
pub use model::error_chain;
#[doc(hidden)]
pub use sys::{beneath, blocking, files, output, shared_look, spelling};

/// What a test fixture needs.
pub mod prelude {
    pub use crate::lifetime::{Bounds, EmbeddedMode};
    pub use crate::model::exit::Exit;
    pub use crate::model::failure::{Failure, Fault};
    pub use crate::model::secret::Secret;
    pub use crate::names::{Domain, RecipeName, RunId, Subject, Suffix};
    pub use crate::run::{Deployed, Harness, Request, RunEnd, Settings, Verdict};
    pub use crate::workspace::RecipeSource;
}
