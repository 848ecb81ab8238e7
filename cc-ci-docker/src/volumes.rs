//! Small files in an app's volumes, through the engine's archive API: images may have no shell.
use cc_ci_core::executor::EngineError;
use cc_ci_core::names::Domain;

use crate::SwarmEngine;

pub(crate) async fn volumes(_: &SwarmEngine, _: &Domain) -> Result<Vec<String>, EngineError> {
    Err(EngineError::host("not in this version"))
}

pub(crate) async fn write(
    _: &SwarmEngine,
    _: &Domain,
    _: &str,
    _: &str,
    _: &[u8],
) -> Result<(), EngineError> {
    Err(EngineError::host("not in this version"))
}

pub(crate) async fn read(
    _: &SwarmEngine,
    _: &Domain,
    _: &str,
    _: &str,
) -> Result<Option<Vec<u8>>, EngineError> {
    Err(EngineError::host("not in this version"))
}
