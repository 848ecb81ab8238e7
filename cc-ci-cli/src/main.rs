//! The cc-ci command.
fn main() {}
