//! Run ids.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InvalidName, string_name};

/// Names a run, its directory, and every file that it writes: the CI build number or `manual-<pid>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
pub struct RunId(String);
string_name!(RunId);

impl FromStr for RunId {
    type Err = InvalidName;
    fn from_str(value: &str) -> Result<Self, InvalidName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let starts_well = value.starts_with(|c: char| c.is_ascii_alphanumeric());
        if value.len() > 64 || !starts_well || !value.chars().all(plain) {
            let rule = "1 to 64 of [A-Za-z0-9._-], first a letter or digit";
            return Err(InvalidName::new("run id", value, rule));
        }
        Ok(Self(value.to_owned()))
    }
}

impl RunId {
    /// The id of a run that no CI numbered.
    pub fn manual(pid: u32) -> Self {
        Self(format!("manual-{pid}"))
    }

    /// This id with the suffix `.n`, for a directory whose plain name is taken. The base is cut where the
    /// whole would be longer than a run id may be.
    pub fn with_suffix(&self, n: u32) -> Self {
        let suffix = format!(".{n}");
        // Only ASCII passes the parser, so every byte index is a character boundary.
        Self(format!("{}{suffix}", &self.0[..self.0.len().min(64 - suffix.len())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_the_runs_directory_are_refused() {
        for bad in ["", ".", "..", ".quarantine", "a/b", "-x", "a\0", &"9".repeat(65)] {
            assert!(bad.parse::<RunId>().is_err(), "{bad:?}");
        }
        assert_eq!("1204".parse::<RunId>().unwrap().with_suffix(2).as_str(), "1204.2");
    }
}
