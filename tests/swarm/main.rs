//! The suites on a real Swarm, on a private engine. One subject a file, one behaviour a test.

#![expect(clippy::unwrap_used, reason = "this is test code: a panic is a failed test")]

mod fixture;
mod janitors;
mod orphans;
mod shown;
