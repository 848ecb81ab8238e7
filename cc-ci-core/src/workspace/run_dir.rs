//! One run's directory, for as long as its lock is held.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;

use super::copy::copy_tree;
use super::deploy_count::{self, DeployCount};
use super::layout::{Layout, expect_directory};
use super::log_ends::log_ends;
use super::{Catalogue, Settings, WorkspaceError};
use crate::model::cancellation::Cancellation;
use crate::model::record::RunRecord;
use crate::names::RunId;
use crate::report;
use crate::sys::files::Dir;

/// The page of a run, in its directory.
const RUN_REPORT: &str = "report.html";

/// Its JUnit file.
const RUN_JUNIT: &str = "junit.xml";

/// What of a run directory is its residue. The rest is the run's record, which is kept.
pub(crate) const RESIDUE: [&str; 4] = ["abra", "warm", "home", "tmp"];

/// How often a directory that was emptied may turn out to be filled again before it is given up.
const REFILLS: u32 = 8;

/// A run directory whose `run.lock` this process holds: a run's own, or that of a dead run.
///
/// Dropping it lets the lock go, and with it the directory: any janitor may then take what is in it.
#[must_use = "dropping it lets the run's lock go"]
pub struct RunDir {
    id: RunId,
    root: PathBuf,
    /// The runs directory.
    runs: Dir,
    /// The run's own directory, whatever its path names by now.
    dir: Dir,
    settings: Settings,
    deploy_count: DeployCount,
    /// Whether the run's abra tree has `servers/` of its own.
    own_servers: AtomicBool,
    /// Whether there is a second abra tree, for a warm app's baseline.
    warm_tree: AtomicBool,
    /// Held for life, released by closing.
    _lock: File,
}

impl fmt::Debug for RunDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RunDir").field(&self.root).finish()
    }
}

impl RunDir {
    pub(super) fn new(id: RunId, settings: &Settings, runs: Dir, dir: Dir, lock: File) -> Self {
        let root = settings.runs_dir.join(id.as_str());
        let deploy_count = DeployCount::new(dir.clone(), Path::new("state"));
        let [own_servers, warm_tree] = [false; 2].map(AtomicBool::new);
        Self {
            id,
            root,
            runs,
            dir,
            settings: settings.clone(),
            deploy_count,
            own_servers,
            warm_tree,
            _lock: lock,
        }
    }

    /// The run id under which the directory was got; with a suffix where the plain one was taken.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The run's own abra tree: its `ABRA_DIR`.
    pub fn abra_dir(&self) -> PathBuf {
        self.root.join("abra")
    }

    /// Gives the abra tree a directory `servers/` of its own in the place of the link to the canonical one, with an
    /// empty directory of `server` in it; gives `servers/`. For a run that works on an app which is not its own: what
    /// it and abra write to the app's `.env` reaches a copy.
    pub fn own_servers(&self, server: &str) -> Result<PathBuf, WorkspaceError> {
        let servers = self.abra_dir().join("servers");
        self.own_servers.store(true, Ordering::Relaxed);
        self.dir.unlink(&servers).map_err(WorkspaceError::io("remove the symlink", &servers))?;
        self.make_directories(&[servers.clone(), servers.join(server)])?;
        Ok(servers)
    }

    /// Makes a second abra tree beside the run's, for the baseline of a warm app: nothing of what is tested
    /// is in it, and its `servers/` has an empty directory of `server` only. May copy the catalogue; blocks.
    pub fn make_warm_tree(&self, server: &str) -> Result<PathBuf, WorkspaceError> {
        let tree = self.warm_dir();
        let servers = tree.join("servers");
        let home = tree.join("home");
        self.make_directories(&[
            tree.clone(),
            tree.join("recipes"),
            home,
            servers.clone(),
            servers.join(server),
        ])?;
        self.give_catalogue(&tree)?;
        self.warm_tree.store(true, Ordering::Relaxed);
        self.check()?;
        Ok(tree)
    }

    fn warm_dir(&self) -> PathBuf {
        self.root.join("warm")
    }

