//! The suites on a real Swarm, on a private engine. One subject a file, one behaviour a test.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "this is test code: a panic is a failed test")]

mod claimed;
mod commands;
mod crashing;
mod deployed;
mod engine;
mod files;
mod fixture;
mod inflight;
mod janitors;
mod lasting;
mod orphans;
mod pulled;
mod reached;
mod registry;
mod removed;
mod restarted;
mod seen;
mod shown;
mod support;
mod theirs;
mod trouble;
mod up;
mod updated;
