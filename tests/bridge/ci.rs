//! A stand-in for a Drone server.

use axum::http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::http::{Answer, Asked, Site};

/// The token of the CI.
pub const TOKEN: &str = "fedcba9876543210";

const BUILDS: &str = "/api/repos/ops/ci/builds";

/// The builds of one repository. They wait until somebody says how they end.
#[derive(Debug, Default)]
pub struct Ci {
    pub builds: Vec<Build>,
    /// What a new build is at once, e.g. `success`.
    pub at_once: Option<&'static str>,
    /// Whether it makes none: its answer is `null`.
    pub takes_none: bool,
    /// Whether it fails whatever it is asked.
    pub fails: bool,
}

#[derive(Debug, Clone)]
pub struct Build {
    pub number: u64,
    pub status: &'static str,
    pub exit_code: i64,
    pub params: Map<String, Value>,
    created: i64,
}

impl Build {
    /// Which pull request it is of.
    pub fn pull(&self) -> u64 {
        self.params["PR"].as_str().and_then(|number| number.parse().ok()).expect("a number")
    }

    fn json(&self) -> Value {
        let all: Value = serde_json::from_str(include_str!("../../cc-ci-bridge/recorded/drone.json"))
            .expect("the recording");
        let mut value = all["cancelled"]["body"].clone();
        value["id"] = self.number.into();
        value["number"] = self.number.into();
        value["status"] = self.status.into();
        value["params"] = self.params.clone().into();
        value["created"] = self.created.into();
        value["started"] = if self.status == "pending" { 0 } else { self.created }.into();
        let step = json!({ "name": "parameters", "status": self.status, "exit_code": self.exit_code });
        value["stages"][0]["status"] = self.status.into();
        value["stages"][0]["steps"] = json!([step]);
        value
    }
}

impl Ci {
    pub fn end(&mut self, number: u64, status: &'static str, exit_code: i64) {
        let build = self.builds.iter_mut().find(|build| build.number == number).expect("a build");
        (build.status, build.exit_code) = (status, exit_code);
    }

    pub fn of_pull(&self, pull: u64) -> Vec<&Build> {
        self.builds.iter().filter(|build| build.pull() == pull).collect()
    }
}

impl Site for Ci {
    fn answer(&mut self, asked: &Asked) -> Answer {
        let missing = || Answer(404, json!({ "message": "Not Found" }), None);
        if asked.token != format!("Bearer {TOKEN}") {
            return Answer(401, json!({ "message": "Unauthorized" }), None);
        }
        if self.fails {
            return Answer(500, json!({ "message": "out of order" }), None);
        }
        let Some(rest) = asked.path.strip_prefix(BUILDS) else { return missing() };
        let number: Option<u64> = rest.strip_prefix('/').and_then(|number| number.parse().ok());
        match (&asked.method, number) {
            (&Method::POST, None) => {
                if self.takes_none {
                    return Answer(200, Value::Null, None);
                }
                if asked.query("branch") != Some("main") {
                    return missing();
                }
                let params = asked
                    .query
                    .iter()
                    .filter(|(key, _)| key != "branch")
                    .map(|(key, value)| (key.clone(), value.clone().into()));
                let number = self.builds.len() as u64 + 1;
                let status = self.at_once.unwrap_or("pending");
                let created = Timestamp::now().as_second();
                self.builds.push(Build { number, status, exit_code: 0, params: params.collect(), created });
                Answer(200, self.builds.last().map(Build::json).unwrap_or_default(), None)
            }
            (&Method::GET, None) => {
                let value = |name: &str| asked.query(name).and_then(|value| value.parse::<usize>().ok());
                let (page, per_page) = (value("page").unwrap_or(1).max(1), value("per_page").unwrap_or(25));
                // The list has no stages, and the newest first.
                let list = self.builds.iter().rev().skip((page - 1) * per_page).take(per_page).map(|build| {
                    let mut value = build.json();
                    value["stages"] = Value::Null;
                    value
                });
                Answer(200, list.collect(), None)
            }
            (method, Some(number)) => {
                let Some(build) = self.builds.iter_mut().find(|build| build.number == number) else {
                    return missing();
                };
                if *method == Method::DELETE {
                    build.status = "killed";
                }
                Answer(200, build.json(), None)
            }
            _ => missing(),
        }
    }
}
