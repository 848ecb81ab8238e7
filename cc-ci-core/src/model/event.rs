//! What a run tells while it goes on.
//!
//! Typed events leave the library through one [`Reporter`]; how they look is the caller's business. A reporter
//! never fails and never blocks: a stuck log must not hold a lock.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::cancellation::Cause;
use super::holder::Holder;
use crate::names::{Domain, RecipeName, RunId};

/// Takes events. It must return at once, whatever becomes of the event.
pub trait Reporter: fmt::Debug + Send + Sync {
    /// Takes one event.
    fn report(&self, event: &Event);
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A run began.
    RunStarted {
        /// Its id.
        run_id: RunId,
        /// What it tests.
        recipe: RecipeName,
        /// Where it deploys.
        domain: Domain,
        /// The executor, and why that one.
        executor: String,
        /// How what the recipe brings is run on the host: `confined`, or `not confined: ` and why.
        recipe_code: String,
    },
    /// An app's lock is taken: a wait begins. Said at once.
    LockWaiting {
        /// Whose lock.
        domain: Domain,
        /// How long it may take, where it may not take for ever.
        #[serde(serialize_with = "maybe_seconds")]
        #[schemars(with = "Option<f64>")]
        limit: Option<Duration>,
    },
    /// Who holds the awaited lock; again every 60 s.
    LockHolder {
        /// Whose lock.
        domain: Domain,
        /// The holder that the kernel confirmed, if it did.
        holder: Option<Holder>,
        /// At least so many wait for it, ourselves included.
        queue: usize,
    },
    /// The wait is over.
    LockAcquired {
        /// Whose lock.
        domain: Domain,
        /// How long it took.
        #[serde(serialize_with = "seconds")]
        #[schemars(with = "f64")]
        waited: Duration,
    },
    /// The run waits until the host has a place for it, or room. Said at once, and again every 60 s.
    AdmissionWaiting {
        /// What it waits for, and which setting says so.
        what: String,
        /// The holders of all places that the kernel confirmed, where it waits for one.
        holders: Vec<Holder>,
        /// How long it may take.
        #[serde(serialize_with = "seconds")]
        #[schemars(with = "f64")]
        limit: Duration,
    },
    /// That wait is over.
    Admitted {
        /// How long it took.
        #[serde(serialize_with = "seconds")]
        #[schemars(with = "f64")]
        waited: Duration,
    },
    /// The run entered a phase: `fetch`, `recover`, `install`, …
    Phase {
        /// Its name.
        phase: String,
        /// How long it may take, where it has a limit of its own.
        #[serde(serialize_with = "maybe_seconds")]
        #[schemars(with = "Option<f64>")]
        limit: Option<Duration>,
    },
    /// A step begins.
    StepStarted {
        /// The tier that it belongs to.
        tier: String,
        /// Its name.
        name: String,
        /// How long it may take, where it has a limit of its own.
        #[serde(serialize_with = "maybe_seconds")]
        #[schemars(with = "Option<f64>")]
        limit: Option<Duration>,
    },
    /// How the services of an app stand that is waited for; again when that has changed, at most once a second until all are
    /// up.
    Converging {
        /// Whose services.
        domain: Domain,
        /// How long they may take.
        #[serde(serialize_with = "seconds")]
        #[schemars(with = "f64")]
        limit: Duration,
        /// So many are up.
        up: usize,
        /// Of so many.
        of: usize,
        /// The first of those that are not.
        lagging: Vec<Lagging>,
    },
    /// A step ended: a generic check or a test.
    Step {
        /// The tier that it belongs to.
        tier: String,
        /// Its name.
        name: String,
        /// `passed`, `failed` or `skipped`.
        status: String,
        /// Why, where it didn't pass.
        detail: Option<String>,
        /// How long it took.
        #[serde(serialize_with = "seconds")]
        #[schemars(with = "f64")]
        took: Duration,
    },
    /// The red app is kept up for a person to look; its run stays its owner.
    Kept {
        /// Which run.
        run_id: RunId,
        /// Where the app is.
        domain: Domain,
        /// Until when at the latest.
        until: Timestamp,
        /// What shows the app: addresses and commands.
        look: Vec<String>,
    },
    /// How far a janitor's pass is; again before each batch.
    Sweep {
        /// The domains that were looked after.
        done: usize,
        /// Of so many; none while it looks what there is.
        of: Option<usize>,
    },
    /// Something worth a line.
    Note {
        /// The line.
        text: String,
    },
    /// Something is not as it should be, but the run goes on.
    Warning {
        /// The line.
        text: String,
    },
    /// The run ends early.
    Cancelled {
        /// Why.
        cause: Cause,
    },
    /// Every child of the run has ended; what is removed is removed after this.
    ChildrenEnded {
        /// Process groups that were still there.
        groups: usize,
        /// Descendants that had escaped from their group.
        escaped: usize,
        /// Pids that outlived their end.
        left: Vec<i32>,
        /// How long after the cancellation, where there was one, every group had been signalled.
        #[serde(serialize_with = "maybe_seconds")]
        #[schemars(with = "Option<f64>")]
        signalled_after: Option<Duration>,
    },
    /// A signal came after teardown had begun, and was swallowed.
    SignalSwallowed {
        /// Which.
        signal: String,
    },
    /// Somebody asked with a signal what the process does.
    Asked {
        /// Each child: its program, pid and age.
        children: Vec<String>,
    },
    /// Output of something that failed; secrets are taken out.
    Output {
        /// Whose.
        of: String,
        /// Its last lines.
        text: String,
    },
}

/// A service that is not up yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Lagging {
    /// Its name in the recipe.
    pub service: String,
    /// What it waits for.
    pub state: String,
}

/// An event as a line of JSON: of a run's `events.ndjson`, and of whoever passes events on.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EventLine<'e> {
    /// `cc-ci.event/v1`.
    schema: &'static str,
    /// When it happened.
    at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    event: &'e Event,
}

impl<'e> EventLine<'e> {
    /// Returns the line of an event that came at `at`.
    pub fn new(at: Timestamp, event: &'e Event) -> Self {
        Self { schema: EVENT_SCHEMA, at, event }
    }
}

/// The schema of an [`EventLine`].
pub const EVENT_SCHEMA: &str = "cc-ci.event/v1";

impl Event {
    /// The event with its free text changed: what may quote a recipe, an app or an engine.
    pub(crate) fn map_text(&self, change: impl Fn(&str) -> String) -> Self {
        let mut event = self.clone();
        match &mut event {
            Self::Step { name, detail, .. } => {
                *name = change(name);
                *detail = detail.as_deref().map(change);
            }
            Self::Note { text } | Self::Warning { text } => *text = change(text),
            Self::Output { of, text } => {
                *of = change(of);
                *text = change(text);
            }
            Self::Phase { phase, .. } => *phase = change(phase),
            Self::Kept { look, .. } => look.iter_mut().for_each(|look| *look = change(look)),
            Self::StepStarted { name, .. } => *name = change(name),
            Self::Converging { lagging, .. } => {
                for service in lagging {
                    service.state = change(&service.state);
                }
            }
            _ => {}
        }
        event
    }
}

#[expect(clippy::ref_option, reason = "serde hands out a reference to the field")]
fn maybe_seconds<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// A reporter that drops everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _: &Event) {}
}
