//! What a forge answers, as far as it is read.

use jiff::Timestamp;
use serde::Deserialize;

use crate::names::Sha;
use crate::request::{Permission, Push};

/// A user.
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    /// The name.
    pub login: String,
}

/// A comment.
#[derive(Debug, Clone, Deserialize)]
pub struct Comment {
    /// Its number, which no other comment of the forge has.
    pub id: u64,
    /// Who made it.
    pub user: User,
    /// Its text.
    #[serde(default)]
    pub body: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// The address of its pull request; empty for one at an issue.
    #[serde(default)]
    pull_request_url: String,
}

impl Comment {
    /// Returns the number of its pull request; `None` for one at an issue.
    pub fn pull(&self) -> Option<u64> {
        let (_, number) = self.pull_request_url.rsplit_once("/pulls/")?;
        number.parse().ok()
    }
}

/// A pull request.
#[derive(Debug, Clone, Deserialize)]
pub struct Pull {
    state: String,
    #[serde(default)]
    merged: bool,
    head: Branch,
}

#[derive(Debug, Clone, Deserialize)]
struct Branch {
    sha: Sha,
}

impl Pull {
    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.state == "open" && !self.merged
    }

    /// Its head, which stays what it was when the fork is deleted.
    pub fn head(&self) -> &Sha {
        &self.head.sha
    }
}

/// An entry of a timeline.
#[derive(Debug, Deserialize)]
pub(super) struct TimelineEntry {
    r#type: String,
    #[serde(default)]
    body: String,
    created_at: Timestamp,
}

impl TimelineEntry {
    /// Returns the push that it is. What is pushed while a pull request is closed is listed nowhere: that it was opened again
    /// counts as one. The commits of a push come oldest first, and of a forced one the old head and the new one.
    pub fn push(self) -> Option<Push> {
        #[derive(Default, Deserialize)]
        struct Body {
            #[serde(default)]
            commit_ids: Option<Vec<Sha>>,
        }
        let head = match self.r#type.as_str() {
            "pull_push" => {
                let body: Body = serde_json::from_str(&self.body).unwrap_or_default();
                body.commit_ids.unwrap_or_default().pop()
            }
            "reopen" => None,
            _ => return None,
        };
        Some(Push { at: self.created_at, head })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct PermissionAnswer {
    permission: String,
}

impl PermissionAnswer {
    pub fn permission(&self) -> Permission {
        match self.permission.as_str() {
            "write" | "admin" | "owner" => Permission::May,
            _ => Permission::MayNot,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Combined {
    pub statuses: Option<Vec<PostedStatus>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PostedStatus {
    pub context: String,
    pub creator: Option<User>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Made {
    pub id: u64,
}
