//! Requests, and what became of them.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row as SqlRow, Transaction, params};

use super::{Store, StoreError};
use crate::names::Repo;
use crate::request::{Asked, Decision, Request, RequestId, State};

/// As long as the history of one request may become; what is older goes.
const HISTORY: i64 = 500;

/// So many of the last runs say how long one takes.
const SAMPLE: i64 = 10;

/// A request as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The request.
    pub request: Request,
    /// How often it was changed: whoever saves it must have seen the last change.
    pub version: i64,
    /// When it is to be worked on next.
    pub due: Timestamp,
    /// How often in a row work on it failed.
    pub failures: u32,
    /// When its job was started.
    pub started: Option<Timestamp>,
    /// When it came to its end.
    pub ended: Option<Timestamp>,
}

/// Whether a comment was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is recorded now.
    New(RequestId),
    /// It was recorded before.
    Known(RequestId),
}

/// Something that happened to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryLine {
    /// When.
    pub at: Timestamp,
    /// What.
    pub line: String,
    /// Whether it quotes what the host, the forge or the CI said: for the operator alone.
    pub is_internal: bool,
}

impl Store {
    /// Records a comment, once: however often and by whatever way it comes.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub fn record(&self, asked: &Asked) -> Result<Recorded, StoreError> {
        let text = serde_json::to_string(asked)?;
        let state = State::Received;
        self.write(|transaction| {
            let known: Option<i64> = transaction
                .prepare_cached("SELECT id FROM request WHERE repo = ?1 AND comment = ?2")?
                .query_row(params![asked.repo.as_str(), number(asked.comment)], |row| row.get(0))
                .optional()?;
            if let Some(known) = known {
                return Ok(Recorded::Known(RequestId(known)));
            }
            transaction
                .prepare_cached(
                    "INSERT INTO request (repo, pull, comment, asked, phase, state, open, received) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7)",
                )?
                .execute(params![
                    asked.repo.as_str(),
                    number(asked.pull),
                    number(asked.comment),
                    text,
                    state.phase(),
                    serde_json::to_string(&state)?,
                    asked.received.as_millisecond(),
                ])?;
            Ok(Recorded::New(RequestId(transaction.last_insert_rowid())))
        })
    }

    /// Writes down what was decided of a request, and why. It is due again at once.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when somebody else changed it since it was read.
    pub fn save(&self, row: &Row, decision: &Decision, why: &str, now: Timestamp) -> Result<Row, StoreError> {
        let state = &decision.state;
        let text = serde_json::to_string(state)?;
        let at = now.as_millisecond();
        let is_new = *state != row.request.state;
        let started = matches!(state, State::Started { .. }).then_some(at);
        let ended = state.is_final().then_some(at);
        self.write(|transaction| {
            let changed = transaction
                .prepare_cached(
                    "UPDATE request SET phase = ?1, state = ?2, open = ?3, version = version + 1, due = ?4, failures = 0, \
                     started = coalesce(started, ?5), ended = coalesce(ended, ?6) WHERE id = ?7 AND version = ?8",
                )?
                .execute(params![
                    state.phase(),
                    text,
                    !state.is_final(),
                    at,
                    started,
                    ended,
                    row.request.id.0,
                    row.version
                ])?;
            if changed == 0 {
                return Err(StoreError::Changed);
            }
            if is_new {
                let line = if state.phase() == row.request.state.phase() {
                    why.to_owned()
                } else {
                    format!("{why}: {} → {}", row.request.state.phase(), state.phase())
                };
                note(transaction, row.request.id, &line, false, at)?;
                // What is shown of it may be different now.
                transaction.execute("UPDATE told SET due = 0, failures = 0 WHERE request = ?1", [row.request.id.0])?;
            }
            let sql = format!("SELECT {COLUMNS} FROM request WHERE id = ?1");
            read(transaction.prepare_cached(&sql)?.query_row([row.request.id.0], raw)?)
        })
    }

    /// Puts work on a request off: nothing happened, or it failed.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub fn postpone(
        &self,
        row: &Row,
        until: Timestamp,
        failure: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let failures = if failure.is_some() { row.failures.saturating_add(1) } else { 0 };
        self.write(|transaction| {
            transaction
                .prepare_cached("UPDATE request SET due = ?1, failures = ?2 WHERE id = ?3 AND version = ?4")?
                .execute(params![until.as_millisecond(), failures, row.request.id.0, row.version])?;
            // The same failure again and again is one line.
            if let Some(failure) = failure.filter(|_| failures == 1) {
                note(transaction, row.request.id, failure, true, now.as_millisecond())?;
            }
            Ok(())
        })
    }

    /// Returns all requests that are open, and those that are over for the same pull requests, by their numbers.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn of_open_pulls(&self) -> Result<Vec<Row>, StoreError> {
        let open = "SELECT 1 FROM request AS other WHERE other.repo = request.repo AND other.pull = request.pull AND other.open";
        self.rows(&format!("WHERE open OR EXISTS ({open}) ORDER BY id"), [])
    }

    /// Returns the requests of which the forge may have to be told something.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn to_tell(&self, now: Timestamp) -> Result<Vec<Row>, StoreError> {
        let told = "SELECT 1 FROM told WHERE told.request = request.id AND told.due > ?1";
        self.rows(&format!("WHERE NOT EXISTS ({told}) ORDER BY id"), [now.as_millisecond()])
    }

    /// Returns the first moment after `now` at which a request is to be worked on, or told of.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let next: Option<i64> = self
            .lock()
            .prepare_cached(
                "SELECT min(due) FROM (SELECT due FROM request WHERE open UNION ALL SELECT due FROM told) WHERE due > ?1",
            )?
            .query_row([now.as_millisecond()], |row| row.get(0))?;
        Ok(next.map(time))
    }

    /// Returns the request that a comment is.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn by_comment(&self, repo: &Repo, comment: u64) -> Result<Option<Row>, StoreError> {
        let rows = self.rows("WHERE repo = ?1 AND comment = ?2", params![repo.as_str(), number(comment)])?;
        Ok(rows.into_iter().next())
    }

    /// Returns the last requests, the newest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn last(&self, most: u32) -> Result<Vec<Row>, StoreError> {
        self.rows("ORDER BY id DESC LIMIT ?1", [most])
    }

    /// Returns what happened to a request, in order.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn history(&self, id: RequestId) -> Result<Vec<HistoryLine>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT at, line, internal FROM history WHERE request = ?1 ORDER BY id")?;
        let lines = statement
            .query_map([id.0], |row| {
                Ok(HistoryLine { at: time(row.get(0)?), line: row.get(1)?, is_internal: row.get(2)? })
            })?
            .collect::<Result<_, _>>()?;
        Ok(lines)
    }

    /// Returns what the last runs took on the average.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn usual_time(&self) -> Result<Option<Duration>, StoreError> {
        let average: Option<f64> = self.lock().query_row(
            "SELECT avg(ended - started) FROM (SELECT started, ended FROM request WHERE phase = 'ended' AND \
             started IS NOT NULL ORDER BY id DESC LIMIT ?1)",
            [SAMPLE],
            |row| row.get(0),
        )?;
        Ok(average.and_then(|average| Duration::try_from_secs_f64(average / 1000.0).ok()))
    }

    /// Removes what came to its end before `before`, and says how many requests that were.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub fn forget(&self, before: Timestamp) -> Result<usize, StoreError> {
        self.write(|transaction| {
            let before = before.as_millisecond();
            transaction.execute("DELETE FROM job WHERE phase = 'over' AND created < ?1", [before])?;
            Ok(transaction.execute("DELETE FROM request WHERE NOT open AND ended < ?1", [before])?)
        })
    }

    pub(super) fn rows(&self, rest: &str, values: impl rusqlite::Params) -> Result<Vec<Row>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM request {rest}"))?;
        let raws = statement.query_map(values, raw)?.collect::<Result<Vec<_>, _>>()?;
        raws.into_iter().map(read).collect()
    }
}

