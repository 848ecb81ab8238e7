//! The directory of a job: its lock, and the notes of its supervisor.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cc_ci_core::files;
use cc_ci_core::process::{ProcessIdentity, Signal, kill_process};
use cc_ci_core::run::{Level, RUN_SCHEMA, RunRecord};
use cc_ci_core::system_info::BootId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::Key;
use crate::request::{Outcome, TierLine, Verdict};
use crate::store::{JobState, Store};

/// As much of a note or a result as is read.
const LIMIT: u64 = 16 << 20;

/// As much of a run's record as is kept for the dashboard.
const RECORD_LIMIT: usize = 1 << 20;

/// That the job was begun.
#[derive(Debug, Serialize, Deserialize)]
pub struct Begun {
    /// When, in seconds since the epoch.
    pub since: i64,
}

/// How the command ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct End {
    /// Its exit code, or 128 and the signal that killed it.
    pub code: u8,
    /// Why it was not even started.
    pub error: Option<String>,
}

/// How far a job is.
#[derive(Debug)]
pub enum Progress {
    /// Nobody has begun it.
    New,
    /// Its supervisor lives.
    Alive {
        /// The run, once it was started.
        run: Option<ProcessIdentity>,
        /// Since when, in seconds since the epoch.
        since: Option<i64>,
    },
    /// It is over.
    Over {
        /// How it ended.
        outcome: Outcome,
        /// What the run wrote of itself, where it is whole and not longer than what is worth keeping.
        record: Option<String>,
    },
}

/// The directory of a job.
#[derive(Debug)]
pub struct JobDir(PathBuf);

impl JobDir {
    /// Returns the directory of the job with that key.
    pub fn of(state_dir: &Path, key: &Key) -> Self {
        Self(state_dir.join(key.as_str()))
    }

    /// Makes it.
    pub fn make(&self) -> io::Result<()> {
        files::private_directory(&self.0)
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Takes the lock, which lasts as long as the file: `None`, if another one has it.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let directory = File::open(&self.0)?;
        match directory.try_lock() {
            Ok(()) => Ok(Some(directory)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Writes a note, whole or not at all.
    pub fn write(&self, name: &str, note: &impl Serialize) -> io::Result<()> {
        files::write_whole(&self.file(name), &serde_json::to_vec(note)?, 0o600)
    }

    /// Reads a note; `None`: it is not there.
    pub fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let file = match File::open(self.file(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = Vec::new();
        file.take(LIMIT).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text).map(Some)?)
    }

    /// Looks how far the job is.
    pub fn progress(&self) -> io::Result<Progress> {
        // The lock first: whoever has it writes notes, and they are all there once it is free.
        let lock = match self.lock() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Progress::New),
            lock => lock?,
        };
        let begun: Option<Begun> = self.read("begun.json")?;
        if lock.is_none() {
            let since = begun.map(|begun| begun.since);
            return Ok(Progress::Alive { run: self.read("run.json")?, since });
        }
        if begun.is_none() {
            return Ok(Progress::New);
        }
        let run: Option<ProcessIdentity> = self.read("run.json")?;
        let Some(end) = self.read::<End>("end.json")? else {
            // The supervisor was killed. Its run sees that, and takes its app down before it ends.
            if let Some(run) = run.filter(|run| BootId::current().is_ok_and(|now| run.is_alive(&now))) {
                return Ok(Progress::Alive { run: Some(run), since: begun.map(|begun| begun.since) });
            }
            let note = "whoever watched over the run was killed, or the host was started anew";
            return Ok(self.over(None, Some(note)));
        };
        Ok(self.over(Some(end), None))
    }

    fn over(&self, end: Option<End>, note: Option<&str>) -> Progress {
        let record: Option<Value> = self.read("result.json").ok().flatten();
        let record = record.filter(|record| record["schema"] == RUN_SCHEMA);
        let mut outcome = outcome(end, record.as_ref());
        outcome.notes.extend(note.map(str::to_owned));
        let record = record.map(|record| record.to_string()).filter(|text| text.len() <= RECORD_LIMIT);
        Progress::Over { outcome, record }
    }

    /// `is_open` says whether the job is yet to be run or told of, and is asked about what is old enough alone.
    fn remove_if_older(&self, keep: Duration, is_open: impl FnOnce() -> io::Result<bool>) -> io::Result<()> {
        // No supervisor has it, and none begins it meanwhile.
        let Some(_lock) = self.lock()? else { return Ok(()) };
        let Some(begun) = self.read::<Begun>("begun.json")? else { return Ok(()) };
        let age = Timestamp::now().as_second().saturating_sub(begun.since);
        let is_old = u64::try_from(age).is_ok_and(|age| age > keep.as_secs());
        if is_old && !is_open()? { files::remove_tree(&self.0) } else { Ok(()) }
    }

    /// Notes that the job begins.
    pub fn begin(&self) -> io::Result<()> {
        self.write("begun.json", &Begun { since: Timestamp::now().as_second() })
    }
}

/// Ends the run. Until it was started there is none: then it is ended the next time.
pub fn cancel(run: Option<&ProcessIdentity>) -> io::Result<()> {
    match run {
        Some(run) => kill_process(run, &BootId::current()?, Signal::Term).map(drop),
        None => Ok(()),
    }
}

