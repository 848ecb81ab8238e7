//! The specification that docker/cli sends for a service of the judged files, in the form of [`form`](super::form).

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use cc_ci_core::engine::Order;
use cc_ci_core::names::Stack;
use cc_ci_core::recipe::{FileReference, Mode, Mount, MountKind, Object, Port, Protocol, Service};
use serde_json::{Map, Value, json};

use crate::snapshot::NAMESPACE;

use super::form::{self, SECOND, familiar, present};

pub(super) fn spec(order: &Order, key: &str, service: &Service) -> Value {
    let (compose, stack) = (&order.compose, &order.compose.stack);
    let given = |path: &str| value_at(service, path);
    let mut labels = texts(&service.labels);
    labels.insert(NAMESPACE.to_owned(), present(stack.as_str()));
    labels.insert("com.docker.stack.image".to_owned(), present(&service.image));
    let mut container_labels = texts(&strings(&given("labels")));
    container_labels.insert(NAMESPACE.to_owned(), present(stack.as_str()));
    let (add, drop) = capabilities(&given("cap_add"), &given("cap_drop"));
    let mounts = service.volumes.iter().map(|mount| (mount.target.clone(), self::mount(order, mount)));
    let used = |of: &[FileReference], objects: &BTreeMap<String, Object>, name: &str| -> Map<String, Value> {
        let used = of.iter().map(|file| {
            let (uid, gid) = &file.owner;
            let object = objects.get(&file.source).map(|object| object.name.clone());
            (file.target.clone(), json!({"File": {"UID": uid, "GID": gid, "Mode": file.mode}, name: object}))
        });
        used.collect()
    };
    let networks = service.networks.iter().map(|network| {
        let name = compose.networks.get(network).map_or(network, |network| &network.name);
        let mut aliases: Map<String, Value> = Map::new();
        aliases.insert(key.to_owned(), Value::Bool(true));
        for alias in service.aliases.get(network).into_iter().flatten() {
            aliases.insert(alias.clone(), Value::Bool(true));
        }
        let options = given(&format!("networks/{network}/driver_opts"));
        (name.clone(), json!({"Target": name, "Aliases": aliases, "DriverOpts": texts(&strings(&options))}))
    });
    json!({
        "Name": format!("{stack}_{key}"),
        "Labels": labels,
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": familiar(&service.image),
                "Labels": container_labels,
                "Command": given("entrypoint"),
                "Args": service.command,
                "Hostname": given("hostname"),
                "Env": env(order, service),
                "Dir": given("working_dir"),
                "User": given("user"),
                "Init": boolean(&given("init")),
                "StopSignal": given("stop_signal"),
                "TTY": boolean(&given("tty")),
                "OpenStdin": boolean(&given("stdin_open")),
                "ReadOnly": boolean(&given("read_only")),
                "Mounts": mounts.collect::<Map<_, _>>(),
                "StopGracePeriod": nanos(service.stop_grace_period),
                "Healthcheck": healthcheck(service),
                "Hosts": hosts(&given("extra_hosts")),
                "DNSConfig": {"Nameservers": given("dns"), "Search": given("dns_search")},
                "Secrets": used(&service.secrets, &compose.secrets, "SecretName"),
                "Configs": used(&service.configs, &compose.configs, "ConfigName"),
                "OomScoreAdj": whole(&given("oom_score_adj")),
                "Isolation": given("isolation"),
                "Sysctls": texts(&strings(&given("sysctls"))),
                "CapabilityAdd": add,
                "CapabilityDrop": drop,
                "Ulimits": ulimits(&given("ulimits")),
            },
            "Resources": {
                "Limits": resources(&given("deploy/resources/limits")),
                "Reservations": resources(&given("deploy/resources/reservations")),
            },
            "RestartPolicy": restart_policy(&given("deploy/restart_policy"), &given("restart")),
            "Placement": placement(&given("deploy/placement")),
            "Networks": networks.collect::<Map<_, _>>(),
            "LogDriver": {
                "Name": given("logging/driver"),
                "Options": texts(&strings(&given("logging/options"))),
            },
        },
        "Mode": mode(service.mode),
        "UpdateConfig": update(&given("deploy/update_config")),
        "RollbackConfig": update(&given("deploy/rollback_config")),
        "EndpointSpec": {
            "Mode": text(&given("deploy/endpoint_mode")).to_ascii_lowercase(),
            "Ports": service.ports.iter().map(port).collect::<Map<_, _>>(),
        },
    })
}

