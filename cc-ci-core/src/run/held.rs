//! What a run's body acquires, and its teardown gives back: it outlives the body, whatever ends that.

use super::baseline::Baseline;
use super::diff::Before;
use crate::lock::AppGuard;

/// Nothing until the body gets so far.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub guards: Vec<AppGuard>,
    pub warm: Option<HeldWarm>,
    /// The run's place on the host, where those are numbered.
    pub place: Option<AppGuard>,
}

/// What bringing a warm app back takes.
#[derive(Debug)]
pub(super) struct HeldWarm {
    pub baseline: Baseline,
    /// The app before its upgrade; none while the baseline is restored for the first time.
    pub before: Option<Before>,
}
