//! Control groups of ours: they bound what a sandbox uses as a whole, where this host lets us make any.
//!
//! A group is made beneath the nearest group at or above cc-ci's own that hands memory and processes on (cgroup v2), as systemd
//! does with its slices. What a host hands on is never changed. Whoever has a group holds `flock` on its directory, and its name
//! tells the domain that it works on: so one that a dead cc-ci left is known by its free lock, and is that domain's residue.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::{Access, AtFlags, FlockOperation, OFlags, accessat, flock};
use rustix::io::Errno;

use super::files::{Dir, new_id};
use crate::names::Domain;

/// What the names of ours begin with.
const PREFIX: &str = "cc-ci-sandbox.";

/// What all of a group may have, by the kernel's file for it. The first ones must be there.
const LIMITS: [(&str, &str); 5] = [
    ("memory.max", "4294967296"),
    ("pids.max", "1024"),
    // Memory that is not there is none: no file on a host without swap.
    ("memory.swap.max", "0"),
    // A program that lost one of its processes does not know what it is doing.
    ("memory.oom.group", "1"),
    // A fourth of what anybody else gets, where there is not enough.
    ("cpu.weight", "25"),
];
const NEEDED: usize = 2;

/// What is dead leaves its group a moment later: it is asked so often, so far apart.
const LEAVING: (u32, Duration) = (200, Duration::from_millis(1));

/// Where groups of ours are made.
#[derive(Debug, Clone)]
pub(crate) struct Place(Dir);

impl Place {
    /// The one of this process, or why it has none. It is looked for once.
    pub fn find() -> Result<&'static Self, &'static str> {
        static PLACE: OnceLock<Result<Place, String>> = OnceLock::new();
        let place = PLACE.get_or_init(|| {
            let read = |path: &str| {
                std::fs::read_to_string(path).map_err(|error| format!("can't read {path}: {error}"))
            };
            let (mount, inner) = own(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)?;
            Self::at_or_above(&mount, &inner)
        });
        place.as_ref().map_err(String::as_str)
    }

    fn at_or_above(mount: &Path, inner: &Path) -> Result<Self, String> {
        for group in inner.ancestors() {
            let path = mount.join(group);
            let handed_on = std::fs::read_to_string(path.join("cgroup.subtree_control"));
            let handed_on = handed_on.map_err(|error| format!("can't read {}: {error}", path.display()))?;
            if !["memory", "pids"].iter().all(|wanted| handed_on.split_whitespace().any(|has| has == *wanted))
            {
                continue;
            }
            let can_write = |path: &Path| {
                let asked = Access::WRITE_OK;
                accessat(rustix::fs::CWD, path, asked, AtFlags::EACCESS)
                    .map_err(|errno| format!("{} can't be written: {errno}", path.display()))
            };
            can_write(&path)?;
            // Who moves between two groups needs this of the one above both.
            can_write(&path.join("cgroup.procs"))?;
            return Dir::open(&path).map(Self).map_err(|error| format!("{}: {error}", path.display()));
        }
        Err("no control group here hands memory and processes on (cgroup v2)".to_owned())
    }

    /// Makes a group for what works on `domain`.
    pub fn make(&self, domain: &Domain) -> io::Result<Group> {
        loop {
            let name = PathBuf::from(format!("{PREFIX}{}.{domain}", new_id()?));
            self.0.make_new(&name, 0o700)?;
            let group = match self.hold(&name) {
                Ok(Some(held)) => Group { place: self.0.clone(), name, held },
                // A janitor was between the two, and takes it away.
                Ok(None) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    // Why it can't be used is what is told.
                    let _stays = self.0.remove_empty(&name).is_err();
                    return Err(error);
                }
            };
            match group.limit() {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.0.has(&group.name) => {}
                limited => return limited.map(|()| group),
            }
        }
    }

    /// The groups that dead owners have left, each with its path, by the domain that it was for.
    pub fn left(&self) -> io::Result<Vec<(Domain, PathBuf)>> {
        let names = self.0.names(Path::new("."))?.into_iter();
        let ours = names.filter_map(|name| {
            let domain = name.to_str()?.strip_prefix(PREFIX)?.split_once('.')?.1.parse().ok()?;
            Some((domain, PathBuf::from(name)))
        });
        // What went meanwhile is not left.
        let is_left = |name: &Path| matches!(self.hold(name), Ok(Some(_)));
        let left = ours.filter(|(_, name)| is_left(name));
        Ok(left.map(|(domain, name)| (domain, self.0.path().join(name))).collect())
    }

    /// Removes what dead owners have left of `domains`, with all that is still in it. Blocks.
    pub fn remove_left(&self, domains: &BTreeSet<Domain>) -> io::Result<()> {
        let mut removed = Ok(());
        for (_, path) in self.left()?.into_iter().filter(|(of, _)| domains.contains(of)) {
            let name = path.strip_prefix(self.0.path()).unwrap_or(&path).to_owned();
            if let Ok(Some(held)) = self.hold(&name) {
                removed = removed.and(Group { place: self.0.clone(), name, held }.empty());
            }
        }
        removed
    }

    /// The lock of the group `name`, unless somebody has it.
    fn hold(&self, name: &Path) -> io::Result<Option<File>> {
        let directory = self.0.open_file(name, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(directory)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// A group that is ours, and goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Group {
    place: Dir,
    name: PathBuf,
    held: File,
}

impl Group {
    /// Its directory, for whom the kernel is to start in it.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.held.as_fd()
    }

    fn limit(&self) -> io::Result<()> {
        for (number, (file, limit)) in LIMITS.into_iter().enumerate() {
            match self.write(file, limit) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && number >= NEEDED => {}
                written => written?,
            }
        }
        Ok(())
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        self.place.open_file(&self.name.join(file), OFlags::WRONLY, 0)?.write_all(text.as_bytes())
    }

    /// Kills what is in it, and removes it. Blocks.
    fn empty(&self) -> io::Result<()> {
        let (mut again, pause) = LEAVING;
        loop {
            match self.place.remove_empty(&self.name) {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) && again > 0 => {
                    again -= 1;
                    self.write("cgroup.kill", "1")?;
                    std::thread::sleep(pause);
                }
                removed => return removed.map(drop),
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = self.empty() {
            // The domain's residue from now on.
            tracing::warn!(group = %self.name.display(), %error, "can't remove a control group");
        }
    }
}

