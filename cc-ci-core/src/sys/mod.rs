//! What the kernel is asked for, and what people are shown, in one way each.

pub mod files;
pub mod programs;
pub mod text;
