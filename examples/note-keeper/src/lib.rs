//! A small HTTP note keeper: the app that the example recipe deploys.
//!
//! It is small, but it has what makes real apps hard to deploy and upgrade: data on a volume, secrets, a data format
//! that changes between releases, a second service that shares the data, and an orderly end.
//!
//! - `note-keeper serve --data-format lines|json` serves notes from `NOTES_DATA_DIR`. Release 1.0.0 of the recipe
//!   keeps them as lines of `notes.txt`; release 1.1.0 as `notes.json`, into which it converts what it finds at start.
//! - `note-keeper worker` counts the notes and keeps the count in a volume of its own.
//! - `note-keeper get|post|delete` is a tiny HTTP client, for health checks and for tests that can't rely on curl.
//!
//! Every request reads the notes from disk, so a restore in place shows at once. Every change is written to a
//! temporary file, synced and renamed, under a lock on the data directory: two servers may share one directory, as
//! they do for a moment when Swarm starts the new task before it stops the old one.
//!
//! # Limitations
//!
//! Every change rewrites the whole file: this serves thousands of notes, not millions. No TLS; the client speaks plain
//! HTTP only. A directory that was converted to `json` can't be served as `lines` again.

mod app;
mod auth;
mod cli;
mod client;
mod output;
mod serve;
mod settings;
mod store;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the note keeper as if it were called with `args` (the first is the program's name), and says how it ended:
/// 0 done, 1 failed, 2 wrong usage or setting, 3 no answer (client).
///
/// It takes over SIGTERM and SIGINT, and blocks until the work is done: call it first thing in `main`.
pub fn main_from_args(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match cli::parse(args) {
        Ok(command) => command,
        Err(error) => {
            output::complain(&error);
            output::hint("note-keeper help");
            return ExitCode::from(2);
        }
    };
    cli::run(command)
}
