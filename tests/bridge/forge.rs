//! A stand-in for a Forgejo: its answers are recorded ones, with what changes put in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axum::http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::http::{Answer, Asked, Site};

/// The bridge's user.
pub const BOT: &str = "ccbot";

/// The token of the bridge's user.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef01234567";

const REPO: &str = "/api/v1/repos/recipes/notes";

/// The forge's world: one repository.
#[derive(Debug)]
pub struct Forge {
    pub comments: Vec<Comment>,
    pub pulls: BTreeMap<u64, Pull>,
    /// Who may do what; the bot is an administrator unless `tells` is false.
    pub permissions: BTreeMap<String, String>,
    pub tells: bool,
    /// Whether the token has the rights to write.
    pub writes: bool,
    pub statuses: Vec<Status>,
    pub reactions: Vec<u64>,
    /// As many as a page has at the most: forges are configured, too.
    pub most: usize,
    /// A push moves the head at once, and is listed so much later.
    pub lists_after: SignedDuration,
    /// Whether the answer to the next new comment is lost.
    pub loses_answer: bool,
    /// How often all comments were listed, as who polls does.
    pub polls: usize,
    repository: Option<PathBuf>,
    next: u64,
}

#[derive(Debug, Clone)]
pub struct Comment {
    pub id: u64,
    pub pull: u64,
    pub author: String,
    pub body: String,
    pub created: Timestamp,
    pub updated: Timestamp,
}

#[derive(Debug, Clone)]
pub struct Pull {
    pub head: String,
    pub open: bool,
    pub pushes: Vec<(Timestamp, String)>,
}

#[derive(Debug, Clone)]
pub struct Status {
    pub sha: String,
    pub state: String,
    pub context: String,
    pub creator: String,
}

pub fn sha(text: &str) -> String {
    format!("{text:0>40}")
}

/// Times have a resolution of a second.
fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).expect("a time")
}

fn recorded(name: &str) -> (u16, Value) {
    let all: Value =
        serde_json::from_str(include_str!("../../cc-ci-bridge/recorded/forge.json")).expect("the recording");
    let status =
        all[name]["status"].as_u64().and_then(|status| u16::try_from(status).ok()).expect("a status");
    (status, all[name]["body"].clone())
}

impl Forge {
    /// Pull requests 1 to 120, pushed to a minute ago.
    pub fn new() -> Self {
        let minute_ago = now() - SignedDuration::from_mins(1);
        let pull = |number: u64| {
            let head = sha(&format!("a{number}"));
            (number, Pull { head: head.clone(), open: true, pushes: vec![(minute_ago, head)] })
        };
        Self {
            comments: Vec::new(),
            pulls: (1..=120).map(pull).collect(),
            permissions: [("maintainer", "write"), ("stranger", "read")]
                .map(|(user, may)| (user.to_owned(), may.to_owned()))
                .into(),
            tells: true,
            writes: true,
            statuses: Vec::new(),
            reactions: Vec::new(),
            most: 50,
            lists_after: SignedDuration::ZERO,
            loses_answer: false,
            polls: 0,
            repository: None,
            next: 100,
        }
    }

    /// The same, where the repository is the one at `path`.
    pub fn with_repository(path: &Path) -> Self {
        Self { repository: Some(path.to_owned()), ..Self::new() }
    }

    pub fn comment(&mut self, pull: u64, author: &str, body: &str) -> u64 {
        self.next += 1;
        let (id, created) = (self.next, now());
        let (author, body) = (author.to_owned(), body.to_owned());
        self.comments.push(Comment { id, pull, author, body, created, updated: created });
        id
    }

    pub fn push(&mut self, pull: u64, head: &str) {
        let pull = self.pulls.get_mut(&pull).expect("a pull request");
        pull.head = sha(head);
        pull.pushes.push((now(), sha(head)));
    }

    /// The last push to a pull request was that of this commit.
    pub fn has_pushed(&mut self, pull: u64, head: &str) {
        let pull = self.pulls.get_mut(&pull).expect("a pull request");
        head.clone_into(&mut pull.head);
        head.clone_into(&mut pull.pushes.last_mut().expect("a push").1);
    }

    /// The bridge's own comments at a pull request.
    pub fn told(&self, pull: u64) -> Vec<&Comment> {
        self.comments.iter().filter(|comment| comment.pull == pull && comment.author == BOT).collect()
    }

