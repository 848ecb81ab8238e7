//! The deployer with an abra that does what a test says, in real processes.

mod calls;
mod failures;
mod probing;
mod world;
