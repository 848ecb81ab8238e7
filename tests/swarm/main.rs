//! The suites on a real Swarm, on a private engine. One subject a file, one behaviour a test.

mod fixture;
