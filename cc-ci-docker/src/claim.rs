//! The claim of a suffix for one lock space.
use cc_ci_core::executor::{EngineError, LockSpace};
use cc_ci_core::names::Suffix;

use crate::client::Client;

pub(crate) async fn claim(_: &Client, _: &Suffix, _: &LockSpace) -> Result<(), EngineError> {
    Err(EngineError::host("not in this version"))
}
