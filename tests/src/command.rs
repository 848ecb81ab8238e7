//! The built command as a real process.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::EVENT_LIMIT;
use crate::pipes::gone;
use crate::world::World;

/// A program of the workspace, beside the test's own.
///
/// # Panics
/// Where it is not built.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its program");
    let directory = test.parent().and_then(Path::parent).expect("tests are built in target/<profile>/deps");
    let program = directory.join(name);
    assert!(program.exists(), "{} is not built: run `cargo build --workspace` first", program.display());
    program
}

impl World {
    /// What the command has of variables in this world.
    pub fn environment(&self) -> BTreeMap<&'static str, OsString> {
        let mut set = BTreeMap::from([
            ("PATH", path(self)),
            ("CCCI_CONFIG", self.config().into()),
            ("CCCI_APP_LOCK_DIR", self.locks().into()),
            ("CCCI_RUNS_DIR", self.runs().into()),
            ("CCCI_LOCAL_ROOT", self.local_root().into()),
            ("CCCI_SUFFIX", self.suffix().as_str().into()),
        ]);
        match self.engine() {
            Some(engine) => set.extend([
                ("CCCI_EXECUTOR", "abra".into()),
                ("DOCKER_HOST", engine.into()),
                ("ABRA_DIR", self.abra_dir().into()),
            ]),
            None => set.extend([("CCCI_EXECUTOR", "local".into())]),
        }
        set
    }
}

/// The caller's `PATH`, behind the programs of the world.
fn path(world: &World) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(world.programs()).chain(std::env::split_paths(&path));
    std::env::join_paths(paths).expect("the world's path has no colon")
}

/// A call of the command. Its environment is its world's and nothing of the caller's but `PATH`; so is its engine.
#[derive(Debug)]
pub struct CcCi {
    command: Command,
}

impl CcCi {
    pub(crate) fn new<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(world: &World, args: I) -> Self {
        let mut command = Command::new(built("cc-ci"));
        command.args(args).env_clear().envs(world.environment());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The command itself, for what this builder has no word for.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// The same call at the end of other words: a shell and its script, a wrapper and its flags. In a script, `$0`
    /// is the program and `$@` its arguments.
    pub fn inside(self, outer: &[&str]) -> Self {
        let (program, args) = outer.split_first().expect("a program");
        let mut command = Command::new(program);
        command.args(args).args(self.words()).env_clear();
        let set = self.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(set).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    /// The program and its arguments, to be quoted into a shell script.
    pub fn words(&self) -> Vec<OsString> {
        std::iter::once(self.command.get_program())
            .chain(self.command.get_args())
            .map(OsStr::to_owned)
            .collect()
    }

    /// The call as a line of a shell script, with its environment and no other.
    pub fn line(&self) -> String {
        let quoted = |word: &OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
        let line = self.command.get_envs().fold("env -i".to_owned(), |line, (name, value)| {
            format!("{line} {}={}", name.to_string_lossy(), quoted(value.unwrap_or_default()))
        });
        self.words().iter().fold(line, |line, word| format!("{line} {}", quoted(word)))
    }

    /// Starts it.
    pub fn start(mut self) -> StartedCommand {
        StartedCommand::new(self.command.spawn().expect("the command starts"))
    }

    /// Runs it to its end.
    pub fn run(self) -> Ended {
        self.start().wait()
    }
}

/// A started command. Its stderr is read from the first moment on.
#[derive(Debug)]
pub struct StartedCommand {
    child: Child,
    lines: Receiver<String>,
    seen: String,
    stdout: Option<JoinHandle<String>>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; 128+n for a signal.
    pub code: i32,
    /// The result.
    pub stdout: String,
    /// Everything else that it said.
    pub stderr: String,
}

impl Ended {
    /// Asserts the exit status; shows everything otherwise.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// The result as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

impl StartedCommand {
    /// A started process whose stdout and stderr are pipes.
    pub fn new(mut child: Child) -> Self {
        let (sender, lines) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let stdout = child.stdout.take().map(|mut stdout| {
            std::thread::spawn(move || {
                let mut text = String::new();
                // What is no UTF-8 is no result of ours.
                let _whole = stdout.read_to_string(&mut text).is_ok();
                text
            })
        });
        Self { child, lines, seen: String::new(), stdout }
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for a line of stderr that contains `text`, and gives it.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + EVENT_LIMIT;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no line with {text:?} in time; seen:\n{}", self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {text:?}; seen:\n{}", self.seen),
            }
        }
    }

    /// Waits for the next line of stderr. `None` when there will be no more.
    #[track_caller]
    pub fn next_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(EVENT_LIMIT) {
            Ok(line) => {
                self.seen.push_str(&line);
                self.seen.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line in time; seen:\n{}", self.seen),
        }
    }

    /// Waits for the next `lines` lines of stderr; whether there were so many.
    #[track_caller]
    pub fn says_lines(&mut self, lines: u64) -> bool {
        (0..lines).all(|_| self.next_line().is_some())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the command is there to be signalled");
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Ended {
        let until = Instant::now() + EVENT_LIMIT * 2;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    drop(self.child.kill());
                    panic!("did not end in time; seen:\n{}", self.seen)
                }
            }
        }
        // Output that goes elsewhere says nothing of the end.
        assert!(gone(self.pid()), "did not end in time; seen:\n{}", self.seen);
        let status = self.child.wait().expect("a child can be waited for");
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        let stdout = self.stdout.take().map(|reader| reader.join().unwrap_or_default()).unwrap_or_default();
        Ended { code, stdout, stderr: std::mem::take(&mut self.seen) }
    }
}

impl Drop for StartedCommand {
    fn drop(&mut self) {
        // Of a test that failed elsewhere, at a gate perhaps: what the command said tells why.
        if std::thread::panicking() {
            self.seen.extend(self.lines.try_iter().map(|line| line + "\n"));
            eprintln!("--- stderr of pid {} so far\n{}", self.pid(), self.seen);
        }
    }
}
