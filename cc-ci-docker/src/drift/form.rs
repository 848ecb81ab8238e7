//! One form for two specifications: lists whose order says nothing become maps, ids become names, and what is left out
//! because it is the default stands there.

use std::collections::BTreeMap;

use cc_ci_core::recipe::says_nothing;
use serde_json::{Map, Value, json};

/// A field, by its parent and its key, and its value.
type Default = (&'static str, &'static str, fn() -> Value);

/// What the engine takes where nothing is said. Older ones leave some of it out when asked.
const DEFAULTS: [Default; 18] = [
    ("/TaskTemplate", "Runtime", || json!("container")),
    ("/TaskTemplate/ContainerSpec", "Isolation", || json!("default")),
    ("/TaskTemplate/ContainerSpec", "StopGracePeriod", || json!(10 * SECOND)),
    ("/TaskTemplate/ContainerSpec/Healthcheck", "Interval", || json!(30 * SECOND)),
    ("/TaskTemplate/ContainerSpec/Healthcheck", "Timeout", || json!(30 * SECOND)),
    ("/TaskTemplate/ContainerSpec/Healthcheck", "Retries", || json!(3)),
    ("/TaskTemplate/RestartPolicy", "Condition", || json!("any")),
    ("/TaskTemplate/RestartPolicy", "Delay", || json!(5 * SECOND)),
    ("/UpdateConfig", "Parallelism", || json!(1)),
    ("/UpdateConfig", "FailureAction", || json!("pause")),
    ("/UpdateConfig", "Monitor", || json!(5 * SECOND)),
    ("/UpdateConfig", "Order", || json!("stop-first")),
    ("/RollbackConfig", "Parallelism", || json!(1)),
    ("/RollbackConfig", "FailureAction", || json!("pause")),
    ("/RollbackConfig", "Monitor", || json!(5 * SECOND)),
    ("/RollbackConfig", "Order", || json!("stop-first")),
    ("/EndpointSpec", "Mode", || json!("vip")),
    ("", "Mode", || json!("replicated 1")),
];

/// In the engine's nanoseconds.
pub(super) const SECOND: u64 = 1_000_000_000;

/// A text among others that may be empty, and is no less there for it.
pub(super) fn present(text: &str) -> Value {
    Value::from(format!("={text}"))
}

/// Brings what the engine gives of a service into the form of [`ordered`](super::ordered).
pub(super) fn normalise(spec: &mut Value, networks: &BTreeMap<String, String>) {
    // How often somebody forced an update, and which machines the image is for, nobody orders.
    remove(spec, "/TaskTemplate", "ForceUpdate");
    remove(spec, "/TaskTemplate/Placement", "Platforms");
    change(spec, "/Mode", |mode| Value::from(self::mode(mode)));
    change(spec, "/Labels", texts);
    for update in ["/UpdateConfig/MaxFailureRatio", "/RollbackConfig/MaxFailureRatio"] {
        change(spec, update, ratio);
    }
    change(spec, "/EndpointSpec/Ports", |ports| keyed(ports, port));
    change(spec, "/TaskTemplate/Networks", |list| {
        keyed(list, |mut network| {
            let target = network["Target"].as_str().unwrap_or_default();
            let name = networks.get(target).map_or(target, String::as_str).to_owned();
            change(&mut network, "/Target", |_| Value::from(name.clone()));
            change(&mut network, "/Aliases", set);
            change(&mut network, "/DriverOpts", texts);
            (name, network)
        })
    });
    change(spec, "/TaskTemplate/LogDriver/Options", texts);
    change(spec, "/TaskTemplate/Placement/Constraints", set);
    let Some(container) = spec.pointer_mut("/TaskTemplate/ContainerSpec") else { return };
    for labels in ["/Labels", "/Sysctls"] {
        change(container, labels, texts);
    }
    for list in ["/Hosts", "/CapabilityAdd", "/CapabilityDrop"] {
        change(container, list, set);
    }
    change(container, "/Env", |list| {
        keyed(list, |variable| {
            let text = variable.as_str().unwrap_or_default();
            match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), present(value)),
                None => (text.to_owned(), Value::from("unset")),
            }
        })
    });
    change(container, "/Mounts", |list| {
        keyed(list, |mut mount| {
            change(&mut mount, "/VolumeOptions/Labels", texts);
            change(&mut mount, "/VolumeOptions/DriverConfig/Options", texts);
            (mount["Target"].as_str().unwrap_or_default().to_owned(), mount)
        })
    });
    change(container, "/Ulimits", |list| {
        keyed(list, |limit| (limit["Name"].as_str().unwrap_or_default().to_owned(), limit))
    });
    for (kind, name, id, directory) in
        [("/Secrets", "SecretName", "SecretID", "/run/secrets/"), ("/Configs", "ConfigName", "ConfigID", "/")]
    {
        change(container, kind, |list| {
            keyed(list, |mut used| {
                remove(&mut used, "", id);
                let file = used["File"]["Name"].as_str().map(|file| path(directory, file));
                let of = used[name].as_str().unwrap_or_default().to_owned();
                remove(&mut used, "/File", "Name");
                (file.unwrap_or(of), used)
            })
        });
    }
    change(container, "/Image", |image| Value::from(familiar(image.as_str().unwrap_or_default())));
}

/// Leaves out what the tag of an image stood for at the time.
pub(super) fn leave_digest(spec: &mut Value) {
    change(spec, "/TaskTemplate/ContainerSpec/Image", |image| {
        Value::from(image.as_str().and_then(|image| image.split('@').next()).unwrap_or_default())
    });
}

