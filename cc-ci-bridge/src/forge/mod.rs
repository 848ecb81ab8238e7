//! A Forgejo or a Gitea: what the bridge asks of it, and what it tells it. Nothing of its answers is believed to have a form
//! until it has been read.

mod answers;
#[cfg(test)]
mod recorded_tests;

use jiff::Timestamp;
use serde_json::json;

use crate::http::{Client, HttpError};
use crate::names::{Repo, Sha};
use crate::request::told::Status;
use crate::request::{Permission, Push};

pub use answers::{Comment, Pull};

/// So many a page has.
const PAGE: usize = 50;

/// So many pages are read at the most.
const PAGES: usize = 100;

/// So often a list is read anew that changed while it was read.
const AGAIN: usize = 3;

/// A forge, as one of its users.
#[derive(Debug, Clone)]
pub struct Forge {
    client: Client,
    context: String,
}

/// Why a forge was of no use.
pub type ForgeError = HttpError;

impl Forge {
    /// Returns the forge; `context` is the name of our commit status.
    pub fn new(client: Client, context: String) -> Self {
        Self { client, context }
    }

    /// The forge's address.
    pub fn address(&self) -> &str {
        self.client.base().as_str()
    }

    /// Returns the name of the token's user.
    ///
    /// # Errors
    /// When the forge does not say.
    pub async fn own_name(&self) -> Result<String, ForgeError> {
        Ok(self.own_name_and_clock().await?.0)
    }

