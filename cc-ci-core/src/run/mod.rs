//! A run: one recipe at one commit, deployed, proved, taken down, reported.
//!
//! `open → fetch → acquire → recover → janitor → lane → teardown → result`. Everything up to the lane happens in a *body*
//! that may end at any await; the rest happens always, once, and under the locks that the body took. [`Harness`] has the
//! ways in; `execute.rs` is the column, from top to bottom.

mod acquire;
mod admission;
mod api;
mod baseline;
mod checks;
mod cold;
mod confine;
mod covered;
mod diff;
mod digest;
mod event_log;
mod evidence;
mod execute;
mod fetch;
mod held;
mod install_copy;
mod integrity;
mod keep;
mod limits;
mod lines;
mod lint;
mod open;
mod probe_files;
mod quick;
mod ready;
mod recipe;
mod reconcile;
mod recover;
mod redacted;
mod request;
mod restore;
mod rollback;
mod scripts;
mod service_logs;
mod state;
mod step;
mod strangers;
mod teardown;
mod test_run;
mod tier_run;
mod timeline;
mod upgrade_from;
mod upgrade_passes;

pub use crate::http::{InvalidProxy, Proxy};
pub use crate::model::asked::Asked;
pub use crate::model::digest::{Blame, Digest, Doing, LogEnd};
pub use crate::model::level::{Level, Met, RuleOutcome};
pub use crate::model::record::{
    Kept, Lane, Lint, RUN_SCHEMA, Receipt, ReleasesBefore, RunRecord, Span, SpanKind, Status, Step, Tier,
    TierName, Verdict, Versions,
};
pub use cold::Deployed;
pub use execute::RunEnd;
pub use limits::{Limits, Places};
pub use reconcile::{Outcome, WarmEnd};
pub use request::{Harness, RecipeScripts, Request, Settings, WarmApp};
pub use upgrade_from::UpgradeFrom;
