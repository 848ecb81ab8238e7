//! The stream of the engine's events, as far as one stack is concerned.
//!
//! One subscription, filtered by the engine for the few kinds that tell anything, and here for the stack. A stream
//! that breaks is opened again, and says so as if something had happened: whoever listens looks again. Nothing runs
//! on its own; an [`Events`] that is dropped closes its connection.
//!
//! # Limitations
//! Tasks have no events: what happens to one before it has a container, or on another node, is seen by asking only.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bollard::errors::Error;
use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::EventsOptionsBuilder;
use cc_ci_core::names::Stack;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::time::Instant;

use crate::client::Client;
use crate::snapshot::NAMESPACE;

/// The pause before a broken stream is opened again; doubled each time.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The `exec_…` of healthchecks are by far the most events of a host, and tell nothing that `health_status` does not.
const ACTIONS: [&str; 6] = ["create", "start", "health_status", "die", "update", "remove"];

type Messages = Pin<Box<dyn Stream<Item = Result<EventMessage, Error>> + Send>>;

/// The events of one stack.
pub(crate) struct Events<'a> {
    client: &'a Client,
    stack: &'a Stack,
    stream: Option<Messages>,
    /// From when on events are wanted, in seconds since the epoch: the engine repeats what came before the
    /// subscription stood.
    since: String,
    retry_at: Option<Instant>,
    pause: Duration,
    /// The containers that ended. The engine goes on listing them as running for some 100 ms.
    dead: HashSet<String>,
}

impl<'a> Events<'a> {
    /// The events from now on.
    pub(crate) fn of(client: &'a Client, stack: &'a Stack) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
        Self { client, stack, stream: None, since, retry_at: None, pause: PAUSE, dead: HashSet::new() }
    }

    /// The containers that were heard to have ended.
    pub(crate) fn dead(&self) -> &HashSet<String> {
        &self.dead
    }

    /// Returns when something happened to the stack, with whatever else has been said by then; or when the stream
    /// broke. Cancel-safe.
    pub(crate) async fn heard(&mut self) {
        loop {
            let Some(stream) = &mut self.stream else {
                self.open().await;
                continue;
            };
            match stream.next().await {
                Some(Ok(event)) => {
                    self.pause = PAUSE;
                    if self.takes(&event) {
                        break;
                    }
                }
                Some(Err(_)) | None => return self.broke(),
            }
        }
        // Deploys make events by the dozen: one look is enough for all of them.
        while let Some(next) = self.stream.as_mut().and_then(|stream| stream.next().now_or_never()) {
            match next {
                Some(Ok(event)) => drop(self.takes(&event)),
                Some(Err(_)) | None => return self.broke(),
            }
        }
    }

    /// Drives `work` to its end and listens meanwhile; says whether something was heard.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = T>) -> (T, bool) {
        let mut heard = false;
        tokio::pin!(work);
        loop {
            tokio::select! {
                // Polled first, so that the subscription is asked for before the first question is.
                biased;
                () = self.heard() => heard = true,
                done = &mut work => return (done, heard),
            }
        }
    }

    async fn open(&mut self) {
        if let Some(at) = self.retry_at {
            tokio::time::sleep_until(at).await;
        }
        match self.client.docker().await {
            Ok(docker) => {
                let filters: HashMap<&str, Vec<&str>> =
                    [("type", vec!["container", "service"]), ("event", ACTIONS.to_vec())].into();
                let options = EventsOptionsBuilder::new().since(&self.since).filters(&filters).build();
                self.stream = Some(docker.events(Some(options)).boxed());
            }
            Err(_) => self.broke(),
        }
    }

    fn broke(&mut self) {
        self.stream = None;
        self.retry_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Whether an event is of this stack.
    fn takes(&mut self, event: &EventMessage) -> bool {
        let Some(actor) = &event.actor else { return false };
        let attribute = |key: &str| actor.attributes.as_ref().and_then(|attributes| attributes.get(key));
        match event.typ {
            Some(EventMessageTypeEnum::CONTAINER) => {
                if attribute(NAMESPACE).map(String::as_str) != Some(self.stack.as_str()) {
                    return false;
                }
                if let (Some("die"), Some(id)) = (event.action.as_deref(), &actor.id) {
                    self.dead.insert(id.clone());
                }
                true
            }
            // A service's event has no labels. Another stack's whose name begins like this one's costs a look.
            Some(EventMessageTypeEnum::SERVICE) => {
                attribute("name").is_some_and(|name| self.stack.prefixes(name))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// As Engine 20.10 says them.
    fn container(stack: &str, action: &str) -> Value {
        json!({
            "Type": "container",
            "Action": action,
            "Actor": {"ID": "c1", "Attributes": {"com.docker.stack.namespace": stack, "name": "x.1.y"}},
            "scope": "local",
            "timeNano": 1
        })
    }

    fn service(name: &str, action: &str) -> Value {
        json!({"Type": "service", "Action": action, "Actor": {"ID": "s1", "Attributes": {"name": name}}})
    }

    #[test]
    fn what_happens_to_others_is_not_heard() {
        let (client, stack) = (Client::new("/none".into()), "a_test_x".parse().unwrap());
        let mut events = Events::of(&client, &stack);
        let mut takes = |event: Value| events.takes(&serde_json::from_value(event).unwrap());
        assert!(takes(container("a_test_x", "start")));
        assert!(takes(container("a_test_x", "health_status: healthy")));
        assert!(!takes(container("b_test_x", "start")));
        assert!(!takes(
            json!({"Type": "container", "Action": "start", "Actor": {"ID": "c1", "Attributes": {}}})
        ));
        assert!(takes(service("a_test_x_app", "update")));
        assert!(!takes(service("b_test_x_app", "update")));
        assert!(!takes(service("a_test_xy", "update")));
        assert!(!takes(json!({"Type": "image", "Action": "pull"})));
    }

    #[test]
    fn who_ended_is_remembered() {
        let (client, stack) = (Client::new("/none".into()), "a_test_x".parse().unwrap());
        let mut events = Events::of(&client, &stack);
        let mut takes = |event: Value| events.takes(&serde_json::from_value(event).unwrap());
        takes(container("b_test_x", "die"));
        takes(container("a_test_x", "start"));
        assert!(events.dead().is_empty());
        let mut takes = |event: Value| events.takes(&serde_json::from_value(event).unwrap());
        takes(container("a_test_x", "die"));
        assert!(events.dead().contains("c1"));
    }
}
