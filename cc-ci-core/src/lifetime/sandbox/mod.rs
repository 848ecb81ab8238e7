//! Confined children: what a pull request brought sees its own files and its app, and nothing else (I15).
//!
//! A [`Sandbox`] names what a child may see; [`bubblewrap`](https://github.com/containers/bubblewrap) makes it. The file
//! system is an allow-list: the host's programs (`/usr`) and some named files of `/etc`, both read-only, private `/tmp`,
//! `/run`, `/dev/shm` and `/proc`, and the paths that the sandbox names. User, pid, mount, ipc, uts and cgroup namespaces are
//! its own, and, unless it is to have the host's, the network. It can make no namespaces of its own, gains no privileges, and a filter of
//! system calls keeps it from parts of the kernel that no test of an app needs.
//!
//! Where cc-ci is root, the kernel sees another user: one for each run, which no file of the host belongs to. Such a user can't reach
//! directories of root's, so what the sandbox names is cloned as mounts by descriptor, by root, and handed over beneath a private `/tmp`,
//! before the child becomes that user.
//!
//! The first process of the pid namespace is bubblewrap's. When it dies, the kernel kills all others, whatever they
//! called themselves and whatever group or session they went to. It dies with the child's leader, which dies with cc-ci. It
//! asks for that late and does not look whether it is too late: so the program begins only where cc-ci is there to hear it
//! (`GATE`).
//!
//! # Limitations
//! Memory and processor time are bounded where there is a control group for it, and not elsewhere; what it writes is looked at now
//! and then. With the host's network, abstract sockets and the ports of the host's loopback can be reached. Where bubblewrap is
//! killed while it makes a sandbox, and cc-ci with it, the first process may stay, with nothing of the recipe's in it: the next
//! owner of the domain finds its mark.

mod bubblewrap;
mod disk;
mod filter;
mod forward;
mod status;

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::unistd::{geteuid, getpid};

pub(super) use bubblewrap::{listeners, prepare};
pub(super) use disk::{BOUND_IN_WORDS, DiskWatch, until_over};
pub(super) use forward::{Forwards, Target};
pub(super) use status::{Status, kill_first};

use super::{Command, RunLifetime, RunLifetimeExt as _};
use crate::http::Gateway;
use crate::model::error_chain;
use crate::sys::blocking;
use crate::sys::cgroups::Place;
use crate::sys::files::give_to;
use crate::sys::process::{Marker, SANDBOX_USERS, SERVICE_USERS};
use crate::sys::programs;

/// The program that makes sandboxes.
const PROGRAM: &str = "bwrap";
/// What a sandbox around `true` may take: it takes milliseconds.
const PROBE_LIMIT: Duration = Duration::from_mins(1);
/// So many sandbox users has one process, one after the other: as many runs at once share none.
const SLOTS: u32 = 32;
/// More pids than a kernel gives.
const PIDS: u32 = 1 << 22;

/// Where a sandbox has the certificates of who says which others are good, where it is asked to [trust](Sandbox::trust) one.
pub const TRUSTED: &str = "/etc/ssl/cc-ci.pem";

/// This host can confine children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    bubblewrap: PathBuf,
    /// Whether what a child uses is bounded as a whole, by a control group.
    bounded: Result<(), String>,
}

impl Confinement {
    /// Looks whether this host can confine children, with the bubblewrap that is in `path`: by doing it once, with all that a
    /// sandbox has. `marker` says whose it is, should cc-ci be killed meanwhile.
    ///
    /// # Errors
    /// Why it can't.
    pub async fn probe(
        lifetime: &dyn RunLifetime,
        path: &OsStr,
        marker: Option<Marker>,
    ) -> Result<Self, NoConfinement> {
        let searched = path.to_owned();
        let mut confinement = blocking::run(move || {
            let bubblewrap =
                programs::find(OsStr::new(PROGRAM), &searched).map_err(|_| NoConfinement::NotInstalled)?;
            Ok(Self { bubblewrap, bounded: Place::find().map(drop).map_err(ToOwned::to_owned) })
        })
        .await?;
        let tried = confinement.try_out(lifetime, path, marker.clone()).await;
        match tried {
            // A group may be made, and nobody be started in it.
            Err(why) if confinement.bounded.is_ok() && lifetime.cancellation().cause().is_none() => {
                confinement.bounded = Err(why);
                confinement.try_out(lifetime, path, marker).await
            }
            tried => tried,
        }
        .map_err(NoConfinement::Failed)?;
        Ok(confinement)
    }

    async fn try_out(
        &self,
        lifetime: &dyn RunLifetime,
        path: &OsStr,
        marker: Option<Marker>,
    ) -> Result<(), String> {
        let find = || ["/usr/bin/true", "/bin/true"].into_iter().find(|program| Path::new(program).exists());
        let command = Command::new(blocking::run(find).await.unwrap_or("true"), "/")
            .env("PATH", path)
            .grace(Duration::ZERO)
            .sandbox(Sandbox::new(self, User::of(PROGRAM)));
        let command = marker.into_iter().fold(command, Command::marker);
        let mut last_line = String::new();
        let ended = lifetime.run(command, PROBE_LIMIT, &mut |line| last_line.clone_from(&line.text)).await;
        match ended {
            Ok(ended) if ended.success() => Ok(()),
            Ok(ended) => Err(format!("{ended}: {last_line}")),
            Err(error) => Err(error_chain(&error)),
        }
    }

    /// Why memory, processes and processor time of a child are not bounded as a whole, where they are not.
    pub fn unbounded(&self) -> Option<&str> {
        self.bounded.as_ref().err().map(String::as_str)
    }

