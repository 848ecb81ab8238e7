//! What the pull request is to show of a request: a function of its state, so that telling is comparing and writing what is
//! different, whenever and however often.

use std::fmt::Write as _;
use std::time::Duration;

use cc_ci_core::sys::text::sanitize_line;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::outcome::{Outcome, Verdict};
use super::state::{Asked, Cancel, Job, Refusal, Request, State};
use crate::names::{Key, Sha};
use crate::trigger::Trigger;

/// As much of a text of others as is quoted.
const QUOTED: usize = 300;

/// So many lines of others are quoted.
const LINES: usize = 10;

/// What the pull request is to show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Whether the comment is to have our reaction: it was seen, and is taken care of.
    pub seen: bool,
    /// The commit's status.
    pub status: Option<Status>,
    /// Our own comment.
    pub comment: Option<String>,
}

/// A commit's status.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Status {
    /// The commit, whole.
    pub sha: Sha,
    /// What is said of it.
    pub state: StatusState,
    /// In a line.
    pub description: String,
    /// Where there is more.
    pub url: Option<String>,
}

/// What a status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusState {
    /// A live job works on it.
    Pending,
    /// It is green.
    Success,
    /// It is red.
    Failure,
    /// Nothing is said of it.
    Error,
}

impl StatusState {
    /// Returns it as the forge spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
        }
    }
}

/// What beside the request's own state goes into the text.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// The request's place in the queue, from 1.
    pub position: Option<usize>,
    /// What is under way before it, as `owner/name#pull`.
    pub ahead: Vec<String>,
    /// What the wait may be.
    pub estimate: Option<Duration>,
    /// Who else posted a status under our context.
    pub foreign: Option<String>,
    /// The request's page on the dashboard.
    pub page: Option<String>,
}

/// Returns the mark by which our comment on a request is found again. It is not seen.
pub fn mark(key: &Key) -> String {
    format!("<!-- cc-ci:{key} -->")
}

/// Returns what is to be shown of a request.
pub fn wanted(request: &Request, key: &Key, around: &Around) -> Wanted {
    let text = text(request, around);
    Wanted {
        seen: text.is_some(),
        status: status(&request.state, around.page.as_deref()),
        comment: text.map(|text| format!("{}\n{text}", mark(key))),
    }
}

/// A status is pending while there is a live job behind it, and at no other time: before that, our comment says what is
/// awaited. It leads to the request's page where there is one, and else to the job.
fn status(state: &State, page: Option<&str>) -> Option<Status> {
    let of = |sha: &Sha, job: Option<&Job>, state, description: &str| {
        Some(Status {
            sha: sha.clone(),
            state,
            description: description.to_owned(),
            url: page.map(str::to_owned).or_else(|| job?.url.clone()),
        })
    };
    match state {
        State::Started { head, job, cancel, .. } => {
            let description = match (cancel, job.running_since) {
                (Some(_), _) => "is being ended",
                (None, Some(_)) => "running",
                (None, None) => "waits in the CI",
            };
            of(head, Some(job), StatusState::Pending, description)
        }
        // Nothing was ever posted of a job that never was.
        State::Ended { job: None, .. } => None,
        State::Ended { head, job, outcome, .. } => {
            let state = match outcome.verdict {
                Verdict::Green => StatusState::Success,
                Verdict::Red => StatusState::Failure,
                _ => StatusState::Error,
            };
            of(head, job.as_ref(), state, outcome.verdict.as_str())
        }
        _ => None,
    }
}

fn text(request: &Request, around: &Around) -> Option<String> {
    let mut text = match &request.state {
        State::Refused { why } => return refusal(&request.asked, why),
        State::Queued { head } => queued(head, around),
        // Whether its author may ask was never found out.
        State::Received | State::Superseded { head: None, .. } => return None,
        State::Superseded { by, head: Some(head) } => format!(
            "**Superseded**: the newer request {by} takes its place, and {} was not tested for this one.",
            code(head.as_str())
        ),
        State::Intent { head, newer: None, .. } => {
            format!("**Starting** the test of {}.", code(head.as_str()))
        }
        State::Intent { head, newer: Some(by), .. } => format!(
            "**Starting** the test of {}; if the CI has no job of it, the newer request {by} takes its place.",
            code(head.as_str())
        ),
        State::Started { head, job, cancel, .. } => started(head, job, cancel.as_ref()),
        State::Ended { head, job, outcome, moved } => ended(head, job.as_ref(), outcome, moved.as_ref()),
    };
    let quick = if request.asked.trigger == Some(Trigger::Quick) {
        ", the quick lane, which proves less"
    } else {
        ""
    };
    let _ = write!(
        text,
        "\n\nAsked for by {} in comment {}{quick}.",
        code(&request.asked.author),
        request.asked.comment
    );
    if let Some(page) = &around.page {
        let _ = write!(text, " [All that is known of it]({page}).");
    }
    if let Some(who) = &around.foreign {
        let _ = write!(
            text,
            "\n\n**Beware**: {} posted a status in the name of this CI. What counts is this comment.",
            code(who)
        );
    }
    Some(text)
}

