//! From what a child may see to a call of bubblewrap, and what has to happen before that is executed.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::net::{SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::{getgid, getuid, pipe2};
use rustix::fs::{FileType, MemfdFlags, Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

use super::status::Status;
use super::{Access, Mount, Network, Sandbox, TRUSTED, Target, filter};
use crate::lifetime::exec::{BirthGroup, Entry, Handed, OwnNetwork};
use crate::names::Domain;
use crate::sys::cgroups::Place;
use crate::sys::files::give_to;

/// Who it is in the sandbox.
const USER: u32 = 1000;
/// Private file systems in memory, and what may be written to each. How many files are there [`super::disk`] bounds.
pub(super) const PRIVATE: [(&str, &str); 4] =
    [("/dev/shm", "268435456"), ("/tmp", "536870912"), ("/var/tmp", "536870912"), ("/run", "536870912")];
/// How large a file of a child's may get.
const FILE_LIMIT: u64 = 1 << 30;
/// How many processes and threads a child may have.
const PROCESS_LIMIT: u64 = 1024;

/// What of `/etc` programs need: nothing in it is a secret of the host's. Files are copied, which costs less than a mount.
const ETC_FILES: &[&str] = &[
    "gai.conf",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "mime.types",
    "os-release",
    "protocols",
    "services",
    "ssl/openssl.cnf",
    "timezone",
];
const ETC_DIRECTORIES: &[&str] = &[
    "alternatives",
    // Without it, Debian's browser does not start.
    "chromium.d",
    "crypto-policies",
    "fonts",
    "java",
    "ld.so.conf.d",
    "pki/ca-trust",
    "pki/tls/certs",
    "python3",
    "ssl/certs",
];
/// Where Debian and those who follow it have whom their programs trust.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// No file of those is larger.
const ETC_LIMIT: u64 = 4 << 20;

/// A call of bubblewrap, ready to be started.
pub(in crate::lifetime) struct Prepared {
    /// bubblewrap.
    pub program: PathBuf,
    /// Its arguments, the child's program and arguments at their end.
    pub args: Vec<OsString>,
    /// What happens in the child before it is executed.
    pub entry: Entry,
    /// What it says.
    pub status: Status,
    /// Its standard input, where its program has a [`GATE`].
    pub gate: Option<OwnedFd>,
    /// Where the listeners of the sandbox's own network come from, and where each leads.
    pub listeners: Option<(OwnedFd, Vec<Target>)>,
    /// Where the child's pid comes from, where it is not the process that is started first.
    pub pid: Option<OwnedFd>,
}

/// What the program of a sandbox that dies with cc-ci begins with: a word to cc-ci through its standard input, a pipe that it
/// writes to; where nobody has the other end, it ends. By then the first process has asked for the death of what started it, but
/// not looked whether that one was dead already.
const GATE: &str = "echo >&0 || exit 125; exec \"$@\" </dev/null";

/// Prepares what starts `program` with `args` and `variables` in `cwd` in a sandbox. It works on `domain`, where that is known.
pub(in crate::lifetime) fn prepare(
    sandbox: &Sandbox,
    domain: Option<&Domain>,
    program: &OsStr,
    args: &[OsString],
    variables: &BTreeMap<OsString, OsString>,
    cwd: &Path,
) -> io::Result<Prepared> {
    let mut call = Call::default();
    let (status, report) = pipe2(OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&status, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    for option in ["user", "pid", "ipc", "uts", "cgroup"] {
        call.add([format!("--unshare-{option}")]);
    }
    call.add(["--disable-userns", "--hostname", "sandbox"]);
    let user = USER.to_string();
    call.add(["--uid", &user, "--gid", &user]);
    // What outlives cc-ci has nobody to tell, and is in a session of its own.
    if !sandbox.persistent {
        call.add(["--new-session", "--die-with-parent"]);
        call.give("--json-status-fd", report);
    }
    for program in filter::programs()? {
        call.give("--add-seccomp-fd", memory("filter", program)?);
    }
    host(&mut call, sandbox)?;
    let mut handed = Vec::new();
    for mount in &sandbox.mounts {
        let source = match sandbox.user.id() {
            Some(user) => hand_over(mount, user, &mut handed)?,
            None => mount.path.clone(),
        };
        let option = if mount.access == Access::Write { "--bind" } else { "--ro-bind" };
        call.add([OsStr::new(option), source.as_os_str(), mount.path.as_os_str()]);
    }
    // What bubblewrap made to mount upon is nobody's to write.
    call.add(["--remount-ro", "/dev", "--remount-ro", "/"]);
    call.add([OsStr::new("--chdir"), cwd.as_os_str()]);
    // Not bubblewrap's own environment: what a recipe writes there a dynamic linker would obey before there is a sandbox. And not its
    // arguments, which everybody on the host can read.
    let mut environment = b"--clearenv\0".to_vec();
    for (name, value) in variables {
        for part in [OsStr::new("--setenv"), name, value] {
            if part.as_encoded_bytes().contains(&0) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a variable has a NUL in it"));
            }
            environment.extend_from_slice(part.as_encoded_bytes());
            environment.push(0);
        }
    }
    call.give("--args", memory("environment", &environment)?);
    let (gate_reader, gate) = pipe2(OFlag::O_CLOEXEC)?;
    call.add(["--"]);
    if !sandbox.persistent {
        call.add(["/bin/sh", "-c", GATE, "sh"]);
    }
    call.add([program]);
    call.args.extend_from_slice(args);
    let (network, listeners) = own_network(&sandbox.network)?;
    let (mut group, mut pid, mut birth) = (None, None, None);
    if let (true, Some(domain), Ok(place)) = (sandbox.bounded, domain, Place::find()) {
        let (reader, report) = pipe2(OFlag::O_CLOEXEC)?;
        let made = place.make(domain)?;
        birth = Some(BirthGroup { directory: made.directory().try_clone_to_owned()?, report });
        (group, pid) = (Some(made), Some(reader));
    }
    let entry = Entry {
        group: birth,
        user: sandbox.user.id(),
        maps: [getuid().as_raw(), getgid().as_raw()].map(|id| format!("{id} {id} 1").into_bytes()),
        network,
        handed,
        kept: call.kept,
        limits: [
            (libc::RLIMIT_NPROC, PROCESS_LIMIT),
            (libc::RLIMIT_FSIZE, FILE_LIMIT),
            (libc::RLIMIT_CORE, 0),
            (libc::RLIMIT_MSGQUEUE, 0),
        ],
    };
    Ok(Prepared {
        program: sandbox.bubblewrap.clone(),
        args: call.args,
        entry,
        status: Status::new(File::from(status), gate_reader, group),
        gate: (!sandbox.persistent).then_some(gate),
        listeners,
        pid,
    })
}

/// The arguments, and the descriptors that they name.
#[derive(Default)]
struct Call {
    args: Vec<OsString>,
    kept: Vec<OwnedFd>,
}

impl Call {
    fn add(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
    }

    /// Adds an option with a descriptor.
    fn give(&mut self, option: &str, descriptor: OwnedFd) {
        self.add([option, &descriptor.as_raw_fd().to_string()]);
        self.kept.push(descriptor);
    }

    /// Adds a file that has this content.
    fn file(&mut self, path: &str, content: &str) -> io::Result<()> {
        self.add(["--perms", "0444"]);
        self.give("--file", memory("file", content.as_bytes())?);
        self.add([path]);
        Ok(())
    }
}

/// What every sandbox shows of the host, and what it has of its own.
fn host(call: &mut Call, sandbox: &Sandbox) -> io::Result<()> {
    call.add(["--ro-bind", "/usr", "/usr"]);
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let path = Path::new("/").join(name);
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => {
                let target = std::fs::read_link(&path)?;
                call.add([OsStr::new("--symlink"), target.as_os_str(), path.as_os_str()]);
            }
            Ok(metadata) if metadata.is_dir() => {
                call.add([OsStr::new("--ro-bind"), path.as_os_str(), path.as_os_str()]);
            }
            _ => {}
        }
    }
    // The first process is bubblewrap's, and the same user's: through its memory it would be whoever writes there.
    call.add(["--proc", "/proc", "--tmpfs", "/proc/1", "--remount-ro", "/proc/1", "--dev", "/dev"]);
    for (path, size) in PRIVATE {
        call.add(["--perms", "1777", "--size", size, "--tmpfs", path]);
    }
    for name in ETC_DIRECTORIES {
        let path = Path::new("/etc").join(name);
        if path.is_dir() {
            call.add([OsStr::new("--ro-bind"), path.as_os_str(), path.as_os_str()]);
        }
    }
    for name in ETC_FILES {
        let path = Path::new("/etc").join(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let Ok(file) = rustix::fs::open(&path, flags, Mode::empty()) else { continue };
        let found = rustix::fs::fstat(&file)?;
        let is_small = u64::try_from(found.st_size).is_ok_and(|size| size <= ETC_LIMIT);
        if FileType::from_raw_mode(found.st_mode).is_file() && is_small {
            call.add(["--perms", "0444"]);
            call.give("--file", file);
            call.add([path]);
        }
    }
    if let Some(trusted) = &sandbox.trusted {
        call.file(TRUSTED, trusted)?;
        // Over a link there would be nothing to mount upon.
        if Path::new(BUNDLE).symlink_metadata().is_ok_and(|found| found.is_file()) {
            call.give("--ro-bind-data", memory("bundle", trusted.as_bytes())?);
            call.add([BUNDLE]);
        }
    }
    call.file(
        "/etc/passwd",
        "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nci:x:1000:1000:ci:/tmp:/bin/sh\n",
    )?;
    call.file("/etc/group", "root:x:0:\nci:x:1000:\n")?;
    call.file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")?;
    let mut hosts = "127.0.0.1 localhost sandbox\n::1 localhost\n".to_owned();
    for (name, address) in &sandbox.names {
        hosts.extend([&address.to_string(), " ", name, "\n"]);
    }
    call.file("/etc/hosts", &hosts)?;
    if matches!(sandbox.network, Network::Host) {
        call.add(["--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf"]);
    } else {
        // Nobody is asked for names that nobody knows.
        call.file("/etc/resolv.conf", "")?;
    }
    Ok(())
}