/// Removes the directories of jobs that were begun longer ago than `keep`, and are over. One that the database does not say is
/// over would be begun again without its directory, whoever has it and whatever is noted in it. What was never begun stays.
/// Blocks.
pub fn tidy(state_dir: &Path, keep: Duration, store: &Store) {
    let names = std::fs::read_dir(state_dir).into_iter().flatten().flatten();
    for key in names.filter_map(|entry| entry.file_name().to_str()?.parse::<Key>().ok()) {
        let dir = JobDir::of(state_dir, &key);
        let is_open = || {
            let row = store.job(&key).map_err(io::Error::other)?;
            Ok(row.is_some_and(|row| !matches!(row.state, JobState::Over { .. })))
        };
        if let Err(error) = dir.remove_if_older(keep, is_open) {
            tracing::warn!("can't remove the directory of job {key}: {error}");
        }
    }
}

/// Returns how the run ended, by its exit code and what it wrote.
fn outcome(end: Option<End>, record: Option<&Value>) -> Outcome {
    let told = record.and_then(|record| record["exit_code"].as_u64());
    let told = told.and_then(|code| u8::try_from(code).ok());
    let code = end.as_ref().map(|end| end.code).or(told);
    let mut verdict = code.map_or(Verdict::Lost, Verdict::of_exit);
    let mut outcome = Outcome { exit_code: code, ..Outcome::new(verdict) };
    if let Some(error) = end.and_then(|end| end.error) {
        outcome = outcome.with_note(error);
    }
    if let Some(record) = record {
        outcome.level = RunRecord::deserialize(record)
            .ok()
            .and_then(|record| Level::of(&record))
            .map(|level| level.reached);
        outcome.tiers = lines(&record["tiers"], tier);
        outcome.notes.extend(lines(&record["errors"], |error| error.as_str().map(str::to_owned)));
        outcome.receipt = is_gone(&record["receipt"]);
    }
    // Green is what says so twice, and for what was shown.
    let shown = record.is_some_and(|record| record["verdict"] == "green")
        && outcome.tiers.iter().any(|tier| tier.status == "passed");
    if verdict == Verdict::Green && !shown {
        verdict = Verdict::NothingRun;
    }
    Outcome { verdict, ..outcome }
}

/// Whether nothing is left, by a receipt. Where nothing is verified, nobody has looked.
fn is_gone(receipt: &Value) -> Option<bool> {
    let is_empty = |name: &str| receipt[name].as_array().map(Vec::is_empty);
    match (is_empty("left")?, is_empty("verified")?) {
        (false, _) => Some(false),
        (true, false) => Some(true),
        (true, true) => None,
    }
}

fn lines<T>(list: &Value, line: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    list.as_array().into_iter().flatten().take(20).filter_map(line).collect()
}

fn tier(tier: &Value) -> Option<TierLine> {
    let text = |name: &str| Some(tier[name].as_str()?.chars().take(500).collect::<String>());
    let status = text("status")?.replace('_', " ");
    let reason = text("reason").filter(|_| status != "passed");
    Some(TierLine { name: text("name")?, status, reason })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::NewJob;

    fn key(digit: &str) -> Key {
        format!("req-{}", digit.repeat(24)).parse().unwrap()
    }

    #[test]
    fn a_directory_goes_once_its_job_was_begun_long_ago_and_is_over() {
        let world = tempfile::tempdir().unwrap();
        let state_dir = world.path().join("jobs");
        let store = Store::open(&world.path().join("db/db"), "https://git.example.org").unwrap();
        let job = |digit: &str, age: i64| {
            let dir = JobDir::of(&state_dir, &key(digit));
            dir.make().unwrap();
            dir.write("begun.json", &Begun { since: Timestamp::now().as_second() - age }).unwrap();
            dir
        };
        let order = |digit: &str| {
            let (repo, head) = ("recipes/notes".parse().unwrap(), "a".repeat(40).parse().unwrap());
            let job = NewJob { key: key(digit), repo, pull: 1, head, quick: false };
            store.order(&job, Timestamp::now()).unwrap();
        };
        files::private_directory(&state_dir).unwrap();
        let (_forgotten, held, _young) = (job("1", 9000), job("2", 9000), job("3", 10));
        let _lock = held.lock().unwrap().unwrap();
        JobDir::of(&state_dir, &key("4")).make().unwrap();
        files::private_directory(&state_dir.join("somebody's")).unwrap();
        // Its end is noted, and was not yet told: without its directory it would be begun a second time.
        for digit in ["5", "6"] {
            let dir = job(digit, 9000);
            dir.write("end.json", &End { code: 0, error: None }).unwrap();
            order(digit);
            store.job_runs(&key(digit), 1).unwrap();
        }
        store.end_job(&key("6"), Outcome::new(Verdict::Red), None).unwrap();
        tidy(&state_dir, Duration::from_hours(1), &store);
        let mut left: Vec<_> =
            std::fs::read_dir(&state_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let [held, young, new, open] =
            ["2", "3", "4", "5"].map(|digit| std::ffi::OsString::from(key(digit).as_str()));
        assert_eq!(left, [held, young, new, open, "somebody's".into()]);
    }

    #[test]
    fn nothing_is_left_only_where_somebody_has_looked() {
        let receipt = |left: Value, verified: Value| is_gone(&json!({ "left": left, "verified": verified }));
        assert_eq!(receipt(json!([]), json!(["a.test"])), Some(true));
        assert_eq!(receipt(json!([]), json!([])), None);
        assert_eq!(receipt(json!([{}]), json!(["a.test"])), Some(false));
        assert_eq!(receipt(json!([{}]), json!([])), Some(false));
        assert_eq!(is_gone(&Value::Null), None);
    }
}
