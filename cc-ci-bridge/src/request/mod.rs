//! The pure heart: what a request is, and what becomes of it when something is learned. Nothing here waits, reads or writes.
//!
//! [`decide`] takes a request and an event to the next state; [`order`] says what is to be done in a state. Since the order
//! follows from the state alone, whoever is killed between two steps does the same again after the start. The one action
//! that must not simply be done again, asking the CI for a job, is part of what [`decide`] returns: the state that says
//! "asked" is written down *before* it is done, and from then on the job is looked for.
//!
//! What people are told is a function of the state as well ([`told`]).

mod decide;
#[cfg(test)]
mod model_tests;
mod outcome;
mod pull;
mod state;
#[cfg(test)]
pub(crate) mod table_tests;
pub mod told;
mod validity;

pub use decide::{CREATION_GRACE, Decision, Event, MISSING_LIMIT, Policy, REFUSED_LIMIT, decide, order};
pub use outcome::{Outcome, TierLine, Verdict};
pub use pull::{place, superseded, turn};
pub use state::{Asked, Cancel, Job, Order, Refusal, Request, RequestId, State, Via};
pub use validity::{CommentNow, Facts, Permission, Push, Validity, validity_of};
