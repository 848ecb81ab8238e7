//! What commands take that are about runs: `runs`, `report`, `logs`, `cancel`, `rerun`.

use std::time::Duration;

use cc_ci_core::names::{RecipeName, RunId};
use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCandidates;

use super::{complete, time};

#[derive(Debug, Args)]
pub struct Runs {
    /// Only those of this recipe
    #[arg(long)]
    pub recipe: Option<RecipeName>,
    /// Only those that ended so, or live; more than one can be named
    #[arg(long, value_enum, value_delimiter = ',')]
    pub verdict: Vec<State>,
    /// Only those that began within this time, e.g. 24h
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<Duration>,
    /// Only so many, the newest
    #[arg(long, short = 'n', value_name = "N")]
    pub limit: Option<usize>,
}

/// How a run ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum State {
    Green,
    Red,
    Refused,
    HarnessFailed,
    Residue,
    LockTimeout,
    Cancelled,
    Killed,
    /// It goes on.
    Live,
    /// It died, and nobody has removed what it left yet.
    Dead,
}

#[derive(Debug, Args)]
pub struct Report {
    /// The run's id, as `cc-ci runs` lists it
    #[arg(add = ArgValueCandidates::new(complete::runs))]
    pub run: RunId,
    /// As a page that needs nothing beside it, as `report.html` in the run's directory
    #[arg(long, group = "form")]
    pub html: bool,
    /// For CI systems that show tests, as `junit.xml` in the run's directory
    #[arg(long, group = "form")]
    pub junit: bool,
    /// As an SVG image of the level that the run proved
    #[arg(long, group = "form")]
    pub badge: bool,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// The run's id, as `cc-ci runs` lists it
    #[arg(add = ArgValueCandidates::new(complete::runs))]
    pub run: RunId,
    /// The log's name, a service or a test [default: the names of all logs]
    #[arg(value_name = "SERVICE|TEST")]
    pub of: Option<String>,
}

#[derive(Debug, Args)]
pub struct Cancel {
    /// The run's id, as `cc-ci runs --verdict live` lists it
    #[arg(add = ArgValueCandidates::new(complete::live_runs))]
    pub run: RunId,
}

#[derive(Debug, Args)]
pub struct Rerun {
    /// The id of the run whose recipe, commit, subject, executor and flags of `run` are taken, as `cc-ci runs` lists it
    #[arg(add = ArgValueCandidates::new(complete::runs))]
    pub run: RunId,
    /// Names the new run and its directory [default: the CI's build number, else manual-PID]
    #[arg(long = "run-id", env = "CCCI_RUN_ID", value_name = "ID")]
    pub id: Option<RunId>,
}