    /// The states that were posted for a pull request's head, in order.
    pub fn states(&self, pull: u64) -> Vec<&str> {
        let head = &self.pulls[&pull].head;
        self.statuses
            .iter()
            .filter(|status| status.sha == *head)
            .map(|status| status.state.as_str())
            .collect()
    }

    fn comment_json(comment: &Comment) -> Value {
        let (_, recorded) = recorded("comments_since");
        let mut value = recorded[0].clone();
        let page = format!("http://127.0.0.1:3300/recipes/notes/pulls/{}", comment.pull);
        value["id"] = comment.id.into();
        value["html_url"] = format!("{page}#issuecomment-{}", comment.id).into();
        value["pull_request_url"] = page.into();
        value["user"]["login"] = comment.author.clone().into();
        value["body"] = comment.body.clone().into();
        value["created_at"] = comment.created.to_string().into();
        value["updated_at"] = comment.updated.to_string().into();
        value
    }

    fn pull_json(number: u64, pull: &Pull) -> Value {
        let (_, mut value) = recorded("pull");
        value["number"] = number.into();
        value["state"] = if pull.open { "open" } else { "closed" }.into();
        value["head"]["sha"] = pull.head.clone().into();
        value
    }

    fn timeline(&self, number: u64) -> Vec<Value> {
        let (_, recorded) = recorded("timeline");
        let listed = |at: &Timestamp| Timestamp::now().duration_since(*at) >= self.lists_after;
        let pushes = self.pulls[&number].pushes.iter().filter(|(at, _)| listed(at)).map(|(at, head)| {
            let mut value = recorded[0].clone();
            value["body"] = json!({ "is_force_push": false, "commit_ids": [head] }).to_string().into();
            value["created_at"] = at.to_string().into();
            (*at, value)
        });
        let comments = self.comments.iter().filter(|comment| comment.pull == number).map(|comment| {
            let mut value = recorded[1].clone();
            value["id"] = comment.id.into();
            value["created_at"] = comment.created.to_string().into();
            (comment.created, value)
        });
        let mut entries: Vec<_> = comments.chain(pushes).collect();
        entries.sort_by_key(|(at, _)| *at);
        entries.into_iter().map(|(_, value)| value).collect()
    }

    fn post_status(&mut self, commit: &str, body: &Value) -> Answer {
        if commit == sha("") {
            return Answer(500, json!({ "message": "" }), None);
        }
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let status = Status {
            sha: commit.to_owned(),
            state: text("state"),
            context: text("context"),
            creator: BOT.to_owned(),
        };
        let (code, mut value) = recorded("status_post");
        value["status"] = status.state.clone().into();
        value["context"] = status.context.clone().into();
        self.statuses.push(status);
        Answer(code, value, None)
    }

    fn combined(&self, asked: &Asked, sha: &str) -> Answer {
        let (code, mut value) = recorded("combined_status");
        let template = value["statuses"][0].clone();
        // Of each context the last one, and of those the last page.
        let mut last: BTreeMap<&str, (usize, &Status)> = BTreeMap::new();
        for (at, status) in self.statuses.iter().enumerate().filter(|(_, status)| status.sha == sha) {
            last.insert(&status.context, (at, status));
        }
        let total = last.len();
        let mut last: Vec<_> = last.into_values().collect();
        last.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let (from, most) = self.slice(asked);
        let shown = last.into_iter().skip(from).take(most).map(|(_, status)| {
            let mut value = template.clone();
            value["status"] = status.state.clone().into();
            value["context"] = status.context.clone().into();
            value["creator"]["login"] = status.creator.clone().into();
            value
        });
        value["statuses"] = shown.collect();
        Answer(code, value, Some(total))
    }

    fn comment_at(&mut self, id: &str, asked: &Asked) -> Answer {
        let found = self.comments.iter_mut().find(|comment| comment.id.to_string() == id);
        let Some(comment) = found else { return missing() };
        if asked.method == Method::PATCH {
            asked.body["body"].as_str().unwrap_or_default().clone_into(&mut comment.body);
            comment.updated = now();
        }
        Answer(200, Self::comment_json(comment), None)
    }

    /// Where the page begins that is asked for, and how many it has at the most.
    fn slice(&self, asked: &Asked) -> (usize, usize) {
        let number = |name: &str| asked.query(name).and_then(|value| value.parse::<usize>().ok());
        let (limit, page) =
            (number("limit").unwrap_or(30).min(self.most), number("page").unwrap_or(1).max(1));
        (limit * (page - 1), limit)
    }

