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
    Over(Outcome),
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
            return Ok(Progress::Over(self.outcome(None).with_note(note)));
        };
        Ok(Progress::Over(self.outcome(Some(end))))
    }

    /// Returns what the run wrote of itself, where it is whole and not longer than what is worth keeping.
    pub fn record(&self) -> Option<String> {
        let record: Value = self.read("result.json").ok().flatten()?;
        let text = (record["schema"] == RUN_SCHEMA).then(|| record.to_string())?;
        (text.len() <= RECORD_LIMIT).then_some(text)
    }

    fn remove_if_older(&self, keep: Duration) -> io::Result<()> {
        // Over, and no supervisor begins it meanwhile.
        let Some(_lock) = self.lock()? else { return Ok(()) };
        let Some(begun) = self.read::<Begun>("begun.json")? else { return Ok(()) };
        let age = Timestamp::now().as_second().saturating_sub(begun.since);
        if u64::try_from(age).is_ok_and(|age| age > keep.as_secs()) {
            files::remove_tree(&self.0)
        } else {
            Ok(())
        }
    }

    /// Returns how the run ended, by its exit code and what it wrote.
    fn outcome(&self, end: Option<End>) -> Outcome {
        let record: Option<Value> = self.read("result.json").ok().flatten();
        let record = record.filter(|record| record["schema"] == RUN_SCHEMA);
        let told = record.as_ref().and_then(|record| record["exit_code"].as_u64());
        let told = told.and_then(|code| u8::try_from(code).ok());
        let code = end.as_ref().map(|end| end.code).or(told);
        let mut verdict = code.map_or(Verdict::Lost, Verdict::of_exit);
        let mut outcome = Outcome { exit_code: code, ..Outcome::new(verdict) };
        if let Some(error) = end.and_then(|end| end.error) {
            outcome = outcome.with_note(error);
        }
        if let Some(record) = &record {
            outcome.level = RunRecord::deserialize(record)
                .ok()
                .and_then(|record| Level::of(&record))
                .map(|level| level.reached);
            outcome.tiers = lines(&record["tiers"], tier);
            outcome.notes.extend(lines(&record["errors"], |error| error.as_str().map(str::to_owned)));
            outcome.receipt = record["receipt"]["left"].as_array().map(Vec::is_empty);
        }
        // Green is what says so twice, and for what was shown.
        let shown = record.as_ref().is_some_and(|record| record["verdict"] == "green")
            && outcome.tiers.iter().any(|tier| tier.status == "passed");
        if verdict == Verdict::Green && !shown {
            verdict = Verdict::NothingRun;
        }
        Outcome { verdict, ..outcome }
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

/// Removes the directories of jobs that were begun longer ago than `keep`, and have nobody any more. What was never begun stays.
pub fn tidy(state_dir: &Path, keep: Duration) {
    let names = std::fs::read_dir(state_dir).into_iter().flatten().flatten();
    for key in names.filter_map(|entry| entry.file_name().to_str()?.parse::<Key>().ok()) {
        let dir = JobDir::of(state_dir, &key);
        if let Err(error) = dir.remove_if_older(keep) {
            tracing::warn!("can't remove the directory of job {key}: {error}");
        }
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
    use super::*;

    #[test]
    fn a_directory_goes_once_its_job_was_begun_long_ago_and_has_nobody() {
        let world = tempfile::tempdir().unwrap();
        let state_dir = world.path();
        let job = |digit: &str, age: i64| {
            let dir = JobDir::of(state_dir, &format!("req-{}", digit.repeat(24)).parse().unwrap());
            dir.make().unwrap();
            dir.write("begun.json", &Begun { since: Timestamp::now().as_second() - age }).unwrap();
            dir
        };
        let (_old, held, _young) = (job("1", 9000), job("2", 9000), job("3", 10));
        let _lock = held.lock().unwrap().unwrap();
        let never = JobDir::of(state_dir, &format!("req-{}", "4".repeat(24)).parse().unwrap());
        never.make().unwrap();
        std::fs::create_dir(state_dir.join("somebody's")).unwrap();
        tidy(state_dir, Duration::from_hours(1));
        let mut left: Vec<_> =
            std::fs::read_dir(state_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let key = |digit: &str| format!("req-{}", digit.repeat(24)).into();
        assert_eq!(left, [key("2"), key("3"), key("4"), std::ffi::OsString::from("somebody's")]);
    }
}
