//! Which keys and types `docker stack deploy` takes: facts of docker/cli's schema for the versions 3.0 to 3.13, all of them
//! together. What it refuses is the recipe's fault, and is told with its file and key before anything is deployed.
//!
//! It is checked before and after interpolation, as a text that a variable may change is cast to what its key takes, and
//! one that has none is not: `replicas: "1"` is refused, and of `replicas: "${REPLICAS}"` the value is judged.
//!
//! # Limitations
//! Of the keys that came with a version only those are refused in an older one that came after 3.8: docker/cli takes far
//! older files, recipes don't have them. What stands in lists of maps is looked at by whoever reads them.

use serde_json::Value;

use super::ComposeError;
use super::node::Node;

/// The version of a file that names none: 3.13.
const NEWEST: u8 = 13;

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Type {
    Text,
    Number,
    Integer,
    Boolean,
    BooleanOrMap,
    List,
    /// A list of texts.
    Texts,
    TextOrTexts,
    ListOrMap,
    /// `NAME=value` texts, or a map of texts, numbers and nothing.
    Pairs,
    /// With these keys alone.
    Map(Keys),
    /// The same, and `x-` ones.
    Extended(Keys),
    /// The same, or nothing.
    MaybeMap(Keys),
    MaybeExtended(Keys),
    /// Since version 3 and so much.
    Since(u8, &'static Type),
    /// Looked at by whoever reads it.
    Any,
}

pub(super) type Keys = &'static [(&'static str, Type)];

use Type::{
    Any, Boolean, BooleanOrMap, Extended, Integer, List, ListOrMap, Map, MaybeExtended, MaybeMap, Number,
    Pairs, Since, Text, TextOrTexts, Texts,
};

pub(super) const SERVICE: Keys = &[
    ("build", Any),
    ("cap_add", Texts),
    ("cap_drop", Texts),
    ("cgroup_parent", Text),
    ("cgroupns_mode", Since(13, &Text)),
    ("command", TextOrTexts),
    ("configs", List),
    ("container_name", Text),
    ("credential_spec", Any),
    ("depends_on", Texts),
    ("deploy", MaybeMap(DEPLOY)),
    ("devices", Texts),
    ("dns", TextOrTexts),
    ("dns_search", TextOrTexts),
    ("domainname", Text),
    ("entrypoint", TextOrTexts),
    ("env_file", TextOrTexts),
    ("environment", Pairs),
    ("expose", List),
    ("external_links", Texts),
    ("extra_hosts", Pairs),
    ("healthcheck", Map(HEALTHCHECK)),
    ("hostname", Text),
    ("image", Text),
    ("init", Boolean),
    ("ipc", Text),
    ("isolation", Text),
    ("labels", Pairs),
    ("links", Texts),
    ("logging", Map(LOGGING)),
    ("mac_address", Text),
    ("network_mode", Text),
    ("networks", ListOrMap),
    ("pid", Text),
    ("ports", List),
    ("privileged", Boolean),
    ("read_only", Boolean),
    ("restart", Text),
    ("secrets", List),
    ("security_opt", Texts),
    ("shm_size", Text),
    ("stdin_open", Boolean),
    ("stop_grace_period", Text),
    ("stop_signal", Text),
    ("sysctls", Pairs),
    ("tmpfs", TextOrTexts),
    ("tty", Boolean),
    ("ulimits", Any),
    ("user", Text),
    ("userns_mode", Text),
    ("volumes", List),
    ("working_dir", Text),
];

const DEPLOY: Keys = &[
    ("endpoint_mode", Text),
    ("labels", Pairs),
    ("mode", Text),
    ("placement", Map(&[("constraints", Texts), ("max_replicas_per_node", Integer), ("preferences", List)])),
    ("replicas", Integer),
    ("resources", Map(&[("limits", Map(LIMITS)), ("reservations", Map(RESERVATIONS))])),
    (
        "restart_policy",
        Map(&[("condition", Text), ("delay", Text), ("max_attempts", Integer), ("window", Text)]),
    ),
    ("rollback_config", Map(UPDATE)),
    ("update_config", Map(UPDATE)),
];

