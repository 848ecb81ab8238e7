//! A private engine, as its owner holds it.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use super::directory::SOCKET;
use super::{ENGINE, Engine, PREFIX, cgroups, directory, skip_for_want_of_one};
use crate::EVENT_LIMIT;
use crate::command::built;
use crate::pipes::gone;

/// What goes wrong with an engine, in words.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Where the names of all engines are written that were started, one a line: whoever looks for leftovers knows what
/// to look for.
const ENGINES: &str = "CCCI_TEST_ENGINES";

/// An engine of one's own. Dropping it ends it and waits for that; so does the owner's death, however it dies.
///
/// It is a one-node Swarm with the network `proxy`, the images of the suites, and nothing else.
#[derive(Debug)]
#[must_use = "dropping it ends the engine"]
pub struct PrivateEngine {
    engine: Engine,
    name: String,
    host_pid: i32,
    child: Child,
    words: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Deref for PrivateEngine {
    type Target = Engine;
    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl PrivateEngine {
    /// An engine for `test` alone; `None` where there can be none, which is written as a skip.
    ///
    /// # Panics
    /// When the engine can't be started.
    #[track_caller]
    pub fn start(test: &str) -> Option<Self> {
        if std::env::var_os(ENGINE).is_none() {
            skip_for_want_of_one(test);
            return None;
        }
        match Self::start_by(&built("private-engine")) {
            Ok(engine) => Some(engine),
            Err(error) => panic!("no private engine: {error}"),
        }
    }

    /// An engine whose first process is `program`, the command `private-engine`; the example app is beside it. What
    /// dead engines left is removed first.
    ///
    /// # Errors
    /// When it can't be started. Nothing is left then.
    pub fn start_by(program: &Path) -> Result<Self, Failure> {
        sweep()?;
        let started = Self::spawn(program, None)?;
        started.engine.found(&program.with_file_name("note-keeper"))?;
        Ok(started)
    }

    /// The same without a Swarm and images. A node among others, with its host name and its address, has no daemon yet
    /// either: it starts when it is [told](Self::tell).
    pub(super) fn spawn(program: &Path, node: Option<(&str, SocketAddr)>) -> Result<Self, Failure> {
        let name = format!("{PREFIX}{:016x}", RandomState::new().build_hasher().finish());
        let directory = fs::canonicalize(std::env::temp_dir())?.join(&name);
        record(&name)?;
        let mut child = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount", "--net"])
            .args(node.map(|_| "--uts"))
            .arg("--")
            .arg(program)
            .arg("inner")
            .arg(&directory)
            .args(node.map(|(name, address)| [name.to_owned(), address.to_string()]).into_iter().flatten())
            .env_clear()
            .env("PATH", path())
            // What belongs to a run of the suites is found by this.
            .env("TMPDIR", &directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("can't start unshare: {error}"))?;
        let (sender, answers) = mpsc::channel();
        if let Some(out) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let engine = Engine::at(directory.join(SOCKET));
        let mut started = Self { engine, name, host_pid: 0, words: child.stdin.take(), child, answers };
        let pid = started.answer()?;
        started.host_pid = pid.parse().map_err(|_| format!("{pid:?} is no pid"))?;
        Ok(started)
    }

    /// Its name: that of its directory and of its control groups.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pid of the first process in its namespaces.
    pub fn host_pid(&self) -> i32 {
        self.host_pid
    }

    /// The pids of its processes, those of containers too, and the names of their programs.
    pub fn processes(&self) -> Vec<(i32, String)> {
        processes_of(&self.name)
    }

    /// Whether its first process still lives, and with it the engine.
    pub fn is_alive(&self) -> bool {
        !self.processes().is_empty()
    }

    /// Kills the daemon alone with SIGKILL. Its containers live on, as they do on a host.
    ///
    /// # Panics
    /// When it can't be killed.
    #[track_caller]
    pub fn kill_daemon(&mut self) {
        self.ask("kill");
    }

    /// Starts the daemon again, and waits until it takes requests. What the Swarm does then is not waited for.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_daemon(&mut self) {
        self.ask("start");
    }

    /// Stops the daemon in its tracks: it takes connections, and answers nothing.
    ///
    /// # Panics
    /// When it can't be stopped.
    #[track_caller]
    pub fn freeze_daemon(&mut self) {
        self.ask("stop");
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it can't be.
    #[track_caller]
    pub fn thaw_daemon(&mut self) {
        self.ask("cont");
    }

    /// Ends it, as dropping does, and tells what of it is left.
    ///
    /// # Errors
    /// When something is left.
    pub fn end(mut self) -> Result<(), Failure> {
        self.end_and_wait()
    }

    #[track_caller]
    fn ask(&mut self, word: &str) {
        if let Err(error) = self.tell(word) {
            panic!("{word}: {error}");
        }
    }

    /// Has its first process do what `word` says: see [`inner`](super::inner).
    pub(super) fn tell(&mut self, word: &str) -> Result<(), Failure> {
        let asked = self.words.as_mut().map(|words| writeln!(words, "{word}"));
        if !matches!(asked, Some(Ok(()))) {
            return Err("the engine is gone".into());
        }
        self.answer().map(drop)
    }

    /// The next answer's words behind `ok`.
    fn answer(&self) -> Result<String, Failure> {
        let line = self.answers.recv_timeout(EVENT_LIMIT).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => "the engine does not answer",
            mpsc::RecvTimeoutError::Disconnected => "the engine's first process is gone",
        })?;
        match line.split_once(' ') {
            None if line == "ok" => Ok(String::new()),
            Some(("ok", rest)) => Ok(rest.to_owned()),
            Some(("error:", rest)) => Err(rest.into()),
            _ => Err(format!("what does {line:?} mean?").into()),
        }
    }

