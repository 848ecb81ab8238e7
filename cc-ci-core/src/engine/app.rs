//! One app, and its `.env`.

use std::path::{Path, PathBuf};

use super::Failure;
use crate::names::{Domain, RecipeName};
use crate::recipe::EnvFile;
use crate::sys::beneath::read_beneath;
use crate::sys::files::{private_directory, write_whole_by};
use crate::workspace::remove_tree;

/// One app of a run.
#[derive(Debug, Clone)]
pub struct App {
    /// Its address and name.
    pub domain: Domain,
    /// What it is made of.
    pub recipe: RecipeName,
    /// The checkout of the recipe that the next call works from.
    pub tree: PathBuf,
    /// Its `.env`.
    pub env_file: PathBuf,
}

/// An `.env` is text of some pages.
pub(crate) const ENV_LIMIT: u64 = 1 << 20;

/// How the name of a file ends that is not written to its end.
pub(crate) const UNFINISHED: &str = ".new";

/// Where an `.env` file is written before it takes its place.
pub(crate) fn unfinished(env_file: &Path) -> PathBuf {
    let mut path = env_file.as_os_str().to_owned();
    path.push(UNFINISHED);
    path.into()
}

impl App {
    /// Its `.env`, as it is now. A recipe's scripts may have put anything in its place: a symlink or a pipe is
    /// refused, and never followed or waited for.
    pub fn env(&self) -> Result<EnvFile, Failure> {
        let text = self.env_text()?;
        String::from_utf8_lossy(&text).parse::<EnvFile>().map_err(|error| {
            Failure::recipe(format!("can't read {}", self.env_file.display())).with_source(error)
        })
    }

    /// The same, whatever is in it.
    pub(crate) fn env_text(&self) -> Result<Vec<u8>, Failure> {
        let path = self.env_file.display();
        let Some((directory, name)) = self.env_file.parent().zip(self.env_file.file_name()) else {
            return Err(Failure::host(format!("{path} is no file's path")));
        };
        read_beneath(directory, name, ENV_LIMIT)
            .map_err(|error| Failure::recipe(format!("can't use {path}")).with_source(error))
    }

    /// Replaces its `.env`: whole or not at all, and never through a symlink.
    pub fn set_env(&self, env: &EnvFile) -> Result<(), Failure> {
        self.set_env_text(env.to_string().as_bytes())
    }

    /// The same with any text.
    pub(crate) fn set_env_text(&self, text: &[u8]) -> Result<(), Failure> {
        // Known by its name: a dead run's is found by it, and whoever owns the app now replaces it.
        let unfinished = unfinished(&self.env_file);
        let written = self
            .env_file
            .parent()
            .map_or(Ok(()), private_directory)
            .and_then(|()| remove_tree(&unfinished))
            .and_then(|()| write_whole_by(&unfinished, &self.env_file, text, 0o600));
        written.map_err(|error| {
            Failure::host(format!("can't write {}", self.env_file.display())).with_source(error)
        })
    }
}
