//! What the kernel is asked for, in one way each.

pub mod files;
pub mod programs;
