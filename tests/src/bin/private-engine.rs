//! A private Docker engine for the time of a command.
//!
//! `private-engine run [--bare] -- COMMAND…` starts one, runs COMMAND in its network with `CCCI_TEST_ENGINE` set, looks whether
//! COMMAND left it empty, takes it away, and exits with COMMAND's status, or 1 when something was left or a bystander
//! was touched. With `--bare` there are no bystanders.
//! `private-engine run --nodes N …` starts a Swarm of N nodes instead, and COMMAND is in the network of the first of them, which
//! manages it. `CCCI_TEST_NODES` names them all; COMMAND's children do something to one with `private-engine node crash NAME`,
//! likewise `kill` (the daemon alone), `start`, `pause`, `resume`, `cut` (off the network) and `heal`, or bring all of them back
//! with `private-engine node restore`.
//! `private-engine check` says why there can be none here, and exits with 1 then. `private-engine sweep` removes what
//! killed engines left; `run` does so by itself. The words `inner`, `switch` and `command` are for `run` alone.

#![expect(clippy::print_stderr, reason = "this is what it says")]

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cc_ci_tests::engine::{self, Bystanders, Failure, PrivateEngine, PrivateSwarm};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

/// How long a command may take to end when it is told to.
const GRACE: Duration = Duration::from_secs(10);

const USAGE: &str = "usage: private-engine run [--bare] [--nodes N] -- COMMAND…
       private-engine node crash|kill|start|pause|resume|cut|heal NAME
       private-engine node restore
       private-engine check
       private-engine sweep";

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
    let done = match words.split_first().and_then(|(word, rest)| Some((word.to_str()?, rest))) {
        Some(("run", words)) => match Options::read(words) {
            Some((options, command)) => run(command, &options),
            None => Err(USAGE.into()),
        },
        Some(("node", [word])) if *word == "restore" => engine::tell_owner("restore").map(|()| 0),
        Some(("node", [word, name])) => {
            engine::tell_owner(&format!("{} {}", word.display(), name.display())).map(|()| 0)
        }
        Some(("check", [])) => Ok(check()),
        Some(("sweep", [])) => sweep(),
        Some(("inner", [directory])) => engine::inner::run(Path::new(directory), None).map(|()| 0),
        Some(("inner", [directory, name, address])) => {
            engine::inner::run(Path::new(directory), Some((*name, *address))).map(|()| 0)
        }
        Some(("switch", [])) => engine::switch::run().map(|()| 0),
        Some(("command", command @ [_, ..])) => keep(command),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("private engine: {error}");
            ExitCode::from(2)
        }
    }
}

fn check() -> u8 {
    let Some(why) = engine::missing() else { return 0 };
    eprintln!("{why}");
    1
}

fn sweep() -> Result<u8, Failure> {
    for found in engine::sweep()? {
        eprintln!("private engine: removed what a dead one left: {}", found.display());
    }
    Ok(0)
}

/// How `run` is asked for.
#[derive(Debug, Default)]
struct Options {
    bare: bool,
    nodes: Option<usize>,
}