    /// Gives an abra tree the canonical catalogue, where there is one.
    fn give_catalogue(&self, tree: &Path) -> Result<(), WorkspaceError> {
        let Some(canonical) = self.canonical() else { return Ok(()) };
        let (catalogue, own) = (canonical.join("catalogue"), tree.join("catalogue"));
        if !present(&catalogue) {
            return Ok(());
        }
        expect_directory(&catalogue)?;
        match self.settings.catalogue {
            Catalogue::Symlink => {
                self.dir.link(&catalogue, &own).map_err(WorkspaceError::io("make the symlink", &own))
            }
            Catalogue::Copy => {
                // The top may be a symlink of the operator's; what is in it is copied as it is.
                let from = catalogue.canonicalize().map_err(WorkspaceError::io("resolve", &catalogue))?;
                copy_tree(&from, &own, &Cancellation::new())
                    .map_err(|(path, source)| WorkspaceError::io("copy", &path)(source))
            }
        }
    }

    /// Where the run's recipes are checked out.
    pub fn recipes(&self) -> PathBuf {
        self.root.join("abra/recipes")
    }

    /// The children's `HOME`.
    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// The children's `TMPDIR`.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where output is kept.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// How often the run has deployed.
    pub fn deploy_count(&self) -> &DeployCount {
        &self.deploy_count
    }

    /// The canonical abra tree, where there is one.
    pub fn canonical(&self) -> Option<&Path> {
        self.settings.canonical.as_deref()
    }