const COLUMNS: &str = "id, asked, state, version, due, failures, started, ended";

/// A row as `SQLite` has it.
type Raw = (i64, String, String, i64, i64, u32, Option<i64>, Option<i64>);

fn raw(row: &SqlRow<'_>) -> rusqlite::Result<Raw> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
        row.get(6)?,
        row.get(7)?,
    ))
}

fn read((id, asked, state, version, due, failures, started, ended): Raw) -> Result<Row, StoreError> {
    let (asked, state) = (serde_json::from_str(&asked)?, serde_json::from_str(&state)?);
    Ok(Row {
        request: Request { id: RequestId(id), asked, state },
        version,
        due: time(due),
        failures,
        started: started.map(time),
        ended: ended.map(time),
    })
}

fn note(
    transaction: &Transaction<'_>,
    id: RequestId,
    line: &str,
    is_internal: bool,
    at: i64,
) -> Result<(), StoreError> {
    let line: String = line.chars().take(1000).collect();
    transaction
        .prepare_cached("INSERT INTO history (request, at, line, internal) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id.0, at, line, is_internal])?;
    transaction
        .prepare_cached(
            "DELETE FROM history WHERE request = ?1 AND id <= (SELECT id FROM history WHERE request = ?1 ORDER BY id DESC \
             LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![id.0, HISTORY])?;
    Ok(())
}

/// Numbers of a forge are far below what does not fit.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
