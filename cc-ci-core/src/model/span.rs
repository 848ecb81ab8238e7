//! What took how long.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that took a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    /// What kind of thing.
    pub kind: SpanKind,
    /// Which: the phase; `pull`, `deploy`, `converge`, … with the app; the service and its task.
    pub name: String,
    /// When it began.
    pub began: Timestamp,
    /// When it was over; absent while it goes on, or where nobody knows.
    pub ended: Option<Timestamp>,
    /// Whether it came to a bad end.
    pub failed: bool,
}

impl Span {
    /// So many are kept in a record.
    pub const MOST: usize = 512;
}

/// What a [`Span`] is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// A phase of the run, one after the other: `fetch`, `lock`, a tier, `teardown`.
    Phase,
    /// What a phase waits for.
    Work,
    /// The life of a task of a service.
    Task,
}