/// An image as Docker calls it: without its own registry, and with a tag where it has neither tag nor digest.
pub(super) fn familiar(image: &str) -> String {
    let mut image = image;
    for hub in ["docker.io/", "index.docker.io/"] {
        image = image.strip_prefix(hub).unwrap_or(image);
    }
    // Docker's own registry calls its images so.
    image = image.strip_prefix("library/").unwrap_or(image);
    let has_tag = |name: &str| name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if image.contains('@') || has_tag(image) || image.is_empty() {
        return image.to_owned();
    }
    format!("{image}:latest")
}

/// Where a file is in a container: beneath `directory`, unless it says where.
pub(super) fn path(directory: &str, file: &str) -> String {
    if file.starts_with('/') { file.to_owned() } else { format!("{directory}{file}") }
}

/// How a port is published, as the name of it.
pub(super) fn port_name(published: u64, target: u64, protocol: &str, mode: &str) -> String {
    format!("{published}:{target}/{protocol}@{mode}")
}

fn port(mut port: Value) -> (String, Value) {
    let number = |key: &str| port[key].as_u64().unwrap_or(0);
    let text = |key: &str, default: &str| port[key].as_str().unwrap_or(default).to_owned();
    let (protocol, mode) = (text("Protocol", "tcp"), text("PublishMode", "ingress"));
    let name = port_name(number("PublishedPort"), number("TargetPort"), &protocol, &mode);
    for key in ["Protocol", "PublishMode", "PublishedPort", "TargetPort"] {
        remove(&mut port, "", key);
    }
    if let Value::Object(port) = &mut port {
        port.insert("is".to_owned(), Value::Bool(true));
    }
    (name, port)
}

fn mode(mode: &Value) -> String {
    let of: Vec<(&str, &Value)> =
        mode.as_object().into_iter().flatten().map(|(key, of)| (key.as_str(), of)).collect();
    let numbers = |of: &Value, keys: &[&str]| {
        let known = of.as_object().is_some_and(|of| of.keys().all(|key| keys.contains(&key.as_str())));
        let numbers: Vec<u64> = keys.iter().map(|key| of[*key].as_u64().unwrap_or(0)).collect();
        Some(numbers[0]).filter(|first| known && numbers.iter().all(|number| number == first))
    };
    let name = match of[..] {
        [("Replicated", of)] => numbers(of, &["Replicas"]).map(|replicas| format!("replicated {replicas}")),
        [("ReplicatedJob", of)] => numbers(of, &["TotalCompletions", "MaxConcurrent"])
            .map(|completions| format!("replicated-job {completions}")),
        [("Global", of)] if *of == json!({}) => Some("global".to_owned()),
        [("GlobalJob", of)] if *of == json!({}) => Some("global-job".to_owned()),
        _ => None,
    };
    name.unwrap_or_else(|| mode.to_string())
}

/// A map of texts, each of them there though it be empty.
pub(super) fn texts(map: &Value) -> Value {
    let texts = map.as_object().into_iter().flatten();
    Value::Object(
        texts.map(|(name, value)| (name.clone(), present(value.as_str().unwrap_or_default()))).collect(),
    )
}

/// A number as the engine keeps it, in 32 bits.
pub(super) fn ratio(number: &Value) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "this is what the engine does")]
    let short = number.as_f64().and_then(|number| (number as f32).to_string().parse::<f64>().ok());
    short.map_or_else(|| number.clone(), Value::from)
}

/// A list of texts whose order says nothing.
pub(super) fn set(list: &Value) -> Value {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    Value::Object(texts.map(|text| (text.to_owned(), Value::Bool(true))).collect())
}

/// A list as a map; of two of one name the second has its place added to it.
pub(super) fn keyed(list: &Value, name: impl Fn(Value) -> (String, Value)) -> Value {
    let mut map = Map::new();
    for (place, element) in list.as_array().into_iter().flatten().enumerate() {
        let (name, element) = name(element.clone());
        // The same twice is no more than once.
        if map.get(&name) == Some(&element) {
            continue;
        }
        let name = if map.contains_key(&name) { format!("{name}#{place}") } else { name };
        map.insert(name, element);
    }
    Value::Object(map)
}

pub(super) fn change(of: &mut Value, path: &str, change: impl FnOnce(&Value) -> Value) {
    if let Some(value) = of.pointer_mut(path).filter(|value| !value.is_null()) {
        *value = change(value);
    }
}

pub(super) fn remove(of: &mut Value, path: &str, key: &str) {
    if let Some(Value::Object(map)) = of.pointer_mut(path) {
        map.remove(key);
    }
}

/// Puts the defaults where nothing is said, so that saying them makes no difference.
pub(super) fn fill(spec: &mut Value) {
    for parent in ["UpdateConfig", "RollbackConfig", "EndpointSpec"] {
        set_default(spec, "", parent, || json!({}));
    }
    set_default(spec, "/TaskTemplate", "RestartPolicy", || json!({}));
    for (path, key, value) in DEFAULTS {
        set_default(spec, path, key, value);
    }
}

/// Puts `value` where nothing is said.
fn set_default(spec: &mut Value, path: &str, key: &str, value: impl FnOnce() -> Value) {
    if let Some(Value::Object(map)) = spec.pointer_mut(path)
        && map.get(key).is_none_or(|known| known.is_null() || known == "")
    {
        map.insert(key.to_owned(), value());
    }
}

/// Takes away what says nothing: nothing, `false`, 0, and what is empty.
pub(super) fn prune(value: &mut Value) {
    if let Value::Object(map) = value {
        map.values_mut().for_each(prune);
        map.retain(|_, value| !says_nothing(value));
    }
}