    /// Whether a child has a share of the processor time of its own: not each host that bounds memory and processes has that.
    pub fn shares_processor(&self) -> bool {
        self.bounded.is_ok() && Place::find().is_ok_and(Place::has_cpu)
    }
}

/// Why a host can't confine children.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoConfinement {
    /// There is no bubblewrap.
    #[error("{PROGRAM} (bubblewrap) is not installed")]
    NotInstalled,
    /// There is one, and it makes no sandbox.
    #[error("a sandbox can't be made: {0}")]
    Failed(String),
}

/// Who a confined child is to the kernel.
///
/// An ordinary user can be nobody else: there it is cc-ci's own user, in a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User(Option<u32>);

impl User {
    /// One that no other run has, of this process or another: what bounds a user's processes bounds this run's alone.
    pub fn of_run() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let slot = NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS;
        let pid = getpid().as_raw().unsigned_abs() % PIDS;
        Self::as_root(SANDBOX_USERS.start + slot * PIDS + pid)
    }

    /// The one of what `name` names, the same each time: files that outlive a run stay its own.
    pub fn of(name: &str) -> Self {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(name);
        let number = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
        let users = SERVICE_USERS.end - SERVICE_USERS.start;
        Self::as_root(SERVICE_USERS.start + number % users)
    }

    fn as_root(user: u32) -> Self {
        Self(geteuid().is_root().then_some(user))
    }

    /// Gives it the directory `path` and all that is in it, where it is not cc-ci's own. Blocks.
    pub(crate) fn own(self, path: &Path) -> io::Result<()> {
        self.0.map_or(Ok(()), |user| give_to(path, user, true))
    }

    /// Its id, where it is not cc-ci's own.
    pub(crate) fn id(self) -> Option<u32> {
        self.0
    }
}

/// What a confined child may see, and whom it may reach.
#[derive(Debug, Clone)]
pub struct Sandbox {
    bubblewrap: PathBuf,
    user: User,
    mounts: Vec<Mount>,
    network: Network,
    names: Vec<(String, Ipv4Addr)>,
    trusted: Option<String>,
    persistent: bool,
    bounded: bool,
}

/// A path of the host that is at the same path in the sandbox.
#[derive(Debug, Clone)]
struct Mount {
    path: PathBuf,
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    /// Read, and its user's own: what is in it is for nobody else's eyes.
    Own,
    Write,
}

/// Whom a confined child may reach.
#[derive(Debug, Clone)]
enum Network {
    /// Itself, and what is forwarded.
    Own(Vec<Forward>),
    /// All that the host reaches.
    Host,
}

/// What is reached at an address of the sandbox's loopback.
#[derive(Debug, Clone)]
struct Forward {
    inside: SocketAddrV4,
    to: Target,
}

impl Sandbox {
    /// One with the host's programs, and a loopback where nobody is.
    pub fn new(confinement: &Confinement, user: User) -> Self {
        Self {
            bubblewrap: confinement.bubblewrap.clone(),
            user,
            mounts: Vec::new(),
            network: Network::Own(Vec::new()),
            names: Vec::new(),
            trusted: None,
            persistent: false,
            bounded: confinement.bounded.is_ok(),
        }
    }

    /// Shows `path`, an absolute one, for reading.
    pub fn read(self, path: impl Into<PathBuf>) -> Self {
        self.mount(path, Access::Read)
    }

    /// Shows `path` for reading, and gives it to the sandbox's user: it is for nobody else's eyes. What is in a directory is given
    /// with it.
    pub fn read_private(self, path: impl Into<PathBuf>) -> Self {
        self.mount(path, Access::Own)
    }

    /// Shows `path` for writing, and gives it to the sandbox's user, with what is in it.
    pub fn write(self, path: impl Into<PathBuf>) -> Self {
        self.mount(path, Access::Write)
    }

    fn mount(mut self, path: impl Into<PathBuf>, access: Access) -> Self {
        self.mounts.push(Mount { path: path.into(), access });
        self
    }

    /// Whoever connects to `inside`, an address of the sandbox's own loopback, reaches `to`: as long as cc-ci has the
    /// [`Child`](super::Child).
    pub fn forward(self, inside: SocketAddrV4, to: SocketAddr) -> Self {
        self.listen(inside, Target::Address(to))
    }

    /// Whoever connects to `inside` is served by `gateway`, as long.
    pub fn gateway(self, inside: SocketAddrV4, gateway: Arc<Gateway>) -> Self {
        self.listen(inside, Target::Gateway(gateway))
    }

    fn listen(mut self, inside: SocketAddrV4, to: Target) -> Self {
        if let Network::Own(forwards) = &mut self.network {
            forwards.push(Forward { inside, to });
        }
        self
    }

    /// Gives it the network of the host.
    pub fn host_network(mut self) -> Self {
        self.network = Network::Host;
        self
    }

    /// Lets `name` mean `address` in it.
    pub fn name(mut self, name: impl Into<String>, address: Ipv4Addr) -> Self {
        self.names.push((name.into(), address));
        self
    }

    /// Lets programs in it take those certificates for good that `authority` signed, itself one in PEM, and no others: it is at
    /// [`TRUSTED`], and in the place of the host's own bundle where most look for that.
    pub fn trust(mut self, authority: impl Into<String>) -> Self {
        self.trusted = Some(authority.into());
        self
    }

    /// What it may write to.
    pub(super) fn written(&self) -> Vec<PathBuf> {
        let written = self.mounts.iter().filter(|mount| mount.access == Access::Write);
        written.map(|mount| mount.path.clone()).collect()
    }

    /// Lets it outlive cc-ci: for what is started detached. A control group is of a process that removes it: this has none.
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self.bounded = false;
        self
    }
}
