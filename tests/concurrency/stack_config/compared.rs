//! What cc-ci read and what Docker prints, in one form, and where they differ.

mod forms;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cc_ci_core::recipe::{Compose, FileReference, Mode, Mount, MountKind, Object, Protocol, Service};
use serde_json::{Map, Value, json};

use forms::{deploy, duration, hosts, logging, pruned, sorted, texts, ulimits};

/// What a deploy ignores of a service, but for a warning: whoever asks for it is told by another rule.
const IGNORED: [&str; 20] = [
    "build",
    "cgroup_parent",
    "cgroupns_mode",
    "container_name",
    "depends_on",
    "devices",
    "domainname",
    "env_file",
    "expose",
    "external_links",
    "ipc",
    "links",
    "mac_address",
    "network_mode",
    "oom_score_adj",
    "pid",
    "privileged",
    "security_opt",
    "shm_size",
    "tmpfs",
];

/// Where the readings of the document `name` differ, and what each is; `directory` is where its files are.
pub fn differences(name: &str, directory: &Path, ours: &Compose, docker: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let (ours_too, docker_too) =
        (our_service(ours, name), dockers_service(directory, &docker["services"][name]));
    differ(&mut vec!["service".to_owned()], &ours_too, &docker_too, &mut found);
    for (section, objects) in [
        ("volumes", &ours.volumes),
        ("secrets", &ours.secrets),
        ("configs", &ours.configs),
        ("networks", &ours.networks),
    ] {
        // The default network is made by the deploy, not by its reader.
        let objects = objects.iter().filter(|(key, _)| key.as_str() != "default");
        let read: Map<String, Value> =
            objects.map(|(key, object)| (key.clone(), our_object(ours, key, object))).collect();
        let theirs = docker[section].as_object().into_iter().flatten();
        let theirs = theirs.filter(|(key, _)| key.starts_with(&format!("{name}-")));
        let theirs: Map<String, Value> =
            theirs.map(|(key, object)| (key.clone(), dockers_object(directory, object))).collect();
        differ(&mut vec![section.to_owned()], &Value::Object(read), &Value::Object(theirs), &mut found);
    }
    found
}

fn differ(path: &mut Vec<String>, ours: &Value, docker: &Value, found: &mut Vec<String>) {
    if let (Value::Object(ours), Value::Object(docker)) = (ours, docker) {
        let keys: BTreeSet<&String> = ours.keys().chain(docker.keys()).collect();
        for key in keys {
            path.push(key.clone());
            differ(
                path,
                ours.get(key).unwrap_or(&Value::Null),
                docker.get(key).unwrap_or(&Value::Null),
                found,
            );
            path.pop();
        }
    } else if ours != docker {
        found.push(format!("{}: cc-ci reads {ours}, Docker {docker}", path.join(".")));
    }
}

fn our_service(compose: &Compose, name: &str) -> Value {
    let service = &compose.services[name];
    let (variables, files) = (super::variables(), env_files());
    let kept = |key: &str| service.passed_on.get(key).cloned().unwrap_or_default();
    let mut whole = json!({
        "image": service.image,
        "command": service.command,
        "environment": service.whole_environment(&variables, &files),
        "volumes": sorted(service.volumes.iter().map(our_mount)),
        "secrets": sorted(service.secrets.iter().map(our_file)),
        "configs": sorted(service.configs.iter().map(our_file)),
        "ports": sorted(service.ports.iter().map(|port| {
            let protocol = match port.protocol {
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
                _ => "tcp",
            };
            let mode = if port.host_mode { "host" } else { "ingress" };
            json!([port.target, port.published.unwrap_or(0), protocol, mode])
        })),
        "networks": networks(service),
        "labels": texts(&kept("labels")),
        "healthcheck": our_health(service),
        "stop_grace_period": nanos(service.stop_grace_period),
        "extra_hosts": hosts(&kept("extra_hosts")),
        "ulimits": ulimits(&kept("ulimits")),
        "deploy": deploy(&kept("deploy"), service.mode, &json!(service.labels)),
        "logging": logging(&kept("logging")),
        "sysctls": texts(&kept("sysctls")),
    });
    let simple = [
        "cap_add",
        "cap_drop",
        "credential_spec",
        "dns",
        "dns_search",
        "entrypoint",
        "hostname",
        "init",
        "isolation",
        "read_only",
        "restart",
        "stdin_open",
        "stop_signal",
        "tty",
        "user",
        "working_dir",
    ];
    for key in simple {
        whole[key] = kept(key);
    }
    pruned(whole)
}

