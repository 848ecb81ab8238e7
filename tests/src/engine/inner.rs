//! The first process of a private engine's namespaces.
//!
//! It is process 1 of its pid namespace: when it ends, the kernel ends everything in it. It ends when its stdin does,
//! so when its owner dies. Until then it takes a word a line from stdin, and answers each with a line.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname};
use tokio::signal::unix::{SignalKind, signal};

use super::certificates;
use super::cgroups::Membership;
use super::directory::{LOG, Lock, SOCKET};
use super::private::Failure;
use super::separate::{disk, separate};

/// All of the engine but its socket and its log: memory that goes with the namespace.
pub(super) const STATE: &str = "/run/cc-ci-engine";
/// What the daemon keeps, below it.
const DATA: &str = "data";
/// The disk of a node among others: it can be filled.
const DISK: u64 = 1 << 30;
/// Where the daemon says that it is ready.
const NOTIFY: &str = "/run/cc-ci-engine/notify";
/// Where containerd's pid is.
const CONTAINERD: &str = "/run/docker/containerd/containerd.pid";

/// What happens to it.
enum Event {
    /// Its owner wants something.
    Word(String),
    /// Its owner is gone, or wants no more.
    End,
    /// A child may have ended.
    Child,
    /// The daemon takes requests.
    Ready,
}

/// Lives until stdin ends. An engine that is a node among others is given its host name and its address: its daemon
/// waits for the word `start`, since somebody else makes its network.
///
/// # Errors
/// When the engine can't be started, or something of it stays; what could be removed is.
pub fn run(directory: &Path, node: Option<(&OsStr, &OsStr)>) -> Result<(), Failure> {
    if std::process::id() != 1 {
        return Err("this is for the first process of a pid namespace: see `private-engine run`".into());
    }
    let address = match node {
        Some((name, address)) => {
            sethostname(name)?;
            Some(address.to_str().ok_or("an address is ASCII")?)
        }
        None => None,
    };
    let host_pid = fs::read_link("/proc/self")?;
    let lived = hold(directory, &host_pid.to_string_lossy(), address);
    if let Err(error) = &lived {
        answer(&message(error));
    }
    lived
}

/// An error in a line.
fn message(error: &Failure) -> String {
    format!("error: {}", error.to_string().replace('\n', "; "))
}

fn hold(directory: &Path, host_pid: &str, address: Option<&str>) -> Result<(), Failure> {
    let name =
        directory.file_name().and_then(|name| name.to_str()).ok_or("an engine's directory has a name")?;
    let base = separate(directory.parent().ok_or("an engine's directory is in another one")?)?;
    let membership =
        Membership::enter(name).map_err(|error| format!("can't enter a control group: {error}"))?;
    let lock = Lock::create(&base.join(name))?;
    let lived = base.show(name).and_then(|shown| live(directory, &shown, host_pid, address));
    end_everybody();
    lock.remove()?;
    membership.leave()?;
    lived
}

/// The engine's life. The host calls its directory `outside`, this process `directory`.
fn live(outside: &Path, directory: &Path, host_pid: &str, address: Option<&str>) -> Result<(), Failure> {
    if address.is_some() {
        disk(&Path::new(STATE).join(DATA), DISK)?;
    }
    let (sender, events) = mpsc::channel();
    let notify = UnixDatagram::bind(NOTIFY)?;
    spawn(&sender, |sender| {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            sender.send(Event::Word(line))?;
        }
        sender.send(Event::End)
    })?;
    // Handled, not blocked: the daemon would inherit a mask.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let inside = runtime.enter();
    let mut children = signal(SignalKind::child())?;
    drop(inside);
    spawn(&sender, move |sender| {
        runtime.block_on(async {
            while children.recv().await.is_some() {
                sender.send(Event::Child)?;
            }
            Ok(())
        })
    })?;
    spawn(&sender, move |sender| {
        let mut text = [0; 4096];
        while let Ok(length) = notify.recv(&mut text) {
            if text[..length].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
                sender.send(Event::Ready)?;
            }
        }
        Ok(())
    })?;
    let mut daemon = Daemon { outside, directory, address, events, pid: None, ended: None };
    if address.is_none()
        && let End::Yes = daemon.start()?
    {
        return Ok(());
    }
    answer(&format!("ok {host_pid}"));
    daemon.serve()
}

fn spawn(
    sender: &Sender<Event>,
    work: impl FnOnce(&Sender<Event>) -> Result<(), mpsc::SendError<Event>> + Send + 'static,
) -> io::Result<()> {
    let sender = sender.clone();
    thread::Builder::new().spawn(move || {
        // Nobody listens any more: the engine ends.
        let _ending = work(&sender).is_err();
    })?;
    Ok(())
}

/// An owner that is gone reads no answer.
fn answer(line: &str) {
    let mut out = io::stdout().lock();
    let _nobody = writeln!(out, "{line}").and_then(|()| out.flush()).is_err();
}

/// Ends every process of the namespace but this one.
fn end_everybody() {
    loop {
        // Refused when there is nobody.
        let _nobody = kill(Pid::from_raw(-1), Signal::SIGKILL).is_err();
        if waitpid(None, None) == Err(Errno::ECHILD) {
            break;
        }
    }
}

/// Whether the engine is to end.
enum End {
    Yes,
    No,
}