/// Takes out of both what the files leave to somebody else's choice.
pub(super) fn ignore_unspecified(service: &Service, wanted: &mut Value, there: &mut Value) {
    const CONTAINER: &str = "/TaskTemplate/ContainerSpec";
    // A variable without a value has that of whoever deploys.
    for (name, _) in service.environment.iter().filter(|(_, value)| value.is_none()) {
        for spec in [&mut *wanted, &mut *there] {
            form::remove(spec, &format!("{CONTAINER}/Env"), name);
        }
    }
    // Swarm has defaults of its own for jobs.
    if service.mode.is_job()
        && value_at(service, "deploy/restart_policy").is_null()
        && value_at(service, "restart").is_null()
    {
        for spec in [&mut *wanted, &mut *there] {
            form::remove(spec, "/TaskTemplate", "RestartPolicy");
        }
    }
    // docker/cli knows the key, and tells no engine of it (28.2).
    if there.pointer(CONTAINER).is_none_or(|container| container.get("OomScoreAdj").is_none()) {
        form::remove(wanted, CONTAINER, "OomScoreAdj");
    }
    // An engine of before 25 knows no such interval.
    if !value_at(service, "healthcheck/start_interval").is_null() {
        form::remove(there, &format!("{CONTAINER}/Healthcheck"), "StartInterval");
    }
    leave_predefined(wanted, there);
    // It is for Windows, and granted.
    if !value_at(service, "credential_spec").is_null() {
        form::remove(there, &format!("{CONTAINER}/Privileges"), "CredentialSpec");
    }
}

/// A path of the host as the engine gets it: absolute, and without `.` and `..`.
fn cleaned(root: &Path, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let mut cleaned = PathBuf::new();
    for part in root.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(cleaned.pop()),
            part => cleaned.push(part),
        }
    }
    cleaned.display().to_string()
}

/// What the files say at `path`, by their own keys; nothing where they say nothing.
fn value_at(service: &Service, path: &str) -> Value {
    let mut keys = path.split('/');
    let first = keys.next().and_then(|key| service.passed_on.get(key));
    let found = keys.try_fold(first, |value, key| Some(value?.get(key)));
    found.flatten().cloned().unwrap_or_default()
}

/// A text or a number as a text.
fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

/// A whole number: interpolation makes texts of them.
fn whole(value: &Value) -> Value {
    match value.as_str().and_then(|text| text.parse::<i64>().ok()) {
        Some(number) => Value::from(number),
        None => value.clone(),
    }
}

fn boolean(value: &Value) -> bool {
    match value {
        Value::String(text) => matches!(text.to_ascii_lowercase().as_str(), "true" | "y" | "yes" | "on"),
        value => value.as_bool().unwrap_or(false),
    }
}

fn strings(map: &Value) -> BTreeMap<String, String> {
    map.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}

