//! A way to the engine of another host by ssh: one ssh of one's own, which carries any number of connections to the socket there.
//!
//! It is the installed ssh, so that keys, known hosts and `~/.ssh/config` are the operator's, and it is a child of this process in
//! a lifetime of its own: it ends when the tunnel is dropped, and the kernel kills it with whoever has started it, however that
//! ends. Where it listens is a directory without a name, so no other user of this host comes near, and no file is left.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use cc_ci_core::event::Silent;
use cc_ci_core::files::HiddenDirectory;
use cc_ci_core::lifetime::{Bounds, Child, Command, EmbeddedMode, RunLifetime as _};
use cc_ci_core::sys::programs;
use cc_ci_core::{blocking, error_chain};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::backoff::Backoff;
use crate::ssh_host::SshHost;

/// What a tunnel may take at the most: less than a look at a node, so that this tells why there is none.
const LIMIT: Duration = Duration::from_secs(8);
/// So long after one could not be had, none is tried.
const PAUSE: Duration = Duration::from_secs(5);
/// The name of the socket that ssh listens on.
const SOCKET: &str = "s";
/// So many seconds without an answer, so often, and ssh gives the connection up.
const ALIVE: (u32, u32) = (5, 3);

/// What of ssh's own configuration does not count here. It asks nobody, believes no host that is not known, leaves everything
/// as it is, starts nothing that outlives it, and forwards what it is told to or ends.
const OPTIONS: [&str; 16] = [
    "AddKeysToAgent=no",
    "BatchMode=yes",
    "ConnectionAttempts=1",
    "ControlMaster=no",
    "ControlPath=none",
    "ControlPersist=no",
    "ExitOnForwardFailure=yes",
    "ForkAfterAuthentication=no",
    "LogLevel=INFO",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "StreamLocalBindMask=0177",
    "StreamLocalBindUnlink=no",
    "StrictHostKeyChecking=yes",
    "Tunnel=no",
    "UpdateHostKeys=no",
];

/// A tunnel to an engine's socket: opened when it is first needed, and anew when it has ended. Clones share it, and it ends with
/// the last of them.
#[derive(Clone)]
pub struct Tunnel(Arc<Shared>);

struct Shared {
    to: SshHost,
    /// The name of the program, and where it is looked for.
    ssh: (OsString, OsString),
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
enum State {
    #[default]
    Closed,
    Open(Arc<Ssh>),
    Failed(Instant, NoTunnel),
}

/// Why there is no tunnel, or no way through it: in ssh's own words, as they came.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub(crate) struct NoTunnel {
    why: String,
    /// What helps.
    pub hint: String,
    /// Whether it may be another a moment later.
    pub is_passing: bool,
}

impl Tunnel {
    /// One to the engine that `to` names, by the `ssh` in `PATH`.
    pub fn new(to: SshHost) -> Self {
        Self::by(to, "ssh".into(), programs::operator_path())
    }

    pub(crate) fn by(to: SshHost, program: OsString, path: OsString) -> Self {
        Self(Arc::new(Shared { to, ssh: (program, path), state: tokio::sync::Mutex::default() }))
    }

    /// A connection to the engine. A tunnel that is not there yet is waited for, for a part of `limit`, which the call has that
    /// wants it. Whoever gives the wait up ends the ssh that is being started.
    pub(crate) async fn connect(&self, limit: Duration) -> io::Result<Carried> {
        // One opens it, and the others wait.
        let mut state = self.0.state.lock().await;
        if let State::Open(ssh) = &*state {
            match ssh.connect().await {
                Ok(stream) => return Ok(Carried::new(stream, ssh.clone())),
                Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => return Err(error),
                // It has ended.
                Err(_) => tracing::debug!(to = %self, why = ?ssh.words().last, "a tunnel has ended"),
            }
        }
        if let State::Failed(at, why) = &*state
            && at.elapsed() < PAUSE
        {
            return Err(why.clone().into());
        }
        *state = State::Closed;
        match Ssh::start(&self.0, LIMIT.min(limit * 4 / 5)).await {
            Ok((ssh, stream)) => {
                let ssh = Arc::new(ssh);
                *state = State::Open(ssh.clone());
                Ok(Carried::new(stream, ssh))
            }
            Err(why) => {
                *state = State::Failed(Instant::now(), why.clone());
                Err(why.into())
            }
        }
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to.fmt(f)
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tunnel({self})")
    }
}

