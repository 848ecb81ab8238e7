//! What is owed: the domains of which something may be on nodes that could not be seen when their app was removed.
//!
//! A debt is a file `.debts/<domain>.json` in the runs directory, written and removed under the domain's lock. It outlives
//! the run, the boot, and the node's membership in the Swarm: a node that left for good had a disk, and only who looked at
//! that knows what was on it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::Domain;
use crate::sys::beneath::read_beneath;
use crate::sys::files::{Dir, private_directory, remove_file, write_whole};

/// Where debts are, in the runs directory: no run's id begins with a dot.
const DIRECTORY: &str = ".debts";

/// Of this form.
const SCHEMA: &str = "cc-ci.debt/v1";

/// More than the names of all nodes.
const LIMIT: u64 = 1 << 20;

/// Since when which nodes are to be looked at, by name.
pub(crate) type Nodes = BTreeMap<String, Timestamp>;

/// All debts of a host. They are read and written by blocking calls.
#[derive(Debug, Clone)]
pub(crate) struct Debts(PathBuf);

#[derive(Serialize, Deserialize)]
struct Debt {
    schema: String,
    nodes: Nodes,
}

impl Debts {
    /// Those in this runs directory.
    pub(crate) fn of(runs_dir: &Path) -> Self {
        Self(runs_dir.join(DIRECTORY))
    }

    /// Every debt there is.
    ///
    /// # Errors
    /// When one can't be read: who owes nothing is not known then.
    pub(crate) fn read(&self) -> io::Result<BTreeMap<Domain, Nodes>> {
        let directory = match Dir::open(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            opened => opened?,
        };
        let mut debts = BTreeMap::new();
        for name in directory.names(&self.0)? {
            // A file that was not written to its end has another name.
            let domain = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<Domain>().ok());
            let Some(domain) = domain else { continue };
            let text = match read_beneath(&self.0, &name, LIMIT) {
                // It was paid meanwhile.
                Err(error) if error.is_not_found() => continue,
                read => read.map_err(io::Error::other)?,
            };
            let debt: Debt = serde_json::from_slice(&text).map_err(|error| {
                io::Error::other(format!("{} is no debt: {error}", self.path(&domain).display()))
            })?;
            debts.insert(domain, debt.nodes);
        }
        Ok(debts)
    }

    /// Writes down that `domain` is to be looked for on `nodes`. The caller holds its lock.
    pub(crate) fn write(&self, domain: &Domain, nodes: Nodes) -> io::Result<()> {
        private_directory(&self.0)?;
        let text = serde_json::to_vec(&Debt { schema: SCHEMA.to_owned(), nodes })?;
        write_whole(&self.path(domain), &text, 0o600)
    }

    /// Strikes it off. The caller holds its lock.
    pub(crate) fn remove(&self, domain: &Domain) -> io::Result<()> {
        remove_file(&self.path(domain))
    }

    fn path(&self, domain: &Domain) -> PathBuf {
        self.0.join(format!("{domain}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debt_is_there_until_it_is_struck_off() {
        let runs = tempfile::tempdir().unwrap();
        let debts = Debts::of(runs.path());
        let domain: Domain = "a-012345.ci.example.org".parse().unwrap();
        assert!(debts.read().unwrap().is_empty());
        debts.remove(&domain).unwrap();
        let nodes: Nodes = [("worker-2".to_owned(), Timestamp::UNIX_EPOCH)].into();
        debts.write(&domain, nodes.clone()).unwrap();
        assert_eq!(debts.read().unwrap(), [(domain.clone(), nodes)].into());
        debts.remove(&domain).unwrap();
        assert!(debts.read().unwrap().is_empty());
    }

    #[test]
    fn a_debt_that_cannot_be_read_is_not_taken_for_none() {
        let runs = tempfile::tempdir().unwrap();
        let debts = Debts::of(runs.path());
        debts.write(&"a-012345.ci.example.org".parse().unwrap(), Nodes::new()).unwrap();
        let directory = runs.path().join(DIRECTORY);
        std::fs::write(directory.join("not a domain.json"), "x").unwrap();
        assert_eq!(debts.read().unwrap().len(), 1);
        std::fs::write(directory.join("b-012345.ci.example.org.json"), "x").unwrap();
        let error = debts.read().unwrap_err().to_string();
        assert!(error.contains("b-012345.ci.example.org.json is no debt"), "{error}");
    }
}
