//! What a delivery says.

use jiff::Timestamp;
use serde::Deserialize;

use crate::names::Repo;
use crate::request::{Asked, Via};
use crate::trigger::Trigger;

/// A delivery of the event `issue_comment`.
#[derive(Debug, Deserialize)]
pub struct Hook {
    action: String,
    #[serde(default)]
    is_pull: bool,
    issue: Issue,
    comment: Comment,
    repository: Repository,
}

#[derive(Debug, Deserialize)]
struct Issue {
    number: u64,
}

#[derive(Debug, Deserialize)]
struct Comment {
    id: u64,
    user: User,
    body: String,
    created_at: Timestamp,
}

#[derive(Debug, Deserialize)]
struct User {
    login: String,
}

#[derive(Debug, Deserialize)]
struct Repository {
    full_name: String,
}

impl Hook {
    /// Returns the request that it hints at: a new comment on a pull request of one of `repos` that is one, or looks like it.
    pub fn asked(self, repos: &[Repo], received: Timestamp) -> Option<Asked> {
        if self.action != "created" || !self.is_pull || !Trigger::is_attempt(&self.comment.body) {
            return None;
        }
        let repo: Repo = self.repository.full_name.parse().ok().filter(|repo| repos.contains(repo))?;
        Some(Asked {
            repo,
            pull: self.issue.number,
            comment: self.comment.id,
            author: self.comment.user.login.chars().take(100).collect(),
            trigger: Trigger::parse(&self.comment.body),
            created: self.comment.created_at,
            via: Via::Hook,
            received,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_forge_delivered_new_comments_that_look_like_requests_count() {
        let all: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../recorded/hooks.json")).unwrap();
        let repos = ["recipes/notes".parse().unwrap()];
        let read = |delivery: &serde_json::Value, repos: &[Repo]| {
            let hook: Hook = serde_json::from_str(delivery["body"].as_str().unwrap()).ok()?;
            hook.asked(repos, Timestamp::UNIX_EPOCH)
        };
        let found: Vec<_> = all.iter().filter_map(|delivery| read(delivery, &repos)).collect();
        let shown: Vec<_> =
            found.iter().map(|asked| (asked.comment, asked.author.as_str(), asked.trigger)).collect();
        assert_eq!(
            shown,
            [
                (2, "stranger", Some(Trigger::Cold)),
                (3, "maintainer", Some(Trigger::Cold)),
                (4, "maintainer", Some(Trigger::Quick)),
                (5, "maintainer", None),
            ]
        );
        assert_eq!(all.iter().filter_map(|delivery| read(delivery, &[])).count(), 0);
    }
}
