//! Everything that exists on an engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::{Engine, holds};

/// The networks that an engine has by itself, and the one that ours have.
const OWN_NETWORKS: [&str; 6] = ["bridge", "docker_gwbridge", "host", "ingress", "none", "proxy"];

/// One object of an engine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// What it is: `service`, `task`, `container`, `volume`, `secret`, `config` or `network`.
    pub kind: &'static str,
    /// What it is called; a task by its service.
    pub name: String,
    /// Its id; a volume's is its name.
    pub id: String,
    /// The stack that its labels name.
    pub stack: Option<String>,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl Object {
    /// Whether its name or its stack says that it is of an app below `suffix`.
    pub fn is_below(&self, suffix: &str) -> bool {
        let stacked = suffix.replace('.', "_");
        let names = [Some(&self.name), self.stack.as_ref()];
        names.into_iter().flatten().any(|name| name.contains(suffix) || name.contains(&stacked))
    }

    /// Where the API tells all about it.
    pub fn path(&self) -> String {
        match self.kind {
            "container" => format!("/containers/{}/json", self.id),
            kind => format!("/{kind}s/{}", self.id),
        }
    }
}

impl Engine {
    /// Everything that exists but what an engine has by itself, the network `proxy`, and images.
    #[track_caller]
    pub fn objects(&self) -> Vec<Object> {
        // Tasks first: whoever is removed meanwhile is then seen in one of them.
        let tasks = self.list("/tasks");
        let services = self.list("/services");
        let service_names: BTreeMap<String, String> =
            services.iter().map(|service| (text(&service["ID"]), text(&service["Spec"]["Name"]))).collect();
        let mut objects = Vec::new();
        let mut add = |kind, name: String, id: &Value, labels: &Value| {
            objects.push(Object { kind, name, id: text(id), stack: stack_of(labels) });
        };
        for task in &tasks {
            let service = text(&task["ServiceID"]);
            let name = service_names.get(&service).cloned().unwrap_or(service);
            add("task", name, &task["ID"], &task["Spec"]["ContainerSpec"]["Labels"]);
        }
        let secrets = self.list("/secrets").into_iter().map(|found| ("secret", found));
        let configs = self.list("/configs").into_iter().map(|found| ("config", found));
        let services = services.into_iter().map(|found| ("service", found));
        for (kind, found) in services.chain(secrets).chain(configs) {
            add(kind, text(&found["Spec"]["Name"]), &found["ID"], &found["Spec"]["Labels"]);
        }
        objects.extend(self.local_objects());
        objects.sort();
        objects
    }

    /// What a node has itself, which is all that can be asked of one that does not manage the Swarm: containers,
    /// volumes and networks.
    #[track_caller]
    pub fn local_objects(&self) -> Vec<Object> {
        let mut objects = Vec::new();
        let mut add = |kind, name: String, id: &Value, labels: &Value| {
            objects.push(Object { kind, name, id: text(id), stack: stack_of(labels) });
        };
        for container in self.list("/containers/json?all=1") {
            let name = text(&container["Names"][0]).trim_start_matches('/').to_owned();
            add("container", name, &container["Id"], &container["Labels"]);
        }
        for volume in self.list("/volumes") {
            add("volume", text(&volume["Name"]), &volume["Name"], &volume["Labels"]);
        }
        for network in self.list("/networks") {
            let name = text(&network["Name"]);
            if !OWN_NETWORKS.contains(&name.as_str()) {
                add("network", name, &network["Id"], &network["Labels"]);
            }
        }
        objects
    }

    #[track_caller]
    fn list(&self, path: &str) -> Vec<Value> {
        match self.get(path) {
            Some(Value::Array(list)) => list,
            Some(mut other) => match other["Volumes"].take() {
                Value::Array(list) => list,
                // The engine's word for none.
                _ => Vec::new(),
            },
            None => panic!("the engine knows no {path}"),
        }
    }

    /// Waits, for as long as patience lasts, until the Swarm has forgotten what it was told to: tasks of services
    /// that are gone, and containers of tasks that are gone.
    #[track_caller]
    pub fn wait_until_idle(&self) {
        let ids =
            |list: &[Value]| -> BTreeSet<String> { list.iter().map(|found| text(&found["ID"])).collect() };
        holds(|| {
            let containers = self.list("/containers/json?all=1");
            let tasks = self.list("/tasks");
            let services = ids(&self.list("/services"));
            let known = ids(&tasks);
            let orphan = |container: &Value| {
                container["Labels"]["com.docker.swarm.task.id"]
                    .as_str()
                    .is_some_and(|task| !known.contains(task))
            };
            tasks.iter().all(|task| services.contains(&text(&task["ServiceID"])))
                && !containers.iter().any(orphan)
        });
    }

    /// Removes what is named, whatever still needs it: for what a failed test left, and for the end. What is gone
    /// is no error; what stays is seen by looking.
    pub(super) fn remove(&self, objects: &[Object]) {
        for kind in ["service", "container", "volume", "secret", "config", "network"] {
            let ids: Vec<&str> = objects
                .iter()
                .filter(|object| object.kind == kind)
                .map(|object| object.id.as_str())
                .collect();
            if ids.is_empty() {
                continue;
            }
            let words: &[&str] = match kind {
                "container" => &["rm", "--force", "--volumes"],
                "volume" => &["volume", "rm", "--force"],
                kind => &[kind, "rm"],
            };
            self.try_docker(words.iter().chain(&ids));
        }
    }

    /// Removes what `choose` names until nothing of it is there, or patience ends. Returns what is left.
    pub(super) fn clear(&self, choose: impl Fn(&Object) -> bool) -> Vec<Object> {
        let mut left = Vec::new();
        holds(|| {
            left = self.objects();
            left.retain(|object| choose(object));
            self.remove(&left);
            left.is_empty()
        });
        left
    }
}

fn stack_of(labels: &Value) -> Option<String> {
    labels["com.docker.stack.namespace"].as_str().map(str::to_owned)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
