//! From `!testme` on a pull request to the verdict: a comment becomes a run, a commit status, and one comment that is kept up
//! to date.
//!
//! # Promises
//! - **Nothing is lost.** A webhook is a hint, and polling is the truth: what the forge did not deliver is found among its
//!   comments. A delivery is answered once it is written down.
//! - **Nothing runs twice.** That the CI is asked for a job is written down before it is asked, and from then on the job is
//!   looked for by a key that follows from the comment.
//! - **Nobody is fooled.** The commit is the one that was meant, is pinned and named whole; a status is pending only while
//!   there is a live job behind it, and success only if the run is green and the CI says so.
//!
//! # How
//! [`request`] is the state machine, without I/O. [`store`] keeps its states in `SQLite`. [`receive`] and
//! [`poll`] record comments. [`bridge`] takes each request from state to state: it asks the [`forge`] and the [`starter`],
//! has [`request::decide`] decide, writes that down and then does it. [`tell`] writes what the pull request is to show, and
//! [`dashboard`] shows what there is. [`work`] runs jobs where there is no CI.
//!
//! # Limitations
//! - A job that somebody starts again in the CI after its end is not reported: comment again.
//! - A CI that makes a job more than [`request::CREATION_GRACE`] after it was asked, and answered nothing until then, may be asked
//!   twice.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests make what they look at"))]

pub mod bridge;
pub mod config;
pub mod dashboard;
pub mod doctor;
pub mod explain;
pub mod forge;
pub mod http;
pub mod listing;
pub mod names;
pub mod poll;
pub mod receive;
pub mod request;
pub mod server;
pub mod settings;
pub mod starter;
pub mod store;
pub mod tell;
pub mod trigger;
pub mod work;
