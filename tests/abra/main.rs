//! The suites with abra, on a private engine: first of its stand-in, then of cc-ci with it.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "this is test code: a panic is a failed test")]

mod abra_faults;
mod ends;
mod engines;
mod green;
mod many;
mod red;
mod stand_in;
mod stand_in_faults;
mod strangers;
mod support;
mod warm;
mod warmed;