impl From<NoTunnel> for io::Error {
    fn from(why: NoTunnel) -> Self {
        Self::other(why)
    }
}

/// An ssh that listens, and leads to the socket at the other end.
#[derive(Debug)]
struct Ssh {
    to: SshHost,
    socket: OwnedFd,
    /// It does not need the runtime that it was started on: nobody reads from it but who asks what it told.
    child: Mutex<(Child, Words)>,
    /// With it ends the child.
    _lifetime: EmbeddedMode,
}

/// What an ssh told.
#[derive(Debug, Clone, Default)]
struct Words {
    last: Option<String>,
    /// That the other end refused a connection.
    refused: Option<String>,
}

impl Words {
    /// Takes what `child` has told by now.
    fn take(&mut self, child: &mut Child) {
        while let Some(line) = child.next_line_now() {
            let text = line.text.trim();
            if text.contains(": open failed: ") {
                self.refused = Some(text.to_owned());
            }
            if !text.is_empty() {
                self.last = Some(text.to_owned());
            }
        }
    }
}

impl Ssh {
    /// Starts one, and waits until it leads to the other end; gives the first connection, too.
    async fn start(shared: &Shared, limit: Duration) -> Result<(Self, UnixStream), NoTunnel> {
        let to = &shared.to;
        let until = Instant::now() + limit;
        let (name, path) = shared.ssh.clone();
        let failed = |doing: &str, error: io::Error| {
            NoTunnel::of(to, format!("can't {doing}: {}", error_chain(&error)))
        };
        let begun = blocking::run(move || {
            let program = programs::find(&name, &path).map_err(|error| ("find", error))?;
            let directory = HiddenDirectory::new("cc-ci-ssh-").map_err(|error| ("make room for", error))?;
            let bounds = Bounds { deadline: None, ..Bounds::default() };
            let lifetime =
                EmbeddedMode::new(bounds, Arc::new(Silent)).map_err(|error| ("watch over", error))?;
            Ok::<_, (&str, io::Error)>((program, directory, lifetime))
        });
        let (program, directory, lifetime) = begun.await.map_err(|(doing, error)| {
            if doing == "find" {
                NoTunnel::no_program(&error)
            } else {
                failed(&format!("{doing} ssh"), error)
            }
        })?;
        let command = command(program, &shared.ssh.1, to, &directory, limit);
        let spawned = lifetime.spawn(command).await;
        let mut child = spawned.map_err(|error| NoTunnel::of(to, error_chain(&error)))?;
        let mut words = Words::default();
        let listens = directory.path().join(SOCKET);
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(50));
        let stream = loop {
            let has_ended = child.has_ended();
            words.take(&mut child);
            if has_ended {
                return Err(NoTunnel::ended(to, words.last));
            }
            match UnixStream::connect(&listens).await {
                Ok(stream) => break stream,
                // Not there yet, or there and not listened at yet.
                Err(error) if is_early(&error) => {}
                Err(error) => return Err(failed("reach ssh", error)),
            }
            if Instant::now() >= until {
                let told = words.last.map(|last| format!(": {last}")).unwrap_or_default();
                return Err(NoTunnel::of(to, format!("ssh was not let in within {limit:?}{told}")));
            }
            backoff.wait(Duration::ZERO).await;
        };
        let socket = blocking::run(move || directory.hold(SOCKET.as_ref())).await;
        let socket = socket.map_err(|error| failed("keep the socket of ssh", error))?;
        let ssh = Self { to: to.clone(), socket, child: Mutex::new((child, words)), _lifetime: lifetime };
        Ok((ssh, stream))
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(format!("/proc/self/fd/{}", self.socket.as_raw_fd())).await
    }

    /// What it told by now. Whoever reads it keeps its pipe from being full.
    fn words(&self) -> Words {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let (child, words) = &mut *child;
        words.take(child);
        words.clone()
    }

    /// Why a connection was closed before anything came, where ssh is why.
    fn refusal(&self) -> Option<NoTunnel> {
        let has_ended = self.child.lock().unwrap_or_else(PoisonError::into_inner).0.has_ended();
        let words = self.words();
        match words.refused {
            _ if has_ended => Some(NoTunnel::ended(&self.to, words.last)),
            Some(refused) => Some(NoTunnel::refused(&self.to, &refused)),
            None => None,
        }
    }
}

