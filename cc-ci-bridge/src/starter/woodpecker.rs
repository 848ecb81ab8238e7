//! A Woodpecker server: a manual pipeline of one repository of the operator's, with variables. Written by its documents and
//! its source.

use std::collections::BTreeMap;

use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::steps::{self, Part};
use super::{Creation, JobStatus, KEY, Order, creation, present};
use crate::http::{Client, HttpError};
use crate::request::Job;

/// So many pipelines a page has.
const PAGE: usize = 50;

/// So many pages are looked through.
const PAGES: usize = 20;

/// Clocks may differ by so much, in seconds.
const SKEW: i64 = 600;

/// A Woodpecker server.
#[derive(Debug)]
pub struct Woodpecker {
    client: Client,
    repo: u64,
    branch: String,
}

#[derive(Debug, Deserialize)]
struct Pipeline {
    number: u64,
    status: String,
    #[serde(default)]
    variables: Option<BTreeMap<String, String>>,
    // Older and newer versions call it differently.
    #[serde(default, alias = "created_at")]
    created: i64,
    #[serde(default, alias = "started_at")]
    started: i64,
    #[serde(default)]
    workflows: Option<Vec<Workflow>>,
}

#[derive(Debug, Deserialize)]
struct Workflow {
    state: String,
    #[serde(default)]
    children: Option<Vec<Step>>,
}

#[derive(Debug, Deserialize)]
struct Step {
    state: String,
    #[serde(default)]
    exit_code: i64,
}

impl Woodpecker {
    /// Returns the server, of which the repository number `repo` has the pipeline, on `branch`.
    pub fn new(client: Client, repo: u64, branch: String) -> Self {
        Self { client, repo, branch }
    }

    pub(super) async fn look_up(&self, order: &Order) -> Result<Vec<Job>, HttpError> {
        let mut jobs = Vec::new();
        for page in 1..=PAGES {
            let path = format!("/api/repos/{}/pipelines?perPage={PAGE}&page={page}", self.repo);
            let pipelines: Vec<Pipeline> =
                self.client.json::<Option<_>>(Method::GET, &path, None).await?.0.unwrap_or_default();
            let is_past = pipelines.iter().any(|pipeline| pipeline.created + SKEW < order.since.as_second());
            let ours = |pipeline: &Pipeline| {
                let key = pipeline.variables.as_ref().and_then(|variables| variables.get(KEY));
                key.map(String::as_str) == Some(order.key.as_str())
            };
            jobs.extend(
                pipelines.iter().filter(|pipeline| ours(pipeline)).map(|pipeline| self.job(pipeline)),
            );
            if is_past || pipelines.len() < PAGE {
                return Ok(jobs);
            }
        }
        Err(HttpError::TooMany { host: self.client.base().as_str().to_owned(), what: "pipelines" })
    }

    pub(super) async fn create(&self, order: &Order) -> Result<Creation, HttpError> {
        let variables: BTreeMap<_, _> = order.parameters().into_iter().collect();
        let body = json!({ "branch": self.branch, "variables": variables });
        let path = format!("/api/repos/{}/pipelines", self.repo);
        let answer = match self.client.ask(Method::POST, &path, Some(&body)).await {
            Ok(answer) if answer.status == 204 => Ok(None),
            Ok(answer) => serde_json::from_slice::<Pipeline>(&answer.body)
                .map(Some)
                .map_err(|source| HttpError::Shape { host: self.client.base().as_str().to_owned(), source }),
            Err(error) => Err(error),
        };
        creation(
            answer,
            "Woodpecker created nothing (204): no workflow of that branch takes a manual event",
            |pipeline| self.job(&pipeline),
        )
    }

    pub(super) async fn watch(&self, number: u64) -> Result<JobStatus, HttpError> {
        let path = format!("/api/repos/{}/pipelines/{number}", self.repo);
        let Some((pipeline, _)) = present(self.client.json::<Pipeline>(Method::GET, &path, None).await)?
        else {
            return Ok(JobStatus::Missing);
        };
        let parts: Vec<Part> =
            pipeline.workflows.as_deref().unwrap_or_default().iter().flat_map(parts).collect();
        Ok(match steps::outcome(&pipeline.status, &parts) {
            Some(outcome) => JobStatus::Over(outcome),
            None => JobStatus::Alive(self.job(&pipeline)),
        })
    }

    pub(super) async fn cancel(&self, number: u64) -> Result<(), HttpError> {
        let path = format!("/api/repos/{}/pipelines/{number}/cancel", self.repo);
        self.client.ask(Method::POST, &path, None).await.map(drop)
    }

    fn job(&self, pipeline: &Pipeline) -> Job {
        let base = self.client.base().as_str();
        Job {
            number: pipeline.number,
            url: Some(format!("{base}/repos/{}/pipeline/{}", self.repo, pipeline.number)),
            running_since: (pipeline.status == "running" && pipeline.started > 0).then_some(pipeline.started),
        }
    }
}

fn parts(workflow: &Workflow) -> Vec<Part> {
    let whole = Part { status: workflow.state.clone(), exit_code: 0, has_parts: true };
    let step = |step: &Step| Part { status: step.state.clone(), exit_code: step.exit_code, has_parts: false };
    std::iter::once(whole).chain(workflow.children.as_deref().unwrap_or_default().iter().map(step)).collect()
}
