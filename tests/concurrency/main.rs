//! The concurrency suite: real processes, real locks, real signals. One subject a file, one behaviour a test.

#![expect(clippy::unwrap_used, reason = "this is test code: a panic is a failed test")]

mod cold_lane;
mod doubles;
mod embedded;
mod janitor;
mod lock;
mod settle;
mod with_lock;
mod workspace;
