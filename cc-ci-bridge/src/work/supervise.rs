//! The supervisor of one job: `cc-ci-bridge run-job KEY`.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};

use cc_ci_core::process::ProcessIdentity;
use cc_ci_core::system_info::BootId;
use cc_ci_core::{Failure, files};

use super::directory::{Begun, End, JobDir};
use crate::config::Config;
use crate::names::Key;
use crate::store::{JobRow, JobState};

/// Runs a job, unless it was begun before.
///
/// # Errors
/// When it can't be begun. Then it was not.
pub fn supervise(config: &Config, key: &Key) -> Result<(), Failure> {
    let failure = |doing: &str| Failure::host(format!("can't {doing} of job {key}"));
    // What ends the session or the group of whoever started it does not end the run.
    nix::unistd::setsid().map_err(|error| failure("make a session").with_source(error))?;
    let work = config.work()?;
    let dir = JobDir::of(&work.state_dir, key);
    let lock = dir.lock().map_err(|error| failure("take the lock").with_source(error))?;
    // Another supervisor has it, or had it.
    let Some(_lock) = lock else { return Ok(()) };
    let note = |error| failure("write the notes").with_source(error);
    if dir.read::<Begun>("begun.json").map_err(note)?.is_some() {
        return Ok(());
    }
    let Some(row) = config.store()?.job(key)? else {
        return Err(failure("find the order"));
    };
    // Its directory went once it was over, with the note that it was begun.
    if matches!(row.state, JobState::Over { .. }) {
        return Ok(());
    }
    if !config.settings.repos.contains(&row.job.repo) {
        return Err(failure("allow the repository"));
    }
    let result = files::new_file(&dir.file("result.json")).map_err(note)?;
    let log = files::new_file(&dir.file("log")).map_err(note)?;
    dir.begin().map_err(note)?;
    // From here on it was begun, whatever happens.
    let mut command = Command::new(&work.command);
    arguments(&mut command, config, &row);
    command.stdin(Stdio::null()).stdout(result).stderr(log).current_dir("/");
    let end = match command.spawn() {
        Err(error) => {
            End { code: 3, error: Some(format!("can't start {}: {error}", work.command.display())) }
        }
        Ok(mut child) => {
            let identity =
                BootId::current().and_then(|boot| ProcessIdentity::of(child.id().cast_signed(), boot));
            // Without it the run can't be cancelled, and goes on.
            if let Ok(identity) = identity {
                dir.write("run.json", &identity).map_err(note)?;
            }
            match child.wait() {
                Ok(status) => End { code: code(status), error: None },
                Err(error) => End { code: 3, error: Some(format!("can't wait for the run: {error}")) },
            }
        }
    };
    dir.write("end.json", &end).map_err(note)
}

/// All of it is ours: names that were parsed, and numbers.
fn arguments(command: &mut Command, config: &Config, row: &JobRow) {
    let job = &row.job;
    command.arg("run").arg("--config").arg(&config.file);
    command.args(["--format", "json"]).arg(format!("--commit={}", job.head));
    command.arg(format!("--pr={}", job.pull)).arg(format!("--run-id={}", job.key));
    if job.quick {
        command.arg("--quick");
    }
    command.arg("--").arg(format!("{}/{}.git", config.forge_address(), job.repo));
}

fn code(status: ExitStatus) -> u8 {
    let signal = || status.signal().map_or(3, |signal| 128 + signal);
    u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(3)
}
