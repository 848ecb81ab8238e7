//! The suites on a real Swarm, on a private engine. One subject a file, one behaviour a test.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "this is test code: a panic is a failed test")]

mod adopted;
mod bystanders;
mod claimed;
mod commands;
mod contexts;
mod convergence;
mod copied;
mod crashing;
mod deployed;
mod drift;
mod engine;
mod executed;
mod files;
mod fixture;
mod inflight;
mod inventory;
mod janitors;
mod orphans;
mod protected;
mod pulled;
mod reached;
mod registry;
mod removed;
mod restarted;
mod selective_removal;
mod support;
mod trouble;
mod updated;