    fn end_and_wait(&mut self) -> Result<(), Failure> {
        drop(self.words.take());
        let ended = gone(self.child.id().cast_signed());
        if !ended {
            // Its child is process 1 in there, and dies with it.
            self.child.kill()?;
        }
        let status = self.child.wait()?;
        if !ended {
            return Err("the engine did not end by itself; it was killed".into());
        }
        // Nothing is left to do unless it was killed.
        let directory = self.directory();
        if directory.exists() {
            directory::remove_if_dead(directory)?;
        }
        cgroups::remove(&self.name)?;
        let mut left: Vec<_> =
            cgroups::left(&self.name)?.iter().map(|path| path.display().to_string()).collect();
        if directory.exists() {
            left.push(directory.display().to_string());
        }
        match left.is_empty() {
            true if status.success() => Ok(()),
            true => Err(format!("the engine's first process ended with {status}").into()),
            false => Err(format!("left of the engine: {}", left.join(", ")).into()),
        }
    }

    /// Where its socket is.
    pub(super) fn directory(&self) -> &Path {
        self.engine.socket().parent().unwrap_or(Path::new("/"))
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if self.words.is_some()
            && let Err(error) = self.end_and_wait()
        {
            eprintln!("private engine: {error}");
        }
    }
}

/// What is left of the engine in `directory`: that, its control groups, and mounts.
///
/// # Errors
/// When nobody can look.
pub fn left_of(directory: &Path) -> io::Result<Vec<String>> {
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut left: Vec<String> = cgroups::left(name)?.iter().map(|path| path.display().to_string()).collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    left.extend(mounts.lines().filter(|line| line.contains(name)).map(|line| format!("mount {line}")));
    if directory.exists() {
        left.push(directory.display().to_string());
    }
    Ok(left)
}

/// The pids of the engine called `name`, by its control groups, and the names of their programs. Its first process
/// comes first.
pub fn processes_of(name: &str) -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let read = |pid: i32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let group = format!("/{name}/");
    let inside = pids.filter(|&pid| read(pid, "cgroup").lines().any(|line| line.contains(&group)));
    let mut found: Vec<_> = inside.map(|pid| (pid, read(pid, "comm").trim().to_owned())).collect();
    // Process 1 of its namespace, and of no other below that.
    let is_first = |pid: i32| {
        let status = read(pid, "status");
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        pids.split_ascii_whitespace().next_back() == Some("1")
            && read(pid, "comm").starts_with("private-engine")
    };
    found.sort_by_key(|(pid, _)| !is_first(*pid));
    found
}

/// Removes what dead engines left: their control groups, and their directories where this process puts its own.
/// Returns what it found.
///
/// # Errors
/// When something stays.
pub fn sweep() -> io::Result<Vec<PathBuf>> {
    let mut swept = directory::sweep(&std::env::temp_dir())?;
    swept.extend(cgroups::sweep()?.into_iter().map(PathBuf::from));
    Ok(swept)
}

/// Why there can be no engine here, and what to do about it.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("an engine needs root: run the suites as root, e.g. in a virtual machine".into());
    }
    let path = path();
    for (command, package) in [
        ("dockerd", "docker.io"),
        ("docker", "docker.io (or docker-cli)"),
        ("busybox", "busybox-static"),
        ("ip", "iproute2"),
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("tar", "tar"),
    ] {
        if !std::env::split_paths(&path).any(|directory| directory.join(command).exists()) {
            return Some(format!(
                "{command} is missing: install Debian's package {package}, or your system's"
            ));
        }
    }
    None
}

/// The caller's `PATH`, and where system programs are.
pub(super) fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    path
}

fn record(name: &str) -> io::Result<()> {
    let Some(file) = std::env::var_os(ENGINES) else { return Ok(()) };
    OpenOptions::new().append(true).create(true).open(file)?.write_all(format!("{name}\n").as_bytes())
}
