//! A private Docker engine: a `dockerd` of our own, in namespaces of its own, that is a Swarm of one node.
//!
//! It shares nothing with an engine of the machine: other directories, another socket, another network, other
//! control groups. `private-engine run -- COMMAND…` starts one, runs the suites against it, looks whether they left it
//! empty, and takes it away; a test of engine trouble starts its own ([`PrivateEngine`]).
//!
//! All of the engine's state is in memory that belongs to its mount namespace, and its first process is process 1
//! of its pid namespace. So its end is the kernel's affair: when that process dies, however it dies, every other
//! process, mount and network of the engine goes with it. It ends when its owner does, which it sees at the end of its
//! stdin. What a kill at the worst moment can leave is one small directory and empty control groups. The next start
//! removes those, and asks the kernel who is dead: a lock, and a group that can't be removed while a process is in it.
//!
//! `private-engine run --nodes 3` starts several, joined by a bridge in a network of its own, as one Swarm
//! ([`PrivateSwarm`]): its nodes are killed, stopped, cut off and brought back by whoever has [`NODES`] in its environment.

mod api;
mod bystanders;
mod certificates;
mod cgroups;
mod directory;
mod events;
mod images;
pub mod inner;
mod nodes;
mod objects;
mod private;
mod separate;
pub mod switch;
mod test;

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use api::http_get;
pub use bystanders::Bystanders;
pub use events::Events;
pub use images::{BUSYBOX, NOTE_KEEPER};
pub use nodes::{NODES, Node, Nodes, PrivateSwarm, tell_owner};
pub use objects::Object;
pub use private::{Failure, PrivateEngine, left_of, missing, processes_of, sweep};
pub use test::TestEngine;

use crate::EVENT_LIMIT;
use crate::command::Ended;
use crate::pipes::in_time;
use crate::skip::skip;

/// The variable that names the engine of the suites: `unix:///…/docker.sock`.
pub const ENGINE: &str = "CCCI_TEST_ENGINE";
/// How all names of engines begin: of their directories and control groups.
const PREFIX: &str = "cc-ci-engine-";
/// Why there is no engine, where somebody knows better than [`UNSET`].
const NO_ENGINE: &str = "CCCI_TEST_NO_ENGINE";
/// Why engine tests are skipped, and what to do about it.
const UNSET: &str = "no private Docker engine (CCCI_TEST_ENGINE is not set): run as root, with docker.io and \
     busybox-static, `target/debug/private-engine run -- cargo test -p cc-ci-tests --test swarm`";

/// Why tests of several nodes are skipped, and what to do about it.
const NO_NODES: &str = "no private Swarm of several nodes (CCCI_TEST_NODES is not set): run as root, with docker.io, \
     iproute2 and busybox-static, `target/debug/private-engine run --nodes 3 -- cargo test -p cc-ci-tests --test nodes`";

/// An engine, by its socket.
#[derive(Debug, Clone)]
pub struct Engine {
    socket: PathBuf,
}

impl Engine {
    pub(crate) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What `DOCKER_HOST` is for it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// A call of the docker command, with nothing of the caller's configuration.
    pub fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Command {
        let home = self.socket.with_file_name("client");
        let mut command = Command::new("docker");
        command
            .env_clear()
            .env("PATH", private::path())
            .env("HOME", &home)
            .env("DOCKER_CONFIG", &home)
            .arg("--host")
            .arg(self.host())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the docker command. Gives what it said, without the line's end.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn docker<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> String {
        self.try_docker(args).expect(0).stdout.trim_end().to_owned()
    }

    /// The same, for what may fail.
    #[track_caller]
    pub fn try_docker<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Ended {
        ended(self.command(args).spawn(), "")
    }

