//! A bound on what a sandbox has in the directories that it may write to, all of them together, and on the number of files in
//! memory, where the kernel bounds their size alone.
//!
//! They are looked at now and then: what is written between two looks comes on top.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::bubblewrap::PRIVATE;
use crate::lifetime::descendants::children_of;
use crate::sys::files::Dir;

/// So much may be there, in so many files and directories, so deep; and so many descriptors and mappings are looked through.
const BOUND: Bound = Bound { bytes: 4 << 30, files: 100_000, depth: 128, held: 500_000 };
/// The same for people.
pub(in crate::lifetime) const BOUND_IN_WORDS: &str =
    "4 GiB, 100,000 files or 128 levels, or what can't be looked through";
/// The time between two looks, at the least, ...
const PAUSE: Duration = Duration::from_millis(500);
/// ... by the time that a look took, ...
const PAUSES_PER_LOOK: u32 = 20;
/// ... and at the most: what makes looks slow gains no time by it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
struct Bound {
    bytes: u64,
    files: usize,
    depth: usize,
    held: usize,
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
            Ok(false) => pause = (began.elapsed() * PAUSES_PER_LOOK).clamp(PAUSE, LONGEST_PAUSE),
        }
    }
}

/// What is there, as far as it was counted.
#[derive(Debug)]
struct Usage {
    bound: Bound,
    bytes: u64,
    files: usize,
    /// Descriptors and mappings that were looked at.
    held: usize,
    is_too_deep: bool,
    /// Whether there is a directory that is closed to us: where cc-ci is not root, a mode does that.
    is_closed: bool,
}

impl Usage {
    fn of(trees: &[PathBuf], leader: i32, bound: Bound) -> Self {
        let mut usage = Self { bound, bytes: 0, files: 0, held: 0, is_too_deep: false, is_closed: false };
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
        self.bytes > self.bound.bytes
            || self.files > self.bound.files
            || self.held > self.bound.held
            || self.is_too_deep
            || self.is_closed
    }

    /// What was found; nothing where it went meanwhile, or something is mounted there, which is not asked.
    fn open<T>(&mut self, found: io::Result<T>) -> Option<T> {
        self.is_closed |= found.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        found.ok()
    }

