//! Whether a comment is a request that is run, and of which commit.

use jiff::Timestamp;

use super::state::{Asked, Refusal};
use crate::names::Sha;
use crate::trigger::Trigger;

/// What the forge says now of a comment, its author and its pull request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Facts {
    /// The comment; `None`: it is not there.
    pub comment: Option<CommentNow>,
    /// Whether the author is known to be a bot.
    pub bot: bool,
    /// What the author may do.
    pub permission: Permission,
    /// Whether the pull request is open.
    pub open: bool,
    /// Its head.
    pub head: Sha,
    /// The last push to it since it was opened, or the last time that it was opened again.
    pub last_push: Option<Push>,
    /// Whether the forge had time enough to list the push that its head is of.
    pub had_time_to_list: bool,
}

/// A comment as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommentNow {
    /// Its text.
    pub body: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was changed last.
    pub updated: Timestamp,
}

/// What an author may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Ask for tests.
    May,
    /// Not ask for tests.
    MayNot,
    /// The forge refuses to say.
    Unknown,
}

/// A push, in the forge's words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Push {
    /// When, by the forge's clock.
    pub at: Timestamp,
    /// What the head was after it. `None` where nobody says: what is pushed while a pull request is closed is listed nowhere, so
    /// that it was opened again counts as a push.
    pub head: Option<Sha>,
}

impl Facts {
    /// Whether the forge lists the push that the head is of. Where it does not, there may have been one this very moment.
    pub fn is_head_listed(&self) -> bool {
        self.last_push.as_ref().and_then(|push| push.head.as_ref()) == Some(&self.head)
    }
}

/// What follows from the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validity {
    /// It is valid, and means this commit.
    Accept(Sha),
    /// It is not run.
    Refuse(Refusal),
    /// The forge's answers don't go together yet: its head is of a push that it does not list.
    NotYet,
}

/// Judges the comment. Who may not ask is told nothing, so that is looked at first.
pub fn validity_of(asked: &Asked, facts: &Facts) -> Validity {
    if facts.bot {
        return Validity::Refuse(Refusal::Bot);
    }
    match facts.permission {
        Permission::May => {}
        Permission::MayNot => return Validity::Refuse(Refusal::NotPermitted),
        Permission::Unknown => return Validity::Refuse(Refusal::PermissionUnknown),
    }
    let Some(comment) = &facts.comment else { return Validity::Refuse(Refusal::Deleted) };
    if comment.updated != comment.created || comment.created != asked.created {
        return Validity::Refuse(Refusal::Edited);
    }
    // A change within the second that it was made in shows in its text alone.
    match (asked.trigger, Trigger::parse(&comment.body)) {
        (None, None) => return Validity::Refuse(Refusal::NotExact),
        (before, now) if before != now => return Validity::Refuse(Refusal::Edited),
        _ => {}
    }
    if !facts.open {
        return Validity::Refuse(Refusal::Closed);
    }
    match &facts.last_push {
        // Times have a resolution of a second: what is not strictly before may have been after.
        Some(push) if push.at >= comment.created => {
            Validity::Refuse(Refusal::PushedSince { head: facts.head.clone() })
        }
        Some(Push { head: Some(head), .. }) if *head != facts.head => {
            if facts.had_time_to_list {
                Validity::Refuse(Refusal::PushedSince { head: facts.head.clone() })
            } else {
                Validity::NotYet
            }
        }
        _ => Validity::Accept(facts.head.clone()),
    }
}
