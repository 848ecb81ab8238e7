//! `cc-ci config show`: what holds, and who says so.

use cc_ci_core::Failure;
use cc_ci_core::exit::Exit;
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::{self, Format};
use crate::config::{Config, Row, rows};
use crate::terminal::{Document, Terminal};

pub fn show(config: &Config, settings: &args::Settings, terminal: &Terminal) -> Result<Exit, Failure> {
    let rows = rows(config, settings)?;
    match settings.format {
        Format::Human => terminal.result(text(&rows)),
        Format::Json | Format::Ndjson => terminal.json(&document(&rows)),
    }
    Ok(Exit::Green)
}

/// What holds.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Settings<'r> {
    settings: &'r [Row],
}

pub fn document(rows: &[Row]) -> Document<Settings<'_>> {
    Document { schema: "cc-ci.config/v1", content: Settings { settings: rows } }
}

pub fn text(rows: &[Row]) -> String {
    let value = |row: &Row| row.value.as_deref().unwrap_or("-").to_owned();
    let width = |length: fn(&Row) -> usize| rows.iter().map(length).max().unwrap_or_default();
    let keys = width(|row| row.key.len());
    let values = width(|row| row.value.as_ref().map_or(1, String::len)).min(40);
    let line = |row: &Row| format!("{:<keys$}  {:<values$}  {}\n", row.key, value(row), row.origin);
    rows.iter().map(line).collect()
}
