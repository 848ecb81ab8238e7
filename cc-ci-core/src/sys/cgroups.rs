//! Control groups of ours: they bound what a sandbox uses as a whole, where this host lets us make any.
//!
//! A group is made beneath the nearest group at or above cc-ci's own that hands memory and processes on (cgroup v2), as systemd
//! does with its slices. What a host hands on is never changed. A group's name tells the process that made it, and the
//! domain that it works on: so one whose owner is dead is known, wherever it is, and is that domain's residue.
//!
//! # Limitations
//! A pid means nothing in another pid namespace: two cc-ci with the same user, a pid namespace each, and one tree of control
//! groups, take each other for dead. What keeps them apart is the domain's lock.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use nix::unistd::geteuid;
use rustix::fs::{Access, AtFlags, OFlags, accessat};
use rustix::io::Errno;

use super::blocking::blocks;
use super::files::{Dir, new_id, parent_of};
use super::process::ProcessIdentity;
use super::system_info::BootId;
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

/// More groups than a host has.
const MOST: usize = 100_000;

/// Where groups of ours are made.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    above: Dir,
    /// Whether processor time is handed on, too.
    has_cpu: bool,
}

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
            let has = |wanted: &str| handed_on.split_whitespace().any(|has| has == wanted);
            if !has("memory") || !has("pids") {
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
            let above = Dir::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            return Ok(Self { above, has_cpu: has("cpu") });
        }
        Err("no control group here hands memory and processes on (cgroup v2)".to_owned())
    }

    /// Whether groups here have a share of the processor time of their own. Memory and processes are bounded in any case.
    pub fn has_cpu(&self) -> bool {
        self.has_cpu
    }

    /// Makes a group for what works on `domain`.
    pub fn make(&self, domain: &Domain) -> io::Result<Group> {
        let owner = ProcessIdentity::current(BootId::current()?)?;
        let name = PathBuf::from(name_of(&owner, &new_id()?, domain));
        self.above.make_new(&name, 0o700)?;
        match self.above.open_file(&name, OFlags::RDONLY | OFlags::DIRECTORY, 0) {
            Ok(directory) => {
                let group = Group { place: self.above.clone(), name, directory };
                group.limit()?;
                Ok(group)
            }
            Err(error) => {
                // Why it can't be used is what is told.
                let _stays = self.above.remove_empty(&name).is_err();
                Err(error)
            }
        }
    }
}

fn name_of(owner: &ProcessIdentity, id: &str, domain: &Domain) -> String {
    format!("{PREFIX}{}-{}-{id}.{domain}", owner.pid, owner.start_time)
}

/// Whom a group of ours is of, and which domain it was made for, by its name: a group lasts no longer than its boot.
fn parse(name: &str, boot: &BootId) -> Option<(ProcessIdentity, Domain)> {
    let (owner, domain) = name.strip_prefix(PREFIX)?.split_once('.')?;
    let mut parts = owner.splitn(3, '-');
    let (pid, start_time) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next()?;
    Some((ProcessIdentity { pid, start_time, boot_id: boot.clone() }, domain.parse().ok()?))
}

/// The domain that the group at `path` was for, where it is of this user and its owner is dead.
fn left_at(path: &Path, boot: &BootId) -> Option<Domain> {
    let (owner, domain) = parse(path.file_name()?.to_str()?, boot)?;
    // Another user's is theirs to remove. What went meanwhile is not left.
    let is_own = path.symlink_metadata().is_ok_and(|group| group.uid() == geteuid().as_raw());
    (is_own && !owner.is_alive(boot)).then_some(domain)
}

/// The groups that dead owners have left, each with its path, by the domain that it was for: wherever cgroup v2 is mounted,
/// whether or not groups can be made there now. Blocks.
pub(crate) fn left() -> io::Result<Vec<(Domain, PathBuf)>> {
    blocks();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    mounted(&mounts).map_or_else(|| Ok(Vec::new()), |(_, mount)| left_beneath(mount, MOST))
}

fn left_beneath(mount: PathBuf, most: usize) -> io::Result<Vec<(Domain, PathBuf)>> {
    let boot = BootId::current()?;
    let (mut open, mut found, mut left) = (vec![mount], 0, Vec::new());
    while let Some(path) = open.pop() {
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            // It went meanwhile, or is closed to this user, whose groups are not in it then.
            Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::PermissionDenied => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = match entry {
                Err(error) if is_gone(&error) => break,
                entry => entry?,
            };
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            found += 1;
            if found > most {
                return Err(io::Error::other(format!("there are more than {most} control groups")));
            }
            let path = entry.path();
            match left_at(&path, &boot) {
                Some(domain) => left.push((domain, path)),
                None => open.push(path),
            }
        }
    }
    Ok(left)
}

/// How the kernel tells that a group was removed: of one that is still open, with `ENODEV`.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::NODEV)
}

/// Removes the group at `path`, which [`left`] found, with all that is still in it. Blocks.
pub(crate) fn remove_left(path: &Path) -> io::Result<()> {
    blocks();
    if left_at(path, &BootId::current()?).is_none() {
        return Ok(());
    }
    let (place, name) = parent_of(path)?;
    empty(&place, Path::new(name))
}

/// A group that is ours, and goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Group {
    place: Dir,
    name: PathBuf,
    directory: File,
}

impl Group {
    /// Its directory, for whom the kernel is to start in it.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
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
        write(&self.place, &self.name.join(file), text)
    }
}