/// Clones `mount` by its descriptor, for a user who could not reach it, and gives it to that user where it is to be theirs.
/// Returns where it will be.
fn hand_over(mount: &Mount, user: u32, handed: &mut Vec<Handed>) -> io::Result<PathBuf> {
    let path = &mount.path;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| at(path, errno))?;
    let is_directory = FileType::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode).is_dir();
    if mount.access != Access::Read {
        give_to(path, user, false)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    let tree =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(&opened, "", tree | OpenTreeFlags::AT_RECURSIVE)
        .map_err(|errno| at(path, errno))?;
    let to = format!("/tmp/{}", handed.len());
    handed.push(Handed { tree, to: CString::new(to.as_str())?, is_directory });
    Ok(to.into())
}

fn at(path: &Path, errno: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The network that the child makes for itself, and where its listeners come from.
#[expect(clippy::type_complexity, reason = "both are one pair's ends")]
fn own_network(network: &Network) -> io::Result<(Option<OwnNetwork>, Option<(OwnedFd, Vec<Target>)>)> {
    let Network::Own(forwards) = network else { return Ok((None, None)) };
    if forwards.len() > OwnNetwork::MOST {
        return Err(io::Error::other("a sandbox has too many addresses"));
    }
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let listen: Vec<SocketAddrV4> = forwards.iter().map(|forward| forward.inside).collect();
    let leads = forwards.iter().map(|forward| forward.to.clone()).collect();
    Ok((Some(OwnNetwork { listen, pass: theirs }), Some((ours, leads))))
}

/// Takes the listeners that a started child has passed.
pub(in crate::lifetime) fn listeners(
    from: &OwnedFd,
    leads: Vec<Target>,
) -> io::Result<Vec<(TcpListener, Target)>> {
    if leads.is_empty() {
        return Ok(Vec::new());
    }
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(OwnNetwork::MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(
        from,
        &mut [io::IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    let mut listeners = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            listeners.extend(descriptors.map(TcpListener::from));
        }
    }
    if listeners.len() != leads.len() {
        return Err(io::Error::other("the sandbox has not all of its addresses"));
    }
    Ok(listeners.into_iter().zip(leads).collect())
}

/// A file in memory, to be read from its begin.
fn memory(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}
