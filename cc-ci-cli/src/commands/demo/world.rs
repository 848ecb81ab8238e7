//! Where the demo happens, and the commands that it starts there.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::blocking;
use cc_ci_core::exit::Exit;
use cc_ci_core::files::{self, TemporaryDirectory};
use cc_ci_core::lifetime::{
    Child, Command, Ended, Line, ProcessMode, RunLifetime as _, RunLifetimeExt as _, Stage, Stream,
};
use serde::de::DeserializeOwned;

use crate::terminal::Terminal;
use cc_ci_core::Failure;

/// The demo's recipe is the demo's own, and its tests reach what the demo watches: it needs no sandbox.
const CONFIGURATION: &[u8] = b"test_timeout = \"1m\"\nrecipe_scripts = \"unconfined\"\n";

/// How long a run may take to tear down when the demo is ended.
const GRACE: Duration = Duration::from_mins(1);

/// What git, or the last janitor pass, may take.
const LIMIT: Duration = Duration::from_mins(1);

/// How much of a failed command's stderr is shown.
const TAIL: usize = 20;

/// A caller may have none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A promise was not kept, or could not be tested.
#[derive(Debug)]
pub struct Broken {
    pub what: String,
    /// The last lines of whoever broke it.
    pub last_lines: Vec<String>,
}

impl Broken {
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), last_lines: Vec::new() }
    }

    pub fn with_source(what: &str, error: &dyn std::error::Error) -> Self {
        let mut what = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(error) = source {
            what = format!("{what}: {error}");
            source = error.source();
        }
        Self::new(what)
    }
}

/// A directory with locks, runs and apps of its own, and a suffix that no other world on this host has.
#[derive(Debug)]
pub struct World {
    pub lifetime: Arc<ProcessMode>,
    pub terminal: Terminal,
    /// Whether people look on.
    pub human: bool,
    directory: TemporaryDirectory,
    root: PathBuf,
    exe: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl World {
    pub fn new(lifetime: Arc<ProcessMode>, terminal: Terminal, human: bool) -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::host("can't prepare the demo's directory").with_source(error);
        let directory = TemporaryDirectory::new("cc-ci-demo-").map_err(failed)?;
        let root = directory.path().canonicalize().map_err(failed)?;
        if root.to_str().is_none_or(|root| root.contains(':')) {
            return Err(Failure::host(format!("can't work in {}", root.display()))
                .with_hint("choose a directory whose name is UTF-8 without a colon: TMPDIR=/tmp"));
        }
        for name in ["bin", "home", "tmp", "locks", "runs", "local", "tests"] {
            files::private_directory(&root.join(name)).map_err(failed)?;
        }
        // This host's configuration is none of the demo's. A test that hangs is red, and tells why, before its claim
        // is given up.
        files::write_whole(&root.join("config.toml"), CONFIGURATION, 0o644).map_err(failed)?;
        let exe = std::env::current_exe().map_err(failed)?;
        files::link(&exe, &root.join("bin/note-keeper")).map_err(failed)?;
        let mut path = root.join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| PATH.into()));
        let at = |name: &str| root.join(name).into_os_string();
        let environment = vec![
            ("PATH", path),
            ("HOME", at("home")),
            ("TMPDIR", at("tmp")),
            ("CCCI_CONFIG", at("config.toml")),
            ("CCCI_APP_LOCK_DIR", at("locks")),
            ("CCCI_RUNS_DIR", at("runs")),
            ("CCCI_LOCAL_ROOT", at("local")),
            ("CCCI_EXECUTOR", "local".into()),
            ("CCCI_SUFFIX", format!("demo-{}.cc-ci.localhost", std::process::id()).into()),
        ];
        Ok(Self { lifetime, terminal, human, directory, root, exe, environment })
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// What is said beside the claims.
    pub fn say(&self, text: &str) {
        if self.human {
            self.terminal.progress(format!("{text}\n"));
        }
    }

    /// Any program, in this world.
    fn command(&self, program: &Path) -> Command {
        Command::new(program, &self.root).envs(self.environment.iter().map(|(name, value)| (name, value)))
    }

    /// A named pipe.
    pub async fn fifo(&self, path: &Path) -> Result<(), Failure> {
        let command = self.command(Path::new("mkfifo")).arg(path);
        self.quiet(command, "make a named pipe").await
    }

    /// git in `repository`, without anybody's configuration, and the same commits each time.
    pub async fn git(&self, repository: &Path, args: &[&str]) -> Result<(), Failure> {
        let (who, mail, date) = ("cc-ci demo", "demo@cc-ci.localhost", "2026-01-01T00:00:00Z");
        let command = self.command(Path::new("git")).arg("-C").arg(repository).args(args).envs([
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", who),
            ("GIT_AUTHOR_EMAIL", mail),
            ("GIT_AUTHOR_DATE", date),
            ("GIT_COMMITTER_NAME", who),
            ("GIT_COMMITTER_EMAIL", mail),
            ("GIT_COMMITTER_DATE", date),
        ]);
        self.quiet(command, "make the example's repository").await
    }

    /// Runs a command whose output matters only when it fails.
    async fn quiet(&self, command: Command, doing: &str) -> Result<(), Failure> {
        let program = command.program();
        let mut message = Vec::new();
        let ended =
            self.lifetime.run(command, LIMIT, &mut |line: &Line| message.push(line.text.clone())).await;
        let failed = Failure::host(format!("can't {doing}"));
        match ended {
            Ok(ended) if ended.success() => Ok(()),
            Ok(ended) => {
                Err(failed
                    .with_source(io::Error::other(format!("{program}: {ended}\n{}", message.join("\n")))))
            }
            Err(error) => Err(failed.with_source(error)),
        }
    }

    /// Starts cc-ci as anybody would. `label` tells its lines apart.
    pub async fn cc_ci(&self, label: &'static str, args: &[&str]) -> Result<Started<'_>, Broken> {
        let command = self.command(&self.exe).args(args).args(["--format", "json"]).grace(GRACE);
        let child = self
            .lifetime
            .spawn(command)
            .await
            .map_err(|error| Broken::with_source(&format!("can't start {label}"), &error))?;
        Ok(Started { world: self, label, child, out: String::new(), err: Vec::new() })
    }

    /// One janitor pass after a demo that ended early; says whether nothing is left.
    pub async fn sweep(&self) -> bool {
        let command = self.command(&self.exe).arg("janitor").stage(Stage::Teardown).grace(GRACE);
        let mut message = Vec::new();
        let ended =
            self.lifetime.run(command, LIMIT, &mut |line: &Line| message.push(line.text.clone())).await;
        let why = match ended {
            Ok(ended) if ended.success() => return true,
            Ok(ended) => ended.to_string(),
            Err(error) => error.to_string(),
        };
        self.terminal.warn(format_args!("the last janitor pass: {why}"));
        for line in message {
            self.terminal.progress(format!("      {line}\n"));
        }
        false
    }

    /// The processes that have anything of this world in their environment.
    pub async fn processes(&self) -> io::Result<Vec<String>> {
        let root = self.root.clone();
        blocking::run(move || processes_of(&root)).await
    }

    /// The end of the directory, unless somebody wants to look around.
    pub fn close(self, keep: bool) {
        if keep {
            let path = self.directory.keep();
            self.terminal.progress(format!("kept: {}\n", path.display()));
        } else if let Err(error) = self.directory.close() {
            self.terminal.warn(format_args!("can't remove {}: {error}", self.root.display()));
        }
    }
}

