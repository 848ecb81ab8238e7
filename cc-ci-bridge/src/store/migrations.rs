//! The schema, version by version. A step that was released is never changed: another one follows it.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::error::StoreError;

/// What tells our databases from others': `ccbr`.
const APPLICATION: i64 = 0x6363_6272;

/// Each takes the schema from one version to the next.
const STEPS: [&str; 3] = [
    "
    CREATE TABLE about (only INTEGER PRIMARY KEY CHECK (only = 1), forge TEXT NOT NULL) STRICT;
    CREATE TABLE request (
        id INTEGER PRIMARY KEY,
        repo TEXT NOT NULL,
        pull INTEGER NOT NULL,
        comment INTEGER NOT NULL,
        asked TEXT NOT NULL,
        phase TEXT NOT NULL,
        state TEXT NOT NULL,
        open INTEGER NOT NULL,
        version INTEGER NOT NULL DEFAULT 0,
        due INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        received INTEGER NOT NULL,
        started INTEGER,
        ended INTEGER,
        UNIQUE (repo, comment)
    ) STRICT;
    CREATE INDEX request_open ON request (open, id);
    CREATE INDEX request_pull ON request (repo, pull, open);
    CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        request INTEGER NOT NULL REFERENCES request (id) ON DELETE CASCADE,
        at INTEGER NOT NULL,
        line TEXT NOT NULL
    ) STRICT;
    CREATE INDEX history_request ON history (request, id);
    CREATE TABLE told (
        request INTEGER PRIMARY KEY REFERENCES request (id) ON DELETE CASCADE,
        seen INTEGER NOT NULL,
        status TEXT,
        comment INTEGER,
        text TEXT,
        foreigner TEXT,
        due INTEGER NOT NULL,
        failures INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE job (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        repo TEXT NOT NULL,
        pull INTEGER NOT NULL,
        head TEXT NOT NULL,
        quick INTEGER NOT NULL,
        phase TEXT NOT NULL,
        state TEXT NOT NULL,
        cancel INTEGER NOT NULL DEFAULT 0,
        created INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX job_phase ON job (phase, id);
    CREATE TABLE cursor (repo TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE job ADD COLUMN record TEXT;
    CREATE INDEX request_repo ON request (repo, id);
    CREATE TABLE host (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        at INTEGER NOT NULL,
        runs TEXT NOT NULL,
        locks TEXT NOT NULL
    ) STRICT;
",
    // What was written before is not told apart: all of it is the operator's.
    "
    ALTER TABLE history ADD COLUMN internal INTEGER NOT NULL DEFAULT 1;
",
];

/// Brings the database to this version's schema, in one transaction.
pub fn migrate(connection: &mut Connection, forge: &str) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let number = |pragma| transaction.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (application, found) = (number("application_id")?, number("user_version")?);
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_new = (application, found, tables) == (0, 0, 0);
    if !is_new && application != APPLICATION {
        return Err(StoreError::NotOurs);
    }
    let known = STEPS.len();
    let done = usize::try_from(found).ok().filter(|done| *done <= known);
    let Some(done) = done else {
        return Err(StoreError::Newer { found, known: i64::try_from(known).unwrap_or(i64::MAX) });
    };
    for step in STEPS.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    if done < known {
        transaction.pragma_update(None, "user_version", i64::try_from(known).unwrap_or(i64::MAX))?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
    }
    let of: Option<String> =
        transaction.query_row("SELECT forge FROM about", [], |row| row.get(0)).optional()?;
    match of {
        None => {
            transaction.execute("INSERT INTO about (only, forge) VALUES (1, ?1)", [forge])?;
        }
        Some(of) if of != forge => {
            return Err(StoreError::OtherForge { found: of, wanted: forge.to_owned() });
        }
        Some(_) => {}
    }
    transaction.commit()?;
    Ok(())
}
