//! What the suites share: a world of their own for each test, recipes made on the spot, and the built command.
//!
//! Nothing here sleeps to be in time: tests wait for lines, pipes and ends of processes. [`EVENT_LIMIT`] only bounds
//! a wait that would otherwise hang when the product is broken.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "this is test code: a panic is a failed test"
)]

mod abra;
pub mod bench;
mod chance;
pub mod ci;
mod command;
pub mod engine;
mod examples;
mod executable;
mod gate;
mod library;
mod pipeline;
pub mod pipes;
mod quiet_abra;
mod recipe;
mod skip;
mod socket_tap;
pub mod stand_in;
mod tls_proxy;
mod world;

use std::time::Duration;

pub use abra::Abra;
pub use chance::Chance;
pub use command::{CcCi, Ended, StartedCommand, built};
pub use executable::executable;
pub use gate::Gate;
pub use library::OnEvent;
pub use recipe::Recipe;
pub use skip::{require_root, skip};
pub use socket_tap::SocketTap;
pub use tls_proxy::{ProxyCertificate, TlsProxy};
pub use world::{World, confined, unconfined, until};

/// How long an event may take before a test calls it missing. Never part of what is tested.
pub const EVENT_LIMIT: Duration = Duration::from_mins(3);
