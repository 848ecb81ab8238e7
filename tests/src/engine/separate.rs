//! What a private engine sees of the machine.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::inner::STATE;
use super::private::Failure;

/// What is the kernel's, or ours.
const WRITABLE: [&str; 7] = ["/proc", "/sys", "/dev", "/run", "/var/run", "/var/lib", "/etc"];
/// Where the engine's directory is, below its state.
const DIRECTORY: &str = "directory";
/// What an engine of the machine is told by, and the machine's own resolver.
const HIDDEN: [&str; 4] = ["docker", "containerd", "cni", "resolv.conf"];

/// Makes this process's mount and network namespaces ones where the host's engine can't be seen: its sockets, its
/// state, its configuration and `AppArmor`'s profiles are hidden. Nor can any file of the host be changed: all but
/// the kernel's own is read-only, for the daemon has places of its own choice (`/var/lib/docker/network`, whatever its
/// data root). All of this is gone with the namespaces' last process.
///
/// Only `base` can be written, through the descriptor that this returns: nobody else in the namespace has it.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn separate(base: &Path) -> Result<Base, Failure> {
    let opened = File::open(base)?;
    mount_at(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    own("/proc", "proc")?;
    // Still to be reached here, wherever it is.
    let base = Base(opened);
    own("/run", "tmpfs")?;
    for directory in ["base", DIRECTORY, "etc", "tmp"] {
        fs::create_dir_all(Path::new(STATE).join(directory))?;
    }
    let inside = Path::new(STATE).join("base");
    mount_at(Some(&base.path()), &inside, None, MsFlags::MS_BIND)?;
    let base = Base(File::open(&inside)?);
    for path in ["/var/run", "/var/lib", "/sys/kernel/security"] {
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            own(path, "tmpfs")?;
        }
    }
    own_etc()?;
    protect()?;
    let up = Command::new("busybox").args(["ip", "link", "set", "lo", "up"]).stdin(Stdio::null()).output();
    let up = up.map_err(|error| format!("can't start busybox: {error}"))?;
    if !up.status.success() {
        return Err(format!("can't set up lo: {}", String::from_utf8_lossy(&up.stderr).trim()).into());
    }
    Ok(base)
}

/// The directory that an engine's directory is in.
#[derive(Debug)]
pub(super) struct Base(File);

impl Base {
    /// Where this process finds it.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Where this process finds what is in it.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Shows one directory in it to everybody in the namespace, and hides the others; returns where.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn show(&self, name: &str) -> Result<PathBuf, Failure> {
        let state = Path::new(STATE);
        let place = state.join(DIRECTORY);
        mount_at(Some(&self.join(name)), &place, None, MsFlags::MS_BIND)?;
        // The descriptor keeps it.
        umount2(&state.join("base"), MntFlags::MNT_DETACH)?;
        Ok(place)
    }
}

/// Mounts a file system of our own over `path`.
fn own(path: &str, kind: &str) -> Result<(), Failure> {
    mount_at(Some(Path::new(kind)), Path::new(path), Some(kind), MsFlags::empty())
}

/// Mounts a disk of so many bytes at `path`: memory that goes with the namespace.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn disk(path: &Path, bytes: u64) -> Result<(), Failure> {
    fs::create_dir_all(path)?;
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(format!("size={bytes}").as_str()))
        .map_err(|error| format!("can't mount {}: {error}", path.display()).into())
}

fn mount_at(source: Option<&Path>, path: &Path, kind: Option<&str>, flags: MsFlags) -> Result<(), Failure> {
    mount(source, path, kind, flags, None::<&str>)
        .map_err(|error| format!("can't mount {}: {error}", path.display()).into())
}

/// An `/etc` with everything of the host's but what configures its engine.
fn own_etc() -> Result<(), Failure> {
    let host = Path::new(STATE).join("etc");
    mount_at(Some(Path::new("/etc")), &host, None, MsFlags::MS_BIND | MsFlags::MS_REC)?;
    own("/etc", "tmpfs")?;
    for entry in fs::read_dir(&host)? {
        let entry = entry?;
        if HIDDEN.iter().any(|hidden| entry.file_name() == *hidden) {
            continue;
        }
        // Where a link leads from `/etc`, it must lead on.
        let target =
            if entry.file_type()?.is_symlink() { fs::read_link(entry.path())? } else { entry.path() };
        symlink(target, Path::new("/etc").join(entry.file_name()))?;
    }
    Ok(())
}

/// Makes every file system of the host read-only for this namespace.
fn protect() -> Result<(), Failure> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    for line in table.lines() {
        let mut fields = line.split(' ').skip(4);
        let (Some(path), Some(options)) = (fields.next(), fields.next()) else {
            return Err(io::Error::other("the mount table can't be read").into());
        };
        let path = PathBuf::from(unescaped(path));
        let ours = |path: &Path| WRITABLE.iter().any(|writable| path.starts_with(writable));
        if ours(&path) && !path.starts_with(Path::new(STATE).join("etc")) {
            continue;
        }
        match mount(None::<&str>, &path, None::<&str>, read_only(options), None::<&str>) {
            // Hidden below another mount, or closed to root: nobody writes there either.
            Ok(()) | Err(Errno::EACCES | Errno::ENOENT | Errno::EINVAL | Errno::ENOTCONN | Errno::ESTALE) => {
            }
            Err(error) => return Err(format!("can't protect {}: {error}", path.display()).into()),
        }
    }
    Ok(())
}

/// The flags that make a mount read-only, and leave it else as it is.
fn read_only(options: &str) -> MsFlags {
    let keep = options.split(',').filter_map(|option| match option {
        "nosuid" => Some(MsFlags::MS_NOSUID),
        "nodev" => Some(MsFlags::MS_NODEV),
        "noexec" => Some(MsFlags::MS_NOEXEC),
        "noatime" => Some(MsFlags::MS_NOATIME),
        "nodiratime" => Some(MsFlags::MS_NODIRATIME),
        "relatime" => Some(MsFlags::MS_RELATIME),
        _ => None,
    });
    keep.fold(MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, |flags, flag| flags | flag)
}

/// A path of the mount table, where blanks and the like are octal.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (code, plain)| path.replace(code, plain))
}
