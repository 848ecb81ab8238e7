//! What a compose file asks for beyond the app's own: of the host, the engine, the network, or programs that serve all
//! apps. Such a privilege is the operator's to grant, by key and value.
//!
//! This is an allow-list: a key of a service is harmless by [`HARMLESS`], or it is judged here by what it says, or it
//! asks for a privilege, known or not. Files are judged one by one, also where a later one replaces what is asked.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::short;

/// Keys of a service that reach nothing beyond the app, and those that are judged where the typed service is.
const HARMLESS: [&str; 28] = [
    "build",
    "cap_drop",
    "command",
    "configs",
    "container_name",
    "depends_on",
    "dns",
    "dns_search",
    "domainname",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "extra_hosts",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "links",
    "ports",
    "read_only",
    "restart",
    "secrets",
    "stdin_open",
    "stop_signal",
    "tty",
    "user",
    "working_dir",
];

/// Whose labels are the app's own affair, or are judged elsewhere. Those of other programs order them about.
const LABELS: [&str; 4] = ["backupbot.", "org.label-schema.", "org.opencontainers.", "traefik."];

/// How many tasks a service has at most.
const MAX_REPLICAS: u64 = 16;
/// How much memory a file system in it takes at most, in bytes.
const MAX_MEMORY: u64 = 1 << 30;
/// How many files a process may open at most.
const MAX_FILES: u64 = 1 << 20;
/// The longest wait that a stop or an update is given.
const MAX_WAIT: Duration = Duration::from_mins(10);
/// How long a value is told; of a longer one its digest stands for the rest.
const MAX_CHARS: usize = 200;

/// Every key that the operator can grant.
pub const KEYS: [&str; 39] = [
    "bind",
    "cap_add",
    "cgroup_parent",
    "cgroupns_mode",
    "credential_spec",
    "devices",
    "entrypoint",
    "external_links",
    "generic_resources",
    "ipc",
    "isolation",
    "key",
    "label",
    "log",
    "logging",
    "mac_address",
    "network.driver",
    "network.driver_opts",
    "network.ipam",
    "network.subnet",
    "network_mode",
    "oom_score_adj",
    "pid",
    "port",
    "privileged",
    "propagation",
    "proxy",
    "replicas",
    "reservations",
    "secret.driver",
    "security_opt",
    "shm_size",
    "stop_grace_period",
    "sysctls",
    "tmpfs",
    "ulimit",
    "update",
    "userns_mode",
    "volume",
];

/// Something that the operator grants; it prints as the operator writes it, `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Privilege {
    /// What of.
    pub key: &'static str,
    /// Which.
    pub value: String,
    /// The keys that lead to it.
    pub(in crate::recipe) path: Vec<String>,
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// What an interpolated file of this stack asks for.
pub(super) fn asked(file: &Value, stack: &str) -> Vec<Privilege> {
    let mut asked = Asked { own: format!("coop-cloud.{stack}."), ..Asked::default() };
    for (name, service) in section(file, "services") {
        asked.at(&["services", name], |asked| asked.service(service));
    }
    for (name, network) in section(file, "networks") {
        asked.at(&["networks", name], |asked| asked.network(network));
    }
    for (name, volume) in section(file, "volumes") {
        asked.at(&["volumes", name], |asked| asked.volume(volume));
    }
    for (name, secret) in section(file, "secrets") {
        asked.at(&["secrets", name], |asked| asked.all("secret.driver", "driver", secret.get("driver")));
    }
    asked.found
}

fn section<'a>(file: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Map<String, Value>)> {
    let entries = file.get(name).and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key, value.as_object()?)))
}

#[derive(Debug, Default)]
struct Asked {
    /// What abra's labels of this stack begin with.
    own: String,
    path: Vec<String>,
    found: Vec<Privilege>,
}

impl Asked {
    fn at(&mut self, path: &[&str], look: impl FnOnce(&mut Self)) {
        let outer = self.path.len();
        self.path.extend(path.iter().map(|key| (*key).to_owned()));
        look(self);
        self.path.truncate(outer);
    }

    fn push(&mut self, key: &'static str, below: &str, value: impl fmt::Display) {
        let path = self.path.iter().cloned().chain([below.to_owned()]).collect();
        self.found.push(Privilege { key, value: shown(&value.to_string()), path });
    }

    /// Each of the texts of a value.
    fn all(&mut self, key: &'static str, below: &str, value: Option<&Value>) {
        for text in value.map(texts).unwrap_or_default() {
            self.push(key, below, text);
        }
    }

