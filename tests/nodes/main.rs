//! The suites on a private Swarm of three nodes: `private-engine run --nodes 3`. One subject a file, one behaviour a test.
//! Each test has the nodes to itself.

#![expect(clippy::expect_used, reason = "this is test code: a panic is a failed test")]

mod by_ssh;
mod commands;
mod cost;
mod hosts;
mod midrun;
mod owner;
mod placement;
mod proxied;
mod removed;
mod runs;
mod seen;
mod spread;
mod storm;
mod support;
mod swarm;
mod troubled;