const LIMITS: Keys = &[("cpus", Text), ("memory", Text), ("pids", Since(9, &Integer))];

const RESERVATIONS: Keys = &[("cpus", Text), ("generic_resources", List), ("memory", Text)];

const UPDATE: Keys = &[
    ("delay", Text),
    ("failure_action", Text),
    ("max_failure_ratio", Number),
    ("monitor", Text),
    ("order", Text),
    ("parallelism", Integer),
];

const HEALTHCHECK: Keys = &[
    ("disable", Boolean),
    ("interval", Text),
    ("retries", Number),
    ("start_interval", Since(12, &Text)),
    ("start_period", Text),
    ("test", TextOrTexts),
    ("timeout", Text),
];

const LOGGING: Keys = &[("driver", Text), ("options", Any)];

const VOLUME: Keys = &[
    ("cluster_spec", Since(11, &Any)),
    ("driver", Text),
    ("driver_opts", Any),
    ("external", BooleanOrMap),
    ("labels", Pairs),
    ("name", Text),
];

const NETWORK: Keys = &[
    ("attachable", Boolean),
    ("driver", Text),
    ("driver_opts", Any),
    ("external", BooleanOrMap),
    ("internal", Boolean),
    ("ipam", Any),
    ("labels", Pairs),
    ("name", Text),
];

/// Of secrets and configs.
const CONTENT: Keys = &[
    ("driver", Text),
    ("driver_opts", Any),
    ("external", BooleanOrMap),
    ("file", Text),
    ("labels", Pairs),
    ("name", Text),
    ("template_driver", Text),
];

/// The file that is checked.
#[derive(Debug, Clone, Copy)]
struct File {
    minor: u8,
    interpolated: bool,
}

/// Checks one file, as it is written or `interpolated`, and returns its version, 3 and how much: those of all files must be
/// the same.
pub(super) fn check(root: &Node<'_>, interpolated: bool) -> Result<u8, ComposeError> {
    let sections = match root.value {
        Value::Object(sections) => sections,
        // What it lacks is told of the whole.
        Value::Null => return Ok(NEWEST),
        _ => return Err(root.wrong_type("a map")),
    };
    let minor =
        sections.get("version").map_or(Ok(NEWEST), |version| minor_of(&root.child("version", version)))?;
    let file = File { minor, interpolated };
    for (name, value) in sections {
        let at = root.child(name, value);
        match name.as_str() {
            "services" => each(&at, file, Extended(SERVICE))?,
            "volumes" => each(&at, file, MaybeExtended(VOLUME))?,
            "networks" => each(&at, file, MaybeExtended(NETWORK))?,
            "secrets" | "configs" => each(&at, file, Extended(CONTENT))?,
            name if name == "version" || name.starts_with("x-") => {}
            _ => return Err(at.error("Docker knows no such section")),
        }
    }
    Ok(minor)
}

fn minor_of(at: &Node<'_>) -> Result<u8, ComposeError> {
    let Value::String(version) = at.value else {
        return Err(at.error("the version is a text: write \"3.8\", in quotes"));
    };
    let minor = version.strip_prefix("3.").and_then(|minor| minor.parse::<u8>().ok());
    match minor {
        _ if matches!(version.as_str(), "" | "3") => Ok(NEWEST),
        Some(minor) if minor <= NEWEST && *version == format!("3.{minor}") => Ok(minor),
        _ => Err(at.error("Docker takes the versions \"3.0\" to \"3.13\"")),
    }
}

fn each(at: &Node<'_>, file: File, wanted: Type) -> Result<(), ComposeError> {
    let Value::Object(entries) = at.value else { return Err(at.wrong_type("a map")) };
    entries.iter().try_for_each(|(key, value)| of_type(&at.child(key, value), file, wanted))
}

