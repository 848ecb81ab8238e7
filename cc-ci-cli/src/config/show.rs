//! What holds, and who says so.

use std::env;
use std::path::Path;
use std::time::Duration;

use cc_ci_core::workspace::RecipeSource;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Config, KEYS};
use crate::args::Settings;

/// One key.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Row {
    /// Its name in the file, with its table's before a dot.
    pub key: String,
    /// As the file would have it; none where there is none.
    pub value: Option<String>,
    /// `default`, a variable, a flag, or a line of the file.
    pub origin: String,
}

/// Keys that a flag of every command stands for, the flag's name in the code, and its variable.
const FLAGS: &[(&str, &str, &str)] = &[
    ("executor", "executor", "CCCI_EXECUTOR"),
    ("server", "server", "CCCI_SERVER"),
    ("suffix", "suffix", "CCCI_SUFFIX"),
    ("lock_dir", "lock_dir", "CCCI_APP_LOCK_DIR"),
    ("runs_dir", "runs_dir", "CCCI_RUNS_DIR"),
    ("local.root", "local_root", "CCCI_LOCAL_ROOT"),
    ("proxy.address", "proxy", "CCCI_PROXY"),
    ("lock_timeout", "lock_timeout", "CCCI_LOCK_TIMEOUT"),
    ("claim_timeout", "claim_timeout", "CCCI_CLAIM_TIMEOUT"),
    ("teardown_budget", "teardown_budget", "CCCI_TEARDOWN_BUDGET"),
];

/// Keys that a variable stands for which only some commands read.
const VARIABLES: &[(&str, &str)] = &[
    ("abra_dir", "ABRA_DIR"),
    ("deadline", "CCCI_DEADLINE"),
    ("tests_dir", "CCCI_TESTS_DIR"),
    ("report_only", "CCCI_REPORT_ONLY"),
    ("janitor_deadline", "CCCI_JANITOR_DEADLINE"),
];

/// Every key, in the order of `help config`; of recipes those that the file has.
pub fn rows(config: &Config, settings: &Settings) -> Vec<Row> {
    let keys = KEYS.iter().map(|(key, _)| *key).filter(|key| !key.starts_with("recipes.X."));
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let row = |key: &str| {
        let from_file = || config.source.place(key).unwrap_or_else(|| "default".to_owned());
        let flag = FLAGS.iter().find(|(of, ..)| *of == key);
        let origin = match flag {
            Some((_, id, _)) if settings.given.iter().any(|given| given == id) => {
                format!("--{}", id.replace('_', "-"))
            }
            Some((_, _, name)) if variable(name).is_some() => (*name).to_owned(),
            _ => from_file(),
        };
        let told = VARIABLES.iter().find(|(of, _)| *of == key);
        match told.and_then(|(_, name)| Some(((*name).to_owned(), variable(name)?))) {
            Some((origin, value)) => Row { key: key.to_owned(), value: Some(value), origin },
            None => Row { key: key.to_owned(), value: value(config, key), origin },
        }
    };
    keys.map(row).chain(of_recipes(config)).collect()
}

fn value(config: &Config, key: &str) -> Option<String> {
    fn path(path: &Path) -> String {
        path.display().to_string()
    }
    fn list(items: impl IntoIterator<Item = impl ToString>) -> Option<String> {
        let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
        (!items.is_empty()).then(|| items.join(", "))
    }
    let time = |time: Duration| Some(humantime::format_duration(time).to_string());
    let run = &config.run;
    match key {
        "executor" => Some(format!("{:?}", config.executor).to_lowercase()),
        "server" => Some(config.server.to_string()),
        "suffix" => config.suffix.as_ref().map(ToString::to_string),
        "protect" => list(&config.protect),
        "lock_dir" => Some(path(&config.lock_dir)),
        "lock_group" => config.lock_group.map(|group| group.to_string()),
        "trusted_lock_owners" => list(&config.trusted_lock_owners),
        "runs_dir" => Some(path(&config.runs_dir)),
        "keep_runs" => Some(run.keep_runs.to_string()),
        "abra_dir" => config.abra_tree().ok().map(|tree| path(&tree)),
        "tests_dir" => run.operator_tests.as_deref().map(path),
        "shared_networks" => list(&run.shared_networks),
        "deadline" => time(config.deadline),
        "lock_timeout" => time(run.lock_timeout),
        "claim_timeout" => time(config.claim_timeout),
        "janitor_deadline" => time(config.janitor_deadline),
        "teardown_budget" => time(config.teardown_budget),
        "fetch_timeout" => time(run.fetch_limit),
        "converge_timeout" => time(run.converge_limit),
        "converge_max" => time(run.converge_max),
        "report_only" => Some(run.report_only.to_string()),
        "recipe_scripts" => Some(format!("{:?}", run.recipe_scripts).to_lowercase()),
        "test_timeout" => time(run.script_limit),
        "janitor_budget" => time(run.janitor_budget),
        "local.root" => Some(path(&config.local_root)),
        "abra.backups" => Some(format!("{:?}", config.backups).to_lowercase()),
        "workspace.catalogue" => Some(format!("{:?}", config.catalogue).to_lowercase()),
        "proxy.address" => config.proxy.as_ref().map(|(address, _)| address.to_string()),
        "proxy.ca_file" => config.proxy.as_ref().and_then(|(_, ca_file)| ca_file.as_deref().map(path)),
        "sandbox.paths" => list(run.sandbox_paths.iter().map(|path| path.display())),
        _ => None,
    }
}

/// The tables of recipes, as they are written. An address is shown without user and password.
fn of_recipes(config: &Config) -> Vec<Row> {
    let file = config.source.text().parse::<toml::Table>().unwrap_or_default();
    let recipes = file.get("recipes").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let mut rows = Vec::new();
    for (name, table) in recipes {
        for (key, value) in table.as_table().cloned().unwrap_or_default() {
            let is_address = matches!(key.as_str(), "source" | "depends");
            let text = |value: &toml::Value| match value.as_str() {
                Some(text) if is_address => {
                    text.parse::<RecipeSource>().map_or_else(|error| error.value, |source| source.to_string())
                }
                Some(text) => text.to_owned(),
                None => value.to_string(),
            };
            let value = match value.as_array() {
                Some(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
                None => text(&value),
            };
            let key = format!("recipes.{name}.{key}");
            let origin = config.source.place(&key).unwrap_or_default();
            rows.push(Row { key, value: Some(value), origin });
        }
    }
    rows
}