pub(super) fn texts(map: &BTreeMap<String, String>) -> Map<String, Value> {
    map.iter().map(|(name, value)| (name.clone(), present(value))).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn env(order: &Order, service: &Service) -> Map<String, Value> {
    let value = |value: Option<String>| value.as_deref().map_or_else(|| Value::from("unset"), present);
    let env = service.whole_environment(&order.vars, &order.env_files).into_iter();
    env.map(|(name, known)| (name, value(known))).collect()
}

/// The engine's own networks, `host` and `bridge`, have no name in a Swarm that a list would tell, and no aliases.
fn leave_predefined(wanted: &mut Value, there: &mut Value) {
    const NETWORKS: &str = "/TaskTemplate/Networks";
    for predefined in ["host", "bridge"] {
        let (Some(Value::Object(ordered)), Some(Value::Object(joined))) =
            (wanted.pointer_mut(NETWORKS), there.pointer_mut(NETWORKS))
        else {
            return;
        };
        if !ordered.contains_key(predefined) || joined.contains_key(predefined) {
            continue;
        }
        // Its id, which nobody knows, and nothing else.
        let unknown = joined.iter().find(|(id, network)| !ordered.contains_key(*id) && is_bare(id, network));
        if let Some(id) = unknown.map(|(id, _)| id.clone()) {
            ordered.remove(predefined);
            joined.remove(&id);
        }
    }
}

/// Whether a network is told by its id alone.
fn is_bare(id: &str, network: &Value) -> bool {
    id.len() == 25 && *network == json!({"Target": id})
}

fn mount(order: &Order, mount: &Mount) -> Value {
    let options = &mount.options;
    let (kind, mut source) = match mount.kind {
        MountKind::Bind => ("bind", mount.source.as_ref().map(|path| cleaned(&order.root, path))),
        MountKind::Tmpfs => ("tmpfs", None),
        _ => ("volume", None),
    };
    let mut of_volume = Value::Null;
    if kind == "volume"
        && let Some(volume) = mount.source.as_ref().and_then(|key| order.compose.volumes.get(key))
    {
        source = Some(volume.name.clone());
        of_volume = json!({"NoCopy": options.no_copy, "Subpath": options.subpath});
        if !volume.external {
            of_volume["Labels"] = Value::Object(of_stack(&order.compose.stack, volume));
            of_volume["DriverConfig"] = json!({"Name": volume.driver, "Options": texts(&volume.driver_opts)});
        }
    }
    json!({
        "Type": kind,
        "Source": source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        "BindOptions": {"Propagation": options.propagation},
        "VolumeOptions": of_volume,
        "TmpfsOptions": {"SizeBytes": options.size},
    })
}

pub(super) fn of_stack(stack: &Stack, object: &Object) -> Map<String, Value> {
    let mut labels = texts(&object.labels);
    labels.insert(NAMESPACE.to_owned(), present(stack.as_str()));
    labels
}

fn healthcheck(service: &Service) -> Value {
    let Some(check) = &service.healthcheck else { return Value::Null };
    if boolean(&value_at(service, "healthcheck/disable")) {
        return json!({"Test": ["NONE"]});
    }
    // None is what the image says, or the engine's own.
    let time = |time: Duration| Some(nanos(time)).filter(|time| *time > 0);
    json!({
        "Test": check.test,
        "Interval": time(check.interval),
        "Timeout": time(check.timeout),
        "StartPeriod": nanos(check.start_period),
        "Retries": Some(check.retries).filter(|retries| *retries > 0),
    })
}

/// `address host`, as in a file of hosts.
fn hosts(value: &Value) -> Map<String, Value> {
    let host = |text: &str| {
        let (host, address) = text.split_once(['=', ':'])?;
        let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
        Some((format!("{address} {host}"), Value::Bool(true)))
    };
    list(value).filter_map(host).collect()
}

/// As docker/cli tells the engine: all is all, and what is added is not dropped.
fn capabilities(add: &Value, drop: &Value) -> (Map<String, Value>, Map<String, Value>) {
    let named = |value: &Value| -> Map<String, Value> {
        let name = |name: &str| {
            let name = name.trim().to_ascii_uppercase();
            let is_whole = name == "ALL" || name.starts_with("CAP_");
            (if is_whole { name } else { format!("CAP_{name}") }, Value::Bool(true))
        };
        let mut names: Map<String, Value> = list(value).map(name).collect();
        // A word of docker's own, for updates.
        names.remove("CAP_RESET");
        if names.contains_key("ALL") {
            names.retain(|name, _| name == "ALL");
        }
        names
    };
    let (add, mut drop) = (named(add), named(drop));
    drop.retain(|name, _| !add.contains_key(name));
    (add, drop)
}

fn ulimits(value: &Value) -> Map<String, Value> {
    let limit = |(name, limit): (&String, &Value)| {
        let (soft, hard) = if limit.is_object() { (&limit["soft"], &limit["hard"]) } else { (limit, limit) };
        (name.clone(), json!({"Name": name, "Soft": whole(soft), "Hard": whole(hard)}))
    };
    value.as_object().into_iter().flatten().map(limit).collect()
}

fn resources(value: &Value) -> Value {
    let generic = value["generic_resources"].as_array().into_iter().flatten().map(|resource| {
        let discrete = &resource["discrete_resource_spec"];
        json!({"DiscreteResourceSpec": {"Kind": discrete["kind"], "Value": whole(&discrete["value"])}})
    });
    json!({
        "NanoCPUs": cpus(&value["cpus"]).map(|cpus| rounded(cpus * 1e9)),
        "MemoryBytes": memory(&text(&value["memory"])),
        "Pids": whole(&value["pids"]),
        "GenericResources": generic.collect::<Vec<_>>(),
    })
}

/// A number of processors, a fraction too: `1/2`.
fn cpus(value: &Value) -> Option<f64> {
    let text = text(value);
    let (whole, parts) = text.split_once('/').unwrap_or((&text, "1"));
    Some(whole.parse::<f64>().ok()? / parts.parse::<f64>().ok()?)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
fn rounded(number: f64) -> u64 {
    number.round() as u64
}

/// A size in bytes as Docker reads one: `1.5g`, `50M`, `10kb`, each of 1024.
fn memory(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = text[end..].trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => 5,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it saturates, as Docker cuts"
    )]
    Some((number * 1024_f64.powi(power)) as u64)
}

