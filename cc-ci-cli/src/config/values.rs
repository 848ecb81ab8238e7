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
