//! What happens between fork and exec, and the few system calls around signals that no safe wrapper covers.
//!
//! All `unsafe` of the library is here. Between fork and exec only async-signal-safe calls are made: no
//! allocation, no lock, no Rust error with a payload.
#![expect(unsafe_code, reason = "pre_exec and real-time signals have no safe interface")]

use std::ffi::{CStr, CString};
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use nix::sys::signal::SigSet;

/// Prepares `command` to die with this process, in a group of its own, with nothing inherited. With `terminal` its
/// group takes the place of ours on the terminal that is its standard input. With `entry` it enters what a sandbox needs: where
/// that has a control group, the child is another process than the one that `command` starts, which ends at once.
pub(super) fn supervised(command: &mut Command, terminal: bool, umask: bool, entry: Option<Entry>) {
    let (owner, group) = (nix::unistd::getpid().as_raw(), nix::unistd::getpgrp().as_raw());
    command.process_group(0);
    let before_exec = move || {
        if let Some(group) = entry.as_ref().and_then(|entry| entry.group.as_ref()) {
            group.start_in()?;
        }
        if terminal {
            // Before the mask is emptied: the spawner blocks TTOU, with which a background group would be stopped here.
            // A terminal that is gone, or another group's, leaves the child in the background.
            // SAFETY: plain system calls on integers.
            unsafe {
                if libc::tcgetpgrp(0) == group {
                    libc::tcsetpgrp(0, libc::getpid());
                }
            }
        }
        clean_signals()?;
        if umask {
            plain_umask();
        }
        // Becoming another user loses the death signal: it is asked for afterwards.
        if let Some(entry) = &entry {
            entry.enter()?;
        }
        // SAFETY: plain system calls on integers.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // The death signal only counts from now on: an owner that died before it is seen here.
            if libc::getppid() != owner {
                libc::_exit(127);
            }
        }
        no_inherited_descriptors()?;
        entry.as_ref().map_or(Ok(()), Entry::keep_descriptors)
    };
    // SAFETY: the closure makes async-signal-safe calls only.
    unsafe { command.pre_exec(before_exec) };
}

/// The pipes between a detached process and the one that records it.
pub(super) struct Handshake {
    /// The process writes its pid here.
    pub(super) report: OwnedFd,
    /// It executes its program when a byte comes from here, and exits at the end of file.
    pub(super) go: OwnedFd,
    /// The other end of `go`, as a number: the process closes its copy, else it would wait for itself.
    pub(super) go_writer: RawFd,
}

/// Prepares `command` to leave this process: a second fork, a session of its own, no death signal. It waits for
/// the word of `handshake` before it executes its program.
pub(super) fn detached(command: &mut Command, handshake: Handshake, entry: Option<Entry>) {
    let before_exec = move || {
        clean_signals()?;
        plain_umask();
        // SAFETY: `fork` is called in a process with one thread, the forked one; the rest are plain system calls
        // on integers and on buffers of this frame.
        unsafe {
            match check(libc::fork())? {
                0 => {}
                _ => libc::_exit(0),
            }
            check(libc::setsid())?;
            libc::close(handshake.go_writer);
            let pid = libc::getpid().to_ne_bytes();
            if libc::write(handshake.report.as_raw_fd(), pid.as_ptr().cast(), pid.len())
                != pid.len().cast_signed()
            {
                libc::_exit(127);
            }
            let mut word = [0u8; 1];
            let came = loop {
                let came = libc::read(handshake.go.as_raw_fd(), word.as_mut_ptr().cast(), 1);
                if came != -1 || *libc::__errno_location() != libc::EINTR {
                    break came;
                }
            };
            if came != 1 {
                libc::_exit(127);
            }
        }
        if let Some(entry) = &entry {
            entry.enter()?;
        }
        no_inherited_descriptors()?;
        entry.as_ref().map_or(Ok(()), Entry::keep_descriptors)
    };
    // SAFETY: the closure makes async-signal-safe calls only.
    unsafe { command.pre_exec(before_exec) };
}

/// What a child that is to be confined does before it executes the program that confines it.
#[derive(Debug)]
pub(super) struct Entry {
    /// What it is born into.
    pub(super) group: Option<BirthGroup>,
    /// Whom it becomes, where it is root.
    pub(super) user: Option<u32>,
    /// Where it is not: its user and group, as the map of a user namespace has them.
    pub(super) maps: [Vec<u8>; 2],
    /// A network that is its own.
    pub(super) network: Option<OwnNetwork>,
    /// What it takes along as another user: mounted beneath a `/tmp` of its own.
    pub(super) handed: Vec<Handed>,
    /// The descriptors that the program is to have.
    pub(super) kept: Vec<OwnedFd>,
    /// What it may use, by resource.
    pub(super) limits: [(libc::__rlimit_resource_t, u64); 4],
}