/// Where version 2 is mounted, and which group in it is this process's.
fn own(mounts: &str, groups: &str) -> Result<(PathBuf, PathBuf), String> {
    let of_mount = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, path) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup2 ").then(|| (PathBuf::from(root), PathBuf::from(path)))
    };
    let (root, mount) = mounts.lines().find_map(of_mount).ok_or("cgroup v2 is not mounted")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).ok_or("cgroup v2 is not there")?;
    let inner =
        Path::new(own).strip_prefix(&root).map_err(|_| "cc-ci's own control group is out of sight")?;
    Ok((mount, inner.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_finds_its_own_group_beneath_what_is_mounted() {
        let hybrid = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 25 0:27 / /sys/fs/cgroup/unified rw,relatime shared:1 - cgroup2 cgroup2 rw\n";
        let found = own(hybrid, "4:memory:/elsewhere\n0::/system.slice/runner.service\n");
        assert_eq!(found.unwrap(), ("/sys/fs/cgroup/unified".into(), "system.slice/runner.service".into()));
        let container = "31 25 0:27 /docker/17 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(own(container, "0::/docker/17\n").unwrap(), ("/sys/fs/cgroup".into(), "".into()));
        assert!(own(container, "0::/../elsewhere\n").unwrap_err().contains("out of sight"));
        assert!(
            own("30 25 0:26 / /x rw - cgroup cgroup rw\n", "1:memory:/\n")
                .unwrap_err()
                .contains("not mounted")
        );
    }

    /// Where this host has no place for groups, the reason is what `doctor` shows.
    fn place(test: &str) -> Option<&'static Place> {
        Place::find().inspect_err(|why| println!("skipped: {test}: {why}")).ok()
    }

    #[test]
    fn a_group_bounds_what_is_in_it_and_goes_with_its_owner() {
        let Some(place) = place("a_group_bounds_what_is_in_it_and_goes_with_its_owner") else { return };
        let domain: Domain = "group-00a1b2.own.test".parse().unwrap();
        let group = place.make(&domain).unwrap();
        let path = place.0.path().join(&group.name);
        assert_eq!(std::fs::read_to_string(path.join("memory.max")).unwrap(), "4294967296\n");
        assert_eq!(std::fs::read_to_string(path.join("pids.max")).unwrap(), "1024\n");
        let is_left = || place.left().unwrap().into_iter().any(|(of, _)| of == domain);
        assert!(!is_left(), "its owner lives");
        let mut inside = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        group.write("cgroup.procs", &inside.id().to_string()).unwrap();
        drop(group);
        assert!(!path.exists());
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&inside.wait().unwrap()), Some(9));
        // One whose owner died in the middle, beside one of another domain.
        let other: Domain = "other-00a1b2.own.test".parse().unwrap();
        for (number, domain) in [&domain, &other].into_iter().enumerate() {
            place.0.make_new(Path::new(&format!("{PREFIX}{number}.{domain}")), 0o700).unwrap();
        }
        assert!(is_left());
        place.remove_left(&BTreeSet::from([domain.clone()])).unwrap();
        assert!(!is_left());
        assert_eq!(place.left().unwrap().iter().filter(|(of, _)| *of == other).count(), 1);
        place.remove_left(&BTreeSet::from([other])).unwrap();
    }
}
