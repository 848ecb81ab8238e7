//! What the kernel is asked for.

pub mod files;
