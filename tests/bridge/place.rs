//! A bridge with a forge and a CI of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cc_ci_core::process::{self, ProcessIdentity};
use cc_ci_core::system_info::BootId;
use cc_ci_tests::{Recipe, StartedCommand, World, built, unconfined};
use nix::sys::signal::Signal;

use crate::ci::{self, Ci};
use crate::delivery::{Delivery, SECRET};
use crate::forge::{self, Forge};
use crate::http::{Server, until};

pub struct Place {
    pub dir: tempfile::TempDir,
    started: RefCell<Vec<ProcessIdentity>>,
    pub forge: Server<Forge>,
    pub ci: Server<Ci>,
    environment: BTreeMap<&'static str, OsString>,
}

/// `serve`, running.
pub struct Serving {
    pub process: StartedCommand,
    pub hooks: SocketAddr,
    /// The dashboard, where there is one.
    pub pages: Option<SocketAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Ok(boot) = BootId::current() else { return };
        for started in self.started.borrow().iter() {
            // A failed test's own; a passed one has ended all.
            drop(process::kill_process(started, &boot, process::Signal::Kill));
        }
    }
}

impl Place {
    /// With a Drone server.
    pub fn new() -> Self {
        Self::with("")
    }

    /// With more in the table `[bridge]`.
    pub fn with(more: &str) -> Self {
        let place = Self::bare();
        let ci = format!(
            "[bridge.drone]\nurl = \"{}\"\ntoken_file = \"{}\"\nrepo = \"ops/ci\"\nbranch = \"main\"\n",
            place.ci.url(),
            place.secret("ci-token", ci::TOKEN).display()
        );
        place.configure(more, &ci);
        place
    }

    /// Without a CI: `command` is run instead of `cc-ci`.
    pub fn without_ci(command: &str) -> Self {
        Self::without_ci_with(command, "")
    }

    /// The same, with more in the table `[bridge]`.
    pub fn without_ci_with(command: &str, more: &str) -> Self {
        let place = Self::bare();
        let program = place.dir.path().join("cc-ci");
        cc_ci_tests::executable(&program, command);
        place.configure(more, &place.work(&program));
        place
    }

    /// Without a CI, where the runs are those of `world`, of the repository at `recipe`.
    pub fn running(world: &World, recipe: &Recipe, more: &str) -> Self {
        let mut place = Self::bare();
        place.forge = Server::start(Forge::with_repository(recipe.path()));
        place.environment.extend(world.environment());
        let work = place.work(&built("cc-ci"));
        place.configure(more, &work);
        let bridge = fs::read_to_string(place.config()).expect("the configuration is read");
        fs::write(place.config(), unconfined(bridge)).expect("the configuration is written");
        place
    }

    fn work(&self, program: &Path) -> String {
        let state_dir = self.path().join("work");
        format!(
            "[bridge.work]\nstate_dir = \"{}\"\ncommand = \"{}\"\n",
            state_dir.display(),
            program.display()
        )
    }

    fn bare() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // The bridge of a test is found, and ended, by its temporary directory.
        let passed = ["PATH", "TMPDIR"].into_iter();
        let environment = passed.filter_map(|name| Some((name, std::env::var_os(name)?))).collect();
        let (forge, ci) = (Server::start(Forge::new()), Server::start(Ci::default()));
        Self { dir, started: RefCell::default(), forge, ci, environment }
    }

    fn configure(&self, more: &str, who_runs: &str) {
        let often = |key: &str| {
            if more.contains(&format!("{key} = ")) { String::new() } else { format!("{key} = \"1s\"\n") }
        };
        let (watch, poll) = (often("watch"), often("poll"));
        let config = format!(
            "[bridge]\ndatabase = \"{}\"\nforge = \"{}\"\ntoken_file = \"{}\"\nhook_secret_file = \"{}\"\nlisten = \"127.0.0.1:0\"\n\
             repos = [\"recipes/notes\"]\nat_once = 40\n{poll}{watch}{more}\n{who_runs}",
            self.database().display(),
            self.forge.url(),
            self.secret("token", forge::TOKEN).display(),
            self.secret("hook-secret", SECRET).display(),
        );
        fs::write(self.config(), config).expect("the configuration is written");
    }

    fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("the secret is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the secret is kept");
        path
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(built("cc-ci-bridge"));
        command.arg("--config").arg(self.config()).args(args).env_clear().envs(&self.environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn start(&self, args: &[&str]) -> StartedCommand {
        let process = StartedCommand::new(self.command(args).spawn().expect("the bridge starts"));
        let boot = BootId::current().expect("a boot id");
        // None where it has ended already.
        self.started.borrow_mut().extend(ProcessIdentity::of(process.pid(), boot));
        process
    }

    /// Starts `serve`, and waits until it receives.
    #[track_caller]
    pub fn serve(&self) -> Serving {
        let mut process = self.start(&["serve"]);
        let address = |line: String, end| {
            let address = line.split("http://").nth(1).and_then(|rest| rest.strip_suffix(end));
            address.and_then(|address| address.parse().ok()).expect("an address")
        };
        let shows = fs::read_to_string(self.config()).is_ok_and(|text| text.contains("[bridge.dashboard]"));
        let pages = shows.then(|| address(process.wait_for("shows what goes on at http://"), "/"));
        let hooks = address(process.wait_for("receives at http://"), "/hook");
        Serving { process, hooks, pages }
    }

    /// Starts the bridge, and waits until it has polled: where the next poll is far off, only what is delivered is found.
    pub fn serve_what_is_delivered(&self) -> Serving {
        let serving = self.serve();
        until("it has polled", || (self.forge.lock().polls > 0).then_some(()));
        serving
    }

    /// Runs a command to its end, and returns its exit code and its stdout.
    pub fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.command(args).output().expect("the bridge starts");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn explain(&self, pull: u64, comment: u64) -> String {
        let url = format!("{}/recipes/notes/pulls/{pull}#issuecomment-{comment}", self.forge.url());
        let (code, text) = self.run(&["explain", &url]);
        assert_eq!(code, Some(0), "{text}");
        text
    }

    /// Makes a comment, and delivers it.
    #[track_caller]
    pub fn ask(&self, serving: &Serving, pull: u64, author: &str, body: &str) -> u64 {
        let delivery = self.comment(pull, author, body);
        assert_eq!(delivery.1.send(serving.hooks), Some(200));
        delivery.0
    }

    pub fn comment(&self, pull: u64, author: &str, body: &str) -> (u64, Delivery) {
        let mut forge = self.forge.lock();
        let id = forge.comment(pull, author, body);
        (id, Delivery::of(forge.comments.last().expect("a comment")))
    }

    /// Waits until the bridge's comment at a pull request has `text`.
    #[track_caller]
    pub fn told(&self, pull: u64, text: &str) -> String {
        until(&format!("a comment with {text:?} at pull request {pull}"), || {
            let forge = self.forge.lock();
            let told = forge.told(pull);
            told.iter().find(|comment| comment.body.contains(text)).map(|comment| comment.body.clone())
        })
    }

    /// Waits for the build of a pull request.
    #[track_caller]
    pub fn build(&self, pull: u64) -> u64 {
        until(&format!("a build of pull request {pull}"), || {
            self.ci.lock().of_pull(pull).first().map(|build| build.number)
        })
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("db/bridge.sqlite")
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Ends a process gracefully.
#[track_caller]
pub fn end(process: StartedCommand) {
    process.signal(Signal::SIGTERM);
    assert_eq!(process.wait().code, 0);
}
