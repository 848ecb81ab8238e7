//! Processes as the kernel knows them: who one is, whose it is, whether it still is.

mod identity;
mod marker;
mod pidfd;
mod scan;

pub use identity::{ProcessIdentity, StatLine};
pub use marker::{Marker, MarkerOwner};
pub(crate) use pidfd::PidFd;
pub use pidfd::{Signal, kill_process, wait_gone};
pub use scan::{EndMarkedError, EndedMarked, Marked, end_marked_of_dead_owners, end_marked_of_many, marked};
pub(crate) use scan::{
    Present, SANDBOX_USERS, SERVICE_USERS, is_own, is_sandbox, marked_since, marker_of, pids,
    self_and_ancestors,
};
