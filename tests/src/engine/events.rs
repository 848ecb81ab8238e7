//! What an engine says of itself.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::Engine;
use crate::EVENT_LIMIT;

/// The events of an engine from one moment on. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Events {
    child: Child,
    message: Receiver<Value>,
}

impl Events {
    /// Everything from now on that passes the `filters`, e.g. `type=service`. Nothing is missed until the
    /// subscription stands: the engine tells it afterwards.
    ///
    /// # Panics
    /// When the docker command can't be started.
    #[track_caller]
    pub fn follow(engine: &Engine, filters: &[&str]) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        let since = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
        let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
        let words = ["events", "--since", &since, "--format", "{{json .}}"];
        let mut command = engine.command(words.into_iter().chain(filters));
        let mut child = command.stderr(Stdio::null()).spawn().expect("docker starts");
        let (sender, message) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).expect("an event is JSON");
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        Self { child, message }
    }

    /// The next one that `is_it`.
    ///
    /// # Panics
    /// When there is none before patience ends.
    #[track_caller]
    pub fn first(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            match self.message.recv_timeout(EVENT_LIMIT) {
                Ok(event) if is_it(&event) => return event,
                Ok(_) => {}
                Err(error) => panic!("no event of {what}: {error}"),
            }
        }
    }

    /// What an event's object is called; empty when it has no name.
    pub fn name(event: &Value) -> &str {
        event["Actor"]["Attributes"]["name"].as_str().unwrap_or_default()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // It may have ended with its engine.
        let _ended = self.child.kill().is_err();
        let _gone = self.child.wait().is_err();
    }
}