    /// With a stack of its own, as deep as the bound: the tree is a stranger's.
    fn count_tree(&mut self, root: &Dir) {
        let here = Path::new(".");
        let Some(names) = self.open(root.names(here)) else { return };
        let mut open: Vec<(Dir, Vec<OsString>)> = vec![(root.clone(), names)];
        while let Some((directory, names)) = open.last_mut() {
            if self.is_over() {
                return;
            }
            let Some(name) = names.pop() else {
                open.pop();
                continue;
            };
            let Some(Some(found)) = self.open(directory.find(name.as_ref())) else { continue };
            self.files += 1;
            self.bytes += found.bytes;
            if !found.is_directory() {
                continue;
            }
            let Some(inner) = self.open(directory.sub(name.as_ref())) else { continue };
            let Some(names) = self.open(inner.names(here)) else { continue };
            self.is_too_deep = open.len() >= self.bound.depth;
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

    /// Files without a name take room as long as somebody has them open, or mapped.
    fn count_removed(&mut self, leader: i32, devices: &BTreeSet<u64>) {
        // What of each was seen to be there.
        let mut removed: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        let mut processes = vec![leader];
        while let Some(pid) = processes.pop() {
            processes.extend(children_of(pid));
            let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            for descriptor in descriptors {
                self.held += 1;
                if self.is_over() {
                    return;
                }
                let is_removed = std::fs::read_link(descriptor.path())
                    .is_ok_and(|name| name.as_os_str().as_encoded_bytes().ends_with(REMOVED));
                if let Some(found) = is_removed.then(|| descriptor.path().metadata().ok()).flatten() {
                    note(&mut removed, (found.dev(), found.ino()), found.blocks() * 512);
                }
            }
            let Ok(maps) = File::open(format!("/proc/{pid}/maps")) else { continue };
            for line in BufReader::new(maps).split(b'\n').map_while(Result::ok) {
                self.held += 1;
                if self.is_over() {
                    return;
                }
                let Some(mapped) = line.ends_with(REMOVED).then(|| Mapped::parse(&line)).flatten() else {
                    continue;
                };
                match std::fs::metadata(format!("/proc/{pid}/map_files/{}", mapped.range)) {
                    Ok(found) => note(&mut removed, (found.dev(), found.ino()), found.blocks() * 512),
                    // That is root's alone: for others it is all there up to the mapping's end.
                    Err(_) => note(&mut removed, mapped.file, mapped.end),
                }
            }
        }
        let removed = removed.iter().filter(|((device, _), _)| devices.contains(device));
        for (_, bytes) in removed {
            self.files += 1;
            self.bytes = self.bytes.saturating_add(*bytes);
        }
    }
}

/// How the kernel ends the name of a file that has none any more.
const REMOVED: &[u8] = b" (deleted)";

fn note(removed: &mut BTreeMap<(u64, u64), u64>, file: (u64, u64), bytes: u64) {
    let known = removed.entry(file).or_default();
    *known = bytes.max(*known);
}

/// What a line of `/proc/PID/maps` says of a file.
#[derive(Debug, PartialEq, Eq)]
struct Mapped<'l> {
    /// Its addresses, as the kernel writes them.
    range: &'l str,
    /// By device and inode.
    file: (u64, u64),
    /// Up to where it is mapped, in bytes.
    end: u64,
}

impl<'l> Mapped<'l> {
    fn parse(line: &'l [u8]) -> Option<Self> {
        // What follows these fields is a name, of any bytes.
        let fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let mut fields = fields.map_while(|field| std::str::from_utf8(field).ok());
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let range = fields.next()?;
        let (first, last) = range.split_once('-')?;
        let offset = hex(fields.nth(1)?)?;
        let (major, minor) = fields.next()?.split_once(':')?;
        let part = |text| u32::from_str_radix(text, 16).ok();
        let file = (rustix::fs::makedev(part(major)?, part(minor)?), fields.next()?.parse().ok()?);
        let end = offset.saturating_add(hex(last)?.checked_sub(hex(first)?)?);
        Some(Self { range, file, end })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Of a process that has nothing open but what it is given: other tests have files open in this one.
    fn is_over(leader: &Child, tree: &Path, bound: Bound) -> bool {
        Usage::of(&[tree.to_owned()], leader.id().cast_signed(), bound).is_over()
    }

    /// Runs `program`, a copy of `cat`, which ends with its input. It has `held` open.
    fn leader(program: &Path, held: File) -> Child {
        let mut command = Command::new(program);
        let mut child =
            command.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(held).spawn().unwrap();
        // It runs once it answers.
        child.stdin.as_mut().unwrap().write_all(b"1").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    fn end(mut leader: Child) {
        drop(leader.stdin.take());
        leader.wait().unwrap();
    }

    #[test]
    fn bytes_files_and_depth_count_whoever_hides_them() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir_all(path("a/b/c")).unwrap();
        std::fs::write(path("a/b/c/file"), vec![1; 1 << 20]).unwrap();
        File::create(path("hole")).unwrap().set_len(1 << 40).unwrap();
        std::os::unix::fs::symlink("/usr", path("link")).unwrap();
        let enough = Bound { bytes: 2 << 20, files: 6, depth: 4, held: 100_000 };
        let child = leader("cat".as_ref(), File::open("/dev/null").unwrap());
        assert!(!is_over(&child, root.path(), enough));
        assert!(is_over(&child, root.path(), Bound { bytes: 1 << 19, ..enough }));
        assert!(is_over(&child, root.path(), Bound { files: 5, ..enough }));
        assert!(is_over(&child, root.path(), Bound { depth: 3, ..enough }));
        assert!(is_over(&child, root.path(), Bound { held: 3, ..enough }), "it has three open, and mappings");
        end(child);
        // Without a name, and with an end that is still open.
        let mut removed = File::create(path("removed")).unwrap();
        removed.write_all(&vec![1; 2 << 20]).unwrap();
        std::fs::remove_file(path("removed")).unwrap();
        let child = leader("cat".as_ref(), removed);
        assert!(is_over(&child, root.path(), enough));
        end(child);
        let child = leader("cat".as_ref(), File::open("/dev/null").unwrap());
        assert!(!is_over(&child, root.path(), enough));
        end(child);
        // Nor what is only mapped, as a program that runs.
        let copied = Command::new("cp").arg("/bin/cat").arg(path("program")).status();
        // By a process of its own: a file that a thread of this one has open for writing can't be run.
        assert!(copied.unwrap().success());
        let child = leader(&path("program"), File::open("/dev/null").unwrap());
        std::fs::remove_file(path("program")).unwrap();
        assert!(is_over(&child, root.path(), Bound { files: 6, ..enough }));
        end(child);
    }

    #[test]
    fn a_line_of_the_kernels_maps_says_which_file_and_how_much_of_it() {
        let line = b"7f0a00000000-7f0a00200000 rw-s 00001000 fd:01 1234                 /tmp/\xff with blanks (deleted)";
        let mapped = Mapped::parse(line).unwrap();
        assert_eq!(mapped.range, "7f0a00000000-7f0a00200000");
        assert_eq!(mapped.file, (rustix::fs::makedev(0xfd, 1), 1234));
        assert_eq!(mapped.end, 0x20_1000);
        let without = Mapped::parse(b"7f0a00000000-7f0a00200000 rw-p 00000000 00:00 0").unwrap();
        assert_eq!((without.file, without.end), ((0, 0), 0x20_0000));
        assert_eq!(Mapped::parse(b"\xff"), None);
    }
}
