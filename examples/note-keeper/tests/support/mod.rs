//! Real servers on real ports, chosen by the system.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const KEY: &str = "0123456789abcdef0123456789abcdef";

/// After this long, what should have ended counts as hanging. No test that passes ever waits for it.
pub const HANGS: Duration = Duration::from_secs(30);

/// The built program, with an environment that holds nothing but PATH.
pub fn note_keeper() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_note-keeper"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// A data directory and the files around it.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.data()).unwrap();
        std::fs::write(place.key(), KEY).unwrap();
        place
    }

    pub fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    pub fn key(&self) -> PathBuf {
        self.0.path().join("write_key")
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn settings(&self) -> BTreeMap<String, String> {
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        [
            ("NOTES_LISTEN", "127.0.0.1".to_owned()),
            ("NOTES_PORT", "0".to_owned()),
            ("NOTES_DATA_DIR", path(self.data())),
            ("NOTES_WRITE_KEY_FILE", path(self.key())),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    pub fn command(&self, format: &str, more: &[(&str, &str)]) -> Command {
        let mut command = note_keeper();
        command.args(["serve", "--data-format", format]).envs(self.settings());
        command.envs(more.iter().copied());
        command
    }

    pub fn serve(&self, format: &str, more: &[(&str, &str)]) -> Service {
        Service::start(self.command(format, more))
    }
}

/// A running service; killed when dropped.
pub struct Service {
    child: Child,
    stderr: Option<BufReader<ChildStderr>>,
    /// What it said first: where it listens, for a server.
    pub url: String,
}

impl Service {
    /// Starts it and waits until it says that it is ready.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let line = line.trim_end();
        let url = line.strip_prefix("listening on ").unwrap_or(line).to_owned();
        let service = Self { child, stderr: Some(stderr), url };
        assert!(line == "counting" || service.url != line, "it did not start: {line}");
        service
    }

    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for its end; gives what it said since it was ready.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let (sender, ended) = mpsc::channel();
        if let Some(mut stderr) = self.stderr.take() {
            std::thread::spawn(move || {
                let mut said = String::new();
                let read = stderr.read_to_string(&mut said);
                sender.send(read.map(|_| said)).unwrap();
            });
            let said = ended.recv_timeout(HANGS).unwrap().unwrap();
            return (self.child.wait().unwrap(), said);
        }
        (self.child.wait().unwrap(), String::new())
    }

    /// Goes away as the reader of what it says.
    pub fn close_log(&mut self) {
        self.stderr = None;
    }

    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let (status, said) = self.wait();
        assert!(status.success(), "{status}: {said}");
    }

    pub fn get(&self, path: &str) -> String {
        let output = note_keeper().args(["get", &format!("{}{path}", self.url)]).output().unwrap();
        ok(output)
    }

    pub fn post(&self, place: &Place, text: &str) -> String {
        let url = format!("{}/notes", self.url);
        ok(note_keeper().args(["post", &url]).arg(place.key()).arg(text).output().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The output of a command that must have worked.
pub fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The status and the words of a command that must not start to serve.
pub fn refused(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    if said.starts_with("listening") {
        child.kill().unwrap();
    } else {
        stderr.read_to_string(&mut said).unwrap();
    }
    (child.wait().unwrap().code(), said)
}
