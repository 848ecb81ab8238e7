//! Tests deployable apps on a shared, live host without leaving a trace.
//!
//! The crate holds what every way of using cc-ci shares: the words of the field ([`names`]), the four traits
//! that keep its two promises ([`lock::AppLock`], [`lifetime::RunLifetime`], [`workspace::AbraWorkspace`],
//! [`janitor::Janitor`]) with their kernel-backed implementations, the [`executor`] traits with the embedded
//! `local` executor, and the [`run`] pipeline. It knows neither Docker nor abra.

pub mod cancellation;
pub mod contained;
mod env_files;
pub mod event;
pub mod executor;
pub mod exit;
mod files;
pub mod host;
mod http;
pub mod janitor;
pub mod lifetime;
pub mod lock;
pub mod names;
pub mod output;
pub mod process;
pub mod recipe;
pub mod run;
mod site;
pub mod workspace;

pub use env_files::EnvFiles;
pub use site::{ClaimError, LookError, Site};

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
