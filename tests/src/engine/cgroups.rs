//! Control groups of private engines.
//!
//! An engine's containers are below a group of its own name in every hierarchy. Its first process is itself in the
//! group's child `engine`, in one of them: so the kernel refuses to remove that one while the engine lives, and
//! whoever could remove it knows that the engine is dead. No record and no age is asked.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::PREFIX;

/// How long the kernel may take to let go of a group after its last process.
const DYING: Duration = Duration::from_secs(20);

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Hierarchy {
    /// Whether it is of the first version: those come last.
    first_version: bool,
    /// Whether a new group must be told what it has before a process can enter: those come very last.
    cpuset: bool,
    /// Where it is mounted.
    path: PathBuf,
    /// Which of its groups is mounted there.
    root: PathBuf,
}

impl Hierarchy {
    /// All of them. The first is the one that engines enter.
    fn all() -> io::Result<Vec<Self>> {
        let mut all: Vec<_> =
            fs::read_to_string("/proc/self/mountinfo")?.lines().filter_map(Self::parse).collect();
        all.sort();
        if all.is_empty() {
            return Err(io::Error::new(ErrorKind::NotFound, "no control groups are mounted"));
        }
        Ok(all)
    }

    fn parse(line: &str) -> Option<Self> {
        let (mount, kind) = line.split_once(" - ")?;
        let first_version = match kind.split(' ').next()? {
            "cgroup" => true,
            "cgroup2" => false,
            _ => return None,
        };
        let mut fields = mount.split(' ').skip(3);
        let (root, path) = (fields.next()?.into(), fields.next()?.into());
        let cpuset = kind.split([' ', ',']).any(|word| word == "cpuset");
        Some(Self { first_version, cpuset, path, root })
    }

    /// The group that this process is in.
    fn own(&self) -> io::Result<PathBuf> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let line = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (number, names, path) = (fields.next()?, fields.next()?, fields.next()?);
            let here =
                if self.first_version { names.trim_start_matches("name=") == name } else { number == "0" };
            here.then_some(path)
        });
        let below = line.and_then(|path| Path::new(path).strip_prefix(&self.root).ok());
        Ok(below.map_or_else(|| self.path.clone(), |below| self.path.join(below)))
    }
}

/// This process's membership in an engine's group.
#[derive(Debug)]
pub(super) struct Membership {
    name: String,
    before: PathBuf,
}

impl Membership {
    /// Enters the group of the engine `name`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn enter(name: &str) -> io::Result<Self> {
        let first = &Hierarchy::all()?[0];
        let before = first.own()?;
        let group = first.path.join(name).join("engine");
        loop {
            let entered =
                fs::create_dir_all(&group).and_then(|()| fs::write(group.join("cgroup.procs"), "0"));
            match entered {
                // A sweep saw it half made, or empty.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => return done.map(|()| Self { name: name.to_owned(), before }),
            }
        }
    }

    /// Leaves it, and removes it.
    ///
    /// # Errors
    /// When a group stays.
    pub(super) fn leave(self) -> io::Result<()> {
        fs::write(self.before.join("cgroup.procs"), "0")?;
        remove(&self.name)
    }
}

/// Removes the groups of the engine `name`, whose processes have ended or are about to.
///
/// # Errors
/// When one stays: a process lives in it.
pub(super) fn remove(name: &str) -> io::Result<()> {
    let until = Instant::now() + DYING;
    // The one that says whether the engine lives comes last.
    for hierarchy in Hierarchy::all()?.iter().rev() {
        let group = hierarchy.path.join(name);
        loop {
            match remove_tree(&group) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < until => {
                    // The kernel tells nobody when a group's last process has been let go.
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => {
                    return Err(io::Error::new(error.kind(), format!("{}: {error}", group.display())));
                }
                Ok(()) => break,
            }
        }
    }
    Ok(())
}

/// Removes the groups of engines that are dead, and gives their names.
///
/// # Errors
/// When there are no control groups, or one of a dead engine stays.
pub(super) fn sweep() -> io::Result<Vec<String>> {
    let all = Hierarchy::all()?;
    let mut names: Vec<String> = all.iter().flat_map(|hierarchy| names(&hierarchy.path)).collect();
    names.sort();
    names.dedup();
    let mut swept = Vec::new();
    for name in names {
        if is_dead(&all, &name)? {
            remove(&name)?;
            swept.push(name);
        }
    }
    Ok(swept)
}

/// Where groups of the engine `name` still are.
///
/// # Errors
/// When there are no control groups.
pub(super) fn left(name: &str) -> io::Result<Vec<PathBuf>> {
    let paths = Hierarchy::all()?.into_iter().map(|hierarchy| hierarchy.path.join(name));
    Ok(paths.filter(|path| path.exists()).collect())
}

fn is_dead(all: &[Hierarchy], name: &str) -> io::Result<bool> {
    match fs::remove_dir(all[0].path.join(name).join("engine")) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(false),
        Err(error) => Err(error),
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(PREFIX))
        .collect()
}

/// Groups have no files to remove, only groups below them.
fn remove_tree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let Ok(entry) = entry else { break };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_from_the_mount_table() {
        let parse = |line| Hierarchy::parse(line);
        let second = parse("41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw").unwrap();
        let first =
            parse("33 31 0:30 /in/here /sys/fs/cgroup/cpuset rw shared:4 - cgroup cgroup rw,cpuset").unwrap();
        assert!(second < first, "engines enter one of the second version where there is one");
        assert!(first.cpuset && first.first_version && !second.cpuset);
        assert_eq!((first.root, first.path), ("/in/here".into(), "/sys/fs/cgroup/cpuset".into()));
        assert_eq!(parse("27 1 254:0 / / rw,relatime - ext4 /dev/vda rw"), None);
    }
}