fn refusal(asked: &Asked, why: &Refusal) -> Option<String> {
    if !why.is_said() {
        return None;
    }
    let again = asked.trigger.unwrap_or(Trigger::Cold).as_str();
    let why = match why {
        Refusal::Edited => {
            "the comment was changed after it was made, and anyone with enough rights can change another one's words"
                .to_owned()
        }
        Refusal::Closed => "the pull request is not open".to_owned(),
        Refusal::PushedSince { head } => format!(
            "the branch was pushed to since (or in the same second), to {}, so it is not known which commit was meant",
            code(head.as_str())
        ),
        _ => return None,
    };
    Some(format!("**Not started**: {why}. To test what is there now, comment {} again.", code(again)))
}

fn queued(head: &Sha, around: &Around) -> String {
    let mut text = format!("**Queued**: {} will be tested.", code(head.as_str()));
    if let Some(position) = around.position {
        let _ = write!(text, " It is number {position} of those that wait");
        if !around.ahead.is_empty() {
            let shown: Vec<String> = around.ahead.iter().take(3).map(|name| code(name)).collect();
            let _ = write!(text, ", for {}", shown.join(", "));
            if around.ahead.len() > shown.len() {
                let _ = write!(text, " and {} more", around.ahead.len() - shown.len());
            }
        }
        text.push('.');
    }
    if let Some(estimate) = around.estimate {
        let _ = write!(text, " It may begin in about {} min.", estimate.as_secs().div_ceil(60).max(1));
    }
    text
}

fn started(head: &Sha, job: &Job, cancel: Option<&Cancel>) -> String {
    let mut text = match job.running_since.and_then(|since| Timestamp::from_second(since).ok()) {
        Some(since) => {
            format!("**Running** since {}: {}.", since.strftime("%H:%M UTC on %F"), code(head.as_str()))
        }
        None => format!("**Waits in the CI**: {}.", code(head.as_str())),
    };
    if let Some(Cancel::Newer(by)) = cancel {
        let _ = write!(text, " It is being ended, since the newer request {by} takes its place.");
    }
    link(&mut text, job);
    text
}

fn ended(head: &Sha, job: Option<&Job>, outcome: &Outcome, moved: Option<&Sha>) -> String {
    let title = match outcome.verdict {
        Verdict::Green => "Green",
        Verdict::Red => "Red",
        Verdict::Cancelled => "Cancelled",
        _ => "No verdict",
    };
    let mut text = format!("**{title}**: {}, {}.", code(head.as_str()), outcome.verdict.as_str());
    if let Some(code) = outcome.exit_code {
        let _ = write!(text, " Exit code {code}.");
    }
    if outcome.verdict == Verdict::Cancelled {
        text.push_str(match outcome.receipt {
            Some(true) => " Its receipt says that nothing of it is left.",
            Some(false) => " Its receipt says that **something of it is left**.",
            None => " Whether its app is gone by now is not known here.",
        });
    }
    if let Some(now) = moved {
        let _ = write!(
            text,
            "\n\nThe branch is at {} by now, **which this says nothing of**.",
            code(now.as_str())
        );
    }
    if !outcome.tiers.is_empty() {
        let level = outcome.level_in_words().map(|level| format!(", {level}")).unwrap_or_default();
        let _ = write!(text, "\n\nTiers{level}:\n");
        for tier in outcome.tiers.iter().take(LINES) {
            let _ = write!(text, "- {}: {}", code(&tier.name), code(&tier.status));
            if let Some(reason) = &tier.reason {
                let _ = write!(text, ", {}", code(reason));
            }
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
    }
    for note in outcome.notes.iter().take(LINES) {
        let _ = write!(text, "\n\n> {}", code(note));
    }
    if let Some(job) = job {
        link(&mut text, job);
    }
    text
}

/// Addresses of jobs are made of the operator's configuration and a number.
fn link(text: &mut String, job: &Job) {
    if let Some(url) = &job.url {
        let _ = write!(text, " [Job {}]({url}).", job.number);
    }
}

/// Text of others as code in Markdown: nobody is mentioned, nothing is linked, and no line begins there.
fn code(text: &str) -> String {
    let line = sanitize_line(text).replace('`', "'");
    let mut shown: String = line.chars().take(QUOTED).collect();
    if line.chars().nth(QUOTED).is_some() {
        shown.push('…');
    }
    // Space at both ends would be taken away, and of nothing there is no code.
    if shown.trim().is_empty() { "` `".to_owned() } else { format!("`{}`", shown.trim()) }
}