/// The texts of the files that documents name.
fn env_files() -> BTreeMap<PathBuf, String> {
    super::corpus::ENV_FILES
        .iter()
        .flat_map(|(name, text)| {
            [name.to_string(), format!("./{name}")].map(|name| (name.into(), text.to_string()))
        })
        .collect()
}

fn dockers_service(directory: &Path, message: &Value) -> Value {
    let mut whole = message.clone();
    let at = |path: &str| message.pointer(path).cloned().unwrap_or_default();
    let Value::Object(map) = &mut whole else { return whole };
    map.retain(|key, _| !IGNORED.contains(&key.as_str()) && !key.starts_with("x-"));
    let list = |key: &str| message[key].as_array().cloned().unwrap_or_default();
    let mut put = |key: &str, value: Value| drop(map.insert(key.to_owned(), value));
    put("volumes", sorted(list("volumes").iter().map(|mount| dockers_mount(directory, mount))));
    for (kind, beneath) in [("secrets", "/run/secrets/"), ("configs", "/")] {
        put(kind, sorted(list(kind).iter().map(|file| dockers_file(beneath, file))));
    }
    put(
        "ports",
        sorted(list("ports").iter().map(|port| {
            let of = |key: &str| port[key].as_str().unwrap_or_default().to_lowercase();
            let mode = if of("mode") == "host" { "host" } else { "ingress" };
            let protocol =
                Some(of("protocol")).filter(|protocol| !protocol.is_empty()).unwrap_or("tcp".to_owned());
            json!([
                port["target"].as_u64().unwrap_or(0),
                port["published"].as_u64().unwrap_or(0),
                protocol,
                mode
            ])
        })),
    );
    let joined = message["networks"].as_object().cloned().unwrap_or_default();
    let joined: Map<String, Value> = joined
        .into_iter()
        .map(|(key, options)| {
            let aliases: BTreeSet<&str> =
                options["aliases"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            (key, json!({"is": true, "aliases": aliases, "driver_opts": options["driver_opts"]}))
        })
        .collect();
    let default = json!({"default": {"is": true}});
    put("networks", if joined.is_empty() { default } else { Value::Object(joined) });
    let none = json!(["NONE"]);
    let check = at("/healthcheck");
    put(
        "healthcheck",
        if check.is_object() {
            // None is the default of the image, or of the engine.
            let time = |key: &str, default: u64| {
                check[key].as_str().map(duration).filter(|time| *time > 0).unwrap_or(default)
            };
            health(
                if check["disable"] == true { &none } else { &check["test"] },
                [
                    time("interval", 30 * SECOND),
                    time("timeout", 30 * SECOND),
                    time("start_period", 0),
                    time("start_interval", 0),
                ],
                check["retries"].as_u64().unwrap_or(3),
            )
        } else {
            Value::Null
        },
    );
    put("stop_grace_period", json!(message["stop_grace_period"].as_str().map_or(10 * SECOND, duration)));
    put("extra_hosts", hosts(&at("/extra_hosts")));
    put("labels", texts(&at("/labels")));
    put("logging", logging(&at("/logging")));
    put("sysctls", texts(&at("/sysctls")));
    put("ulimits", ulimits(&at("/ulimits")));
    let replicas =
        message["deploy"]["replicas"].as_u64().and_then(|replicas| u32::try_from(replicas).ok()).unwrap_or(1);
    let mode = match message["deploy"]["mode"].as_str().unwrap_or_default() {
        "global" => Some(Mode::Global),
        "replicated-job" => Some(Mode::ReplicatedJob(replicas)),
        "global-job" => Some(Mode::GlobalJob),
        "replicated" | "" => Some(Mode::Replicated(replicas)),
        _ => None,
    };
    let mode = mode.unwrap_or(Mode::Replicated(u32::MAX));
    put("deploy", deploy(&at("/deploy"), mode, &at("/deploy/labels")));
    pruned(whole)
}

const SECOND: u64 = 1_000_000_000;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

fn our_mount(mount: &Mount) -> Value {
    let kind = match mount.kind {
        MountKind::Bind => "bind",
        MountKind::Tmpfs => "tmpfs",
        _ => "volume",
    };
    let options = &mount.options;
    json!([
        kind,
        mount.source.clone().unwrap_or_default(),
        mount.target,
        mount.read_only,
        options.no_copy,
        options.propagation,
        options.size
    ])
}

fn dockers_mount(directory: &Path, mount: &Value) -> Value {
    let kind = mount["type"].as_str().unwrap_or_default();
    let mut source = mount["source"].as_str().unwrap_or_default().to_owned();
    if kind == "bind" {
        source = relative(directory, &source);
    }
    let is = |path: &str| mount.pointer(path).and_then(Value::as_bool).unwrap_or(false);
    let of = |path: &str| mount.pointer(path).cloned().unwrap_or_default();
    let size = of("/tmpfs/size").as_u64().unwrap_or(0);
    json!([
        kind,
        source,
        mount["target"],
        is("/read_only"),
        is("/volume/nocopy"),
        of("/bind/propagation"),
        size
    ])
}

/// A path below the directory of the files as it is written there, or nearly.
fn relative(directory: &Path, path: &str) -> String {
    let below = Path::new(path).strip_prefix(directory).ok().map(|below| format!("./{}", below.display()));
    let beside = || {
        let beside = Path::new(path).strip_prefix(directory.parent()?).ok()?;
        Some(format!("../{}", beside.display()))
    };
    below.or_else(beside).unwrap_or_else(|| path.to_owned())
}

fn our_file(file: &FileReference) -> Value {
    json!([file.source, file.target, file.owner.0, file.owner.1, file.mode])
}

fn dockers_file(beneath: &str, file: &Value) -> Value {
    let of = |key: &str| file[key].as_str().unwrap_or_default().to_owned();
    let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    let target = or(of("target"), &of("source"));
    let target = if target.starts_with('/') { target } else { format!("{beneath}{target}") };
    json!([
        of("source"),
        target,
        or(of("uid"), "0"),
        or(of("gid"), "0"),
        file["mode"].as_u64().unwrap_or(0o444)
    ])
}

fn networks(service: &Service) -> Value {
    let joined = service.networks.iter().map(|network| {
        let options = &service.passed_on.get("networks").cloned().unwrap_or_default()[network]["driver_opts"];
        let aliases = service.aliases.get(network).cloned().unwrap_or_default();
        (network.clone(), json!({"is": true, "aliases": aliases, "driver_opts": options}))
    });
    Value::Object(joined.collect())
}

fn our_health(service: &Service) -> Value {
    let Some(check) = &service.healthcheck else { return Value::Null };
    let interval = service.passed_on.get("healthcheck").map(|check| check["start_interval"].clone());
    let interval = interval.and_then(|interval| interval.as_u64()).unwrap_or(0);
    let or_default = |time: Duration| Some(nanos(time)).filter(|time| *time > 0).unwrap_or(30 * SECOND);
    let times = [or_default(check.interval), or_default(check.timeout), nanos(check.start_period), interval];
    health(&json!(check.test), times, u64::from(check.retries))
}

fn health(test: &Value, times: [u64; 4], retries: u64) -> Value {
    // Nothing of it says anything.
    json!({"is": true, "test": test, "times": {"interval": times[0], "timeout": times[1], "start": times[2], "start_interval": times[3]}, "retries": retries})
}

fn our_object(compose: &Compose, key: &str, object: &Object) -> Value {
    let is_default = object.name == format!("{}_{key}", compose.stack);
    pruned(json!({
        "is": true,
        "name": Some(&object.name).filter(|_| !is_default),
        "external": object.external,
        "file": object.file.as_ref().map(|file| file.strip_prefix("./").unwrap_or(file)),
        "template_driver": object.template_driver,
        "driver": object.driver,
        "driver_opts": texts(&json!(object.driver_opts)),
        "labels": texts(&json!(object.labels)),
        "attachable": object.network.get("attachable"),
        "internal": object.network.get("internal"),
        "ipam": object.network.get("ipam"),
    }))
}

fn dockers_object(directory: &Path, object: &Value) -> Value {
    let mut whole = object.clone();
    if !whole.is_object() {
        whole = json!({});
    }
    whole["is"] = json!(true);
    if let Some(file) = object["file"].as_str() {
        let file = relative(directory, file);
        whole["file"] = json!(file.strip_prefix("./").unwrap_or(&file));
    }
    whole["driver_opts"] = texts(&object["driver_opts"]);
    whole["labels"] = texts(&object["labels"]);
    pruned(whole)
}
