//! What the parts hand to each other: values, and nothing that does anything.

pub(crate) mod asked;
pub mod cancellation;
pub mod digest;
pub mod event;
pub mod exit;
pub(crate) mod failure;
pub(crate) mod holder;
pub(crate) mod inventory;
pub(crate) mod level;
pub(crate) mod quarantine;
pub(crate) mod record;
pub(crate) mod secret;
pub(crate) mod span;
pub(crate) mod tier_name;

/// Returns an error and everything beneath it, in one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    line
}
