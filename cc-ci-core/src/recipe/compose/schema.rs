//! Which keys and types `docker stack deploy` takes: facts of docker/cli's schema for the versions 3.0 to 3.13, all of them
//! together. What it refuses is the recipe's fault, and is told with its file and key before anything is deployed.
//!
//! It is checked before and after interpolation, as a text that a variable may change is cast to what its key takes, and
//! one that has none is not: `replicas: "1"` is refused, and of `replicas: "${REPLICAS}"` the value is judged.
//!
//! # Limitations
//! Of the keys that came with a version only those are refused in an older one that came after 3.8: docker/cli takes far
//! older files, recipes don't have them.

mod keys;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::ComposeError;
use super::node::Node;
use crate::sys::spelling;
pub(super) use keys::SERVICE;
use keys::Type::{
    Any, Boolean, BooleanOrMap, Duration, Extended, Integer, IntegerOr, ListOf, Map, MapOf, MaybeExtended,
    MaybeMap, Number, OneOf, Open, Pairs, Since, Size, Text, TextNumberOrNull, TextOr, TextOrNumber,
    TextOrNumberOr, TextOrTexts, TextOrUnique, Texts, Uncast, Unique, UniqueList, UniqueOrMapOf,
};
use keys::{CONFIG, Keys, NETWORK, SECRET, Type, VOLUME};

/// The version of a file that names none: 3.13.
const NEWEST: u8 = 13;