/// Whether nobody listens yet.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// What is started: it gets nothing of the environment but what finds programs and the user's own directory.
fn command(
    program: PathBuf,
    path: &OsStr,
    to: &SshHost,
    directory: &HiddenDirectory,
    limit: Duration,
) -> Command {
    let mut forward = directory.path().join(SOCKET).into_os_string();
    forward.push(":");
    forward.push(to.socket());
    let connect = limit.as_secs().saturating_sub(1).max(1);
    let bounds = [
        format!("ConnectTimeout={connect}"),
        format!("ServerAliveInterval={}", ALIVE.0),
        format!("ServerAliveCountMax={}", ALIVE.1),
    ];
    let options = OPTIONS.into_iter().map(str::to_owned).chain(bounds);
    Command::new(program, "/")
        .env("PATH", path)
        .envs(env::var_os("HOME").map(|home| ("HOME", home)))
        .args(["-N", "-T", "-a", "-x"])
        .args(options.flat_map(|option| ["-o".to_owned(), option]))
        .arg("-L")
        .arg(forward)
        .args(to.destination())
        .grace(Duration::ZERO)
        .output_limit(1 << 20)
        .line_limit(1 << 10)
}

impl NoTunnel {
    /// Why, where nothing more is known.
    fn of(to: &SshHost, why: String) -> Self {
        let hint = format!("see whether it works by hand: {}", to.by_hand("ssh"));
        Self { why, hint, is_passing: true }
    }

    fn no_program(error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "there is no ssh in PATH".to_owned(),
            _ => format!("the ssh in PATH can't be used: {error}"),
        };
        Self { why, hint: "install it: apt-get install openssh-client".to_owned(), is_passing: false }
    }

    /// ssh has ended with these words.
    fn ended(to: &SshHost, last: Option<String>) -> Self {
        let last = last.unwrap_or_else(|| "ssh has ended without a word".to_owned());
        let hint = if last.starts_with("Host key verification failed") {
            format!(
                "log in once as the user that runs cc-ci, and compare the key that it shows with the host's own: {}; where one \
                 was known, find out first why it is another",
                to.by_hand("ssh")
            )
        } else if last.contains("Permission denied (") || last.contains("Too many authentication failures") {
            format!(
                "let the key of the user that runs cc-ci in, one without a passphrase: {}",
                to.by_hand("ssh-copy-id")
            )
        } else {
            return Self::of(to, last);
        };
        Self { why: last, hint, is_passing: false }
    }

    /// The other end did not let a connection through. It tells all reasons alike.
    fn refused(to: &SshHost, told: &str) -> Self {
        let reason = told.split_once(": open failed: ").map_or(told, |(_, reason)| reason);
        let why = format!("ssh is let in, and {} does not take the connection there: {reason}", to.socket());
        let hint = format!(
            "see there that the engine runs, that {} is in the group that owns the socket, and that sshd has no \
             AllowStreamLocalForwarding no: {} docker version",
            to.user(),
            to.by_hand("ssh")
        );
        Self { why, hint, is_passing: true }
    }
}

/// A connection through a tunnel.
pub(crate) struct Carried {
    stream: UnixStream,
    ssh: Arc<Ssh>,
    /// Whether anything has come.
    heard: bool,
}

impl Carried {
    fn new(stream: UnixStream, ssh: Arc<Ssh>) -> Self {
        Self { stream, ssh, heard: false }
    }

    /// An end, as it was seen, or why there is one: ssh closes a connection that the other end does not take.
    fn end(&self, seen: io::Result<()>) -> io::Result<()> {
        match if self.heard { None } else { self.ssh.refusal() } {
            Some(why) => Err(why.into()),
            None => seen,
        }
    }
}

impl AsyncRead for Carried {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if read.is_ok() && (buffer.filled().len() > before || buffer.remaining() == 0) {
            self.heard = true;
            return Poll::Ready(read);
        }
        Poll::Ready(self.end(read))
    }
}

impl AsyncWrite for Carried {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(written.or_else(|error| self.end(Err(error)).map(|()| 0)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[path = "tunnel_tests.rs"]
mod tests;
