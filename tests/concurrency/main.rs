//! The concurrency suite: real processes, real locks, real signals. One subject a file, one behaviour a test.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "this is test code: a panic is a failed test"
)]

mod admission;
mod cancelled;
mod cancels;
mod choice;
mod cold_lane;
mod confined;
mod control_groups;
mod counts;
mod deployers;
mod doctor;
mod doubles;
mod embedded;
mod ends;
mod eventful;
mod evidence;
mod fake_engine;
mod frozen;
mod harmless;
mod hostile;
mod hosts;
mod integrity;
mod janitor;
mod kept;
mod killed;
mod late_requests;
mod live;
mod local_janitor;
mod lock;
mod on_terminal;
mod output;
mod ownership;
mod path;
mod paused_runs;
mod proof;
mod proxy;
mod quarantine;
mod quick;
mod quick_doubles;
mod recipe_check;
mod recover;
mod reports;
mod reruns;
mod signs_in;
mod sources;
mod stack_config;
mod status;
mod units;
mod upgrade_passes;
mod warm;
mod warmed;
mod with_lock;
mod words;
mod workspace;
