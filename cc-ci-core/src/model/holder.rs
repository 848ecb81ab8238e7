//! Who holds a lock.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{RecipeName, RunId};

/// The confirmed holder of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Holder {
    /// Its pid.
    pub pid: i32,
    /// What it said of itself, where it left a record: a plain `flock(1)` leaves none.
    pub description: Option<Description>,
    /// Since when it holds the lock, by its own record.
    pub since: Option<Timestamp>,
}

/// What a holder says of itself. It explains, it never decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Description {
    /// The run, where the holder is one.
    pub run_id: Option<RunId>,
    /// The recipe, where there is one.
    pub recipe: Option<RecipeName>,
    /// What it does: `recover`, `install`, `janitor`, …; cut at 32 bytes.
    pub phase: String,
}