fn write(place: &Dir, path: &Path, text: &str) -> io::Result<()> {
    place.open_file(path, OFlags::WRONLY, 0)?.write_all(text.as_bytes())
}

/// Kills what is in the group `name`, and removes it. Blocks.
fn empty(place: &Dir, name: &Path) -> io::Result<()> {
    let (mut again, pause) = LEAVING;
    loop {
        match place.remove_empty(name) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) && again > 0 => {
                again -= 1;
                write(place, &name.join("cgroup.kill"), "1")?;
                std::thread::sleep(pause);
            }
            removed => return removed.map(drop),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = empty(&self.place, &self.name) {
            // The domain's residue, once this process has ended.
            tracing::warn!(group = %self.name.display(), %error, "can't remove a control group");
        }
    }
}

/// The group of version 2 that is mounted, and where.
fn mounted(mounts: &str) -> Option<(PathBuf, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, path) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup2 ").then(|| (PathBuf::from(root), PathBuf::from(path)))
    })
}

/// Where version 2 is mounted, and which group in it is this process's.
fn own(mounts: &str, groups: &str) -> Result<(PathBuf, PathBuf), String> {
    let (root, mount) = mounted(mounts).ok_or("cgroup v2 is not mounted")?;
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
        let path = place.above.path().join(&group.name);
        assert_eq!(std::fs::read_to_string(path.join("memory.max")).unwrap(), "4294967296\n");
        assert_eq!(std::fs::read_to_string(path.join("pids.max")).unwrap(), "1024\n");
        let is_left = || left().unwrap().into_iter().any(|(of, _)| of == domain);
        assert!(!is_left(), "its owner lives");
        let mut inside = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        group.write("cgroup.procs", &inside.id().to_string()).unwrap();
        drop(group);
        assert!(!path.exists());
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&inside.wait().unwrap()), Some(9));
    }

    #[test]
    fn processor_time_is_shared_where_it_is_handed_on() {
        let mount = tempfile::tempdir().unwrap();
        let above = mount.path().join("slice");
        std::fs::create_dir_all(above.join("own")).unwrap();
        std::fs::write(mount.path().join("cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        std::fs::write(above.join("own/cgroup.subtree_control"), "\n").unwrap();
        std::fs::write(above.join("cgroup.procs"), "").unwrap();
        for (handed_on, has_cpu) in [("memory pids\n", false), ("cpuset cpu memory pids\n", true)] {
            std::fs::write(above.join("cgroup.subtree_control"), handed_on).unwrap();
            let place = Place::at_or_above(mount.path(), Path::new("slice/own")).unwrap();
            assert_eq!((place.above.path(), place.has_cpu()), (above.as_path(), has_cpu), "{handed_on}");
        }
    }

    /// A process of this user that is gone.
    fn dead() -> ProcessIdentity {
        let me = ProcessIdentity::current(BootId::current().unwrap()).unwrap();
        ProcessIdentity { start_time: me.start_time + 1, ..me }
    }

    #[test]
    fn a_name_tells_whose_a_group_is_and_what_it_was_for() {
        let (boot, domain) = (BootId::current().unwrap(), "group-00a1b2.own.test".parse::<Domain>().unwrap());
        let name = name_of(&dead(), "4f-2", &domain);
        assert_eq!(parse(&name, &boot), Some((dead(), domain)));
        for name in ["cc-ci-sandbox.17.a.own.test", "cc-ci-sandbox.1-2.a.own.test", "x.1-2-3.a.own.test"] {
            assert_eq!(parse(name, &boot), None, "{name}");
        }
    }

    #[test]
    fn what_a_dead_owner_left_is_found_and_removed_and_what_a_living_one_has_stays() {
        let test = "what_a_dead_owner_left_is_found_and_removed_and_what_a_living_one_has_stays";
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let Some((_, mount)) = mounted(&mounts) else { return println!("skipped: {test}: no cgroup v2") };
        // Not where groups are made, but somewhere in the tree.
        let place = mount.join(format!("cc-ci-test-{}", std::process::id()));
        if let Err(error) = std::fs::create_dir(&place) {
            return println!("skipped: {test}: {error}");
        }
        let domain: Domain = format!("left-00a1b2.t{}.test", std::process::id()).parse().unwrap();
        let (dead, live) = (dead(), ProcessIdentity::current(BootId::current().unwrap()).unwrap());
        let make = |owner| {
            let path = place.join(name_of(owner, "1", &domain));
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (ours, theirs) = (make(&dead), make(&live));
        let mut inside = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        std::fs::write(ours.join("cgroup.procs"), inside.id().to_string()).unwrap();
        let found = || left().unwrap().into_iter().filter(|(of, _)| *of == domain).map(|(_, path)| path);
        let before: Vec<_> = found().collect();
        let too_many = left_beneath(mount.clone(), 1).unwrap_err();
        // What nobody found is not removed either.
        let removed = [&ours, &theirs].map(|path| remove_left(path));
        let (is_there, after) = ([&ours, &theirs].map(|path| path.exists()), found().count());
        // Whatever is wrong, nothing of it stays.
        inside.kill().unwrap();
        inside.wait().unwrap();
        let _removed = [&ours, &theirs, &place].map(|path| std::fs::remove_dir(path).is_ok());
        assert_eq!(before, std::slice::from_ref(&ours));
        assert!(removed.iter().all(Result::is_ok), "{removed:?}");
        assert_eq!((is_there, after), ([false, true], 0));
        remove_left(&ours).unwrap();
        assert!(too_many.to_string().contains("more than 1 control groups"), "{too_many}");
    }
}