    fn service(&mut self, service: &Map<String, Value>) {
        for (key, value) in service {
            if HARMLESS.contains(&key.as_str()) || key.starts_with("x-") {
                continue;
            }
            match key.as_str() {
                "cap_add" => {
                    for name in texts(value) {
                        let name = name.to_ascii_uppercase();
                        self.push("cap_add", key, name.strip_prefix("CAP_").unwrap_or(&name));
                    }
                }
                "deploy" => self.at(&["deploy"], |asked| asked.deploy(value)),
                "logging" => {
                    let driver = value.get("driver").and_then(Value::as_str).unwrap_or_default();
                    if !matches!(driver, "" | "json-file" | "local" | "none") {
                        self.push("logging", key, driver);
                    }
                    let size = value.get("options").and_then(|options| options.get("max-size"));
                    if let Some(size) = size.filter(|size| bytes(size) > MAX_MEMORY) {
                        self.push("log", key, format_args!("max-size:{}", text(size).unwrap_or_default()));
                    }
                }
                "networks" => {
                    for (network, options) in value.as_object().into_iter().flatten() {
                        for option in
                            options.get("driver_opts").and_then(Value::as_object).into_iter().flatten()
                        {
                            self.push("network.driver_opts", key, format_args!("{network}:{}", option.0));
                        }
                    }
                }
                "labels" => self.labels(key, value),
                "privileged" if is_no(value) => {}
                "stop_grace_period" if is_short(value) => {}
                "stop_grace_period" => self.all("stop_grace_period", key, Some(value)),
                "tmpfs" => {
                    for mount in texts(value).into_iter().filter(|mount| size_of(mount) > MAX_MEMORY) {
                        self.push("tmpfs", key, mount);
                    }
                }
                "ulimits" => {
                    let small = |value: &Value| number(value).is_some_and(|files| files <= MAX_FILES);
                    for (name, limit) in value.as_object().into_iter().flatten() {
                        let few = match limit.as_object() {
                            Some(limits) => limits.values().all(small),
                            None => small(limit),
                        };
                        if name != "nofile" || !few {
                            self.push("ulimit", key, name);
                        }
                    }
                }
                "volumes" => {
                    for mount in value.as_array().into_iter().flatten() {
                        let option = |of: &str, key: &str| mount.get(of).and_then(|options| options.get(key));
                        if let Some(size) = option("tmpfs", "size").filter(|size| bytes(size) > MAX_MEMORY) {
                            self.push("tmpfs", key, text(size).unwrap_or_default());
                        }
                        if mount.get("type").is_some_and(|kind| kind == "tmpfs")
                            && option("tmpfs", "size").is_none()
                        {
                            self.push("tmpfs", key, "without a size");
                        }
                        self.all("propagation", key, option("bind", "propagation"));
                        let short =
                            mount.as_str().and_then(|mount| mount.splitn(3, ':').nth(2)).unwrap_or_default();
                        for word in short.split(',').filter(|word| short::PROPAGATION.contains(word)) {
                            self.push("propagation", key, word);
                        }
                    }
                }
                _ => match KNOWN.iter().find(|known| **known == key) {
                    Some(known) => self.all(known, key, Some(value)),
                    None => self.push("key", key, key),
                },
            }
        }
    }

    fn deploy(&mut self, deploy: &Value) {
        if let Some(replicas) =
            deploy.get("replicas").filter(|value| number(value).is_none_or(|n| n > MAX_REPLICAS))
        {
            self.push("replicas", "replicas", text(replicas).unwrap_or_default());
        }
        for key in ["update_config", "rollback_config"] {
            for wait in ["delay", "monitor"] {
                let value = deploy.get(key).and_then(|config| config.get(wait));
                if let Some(value) = value.filter(|value| !is_short(value)) {
                    let value = text(value).unwrap_or_default();
                    self.push("update", key, format_args!("{wait}:{value}"));
                }
            }
        }
        let resources = deploy.get("resources").and_then(|resources| resources.get("reservations"));
        if resources.is_some_and(|resources| resources.get("generic_resources").is_some()) {
            self.push("generic_resources", "resources", "any");
        }
        for (what, is_big) in
            [("cpus", is_many as fn(&Value) -> bool), ("memory", |memory| bytes(memory) > MAX_MEMORY)]
        {
            let reserved = resources.and_then(|resources| resources.get(what)).filter(|value| is_big(value));
            if let Some(reserved) = reserved {
                let value = text(reserved).unwrap_or_default();
                self.push("reservations", "resources", format_args!("{what}:{value}"));
            }
        }
        if let Some(labels) = deploy.get("labels") {
            self.labels("labels", labels);
        }
    }