fn restart_policy(policy: &Value, restart: &Value) -> Value {
    if policy.is_object() {
        return json!({
            "Condition": policy["condition"],
            "Delay": policy["delay"],
            "MaxAttempts": whole(&policy["max_attempts"]),
            "Window": policy["window"],
        });
    }
    let restart = text(restart);
    match restart.split_once(':').unwrap_or((&restart, "0")) {
        ("always" | "unless-stopped", _) => json!({"Condition": "any"}),
        ("on-failure", times) => {
            json!({"Condition": "on-failure", "MaxAttempts": whole(&Value::from(times))})
        }
        _ => Value::Null,
    }
}

fn placement(value: &Value) -> Value {
    let spread = value["preferences"].as_array().into_iter().flatten();
    let spread = spread.map(|preference| json!({"Spread": {"SpreadDescriptor": preference["spread"]}}));
    json!({
        "Constraints": form::set(&value["constraints"]),
        "Preferences": spread.collect::<Vec<_>>(),
        "MaxReplicas": whole(&value["max_replicas_per_node"]),
    })
}

fn update(value: &Value) -> Value {
    json!({
        "Parallelism": whole(&value["parallelism"]),
        "Delay": value["delay"],
        "FailureAction": value["failure_action"],
        // None is Swarm's own.
        "Monitor": value["monitor"].as_u64().filter(|monitor| *monitor > 0).unwrap_or(5 * SECOND),
        "MaxFailureRatio": number(&value["max_failure_ratio"]).map(|number| form::ratio(&Value::from(number))),
        "Order": value["order"],
    })
}

fn mode(mode: Mode) -> String {
    match mode {
        Mode::Replicated(replicas) => format!("replicated {replicas}"),
        Mode::ReplicatedJob(completions) => format!("replicated-job {completions}"),
        Mode::GlobalJob => "global-job".to_owned(),
        _ => "global".to_owned(),
    }
}

fn port(port: &Port) -> (String, Value) {
    let protocol = match port.protocol {
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
        _ => "tcp",
    };
    let mode = if port.host_mode { "host" } else { "ingress" };
    let published = u64::from(port.published.unwrap_or(0));
    (form::port_name(published, u64::from(port.target), protocol, mode), json!({"is": true}))
}