    /// The same, with something to read.
    #[track_caller]
    pub fn docker_with<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I, stdin: &str) -> String {
        let child = self.command(args).stdin(Stdio::piped()).spawn();
        ended(child, stdin).expect(0).stdout.trim_end().to_owned()
    }

    /// Deploys a stack from the text of its compose file. What runs when is not waited for.
    #[track_caller]
    pub fn deploy(&self, stack: &str, compose: &str) {
        self.docker_with(
            ["stack", "deploy", "--resolve-image", "never", "--compose-file", "-", stack],
            compose,
        );
    }

    /// The answer to `GET path`, e.g. `/services/some-name`; `None` when there is no such thing.
    ///
    /// # Panics
    /// When the engine can't be asked.
    #[track_caller]
    pub fn get(&self, path: &str) -> Option<Value> {
        match api::get(&self.socket, path) {
            Ok(found) => found,
            Err(error) => panic!("{error}"),
        }
    }

    /// The tasks of a service, whatever their state.
    #[track_caller]
    pub fn tasks(&self, service: &str) -> Vec<Value> {
        let Some(service) = self.get(&format!("/services/{service}")) else { return Vec::new() };
        let id = service["ID"].as_str().unwrap_or_default();
        // {"service": ["ID"]}, as a URL has it: asking for all would cost a busy engine the more, the more run.
        let tasks = self.get(&format!("/tasks?filters=%7B%22service%22%3A%5B%22{id}%22%5D%7D"));
        let Some(Value::Array(tasks)) = tasks else { return Vec::new() };
        tasks
    }

    /// How many tasks of a service run.
    #[track_caller]
    pub fn running(&self, service: &str) -> usize {
        self.tasks(service).iter().filter(|task| task["Status"]["State"] == "running").count()
    }

    /// The address that the first running task of a service has on this host. From the engine's network, where the
    /// suites run, it answers without a proxy.
    #[track_caller]
    pub fn address(&self, service: &str) -> Option<IpAddr> {
        let tasks = self.tasks(service);
        let task = tasks.iter().find(|task| task["Status"]["State"] == "running")?;
        let container = task["Status"]["ContainerStatus"]["ContainerID"].as_str()?;
        let network = self.get("/networks/docker_gwbridge")?;
        network["Containers"][container]["IPv4Address"].as_str()?.split('/').next()?.parse().ok()
    }

    /// Makes it a Swarm with the network `proxy`, and gives it its images.
    fn found(&self, note_keeper: &Path) -> Result<(), Failure> {
        self.call(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377"])?;
        self.call(&["network", "create", "--driver", "overlay", "--attachable", "proxy"])?;
        images::import(self, note_keeper)
    }

    /// Runs the docker command, where its failure is no failed test.
    fn call(&self, args: &[&str]) -> Result<String, Failure> {
        let output = self.command(args).output().map_err(|error| format!("can't start docker: {error}"))?;
        let text = if output.status.success() { &output.stdout } else { &output.stderr };
        let text = String::from_utf8_lossy(text).trim().to_owned();
        if output.status.success() { Ok(text) } else { Err(text.into()) }
    }
}

/// Waits until `holds`. A Swarm has no events for its tasks, so this looks.
#[track_caller]
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds(condition), "in vain: {what}");
}

/// Whether `condition` holds before patience ends.
fn holds(mut condition: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + EVENT_LIMIT;
    let mut pause = Duration::from_millis(20);
    while !condition() {
        if Instant::now() >= until {
            return false;
        }
        // Looking without a pause would take the engine's processor.
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(250));
    }
    true
}

/// Writes that `test` is skipped because there is no engine.
fn skip_for_want_of_one(test: &str) {
    skip(test, &std::env::var(NO_ENGINE).unwrap_or_else(|_| UNSET.to_owned()));
}

/// The same, because there are no nodes.
fn skip_for_want_of_nodes(test: &str) {
    skip(test, &std::env::var(NO_ENGINE).unwrap_or_else(|_| NO_NODES.to_owned()));
}

#[track_caller]
fn ended(child: std::io::Result<std::process::Child>, stdin: &str) -> Ended {
    let mut child = child.expect("docker starts");
    if let Some(mut pipe) = child.stdin.take() {
        // A command that reads nothing has failed, and says why.
        let _unread = pipe.write_all(stdin.as_bytes()).is_err();
    }
    // It ends with the engine at last, when that has stopped to answer.
    let output =
        in_time("docker is done", move || child.wait_with_output()).expect("a child can be waited for");
    let code = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: code.unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}