/// A control group for a child to start in: the kernel takes 10 ms and more to move one that is there.
#[derive(Debug)]
pub(super) struct BirthGroup {
    /// The group's directory.
    pub(super) directory: OwnedFd,
    /// The child writes its pid here.
    pub(super) report: OwnedFd,
}

/// A network of one's own: a loopback, and who listens there.
#[derive(Debug)]
pub(super) struct OwnNetwork {
    /// The addresses that are listened at.
    pub(super) listen: Vec<SocketAddrV4>,
    /// Takes the listeners, in one message.
    pub(super) pass: OwnedFd,
}

/// A mount that is nowhere yet, and where it goes.
#[derive(Debug)]
pub(super) struct Handed {
    /// The mount.
    pub(super) tree: OwnedFd,
    /// Its place.
    pub(super) to: CString,
    /// Whether it is a directory.
    pub(super) is_directory: bool,
}

/// libc's own does not fit into its type.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

impl BirthGroup {
    /// Starts a child of our parent's in the group, in our place.
    fn start_in(&self) -> io::Result<()> {
        // SAFETY: a structure of integers.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        // Without a signal of its own: it has that of its sibling, us.
        args.flags = CLONE_INTO_CGROUP | u64::from(libc::CLONE_PARENT.unsigned_abs());
        args.cgroup = u64::from(self.directory.as_raw_fd().cast_unsigned());
        // SAFETY: as a fork in a process with one thread, the forked one; the rest are plain system calls on integers and on a
        // buffer of this frame.
        unsafe {
            match libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) {
                -1 => return Err(io::Error::last_os_error()),
                0 => {}
                _ => libc::_exit(0),
            }
            let pid = libc::getpid().to_ne_bytes();
            let written = libc::write(self.report.as_raw_fd(), pid.as_ptr().cast(), pid.len());
            if written != pid.len().cast_signed() {
                libc::_exit(127);
            }
            check(libc::setpgid(0, 0)).map(drop)
        }
    }
}

impl Entry {
    /// Enters all but what closes descriptors.
    fn enter(&self) -> io::Result<()> {
        let own = if self.network.is_some() { libc::CLONE_NEWNET } else { 0 };
        // SAFETY: plain system calls on integers, on strings that end with 0, and on buffers of this frame.
        unsafe {
            if self.user.is_some() {
                check(libc::unshare(libc::CLONE_NEWNS | own))?;
            } else {
                // Always one of its own: the kernel counts a user's processes for each.
                check(libc::unshare(libc::CLONE_NEWUSER | own))?;
                write_file(c"/proc/self/setgroups", b"deny")?;
                write_file(c"/proc/self/uid_map", &self.maps[0])?;
                write_file(c"/proc/self/gid_map", &self.maps[1])?;
            }
            if let Some(network) = &self.network {
                network.begin()?;
            }
            if self.user.is_some() {
                self.take_along()?;
            }
            for (resource, most) in self.limits {
                let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
                check(libc::setrlimit(resource, &raw const limit))?;
            }
            if let Some(user) = self.user {
                // Past libc, which would tell threads that this process does not have.
                check_call(libc::syscall(libc::SYS_setgroups, 0usize, std::ptr::null::<libc::gid_t>()))?;
                check_call(libc::syscall(libc::SYS_setresgid, user, user, user))?;
                check_call(libc::syscall(libc::SYS_setresuid, user, user, user))?;
            }
        }
        Ok(())
    }

    /// Mounts what is taken along beneath a `/tmp` that nobody else sees.
    ///
    /// # Safety
    /// Between fork and exec, as root in a mount namespace of its own.
    unsafe fn take_along(&self) -> io::Result<()> {
        let none = std::ptr::null();
        // SAFETY: system calls on strings that end with 0.
        unsafe {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            check(libc::mount(none, c"/".as_ptr(), none, private, std::ptr::null()))?;
            let (tmpfs, flags) = (c"tmpfs".as_ptr(), libc::MS_NOSUID | libc::MS_NODEV);
            let options = c"mode=0755,size=1m".as_ptr().cast();
            check(libc::mount(tmpfs, c"/tmp".as_ptr(), tmpfs, flags, options))?;
            for Handed { tree, to, is_directory } in &self.handed {
                if *is_directory {
                    check(libc::mkdir(to.as_ptr(), 0o755))?;
                } else {
                    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_CLOEXEC;
                    libc::close(check(libc::open(to.as_ptr(), flags, 0o644))?);
                }
                let (from, empty) = (tree.as_raw_fd(), c"".as_ptr());
                check_call(libc::syscall(
                    libc::SYS_move_mount,
                    from,
                    empty,
                    libc::AT_FDCWD,
                    to.as_ptr(),
                    libc::MOVE_MOUNT_F_EMPTY_PATH,
                ))?;
            }
        }
        Ok(())
    }

