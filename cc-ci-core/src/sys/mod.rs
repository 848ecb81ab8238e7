//! What the rest of the library needs of the system, in one way each.

pub mod programs;
