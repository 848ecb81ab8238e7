//! Processes as the kernel knows them: who one is, whose it is, whether it still is.

mod identity;
mod marker;

pub use identity::{ProcessIdentity, StatLine};
pub use marker::{Marker, MarkerOwner};