impl Options {
    /// The options, and the command behind them.
    fn read<'w>(mut words: &'w [&'w OsStr]) -> Option<(Self, &'w [&'w OsStr])> {
        let mut options = Self::default();
        loop {
            let (word, rest) = words.split_first()?;
            words = rest;
            match word.to_str()? {
                "--bare" => options.bare = true,
                "--nodes" => {
                    let (count, rest) = words.split_first()?;
                    words = rest;
                    // The last byte of an address tells them apart.
                    options.nodes =
                        Some(count.to_str()?.parse().ok().filter(|count| (1..=99).contains(count))?);
                }
                "--" if !words.is_empty() => return Some((options, words)),
                _ => return None,
            }
        }
    }
}

fn run(command: &[&OsStr], options: &Options) -> Result<u8, Failure> {
    let signals = Signals::take()?;
    if let Some(why) = engine::missing() {
        return Err(why.into());
    }
    sweep()?;
    match options.nodes {
        None => run_on_one(command, options.bare, &signals),
        Some(count) => run_on_nodes(command, options.bare, count, &signals),
    }
}

fn run_on_one(command: &[&OsStr], bare: bool, signals: &Signals) -> Result<u8, Failure> {
    let engine = PrivateEngine::start_by(&std::env::current_exe()?)?;
    if !bare {
        Bystanders::make(&engine);
    }
    let bystanders = Bystanders::look(&engine);
    let status = match kept(&mut beside(&engine, command), signals)? {
        End::Status(status) => status,
        End::Signal(signal) => {
            engine.end()?;
            return gone(signal);
        }
    };
    if !engine.is_alive() {
        return Err("it ended before the command did".into());
    }

    let mut found = bystanders.changes(&Bystanders::look(&engine));
    // First: what they use can't be told from what is left.
    found.extend(Bystanders::remove(&engine).iter().map(|object| format!("can't remove {object}")));
    engine.wait_until_idle();
    found.extend(engine.objects().iter().map(|object| format!("left: {object}")));
    engine.end()?;
    Ok(verdict(status, &found))
}

/// The same on several nodes; the bystanders are the manager's.
fn run_on_nodes(command: &[&OsStr], bare: bool, count: usize, signals: &Signals) -> Result<u8, Failure> {
    let swarm = PrivateSwarm::start_by(&std::env::current_exe()?, count)?;
    let manager = (**swarm.manager()).clone();
    let mut inside = beside(swarm.manager(), command);
    inside.env(engine::NODES, swarm.environment());
    if !bare {
        Bystanders::make(&manager);
    }
    let bystanders = Bystanders::look(&manager);
    let swarm = Arc::new(Mutex::new(swarm));
    PrivateSwarm::listen(&swarm)?;
    let status = match kept(&mut inside, signals)? {
        End::Status(status) => status,
        End::Signal(signal) => {
            PrivateSwarm::end(&swarm)?;
            return gone(signal);
        }
    };
    let mut found = bystanders.changes(&Bystanders::look(&manager));
    found.extend(PrivateSwarm::look(&swarm)?);
    found.extend(Bystanders::remove(&manager).iter().map(|object| format!("can't remove {object}")));
    manager.wait_until_idle();
    found.extend(manager.objects().iter().map(|object| format!("left: {object}")));
    PrivateSwarm::end(&swarm)?;
    Ok(verdict(status, &found))
}

/// The command in the network of an engine.
fn beside(engine: &PrivateEngine, command: &[&OsStr]) -> Command {
    let mut inside = Command::new("nsenter");
    inside.arg(format!("--net=/proc/{}/ns/net", engine.host_pid())).arg("--").args(command);
    inside.env(engine::ENGINE, engine.host());
    inside
}

fn gone(signal: Signal) -> Result<u8, Failure> {
    eprintln!("private engine: gone");
    Ok(128 + u8::try_from(signal as i32)?)
}

/// The status of the command, or what was found against it.
fn verdict(status: ExitStatus, found: &[String]) -> u8 {
    if found.is_empty() {
        eprintln!("private engine: empty, and gone");
        return code(status);
    }
    eprintln!("private engine: not empty, and gone:");
    for found in found {
        eprintln!("  {found}");
    }
    1
}

/// A status as a shell tells it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The signals that ask for an end.
struct Signals {
    sender: Sender<End>,
    ends: Receiver<End>,
}

/// How a command's time ends.
enum End {
    Status(ExitStatus),
    Signal(Signal),
}

impl Signals {
    /// From now on they only end commands. They are handled, not blocked: children would inherit a mask.
    fn take() -> Result<Self, Failure> {
        let (sender, ends) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let inside = runtime.enter();
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut hup = signal(SignalKind::hangup())?;
        drop(inside);
        let message = sender.clone();
        thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    let came = tokio::select! {
                        _ = term.recv() => Signal::SIGTERM,
                        _ = int.recv() => Signal::SIGINT,
                        _ = hup.recv() => Signal::SIGHUP,
                    };
                    if message.send(End::Signal(came)).is_err() {
                        break;
                    }
                }
            });
        });
        Ok(Self { sender, ends })
    }
}

/// Runs a command with a keeper: it ends with all that it started when a signal asks for it, or when this process
/// dies.
fn kept(command: &mut Command, signals: &Signals) -> Result<End, Failure> {
    let mut keeper = Command::new(std::env::current_exe()?);
    keeper.arg("command").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => keeper.env(name, value),
            None => keeper.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        keeper.current_dir(directory);
    }
    let mut keeper = keeper.stdin(Stdio::piped()).process_group(0).spawn()?;
    let life = keeper.stdin.take();
    let sender = signals.sender.clone();
    let waiter = thread::spawn(move || keeper.wait().map(|status| sender.send(End::Status(status)).is_ok()));
    let end = signals.ends.recv()?;
    drop(life);
    waiter.join().map_err(|_| "the keeper can't be waited for")??;
    Ok(end)
}

/// The keeper: runs a command until it ends or stdin does, and ends what it left running.
fn keep(words: &[&OsStr]) -> Result<u8, Failure> {
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("can't start {}: {error}", words[0].display()))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let (sender, events) = mpsc::channel();
    let owner = sender.clone();
    thread::spawn(move || {
        let _unreadable = std::io::stdin().read_to_end(&mut Vec::new()).is_err();
        owner.send(false)
    });
    // It stays to be waited for, so that its id is nobody else's.
    thread::spawn(move || {
        let _gone = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).is_err();
        sender.send(true)
    });
    let ended = events.recv()?;
    if !ended {
        killpg(pid, Signal::SIGTERM)?;
        if events.recv_timeout(GRACE).is_err() {
            killpg(pid, Signal::SIGKILL)?;
        }
    }
    end_all(&mut child)
}

/// Waits for `child`, and ends everything that it left running: orphans become this process's children.
fn end_all(child: &mut Child) -> Result<u8, Failure> {
    let status = child.wait()?;
    let (mut asked, until) = (BTreeSet::new(), Instant::now() + GRACE);
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return Ok(code(status)),
            Ok(WaitStatus::StillAlive) => {}
            _ => continue,
        }
        for task in fs::read_dir("/proc/self/task")? {
            // A thread that ended meanwhile left its children to another one.
            let Ok(children) = fs::read_to_string(task?.path().join("children")) else { continue };
            for pid in children.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()) {
                // Children of ours that nobody waited for yet: the ids are their own.
                if Instant::now() >= until {
                    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
                } else if asked.insert(pid) {
                    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
                }
            }
        }
        // Who is adopted next is told by nobody.
        thread::sleep(Duration::from_millis(10));
    }
}
