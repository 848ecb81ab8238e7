//! What an abra said, kept beside the runs: the same file of the same version says the same again.
//!
//! The file is a shortcut and nothing else. One that can't be read, was made for another program or by another version
//! of cc-ci is asked over and written anew.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cc_ci_core::beneath::read_beneath;
use cc_ci_core::files::write_whole;
use serde::{Deserialize, Serialize};

use crate::capabilities::Subcommand;
use crate::installed::Capabilities;

/// Of this form.
const SCHEMA: &str = "cc-ci.abra/v2";

/// More than all flags of all subcommands.
const LIMIT: u64 = 1 << 20;

/// One program file: another build differs in one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    program: String,
    size: u64,
    modified: i64,
    modified_ns: i64,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    schema: String,
    #[serde(flatten)]
    key: Key,
    capabilities: Capabilities,
}

/// Which file this program is; `None` for one that has no name in JSON or can't be looked at. Blocks.
pub(crate) fn identify(program: &Path) -> Option<Key> {
    let program = program.canonicalize().ok()?;
    let metadata = fs::metadata(&program).ok()?;
    Some(Key {
        program: program.to_str()?.to_owned(),
        size: metadata.size(),
        modified: metadata.mtime(),
        modified_ns: metadata.mtime_nsec(),
    })
}

/// What was kept for this very file, if it said this version. Blocks.
pub(crate) fn read(cache: &Path, key: &Key, version: &str) -> Option<Capabilities> {
    let text = read_beneath(cache.parent()?, cache.file_name()?, LIMIT).ok()?;
    let kept: Kept = serde_json::from_slice(&text).ok()?;
    let is_whole =
        Subcommand::ALL.iter().all(|subcommand| kept.capabilities.flags.contains_key(subcommand.as_str()));
    let is_same = kept.schema == SCHEMA && kept.key == *key && kept.capabilities.version == version;
    (is_same && is_whole).then_some(kept.capabilities)
}

/// Keeps it, if it can be kept. Blocks.
pub(crate) fn write(cache: &Path, key: &Key, capabilities: &Capabilities) {
    let kept = Kept { schema: SCHEMA.to_owned(), key: key.clone(), capabilities: capabilities.clone() };
    let written = serde_json::to_vec(&kept)
        .map_err(std::io::Error::from)
        .and_then(|text| write_whole(cache, &text, 0o600));
    if let Err(error) = written {
        tracing::debug!(%error, cache = %cache.display(), "abra's answers are not kept");
    }
}
