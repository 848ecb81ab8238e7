//! What exists on a host, and whose it is. It only looks.

pub(crate) mod env_files;
pub(crate) mod site;
pub(crate) mod survey;
pub(crate) mod traces;
