//! What exists on a host, and whose it is. It only looks.

pub(crate) mod app_status;
#[cfg(test)]
mod blocking_tests;
pub(crate) mod ci_host;
pub(crate) mod debts;
pub(crate) mod env_files;
mod live_run;
pub(crate) mod past_runs;
pub(crate) mod run_store;
