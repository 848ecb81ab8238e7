//! What `schema` takes.

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct Schema {
    /// Which form: `cc-ci.FORM/v1` is what `schema` says in it
    #[arg(value_enum)]
    pub form: Form,
}

/// A form of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A run: `run.json`, and what `run` and `report` write.
    Run,
    /// A line of a run's `events.ndjson`.
    Event,
    Runs,
    Logs,
    Status,
    Locks,
    Audit,
    Janitor,
    /// What `warm reconcile` writes.
    Warm,
    Doctor,
    RecipeCheck,
    /// What `config show` writes.
    Config,
    /// What a command writes that an error ended.
    Error,
    #[cfg(feature = "demo")]
    Demo,
}
