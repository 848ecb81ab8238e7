//! The one seam for what this host says of itself: boot, machine, clock. Only test binaries replace it.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use jiff::Timestamp;
use nix::unistd::{AccessFlags, eaccess};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kernel's id of one boot. Processes and locks of another boot are gone by definition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct BootId(String);

impl BootId {
    /// A boot id from its text, as the kernel or a record spells it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The boot that runs now.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn current() -> io::Result<Self> {
        static CURRENT: OnceLock<BootId> = OnceLock::new();
        if let Some(known) = CURRENT.get() {
            return Ok(known.clone());
        }
        let read = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(CURRENT.get_or_init(|| Self(read.trim().to_owned())).clone())
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Facts of the host and its clock.
pub trait SystemInfo: fmt::Debug + Send + Sync {
    /// The boot that runs now.
    fn boot_id(&self) -> BootId;
    /// The machine, as `/etc/machine-id` says; empty where it has none.
    fn machine_id(&self) -> String;
    /// The host's name, for people.
    fn hostname(&self) -> String;
    /// The wall clock, for stamps and ages; never for deadlines.
    fn now(&self) -> Timestamp;
}

/// The real host.
#[derive(Debug, Clone)]
pub struct KernelSystemInfo {
    boot_id: BootId,
}

impl KernelSystemInfo {
    /// Reads the facts that can fail.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn new() -> io::Result<Self> {
        Ok(Self { boot_id: BootId::current()? })
    }
}

impl SystemInfo for KernelSystemInfo {
    fn boot_id(&self) -> BootId {
        self.boot_id.clone()
    }

    fn machine_id(&self) -> String {
        fs::read_to_string("/etc/machine-id").map(|id| id.trim().to_owned()).unwrap_or_default()
    }

    fn hostname(&self) -> String {
        fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// What this user may still write on the file system of `path`, in bytes. Blocks: for ever, where that is a network's
/// that is gone.
///
/// # Errors
/// When it can't be asked.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The memory that the kernel can give without swapping, in bytes. Blocks.
///
/// # Errors
/// When it can't be asked.
pub fn available_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim_end().parse::<u64>().ok());
    kibibytes.map(|count| count.saturating_mul(1024)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether this user may make and remove files in the directory `path`.
///
/// # Errors
/// When not, or when it can't be asked: why.
pub fn may_write(path: &Path) -> io::Result<()> {
    Ok(eaccess(path, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// Whether the file system of `path` is mounted so that nothing is executed from it.
///
/// # Errors
/// When it can't be asked.
pub fn is_noexec(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statvfs(path)?.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
