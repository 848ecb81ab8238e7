//! The suites on a real Swarm, on a private engine. One subject a file, one behaviour a test.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "this is test code: a panic is a failed test")]

mod adopted;
mod claimed;
mod commands;
mod copied;
mod crashing;
mod deployed;
mod engine;
mod executed;
mod files;
mod fixture;
mod inflight;
mod janitors;
mod lasting;
mod orphans;
mod partly;
mod pulled;
mod reached;
mod registry;
mod removed;
mod restarted;
mod seen;
mod sessions;
mod shown;
mod support;
mod theirs;
mod trouble;
mod up;
mod updated;
