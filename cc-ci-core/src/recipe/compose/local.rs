//! The extension field that says how the `local` executor runs a service without Docker.

use std::collections::BTreeMap;

use super::ComposeError;
use super::node::{Node, check_variable};
use crate::sys::spelling;

/// The key of the field, below a service.
pub const LOCAL_KEY: &str = "x-cc-ci-local";

const KNOWN: [&str; 3] = ["command", "environment", "health"];

/// What the `local` executor runs for a service. Nothing in it is interpolated yet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalService {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables on top of the service's own.
    pub environment: BTreeMap<String, String>,
    /// The path that answers over HTTP once the service is healthy; a service with it gets a port.
    pub health: Option<String>,
}

/// The field in one file: an overlay may leave the command to the base.
#[derive(Debug, Default)]
pub(super) struct LocalLayer {
    command: Option<Vec<String>>,
    environment: BTreeMap<String, String>,
    health: Option<String>,
}

impl LocalLayer {
    pub(super) fn parse(at: &Node<'_>) -> Result<Self, ComposeError> {
        let mut layer = Self::default();
        for (key, at) in at.entries()? {
            match key {
                "command" => layer.command = Some(command(&at)?),
                "environment" => {
                    for (name, at) in at.entries()? {
                        let value = at.scalar()?.unwrap_or_default();
                        check_variable(&at, name, &value)?;
                        layer.environment.insert(name.to_owned(), value);
                    }
                }
                "health" => layer.health = Some(health(&at)?),
                _ => {
                    let meant = spelling::nearest(key, KNOWN);
                    let meant = meant.map_or_else(
                        || format!("known are {}", KNOWN.join(", ")),
                        |meant| format!("did you mean {meant}?"),
                    );
                    return Err(at.error(format_args!("unknown key; {meant}")));
                }
            }
        }
        Ok(layer)
    }

    pub(super) fn merge(&mut self, over: Self) {
        self.command = over.command.or(self.command.take());
        self.environment.extend(over.environment);
        self.health = over.health.or(self.health.take());
    }

    pub(super) fn finish(self) -> Result<LocalService, &'static str> {
        let command = self.command.ok_or("a command is needed")?;
        Ok(LocalService { command, environment: self.environment, health: self.health })
    }
}

fn command(at: &Node<'_>) -> Result<Vec<String>, ComposeError> {
    let words = at.list(Node::text)?;
    if words.first().is_none_or(String::is_empty) {
        return Err(at.error("a command begins with a program"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(at.error("a command has no NUL bytes"));
    }
    Ok(words)
}

fn health(at: &Node<'_>) -> Result<String, ComposeError> {
    let path = at.text()?;
    if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(at.error("a health path begins with / and has no blanks, e.g. /health"));
    }
    Ok(path)
}
