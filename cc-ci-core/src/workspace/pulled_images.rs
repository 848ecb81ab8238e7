//! The images that runs pulled: a file each in `.images` of the runs directory.
//!
//! An image is noted before it is pulled, so that a run that is killed leaves none that nobody knows. Whoever is about to use
//! images says so, and only then looks whether they are there; whoever removes one holds [`PulledImages::lock`] from the
//! look at its record to the end of the removal. So an image that somebody has seen stays for the time that is configured.
//!
//! # Limitations
//! Who uses an image without a run of this runs directory is known from the engine alone.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::sys::beneath::read_in;
use crate::sys::files::{Dir, RootKind, claim_root, open_root};
use crate::sys::system_info::SystemInfo;
use crate::sys::text::hex;

/// Below the runs directory; no run has that name.
const DIRECTORY: &str = ".images";
const ENDING: &str = ".json";

/// A record is a few lines.
const LIMIT: u64 = 64 << 10;

/// The records of one runs directory. Every method blocks.
#[derive(Debug, Clone)]
pub struct PulledImages {
    runs_dir: PathBuf,
    host: Arc<dyn SystemInfo>,
}

/// An image that a run pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledImage {
    /// Its name with registry and tag or digest.
    pub image: String,
    /// Its id in the engine; none until it has come.
    pub id: Option<String>,
    /// When a run last said that it uses it.
    pub used: Timestamp,
}

impl PulledImages {
    /// Those of this runs directory, by the clock of this host. Nothing is made before there is something to note.
    pub fn new(runs_dir: impl Into<PathBuf>, host: Arc<dyn SystemInfo>) -> Self {
        Self { runs_dir: runs_dir.into(), host }
    }

    /// Says that a run is about to use these: of those that runs pulled, it is noted.
    pub fn used(&self, images: &[String]) -> io::Result<()> {
        let Some(runs) = self.runs()? else { return Ok(()) };
        let _shared = lock(&runs, File::lock_shared)?;
        for image in images {
            if let Some(record) = record(&runs, image) {
                put(&runs, &PulledImage { used: self.host.now(), ..record })?;
            }
        }
        Ok(())
    }

    /// Notes that a run is about to pull `image`, or that it has come and is called `id`.
    pub fn note(&self, image: &str, id: Option<&str>) -> io::Result<()> {
        let runs = claim_root(&self.runs_dir, RootKind::Runs, 0o755).map_err(io::Error::other)?;
        runs.make_private(DIRECTORY.as_ref())?;
        let _shared = lock(&runs, File::lock_shared)?;
        put(&runs, &PulledImage { image: image.to_owned(), id: id.map(str::to_owned), used: self.host.now() })
    }

    /// Those that no run has used for so long, in the order of their names.
    pub fn unused_for(&self, time: Duration) -> io::Result<Vec<PulledImage>> {
        let Some(runs) = self.runs()? else { return Ok(Vec::new()) };
        let names = runs.names(DIRECTORY.as_ref())?;
        let records = names.iter().filter_map(|name| read(&runs, name.as_ref()));
        let mut unused: Vec<_> = records.filter(|record| self.is_unused(record, time)).collect();
        unused.sort_by(|a, b| a.image.cmp(&b.image));
        Ok(unused)
    }

    /// Holds what any run is about to say until it is dropped. None where there are no records.
    pub fn lock(&self) -> io::Result<Option<File>> {
        self.runs()?.map(|runs| lock(&runs, File::lock)).transpose()
    }

    /// The record of `image`, if no run has used it for so long. The caller holds the [lock](Self::lock).
    pub fn still_unused(&self, image: &str, time: Duration) -> io::Result<Option<PulledImage>> {
        let found = self.runs()?.and_then(|runs| record(&runs, image));
        Ok(found.filter(|record| self.is_unused(record, time)))
    }

    /// Removes the record of `image`. The caller holds the [lock](Self::lock).
    pub fn forget(&self, image: &str) -> io::Result<()> {
        let Some(runs) = self.runs()? else { return Ok(()) };
        runs.remove(&path(image), &|| false).map_err(io::Error::other)
    }

    /// A time that has not come yet is a clock's that was set: nothing is older for it.
    fn is_unused(&self, record: &PulledImage, time: Duration) -> bool {
        let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        self.host.now().duration_since(record.used) >= time
    }

    /// The runs directory, where there are records: this user's, as images are removed for what is in it.
    fn runs(&self) -> io::Result<Option<Dir>> {
        Ok(open_root(&self.runs_dir, RootKind::Runs)?.filter(|runs| runs.has(DIRECTORY.as_ref())))
    }
}