    fn page(&self, asked: &Asked, all: Vec<Value>) -> Answer {
        let (total, (from, most)) = (all.len(), self.slice(asked));
        Answer(200, all.into_iter().skip(from).take(most).collect(), Some(total))
    }

    /// Of a timeline all is there, unless a page is asked for; and no more are said to be there than the answer has.
    fn timeline_page(&self, asked: &Asked, all: Vec<Value>) -> Answer {
        let page = if asked.query("page").is_some() { self.page(asked, all).1 } else { all.into() };
        let shown = page.as_array().map(Vec::len);
        Answer(200, page, shown)
    }

    fn since(asked: &Asked) -> Timestamp {
        asked.query("since").and_then(|since| since.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

fn missing() -> Answer {
    Answer(404, recorded("bad_token").1, None)
}

impl Site for Forge {
    fn repository(&self) -> Option<&Path> {
        self.repository.as_deref()
    }

    fn answer(&mut self, asked: &Asked) -> Answer {
        if asked.token != format!("token {TOKEN}") {
            return Answer(401, json!({ "message": "token is required" }), None);
        }
        if asked.path == "/api/v1/user" {
            return Answer(200, json!({ "id": 4, "login": BOT }), None);
        }
        if !self.writes && asked.method != Method::GET {
            let message = "token does not have at least one of required scope(s): [write:repository]";
            return Answer(403, json!({ "message": message }), None);
        }
        let Some(rest) = asked.path.strip_prefix(REPO) else { return missing() };
        let parts: Vec<&str> = rest.split('/').skip(1).collect();
        match (&asked.method, parts.as_slice()) {
            (&Method::GET, ["issues", "comments"]) => {
                self.polls += 1;
                let since = Self::since(asked);
                let new = self.comments.iter().filter(|comment| comment.updated >= since);
                let new = new.map(Self::comment_json).collect();
                self.page(asked, new)
            }
            (&Method::GET | &Method::PATCH, ["issues", "comments", id]) => self.comment_at(id, asked),
            (&Method::POST, ["issues", "comments", id, "reactions"]) => {
                let Ok(id) = id.parse() else { return missing() };
                if !self.comments.iter().any(|comment| comment.id == id) {
                    return missing();
                }
                let again = self.reactions.contains(&id);
                if !again {
                    self.reactions.push(id);
                }
                let (code, value) = recorded(if again { "reaction_again" } else { "reaction_new" });
                Answer(code, value, None)
            }
            (method, ["issues", number, "comments"]) => {
                let Ok(number) = number.parse::<u64>() else { return missing() };
                if method == Method::POST {
                    let body = asked.body["body"].as_str().unwrap_or_default().to_owned();
                    self.comment(number, BOT, &body);
                    if std::mem::take(&mut self.loses_answer) {
                        return Answer(0, Value::Null, None);
                    }
                    return Answer(
                        201,
                        self.comments.last().map(Self::comment_json).unwrap_or_default(),
                        None,
                    );
                }
                let since = Self::since(asked);
                let of =
                    self.comments.iter().filter(|comment| comment.pull == number && comment.updated >= since);
                let all: Vec<Value> = of.map(Self::comment_json).collect();
                let total = all.len();
                Answer(200, all.into(), Some(total))
            }
            (&Method::GET, ["issues", number, "timeline"]) => match number.parse() {
                Ok(number) if self.pulls.contains_key(&number) => {
                    self.timeline_page(asked, self.timeline(number))
                }
                _ => missing(),
            },
            (&Method::GET, ["pulls", number]) => {
                let number = number.parse().unwrap_or_default();
                self.pulls
                    .get(&number)
                    .map_or_else(missing, |pull| Answer(200, Self::pull_json(number, pull), None))
            }
            (&Method::GET, ["collaborators", user, "permission"]) if self.tells => {
                let (code, mut value) = recorded("permission_as_admin_bot");
                let may = self.permissions.get(*user).cloned().unwrap_or_else(|| "read".to_owned());
                value["permission"] = may.clone().into();
                value["role_name"] = may.into();
                value["user"]["login"] = (*user).into();
                Answer(code, value, None)
            }
            (&Method::GET, ["collaborators", _, "permission"]) => {
                let (code, value) = recorded("permission_as_writer");
                Answer(code, value, None)
            }
            (&Method::POST, ["statuses", sha]) => self.post_status(sha, &asked.body),
            (&Method::GET, ["commits", sha, "status"]) => self.combined(asked, sha),
            _ => missing(),
        }
    }
}