/// The processes that have `root` in their environment. Blocks.
fn processes_of(root: &Path) -> io::Result<Vec<String>> {
    let root = root.as_os_str().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?.path();
        // A process that ends meanwhile, a zombie, or another user's.
        let Ok(environment) = fs::read(entry.join("environ")) else { continue };
        if environment.windows(root.len()).any(|part| part == root) {
            let command = fs::read(entry.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let pid = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push(format!("{pid} ({})", command.trim()));
        }
    }
    Ok(found)
}

/// A cc-ci that was started.
#[derive(Debug)]
pub struct Started<'w> {
    world: &'w World,
    label: &'static str,
    child: Child,
    out: String,
    err: Vec<String>,
}

impl Started<'_> {
    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Reads on until stderr has a line that begins so; gives the line.
    pub async fn until(&mut self, beginning: &str) -> Result<String, Broken> {
        while let Some(line) = self.child.next_line().await {
            let found = line.stream == Stream::Stderr && line.text.starts_with(beginning);
            self.take(&line);
            if found {
                return Ok(line.text);
            }
        }
        let ended = self.child.wait().await;
        let what = format!("{} ended ({ended}) before it said {beginning:?}", self.label);
        Err(Broken { what, last_lines: tail(&self.err) })
    }

    /// Reads on to the end.
    pub async fn finish(mut self) -> Finished {
        while let Some(line) = self.child.next_line().await {
            self.take(&line);
        }
        let ended = self.child.wait().await;
        Finished { label: self.label, ended, out: self.out, err: self.err }
    }

    fn take(&mut self, line: &Line) {
        match line.stream {
            Stream::Stdout => {
                self.out.push_str(&line.text);
                self.out.push('\n');
            }
            Stream::Stderr => {
                if ["== ", "-- ", "   held by"].iter().any(|start| line.text.starts_with(start)) {
                    self.world.say(&format!("   {:<9}| {}", self.label, line.text));
                }
                self.err.push(line.text.clone());
            }
        }
    }
}

/// A cc-ci that ended.
#[derive(Debug)]
pub struct Finished {
    label: &'static str,
    pub ended: Ended,
    out: String,
    pub err: Vec<String>,
}

impl Finished {
    /// What was wrong with it, with its last lines.
    pub fn broken(&self, what: impl std::fmt::Display) -> Broken {
        Broken { what: format!("{}: {what}", self.label), last_lines: tail(&self.err) }
    }

    /// Whether it ended so.
    pub fn expect(&self, exit: Exit) -> Result<(), Broken> {
        if self.ended.code == Some(i32::from(exit.code())) {
            return Ok(());
        }
        Err(self.broken(format!("{}, expected {} ({})", self.ended, exit.code(), exit.meaning())))
    }

    /// Its result.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Broken> {
        serde_json::from_str(&self.out).map_err(|error| self.broken(format!("no result: {error}")))
    }
}

fn tail(lines: &[String]) -> Vec<String> {
    lines[lines.len().saturating_sub(TAIL)..].to_vec()
}
