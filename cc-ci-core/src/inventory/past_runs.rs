//! The runs that have a directory, as they recorded themselves: for whoever asks what a run was, and why it was red.
//!
//! Nothing is locked and nothing is changed. What a record or a log says is its run's own word.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::failure::Failure;
use crate::model::record::RunRecord;
use crate::names::RunId;
use crate::report;
use crate::sys::beneath::read_beneath;
use crate::sys::files::Dir;
use crate::workspace::RunFiles;

/// No log is read that is longer, in bytes.
const LOG_LIMIT: u64 = 64 << 20;

/// The runs of one runs directory.
#[derive(Debug, Clone)]
pub struct PastRuns {
    runs: PathBuf,
}

impl PastRuns {
    /// Those of the directory `runs`.
    pub fn new(runs: PathBuf) -> Self {
        Self { runs }
    }

    /// Every run with a record that can be read, the newest first.
    pub fn all(&self) -> Result<Vec<RunRecord>, Failure> {
        let fail = |error| Failure::host(format!("can't list {}", self.runs.display())).with_source(error);
        let runs = match Dir::open(&self.runs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(fail)?,
        };
        let names = runs.names(Path::new(".")).map_err(fail)?;
        let ids = names.into_iter().filter_map(|name| name.to_str()?.parse::<RunId>().ok());
        let mut records: Vec<RunRecord> =
            ids.filter_map(|id| RunFiles::new(id, runs.clone()).record()).collect();
        records.sort_by(|one, other| (other.started, &other.run_id).cmp(&(one.started, &one.run_id)));
        Ok(records)
    }

    /// The record of one run.
    pub fn record(&self, id: &RunId) -> Result<RunRecord, Failure> {
        self.read(id, RunFiles::record)
    }

    /// The page of one run, made anew: [`report::html`] of its record and the ends of its logs.
    pub fn page(&self, id: &RunId) -> Result<String, Failure> {
        self.read(id, |files| {
            let record = files.record()?;
            Some(report::html(&record, &files.log_ends(&record)))
        })
    }

    /// What is read of a run that has a record.
    fn read<T>(&self, id: &RunId, read: impl FnOnce(&RunFiles) -> Option<T>) -> Result<T, Failure> {
        let found = self.files(id).ok().and_then(|files| read(&files));
        found.ok_or_else(|| {
            Failure::configuration(format!("there is no run {id} with a record in {}", self.runs.display()))
                .with_hint("cc-ci runs lists them; another directory: --runs-dir")
        })
    }

    /// What the directory of a run holds, whether it is there or not.
    pub(super) fn files(&self, id: &RunId) -> io::Result<RunFiles> {
        Ok(RunFiles::new(id.clone(), Dir::open(&self.runs)?))
    }

    /// The directory of a run.
    pub fn directory(&self, id: &RunId) -> PathBuf {
        self.runs.join(id.as_str())
    }

    /// The names of a run's logs, without their ending, in order.
    pub fn logs(&self, id: &RunId) -> Result<Vec<String>, Failure> {
        let listed = Dir::open(&self.runs).and_then(|runs| runs.names(&Path::new(id.as_str()).join("logs")));
        let names = match listed {
            Ok(names) if !names.is_empty() => names,
            // It has none, or there is no such run.
            _ => return self.record(id).map(|_| Vec::new()),
        };
        let mut names: Vec<String> = names
            .into_iter()
            .filter_map(|name| Some(name.to_str()?.strip_suffix(".log")?.to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    /// The text of a log. What a test put in its place is not waited for.
    pub fn log(&self, id: &RunId, name: &str) -> Result<String, Failure> {
        let path = Path::new(id.as_str()).join("logs").join(format!("{name}.log"));
        let read = read_beneath(&self.runs, &path, LOG_LIMIT);
        let text = read.map_err(|error| {
            Failure::host(format!("can't read {}", self.runs.join(&path).display())).with_source(error)
        })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_log_is_read_beneath_its_run_and_through_no_link() {
        let world = tempfile::tempdir().unwrap();
        let logs = world.path().join("runs/1/logs");
        fs::create_dir_all(&logs).unwrap();
        fs::write(logs.join("service-app.log"), "said\n").unwrap();
        fs::write(world.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(world.path().join("secret"), logs.join("link.log")).unwrap();
        let (runs, id) = (PastRuns::new(world.path().join("runs")), "1".parse().unwrap());
        assert_eq!(runs.logs(&id).unwrap(), ["link", "service-app"]);
        assert_eq!(runs.log(&id, "service-app").unwrap(), "said\n");
        assert!(runs.log(&id, "link").is_err());
        let error = runs.logs(&"2".parse().unwrap()).unwrap_err();
        assert!(error.hint().is_some(), "{error}");
    }

    #[test]
    fn a_record_is_of_the_run_whose_directory_it_is_in_whatever_it_says() {
        let world = tempfile::tempdir().unwrap();
        fs::create_dir(world.path().join("1")).unwrap();
        let record = serde_json::json!({
            "schema": "cc-ci.run/v1", "run_id": "2", "owner": { "pid": 1, "start_time": 1, "boot_id": "b" },
            "recipe": "app", "subject": { "pull_request": 1 }, "domain": "app-000001.ci.test", "domains": [],
            "executor": "local", "started": "2026-11-29T09:00:00Z", "lock_waited_seconds": 0.0, "deploy_count": 0,
            "tiers": [], "errors": [], "warnings": []
        });
        fs::write(world.path().join("1/run.json"), record.to_string()).unwrap();
        let (runs, id) = (PastRuns::new(world.path().to_owned()), "1".parse().unwrap());
        assert_eq!(runs.record(&id).unwrap().run_id, id);
        assert!(runs.page(&id).unwrap().contains("cc-ci report 1<"));
        assert_eq!(runs.all().unwrap()[0].run_id, id);
    }

    #[test]
    fn what_is_no_record_is_no_run_and_where_there_is_no_directory_there_is_none() {
        let world = tempfile::tempdir().unwrap();
        fs::create_dir(world.path().join("1")).unwrap();
        fs::write(world.path().join("1/run.json"), "{}").unwrap();
        let runs = PastRuns::new(world.path().to_owned());
        assert_eq!(runs.all().unwrap(), []);
        assert!(runs.record(&"1".parse().unwrap()).unwrap_err().chain().contains("no run 1"));
        assert_eq!(PastRuns::new(world.path().join("none")).all().unwrap(), []);
    }
}
