//! The suites on a real Swarm, on a private engine. One subject a file, one behaviour a test.

#![expect(clippy::expect_used, reason = "this is test code: a panic is a failed test")]

mod claimed;
mod engine;
mod fixture;
mod removed;
mod seen;
mod support;
mod trouble;
