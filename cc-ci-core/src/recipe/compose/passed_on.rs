//! What a service has that nothing here acts on: the deployer passes it on, and what it made of that is compared with the
//! judged files. Kept in one form each, and merged as docker/cli merges it.

use serde_json::{Map, Value};

use super::ComposeError;
use super::forms::{command, pairs};
use super::node::Node;
use super::short;

/// Keys whose values are kept as they stand.
const KEPT: [&str; 12] = [
    "cap_add",
    "cap_drop",
    "credential_spec",
    "hostname",
    "networks",
    "oom_score_adj",
    "restart",
    "stop_signal",
    "ulimits",
    "user",
    "isolation",
    "working_dir",
];

/// Keys that hold a time.
const TIMES: [&str; 4] = ["delay", "monitor", "start_interval", "window"];

/// Where a number takes the place of another even if it is 0.
const COUNTS: [&str; 2] = ["max_attempts", "parallelism"];

pub(super) fn of(service: &Node<'_>) -> Result<Map<String, Value>, ComposeError> {
    let mut kept = Map::new();
    for (key, at) in service.entries()?.into_iter().filter(|(_, at)| !at.value.is_null()) {
        let value = match key {
            "labels" | "sysctls" => map(&at)?,
            "extra_hosts" => hosts(&at)?,
            "dns" | "dns_search" if at.value.is_string() => Value::Array(vec![at.value.clone()]),
            "dns" | "dns_search" => at.value.clone(),
            "entrypoint" => command(&at)?.into(),
            // A list of them says nothing beyond their keys.
            "networks" if !at.is_map() => continue,
            "init" | "read_only" | "stdin_open" | "tty" => at.boolean()?.into(),
            "logging" => logging(&at)?,
            "deploy" | "healthcheck" => timed(at.value),
            _ if KEPT.contains(&key) => at.value.clone(),
            _ => continue,
        };
        kept.insert(key.to_owned(), value);
    }
    Ok(kept)
}

/// The same value, with its times in nanoseconds. What is none stays, for Docker to refuse.
fn timed(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                let text = value.as_str().filter(|_| TIMES.contains(&key.as_str()));
                let nanos = text.and_then(|text| short::duration(text).ok()?.as_nanos().try_into().ok());
                (key.clone(), nanos.map_or_else(|| timed(value), |nanos: u64| Value::from(nanos)))
            };
            Value::Object(map.iter().map(entry).collect())
        }
        value => value.clone(),
    }
}

fn map(at: &Node<'_>) -> Result<Value, ComposeError> {
    let pairs = pairs(at)?.into_iter().map(|(name, value, _)| (name, Value::from(value.unwrap_or_default())));
    Ok(Value::Object(pairs.collect()))
}

/// The same, with its options as texts.
fn logging(at: &Node<'_>) -> Result<Value, ComposeError> {
    let mut logging = at.value.clone();
    if let (Some(options), Some(kept)) = (at.get("options")?, logging.get_mut("options")) {
        let texts = options.entries()?.into_iter();
        let texts = texts.map(|(key, at)| Ok((key.to_owned(), at.scalar()?.unwrap_or_default().into())));
        *kept = Value::Object(texts.collect::<Result<_, ComposeError>>()?);
    }
    Ok(logging)
}

/// `host:address` texts, in the order of the hosts where they were a map. What has no address is left out, as docker/cli
/// does, which looks for a `=` in a text before it does for a `:`.
fn hosts(at: &Node<'_>) -> Result<Value, ComposeError> {
    let texts = if at.is_list() {
        at.list(Node::text)?
    } else {
        let hosts = at.entries()?.into_iter().filter(|(_, at)| !at.value.is_null());
        let address = |(host, at): (&str, Node<'_>)| match at.value {
            Value::String(address) => Ok(format!("{host}:{address}")),
            _ => Err(at.error("Docker makes no address of a number: write it in quotes")),
        };
        let mut hosts = hosts.map(address).collect::<Result<Vec<_>, ComposeError>>()?;
        hosts.sort();
        hosts
    };
    let cut = |text: String| {
        let sign = if at.is_list() && text.contains('=') { '=' } else { ':' };
        let (host, address) = text.split_once(sign)?;
        let whole = format!("{host}:{address}");
        let (host, address) = whole.split_once(':')?;
        let inner = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let address = inner.filter(|inner| !inner.is_empty()).unwrap_or(address);
        Some(Value::from(format!("{host}:{address}")))
    };
    Ok(texts.into_iter().filter_map(cut).collect())
}

/// Lays what a later file says over what earlier ones did.
pub(super) fn lay(base: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, over) in over {
        let Some(known) = base.get_mut(&key) else {
            base.insert(key, over);
            continue;
        };
        match (key.as_str(), known, over) {
            ("logging", Value::Object(known), Value::Object(over)) => lay_logging(known, over),
            // One takes the place of the other whole, be it empty.
            ("ulimits" | "labels" | "sysctls" | "options", Value::Object(known), Value::Object(over)) => {
                known.extend(over);
            }
            ("networks", Value::Object(known), Value::Object(over)) => {
                for (network, mut options) in over.into_iter().filter(|(_, options)| !options.is_null()) {
                    // The options of its driver stay what they were, be it none.
                    let driver = known
                        .get(&network)
                        .filter(|known| known.is_object())
                        .map(|known| &known["driver_opts"]);
                    if let (Some(driver), Value::Object(options)) = (driver, &mut options) {
                        options.insert("driver_opts".to_owned(), driver.clone());
                    }
                    known.insert(network, options);
                }
            }
            ("entrypoint", known, over) => {
                if !says_nothing(&over) {
                    *known = over;
                }
            }
            (_, Value::Object(known), Value::Object(over)) => lay(known, over),
            (_, Value::Array(known), Value::Array(over)) => known.extend(over),
            (key, known, over) => {
                let counts = ["max_failure_ratio", "max_replicas_per_node", "pids"];
                let zero = |text: &str| text.parse() == Ok(0.0);
                let is_zero = || {
                    over.as_str().is_some_and(|text| match key {
                        "memory" => zero(text.trim_end_matches(|c: char| !c.is_ascii_digit())),
                        key => counts.contains(&key) && zero(text),
                    })
                };
                if COUNTS.contains(&key) || !(says_nothing(&over) || is_zero()) {
                    *known = over;
                }
            }
        }
    }
}

/// Options are of one driver.
fn lay_logging(base: &mut Map<String, Value>, over: Map<String, Value>) {
    let driver =
        |of: &Map<String, Value>| of.get("driver").and_then(Value::as_str).unwrap_or_default().to_owned();
    let (known, new) = (driver(base), driver(&over));
    if known == new || known.is_empty() || new.is_empty() {
        let mut over = over;
        // What it lays over none is lost.
        if base.get("options").is_none() {
            over.remove("options");
        }
        lay(base, over);
    } else {
        *base = over;
    }
}

/// Whether a value is what Go calls a zero value: it says nothing, and replaces nothing.
pub fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
