//! What the command takes.

use std::path::PathBuf;

use cc_ci_bridge::names::Key;
use clap::{Parser, Subcommand};

/// From a comment on a pull request to the verdict.
#[derive(Debug, Parser)]
#[command(name = "cc-ci-bridge", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file, with a table [bridge] [default: /etc/cc-ci/config.toml]
    #[arg(long, global = true, env = "CCCI_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive requests, have them run, and tell the forge; ends gracefully at TERM and INT
    Serve,
    /// Run what `serve` orders, on a host without a CI; what runs goes on when it ends
    Work,
    /// Say all that is known of a comment
    Explain {
        /// The comment's address, as the forge shows it
        url: String,
    },
    /// Look whether forge, token and configuration do; changes nothing
    Doctor,
    /// Write a copy of the database, while it is used
    Backup {
        /// Where to; nothing is there yet
        file: PathBuf,
    },
    /// Watch over one job (started by `work`)
    #[command(name = "run-job", hide = true)]
    RunJob {
        /// Its key
        key: Key,
    },
}