/// The file that is checked.
#[derive(Debug, Clone, Copy)]
struct File {
    minor: u8,
    interpolated: bool,
    casts: bool,
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
    let file = File { minor, interpolated, casts: true };
    for (name, value) in sections {
        let at = root.child(name, value);
        match name.as_str() {
            "services" => each(&at, file, Extended(SERVICE))?,
            "volumes" => each(&at, file, MaybeExtended(VOLUME))?,
            "networks" => each(&at, file, MaybeExtended(NETWORK))?,
            "secrets" => each(&at, file, Extended(SECRET))?,
            "configs" => each(&at, file, Extended(CONFIG))?,
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
        let is_one = |text: &str| if file.interpolated { is_one(text) } else { text.contains('$') };
        file.casts && value.as_str().is_some_and(is_one)
    };
    let (fits, expected) = match wanted {
        Any => (true, ""),
        Since(since, _) if file.minor < since => {
            return Err(at.error(format_args!("Docker knows the key since version \"3.{since}\"")));
        }
        Uncast(wanted) => return of_type(at, File { casts: false, ..file }, *wanted),
        Text => (value.is_string(), "a text"),
        Duration => return duration(at, file),
        Size => {
            let text = value.as_str().ok_or_else(|| at.wrong_type("a text"))?;
            let is_open = text.contains('$') && !file.interpolated;
            if !(is_size(text) || is_open) {
                return Err(at.error("a size is a number and a unit: b, k, m, g, t or p, e.g. 50M"));
            }
            return Ok(());
        }
        OneOf(words) => {
            let text = value.as_str().unwrap_or_default();
            if words.contains(&text) || cast(|_| false) {
                return Ok(());
            }
            return Err(at.error(format_args!("Docker takes {}", words.join(" or "))));
        }
        Number => (value.is_number() || cast(|text| text.parse::<f64>().is_ok()), "a number"),
        Integer => (is_whole(value) || cast(|text| text.parse::<i64>().is_ok()), "a whole number"),
        Boolean => (value.is_boolean() || cast(is_boolean), "true or false"),
        BooleanOrMap => (value.is_boolean() || value.is_object() || cast(is_boolean), "true or false"),
        TextOrNumber => (value.is_string() || value.is_number(), "a text or a number"),
        TextNumberOrNull => (is_scalar(value), "a text, a number or nothing"),
        Texts => return texts(at),
        Unique => return texts(at).and_then(|()| unique(at)),
        TextOrTexts | TextOrUnique | TextOr(_) | TextOrNumberOr(_) if value.is_string() => (true, ""),
        TextOrNumberOr(_) if value.is_number() => (true, ""),
        IntegerOr(_) if is_whole(value) || value.is_string() => return of_type(at, file, Integer),
        IntegerOr(_) if value.is_object() && (value.get("soft").is_none() || value.get("hard").is_none()) => {
            return Err(at.error("Docker wants a soft and a hard limit"));
        }
        Since(_, wanted) | TextOr(wanted) | TextOrNumberOr(wanted) | IntegerOr(wanted) => {
            return of_type(at, file, *wanted);
        }
        TextOrTexts if value.is_array() => return texts(at),
        TextOrUnique | UniqueOrMapOf(_) if value.is_array() => return of_type(at, file, Unique),
        TextOrTexts | TextOrUnique => (false, "a text or a list"),
        UniqueList(wanted) => return items(at, file, *wanted).and_then(|()| unique(at)),
        ListOf(wanted) => return items(at, file, *wanted),
        UniqueOrMapOf(of) | MapOf(of) => {
            let Value::Object(entries) = value else {
                let is_either = matches!(wanted, UniqueOrMapOf(_));
                return Err(at.wrong_type(if is_either { "a list or a map" } else { "a map" }));
            };
            return entries.iter().try_for_each(|(key, value)| of_type(&at.child(key, value), file, *of));
        }
        Pairs => return pairs(at),
        Map(_) | Open(_) | Extended(_) => (value.is_object(), "a map"),
        MaybeMap(_) | MaybeExtended(_) => (value.is_object() || value.is_null(), "a map"),
    };
    if !fits {
        return Err(at.wrong_type(expected));
    }
    match (wanted, value) {
        (Open(keys), Value::Object(entries)) => {
            let message = keys.iter().filter_map(|(key, wanted)| Some((key, entries.get(*key)?, wanted)));
            message
                .into_iter()
                .try_for_each(|(key, value, wanted)| of_type(&at.child(key, value), file, *wanted))
        }
        (Map(keys) | MaybeMap(keys), Value::Object(entries)) => known(at, file, keys, entries, false),
        (Extended(keys) | MaybeExtended(keys), Value::Object(entries)) => {
            known(at, file, keys, entries, true)
        }
        _ => Ok(()),
    }
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64()
}

fn duration(at: &Node<'_>, file: File) -> Result<(), ComposeError> {
    let Value::String(text) = at.value else { return Err(at.wrong_type("a text")) };
    if !file.interpolated && text.contains('$') {
        return Ok(());
    }
    at.duration().map(drop)
}

fn items(at: &Node<'_>, file: File, wanted: Type) -> Result<(), ComposeError> {
    let Value::Array(items) = at.value else { return Err(at.wrong_type("a list")) };
    items.iter().enumerate().try_for_each(|(index, item)| of_type(&at.child(index, item), file, wanted))
}

/// Refuses what is twice in a list.
fn unique(at: &Node<'_>) -> Result<(), ComposeError> {
    let Value::Array(items) = at.value else { return Ok(()) };
    let mut seen = BTreeSet::new();
    let twice = items.iter().enumerate().find(|(_, item)| !seen.insert(comparable(item)));
    twice.map_or(Ok(()), |(index, item)| {
        Err(at.child(index, item).error("Docker takes nothing twice in this list"))
    })
}

/// An item as it is compared: the order of its keys says nothing, and what is cast to a number is one.
fn comparable(item: &Value) -> String {
    let Value::Object(entries) = item else { return item.to_string() };
    let entry = |(key, value): (&String, &Value)| {
        let cast = value.as_str().filter(|_| matches!(key.as_str(), "published" | "target"));
        let number = cast.and_then(|text| text.parse::<i64>().ok());
        (key.clone(), number.map_or_else(|| value.to_string(), |number| number.to_string()))
    };
    format!("{:?}", entries.iter().map(entry).collect::<BTreeMap<_, _>>())
}

/// Whether it is a size to docker/cli.
fn is_size(text: &str) -> bool {
    let (number, unit) =
        text.split_at(text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len()));
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let is_unit = matches!(unit.as_str(), "" | "b") || {
        let rest = unit.strip_prefix(['k', 'm', 'g', 't', 'p']);
        rest.is_some_and(|rest| matches!(rest, "" | "b" | "ib"))
    };
    is_unit && number.parse::<f64>().is_ok()
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
        Value::Array(_) => return texts(at).and_then(|()| unique(at)),
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
                let near = spelling::nearest(key, keys.iter().map(|(known, _)| *known));
                let near = near.map(|near| format!("; is it {near}?")).unwrap_or_default();
                return Err(at.error(format_args!("Docker knows no such key{near}")));
            }
        }
    }
    Ok(())
}
