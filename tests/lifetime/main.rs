//! What ends a run, and what becomes of its children: each test has processes of its own.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod children;
mod ends;
mod escapes;
mod groups;
mod parent;
mod probe;
mod recover;
mod sandbox_host;
