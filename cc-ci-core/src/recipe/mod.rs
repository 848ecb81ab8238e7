//! What a recipe says: its compose files, its `.env.sample`, the versions in its `abra.sh`, its labels.
//!
//! A recipe comes from a pull request (I11). Nothing in here runs anything: texts are parsed within bounds, names are
//! checked before they can become paths, files are only read inside the recipe's tree, and whatever breaks a rule is
//! an error that names the place and the rule. Errors and findings never show the value of a variable that stands in
//! an environment or a label, as it may be a secret.

mod abra_sh;
mod check;
mod compose;
mod env_file;
mod image;
mod interpolate;
mod issue;
mod labels;
mod random;
mod routes;
pub mod rules;
mod test_file;
mod tree;
mod yaml;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::model::error_chain;
use crate::model::failure::Failure;
use crate::names::{Domain, RecipeName};

pub use check::{Findings, SHARED_NETWORKS};
#[doc(hidden)]
pub use compose::says_nothing;
pub use compose::{
    Compose, ComposeError, FileReference, Healthcheck, LOCAL_KEY, LocalService, Mode, Mount, MountKind,
    MountOptions, Object, PRIVILEGE_KEYS, Port, Privilege, Protocol, Service,
};
pub use env_file::{EnvFile, EnvFileError, SecretSpec};
pub use image::{ImageReference, ImageVersion, InvalidImageReference};
pub use interpolate::{InterpolateError, Interpolated, interpolate};
pub use issue::Policy;
pub use labels::{Backup, HookKind, LabelWarning, Labels, VolumeBackup};
pub(crate) use routes::served_path;
pub(crate) use test_file::{INSTALL_STEPS, TestFile};
pub use tree::ReadError;

const SAMPLE: &str = ".env.sample";
const ABRA_SH: &str = "abra.sh";

/// A recipe's tree.
#[derive(Debug, Clone)]
pub struct Recipe {
    name: RecipeName,
    root: PathBuf,
}

/// A recipe could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// Its tree can't be opened.
    #[error("opening the tree at {}", root.display())]
    Open {
        /// Where.
        root: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file can't be read.
    #[error("reading {file}")]
    Read {
        /// Which, relative to the recipe.
        file: &'static str,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The `.env.sample`, or the app's `.env`, breaks a rule.
    #[error("reading the .env")]
    Env(#[from] EnvFileError),
    /// The compose files break a rule.
    #[error("reading the compose files")]
    Compose(#[from] ComposeError),
}

impl From<RecipeError> for Failure {
    fn from(error: RecipeError) -> Self {
        Self::recipe(error_chain(&error))
    }
}

impl From<EnvFileError> for Failure {
    fn from(error: EnvFileError) -> Self {
        Self::recipe(error_chain(&error))
    }
}

impl Recipe {
    /// The recipe whose tree is at `root`.
    ///
    /// # Errors
    /// There is no directory.
    pub fn open(name: RecipeName, root: &Path) -> Result<Self, RecipeError> {
        match std::fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => Ok(Self { name, root: root.to_owned() }),
            Ok(_) => {
                Err(RecipeError::Open { root: root.to_owned(), source: ErrorKind::NotADirectory.into() })
            }
            Err(source) => Err(RecipeError::Open { root: root.to_owned(), source }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &RecipeName {
        &self.name
    }

    /// Its tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its `.env.sample`, from which an app's `.env` is made.
    pub fn sample(&self) -> Result<EnvFile, RecipeError> {
        let text = tree::read_text(&self.root, Path::new(SAMPLE));
        let text = text.map_err(|source| RecipeError::Read { file: SAMPLE, source })?;
        Ok(text.parse::<EnvFile>()?)
    }

    /// The variables that its compose files see: the app's own, then the versions from `abra.sh`, then `DOMAIN` and
    /// `STACK_NAME`, which a recipe can't choose.
    pub fn vars(&self, env: &EnvFile, domain: &Domain) -> Result<BTreeMap<String, String>, RecipeError> {
        let mut vars = env.vars().clone();
        match tree::read_text(&self.root, Path::new(ABRA_SH)) {
            Ok(text) => vars.extend(abra_sh::versions(&text)),
            Err(ReadError::Missing) => {}
            Err(source) => return Err(RecipeError::Read { file: ABRA_SH, source }),
        }
        vars.insert("DOMAIN".to_owned(), domain.to_string());
        vars.insert("STACK_NAME".to_owned(), domain.stack().to_string());
        Ok(vars)
    }

    /// Its compose files, with these variables.
    pub fn compose(&self, vars: &BTreeMap<String, String>) -> Result<Compose, RecipeError> {
        Ok(Compose::load(&self.root, vars)?)
    }

    /// The content of a file of the recipe, e.g. a config's: at most 1 MiB, and never from outside the tree.
    pub fn read(&self, file: &Path) -> Result<Vec<u8>, ReadError> {
        tree::read(&self.root, file)
    }

    /// What can be said against it as the app of `env`, before anything is deployed.
    pub fn check(
        &self,
        env: &EnvFile,
        compose: &Compose,
        policy: &Policy<'_>,
    ) -> Result<Findings, RecipeError> {
        Ok(check::check(compose, env, &env.secrets()?, policy, |file| self.read(file)))
    }
}

#[cfg(test)]
mod tests;
