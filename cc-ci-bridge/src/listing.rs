//! What `cc-ci runs` and `cc-ci locks` say in JSON, as much of it as is shown.

use std::io;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The document of `cc-ci runs`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Runs {
    schema: String,
    /// The newest first.
    pub runs: Vec<HostRun>,
}

/// A run of the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostRun {
    /// Its id.
    pub run_id: String,
    /// Its recipe.
    pub recipe: String,
    /// Its app.
    pub domain: String,
    /// How it goes about it.
    pub lane: String,
    /// Whether it lives.
    pub live: bool,
    /// How it ended, if it did.
    pub verdict: Option<String>,
    /// What it does, or why it is not green.
    pub why: Option<String>,
}

/// The document of `cc-ci locks`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Locks {
    schema: String,
    /// Every app with a lock file.
    pub locks: Vec<Lock>,
}

/// A lock.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lock {
    /// The app.
    pub domain: String,
    /// Whether somebody holds it.
    pub held: bool,
    /// Who, where that is known.
    pub holder: Option<Holder>,
    /// So many wait for it.
    pub waiting: u64,
    /// Since when it is held.
    pub since: Option<Timestamp>,
}

/// Who holds a lock.
#[derive(Debug, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: i64,
    /// What it says of itself.
    pub description: Option<Description>,
}

/// What a holder says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Description {
    /// The run, where it is one.
    pub run_id: Option<String>,
    /// Its recipe.
    pub recipe: Option<String>,
    /// What it does.
    pub phase: String,
}

/// A document that says its own form.
pub trait Listing: DeserializeOwned {
    /// The form that is read.
    const SCHEMA: &'static str;

    /// The form that it says it is.
    fn schema(&self) -> &str;

    /// Reads it.
    ///
    /// # Errors
    /// When it is none, or of another form.
    fn read(text: &str) -> io::Result<Self> {
        let listing: Self = serde_json::from_str(text)?;
        if listing.schema() == Self::SCHEMA {
            return Ok(listing);
        }
        Err(io::Error::other(format!("it is {:?} and no {}", listing.schema(), Self::SCHEMA)))
    }
}

impl Listing for Runs {
    const SCHEMA: &'static str = "cc-ci.runs/v1";

    fn schema(&self) -> &str {
        &self.schema
    }
}

impl Listing for Locks {
    const SCHEMA: &'static str = "cc-ci.locks/v1";

    fn schema(&self) -> &str {
        &self.schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_listing_is_not_an_empty_one() {
        assert!(Runs::read(r#"{"schema": "cc-ci.runs/v1", "runs": []}"#).unwrap().runs.is_empty());
        for other in [
            "",
            "{}",
            "[]",
            r#"{"runs": []}"#,
            r#"{"schema": "cc-ci.runs/v2", "runs": []}"#,
            r#"{"schema": "cc-ci.locks/v1", "locks": []}"#,
            r#"{"schema": "cc-ci.runs/v1", "runs": [{"run_id": "7"}]}"#,
        ] {
            assert!(Runs::read(other).is_err(), "{other}");
        }
        let lock = r#"{"domain": "a.test", "held": true, "holder": null, "waiting": 0, "since": null, "waiters": [7]}"#;
        let locks = Locks::read(&format!(r#"{{"schema": "cc-ci.locks/v1", "locks": [{lock}]}}"#)).unwrap();
        assert!(!serde_json::to_string(&locks).unwrap().contains("waiters"), "what nobody reads goes");
    }
}