/// Each holds it for a few file operations, or for one call of the engine.
fn lock(runs: &Dir, lock: fn(&File) -> io::Result<()>) -> io::Result<File> {
    let directory = runs.open_file(DIRECTORY.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
    lock(&directory)?;
    Ok(directory)
}

fn record(runs: &Dir, image: &str) -> Option<PulledImage> {
    read(runs, path(image).file_name()?.as_ref()).filter(|record| record.image == image)
}

/// What can't be read is no record: nothing is removed for it.
fn read(runs: &Dir, name: &Path) -> Option<PulledImage> {
    serde_json::from_slice(&read_in(runs, Path::new(DIRECTORY).join(name), LIMIT).ok()?).ok()
}

fn put(runs: &Dir, record: &PulledImage) -> io::Result<()> {
    runs.write(&path(&record.image), serde_json::to_string_pretty(record)?.as_bytes(), 0o600)
}

/// A name has slashes, and may be longer than a file's.
fn path(image: &str) -> PathBuf {
    Path::new(DIRECTORY).join(hex(&Sha256::digest(image)) + ENDING)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;
    use crate::sys::system_info::KernelSystemInfo;

    const DAY: Duration = Duration::from_hours(24);
    const IMAGE: &str = "docker.io/library/nginx:1.27";

    fn images(root: &Path) -> PulledImages {
        PulledImages::new(root.join("runs"), Arc::new(KernelSystemInfo::new().unwrap()))
    }

    fn age(images: &PulledImages, image: &str, time: SignedDuration) {
        let runs = images.runs().unwrap().unwrap();
        let record = record(&runs, image).unwrap();
        put(&runs, &PulledImage { used: record.used - time, ..record }).unwrap();
    }

    #[test]
    fn what_a_run_pulled_is_due_once_no_run_has_used_it_for_so_long() {
        let root = tempfile::tempdir().unwrap();
        let images = images(root.path());
        images.used(&[IMAGE.to_owned()]).unwrap();
        assert_eq!(images.unused_for(Duration::ZERO).unwrap(), []);
        assert!(
            images.lock().unwrap().is_none() && !root.path().join("runs").exists(),
            "a look makes nothing"
        );
        images.note(IMAGE, None).unwrap();
        images.note(IMAGE, Some("sha256:0a")).unwrap();
        assert_eq!(images.unused_for(DAY).unwrap(), []);
        let [due] = &images.unused_for(Duration::ZERO).unwrap()[..] else { panic!("one is due") };
        assert_eq!((due.image.as_str(), due.id.as_deref()), (IMAGE, Some("sha256:0a")));
        age(&images, IMAGE, SignedDuration::from_hours(25));
        assert_eq!(images.unused_for(DAY).unwrap().len(), 1);
        // A run that uses it, and one that pulls another.
        images.used(&[IMAGE.to_owned(), "docker.io/library/other:1".to_owned()]).unwrap();
        assert_eq!(images.unused_for(DAY).unwrap(), []);
        assert_eq!(images.still_unused(IMAGE, DAY).unwrap(), None);
        assert_eq!(images.unused_for(Duration::ZERO).unwrap().len(), 1, "what nobody pulled was noted");
        // A clock that was set back.
        age(&images, IMAGE, SignedDuration::from_hours(-100));
        assert_eq!(images.unused_for(Duration::ZERO).unwrap(), []);
        images.forget(IMAGE).unwrap();
        images.forget(IMAGE).unwrap();
        assert_eq!(images.unused_for(Duration::ZERO).unwrap(), []);
    }

    #[test]
    fn who_removes_waits_for_who_says_and_the_other_way_round() {
        let root = tempfile::tempdir().unwrap();
        let images = images(root.path());
        images.note(IMAGE, None).unwrap();
        let held = images.lock().unwrap().unwrap();
        let again = images.runs().unwrap().unwrap();
        let directory = again.open_file(DIRECTORY.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY, 0).unwrap();
        assert!(directory.try_lock_shared().is_err());
        std::thread::scope(|scope| {
            let says = scope.spawn(|| images.used(&[IMAGE.to_owned()]));
            // The kernel lists who waits for a lock, and for which inode.
            let inode = format!(":{} ", directory.metadata().unwrap().ino());
            let waits = |locks: &str| locks.lines().any(|line| line.contains("->") && line.contains(&inode));
            while !waits(&fs::read_to_string("/proc/locks").unwrap()) {
                assert!(!says.is_finished(), "it did not wait");
                std::thread::yield_now();
            }
            drop(held);
            says.join().unwrap().unwrap();
        });
        directory.try_lock_shared().unwrap();
        images.used(&[IMAGE.to_owned()]).unwrap();
    }

    #[test]
    fn what_is_in_the_place_of_a_record_is_none() {
        let root = tempfile::tempdir().unwrap();
        let images = images(root.path());
        images.note(IMAGE, Some("sha256:0a")).unwrap();
        let place = root.path().join("runs").join(path(IMAGE));
        let elsewhere = root.path().join("elsewhere");
        fs::rename(&place, &elsewhere).unwrap();
        symlink(&elsewhere, &place).unwrap();
        assert_eq!(images.unused_for(Duration::ZERO).unwrap(), []);
        // Nor the record of another image.
        fs::remove_file(&place).unwrap();
        fs::copy(&elsewhere, root.path().join("runs").join(path("docker.io/library/other:1"))).unwrap();
        assert_eq!(images.still_unused("docker.io/library/other:1", Duration::ZERO).unwrap(), None);
    }
}
