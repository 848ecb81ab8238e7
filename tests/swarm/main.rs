//! The suites on a real Swarm, on a private engine. One subject a file, one behaviour a test.

#![expect(clippy::expect_used, reason = "this is test code: a panic is a failed test")]

mod engine;
mod fixture;
