//! The mark that cc-ci's processes carry in their environment.
//!
//! After `kill -9` of an owner its lock is free before its children are dead. So every child says in its
//! environment whose it is, and the next owner of the domain ends what a dead owner left running. Services of
//! the `local` executor carry a mark too, of another kind: they outlive their run on purpose.
//!
//! One variable holds either, so that a nested run replaces the mark instead of adding one.

use std::fmt;
use std::str::FromStr;

use crate::names::{Domain, RunId};
use crate::sys::process::ProcessIdentity;
use crate::sys::system_info::BootId;

/// Whose a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// The app that it works on, or belongs to.
    pub domain: Domain,
    /// What kind of process it is.
    pub owner: MarkerOwner,
}

/// Who is responsible for a marked process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkerOwner {
    /// A child of a run: it must not outlive `owner`.
    Run {
        /// The run.
        run_id: RunId,
        /// The cc-ci process that started it.
        owner: ProcessIdentity,
    },
    /// A service of an app of the `local` executor: it ends by removal or reap.
    Service {
        /// The service's name in the recipe.
        service: String,
        /// Which executor's state directory it belongs to: another one has no business with it.
        state_dir: String,
    },
}

impl Marker {
    /// The environment variable that holds the mark.
    pub const VARIABLE: &str = "CCCI_MARKER";
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = &self.domain;
        match &self.owner {
            MarkerOwner::Run { run_id, owner: ProcessIdentity { pid, start_time, boot_id } } => {
                write!(f, "v1/run/{domain}/{run_id}/{pid}/{start_time}/{boot_id}")
            }
            MarkerOwner::Service { service, state_dir } => {
                write!(f, "v1/service/{domain}/{state_dir}/{service}")
            }
        }
    }
}

/// The text is no mark of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cc-ci process mark")]
pub struct NotAMarker;

impl FromStr for Marker {
    type Err = NotAMarker;
    fn from_str(text: &str) -> Result<Self, NotAMarker> {
        let parts: Vec<&str> = text.split('/').collect();
        let (domain, owner) = match parts[..] {
            ["v1", "run", domain, run_id, pid, start_time, boot_id] => {
                let owner = ProcessIdentity {
                    pid: pid.parse().map_err(|_| NotAMarker)?,
                    start_time: start_time.parse().map_err(|_| NotAMarker)?,
                    boot_id: BootId::new(boot_id),
                };
                (domain, MarkerOwner::Run { run_id: run_id.parse().map_err(|_| NotAMarker)?, owner })
            }
            ["v1", "service", domain, state_dir, service] => (
                domain,
                MarkerOwner::Service { service: service.to_owned(), state_dir: state_dir.to_owned() },
            ),
            _ => return Err(NotAMarker),
        };
        Ok(Self { domain: domain.parse().map_err(|_| NotAMarker)?, owner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_survives_the_environment() {
        let boot_id = BootId::current().unwrap();
        let domain: Domain = "note-012345.ci.example.org".parse().unwrap();
        let owner = ProcessIdentity { pid: 7, start_time: 99, boot_id };
        let run = MarkerOwner::Run { run_id: "12.2".parse().unwrap(), owner };
        for owner in [run, MarkerOwner::Service { service: "app".into(), state_dir: "w".into() }] {
            let marker = Marker { domain: domain.clone(), owner };
            assert_eq!(marker.to_string().parse(), Ok(marker));
        }
        for bad in [
            "",
            "v1",
            "v2/service/a.b/app",
            "v1/run/a.b/1/x/1/b",
            "v1/service/a.b/app",
            "v1/service/../w/app",
        ] {
            assert_eq!(bad.parse::<Marker>(), Err(NotAMarker), "{bad:?}");
        }
    }
}
