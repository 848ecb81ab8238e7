//! The state machine.

use jiff::{SignedDuration, Timestamp};

use super::outcome::{Outcome, Verdict};
use super::state::{Cancel, Job, Order, Refusal, Request, State};
use super::validity::{Facts, Validity, validity_of};
use crate::names::Sha;

/// After so long, a CI that was asked for a job has made it or never will: it is longer than a question may take.
pub const CREATION_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// So often in a row a CI may not know a job before it counts as gone.
pub const MISSING_LIMIT: u8 = 3;

/// So often a CI may say that it made no job before that is the end.
pub const REFUSED_LIMIT: u8 = 3;

/// What becomes of a job when a newer request for its pull request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It goes on to its end.
    #[default]
    Finish,
    /// It is ended.
    Cancel,
}

/// Something was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What the forge says.
    Checked(Facts),
    /// A newer request for the same pull request was found to be valid.
    Newer {
        /// Its comment.
        by: u64,
        /// What becomes of a job.
        policy: Policy,
    },
    /// The jobs that the CI has with the request's key.
    LookedUp {
        /// All of them.
        jobs: Vec<Job>,
        /// When it answered.
        now: Timestamp,
    },
    /// The CI made a job.
    Created(Job),
    /// The CI says that it made none.
    NotCreated {
        /// Why, in its own words.
        why: String,
    },
    /// The job waits or runs.
    Alive(Job),
    /// The CI does not know the job.
    Missing,
    /// The job is over.
    Over {
        /// How it ended.
        outcome: Outcome,
        /// The pull request's head by now, where the forge said.
        head: Option<Sha>,
    },
}

impl Event {
    /// Returns its name, as it stands in a request's history.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Checked(_) => "checked",
            Self::Newer { .. } => "newer request",
            Self::LookedUp { .. } => "looked up",
            Self::Created(_) => "created",
            Self::NotCreated { .. } => "not created",
            Self::Alive(_) => "alive",
            Self::Missing => "missing",
            Self::Over { .. } => "over",
        }
    }
}

/// What follows from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the state is to be written down before anything is done"]
pub struct Decision {
    /// The next state.
    pub state: State,
    /// Whether the CI is to be asked for a job, *once the state is written down*.
    pub create: bool,
}

/// Returns what is to be done in a state.
pub fn order(state: &State) -> Order {
    match state {
        State::Received => Order::Check,
        State::Queued { .. } => Order::AwaitTurn,
        State::Intent { .. } => Order::LookUp,
        State::Started { job, cancel: None, .. } => Order::Watch(job.clone()),
        State::Started { job, cancel: Some(_), .. } => Order::Cancel(job.clone()),
        State::Refused { .. } | State::Superseded { .. } | State::Ended { .. } => Order::Nothing,
    }
}

/// Takes the request to its next state. An event that does not belong to the state changes nothing.
pub fn decide(request: &Request, event: &Event) -> Decision {
    let stay = || Decision { state: request.state.clone(), create: false };
    let to = |state| Decision { state, create: false };
    match (&request.state, event) {
        (State::Received, Event::Checked(facts)) => match validity_of(&request.asked, facts) {
            Validity::Accept(head) => to(State::Queued { head }),
            Validity::Refuse(why) => to(State::Refused { why }),
            Validity::NotYet => stay(),
        },
        // The same again right before the CI is asked: a branch, a comment and rights change while a request waits.
        (State::Queued { head: pinned }, Event::Checked(facts)) => match validity_of(&request.asked, facts) {
            Validity::Accept(head) if head == *pinned => {
                to(State::Intent { head, asked: None, refused: 0, newer: None })
            }
            Validity::Accept(head) => to(State::Refused { why: Refusal::PushedSince { head } }),
            Validity::Refuse(why) => to(State::Refused { why }),
            Validity::NotYet => stay(),
        },
        (
            State::Received | State::Queued { .. } | State::Intent { asked: None, .. },
            Event::Newer { by, .. },
        ) => to(State::Superseded { by: *by, head: request.state.head().cloned() }),
        (State::Intent { head, asked, refused, .. }, Event::Newer { by, .. }) => {
            to(State::Intent { head: head.clone(), asked: *asked, refused: *refused, newer: Some(*by) })
        }
        (
            State::Started { head, job, cancel: None, missing },
            Event::Newer { by, policy: Policy::Cancel },
        ) => {
            let cancel = Some(Cancel::Newer(*by));
            to(State::Started { head: head.clone(), job: job.clone(), cancel, missing: *missing })
        }
        (State::Intent { .. }, Event::LookedUp { jobs, now }) => looked_up(&request.state, jobs, *now),
        (State::Intent { head, .. }, Event::Created(job)) => to(started(head, job)),
        (State::Intent { head, refused, newer, .. }, Event::NotCreated { why }) => {
            let refused = refused.saturating_add(1);
            match newer {
                Some(by) => to(State::Superseded { by: *by, head: Some(head.clone()) }),
                None if refused >= REFUSED_LIMIT => to(State::Ended {
                    head: head.clone(),
                    job: None,
                    outcome: Outcome::new(Verdict::NotStarted).with_note(why.clone()),
                    moved: None,
                }),
                None => to(State::Intent { head: head.clone(), asked: None, refused, newer: None }),
            }
        }
        (State::Started { head, cancel, .. }, Event::Alive(job)) => {
            to(State::Started { head: head.clone(), job: job.clone(), cancel: cancel.clone(), missing: 0 })
        }
        (State::Started { head, job, cancel, missing }, Event::Missing) => {
            let missing = missing.saturating_add(1);
            let (head, job) = (head.clone(), job.clone());
            if missing >= MISSING_LIMIT {
                to(State::Ended { head, job: Some(job), outcome: Outcome::new(Verdict::Lost), moved: None })
            } else {
                to(State::Started { head, job, cancel: cancel.clone(), missing })
            }
        }
        (State::Started { head, job, .. }, Event::Over { outcome, head: now }) => to(State::Ended {
            head: head.clone(),
            job: Some(job.clone()),
            outcome: outcome.clone(),
            moved: now.clone().filter(|now| now != head),
        }),
        _ => stay(),
    }
}

/// What follows from the jobs that a CI has of a request that is to have one.
fn looked_up(state: &State, jobs: &[Job], now: Timestamp) -> Decision {
    let stay = || Decision { state: state.clone(), create: false };
    let State::Intent { head, asked, refused, newer } = state else { return stay() };
    // A job that was started again has the same key and a higher number.
    if let Some(job) = jobs.iter().max_by_key(|job| job.number) {
        return Decision { state: started(head, job), create: false };
    }
    match (asked, newer) {
        // Whoever asked may have been killed, or not have heard the answer: the job may yet come.
        (Some(asked), _) if now.duration_since(*asked) < CREATION_GRACE => stay(),
        (_, Some(by)) => {
            Decision { state: State::Superseded { by: *by, head: Some(head.clone()) }, create: false }
        }
        (_, None) => {
            let (head, refused) = (head.clone(), *refused);
            Decision { state: State::Intent { head, asked: Some(now), refused, newer: None }, create: true }
        }
    }
}

fn started(head: &Sha, job: &Job) -> State {
    State::Started { head: head.clone(), job: job.clone(), cancel: None, missing: 0 }
}
