//! A Drone server: a build of one repository of the operator's, with parameters.

use std::collections::BTreeMap;

use hyper::Method;
use serde::Deserialize;

use super::steps::{self, Part};
use super::{Creation, JobStatus, KEY, Order, creation, present};
use crate::http::{Client, HttpError};
use crate::names::Repo;
use crate::request::Job;

/// So many builds a page has.
const PAGE: usize = 50;

/// So many pages are looked through.
const PAGES: usize = 20;

/// Clocks may differ by so much, in seconds.
const SKEW: i64 = 600;

/// A Drone server.
#[derive(Debug)]
pub struct Drone {
    client: Client,
    repo: Repo,
    branch: String,
}

#[derive(Debug, Deserialize)]
struct Build {
    number: u64,
    status: String,
    #[serde(default)]
    params: Option<BTreeMap<String, String>>,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    started: i64,
    #[serde(default)]
    stages: Option<Vec<Stage>>,
}

#[derive(Debug, Deserialize)]
struct Stage {
    status: String,
    #[serde(default)]
    exit_code: i64,
    #[serde(default)]
    steps: Option<Vec<Stage>>,
}

impl Drone {
    /// Returns the server, of which `repo` has the pipeline, on `branch`.
    pub fn new(client: Client, repo: Repo, branch: String) -> Self {
        Self { client, repo, branch }
    }

    pub(super) async fn look_up(&self, order: &Order) -> Result<Vec<Job>, HttpError> {
        let mut jobs = Vec::new();
        for page in 1..=PAGES {
            let path = format!("/api/repos/{}/builds?per_page={PAGE}&page={page}", self.repo);
            let builds: Vec<Build> =
                self.client.json::<Option<_>>(Method::GET, &path, None).await?.0.unwrap_or_default();
            let whole = builds.len() >= PAGE;
            // They come newest first.
            let is_past = builds.iter().any(|build| build.created + SKEW < order.since.as_second());
            let ours = |build: &Build| {
                build.params.as_ref().and_then(|params| params.get(KEY)).map(String::as_str)
                    == Some(order.key.as_str())
            };
            jobs.extend(builds.iter().filter(|build| ours(build)).map(|build| self.job(build)));
            if is_past || !whole {
                return Ok(jobs);
            }
        }
        Err(HttpError::TooMany { host: self.client.base().as_str().to_owned(), what: "builds" })
    }

    pub(super) async fn create(&self, order: &Order) -> Result<Creation, HttpError> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("branch", &self.branch);
        query.extend_pairs(order.parameters());
        let path = format!("/api/repos/{}/builds?{}", self.repo, query.finish());
        let answer =
            self.client.json::<Option<Build>>(Method::POST, &path, None).await.map(|(build, _)| build);
        creation(answer, "Drone answered null: its pipeline takes no custom build of that branch", |build| {
            self.job(&build)
        })
    }

    pub(super) async fn watch(&self, number: u64) -> Result<JobStatus, HttpError> {
        let path = format!("/api/repos/{}/builds/{number}", self.repo);
        let Some((build, _)) = present(self.client.json::<Build>(Method::GET, &path, None).await)? else {
            return Ok(JobStatus::Missing);
        };
        let parts: Vec<Part> = build.stages.as_deref().unwrap_or_default().iter().flat_map(parts).collect();
        Ok(match steps::outcome(&build.status, &parts) {
            Some(outcome) => JobStatus::Over(outcome),
            None => JobStatus::Alive(self.job(&build)),
        })
    }

    pub(super) async fn cancel(&self, number: u64) -> Result<(), HttpError> {
        let path = format!("/api/repos/{}/builds/{number}", self.repo);
        self.client.ask(Method::DELETE, &path, None).await.map(drop)
    }

    fn job(&self, build: &Build) -> Job {
        Job {
            number: build.number,
            url: Some(format!("{}/{}/{}", self.client.base().as_str(), self.repo, build.number)),
            running_since: (build.status == "running" && build.started > 0).then_some(build.started),
        }
    }
}

fn parts(stage: &Stage) -> Vec<Part> {
    let inner = stage.steps.as_deref().unwrap_or_default();
    let whole = Part { status: stage.status.clone(), exit_code: stage.exit_code, has_parts: true };
    let step =
        |step: &Stage| Part { status: step.status.clone(), exit_code: step.exit_code, has_parts: false };
    std::iter::once(whole).chain(inner.iter().map(step)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Verdict;

    #[test]
    fn what_a_real_server_answered_is_read() {
        let all: serde_json::Value = serde_json::from_str(include_str!("../../recorded/drone.json")).unwrap();
        let list: Vec<Build> = serde_json::from_value(all["list"]["body"].clone()).unwrap();
        assert_eq!(list.iter().map(|build| build.number).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(list[1].params.as_ref().unwrap()["KEY"], "req-1");
        let restarted: Build = serde_json::from_value(all["restart"]["body"].clone()).unwrap();
        assert_eq!((restarted.number, restarted.params.unwrap()["KEY"].as_str()), (3, "req-1"));
        let cancelled: Build = serde_json::from_value(all["cancelled"]["body"].clone()).unwrap();
        let parts: Vec<Part> = cancelled.stages.unwrap().iter().flat_map(parts).collect();
        let outcome = steps::outcome(&cancelled.status, &parts).unwrap();
        assert_eq!(outcome.verdict, Verdict::Cancelled);
    }
}
