//! A bound on what a sandbox has in the directories that it may write to, all of them together, and on the number of files in
//! memory, where the kernel bounds their size alone.
//!
//! They are looked at now and then: what is written between two looks comes on top.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::bubblewrap::PRIVATE;
use crate::lifetime::descendants::children_of;
use crate::sys::files::Dir;

/// So much may be there, in so many files and directories, so deep.
const BOUND: Bound = Bound { bytes: 4 << 30, files: 100_000, depth: 128 };
/// The same for people.
pub(in crate::lifetime) const BOUND_IN_WORDS: &str = "4 GiB, 100,000 files or 128 levels";
/// The time between two looks, at the least, ...
const PAUSE: Duration = Duration::from_millis(500);
/// ... and by the time that a look took.
const PAUSES_PER_LOOK: u32 = 20;

#[derive(Debug, Clone, Copy)]
struct Bound {
    bytes: u64,
    files: usize,
    depth: usize,
}

/// Looks after a sandbox until it is dropped.
#[derive(Debug)]
pub(in crate::lifetime) struct DiskWatch {
    is_over: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl DiskWatch {
    /// Calls `end` once `trees`, and what the sandbox that `leader` leads has removed there and still uses, are over the bound.
    pub fn start(trees: Vec<PathBuf>, leader: i32, end: impl FnOnce() + Send + 'static) -> Self {
        let (mut task, is_over) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        let told = is_over.clone();
        task.spawn(async move {
            if until_over(trees, leader, || true).await {
                told.store(true, Ordering::Release);
                end();
            }
        });
        Self { is_over, _task: task }
    }

    /// Whether that is how it ended.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// Returns true once they are over the bound, and false when `is_wanted` says no.
pub(in crate::lifetime) async fn until_over(
    trees: Vec<PathBuf>,
    leader: i32,
    is_wanted: impl Fn() -> bool,
) -> bool {
    let trees = Arc::new(trees);
    let mut pause = PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        if !is_wanted() {
            return false;
        }
        let (began, looked) = (Instant::now(), trees.clone());
        match tokio::task::spawn_blocking(move || Usage::of(&looked, leader, BOUND).is_over()).await {
            Ok(true) => return true,
            // The runtime ends.
            Err(_) => return false,
            Ok(false) => pause = PAUSE.max(began.elapsed() * PAUSES_PER_LOOK),
        }
    }
}

/// What is there, as far as it was counted.
#[derive(Debug)]
struct Usage {
    bound: Bound,
    bytes: u64,
    files: usize,
    is_too_deep: bool,
}

impl Usage {
    fn of(trees: &[PathBuf], leader: i32, bound: Bound) -> Self {
        let mut usage = Self { bound, bytes: 0, files: 0, is_too_deep: false };
        let mut devices = BTreeSet::new();
        for tree in trees {
            // A file among them is a socket of ours; and what is not there has nothing.
            let Ok(tree) = Dir::open(tree) else { continue };
            devices.extend(tree.device_and_inode().map(|(device, _)| device));
            usage.count_tree(&tree);
        }
        usage.count_removed(leader, &devices);
        for first in children_of(leader) {
            usage.count_private(first);
        }
        usage
    }

    fn is_over(&self) -> bool {
        self.bytes > self.bound.bytes || self.files > self.bound.files || self.is_too_deep
    }

    /// With a stack of its own, as deep as the bound: the tree is a stranger's.
    fn count_tree(&mut self, root: &Dir) {
        let here = Path::new(".");
        let mut open: Vec<(Dir, Vec<OsString>)> = vec![(root.clone(), root.names(here).unwrap_or_default())];
        while let Some((directory, names)) = open.last_mut() {
            if self.is_over() {
                return;
            }
            let Some(name) = names.pop() else {
                open.pop();
                continue;
            };
            // What is mounted there is not asked, and what went meanwhile is not there.
            let Ok(Some(found)) = directory.find(name.as_ref()) else { continue };
            self.files += 1;
            self.bytes += found.bytes;
            if !found.is_directory() {
                continue;
            }
            let Ok(inner) = directory.sub(name.as_ref()) else { continue };
            self.is_too_deep = open.len() >= self.bound.depth;
            let names = inner.names(here).unwrap_or_default();
            open.push((inner, names));
        }
    }

    /// Empty files have no size, and take memory all the same.
    fn count_private(&mut self, first: i32) {
        let files = PRIVATE.map(|(path, _)| {
            let inner = format!("/proc/{first}/root{path}");
            let device = |path: &str| std::fs::metadata(path).map(|found| found.dev()).ok();
            // Until it has made its mounts, these are the host's.
            if device(&inner) == device(path) {
                return 0;
            }
            rustix::fs::statvfs(inner).map_or(0, |found| found.f_files.saturating_sub(found.f_ffree))
        });
        self.files =
            self.files.saturating_add(usize::try_from(files.iter().sum::<u64>()).unwrap_or(usize::MAX));
    }

    /// Files without a name take room as long as somebody has them open.
    fn count_removed(&mut self, leader: i32, devices: &BTreeSet<u64>) {
        let mut seen = BTreeSet::new();
        let mut processes = vec![leader];
        while let Some(pid) = processes.pop() {
            processes.extend(children_of(pid));
            let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
            for descriptor in descriptors.flatten() {
                let is_removed = std::fs::read_link(descriptor.path())
                    .is_ok_and(|name| name.as_os_str().as_encoded_bytes().ends_with(b" (deleted)"));
                let Some(found) = is_removed.then(|| descriptor.path().metadata().ok()).flatten() else {
                    continue;
                };
                if devices.contains(&found.dev()) && seen.insert((found.dev(), found.ino())) {
                    self.files += 1;
                    self.bytes += found.blocks() * 512;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn is_over(tree: &Path, bound: Bound) -> bool {
        Usage::of(&[tree.to_owned()], std::process::id().cast_signed(), bound).is_over()
    }

    #[test]
    fn bytes_files_and_depth_count_whoever_hides_them() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir_all(path("a/b/c")).unwrap();
        std::fs::write(path("a/b/c/file"), vec![1; 1 << 20]).unwrap();
        std::fs::File::create(path("hole")).unwrap().set_len(1 << 40).unwrap();
        std::os::unix::fs::symlink("/usr", path("link")).unwrap();
        let enough = Bound { bytes: 2 << 20, files: 6, depth: 4 };
        assert!(!is_over(root.path(), enough));
        assert!(is_over(root.path(), Bound { bytes: 1 << 19, ..enough }));
        assert!(is_over(root.path(), Bound { files: 5, ..enough }));
        assert!(is_over(root.path(), Bound { depth: 3, ..enough }));
        // Without a name, and with an end that is still open.
        let mut removed = std::fs::File::create(path("removed")).unwrap();
        removed.write_all(&vec![1; 2 << 20]).unwrap();
        std::fs::remove_file(path("removed")).unwrap();
        let held = removed.try_clone().unwrap();
        assert!(is_over(root.path(), enough));
        drop((removed, held));
        assert!(!is_over(root.path(), enough));
    }
}
