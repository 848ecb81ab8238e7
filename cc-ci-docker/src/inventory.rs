//! Everything that exists of an app, by label and by name.
use cc_ci_core::executor::{EngineError, Inventory};
use cc_ci_core::names::Domain;

use crate::SwarmEngine;

pub(crate) async fn inventory(_: &SwarmEngine, _: Option<&[Domain]>) -> Result<Inventory, EngineError> {
    Err(EngineError::host("not in this version"))
}