    /// The whole environment of a child of the run, the marker aside: nothing of the caller's but its `PATH`.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        self.environment_of(&self.home(), self.abra_dir())
    }

    /// The same with the second abra tree and a home in it, where no test has written.
    pub fn warm_environment(&self) -> Vec<(OsString, OsString)> {
        self.environment_of(&self.warm_dir().join("home"), self.warm_dir())
    }

    fn environment_of(&self, home: &Path, abra_dir: PathBuf) -> Vec<(OsString, OsString)> {
        let mut environment = home_environment(home, &self.tmp());
        environment.extend([
            (OsString::from("ABRA_DIR"), abra_dir.into_os_string()),
            (deploy_count::VARIABLE.into(), self.deploy_count.path().into_os_string()),
        ]);
        environment.push(("PATH".into(), self.settings.path.clone()));
        for (name, value) in
            [("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8"), ("TERM", "dumb"), ("CCCI_RUN_ID", self.id.as_str())]
        {
            environment.push((name.into(), value.into()));
        }
        environment
    }

    /// Looks whether the run's abra trees are still what was made: a plain file or directory in place of a symlink
    /// would be taken for the real thing by abra, and half used.
    pub fn check(&self) -> Result<(), WorkspaceError> {
        self.layout().check()
    }

    /// What its abra trees are to be, for a look from elsewhere.
    pub(crate) fn layout(&self) -> Layout {
        Layout {
            abra: self.abra_dir(),
            warm: self.warm_tree.load(Ordering::Relaxed).then(|| self.warm_dir()),
            canonical: self.settings.canonical.clone(),
            catalogue: self.settings.catalogue,
            own_servers: self.own_servers.load(Ordering::Relaxed),
        }
    }

    /// What is left of the run's own tree. Empty after [`remove_tree`](Self::remove_tree).
    pub fn leftover(&self) -> Vec<PathBuf> {
        RESIDUE.iter().filter(|name| self.dir.has(Path::new(name))).map(|name| self.root.join(name)).collect()
    }

    /// What is mounted in the directory: it stays, and keeps the directories that it is in.
    pub fn mounts(&self) -> Vec<PathBuf> {
        self.dir.mounts(Path::new(".")).unwrap_or_default()
    }

    /// Writes a file of the run's record, `name` in the directory: whole or not at all.
    pub(crate) fn write(&self, name: &Path, content: &[u8]) -> io::Result<()> {
        self.dir.write(name, content, 0o600)
    }

    /// Writes the reports of the run beside its `record`: a page for people, and one for CI systems. Blocks.
    pub(crate) fn write_reports(&self, record: &RunRecord) -> io::Result<()> {
        let logs = log_ends(&self.dir, Path::new("."), record);
        self.write(RUN_REPORT.as_ref(), report::html(record, &logs).as_bytes())?;
        self.write(RUN_JUNIT.as_ref(), report::junit(record).as_bytes())
    }

    /// Makes a directory beneath the run's own, and those above it, for nobody else's eyes.
    pub(crate) fn make_private(&self, path: &Path) -> io::Result<()> {
        self.dir.make_private(path).map(drop)
    }

    /// Listens at the socket `path` beneath the run's directory, for a runtime to take over.
    pub(crate) fn listen(&self, path: &Path) -> io::Result<UnixListener> {
        let listener = self.dir.listen(path)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Removes `path` beneath the run's directory, whatever it is. Blocks.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(self.dir.remove(path, &|| false)?)
    }

    /// Makes a file of the run's record, `name` in the directory.
    pub(crate) fn create_file(&self, name: &Path) -> io::Result<File> {
        self.dir.open_file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, 0o600)
    }

    /// The same where nothing may be there yet.
    pub(crate) fn create_new(&self, name: &Path) -> io::Result<File> {
        self.dir.open_file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o600)
    }

    fn make_directories(&self, paths: &[PathBuf]) -> Result<(), WorkspaceError> {
        for path in paths {
            self.dir.make_new(path, 0o700).map_err(WorkspaceError::io("make the directory", path))?;
        }
        Ok(())
    }

    /// Removes the run's residue: the abra tree, home and temporary directory. Symlinks go, what they name stays.
    /// The record of the run stays too. Idempotent; blocks.
    pub fn remove_tree(&self) -> Result<(), WorkspaceError> {
        // All are tried, the first failure is told.
        let mut first = Ok(());
        for name in RESIDUE {
            let path = self.root.join(name);
            let removed = self.dir.remove(Path::new(name), &|| false).map_err(io::Error::from);
            first = first.and(removed.map_err(WorkspaceError::io("remove", &path)));
        }
        first
    }

    /// Removes the whole directory, its record too. Blocks, until `stop` says so.
    pub fn discard(self, stop: &dyn Fn() -> bool) -> Result<(), WorkspaceError> {
        let fail = |error| WorkspaceError::io("remove", &self.root)(error);
        let name = Path::new(self.id.as_str());
        for _ in 0..=REFILLS {
            // By its descriptor: the path may name something else by now, which is not ours.
            self.dir.clear(stop).map_err(|error| fail(error.into()))?;
            if !self.dir.is_at(&self.runs, name).map_err(fail)?
                || self.runs.remove_empty(name).map_err(fail)?
            {
                return Ok(());
            }
        }
        Err(fail(io::ErrorKind::DirectoryNotEmpty.into()))
    }

    /// Fills a directory that was just made.
    pub(super) fn populate(&self) -> Result<(), WorkspaceError> {
        let names = ["abra", "abra/recipes", "home", "tmp", "tmp/runtime", "logs", "state"];
        self.make_directories(&names.map(|name| self.root.join(name)))?;
        let Some(canonical) = self.canonical() else { return Ok(()) };
        let (servers, link) = (canonical.join("servers"), self.abra_dir().join("servers"));
        expect_directory(&servers)?;
        self.dir.link(&servers, &link).map_err(WorkspaceError::io("make the symlink", &link))?;
        self.give_catalogue(&self.abra_dir())?;
        self.check()
    }
}

/// The variables that name somebody's home and temporary directory, and what programs keep there.
pub(crate) fn home_environment(home: &Path, tmp: &Path) -> Vec<(OsString, OsString)> {
    [
        ("HOME", home.to_owned()),
        ("TMPDIR", tmp.to_owned()),
        ("DOCKER_CONFIG", home.join(".docker")),
        ("XDG_CONFIG_HOME", home.join(".config")),
        ("XDG_CACHE_HOME", home.join(".cache")),
        ("XDG_DATA_HOME", home.join(".local/share")),
        ("XDG_STATE_HOME", home.join(".local/state")),
        ("XDG_RUNTIME_DIR", tmp.join("runtime")),
    ]
    .into_iter()
    .map(|(name, path)| (name.into(), path.into()))
    .collect()
}

/// Whether something is there, readable or not: what can't be looked at is not called gone.
fn present(path: &Path) -> bool {
    !matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
}