    /// Returns that, and what the forge's clock says, to the second; `None` where it does not say.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn own_name_and_clock(&self) -> Result<(String, Option<Timestamp>), ForgeError> {
        let (user, answer): (answers::User, _) =
            self.client.json(hyper::Method::GET, "/api/v1/user", None).await?;
        Ok((user.login, answer.date))
    }

    /// Returns the comments of a repository that were made or changed since, at pull requests and issues.
    ///
    /// # Errors
    /// When they can't be read whole.
    pub async fn comments_since(&self, repo: &Repo, since: Timestamp) -> Result<Vec<Comment>, ForgeError> {
        let since = since.strftime("%Y-%m-%dT%H:%M:%SZ");
        self.pages(&format!("/api/v1/repos/{repo}/issues/comments?since={since}"), "comments").await
    }

    /// Returns a comment, or `None` where it was deleted.
    ///
    /// # Errors
    /// When the forge does not say.
    pub async fn comment(&self, repo: &Repo, comment: u64) -> Result<Option<Comment>, ForgeError> {
        let path = format!("/api/v1/repos/{repo}/issues/comments/{comment}");
        match self.client.ask(hyper::Method::GET, &path, None).await {
            Ok(answer) if answer.body.is_empty() => Ok(None),
            Ok(answer) => serde_json::from_slice(&answer.body).map(Some).map_err(|source| self.shape(source)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns a pull request.
    ///
    /// # Errors
    /// When the forge does not say.
    pub async fn pull(&self, repo: &Repo, pull: u64) -> Result<Pull, ForgeError> {
        self.get(&format!("/api/v1/repos/{repo}/pulls/{pull}")).await
    }

    /// Returns the last push to a pull request since it was opened, or that it was opened again.
    ///
    /// # Errors
    /// When the forge does not say.
    pub async fn last_push(&self, repo: &Repo, pull: u64) -> Result<Option<Push>, ForgeError> {
        // Asked for a page of them, the forge does not say how many there are in all.
        let path = format!("/api/v1/repos/{repo}/issues/{pull}/timeline");
        let entries: Option<Vec<answers::TimelineEntry>> = self.get(&path).await?;
        let pushes = entries.unwrap_or_default().into_iter().filter_map(answers::TimelineEntry::push);
        Ok(pushes.max_by_key(|push| push.at))
    }

    /// Returns what a user may do in a repository. The forge tells its administrators and the repository's only.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn permission(&self, repo: &Repo, user: &str) -> Result<Permission, ForgeError> {
        let path = format!("/api/v1/repos/{repo}/collaborators/{}/permission", encoded(user));
        match self.get::<answers::PermissionAnswer>(&path).await {
            Ok(answer) => Ok(answer.permission()),
            Err(error) if error.status() == Some(403) => Ok(Permission::Unknown),
            // No such user any more.
            Err(error) if error.status() == Some(404) => Ok(Permission::MayNot),
            Err(error) => Err(error),
        }
    }

    /// Asks whether the token may write there: for a status of a commit and a reaction to a comment that nobody has.
    ///
    /// # Errors
    /// When it may not, or the forge does not answer.
    pub async fn may_write(&self, repo: &Repo) -> Result<(), ForgeError> {
        let nobodys = [format!("statuses/{}", Sha::none()), "issues/comments/0/reactions".to_owned()];
        for path in nobodys {
            let path = format!("/api/v1/repos/{repo}/{path}");
            match self.client.ask(hyper::Method::POST, &path, Some(&json!({}))).await {
                Err(error) if error.status().is_none_or(|status| matches!(status, 401 | 403)) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns who posted the last status under our name for a commit.
    ///
    /// # Errors
    /// When the forge does not say.
    pub async fn status_author(&self, repo: &Repo, sha: &Sha) -> Result<Option<String>, ForgeError> {
        let mut read = 0;
        for page in 1..=PAGES {
            let path = format!("/api/v1/repos/{repo}/commits/{sha}/status?limit={PAGE}&page={page}");
            let (combined, answer): (answers::Combined, _) =
                self.client.json(hyper::Method::GET, &path, None).await?;
            let statuses = combined.statuses.unwrap_or_default();
            read += statuses.len();
            let is_last = statuses.is_empty() || answer.total.is_none_or(|total| read >= total);
            let ours = statuses.into_iter().find(|status| status.context == self.context);
            if ours.is_some() || is_last {
                return Ok(ours.and_then(|status| status.creator).map(|creator| creator.login));
            }
        }
        Err(self.too_many("statuses"))
    }

    /// Posts a commit's status.
    ///
    /// # Errors
    /// When the forge did not take it, or did not say so.
    pub async fn post_status(&self, repo: &Repo, status: &Status) -> Result<(), ForgeError> {
        let body = json!({
            "state": status.state.as_str(),
            "description": status.description,
            "target_url": status.url.as_deref().unwrap_or_default(),
            "context": self.context,
        });
        let path = format!("/api/v1/repos/{repo}/statuses/{}", status.sha);
        self.client.ask(hyper::Method::POST, &path, Some(&body)).await.map(drop)
    }

    /// Gives a comment our reaction, 👀. Giving it again changes nothing.
    ///
    /// # Errors
    /// When the forge did not take it, or did not say so.
    pub async fn react(&self, repo: &Repo, comment: u64) -> Result<(), ForgeError> {
        let path = format!("/api/v1/repos/{repo}/issues/comments/{comment}/reactions");
        self.client.ask(hyper::Method::POST, &path, Some(&json!({ "content": "eyes" }))).await.map(drop)
    }

    /// Returns the comment at a pull request that `author` made, that begins with `mark`, and that is not older than `since`.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn find_comment(
        &self,
        repo: &Repo,
        pull: u64,
        author: &str,
        mark: &str,
        since: Timestamp,
    ) -> Result<Option<Comment>, ForgeError> {
        let since = since.strftime("%Y-%m-%dT%H:%M:%SZ");
        let path = format!("/api/v1/repos/{repo}/issues/{pull}/comments?since={since}");
        // This list has no pages.
        let comments: Vec<Comment> = self.get(&path).await?;
        let ours = |comment: &Comment| {
            comment.user.login.eq_ignore_ascii_case(author) && comment.body.starts_with(mark)
        };
        Ok(comments.into_iter().find(ours))
    }

    /// Makes a comment, and returns its number.
    ///
    /// # Errors
    /// When the forge did not take it, or did not say so.
    pub async fn create_comment(&self, repo: &Repo, pull: u64, body: &str) -> Result<u64, ForgeError> {
        let path = format!("/api/v1/repos/{repo}/issues/{pull}/comments");
        let made: answers::Made =
            self.client.json(hyper::Method::POST, &path, Some(&json!({ "body": body }))).await?.0;
        Ok(made.id)
    }

    /// Changes a comment of ours. `false`: it is not there any more.
    ///
    /// # Errors
    /// When the forge did not take it, or did not say so.
    pub async fn edit_comment(&self, repo: &Repo, comment: u64, body: &str) -> Result<bool, ForgeError> {
        let path = format!("/api/v1/repos/{repo}/issues/comments/{comment}");
        match self.client.ask(hyper::Method::PATCH, &path, Some(&json!({ "body": body }))).await {
            Ok(answer) => Ok(answer.status != 204),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ForgeError> {
        Ok(self.client.json(hyper::Method::GET, path, None).await?.0)
    }

    /// Reads a list page by page. What is deleted meanwhile moves the rest, so a list whose length changed is read anew.
    async fn pages<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        what: &'static str,
    ) -> Result<Vec<T>, ForgeError> {
        let joint = if path.contains('?') { '&' } else { '?' };
        'whole: for _ in 0..AGAIN {
            let (mut all, mut before) = (Vec::new(), None);
            for page in 1..=PAGES {
                let path = format!("{path}{joint}limit={PAGE}&page={page}");
                let (items, answer) =
                    self.client.json::<Option<Vec<T>>>(hyper::Method::GET, &path, None).await?;
                let items = items.unwrap_or_default();
                if before.is_some() && answer.total != before {
                    continue 'whole;
                }
                before = answer.total;
                // How many a page has at the most is the forge's affair.
                let is_end = items.is_empty() || answer.total.is_none() && items.len() < PAGE;
                all.extend(items);
                let last = is_end || answer.total.is_some_and(|total| all.len() >= total);
                if last {
                    return Ok(all);
                }
            }
            return Err(self.too_many(what));
        }
        Err(self.too_many(what))
    }

    fn too_many(&self, what: &'static str) -> ForgeError {
        HttpError::TooMany { host: self.address().to_owned(), what }
    }

    fn shape(&self, source: serde_json::Error) -> ForgeError {
        HttpError::Shape { host: self.address().to_owned(), source }
    }
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
