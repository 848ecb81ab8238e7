//! What holds, and who says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cc_ci_core::Failure;
use cc_ci_core::workspace::RecipeSource;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Config, KEYS, absolute, named_tree, nodes};
use crate::args::{Settings, by_variable};

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

/// The flag of every command that stands for a key, by its name in the code.
pub(super) fn flag_of(key: &str) -> &str {
    match key {
        "local.root" => "local_root",
        "proxy.address" => "proxy",
        key => key,
    }
}

/// Every key, in the order of `help config`; of nodes and recipes those that the file has.
pub fn rows(config: &Config, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let keys = KEYS.iter().map(|(key, _)| *key).filter(|key| !key.contains(".X."));
    let mut told = by_variables(config)?;
    let row = |key: &str| {
        let key = key.to_owned();
        if let Some((value, origin)) = told.remove(key.as_str()) {
            return Row { key, value: Some(value), origin };
        }
        let origin = settings.origins.get(flag_of(&key)).cloned();
        let origin = origin.or_else(|| config.source.place(&key)).unwrap_or_else(|| "default".to_owned());
        Row { value: value(config, &key), key, origin }
    };
    let of_nodes = nodes::rows(&config.nodes).into_iter().map(|(key, value)| {
        let origin = config.source.place(&key).unwrap_or_default();
        Row { key, value: Some(value), origin }
    });
    Ok(keys.map(row).chain(of_nodes).chain(of_recipes(config)).collect())
}

/// What variables say that only some commands read, where they decide: `run` and `janitor` lay them over the file.
fn by_variables(config: &Config) -> Result<BTreeMap<&'static str, (String, String)>, Failure> {
    fn read<T: Clone + Send + Sync + 'static>(
        command: &str,
        id: &str,
    ) -> Result<Option<(T, String)>, Failure> {
        by_variable(command, id).map_err(|error| {
            let error = error.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Failure::configuration(format!("the environment: {error}"))
        })
    }
    let time = |(time, origin): (Duration, String)| (humantime::format_duration(time).to_string(), origin);
    let mut told = BTreeMap::new();
    told.extend(read("run", "deadline")?.map(|found| ("deadline", time(found))));
    told.extend(read("run", "keep_on_red")?.map(|found| ("keep_on_red", time(found))));
    told.extend(read("janitor", "deadline")?.map(|found| ("janitor_deadline", time(found))));
    if let Some((directory, origin)) = read::<PathBuf>("run", "tests_dir")? {
        told.insert("tests_dir", (absolute("the tests directory", directory)?.display().to_string(), origin));
    }
    // It takes nothing back that the file says.
    if let Some((true, origin)) = read::<bool>("run", "report_only")?.filter(|_| !config.run.report_only) {
        told.insert("report_only", (true.to_string(), origin));
    }
    if let Some(tree) = named_tree().and(config.abra_dir.as_ref()) {
        told.insert("abra_dir", (tree.display().to_string(), "ABRA_DIR".to_owned()));
    }
    Ok(told)
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
        "keep_images" => time(config.keep_images),
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
        "keep_on_red" => time(run.keep_on_red),
        "recipe_scripts" => Some(format!("{:?}", run.recipe_scripts).to_lowercase()),
        "test_timeout" => time(run.script_limit),
        "janitor_budget" => time(run.janitor_budget),
        "local.root" => Some(path(&config.local_root)),
        "abra.backups" => Some(format!("{:?}", config.backups).to_lowercase()),
        "workspace.catalogue" => Some(format!("{:?}", config.catalogue).to_lowercase()),
        "proxy.address" => config.proxy.as_ref().map(|(address, _)| address.to_string()),
        "proxy.ca_file" => config.proxy.as_ref().and_then(|(_, ca_file)| ca_file.as_deref().map(path)),
        "git.credentials_file" => config.git_credentials_file.as_deref().map(path),
        "registry.credentials_file" => config.registry_credentials_file.as_deref().map(path),
        "limits.runs" => Some(config.limit_runs.to_string()),
        "limits.free_disk" => Some(size(run.limits.free_disk)),
        "limits.free_memory" => Some(size(run.limits.free_memory)),
        "sandbox.paths" => list(run.sandbox_paths.iter().map(|path| path.display())),
        _ => None,
    }
}

/// As the file takes it.
fn size(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        bytes if bytes % (1 << 30) == 0 => format!("{} GiB", bytes >> 30),
        bytes => format!("{} MiB", bytes >> 20),
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
            let text = |value: &toml::Value| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                match text.parse::<RecipeSource>() {
                    Ok(source) if is_address => source.to_string(),
                    _ => text,
                }
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
