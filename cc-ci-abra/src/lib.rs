//! abra, as cc-ci's [`Deployer`](cc_ci_core::engine::Deployer): a command of somebody else's, called as a child.
//!
//! Its flags differ between versions, so the installed one is asked first ([`Abra::probe`]): what cc-ci needs and abra
//! lacks is an error before anything is touched. Each call is a child of the run: bounded, without input, with the
//! run's own `ABRA_DIR`, and with no secret on its command line. Its exit status is necessary and never sufficient: the
//! engine is looked at afterwards.
//!
//! # Limitations
//! Whose fault a failure is, is told by abra's own words ([`Failure`](cc_ci_core::engine::Failure)'s fault):
//! what is not known to be the recipe's is the host's. A snapshot that the host's backup service took can't be removed
//! from here.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests make what they look at"))]

mod app_files;
mod backup;
mod cache;
mod call;
mod capabilities;
mod deployer;
mod help;
mod installed;
mod list;
mod probe;
mod secrets;
mod stderr_tail;
#[cfg(test)]
mod tests;

pub use backup::Backups;
pub use capabilities::{Capability, Flag, Subcommand};
pub use deployer::{AbraDeployer, Settings};
pub use installed::Abra;
pub use list::ListedApp;
pub use probe::Probe;