    fn labels(&mut self, below: &str, labels: &Value) {
        for label in names(labels) {
            if !(label.starts_with(&self.own) || LABELS.iter().any(|known| label.starts_with(known))) {
                self.push("label", below, label);
            }
        }
    }

    fn network(&mut self, network: &Map<String, Value>) {
        let driver = network.get("driver").and_then(Value::as_str).unwrap_or_default();
        if !matches!(driver, "" | "overlay") {
            self.push("network.driver", "driver", driver);
        }
        for option in network.get("driver_opts").and_then(Value::as_object).into_iter().flatten() {
            if !matches!(option.0.as_str(), "encrypted" | "com.docker.network.driver.mtu") {
                self.push("network.driver_opts", "driver_opts", option.0);
            }
        }
        let Some(ipam) = network.get("ipam") else { return };
        self.all("network.ipam", "ipam", ipam.get("driver").filter(|driver| *driver != "default"));
        for config in ipam.get("config").and_then(Value::as_array).into_iter().flatten() {
            self.all("network.subnet", "ipam", config.get("subnet"));
        }
    }

    fn volume(&mut self, volume: &Map<String, Value>) {
        if volume.contains_key("cluster_spec") {
            self.push("volume", "cluster_spec", "of a cluster");
        }
        let option = |name: &str| volume.get("driver_opts")?.get(name)?.as_str();
        let size = option("o").map_or(0, size_of);
        if size > MAX_MEMORY {
            self.push("tmpfs", "driver_opts", option("o").unwrap_or_default());
        } else if size == 0 && option("type") == Some("tmpfs") {
            self.push("tmpfs", "driver_opts", "without a size");
        }
    }
}

/// Privileges of a service that are named like its key.
const KNOWN: [&str; 16] = [
    "cgroup_parent",
    "cgroupns_mode",
    "credential_spec",
    "devices",
    "external_links",
    "ipc",
    "isolation",
    "mac_address",
    "network_mode",
    "oom_score_adj",
    "pid",
    "privileged",
    "security_opt",
    "shm_size",
    "sysctls",
    "userns_mode",
];

/// Whether a boolean says no, or a text that a variable has made of one.
fn is_no(value: &Value) -> bool {
    text(value).is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "false" | "n" | "no" | "off"))
}

/// The texts of a value: of a list each, of a map each as `name=value`.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::Object(map) => {
            map.iter().map(|(name, value)| format!("{name}={}", text(value).unwrap_or_default())).collect()
        }
        value => text(value).into_iter().collect(),
    }
}

/// The names of a list of `name=value`, or of a map.
fn names(value: &Value) -> Vec<String> {
    let name = |text: String| text.split_once('=').map_or(text.clone(), |(name, _)| name.to_owned());
    texts(value).into_iter().map(name).collect()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    text(value)?.trim().parse().ok()
}

/// Whether it is more than one processor, or nothing that can be read.
fn is_many(cpus: &Value) -> bool {
    text(cpus).and_then(|text| text.parse::<f64>().ok()).is_none_or(|cpus| cpus.is_nan() || cpus > 1.0)
}

fn is_short(value: &Value) -> bool {
    value.as_str().and_then(|text| short::duration(text).ok()).is_some_and(|wait| wait <= MAX_WAIT)
}

/// The `size=` among a mount's options, in bytes. One that can't be read is too big, and so is 0, which is no limit.
fn size_of(options: &str) -> u64 {
    let sizes = options.split([',', ':']).filter_map(|option| match option.trim().split_once('=')? {
        ("size", size) => Some(bytes(&Value::from(size))),
        ("nr_blocks", _) => Some(u64::MAX),
        _ => None,
    });
    sizes.max().unwrap_or(0)
}

/// A value as it is told and granted: in one line of ASCII, and no longer than a line is.
pub(in crate::recipe) fn shown(value: &str) -> String {
    let mut line = String::new();
    for c in value.chars() {
        if c.is_ascii_graphic() || c == ' ' {
            line.push(c);
        } else {
            line.extend(c.escape_default());
        }
    }
    // Each character is one byte by now.
    if line.len() <= MAX_CHARS {
        return line;
    }
    format!("{}... {}", &line[..MAX_CHARS / 2], digest(value))
}

/// What stands for a text that is not told.
pub(super) fn digest(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest[..8].iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A size in bytes; one that can't be read, and 0, which is no limit, are without end.
pub(super) fn bytes(value: &Value) -> u64 {
    let text = text(value).unwrap_or_default().to_ascii_lowercase();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match text[digits..].trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return u64::MAX,
    };
    match text[..digits].parse::<u64>() {
        Ok(0) | Err(_) => u64::MAX,
        Ok(number) => number.saturating_mul(unit),
    }
}

#[cfg(test)]
mod tests;
