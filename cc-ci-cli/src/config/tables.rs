//! The tables of the configuration file, as they are written.

use std::path::PathBuf;

use cc_ci_core::run::RecipeScripts;
use serde::Deserialize;

use super::values::{PlaceCount, Size};
use crate::args::ProxyAddress;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Local {
    pub root: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Abra {
    pub backups: Option<BackupsMode>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupsMode {
    Auto,
    Service,
    Labels,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workspace {
    pub catalogue: Option<CatalogueMode>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyTable {
    pub address: Option<ProxyAddress>,
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Git {
    pub credentials_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    pub credentials_file: Option<PathBuf>,
}

/// What a run waits for before it begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsTable {
    pub runs: Option<PlaceCount>,
    pub free_disk: Option<Size>,
    pub free_memory: Option<Size>,
}

/// Whether the recipes' own code is confined.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scripts {
    Confined,
    Unconfined,
}

impl From<Scripts> for RecipeScripts {
    fn from(scripts: Scripts) -> Self {
        match scripts {
            Scripts::Confined => Self::Confined,
            Scripts::Unconfined => Self::Unconfined,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxTable {
    pub paths: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogueMode {
    Symlink,
    Copy,
}
