//! One form for what can be written in several.

use std::collections::BTreeMap;

use cc_ci_core::recipe::Mode;
use serde_json::{Value, json};

/// Keys below which a 0 is another thing than nothing.
const COUNTS: [&str; 2] = ["max_attempts", "parallelism"];

const TIMES: [&str; 4] = ["delay", "monitor", "start_interval", "window"];

/// Each host with its address, in no order: the engine is given one line for each.
pub(super) fn hosts(message: &Value) -> Value {
    let texts = message.as_array().into_iter().flatten().filter_map(Value::as_str);
    let pairs = texts.filter_map(|text| {
        let (host, address) = text.split_once('=').or_else(|| text.split_once(':'))?;
        let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
        Some(json!([host, address]))
    });
    sorted(pairs)
}

pub(super) fn ulimits(message: &Value) -> Value {
    let limits = message.as_object().into_iter().flatten().map(|(name, limit)| {
        let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0);
        let (soft, hard) = if limit.is_object() { (&limit["soft"], &limit["hard"]) } else { (limit, limit) };
        (name.clone(), json!({"soft": number(soft), "hard": number(hard)}))
    });
    Value::Object(limits.collect())
}

pub(super) fn logging(message: &Value) -> Value {
    json!({"driver": message["driver"], "options": texts(&message["options"])})
}

pub(super) fn texts(message: &Value) -> Value {
    let texts = message.as_object().into_iter().flatten();
    Value::Object(texts.map(|(name, value)| (name.clone(), json!(format!("={}", text(value))))).collect())
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

/// `deploy` but for what is typed, which comes apart.
pub(super) fn deploy(message: &Value, mode: Mode, labels: &Value) -> Value {
    let mut message = message.clone();
    if let Value::Object(message) = &mut message {
        for typed in ["labels", "mode", "replicas"] {
            message.remove(typed);
        }
    } else {
        message = json!({});
    }
    leaves(&mut message, "");
    message["labels"] = texts(labels);
    message["mode"] = json!(format!("{mode:?}"));
    message
}

/// Numbers, sizes and times in one form.
fn leaves(value: &mut Value, key: &str) {
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| leaves(value, key)),
        Value::Array(list) => list.iter_mut().for_each(|value| leaves(value, key)),
        Value::String(text) if TIMES.contains(&key) => *value = json!(duration(text)),
        Value::String(text) if key == "memory" => *value = json!(memory(text)),
        Value::String(text) if ["cpus", "spread", "constraints"].contains(&key) => {
            *value = json!(text.clone());
        }
        Value::String(text) => {
            if let Ok(number) = text.parse::<f64>() {
                *value = json!(number);
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "this is what Docker does")]
        Value::Number(number) if !TIMES.contains(&key) => {
            *value = json!(f64::from(number.as_f64().unwrap() as f32));
        }
        _ => {}
    }
    if let Some(number) = value.as_f64().filter(|_| key == "max_failure_ratio") {
        #[expect(clippy::cast_possible_truncation, reason = "this is what Docker does")]
        let short = number as f32;
        *value = if short == 0.0 { json!(0) } else { json!(short.to_string()) };
    }
}

fn memory(text: &str) -> u64 {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let power = ["", "k", "m", "g"]
        .iter()
        .position(|unit| text[end..].trim().to_lowercase().trim_end_matches(['b', 'i']) == *unit);
    let number = text[..end].parse::<f64>().unwrap_or(-1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "this is what Docker does")]
    let bytes = (number * 1024_f64.powi(i32::try_from(power.unwrap_or(9)).unwrap())) as u64;
    bytes
}

/// What Go prints of a duration, in nanoseconds.
pub(super) fn duration(text: &str) -> u64 {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let unit = rest[end..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |length| end + length);
        let factor = match &rest[end..unit] {
            "h" => 3600e9,
            "m" => 60e9,
            "s" | "" => 1e9,
            "ms" => 1e6,
            "µs" => 1e3,
            _ => 1.0,
        };
        total += rest[..end].parse::<f64>().unwrap_or(f64::NAN) * factor;
        rest = &rest[unit..];
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is small, and a whole number"
    )]
    let total = total.round() as u64;
    total
}

pub(super) fn sorted(values: impl Iterator<Item = Value>) -> Value {
    // The same twice is mounted, published or shown once.
    let values: BTreeMap<String, Value> = values.map(|value| (value.to_string(), value)).collect();
    values.into_values().collect()
}

/// The same without what says nothing. Environments and what holds counts stay as they are.
pub(super) fn pruned(mut value: Value) -> Value {
    prune(&mut value);
    value
}

fn prune(value: &mut Value) {
    let Value::Object(map) = value else { return };
    for (key, value) in map.iter_mut() {
        if key != "environment" {
            prune(value);
        }
    }
    map.retain(|key, value| match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => COUNTS.contains(&key.as_str()) || number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    });
}
