//! Where it is kept which run apps could not be reaped: a file each in `.quarantine` of the runs directory.
//!
//! A file is written and removed by whoever holds the lock of its domain, and read by anybody. It is a reason to leave something
//! for later, never a reason to take it for done: one that can't be read is not there.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::quarantine::Quarantine;
use crate::names::Domain;
use crate::sys::beneath::read_in;
use crate::sys::files::Dir;

/// Below the runs directory; no run has that name.
const DIRECTORY: &str = ".quarantine";
const ENDING: &str = ".json";

/// A record is a few lines.
const LIMIT: u64 = 64 << 10;

/// The records of one runs directory; of one that is not there, none.
#[derive(Debug, Clone)]
pub struct QuarantineDir(Option<Dir>);

impl QuarantineDir {
    pub(crate) fn new(runs: Option<Dir>) -> Self {
        Self(runs)
    }

    /// The domains that have a record, in order.
    pub fn domains(&self) -> io::Result<Vec<Domain>> {
        let Some(runs) = &self.0 else { return Ok(Vec::new()) };
        let names = runs.names(DIRECTORY.as_ref())?;
        Ok(names.iter().filter_map(|name| name.to_str()?.strip_suffix(ENDING)?.parse().ok()).collect())
    }

    /// The record of `domain`.
    pub fn of(&self, domain: &Domain) -> Option<Quarantine> {
        let text = read_in(self.0.as_ref()?, path(domain), LIMIT).ok()?;
        Quarantine::parse(&text, domain)
    }

    /// Whether there is anything in the place of the record of `domain`.
    pub(crate) fn has(&self, domain: &Domain) -> bool {
        self.0.as_ref().is_some_and(|runs| runs.has(&path(domain)))
    }

    /// Every record.
    pub fn all(&self) -> io::Result<Vec<Quarantine>> {
        Ok(self.domains()?.iter().filter_map(|domain| self.of(domain)).collect())
    }

    /// Writes a record, whole or not at all. The caller holds the lock of its domain.
    pub(crate) fn put(&self, record: &Quarantine) -> io::Result<()> {
        let runs = self.0.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let text = serde_json::to_string_pretty(record)?;
        runs.make_private(DIRECTORY.as_ref())?;
        runs.write(&path(&record.domain), text.as_bytes(), 0o600)
    }

    /// Removes the record of `domain`, whatever it is, and the directory with the last one. The caller holds the lock of the domain.
    pub(crate) fn remove(&self, domain: &Domain) -> io::Result<()> {
        let Some(runs) = &self.0 else { return Ok(()) };
        runs.remove(&path(domain), &|| false).map_err(io::Error::other)?;
        // Another one's keeps it.
        runs.remove_empty(DIRECTORY.as_ref()).map(drop)
    }
}

fn path(domain: &Domain) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{domain}{ENDING}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use jiff::Timestamp;

    use super::*;
    use crate::sys::system_info::BootId;

    fn record(domain: &Domain) -> Quarantine {
        Quarantine::after(None, domain, &[], Timestamp::UNIX_EPOCH, &BootId::new("b"))
    }

    #[test]
    fn records_come_and_go_one_by_one() {
        let world = tempfile::tempdir().unwrap();
        let dir = QuarantineDir::new(Some(Dir::open(world.path()).unwrap()));
        let [one, other] =
            ["a-000001.ci.test", "a-000002.ci.test"].map(|name| name.parse::<Domain>().unwrap());
        assert_eq!((dir.domains().unwrap(), dir.of(&one)), (vec![], None));
        dir.remove(&one).unwrap();
        dir.put(&record(&one)).unwrap();
        dir.put(&record(&other)).unwrap();
        assert_eq!(dir.all().unwrap(), [record(&one), record(&other)]);
        dir.remove(&one).unwrap();
        assert_eq!(dir.all().unwrap(), [record(&other)]);
        dir.remove(&other).unwrap();
        assert_eq!(fs::read_dir(world.path()).unwrap().count(), 0);
        let none = QuarantineDir::new(None);
        assert_eq!((none.domains().unwrap(), none.of(&one)), (vec![], None));
        none.put(&record(&one)).unwrap_err();
    }

    #[test]
    fn what_is_in_the_place_of_a_record_is_none_and_is_replaced_or_removed() {
        let world = tempfile::tempdir().unwrap();
        let dir = QuarantineDir::new(Some(Dir::open(world.path()).unwrap()));
        let domain: Domain = "a-000001.ci.test".parse().unwrap();
        let place = world.path().join(path(&domain));
        fs::create_dir(world.path().join(DIRECTORY)).unwrap();
        let elsewhere = world.path().join("elsewhere");
        fs::write(&elsewhere, serde_json::to_string(&record(&domain)).unwrap()).unwrap();
        symlink(&elsewhere, &place).unwrap();
        assert_eq!((dir.domains().unwrap(), dir.of(&domain)), (vec![domain.clone()], None));
        dir.put(&record(&domain)).unwrap();
        assert_eq!(dir.of(&domain), Some(record(&domain)));
        fs::write(&place, "{").unwrap();
        assert_eq!(dir.of(&domain), None);
        dir.remove(&domain).unwrap();
        fs::create_dir_all(place.join("sub")).unwrap();
        assert_eq!(dir.of(&domain), None);
        dir.remove(&domain).unwrap();
        assert!(elsewhere.exists() && !world.path().join(DIRECTORY).exists());
    }
}