fn of_type(at: &Node<'_>, file: File, wanted: Type) -> Result<(), ComposeError> {
    let value = at.value;
    let cast = |is_one: fn(&str) -> bool| {
        value.as_str().is_some_and(|text| if file.interpolated { is_one(text) } else { text.contains('$') })
    };
    let (fits, expected) = match wanted {
        Any => (true, ""),
        Since(since, _) if file.minor < since => {
            return Err(at.error(format_args!("Docker knows the key since version \"3.{since}\"")));
        }
        Since(_, wanted) => return of_type(at, file, *wanted),
        Text => (value.is_string(), "a text"),
        Number => (value.is_number() || cast(|text| text.parse::<f64>().is_ok()), "a number"),
        Integer => {
            (value.is_i64() || value.is_u64() || cast(|text| text.parse::<i64>().is_ok()), "a whole number")
        }
        Boolean => (value.is_boolean() || cast(is_boolean), "true or false"),
        BooleanOrMap => (value.is_boolean() || value.is_object() || cast(is_boolean), "true or false"),
        List => (value.is_array(), "a list"),
        Texts => return texts(at),
        TextOrTexts if value.is_string() => (true, ""),
        TextOrTexts if value.is_array() => return texts(at),
        TextOrTexts => (false, "a text or a list"),
        ListOrMap => (value.is_array() || value.is_object(), "a list or a map"),
        Pairs => return pairs(at),
        Map(_) | Extended(_) => (value.is_object(), "a map"),
        MaybeMap(_) | MaybeExtended(_) => (value.is_object() || value.is_null(), "a map"),
    };
    if !fits {
        return Err(at.wrong_type(expected));
    }
    match (wanted, value) {
        (Map(keys) | MaybeMap(keys), Value::Object(entries)) => known(at, file, keys, entries, false),
        (Extended(keys) | MaybeExtended(keys), Value::Object(entries)) => {
            known(at, file, keys, entries, true)
        }
        _ => Ok(()),
    }
}

/// The texts that docker/cli casts to a boolean.
fn is_boolean(text: &str) -> bool {
    ["true", "y", "yes", "on", "false", "n", "no", "off"].contains(&text.to_ascii_lowercase().as_str())
}

fn texts(at: &Node<'_>) -> Result<(), ComposeError> {
    let Value::Array(items) = at.value else { return Err(at.wrong_type("a list")) };
    let wrong = items.iter().enumerate().find(|(_, item)| !item.is_string());
    wrong.map_or(Ok(()), |(index, item)| Err(at.child(index, item).wrong_type("a text")))
}

fn pairs(at: &Node<'_>) -> Result<(), ComposeError> {
    let wrong = match at.value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find(|(_, item)| !item.is_string())
            .map(|(index, item)| at.child(index, item).wrong_type("a text")),
        Value::Object(entries) => entries
            .iter()
            .find(|(_, value)| !is_scalar(value))
            .map(|(key, value)| at.child(key, value).wrong_type("a text, a number or nothing")),
        _ => Some(at.wrong_type("a list or a map")),
    };
    wrong.map_or(Ok(()), Err)
}

fn is_scalar(value: &Value) -> bool {
    value.is_string() || value.is_number() || value.is_null()
}

fn known(
    at: &Node<'_>,
    file: File,
    keys: Keys,
    entries: &serde_json::Map<String, Value>,
    extended: bool,
) -> Result<(), ComposeError> {
    for (key, value) in entries {
        let at = at.child(key, value);
        match keys.iter().find(|(known, _)| known == key) {
            Some((_, wanted)) => of_type(&at, file, *wanted)?,
            None if extended && key.starts_with("x-") => {}
            None => {
                let near = keys
                    .iter()
                    .find(|(known, _)| key.len() < 64 && strsim::damerau_levenshtein(known, key) <= 2);
                let near = near.map(|(near, _)| format!("; is it {near}?")).unwrap_or_default();
                return Err(at.error(format_args!("Docker knows no such key{near}")));
            }
        }
    }
    Ok(())
}
