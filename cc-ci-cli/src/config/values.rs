//! Values of the configuration file that have rules of their own.

use std::time::Duration;

use nix::unistd::Group;
use serde::Deserialize;

/// A time as the flags take it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(pub Duration);

impl TryFrom<String> for Time {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        crate::args::time(&text).map(Self).map_err(|error| format!("{text:?}: {error}"))
    }
}

/// The time that something may take: none at all would let nothing happen.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct Limit(pub Duration);

impl TryFrom<String> for Limit {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        crate::args::limit(&text).map(Self).map_err(|error| format!("{text:?}: {error}"))
    }
}

/// How many runs are kept: without any, nobody could tell why the last one was red.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct KeepRuns(pub usize);

impl TryFrom<toml::Value> for KeepRuns {
    type Error = String;
    fn try_from(value: toml::Value) -> Result<Self, String> {
        let count =
            value.as_integer().and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
        count.map(Self).ok_or_else(|| format!("{value}: it is how many runs are kept, 1 or more"))
    }
}

/// How many runs may go on at once; 0 for any number. Who waits for a place waits for each of them.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct PlaceCount(pub u8);

impl TryFrom<toml::Value> for PlaceCount {
    type Error = String;
    fn try_from(value: toml::Value) -> Result<Self, String> {
        let count =
            value.as_integer().and_then(|count| u8::try_from(count).ok()).filter(|count| *count <= 100);
        count.map(Self).ok_or_else(|| {
            format!("{value}: it is how many runs may go on at once, 100 at the most, or 0 for any number")
        })
    }
}

/// So many bytes, as people write them: `10 GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub u64);

impl TryFrom<String> for Size {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let rule = || format!("{text:?}: it is a size like 512 MiB or 10 GiB, or 0");
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit: u64 = match text[digits.len()..].trim_start() {
            "" if digits == "0" => 1,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(rule()),
        };
        let count: u64 = digits.parse().map_err(|_| rule())?;
        count.checked_mul(unit).map(Self).ok_or_else(rule)
    }
}

/// A user of this host, by number.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct UserId(pub u32);

impl TryFrom<toml::Value> for UserId {
    type Error = String;
    fn try_from(value: toml::Value) -> Result<Self, String> {
        let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
        number.map(Self).ok_or_else(|| format!("{value}: it is a user's number"))
    }
}

/// A group of this host, by number or name.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct GroupId(pub u32);

impl TryFrom<toml::Value> for GroupId {
    type Error = String;
    fn try_from(value: toml::Value) -> Result<Self, String> {
        let rule = || format!("{value}: it is a group's name or number");
        match &value {
            toml::Value::Integer(number) => u32::try_from(*number).map(Self).map_err(|_| rule()),
            toml::Value::String(name) => match Group::from_name(name) {
                Ok(Some(group)) => Ok(Self(group.gid.as_raw())),
                Ok(None) => Err(format!("{value}: this host has no such group: getent group lists them")),
                Err(error) => Err(format!("{value}: can't look for the group: {error}")),
            },
            _ => Err(rule()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit() {
        for (text, size) in
            [("0", 0), ("512 MiB", 512 << 20), ("10GiB", 10 << 30), ("16383 TiB", 16383 << 40)]
        {
            assert_eq!(Size::try_from(text.to_owned()), Ok(Size(size)), "{text}");
        }
        for bad in ["", "10", "GiB", "-1 GiB", "1.5 GiB", "10 GB", "10 GiB GiB", "99999999 TiB"] {
            let error = Size::try_from(bad.to_owned()).unwrap_err();
            assert!(error.contains("10 GiB"), "{bad}: {error}");
        }
    }

    #[test]
    fn places_are_few() {
        assert!(PlaceCount::try_from(toml::Value::Integer(100)).is_ok());
        for bad in [toml::Value::Integer(101), toml::Value::Integer(-1), toml::Value::String("2".to_owned())]
        {
            assert!(PlaceCount::try_from(bad).is_err());
        }
    }
}
