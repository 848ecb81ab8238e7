//! What others have on the engine, and nobody may touch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{BUSYBOX, Engine, Object, until};

/// The stacks of others. `blog-facade` looks like a run app's name by accident.
const STACKS: [&str; 3] = ["bystander", "blog_example_org", "blog-facade_example_org"];
/// How the names of loose objects begin, which carry no label.
const LOOSE: &str = "loose-";

/// Everything that is to be known about the bystanders at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it is compared with another look"]
pub struct Bystanders {
    found: BTreeMap<String, Value>,
}

impl Bystanders {
    /// Looks.
    #[track_caller]
    pub fn look(engine: &Engine) -> Self {
        Self::look_at(engine, is_one)
    }

    /// The same of whatever `choose` names: others that one test has made.
    #[track_caller]
    pub fn look_at(engine: &Engine, choose: impl Fn(&Object) -> bool) -> Self {
        Self::of(engine, &engine.objects(), choose)
    }

    /// The same of what a node has itself.
    #[track_caller]
    pub fn look_local(engine: &Engine, choose: impl Fn(&Object) -> bool) -> Self {
        // A network that spans nodes tells of its tasks on others.
        Self::of(engine, &engine.local_objects(), |object| object.kind != "network" && choose(object))
    }

    fn of(engine: &Engine, objects: &[Object], choose: impl Fn(&Object) -> bool) -> Self {
        let mut found = BTreeMap::new();
        for object in objects.iter().filter(|object| choose(object)) {
            let Some(message) = engine.get(&object.path()) else { continue };
            // A container's anonymous volumes have no name that tells.
            for mount in message["Mounts"].as_array().into_iter().flatten() {
                if let Some(volume) = mount["Name"].as_str()
                    && let Some(message) = engine.get(&format!("/volumes/{volume}"))
                {
                    found.insert(format!("volume {volume}"), message);
                }
            }
            found.insert(format!("{object} {}", object.id), message);
        }
        Self { found }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Asserts that they are exactly as they were: same objects, ids, versions, stamps, containers.
    #[track_caller]
    pub fn assert_unchanged(&self, engine: &Engine) {
        self.assert_same(&Self::look(engine));
    }

    /// The same of a later look.
    #[track_caller]
    pub fn assert_same(&self, later: &Self) {
        let changes = self.changes(later);
        assert!(changes.is_empty(), "bystanders were touched:\n{}", changes.join("\n"));
    }

    /// What differs in a later look, in words.
    pub fn changes(&self, later: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, before) in &self.found {
            match later.found.get(name) {
                None => changes.push(format!("{name} is gone")),
                Some(now) => differences(name, before, now, &mut changes),
            }
        }
        let new = later.found.keys().filter(|name| !self.found.contains_key(*name));
        changes.extend(new.map(|name| format!("{name} is new")));
        changes
    }

    /// Makes them, and waits until all of them run.
    #[track_caller]
    pub fn make(engine: &Engine) {
        let notice = tempfile::NamedTempFile::new().expect("a file for a config");
        fs::write(notice.path(), "not yours\n").expect("a file for a config");
        for stack in STACKS {
            engine.docker_with(["secret", "create", &format!("{stack}_key_v1"), "-"], "not yours");
            engine.deploy(stack, &compose(stack, notice.path()));
        }
        engine.docker_with(["secret", "create", "loose-secret", "-"], "not yours");
        engine.docker_with(["config", "create", "loose-config", "-"], "not yours");
        engine.docker(["volume", "create", "loose-volume"]);
        engine.docker(["network", "create", "--driver", "overlay", "--attachable", "loose-network"]);
        engine.docker(
            ["run", "--detach", "--name", "loose-container", "--volume", "/anonymous"].iter().chain(&[
                "--network",
                "loose-network",
                BUSYBOX,
                "sleep",
                "1000000",
            ]),
        );
        engine.docker(["service", "create", "--detach", "--name", "loose-service"].iter().chain(&[
            "--no-resolve-image",
            "--endpoint-mode=dnsrr",
            "--constraint=node.role==manager",
            "--network=loose-network",
            // As a reverse proxy is: an engine makes a network anew for the first task and the last one of it.
            "--network=proxy",
            "--secret=loose-secret",
            "--config=loose-config",
            "--mount=type=volume,source=loose-volume,target=/data",
            BUSYBOX,
            "sleep",
            "1000000",
        ]));
        let services = STACKS.iter().map(|stack| format!("{stack}_app")).chain(["loose-service".to_owned()]);
        for service in services {
            until(&format!("{service} runs"), || engine.running(&service) == 1);
        }
    }

    /// Takes them away. Returns what is left of them.
    pub fn remove(engine: &Engine) -> Vec<Object> {
        engine.clear(is_one)
    }
}

fn is_one(object: &Object) -> bool {
    let of_stack =
        |name: &str| STACKS.iter().any(|stack| name == *stack || name.starts_with(&format!("{stack}_")));
    object.name.starts_with(LOOSE)
        || of_stack(&object.name)
        || object.stack.as_deref().is_some_and(|stack| STACKS.contains(&stack))
}

/// Objects of every kind, as a recipe has them: one secret is nobody's by its labels.
fn compose(stack: &str, notice: &Path) -> String {
    let notice = notice.display();
    format!(
        r#"version: "3.8"
services:
  app:
    image: {BUSYBOX}
    command: ["sleep", "1000000"]
    stop_grace_period: 1s
    volumes: ["data:/data"]
    secrets: [key]
    configs: [notice]
    networks: [proxy, internal]
    deploy:
      endpoint_mode: dnsrr
      placement:
        constraints: ["node.role == manager"]
      labels: ["coop-cloud.{stack}.version=1.0.0+1.0.0"]
volumes:
  data:
secrets:
  key:
    external: true
    name: {stack}_key_v1
configs:
  notice:
    name: {stack}_notice_v1
    file: {notice}
networks:
  proxy:
    external: true
  internal:
"#
    )
}

/// Where two values differ, one line a place.
fn differences(place: &str, before: &Value, now: &Value, changes: &mut Vec<String>) {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
            for key in keys {
                let [before, now] = [before, now].map(|fields| fields.get(key).unwrap_or(&Value::Null));
                differences(&format!("{place}.{key}"), before, now, changes);
            }
        }
        // The engine gives a container's mounts, a network's peers and the like in any order.
        (Value::Array(before), Value::Array(now)) if same_elements(before, now) => {}
        (before, now) if before != now => changes.push(format!("{place}: {before} became {now}")),
        _ => {}
    }
}

/// Whether two lists have the same elements, as often, in whatever order.
fn same_elements(one: &[Value], other: &[Value]) -> bool {
    let sorted = |list: &[Value]| {
        let mut texts: Vec<String> = list.iter().map(ToString::to_string).collect();
        texts.sort_unstable();
        texts
    };
    one.len() == other.len() && sorted(one) == sorted(other)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changes(before: Value, now: Value) -> Vec<String> {
        let look = |value| Bystanders { found: BTreeMap::from([("it".to_owned(), value)]) };
        look(before).changes(&look(now))
    }

    #[test]
    fn lists_are_compared_without_their_order() {
        let mounts = |names: &[&str]| json!({"Mounts": names.iter().map(|name| json!({"Name": name})).collect::<Vec<_>>()});
        assert!(changes(mounts(&["a", "b"]), mounts(&["b", "a"])).is_empty());
        for other in [&["a"][..], &["a", "a"], &["a", "b", "b"], &["a", "c"]] {
            assert_eq!(changes(mounts(&["a", "b"]), mounts(other)).len(), 1, "{other:?}");
        }
    }
}
