//! The stream of the engine's events.