/// The engine's daemon, dead or alive.
struct Daemon<'a> {
    outside: &'a Path,
    directory: &'a Path,
    /// Where it listens beside its socket, of a node among others.
    address: Option<&'a str>,
    events: Receiver<Event>,
    pid: Option<Pid>,
    /// How it ended, where nobody has heard of it yet.
    ended: Option<WaitStatus>,
}

impl Daemon<'_> {
    fn serve(&mut self) -> Result<(), Failure> {
        loop {
            let done = match self.next()? {
                Event::End => return Ok(()),
                Event::Child => {
                    if let Some(ended) = self.ended.take() {
                        eprintln!(
                            "private engine: dockerd ended by itself ({ended:?}): {}",
                            self.last_words(40)
                        );
                    }
                    continue;
                }
                Event::Ready => continue,
                Event::Word(word) => match word.as_str() {
                    "kill" => self.kill(),
                    "crash" => {
                        self.crash();
                        Ok(End::No)
                    }
                    "start" => self.start(),
                    "stop" => self.freeze(),
                    "cont" => self.signal(Signal::SIGCONT),
                    _ => Err("the words are kill, crash, start, stop and cont".into()),
                },
            };
            match done {
                Ok(End::Yes) => return Ok(()),
                Ok(End::No) => answer("ok"),
                Err(error) => answer(&message(&error)),
            }
        }
    }

    /// The next event. Children that ended have been waited for.
    fn next(&mut self) -> Result<Event, Failure> {
        let event = self.events.recv()?;
        if matches!(event, Event::Child) {
            loop {
                match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                    Ok(ended) if ended.pid() == self.pid => {
                        self.pid = None;
                        self.ended = Some(ended);
                    }
                    Ok(_) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(event)
    }

    /// Starts it, and waits until it takes requests.
    fn start(&mut self) -> Result<End, Failure> {
        if self.pid.is_some() {
            return Err("the daemon is running".into());
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.join(LOG))?;
        let state = Path::new(STATE);
        fs::write(state.join("daemon.json"), "{}\n")?;
        let words = |flag: &str, value: &Path| [OsString::from(flag), value.into()];
        let group = Path::new("/").join(self.outside.file_name().unwrap_or_default());
        let mut socket = OsString::from("unix://");
        socket.push(self.directory.join(SOCKET));
        let mut command = Command::new("dockerd");
        if let Some(address) = self.address {
            // Whoever reaches it over the network shows a certificate, as everywhere.
            command
                .args(["--host", &format!("tcp://{address}"), "--tlsverify"])
                .args(words("--tlscacert", &self.directory.join(certificates::CA)))
                .args(words("--tlscert", &self.directory.join(certificates::SERVER)))
                .args(words("--tlskey", &self.directory.join(certificates::SERVER_KEY)));
        }
        let child = command
            .args(words("--config-file", &state.join("daemon.json")))
            .args(words("--data-root", &state.join(DATA)))
            .args(words("--host", Path::new(&socket)))
            .args(words("--cgroup-parent", &group))
            // Driven by files, not by the host's systemd.
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid", "--group", "root"])
            // It calls itself some times for each container, and collects garbage already while it gets up.
            .env("GOGC", "400")
            .env("NOTIFY_SOCKET", NOTIFY)
            .env("HOME", state)
            .env("TMPDIR", state.join("tmp"))
            // What belongs to a run of the suites is found by this.
            .env("CCCI_ENGINE_DIRECTORY", self.outside)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("can't start dockerd: {error}"))?;
        self.pid = Some(Pid::from_raw(child.id().cast_signed()));
        loop {
            match self.next()? {
                Event::Ready => return Ok(End::No),
                Event::End => return Ok(End::Yes),
                Event::Word(_) => return Err("a word while the daemon starts".into()),
                Event::Child if self.ended.take().is_some() => {
                    return Err(format!("dockerd ended: {}", self.last_words(5)).into());
                }
                Event::Child => {}
            }
        }
    }

    /// Kills it, and waits until its containerd is gone too: the next one would take it for its own.
    fn kill(&mut self) -> Result<End, Failure> {
        let containerd = fs::read_to_string(CONTAINERD).ok().and_then(|pid| pid.trim().parse().ok());
        self.signal(Signal::SIGKILL)?;
        let alive = |pid: i32| kill(Pid::from_raw(pid), None).is_ok();
        while self.pid.is_some() || containerd.is_some_and(alive) {
            if let Event::End = self.next()? {
                return Ok(End::Yes);
            }
        }
        self.ended = None;
        Ok(End::No)
    }

    /// The last lines of its log, the last one first.
    fn last_words(&self, lines: usize) -> String {
        let log = fs::read(self.directory.join(LOG)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.lines().rev().take(lines).collect::<Vec<_>>().join("; ")
    }

    /// Ends everything in there but this process, as a power cut does; what is on its disk stays.
    fn crash(&mut self) {
        end_everybody();
        self.pid = None;
        self.ended = None;
    }

    /// Stops it. It stops thread by thread, and until the last one has it may still answer.
    fn freeze(&mut self) -> Result<End, Failure> {
        self.signal(Signal::SIGSTOP)?;
        match waitpid(self.pid, Some(WaitPidFlag::WUNTRACED))? {
            WaitStatus::Stopped(..) => Ok(End::No),
            ended => {
                self.pid = None;
                Err(format!("the daemon ended instead: {ended:?}").into())
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<End, Failure> {
        let Some(pid) = self.pid else { return Err("the daemon is not running".into()) };
        kill(pid, signal)?;
        Ok(End::No)
    }
}
