//! Directories that no file names.

use std::env;
use std::path::{Path, PathBuf};

use cc_ci_core::Failure;

/// The canonical abra tree that the environment names.
pub fn named_tree() -> Option<PathBuf> {
    env::var_os("ABRA_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from)
}

/// Makes a path absolute; `what` names it.
pub fn absolute(what: &str, path: PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::configuration(format!("can't use {what}")).with_source(error))
}

/// A directory for state: the system's for root, else the user's own.
pub fn state(name: &str) -> Result<PathBuf, Failure> {
    let absolute =
        |variable: &str| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let is_root = cc_ci_core::system_info::is_root();
    if is_root {
        return Ok(Path::new("/var/lib").join(name));
    }
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join(name))
        .ok_or_else(|| {
            Failure::configuration("neither XDG_STATE_HOME nor HOME says where state is kept")
                .with_hint("name the directories: CCCI_RUNS_DIR and CCCI_LOCAL_ROOT")
        })
}
