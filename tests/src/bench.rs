//! What benchmarks have in common: their yardsticks are scripts, and a ratio has a bound.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Runs `benches/<script>` with these arguments, and gives the times that it printed, in nanoseconds, a line each.
pub fn times_of(script: &str, args: &[&OsStr]) -> Vec<Duration> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(script);
    let mut command = Command::new("sh");
    let output = command.arg(script).args(args).stderr(Stdio::inherit()).output().expect("sh runs");
    assert!(output.status.success(), "the script failed");
    let text = String::from_utf8(output.stdout).expect("it prints numbers");
    text.lines().map(|line| Duration::from_nanos(line.parse().expect("a number"))).collect()
}

/// The one in the middle.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// How a comparison is called.
pub fn verdict(holds: bool) -> &'static str {
    if holds { "ok" } else { "OVER THE BOUND" }
}

/// The time, for programs that compare theirs.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970")
}
