//! The concurrency suite: real processes, real locks, real signals. One subject a file, one behaviour a test.

mod cancelled;
mod cold_lane;
mod ends;
mod frozen;
mod held;
mod hosts;
mod killed;
mod output;