    /// Lets the program have its descriptors.
    fn keep_descriptors(&self) -> io::Result<()> {
        for descriptor in &self.kept {
            // SAFETY: a system call on integers.
            check(unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, 0) })?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is 2")]
const INET: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
#[expect(clippy::cast_possible_truncation, reason = "it is 16")]
const SOCKADDR_SIZE: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

impl OwnNetwork {
    /// So many listeners at the most.
    pub(super) const MOST: usize = 64;

    /// Brings the loopback up, listens, and passes the listeners on.
    ///
    /// # Safety
    /// Between fork and exec, in a network namespace of its own.
    unsafe fn begin(&self) -> io::Result<()> {
        // SAFETY: system calls on integers and on buffers of this frame, whose sizes they are told.
        unsafe {
            let any = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
            let mut request: libc::ifreq = std::mem::zeroed();
            request.ifr_name[0] = b'l'.cast_signed();
            request.ifr_name[1] = b'o'.cast_signed();
            request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
            check(libc::ioctl(any, libc::SIOCSIFFLAGS, &raw const request))?;
            libc::close(any);
            if self.listen.is_empty() {
                return Ok(());
            }
            let mut listeners = [-1; Self::MOST];
            let mut count = 0;
            for (address, listener) in self.listen.iter().zip(&mut listeners) {
                *listener = check(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?;
                let mut name: libc::sockaddr_in = std::mem::zeroed();
                name.sin_family = INET;
                name.sin_port = address.port().to_be();
                name.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
                let size = SOCKADDR_SIZE;
                check(libc::bind(*listener, (&raw const name).cast(), size))?;
                check(libc::listen(*listener, 128))?;
                count += 1;
            }
            self.send(&listeners[..count])?;
            for listener in &listeners[..count] {
                libc::close(*listener);
            }
        }
        Ok(())
    }

    /// Sends the descriptors with one byte.
    ///
    /// # Safety
    /// `listeners` are open, and as many as there may be.
    unsafe fn send(&self, listeners: &[RawFd]) -> io::Result<()> {
        let mut byte = [0u8; 1];
        let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        // Aligned as the kernel's header is.
        let mut control = [0u64; 40];
        // SAFETY: the header and the descriptors fit into `control`: `CMSG_SPACE` of 64 numbers is 272 bytes.
        unsafe {
            let length = u32::try_from(size_of_val(listeners)).unwrap_or(0);
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(length) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(length) as _;
            std::ptr::copy_nonoverlapping(
                listeners.as_ptr().cast::<u8>(),
                libc::CMSG_DATA(header),
                size_of_val(listeners),
            );
            let sent = libc::sendmsg(self.pass.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL);
            if sent == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
        }
    }
}

/// # Safety
/// Between fork and exec.
unsafe fn write_file(path: &CStr, content: &[u8]) -> io::Result<()> {
    // SAFETY: system calls on a string that ends with 0, and on a buffer whose size they are told.
    unsafe {
        let file = check(libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC))?;
        let written = libc::write(file, content.as_ptr().cast(), content.len());
        let error = io::Error::last_os_error();
        libc::close(file);
        if written == -1 { Err(error) } else { Ok(()) }
    }
}

/// What a child writes is readable for others where the directory lets them: the caller's own mask says what *its* files
/// are, and may be anything.
fn plain_umask() {
    // SAFETY: a system call on an integer that can't fail.
    unsafe { libc::umask(0o022) };
}

/// A set of signals, real-time ones too.
pub(super) fn signal_set(signals: &[i32]) -> SigSet {
    // SAFETY: sigemptyset initialises the set before anything reads it; sigaddset refuses numbers that are no
    // signals and then changes nothing.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        SigSet::from_sigset_t_unchecked(set)
    }
}

/// Asks for `signal` when the parent's thread that started us ends; 0 asks for none.
pub(super) fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    // SAFETY: a system call on integers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }).map(drop)
}

/// Undoes an ignored SIGCHLD that came with exec: children would vanish unwaited, and their ids with them.
pub(super) fn default_sigchld() -> io::Result<()> {
    // SAFETY: the default action replaces whatever was there; no handler of ours is involved.
    let before = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Default dispositions and an empty mask: both survive exec, and `sleep` would ignore TERM.
fn clean_signals() -> io::Result<()> {
    // The kernel's own structure in its default: no handler, no flags, no mask; with room to spare.
    let default = [0u64; 8];
    // SAFETY: async-signal-safe calls. Past libc, whose wrapper refuses the two signals that it keeps for itself,
    // and they may come ignored from outside as well. KILL and STOP are refused, harmlessly.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            let old = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, size_of::<u64>());
        }
        let mut empty = std::mem::zeroed();
        libc::sigemptyset(&raw mut empty);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut())).map(drop)
    }
}

/// Marks everything but the standard streams close-on-exec, whoever opened it.
fn no_inherited_descriptors() -> io::Result<()> {
    // SAFETY: a system call on integers; it closes nothing yet, so no owner loses its descriptor.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn check(result: i32) -> io::Result<i32> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_call(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
